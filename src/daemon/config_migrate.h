/* SPDX-License-Identifier: Apache-2.0 */
/* Brings the tree of one configuration file from version 1, 2 or 3 to CONFIG_VERSION, in place. */
#pragma once

#include "daemon/config_field.h"

#define CONFIG_VERSION 4

/* The file's version; 0 when it does not say. -ERR_INVALID_ARGUMENT: no integer, or out of range.
 */
int config_version(const struct config_sink *sink, const struct toml_value *root, int *ret,
		   struct err *err) _must_check_;

int config_migrate(struct config_sink *sink, struct toml_value *root, struct err *err) _must_check_;
