/* SPDX-License-Identifier: Apache-2.0 */
/* The log of a shim: see shim_log.h. */
#include "plugins/runtime/shim_log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "event/loop.h"

#define CHUNK 4096

struct shim_log {
	struct loop *loop;
	int fd;
	struct loop_source *source; /* the loop's thread only */
};

static void copy(struct loop_source *s, int fd, uint32_t events, void *arg)
{
	char chunk[CHUNK];
	ssize_t n = read(fd, chunk, sizeof(chunk));
	if (n > 0)
		(void)!fd_write_full(STDERR_FILENO, chunk, (size_t)n);
}

/* Posted before anything that frees it. */
static void watch(void *arg)
{
	struct shim_log *l = arg;
	int r = loop_add_fd(l->loop, l->fd, EPOLLIN, copy, l, &l->source);
	if (r < 0)
		log_warn("cannot read the log of a shim: %s", strerror(-r));
}

int shim_log_open(struct loop *loop, struct arena *a, const struct bundle *b, struct shim_log **ret,
		  struct err *err)
{
	char *path = path_join(a, b->path, "log");
	if (!path)
		return err_nomem(err);
	if (mkfifo(path, 0700) < 0 && errno != EEXIST)
		return err_errno(err, errno, "make %s", path);
	_cleanup_close_ int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "open %s", path);
	struct shim_log *l = calloc(1, sizeof(*l));
	if (!l)
		return err_nomem(err);
	l->loop = loop;
	l->fd = fd;
	if (loop_post(loop, watch, l) < 0) {
		free(l);
		return err_nomem(err);
	}
	TAKE_FD(fd);
	*ret = l;
	return 0;
}

void shim_log_free(struct shim_log *l)
{
	if (!l)
		return;
	loop_source_free(l->source);
	close(l->fd);
	free(l);
}
