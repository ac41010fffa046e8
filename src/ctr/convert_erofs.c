/* SPDX-License-Identifier: Apache-2.0 */
/* What reads the layer is containerd-worker, and what makes the image mkfs.erofs, both as confined
 * as for the daemon. In $TMPDIR, else /var/tmp: layers may be larger than memory. */
#include "ctr/convert_erofs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/path.h"
#include "base/str.h"
#include "core/erofs.h"
#include "ctr/recompress.h"
#include "oci/manifest.h"

#define UNCOMPRESSED_LABEL "containerd.io/uncompressed"
#define CHUNK (1u << 20)

struct conversion {
	struct ctr *c;
	const struct convert_options *o;
	const struct descriptor *d;
	struct erofs_trees *trees;
	char *dir, *fs, *image;
	struct digest diff_id; /* of the tar, then of the image */
	struct client_writer *w;
};

/* The tree stays for the layers above. */
static void conversion_done(struct conversion *x)
{
	client_writer_free(x->w);
	if (x->image)
		(void)unlink(x->image);
}

void erofs_trees_done(struct erofs_trees *t)
{
	while (t->n)
		close(t->fds[--t->n]);
	scratch_done(&t->scratch);
}

bool convert_erofs_takes(const char *media_type)
{
	const char *plain = str_or(convert_uncompressed_type(media_type), media_type);

	return streq(plain, MEDIA_OCI_LAYER) || streq(plain, MEDIA_DOCKER_LAYER);
}

static int trees_begin(struct ctr *c, struct erofs_trees *t, struct err *err)
{
	const char *template = arena_printf(c->ctx.arena, "%s/ctr-erofs-XXXXXX",
					    str_or(getenv("TMPDIR"), "/var/tmp"));

	return template ? scratch_make(template, &t->scratch, err) : err_nomem(err);
}

static int make_dir(struct conversion *x, struct err *err)
{
	struct arena *a = x->c->ctx.arena;

	x->dir = arena_printf(a, "%s/%zu", x->trees->scratch.path, x->trees->made++);
	x->fs = x->dir ? path_join(a, x->dir, "fs") : NULL;
	x->image = x->dir ? path_join(a, x->dir, EROFS_LAYER) : NULL;
	if (!x->fs || !x->image)
		return err_nomem(err);
	if (mkdir(x->dir, 0755) < 0 || mkdir(x->fs, 0755) < 0 || chmod(x->fs, 0755) < 0)
		return err_errno(err, errno, "make `%s`", x->fs);
	return 0;
}

static int unpack(void *arg, int input, struct err *err)
{
	struct conversion *x = arg;
	struct erofs_trees *t = x->trees;
	int fd _cleanup_close_ = open(x->fs, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int lowers[ARRAY_LEN(t->fds)];
	struct unpack_request q = {.input_fd = input,
				   .media_type = x->d->media_type,
				   .target_fd = fd,
				   .lower_fds = lowers,
				   .n_lowers = t->n,
				   .whiteouts = UNPACK_OVERLAY};
	struct unpack_result res;
	int r;

	for (size_t i = 0; i < t->n; i++)
		lowers[i] = t->fds[t->n - 1 - i];
	r = fd < 0 ? err_errno(err, errno, "open `%s`", x->fs)
		   : worker_unpack(&x->c->ctx, &q, &res, err);
	if (r < 0)
		return r;
	x->diff_id = res.diff_id;
	if (t->n == ARRAY_LEN(t->fds)) { /* those that matter least are left out */
		close(t->fds[0]);
		memmove(&t->fds[0], &t->fds[1], --t->n * sizeof(*t->fds));
	}
	t->fds[t->n++] = TAKE_FD(fd);
	return 0;
}

static int make_image(struct conversion *x, struct err *err)
{
	const char *v[40] = {NULL};
	size_t n = 0;
	const struct erofs_request q = {
		.dir = x->dir, .options = v, .uuid_of = x->diff_id.text, .tree = x->fs};

	if (!str_empty(x->o->erofs_compressors)) {
		v[n++] = arena_printf(x->c->ctx.arena, "-z%s", x->o->erofs_compressors);
		v[n++] = "-C65536";
		if (!v[0])
			return err_nomem(err);
	}
	for (size_t i = 0; i < x->o->n_erofs_options && n + 1 < ARRAY_LEN(v); i++)
		v[n++] = x->o->erofs_options[i];
	return erofs_make(&x->c->ctx, &q, err);
}

/* ---- Into the content store ---- */

static int take(void *arg, const void *p, size_t n, struct err *err)
{
	return client_writer_write(arg, p, n, err);
}

static int write_plain(struct conversion *x, int fd, struct err *err)
{
	struct hasher *h _cleanup_(hasher_freep) = hasher_new(DIGEST_SHA256);
	char *chunk _cleanup_free_ = malloc(CHUNK);
	ssize_t n;

	if (!h || !chunk)
		return err_nomem(err);
	while ((n = read(fd, chunk, CHUNK)) > 0) {
		int r = client_writer_write(x->w, chunk, (size_t)n, err);

		if (r < 0)
			return r;
		hasher_update(h, chunk, (size_t)n);
	}
	if (n < 0)
		return err_errno(err, errno, "read `%s`", x->image);
	hasher_digest(h, &x->diff_id);
	return 0;
}

static int write_image(struct conversion *x, struct err *err)
{
	int fd _cleanup_close_ = open(x->image, O_RDONLY | O_CLOEXEC);
	struct recompress_request q = {
		.input_fd = fd, .compression = PACK_ZSTD, .write = take, .arg = x->w};
	struct pack_result res;
	int r;

	if (fd < 0)
		return err_errno(err, errno, "open `%s`", x->image);
	if (!x->o->erofs_zstd)
		return write_plain(x, fd, err);
	r = worker_recompress(&x->c->ctx, &q, &res, err);
	if (r == 0)
		x->diff_id = res.diff_id;
	return r;
}

static int store(struct conversion *x, struct labels *labels, struct digest *ret, int64_t *ret_size,
		 struct err *err)
{
	const char *ref = arena_printf(x->c->ctx.arena, "convert-erofs-from-%s", x->d->digest);
	struct err unused = ERR_INIT;
	int r;

	if (!ref)
		return err_nomem(err);
	r = client_writer_open(x->c->client, &x->c->ctx, ref, &x->w, err);
	if (r < 0)
		return r;
	r = write_image(x, err);
	if (r == 0 && labels_set(x->c->ctx.arena, labels, UNCOMPRESSED_LABEL, x->diff_id.text) < 0)
		r = err_nomem(err);
	if (r == 0)
		r = client_writer_commit(x->w, labels, ret, ret_size, err);
	if (r < 0) {
		client_writer_free(TAKE_PTR(x->w));
		(void)!client_content_abort(x->c->client, &x->c->ctx, ref, &unused);
	}
	return r;
}

int convert_erofs_layer(struct ctr *c, const struct convert_options *o, struct erofs_trees *trees,
			const struct descriptor *d, struct labels *labels, struct digest *ret,
			int64_t *ret_size, struct digest *ret_diff_id, struct err *err)
{
	struct conversion x _cleanup_(conversion_done) = {.c = c, .o = o, .d = d, .trees = trees};
	int r = 0;

	if (geteuid() != 0)
		return err_set(err, ERR_PERMISSION_DENIED,
			       "layers become EROFS images by root only");
	if (!trees->scratch.path)
		r = trees_begin(c, trees, err);
	if (r == 0)
		r = make_dir(&x, err);
	if (r == 0)
		r = blob_feed(c, d, unpack, &x, err);
	if (r == 0)
		r = make_image(&x, err);
	if (r == 0)
		r = store(&x, labels, ret, ret_size, err);
	if (r == 0)
		*ret_diff_id = x.diff_id;
	return r < 0 ? err_prefix(err, "layer %s", d->digest) : 0;
}
