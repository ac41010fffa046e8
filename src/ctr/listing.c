/* SPDX-License-Identifier: Apache-2.0 */
/* Listings: see listing.h. */
#include "ctr/listing.h"

#include <stdarg.h>

#include "base/time.h"

const struct ctr_flag format_flags[] = {
	{"format", 0, CTR_STRING,
	 "\"json\", or a template such as \"{{.Name}}\"; \"table {{...}}\" aligns it"},
	{}};

void listing_done(struct listing *l)
{
	table_done(&l->table);
	json_decref(l->rows);
}

static int choose_form(struct ctr *c, struct listing *l, struct err *err)
{
	const char *format = ctr_string(c, "format"), *rest;
	bool quiet = l->key && ctr_bool(c, "quiet");

	if (quiet && *format)
		return err_set_raw(err, ERR_INVALID_ARGUMENT,
				   "--quiet and --format cannot be used together");
	if (quiet)
		l->form = LISTING_QUIET;
	if (quiet || !*format || streq(format, "table"))
		return 0;
	if (streq(format, "json")) {
		l->form = LISTING_JSON;
		return 0;
	}
	rest = str_skip(format, "table ");
	l->form = rest ? LISTING_TABLE : LISTING_TEMPLATE;
	if (!strstr(format, "{{"))
		return err_set_raw(err, ERR_INVALID_ARGUMENT,
				   "unknown format \"%.64s\": \"json\", \"table\", or a template "
				   "with {{.Field}}",
				   format);
	return template_parse(c->ctx.arena, rest ? rest : format, &l->template, err);
}

int listing_begin(struct ctr *c, struct listing *l, const char *headings, struct err *err)
{
	int r = choose_form(c, l, err);

	if (r < 0)
		return r;
	l->rows = json_array();
	if (!l->rows)
		return err_nomem(err);
	if (l->form == LISTING_PLAIN)
		table_printf(&l->table, "%s", headings);
	if (l->form == LISTING_TABLE) {
		struct table with_blanks = TABLE_INIT(4, 8, 3, ' ');

		table_done(&l->table);
		l->table = with_blanks;
		if (template_headings(l->template, &l->table.text) < 0)
			return err_nomem(err);
		table_printf(&l->table, "\n");
	}
	return 0;
}

int listing_add(struct listing *l, json_t *row, struct err *err, const char *fmt, ...)
{
	json_t *own _cleanup_json_ = row;
	const char *key;
	va_list ap;
	int r = 0;

	if (!row)
		return err_nomem(err);
	switch (l->form) {
	case LISTING_PLAIN:
		va_start(ap, fmt);
		buf_vprintf(&l->table.text, fmt, ap);
		va_end(ap);
		break;
	case LISTING_QUIET:
		key = json_str(row, l->key, "");
		table_printf(&l->table, "%s\n", key);
		break;
	case LISTING_JSON:
		r = json_array_append(l->rows, row) < 0 ? err_nomem(err) : 0;
		break;
	case LISTING_TEMPLATE:
	case LISTING_TABLE:
		r = template_render(l->template, row, &l->table.text, err);
		table_printf(&l->table, "\n");
		break;
	}
	return r;
}

/* What a template has written is printed as it is: its tabs are not ours. */
static int print_text(struct buf *b, struct err *err)
{
	if (!buf_ok(b))
		return err_nomem(err);
	return ctr_print(b, err);
}

int listing_end(struct listing *l, struct err *err)
{
	if (l->form == LISTING_JSON)
		return ctr_print_json(l->rows, err);
	if (l->form == LISTING_TEMPLATE)
		return print_text(&l->table.text, err);
	return table_print(&l->table, err);
}

int listing_stream(struct listing *l, const json_t *row, struct err *err)
{
	char *text _cleanup_free_ = NULL;
	int r = 0;

	if (!row)
		return err_nomem(err);
	buf_clear(&l->table.text);
	if (l->form == LISTING_JSON) {
		text = json_dumps(row, JSON_COMPACT);
		buf_adds(&l->table.text, text ? text : "");
	} else if (l->template)
		r = template_render(l->template, row, &l->table.text, err);
	buf_addc(&l->table.text, '\n');
	return r < 0 ? r : print_text(&l->table.text, err);
}

int listing_print(struct ctr *c, const json_t *object, struct err *err)
{
	struct listing l _cleanup_listing_ = {};
	int r = choose_form(c, &l, err);

	if (r < 0)
		return r;
	if (l.form == LISTING_PLAIN || l.form == LISTING_JSON)
		return ctr_print_json(object, err);
	r = template_render(l.template, object, &l.table.text, err);
	buf_addc(&l.table.text, '\n');
	return r < 0 ? r : print_text(&l.table.text, err);
}

json_t *listing_time_always(const Google__Protobuf__Timestamp *t)
{
	char text[40];

	time_format_rfc3339(pb_time(t), text);
	return json_string(text);
}

json_t *listing_time(const Google__Protobuf__Timestamp *t)
{
	return t ? listing_time_always(t) : json_null();
}

json_t *listing_labels(struct pb_label *const *entries, size_t n)
{
	json_t *o = json_object();

	for (size_t i = 0; i < n; i++)
		if (json_object_set_new(o, entries[i]->key, json_string(entries[i]->value)) < 0) {
			json_decref(o);
			return NULL;
		}
	return o;
}

json_t *listing_texts(char *const *v, size_t n)
{
	json_t *l = json_array();

	for (size_t i = 0; i < n; i++)
		if (json_array_append_new(l, json_string(v[i])) < 0) {
			json_decref(l);
			return NULL;
		}
	return l;
}
