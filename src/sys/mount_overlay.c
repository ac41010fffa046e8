/* SPDX-License-Identifier: Apache-2.0 */
/* Overlays with so many lower layers that their option does not fit into the page that mount(2)
 * copies.
 *
 * Linux 6.5 takes the layers one by one (fsconfig "lowerdir+"), each of at most 255 bytes.
 * Elsewhere the lower directories are written relative to the directory that they share, and
 * mount(2) is called by a child that has gone there: it shares everything with this process but the
 * working directory, which in a program with threads may not move.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/str.h"
#include "sys/mount_internal.h"

#define FSCONFIG_STRING_MAX 255
#define CHILD_STACK (64 * 1024)

/* ---- Lists of lower directories ---- */

const char **overlay_lowers(struct arena *a, const char *value, size_t *ret_n)
{
	size_t max = 1, n = 0;
	const char **v;

	for (const char *p = value; *p; p++)
		max += *p == ':';
	v = arena_new_array(a, const char *, max);
	if (!v)
		return NULL;
	for (const char *start = value, *p = value;; p++) {
		if (*p == '\\' && p[1]) {
			p++;
			continue;
		}
		if (*p != ':' && *p)
			continue;
		v[n] = arena_strndup(a, start, (size_t)(p - start));
		if (!v[n++])
			return NULL;
		if (!*p)
			break;
		start = p + 1;
	}
	*ret_n = n;
	return v;
}

char *overlay_common_dir(struct arena *a, const char *const *v, size_t n)
{
	size_t len;

	if (n == 0 || v[0][0] != '/')
		return NULL;
	len = strlen(v[0]);
	for (size_t i = 1; i < n; i++) {
		size_t k = 0, end = 0;

		for (; k < len && v[i][k] && v[i][k] == v[0][k]; k++)
			if (v[0][k] == '/')
				end = k;
		/* A whole component ends here in both? */
		if ((k == len || v[0][k] == '/') && (!v[i][k] || v[i][k] == '/'))
			end = k;
		len = end;
	}
	while (len > 1 && v[0][len - 1] == '/')
		len--;
	return len > 1 ? arena_strndup(a, v[0], len) : NULL;
}

/* ---- The new mount API ---- */

static const struct {
	unsigned long ms;
	const char *name;   /* of the superblock, or NULL */
	unsigned long attr; /* of the mount */
} new_flags[] = {
	{MS_RDONLY, "ro", MOUNT_ATTR_RDONLY},
	{MS_SYNCHRONOUS, "sync", 0},
	{MS_DIRSYNC, "dirsync", 0},
	{MS_LAZYTIME, "lazytime", 0},
	{MS_MANDLOCK, "mand", 0},
	{MS_NOSUID, NULL, MOUNT_ATTR_NOSUID},
	{MS_NODEV, NULL, MOUNT_ATTR_NODEV},
	{MS_NOEXEC, NULL, MOUNT_ATTR_NOEXEC},
	{MS_NOATIME, NULL, MOUNT_ATTR_NOATIME},
	{MS_NODIRATIME, NULL, MOUNT_ATTR_NODIRATIME},
	{MS_STRICTATIME, NULL, MOUNT_ATTR_STRICTATIME},
	{MS_NOSYMFOLLOW, NULL, MOUNT_ATTR_NOSYMFOLLOW},
};

/* A string that is too long for the kernel's parameter can be a descriptor of the directory (6.13).
 */
static int fs_set_dir(int fs, const char *key, const char *dir)
{
	_cleanup_close_ int fd = -1;

	if (strlen(dir) <= FSCONFIG_STRING_MAX)
		return fsconfig((unsigned int)fs, FSCONFIG_SET_STRING, key, dir, 0) < 0 ? -errno
											: 0;
	fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return fsconfig((unsigned int)fs, FSCONFIG_SET_FD, key, NULL, fd) < 0 ? -errno : 0;
}

static int fs_set_option(struct arena *a, int fs, const char *option)
{
	const char *eq = strchr(option, '='), *lower = str_skip(option, "lowerdir=");
	size_t n;
	char *key;

	if (lower) {
		const char **v = overlay_lowers(a, lower, &n);
		int r = v ? 0 : -ENOMEM;

		for (size_t i = 0; r == 0 && i < n; i++)
			r = fs_set_dir(fs, "lowerdir+", v[i]);
		return r;
	}
	if (!eq)
		return fsconfig((unsigned int)fs, FSCONFIG_SET_FLAG, option, NULL, 0) < 0 ? -errno
											  : 0;
	key = arena_strndup(a, option, (size_t)(eq - option));
	if (!key)
		return -ENOMEM;
	if (streq(key, "upperdir") || streq(key, "workdir"))
		return fs_set_dir(fs, key, eq + 1);
	return fsconfig((unsigned int)fs, FSCONFIG_SET_STRING, key, eq + 1, 0) < 0 ? -errno : 0;
}

int overlay_mount_new(struct arena *a, const struct mount_plan *p)
{
	_cleanup_close_ int fs = -1, mnt = -1;
	unsigned long attr = 0;

	fs = fsopen("overlay", FSOPEN_CLOEXEC);
	if (fs < 0)
		return -errno;
	if (fsconfig((unsigned int)fs, FSCONFIG_SET_STRING, "source", p->source, 0) < 0)
		return -errno;
	for (size_t i = 0; i < ARRAY_LEN(new_flags); i++) {
		if (!(p->flags & new_flags[i].ms))
			continue;
		attr |= new_flags[i].attr;
		if (new_flags[i].name &&
		    fsconfig((unsigned int)fs, FSCONFIG_SET_FLAG, new_flags[i].name, NULL, 0) < 0)
			return -errno;
	}
	for (size_t i = 0; i < p->n_data; i++) {
		int r = fs_set_option(a, fs, p->data[i]);

		if (r < 0)
			return r;
	}
	if (fsconfig((unsigned int)fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	mnt = fsmount(fs, FSMOUNT_CLOEXEC, (unsigned int)attr);
	if (mnt < 0)
		return -errno;
	if (move_mount(mnt, "", AT_FDCWD, p->target,
		       MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS) < 0)
		return -errno;
	return 0;
}

/* ---- The child in the common directory ---- */

struct child_mount {
	const char *dir, *source, *target, *data;
	unsigned long flags;
	int result;
};

/* Shares memory with the caller, who waits: nothing but system calls here. */
static int child_run(void *arg)
{
	struct child_mount *c = arg;

	if (chdir(c->dir) < 0 || mount(c->source, c->target, "overlay", c->flags, c->data) < 0)
		c->result = -errno;
	else
		c->result = 0;
	return 0;
}

static int child_mount(struct arena *a, struct child_mount *c)
{
	char *stack = arena_alloc(a, CHILD_STACK);
	sigset_t all, before;
	pid_t pid;
	int r = 0;

	if (!stack)
		return -ENOMEM;
	c->result = -EIO;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	/* No exit signal: nobody's reaper sees it. */
	pid = clone(child_run, stack + CHILD_STACK, CLONE_VM | CLONE_VFORK, c);
	if (pid < 0)
		r = -errno;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r < 0)
		return r;
	while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
		;
	return c->result;
}

/* The plan's data with lower directories relative to what they have in common. */
static int overlay_shorten(struct arena *a, const struct mount_plan *p, char **ret_dir,
			   char **ret_data)
{
	struct mount_plan q = *p;
	const char **v, **data = arena_new_array(a, const char *, p->n_data + 1);
	size_t at = 0, n, len = sizeof("lowerdir="), skip;
	char *dir, *list, *s;

	for (; at < p->n_data && !str_has_prefix(p->data[at], "lowerdir="); at++)
		;
	if (at == p->n_data)
		return -E2BIG;
	v = overlay_lowers(a, p->data[at] + strlen("lowerdir="), &n);
	if (!v || !data)
		return -ENOMEM;
	dir = overlay_common_dir(a, v, n);
	if (!dir || strchr(dir, '\\'))
		return -E2BIG;
	skip = strlen(dir);
	for (size_t i = 0; i < n; i++)
		len += strlen(v[i]) + 2;
	list = arena_alloc(a, len);
	if (!list)
		return -ENOMEM;
	s = stpcpy(list, "lowerdir=");
	for (size_t i = 0; i < n; i++) {
		const char *rest = v[i] + skip + strspn(v[i] + skip, "/");

		if (i)
			*s++ = ':';
		s = stpcpy(s, *rest ? rest : ".");
	}
	memcpy(data, p->data, p->n_data * sizeof(*data));
	data[at] = list;
	q.data = data;
	*ret_data = plan_data(a, &q);
	*ret_dir = dir;
	return *ret_data ? 0 : -ENOMEM;
}

int overlay_mount_relative(struct arena *a, const struct mount_plan *p)
{
	struct child_mount c = {.source = p->source, .target = p->target, .flags = p->flags};
	char *dir, *data;
	int r = overlay_shorten(a, p, &dir, &data);

	if (r < 0)
		return r;
	if (strlen(data) >= (size_t)sysconf(_SC_PAGESIZE))
		return -E2BIG;
	c.dir = dir;
	c.data = data;
	return child_mount(a, &c);
}

int overlay_mount_long(struct arena *a, const struct mount_plan *p, struct err *err)
{
	int r = overlay_mount_new(a, p), other;

	if (r == 0)
		return 0;
	other = overlay_mount_relative(a, p);
	if (other == 0)
		return 0;
	/* Too long for the one: then what the other said tells more. */
	return err_errno(err, other == -E2BIG ? r : other,
			 "mount `%s` (overlay, %zu options) at `%s`", p->source, p->n_data,
			 p->target);
}
