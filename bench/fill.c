/* SPDX-License-Identifier: Apache-2.0 */
/* Fills a daemon's root, while no daemon runs, with images as a pull leaves them: for each a
 * manifest and a configuration, as files with records, and layers and a chain of snapshots, as
 * records only, with the labels that the collector follows.
 *
 *     bench_fill ROOT IMAGES LAYERS SNAPSHOTS     (LAYERS and SNAPSHOTS of each image)
 *
 * Any containerd may be started with that root afterwards. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/path.h"
#include "base/str.h"
#include "base/time.h"
#include "core/schema.h"

#define OCI "application/vnd.oci.image."
#define BATCH 500 /* images of one transaction */
#define LAYERS_MAX 64

struct fill {
	struct ctx ctx;
	struct db *db;
	const char *blobs; /* directory */
	int images, layers, snapshots;
	int first; /* of the transaction at hand */
	struct timespec now;
};

struct image {
	const char *name;
	char *config, *manifest; /* documents */
	struct digest config_digest, digest, layer[LAYERS_MAX], chain[LAYERS_MAX];
};

static void die(const char *what, int r)
{
	fprintf(stderr, "bench_fill: %s: %s\n", what, strerror(-r));
	exit(1);
}

/* The nth image: what is in it follows from its number. */
static void image_make(struct fill *f, int n, struct image *i)
{
	struct arena *a = f->ctx.arena;
	char *layers = "", *diffs = "", text[128];

	for (int k = 0; k < f->layers; k++) {
		int len = snprintf(text, sizeof(text), "layer %d of %d", k, n);

		digest_of(DIGEST_SHA256, text, (size_t)len, &i->layer[k]);
		layers = arena_printf(a,
				      "%s%s{\"mediaType\":\"" OCI "layer.v1.tar+gzip\",\"digest\":"
				      "\"%s\",\"size\":%d}",
				      layers, k ? "," : "", i->layer[k].text, 1000000 + k);
		diffs = arena_printf(a, "%s%s\"%s\"", diffs, k ? "," : "", i->layer[k].text);
	}
	for (int k = 0; k < f->snapshots; k++) {
		int len = snprintf(text, sizeof(text), "snapshot %d of %d", k, n);

		digest_of(DIGEST_SHA256, text, (size_t)len, &i->chain[k]);
	}
	i->name = arena_printf(a, "registry.example.com/team-%d/service-%d:v1", n % 50, n);
	i->config = arena_printf(a,
				 "{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{\"Env\":"
				 "[\"PATH=/bin\",\"N=%d\"]},\"rootfs\":{\"type\":\"layers\","
				 "\"diff_ids\":[%s]}}",
				 n, diffs);
	if (!i->name || !i->config)
		die("image", -ENOMEM);
	digest_of(DIGEST_SHA256, i->config, strlen(i->config), &i->config_digest);
	i->manifest = arena_printf(a,
				   "{\"schemaVersion\":2,\"mediaType\":\"" OCI "manifest.v1+json\","
				   "\"config\":{\"mediaType\":\"" OCI
				   "config.v1+json\",\"digest\":\"%s\","
				   "\"size\":%zu},\"layers\":[%s]}",
				   i->config_digest.text, strlen(i->config), layers);
	if (!i->manifest)
		die("image", -ENOMEM);
	digest_of(DIGEST_SHA256, i->manifest, strlen(i->manifest), &i->digest);
}

static void file_make(struct fill *f, const struct digest *d, const char *text)
{
	char *path = path_join(f->ctx.arena, f->blobs, digest_hex(d->text));
	int fd = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0444) : -1;

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		die(path ? path : "file", -errno);
	close(fd);
}

static int blob_put(struct fill *f, struct bolt_tx *tx, const struct digest *d, int64_t size,
		    const struct labels *l)
{
	struct bolt_bucket *all, *b;
	int r = SCHEMA_MAKE(tx, &all, "default", "content", "blob");

	if (r == 0)
		r = bolt_bucket_create(all, bolt_s(d->text), &b);
	if (r == 0)
		r = schema_put_times(b, f->now, f->now);
	if (r == 0)
		r = schema_put_int(b, "size", size);
	return r < 0 ? r : schema_put_labels(b, "labels", l);
}

static int image_put(struct fill *f, struct bolt_tx *tx, const struct image *i)
{
	struct bolt_bucket *all, *b, *t;
	int r = SCHEMA_MAKE(tx, &all, "default", "images");

	if (r == 0)
		r = bolt_bucket_create(all, bolt_s(i->name), &b);
	if (r == 0)
		r = schema_put_times(b, f->now, f->now);
	if (r == 0)
		r = bolt_bucket_create(b, bolt_s("target"), &t);
	if (r == 0)
		r = schema_put_str(t, "digest", i->digest.text);
	if (r == 0)
		r = schema_put_str(t, "mediatype", OCI "manifest.v1+json");
	return r < 0 ? r : schema_put_int(t, "size", (int64_t)strlen(i->manifest));
}

static int snapshot_put(struct fill *f, struct bolt_tx *tx, const char *key, const char *parent)
{
	struct bolt_bucket *all, *b, *children;
	struct labels l = {0};
	uint64_t seq;
	char *name;
	int r = SCHEMA_MAKE(tx, &all, "default", "snapshots", "overlayfs");

	if (r == 0)
		r = bolt_next_sequence(all, &seq);
	if (r == 0)
		r = bolt_bucket_create(all, bolt_s(key), &b);
	if (r < 0)
		return r;
	name = arena_printf(f->ctx.arena, "default/%llu/%s", (unsigned long long)seq, key);
	if (!name || labels_set(f->ctx.arena, &l, "containerd.io/snapshot.ref", key) < 0)
		return -ENOMEM;
	r = schema_put_str(b, "name", name);
	if (r == 0)
		r = schema_put_times(b, f->now, f->now);
	if (r == 0)
		r = schema_put_labels(b, "labels", &l);
	if (r < 0 || !*parent)
		return r;
	r = schema_put_str(b, "parent", parent);
	b = bolt_bucket(all, bolt_s(parent));
	if (r == 0)
		r = b ? bolt_bucket_create_if_missing(b, bolt_s("children"), &children) : -ENOENT;
	return r < 0 ? r : schema_put_str(children, key, "");
}

static int set(struct fill *f, struct labels *l, const char *key, const char *value)
{
	return labels_set(f->ctx.arena, l, key, value);
}

static int image_record(struct fill *f, struct bolt_tx *tx, int n)
{
	struct labels of_manifest = {0}, of_config = {0};
	struct image i;
	int r;

	image_make(f, n, &i);
	file_make(f, &i.config_digest, i.config);
	file_make(f, &i.digest, i.manifest);
	r = set(f, &of_manifest, "containerd.io/gc.ref.content.config", i.config_digest.text);
	for (int k = 0; r == 0 && k < f->layers; k++) {
		struct labels of_layer = {0};

		r = set(f, &of_layer, "containerd.io/uncompressed", i.layer[k].text);
		if (r == 0)
			r = set(f, &of_layer,
				"containerd.io/distribution.source.registry.example.com",
				"team/service");
		if (r == 0)
			r = set(f, &of_manifest,
				arena_printf(f->ctx.arena, "containerd.io/gc.ref.content.l.%d", k),
				i.layer[k].text);
		if (r == 0)
			r = blob_put(f, tx, &i.layer[k], 1000000 + k, &of_layer);
	}
	for (int k = 0; r == 0 && k < f->snapshots; k++)
		r = snapshot_put(f, tx, i.chain[k].text, k ? i.chain[k - 1].text : "");
	if (r == 0 && f->snapshots)
		r = set(f, &of_config, "containerd.io/gc.ref.snapshot.overlayfs",
			i.chain[f->snapshots - 1].text);
	if (r == 0)
		r = blob_put(f, tx, &i.config_digest, (int64_t)strlen(i.config), &of_config);
	if (r == 0)
		r = blob_put(f, tx, &i.digest, (int64_t)strlen(i.manifest), &of_manifest);
	return r < 0 ? r : image_put(f, tx, &i);
}

static int batch(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct fill *f = arg;
	int r = 0;

	for (int n = f->first; r == 0 && n < MIN(f->first + BATCH, f->images); n++)
		r = image_record(f, tx, n);
	return r < 0 ? err_errno(err, r, "write records") : 0;
}

int main(int argc, char **argv)
{
	struct fill f = {.ctx = {.arena = arena_new(0), .ns = "default", .lease = ""},
			 .now = time_now()};
	struct err err = ERR_INIT;
	char dir[4096], path[4200];

	if (argc != 5 || !f.ctx.arena) {
		fputs("usage: bench_fill ROOT IMAGES LAYERS SNAPSHOTS\n", stderr);
		return 2;
	}
	f.images = atoi(argv[2]);
	f.layers = MIN(atoi(argv[3]), LAYERS_MAX);
	f.snapshots = MIN(atoi(argv[4]), LAYERS_MAX);
	snprintf(dir, sizeof(dir), "%s/io.containerd.content.v1.content/blobs/sha256", argv[1]);
	f.blobs = dir;
	int r = mkdir_p(dir, 0755);
	if (r == 0) {
		snprintf(path, sizeof(path), "%s/io.containerd.metadata.v1.bolt", argv[1]);
		r = mkdir_p(path, 0711);
	}
	if (r < 0)
		die(argv[1], r);
	strcat(path, "/meta.db");
	struct db_options o = {.path = path, .no_sync = true};
	if (db_open(&o, &f.db, &err) < 0) {
		fprintf(stderr, "bench_fill: %s\n", err.text);
		return 1;
	}
	for (; f.first < f.images; f.first += BATCH) {
		arena_reset(f.ctx.arena);
		if (db_update(&f.ctx, f.db, batch, &f, &err) < 0) {
			fprintf(stderr, "bench_fill: %s\n", err.text);
			return 1;
		}
	}
	db_close(f.db);
	arena_free(f.ctx.arena);
	return 0;
}
