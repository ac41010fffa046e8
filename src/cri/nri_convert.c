/* SPDX-License-Identifier: Apache-2.0 */
/* See nri_convert.h: from specs to messages, and owners. */
#include "cri/nri_convert.h"

#include <string.h>

#include "base/json.h"
#include "base/str.h"
#include "cri/nri_fields.h"
#include "oci/spec.h"

/* ---- owners ---- */

static struct nri_owner *owner_find(const struct nri_owners *o, const char *container, int field,
				    const char *key)
{
	for (size_t i = 0; i < o->n; i++)
		if (o->v[i].field == field && streq(o->v[i].key, key) &&
		    streq(o->v[i].container, container))
			return &o->v[i];
	return NULL;
}

const char *nri_owner(const struct nri_owners *o, const char *container, int field, const char *key)
{
	const struct nri_owner *w = owner_find(o, container, field, key);
	return w ? w->plugin : NULL;
}

void nri_disclaim(struct nri_owners *o, const char *container, int field, const char *key)
{
	struct nri_owner *w = owner_find(o, container, field, key);
	if (w)
		*w = o->v[--o->n];
}

static const char *field_name(int field)
{
	const ProtobufCEnumValue *v = protobuf_c_enum_descriptor_get_value(
		&nri__pkg__api__v1alpha1__field__descriptor, field);
	return v ? v->name : "a field";
}

int nri_claim(struct nri_owners *o, const char *container, int field, const char *key,
	      const char *plugin, struct err *err)
{
	const struct nri_owner *w = owner_find(o, container, field, key);

	if (w && streq(w->plugin, plugin))
		return 0;
	if (w)
		return err_set(
			err, ERR_CONFLICT,
			"plugins \"%s\" and \"%s\" both tried to set %s%s%.256s of container "
			"%.64s",
			w->plugin, plugin, field_name(field), *key ? " " : "", key, container);
	if (o->n >= NRI_OWNERS_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "plugin \"%s\": more than %d changes to containers", plugin,
			       NRI_OWNERS_MAX);
	o->v = arena_grow(o->arena, o->v, &o->cap, o->n + 1, sizeof(*o->v));
	if (!o->v)
		return err_nomem(err);
	o->v[o->n] = (struct nri_owner){arena_strdup(o->arena, container), field,
					arena_strdup(o->arena, key), plugin};
	if (!o->v[o->n].container || !o->v[o->n].key)
		return err_nomem(err);
	o->n++;
	return 0;
}

/* ---- pieces ---- */

static void *new_message(struct arena *a, const ProtobufCMessageDescriptor *d)
{
	void *m = arena_zalloc(a, d->sizeof_message);
	if (m)
		message_init(d, m);
	return m;
}

#define DESC(m) &nri__pkg__api__v1alpha1__##m##__descriptor
#define NEW(a, m) new_message(a, DESC(m))

static char *text(struct arena *a, const json_t *o, const char *key)
{
	return arena_strdup(a, json_str(o, key, ""));
}

/* An array of strings. */
static int texts(struct arena *a, const json_t *v, char ***ret, size_t *ret_n, struct err *err)
{
	size_t n = json_array_size(v), k = 0;
	char **s = arena_new_array(a, char *, n + 1);

	for (size_t i = 0; s && i < n; i++) {
		const char *one = json_string_value(json_array_get(v, i));
		if (one && !(s[k++] = arena_strdup(a, one)))
			return err_nomem(err);
	}
	if (!s)
		return err_nomem(err);
	*ret = s;
	*ret_n = k;
	return 0;
}

int nri_map_of_json(struct arena *a, const json_t *o, const ProtobufCMessageDescriptor *desc,
		    void *ret, size_t *ret_n, struct err *err)
{
	struct nri_entry **v = arena_new_array(a, struct nri_entry *, json_object_size(o) + 1);
	const char *key;
	json_t *value;
	size_t n = 0;

	if (!v)
		return err_nomem(err);
	json_object_foreach ((json_t *)o, key, value) {
		if (!json_is_string(value))
			continue;
		v[n] = new_message(a, desc);
		if (!v[n])
			return err_nomem(err);
		v[n]->key = arena_strdup(a, key);
		v[n]->value = arena_strdup(a, json_string_value(value));
		if (!v[n]->key || !v[n]->value)
			return err_nomem(err);
		n++;
	}
	*(struct nri_entry ***)ret = v;
	*ret_n = n;
	return 0;
}

/* An Optional...: NULL when @v is no number. *@failed is set without memory. */
static void *optional(struct arena *a, enum nri_kind kind, const json_t *v, bool *failed)
{
	union {
		void *any;
		NRI(OptionalInt64) * i64;
		NRI(OptionalUInt64) * u64;
		NRI(OptionalBool) * b;
	} x;

	if (!v || !(json_is_integer(v) || json_is_boolean(v)))
		return NULL;
	x.any = new_message(a, nri_kind_descriptor(kind));
	if (!x.any) {
		*failed = true;
		return NULL;
	}
	switch (kind) {
	case NRI_I64:
		x.i64->value = json_integer_value(v);
		break;
	case NRI_U64:
		x.u64->value = (uint64_t)json_integer_value(v);
		break;
	case NRI_BOOL:
		x.b->value = json_is_true(v);
		break;
	}
	return x.any;
}

static NRI(OptionalInt) * optional_int(struct arena *a, const json_t *v, bool *failed)
{
	NRI(OptionalInt) *x = NULL;

	if (json_is_integer(v)) {
		x = NEW(a, optional_int);
		if (x)
			x->value = json_integer_value(v);
		else
			*failed = true;
	}
	return x;
}

/* ---- resources ---- */

static int hugepages(struct arena *a, const json_t *v, NRI(LinuxResources) * r, struct err *err)
{
	size_t n = json_array_size(v);

	r->hugepage_limits = arena_new_array(a, NRI(HugepageLimit) *, n + 1);
	if (!r->hugepage_limits)
		return err_nomem(err);
	for (size_t i = 0; i < n; i++) {
		NRI(HugepageLimit) *h = NEW(a, hugepage_limit);
		const json_t *one = json_array_get(v, i);
		if (!h || !(h->page_size = text(a, one, "pageSize")))
			return err_nomem(err);
		h->limit = (uint64_t)json_int(one, "limit", 0);
		r->hugepage_limits[r->n_hugepage_limits++] = h;
	}
	return 0;
}

static int device_rules(struct arena *a, const json_t *v, NRI(LinuxResources) * r, struct err *err)
{
	size_t n = json_array_size(v);
	bool failed = false;

	r->devices = arena_new_array(a, NRI(LinuxDeviceCgroup) *, n + 1);
	if (!r->devices)
		return err_nomem(err);
	for (size_t i = 0; i < n; i++) {
		NRI(LinuxDeviceCgroup) *d = NEW(a, linux_device_cgroup);
		const json_t *one = json_array_get(v, i);
		if (!d)
			return err_nomem(err);
		d->allow = json_bool(one, "allow", false);
		d->type = text(a, one, "type");
		d->access = text(a, one, "access");
		d->major = optional(a, NRI_I64, json_object_get(one, "major"), &failed);
		d->minor = optional(a, NRI_I64, json_object_get(one, "minor"), &failed);
		if (failed || !d->type || !d->access)
			return err_nomem(err);
		r->devices[r->n_devices++] = d;
	}
	return 0;
}

int nri_resources_of_spec(struct arena *a, const json_t *spec, NRI(LinuxResources) * *ret,
			  struct err *err)
{
	const json_t *res = spec_get(spec, "linux/resources");
	NRI(LinuxResources) *r = NEW(a, linux_resources);
	bool failed = false;

	if (!r || !(r->memory = NEW(a, linux_memory)) || !(r->cpu = NEW(a, linux_cpu)))
		return err_nomem(err);
	for (size_t i = 0; i < nri_resource_fields_n; i++) {
		const struct nri_resource_field *f = &nri_resource_fields[i];
		void *in = f->cpu ? (void *)r->cpu : (void *)r->memory;
		*(void **)((char *)in + f->offset) =
			optional(a, f->kind, spec_get(res, f->path), &failed);
	}
	r->cpu->cpus = text(a, json_obj(res, "cpu"), "cpus");
	r->cpu->mems = text(a, json_obj(res, "cpu"), "mems");
	if (failed || !r->cpu->cpus || !r->cpu->mems)
		return err_nomem(err);
	if (spec_get(res, "pids/limit")) {
		r->pids = NEW(a, linux_pids);
		if (!r->pids)
			return err_nomem(err);
		r->pids->limit = json_integer_value(spec_get(res, "pids/limit"));
	}
	int e = hugepages(a, json_arr(res, "hugepageLimits"), r, err);
	if (e == 0)
		e = device_rules(a, json_arr(res, "devices"), r, err);
	if (e == 0)
		e = nri_map_of_json(a, json_obj(res, "unified"),
				    DESC(linux_resources__unified_entry), &r->unified,
				    &r->n_unified, err);
	if (e == 0)
		*ret = r;
	return e;
}

/* ---- a container ---- */

static int mounts(struct arena *a, const json_t *v, NRI(Container) * c, struct err *err)
{
	size_t n = json_array_size(v);

	c->mounts = arena_new_array(a, NRI(Mount) *, n + 1);
	if (!c->mounts)
		return err_nomem(err);
	for (size_t i = 0; i < n; i++) {
		NRI(Mount) *m = NEW(a, mount);
		const json_t *one = json_array_get(v, i);
		if (!m || !(m->destination = text(a, one, "destination")) ||
		    !(m->type = text(a, one, "type")) || !(m->source = text(a, one, "source")))
			return err_nomem(err);
		int r = texts(a, json_arr(one, "options"), &m->options, &m->n_options, err);
		if (r < 0)
			return r;
		c->mounts[c->n_mounts++] = m;
	}
	return 0;
}

static int hook_list(struct arena *a, const json_t *v, NRI(Hook) * **ret, size_t *ret_n,
		     struct err *err)
{
	size_t n = json_array_size(v);
	bool failed = false;

	*ret = arena_new_array(a, NRI(Hook) *, n + 1);
	if (!*ret)
		return err_nomem(err);
	for (size_t i = 0; i < n; i++) {
		NRI(Hook) *h = NEW(a, hook);
		const json_t *one = json_array_get(v, i);
		if (!h || !(h->path = text(a, one, "path")))
			return err_nomem(err);
		h->timeout = optional_int(a, json_object_get(one, "timeout"), &failed);
		int r = texts(a, json_arr(one, "args"), &h->args, &h->n_args, err);
		if (r == 0)
			r = texts(a, json_arr(one, "env"), &h->env, &h->n_env, err);
		if (r < 0 || failed)
			return r < 0 ? r : err_nomem(err);
		(*ret)[(*ret_n)++] = h;
	}
	return 0;
}

static int hooks(struct arena *a, const json_t *v, NRI(Container) * c, struct err *err)
{
	NRI(Hooks) *h = c->hooks = NEW(a, hooks);

	if (!h)
		return err_nomem(err);
	int r = hook_list(a, json_arr(v, "prestart"), &h->prestart, &h->n_prestart, err);
	if (r == 0)
		r = hook_list(a, json_arr(v, "createRuntime"), &h->create_runtime,
			      &h->n_create_runtime, err);
	if (r == 0)
		r = hook_list(a, json_arr(v, "createContainer"), &h->create_container,
			      &h->n_create_container, err);
	if (r == 0)
		r = hook_list(a, json_arr(v, "startContainer"), &h->start_container,
			      &h->n_start_container, err);
	if (r == 0)
		r = hook_list(a, json_arr(v, "poststart"), &h->poststart, &h->n_poststart, err);
	return r < 0 ? r : hook_list(a, json_arr(v, "poststop"), &h->poststop, &h->n_poststop, err);
}

int nri_namespaces_of_spec(struct arena *a, const json_t *spec, NRI(LinuxNamespace) * **ret,
			   size_t *ret_n, struct err *err)
{
	const json_t *v = spec_get(spec, "linux/namespaces");
	size_t n = json_array_size(v);
	NRI(LinuxNamespace) **s = arena_new_array(a, NRI(LinuxNamespace) *, n + 1);

	if (!s)
		return err_nomem(err);
	for (size_t i = 0; i < n; i++) {
		s[i] = NEW(a, linux_namespace);
		if (!s[i] || !(s[i]->type = text(a, json_array_get(v, i), "type")) ||
		    !(s[i]->path = text(a, json_array_get(v, i), "path")))
			return err_nomem(err);
	}
	*ret = s;
	*ret_n = n;
	return 0;
}

static int devices(struct arena *a, const json_t *v, NRI(LinuxContainer) * l, struct err *err)
{
	size_t n = json_array_size(v);

	l->devices = arena_new_array(a, NRI(LinuxDevice) *, n + 1);
	if (!l->devices)
		return err_nomem(err);
	for (size_t i = 0; i < n; i++) {
		NRI(LinuxDevice) *d = NEW(a, linux_device);
		const json_t *one = json_array_get(v, i), *x;
		if (!d || !(d->path = text(a, one, "path")) || !(d->type = text(a, one, "type")))
			return err_nomem(err);
		d->major = json_int(one, "major", 0);
		d->minor = json_int(one, "minor", 0);
		if ((x = json_object_get(one, "fileMode"))) {
			d->file_mode = NEW(a, optional_file_mode);
			if (!d->file_mode)
				return err_nomem(err);
			d->file_mode->value = (uint32_t)json_integer_value(x);
		}
		for (size_t k = 0; k < 2; k++) {
			NRI(OptionalUInt32) *id = NULL;
			if ((x = json_object_get(one, k ? "gid" : "uid"))) {
				id = NEW(a, optional_uint32);
				if (!id)
					return err_nomem(err);
				id->value = (uint32_t)json_integer_value(x);
			}
			*(k ? &d->gid : &d->uid) = id;
		}
		l->devices[l->n_devices++] = d;
	}
	return 0;
}

static int rlimits(struct arena *a, const json_t *v, NRI(Container) * c, struct err *err)
{
	size_t n = json_array_size(v);

	c->rlimits = arena_new_array(a, NRI(POSIXRlimit) *, n + 1);
	if (!c->rlimits)
		return err_nomem(err);
	for (size_t i = 0; i < n; i++) {
		NRI(POSIXRlimit) *l = NEW(a, posixrlimit);
		const json_t *one = json_array_get(v, i);
		if (!l || !(l->type = text(a, one, "type")))
			return err_nomem(err);
		l->hard = (uint64_t)json_int(one, "hard", 0);
		l->soft = (uint64_t)json_int(one, "soft", 0);
		c->rlimits[c->n_rlimits++] = l;
	}
	return 0;
}

static int user(struct arena *a, const json_t *v, NRI(Container) * c, struct err *err)
{
	const json_t *gids = json_arr(v, "additionalGids");
	NRI(User) *u = c->user = NEW(a, user);

	if (!u || !(u->additional_gids = arena_new_array(a, uint32_t, json_array_size(gids) + 1)))
		return err_nomem(err);
	u->uid = (uint32_t)json_int(v, "uid", 0);
	u->gid = (uint32_t)json_int(v, "gid", 0);
	for (size_t i = 0; i < json_array_size(gids); i++)
		u->additional_gids[u->n_additional_gids++] =
			(uint32_t)json_integer_value(json_array_get(gids, i));
	return 0;
}

static int syscalls(struct arena *a, const json_t *v, NRI(LinuxSeccomp) * s, struct err *err)
{
	size_t n = json_array_size(v);
	int r = 0;

	s->syscalls = arena_new_array(a, NRI(LinuxSyscall) *, n + 1);
	for (size_t i = 0; s->syscalls && r == 0 && i < n; i++) {
		const json_t *one = json_array_get(v, i), *args = json_arr(one, "args"), *x;
		NRI(LinuxSyscall) *c = s->syscalls[s->n_syscalls++] = NEW(a, linux_syscall);
		if (!c || !(c->action = text(a, one, "action")) ||
		    !(c->args = arena_new_array(a, NRI(LinuxSeccompArg) *,
						json_array_size(args) + 1)))
			return err_nomem(err);
		if ((x = json_object_get(one, "errnoRet"))) {
			if (!(c->errno_ret = NEW(a, optional_uint32)))
				return err_nomem(err);
			c->errno_ret->value = (uint32_t)json_integer_value(x);
		}
		for (size_t k = 0; k < json_array_size(args); k++) {
			NRI(LinuxSeccompArg) *g = NEW(a, linux_seccomp_arg);
			x = json_array_get(args, k);
			if (!g || !(g->op = text(a, x, "op")))
				return err_nomem(err);
			g->index = (uint32_t)json_int(x, "index", 0);
			g->value = (uint64_t)json_int(x, "value", 0);
			g->value_two = (uint64_t)json_int(x, "valueTwo", 0);
			c->args[c->n_args++] = g;
		}
		r = texts(a, json_arr(one, "names"), &c->names, &c->n_names, err);
	}
	return s->syscalls ? r : err_nomem(err);
}

static int seccomp(struct arena *a, const json_t *v, NRI(LinuxContainer) * l, struct err *err)
{
	NRI(LinuxSeccomp) *s = l->seccomp_policy = v ? NEW(a, linux_seccomp) : NULL;
	const json_t *x = json_object_get(v, "defaultErrnoRet");

	if (!v)
		return 0;
	if (!s || !(s->default_action = text(a, v, "defaultAction")) ||
	    !(s->listener_path = text(a, v, "listenerPath")) ||
	    !(s->listener_metadata = text(a, v, "listenerMetadata")) ||
	    (x && !(s->default_errno = NEW(a, optional_uint32))))
		return err_nomem(err);
	if (x)
		s->default_errno->value = (uint32_t)json_integer_value(x);
	int r = texts(a, json_arr(v, "architectures"), &s->architectures, &s->n_architectures, err);
	if (r == 0)
		r = texts(a, json_arr(v, "flags"), &s->flags, &s->n_flags, err);
	return r < 0 ? r : syscalls(a, json_arr(v, "syscalls"), s, err);
}

static int rdt(struct arena *a, const json_t *v, NRI(LinuxContainer) * l, struct err *err)
{
	const json_t *schemata = json_arr(v, "schemata"), *mon;
	NRI(LinuxRdt) *t = l->rdt = v ? NEW(a, linux_rdt) : NULL;
	bool failed = false;
	int r = 0;

	if (!v)
		return 0;
	if (!t || !(t->clos_id = NEW(a, optional_string)) ||
	    !(t->clos_id->value = text(a, v, "closID")))
		return err_nomem(err);
	if (schemata) {
		if (!(t->schemata = NEW(a, optional_repeated_string)))
			return err_nomem(err);
		r = texts(a, schemata, &t->schemata->value, &t->schemata->n_value, err);
	}
	if ((mon = json_object_get(v, "enableMonitoring")))
		t->enable_monitoring = optional(a, NRI_BOOL, mon, &failed);
	return r == 0 && failed ? err_nomem(err) : r;
}

static int enum_of(const ProtobufCEnumDescriptor *d, const char *name)
{
	const ProtobufCEnumValue *v = protobuf_c_enum_descriptor_get_value_by_name(d, name);
	return v ? v->value : 0;
}

static int priorities(struct arena *a, const json_t *process, NRI(LinuxContainer) * l,
		      struct err *err)
{
	const json_t *io = json_obj(process, "ioPriority"), *s = json_obj(process, "scheduler"),
		     *flags = json_arr(s, "flags");
	bool failed = false;

	l->oom_score_adj = optional_int(a, json_object_get(process, "oomScoreAdj"), &failed);
	if (io) {
		if (!(l->io_priority = NEW(a, linux_iopriority)))
			return err_nomem(err);
		l->io_priority->class_ =
			(NRI(IOPrioClass))enum_of(DESC(ioprio_class), json_str(io, "class", ""));
		l->io_priority->priority = (int32_t)json_int(io, "priority", 0);
	}
	if (s) {
		NRI(LinuxScheduler) *k = l->scheduler = NEW(a, linux_scheduler);
		if (!k || !(k->flags = arena_new_array(a, NRI(LinuxSchedulerFlag),
						       json_array_size(flags) + 1)))
			return err_nomem(err);
		k->policy = (NRI(LinuxSchedulerPolicy))enum_of(DESC(linux_scheduler_policy),
							       json_str(s, "policy", ""));
		k->nice = (int32_t)json_int(s, "nice", 0);
		k->priority = (int32_t)json_int(s, "priority", 0);
		k->runtime = (uint64_t)json_int(s, "runtime", 0);
		k->deadline = (uint64_t)json_int(s, "deadline", 0);
		k->period = (uint64_t)json_int(s, "period", 0);
		for (size_t i = 0; i < json_array_size(flags); i++)
			k->flags[k->n_flags++] = (NRI(LinuxSchedulerFlag))enum_of(
				DESC(linux_scheduler_flag),
				str_or(json_string_value(json_array_get(flags, i)), ""));
	}
	return failed ? err_nomem(err) : 0;
}

static int net_devices(struct arena *a, const json_t *o, NRI(LinuxContainer) * l, struct err *err)
{
	const char *key;
	json_t *v;

	l->net_devices =
		arena_new_array(a, NRI(LinuxContainer__NetDevicesEntry) *, json_object_size(o) + 1);
	if (!l->net_devices)
		return err_nomem(err);
	json_object_foreach ((json_t *)o, key, v) {
		NRI(LinuxContainer__NetDevicesEntry) *e =
			NEW(a, linux_container__net_devices_entry);
		if (!e || !(e->key = arena_strdup(a, key)) ||
		    !(e->value = NEW(a, linux_net_device)) ||
		    !(e->value->name = text(a, v, "name")))
			return err_nomem(err);
		l->net_devices[l->n_net_devices++] = e;
	}
	return 0;
}

static int linux_part(struct arena *a, const json_t *spec, NRI(Container) * c, struct err *err)
{
	const json_t *o = json_obj(spec, "linux");
	NRI(LinuxContainer) *l = c->linux = NEW(a, linux_container);

	if (!l || !(l->cgroups_path = text(a, o, "cgroupsPath")))
		return err_nomem(err);
	int r = nri_namespaces_of_spec(a, spec, &l->namespaces, &l->n_namespaces, err);
	if (r == 0)
		r = devices(a, json_arr(o, "devices"), l, err);
	if (r == 0)
		r = nri_resources_of_spec(a, spec, &l->resources, err);
	if (r == 0)
		r = priorities(a, json_obj(spec, "process"), l, err);
	if (r == 0)
		r = seccomp(a, json_obj(o, "seccomp"), l, err);
	if (r == 0)
		r = nri_map_of_json(a, json_obj(o, "sysctl"), DESC(linux_container__sysctl_entry),
				    &l->sysctl, &l->n_sysctl, err);
	if (r == 0)
		r = net_devices(a, json_obj(o, "netDevices"), l, err);
	return r < 0 ? r : rdt(a, json_obj(o, "intelRdt"), l, err);
}

int nri_container_of_spec(struct arena *a, const json_t *spec, NRI(Container) * c, struct err *err)
{
	const json_t *process = json_obj(spec, "process");
	int r = texts(a, json_arr(process, "args"), &c->args, &c->n_args, err);

	if (r == 0)
		r = texts(a, json_arr(process, "env"), &c->env, &c->n_env, err);
	if (r == 0)
		r = mounts(a, json_arr(spec, "mounts"), c, err);
	if (r == 0)
		r = hooks(a, json_obj(spec, "hooks"), c, err);
	if (r == 0)
		r = rlimits(a, json_arr(process, "rlimits"), c, err);
	if (r == 0)
		r = user(a, json_obj(process, "user"), c, err);
	return r < 0 ? r : linux_part(a, spec, c, err);
}
