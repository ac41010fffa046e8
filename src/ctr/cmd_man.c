/* SPDX-License-Identifier: Apache-2.0 */
/* ctr man: manual pages, on standard output or as files. */
#include <errno.h>
#include <fcntl.h>

#include "base/fd.h"
#include "ctr/commands.h"
#include "ctr/man.h"

static const struct ctr_flag man_flags[] = {
	{"dir", 0, CTR_STRING, "write all pages into this directory"}, {}};

static int write_page(struct arena *a, const char *dir, const struct ctr_command *group,
		      struct err *err)
{
	struct buf out _cleanup_buf_ = BUF_INIT;
	const char *path =
		arena_printf(a, "%s/ctr%s%s.8", dir, group ? "-" : "", group ? group->name : "");
	int r;

	if (!path || man_page(&ctr_root, group, &out) < 0)
		return err_nomem(err);
	r = file_write(AT_FDCWD, path, out.data, out.len, 0644);
	return r < 0 ? err_errno(err, r, "write `%s`", path) : 0;
}

static int write_pages(struct arena *a, const char *dir, struct err *err)
{
	int r = write_page(a, dir, NULL, err);

	for (size_t i = 0; r == 0 && ctr_root.subcommands[i]; i++)
		if (!ctr_root.subcommands[i]->hidden)
			r = write_page(a, dir, ctr_root.subcommands[i], err);
	return r;
}

static int run_man(struct ctr *c, struct err *err)
{
	const char *dir = ctr_string(c, "dir"), *name = ctr_arg(c, 0);
	const struct ctr_command *group = NULL;
	struct buf out _cleanup_buf_ = BUF_INIT;

	if (*dir)
		return write_pages(c->ctx.arena, dir, err);
	for (size_t i = 0; *name && ctr_root.subcommands[i] && !group; i++)
		if (streq(ctr_root.subcommands[i]->name, name))
			group = ctr_root.subcommands[i];
	if (*name && !group)
		return err_set(err, ERR_NOT_FOUND, "command \"%s\"", name);
	if (man_page(&ctr_root, group, &out) < 0)
		return err_nomem(err);
	return ctr_print(&out, err);
}

const struct ctr_command cmd_man = {
	.name = "man",
	.usage = "print a manual page",
	.args = "[flags] [<command>]",
	.description = "   ctr man | man -l - shows it.",
	.flags = CTR_FLAGS(man_flags),
	.run = run_man,
};
