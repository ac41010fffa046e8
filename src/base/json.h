/* SPDX-License-Identifier: Apache-2.0 */
/* JSON access over jansson: typed look-ups that say what is wrong, and limits. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/labels.h"

/* Parses @n bytes (size limited by the caller). What is nested deeper than JSON_DEPTH_MAX is
 * refused: jansson would read more, but copies and writes by recursion, which must fit on the stack
 * of a pool thread. -ERR_INVALID_ARGUMENT with line and column. The caller decrefs. */
#define JSON_DEPTH_MAX 256
int json_parse(const char *p, size_t n, json_t **ret, struct err *err) _must_check_;

/* Members of an object; absent or null gives the default, a wrong type is treated as absent. The
 * string lives as long as the object. */
const char *json_str(const json_t *o, const char *key, const char *otherwise);
int64_t json_int(const json_t *o, const char *key, int64_t otherwise);
bool json_bool(const json_t *o, const char *key, bool otherwise);
json_t *json_obj(const json_t *o, const char *key); /* borrowed; NULL unless an object */
json_t *json_arr(const json_t *o, const char *key); /* borrowed; NULL unless an array */
/* Object of strings into labels. */
int json_labels(struct arena *a, const json_t *o, struct labels *ret);
/* The object at @key, made when absent (borrowed). NULL = no memory or a wrong type. */
json_t *json_obj_make(json_t *o, const char *key);
json_t *json_arr_make(json_t *o, const char *key);

static inline void json_decrefp_(json_t **j)
{
	json_decref(*j);
}
#define _cleanup_json_ _cleanup_(json_decrefp_)
