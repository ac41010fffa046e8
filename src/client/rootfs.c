/* SPDX-License-Identifier: Apache-2.0 */
/* Most often the files lie open in the layers, and are read from there: a mount is much work, and
 * the more of it the more mounts the host has. What takes more than looking from the top layer down
 * is left to the kernel: links, moved directories, copies without data.
 *
 * The thread leaves the process's mount namespace for a private copy, so what it mounts is gone
 * with it whatever happens. The paths are somebody else's: they are opened below the root only. */
#include "client/rootfs.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "sys/mount.h"

#define FILE_MAX ((size_t)4 << 20)

struct lookup {
	struct arena *arena;
	const struct client_mounts *mounts;
	const char *dir;
	char *passwd, *group;
	struct err err;
	int result;
};

static int read_file(struct arena *a, int root, const char *path, char **ret, struct err *err)
{
	int fd _cleanup_close_ = path_open_in_root(root, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	struct stat st;
	size_t len;
	int r;

	*ret = arena_strdup(a, "");
	if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP)
		return *ret ? 0 : err_nomem(err);
	if (fd < 0)
		return err_errno(err, fd, "open `%s` of the container", path);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return *ret ? 0 : err_nomem(err);
	r = fd_read_all(a, fd, FILE_MAX, ret, &len);
	return r < 0 ? err_errno(err, r, "read `%s` of the container", path) : 0;
}

static int read_files(struct lookup *l)
{
	int root _cleanup_close_ = open(l->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (root < 0)
		return err_errno(&l->err, errno, "open the root file system `%s`", l->dir);
	r = read_file(l->arena, root, "etc/passwd", &l->passwd, &l->err);
	return r < 0 ? r : read_file(l->arena, root, "etc/group", &l->group, &l->err);
}

/* ---- In the layers ---- */

enum mark { MARK_NONE, MARK_YES, MARK_OTHER };

/* What overlayfs has noted about a file in one of its attributes. */
static enum mark overlay_mark(int fd, const char *what)
{
	static const char *const prefixes[] = {"trusted", "user"};

	for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
		char name[64], value[2] = "";
		ssize_t n;

		snprintf(name, sizeof(name), "%s.overlay.%s", prefixes[i], what);
		n = fgetxattr(fd, name, value, sizeof(value));
		if (n >= 0 || errno == ERANGE)
			return n == 1 && value[0] == 'y' ? MARK_YES : MARK_OTHER;
	}
	return MARK_NONE;
}

/* 1 = this layer decides, 0 = those below do, -EAGAIN = not to be told in this way. */
static int layer_file(struct arena *a, const char *layer, const char *name, char **ret)
{
	int root _cleanup_close_ = open(layer, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int etc _cleanup_close_ =
		root < 0 ? -1
			 : openat(root, "etc", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int fd _cleanup_close_ = -1;
	enum mark opaque;
	struct stat st;
	size_t len;

	if (etc < 0)
		return root >= 0 && errno == ENOENT ? 0 : -EAGAIN;
	opaque = overlay_mark(etc, "opaque");
	if (opaque == MARK_OTHER || overlay_mark(etc, "redirect") != MARK_NONE)
		return -EAGAIN;
	fd = openat(etc, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return errno != ENOENT ? -EAGAIN : opaque == MARK_YES ? 1 : 0;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
	    overlay_mark(fd, "metacopy") != MARK_NONE || overlay_mark(fd, "whiteout") != MARK_NONE)
		return -EAGAIN;
	return fd_read_all(a, fd, FILE_MAX, ret, &len) < 0 ? -EAGAIN : 1;
}

/* The directories of a mount from the top down, NULL-terminated; NULL = not to be told. */
static char **mount_layers(struct arena *a, const struct client_mounts *mounts)
{
	const PB_TYPES(Mount) *m = mounts->n == 1 ? mounts->v[0] : NULL;
	const char *upper = NULL, *lower = NULL;
	char *all;

	if (!m || *m->target)
		return NULL;
	for (size_t i = 0; i < m->n_options; i++) {
		upper = str_or(str_skip(m->options[i], "upperdir="), upper);
		lower = str_or(str_skip(m->options[i], "lowerdir="), lower);
	}
	if (!streq(m->type, "overlay"))
		all = streq(m->type, "bind") ? arena_strdup(a, m->source) : NULL;
	else if (!lower)
		all = NULL;
	else
		all = upper ? arena_printf(a, "%s:%s", upper, lower) : arena_strdup(a, lower);
	/* A backslash hides a colon. */
	return all && !strchr(all, '\\') ? str_split(a, all, ':', NULL) : NULL;
}

static int layers_read_file(struct arena *a, char *const *layers, const char *name, char **ret)
{
	int r = 0;

	*ret = arena_strdup(a, "");
	for (; *ret && *layers && r == 0; layers++)
		r = **layers == '/' ? layer_file(a, *layers, name, ret) : -EAGAIN;
	return !*ret || r < 0 ? -EAGAIN : 0;
}

static int layers_read(struct lookup *l)
{
	char **layers = geteuid() == 0 ? mount_layers(l->arena, l->mounts) : NULL;
	int r;

	if (!layers)
		return -EAGAIN;
	r = layers_read_file(l->arena, layers, "passwd", &l->passwd);
	return r < 0 ? r : layers_read_file(l->arena, layers, "group", &l->group);
}

/* ---- In a mount ---- */

/* An overlay that is only read: the upper directory becomes the top lower one, so that nobody
 * else's overlay is disturbed. */
static int read_only_mount(struct arena *a, const PB_TYPES(Mount) * m, struct mount_spec *ret,
			   struct err *err)
{
	char **options = arena_new_array(a, char *, m->n_options + 1);
	const char *upper = NULL, *lower = NULL;
	size_t n = 0;

	if (!options)
		return err_nomem(err);
	for (size_t i = 0; i < m->n_options; i++) {
		const char *o = m->options[i];

		if (str_has_prefix(o, "upperdir="))
			upper = str_skip(o, "upperdir=");
		else if (str_has_prefix(o, "lowerdir="))
			lower = str_skip(o, "lowerdir=");
		else if (!str_has_prefix(o, "workdir=") && !streq(o, "rw"))
			options[n++] = m->options[i];
	}
	if (lower) {
		options[n] = upper ? arena_printf(a, "lowerdir=%s:%s", upper, lower)
				   : arena_printf(a, "lowerdir=%s", lower);
		if (!options[n++])
			return err_nomem(err);
	} else
		options[n++] = (char *)"ro";
	*ret = (struct mount_spec){.type = m->type,
				   .source = m->source,
				   .target = m->target,
				   .options = options,
				   .n_options = n};
	return 0;
}

static int mount_all(struct lookup *l)
{
	int r;

	if (unshare(CLONE_NEWNS) < 0)
		return err_errno(&l->err, errno, "make a mount namespace");
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_errno(&l->err, errno, "make the mounts private");
	for (size_t i = 0; i < l->mounts->n; i++) {
		struct mount_spec m;

		r = read_only_mount(l->arena, l->mounts->v[i], &m, &l->err);
		if (r == 0)
			r = mount_spec_mount(&m, l->dir, &l->err);
		if (r < 0)
			return r;
	}
	return 0;
}

static void *lookup_thread(void *arg)
{
	struct lookup *l = arg;

	l->result = mount_all(l);
	if (l->result == 0)
		l->result = read_files(l);
	return NULL;
}

static int lookup_mounted(struct lookup *l, struct err *err)
{
	char dir[] = "/tmp/ctr-rootfs-XXXXXX";
	pthread_t thread;
	int r;

	if (!mkdtemp(dir))
		return err_errno(err, errno, "make a directory in /tmp");
	l->dir = dir;
	r = pthread_create(&thread, NULL, lookup_thread, l);
	if (r == 0)
		pthread_join(thread, NULL);
	rmdir(dir);
	if (r > 0)
		return err_errno(err, r, "start a thread");
	return l->result < 0 ? err_copy(err, &l->err) : 0;
}

int client_rootfs_user(struct arena *a, const char *dir, const struct client_mounts *mounts,
		       const char *user, struct user_ids *ret, struct err *err)
{
	struct lookup l = {.arena = a, .mounts = mounts, .dir = dir, .err = ERR_INIT};
	int r;

	if (dir) {
		r = read_files(&l);
		r = r < 0 ? err_copy(err, &l.err) : 0;
	} else {
		r = layers_read(&l);
		if (r < 0)
			r = lookup_mounted(&l, err);
	}
	return r < 0 ? r : user_resolve(a, user, l.passwd, l.group, ret, err);
}
