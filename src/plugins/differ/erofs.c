/* SPDX-License-Identifier: Apache-2.0 */
/* io.containerd.differ.v1.erofs: puts a layer as an EROFS image into the directory of a snapshot
 * that says with .erofslayer that it wants one. Other snapshots are for other differs.
 *
 * A layer that is such an image is copied. A tar is unpacked into the snapshot's fs by a worker, as
 * it would be into an overlay's upper directory, and the image made of that; or an index of its
 * files is made, when the configuration wants that. The snapshotter takes it from there. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "core/content.h"
#include "core/erofs.h"
#include "plugins/differ/differ.h"
#include "plugins/differ/temp_mount.h"
#include "plugins/mounts/transform.h"

#define MEDIA_TYPE_TAR "application/vnd.oci.image.layer.v1.tar"
#define CHUNK (1u << 20)

struct erofs_differ {
	struct differ base;
	struct db *db;
	struct erofs_differ_options o;
};

/* ---- Where to ---- */

static int not_ours(struct err *err)
{
	return err_set(err, ERR_UNIMPLEMENTED, "mount layer type must be erofs-layer");
}

/* The snapshot's directory, from what it is written through. */
static int layer_dir(struct arena *a, const struct mounts *mounts, const char **ret,
		     struct err *err)
{
	const struct mount *m = mounts->n ? &mounts->v[mounts->n - 1] : NULL;
	const char *inside = NULL, *type = m ? mount_plain_type(m->type) : "";
	char *dir, *mark;

	if (m && str_has_prefix(mounts->v[0].type, "mkfs/"))
		inside = mounts->v[0].source;
	else if (streq(type, "overlay"))
		inside = mount_option_value(m, "upperdir=");
	else if (streq(type, "bind"))
		inside = m->source;
	if (!inside || *inside != '/' || mount_option_given(m, "ro"))
		return not_ours(err);
	dir = path_dir(a, inside);
	mark = dir ? path_join(a, dir, EROFS_MARK) : NULL;
	if (!mark)
		return err_nomem(err);
	if (access(mark, F_OK) < 0)
		return not_ours(err);
	if (access(path_join(a, dir, EROFS_LAYER), F_OK) == 0)
		return err_set(err, ERR_FAILED_PRECONDITION, "`%s` has a layer already", dir);
	*ret = dir;
	return 0;
}

/* ---- An image ---- */

struct copy {
	struct ctx *ctx;
	int input;
	bool zstd;
	int output;
	struct pack_result res; /* of the image, when it was compressed */
};

static int copy_piece(void *arg, const void *p, size_t n, struct err *err)
{
	struct copy *c = arg;
	int r = fd_write_full(c->output, p, n);

	return r < 0 ? err_errno(err, r, "write " EROFS_LAYER) : 0;
}

static int copy_plain(struct copy *c, struct err *err)
{
	_cleanup_free_ char *chunk = NULL;
	ssize_t n;

	while ((n = copy_file_range(c->input, NULL, c->output, NULL, 1 << 30, 0)) > 0)
		;
	if (n == 0)
		return 0;
	chunk = malloc(CHUNK); /* from a pipe, or another file system */
	if (!chunk)
		return err_nomem(err);
	while ((n = read(c->input, chunk, CHUNK)) != 0) {
		int r = ctx_check(c->ctx, err);

		if (r == 0 && n < 0 && errno != EINTR)
			r = err_errno(err, errno, "read layer");
		if (r == 0 && n > 0)
			r = copy_piece(c, chunk, (size_t)n, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int copy_fill(void *arg, int fd, struct err *err)
{
	struct copy *c = arg;
	const struct recompress_request q = {
		.input_fd = c->input, .compression = PACK_NONE, .write = copy_piece, .arg = c};

	c->output = fd;
	return c->zstd ? worker_recompress(c->ctx, &q, &c->res, err) : copy_plain(c, err);
}

static int apply_image(struct ctx *ctx, const struct apply_request *q, int input, bool zstd,
		       const char *dir, struct descriptor *ret, struct err *err)
{
	struct copy c = {.ctx = ctx, .input = input, .zstd = zstd};
	int r = erofs_copy(dir, copy_fill, &c, err);

	if (r < 0)
		return r;
	*ret = *q->desc;
	if (!zstd)
		return 0;
	ret->media_type =
		arena_strndup(ctx->arena, q->desc->media_type, strcspn(q->desc->media_type, "+"));
	ret->digest = arena_strdup(ctx->arena, c.res.diff_id.text);
	ret->size = c.res.size;
	return ret->media_type && ret->digest ? 0 : err_nomem(err);
}

/* ---- A tar ---- */

/* What lies below, as one tree. */
static int lower_mount(struct ctx *ctx, const struct mounts *all, struct temp_mount *ret,
		       struct err *err)
{
	struct mounts m = {.v = arena_new_array(ctx->arena, struct mount, all->n + 1)};
	const char *option;

	if (!m.v)
		return err_nomem(err);
	for (size_t i = 0; i + 1 < all->n; i++)
		if (streq(all->v[i].type, "erofs"))
			m.v[m.n++] = all->v[i];
	if (m.n == 0)
		return 0;
	option = arena_printf(ctx->arena, "lowerdir={{ overlay 0 %zu }}", m.n - 1);
	if (!option)
		return err_nomem(err);
	if (m.n > 1) {
		m.v[m.n++] = (struct mount){.type = "format/overlay",
					    .source = "overlay",
					    .target = "",
					    .options = &option,
					    .n_options = 1};
	}
	return temp_mount(ctx, &m, ret, err);
}

static int unpack(struct ctx *ctx, const struct apply_request *q, int input, const char *tree,
		  struct pack_result *ret, struct err *err)
{
	struct temp_mount lower = TEMP_MOUNT_INIT;
	_cleanup_close_ int target = dir_open(tree, err);
	struct unpack_request u = {.input_fd = input,
				   .media_type = q->desc->media_type,
				   .target_fd = target,
				   .alone = q->alone,
				   .whiteouts = UNPACK_OVERLAY};
	struct unpack_result res;
	int r = target < 0 ? target : lower_mount(ctx, q->mounts, &lower, err);

	if (lower.fd >= 0) {
		u.lower_fds = &lower.fd;
		u.n_lowers = 1;
	} else if (!q->alone) {
		u.whiteouts = UNPACK_PLAIN;
	}
	if (r == 0)
		r = worker_unpack(ctx, &u, &res, err);
	temp_mount_done(&lower);
	if (r == 0)
		*ret = (struct pack_result){.diff_id = res.diff_id, .size = res.size};
	return r;
}

static int apply_tar(struct ctx *ctx, const struct erofs_differ *d, const struct apply_request *q,
		     int input, const char *dir, struct descriptor *ret, struct err *err)
{
	struct erofs_request make = {
		.dir = dir, .options = d->o.mkfs_options, .uuid_of = q->desc->digest};
	struct pack_result res;
	char *digest;
	int r;

	if (d->o.tar_index) {
		r = erofs_make_index(ctx, &make, input, &res, err);
	} else {
		make.tree = path_join(ctx->arena, dir, "fs");
		r = make.tree ? unpack(ctx, q, input, make.tree, &res, err) : err_nomem(err);
		if (r == 0)
			r = erofs_make(ctx, &make, err);
	}
	if (r < 0)
		return r;
	digest = arena_strdup(ctx->arena, res.diff_id.text);
	if (!digest)
		return err_nomem(err);
	*ret = (struct descriptor){
		.media_type = MEDIA_TYPE_TAR, .digest = digest, .size = res.size};
	return 0;
}

/* ---- The back end ---- */

static int apply(struct ctx *ctx, struct differ *base, const struct apply_request *q,
		 struct descriptor *ret, struct err *err)
{
	struct erofs_differ *d = (struct erofs_differ *)base;
	bool zstd, image = erofs_media_type(q->desc->media_type, &zstd);
	_cleanup_close_ int blob = -1;
	const char *dir;
	int64_t size;
	int r;

	if (!image && !walking_supports(q->desc->media_type))
		return err_set(err, ERR_UNIMPLEMENTED, "unsupported media type: %s",
			       q->desc->media_type);
	r = layer_dir(ctx->arena, q->mounts, &dir, err);
	if (r == 0 && q->fd < 0)
		r = content_open(ctx, d->db, q->desc->digest, &blob, &size, err);
	if (r < 0)
		return r;
	r = q->fd >= 0 ? q->fd : blob;
	r = image ? apply_image(ctx, q, r, zstd, dir, ret, err)
		  : apply_tar(ctx, d, q, r, dir, ret, err);
	if (r == 0 && q->sync_fs) {
		_cleanup_close_ int fd = dir_open(dir, err);

		if (fd < 0 || syncfs(fd) < 0)
			return err_errno(err, errno, "sync the file system of the layer");
	}
	return r;
}

/* What is written has a tree like any other. */
static int diff(struct ctx *ctx, struct differ *d, const struct mounts *lower,
		const struct mounts *upper, const struct walking_diff_options *o,
		struct descriptor *ret, struct err *err)
{
	return walking_diff(ctx, ((struct erofs_differ *)d)->db, lower, upper, o, ret, err);
}

static void erofs_differ_free(struct differ *d)
{
	free(d);
}

static const struct differ_ops erofs_ops = {
	.apply = apply, .diff = diff, .free = erofs_differ_free};

int erofs_differ_new(struct db *db, const struct erofs_differ_options *o, struct differ **ret,
		     struct err *err)
{
	struct erofs_differ *d = malloc(sizeof(*d));

	if (!d)
		return err_nomem(err);
	*d = (struct erofs_differ){
		.base = {.ops = &erofs_ops, .name = "erofs", .streams = true}, .db = db, .o = *o};
	*ret = &d->base;
	return 0;
}
