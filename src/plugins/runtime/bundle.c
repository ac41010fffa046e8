/* SPDX-License-Identifier: Apache-2.0 */
/* Bundle: see bundle.h. */
#include "plugins/runtime/bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/path.h"
#include "base/str.h"
#include "base/trace.h"
#include "sys/mount.h"

#define HIDE_TRIES 8

int bundle_at(struct arena *a, const char *root, const char *state, const char *ns, const char *id,
	      struct bundle *ret, struct err *err)
{
	struct bundle b = {.path = arena_printf(a, "%s/%s/%s", state, ns, id),
			   .work = arena_printf(a, "%s/%s/%s", root, ns, id)};
	if (!b.path || !b.work || !(b.rootfs = path_join(a, b.path, "rootfs")))
		return err_nomem(err);
	*ret = b;
	return 0;
}

/* Host gid of the container's gid 0 when the spec maps groups: its processes must be able to reach
 * the rootfs through the bundle. */
static gid_t mapped_root_gid(const struct any *spec)
{
	_cleanup_json_ json_t *j = NULL;
	size_t i;
	json_t *m;
	if (!spec->type_url || !memmem(spec->value, spec->len, "gidMappings", 11) ||
	    json_parse(spec->value, spec->len, &j, NULL) < 0)
		return 0;
	json_array_foreach (json_arr(json_obj(j, "linux"), "gidMappings"), i, m)
		if (json_int(m, "containerID", -1) == 0)
			return (gid_t)json_int(m, "hostID", 0);
	return 0;
}

static int fill(struct arena *a, const struct bundle *b, const struct any *spec, struct err *err)
{
	gid_t gid = mapped_root_gid(spec);
	char *config = path_join(a, b->path, "config.json"), *link = path_join(a, b->path, "work");
	if (!config || !link)
		return err_nomem(err);
	if (gid && (chown(b->path, (uid_t)-1, gid) < 0 || chmod(b->path, 0710) < 0))
		return err_errno(err, errno, "give %s to group %u", b->path, (unsigned int)gid);
	int r = mkdir_p(b->work, 0711);
	if (r < 0)
		return err_errno(err, r, "make work directory %s", b->work);
	if (mkdir(b->rootfs, 0711) < 0)
		return err_errno(err, errno, "make %s", b->rootfs);
	if (symlink(b->work, link) < 0)
		return err_errno(err, errno, "link %s", link);
	if (!spec->type_url)
		return 0;
	r = file_write(AT_FDCWD, config, spec->value, spec->len, 0644);
	return r < 0 ? err_errno(err, r, "write %s", config) : 0;
}

int bundle_create(struct arena *a, const struct bundle *b, const struct any *spec, struct err *err)
{
	TRACE_SPAN("runtime", "make bundle");
	char *parent = path_dir(a, b->path);
	if (!parent)
		return err_nomem(err);
	int r = mkdir_p(parent, 0711);
	if (r < 0)
		return err_errno(err, r, "make %s", parent);
	if (mkdir(b->path, 0700) < 0)
		return err_errno(err, errno, "make bundle %s", b->path);
	r = fill(a, b, spec, err);
	if (r < 0)
		(void)!bundle_remove(a, b, NULL);
	return r;
}

static int hide_dir(struct arena *a, const char *path, char **ret, struct err *err)
{
	char *dir = path_dir(a, path);
	char *hidden = dir ? arena_printf(a, "%s/.%s", dir, path_base(path)) : NULL;
	if (!hidden)
		return err_nomem(err);
	for (int i = 0; rename(path, hidden) < 0; i++) {
		if (errno == ENOENT)
			return 0;
		if ((errno != ENOTEMPTY && errno != EEXIST) || i == HIDE_TRIES)
			return err_errno(err, errno, "rename %s", path);
		/* Left from a removal that was cut off, or that still goes on. */
		(void)!rm_rf(AT_FDCWD, hidden);
	}
	*ret = hidden;
	return 0;
}

/* A bind of the same file system too. What cannot be looked at (a file system whose server has
 * died) is one. */
static bool is_mount_point(const char *path)
{
	struct statx st;
	struct stat here, parent;
	if (statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, 0, &st) < 0)
		return errno != ENOENT && errno != ENOTDIR;
	if (st.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT)
		return st.stx_attributes & STATX_ATTR_MOUNT_ROOT;
	_cleanup_close_ int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	return fd >= 0 && fstat(fd, &here) == 0 && fstatat(fd, "..", &parent, 0) == 0 &&
	       here.st_dev != parent.st_dev;
}

int bundle_hide(struct arena *a, const struct bundle *b, char *ret[2], struct err *err)
{
	TRACE_SPAN("runtime", "hide bundle");
	if (is_mount_point(b->rootfs)) {
		int r = mount_unmount_all(b->rootfs, MNT_DETACH | UMOUNT_NOFOLLOW, err);
		if (r < 0)
			return r;
	}
	char *hidden[2] = {NULL, NULL};
	int r = hide_dir(a, b->path, &hidden[0], err);
	int w = hide_dir(a, b->work, &hidden[1], r < 0 ? NULL : err);
	memcpy(ret, hidden, sizeof(hidden));
	return r < 0 ? r : w;
}

int bundle_sweep(char *const hidden[2], struct err *err)
{
	TRACE_SPAN("runtime", "remove bundle");
	int result = 0;
	for (int i = 0; i < 2; i++) {
		int r = hidden[i] ? rm_rf(AT_FDCWD, hidden[i]) : 0;
		if (r < 0 && result == 0)
			result = err_errno(err, r, "remove %s", hidden[i]);
	}
	return result;
}

int bundle_remove(struct arena *a, const struct bundle *b, struct err *err)
{
	char *hidden[2] = {NULL, NULL};
	int r = bundle_hide(a, b, hidden, err);
	int w = bundle_sweep(hidden, r < 0 ? NULL : err);
	return r < 0 ? r : w;
}
