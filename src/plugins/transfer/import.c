/* SPDX-License-Identifier: Apache-2.0 */
/* Import: images out of a tar of an OCI image layout or a docker archive.
 *
 * A worker unpacks the archive into a private directory, as it would a layer; here only its JSON is
 * read, and files become blobs after their digest has been checked. A path that an archive names is
 * looked up below that directory only. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/path.h"
#include "base/str.h"
#include "core/lease.h"
#include "oci/platform.h"
#include "oci/reference.h"
#include "plugins/transfer/internal.h"

#define CHUNK (1u << 20)
#define DEPTH_MAX 8
#define IMAGES_MAX 1024

struct importer {
	struct ctx *ctx;
	struct transfer *t;
	const struct transfer_store *to;
	struct reporter rep;
	int dir;	      /* what was unpacked */
	pthread_mutex_t lock; /* of the layers: they are all there, but unpack wants them so */
	pthread_cond_t changed;
	size_t stored;
	const struct manifest *layout; /* index.json; NULL = it has none */
	bool single;		       /* the archive holds one image */
	bool compress;		       /* the plain layers of a docker archive */
};

/* ---- files into blobs ---- */

static int file_open(struct importer *x, const char *path, int64_t *ret_size, struct err *err)
{
	struct stat st;
	int fd = path_open_in_root(x->dir, path, O_RDONLY | O_NOCTTY | O_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(err, fd, "archive: open %.200s", path);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return err_set(err, ERR_INVALID_ARGUMENT, "archive: %.200s is not a regular file",
			       path);
	}
	*ret_size = st.st_size;
	return fd;
}

static int file_text(struct importer *x, const char *path, char **ret, size_t *ret_n,
		     struct err *err)
{
	int64_t size;
	_cleanup_close_ int fd = file_open(x, path, &size, err);
	if (fd < 0)
		return fd;
	int r = fd_read_all(x->ctx->arena, fd, MANIFEST_MAX, ret, ret_n);
	return r < 0 ? err_errno(err, r, "archive: read %.200s", path) : 0;
}

static int writer_feed(struct importer *x, struct content_writer *w, int fd, const char *path,
		       struct err *err)
{
	struct content_status st;
	int r = content_writer_status(w, &st, err);
	/* What an earlier import left is written anew; what another namespace has needs no data. */
	if (r < 0 || (st.expected && *st.expected))
		return r;
	if (st.offset > 0)
		r = content_writer_truncate(w, err);
	_cleanup_free_ char *chunk = malloc(CHUNK);
	if (!chunk)
		return err_nomem(err);
	for (int64_t off = 0; r == 0;) {
		ssize_t n = fd_pread_full(fd, chunk, CHUNK, off);
		if (n < 0)
			return err_errno(err, (int)n, "archive: read %.200s", path);
		if (n == 0)
			break;
		r = ctx_check(x->ctx, err);
		if (r == 0)
			r = content_writer_write(w, chunk, (size_t)n, err);
		off += n;
	}
	return r;
}

/* The file at @path as blob @d; -ERR_NOT_FOUND when the archive has it not. */
static int blob_import(struct importer *x, const char *path, const struct descriptor *d,
		       const struct labels *labels, struct err *err)
{
	int64_t size;
	struct digest got;
	struct content_writer *w;
	const char *key = descriptor_ref_key(x->ctx->arena, d);
	_cleanup_close_ int fd = file_open(x, path, &size, err);
	if (fd < 0)
		return fd;
	if (!key || !(key = arena_printf(x->ctx->arena, "import-%s", key)))
		return err_nomem(err);
	int r = content_writer_open(x->ctx, x->t->o.db, key, d->size, d->digest, &w, err);
	if (r == 0) {
		r = writer_feed(x, w, fd, path, err);
		if (r == 0)
			r = content_writer_commit(x->ctx, w, d->size, d->digest, labels, &got, err);
		/* Before the reference is given up: who waits for it begins anew. */
		if (r < 0 && r != -ERR_ALREADY_EXISTS)
			(void)!content_abort(x->ctx, x->t->o.db, key, NULL);
		content_writer_close(w);
	}
	if (r == -ERR_ALREADY_EXISTS) {
		r = 0;
		for (size_t i = 0; r == 0 && i < labels->n; i++)
			r = content_label(x->ctx, x->t->o.db, d->digest, labels->v[i].key,
					  labels->v[i].value, err);
	}
	return r < 0 ? err_prefix(err, "archive: %.200s", path) : 0;
}

static char *blob_path(struct arena *a, const char *digest)
{
	return arena_printf(a, "blobs/%s/%s", digest_alg_name(digest_alg(digest)),
			    digest_hex(digest));
}

/* ---- unpacking ---- */

static int unpack_manifest(struct importer *x, const struct manifest *m,
			   const struct image_config *c, const char *snapshotter, struct err *err)
{
	struct arena *a = x->ctx->arena;
	if (c->n_diff_ids != m->n_layers)
		return err_set(
			err, ERR_INVALID_ARGUMENT,
			"mismatched image rootfs and manifest layers: %zu diff ids, %zu layers",
			c->n_diff_ids, m->n_layers);
	struct unpack u = {.ctx = x->ctx,
			   .t = x->t,
			   .rep = &x->rep,
			   .snapshotter = snapshotter,
			   .sync_fs = x->to->sync_fs || x->t->o.sync_fs,
			   .no_decryption = x->to->no_decryption,
			   .config_digest = m->config.digest,
			   .diff_ids = c->diff_ids,
			   .layers = arena_new_array(a, struct layer *, m->n_layers + 1),
			   .n = m->n_layers,
			   .image = x->to->name};
	struct layer *l = arena_new_array(a, struct layer, m->n_layers + 1);
	if (!u.layers || !l)
		return err_nomem(err);
	for (size_t i = 0; i < u.n; i++) {
		l[i] = (struct layer){.desc = m->layers[i],
				      .name = descriptor_ref_key(a, &m->layers[i]),
				      .lock = &x->lock,
				      .changed = &x->changed,
				      .state = LAYER_DONE,
				      .fd = -1};
		if (!l[i].name)
			return err_nomem(err);
		u.layers[i] = &l[i];
	}
	int r = unpack_probe(&u, err);
	if (r == 0)
		r = unpack_image(&u, err);
	unpack_done(&u);
	return r;
}

/* Into each snapshotter that was asked for this platform. */
static int unpack_wanted(struct importer *x, const struct manifest *m, const struct platform *p,
			 struct err *err)
{
	struct image_config c;
	char *text;
	size_t n;
	if (!x->to->n_unpacks || !media_is_config(m->config.media_type))
		return 0;
	int r = content_read(x->ctx, x->t->o.db, m->config.digest, MANIFEST_MAX, &text, &n, err);
	if (r == 0)
		r = image_config_parse(x->ctx->arena, text, n, &c, err);
	for (size_t i = 0; r == 0 && i < x->to->n_unpacks; i++) {
		const struct transfer_unpack *u = &x->to->unpacks[i];
		const struct transfer_unpack_rule *rule;
		const char *snapshotter;
		if (platforms_rank(&u->platform, 1, p ? p : &c.platform) < 0)
			continue;
		r = unpack_rule(x->t, u, &rule, &snapshotter, err);
		if (r == 0 && unpack_rule_covers(rule, m))
			r = unpack_manifest(x, m, &c, snapshotter, err);
	}
	return r;
}

/* ---- OCI layout ---- */

static int tree_import(struct importer *x, const struct descriptor *d, const struct platform *p,
		       int depth, struct err *err);

static int image_import(struct importer *x, const struct manifest *m, struct err *err)
{
	struct labels none = {0};
	struct arena *a = x->ctx->arena;
	int r = blob_import(x, blob_path(a, m->config.digest), &m->config, &none, err);
	for (size_t i = 0; r == 0 && i < m->n_layers; i++) {
		struct err missing = ERR_INIT;
		r = blob_import(x, blob_path(a, m->layers[i].digest), &m->layers[i], &none,
				&missing);
		/* A foreign layer may be left out of an archive. */
		if (r == -ERR_NOT_FOUND && strstr(m->layers[i].media_type, "foreign"))
			r = 0;
		else if (r < 0)
			err_copy(err, &missing);
	}
	return r;
}

static int index_import(struct importer *x, const struct manifest *m, int depth, struct err *err)
{
	for (size_t i = 0; i < m->n_manifests; i++) {
		const struct manifest_child *c = &m->manifests[i];
		struct err missing = ERR_INIT;
		bool wanted =
			!x->to->n_platforms || !c->has_platform ||
			platforms_rank(x->to->platforms, x->to->n_platforms, &c->platform) >= 0;
		if (!wanted)
			continue;
		int r = tree_import(x, &c->desc, c->has_platform ? &c->platform : NULL, depth + 1,
				    &missing);
		/* An index may name more than the archive holds: what was not pulled is not
		 * exported. */
		if (r < 0 && r != -ERR_NOT_FOUND)
			return err_copy(err, &missing);
	}
	return 0;
}

/* What the layout says refers to @digest is kept as long as that. */
static int referrers_label(struct importer *x, const char *digest, struct labels *labels)
{
	int r = 0;
	for (size_t i = 0; r == 0 && x->layout && i < x->layout->n_manifests; i++) {
		const struct descriptor *d = &x->layout->manifests[i].desc;
		const char *subject = labels_get(&d->annotations, ANNOTATION_SUBJECT);
		if (subject && streq(subject, digest) && !streq(d->digest, digest))
			r = referrer_gc_label(x->ctx->arena, d->digest, labels);
	}
	return r;
}

static int tree_import(struct importer *x, const struct descriptor *d, const struct platform *p,
		       int depth, struct err *err)
{
	struct manifest m;
	struct labels labels = {0};
	char *text, *path = blob_path(x->ctx->arena, d->digest);
	size_t n;
	if (depth > DEPTH_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "index %s: too many indexes in one another", d->digest);
	if (!path)
		return err_nomem(err);
	int r = file_text(x, path, &text, &n, err);
	if (r == 0)
		r = manifest_parse(x->ctx->arena, d->media_type, text, n, &m, err);
	if (r < 0)
		return err_prefix(err, "import %s", d->digest);
	r = m.is_index ? index_import(x, &m, depth, err) : image_import(x, &m, err);
	if (r == 0 && (manifest_gc_labels(x->ctx->arena, &m, &labels) < 0 ||
		       referrers_label(x, d->digest, &labels) < 0))
		r = err_nomem(err);
	if (r == 0)
		r = blob_import(x, path, d, &labels, err);
	return r == 0 && !m.is_index ? unpack_wanted(x, &m, p, err) : r;
}

/* ---- names ---- */

static int store_as(struct importer *x, const char *name, const struct descriptor *d,
		    struct err *err)
{
	int r = store_image(x->ctx, x->t, name, d, &x->to->labels, &x->rep, err);
	x->stored += r == 0;
	return r;
}

/* @name of the archive by the rules of extra_references: a prefix makes names of mere tags; digests
 * are added where wished, but to what refers to another manifest: that is no image of its own. */
static int store_by_reference(struct importer *x, const struct transfer_reference *ref,
			      const char *name, const struct descriptor *d, bool referrer,
			      struct err *err)
{
	struct arena *a = x->ctx->arena;
	bool named = !str_empty(name);
	if (!ref->is_prefix)
		return store_as(x, ref->name, d, err);
	if (named &&
	    strchr(name,
		   '/')) { /* a full name: it must lie below the prefix, unless it may replace it */
		const char *rest = str_skip(name, ref->name);
		if (ref->allow_overwrite || str_empty(ref->name) ||
		    (rest && (*rest == ':' || *rest == '/' || *rest == '@'))) {
			int r = store_as(x, name, d, err);
			if (r < 0)
				return r;
		}
	} else if (named) {
		char *full = arena_printf(a, "%s:%s", ref->name, name);
		int r = full ? store_as(x, full, d, err) : err_nomem(err);
		if (r < 0)
			return r;
	}
	if (!ref->add_digest || (named && ref->skip_named_digest) || referrer)
		return 0;
	char *full = arena_printf(a, "%s@%s", ref->name, d->digest);
	return full ? store_as(x, full, d, err) : err_nomem(err);
}

/* What the client called the whole is the name of an archive's only image; else it is
 * layout_import()'s. */
static int store_names(struct importer *x, const char *name, const struct descriptor *d,
		       bool referrer, struct err *err)
{
	int r = 0;
	if (!str_empty(x->to->name) && x->single)
		r = store_as(x, x->to->name, d, err);
	for (size_t i = 0; r == 0 && i < x->to->n_extra; i++)
		r = store_by_reference(x, &x->to->extra[i], name, d, referrer, err);
	if (r == 0 && !x->to->n_extra && str_empty(x->to->name) && !str_empty(name) &&
	    strchr(name, '/'))
		return store_as(x, name, d, err);
	return r;
}

static int layout_entry(struct importer *x, const struct manifest_child *c, struct err *err)
{
	const struct labels *notes = &c->desc.annotations;
	const char *name = labels_get(notes, "io.containerd.image.name");
	if (str_empty(name))
		name = labels_get(notes, "org.opencontainers.image.ref.name");
	if (c->has_platform && x->to->n_platforms &&
	    platforms_rank(x->to->platforms, x->to->n_platforms, &c->platform) < 0)
		return 0;
	/* Which name an archive gave a blob is the archive's affair: the stored target has none. */
	struct descriptor bare = {
		.media_type = c->desc.media_type, .digest = c->desc.digest, .size = c->desc.size};
	int r = tree_import(x, &bare, c->has_platform ? &c->platform : NULL, 0, err);
	return r < 0 ? r : store_names(x, name, &bare, labels_get(notes, ANNOTATION_SUBJECT), err);
}

static int layout_import(struct importer *x, const char *text, size_t n, struct err *err)
{
	struct manifest m;
	int r = manifest_parse(x->ctx->arena, MEDIA_OCI_INDEX, text, n, &m, err);
	if (r < 0)
		return err_prefix(err, "index.json");
	x->layout = &m;
	x->single = m.n_manifests == 1;
	if (!str_empty(x->to->name) && !x->single) {
		struct digest id;
		struct labels labels = {0};
		digest_of(DIGEST_SHA256, text, n, &id);
		struct descriptor d = {
			.media_type = MEDIA_OCI_INDEX, .digest = id.text, .size = (int64_t)n};
		r = index_import(x, &m, 0, err);
		if (r == 0 && manifest_gc_labels(x->ctx->arena, &m, &labels) < 0)
			r = err_nomem(err);
		if (r == 0)
			r = content_put(x->ctx, x->t->o.db, descriptor_ref_key(x->ctx->arena, &d),
					&d, text, &labels, err);
		if (r == 0)
			r = store_as(x, x->to->name, &d, err);
	}
	for (size_t i = 0; r == 0 && i < m.n_manifests; i++)
		r = layout_entry(x, &m.manifests[i], err);
	x->layout = NULL;
	return r;
}

/* ---- docker archive ---- */

static const char *layer_suffix(const unsigned char *p, size_t n)
{
	static const unsigned char gzip[] = {0x1f, 0x8b}, zstd[] = {0x28, 0xb5, 0x2f, 0xfd};

	if (n >= sizeof(gzip) && memcmp(p, gzip, sizeof(gzip)) == 0)
		return ".gzip";
	return n >= sizeof(zstd) && memcmp(p, zstd, sizeof(zstd)) == 0 ? ".zstd" : "";
}

static int file_descriptor(struct importer *x, const char *path, const char *media_type,
			   struct descriptor *ret, struct err *err)
{
	int64_t size = 0;
	struct digest id;
	_cleanup_close_ int fd = file_open(x, path, &size, err);
	_cleanup_hasher_ struct hasher *h = hasher_new(DIGEST_SHA256);
	_cleanup_free_ unsigned char *chunk = malloc(CHUNK);
	if (fd < 0)
		return fd;
	if (!h || !chunk)
		return err_nomem(err);
	const char *suffix = "";
	for (int64_t off = 0; off < size;) {
		ssize_t n = fd_pread_full(fd, chunk, CHUNK, off);
		if (n <= 0)
			return err_errno(err, n < 0 ? (int)n : EIO, "archive: read %.200s", path);
		if (off == 0)
			suffix = layer_suffix(chunk, (size_t)n);
		hasher_update(h, chunk, (size_t)n);
		off += n;
	}
	hasher_digest(h, &id);
	*ret = (struct descriptor){
		.media_type = streq(media_type, MEDIA_DOCKER_LAYER)
				      ? arena_printf(x->ctx->arena, "%s%s", media_type, suffix)
				      : media_type,
		.digest = arena_strdup(x->ctx->arena, id.text),
		.size = size};
	return ret->digest && ret->media_type ? 0 : err_nomem(err);
}

static json_t *descriptor_json(const struct descriptor *d)
{
	return json_pack("{s:s,s:I,s:s}", "mediaType", d->media_type, "size", (json_int_t)d->size,
			 "digest", d->digest);
}

/* The layer at @path as a blob, and what the manifest will say of it. */
static int docker_layer(struct importer *x, const char *path, struct descriptor *ret,
			struct err *err)
{
	struct labels none = {0};
	int r = file_descriptor(x, path, MEDIA_DOCKER_LAYER, ret, err);

	if (r < 0 || !x->compress || !streq(ret->media_type, MEDIA_DOCKER_LAYER))
		return r < 0 ? r : blob_import(x, path, ret, &none, err);
	int64_t size;
	_cleanup_close_ int fd = file_open(x, path, &size, err);
	if (fd < 0)
		return fd;
	r = layer_compress(x->ctx, x->t->o.db, fd, ret, err);
	return r < 0 ? err_prefix(err, "archive: compress %.200s", path) : 0;
}

/* Config and layers as blobs, and a manifest that names them. */
static int docker_image(struct importer *x, const json_t *entry, struct descriptor *ret,
			struct err *err)
{
	struct arena *a = x->ctx->arena;
	struct labels none = {0}, labels = {0};
	struct descriptor d;
	const json_t *files = json_arr(entry, "Layers");
	const char *config = json_str(entry, "Config", "");
	_cleanup_json_ json_t *layers = json_array(), *m = NULL;
	if (json_array_size(files) > MANIFEST_CHILDREN_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT, "manifest.json: more than %d layers",
			       MANIFEST_CHILDREN_MAX);
	int r = file_descriptor(x, config, MEDIA_DOCKER_CONFIG, &d, err);
	if (r == 0)
		r = blob_import(x, config, &d, &none, err);
	json_t *jc = r == 0 ? descriptor_json(&d) : NULL;
	for (size_t i = 0; r == 0 && i < json_array_size(files); i++) {
		const char *path = json_string_value(json_array_get(files, i));
		if (!path)
			r = err_set(err, ERR_INVALID_ARGUMENT,
				    "manifest.json: layer %zu is no path", i);
		if (r == 0)
			r = docker_layer(x, path, &d, err);
		if (r == 0 && json_array_append_new(layers, descriptor_json(&d)) < 0)
			r = err_nomem(err);
	}
	m = r == 0 ? json_pack("{s:i,s:s,s:O,s:O}", "schemaVersion", 2, "mediaType",
			       MEDIA_DOCKER_MANIFEST, "config", jc, "layers", layers)
		   : NULL;
	json_decref(jc);
	char *text = m ? json_dumps(m, JSON_COMPACT) : NULL;
	if (r < 0)
		return r;
	_cleanup_free_ _unused_ char *guard = text;
	if (!text)
		return err_nomem(err);
	struct digest id;
	struct manifest parsed;
	digest_of(DIGEST_SHA256, text, strlen(text), &id);
	*ret = (struct descriptor){.media_type = MEDIA_DOCKER_MANIFEST,
				   .digest = arena_strdup(a, id.text),
				   .size = (int64_t)strlen(text)};
	if (!ret->digest)
		return err_nomem(err);
	r = manifest_parse(a, MEDIA_DOCKER_MANIFEST, text, strlen(text), &parsed, err);
	if (r == 0 && manifest_gc_labels(a, &parsed, &labels) < 0)
		r = err_nomem(err);
	if (r == 0)
		r = content_put(x->ctx, x->t->o.db, descriptor_ref_key(a, ret), ret, text, &labels,
				err);
	return r < 0 ? r : unpack_wanted(x, &parsed, NULL, err);
}

static int docker_import(struct importer *x, const char *text, size_t n, struct err *err)
{
	_cleanup_json_ json_t *j = NULL;
	int r = json_parse(text, n, &j, err);
	if (r < 0)
		return err_prefix(err, "manifest.json");
	if (json_array_size(j) > IMAGES_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT, "manifest.json: more than %d images",
			       IMAGES_MAX);
	x->single = json_array_size(j) == 1;
	if (!str_empty(x->to->name) && !x->single)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "a docker archive of %zu images cannot have one name: %s",
			       json_array_size(j), x->to->name);
	for (size_t i = 0; r == 0 && i < json_array_size(j); i++) {
		const json_t *e = json_array_get(j, i), *tags = json_arr(e, "RepoTags");
		struct descriptor d;
		r = docker_image(x, e, &d, err);
		for (size_t k = 0; r == 0 && k < json_array_size(tags); k++) {
			char *name;
			r = reference_normalize(x->ctx->arena,
						json_string_value(json_array_get(tags, k)) ?: "",
						&name, err);
			if (r == 0)
				r = store_names(x, name, &d, false, err);
		}
		if (r == 0 && json_array_size(tags) == 0)
			r = store_names(x, NULL, &d, false, err);
	}
	return r;
}

/* ---- the whole ---- */

static int import_dir(struct importer *x, struct err *err)
{
	char *text;
	size_t n;
	struct err missing = ERR_INIT;
	int r = file_text(x, "index.json", &text, &n, &missing);
	if (r == 0)
		return layout_import(x, text, n, err);
	if (r != -ERR_NOT_FOUND)
		return err_copy(err, &missing);
	r = file_text(x, "manifest.json", &text, &n, &missing);
	if (r == -ERR_NOT_FOUND)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "unrecognized image format: the archive has neither index.json nor "
			       "manifest.json");
	return r < 0 ? err_copy(err, &missing) : docker_import(x, text, n, err);
}

static int import_archive(struct importer *x, int fd, struct err *err)
{
	struct unpack_result res;
	struct unpack_request req = {.input_fd = fd,
				     .media_type = "image archive",
				     .target_fd = x->dir,
				     .whiteouts = UNPACK_PLAIN};
	report_step(&x->rep, "Importing");
	int r = worker_unpack(x->ctx, &req, &res, err);
	if (r < 0)
		return err_prefix(err, "read the archive");
	r = import_dir(x, err);
	if (r == 0 && !x->stored)
		r = err_set(err, ERR_INVALID_ARGUMENT,
			    "the archive names no image; give one a name with --index-name");
	if (r == 0)
		report_step(&x->rep, "Completed import");
	return r;
}

int transfer_import(struct ctx *ctx, struct transfer *t, int fd, bool compress,
		    const struct transfer_store *to, const struct transfer_watch *watch,
		    struct err *err)
{
	struct importer x = {.ctx = ctx, .t = t, .to = to, .compress = compress};
	struct lease_guard lease;
	char *dir = arena_printf(ctx->arena, "%s/" IMPORT_PREFIX "XXXXXX", t->o.temp);
	int r = dir ? mkdir_p(t->o.temp, 0700) : -ENOMEM;
	if (r < 0)
		return err_errno(err, r, "make %s", t->o.temp);
	if (!mkdtemp(dir))
		return err_errno(err, errno, "make %s", dir);
	x.dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = x.dir < 0 ? err_errno(err, errno, "open %s", dir)
		      : lease_guard_begin(ctx, t->o.db, &lease, err);
	if (r == 0) {
		reporter_init(&x.rep, watch);
		pthread_mutex_init(&x.lock, NULL);
		pthread_cond_init(&x.changed, NULL);
		r = import_archive(&x, fd, err);
		pthread_cond_destroy(&x.changed);
		pthread_mutex_destroy(&x.lock);
		reporter_done(&x.rep);
		lease_guard_end(ctx, t->o.db, &lease);
	}
	fd_closep(&x.dir);
	(void)!rm_rf(AT_FDCWD, dir);
	return r;
}
