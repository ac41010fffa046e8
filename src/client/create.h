/* SPDX-License-Identifier: Apache-2.0 */
/* Making a container: snapshot of its image, spec, record. All of it under a lease, so that no
 * garbage collection takes it before the record names it.
 *
 *     r = client_create_begin(c, ctx, &lease, err);   the lease is asked for
 *     r = client_create(c, ctx, &o, &lease, &mounts, err);
 *     ...                                             the task, say
 *     client_create_end(c, ctx, &lease, err);         in any case
 *
 * What the lease's calls wait for goes on beside the others. */
#pragma once

#include "base/json.h"
#include "client/image.h"

struct client_create_options {
	const char *id;
	const char *image;	 /* "" = no image, and no snapshot */
	const char *platform;	 /* "" = this host's */
	const char *snapshotter; /* with an image */
	bool sync_fs;		 /* when the image is to be unpacked */
	const char *runtime;
	const Google__Protobuf__Any *runtime_options; /* NULL = none */
	const char *sandbox;			      /* "" = none */
	struct labels labels, snapshot_labels;	      /* the image's labels come by themselves */
	/* The spec; @image is NULL when there is none. */
	int (*spec)(void *arg, const struct client_image *image, const struct client_mounts *mounts,
		    json_t **ret, struct err *err);
	void *spec_arg;
};

int client_create_begin(struct client *c, struct ctx *ctx, struct rpc_stream **ret_lease,
			struct err *err) _must_check_;
/* When it fails, nothing is left but what the lease's end collects. @ret_mounts: of the snapshot,
 * empty without one. */
int client_create(struct client *c, struct ctx *ctx, const struct client_create_options *o,
		  struct rpc_stream **lease, struct client_mounts *ret_mounts,
		  struct err *err) _must_check_;
/* Waits for the end of the lease. */
int client_create_end(struct client *c, struct ctx *ctx, struct rpc_stream **lease,
		      struct err *err) _must_check_;
/* Deletes record and snapshot (@snapshotter "" = none) as they were made. */
int client_create_undo(struct client *c, struct ctx *ctx, const char *id, const char *snapshotter,
		       struct err *err) _must_check_;
/* Deletes the record, and the snapshot unless @keep_snapshot. */
int client_container_remove(struct client *c, struct ctx *ctx, const char *id, bool keep_snapshot,
			    struct err *err) _must_check_;
