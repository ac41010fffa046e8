/* SPDX-License-Identifier: Apache-2.0 */
/* Export: images as a tar of an OCI image layout
 * (https://github.com/opencontainers/image-spec/blob/main/image-layout.md), with a manifest.json
 * beside it that docker reads. Writing a tar is the daemon's own work: nothing foreign is parsed
 * but manifests, as everywhere. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/str.h"
#include "core/lease.h"
#include "oci/platform.h"
#include "plugins/transfer/internal.h"

#define CHUNK (256u << 10)
#define BLOCK 512
#define DEPTH_MAX 8

struct exporter {
	struct ctx *ctx;
	struct transfer *t;
	const struct transfer_export *o;
	int (*write)(void *arg, const void *p, size_t n, struct err *err);
	void *arg;
	struct platform host;
	struct labels blobs; /* digests that are in the archive */
	json_t *index;	     /* "manifests" of index.json */
	json_t *docker;	     /* manifest.json */
};

/* ---- tar (POSIX ustar) ---- */

static int tar_header(struct exporter *x, const char *name, char type, int mode, int64_t size,
		      struct err *err)
{
	char h[BLOCK] = {0};
	unsigned int sum = 0;
	if (strlen(name) > 100 || size < 0 || size > 077777777777)
		return err_set(err, ERR_OUT_OF_RANGE, "%s of %lld bytes does not fit a tar header",
			       name, (long long)size);
	memcpy(h, name, strlen(name));
	snprintf(h + 100, 8, "%07o", (unsigned int)mode);
	snprintf(h + 108, 8, "%07o", 0u);
	snprintf(h + 116, 8, "%07o", 0u);
	snprintf(h + 124, 12, "%011llo", (unsigned long long)size);
	snprintf(h + 136, 12, "%011o", 0u);
	memset(h + 148, ' ', 8);
	h[156] = type;
	memcpy(h + 257, "ustar\00000", 8);
	for (size_t i = 0; i < sizeof(h); i++)
		sum += (unsigned char)h[i];
	snprintf(h + 148, 8, "%06o", sum);
	h[155] = ' ';
	return x->write(x->arg, h, sizeof(h), err);
}

static int tar_pad(struct exporter *x, int64_t size, struct err *err)
{
	static const char zero[BLOCK];
	size_t n = (size_t)((BLOCK - size % BLOCK) % BLOCK);
	return n ? x->write(x->arg, zero, n, err) : 0;
}

static int tar_dir(struct exporter *x, const char *name, struct err *err)
{
	return tar_header(x, name, '5', 0755, 0, err);
}

static int tar_bytes(struct exporter *x, const char *name, const char *p, size_t n, struct err *err)
{
	int r = tar_header(x, name, '0', 0444, (int64_t)n, err);
	if (r == 0)
		r = x->write(x->arg, p, n, err);
	return r < 0 ? r : tar_pad(x, (int64_t)n, err);
}

static int tar_file(struct exporter *x, const char *name, int fd, int64_t size, struct err *err)
{
	_cleanup_free_ char *chunk = malloc(CHUNK);
	int r = chunk ? tar_header(x, name, '0', 0444, size, err) : err_nomem(err);
	for (int64_t off = 0; r == 0 && off < size;) {
		ssize_t n = fd_pread_full(fd, chunk, (size_t)MIN(size - off, (int64_t)CHUNK), off);
		if (n <= 0)
			return n < 0 ? err_errno(err, (int)n, "read %s", name)
				     : err_set(err, ERR_DATA_LOSS, "%s is shorter than its record",
					       name);
		r = ctx_check(x->ctx, err);
		if (r == 0)
			r = x->write(x->arg, chunk, (size_t)n, err);
		off += n;
	}
	return r < 0 ? r : tar_pad(x, size, err);
}

/* ---- blobs ---- */

static char *blob_path(struct arena *a, const char *digest)
{
	return arena_printf(a, "blobs/%s/%s", digest_alg_name(digest_alg(digest)),
			    digest_hex(digest));
}

static int blob_write(struct exporter *x, const struct descriptor *d, struct err *err)
{
	_cleanup_close_ int fd = -1;
	int64_t size;
	if (labels_get(&x->blobs, d->digest))
		return 0;
	if (labels_set(x->ctx->arena, &x->blobs, d->digest, "") < 0)
		return err_nomem(err);
	int r = content_open(x->ctx, x->t->o.db, d->digest, &fd, &size, err);
	if (r < 0)
		return r;
	char *path = blob_path(x->ctx->arena, d->digest);
	return path ? tar_file(x, path, fd, size, err) : err_nomem(err);
}

static bool non_distributable(const char *type)
{
	return strstr(type, "nondistributable") || strstr(type, ".foreign.");
}

static int manifest_read(struct exporter *x, const struct descriptor *d, struct manifest *ret,
			 struct err *err)
{
	char *text;
	size_t n;
	int r = content_read(x->ctx, x->t->o.db, d->digest, MANIFEST_MAX, &text, &n, err);
	return r < 0 ? r : manifest_parse(x->ctx->arena, d->media_type, text, n, ret, err);
}

static json_t *docker_entry(struct exporter *x, const struct manifest *m)
{
	json_t *e = json_object(), *layers = json_array();
	char *config = blob_path(x->ctx->arena, m->config.digest);
	int r = !e || !layers || !config;
	if (!r)
		r |= json_object_set_new(e, "Config", json_string(config)) |
		     json_object_set_new(e, "RepoTags", json_array());
	for (size_t i = 0; !r && i < m->n_layers; i++) {
		char *path = blob_path(x->ctx->arena, m->layers[i].digest);
		r |= !path || json_array_append_new(layers, json_string(path));
	}
	if (!r && json_object_set_new(e, "Layers", layers) == 0)
		return e;
	json_decref(e);
	return NULL;
}

/* A manifest and what it names. *@ret_docker gets its entry for manifest.json (NULL when it is no
 * image that docker knows). */
static int image_write(struct exporter *x, const struct descriptor *d, const struct manifest *m,
		       json_t **ret_docker, struct err *err)
{
	int r = blob_write(x, &m->config, err);
	for (size_t i = 0; r == 0 && i < m->n_layers; i++)
		if (!x->o->skip_non_distributable || !non_distributable(m->layers[i].media_type))
			r = blob_write(x, &m->layers[i], err);
	if (r == 0)
		r = blob_write(x, d, err);
	if (r == 0 && !*ret_docker && media_is_config(m->config.media_type)) {
		*ret_docker = docker_entry(x, m);
		if (!*ret_docker)
			return err_nomem(err);
	}
	return r;
}

static bool platform_wanted(struct exporter *x, const struct manifest_child *c)
{
	if (x->o->all_platforms || !c->has_platform)
		return true;
	if (x->o->n_platforms)
		return platforms_rank(x->o->platforms, x->o->n_platforms, &c->platform) >= 0;
	return platforms_rank(&x->host, 1, &c->platform) >= 0;
}

/* With all platforms wanted, children that are not here are an error; else they are what was not
 * pulled. */
static int tree_write(struct exporter *x, const struct descriptor *d, int depth,
		      json_t **ret_docker, struct err *err)
{
	struct manifest m;
	if (depth > DEPTH_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "index %s: too many indexes in one another", d->digest);
	int r = manifest_read(x, d, &m, err);
	if (r < 0)
		return err_prefix(err, "export %s", d->digest);
	if (!m.is_index)
		return image_write(x, d, &m, ret_docker, err);
	size_t written = 0;
	for (size_t i = 0; i < m.n_manifests; i++) {
		struct content_info info;
		struct err absent = ERR_INIT;
		if (!platform_wanted(x, &m.manifests[i]))
			continue;
		if (!x->o->all_platforms &&
		    content_info(x->ctx, x->t->o.db, m.manifests[i].desc.digest, &info, &absent) ==
			    -ERR_NOT_FOUND)
			continue;
		r = tree_write(x, &m.manifests[i].desc, depth + 1, ret_docker, err);
		if (r < 0)
			return r;
		written++;
	}
	if (!written)
		return err_set(err, ERR_NOT_FOUND,
			       "index %s has no content here for the wanted platform", d->digest);
	return blob_write(x, d, err);
}

/* ---- index.json and manifest.json ---- */

/* The part after the last ":" of the last path component. */
static const char *tag_of(const char *name)
{
	const char *slash = strrchr(name, '/'), *colon = strrchr(slash ? slash : name, ':');
	return colon && !strchr(name, '@') ? colon + 1 : NULL;
}

static int index_add(struct exporter *x, const char *name, const struct descriptor *d,
		     json_t *docker, struct err *err)
{
	const char *tag = tag_of(name);
	json_t *notes = json_object();
	int bad =
		!notes || json_object_set_new(notes, "io.containerd.image.name", json_string(name));
	for (size_t i = 0; !bad && i < d->annotations.n; i++)
		bad |= json_object_set_new(notes, d->annotations.v[i].key,
					   json_string(d->annotations.v[i].value));
	if (!bad && tag)
		bad |= json_object_set_new(notes, "org.opencontainers.image.ref.name",
					   json_string(tag));
	json_t *e = bad ? NULL
			: json_pack("{s:s,s:s,s:I,s:O}", "mediaType", d->media_type, "digest",
				    d->digest, "size", (json_int_t)d->size, "annotations", notes);
	json_decref(notes);
	if (!e || json_array_append_new(x->index, e) < 0)
		return err_nomem(err);
	if (!docker)
		return 0;
	if (tag && json_array_append_new(json_arr(docker, "RepoTags"), json_string(name)) < 0)
		return err_nomem(err);
	return json_array_append(x->docker, docker) < 0 ? err_nomem(err) : 0;
}

static int json_write(struct exporter *x, const char *name, const json_t *j, struct err *err)
{
	_cleanup_free_ char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
	return text ? tar_bytes(x, name, text, strlen(text), err) : err_nomem(err);
}

static int write_tail(struct exporter *x, struct err *err)
{
	static const char end[2 * BLOCK];
	_cleanup_json_ json_t *index = json_pack("{s:i,s:s,s:O}", "schemaVersion", 2, "mediaType",
						 MEDIA_OCI_INDEX, "manifests", x->index);
	int r = json_write(x, "index.json", index, err);
	if (r == 0 && !x->o->skip_docker_manifest && json_array_size(x->docker))
		r = json_write(x, "manifest.json", x->docker, err);
	return r < 0 ? r : x->write(x->arg, end, sizeof(end), err);
}

static int export_one(struct exporter *x, const char *name, struct err *err)
{
	struct image i;
	_cleanup_json_ json_t *docker = NULL;
	int r = image_get(x->ctx, x->t->o.db, name, &i, err);
	if (r == 0)
		r = tree_write(x, &i.target, 0, &docker, err);
	return r < 0 ? r : index_add(x, name, &i.target, docker, err);
}

static int export_all(struct exporter *x, const struct transfer_store *from, struct err *err)
{
	static const char layout[] = "{\"imageLayoutVersion\":\"1.0.0\"}";
	if (str_empty(from->name) && !from->n_extra)
		return err_set(err, ERR_INVALID_ARGUMENT, "no image to export");
	int r = tar_dir(x, "blobs/", err);
	if (r == 0)
		r = tar_dir(x, "blobs/sha256/", err);
	if (r == 0)
		r = tar_bytes(x, "oci-layout", layout, strlen(layout), err);
	if (r == 0 && !str_empty(from->name))
		r = export_one(x, from->name, err);
	for (size_t i = 0; r == 0 && i < from->n_extra; i++)
		r = export_one(x, from->extra[i].name, err);
	return r < 0 ? r : write_tail(x, err);
}

int transfer_export(struct ctx *ctx, struct transfer *t, const struct transfer_store *from,
		    const struct transfer_export *o,
		    int (*write)(void *arg, const void *p, size_t n, struct err *err), void *arg,
		    const struct transfer_watch *watch, struct err *err)
{
	struct exporter x = {.ctx = ctx, .t = t, .o = o, .write = write, .arg = arg};
	struct reporter rep;
	struct lease_guard lease;
	if (platform_host(ctx->arena, &x.host) < 0)
		return err_nomem(err);
	int r = lease_guard_begin(ctx, t->o.db, &lease, err);
	if (r < 0)
		return r;
	reporter_init(&rep, watch);
	report_step(&rep, "Exporting");
	x.index = json_array();
	x.docker = json_array();
	r = x.index && x.docker ? export_all(&x, from, err) : err_nomem(err);
	if (r == 0)
		report_step(&rep, "Completed export");
	json_decref(x.index);
	json_decref(x.docker);
	reporter_done(&rep);
	lease_guard_end(ctx, t->o.db, &lease);
	return r;
}
