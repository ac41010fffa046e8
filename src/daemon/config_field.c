/* SPDX-License-Identifier: Apache-2.0 */
/* Tables of fields: checking, completing. See config_field.h. */
#include "daemon/config_field.h"

#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "base/time.h"

void config_sink_warn(struct config_sink *sink, int line, const char *fmt, ...)
{
	char *text;
	va_list ap;

	va_start(ap, fmt);
	text = arena_vprintf(sink->arena, fmt, ap);
	va_end(ap);
	if (text)
		sink->warn(sink, line, text);
}

const char *config_key_join(struct arena *a, const char *path, const char *key)
{
	_cleanup_buf_ struct buf b = BUF_INIT;

	buf_adds(&b, path);
	if (*path)
		buf_addc(&b, '.');
	toml_quote_key(&b, key);
	return buf_ok(&b) ? arena_strdup(a, b.data) : NULL;
}

const char *host_platform(void)
{
#if defined(__x86_64__)
	return "linux/amd64";
#elif defined(__i386__)
	return "linux/386";
#elif defined(__aarch64__)
	return "linux/arm64";
#elif defined(__arm__)
	return "linux/arm/v7";
#elif defined(__riscv) && __riscv_xlen == 64
	return "linux/riscv64";
#elif defined(__powerpc64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	return "linux/ppc64le";
#elif defined(__s390x__)
	return "linux/s390x";
#elif defined(__loongarch64)
	return "linux/loong64";
#else
#error "name this platform as Go does"
#endif
}

/* Defaults */

static const char *kind_name(enum config_kind kind)
{
	static const char *const names[] = {
		[CFG_BOOL] = "boolean",
		[CFG_INT] = "integer",
		[CFG_FLOAT] = "float",
		[CFG_STRING] = "string",
		[CFG_STRINGS] = "array of strings",
		[CFG_DURATION] = "duration (string)",
		[CFG_TABLE] = "table",
		[CFG_TABLES] = "array of tables",
		[CFG_MAP] = "table of tables",
		[CFG_STRING_MAP] = "table of strings",
		[CFG_STRINGS_MAP] = "table of arrays of strings",
		[CFG_ANY] = "table",
		[CFG_GONE] = "anything",
	};

	return names[kind];
}

/* What a field is when neither a file nor its table gives a value; NULL in *@ret = absent. */
static int zero_value(struct arena *a, const struct config_field *f, struct toml_value **ret,
		      struct err *err)
{
	static const enum toml_type types[] = {
		[CFG_BOOL] = TOML_BOOL,	    [CFG_INT] = TOML_INTEGER,
		[CFG_FLOAT] = TOML_FLOAT,   [CFG_STRING] = TOML_STRING,
		[CFG_STRINGS] = TOML_ARRAY, [CFG_DURATION] = TOML_STRING,
	};

	if (f->kind > CFG_DURATION) {
		*ret = NULL;
		return 0;
	}
	*ret = toml_new(a, types[f->kind]);
	return *ret ? 0 : err_nomem(err);
}

static const char *expand_default(struct arena *a, const char *def)
{
	if (streq(def, CFG_DEF_UID))
		return arena_printf(a, "%u", (unsigned int)geteuid());
	if (streq(def, CFG_DEF_GID))
		return arena_printf(a, "%u", (unsigned int)getegid());
	if (streq(def, CFG_DEF_PLATFORMS))
		return arena_printf(a, "['%s']", host_platform());
	return def;
}

static int default_value(struct arena *a, const struct config_field *f, struct toml_value **ret,
			 struct err *err)
{
	struct toml_value *doc;
	const char *text;
	int r;

	if (!f->def)
		return zero_value(a, f, ret, err);
	if (f->kind == CFG_STRING || f->kind == CFG_DURATION) {
		*ret = tree_string(a, f->def);
		return *ret ? 0 : err_nomem(err);
	}
	text = expand_default(a, f->def);
	if (text)
		text = arena_printf(a, "v=%s", text);
	if (!text)
		return err_nomem(err);
	r = toml_parse(a, text, strlen(text), &doc, err);
	if (r < 0)
		return err_prefix(err, "default of `%s`", f->name);
	*ret = toml_get(doc, "v");
	return 0;
}

/* Checking */

static const struct config_field *find_field(const struct config_field *fields, const char *name)
{
	for (const struct config_field *f = fields; f && f->name; f++)
		if (streq(f->name, name))
			return f;
	return NULL;
}

static int fail_type(struct config_sink *sink, const char *key, const char *wanted,
		     const struct toml_value *v, struct err *err)
{
	return err_set(err, ERR_INVALID_ARGUMENT, "%s:%d:%d: key `%s`: want %s, got %s", sink->file,
		       v->line, v->column, key, wanted, toml_type_name(v->type));
}

static int check_array(struct config_sink *sink, const char *key, enum toml_type of,
		       const char *wanted, const struct toml_value *v, struct err *err)
{
	if (v->type != TOML_ARRAY)
		return fail_type(sink, key, wanted, v, err);
	for (size_t i = 0; i < v->array.n; i++)
		if (v->array.v[i]->type != of)
			return fail_type(sink, key, wanted, v->array.v[i], err);
	return 0;
}

static int check_string(struct config_sink *sink, const char *key, const char *wanted,
			const struct toml_value *v, struct err *err)
{
	if (v->type != TOML_STRING)
		return fail_type(sink, key, wanted, v, err);
	if (strlen(v->string.s) != v->string.len)
		return err_set(err, ERR_INVALID_ARGUMENT, "%s:%d:%d: key `%s`: NUL in a string",
			       sink->file, v->line, v->column, key);
	return 0;
}

static int check_scalar(struct config_sink *sink, const struct config_field *f, const char *key,
			struct toml_value *v, struct err *err)
{
	const char *wanted = kind_name(f->kind);
	int64_t ns;
	int r;

	switch (f->kind) {
	case CFG_BOOL:
		return v->type == TOML_BOOL ? 0 : fail_type(sink, key, wanted, v, err);
	case CFG_INT:
		return v->type == TOML_INTEGER ? 0 : fail_type(sink, key, wanted, v, err);
	case CFG_FLOAT:
		if (v->type == TOML_INTEGER) {
			double real = (double)v->integer;

			v->type = TOML_FLOAT;
			v->real = real;
		}
		return v->type == TOML_FLOAT ? 0 : fail_type(sink, key, wanted, v, err);
	case CFG_DURATION:
		r = check_string(sink, key, wanted, v, err);
		if (r < 0 || !*v->string.s)
			return r;
		if (duration_parse(v->string.s, &ns) < 0)
			return err_set(err, ERR_INVALID_ARGUMENT,
				       "%s:%d:%d: key `%s`: `%s` is no duration", sink->file,
				       v->line, v->column, key, v->string.s);
		return 0;
	default:
		return check_string(sink, key, wanted, v, err);
	}
}

static int check_strings(struct config_sink *sink, const char *key, const char *wanted,
			 const struct toml_value *v, struct err *err)
{
	int r = check_array(sink, key, TOML_STRING, wanted, v, err);

	for (size_t i = 0; r == 0 && i < v->array.n; i++)
		r = check_string(sink, key, wanted, v->array.v[i], err);
	return r;
}

/* A table under any names. */
static int check_map(struct config_sink *sink, const struct config_field *f, const char *key,
		     struct toml_value *v, struct err *err)
{
	int r = 0;

	if (v->type != TOML_TABLE)
		return fail_type(sink, key, kind_name(f->kind), v, err);
	for (size_t i = 0; i < v->table.n; i++) {
		struct toml_value *e = v->table.v[i].value;
		const char *sub = config_key_join(sink->arena, key, v->table.v[i].key);

		if (!sub)
			return err_nomem(err);
		if (f->kind == CFG_STRING_MAP)
			r = check_string(sink, sub, "string", e, err);
		else if (f->kind == CFG_STRINGS_MAP)
			r = check_strings(sink, sub, "array of strings", e, err);
		else if (e->type != TOML_TABLE)
			r = fail_type(sink, sub, "table", e, err);
		else
			r = field_check(sink, f->fields, sub, e, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int check_tables(struct config_sink *sink, const struct config_field *f, const char *key,
			struct toml_value *v, struct err *err)
{
	int r = check_array(sink, key, TOML_TABLE, kind_name(f->kind), v, err);

	for (size_t i = 0; r == 0 && i < v->array.n; i++)
		r = field_check(sink, f->fields, key, v->array.v[i], err);
	return r;
}

static int check_value(struct config_sink *sink, const struct config_field *f, const char *key,
		       struct toml_value *v, struct err *err)
{
	switch (f->kind) {
	case CFG_TABLE:
		if (v->type != TOML_TABLE)
			return fail_type(sink, key, "table", v, err);
		return field_check(sink, f->fields, key, v, err);
	case CFG_TABLES:
		return check_tables(sink, f, key, v, err);
	case CFG_MAP:
	case CFG_STRING_MAP:
	case CFG_STRINGS_MAP:
		return check_map(sink, f, key, v, err);
	case CFG_STRINGS:
		return check_strings(sink, key, kind_name(f->kind), v, err);
	case CFG_ANY:
		return v->type == TOML_TABLE ? 0 : fail_type(sink, key, "table", v, err);
	case CFG_GONE:
		return 0;
	default:
		return check_scalar(sink, f, key, v, err);
	}
}

static int warn_unhonoured(struct config_sink *sink, const struct config_field *f, const char *key,
			   const struct toml_entry *e, struct err *err)
{
	struct toml_value *def;
	int r;

	r = default_value(sink->arena, f, &def, err);
	if (r < 0)
		return r;
	if (def ? !tree_equal(def, e->value) : !tree_is_zero(e->value))
		config_sink_warn(sink, e->line, "key `%s` has no effect yet", key);
	return 0;
}

int field_check(struct config_sink *sink, const struct config_field *fields, const char *path,
		struct toml_value *table, struct err *err)
{
	size_t i = 0;
	int r;

	while (i < table->table.n) {
		const struct toml_entry *e = &table->table.v[i];
		const struct config_field *f = find_field(fields, e->key);
		const char *key = config_key_join(sink->arena, path, e->key);

		if (!key)
			return err_nomem(err);
		if (!f)
			return err_set(err, ERR_INVALID_ARGUMENT, "%s:%d:%d: key `%s`: unknown key",
				       sink->file, e->line, e->column, key);
		r = check_value(sink, f, key, e->value, err);
		if (r == 0 && f->kind != CFG_GONE && !f->honoured)
			r = warn_unhonoured(sink, f, key, e, err);
		if (r < 0)
			return r;
		if (f->kind == CFG_GONE) {
			if (!tree_is_zero(e->value))
				config_sink_warn(sink, e->line, "key `%s` is ignored: %s", key,
						 f->help);
			toml_take(table, e->key);
			continue;
		}
		i++;
	}
	return 0;
}

/* Completing */

static int complete_map(struct arena *a, const struct config_field *f, const struct toml_value *v,
			struct toml_value **ret, struct err *err)
{
	struct toml_value *sorted, *e;
	int r;

	r = tree_sort(a, v, true, &sorted, err);
	if (r < 0 || f->kind != CFG_MAP) {
		if (r == 0)
			*ret = sorted;
		return r;
	}
	for (size_t i = 0; i < sorted->table.n; i++) {
		r = field_complete(a, f->fields, sorted->table.v[i].value, &e, err);
		if (r < 0)
			return r;
		sorted->table.v[i].value = e;
	}
	*ret = sorted;
	return 0;
}

static int complete_tables(struct arena *a, const struct config_field *f,
			   const struct toml_value *v, struct toml_value **ret, struct err *err)
{
	struct toml_value *array = toml_new(a, TOML_ARRAY), *e;
	int r;

	if (!array)
		return err_nomem(err);
	for (size_t i = 0; i < v->array.n; i++) {
		r = field_complete(a, f->fields, v->array.v[i], &e, err);
		if (r < 0)
			return r;
		if (toml_append(a, array, e) < 0)
			return err_nomem(err);
	}
	*ret = array;
	return 0;
}

/* *@ret is NULL when there is nothing to show. */
static int complete_value(struct arena *a, const struct config_field *f, struct toml_value *given,
			  struct toml_value **ret, struct err *err)
{
	struct toml_value *v;
	int r;

	if (f->kind == CFG_TABLE)
		return field_complete(a, f->fields, given, ret, err);
	r = default_value(a, f, &v, err);
	if (r < 0)
		return r;
	if (given && v && v->type == TOML_TABLE) {
		r = tree_overlay(a, v, given, &v, err);
		if (r < 0)
			return r;
	} else if (given) {
		v = given;
	}
	if (v && v->type == TOML_TABLE)
		return complete_map(a, f, v, ret, err);
	if (v && f->kind == CFG_TABLES)
		return complete_tables(a, f, v, ret, err);
	*ret = v;
	return 0;
}

int field_complete(struct arena *a, const struct config_field *fields,
		   const struct toml_value *given, struct toml_value **ret, struct err *err)
{
	struct toml_value *table = toml_new(a, TOML_TABLE), *v;
	int r;

	if (!table)
		return err_nomem(err);
	for (const struct config_field *f = fields; f && f->name; f++) {
		if (f->kind == CFG_GONE || (f->optional && !toml_get(given, f->name)))
			continue;
		r = complete_value(a, f, toml_get(given, f->name), &v, err);
		if (r < 0)
			return r;
		if (v && toml_set(a, table, f->name, v) < 0)
			return err_nomem(err);
	}
	*ret = table;
	return 0;
}
