/* SPDX-License-Identifier: Apache-2.0 */
/* CheckpointContainer: a running container into a tar file, as podman's and CRI-O's are made:
 *
 *     checkpoint/       images of CRIU
 *     config.dump       what the container was made from, JSON
 *     spec.dump         its runtime spec
 *     status            its status file; status.dump: the same as the CRI tells it
 *     container.log     its log
 *     rootfs-diff.tar   what it has changed in its root file system
 *     dump.log, stats-dump  of CRIU
 *
 * All is gathered in a directory of the container, which is removed whatever happens. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "base/time.h"
#include "core/lease.h"
#include "core/snapshot.h"
#include "core/worker.h"
#include "cri/container.h"
#include "plugins/differ/temp_mount.h"
#include "plugins/runtime/checkpoint.h"
#include "rpc/pb_json.h"

#define OPTIONS_TYPE "containerd.runc.v1.CheckpointOptions"
#define COPY_CHUNK (1u << 20)

struct checkpointing {
	struct ctx *ctx;
	struct cri *c;
	struct cri_container *k;
	const char *dir;
	struct container record;
};

static bool have_criu(void)
{
	const char *path =
		str_or(getenv("PATH"), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin");
	_cleanup_arena_ struct arena *a = arena_new(0);
	size_t n = 0;
	char **v = a ? str_split(a, path, ':', &n) : NULL;

	for (size_t i = 0; v && i < n; i++) {
		char *file = path_join(a, v[i], "criu");
		if (file && access(file, X_OK) == 0)
			return true;
	}
	return false;
}

int cri_criu_check(struct cri *c, struct err *err)
{
	if (!c->config->enable_criu)
		return err_set(err, ERR_UNKNOWN,
			       "criu support is disabled by configuration (enable_criu)");
	return have_criu() ? 0 : err_set(err, ERR_UNKNOWN, "criu binary not found in system PATH");
}

/* ---- pieces ---- */

static char *inside(struct checkpointing *s, const char *name)
{
	return path_join(s->ctx->arena, s->dir, name);
}

static int put(struct checkpointing *s, const char *name, const char *text, struct err *err)
{
	char *path = text ? inside(s, name) : NULL;
	int r = path ? file_write(AT_FDCWD, path, text, strlen(text), 0600) : -ENOMEM;
	return r < 0 ? err_errno(err, r, "write %s of the checkpoint", name) : 0;
}

static int put_json(struct checkpointing *s, const char *name, json_t *j, struct err *err)
{
	_cleanup_free_ char *text = j ? json_dumps(j, JSON_INDENT(2)) : NULL;

	json_decref(j);
	return text ? put(s, name, text, err) : err_nomem(err);
}

/* A file that may not be there. */
static int put_file(struct checkpointing *s, const char *name, const char *from, struct err *err)
{
	char *path = inside(s, name);
	_cleanup_close_ int in = open(from, O_RDONLY | O_CLOEXEC | O_NONBLOCK), out = -1;
	struct stat st;
	ssize_t n;

	if (!path)
		return err_nomem(err);
	if (in < 0 && errno == ENOENT)
		return 0;
	if (in < 0 || fstat(in, &st) < 0)
		return err_errno(err, errno, "open %s", from);
	if (!S_ISREG(st.st_mode))
		return err_set(err, ERR_FAILED_PRECONDITION, "%s is no file", from);
	out = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (out < 0)
		return err_errno(err, errno, "make %s", path);
	/* What is appended meanwhile is not part of it. */
	for (off_t left = st.st_size; left > 0; left -= n) {
		n = copy_file_range(in, NULL, out, NULL, (size_t)MIN(left, (off_t)COPY_CHUNK), 0);
		if (n < 0 && (errno == EXDEV || errno == EINVAL || errno == EOPNOTSUPP)) {
			_cleanup_free_ char *b = malloc(COPY_CHUNK);
			n = b ? fd_read_full(in, b, (size_t)MIN(left, (off_t)COPY_CHUNK)) : -ENOMEM;
			int r = n < 0 ? (int)n : fd_write_full(out, b, (size_t)n);
			if (r < 0)
				return err_errno(err, r, "copy %s", from);
		}
		if (n < 0)
			return err_errno(err, errno, "copy %s", from);
		if (n == 0)
			break;
	}
	return 0;
}

static char *time_text(struct arena *a, int64_t ns)
{
	time_t t = ns / NSEC_PER_SEC;
	struct tm tm;
	char b[32];

	gmtime_r(&t, &tm);
	strftime(b, sizeof(b), "%Y-%m-%dT%H:%M:%S", &tm);
	return arena_printf(a, "%s.%09lldZ", b, (long long)(ns % NSEC_PER_SEC));
}

static int put_config(struct checkpointing *s, const CRI(ContainerStatus) * status, struct err *err)
{
	struct timespec now = time_now();
	char *created = time_text(s->ctx->arena, status->created_at),
	     *taken = time_text(s->ctx->arena, now.tv_sec * NSEC_PER_SEC + now.tv_nsec);

	if (!created || !taken)
		return err_nomem(err);
	return put_json(s, "config.dump",
			json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "id", s->k->o.id,
				  "name", s->k->config->metadata->name, "rootfsImage",
				  s->k->image_ref, "rootfsImageRef", str_or(status->image_ref, ""),
				  "rootfsImageName",
				  status->image ? str_or(status->image->image, "") : "", "runtime",
				  str_or(s->record.runtime_name, ""), "createdTime", created,
				  "checkpointedTime", taken),
			err);
}

static int describe(struct checkpointing *s, struct err *err)
{
	char *root = cri_container_root(s->c, s->ctx->arena, s->k->o.id),
	     *file = root ? path_join(s->ctx->arena, root, "status") : NULL;
	CRI(ContainerStatus) * status;
	char *spec = arena_strndup(s->ctx->arena, s->record.spec.value, s->record.spec.len);
	int r = file && spec ? cri_container_status_of(s->ctx, s->c, s->k, &status, err)
			     : err_nomem(err);

	if (r == 0)
		r = put_config(s, status, err);
	if (r == 0)
		r = put(s, "spec.dump", spec, err);
	if (r == 0)
		r = put_file(s, "status", file, err);
	if (r == 0)
		r = put_json(s, "status.dump", pb_json(&status->base), err);
	if (r == 0 && !str_empty(s->k->log_path))
		r = put_file(s, "container.log", s->k->log_path, err);
	return r;
}

/* ---- the root file system ---- */

static int to_file(void *arg, const void *p, size_t n, struct err *err)
{
	int r = fd_write_full(*(int *)arg, p, n);
	return r < 0 ? err_errno(err, r, "write") : 0;
}

static int pack(struct checkpointing *s, int lower, int upper, int out, struct err *err)
{
	struct pack_result result;
	struct pack_request q = {.lower_fd = lower,
				 .upper_fd = upper,
				 .changed_fd = -1,
				 .compression = PACK_NONE,
				 .write = to_file,
				 .arg = &out};
	return worker_pack(s->ctx, &q, &result, err);
}

static int put_changes(struct checkpointing *s, struct err *err)
{
	struct temp_mount below = TEMP_MOUNT_INIT, own = TEMP_MOUNT_INIT;
	const char *sn = s->k->snapshotter;
	char *path = inside(s, "rootfs-diff.tar"),
	     *view = arena_printf(s->ctx->arena, "%s-checkpoint", s->k->o.id);
	struct mounts lower, upper;
	struct labels none = {0};
	struct snapshot_info info;
	int r = path && view ? snapshot_stat(s->ctx, s->c->o.db, sn, s->k->snapshot_key, &info, err)
			     : err_nomem(err);

	if (r == 0)
		r = snapshot_prepare(s->ctx, s->c->o.db, sn, SNAPSHOT_VIEW, view,
				     str_or(info.parent, ""), &none, &lower, err);
	if (r < 0)
		return r;
	_cleanup_close_ int out = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (out < 0)
		r = err_errno(err, errno, "make %s", path);
	if (r == 0)
		r = temp_mount(s->ctx, &lower, &below, err);
	if (r == 0)
		r = snapshot_mounts(s->ctx, s->c->o.db, sn, s->k->snapshot_key, &upper, err);
	if (r == 0)
		r = temp_mount(s->ctx, &upper, &own, err);
	if (r == 0)
		r = pack(s, below.fd, own.fd, out, err);
	temp_mount_done(&own);
	temp_mount_done(&below);
	struct ctx bg = cri_background(s->c, s->ctx->arena, s->c->config->defer_cleanup_timeout_ns);
	struct err undo = ERR_INIT;
	if (snapshot_remove(&bg, s->c->o.db, sn, view, &undo) < 0)
		log_warn("container %s: remove the view of its checkpoint: %s", s->k->o.id,
			 undo.text);
	return r < 0 ? err_prefix(err, "changes of the root file system") : 0;
}

/* ---- the whole ---- */

static int freeze(struct checkpointing *s, struct err *err)
{
	Containerd__Runc__V1__CheckpointOptions o = CONTAINERD__RUNC__V1__CHECKPOINT_OPTIONS__INIT;
	struct any options = {.type_url = OPTIONS_TYPE};
	struct checkpoint unused;
	size_t n;

	o.image_path = inside(s, "checkpoint");
	o.work_path = (char *)s->dir;
	if (!o.image_path)
		return err_nomem(err);
	options.value = rpc_pack(s->ctx->arena, &o.base, &n);
	options.len = n;
	return options.value ? runtime_checkpoint(s->ctx, s->c->o.runtime, s->k->o.id, &options,
						  &unused, err)
			     : err_nomem(err);
}

/* Beside the place it is for, then there, so that nobody finds half of one. */
static int archive(struct checkpointing *s, const char *location, struct err *err)
{
	char *part = arena_printf(s->ctx->arena, "%s.%.12s", location, s->k->o.id);
	_cleanup_close_ int dir = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), out = -1;

	if (!part)
		return err_nomem(err);
	out = open(part, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (dir < 0 || out < 0)
		return err_errno(err, errno, "make %s", part);
	int r = pack(s, -1, dir, out, err);
	if (r == 0 && (fsync(out) < 0 || rename(part, location) < 0))
		r = err_errno(err, errno, "make %s", location);
	if (r < 0)
		(void)unlink(part);
	return r;
}

static int make(struct checkpointing *s, const char *location, struct err *err)
{
	char *images = inside(s, "checkpoint");
	int r = !images ? -ENOMEM : rm_rf(AT_FDCWD, s->dir);

	if (r == 0 && (mkdir(s->dir, 0700) < 0 || mkdir(images, 0700) < 0))
		r = -errno;
	if (r < 0)
		return err_errno(err, r, "make %s", s->dir);
	r = container_get(s->ctx, s->c->o.db, s->k->o.id, &s->record, err);
	if (r == 0)
		r = freeze(s, err);
	if (r == 0)
		r = put_changes(s, err);
	if (r == 0)
		r = describe(s, err);
	return r < 0 ? r : archive(s, location, err);
}

static int begun(struct checkpointing *s, const char *location, struct err *err)
{
	char *root = cri_container_root(s->c, s->ctx->arena, s->k->o.id);
	struct lease_guard guard;

	pthread_mutex_lock(&s->k->o.lock);
	bool runs =
		cri_status_state(&s->k->status) == RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING;
	pthread_mutex_unlock(&s->k->o.lock);
	if (!runs)
		return err_set(err, ERR_UNKNOWN,
			       "container \"%s\" is not running: only running containers can be "
			       "checkpointed",
			       s->k->o.id);
	s->dir = root ? path_join(s->ctx->arena, root, "ctrd-checkpoint") : NULL;
	if (!s->dir)
		return err_nomem(err);
	int r = lease_guard_begin(s->ctx, s->c->o.db, &guard, err);
	if (r < 0)
		return r;
	r = make(s, location, err);
	lease_guard_end(s->ctx, s->c->o.db, &guard);
	if (rm_rf(AT_FDCWD, s->dir) < 0)
		log_warn("container %s: cannot remove %s", s->k->o.id, s->dir);
	return r < 0 ? err_prefix(err, "failed to checkpoint container \"%s\"", s->k->o.id) : 0;
}

int cri_checkpoint_container(struct rpc_call *call, const void *req, struct err *err)
{
	const CRI(CheckpointContainerRequest) *q = req;
	CRI(CheckpointContainerResponse) resp = CRI_INIT(CHECKPOINT_CONTAINER_RESPONSE);
	_cleanup_container_ struct cri_container *k = NULL;
	struct checkpointing s = {.ctx = rpc_ctx(call)};
	struct ctx limited;
	int r = cri_of(call, &s.c, err);

	if (r < 0)
		return r;
	r = cri_criu_check(s.c, err);
	if (r < 0)
		return r;
	if (q->location[0] != '/')
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "location \"%.256s\" is not an absolute path", q->location);
	r = cri_table_get(s.c->containers, q->container_id, &k, err);
	if (r < 0)
		return r;
	s.k = k;
	limited = (struct ctx){.arena = s.ctx->arena,
			       .ns = CRI_NS,
			       .lease = s.ctx->lease,
			       .deadline = q->timeout > 0
						   ? time_mono() + MIN(q->timeout, INT64_C(86400)) *
									   NSEC_PER_SEC
						   : s.ctx->deadline,
			       .parent = s.ctx};
	s.ctx = &limited;
	r = cri_object_begin(s.ctx, &k->o, err);
	if (r < 0)
		return r;
	r = begun(&s, q->location, err);
	cri_object_end(&k->o);
	return r < 0 ? r : rpc_send(call, &resp.base, err);
}
