/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoint images: an index whose manifests are parts of a container (images of its processes,
 * spec, options of the runtime, writable layer, its image), as containerd's client writes and reads
 * them. */
#pragma once

#include "ctr/ctr.h"
#include "oci/descriptor.h"

#define CHECKPOINT_TASK "application/vnd.containerd.container.criu.checkpoint.criu.tar"
#define CHECKPOINT_CONFIG "application/vnd.containerd.container.checkpoint.config.v1+proto"
#define CHECKPOINT_OPTIONS "application/vnd.containerd.container.checkpoint.options.v1+proto"
#define CHECKPOINT_RUNTIME_OPTIONS \
	"application/vnd.containerd.container.checkpoint.runtime.options+proto"
#define CHECKPOINT_RUNTIME "io.containerd.checkpoint.runtime"
#define CHECKPOINT_SNAPSHOTTER "io.containerd.checkpoint.snapshotter"
#define CHECKPOINT_IMAGE_NAME "org.opencontainers.image.ref.name"

/* One that is being made; checkpoint_done(). */
struct checkpoint {
	struct ctr *c;
	json_t *manifests, *annotations;
};

int checkpoint_init(struct ctr *c, struct checkpoint *ret, struct err *err) _must_check_;
void checkpoint_done(struct checkpoint *k);
#define _cleanup_checkpoint_ _cleanup_(checkpoint_done)

int checkpoint_annotate(struct checkpoint *k, const char *key, const char *value,
			struct err *err) _must_check_;
/* Tasks.Checkpoint; what it answers becomes part of the index. @options NULL = none. */
int checkpoint_add_task(struct checkpoint *k, const char *id, const Google__Protobuf__Any *options,
			struct err *err) _must_check_;
/* A message as a blob. @ref: key of the ingest. */
int checkpoint_add_message(struct checkpoint *k, const char *media_type, const char *ref,
			   const ProtobufCMessage *m, struct err *err) _must_check_;
int checkpoint_add_image(struct checkpoint *k, const char *name, struct err *err) _must_check_;
/* What the snapshot has differently from its parent. */
int checkpoint_add_layer(struct checkpoint *k, const char *snapshotter, const char *key,
			 struct err *err) _must_check_;
/* Writes the index and makes the image @name of it. */
int checkpoint_commit(struct checkpoint *k, const char *ref, const char *name,
		      const struct labels *labels, struct err *err) _must_check_;

/* ---- and back ---- */

/* The index of the image @name; the caller decrefs. */
int checkpoint_load(struct ctr *c, const char *name, json_t **ret, struct err *err) _must_check_;
/* Its first manifest of that media type. -ERR_NOT_FOUND */
int checkpoint_part(struct ctr *c, const json_t *index, const char *media_type,
		    struct descriptor *ret, struct err *err) _must_check_;
/* An Any that is a part. */
int checkpoint_any(struct ctr *c, const struct descriptor *d, Google__Protobuf__Any **ret,
		   struct err *err) _must_check_;

/* Freezes a task that runs; *@ret_paused: checkpoint_resume() has to follow. A container without a
 * task is fine. */
int checkpoint_pause(struct ctr *c, const char *id, bool *ret_paused, struct err *err) _must_check_;
/* What fails is told as a warning. */
void checkpoint_resume(struct ctr *c, const char *id);
