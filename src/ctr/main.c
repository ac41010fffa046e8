/* SPDX-License-Identifier: Apache-2.0 */
/* ctr: parses the line, runs the command, turns its result into the exit status. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "ctr/commands.h"
#include "version.h"

/* Who reads us has seen enough: `ctr ... | head`. */
static bool reader_is_gone(const struct err *err)
{
	static const char *const steps[] = {
		"write standard output: ",
		"write the output of the process: ",
		"write the archive: ",
	};

	for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
		const char *why = str_skip(err->text, steps[i]);

		if (why && str_has_prefix(why, "broken pipe"))
			return true;
	}
	return false;
}

static int fail(const struct err *err)
{
	if (reader_is_gone(err))
		return EXIT_FAILURE;
	fflush(stdout);
	fprintf(stderr, "ctr: %s\n", err->text);
	return 1;
}

static int print_help(const struct ctr *c, struct err *err)
{
	struct buf out _cleanup_buf_ = BUF_INIT;

	if (ctr_help(c->level, &out) < 0) {
		err_nomem(err);
		return fail(err);
	}
	fwrite(out.data, 1, out.len, stdout);
	return 0;
}

/* One that is closed would be the next that is opened, the daemon's socket perhaps, and be read and
 * written as ours. */
static int open_standard(struct err *err)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
			return err_errno(err, errno, "open /dev/null");
	return 0;
}

static int run_command(struct ctr *c, struct err *err)
{
	int64_t timeout = ctr_int(c, "timeout");
	int r;

	c->ctx.ns = ctr_string(c, "namespace");
	c->ctx.lease = "";
	if (timeout > 0 && __builtin_add_overflow(time_mono(), timeout, &c->ctx.deadline))
		c->ctx.deadline = 0;
	log_setup(ctr_bool(c, "debug") ? LOG_DEBUG : LOG_WARN, false);
	r = c->level->command->run(c, err);
	if (r < 0)
		ctr_hint(c, err);
	if (c->client)
		client_free(c->client);
	return r < 0 ? fail(err) : r;
}

int main(int argc, char **argv)
{
	struct ctr c = {.ctx.arena = arena_new(0)};
	struct err err = ERR_INIT;
	enum ctr_parsed parsed;
	int r;

	if (!c.ctx.arena) {
		err_nomem(&err);
		return fail(&err);
	}
	signal(SIGPIPE, SIG_IGN);
	r = open_standard(&err);
	if (r == 0)
		r = ctr_parse(&c, &ctr_root, argc, argv, &parsed, &err);
	if (r < 0)
		r = fail(&err);
	else if (ctr_bool(&c, "version"))
		printf("ctr github.com/containerd/containerd/v2 %s\n", VERSION);
	else if (parsed == CTR_PARSED_HELP)
		r = print_help(&c, &err);
	else if (parsed == CTR_PARSED_UNKNOWN) {
		fprintf(stderr, "No help topic for '%s'\n", c.args[0]);
		r = 3;
	} else
		r = run_command(&c, &err);
	/* What was printed is out before the command counts as done. */
	if (r == 0 && ctr_flush(&err) < 0)
		r = fail(&err);
	arena_free(c.ctx.arena);
	return r;
}
