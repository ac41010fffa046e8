/* SPDX-License-Identifier: Apache-2.0 */
/* Diff: both sides are mounted privately and read-only, a worker compares them, and what it makes
 * goes into the content store.
 *
 * An overlay is never mounted with its upper directory, since a container may have it mounted so:
 * that directory becomes the topmost of the lower ones.
 *
 * An overlay of the other side's directories and one more can only differ where that one has a
 * name: renamed directories and shared inodes, which overlayfs can have elsewhere, need options
 * that are looked for. Then the worker gets this directory to be guided by, and does not walk what
 * the layers below have.
 */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"
#include "core/content.h"
#include "core/worker.h"
#include "plugins/differ/temp_mount.h"
#include "plugins/differ/walking.h"
#include "plugins/mounts/transform.h"

#define LAYER "application/vnd.oci.image.layer.v1.tar"
#define LABEL_UNCOMPRESSED "containerd.io/uncompressed"
#define PARAMETERS "/sys/module/overlay/parameters/"

static int compression_of(const char *media_type, enum pack_compression *ret, struct err *err)
{
	if (streq(media_type, LAYER))
		*ret = PACK_NONE;
	else if (streq(media_type, LAYER "+gzip"))
		*ret = PACK_GZIP;
	else if (streq(media_type, LAYER "+zstd"))
		*ret = PACK_ZSTD;
	else
		return err_set(err, ERR_UNIMPLEMENTED, "unsupported diff media type: %s",
			       media_type);
	return 0;
}

/* ---- Mounting read-only ---- */

static bool is_overlay(const struct mount *m)
{
	return streq(m->type, "overlay") && str_empty(m->target);
}

/* As an element of lowerdir=. */
static char *lower_escape(struct arena *a, const char *dir)
{
	char *out = arena_alloc(a, 2 * strlen(dir) + 1), *p = out;

	for (; out && *dir; dir++) {
		if (*dir == ':')
			*p++ = '\\';
		*p++ = *dir;
		/* What is escaped already stays so. */
		if (*dir == '\\' && dir[1])
			*p++ = *++dir;
	}
	if (out)
		*p = 0;
	return out;
}

/* Its directories as a lowerdir= without an upper one; NULL = no memory. */
static const char *overlay_dirs(struct arena *a, const struct mount *m)
{
	const char *upper = mount_option_value(m, "upperdir=");
	const char *lower = mount_option_value(m, "lowerdir=");
	char *top;

	if (!upper)
		return str_or(lower, "");
	top = lower_escape(a, upper);
	if (!top || str_empty(lower))
		return top;
	return arena_printf(a, "%s:%s", top, lower);
}

static int overlay_readonly(struct arena *a, struct mount *m, struct err *err)
{
	const char *dirs = overlay_dirs(a, m);
	const char **v = arena_new_array(a, const char *, m->n_options + 2);
	char *lowerdir = dirs ? arena_printf(a, "lowerdir=%s", dirs) : NULL;
	size_t n = 0;

	if (!v || !lowerdir)
		return err_nomem(err);
	for (size_t i = 0; i < m->n_options; i++)
		if (!str_has_prefix(m->options[i], "upperdir=") &&
		    !str_has_prefix(m->options[i], "workdir=") &&
		    !str_has_prefix(m->options[i], "lowerdir="))
			v[n++] = m->options[i];
	v[n++] = lowerdir;
	m->options = v;
	m->n_options = n;
	return 0;
}

static int other_readonly(struct arena *a, struct mount *m, struct err *err)
{
	const char **v = arena_new_array(a, const char *, m->n_options + 2);
	size_t n = 0;

	if (!v)
		return err_nomem(err);
	for (size_t i = 0; i < m->n_options; i++)
		if (!streq(m->options[i], "rw") && !streq(m->options[i], "ro"))
			v[n++] = m->options[i];
	v[n++] = "ro";
	/* Its journal is for who writes. */
	if (str_has_prefix(m->type, "mkfs/ext"))
		v[n++] = "noload";
	m->options = v;
	m->n_options = n;
	return 0;
}

static int mount_readonly(struct arena *a, struct mount *m, struct err *err)
{
	const char *upper = mount_option_value(m, "upperdir=");

	if (!streq(mount_plain_type(m->type), "overlay"))
		return other_readonly(a, m, err);
	if (!upper || mount_option_value(m, "lowerdir="))
		return overlay_readonly(a, m, err);
	/* An overlay needs two directories. This one is a snapshot that has no parent yet. */
	m->type = "bind";
	m->source = upper;
	m->options = NULL;
	m->n_options = 0;
	return other_readonly(a, m, err);
}

static int side_mount(struct ctx *ctx, const struct mounts *mounts, struct temp_mount *ret,
		      struct err *err)
{
	struct mounts m = {.v = arena_new_array(ctx->arena, struct mount, mounts->n + 1),
			   .n = mounts->n};

	if (!m.v)
		return err_nomem(err);
	for (size_t i = 0; i < m.n; i++) {
		int r;

		m.v[i] = mounts->v[i];
		r = mount_readonly(ctx->arena, &m.v[i], err);
		if (r < 0)
			return r;
	}
	return temp_mount(ctx, &m, ret, err);
}

/* ---- What may differ ---- */

/* True when the overlay is known to be made without the feature @name. */
static bool overlay_without(struct arena *a, const struct mount *m, const char *name)
{
	const char *prefix = arena_printf(a, "%s=", name);
	const char *path = arena_printf(a, PARAMETERS "%s", name), *value;
	size_t len;
	char *text;

	if (!prefix || !path)
		return false;
	value = mount_option_value(m, prefix);
	if (!value && file_read(a, AT_FDCWD, path, 64, &text, &len) >= 0)
		value = text;
	return value && (str_has_prefix(value, "off") || str_has_prefix(value, "N"));
}

/* The directory that @upper has above all of @lower's, -1 when that is not how they are. */
static int changed_open(struct ctx *ctx, const struct mounts *lower, const struct mounts *upper)
{
	const struct mount *u = upper->v, *l = lower->v;
	const char *below, *all, *colon;

	if (upper->n != 1 || lower->n != 1 || !is_overlay(u) || !str_empty(l->target) ||
	    mount_option_value(u, "uidmap=") || mount_option_value(l, "uidmap=") ||
	    !overlay_without(ctx->arena, u, "redirect_dir") ||
	    !overlay_without(ctx->arena, u, "index"))
		return -1;
	all = overlay_dirs(ctx->arena, u);
	below = is_overlay(l)		 ? overlay_dirs(ctx->arena, l)
		: streq(l->type, "bind") ? l->source
					 : "";
	/* With escapes the first colon might be none. */
	if (!all || str_empty(below) || strchr(all, '\\'))
		return -1;
	colon = strchr(all, ':');
	if (!colon || !streq(colon + 1, below))
		return -1;
	all = arena_strndup(ctx->arena, all, (size_t)(colon - all));
	return all ? open(all, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
}

/* ---- Making the layer ---- */

struct diff {
	struct ctx *ctx;
	struct db *db;
	const struct walking_diff_options *o;
	const char *media_type;
	enum pack_compression compression;
	struct temp_mount lower, upper;
	int changed_fd;
	struct content_writer *w;
	int64_t size;
};

static void diff_done(struct diff *d)
{
	content_writer_close(d->w);
	fd_closep(&d->changed_fd);
	temp_mount_done(&d->lower);
	temp_mount_done(&d->upper);
}

static int mount_sides(struct diff *d, const struct mounts *lower, const struct mounts *upper,
		       struct err *err)
{
	int r = 0;

	if (upper->n == 0)
		return err_set(err, ERR_INVALID_ARGUMENT, "no mounts to make a layer of");
	if (lower->n > 0)
		r = side_mount(d->ctx, lower, &d->lower, err);
	if (r < 0)
		return err ? err_prefix(err, "failed to mount the lower side") : r;
	r = side_mount(d->ctx, upper, &d->upper, err);
	if (r < 0)
		return err ? err_prefix(err, "failed to mount the upper side") : r;
	d->changed_fd = changed_open(d->ctx, lower, upper);
	return 0;
}

static int write_piece(void *arg, const void *p, size_t n, struct err *err)
{
	struct diff *d = arg;

	d->size += (int64_t)n;
	return content_writer_write(d->w, p, n, err);
}

/* There already: it gets the labels all the same. */
static int label_existing(struct diff *d, const char *digest, const struct labels *l,
			  struct err *err)
{
	struct content_info info = {.digest = digest, .labels = *l};
	char **paths = arena_new_array(d->ctx->arena, char *, l->n + 1);

	if (!paths)
		return err_nomem(err);
	for (size_t i = 0; i < l->n; i++) {
		paths[i] = arena_printf(d->ctx->arena, "labels.%s", l->v[i].key);
		if (!paths[i])
			return err_nomem(err);
	}
	return content_update(d->ctx, d->db, &info, paths, l->n, &info, err);
}

static int commit(struct diff *d, const struct digest *diff_id, struct descriptor *ret,
		  struct err *err)
{
	struct err why = ERR_INIT;
	struct digest digest;
	struct labels l = {0};
	char *text;
	int r = content_writer_digest(d->w, &digest, err);

	if (r < 0)
		return r;
	text = arena_strdup(d->ctx->arena, digest.text);
	if (!text || labels_copy(d->ctx->arena, &l, &d->o->labels) < 0 ||
	    labels_set(d->ctx->arena, &l, LABEL_UNCOMPRESSED, diff_id->text) < 0)
		return err_nomem(err);
	r = content_writer_commit(d->ctx, d->w, d->size, text, &l, &digest, &why);
	if (r == -ERR_ALREADY_EXISTS)
		r = label_existing(d, text, &l, err);
	else if (r < 0)
		return err_copy(err, &why);
	if (r < 0)
		return r;
	*ret = (struct descriptor){
		.media_type = d->media_type,
		.digest = text,
		.size = d->size,
	};
	return 0;
}

static int make(struct diff *d, struct descriptor *ret, struct err *err)
{
	const struct pack_request q = {
		.lower_fd = d->lower.fd,
		.upper_fd = d->upper.fd,
		.changed_fd = d->changed_fd,
		.compression = d->compression,
		.epoch = d->o->epoch,
		.write = write_piece,
		.arg = d,
	};
	struct pack_result result;
	int r = 0;

	/* Somebody's ingest may have data. */
	if (!str_empty(d->o->ref))
		r = content_writer_truncate(d->w, err);
	if (r == 0)
		r = worker_pack(d->ctx, &q, &result, err);
	return r < 0 ? r : commit(d, &result.diff_id, ret, err);
}

static const char *unique_ref(struct arena *a)
{
	struct timespec now = time_now();
	unsigned char bytes[4];
	char hex[2 * sizeof(bytes) + 1];

	random_bytes(bytes, sizeof(bytes));
	hex_encode(bytes, sizeof(bytes), hex);
	return arena_printf(a, "uncompressed-%lld%09ld-%s", (long long)now.tv_sec, now.tv_nsec,
			    hex);
}

/* The request may be over, which must not keep this from ending. */
static void forget_ingest(struct diff *d, const char *ref)
{
	struct ctx ctx = {.arena = d->ctx->arena, .ns = d->ctx->ns, .lease = d->ctx->lease};

	content_writer_close(d->w);
	d->w = NULL;
	(void)!content_abort(&ctx, d->db, ref, NULL);
}

int walking_diff(struct ctx *ctx, struct db *db, const struct mounts *lower,
		 const struct mounts *upper, const struct walking_diff_options *o,
		 struct descriptor *ret, struct err *err)
{
	_cleanup_(diff_done) struct diff d = {
		.ctx = ctx,
		.db = db,
		.o = o,
		.media_type = str_or(o->media_type, LAYER "+gzip"),
		.lower = TEMP_MOUNT_INIT,
		.upper = TEMP_MOUNT_INIT,
		.changed_fd = -1,
	};
	const char *ref = str_empty(o->ref) ? unique_ref(ctx->arena) : o->ref;
	int r = compression_of(d.media_type, &d.compression, err);

	if (r == 0 && !ref)
		r = err_nomem(err);
	if (r == 0)
		r = mount_sides(&d, lower, upper, err);
	if (r < 0)
		return r;
	r = content_writer_open(ctx, db, ref, 0, "", &d.w, err);
	if (r < 0)
		return err ? err_prefix(err, "failed to open writer") : r;
	r = make(&d, ret, err);
	if (r < 0 && str_empty(o->ref))
		forget_ingest(&d, ref);
	return r;
}
