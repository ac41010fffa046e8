/* SPDX-License-Identifier: Apache-2.0 */
/* Sandboxes as containers with a pause process. The snapshot and the container's record are made
 * while the shim starts, which needs neither.
 *
 *     <root>/sandboxes/<id>/    hostname hosts resolv.conf
 *     <state>/sandboxes/<id>/   shm/ (tmpfs)
 */
#include "cri/podsandbox.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "base/time.h"
#include "core/snapshot.h"
#include "cri/image.h"
#include "cri/pause.h"
#include "cri/spec_internal.h"
#include "cri/task.h"
#include "oci/platform.h"
#include "sys/mount.h"

#define FILE_MAX (1u << 20)
#define HOSTNAME_LEN 64
#define SHM_OPTIONS "mode=1777,size=67108864"
#define SH(x) Containerd__Task__V3__##x

struct podsandbox {
	struct sandbox_controller base;
	struct cri *c;
};

static struct cri *cri_of_controller(struct sandbox_controller *s)
{
	return ((struct podsandbox *)s)->c;
}

int cri_pod_find(struct cri *c, const char *id, struct cri_pod **ret, struct err *err)
{
	if (cri_table_get(c->starting, id, ret, NULL) == 0)
		return 0;
	return cri_table_get(c->pods, id, ret, err);
}

int cri_controller_of(struct cri *c, const struct cri_pod *p, struct sandbox_controller **ret,
		      struct err *err)
{
	if (!p->runtime)
		return err_set(err, ERR_UNKNOWN, "no runtime for \"%s\" is configured", p->handler);
	return sandbox_controllers_get(c->o.controllers, p->runtime->sandboxer, ret, err);
}

/* ---- files ---- */

static int write_hostname(struct arena *a, int dir, const struct cri_pod *p, struct err *err)
{
	char own[HOSTNAME_LEN + 1] = "";
	const char *name = p->config->hostname;

	if (str_empty(name)) {
		if (gethostname(own, sizeof(own) - 1) < 0)
			return err_errno(err, errno, "gethostname");
		name = own;
	}
	char *text = arena_printf(a, "%s\n", name);
	int r = text ? file_write(dir, "hostname", text, strlen(text), 0644) : -ENOMEM;
	return r < 0 ? err_errno(err, r, "write the pod's hostname") : 0;
}

static int copy_file(struct arena *a, int dir, const char *name, const char *from, struct err *err)
{
	char *text = (char *)"";
	size_t n = 0;
	int r = file_read(a, AT_FDCWD, from, FILE_MAX, &text, &n);

	if (r == -ENOENT) {
		text = (char *)"";
		n = r = 0;
	}
	if (r == 0)
		r = file_write(dir, name, text, n, 0644);
	return r < 0 ? err_errno(err, r, "copy %s for the pod", from) : 0;
}

static char *dns_line(struct arena *a, const char *text, const char *word, char **v, size_t n)
{
	for (size_t i = 0; text && i < n; i++)
		text = arena_printf(a, "%s%s %s", text, i == 0 ? word : "", v[i]);
	return !text ? NULL : n ? arena_printf(a, "%s\n", text) : arena_strdup(a, text);
}

static int write_resolv_conf(struct arena *a, int dir, const struct cri_pod *p, struct err *err)
{
	const CRI(DNSConfig) *d = p->config->dns_config;
	char *text;

	if (!d)
		return copy_file(a, dir, "resolv.conf", "/etc/resolv.conf", err);
	text = dns_line(a, "", "search", d->searches, d->n_searches);
	for (size_t i = 0; text && i < d->n_servers; i++)
		text = arena_printf(a, "%snameserver %s\n", text, d->servers[i]);
	if (text)
		text = dns_line(a, text, "options", d->options, d->n_options);
	int r = text ? file_write(dir, "resolv.conf", text, strlen(text), 0644) : -ENOMEM;
	return r < 0 ? err_errno(err, r, "write the pod's resolv.conf") : 0;
}

static uint32_t host_root(CRI(IDMapping) * *v, size_t n)
{
	return n && v[0]->container_id == 0 ? v[0]->host_id : 0;
}

/* In a user namespace they are those of its root, who may write to them as elsewhere. */
static int give_away(int dir, const struct cri_pod *p, struct err *err)
{
	static const char *const names[] = {"hostname", "hosts", "resolv.conf"};
	const CRI(UserNamespace) *u =
		cri_namespaces(cri_pod_security(p->config)->namespace_options)->userns_options;

	if (!u || u->mode != RUNTIME__V1__NAMESPACE_MODE__POD)
		return 0;
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (fchownat(dir, names[i], host_root(u->uids, u->n_uids),
			     host_root(u->gids, u->n_gids), AT_SYMLINK_NOFOLLOW) < 0)
			return err_errno(err, errno, "change the owner of the pod's %s", names[i]);
	return 0;
}

static bool host_ipc(const struct cri_pod *p)
{
	return cri_namespaces(cri_pod_security(p->config)->namespace_options)->ipc ==
	       RUNTIME__V1__NAMESPACE_MODE__NODE;
}

static int mount_shm(struct arena *a, const char *state, const struct cri_pod *p, struct err *err)
{
	char *shm = path_join(a, state, "shm");
	int r = shm ? mkdir_p(shm, 0700) : -ENOMEM;

	if (r < 0)
		return err_errno(err, r, "make %s", shm ? shm : "shm");
	if (host_ipc(p))
		return 0;
	if (mount("shm", shm, "tmpfs", MS_NOEXEC | MS_NOSUID | MS_NODEV, SHM_OPTIONS) < 0)
		return err_errno(err, errno, "mount %s", shm);
	return 0;
}

static int make_files(struct arena *a, struct cri *c, const struct cri_pod *p, struct err *err)
{
	char *root = cri_pod_root(c, a, p->o.id), *state = cri_pod_state_dir(c, a, p->o.id);
	int r = !root || !state ? -ENOMEM : mkdir_p(root, 0755);

	if (r == 0)
		r = mkdir_p(state, 0755);
	if (r < 0)
		return err_errno(err, r, "make the directories of the pod");
	_cleanup_close_ int dir = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_errno(err, errno, "open %s", root);
	r = write_hostname(a, dir, p, err);
	if (r == 0)
		r = copy_file(a, dir, "hosts", "/etc/hosts", err);
	if (r == 0)
		r = write_resolv_conf(a, dir, p, err);
	if (r == 0)
		r = give_away(dir, p, err);
	return r < 0 ? r : mount_shm(a, state, p, err);
}

int cri_pod_unmount_shm(struct arena *a, const struct cri *c, const char *id, struct err *err)
{
	char *state = cri_pod_state_dir(c, a, id), *shm = state ? path_join(a, state, "shm") : NULL;

	return shm ? mount_unmount_all(shm, MNT_DETACH | UMOUNT_NOFOLLOW, err) : err_nomem(err);
}

static int remove_files(struct arena *a, const struct cri *c, const char *id, struct err *err)
{
	char *root = cri_pod_root(c, a, id), *state = cri_pod_state_dir(c, a, id);
	int r = root && state ? cri_pod_unmount_shm(a, c, id, err) : err_nomem(err);

	if (r < 0)
		return r;
	r = rm_rf(AT_FDCWD, state);
	if (r == 0)
		r = rm_rf(AT_FDCWD, root);
	return r < 0 ? err_errno(err, r, "remove the directories of pod %s", id) : 0;
}

/* ---- the sandbox's container ---- */

/* What a start makes on its way. */
struct start {
	struct ctx *ctx;
	struct cri *c;
	struct cri_pod *p;
	struct cri_image image;
	json_t *image_spec, *image_config; /* owned */
	const char *snapshotter;	   /* "" = none is used */
	const char *chain;		   /* what the snapshot is prepared on */
	struct labels snapshot_labels;
	struct mounts rootfs;
	json_t *spec; /* owned */
	struct container container;
};

/* Snapshot and record, on a thread of their own. */
struct record {
	struct start *s;
	struct ctx ctx;
	struct mounts rootfs; /* in ctx's arena */
	struct err err;
	int result;
	pthread_t thread;
	bool running;
};

static int idmap_label(struct arena *a, struct labels *l, const char *key, CRI(IDMapping) * *v,
		       size_t n)
{
	char *text =
		n ? arena_printf(a, "%u:%u:%u", v[0]->container_id, v[0]->host_id, v[0]->length)
		  : NULL;
	return !n ? 0 : !text ? -ENOMEM : labels_set(a, l, key, text);
}

int cri_snapshot_labels(struct arena *a, const CRI(NamespaceOption) * ns, struct labels *ret,
			struct err *err)
{
	const CRI(UserNamespace) *u = cri_namespaces(ns)->userns_options;

	*ret = (struct labels){0};
	if (!u || u->mode != RUNTIME__V1__NAMESPACE_MODE__POD)
		return 0;
	return idmap_label(a, ret, "containerd.io/snapshot/uidmapping", u->uids, u->n_uids) < 0 ||
			       idmap_label(a, ret, "containerd.io/snapshot/gidmapping", u->gids,
					   u->n_gids) < 0
		       ? err_nomem(err)
		       : 0;
}

/* The root file system, but for a snapshot, which is only named. */
static int choose_rootfs(struct start *s, struct err *err)
{
	struct arena *a = s->ctx->arena;
	int r;

	s->snapshotter = "";
	if (cri_pause_own(s->c->config))
		return cri_pause_rootfs(s->c, a, &s->rootfs, &s->image_config, err);
	s->snapshotter = cri_config_snapshotter(s->c->config, s->p->runtime);
	r = cri_image_ensure(s->ctx, s->c, s->c->config->sandbox_image, s->snapshotter, &s->image,
			     &s->image_spec, err);
	if (r < 0)
		return err_prefix(err, "failed to get sandbox image \"%s\"",
				  s->c->config->sandbox_image);
	s->image_config = json_incref(json_obj(s->image_spec, "config"));
	r = cri_image_unpack(s->ctx, s->c, &s->image, s->snapshotter, &s->chain, err);
	if (r == 0)
		r = cri_snapshot_labels(a, cri_pod_security(s->p->config)->namespace_options,
					&s->snapshot_labels, err);
	return r;
}

static const char *image_name(const struct start *s)
{
	return cri_pause_own(s->c->config) ? "" : s->c->config->sandbox_image;
}

static int make_spec(struct start *s, struct err *err)
{
	struct arena *a = s->ctx->arena;
	struct cri_pod *p = s->p;
	char *root = cri_pod_root(s->c, a, p->o.id), *state = cri_pod_state_dir(s->c, a, p->o.id);
	char *resolv = root ? path_join(a, root, "resolv.conf") : NULL,
	     *shm = state ? path_join(a, state, "shm") : NULL;
	const char *mount_label;
	if (!resolv || !shm)
		return err_nomem(err);
	struct cri_spec_pod in = {.config = s->c->config,
				  .runtime = p->runtime,
				  .id = p->o.id,
				  .pod = p->config,
				  .image = {image_name(s), s->image_config},
				  .resolv_conf_path = resolv,
				  .shm_path = host_ipc(p) ? "/dev/shm" : shm};
	int r = cri_selinux_labels(a, s->c->config, cri_pod_security(p->config)->selinux_options,
				   &in.selinux_label, &mount_label, err);
	if (r < 0)
		return r;
	pthread_mutex_lock(&p->o.lock);
	in.netns_path = str_or(p->netns_path, "");
	in.userns_path = str_or(p->userns_path, "");
	p->selinux_label = arena_strdup(p->o.arena, in.selinux_label);
	pthread_mutex_unlock(&p->o.lock);
	return cri_spec_pod(a, &in, &s->spec, err);
}

/* The pod's labels, those of the image that are valid as labels, and the kind. */
int cri_container_labels(struct arena *a, const struct labels *own, const json_t *image_config,
			 const char *kind, struct labels *ret, struct err *err)
{
	const char *key;
	json_t *v;

	*ret = (struct labels){0};
	json_object_foreach (json_obj(image_config, "Labels"), key, v) {
		struct label one = {key, json_string_value(v)};
		struct labels l = {.v = &one, .n = 1};
		if (one.value && labels_validate(&l, NULL) == 0 &&
		    labels_set(a, ret, key, one.value) < 0)
			return err_nomem(err);
	}
	for (size_t i = 0; i < own->n; i++)
		if (labels_set(a, ret, own->v[i].key, own->v[i].value) < 0)
			return err_nomem(err);
	return labels_set(a, ret, CRI_LABEL_KIND, kind) < 0 ? err_nomem(err) : 0;
}

static int describe_container(struct start *s, struct err *err)
{
	struct arena *a = s->ctx->arena;
	struct any_entry *ext = arena_alloc(a, sizeof(*ext));
	_cleanup_free_ char *text = json_dumps(s->spec, JSON_COMPACT);
	char *spec = text ? arena_strdup(a, text) : NULL;
	struct container *k = &s->container;
	struct labels own;

	if (!spec || !ext)
		return err_nomem(err);
	*ext = (struct any_entry){.key = CRI_EXT_SANDBOX_CONTAINER};
	*k = (struct container){.id = s->p->o.id,
				.image = image_name(s),
				.runtime_name = s->p->runtime->type,
				.snapshotter = s->snapshotter,
				.snapshot_key = *s->snapshotter ? s->p->o.id : "",
				.sandbox_id = s->p->o.id,
				.spec = {SPEC_TYPE_URL, spec, strlen(spec)},
				.extensions = ext,
				.n_extensions = 1};
	int r = cri_runtime_options(a, s->p->runtime, &k->runtime_options, err);
	if (r == 0)
		r = cri_pod_pack(a, s->p, &ext->value, err);
	if (r == 0)
		r = cri_labels(a, s->p->config->labels, s->p->config->n_labels, &own, err);
	if (r == 0)
		r = cri_container_labels(a, &own, s->image_config, "sandbox", &k->labels, err);
	return r;
}

static void *record_run(void *arg)
{
	struct record *rec = arg;
	const struct start *s = rec->s;
	struct container ret;

	if (*s->snapshotter)
		rec->result = snapshot_prepare(&rec->ctx, s->c->o.db, s->snapshotter,
					       SNAPSHOT_ACTIVE, s->p->o.id, s->chain,
					       &s->snapshot_labels, &rec->rootfs, &rec->err);
	if (rec->result == 0)
		rec->result =
			container_create(&rec->ctx, s->c->o.db, &s->container, &ret, &rec->err);
	return NULL;
}

static int record_join(void *arg, struct err *err)
{
	struct record *rec = arg;

	if (rec->running)
		pthread_join(rec->thread, NULL);
	rec->running = false;
	return rec->result < 0 ? err_copy(err, &rec->err) : 0;
}

static int make_task(struct start *s, uint32_t *ret_pid, struct err *err)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	struct record rec = {.s = s, .err = ERR_INIT};
	struct cri_task_create o = {.id = s->p->o.id,
				    .rootfs = *s->snapshotter ? &rec.rootfs : &s->rootfs,
				    .runtime_path = s->p->runtime->path,
				    .container = &s->container,
				    .recorded = record_join,
				    .recorded_arg = &rec};
	if (!a)
		return err_nomem(err);
	rec.ctx = ctx_part(s->ctx, a);
	rec.running = pthread_create(&rec.thread, NULL, record_run, &rec) == 0;
	if (!rec.running)
		record_run(&rec);
	int r = cri_task_create(s->ctx, s->c, &o, ret_pid, err);
	/* The shim may have failed before anybody waited. */
	(void)!record_join(&rec, NULL);
	return r < 0 ? r : cri_task_start(s->ctx, s->c, s->p->o.id, err);
}

/* Everything of a sandbox that may be there; goes on after a failure and tells the first. */
static int destroy(struct ctx *ctx, struct cri *c, const char *id, struct err *err)
{
	struct container k;
	struct err first = ERR_INIT, own = ERR_INIT;
	int r = cri_task_destroy(ctx, c, id, &first);

	if (r < 0)
		return err_copy(err, &first);
	r = container_get(ctx, c->o.db, id, &k, &own);
	if (r == 0 && !str_empty(k.snapshot_key)) {
		own = ERR_INIT;
		r = snapshot_remove(ctx, c->o.db, k.snapshotter, k.snapshot_key, &own);
		if (r < 0 && r != -ERR_NOT_FOUND)
			err_copy(&first, &own);
	}
	own = ERR_INIT;
	r = container_delete(ctx, c->o.db, id, &own);
	if (r < 0 && r != -ERR_NOT_FOUND && !first.kind)
		err_copy(&first, &own);
	own = ERR_INIT;
	if (remove_files(ctx->arena, c, id, &own) < 0 && !first.kind)
		err_copy(&first, &own);
	return first.kind ? err_copy(err, &first) : 0;
}

/* ---- the controller ---- */

static int op_create(struct ctx *ctx, struct sandbox_controller *sc, const struct sandbox *s,
		     const struct sandbox_create_options *o, struct err *err)
{
	_cleanup_pod_ struct cri_pod *p = NULL;
	int r = cri_pod_find(cri_of_controller(sc), s->id, &p, NULL);

	return r == 0 ? 0
		      : err_set(err, ERR_UNIMPLEMENTED,
				"sandbox %s: podsandbox runs pods of the CRI only", s->id);
}

static int op_start(struct ctx *ctx, struct sandbox_controller *sc, const char *id,
		    struct sandbox_instance *ret, struct err *err)
{
	_cleanup_pod_ struct cri_pod *p = NULL;
	struct start s = {.ctx = ctx, .c = cri_of_controller(sc)};
	uint32_t pid = 0;
	int r = cri_pod_find(s.c, id, &p, err);

	if (r < 0)
		return r;
	s.p = p;
	r = make_files(ctx->arena, s.c, p, err);
	if (r == 0)
		r = choose_rootfs(&s, err);
	if (r == 0)
		r = make_spec(&s, err);
	if (r == 0)
		r = describe_container(&s, err);
	if (r == 0)
		r = make_task(&s, &pid, err);
	if (r < 0) {
		struct ctx bg =
			cri_background(s.c, ctx->arena, s.c->config->defer_cleanup_timeout_ns);
		struct err undo = ERR_INIT;
		if (destroy(&bg, s.c, p->o.id, &undo) < 0)
			log_warn("sandbox %s: undo its start: %s", p->o.id, undo.text);
	} else {
		*ret = (struct sandbox_instance){
			.id = p->o.id, .pid = pid, .created_at = time_now(), .address = ""};
		r = labels_set(ctx->arena, &ret->labels, "selinux_label",
			       str_or(p->selinux_label, "")) < 0
			    ? err_nomem(err)
			    : 0;
	}
	json_decref(s.image_spec);
	json_decref(s.image_config);
	json_decref(s.spec);
	return r;
}

static int op_platform(struct ctx *ctx, struct sandbox_controller *sc, const char *id,
		       struct platform *ret, struct err *err)
{
	return platform_host(ctx->arena, ret) < 0 ? err_nomem(err) : 0;
}

static int op_stop(struct ctx *ctx, struct sandbox_controller *sc, const char *id,
		   uint32_t timeout_secs, struct err *err)
{
	return cri_task_kill(ctx, cri_of_controller(sc), id, SIGKILL, true, err);
}

static int op_status(struct ctx *ctx, struct sandbox_controller *sc, const char *id, bool verbose,
		     struct sandbox_status *ret, struct err *err)
{
	_cleanup_pod_ struct cri_pod *p = NULL;
	int r = cri_pod_find(cri_of_controller(sc), id, &p, err);

	if (r < 0)
		return r;
	MUTEX_GUARD(&p->o.lock);
	*ret = (struct sandbox_status){
		.id = arena_strdup(ctx->arena, p->o.id),
		.pid = p->pid,
		.state = p->state == CRI_POD_READY ? SANDBOX_READY : SANDBOX_NOTREADY,
		.created_at = {p->created_at / NSEC_PER_SEC, p->created_at % NSEC_PER_SEC},
		.exited_at = {p->exited_at / NSEC_PER_SEC, p->exited_at % NSEC_PER_SEC},
		.address = ""};
	return ret->id ? 0 : err_nomem(err);
}

static int op_shutdown(struct ctx *ctx, struct sandbox_controller *sc, const char *id,
		       struct err *err)
{
	return destroy(ctx, cri_of_controller(sc), id, err);
}

static int op_metrics(struct ctx *ctx, struct sandbox_controller *sc, const char *id,
		      struct sandbox_metric *ret, struct err *err)
{
	_cleanup_(task_unrefp) struct task *t = NULL;
	SH(StatsRequest) req = CONTAINERD__TASK__V3__STATS_REQUEST__INIT;
	SH(StatsResponse) * resp;
	int r = runtime_get(ctx, cri_of_controller(sc)->o.runtime, id, &t, err);

	req.id = (char *)id;
	if (r == 0)
		r = task_call(ctx, t, "Stats", &req.base,
			      &containerd__task__v3__stats_response__descriptor, &resp, err);
	if (r < 0)
		return r;
	*ret = (struct sandbox_metric){.id = id, .at = time_now()};
	if (resp->stats)
		ret->data = (struct any){resp->stats->type_url, resp->stats->value.data,
					 resp->stats->value.len};
	return 0;
}

/* Nothing of a running pause process follows the record. */
static int op_update(struct ctx *ctx, struct sandbox_controller *sc, const char *id,
		     const struct sandbox *s, char *const *paths, size_t n, struct err *err)
{
	return 0;
}

/* ---- waiting ---- */

struct sandbox_wait {
	struct task *task;
	struct rpc_pending *pending;
	sandbox_wait_fn fn;
	void *arg;
};

static void wait_free(struct sandbox_wait *w)
{
	task_unref(w->task);
	free(w);
}

static void wait_done(void *arg, const uint8_t *p, size_t n, const struct err *err)
{
	struct sandbox_wait *w = arg;
	SH(WaitResponse) *resp =
		err ? NULL : containerd__task__v3__wait_response__unpack(NULL, n, p);
	struct err bad = ERR_INIT;
	struct sandbox_exit x = {.at = time_now()};

	if (!err && !resp) {
		err_set(&bad, ERR_INTERNAL, "the shim's answer to Wait cannot be read");
		err = &bad;
	}
	if (resp) {
		x.status = resp->exit_status;
		if (resp->exited_at)
			x.at = (struct timespec){resp->exited_at->seconds, resp->exited_at->nanos};
		containerd__task__v3__wait_response__free_unpacked(resp, NULL);
	}
	w->fn(w->arg, err ? NULL : &x, err);
	wait_free(w);
}

static int op_wait(struct sandbox_controller *sc, const char *ns, const char *id,
		   sandbox_wait_fn fn, void *arg, struct sandbox_wait **ret, struct err *err)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	struct ctx ctx = {.arena = a, .ns = ns, .lease = ""};
	SH(WaitRequest) req = CONTAINERD__TASK__V3__WAIT_REQUEST__INIT;
	struct sandbox_wait *w = a ? calloc(1, sizeof(*w)) : NULL;

	if (!w)
		return err_nomem(err);
	*w = (struct sandbox_wait){.fn = fn, .arg = arg};
	req.id = (char *)id;
	int r = runtime_get(&ctx, cri_of_controller(sc)->o.runtime, id, &w->task, err);
	if (r < 0) {
		free(w);
		return r;
	}
	r = task_call_async(w->task, "Wait", &req.base, 0, wait_done, w, &w->pending, err);
	if (r < 0)
		wait_free(w);
	else
		*ret = w;
	return r;
}

static bool op_wait_cancel(struct sandbox_controller *sc, struct sandbox_wait *w)
{
	if (!rpc_pending_cancel(w->pending))
		return false;
	wait_free(w);
	return true;
}

static void op_free(struct sandbox_controller *sc)
{
	free(sc);
}

static const struct sandbox_controller_ops podsandbox_ops = {
	.create = op_create,
	.start = op_start,
	.platform = op_platform,
	.stop = op_stop,
	.wait = op_wait,
	.wait_cancel = op_wait_cancel,
	.status = op_status,
	.shutdown = op_shutdown,
	.metrics = op_metrics,
	.update = op_update,
	.free = op_free,
};

int cri_podsandbox_new(struct cri *c, struct sandbox_controller **ret, struct err *err)
{
	struct podsandbox *s = calloc(1, sizeof(*s));

	if (!s)
		return err_nomem(err);
	*s = (struct podsandbox){.base = {.ops = &podsandbox_ops}, .c = c};
	*ret = &s->base;
	return 0;
}
