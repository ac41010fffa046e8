/* SPDX-License-Identifier: Apache-2.0 */
/* Where the groups of a process are, joining one, and out-of-memory notices. The numbers are in
 * cgroup_stat.c.
 *
 * /proc/PID/cgroup has a line per hierarchy: "ID:controller,controller:/path" ("0::/path" is
 * version 2). A path counts from the root of the hierarchy, while a mount may show only a part of
 * it (mountinfo's root field): what is mounted is cut off the front of the path, so this works
 * inside a container too.
 */
#include "sys/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"

#define PROC_CGROUP_MAX (64u << 10)
#define MOUNTINFO_MAX (16u << 20)
#define CPUSET_MAX 4096
#define CPUSET_DEPTH 32 /* groups below each other */

static const char *const controller_names[CGROUP_N] = {
	[CGROUP_CPU] = "cpu",	[CGROUP_CPUACCT] = "cpuacct", [CGROUP_MEMORY] = "memory",
	[CGROUP_PIDS] = "pids", [CGROUP_BLKIO] = "blkio",     [CGROUP_HUGETLB] = "hugetlb",
	[CGROUP_RDMA] = "rdma",
};

int cgroup_text_read(struct arena *a, int pid, char **ret)
{
	char path[32];
	size_t n;

	snprintf(path, sizeof(path), "/proc/%d/cgroup", pid);
	return file_read(a, AT_FDCWD, path, PROC_CGROUP_MAX, ret, &n);
}

/* Whether the comma list @list of @n bytes has @name. */
static bool list_has(const char *list, size_t n, const char *name)
{
	size_t len = strlen(name);

	while (n > 0) {
		const char *comma = memchr(list, ',', n);
		size_t part = comma ? (size_t)(comma - list) : n;

		if (part == len && memcmp(list, name, len) == 0)
			return true;
		part += comma ? 1 : 0;
		list += part;
		n -= part;
	}
	return false;
}

/* Path of the hierarchy that has @controller ("" = version 2), in the arena; NULL when absent. */
static char *text_path(struct arena *a, const char *text, const char *controller)
{
	while (*text) {
		const char *end = strchrnul(text, '\n');
		const char *c1 = memchr(text, ':', (size_t)(end - text));
		const char *c2 = c1 ? memchr(c1 + 1, ':', (size_t)(end - c1 - 1)) : NULL;

		if (c2) {
			size_t n = (size_t)(c2 - c1 - 1);

			if (*controller ? list_has(c1 + 1, n, controller) : n == 0)
				return arena_strndup(a, c2 + 1, (size_t)(end - c2 - 1));
		}
		text = *end ? end + 1 : end;
	}
	return NULL;
}

struct mount_line {
	char *root, *point, *type, *super;
};

/* Undoes mountinfo's octal escapes in place. */
static void unescape(char *s)
{
	char *o = s;

	for (; *s; s++) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' &&
		    s[3] >= '0' && s[3] <= '7') {
			*o++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 3;
		} else {
			*o++ = *s;
		}
	}
	*o = '\0';
}

/* ID PARENT MAJ:MIN ROOT POINT OPTIONS [TAG...] - TYPE SOURCE SUPER; cuts @line up. */
static int mount_line_parse(char *line, struct mount_line *ret)
{
	char *save = NULL, *word;
	struct mount_line m = {NULL};
	int i = 0, after = -1;

	for (word = strtok_r(line, " ", &save); word; word = strtok_r(NULL, " ", &save), i++) {
		if (i == 3)
			m.root = word;
		else if (i == 4)
			m.point = word;
		else if (i > 5 && after < 0 && streq(word, "-"))
			after = i;
		else if (after > 0 && i == after + 1)
			m.type = word;
		else if (after > 0 && i == after + 3)
			m.super = word;
	}
	if (!m.root || !m.point || !m.type || !m.super)
		return -EINVAL;
	unescape(m.root);
	unescape(m.point);
	*ret = m;
	return 0;
}

/* Directory of the group @path as seen through mount @m. */
static char *dir_through(struct arena *a, const struct mount_line *m, const char *path)
{
	const char *rest = path;

	if (!streq(m->root, "/")) {
		rest = str_skip(path, m->root);
		if (!rest || (*rest && *rest != '/'))
			rest = "/"; /* outside of what is mounted: the mount's own root */
	}
	if (streq(rest, "/") || !*rest)
		return arena_strdup(a, m->point);
	return path_join(a, m->point, rest);
}

typedef int (*mount_fn)(struct arena *a, const struct mount_line *m, void *arg);

/* Calls @fn for each line that may be a control group's, until it fails. */
static int mounts_each(struct arena *a, const char *mountinfo, mount_fn fn, void *arg)
{
	int r = 0;

	while (r == 0 && *mountinfo) {
		const char *end = strchrnul(mountinfo, '\n');
		size_t n = (size_t)(end - mountinfo);
		struct mount_line m;

		if (memmem(mountinfo, n, " cgroup", 7)) {
			char *line = arena_strndup(a, mountinfo, n);

			if (!line)
				return -ENOMEM;
			if (mount_line_parse(line, &m) == 0)
				r = fn(a, &m, arg);
		}
		mountinfo = *end ? end + 1 : end;
	}
	return r;
}

struct dirs_of {
	const char *text;
	struct cgroup_dirs d;
};

static int mount_line_use(struct arena *a, const struct mount_line *m, void *arg)
{
	struct dirs_of *o = arg;
	struct cgroup_dirs *d = &o->d;
	const char *path;

	if (streq(m->type, "cgroup2")) {
		path = text_path(a, o->text, "");
		if (path && !d->dir)
			d->dir = dir_through(a, m, path);
		return 0;
	}
	if (!streq(m->type, "cgroup"))
		return 0;
	for (int i = 0; i < CGROUP_N; i++) {
		if (d->v1[i] || !list_has(m->super, strlen(m->super), controller_names[i]))
			continue;
		path = text_path(a, o->text, controller_names[i]);
		if (path)
			d->v1[i] = dir_through(a, m, path);
	}
	return 0;
}

int cgroup_dirs_parse(struct arena *a, const char *text, const char *mountinfo,
		      struct cgroup_dirs *ret)
{
	struct dirs_of o = {.text = text, .d = {.unified = true}};
	int r = mounts_each(a, mountinfo, mount_line_use, &o);

	if (r < 0)
		return r;
	for (int i = 0; i < CGROUP_N; i++)
		if (o.d.v1[i])
			o.d.unified = false;
	if (o.d.unified && !o.d.dir)
		return -ENOENT;
	*ret = o.d;
	return 0;
}

int cgroup_dirs_find(struct arena *a, const char *text, struct cgroup_dirs *ret)
{
	char *mountinfo;
	size_t n;
	int r = file_read(a, AT_FDCWD, "/proc/self/mountinfo", MOUNTINFO_MAX, &mountinfo, &n);

	return r < 0 ? r : cgroup_dirs_parse(a, text, mountinfo, ret);
}

static int group_write(struct arena *a, const char *dir, const char *file, const char *text)
{
	char *path = path_join(a, dir, file);

	if (!path)
		return -ENOMEM;

	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

static int procs_write(struct arena *a, const char *dir, int pid)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", pid);
	return group_write(a, dir, "cgroup.procs", text);
}

struct join {
	const char *path;
	int pid, done;
};

static int mount_line_join(struct arena *a, const struct mount_line *m, void *arg)
{
	struct join *j = arg;
	char *dir;
	int r;

	if (!streq(m->type, "cgroup") && !streq(m->type, "cgroup2"))
		return 0;
	dir = dir_through(a, m, j->path);
	if (!dir)
		return -ENOMEM;
	r = procs_write(a, dir, j->pid);
	if (r == 0)
		j->done++;
	return r == -ENOENT ? 0 : r;
}

int cgroup_join(struct arena *a, const char *path, int pid)
{
	struct join j = {.path = path, .pid = pid};
	char *mountinfo;
	size_t n;
	int r = file_read(a, AT_FDCWD, "/proc/self/mountinfo", MOUNTINFO_MAX, &mountinfo, &n);

	if (r == 0)
		r = mounts_each(a, mountinfo, mount_line_join, &j);
	if (r < 0)
		return r;
	return j.done ? 0 : -ENOENT;
}

/* *ret: what @file in @dir says, NULL when there is no such file. */
static int cpuset_read(struct arena *a, const char *dir, const char *file, char **ret)
{
	char *path = path_join(a, dir, file);
	size_t n;
	int r = path ? file_read(a, AT_FDCWD, path, CPUSET_MAX, ret, &n) : -ENOMEM;

	if (r == -ENOENT) {
		*ret = NULL;
		return 0;
	}
	if (r == 0)
		(*ret)[strcspn(*ret, "\n")] = '\0';
	return r;
}

/* The parents, when these are new too, come first: a group can only have what its parent has. */
static int cpuset_inherit(struct arena *a, const char *dir, const char *file, int depth)
{
	char *have, *from, *parent = path_dir(a, dir);
	int r = cpuset_read(a, dir, file, &have);

	if (r < 0 || !have || *have || depth == 0)
		return r;
	r = parent ? cpuset_inherit(a, parent, file, depth - 1) : -ENOMEM;
	if (r == 0)
		r = cpuset_read(a, parent, file, &from);
	if (r < 0 || !from || !*from)
		return r;
	return group_write(a, dir, file, from);
}

int cgroup_cpuset_inherit(struct arena *a, const char *dir)
{
	int r = cpuset_inherit(a, dir, "cpuset.cpus", CPUSET_DEPTH);

	return r < 0 ? r : cpuset_inherit(a, dir, "cpuset.mems", CPUSET_DEPTH);
}

static int oom_open_v1(const char *dir, int *ret_fd)
{
	char path[4096 + 32], text[64];
	int n;

	if (snprintf(path, sizeof(path), "%s/memory.oom_control", dir) >= (int)sizeof(path))
		return -ENAMETOOLONG;

	_cleanup_close_ int control = open(path, O_RDONLY | O_CLOEXEC);

	if (control < 0)
		return -errno;

	_cleanup_close_ int ev = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (ev < 0)
		return -errno;
	snprintf(path, sizeof(path), "%s/cgroup.event_control", dir);

	_cleanup_close_ int reg = open(path, O_WRONLY | O_CLOEXEC);

	if (reg < 0)
		return -errno;
	n = snprintf(text, sizeof(text), "%d %d", ev, control);
	if (write(reg, text, (size_t)n) != n)
		return -errno;
	*ret_fd = TAKE_FD(ev);
	return 0;
}

/* Value of @key in a small "key value" file; 0 = read (absent key: *@ret 0). */
static int key_read(const char *dir, const char *file, const char *key, uint64_t *ret)
{
	char path[4096 + 32], text[1024];
	ssize_t n;

	if (snprintf(path, sizeof(path), "%s/%s", dir, file) >= (int)sizeof(path))
		return -ENAMETOOLONG;

	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	n = read(fd, text, sizeof(text) - 1);
	if (n < 0)
		return errno == ENODEV ? -ENOENT : -errno;
	text[n] = '\0';
	*ret = 0;
	for (char *save = NULL, *line = strtok_r(text, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		const char *value = str_skip(line, key);

		if (value && *value == ' ')
			return str_to_u64(value + 1, 10, ret);
	}
	return 0;
}

static int oom_open_v2(const char *dir, struct cgroup_oom *o)
{
	char path[4096 + 32];
	int r = key_read(dir, "memory.events", "oom_kill", &o->kills);

	if (r < 0)
		return r == -ENOENT ? -EOPNOTSUPP : r;
	if (snprintf(path, sizeof(path), "%s/memory.events", dir) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	o->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (o->fd < 0)
		return -errno;
	if (inotify_add_watch(o->fd, path, IN_MODIFY) < 0) {
		r = -errno;
		close(o->fd);
		o->fd = -1;
		return r;
	}
	return 0;
}

int cgroup_oom_open(const struct cgroup_dirs *dirs, struct cgroup_oom *ret)
{
	struct cgroup_oom o = CGROUP_OOM_INIT;
	const char *dir = dirs->unified ? dirs->dir : dirs->v1[CGROUP_MEMORY];
	int r;

	if (!dir)
		return -EOPNOTSUPP;
	o.v2 = dirs->unified;
	r = o.v2 ? oom_open_v2(dir, &o) : oom_open_v1(dir, &o.fd);
	/* An old kernel does not count. */
	if (r == 0 && !o.v2 && key_read(dir, "memory.oom_control", "oom_kill", &o.kills) < 0)
		o.kills = 0;
	if (r < 0)
		return r;
	o.dir = strdup(dir);
	if (!o.dir) {
		close(o.fd);
		return -ENOMEM;
	}
	*ret = o;
	return 0;
}

int cgroup_oom_check(struct cgroup_oom *o)
{
	char scratch[1024] __attribute__((aligned(8)));
	uint64_t kills = 0;
	int r;

	while (read(o->fd, scratch, sizeof(scratch)) > 0 && o->v2)
		;
	r = key_read(o->dir, o->v2 ? "memory.events" : "memory.oom_control", "oom_kill", &kills);
	if (r < 0)
		return -ENOENT;
	/* Version 1 rings before it kills; also when the group goes, which was just ruled out. */
	if (!o->v2)
		o->early = kills <= o->kills;
	else if (kills <= o->kills)
		return 0;
	o->kills = kills;
	return 1;
}

int cgroup_oom_last_check(struct cgroup_oom *o)
{
	uint64_t kills;

	if (!o->dir || key_read(o->dir, o->v2 ? "memory.events" : "memory.oom_control", "oom_kill",
				&kills) < 0)
		return 0;
	bool told = kills <= o->kills + o->early;
	o->kills = kills;
	o->early = false;
	return !told;
}

void cgroup_oom_close(struct cgroup_oom *o)
{
	if (o->fd >= 0)
		close(o->fd);
	free(o->dir);
	*o = CGROUP_OOM_INIT;
}
