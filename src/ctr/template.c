/* SPDX-License-Identifier: Apache-2.0 */
/* Templates: see template.h.
 *
 * Parsed once into a list of parts, each a piece of text or a pipeline of terms; a term has a
 * function (or none) and up to two values. Values are evaluated to JSON, so that functions take
 * each other's results. */
#include "ctr/template.h"

#include <ctype.h>

#include "base/str.h"

enum value_kind { VALUE_FIELD, VALUE_CONSTANT };

#define FIELDS_MAX 8
#define VALUES_MAX 2

struct value {
	enum value_kind kind;
	const char *fields[FIELDS_MAX]; /* none: the row itself */
	size_t n_fields;
	const char *text; /* of a constant */
	json_int_t number;
	bool is_text;
};

struct function;

struct term {
	const struct function *function; /* NULL: the value itself */
	struct value values[VALUES_MAX];
	size_t n_values;
	struct term *next; /* after "|" */
};

struct part {
	const char *text; /* NULL: a pipeline */
	size_t len;
	struct term *pipeline;
};

struct format {
	struct part *parts;
	size_t n, cap;
	size_t n_terms;
};

/* ---- Functions: take borrowed values, return a new one, NULL = no memory ---- */

static json_t *text_json(const char *s, size_t n)
{
	return json_stringn_nocheck(s, n);
}

/* As it is shown: text as it is, nothing for null, the rest as JSON. */
static int put_value(const json_t *v, struct buf *out)
{
	char *text _cleanup_free_ = NULL;

	if (!v || json_is_null(v))
		return 0;
	if (json_is_string(v))
		return buf_add(out, json_string_value(v), json_string_length(v));
	text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
	return text ? buf_adds(out, text) : -ENOMEM;
}

static json_t *fn_json(json_t *const *v)
{
	char *text _cleanup_free_ = json_dumps(v[0], JSON_COMPACT | JSON_ENCODE_ANY);

	return text ? text_json(text, strlen(text)) : NULL;
}

static json_t *fn_size(json_t *const *v)
{
	char text[32];

	if (!json_is_integer(v[0]))
		return json_incref(v[0]);
	str_size_binary(json_integer_value(v[0]), text);
	return json_string(text);
}

static json_t *change_case(const json_t *v, int (*change)(int))
{
	struct buf b _cleanup_buf_ = BUF_INIT;

	if (put_value(v, &b) < 0)
		return NULL;
	for (size_t i = 0; i < b.len; i++)
		if (isascii((unsigned char)b.data[i]))
			b.data[i] = (char)change((unsigned char)b.data[i]);
	return text_json(b.data ? b.data : "", b.len);
}

static json_t *fn_upper(json_t *const *v)
{
	return change_case(v[0], toupper);
}

static json_t *fn_lower(json_t *const *v)
{
	return change_case(v[0], tolower);
}

static json_t *fn_len(json_t *const *v)
{
	if (json_is_string(v[0]))
		return json_integer((json_int_t)json_string_length(v[0]));
	return json_integer(
		(json_int_t)(json_is_array(v[0]) ? json_array_size(v[0]) : json_object_size(v[0])));
}

static json_t *fn_join(json_t *const *v)
{
	const char *separator = str_or(json_string_value(v[1]), "");
	struct buf b _cleanup_buf_ = BUF_INIT;
	json_t *item;
	size_t i;

	if (!json_is_array(v[0]))
		return json_incref(v[0]);
	json_array_foreach (v[0], i, item) {
		if (i)
			buf_adds(&b, separator);
		if (put_value(item, &b) < 0)
			return NULL;
	}
	return buf_ok(&b) ? text_json(b.data ? b.data : "", b.len) : NULL;
}

static json_t *fn_index(json_t *const *v)
{
	json_t *found = NULL;

	if (json_is_object(v[0]) && json_is_string(v[1]))
		found = json_object_get(v[0], json_string_value(v[1]));
	else if (json_is_array(v[0]) && json_is_integer(v[1]) && json_integer_value(v[1]) >= 0)
		found = json_array_get(v[0], (size_t)json_integer_value(v[1]));
	return found ? json_incref(found) : json_null();
}

struct function {
	const char *name;
	size_t n_values;
	json_t *(*run)(json_t *const *v);
};

static const struct function functions[] = {
	{"json", 1, fn_json}, {"size", 1, fn_size}, {"upper", 1, fn_upper}, {"lower", 1, fn_lower},
	{"len", 1, fn_len},   {"join", 2, fn_join}, {"index", 2, fn_index},
};

/* ---- Parsing ---- */

struct parser {
	struct arena *a;
	struct format *t;
	const char *start, *p; /* in the whole text */
	const char *end;       /* of the action */
	struct err *err;
};

static int bad(const struct parser *s, const char *what)
{
	return err_set_raw(s->err, ERR_INVALID_ARGUMENT, "--format: %s at position %zu (\"%.20s\")",
			   what, (size_t)(s->p - s->start) + 1, s->p);
}

static void skip_blanks(struct parser *s)
{
	while (s->p < s->end && isspace((unsigned char)*s->p))
		s->p++;
}

static bool is_name(char c)
{
	return isalnum((unsigned char)c) || c == '_';
}

static size_t name_length(const struct parser *s)
{
	size_t n = 0;

	while (s->p + n < s->end && is_name(s->p[n]))
		n++;
	return n;
}

/* ".", ".A", ".A.B" */
static int parse_fields(struct parser *s, struct value *v)
{
	s->p++;
	for (;;) {
		size_t n = name_length(s);

		if (n == 0)
			return v->n_fields ? bad(s, "a field's name is missing") : 0;
		if (v->n_fields >= FIELDS_MAX)
			return bad(s, "too many fields");
		v->fields[v->n_fields] = arena_strndup(s->a, s->p, n);
		if (!v->fields[v->n_fields++])
			return err_nomem(s->err);
		s->p += n;
		if (s->p >= s->end || *s->p != '.')
			return 0;
		s->p++;
	}
}

static char unescape(char c)
{
	return c == 'n' ? '\n' : c == 't' ? '\t' : c;
}

static int parse_text(struct parser *s, struct value *v)
{
	size_t n = 0;
	char *out = arena_alloc(s->a, (size_t)(s->end - s->p) + 1);

	if (!out)
		return err_nomem(s->err);
	for (s->p++; s->p < s->end && *s->p != '"'; s->p++) {
		if (*s->p == '\\' && s->p + 1 < s->end)
			out[n++] = unescape(*++s->p);
		else
			out[n++] = *s->p;
	}
	if (s->p >= s->end)
		return bad(s, "a quote is not closed");
	s->p++;
	out[n] = '\0';
	v->kind = VALUE_CONSTANT;
	v->is_text = true;
	v->text = out;
	return 0;
}

static int parse_number(struct parser *s, struct value *v)
{
	size_t n = name_length(s);
	char text[24];
	int64_t number;

	if (n >= sizeof(text))
		return bad(s, "the number is too long");
	memcpy(text, s->p, n);
	text[n] = '\0';
	if (str_to_i64(text, 10, &number) < 0)
		return bad(s, "this is no number");
	s->p += n;
	v->kind = VALUE_CONSTANT;
	v->number = number;
	return 0;
}

static int parse_value(struct parser *s, struct value *v)
{
	if (*s->p == '.')
		return parse_fields(s, v);
	if (*s->p == '"')
		return parse_text(s, v);
	if (isdigit((unsigned char)*s->p))
		return parse_number(s, v);
	return bad(s, "expected a field, a text or a number");
}

static int parse_function(struct parser *s, struct term *t)
{
	size_t n = name_length(s);

	for (size_t i = 0; i < ARRAY_LEN(functions); i++)
		if (strlen(functions[i].name) == n && memcmp(functions[i].name, s->p, n) == 0)
			t->function = &functions[i];
	if (!t->function)
		return bad(s, "unknown function (there are json, size, upper, lower, len, join, "
			      "index)");
	s->p += n;
	return 0;
}

/* @piped: one value comes from the term before. */
static int parse_term(struct parser *s, bool piped, struct term *t)
{
	int r = 0;

	skip_blanks(s);
	if (s->p < s->end && isalpha((unsigned char)*s->p))
		r = parse_function(s, t);
	else if (piped)
		return bad(s, "expected a function after \"|\"");
	for (;;) {
		skip_blanks(s);
		if (r < 0 || s->p >= s->end || *s->p == '|')
			break;
		if (t->n_values >= (t->function ? t->function->n_values - piped : 1u))
			return bad(s, "one value too many");
		r = parse_value(s, &t->values[t->n_values++]);
	}
	if (r == 0 && t->n_values + piped < (t->function ? t->function->n_values : 1u))
		return bad(s, "a value is missing");
	return r;
}

static int parse_pipeline(struct parser *s, struct term **ret)
{
	struct term **at = ret;
	int r;

	for (;;) {
		struct term *t = arena_new_obj(s->a, struct term);

		if (!t)
			return err_nomem(s->err);
		if (s->t->n_terms++ >= TEMPLATE_TERMS_MAX)
			return bad(s, "the template is too long");
		r = parse_term(s, at != ret, t);
		if (r < 0)
			return r;
		*at = t;
		at = &t->next;
		if (s->p >= s->end)
			return 0;
		s->p++; /* "|" */
	}
}

/* The "}}" that ends the action at @p; one in quotes does not. */
static const char *action_end(const char *p)
{
	bool quoted = false;

	for (; *p; p++) {
		if (*p == '\\' && quoted && p[1])
			p++;
		else if (*p == '"')
			quoted = !quoted;
		else if (!quoted && p[0] == '}' && p[1] == '}')
			return p;
	}
	return NULL;
}

static struct part *new_part(struct parser *s)
{
	struct format *t = s->t;

	t->parts = arena_grow(s->a, t->parts, &t->cap, t->n + 1, sizeof(*t->parts));
	if (!t->parts)
		return NULL;
	t->parts[t->n] = (struct part){};
	return &t->parts[t->n++];
}

/* Text up to the next action. */
static int parse_plain(struct parser *s)
{
	const char *stop = strstr(s->p, "{{");
	size_t n = stop ? (size_t)(stop - s->p) : strlen(s->p), len = 0;
	struct part *part;
	char *out;

	if (n == 0)
		return 0;
	part = new_part(s);
	out = arena_alloc(s->a, n + 1);
	if (!part || !out)
		return err_nomem(s->err);
	for (const char *end = s->p + n; s->p < end; s->p++) {
		if (*s->p == '\\' && s->p + 1 < end && strchr("nt\\", s->p[1]))
			out[len++] = unescape(*++s->p);
		else
			out[len++] = *s->p;
	}
	part->text = out;
	part->len = len;
	return 0;
}

int template_parse(struct arena *a, const char *text, struct format **ret, struct err *err)
{
	struct parser s = {.a = a, .start = text, .p = text, .err = err};
	int r = 0;

	if (strlen(text) > TEMPLATE_MAX)
		return err_set_raw(err, ERR_INVALID_ARGUMENT, "--format is longer than %u bytes",
				   TEMPLATE_MAX);
	s.t = arena_new_obj(a, struct format);
	if (!s.t)
		return err_nomem(err);
	while (r == 0 && *s.p) {
		struct part *part;

		r = parse_plain(&s);
		if (r < 0 || !*s.p)
			break;
		s.end = action_end(s.p + 2);
		if (!s.end)
			return bad(&s, "an action is not closed");
		s.p += 2;
		part = new_part(&s);
		if (!part)
			return err_nomem(err);
		r = parse_pipeline(&s, &part->pipeline);
		s.p += 2;
	}
	if (r < 0)
		return r;
	*ret = s.t;
	return 0;
}

/* ---- Rendering ---- */

static int unknown_field(const json_t *row, const char *name, struct err *err)
{
	struct buf b _cleanup_buf_ = BUF_INIT;
	const char *key;
	json_t *v;

	json_object_foreach ((json_t *)row, key, v)
		buf_printf(&b, " .%s", key);
	return err_set_raw(err, ERR_INVALID_ARGUMENT,
			   "--format: no field .%.64s; there are:%.1000s", name,
			   b.data ? b.data : " none");
}

/* A new reference. */
static int evaluate(const struct value *v, const json_t *row, json_t **ret, struct err *err)
{
	json_t *found = (json_t *)row;

	if (v->kind == VALUE_CONSTANT) {
		*ret = v->is_text ? text_json(v->text, strlen(v->text)) : json_integer(v->number);
		return *ret ? 0 : err_nomem(err);
	}
	if (v->n_fields && !json_object_get(row, v->fields[0]))
		return unknown_field(row, v->fields[0], err);
	for (size_t i = 0; found && i < v->n_fields; i++)
		found = json_object_get(found, v->fields[i]);
	*ret = found ? json_incref(found) : json_null();
	return 0;
}

static int run_term(const struct term *t, const json_t *row, json_t *piped, json_t **ret,
		    struct err *err)
{
	json_t *a _cleanup_json_ = NULL, *b _cleanup_json_ = NULL;
	json_t *v[VALUES_MAX];
	size_t n = t->n_values;
	int r = 0;

	if (n > 0)
		r = evaluate(&t->values[0], row, &a, err);
	if (r == 0 && n > 1)
		r = evaluate(&t->values[1], row, &b, err);
	if (r < 0)
		return r;
	v[0] = n > 0 ? a : piped;
	v[1] = n > 1 ? b : piped;
	*ret = t->function ? t->function->run(v) : json_incref(v[0]);
	return *ret ? 0 : err_nomem(err);
}

static int run_pipeline(const struct term *t, const json_t *row, struct buf *out, struct err *err)
{
	json_t *value _cleanup_json_ = NULL;

	for (; t; t = t->next) {
		json_t *next = NULL;
		int r = run_term(t, row, value, &next, err);

		if (r < 0)
			return r;
		json_decref(value);
		value = next;
	}
	return put_value(value, out) < 0 ? err_nomem(err) : 0;
}

int template_render(const struct format *t, const json_t *row, struct buf *out, struct err *err)
{
	for (size_t i = 0; i < t->n; i++) {
		const struct part *p = &t->parts[i];
		int r = 0;

		if (p->text)
			buf_add(out, p->text, p->len);
		else
			r = run_pipeline(p->pipeline, row, out, err);
		if (r < 0)
			return r;
	}
	return buf_ok(out) ? 0 : err_nomem(err);
}

/* "CreatedAt" -> "CREATED AT", "SandboxID" -> "SANDBOX ID" */
static void put_heading(const char *name, struct buf *out)
{
	for (const char *p = name; *p; p++) {
		if (p > name && isupper((unsigned char)*p) && islower((unsigned char)p[-1]))
			buf_addc(out, ' ');
		buf_addc(out, (char)toupper((unsigned char)*p));
	}
}

int template_headings(const struct format *t, struct buf *out)
{
	for (size_t i = 0; i < t->n; i++) {
		const struct part *p = &t->parts[i];
		const struct value *v = p->text ? NULL : &p->pipeline->values[0];

		if (p->text)
			buf_add(out, p->text, p->len);
		else if (p->pipeline->n_values && v->kind == VALUE_FIELD && v->n_fields)
			put_heading(v->fields[v->n_fields - 1], out);
	}
	return buf_ok(out) ? 0 : -ENOMEM;
}
