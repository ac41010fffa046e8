/* SPDX-License-Identifier: Apache-2.0 */
#include "plugins/snapshotter/top.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/str.h"

char *snapdir_path(struct arena *a, const char *root, uint64_t id, const char *leaf)
{
	return arena_printf(a, "%s/snapshots/%llu/%s", root, (unsigned long long)id, leaf);
}

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

int top_fit(struct ctx *ctx, const char *root, const struct storage_snapshot *s, int dirfd,
	    const char *name, struct err *err)
{
	const char *uids = labels_get(&s->labels, LABEL_UIDMAP);
	const char *gids = labels_get(&s->labels, LABEL_GIDMAP);
	uint32_t uid = 0, gid = 0;
	struct stat st;
	char *parent;

	if (s->n_parents) {
		parent = snapdir_path(ctx->arena, root, s->parent_ids[0], "fs");
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

int top_rebase(struct ctx *ctx, const char *root, struct storage *st, uint64_t id,
	       const struct labels *labels, const char *parent, struct err *err)
{
	struct storage_snapshot s = {.labels = *labels, .n_parents = 1};
	const char *top = snapdir_path(ctx->arena, root, id, "fs");
	uint64_t parent_id;
	int r = top ? storage_info(ctx, st, parent, &parent_id, NULL, NULL, err) : err_nomem(err);

	s.parent_ids = &parent_id;
	return r < 0 ? r : top_fit(ctx, root, &s, AT_FDCWD, top, err);
}
