/* SPDX-License-Identifier: Apache-2.0 */
#include "plugins/snapshotter/top.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/path.h"
#include "base/str.h"

/* Host id of the container's id 0 in "ctr:host:len[,...]"; false when there is none. */
static bool map_root(struct arena *a, const char *map, uint32_t *ret)
{
	size_t n = 0, m;
	char **parts = map ? str_split(a, map, ',', &n) : NULL;

	for (size_t i = 0; parts && i < n; i++) {
		char **v = str_split(a, parts[i], ':', &m);
		uint64_t ctr, host, len;

		if (!v || m != 3 || str_to_u64(v[0], 10, &ctr) < 0 ||
		    str_to_u64(v[1], 10, &host) < 0 || str_to_u64(v[2], 10, &len) < 0 ||
		    host >= UINT32_MAX)
			return false;
		if (ctr == 0 && len > 0) {
			*ret = (uint32_t)host;
			return true;
		}
	}
	return false;
}

/* The top directory @name looks like the parent's, and belongs to whom the labels of id maps say.
 */
static int top_fit(struct ctx *ctx, struct local *l, const struct storage_snapshot *s, int dirfd,
		   const char *name, struct err *err)
{
	const char *uids = labels_get(&s->labels, LABEL_UIDMAP);
	const char *gids = labels_get(&s->labels, LABEL_GIDMAP);
	uint32_t uid = 0, gid = 0;
	struct stat st;
	char *parent;

	if (s->n_parents) {
		parent = local_path(ctx->arena, l, s->parent_ids[0], "fs");
		if (!parent)
			return err_nomem(err);
		if (stat(parent, &st) < 0)
			return err_errno(err, errno, "failed to stat parent `%s`", parent);
		if (fchmodat(dirfd, name, st.st_mode & 07777, 0) < 0)
			return err_errno(err, errno, "chmod `%s`", name);
	}
	if (map_root(ctx->arena, uids, &uid) && map_root(ctx->arena, gids, &gid)) {
		st.st_uid = uid;
		st.st_gid = gid;
	} else if (!s->n_parents) {
		return 0;
	}
	if (fchownat(dirfd, name, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW) < 0)
		return err_errno(err, errno, "failed to chown `%s`", name);
	return 0;
}

static int dir_make(int fd, const char *temp, const char *name, mode_t mode, struct err *err)
{
	if (mkdirat(fd, name, mode) < 0 || fchmodat(fd, name, mode, 0) < 0)
		return err_errno(err, errno, "make directory `%s/%s`", temp, name);
	return 0;
}

int top_make(struct ctx *ctx, struct local *l, const struct storage_snapshot *s, const char *temp,
	     bool upper, struct err *err)
{
	_cleanup_close_ int fd =
		openat(snapdirs_fd(l->dirs), temp, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (fd < 0)
		return err_errno(err, errno, "open `%s`", temp);
	r = dir_make(fd, temp, "fs", 0755, err);
	if (r < 0 || !upper)
		return r;
	if (s->kind == SNAPSHOT_ACTIVE)
		r = dir_make(fd, temp, "work", 0711, err);
	return r < 0 ? r : top_fit(ctx, l, s, fd, "fs", err);
}

int top_rebase(struct ctx *ctx, struct local *l, uint64_t id, const struct snapshot_info *info,
	       const char *parent, struct err *err)
{
	struct storage_snapshot s = {.labels = info->labels, .n_parents = 1};
	const char *top;
	uint64_t parent_id;
	int r;

	if (*info->parent || str_empty(parent))
		return 0;
	top = local_path(ctx->arena, l, id, "fs");
	r = top ? storage_info(ctx, l->storage, parent, &parent_id, NULL, NULL, err)
		: err_nomem(err);
	s.parent_ids = &parent_id;
	return r < 0 ? r : top_fit(ctx, l, &s, AT_FDCWD, top, err);
}

int top_usage(struct ctx *ctx, struct local *l, uint64_t id, struct snapshot_usage *ret,
	      struct err *err)
{
	char *path = local_path(ctx->arena, l, id, "fs");
	int r;

	if (!path)
		return err_nomem(err);
	r = dir_usage(AT_FDCWD, path, &ret->size, &ret->inodes);
	return r < 0 ? err_errno(err, r, "disk usage of `%s`", path) : 0;
}
