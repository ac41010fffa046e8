/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoints of tasks: what the OCI runtime writes into a directory, as content, and back. */
#pragma once

#include "core/content.h"
#include "plugins/runtime/bundle.h"
#include "plugins/runtime/runtime.h"

#define MEDIA_TYPE_CHECKPOINT "application/vnd.containerd.container.criu.checkpoint.criu.tar"
#define MEDIA_TYPE_CHECKPOINT_CONFIG \
	"application/vnd.containerd.container.checkpoint.config.v1+proto"

struct checkpoint {
	struct descriptor v[2]; /* in ctx's arena */
	size_t n;		/* 0: it went into the directory that the options name */
};

/* Checkpoints the task @id: its images as a tar, and the container's spec.
 * @options  containerd.runc.v1.CheckpointOptions or absent; with an image_path nothing is put into
 * the content store */
int runtime_checkpoint(struct ctx *ctx, struct runtime *rt, const char *id,
		       const struct any *options, struct checkpoint *ret,
		       struct err *err) _must_check_;

/* Unpacks the checkpoint @d into the bundle's work directory, with which it goes.
 * -ERR_UNKNOWN `unsupported checkpoint type "x"` */
int checkpoint_unpack(struct ctx *ctx, struct db *db, const struct bundle *b,
		      const struct descriptor *d, const char **ret_dir,
		      struct err *err) _must_check_;

/* What options of a creation say about restoring and sandboxes goes into @c, unless it is set
 * there. -ERR_UNKNOWN `invalid task create option for @runtime` */
int create_options_read(struct arena *a, const char *runtime, struct runtime_create *c,
			struct err *err) _must_check_;
