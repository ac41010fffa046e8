/* SPDX-License-Identifier: Apache-2.0 */
/* Classes of RDT and the groups they are:
 *
 *     <root>/schemata, tasks           the root's, a class like others
 *     <root>/NAME/schemata, tasks      a class; what has no tasks is no group
 *     <root>/[NAME/]mon_groups/X/tasks a monitoring group of it
 *     <root>/info/last_cmd_status      why the kernel has refused the last write
 *
 * The kernel makes and removes a group's files with its directory, and reads schemata of one write
 * in one go. A loaded configuration keeps what the file says of each class beside the root's path;
 * whether a group is there is looked up when a container wants it. */
#include "oci/rdt.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/str.h"
#include "oci/rdt_internal.h"

#define STATUS_MAX 4096
#define GROUPS_MAX 4096

struct rdt {
	struct arena *a;
	struct rdt_fs fs;
	struct rdt_config config;
};

/* ---- groups ---- */

static int group_make(int dir, const char *name)
{
	return mkdirat(dir, name, 0755) < 0 ? -errno : 0;
}

static int group_remove(int dir, const char *name)
{
	return unlinkat(dir, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

static bool is_group(int dir, const char *name)
{
	char path[NAME_MAX + sizeof("/tasks")];
	struct stat st;

	return snprintf(path, sizeof(path), "%s/tasks", name) < (int)sizeof(path) &&
	       fstatat(dir, path, &st, 0) == 0 && S_ISREG(st.st_mode);
}

struct names {
	char **v;
	size_t n;
};

/* The groups in the directory @name of @dir; none when there is no such. */
static int groups_list(struct arena *a, int dir, const char *name, struct names *ret,
		       struct err *err)
{
	_cleanup_close_ int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_closedir_ DIR *d = NULL;
	struct dirent *e;
	size_t cap = 0;

	*ret = (struct names){0};
	if (fd < 0)
		return errno == ENOENT ? 0 : err_errno(err, errno, "open %s of resctrl", name);
	d = fdopendir(fd);
	if (!d)
		return err_errno(err, errno, "read %s of resctrl", name);
	fd = -1;
	while ((errno = 0, e = readdir(d))) {
		if (streq(e->d_name, ".") || streq(e->d_name, "..") ||
		    !is_group(dirfd(d), e->d_name))
			continue;
		if (ret->n == GROUPS_MAX)
			return err_set(err, ERR_RESOURCE_EXHAUSTED,
				       "more than %d groups in resctrl", GROUPS_MAX);
		ret->v = arena_grow(a, ret->v, &cap, ret->n + 1, sizeof(*ret->v));
		if (!ret->v || !(ret->v[ret->n] = arena_strdup(a, e->d_name)))
			return err_nomem(err);
		ret->n++;
	}
	return errno ? err_errno(err, errno, "read %s of resctrl", name) : 0;
}

/* ---- applying ---- */

struct applier {
	struct rdt *t;
	int root;
};

static const struct rdt_class *class_find(const struct rdt *t, const char *name)
{
	if (rdt_is_root(name))
		name = RDT_ROOT_CLASS;
	for (size_t i = 0; i < t->config.n_classes; i++)
		if (streq(t->config.classes[i].name, name))
			return &t->config.classes[i];
	return NULL;
}

static int remove_stale(const struct applier *x, struct err *err)
{
	struct names found;
	int e = groups_list(x->t->a, x->root, ".", &found, err);

	for (size_t i = 0; e == 0 && i < found.n; i++) {
		if (class_find(x->t, found.v[i]))
			continue;
		e = x->t->fs.remove(x->root, found.v[i]);
		if (e < 0 && e != -ENOENT)
			return err_errno(err, e, "failed to remove resctrl group \"%.128s\"",
					 found.v[i]);
		e = 0;
	}
	return e;
}

/* The kernel's own words, where it has any. */
static int write_failed(const struct applier *x, int errnum, struct err *err)
{
	char *status;
	size_t n;

	if (file_read(x->t->a, x->root, "info/last_cmd_status", STATUS_MAX, &status, &n) == 0) {
		while (n && (status[n - 1] == '\n' || status[n - 1] == ' '))
			status[--n] = '\0';
		if (n && !streq(status, "ok"))
			return err_set(err, ERR_UNKNOWN, "failed to write schemata: %.512s",
				       status);
	}
	return err_errno(err, errnum, "failed to write schemata");
}

static int write_schemata(const struct applier *x, const char *group, const char *text,
			  struct err *err)
{
	const char *path = arena_printf(x->t->a, "%s/schemata", group);
	_cleanup_close_ int fd = -1;
	size_t n = strlen(text);

	if (!path)
		return err_nomem(err);
	fd = openat(x->root, path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "open schemata");
	ssize_t done = write(fd, text, n);
	if (done < 0)
		return write_failed(x, errno, err);
	return (size_t)done == n ? 0 : write_failed(x, EIO, err);
}

static int set_class(const struct applier *x, const struct rdt_class *c, struct err *err)
{
	bool root = rdt_is_root(c->name);
	int e = root ? 0 : x->t->fs.make(x->root, c->name);

	if (e < 0 && e != -EEXIST)
		return err_errno(err, e, "failed to make the resctrl group");
	return *c->schemata ? write_schemata(x, root ? "." : c->name, c->schemata, err) : 0;
}

/* Removes monitoring groups of @group that have no task. */
static int prune_monitors(const struct applier *x, const char *group, struct err *err)
{
	struct arena *a = x->t->a;
	const char *dir = arena_printf(a, "%s/mon_groups", group);
	struct names found;
	int e = dir ? groups_list(a, x->root, dir, &found, err) : err_nomem(err);

	for (size_t i = 0; e == 0 && i < found.n; i++) {
		const char *name = arena_printf(a, "%s/%s", dir, found.v[i]);
		const char *tasks = name ? arena_printf(a, "%s/tasks", name) : NULL;
		_cleanup_close_ int fd = -1;
		char c;

		if (!tasks)
			return err_nomem(err);
		fd = openat(x->root, tasks, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || read(fd, &c, 1) != 0)
			continue;
		e = x->t->fs.remove(x->root, name);
		if (e < 0 && e != -ENOENT)
			return err_errno(err, e, "failed to remove monitoring group \"%.256s\"",
					 name);
		e = 0;
	}
	return e;
}

static int apply(struct rdt *t, struct err *err)
{
	struct applier x = {.t = t};
	_cleanup_close_ int root = open(t->fs.root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int e;

	if (root < 0)
		return err_errno(err, errno, "open %s", t->fs.root);
	x.root = root;
	e = remove_stale(&x, err);
	for (size_t i = 0; e == 0 && i < t->config.n_classes; i++) {
		e = set_class(&x, &t->config.classes[i], err);
		if (e < 0)
			err_prefix(err, "class \"%.128s\"", t->config.classes[i].name);
	}
	if (e == 0)
		e = prune_monitors(&x, ".", err);
	for (size_t i = 0; e == 0 && i < t->config.n_classes; i++)
		if (!rdt_is_root(t->config.classes[i].name))
			e = prune_monitors(&x, t->config.classes[i].name, err);
	return e;
}

/* ---- loading ---- */

void rdt_free(struct rdt *t)
{
	struct arena *a = t ? t->a : NULL;

	arena_free(a);
}

static int find_fs(struct rdt *t, const struct rdt_fs *fs, struct err *err)
{
	int e = fs ? 0 : rdt_fs_find(t->a, "/proc/mounts", &t->fs, err);

	if (e < 0)
		return e;
	if (fs) {
		t->fs = *fs;
		t->fs.root = arena_strdup(t->a, fs->root);
	}
	if (!t->fs.make)
		t->fs.make = group_make;
	if (!t->fs.remove)
		t->fs.remove = group_remove;
	return t->fs.root ? 0 : err_nomem(err);
}

static int read_config(struct rdt *t, const char *path, const struct rdt_info *info,
		       struct err *err)
{
	char *text;
	size_t n;
	int e = file_read(t->a, AT_FDCWD, path, RDT_FILE_MAX, &text, &n);

	if (e < 0)
		return err_errno(err, e, "failed to read config file %s", path);
	e = rdt_config_parse(t->a, text, n, info, &t->config, err);
	if (e == 0)
		e = rdt_config_resolve(t->a, info, &t->config, err);
	return e < 0 ? err_prefix(err, "invalid configuration: %s", path) : 0;
}

int rdt_load(const char *path, const struct rdt_fs *fs, struct rdt **ret, struct err *err)
{
	_cleanup_arena_ struct arena *a = arena_new(RDT_MEMORY_MAX);
	struct rdt *t = a ? arena_new_obj(a, struct rdt) : NULL;
	struct rdt_info info;

	if (!t)
		return err_nomem(err);
	t->a = a;
	int e = find_fs(t, fs, err);
	if (e == 0)
		e = rdt_info_read(a, &t->fs, &info, err);
	if (e < 0)
		return err_prefix(err, "RDT not enabled");
	e = read_config(t, path, &info, err);
	if (e < 0)
		return e;
	e = apply(t, err);
	if (e < 0)
		return err_prefix(err, "resctrl configuration failed: %s", path);
	a = NULL;
	*ret = t;
	return 0;
}

/* ---- what containers name ---- */

int rdt_class_check(const struct rdt *t, const char *name, enum rdt_origin origin, struct err *err)
{
	const struct rdt_class *c;

	if (!rdt_class_name_valid(name))
		return err_set(err, ERR_INVALID_ARGUMENT, "unqualified RDT class name \"%.128s\"",
			       name);
	_cleanup_close_ int root = open(t->fs.root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0 || !is_group(root, rdt_is_root(name) ? "." : name))
		return err_set(err, ERR_NOT_FOUND,
			       "RDT class \"%.128s\" does not exist in configuration", name);
	c = class_find(t, name);
	if (c && ((origin == RDT_POD_ANNOTATION && c->deny_pod) ||
		  (origin == RDT_CONTAINER_ANNOTATION && c->deny_container)))
		return err_set(err, ERR_PERMISSION_DENIED,
			       "RDT class \"%.128s\" not allowed from %s", name,
			       origin == RDT_POD_ANNOTATION ? "Pod annotations"
							    : "Container annotation");
	return 0;
}
