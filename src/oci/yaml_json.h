/* SPDX-License-Identifier: Apache-2.0 */
/* YAML of configuration files as JSON, by libyaml. */
#pragma once

#include "base/err.h"
#include "base/json.h"

#define YAML_DEPTH_MAX 64
#define YAML_NODES_MAX 100000

/* The first document of @n bytes; the caller decrefs. Plain scalars become null, booleans and
 * numbers as YAML 1.1 reads them ("0660" is octal); keys are texts. Aliases are refused: they can
 * make a small text big. -ERR_INVALID_ARGUMENT with the line. */
int yaml_to_json(const char *p, size_t n, json_t **ret, struct err *err) _must_check_;
