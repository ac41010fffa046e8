/* SPDX-License-Identifier: Apache-2.0 */
/* TOML 1.0 by recursive descent over a byte range that was checked to be UTF-8 first.
 *
 * Redefinition rules hang on marks of the tree's nodes instead of on paths.
 *
 * table.inline_: written as a value, `{...}`; closed for good, and so is everything in it.
 *
 * table.defined: named by a [header], or made by dotted keys of a section that is over. May get
 * sub-tables by further headers, but neither a second header nor dotted keys from elsewhere.
 *
 * node.pending: made by dotted keys of the current section and still open for these; becomes
 * `defined` at the next header.
 *
 * node.tables: array made by [[header]], whose last element later headers extend; any other array
 * is a closed value.
 *
 * Columns count bytes from 1. A "\r\n" inside a multi-line string becomes "\n". A key that contains
 * an escaped NUL and an integer beyond 64 bits are refused, and second 60 (a leap second) is.
 */
#include "base/toml_impl.h"

#include "base/str.h"

#define TOML_SIZE_MAX (1024 * 1024)
#define TOML_DEPTH_MAX 64
#define INDEX_FROM 16 /* tables with more keys than this get a hash index */

/* Every value of a tree is one of these; the header shows only the first member. */
struct node {
	struct toml_value value;
	bool tables;
	bool pending;
	uint32_t *index; /* open addressing, entry number + 1, 0 = free */
	size_t index_size;
};

struct key_part {
	const char *s;
	int line, column;
};

struct key {
	struct key_part part[TOML_DEPTH_MAX];
	size_t n;
};

static struct node *node_of(struct toml_value *v)
{
	return (struct node *)v;
}

static int skip_comment(struct parser *ps)
{
	if (peek(ps) != '#')
		return 0;
	while (!at_end(ps) && !is_control(*ps->p))
		ps->p++;
	if (!at_end(ps) && *ps->p != '\n' && !(*ps->p == '\r' && peek_at(ps, 1) == '\n'))
		return toml_fail_char(ps, "in a comment");
	return 0;
}

/* Blanks, newlines and comments: between elements of an array, and between statements. */
static int skip_lines(struct parser *ps)
{
	int r;

	for (;;) {
		skip_blanks(ps);
		r = skip_comment(ps);
		if (r < 0)
			return r;
		if (!take_newline(ps))
			return 0;
	}
}

/* Length of the UTF-8 sequence at @p, 0 when there is none: no overlong form, no surrogate, at most
 * U+10FFFF. */
static size_t utf8_length(const unsigned char *p, size_t n)
{
	unsigned char c = p[0], low = 0x80, high = 0xbf;
	size_t len;

	if (c < 0x80)
		return 1;
	if (c >= 0xc2 && c <= 0xdf)
		len = 2;
	else if (c >= 0xe0 && c <= 0xef)
		len = 3;
	else if (c >= 0xf0 && c <= 0xf4)
		len = 4;
	else
		return 0;
	if (len > n)
		return 0;
	if (c == 0xe0)
		low = 0xa0;
	else if (c == 0xed)
		high = 0x9f;
	else if (c == 0xf0)
		low = 0x90;
	else if (c == 0xf4)
		high = 0x8f;
	if (p[1] < low || p[1] > high)
		return 0;
	for (size_t i = 2; i < len; i++)
		if (p[i] < 0x80 || p[i] > 0xbf)
			return 0;
	return len;
}

static int check_bytes(struct parser *ps)
{
	const char *p = ps->p;
	const char *line_start = p;
	int line = 1;

	while (p < ps->end) {
		size_t n = utf8_length((const unsigned char *)p, (size_t)(ps->end - p));

		if (n == 0)
			return toml_fail_at(ps, line, (int)(p - line_start) + 1,
					    "byte 0x%02x is not UTF-8", (unsigned char)*p);
		if (*p == 0)
			return toml_fail_at(ps, line, (int)(p - line_start) + 1, "NUL byte");
		if (*p == '\n') {
			line++;
			line_start = p + 1;
		}
		p += n;
	}
	return 0;
}

/* The tree */

static struct toml_value *value_new(struct parser *ps, enum toml_type type)
{
	struct toml_value *v = toml_new(ps->arena, type);

	if (v) {
		v->line = ps->line;
		v->column = column_at(ps, ps->p);
	}
	return v;
}

static uint32_t key_hash(const char *s)
{
	uint32_t h = 2166136261u;

	for (; *s; s++)
		h = (h ^ (unsigned char)*s) * 16777619u;
	return h;
}

static void index_put(struct node *n, size_t entry)
{
	size_t i = key_hash(n->value.table.v[entry].key) & (n->index_size - 1);

	while (n->index[i])
		i = (i + 1) & (n->index_size - 1);
	n->index[i] = (uint32_t)entry + 1;
}

/* Enters the last key; keeps the index at most half full. */
static int index_update(struct arena *a, struct node *n)
{
	size_t keys = n->value.table.n;

	if (keys <= INDEX_FROM)
		return 0;
	if (n->index && keys * 2 <= n->index_size) {
		index_put(n, keys - 1);
		return 0;
	}
	for (n->index_size = (size_t)INDEX_FROM * 4; n->index_size < keys * 3; n->index_size *= 2)
		;
	n->index = arena_new_array(a, uint32_t, n->index_size);
	if (!n->index)
		return -ENOMEM;
	for (size_t i = 0; i < keys; i++)
		index_put(n, i);
	return 0;
}

static struct toml_entry *table_find(const struct toml_value *t, const char *key)
{
	const struct node *n = (const struct node *)t;

	if (n->index) {
		size_t i = key_hash(key) & (n->index_size - 1);

		for (; n->index[i]; i = (i + 1) & (n->index_size - 1))
			if (streq(t->table.v[n->index[i] - 1].key, key))
				return &t->table.v[n->index[i] - 1];
		return NULL;
	}
	for (size_t i = 0; i < t->table.n; i++)
		if (streq(t->table.v[i].key, key))
			return &t->table.v[i];
	return NULL;
}

static int entry_add(struct arena *a, struct toml_value *t, const struct toml_entry *e)
{
	struct toml_entry *grown =
		arena_grow(a, t->table.v, &t->table.cap, t->table.n + 1, sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	t->table.v = grown;
	grown[t->table.n++] = *e;
	return index_update(a, node_of(t));
}

static int table_add(struct parser *ps, struct toml_value *t, const struct key_part *part,
		     struct toml_value *v)
{
	const struct toml_entry e = {
		.key = part->s, .value = v, .line = part->line, .column = part->column};

	return entry_add(ps->arena, t, &e) < 0 ? err_nomem(ps->err) : 0;
}

static int array_add(struct parser *ps, struct toml_value *array, struct toml_value *v)
{
	return toml_append(ps->arena, array, v) < 0 ? err_nomem(ps->err) : 0;
}

static int table_add_table(struct parser *ps, struct toml_value *t, const struct key_part *part,
			   struct toml_value **ret)
{
	struct toml_value *v = value_new(ps, TOML_TABLE);
	int r;

	if (!v)
		return err_nomem(ps->err);
	v->line = part->line;
	v->column = part->column;
	r = table_add(ps, t, part, v);
	if (r < 0)
		return r;
	*ret = v;
	return 0;
}

static int fail_part(struct parser *ps, const struct key_part *part, const char *what)
{
	return toml_fail_at(ps, part->line, part->column, "key `%.100s` %s", part->s, what);
}

/* Keys */

static bool is_bare(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_' || c == '-';
}

static int parse_key_part(struct parser *ps, struct key_part *ret)
{
	struct key_part part = {.line = ps->line, .column = column_at(ps, ps->p)};
	size_t len = 0;
	int r;

	if (peek(ps) == '"' || peek(ps) == '\'') {
		r = toml_parse_string(ps, false, &part.s, &len);
		if (r < 0)
			return r;
		if (strlen(part.s) != len)
			return toml_fail_at(ps, part.line, part.column, "NUL in a key");
	} else {
		while (is_bare(peek_at(ps, len)))
			len++;
		if (len == 0)
			return toml_fail_char(ps, "where a key must stand");
		part.s = arena_strndup(ps->arena, ps->p, len);
		if (!part.s)
			return err_nomem(ps->err);
		ps->p += len;
	}
	*ret = part;
	return 0;
}

/* `a . "b" . c`, and the blanks after it. */
static int parse_key(struct parser *ps, struct key *ret)
{
	int r;

	ret->n = 0;
	for (;;) {
		if (ret->n == TOML_DEPTH_MAX)
			return toml_fail(ps, "key has more than %d parts", TOML_DEPTH_MAX);
		r = parse_key_part(ps, &ret->part[ret->n]);
		if (r < 0)
			return r;
		ret->n++;
		skip_blanks(ps);
		if (peek(ps) != '.')
			return 0;
		ps->p++;
		skip_blanks(ps);
	}
}

/* Values */

static int parse_value(struct parser *ps, size_t depth, struct toml_value **ret);

static int check_depth(struct parser *ps, size_t depth)
{
	if (depth > TOML_DEPTH_MAX)
		return toml_fail(ps, "nested more than %d deep", TOML_DEPTH_MAX);
	return 0;
}

static int parse_array(struct parser *ps, size_t depth, struct toml_value *array)
{
	struct toml_value *v;
	int r;

	ps->p++;
	for (;;) {
		r = skip_lines(ps);
		if (r < 0)
			return r;
		if (peek(ps) == ']')
			break;
		r = parse_value(ps, depth + 1, &v);
		if (r < 0)
			return r;
		r = array_add(ps, array, v);
		if (r < 0)
			return r;
		r = skip_lines(ps);
		if (r < 0)
			return r;
		if (peek(ps) == ']')
			break;
		if (peek(ps) != ',')
			return toml_fail_char(ps, "where `,` or `]` must stand");
		ps->p++;
	}
	ps->p++;
	return 0;
}

static int table_add_once(struct parser *ps, struct toml_value *t, const struct key_part *name,
			  struct toml_value *v)
{
	if (table_find(t, name->s))
		return fail_part(ps, name, "is defined twice");
	return table_add(ps, t, name, v);
}

/* A dotted key of an inline table opens only tables that dotted keys of the same one made. */
static int inline_add(struct parser *ps, struct toml_value *t, const struct key *key,
		      struct toml_value *v)
{
	int r;

	for (size_t i = 0; i + 1 < key->n; i++) {
		struct toml_entry *e = table_find(t, key->part[i].s);

		if (e && (e->value->type != TOML_TABLE || e->value->table.inline_))
			return fail_part(ps, &key->part[i], "has a value already");
		if (e) {
			t = e->value;
		} else {
			r = table_add_table(ps, t, &key->part[i], &t);
			if (r < 0)
				return r;
		}
	}
	return table_add_once(ps, t, &key->part[key->n - 1], v);
}

/* "key = value" */
static int parse_key_value(struct parser *ps, size_t depth, struct key *ret_key,
			   struct toml_value **ret)
{
	int r = parse_key(ps, ret_key);

	if (r < 0)
		return r;
	if (peek(ps) != '=')
		return toml_fail_char(ps, "where `=` must stand");
	ps->p++;
	skip_blanks(ps);
	return parse_value(ps, depth + ret_key->n, ret);
}

static int parse_inline_pair(struct parser *ps, size_t depth, struct toml_value *table)
{
	struct toml_value *v;
	struct key key;
	int r = parse_key_value(ps, depth, &key, &v);

	return r < 0 ? r : inline_add(ps, table, &key, v);
}

static int parse_inline_table(struct parser *ps, size_t depth, struct toml_value *table)
{
	int r;

	table->table.inline_ = true;
	ps->p++;
	skip_blanks(ps);
	if (peek(ps) == '}') {
		ps->p++;
		return 0;
	}
	for (;;) {
		r = parse_inline_pair(ps, depth, table);
		if (r < 0)
			return r;
		skip_blanks(ps);
		if (peek(ps) == '}')
			break;
		if (peek(ps) != ',')
			return toml_fail_char(ps, "where `,` or `}` must stand");
		ps->p++;
		skip_blanks(ps);
	}
	ps->p++;
	return 0;
}

static int parse_value(struct parser *ps, size_t depth, struct toml_value **ret)
{
	struct toml_value *v;
	int r;

	r = check_depth(ps, depth);
	if (r < 0)
		return r;
	v = value_new(ps, TOML_STRING);
	if (!v)
		return err_nomem(ps->err);
	switch (peek(ps)) {
	case '"':
	case '\'':
		r = toml_parse_string(ps, true, &v->string.s, &v->string.len);
		break;
	case '[':
		v->type = TOML_ARRAY;
		r = parse_array(ps, depth, v);
		break;
	case '{':
		v->type = TOML_TABLE;
		r = parse_inline_table(ps, depth, v);
		break;
	default:
		r = toml_parse_scalar(ps, v);
	}
	if (r < 0)
		return r;
	*ret = v;
	return 0;
}

/* Statements */

static int expect_line_end(struct parser *ps)
{
	int r;

	skip_blanks(ps);
	r = skip_comment(ps);
	if (r < 0)
		return r;
	if (!at_end(ps) && !take_newline(ps))
		return toml_fail_char(ps, "where the line must end");
	return 0;
}

static int pending_add(struct parser *ps, struct node *n)
{
	struct node **grown;

	if (n->pending)
		return 0;
	grown = arena_grow(ps->arena, ps->pending, &ps->pending_cap, ps->pending_n + 1,
			   sizeof(*grown));
	if (!grown)
		return err_nomem(ps->err);
	ps->pending = grown;
	grown[ps->pending_n++] = n;
	n->pending = true;
	return 0;
}

/* Dotted keys of a section are over when the next header starts. */
static void pending_finish(struct parser *ps)
{
	for (size_t i = 0; i < ps->pending_n; i++) {
		ps->pending[i]->pending = false;
		ps->pending[i]->value.table.defined = true;
	}
	ps->pending_n = 0;
}

static int section_add(struct parser *ps, struct toml_value *t, const struct key *key,
		       struct toml_value *v)
{
	int r;

	for (size_t i = 0; i + 1 < key->n; i++) {
		struct toml_entry *e = table_find(t, key->part[i].s);

		if (!e) {
			r = table_add_table(ps, t, &key->part[i], &t);
			if (r < 0)
				return r;
		} else if (e->value->type != TOML_TABLE || e->value->table.inline_) {
			return fail_part(ps, &key->part[i], "has a value already");
		} else if (e->value->table.defined) {
			return fail_part(ps, &key->part[i], "is a table that is defined elsewhere");
		} else {
			t = e->value;
		}
		r = pending_add(ps, node_of(t));
		if (r < 0)
			return r;
	}
	return table_add_once(ps, t, &key->part[key->n - 1], v);
}

static int parse_pair(struct parser *ps, size_t depth, struct toml_value *section)
{
	struct toml_value *v;
	struct key key;
	int r = parse_key_value(ps, depth, &key, &v);

	if (r == 0)
		r = section_add(ps, section, &key, v);
	return r < 0 ? r : expect_line_end(ps);
}

/* Walks all but the last part of a header's key; arrays of tables continue in their last element.
 */
static int header_walk(struct parser *ps, struct toml_value *t, const struct key *key,
		       struct toml_value **ret)
{
	int r;

	for (size_t i = 0; i + 1 < key->n; i++) {
		struct toml_entry *e = table_find(t, key->part[i].s);

		if (!e) {
			r = table_add_table(ps, t, &key->part[i], &t);
			if (r < 0)
				return r;
		} else if (e->value->type == TOML_TABLE && !e->value->table.inline_) {
			t = e->value;
		} else if (e->value->type == TOML_ARRAY && node_of(e->value)->tables) {
			t = e->value->array.v[e->value->array.n - 1];
		} else {
			return fail_part(ps, &key->part[i], "has a value already");
		}
	}
	*ret = t;
	return 0;
}

static int open_table(struct parser *ps, struct toml_value *parent, const struct key_part *last,
		      struct toml_value **ret)
{
	struct toml_entry *e = table_find(parent, last->s);
	int r;

	if (!e) {
		r = table_add_table(ps, parent, last, ret);
		if (r < 0)
			return r;
	} else if (e->value->type != TOML_TABLE || e->value->table.inline_) {
		return fail_part(ps, last, "has a value already");
	} else if (e->value->table.defined) {
		return fail_part(ps, last, "is a table that is defined already");
	} else {
		*ret = e->value;
	}
	(*ret)->table.defined = true;
	return 0;
}

static int open_array_element(struct parser *ps, struct toml_value *parent,
			      const struct key_part *last, struct toml_value **ret)
{
	struct toml_entry *e = table_find(parent, last->s);
	struct toml_value *array = e ? e->value : NULL, *v;
	int r;

	if (e && (array->type != TOML_ARRAY || !node_of(array)->tables))
		return fail_part(ps, last, "has a value already");
	if (!e) {
		array = value_new(ps, TOML_ARRAY);
		if (!array)
			return err_nomem(ps->err);
		array->line = last->line;
		array->column = last->column;
		node_of(array)->tables = true;
		r = table_add(ps, parent, last, array);
		if (r < 0)
			return r;
	}
	v = value_new(ps, TOML_TABLE);
	if (!v)
		return err_nomem(ps->err);
	v->line = last->line;
	v->column = last->column;
	v->table.defined = true;
	r = array_add(ps, array, v);
	if (r < 0)
		return r;
	*ret = v;
	return 0;
}

/* `[a.b]` or `[[a.b]]` */
static int parse_header(struct parser *ps, struct toml_value *root, struct toml_value **ret,
			size_t *ret_depth)
{
	bool array = peek_at(ps, 1) == '[';
	struct toml_value *parent = NULL;
	struct key key;
	int r;

	pending_finish(ps);
	ps->p += array ? 2 : 1;
	skip_blanks(ps);
	r = parse_key(ps, &key);
	if (r < 0)
		return r;
	if (!looking_at(ps, array ? "]]" : "]"))
		return toml_fail_char(ps, array ? "where `]]` must stand" : "where `]` must stand");
	r = header_walk(ps, root, &key, &parent);
	if (r < 0)
		return r;
	if (array)
		r = open_array_element(ps, parent, &key.part[key.n - 1], ret);
	else
		r = open_table(ps, parent, &key.part[key.n - 1], ret);
	if (r < 0)
		return r;
	ps->p += array ? 2 : 1;
	*ret_depth = key.n;
	return expect_line_end(ps);
}

static int parse_document(struct parser *ps, struct toml_value *root)
{
	struct toml_value *section = root;
	size_t depth = 0;
	int r;

	for (;;) {
		r = skip_lines(ps);
		if (r < 0)
			return r;
		if (at_end(ps))
			return 0;
		if (peek(ps) == '[')
			r = parse_header(ps, root, &section, &depth);
		else
			r = parse_pair(ps, depth, section);
		if (r < 0)
			return r;
	}
}

int toml_parse(struct arena *a, const char *p, size_t n, struct toml_value **ret, struct err *err)
{
	struct parser ps = {
		.arena = a, .err = err, .p = p, .end = p + n, .line_start = p, .line = 1};
	struct toml_value *root;
	int r;

	if (n > TOML_SIZE_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT, "document is larger than %d bytes",
			       TOML_SIZE_MAX);
	r = check_bytes(&ps);
	if (r < 0)
		return r;
	root = value_new(&ps, TOML_TABLE);
	if (!root)
		return err_nomem(err);
	r = parse_document(&ps, root);
	buf_done(&ps.text);
	if (r < 0)
		return r;
	*ret = root;
	return 0;
}

struct toml_value *toml_get(const struct toml_value *t, const char *key)
{
	const struct toml_entry *e = t && t->type == TOML_TABLE ? table_find(t, key) : NULL;

	return e ? e->value : NULL;
}

struct toml_value *toml_new(struct arena *a, enum toml_type type)
{
	struct node *n = arena_new_obj(a, struct node);

	if (!n)
		return NULL;
	n->value.type = type;
	if (type == TOML_STRING)
		n->value.string.s = "";
	return &n->value;
}

int toml_set(struct arena *a, struct toml_value *t, const char *key, struct toml_value *v)
{
	struct toml_entry *e = table_find(t, key);
	const struct toml_entry added = {
		.key = key, .value = v, .line = v->line, .column = v->column};

	if (!e)
		return entry_add(a, t, &added);
	e->value = v;
	return 0;
}

struct toml_value *toml_take(struct toml_value *t, const char *key)
{
	struct toml_entry *e = t && t->type == TOML_TABLE ? table_find(t, key) : NULL;
	struct toml_value *v = e ? e->value : NULL;
	size_t i;

	if (!e)
		return NULL;
	i = (size_t)(e - t->table.v);
	memmove(e, e + 1, (t->table.n - i - 1) * sizeof(*e));
	t->table.n--;
	node_of(t)->index = NULL; /* positions moved; built again with the next key */
	return v;
}

int toml_append(struct arena *a, struct toml_value *array, struct toml_value *v)
{
	struct toml_value **grown = arena_grow(a, array->array.v, &array->array.cap,
					       array->array.n + 1, sizeof(struct toml_value *));

	if (!grown)
		return -ENOMEM;
	array->array.v = grown;
	grown[array->array.n++] = v;
	return 0;
}

const char *toml_type_name(enum toml_type t)
{
	switch (t) {
	case TOML_STRING:
		return "string";
	case TOML_INTEGER:
		return "integer";
	case TOML_FLOAT:
		return "float";
	case TOML_BOOL:
		return "boolean";
	case TOML_DATETIME:
		return "datetime";
	case TOML_ARRAY:
		return "array";
	case TOML_TABLE:
		return "table";
	}
	return "unknown";
}

static void quote_escaped(struct buf *b, const char *s)
{
	static const char from[] = "\b\t\n\f\r\"\\", to[] = "btnfr\"\\";

	buf_addc(b, '"');
	for (; *s; s++) {
		const char *at = strchr(from, *s);

		if (at)
			buf_printf(b, "\\%c", to[at - from]);
		else if (is_control(*s))
			buf_printf(b, "\\u%04X", (unsigned char)*s);
		else
			buf_addc(b, *s);
	}
	buf_addc(b, '"');
}

void toml_quote(struct buf *b, const char *s)
{
	for (const char *p = s; *p; p++) {
		if (*p == '\'' || is_control(*p)) {
			quote_escaped(b, s);
			return;
		}
	}
	buf_printf(b, "'%s'", s);
}

void toml_quote_key(struct buf *b, const char *s)
{
	const char *p = s;

	while (is_bare(*p))
		p++;
	if (*s && !*p)
		buf_adds(b, s);
	else
		toml_quote(b, s);
}
