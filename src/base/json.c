/* SPDX-License-Identifier: Apache-2.0 */
/* JSON access: see json.h. */
#include "base/json.h"

/* Of brackets that are not in strings; of what is no JSON it may be anything. */
static bool too_deep(const char *p, size_t n)
{
	size_t depth = 0;
	bool quoted = false;

	for (size_t i = 0; i < n; i++) {
		if (p[i] == '"')
			quoted = !quoted;
		else if (quoted && p[i] == '\\')
			i++;
		else if (!quoted && (p[i] == '[' || p[i] == '{') && ++depth > JSON_DEPTH_MAX)
			return true;
		else if (!quoted && (p[i] == ']' || p[i] == '}') && depth > 0)
			depth--;
	}
	return false;
}

int json_parse(const char *p, size_t n, json_t **ret, struct err *err)
{
	json_error_t e;
	if (too_deep(p, n))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "JSON: maximum parsing depth of %d is exceeded", JSON_DEPTH_MAX);
	json_t *j = json_loadb(p, n, 0, &e);
	if (!j)
		return err_set(err, ERR_INVALID_ARGUMENT, "JSON line %d, column %d: %s", e.line,
			       e.column, e.text);
	*ret = j;
	return 0;
}

const char *json_str(const json_t *o, const char *key, const char *otherwise)
{
	const char *s = json_string_value(json_object_get(o, key));
	return s ? s : otherwise;
}

int64_t json_int(const json_t *o, const char *key, int64_t otherwise)
{
	const json_t *v = json_object_get(o, key);
	return json_is_integer(v) ? (int64_t)json_integer_value(v) : otherwise;
}

bool json_bool(const json_t *o, const char *key, bool otherwise)
{
	const json_t *v = json_object_get(o, key);
	return json_is_boolean(v) ? json_is_true(v) : otherwise;
}

json_t *json_obj(const json_t *o, const char *key)
{
	json_t *v = json_object_get(o, key);
	return json_is_object(v) ? v : NULL;
}

json_t *json_arr(const json_t *o, const char *key)
{
	json_t *v = json_object_get(o, key);
	return json_is_array(v) ? v : NULL;
}

int json_labels(struct arena *a, const json_t *o, struct labels *ret)
{
	struct labels l = {0};
	const char *key;
	json_t *v;
	json_object_foreach ((json_t *)o, key, v)
		if (json_is_string(v) && labels_set(a, &l, key, json_string_value(v)) < 0)
			return -ENOMEM;
	*ret = l;
	return 0;
}

static json_t *make(json_t *o, const char *key, json_t *(*new)(void), int type)
{
	json_t *v = json_object_get(o, key);
	if (v && json_typeof(v) != JSON_NULL)
		return (int)json_typeof(v) == type ? v : NULL;
	v = new ();
	return v && json_object_set_new(o, key, v) == 0 ? v : NULL;
}

json_t *json_obj_make(json_t *o, const char *key)
{
	return make(o, key, json_object, JSON_OBJECT);
}

json_t *json_arr_make(json_t *o, const char *key)
{
	return make(o, key, json_array, JSON_ARRAY);
}
