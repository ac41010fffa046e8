/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's side of containerd-worker: everything that speaks HTTP or parses an archive happens
 * in that process.
 *
 * This file starts a worker, hands it descriptors and a request, and waits; it knows neither HTTP
 * nor tar. The messages are described in worker/protocol.h. A worker confines itself before it
 * looks at foreign bytes. What a worker reports is a claim: digests are the caller's to check (the
 * diff ID of unpack_result is the worker's own computation over what it unpacked).
 *
 * With hosts.h this is a library of its own ("workers": base, sys, rpcmsg and nothing of core), so
 * that ctr can start workers, too.
 *
 * Calls block and may be made on any thread but the loop's. Strings in requests are only read
 * during the call.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/ctx.h"
#include "base/digest.h"
#include "base/err.h"

/* ---- One process ---- */

struct worker;

/* Starts containerd-worker as @role ("fetch", "unpack", "pack", "recompress"): the one in
 * $CONTAINERD_WORKER, else beside this executable, else in PATH. */
int worker_start(const char *role, struct worker **ret, struct err *err) _must_check_;
int worker_sock(const struct worker *w); /* messages, see rpc/msg.h */
void worker_kill(struct worker *w);
/* Kills it when it still runs and reaps it. NULL is fine. */
void worker_free(struct worker *w);

/* ---- Unpacking a layer ---- */

enum unpack_whiteouts {
	UNPACK_OVERLAY, /* target is the upper directory of an overlay: whiteouts become 0:0
			   devices, opaque marks xattrs */
	UNPACK_PLAIN,	/* target holds the layers below: whiteouts delete */
};

struct unpack_request {
	int input_fd; /* the layer as stored, read from its current offset to its end; a file or a
			 pipe */
	const char *media_type; /* for error texts only: the format is recognised by its first bytes
				   (gzip, zstd, plain tar) */
	int target_fd;		/* directory, O_RDONLY or O_PATH */
	const int *lower_fds;	/* UNPACK_OVERLAY: the lower directories, topmost first, at most 62
				 * (below that, those that matter least   are left out) */
	size_t n_lowers;
	enum unpack_whiteouts whiteouts;
	bool alone;	   /* UNPACK_OVERLAY: the lower directories are not known yet; a layer that
			      depends on them is -ERR_ABORTED */
	bool userxattr;	   /* user.overlay.opaque instead of trusted.overlay.opaque */
	int64_t max_bytes; /* of the uncompressed stream; 0 = 1 TiB */
	int64_t max_entries;				  /* 0 = 16 million */
	void (*progress)(void *arg, int64_t input_bytes); /* on the caller's thread, every few
							     hundred ms; may be NULL */
	void *arg;
};

struct unpack_result {
	struct digest diff_id; /* sha256 of the whole uncompressed stream */
	int64_t size;	       /* of that stream */
	int64_t entries;
};

/* Starts a worker, waits for the end (ctx's deadline and cancellation hold), ends it. The
 * descriptors stay the caller's. On an error the target is in an undefined state. Nothing is synced
 * to disk.
 *
 * -ERR_INVALID_ARGUMENT   the archive is damaged or hostile (the text names entry and step)
 * -ERR_RESOURCE_EXHAUSTED a limit, or the disk is full
 * -ERR_UNAVAILABLE        the worker died or could not be started */
int worker_unpack(struct ctx *ctx, const struct unpack_request *r, struct unpack_result *ret,
		  struct err *err) _must_check_;

/* ---- Talking to a registry: one worker per pull, blobs in parallel ---- */

enum fetch_capability {
	FETCH_PULL = 1,
	FETCH_RESOLVE = 2,
	FETCH_PUSH = 4,
	FETCH_REFERRERS = 8,
};

struct fetch_header { /* repeatable; key as written */
	const char *key;
	const char *value;
};

struct fetch_cert {
	const char *cert_pem;
	const char *key_pem; /* NULL: the key is in cert_pem */
};

struct fetch_host {
	const char *scheme; /* "https", "http" */
	const char *host;   /* "registry-1.docker.io", "10.0.0.1:5000", "[::1]:5000" */
	const char *path;   /* "/v2" */
	unsigned capabilities;
	bool skip_verify;
	const char *const *ca_pem; /* beside the system's certificates */
	size_t n_ca;
	const struct fetch_cert *certs;
	size_t n_certs;
	const struct fetch_header *headers;
	size_t n_headers;
	int64_t dial_timeout_ns; /* 0 = 30 s */
};

enum fetch_auth_type {
	FETCH_AUTH_NONE, /* anonymous (tokens are still asked for when the registry wants one) */
	FETCH_AUTH_CREDENTIALS, /* user name and password, for Basic and for the token endpoint */
	FETCH_AUTH_REFRESH,	/* secret is a refresh (identity) token */
	FETCH_AUTH_HEADER,	/* secret is the value of the Authorization header: "Bearer abc" */
};

/* Filled by the callback below; the strings in ctx->arena or otherwise valid until the call that it
 * interrupts returns. */
struct fetch_auth {
	enum fetch_auth_type type;
	const char *username;
	const char *secret;
};

struct fetch_options {
	const char *original_host; /* host of the reference, "docker.io": becomes ?ns= where another
				      host is asked */
	const char *repository;	   /* "library/busybox" */
	const char *object;	   /* tag or digest, for fetch_resolve */
	const struct fetch_host *hosts; /* tried in this order */
	size_t n_hosts;
	const struct fetch_header *headers; /* of every registry request */
	size_t n_headers;
	/* Asked when host (as in fetch_host.host) answers 401, with its WWW-Authenticate values
	 * (NULL-terminated); on the thread of a call that is waiting for it, at most once at a time
	 * and once a host and session unless the answer was refused by the registry (then once
	 * more). NULL = always anonymous. An error ends the call. */
	int (*auth)(void *arg, const char *host, const char *const *challenges,
		    struct fetch_auth *ret, struct err *err);
	void *auth_arg;
	/* Receives HTTP traces (a line each, credentials left out), on any thread; NULL = none are
	 * made. */
	void (*log)(void *arg, const char *line);
	void *log_arg;
	bool push;		       /* tokens are asked for with scope pull,push */
	const char *const *mount_from; /* with scope pull for these repositories, too */
	size_t n_mount_from;
	/* A call whose last host says nothing for so long, over all attempts, fails with
	 * -ERR_UNAVAILABLE; 0 = 60 s. The hosts before that have half of it each. */
	int64_t silence_ns;
};

struct fetch_descriptor {
	char media_type[256]; /* may be empty in fetch_blob: then it is a blob, not a manifest */
	struct digest digest;
	int64_t size; /* -1 = unknown (fetch_blob: no limit but FETCH_MANIFEST_MAX for manifests) */
};

#define FETCH_MANIFEST_MAX (4 * 1048 * 1048)

struct fetch;

/* Starts the worker; nothing is sent to a host yet. @o is copied but for callbacks and their args.
 * Freeing it while calls are in flight is not allowed: cancel their ctx first. */
int fetch_start(struct ctx *ctx, const struct fetch_options *o, struct fetch **ret,
		struct err *err) _must_check_;
void fetch_free(struct fetch *f);

/* What the reference's object is: media type, digest, size.
 * -ERR_NOT_FOUND no host has it; -ERR_PERMISSION_DENIED / -ERR_UNAUTHENTICATED (403 / 401);
 * -ERR_UNAVAILABLE no host could be reached. */
int fetch_resolve(struct fetch *f, struct ctx *ctx, struct fetch_descriptor *ret,
		  struct err *err) _must_check_;

/* Fetches manifest or blob (by @d->media_type) from byte @offset on. Interrupted transfers are
 * resumed. Several threads may call this at the same time on one session. The worker gets no file:
 * its bytes come through a pipe into memory of this process.
 *
 * @sink  on the caller's thread, with the bytes in their order, from @offset on; never beyond
 * @d->size. When the server cannot resume, @sink's offset falls to 0 (first in a call with @n 0):
 * the receiver forgets what it has and starts anew. Its error ends the transfer and is returned.
 * What came before another error has been given to it.
 *
 * 0 = all @d->size bytes were given; that they are the right ones is the caller's to check. */
int fetch_blob(struct fetch *f, struct ctx *ctx, const struct fetch_descriptor *d, int64_t offset,
	       int (*sink)(void *arg, int64_t offset, const void *p, size_t n, struct err *err),
	       void *arg, struct err *err) _must_check_;

/* The same for @length bytes (> 0) of a blob whose size is known; @sink's offset never falls.
 * -ERR_UNIMPLEMENTED when the server sends no parts of blobs. */
int fetch_blob_part(struct fetch *f, struct ctx *ctx, const struct fetch_descriptor *d,
		    int64_t offset, int64_t length,
		    int (*sink)(void *arg, int64_t offset, const void *p, size_t n,
				struct err *err),
		    void *arg, struct err *err) _must_check_;

struct push_options {
	const char *reference;	/* tag of a manifest; "" or NULL = pushed by its digest */
	const char *mount_from; /* repository of the same registry that may have the blob; or "" */
	void (*progress)(void *arg, int64_t sent); /* on the caller's thread; may be NULL */
	void *arg;
};

enum push_result { PUSH_SENT, PUSH_EXISTS, PUSH_MOUNTED };

/* Pushes manifest or blob (by @d->media_type; size known) to the first host that has FETCH_PUSH,
 * of a session with fetch_options.push. What a manifest names must be there before. Several threads
 * may call this at the same time on one session.
 *
 * @fd  regular file, open for reading only: the worker must not be able to change it. Stays the
 * caller's.
 *
 * -ERR_NOT_FOUND no host takes pushes; -ERR_PERMISSION_DENIED / -ERR_UNAUTHENTICATED (403 / 401);
 * -ERR_UNAVAILABLE the host could not be reached. Texts name step, URL and status. */
int fetch_push(struct fetch *f, struct ctx *ctx, const struct fetch_descriptor *d, int fd,
	       const struct push_options *o, enum push_result *ret, struct err *err) _must_check_;

/* ---- Packing a layer: what is different between two trees ---- */

enum pack_compression { PACK_NONE, PACK_GZIP, PACK_ZSTD };

struct pack_request {
	int lower_fd; /* directories, O_RDONLY; -1 = nothing: all of upper is in the layer */
	int upper_fd;
	/* A directory that has a name for whatever may differ, and for the directories above it:
	 * an overlay's upper directory. Nothing else is looked at then. -1 = not known. */
	int changed_fd;
	enum pack_compression compression;
	const struct timespec *epoch; /* nothing in the layer is newer; NULL = times as they are */
	/* Gets the layer, on the caller's thread; an error ends the call. */
	int (*write)(void *arg, const void *p, size_t n, struct err *err);
	void *arg;
};

struct pack_result {
	struct digest diff_id; /* sha256 of the uncompressed layer */
	int64_t size;	       /* of that */
	int64_t entries;
};

/* Starts a worker, writes what it makes, ends it. The descriptors stay the caller's. The same trees
 * give the same bytes.
 *
 * -ERR_FAILED_PRECONDITION  upper was changed during the call
 * -ERR_RESOURCE_EXHAUSTED   more than 1 TiB
 * -ERR_UNAVAILABLE          the worker died or could not be started */
int worker_pack(struct ctx *ctx, const struct pack_request *r, struct pack_result *ret,
		struct err *err) _must_check_;

/* ---- Another compression for a layer ---- */

struct recompress_request {
	int input_fd; /* a file or a pipe; gzip, zstd or plain, by its first bytes */
	enum pack_compression compression;
	/* Gets what comes out, on the caller's thread; an error ends the call. */
	int (*write)(void *arg, const void *p, size_t n, struct err *err);
	void *arg;
};

/* Starts a worker, passes its output on, ends it. @ret has no entries. The same plain bytes give
 * the same output. Errors as those of unpacking. */
int worker_recompress(struct ctx *ctx, const struct recompress_request *r, struct pack_result *ret,
		      struct err *err) _must_check_;

/* Next message of a worker; @ctx may end the wait. The caller decrefs. */
struct json_t;
int worker_receive(struct ctx *ctx, struct worker *w, struct json_t **ret,
		   struct err *err) _must_check_;

DEFINE_CLEANUP(struct worker *, worker_free)
DEFINE_CLEANUP(struct fetch *, fetch_free)
