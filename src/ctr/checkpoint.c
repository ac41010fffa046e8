/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoint images: see checkpoint.h. */
#include "ctr/checkpoint.h"

#include "base/digest.h"
#include "base/time.h"
#include "ctr/record.h"
#include "oci/manifest.h"
#include "oci/platform.h"

#define PART_MAX (16u << 20)

int checkpoint_init(struct ctr *c, struct checkpoint *ret, struct err *err)
{
	*ret = (struct checkpoint){c, json_array(), json_object()};
	return ret->manifests && ret->annotations ? 0 : err_nomem(err);
}

void checkpoint_done(struct checkpoint *k)
{
	json_decref(k->manifests);
	json_decref(k->annotations);
	k->manifests = k->annotations = NULL;
}

int checkpoint_annotate(struct checkpoint *k, const char *key, const char *value, struct err *err)
{
	return json_object_set_new(k->annotations, key, json_string(value)) < 0 ? err_nomem(err)
										: 0;
}

/* ---- parts ---- */

static int add(struct checkpoint *k, const char *media_type, const char *digest, int64_t size,
	       bool platform, struct err *err)
{
	json_t *d = json_pack("{s:s,s:s,s:I}", "mediaType", media_type, "digest", digest, "size",
			      (json_int_t)size);
	struct platform host;

	if (d && platform &&
	    (platform_host(k->c->ctx.arena, &host) < 0 ||
	     json_object_set_new(d, "platform",
				 json_pack("{s:s,s:s}", "architecture", host.arch, "os", host.os)) <
		     0)) {
		json_decref(d);
		d = NULL;
	}
	return d && json_array_append_new(k->manifests, d) == 0 ? 0 : err_nomem(err);
}

int checkpoint_add_task(struct checkpoint *k, const char *id, const Google__Protobuf__Any *options,
			struct err *err)
{
	PB_TASKS(CheckpointTaskRequest) req = PB_TASKS_INIT(CHECKPOINT_TASK_REQUEST);
	PB_TASKS(CheckpointTaskResponse) * resp;
	int r;

	req.container_id = (char *)id;
	req.options = (Google__Protobuf__Any *)options;
	r = client_call(k->c->client, &k->c->ctx, PB_TASKS_SERVICE, "Checkpoint", &req.base, &resp,
			err);
	for (size_t i = 0; r == 0 && i < resp->n_descriptors; i++) {
		const PB_TYPES(Descriptor) *d = resp->descriptors[i];

		r = add(k, d->media_type, d->digest, d->size, true, err);
	}
	return r;
}

int checkpoint_add_message(struct checkpoint *k, const char *media_type, const char *ref,
			   const ProtobufCMessage *m, struct err *err)
{
	struct digest digest;
	size_t n;
	uint8_t *p = rpc_pack(k->c->ctx.arena, m, &n);
	int r;

	if (!p)
		return err_nomem(err);
	r = client_content_put(k->c->client, &k->c->ctx, ref, p, n, NULL, &digest, err);
	return r < 0 ? r : add(k, media_type, digest.text, (int64_t)n, true, err);
}

int checkpoint_add_image(struct checkpoint *k, const char *name, struct err *err)
{
	PB_IMAGES(Image) * image;
	int r;

	r = client_image_get(k->c->client, &k->c->ctx, name, &image, err);
	return r < 0 ? r
		     : add(k, image->target->media_type, image->target->digest, image->target->size,
			   false, err);
}

static int diff(struct checkpoint *k, const char *key, const struct client_mounts *lower,
		const struct client_mounts *upper, struct err *err)
{
	PB_DIFF(DiffRequest) req = PB_DIFF_INIT(DIFF_REQUEST);
	PB_DIFF(DiffResponse) * resp;
	int r;

	req.left = lower->v;
	req.n_left = lower->n;
	req.right = upper->v;
	req.n_right = upper->n;
	req.media_type = (char *)MEDIA_OCI_LAYER "+gzip";
	req.ref = arena_printf(k->c->ctx.arena, "checkpoint-rw-%s", key);
	if (!req.ref)
		return err_nomem(err);
	r = client_call(k->c->client, &k->c->ctx, PB_DIFF_SERVICE, "Diff", &req.base, &resp, err);
	if (r < 0)
		return r;
	if (!resp->diff)
		return err_set(err, ERR_INTERNAL, "the diff came without a descriptor");
	return add(k, resp->diff->media_type, resp->diff->digest, resp->diff->size, true, err);
}

int checkpoint_add_layer(struct checkpoint *k, const char *snapshotter, const char *key,
			 struct err *err)
{
	struct ctr *c = k->c;
	struct client_mounts lower = {}, upper = {};
	PB_SNAPSHOTS(Info) * info;
	unsigned char bytes[6];
	char hex[13], *view;
	int r;

	r = client_snapshot_stat(c->client, &c->ctx, snapshotter, key, &info, err);
	if (r < 0)
		return r;
	random_bytes(bytes, sizeof(bytes));
	hex_encode(bytes, sizeof(bytes), hex);
	view = arena_printf(c->ctx.arena, "%s-parent-view-%s", key, hex);
	if (!view)
		return err_nomem(err);
	r = client_snapshot_prepare(c->client, &c->ctx, snapshotter, view, info->parent, true, NULL,
				    &lower, err);
	if (r < 0)
		return r;
	r = client_snapshot_mounts(c->client, &c->ctx, snapshotter, key, &upper, err);
	if (r == 0)
		r = diff(k, key, &lower, &upper, err);
	record_undo_snapshot(c, snapshotter, view);
	return r;
}

/* ---- the index ---- */

static int image_create(struct ctr *c, const char *name, const char *digest, int64_t size,
			const struct labels *labels, struct err *err)
{
	PB_IMAGES(CreateImageRequest) req = PB_IMAGES_INIT(CREATE_IMAGE_REQUEST);
	PB_IMAGES(Image) image = PB_IMAGES_INIT(IMAGE);
	PB_TYPES(Descriptor) target = PB_TYPES_INIT(DESCRIPTOR);

	target.media_type = (char *)MEDIA_OCI_INDEX;
	target.digest = (char *)digest;
	target.size = size;
	image.name = (char *)name;
	image.target = &target;
	if (PB_LABELS_OUT(c->ctx.arena, labels,
			  &containerd__services__images__v1__image__labels_entry__descriptor,
			  image.labels, image.n_labels) < 0)
		return err_nomem(err);
	req.image = &image;
	return client_call(c->client, &c->ctx, PB_IMAGES_SERVICE, "Create", &req.base, NULL, err);
}

static int refs_label(struct checkpoint *k, struct labels *ret)
{
	json_t *m;
	size_t i;

	json_array_foreach (k->manifests, i, m) {
		char key[64];

		snprintf(key, sizeof(key), "containerd.io/gc.ref.content.%zu", i);
		if (labels_set(k->c->ctx.arena, ret, key, json_str(m, "digest", "")) < 0)
			return -ENOMEM;
	}
	return 0;
}

int checkpoint_commit(struct checkpoint *k, const char *ref, const char *name,
		      const struct labels *labels, struct err *err)
{
	json_t *index _cleanup_json_ = json_pack("{s:i,s:s,s:O}", "schemaVersion", 2, "mediaType",
						 MEDIA_OCI_INDEX, "manifests", k->manifests);
	char *text _cleanup_free_ = NULL;
	struct labels refs = {};
	struct digest digest;
	int r;

	if (!index || (json_object_size(k->annotations) > 0 &&
		       json_object_set(index, "annotations", k->annotations) < 0))
		return err_nomem(err);
	text = json_dumps(index, JSON_COMPACT);
	if (!text || refs_label(k, &refs) < 0)
		return err_nomem(err);
	r = client_content_put(k->c->client, &k->c->ctx, ref, text, strlen(text), &refs, &digest,
			       err);
	return r < 0 ? r
		     : image_create(k->c, name, digest.text, (int64_t)strlen(text), labels, err);
}

/* ---- and back ---- */

int checkpoint_load(struct ctr *c, const char *name, json_t **ret, struct err *err)
{
	PB_IMAGES(Image) * image;
	char *text;
	size_t n;
	int r;

	r = client_image_get(c->client, &c->ctx, name, &image, err);
	if (r == 0 && !media_is_index(image->target->media_type))
		r = err_set(err, ERR_INVALID_ARGUMENT, "image \"%s\" is no checkpoint: it is a %s",
			    name, image->target->media_type);
	if (r == 0)
		r = client_content_read(c->client, &c->ctx, image->target->digest, MANIFEST_MAX,
					&text, &n, err);
	return r < 0 ? r : json_parse(text, n, ret, err);
}

int checkpoint_part(struct ctr *c, const json_t *index, const char *media_type,
		    struct descriptor *ret, struct err *err)
{
	json_t *m;
	size_t i;

	json_array_foreach (json_arr(index, "manifests"), i, m)
		if (streq(json_str(m, "mediaType", ""), media_type))
			return descriptor_from_json(c->ctx.arena, m, ret, err);
	return err_set(err, ERR_NOT_FOUND, "the checkpoint has no %s", media_type);
}

int checkpoint_any(struct ctr *c, const struct descriptor *d, Google__Protobuf__Any **ret,
		   struct err *err)
{
	char *p;
	size_t n;
	int r;

	r = client_content_read(c->client, &c->ctx, d->digest, PART_MAX, &p, &n, err);
	return r < 0 ? r
		     : rpc_unpack(c->ctx.arena, &google__protobuf__any__descriptor, p, n, ret, err);
}

/* ---- the task meanwhile ---- */

int checkpoint_pause(struct ctr *c, const char *id, bool *ret_paused, struct err *err)
{
	PB_TASKS(PauseTaskRequest) req = PB_TASKS_INIT(PAUSE_TASK_REQUEST);
	PB_TASK_TYPES(Process) * task;
	struct err e = ERR_INIT;
	int r;

	*ret_paused = false;
	r = client_task_get(c->client, &c->ctx, id, "", &task, &e);
	if (r == -ERR_NOT_FOUND)
		return 0;
	if (r < 0)
		return err_copy(err, &e);
	if (task->status != CONTAINERD__V1__TYPES__STATUS__RUNNING)
		return 0;
	req.container_id = (char *)id;
	r = client_call(c->client, &c->ctx, PB_TASKS_SERVICE, "Pause", &req.base, NULL, err);
	*ret_paused = r == 0;
	return r;
}

void checkpoint_resume(struct ctr *c, const char *id)
{
	PB_TASKS(ResumeTaskRequest) req = PB_TASKS_INIT(RESUME_TASK_REQUEST);
	struct err e = ERR_INIT;

	req.container_id = (char *)id;
	c->ctx.deadline = 0; /* whatever became of the command */
	if (client_call(c->client, &c->ctx, PB_TASKS_SERVICE, "Resume", &req.base, NULL, &e) < 0)
		ctr_warn("error resuming task: %s", e.text);
}
