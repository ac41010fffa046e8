/* SPDX-License-Identifier: Apache-2.0 */
/* CreateContainer: name, image, snapshot, volumes, spec, record, status, in this order; a failure
 * undoes what was made.
 *
 * Until the record is there the lease of the pod holds what is made for it. It is not given up
 * then, since that would be a commit more: the snapshot leaves the lease when it is removed. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "base/time.h"
#include "core/lease.h"
#include "core/snapshot.h"
#include "cri/container.h"
#include "cri/event.h"
#include "cri/image.h"
#include "cri/nri.h"
#include "cri/restore.h"
#include "cri/runtime_features.h"
#include "cri/spec_internal.h"

struct create {
	struct ctx *ctx;
	struct cri *c;
	struct cri_pod *p;
	struct cri_container *k;
	struct cri_image image;
	json_t *image_spec; /* owned */
	json_t *spec;	    /* owned */
	struct mounts rootfs;
	struct cri_restore restore;
	const char *selinux_mount_label;
	bool reserved, made;
};

static int check(const CRI(CreateContainerRequest) * q, struct err *err)
{
	const CRI(ContainerConfig) *c = q->config;

	if (!c)
		return err_set(err, ERR_UNKNOWN, "container config is not set");
	if (!c->metadata || str_empty(c->metadata->name))
		return err_set(err, ERR_UNKNOWN,
			       "container config must include metadata with a name");
	if (!c->image || str_empty(c->image->image))
		return err_set(err, ERR_UNKNOWN, "container config must name an image");
	if (!protobuf_c_enum_descriptor_get_value(&runtime__v1__signal__descriptor,
						  (int)c->stop_signal))
		return err_set(err, ERR_INVALID_ARGUMENT, "unknown CRI stop signal %d",
			       (int)c->stop_signal);
	return 0;
}

/* "SIGTERM", "SIGRTMIN+3" of the request, or the image's; "" = neither names one. As Go's programs
 * write it, which may read the record. NULL = no memory. */
static char *stop_signal(struct arena *a, const CRI(ContainerConfig) * c,
			 const struct cri_image *image)
{
	const ProtobufCEnumValue *v = protobuf_c_enum_descriptor_get_value(
		&runtime__v1__signal__descriptor, (int)c->stop_signal);
	const char *at;

	if (!v || c->stop_signal == RUNTIME__V1__SIGNAL__RUNTIME_DEFAULT)
		return arena_strdup(a, str_or(image->stop_signal, ""));
	if ((at = strstr(v->name, "PLUS")))
		return arena_printf(a, "%.*s+%s", (int)(at - v->name), v->name, at + 4);
	if ((at = strstr(v->name, "MINUS")))
		return arena_printf(a, "%.*s-%s", (int)(at - v->name), v->name, at + 5);
	return arena_strdup(a, v->name);
}

static int object(struct create *s, const CRI(CreateContainerRequest) * q, struct err *err)
{
	const CRI(PodSandboxMetadata) *m = s->p->config->metadata;
	char *name = cri_container_name(s->ctx->arena, q->config->metadata, m);
	const char *dir = s->p->config->log_directory;
	char id[CRI_ID_LEN + 1];

	if (!name)
		return err_nomem(err);
	cri_id_new(id);
	int r = cri_container_new(id, name, q->config, s->p->o.id, &s->k, err);
	if (r == 0)
		r = cri_table_reserve(s->c->containers, name, id, err);
	if (r < 0)
		return r;
	s->reserved = true;
	struct arena *a = s->k->o.arena;
	s->k->runtime = s->p->runtime;
	s->k->image_ref = arena_strdup(a, s->image.id);
	s->k->snapshotter = cri_config_snapshotter(s->c->config, s->p->runtime);
	s->k->stop_signal = stop_signal(a, q->config, &s->image);
	s->k->log_path = str_empty(dir) || str_empty(q->config->log_path)
				 ? ""
				 : path_join(a, dir, q->config->log_path);
	return s->k->image_ref && s->k->log_path && s->k->stop_signal ? 0 : err_nomem(err);
}

/* ---- file system ---- */

static int snapshot(struct create *s, struct err *err)
{
	struct labels labels;
	const char *chain;
	int r = cri_image_unpack(s->ctx, s->c, &s->image, s->k->snapshotter, &chain, err);

	if (r == 0)
		r = cri_snapshot_labels(
			s->ctx->arena, cri_security(s->k->config)->namespace_options, &labels, err);
	if (r < 0)
		return r;
	s->made = true;
	return snapshot_prepare(s->ctx, s->c->o.db, s->k->snapshotter, SNAPSHOT_ACTIVE, s->k->o.id,
				chain, &labels, &s->rootfs, err);
}

/* A user namespace of a container must be its pod's. */
static bool same_userns(const CRI(UserNamespace) * a, const CRI(UserNamespace) * b)
{
	bool x = a && a->mode == RUNTIME__V1__NAMESPACE_MODE__POD,
	     y = b && b->mode == RUNTIME__V1__NAMESPACE_MODE__POD;

	if (x != y)
		return false;
	if (!x)
		return true;
	if (a->n_uids != b->n_uids || a->n_gids != b->n_gids)
		return false;
	for (size_t i = 0; i < a->n_uids; i++)
		if (a->uids[i]->host_id != b->uids[i]->host_id ||
		    a->uids[i]->container_id != b->uids[i]->container_id ||
		    a->uids[i]->length != b->uids[i]->length)
			return false;
	for (size_t i = 0; i < a->n_gids; i++)
		if (a->gids[i]->host_id != b->gids[i]->host_id ||
		    a->gids[i]->container_id != b->gids[i]->container_id ||
		    a->gids[i]->length != b->gids[i]->length)
			return false;
	return true;
}

/* ---- the spec ---- */

/* Whose process namespace is to be joined: a container of the same pod that runs. */
static int target_pid(struct create *s, uint32_t *ret, struct err *err)
{
	const CRI(NamespaceOption) *o =
		cri_namespaces(cri_security(s->k->config)->namespace_options);
	_cleanup_container_ struct cri_container *t = NULL;

	*ret = 0;
	if (o->pid != RUNTIME__V1__NAMESPACE_MODE__TARGET)
		return 0;
	int r = cri_table_get(s->c->containers, o->target_id, &t, err);
	if (r < 0)
		return err_prefix(err, "invalid target container");
	if (!streq(t->pod_id, s->p->o.id))
		return err_set(err, ERR_UNKNOWN, "invalid target container: %s is of another pod",
			       o->target_id);
	MUTEX_GUARD(&t->o.lock);
	*ret = t->status.pid;
	return 0;
}

static int paths(struct create *s, struct cri_spec_container *in, struct err *err)
{
	struct arena *a = s->ctx->arena;
	char *root = cri_pod_root(s->c, a, s->p->o.id),
	     *state = cri_pod_state_dir(s->c, a, s->p->o.id);
	bool host_ipc = cri_namespaces(cri_pod_security(s->p->config)->namespace_options)->ipc ==
			RUNTIME__V1__NAMESPACE_MODE__NODE;

	in->hostname_path = root ? path_join(a, root, "hostname") : NULL;
	in->hosts_path = root ? path_join(a, root, "hosts") : NULL;
	in->resolv_conf_path = root ? path_join(a, root, "resolv.conf") : NULL;
	in->shm_path = host_ipc ? "/dev/shm" : state ? path_join(a, state, "shm") : NULL;
	if (!in->hostname_path || !in->hosts_path || !in->resolv_conf_path || !in->shm_path)
		return err_nomem(err);
	/* Pods of other sandboxers have none of these. */
	if (access(in->hosts_path, F_OK) < 0)
		in->hostname_path = in->hosts_path = in->resolv_conf_path = in->shm_path = "";
	return 0;
}

static int selinux(struct create *s, struct cri_spec_container *in, struct err *err)
{
	const CRI(SELinuxOption) *o = cri_security(s->k->config)->selinux_options;
	int r;

	if (!o)
		o = cri_pod_security(s->p->config)->selinux_options;
	r = cri_selinux_labels(s->ctx->arena, s->c->config, o, &in->selinux_label,
			       &in->selinux_mount_label, err);
	if (r < 0)
		return r;
	s->k->selinux_label = arena_strdup(s->k->o.arena, in->selinux_label);
	return s->k->selinux_label ? 0 : err_nomem(err);
}

static int spec(struct create *s, const struct cri_rootfs *rootfs, struct err *err)
{
	struct cri_spec_mount *volumes = NULL;
	struct cri_spec_container in = {
		.config = s->c->config,
		.runtime = s->k->runtime,
		.id = s->k->o.id,
		.name = s->k->o.name,
		.container = s->k->config,
		.pod = s->p->config,
		.pod_id = s->p->o.id,
		.image = {str_or(s->k->config->image->user_specified_image,
				 cri_image_name(&s->image)),
			  json_obj(s->image_spec, "config")},
		.passwd = rootfs->passwd,
		.group = rootfs->group,
		.recursive_read_only =
			s->k->runtime &&
			cri_runtime_features(s->ctx, s->c, s->k->runtime).recursive_read_only};
	int r = paths(s, &in, err);

	if (r == 0)
		r = selinux(s, &in, err);
	if (r == 0)
		r = target_pid(s, &in.target_pid, err);
	if (r == 0)
		r = cri_image_volumes(s->ctx, s->c, s->k->o.id, s->k->config, in.image.config,
				      rootfs->mount.fd, &volumes, &in.n_volumes, err);
	in.volumes = volumes;
	if (r == 0)
		r = cri_image_mounts(s->ctx, s->c, s->p, s->k->config, &in.image_mounts, err);
	if (r < 0)
		return r;
	pthread_mutex_lock(&s->p->o.lock);
	in.pod_pid = s->p->pid;
	in.netns_path = str_or(s->p->netns_path, "");
	pthread_mutex_unlock(&s->p->o.lock);
	r = cri_spec_container(s->ctx->arena, &in, &s->spec, err);
	if (r == 0)
		r = cri_devices_inject(s->ctx, s->c, s->k, s->spec, err);
	if (r == 0)
		r = nri_create_container(s->ctx, s->c->nri, s->p, s->k, s->spec, err);
	return r;
}

static int spec_with_rootfs(struct create *s, struct err *err)
{
	struct cri_rootfs f = CRI_ROOTFS_INIT;
	bool volumes = cri_image_has_volumes(s->c, json_obj(s->image_spec, "config"));
	int r = cri_rootfs_open(s->ctx, &s->rootfs, volumes, &f, err);

	if (r == 0)
		r = spec(s, &f, err);
	cri_rootfs_done(&f);
	return r < 0 ? err_prefix(err, "failed to generate container \"%s\" spec", s->k->o.id) : 0;
}

/* ---- the record ---- */

static int record(struct create *s, struct err *err)
{
	struct arena *a = s->ctx->arena;
	struct any_entry ext = {.key = CRI_EXT_CONTAINER};
	_cleanup_free_ char *text = json_dumps(s->spec, JSON_COMPACT);
	struct labels own;
	struct container k = {.id = s->k->o.id,
			      .image = cri_image_name(&s->image),
			      .runtime_name = s->k->runtime->type,
			      .snapshotter = s->k->snapshotter,
			      .snapshot_key = s->k->o.id,
			      .sandbox_id = s->p->o.id,
			      .extensions = &ext,
			      .n_extensions = 1},
			 ret;
	if (!text)
		return err_nomem(err);
	k.spec = (struct any){SPEC_TYPE_URL, text, strlen(text)};
	int r = cri_container_set_user(s->k, s->spec, err);
	if (r == 0)
		r = cri_runtime_options(a, s->k->runtime, &k.runtime_options, err);
	if (r == 0)
		r = cri_container_pack(a, s->k, &ext.value, err);
	if (r == 0)
		r = cri_labels(a, s->k->config->labels, s->k->config->n_labels, &own, err);
	if (r == 0)
		r = cri_container_labels(a, &own, json_obj(s->image_spec, "config"), "container",
					 &k.labels, err);
	return r < 0 ? r : container_create(s->ctx, s->c->o.db, &k, &ret, err);
}

static void set_created(struct cri_status *s, void *arg)
{
	struct timespec now = time_now();

	s->created_at = now.tv_sec * NSEC_PER_SEC + now.tv_nsec;
	s->resources = arg;
}

/* The limits are told as they are, with what plugins have made of them. */
static int created(struct create *s, struct err *err)
{
	const CRI(LinuxContainerResources) *res = NULL;
	int r = cri_resources_of_spec(s->k->o.arena, s->spec, &res, err);

	return r < 0 ? r : cri_container_change(s->c, s->k, set_created, (void *)res, err);
}

/* The image, or in place of a checkpoint the one that it was made on, with what follows from that
 * for the configuration. */
static int resolve(struct create *s, CRI(CreateContainerRequest) * q, struct err *err)
{
	const char *name = q->config->image->image;
	bool archive = cri_restore_is_archive(name);
	int r = archive ? 0
			: cri_image_resolve(s->ctx, s->c->images, name, &s->image, &s->image_spec,
					    err);
	if (r < 0)
		return err_prefix(err, "failed to resolve image \"%s\"", name);
	if (!archive && !s->image.checkpoint)
		return 0;
	r = cri_restore_open(s->ctx, s->c, q->config, archive ? NULL : &s->image,
			     cri_config_snapshotter(s->c->config, s->p->runtime), &s->restore, err);
	if (r < 0)
		return r;
	json_decref(s->image_spec);
	s->image_spec = TAKE_PTR(s->restore.base_spec);
	s->image = s->restore.base;
	q->config = (CRI(ContainerConfig) *)s->restore.config;
	return 0;
}

static int make(struct create *s, CRI(CreateContainerRequest) * q, struct err *err)
{
	int r = resolve(s, q, err);
	if (r < 0)
		return r;
	if (!same_userns(
		    cri_namespaces(cri_pod_security(s->p->config)->namespace_options)
			    ->userns_options,
		    cri_namespaces(cri_security(q->config)->namespace_options)->userns_options))
		return err_set(err, ERR_UNKNOWN,
			       "user namespace config for sandbox is different from container's");
	r = object(s, q, err);
	if (r == 0)
		r = snapshot(s, err);
	if (r == 0 && s->restore.dir)
		r = cri_restore_apply(s->ctx, s->c, &s->restore, s->k, &s->rootfs, err);
	if (r == 0)
		r = spec_with_rootfs(s, err);
	if (r == 0)
		r = record(s, err);
	if (r == 0)
		r = created(s, err);
	if (r == 0)
		r = cri_table_add(s->c->containers, &s->k->o, err);
	/* A pod that was stopped meanwhile has not seen this one. */
	if (r == 0)
		r = cri_pod_is_ready(s->p, err);
	return r;
}

static void give_up(struct create *s)
{
	struct ctx bg = cri_background(s->c, s->ctx->arena, s->c->config->defer_cleanup_timeout_ns);
	struct err err = ERR_INIT;

	if (!s->k)
		return;
	bg.lease = s->p->o.id;
	cri_table_remove(s->c->containers, s->k->o.id);
	if (s->made && cri_container_destroy(&bg, s->c, s->k->o.id, s->k->snapshotter, &err) < 0)
		log_error("container %s: what failed to be made could not be removed: %s",
			  s->k->o.id, err.text);
	if (s->reserved)
		cri_table_release(s->c->containers, s->k->o.id);
}

/* Pods of old daemons have no lease. */
static int hold(struct create *s, struct lease_guard *ret, struct err *err)
{
	*ret = (struct lease_guard){.id = ""};
	if (lease_check(s->ctx, s->c->o.db, s->p->o.id, NULL) < 0)
		return lease_guard_begin(s->ctx, s->c->o.db, ret, err);
	s->ctx->lease = s->p->o.id;
	return 0;
}

int cri_create_container(struct rpc_call *call, const void *req, struct err *err)
{
	const CRI(CreateContainerRequest) *q = req;
	CRI(CreateContainerResponse) resp = CRI_INIT(CREATE_CONTAINER_RESPONSE);
	_cleanup_pod_ struct cri_pod *p = NULL;
	struct create s = {.ctx = rpc_ctx(call), .restore = CRI_RESTORE_INIT};
	CRI(CreateContainerRequest) own = *q;
	struct lease_guard guard;
	int r = cri_of(call, &s.c, err);

	if (r == 0)
		r = check(q, err);
	if (r == 0)
		r = cri_table_get(s.c->pods, q->pod_sandbox_id, &p, err);
	if (r == 0)
		r = cri_pod_is_ready(p, err);
	s.p = p;
	if (r == 0)
		r = hold(&s, &guard, err);
	if (r < 0)
		return r;
	r = make(&s, &own, err);
	if (r < 0)
		give_up(&s);
	lease_guard_end(s.ctx, s.c->o.db, &guard);
	if (r == 0) {
		cri_event(s.ctx, s.c, p, s.k->o.id,
			  RUNTIME__V1__CONTAINER_EVENT_TYPE__CONTAINER_CREATED_EVENT);
		nri_event(s.ctx, s.c->nri, NRI_POST_CREATE_CONTAINER, p, s.k);
		resp.container_id = (char *)s.k->o.id;
		r = rpc_send(call, &resp.base, err);
	}
	cri_restore_done(&s.restore);
	json_decref(s.image_spec);
	json_decref(s.spec);
	if (s.k)
		cri_object_unref(&s.k->o);
	return r;
}
