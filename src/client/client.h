/* SPDX-License-Identifier: Apache-2.0 */
/* C client of a containerd: one connection, thin calls.
 *
 * A connection is for the thread that makes it, which moves its bytes whenever it waits for an
 * answer: no other has to be woken for that. After client_share() a thread of the connection's own
 * does it, and calls may come from any number of threads, each with its own ctx (arena, namespace,
 * lease, deadline). Calls block. Replies live in ctx's arena. Errors carry the daemon's status:
 * kind and text as sent; -ERR_UNAVAILABLE when the connection is gone. Nothing is printed. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/ctx.h"
#include "base/err.h"
#include "base/labels.h"
#include "client/pb.h"
#include "rpc/rpc.h"

struct client;

/* @address: path of a unix socket (relative ones, too), also as "unix://path", "unix:path" and
 * "unix-abstract:name". @timeout_ns: how long to wait for
 * somebody to listen there, 0 = not at all. -ERR_UNAVAILABLE, one line that names the address. */
int client_connect(const char *address, int64_t timeout_ns, struct client **ret,
		   struct err *err) _must_check_;
/* The same to a socket that speaks ttrpc: a shim's. Only client_call() works there. */
int client_connect_ttrpc(const char *path, struct client **ret, struct err *err) _must_check_;
void client_free(struct client *c);
/* For other threads too; also for one that goes away for long between its calls. */
int client_share(struct client *c, struct err *err) _must_check_;
/* For a poll() of one's own beside calls that are under way: a descriptor (-1 = none is needed),
 * how long to wait at most, and what to do when either has come. */
int client_poll_fd(const struct client *c);
int client_poll_timeout(const struct client *c);
int client_poll(struct client *c, struct err *err) _must_check_;
struct rpc_client *client_rpc(struct client *c);
DEFINE_CLEANUP(struct client *, client_free)

/* One unary call. *@ret_resp (T ** or NULL) is the reply in ctx's arena. */
int client_call(struct client *c, struct ctx *ctx, const ProtobufCServiceDescriptor *service,
		const char *method, const ProtobufCMessage *req, void *ret_resp,
		struct err *err) _must_check_;
/* Opens a stream; with @req also sends it and closes the sending side (server streams). */
int client_stream(struct client *c, struct ctx *ctx, const ProtobufCServiceDescriptor *service,
		  const char *method, const ProtobufCMessage *req, struct rpc_stream **ret,
		  struct err *err) _must_check_;

/* Type of an event or of metrics, by the type_url of its Any; NULL = not known. */
const ProtobufCMessageDescriptor *client_any_type(const char *url);

/* ---- Images and content ---- */
int client_image_get(struct client *c, struct ctx *ctx, const char *name, PB_IMAGES(Image) * *ret,
		     struct err *err) _must_check_;
/* One more name for an image; @force: that may be another image's. -ERR_ALREADY_EXISTS */
int client_image_tag(struct client *c, struct ctx *ctx, const char *source, const char *name,
		     bool force, struct err *err) _must_check_;
/* A whole blob of at most @max bytes, NUL-terminated in the arena. -ERR_RESOURCE_EXHAUSTED when
 * larger. Its digest is checked. */
int client_content_read(struct client *c, struct ctx *ctx, const char *digest, size_t max,
			char **ret, size_t *ret_len, struct err *err) _must_check_;
/* The same in two steps, so that many are under way at once: asked for, and waited for (which frees
 * @s). */
int client_content_request(struct client *c, struct ctx *ctx, const char *digest,
			   struct rpc_stream **ret, struct err *err) _must_check_;
int client_content_receive(struct rpc_stream *s, struct ctx *ctx, const char *digest, size_t max,
			   char **ret, size_t *ret_len, struct err *err) _must_check_;

/* ---- Writing content (content.c) ---- */
struct digest;
struct client_writer;
/* Starts the ingest @ref anew; while somebody else writes it, waits, within @ctx. @ctx stays where
 * it is until the writer is freed. */
int client_writer_open(struct client *c, struct ctx *ctx, const char *ref,
		       struct client_writer **ret, struct err *err) _must_check_;
int client_writer_write(struct client_writer *w, const void *p, size_t n,
			struct err *err) _must_check_;
/* Makes it a blob with @labels (NULL = none). One that the daemon had already is as good; it gets
 * what it lacks of the labels. */
int client_writer_commit(struct client_writer *w, const struct labels *labels,
			 struct digest *ret_digest, int64_t *ret_size,
			 struct err *err) _must_check_;
/* Without a commit the ingest stays; client_content_abort() drops it. */
void client_writer_free(struct client_writer *w);
DEFINE_CLEANUP(struct client_writer *, client_writer_free)
/* All of it in one go. */
int client_content_put(struct client *c, struct ctx *ctx, const char *ref, const void *p, size_t n,
		       const struct labels *labels, struct digest *ret,
		       struct err *err) _must_check_;
int client_content_abort(struct client *c, struct ctx *ctx, const char *ref,
			 struct err *err) _must_check_;
/* In the arena. -ERR_NOT_FOUND */
int client_content_labels(struct client *c, struct ctx *ctx, const char *digest, struct labels *ret,
			  struct err *err) _must_check_;
/* Changes single labels of a blob; an empty value removes one. */
int client_content_set_labels(struct client *c, struct ctx *ctx, const char *digest,
			      const struct labels *labels, struct err *err) _must_check_;

/* The answer of a unary call that was sent by client_stream(), and the end of @s. */
int client_reply(struct ctx *ctx, struct rpc_stream *s, const ProtobufCMessageDescriptor *desc,
		 void *ret_resp, struct err *err) _must_check_;

/* ---- Leases: what is made under ctx->lease is kept until the lease goes ---- */
/* Makes a lease that ends by itself after @seconds; *@ret_id is in ctx's arena. */
int client_lease_create(struct client *c, struct ctx *ctx, int64_t seconds, const char **ret_id,
			struct err *err) _must_check_;
int client_lease_delete(struct client *c, struct ctx *ctx, const char *id,
			struct err *err) _must_check_;
/* The halves of client_lease_create(): other calls may run between them. */
int client_lease_request(struct client *c, struct ctx *ctx, int64_t seconds,
			 struct rpc_stream **ret, struct err *err) _must_check_;
int client_lease_receive(struct ctx *ctx, struct rpc_stream *s, const char **ret_id,
			 struct err *err) _must_check_;

/* ---- Snapshots ---- */
struct client_mounts {
	PB_TYPES(Mount) * *v;
	size_t n;
};
/* The namespace's label containerd.io/defaults/snapshotter, else "overlayfs". */
int client_default_snapshotter(struct client *c, struct ctx *ctx, const char **ret,
			       struct err *err) _must_check_;
/* An active snapshot (@view: a read-only one) on @parent ("" = empty). */
int client_snapshot_prepare(struct client *c, struct ctx *ctx, const char *snapshotter,
			    const char *key, const char *parent, bool view,
			    const struct labels *labels, struct client_mounts *ret,
			    struct err *err) _must_check_;
int client_snapshot_mounts(struct client *c, struct ctx *ctx, const char *snapshotter,
			   const char *key, struct client_mounts *ret,
			   struct err *err) _must_check_;
int client_snapshot_commit(struct client *c, struct ctx *ctx, const char *snapshotter,
			   const char *name, const char *key, const struct labels *labels,
			   struct err *err) _must_check_;
int client_snapshot_remove(struct client *c, struct ctx *ctx, const char *snapshotter,
			   const char *key, struct err *err) _must_check_;
/* What it takes on disk by itself; @ret_inodes may be NULL. */
int client_snapshot_usage(struct client *c, struct ctx *ctx, const char *snapshotter,
			  const char *key, int64_t *ret_size, int64_t *ret_inodes,
			  struct err *err) _must_check_;
/* -ERR_NOT_FOUND */
int client_snapshot_stat(struct client *c, struct ctx *ctx, const char *snapshotter,
			 const char *key, PB_SNAPSHOTS(Info) * *ret, struct err *err) _must_check_;

/* ---- Containers ---- */
int client_container_get(struct client *c, struct ctx *ctx, const char *id,
			 PB_CONTAINERS(Container) * *ret, struct err *err) _must_check_;
int client_container_create(struct client *c, struct ctx *ctx, PB_CONTAINERS(Container) * container,
			    struct err *err) _must_check_;
int client_container_delete(struct client *c, struct ctx *ctx, const char *id,
			    struct err *err) _must_check_;
/* Changes single labels; an empty value removes one. */
int client_container_set_labels(struct client *c, struct ctx *ctx, const char *id,
				const struct labels *labels, PB_CONTAINERS(Container) * *ret,
				struct err *err) _must_check_;

/* ---- Tasks; @exec_id "" is the task's first process ---- */
int client_task_get(struct client *c, struct ctx *ctx, const char *id, const char *exec_id,
		    PB_TASK_TYPES(Process) * *ret, struct err *err) _must_check_;
int client_task_start(struct client *c, struct ctx *ctx, const char *id, const char *exec_id,
		      uint32_t *ret_pid, struct err *err) _must_check_;
int client_task_kill(struct client *c, struct ctx *ctx, const char *id, const char *exec_id,
		     int signal, bool all, struct err *err) _must_check_;
/* Deletes a task that has ended, or one exec of it. */
int client_task_delete(struct client *c, struct ctx *ctx, const char *id, const char *exec_id,
		       uint32_t *ret_status, struct err *err) _must_check_;
/* The same in two, so that something else can be done meanwhile: as client_lease_request(). */
int client_task_delete_request(struct client *c, struct ctx *ctx, const char *id,
			       const char *exec_id, struct rpc_stream **ret,
			       struct err *err) _must_check_;
int client_task_delete_receive(struct ctx *ctx, struct rpc_stream *s, uint32_t *ret_status,
			       struct err *err) _must_check_;
int client_task_resize(struct client *c, struct ctx *ctx, const char *id, const char *exec_id,
		       uint32_t width, uint32_t height, struct err *err) _must_check_;
int client_task_resume(struct client *c, struct ctx *ctx, const char *id,
		       struct err *err) _must_check_;
/* *@ret_data is the message in *@ret: metrics of cgroup v1 or v2. */
int client_task_metrics(struct client *c, struct ctx *ctx, const char *id, PB_TYPES(Metric) * *ret,
			ProtobufCMessage **ret_data, struct err *err) _must_check_;
int client_task_close_stdin(struct client *c, struct ctx *ctx, const char *id, const char *exec_id,
			    struct err *err) _must_check_;

/* Waits for the end of a process without a thread. The request is on its way when client_wait_new()
 * returns, so an exit that comes later is never missed. client_wait_fd() becomes readable (for
 * poll) when the answer is there. */
struct client_wait;
int client_wait_new(struct client *c, struct ctx *ctx, const char *id, const char *exec_id,
		    struct client_wait **ret, struct err *err) _must_check_;
int client_wait_fd(const struct client_wait *w);
/* Blocks until the answer. */
int client_wait_result(struct client_wait *w, uint32_t *ret_status, struct err *err) _must_check_;
void client_wait_free(struct client_wait *w);
DEFINE_CLEANUP(struct client_wait *, client_wait_free)
