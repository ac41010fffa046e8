/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoints: see checkpoint.h. */
#include "plugins/runtime/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "core/worker.h"
#include "plugins/differ/temp_mount.h"
#include "protos.h"

static bool is_type(const struct any *any, const ProtobufCMessageDescriptor *d)
{
	const char *slash = strrchr(any->type_url, '/');
	return streq(slash ? slash + 1 : any->type_url, d->name);
}

/* ---- options ---- */

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations" /* old clients still send these */

int create_options_read(struct arena *a, const char *runtime, struct runtime_create *c,
			struct err *err)
{
	const ProtobufCMessageDescriptor *d = &containerd__runc__v1__options__descriptor;
	Containerd__Runc__V1__Options *o;
	if (str_empty(c->options.type_url))
		return 0;
	if (!is_type(&c->options, d))
		return err_set_raw(err, ERR_UNKNOWN, "invalid task create option for %s", runtime);
	int r = rpc_unpack(a, d, c->options.value, c->options.len, &o, err);
	if (r < 0)
		return r;
	if (str_empty(c->checkpoint))
		c->checkpoint = o->criu_image_path;
	if (str_empty(c->task_api_address)) {
		c->task_api_address = o->task_api_address;
		c->task_api_version = o->task_api_version;
	}
	return 0;
}

#pragma GCC diagnostic pop

/* ---- making one ---- */

struct output {
	struct content_writer *w;
	int64_t size;
};

static int piece(void *arg, const void *p, size_t n, struct err *err)
{
	struct output *o = arg;
	o->size += (int64_t)n;
	return content_writer_write(o->w, p, n, err);
}

static int commit(struct ctx *ctx, struct output *o, struct descriptor *ret, struct err *err)
{
	struct digest digest;
	struct labels none = {0};
	struct err why = ERR_INIT;
	int r = content_writer_digest(o->w, &digest, err);
	if (r < 0)
		return r;
	char *text = arena_strdup(ctx->arena, digest.text);
	if (!text)
		return err_nomem(err);
	r = content_writer_commit(ctx, o->w, o->size, text, &none, &digest, &why);
	if (r < 0 && r != -ERR_ALREADY_EXISTS)
		return err_copy(err, &why);
	*ret = (struct descriptor){
		.media_type = MEDIA_TYPE_CHECKPOINT, .digest = text, .size = o->size};
	return 0;
}

static int pack_images(struct ctx *ctx, struct db *db, const char *dir, struct descriptor *ret,
		       struct err *err)
{
	struct output o = {0};
	struct pack_result result;
	_cleanup_close_ int fd = dir_open(dir, err);
	if (fd < 0)
		return fd;
	int r = content_writer_open(ctx, db, dir, 0, "", &o.w, err);
	if (r < 0)
		return r;
	struct pack_request q = {.lower_fd = -1,
				 .upper_fd = fd,
				 .changed_fd = -1,
				 .compression = PACK_NONE,
				 .write = piece,
				 .arg = &o};
	r = worker_pack(ctx, &q, &result, err);
	if (r == 0)
		r = commit(ctx, &o, ret, err);
	content_writer_close(o.w);
	if (r < 0) {
		struct ctx own = {.arena = ctx->arena, .ns = ctx->ns, .lease = ctx->lease};
		(void)!content_abort(&own, db, dir, NULL);
	}
	return r;
}

static int pack_spec(struct ctx *ctx, struct db *db, const char *dir, const struct any *spec,
		     struct descriptor *ret, struct err *err)
{
	Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;
	struct labels none = {0};
	struct digest digest;
	size_t n;
	any.type_url = (char *)str_or(spec->type_url, "");
	any.value = (ProtobufCBinaryData){spec->len, (uint8_t *)spec->value};
	uint8_t *p = rpc_pack(ctx->arena, &any.base, &n);
	char *ref = path_join(ctx->arena, dir, "spec");
	if (!p || !ref)
		return err_nomem(err);
	digest_of(DIGEST_SHA256, p, n, &digest);
	struct descriptor d = {.media_type = MEDIA_TYPE_CHECKPOINT_CONFIG,
			       .digest = arena_strdup(ctx->arena, digest.text),
			       .size = (int64_t)n};
	if (!d.digest)
		return err_nomem(err);
	int r = content_put(ctx, db, ref, &d, p, &none, err);
	if (r == 0)
		*ret = d;
	return r;
}

static int temp_dir(struct arena *a, char **ret, struct err *err)
{
	const char *base = getenv("XDG_RUNTIME_DIR");
	if (str_empty(base))
		base = getenv("TMPDIR");
	char *dir = arena_printf(a, "%s/ctrd-checkpointXXXXXX", str_or(base, "/tmp"));
	if (!dir)
		return err_nomem(err);
	if (!mkdtemp(dir))
		return err_errno(err, errno, "make directory %s", dir);
	*ret = dir;
	return 0;
}

static int call_shim(struct ctx *ctx, struct task *t, const char *dir, const struct any *options,
		     struct err *err)
{
	Containerd__Task__V3__CheckpointTaskRequest req =
		CONTAINERD__TASK__V3__CHECKPOINT_TASK_REQUEST__INIT;
	Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;
	req.id = (char *)task_id(t);
	req.path = (char *)dir;
	if (!str_empty(options->type_url)) {
		any.type_url = (char *)options->type_url;
		any.value = (ProtobufCBinaryData){options->len, (uint8_t *)options->value};
		req.options = &any;
	}
	return task_call(ctx, t, "Checkpoint", &req.base, &google__protobuf__empty__descriptor,
			 NULL, err);
}

static int image_path(struct arena *a, const char *runtime, const struct any *options,
		      const char **ret, struct err *err)
{
	const ProtobufCMessageDescriptor *d = &containerd__runc__v1__checkpoint_options__descriptor;
	Containerd__Runc__V1__CheckpointOptions *o;
	*ret = "";
	if (str_empty(options->type_url))
		return 0;
	if (!is_type(options, d))
		return err_set_raw(err, ERR_UNKNOWN, "invalid task checkpoint option for %s",
				   runtime);
	int r = rpc_unpack(a, d, options->value, options->len, &o, err);
	if (r == 0)
		*ret = o->image_path;
	return r;
}

int runtime_checkpoint(struct ctx *ctx, struct runtime *rt, const char *id,
		       const struct any *options, struct checkpoint *ret, struct err *err)
{
	_cleanup_(task_unrefp) struct task *t = NULL;
	struct container ct;
	struct db *db = runtime_db(rt);
	const char *path;
	char *dir;
	int r = container_get(ctx, db, id, &ct, err);
	if (r == 0)
		r = runtime_get(ctx, rt, id, &t, err);
	if (r == 0)
		r = image_path(ctx->arena, ct.runtime_name, options, &path, err);
	if (r < 0)
		return r;
	if (*path) {
		ret->n = 0;
		return call_shim(ctx, t, path, options, err);
	}
	r = temp_dir(ctx->arena, &dir, err);
	if (r < 0)
		return r;
	r = call_shim(ctx, t, dir, options, err);
	if (r == 0)
		r = pack_images(ctx, db, dir, &ret->v[0], err);
	if (r == 0)
		r = pack_spec(ctx, db, dir, &ct.spec, &ret->v[1], err);
	if (rm_rf(AT_FDCWD, dir) < 0)
		log_warn("checkpoint of task %s: cannot remove %s", id, dir);
	if (r == 0)
		ret->n = 2;
	return r;
}

/* ---- and back ---- */

int checkpoint_unpack(struct ctx *ctx, struct db *db, const struct bundle *b,
		      const struct descriptor *d, const char **ret_dir, struct err *err)
{
	_cleanup_close_ int fd = -1, dir_fd = -1;
	struct unpack_result result;
	int64_t size;
	char *dir = path_join(ctx->arena, b->work, "checkpoint");
	if (!dir)
		return err_nomem(err);
	if (!streq(d->media_type, MEDIA_TYPE_CHECKPOINT))
		return err_set_raw(err, ERR_UNKNOWN, "unsupported checkpoint type \"%s\"",
				   d->media_type);
	int r = content_open(ctx, db, d->digest, &fd, &size, err);
	if (r < 0)
		return r;
	if (mkdir(dir, 0700) < 0)
		return err_errno(err, errno, "make %s", dir);
	dir_fd = dir_open(dir, err);
	if (dir_fd < 0)
		return dir_fd;
	struct unpack_request q = {.input_fd = fd,
				   .media_type = d->media_type,
				   .target_fd = dir_fd,
				   .whiteouts = UNPACK_PLAIN};
	r = worker_unpack(ctx, &q, &result, err);
	if (r < 0)
		return err ? err_prefix(err, "unpack the checkpoint %s", d->digest) : r;
	*ret_dir = dir;
	return 0;
}
