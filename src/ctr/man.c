/* SPDX-License-Identifier: Apache-2.0 */
/* Manual pages: see man.h.
 *
 * Texts go on lines of their own, where nothing but a leading "." or "'" and the backslash has a
 * meaning; on lines of macros only names that we wrote stand unquoted. */
#include "ctr/man.h"

#include <ctype.h>
#include <errno.h>

#define PAGE_DATE "November 22, 2026"

/* Text as it is, broken into lines: after a sentence, and before a line gets long. */
static void put_more(const char *s, bool start, struct buf *out)
{
	bool blank = false;
	int column = !start;
	char last = '\0';

	for (; *s; s++) {
		if (isspace((unsigned char)*s)) {
			blank = column > 0;
			continue;
		}
		if (blank && !start) {
			start = (last && strchr(".!?", last)) ||
				column + (int)strcspn(s, " \t\n") > 60;
			buf_addc(out, start ? '\n' : ' ');
			column = start ? 0 : column + 1;
		}
		if (start && (*s == '.' || *s == '\''))
			buf_adds(out, "\\&");
		if (*s == '\\')
			buf_adds(out, "\\e");
		else if (*s == '-')
			buf_adds(out, "\\-");
		else
			buf_addc(out, *s);
		last = *s;
		column++;
		start = blank = false;
	}
}

static void put_text(const char *s, struct buf *out)
{
	put_more(s, true, out);
}

/* A quoted argument of a macro. */
static void put_quoted(const char *s, struct buf *out)
{
	buf_addc(out, '"');
	for (; *s; s++) {
		if (*s == '"')
			buf_adds(out, "\\(dq");
		else if (*s == '\\')
			buf_adds(out, "\\e");
		else if (*s == '-')
			buf_adds(out, "\\-");
		else
			buf_addc(out, *s);
	}
	buf_addc(out, '"');
}

static void put_sentence(const char *s, struct buf *out)
{
	bool capital;

	while (isspace((unsigned char)*s))
		s++;
	capital = isalpha((unsigned char)*s) && !str_has_prefix(s, "ctr ");
	if (capital)
		buf_addc(out, (char)toupper((unsigned char)*s++));
	put_more(s, !capital, out);
	buf_adds(out, *s && strchr(".!?", s[strlen(s) - 1]) ? "\n" : ".\n");
}

static void put_flag(const struct ctr_flag *f, struct buf *out)
{
	const char *fallback = ctr_flag_fallback(f);

	buf_printf(out, ".It Fl %s%s", f->name[1] ? "-" : "", f->name);
	if (f->alias)
		buf_printf(out, " , Fl %c", f->alias);
	if (f->kind != CTR_BOOL) {
		buf_adds(out, " Ar ");
		put_quoted(f->value ? f->value : "value", out);
	}
	buf_addc(out, '\n');
	put_sentence(f->usage, out);
	if (f->kind == CTR_STRINGS)
		buf_adds(out, "May be given several times.\n");
	if (fallback && *fallback && f->kind != CTR_BOOL) {
		buf_adds(out, "The default is\n.Ql ");
		put_quoted(fallback, out);
		buf_adds(out, " .\n");
	}
	if (f->env)
		buf_printf(out, "Without it the environment variable\n.Ev %s\nis used.\n", f->env);
}

static bool has_flags(const struct ctr_command *c)
{
	return c->flags && c->flags[0] && c->flags[0]->name;
}

static void put_flags(const struct ctr_command *c, struct buf *out)
{
	buf_adds(out, ".Bl -tag -width Ds\n");
	for (size_t g = 0; c->flags && c->flags[g]; g++)
		for (const struct ctr_flag *f = c->flags[g]; f->name; f++)
			put_flag(f, out);
	buf_adds(out, ".It Fl -help , Fl h\nShow help.\n.El\n");
}

static void put_aliases(const struct ctr_command *c, struct buf *out)
{
	if (!c->aliases[0])
		return;
	buf_adds(out, "Also called\n");
	for (size_t i = 0; i < ARRAY_LEN(c->aliases) && c->aliases[i]; i++) {
		bool last = i + 1 >= ARRAY_LEN(c->aliases) || !c->aliases[i + 1];

		buf_printf(out, ".Cm %s %s\n", c->aliases[i], last ? "." : ",");
	}
}

/* "A command below @path: a subsection, then what is below it. */
static void put_command(const struct ctr_command *c, const char *path, struct buf *out)
{
	struct buf full _cleanup_buf_ = BUF_INIT;

	buf_printf(&full, "%s%s%s", path, *path ? " " : "", c->name);
	if (c->hidden || !buf_ok(&full))
		return;
	buf_printf(out, ".Ss %s\n", full.data);
	if (c->run) {
		buf_printf(out, ".Nm ctr\n.Cm \"%s\"\n", full.data);
		if (c->args) {
			buf_adds(out, ".Ar ");
			put_quoted(c->args, out);
			buf_addc(out, '\n');
		}
		buf_adds(out, ".Pp\n");
	}
	put_sentence(c->usage, out);
	if (c->description)
		put_sentence(c->description, out);
	put_aliases(c, out);
	if (has_flags(c))
		put_flags(c, out);
	for (size_t i = 0; c->subcommands && c->subcommands[i]; i++)
		put_command(c->subcommands[i], full.data, out);
}

static void put_head(const struct ctr_command *root, const struct ctr_command *group,
		     struct buf *out)
{
	const char *what = group ? group->usage : root->usage;

	buf_adds(out, ".Dd " PAGE_DATE "\n.Dt CTR");
	if (group)
		buf_addc(out, '-');
	for (const char *p = group ? group->name : ""; *p; p++)
		buf_addc(out, (char)toupper((unsigned char)*p));
	buf_printf(out, " 8\n.Os\n.Sh NAME\n.Nm ctr%s%s\n.Nd ", group ? "-" : "",
		   group ? group->name : "");
	put_text(what, out);
	buf_adds(out, "\n.Sh SYNOPSIS\n.Nm ctr\n.Op Ar \"global options\"\n");
	if (!group) {
		buf_adds(out, ".Ar command\n.Op Ar options\n.Op Ar arguments ...\n");
		return;
	}
	buf_printf(out, ".Cm %s\n", group->name);
	if (group->subcommands)
		buf_adds(out, ".Ar command\n.Op Ar options\n.Op Ar arguments ...\n");
	else if (group->args) {
		buf_adds(out, ".Ar ");
		put_quoted(group->args, out);
		buf_addc(out, '\n');
	}
}

static void put_root(const struct ctr_command *root, struct buf *out)
{
	buf_adds(out, ".Sh DESCRIPTION\n");
	put_sentence(root->description ? root->description : root->usage, out);
	buf_adds(out, ".Pp\nThe options before the command are:\n");
	put_flags(root, out);
	buf_adds(out, ".Pp\nThe commands are, each with a page of its own:\n.Bl -tag -width Ds\n");
	for (size_t i = 0; root->subcommands[i]; i++) {
		const struct ctr_command *s = root->subcommands[i];

		if (s->hidden)
			continue;
		buf_printf(out, ".It Xr ctr-%s 8\n", s->name);
		put_sentence(s->usage, out);
		put_aliases(s, out);
	}
	buf_adds(out, ".El\n.Sh FILES\n.Bl -tag -width Ds\n"
		      ".It Pa /run/containerd/containerd.sock\n"
		      "The daemon's socket.\n.El\n");
}

static void put_group(const struct ctr_command *group, struct buf *out)
{
	buf_adds(out, ".Sh DESCRIPTION\n");
	put_sentence(group->usage, out);
	if (group->description)
		put_sentence(group->description, out);
	put_aliases(group, out);
	if (has_flags(group)) {
		buf_adds(out, ".Pp\nThe options are:\n");
		put_flags(group, out);
	}
	if (!group->subcommands)
		return;
	buf_adds(out, ".Sh COMMANDS\n");
	for (size_t i = 0; group->subcommands[i]; i++)
		put_command(group->subcommands[i], group->name, out);
}

static void put_see_also(const struct ctr_command *root, const struct ctr_command *group,
			 struct buf *out)
{
	const struct ctr_command *sorted[64];
	size_t n = 0;

	buf_adds(out, ".Sh SEE ALSO\n");
	if (group) {
		buf_adds(out, ".Xr ctr 8\n");
		return;
	}
	for (size_t i = 0; root->subcommands[i] && n < ARRAY_LEN(sorted); i++) {
		const struct ctr_command *s = root->subcommands[i];
		size_t at = n;

		if (s->hidden)
			continue;
		for (; at > 0 && strcmp(sorted[at - 1]->name, s->name) > 0; at--)
			sorted[at] = sorted[at - 1];
		sorted[at] = s;
		n++;
	}
	for (size_t i = 0; i < n; i++)
		buf_printf(out, ".Xr ctr-%s 8%s\n", sorted[i]->name, i + 1 < n ? " ," : "");
}

int man_page(const struct ctr_command *root, const struct ctr_command *group, struct buf *out)
{
	put_head(root, group, out);
	if (group)
		put_group(group, out);
	else
		put_root(root, out);
	buf_adds(out, ".Sh EXIT STATUS\n0 on success,\n1 after an error, of which one line is on "
		      "standard error,\nand 3 when there is no such command.\n");
	if (!group || streq(group->name, "run") || streq(group->name, "tasks"))
		buf_adds(out, "Commands that stay with a process end with its status.\n");
	put_see_also(root, group, out);
	return buf_ok(out) ? 0 : -ENOMEM;
}
