/* SPDX-License-Identifier: Apache-2.0 */
/* --format templates: text with actions in {{ }} over a JSON object, the part of Go's
 * text/template that people use for listings.
 *
 *     {{.Name}} {{.Labels.team}} {{index .Labels "a.b/c"}} {{json .}} {{.Size | size}}
 *
 * An action is a pipeline of terms. A term is a value (".", ".Field.Field", "text", a number) or a
 * function with its values: json X; size X (bytes as people read them); upper X; lower X; len X;
 * join LIST SEPARATOR; index OBJECT-OR-LIST KEY. What comes through "|" is the last value. Outside
 * of actions \n, \t and \\ stand for what they do in C. There are no conditions and no loops. */
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"

#define TEMPLATE_MAX (64u << 10) /* bytes */
#define TEMPLATE_TERMS_MAX 1024	 /* in all actions */

struct format;

/* In the arena. -ERR_INVALID_ARGUMENT that says what is wrong and where. */
int template_parse(struct arena *a, const char *text, struct format **ret,
		   struct err *err) _must_check_;
/* Appends what @row gives. A field that the row itself has not is an error that names those it has;
 * one missing further down is "". */
int template_render(const struct format *t, const json_t *row, struct buf *out,
		    struct err *err) _must_check_;
/* Appends the template with each action replaced by its first field's name as a heading:
 * "CREATED AT" for .CreatedAt. 0 or -ENOMEM. */
int template_headings(const struct format *t, struct buf *out);
