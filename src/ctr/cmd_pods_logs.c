/* SPDX-License-Identifier: Apache-2.0 */
/* `ctr pods logs`: a container's log as the kubelet reads it, from the file that the CRI names. It
 * is read to its end, again and again while it is followed, and reopened when it was rotated. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/time.h"
#include "ctr/pods.h"
#include "ctr/record.h"

#define LINE_MAX_BYTES (64u << 20)
#define FOLLOW_NS (200 * NSEC_PER_MSEC)

static const struct ctr_flag logs_flags[] = {
	{"follow", 'f', CTR_BOOL, "go on until the container ends"},
	{"previous", 'p', CTR_BOOL, "of the container before this one, of the same name"},
	{"since", 0, CTR_DURATION, "only lines that are not older, such as 5m"},
	{"tail", 0, CTR_INT, "only that many lines of the end; -1 = all", "-1"},
	{"timestamps", 't', CTR_BOOL, "print when each line was written"},
	{}};

struct reader {
	const char *path;
	int fd;
	ino_t ino;
	struct buf rest;	 /* a line that is not whole yet */
	int64_t skip;		 /* lines of the application */
	struct timespec since;	 /* zero: of any age */
	bool timestamps, inside; /* in a line that comes in pieces */
	int64_t lines;
	bool count_only;
};

static void reader_done(struct reader *r)
{
	fd_closep(&r->fd);
	buf_done(&r->rest);
}

static int reader_open(struct reader *r, struct err *err)
{
	struct stat st;

	fd_closep(&r->fd);
	r->fd = open(r->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (r->fd < 0 || fstat(r->fd, &st) < 0)
		return err_errno(err, errno, "open %s", r->path);
	if (!S_ISREG(st.st_mode))
		return err_set(err, ERR_FAILED_PRECONDITION, "%s is no file", r->path);
	r->ino = st.st_ino;
	return 0;
}

static bool too_old(const struct reader *r, const char *s, size_t n)
{
	struct timespec t;
	char text[64];

	if (time_is_zero(r->since) || n >= sizeof(text))
		return false;
	memcpy(text, s, n);
	text[n] = '\0';
	return time_parse_rfc3339(text, &t) == 0 && time_cmp(t, r->since) < 0;
}

/* "<time> <stream> <F|P> <text>\n" */
static void line_print(struct reader *r, const char *s, size_t n)
{
	const char *end = s + n, *stream = memchr(s, ' ', n), *tag, *text;
	FILE *to;

	stream = stream ? stream + 1 : NULL;
	tag = stream ? memchr(stream, ' ', (size_t)(end - stream)) : NULL;
	text = tag && end - tag >= 3 ? tag + 2 : NULL;
	if (!text || (tag[1] != 'F' && tag[1] != 'P'))
		return;
	text += text < end && *text == ' ';
	bool last = tag[1] == 'F';
	if (r->count_only) {
		r->lines += last;
		return;
	}
	if (r->skip > 0) {
		r->skip -= last;
		return;
	}
	if (too_old(r, s, (size_t)(stream - 1 - s)))
		return;
	to = *stream == 's' && str_has_prefix(stream, "stderr") ? stderr : stdout;
	/* In the order in which they were written, should both be the same. */
	if (to == stderr)
		fflush(stdout);
	if (r->timestamps && !r->inside)
		fprintf(to, "%.*s ", (int)(stream - 1 - s), s);
	fwrite(text, 1, (size_t)(end - text), to);
	if (last)
		putc('\n', to);
	r->inside = !last;
}

/* To the end of the file. */
static int reader_read(struct reader *r, struct err *err)
{
	char b[65536];
	ssize_t n;

	while ((n = read(r->fd, b, sizeof(b))) > 0) {
		if (r->rest.len > LINE_MAX_BYTES)
			return err_set(err, ERR_INVALID_ARGUMENT, "%s has a line without an end",
				       r->path);
		if (buf_add(&r->rest, b, (size_t)n) < 0)
			return err_nomem(err);
		size_t at = 0;
		for (char *nl; (nl = memchr(r->rest.data + at, '\n', r->rest.len - at));) {
			size_t end = (size_t)(nl - r->rest.data);
			line_print(r, r->rest.data + at, end - at);
			at = end + 1;
		}
		buf_consume(&r->rest, at);
	}
	if (n < 0)
		return err_errno(err, errno, "read %s", r->path);
	return ctr_flush(err);
}

static int tail(struct reader *r, int64_t tail_lines, struct err *err)
{
	struct reader count = {.path = r->path, .fd = -1, .count_only = true};
	int e = tail_lines < 0 ? 0 : reader_open(&count, err);

	if (e == 0 && tail_lines >= 0) {
		e = reader_read(&count, err);
		r->skip = MAX(count.lines - tail_lines, (int64_t)0);
	}
	reader_done(&count);
	return e;
}

/* The file is renamed and begun anew when it is rotated: what is left of the old one comes first.
 */
static int rotated(struct reader *r, struct err *err)
{
	struct stat st;

	if (stat(r->path, &st) < 0 || st.st_ino == r->ino)
		return 0;
	int e = reader_read(r, err);
	if (e == 0)
		e = reader_open(r, err);
	return e < 0 ? e : 1;
}

static int follow(struct ctr *c, struct reader *r, const char *id, struct err *err)
{
	static const struct timespec pause = {.tv_nsec = FOLLOW_NS};
	struct arena *a _cleanup_arena_ = arena_new(0), *own = c->ctx.arena;
	CRI(ContainerStatus) * s;
	struct err gone = ERR_INIT;
	int e = a ? 0 : err_nomem(err);

	for (unsigned i = 0; e >= 0; i++) {
		/* Asked before the last look, so that nothing is missed. */
		bool over = false;
		if (i % 5 == 0) {
			arena_reset(a);
			c->ctx.arena = a;
			int x = pods_container_status(c, id, &s, &gone);
			c->ctx.arena = own;
			if (x < 0 && x != -ERR_NOT_FOUND)
				return err_copy(err, &gone);
			over = x < 0 || s->state == RUNTIME__V1__CONTAINER_STATE__CONTAINER_EXITED;
		}
		e = reader_read(r, err);
		if (e == 0)
			e = rotated(r, err);
		if (e == 0 && over)
			return 0;
		if (e == 0)
			nanosleep(&pause, NULL);
	}
	return e;
}

static int find(struct ctr *c, CRI(ContainerStatus) * *ret, struct err *err)
{
	const CRI(Container) * k;
	const char *name;
	int r = record_arg(c, 0, "pod or container", &name, err);

	if (r == 0)
		r = pods_no_more_args(c, 2, err);
	if (r == 0)
		r = ctr_connect(c, err);
	if (r == 0)
		r = c->n_args == 2 ? pods_container_find(c, ctr_arg(c, 1), name, &k, err)
				   : pods_container_find(c, name, NULL, &k, err);
	if (r == 0 && ctr_bool(c, "previous"))
		r = pods_container_before(c, &k, err);
	if (r == 0)
		r = pods_container_status(c, k->id, ret, err);
	if (r == 0 && str_empty((*ret)->log_path))
		return err_set(err, ERR_FAILED_PRECONDITION, "container %s has no log", k->id);
	return r;
}

static int run_logs(struct ctr *c, struct err *err)
{
	struct reader r = {.fd = -1, .timestamps = ctr_bool(c, "timestamps")};
	int64_t since = ctr_int(c, "since");
	CRI(ContainerStatus) * s;
	int e = find(c, &s, err);

	if (e < 0)
		return e;
	if (since > 0) {
		struct timespec now = time_now();
		int64_t at = now.tv_sec * NSEC_PER_SEC + now.tv_nsec - since;
		r.since = (struct timespec){at / NSEC_PER_SEC, at % NSEC_PER_SEC};
	}
	r.path = s->log_path;
	e = tail(&r, ctr_int(c, "tail"), err);
	if (e == 0)
		e = reader_open(&r, err);
	if (e == 0)
		e = ctr_bool(c, "follow") ? follow(c, &r, s->id, err) : reader_read(&r, err);
	reader_done(&r);
	return e;
}

const struct ctr_command pods_logs = {
	.name = "logs",
	.usage = "print a container's log",
	.args = "[flags] <pod> [<container>] | <container>",
	.description = "   The log of a pod's only container, of a container of a pod, or of a "
		       "container by its id or\n"
		       "   by a name that it has alone. Of several of one name the latest is "
		       "taken. What the\n"
		       "   container wrote to standard error goes there. Lines that were rotated "
		       "away are in files\n"
		       "   beside log_path, which `ctr pods inspect` shows.",
	.flags = CTR_FLAGS(logs_flags),
	.names = CTR_NAMES_PODS,
	.run = run_logs,
};
