/* SPDX-License-Identifier: Apache-2.0 */
/* YAML: see yaml_json.h. Events of libyaml build the JSON from the outside in; open containers are
 * on a stack of fixed height. */
#include "oci/yaml_json.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <strings.h>
#include <yaml.h>

#include "base/str.h"

struct level {
	json_t *container; /* borrowed from its parent, or the root */
	char *key;	   /* of a mapping: the next value's; NULL = a key comes */
};

struct reader {
	json_t *root;
	struct level stack[YAML_DEPTH_MAX];
	size_t depth, nodes;
	size_t line;
	bool ended;
};

static void reader_done(struct reader *r)
{
	for (size_t i = 0; i < r->depth; i++)
		free(r->stack[i].key);
	json_decref(r->root);
}

static int bad(const struct reader *r, const char *what, struct err *err)
{
	return err_set(err, ERR_INVALID_ARGUMENT, "YAML line %zu: %s", r->line + 1, what);
}

static bool is_word(const char *s, const char *const *words)
{
	for (; *words; words++)
		if (!strcasecmp(s, *words))
			return true;
	return false;
}

static json_t *plain_number(const char *s)
{
	const char *digits = s + (*s == '-' || *s == '+');
	int base = 10;
	int64_t n;
	char *end;
	double d;

	if (!isdigit((unsigned char)*digits) && *digits != '.')
		return NULL;
	if (str_has_prefix(digits, "0x"))
		base = 16;
	else if (str_has_prefix(digits, "0o"))
		return str_to_i64(digits + 2, 8, &n) == 0 ? json_integer(*s == '-' ? -n : n) : NULL;
	else if (*digits == '0' && digits[1])
		base = 8;
	if (str_to_i64(base == 16 ? digits + 2 : digits, base, &n) == 0)
		return json_integer(*s == '-' ? -n : n);
	if (base == 16 || !strpbrk(digits, ".eE"))
		return NULL;
	d = strtod(s, &end);
	return *end || !isfinite(d) ? NULL : json_real(d);
}

/* NULL = no memory, or no UTF-8. */
static json_t *scalar(const yaml_event_t *e)
{
	static const char *const nulls[] = {"", "~", "null", NULL}, *const yes[] = {"true", NULL},
				 *const no[] = {"false", NULL};
	const char *s = (const char *)e->data.scalar.value;
	json_t *number;

	if (e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && strlen(s) == e->data.scalar.length) {
		if (is_word(s, nulls))
			return json_null();
		if (is_word(s, yes))
			return json_true();
		if (is_word(s, no))
			return json_false();
		number = plain_number(s);
		if (number)
			return number;
	}
	return json_stringn(s, e->data.scalar.length);
}

/* Puts @v where the next value belongs; takes it. */
static int place(struct reader *r, json_t *v, struct err *err)
{
	struct level *l = r->depth ? &r->stack[r->depth - 1] : NULL;
	int ok;

	if (!v)
		return bad(r, "a text that is no UTF-8", err);
	if (++r->nodes > YAML_NODES_MAX) {
		json_decref(v);
		return bad(r, "too many values", err);
	}
	if (!l) {
		json_decref(r->root);
		r->root = v;
		return 0;
	}
	if (json_is_array(l->container))
		ok = json_array_append_new(l->container, v);
	else
		ok = json_object_set_new(l->container, l->key, v);
	free(l->key);
	l->key = NULL;
	return ok < 0 ? err_nomem(err) : 0;
}

static bool wants_key(const struct reader *r)
{
	return r->depth && json_is_object(r->stack[r->depth - 1].container) &&
	       !r->stack[r->depth - 1].key;
}

static int on_scalar(struct reader *r, const yaml_event_t *e, struct err *err)
{
	const char *s = (const char *)e->data.scalar.value;
	struct level *l;

	if (!wants_key(r))
		return place(r, scalar(e), err);
	l = &r->stack[r->depth - 1];
	if (strlen(s) != e->data.scalar.length)
		return bad(r, "a key with a zero byte", err);
	if (json_object_get(l->container, s))
		return bad(r, "the same key again", err);
	l->key = strdup(s);
	return l->key ? 0 : err_nomem(err);
}

static int on_start(struct reader *r, json_t *v, struct err *err)
{
	int e;

	if (!v)
		return err_nomem(err);
	if (wants_key(r) || r->depth >= YAML_DEPTH_MAX) {
		json_decref(v);
		return bad(r,
			   r->depth >= YAML_DEPTH_MAX ? "nested too deeply"
						      : "a key that is no text",
			   err);
	}
	e = place(r, v, err);
	if (e == 0)
		r->stack[r->depth++] = (struct level){.container = v};
	return e;
}

static int on_event(struct reader *r, const yaml_event_t *e, struct err *err)
{
	switch (e->type) {
	case YAML_SCALAR_EVENT:
		return on_scalar(r, e, err);
	case YAML_SEQUENCE_START_EVENT:
		return on_start(r, json_array(), err);
	case YAML_MAPPING_START_EVENT:
		return on_start(r, json_object(), err);
	case YAML_SEQUENCE_END_EVENT:
	case YAML_MAPPING_END_EVENT:
		free(r->stack[--r->depth].key);
		return 0;
	case YAML_ALIAS_EVENT:
		return bad(r, "aliases are not taken", err);
	case YAML_DOCUMENT_END_EVENT:
	case YAML_STREAM_END_EVENT:
		r->ended = true;
		return 0;
	default:
		return 0;
	}
}

int yaml_to_json(const char *p, size_t n, json_t **ret, struct err *err)
{
	struct reader r _cleanup_(reader_done) = {};
	yaml_parser_t parser;
	int result = 0;

	if (!yaml_parser_initialize(&parser))
		return err_nomem(err);
	yaml_parser_set_input_string(&parser, (const unsigned char *)p, n);
	while (result == 0 && !r.ended) {
		yaml_event_t e;

		r.line = parser.mark.line;
		if (!yaml_parser_parse(&parser, &e)) {
			r.line = parser.problem_mark.line;
			result = bad(&r, parser.problem ? parser.problem : "not readable", err);
			break;
		}
		result = on_event(&r, &e, err);
		yaml_event_delete(&e);
	}
	yaml_parser_delete(&parser);
	if (result < 0)
		return result;
	*ret = r.root ? json_incref(r.root) : json_null();
	return 0;
}
