/* SPDX-License-Identifier: Apache-2.0 */
/* A layer of an archive as a compressed blob. */
#include <unistd.h>

#include "base/str.h"
#include "core/worker.h"
#include "plugins/transfer/internal.h"

static int take(void *arg, const void *p, size_t n, struct err *err)
{
	return content_writer_write(arg, p, n, err);
}

/* What an earlier import left is written anew. */
static int writer_fill(struct ctx *ctx, struct content_writer *w, int fd, const char *diff_id,
		       struct err *err)
{
	struct recompress_request q = {
		.input_fd = fd, .compression = PACK_GZIP, .write = take, .arg = w};
	struct content_status st;
	struct pack_result res;
	int r = content_writer_status(w, &st, err);

	if (r == 0 && st.offset > 0)
		r = content_writer_truncate(w, err);
	if (r == 0)
		r = worker_recompress(ctx, &q, &res, err);
	if (r == 0 && !streq(res.diff_id.text, diff_id))
		return err_set(err, ERR_DATA_LOSS, "layer %s was read with the digest %s", diff_id,
			       res.diff_id.text);
	return r;
}

static int writer_commit(struct ctx *ctx, struct db *db, struct content_writer *w,
			 const char *diff_id, struct digest *ret, int64_t *ret_size,
			 struct err *err)
{
	static const char label[] = "containerd.io/uncompressed";
	struct content_status st;
	struct labels labels = {0};
	struct digest committed;
	int r = content_writer_status(w, &st, err);

	if (r == 0)
		r = content_writer_digest(w, ret, err);
	if (r < 0)
		return r;
	if (labels_set(ctx->arena, &labels, label, diff_id) < 0)
		return err_nomem(err);
	*ret_size = st.offset;
	r = content_writer_commit(ctx, w, st.offset, "", &labels, &committed, err);
	return r == -ERR_ALREADY_EXISTS ? content_label(ctx, db, ret->text, label, diff_id, err)
					: r;
}

int layer_compress(struct ctx *ctx, struct db *db, int fd, struct descriptor *d, struct err *err)
{
	const char *key = arena_printf(ctx->arena, "import-compress-%s", d->digest);
	struct content_writer *w;
	struct digest digest;
	int64_t size;
	int r;

	if (!key)
		return err_nomem(err);
	if (lseek(fd, 0, SEEK_SET) < 0)
		return err_errno(err, errno, "layer %s", d->digest);
	r = content_writer_open(ctx, db, key, 0, "", &w, err);
	if (r < 0)
		return r;
	r = writer_fill(ctx, w, fd, d->digest, err);
	if (r == 0)
		r = writer_commit(ctx, db, w, d->digest, &digest, &size, err);
	if (r < 0) /* before the reference is given up: who waits for it begins anew */
		(void)!content_abort(ctx, db, key, NULL);
	content_writer_close(w);
	if (r < 0)
		return r;
	*d = (struct descriptor){.media_type = MEDIA_DOCKER_LAYER ".gzip",
				 .digest = arena_strdup(ctx->arena, digest.text),
				 .size = size};
	return d->digest ? 0 : err_nomem(err);
}
