/* SPDX-License-Identifier: Apache-2.0 */
/* Apply. The way back is in walking_diff.c. */
#include "plugins/differ/walking.h"

#include <unistd.h>

#include "base/str.h"
#include "core/content.h"
#include "core/worker.h"
#include "plugins/differ/temp_mount.h"
#include "plugins/snapshotter/overlay_check.h"

#define MEDIA_TYPE_TAR "application/vnd.oci.image.layer.v1.tar"
#define LOWERS_MAX 62 /* of worker_unpack() */

bool walking_supports(const char *media_type)
{
	static const char *const bases[] = {
		"application/vnd.oci.image.layer.v1.tar",
		"application/vnd.oci.image.layer.nondistributable.v1.tar",
		"application/vnd.docker.image.rootfs.diff.tar",
		"application/vnd.docker.image.rootfs.foreign.diff.tar",
	};

	for (size_t i = 0; i < ARRAY_LEN(bases); i++) {
		const char *rest = str_skip(media_type, bases[i]);

		if (!rest)
			continue;
		if (streq(rest, ""))
			return true;
		if (str_has_prefix(bases[i], "application/vnd.docker."))
			return streq(rest, ".gzip") || streq(rest, ".zstd");
		return streq(rest, "+gzip") || streq(rest, "+zstd");
	}
	return false;
}

int walking_unknown(const char *media_type, struct err *err)
{
	if (str_has_suffix(media_type, "+encrypted"))
		return err_set(
			err, ERR_UNIMPLEMENTED,
			"no processor for media-type \"%s\": the layer is encrypted: "
			"configure a decoder that has this type in stream_processors.ID.accepts",
			media_type);
	return err_set(err, ERR_UNIMPLEMENTED, "no processor for media-type \"%s\"", media_type);
}

/* ---- Where to unpack to ---- */

struct target {
	int fd;
	struct temp_mount mount; /* unless the directory itself is used */
	int lowers[LOWERS_MAX];
	size_t n_lowers;
	enum unpack_whiteouts whiteouts;
	bool userxattr;
};

static void target_done(struct target *t)
{
	for (size_t i = 0; i < t->n_lowers; i++)
		close(t->lowers[i]);
	fd_closep(&t->fd);
	temp_mount_done(&t->mount);
}

/* 1 when the overlay's own directories can be used. */
static int target_overlay(struct ctx *ctx, const struct mount *m, struct target *t, struct err *err)
{
	const char *upper = mount_option_value(m, "upperdir="),
		   *lower = mount_option_value(m, "lowerdir=");
	char **v = NULL;
	size_t n = 0;

	/* Device nodes, which whiteouts are, can not be made in a user namespace; the kernel's
	 * overlay can. */
	if (!upper || strchr(upper, '\\') || overlay_in_userns())
		return 0;
	if (lower) {
		if (strchr(lower, '\\') || strstr(lower, "::"))
			return 0;
		v = str_split(ctx->arena, lower, ':', &n);
		if (!v)
			return err_nomem(err);
	}
	if (n > LOWERS_MAX)
		return 0;
	for (size_t i = 0; i < n; i++) {
		int fd = dir_open(v[i], err);

		if (fd < 0)
			return fd;
		t->lowers[t->n_lowers++] = fd;
	}
	t->fd = dir_open(upper, err);
	if (t->fd < 0)
		return t->fd;
	t->whiteouts = UNPACK_OVERLAY;
	t->userxattr = mount_option_given(m, "userxattr");
	return 1;
}

static int target_direct(struct ctx *ctx, const struct mounts *mounts, struct target *t,
			 struct err *err)
{
	const struct mount *m = mounts->v;

	if (mounts->n != 1 || !str_empty(m->target))
		return 0;
	if (streq(m->type, "overlay"))
		return target_overlay(ctx, m, t, err);
	if (!streq(m->type, "bind") || mount_option_given(m, "ro") ||
	    mount_option_value(m, "uidmap="))
		return 0;
	t->fd = dir_open(m->source, err);
	return t->fd < 0 ? t->fd : 1;
}

static int target_open(struct ctx *ctx, const struct mounts *mounts, struct target *t,
		       struct err *err)
{
	int r;

	if (mounts->n == 0)
		return err_set(err, ERR_INVALID_ARGUMENT, "no mounts to apply a layer to");
	r = target_direct(ctx, mounts, t, err);
	if (r != 0)
		return r < 0 ? r : 0;
	r = temp_mount(ctx, mounts, &t->mount, err);
	if (r < 0)
		return err ? err_prefix(err, "failed to mount for the layer") : r;
	t->fd = TAKE_FD(t->mount.fd);
	return 0;
}

/* ---- Applying ---- */

static int apply_fd(struct ctx *ctx, int input_fd, const char *media_type,
		    const struct mounts *mounts, bool alone, bool sync_fs,
		    struct descriptor *ret_applied, struct err *err)
{
	_cleanup_(target_done) struct target t = {
		.fd = -1,
		.mount = TEMP_MOUNT_INIT,
		.whiteouts = UNPACK_PLAIN,
	};
	struct unpack_result result;
	char *digest;
	int r;

	if (!walking_supports(media_type))
		return walking_unknown(media_type, err);
	r = target_open(ctx, mounts, &t, err);
	if (r < 0)
		return r;
	struct unpack_request q = {
		.input_fd = input_fd,
		.media_type = media_type,
		.target_fd = t.fd,
		.lower_fds = t.lowers,
		.n_lowers = t.n_lowers,
		.whiteouts = t.whiteouts,
		.alone = alone && t.whiteouts == UNPACK_OVERLAY,
		.userxattr = t.userxattr,
	};
	r = worker_unpack(ctx, &q, &result, err);
	if (r < 0)
		return r;
	if (sync_fs && syncfs(t.fd) < 0)
		return err_errno(err, errno, "sync the file system of the layer");
	digest = arena_strdup(ctx->arena, result.diff_id.text);
	if (!digest)
		return err_nomem(err);
	*ret_applied = (struct descriptor){
		.media_type = MEDIA_TYPE_TAR,
		.digest = digest,
		.size = result.size,
	};
	return 0;
}

int walking_apply_fd(struct ctx *ctx, int input_fd, const char *media_type,
		     const struct mounts *mounts, bool sync_fs, struct descriptor *ret_applied,
		     struct err *err)
{
	return apply_fd(ctx, input_fd, media_type, mounts, false, sync_fs, ret_applied, err);
}

static int apply_stored(struct ctx *ctx, struct db *db, const struct descriptor *d,
			const struct mounts *mounts, bool alone, bool sync_fs,
			struct descriptor *ret_applied, struct err *err)
{
	_cleanup_close_ int fd = -1;
	int64_t size;
	int r;

	/* Said before the blob is looked for: the next differ may know the type. */
	if (!walking_supports(d->media_type))
		return walking_unknown(d->media_type, err);
	r = content_open(ctx, db, d->digest, &fd, &size, err);
	if (r < 0)
		return err ? err_prefix(err, "failed to get reader from content store") : r;
	return apply_fd(ctx, fd, d->media_type, mounts, alone, sync_fs, ret_applied, err);
}

int walking_apply_alone(struct ctx *ctx, struct db *db, const struct descriptor *d, int input_fd,
			const struct mounts *upper, bool sync_fs, struct descriptor *ret_applied,
			struct err *err)
{
	const char *option;
	struct mount overlay = {.type = "overlay", .source = "overlay", .target = ""};
	struct mounts m = {&overlay, 1};

	if (upper->n != 1 || !streq(upper->v[0].type, "bind") || !str_empty(upper->v[0].target) ||
	    mount_option_given(&upper->v[0], "ro") || strchr(upper->v[0].source, '\\') ||
	    overlay_in_userns())
		return err_set(err, ERR_ABORTED, "the snapshot has no directory of its own");
	option = arena_printf(ctx->arena, "upperdir=%s", upper->v[0].source);
	if (!option)
		return err_nomem(err);
	overlay.options = &option;
	overlay.n_options = 1;
	if (input_fd < 0)
		return apply_stored(ctx, db, d, &m, true, sync_fs, ret_applied, err);
	return apply_fd(ctx, input_fd, d->media_type, &m, true, sync_fs, ret_applied, err);
}

int walking_apply(struct ctx *ctx, struct db *db, const struct descriptor *d,
		  const struct mounts *mounts, bool sync_fs, struct descriptor *ret_applied,
		  struct err *err)
{
	return apply_stored(ctx, db, d, mounts, false, sync_fs, ret_applied, err);
}
