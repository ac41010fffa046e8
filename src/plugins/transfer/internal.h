/* SPDX-License-Identifier: Apache-2.0 */
/* What pull, import and export share. */
#pragma once

#include <pthread.h>

#include "core/content.h"
#include "core/event.h"
#include "core/snapshot.h"
#include "event/pool.h"
#include "oci/manifest.h"
#include "plugins/transfer/transfer.h"

#define IMPORT_PREFIX "import-" /* of directories in transfer_options.temp */

struct transfer {
	struct transfer_options o;
};

/* A watch that several threads report to. */
struct reporter {
	const struct transfer_watch *watch;
	pthread_mutex_t lock;
};

void reporter_init(struct reporter *r, const struct transfer_watch *watch);
void reporter_done(struct reporter *r);
void report(struct reporter *r, const struct transfer_progress *p);
void report_step(struct reporter *r, const char *event);
void report_object(struct reporter *r, const char *event, const char *name,
		   const struct descriptor *d, int64_t progress, int64_t total);

/* One layer on its way into the content store, and to whoever unpacks it meanwhile. */
enum layer_state { LAYER_WAITING, LAYER_LOADING, LAYER_DONE, LAYER_FAILED };

struct layer {
	struct descriptor desc;
	const char *name;      /* in progress reports */
	pthread_mutex_t *lock; /* the pull's; guards what follows */
	pthread_cond_t *changed;
	enum layer_state state;
	int fd;	       /* while loading: the ingest's data, to be read with pread; -1 = none */
	int64_t avail; /* bytes of it that are there */
	bool absent;   /* not downloaded: the snapshotter has what it would become */
	struct err err;
};

/* A blob by several requests at a time: parts.c. */
struct parts_request {
	struct fetch *fetch;
	struct pool *pool;
	const struct fetch_descriptor *d; /* with its size */
	int64_t offset;			  /* of the first byte that is wanted */
	int64_t part_bytes;
	size_t n_jobs; /* each with a buffer of one part */
	/* In order, one call at a time, on the jobs' threads. */
	int (*sink)(void *arg, int64_t offset, const void *p, size_t n, struct err *err);
	void *arg;
};
/* -ERR_UNIMPLEMENTED: the server sends no parts; what @sink got is right. */
int parts_fetch(struct ctx *ctx, const struct parts_request *q, struct err *err) _must_check_;

/* An image's layers into snapshots of @snapshotter, in order; layers that are still loading are
 * unpacked as they come.
 * @config_digest gets the label that keeps the snapshots. *@ret_chain: the top's chain ID. */
struct unpack {
	struct ctx *ctx;
	struct transfer *t;
	struct reporter *rep;
	const char *snapshotter;
	const char *config_digest;
	const char *const *diff_ids;
	struct layer **layers;
	size_t n;
	bool sync_fs;
	bool no_decryption; /* as in transfer_store */
	/* For snapshotters that want to know: */
	const char *image, *manifest_digest;
	/* Set by unpack_probe(): */
	size_t n_there;	      /* of the first layers, that need not be downloaded */
	const char *prepared; /* key of the snapshot for the next one, NULL = none */
	struct mounts mounts; /* of that */
};
/* Payloads of @q, when its layer is encrypted. */
int decrypt_payloads(struct arena *a, struct apply_request *q, struct err *err) _must_check_;
int unpack_image(struct unpack *u, struct err *err) _must_check_;
/* The same with several layers at a time: unpack_ahead.c. *@ret_chain: the top's chain ID. */
int unpack_ahead(struct unpack *u, const char **ret_chain, struct err *err) _must_check_;

/* Its steps. Of layer @i: to be unpacked onto @parent ("" = none) in its turn. */
int unpack_layer(struct unpack *u, size_t i, const char *parent, const char *chain,
		 struct err *err) _must_check_;
/* Unpacks, waits for the download's end; @alone as in walking_apply_alone(). */
int unpack_apply(struct unpack *u, struct layer *l, const struct mounts *m, bool alone,
		 struct descriptor *ret, struct err *err) _must_check_;
/* The layer is the one that the image's configuration names. */
int unpack_check(const struct unpack *u, size_t i, const struct descriptor *applied,
		 struct err *err) _must_check_;
/* Until the download is over: its error, or 0. */
int unpack_wait(struct layer *l, struct err *err) _must_check_;
/* Removes a snapshot that was not committed, also when the request is over. */
void unpack_drop(struct unpack *u, const char *key);
/* Of the snapshot while it is written; NULL = no memory. */
const char *unpack_key(struct arena *a, const char *chain);
/* 0 or -ENOMEM. */
int unpack_labels(struct unpack *u, size_t i, const char *chain, const char *parent,
		  struct labels *ret);

/* A session with the hosts that stand for @ref's registry. @push NULL = for a pull. */
struct session_push {
	const char *const *mount_from; /* other repositories that a token is wanted for */
	size_t n_mount_from;
};
struct reference;
int session_open(struct ctx *ctx, struct transfer *t, const struct transfer_registry *r,
		 const struct reference *ref, const struct session_push *push, struct fetch **ret,
		 struct err *err) _must_check_;

/* The label of a blob that names the repositories of @host ("docker.io", "h:5000") that have it:
 * its key, its value with one more, and the one of them that a push to @repo may best take it from
 * ("" = none). NULL = no memory (but source_nearest). */
const char *source_key(struct arena *a, const char *host);
const char *source_value(struct arena *a, const char *have, const char *repo);
const char *source_nearest(struct arena *a, const char *have, const char *repo);

/* Asks a remote snapshotter layer by layer, from the bottom on, whether it has, or gets by itself,
 * what the layer would become; up to the first that it wants to be given. Nothing to do for any
 * other. unpack_done() has to follow, also on failure. */
int unpack_probe(struct unpack *u, struct err *err) _must_check_;
/* Takes back what was prepared and not used. */
void unpack_done(struct unpack *u);

/* Names an image, with the event that goes with it. */
int store_image(struct ctx *ctx, struct transfer *t, const char *name,
		const struct descriptor *target, const struct labels *labels, struct reporter *rep,
		struct err *err) _must_check_;

/* Sets one label of a blob that is there; other labels stay. */
int content_label(struct ctx *ctx, struct db *db, const char *digest, const char *key,
		  const char *value, struct err *err) _must_check_;

/* Names what was pulled: the store's name, and those of its extra references that are whole names.
 * The latter live while the first one does. */
int store_pulled(struct ctx *ctx, struct transfer *t, const struct transfer_store *to,
		 const char *name, const struct descriptor *target, struct reporter *rep,
		 struct err *err) _must_check_;

/* The children of index @m that a pull takes, marked in @ret[m->n_manifests]: for each wanted
 * platform the one that serves it best (all when none is named), and those that name no platform;
 * of these the @to->manifest_limit best. Returns how many. 0 or -ENOMEM. */
int index_choose(struct arena *a, const struct manifest *m, const struct transfer_store *to,
		 bool *ret, size_t *ret_n);

/* The first rule that lets @u be unpacked; *@ret_snapshotter is what it is unpacked with.
 * -ERR_INVALID_ARGUMENT. */
int unpack_rule(const struct transfer *t, const struct transfer_unpack *u,
		const struct transfer_unpack_rule **ret, const char **ret_snapshotter,
		struct err *err) _must_check_;

/* A rule may be about certain images only. NULL covers all. */
bool unpack_rule_covers(const struct transfer_unpack_rule *rule, const struct manifest *m);

/* The plain layer @d, which @fd (a file) holds, as a gzip blob in the content store; @d becomes
 * that. */
int layer_compress(struct ctx *ctx, struct db *db, int fd, struct descriptor *d,
		   struct err *err) _must_check_;

/* How well @p serves one of the wanted platforms; -1 = not; any is fine when none are wanted. */
int platforms_rank(const struct platform *want, size_t n, const struct platform *p);
