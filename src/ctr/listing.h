/* SPDX-License-Identifier: Apache-2.0 */
/* Listings: what every `list` command prints, in one of the forms that --format and --quiet ask
 * for.
 *
 *     static const struct ctr_flag list_flags[] = {QUIET_FLAG("print only the names"), {}};
 *     ... .flags = CTR_FLAGS(list_flags, format_flags) ...
 *
 *     struct listing l _cleanup_listing_ = {.table = TABLE_INIT(1, 8, 1, ' '), .key = "Name"};
 *     r = listing_begin(c, &l, "NAME\tLABELS\t\n", err);
 *     for each: r = listing_add(&l, json_pack("{s:s,...}", ...), err, "%s\t%s\t\n", ...);
 *     r = listing_end(&l, err);
 *
 * A row is given twice: as a JSON object of all that is known, and as the cells of the plain table.
 * Without --format the table is printed; "json" prints an array of the objects; "table TEMPLATE"
 * and "TEMPLATE" print each object through a template (see template.h), the first one aligned and
 * with headings. --quiet prints one member of each. */
#pragma once

#include "ctr/ctr.h"
#include "ctr/template.h"

/* The group of the one flag --format. */
extern const struct ctr_flag format_flags[];

enum listing_form { LISTING_PLAIN, LISTING_QUIET, LISTING_JSON, LISTING_TEMPLATE, LISTING_TABLE };

struct listing {
	struct table table; /* how the plain form is aligned; set by the caller */
	const char *key;    /* member that --quiet prints; NULL: the command has no such flag */
	enum listing_form form;
	struct format *template;
	json_t *rows;
};
#define _cleanup_listing_ _cleanup_(listing_done)
void listing_done(struct listing *l);

/* Looks at the flags. @headings: the first line of the plain form, "" = none. */
int listing_begin(struct ctr *c, struct listing *l, const char *headings,
		  struct err *err) _must_check_;
/* One row; takes @row, NULL = no memory. */
int listing_add(struct listing *l, json_t *row, struct err *err, const char *fmt, ...) _must_check_
	_printf_(4, 5);
/* Instead of listing_add() and listing_end(), for rows that come one at a time and are printed at
 * once, each a line; not for the plain form. */
int listing_stream(struct listing *l, const json_t *row, struct err *err) _must_check_;
int listing_end(struct listing *l, struct err *err) _must_check_;

/* A single object by --format: JSON when it is "" or "json", else a template and a newline. */
int listing_print(struct ctr *c, const json_t *object, struct err *err) _must_check_;

/* ---- Members of rows ---- */
/* RFC3339, null for no time. */
json_t *listing_time(const Google__Protobuf__Timestamp *t);
/* RFC3339 in any case: for objects as Go prints them. */
json_t *listing_time_always(const Google__Protobuf__Timestamp *t);
/* An object; empty when there are no labels. NULL = no memory. */
json_t *listing_labels(struct pb_label *const *entries, size_t n);
#define LISTING_LABELS(m) listing_labels((struct pb_label *const *)(m)->labels, (m)->n_labels)
/* A list of texts. */
json_t *listing_texts(char *const *v, size_t n);
