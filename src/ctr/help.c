/* SPDX-License-Identifier: Apache-2.0 */
/* Help of a command, out of its table, in the layout that ctr's users know: NAME, USAGE, VERSION,
 * DESCRIPTION, COMMANDS, OPTIONS. */
#include "ctr/ctr.h"

#include <errno.h>

#include "version.h"

/* "ctr images list" */
static void put_path(const struct ctr_level *l, struct buf *out)
{
	if (l->parent) {
		put_path(l->parent, out);
		buf_addc(out, ' ');
	}
	buf_adds(out, l->command->name);
}

static bool has_flags(const struct ctr_command *c)
{
	return c->flags && c->flags[0] && c->flags[0]->name;
}

static void put_usage(const struct ctr_level *l, struct buf *out)
{
	const struct ctr_command *c = l->command;

	put_path(l, out);
	if (!l->parent)
		buf_adds(out, " [global options]");
	else if (!c->subcommands)
		buf_adds(out, has_flags(c) ? " [command options]" : "");
	if (c->subcommands)
		buf_adds(out, " command [command options] [arguments...]");
	else
		buf_printf(out, " %s", c->args ? c->args : "[arguments...]");
}

static void put_commands(const struct ctr_command *c, struct table *t)
{
	for (size_t i = 0; c->subcommands[i]; i++) {
		const struct ctr_command *s = c->subcommands[i];

		if (s->hidden)
			continue;
		table_printf(t, "   %s", s->name);
		for (size_t j = 0; j < ARRAY_LEN(s->aliases) && s->aliases[j]; j++)
			table_printf(t, ", %s", s->aliases[j]);
		table_printf(t, "\t%s\n", s->usage);
	}
	table_printf(t, "   help, h\tshow a list of commands, or help for one command\n");
}

const char *ctr_flag_fallback(const struct ctr_flag *f)
{
	if (f->fallback)
		return f->fallback;
	switch (f->kind) {
	case CTR_INT:
	case CTR_UINT:
	case CTR_FLOAT:
		return "0";
	case CTR_DURATION:
		return "0s";
	default:
		return NULL;
	}
}

static void put_flag(const struct ctr_flag *f, struct table *t)
{
	const char *value = f->value ? f->value : "value";
	const char *fallback = ctr_flag_fallback(f);
	bool takes = f->kind != CTR_BOOL;

	table_printf(t, "   %s%s%s%s", f->name[1] ? "--" : "-", f->name, takes ? " " : "",
		     takes ? value : "");
	if (f->alias)
		table_printf(t, ", -%c%s%s", f->alias, takes ? " " : "", takes ? value : "");
	if (f->kind == CTR_STRINGS)
		table_printf(t, " [ --%s %s ]", f->name, value);
	table_printf(t, "\t%s", f->usage);
	if (fallback && takes)
		table_printf(t, f->kind == CTR_STRING ? " (default: \"%s\")" : " (default: %s)",
			     fallback);
	if (f->env)
		table_printf(t, " [$%s]", f->env);
	table_printf(t, "\n");
}

static void put_flags(const struct ctr_level *l, struct table *t)
{
	for (size_t g = 0; l->command->flags && l->command->flags[g]; g++)
		for (const struct ctr_flag *f = l->command->flags[g]; f->name; f++)
			put_flag(f, t);
	table_printf(t, "   --help, -h\tshow help\n");
}

int ctr_help(const struct ctr_level *l, struct buf *out)
{
	struct table commands _cleanup_table_ = TABLE_INIT(1, 8, 2, ' ');
	struct table flags _cleanup_table_ = TABLE_INIT(1, 8, 2, ' ');
	int r = 0;

	buf_adds(out, "NAME:\n   ");
	put_path(l, out);
	buf_printf(out, " - %s\n\nUSAGE:\n   ", l->command->usage);
	put_usage(l, out);
	buf_addc(out, '\n');
	if (!l->parent)
		buf_adds(out, "\nVERSION:\n   " VERSION "\n");
	if (l->command->description)
		buf_printf(out, "\nDESCRIPTION:\n%s\n", l->command->description);
	if (l->command->subcommands) {
		put_commands(l->command, &commands);
		buf_adds(out, "\nCOMMANDS:\n");
		r = table_render(&commands, out);
	}
	put_flags(l, &flags);
	buf_adds(out, l->parent ? "\nOPTIONS:\n" : "\nGLOBAL OPTIONS:\n");
	if (r == 0)
		r = table_render(&flags, out);
	return r < 0 || !buf_ok(out) ? -ENOMEM : 0;
}
