/* SPDX-License-Identifier: Apache-2.0 */
/* See nri_convert.h: what plugins want changed, into the spec.
 *
 * A name that begins with "-" removes what has that name, and frees it for other plugins to set. */
#include <string.h>

#include "base/json.h"
#include "base/str.h"
#include "cri/nri_convert.h"
#include "cri/nri_fields.h"
#include "oci/spec.h"

#define RES "linux/resources/"
#define VALUES_MAX 65536

#define MEM(path, kind, member, field)                                                            \
	{                                                                                         \
		"memory/" path, kind, false, offsetof(NRI(LinuxMemory), member), NRI_FIELD(field) \
	}
#define CPU(path, kind, member, field)                                                     \
	{                                                                                  \
		"cpu/" path, kind, true, offsetof(NRI(LinuxCPU), member), NRI_FIELD(field) \
	}

const struct nri_resource_field nri_resource_fields[] = {
	MEM("limit", NRI_I64, limit, MemLimit),
	MEM("reservation", NRI_I64, reservation, MemReservation),
	MEM("swap", NRI_I64, swap, MemSwapLimit),
	MEM("kernel", NRI_I64, kernel, MemKernelLimit),
	MEM("kernelTCP", NRI_I64, kernel_tcp, MemTCPLimit),
	MEM("swappiness", NRI_U64, swappiness, MemSwappiness),
	MEM("disableOOMKiller", NRI_BOOL, disable_oom_killer, MemDisableOomKiller),
	MEM("useHierarchy", NRI_BOOL, use_hierarchy, MemUseHierarchy),
	CPU("shares", NRI_U64, shares, CPUShares),
	CPU("quota", NRI_I64, quota, CPUQuota),
	CPU("period", NRI_U64, period, CPUPeriod),
	CPU("realtimeRuntime", NRI_I64, realtime_runtime, CPURealtimeRuntime),
	CPU("realtimePeriod", NRI_U64, realtime_period, CPURealtimePeriod),
};
const size_t nri_resource_fields_n = ARRAY_LEN(nri_resource_fields);

const ProtobufCMessageDescriptor *nri_kind_descriptor(enum nri_kind k)
{
	return k == NRI_I64   ? &nri__pkg__api__v1alpha1__optional_int64__descriptor
	       : k == NRI_U64 ? &nri__pkg__api__v1alpha1__optional_uint64__descriptor
			      : &nri__pkg__api__v1alpha1__optional_bool__descriptor;
}

/* ---- checks ---- */

static bool utf8(const char *s)
{
	const unsigned char *p = (const unsigned char *)s;

	while (*p) {
		unsigned n = *p < 0x80 ? 0 : *p >= 0xf0 ? 3 : *p >= 0xe0 ? 2 : 1;
		uint32_t c = *p & (n == 0 ? 0x7f : n == 1 ? 0x1f : n == 2 ? 0x0f : 0x07);
		static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};

		if ((*p >= 0x80 && *p < 0xc2) || *p > 0xf4)
			return false;
		p++;
		for (unsigned i = 0; i < n; i++, p++) {
			if ((*p & 0xc0) != 0x80)
				return false;
			c = c << 6 | (*p & 0x3f);
		}
		if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
			return false;
	}
	return true;
}

static int message_check(const ProtobufCMessage *m, size_t *left, struct err *err)
{
	for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
		const char *at = (const char *)m + f->offset;
		size_t n = 1;

		if (f->label == PROTOBUF_C_LABEL_REPEATED) {
			n = *(const size_t *)((const char *)m + f->quantifier_offset);
			at = *(const char *const *)at;
		}
		if (n > *left)
			return err_set(err, ERR_INVALID_ARGUMENT, "more than %d values",
				       VALUES_MAX);
		*left -= n;
		for (size_t k = 0; k < n; k++) {
			if (f->type == PROTOBUF_C_TYPE_STRING) {
				const char *s = ((const char *const *)at)[k];
				if (s && !utf8(s))
					return err_set(err, ERR_INVALID_ARGUMENT, "%s is not UTF-8",
						       f->name);
			} else if (f->type == PROTOBUF_C_TYPE_MESSAGE) {
				const ProtobufCMessage *s =
					((const ProtobufCMessage *const *)at)[k];
				int r = s ? message_check(s, left, err) : 0;
				if (r < 0)
					return r;
			}
		}
	}
	return 0;
}

int nri_message_check(const ProtobufCMessage *m, struct err *err)
{
	size_t left = VALUES_MAX;
	return message_check(m, &left, err);
}

/* ---- JSON ---- */

/* NULL = no memory, or above what JSON's numbers here hold. */
static json_t *number(uint64_t v)
{
	return v > INT64_MAX ? NULL : json_integer((json_int_t)v);
}

static int too_large(const char *what, uint64_t v, struct err *err)
{
	return err_set(err, ERR_INVALID_ARGUMENT, "%s: %llu is too large", what,
		       (unsigned long long)v);
}

static json_t *texts(char *const *v, size_t n)
{
	json_t *j = json_array();
	for (size_t i = 0; j && i < n; i++)
		if (json_array_append_new(j, json_string(v[i])) < 0) {
			json_decref(j);
			return NULL;
		}
	return j;
}

/* The array at @path, made when absent. */
static json_t *array_at(json_t *spec, const char *path, struct err *err)
{
	json_t *v = spec_get(spec, path);

	if (!json_is_array(v) && spec_set(spec, path, json_array(), err) < 0)
		return NULL;
	return spec_get(spec, path);
}

static json_t *object_at(json_t *spec, const char *path, struct err *err)
{
	json_t *v = spec_get(spec, path);

	if (!json_is_object(v) && spec_set(spec, path, json_object(), err) < 0)
		return NULL;
	return spec_get(spec, path);
}

/* Removes from an array of objects those whose @key is @value. */
static void remove_by(json_t *v, const char *key, const char *value)
{
	for (size_t i = json_array_size(v); i > 0; i--)
		if (streq(json_str(json_array_get(v, i - 1), key, ""), value))
			json_array_remove(v, i - 1);
}

/* ---- resources ---- */

struct change {
	json_t *spec;
	struct nri_owners *o;
	const char *container, *plugin;
};

static int claim(struct change *c, int field, const char *key, struct err *err)
{
	return nri_claim(c->o, c->container, field, key, c->plugin, err);
}

static int set(struct change *c, int field, const char *path, json_t *value, struct err *err)
{
	int r = claim(c, field, "", err);

	if (r == 0)
		return spec_set(c->spec, path, value, err);
	json_decref(value);
	return r;
}

static int set_text(struct change *c, int field, const char *path, const char *value,
		    struct err *err)
{
	return str_empty(value) ? 0 : set(c, field, path, json_string(value), err);
}

static int optionals(struct change *c, const NRI(LinuxResources) * r, struct err *err)
{
	int e = 0;

	for (size_t i = 0; e == 0 && i < nri_resource_fields_n; i++) {
		const struct nri_resource_field *f = &nri_resource_fields[i];
		const char *in = f->cpu ? (const char *)r->cpu : (const char *)r->memory;
		const void *v = in ? *(const void *const *)(in + f->offset) : NULL;
		char path[64];
		uint64_t u;

		if (!v)
			continue;
		snprintf(path, sizeof(path), RES "%s", f->path);
		if (f->kind == NRI_BOOL) {
			e = set(c, f->field, path,
				json_boolean(((const NRI(OptionalBool) *)v)->value), err);
			continue;
		}
		u = f->kind == NRI_I64 ? (uint64_t)((const NRI(OptionalInt64) *)v)->value
				       : ((const NRI(OptionalUInt64) *)v)->value;
		if (f->kind == NRI_U64 && u > INT64_MAX)
			return too_large(f->path, u, err);
		e = set(c, f->field, path, json_integer((json_int_t)u), err);
	}
	return e;
}

static int hugepages(struct change *c, const NRI(LinuxResources) * r, struct err *err)
{
	int e = 0;

	for (size_t i = 0; e == 0 && i < r->n_hugepage_limits; i++) {
		const NRI(HugepageLimit) *h = r->hugepage_limits[i];
		if (h->limit > INT64_MAX)
			return too_large("huge page limit", h->limit, err);
		e = claim(c, NRI_FIELD(HugepageLimits), h->page_size, err);
		json_t *v = e == 0 ? array_at(c->spec, RES "hugepageLimits", err) : NULL;
		if (!v)
			return e < 0 ? e : err_nomem(err);
		remove_by(v, "pageSize", h->page_size);
		if (json_array_append_new(v, json_pack("{s:s, s:I}", "pageSize", h->page_size,
						       "limit", (json_int_t)h->limit)) < 0)
			e = err_nomem(err);
	}
	return e;
}

static int unified(struct change *c, const NRI(LinuxResources) * r, struct err *err)
{
	json_t *o = r->n_unified ? object_at(c->spec, RES "unified", err) : NULL;
	int e = r->n_unified && !o ? err_nomem(err) : 0;

	for (size_t i = 0; e == 0 && i < r->n_unified; i++) {
		const char *key = r->unified[i]->key;
		e = claim(c, NRI_FIELD(CgroupsUnified), key, err);
		if (e == 0 && json_object_set_new(o, key, json_string(r->unified[i]->value)) < 0)
			e = err_nomem(err);
	}
	return e;
}

static int device_rules(struct change *c, const NRI(LinuxResources) * r, struct err *err)
{
	json_t *v = r->n_devices ? array_at(c->spec, RES "devices", err) : NULL;

	for (size_t i = 0; i < r->n_devices; i++) {
		const NRI(LinuxDeviceCgroup) *d = r->devices[i];
		json_t *one = json_pack("{s:b}", "allow", d->allow);
		if (!str_empty(d->type))
			json_object_set_new(one, "type", json_string(d->type));
		if (d->major)
			json_object_set_new(one, "major", json_integer(d->major->value));
		if (d->minor)
			json_object_set_new(one, "minor", json_integer(d->minor->value));
		if (!str_empty(d->access))
			json_object_set_new(one, "access", json_string(d->access));
		if (json_array_append_new(v, one) < 0)
			return err_nomem(err);
	}
	return 0;
}

static int resources(struct change *c, const NRI(LinuxResources) * r, struct nri_classes *classes,
		     struct err *err)
{
	int e = optionals(c, r, err);

	if (e == 0 && r->cpu)
		e = set_text(c, NRI_FIELD(CPUSetCPUs), RES "cpu/cpus", r->cpu->cpus, err);
	if (e == 0 && r->cpu)
		e = set_text(c, NRI_FIELD(CPUSetMems), RES "cpu/mems", r->cpu->mems, err);
	if (e == 0 && r->pids)
		e = set(c, NRI_FIELD(PidsLimit), RES "pids/limit", json_integer(r->pids->limit),
			err);
	if (e == 0)
		e = hugepages(c, r, err);
	if (e == 0)
		e = unified(c, r, err);
	if (e == 0)
		e = device_rules(c, r, err);
	if (e == 0 && r->blockio_class)
		e = claim(c, NRI_FIELD(BlockioClass), "", err);
	if (e == 0 && r->rdt_class)
		e = claim(c, NRI_FIELD(RdtClass), "", err);
	if (e == 0 && r->blockio_class)
		classes->blockio = r->blockio_class->value;
	if (e == 0 && r->rdt_class)
		classes->rdt = r->rdt_class->value;
	return e;
}

int nri_resources_apply(json_t *spec, const NRI(LinuxResources) * r, struct nri_owners *o,
			const char *container, const char *plugin, struct nri_classes *classes,
			struct err *err)
{
	struct change c = {spec, o, container, plugin};
	return resources(&c, r, classes, err);
}

/* ---- the process ---- */

/* The name that "-name" removes; NULL. */
static const char *removal(const char *name)
{
	return name[0] == '-' ? name + 1 : NULL;
}

/* Maps: "-key" removes, others are claimed and set. */
static int map_apply(struct change *c, int field, const char *path, void *entries, size_t n,
		     struct err *err)
{
	struct nri_entry *const *v = entries;
	json_t *o = n ? object_at(c->spec, path, err) : NULL;
	int r = n && !o ? err_nomem(err) : 0;

	for (size_t i = 0; i < n && r == 0; i++)
		if (removal(v[i]->key)) {
			nri_disclaim(c->o, c->container, field, removal(v[i]->key));
			json_object_del(o, removal(v[i]->key));
		}
	for (size_t i = 0; i < n && r == 0; i++) {
		if (removal(v[i]->key))
			continue;
		r = claim(c, field, v[i]->key, err);
		if (r == 0 && json_object_set_new(o, v[i]->key, json_string(v[i]->value)) < 0)
			r = err_nomem(err);
	}
	return r;
}

static void env_remove(json_t *env, const char *key)
{
	size_t n = strlen(key);

	for (size_t i = json_array_size(env); i > 0; i--) {
		const char *s = json_string_value(json_array_get(env, i - 1));
		if (s && strncmp(s, key, n) == 0 && (s[n] == '=' || !s[n]))
			json_array_remove(env, i - 1);
	}
}

static int env(struct change *c, const NRI(ContainerAdjustment) * adj, struct err *err)
{
	json_t *v = adj->n_env ? array_at(c->spec, "process/env", err) : NULL;
	int r = adj->n_env && !v ? err_nomem(err) : 0;

	for (size_t i = 0; i < adj->n_env && r == 0; i++)
		if (removal(adj->env[i]->key)) {
			nri_disclaim(c->o, c->container, NRI_FIELD(Env), removal(adj->env[i]->key));
			env_remove(v, removal(adj->env[i]->key));
		}
	for (size_t i = 0; i < adj->n_env && r == 0; i++) {
		const NRI(KeyValue) *e = adj->env[i];
		if (removal(e->key))
			continue;
		if (!*e->key || strchr(e->key, '='))
			return err_set(err, ERR_INVALID_ARGUMENT,
				       "\"%.64s\" is no name of an environment variable", e->key);
		r = claim(c, NRI_FIELD(Env), e->key, err);
		if (r == 0) {
			env_remove(v, e->key);
			if (json_array_append_new(v, json_sprintf("%s=%s", e->key, e->value)) < 0)
				r = err_nomem(err);
		}
	}
	return r;
}

/* An empty first one overrides what another plugin has set. */
static int args(struct change *c, const NRI(ContainerAdjustment) * adj, struct err *err)
{
	char *const *v = adj->args;
	size_t n = adj->n_args;

	if (n == 0)
		return 0;
	if (!*v[0]) {
		nri_disclaim(c->o, c->container, NRI_FIELD(Args), "");
		v++;
		n--;
	}
	if (n == 0)
		return err_set(err, ERR_INVALID_ARGUMENT, "no command is left");
	return set(c, NRI_FIELD(Args), "process/args", texts(v, n), err);
}

static int rlimits(struct change *c, const NRI(ContainerAdjustment) * adj, struct err *err)
{
	json_t *v = adj->n_rlimits ? array_at(c->spec, "process/rlimits", err) : NULL;
	int r = adj->n_rlimits && !v ? err_nomem(err) : 0;

	for (size_t i = 0; i < adj->n_rlimits && r == 0; i++) {
		const NRI(POSIXRlimit) *l = adj->rlimits[i];
		r = claim(c, NRI_FIELD(Rlimits), l->type, err);
		if (r < 0)
			return r;
		if (l->hard > INT64_MAX || l->soft > INT64_MAX)
			return too_large(l->type, MAX(l->hard, l->soft), err);
		remove_by(v, "type", l->type);
		if (json_array_append_new(v, json_pack("{s:s, s:o, s:o}", "type", l->type, "hard",
						       number(l->hard), "soft", number(l->soft))) <
		    0)
			r = err_nomem(err);
	}
	return r;
}

/* ---- mounts, hooks ---- */

/* What is to be seen through a mount later has to get through the root, too. */
static int propagate(json_t *spec, char *const *options, size_t n, struct err *err)
{
	const char *now = json_str(json_obj(spec, "linux"), "rootfsPropagation", "");
	const char *want = NULL;

	for (size_t i = 0; i < n; i++)
		if (streq(options[i], "rshared") || (!want && streq(options[i], "rslave")))
			want = options[i];
	return !want || streq(now, "rshared")
		       ? 0
		       : spec_set(spec, "linux/rootfsPropagation", json_string(want), err);
}

static int mounts(struct change *c, const NRI(ContainerAdjustment) * adj, struct err *err)
{
	json_t *v = adj->n_mounts ? array_at(c->spec, "mounts", err) : NULL;
	int r = adj->n_mounts && !v ? err_nomem(err) : 0;

	for (size_t i = 0; i < adj->n_mounts && r == 0; i++) {
		const char *gone = removal(adj->mounts[i]->destination);
		if (gone) {
			nri_disclaim(c->o, c->container, NRI_FIELD(Mounts), gone);
			remove_by(v, "destination", gone);
		}
	}
	for (size_t i = 0; i < adj->n_mounts && r == 0; i++) {
		const NRI(Mount) *m = adj->mounts[i];
		if (removal(m->destination))
			continue;
		if (m->destination[0] != '/')
			return err_set(err, ERR_INVALID_ARGUMENT,
				       "mount on \"%.128s\": not an absolute path", m->destination);
		r = claim(c, NRI_FIELD(Mounts), m->destination, err);
		if (r < 0)
			return r;
		remove_by(v, "destination", m->destination);
		json_t *one =
			json_pack("{s:s, s:s, s:s, s:o}", "destination", m->destination, "type",
				  str_or(m->type, ""), "source", str_or(m->source, ""), "options",
				  texts(m->options, m->n_options));
		r = json_array_append_new(v, one) < 0
			    ? err_nomem(err)
			    : propagate(c->spec, m->options, m->n_options, err);
	}
	return r;
}

static size_t depth(const json_t *mount)
{
	size_t n = 0;
	for (const char *s = json_str(mount, "destination", ""); *s; s++)
		n += *s == '/' && s[1] && s[1] != '/';
	return n;
}

int nri_sort_mounts(json_t *spec, struct err *err)
{
	json_t *v = json_arr(spec, "mounts"), *sorted = json_array();
	size_t n = json_array_size(v), left = n;

	/* Stable; depths are few. */
	for (size_t d = 0; sorted && left > 0; d++)
		for (size_t i = 0; i < n; i++)
			if (depth(json_array_get(v, i)) == d) {
				if (json_array_append(sorted, json_array_get(v, i)) < 0) {
					json_decref(sorted);
					return err_nomem(err);
				}
				left--;
			}
	return sorted ? spec_set(spec, "mounts", sorted, err) : err_nomem(err);
}

static int hook_list(struct change *c, const char *path, NRI(Hook) *const *h, size_t n,
		     struct err *err)
{
	json_t *v = n ? array_at(c->spec, path, err) : NULL;

	for (size_t i = 0; i < n; i++) {
		json_t *one = json_pack("{s:s}", "path", h[i]->path);
		if (h[i]->path[0] != '/') {
			json_decref(one);
			return err_set(err, ERR_INVALID_ARGUMENT,
				       "hook \"%.128s\": not an absolute path", h[i]->path);
		}
		if (h[i]->n_args)
			json_object_set_new(one, "args", texts(h[i]->args, h[i]->n_args));
		if (h[i]->n_env)
			json_object_set_new(one, "env", texts(h[i]->env, h[i]->n_env));
		if (h[i]->timeout)
			json_object_set_new(one, "timeout", json_integer(h[i]->timeout->value));
		if (json_array_append_new(v, one) < 0)
			return err_nomem(err);
	}
	return 0;
}

/* All plugins may add hooks; the owner is a list of them then. */
static int hooks_claim(struct change *c, struct err *err)
{
	const char *had = nri_owner(c->o, c->container, NRI_FIELD(OciHooks), "");

	if (!had)
		return claim(c, NRI_FIELD(OciHooks), "", err);
	char *both = arena_printf(c->o->arena, "%s,%s", had, c->plugin);
	if (!both)
		return err_nomem(err);
	nri_disclaim(c->o, c->container, NRI_FIELD(OciHooks), "");
	return nri_claim(c->o, c->container, NRI_FIELD(OciHooks), "", both, err);
}

static int hooks(struct change *c, const NRI(Hooks) * h, struct err *err)
{
	if (!h || h->n_prestart + h->n_create_runtime + h->n_create_container +
				  h->n_start_container + h->n_poststart + h->n_poststop ==
			  0)
		return 0;
	int r = hooks_claim(c, err);
	if (r == 0)
		r = hook_list(c, "hooks/prestart", h->prestart, h->n_prestart, err);
	if (r == 0)
		r = hook_list(c, "hooks/createRuntime", h->create_runtime, h->n_create_runtime,
			      err);
	if (r == 0)
		r = hook_list(c, "hooks/createContainer", h->create_container,
			      h->n_create_container, err);
	if (r == 0)
		r = hook_list(c, "hooks/startContainer", h->start_container, h->n_start_container,
			      err);
	if (r == 0)
		r = hook_list(c, "hooks/poststart", h->poststart, h->n_poststart, err);
	return r < 0 ? r : hook_list(c, "hooks/poststop", h->poststop, h->n_poststop, err);
}

/* ---- linux ---- */

static json_t *device_json(const NRI(LinuxDevice) * d)
{
	json_t *one = json_pack("{s:s, s:s, s:I, s:I}", "path", d->path, "type", d->type, "major",
				(json_int_t)d->major, "minor", (json_int_t)d->minor);
	if (d->file_mode)
		json_object_set_new(one, "fileMode", json_integer(d->file_mode->value));
	if (d->uid)
		json_object_set_new(one, "uid", json_integer(d->uid->value));
	if (d->gid)
		json_object_set_new(one, "gid", json_integer(d->gid->value));
	return one;
}

static int devices(struct change *c, const NRI(LinuxContainerAdjustment) * l, struct err *err)
{
	json_t *v = l->n_devices ? array_at(c->spec, "linux/devices", err) : NULL,
	       *rules = l->n_devices ? array_at(c->spec, RES "devices", err) : NULL;
	int r = l->n_devices && (!v || !rules) ? err_nomem(err) : 0;

	for (size_t i = 0; i < l->n_devices && r == 0; i++) {
		const char *gone = removal(l->devices[i]->path);
		if (gone) {
			nri_disclaim(c->o, c->container, NRI_FIELD(Devices), gone);
			remove_by(v, "path", gone);
		}
	}
	for (size_t i = 0; i < l->n_devices && r == 0; i++) {
		const NRI(LinuxDevice) *d = l->devices[i];
		if (removal(d->path))
			continue;
		if (d->path[0] != '/' || strlen(d->type) != 1 || !strchr("bcup", d->type[0]))
			return err_set(err, ERR_INVALID_ARGUMENT,
				       "device \"%.128s\" of type \"%.8s\": not a device", d->path,
				       d->type);
		r = claim(c, NRI_FIELD(Devices), d->path, err);
		if (r < 0)
			return r;
		remove_by(v, "path", d->path);
		if (json_array_append_new(v, device_json(d)) < 0 ||
		    (d->type[0] != 'p' &&
		     json_array_append_new(
			     rules, json_pack("{s:b, s:s, s:I, s:I, s:s}", "allow", 1, "type",
					      d->type, "major", (json_int_t)d->major, "minor",
					      (json_int_t)d->minor, "access", "rwm")) < 0))
			r = err_nomem(err);
	}
	return r;
}

static int namespaces(struct change *c, const NRI(LinuxContainerAdjustment) * l, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < l->n_namespaces && r == 0; i++) {
		const NRI(LinuxNamespace) *n = l->namespaces[i];
		const char *gone = removal(n->type);

		if (gone) {
			nri_disclaim(c->o, c->container, NRI_FIELD(Namespace), gone);
			spec_remove_namespace(c->spec, gone);
			continue;
		}
		r = claim(c, NRI_FIELD(Namespace), n->type, err);
		if (r == 0)
			r = spec_set_namespace(c->spec, n->type, str_or(n->path, ""), err);
	}
	return r;
}

static json_t *syscall_json(const NRI(LinuxSyscall) * s)
{
	json_t *j =
		json_pack("{s:o, s:s}", "names", texts(s->names, s->n_names), "action", s->action);
	json_t *list = s->n_args ? json_array() : NULL;

	if (s->errno_ret)
		json_object_set_new(j, "errnoRet", json_integer(s->errno_ret->value));
	for (size_t i = 0; i < s->n_args; i++)
		json_array_append_new(
			list, json_pack("{s:i, s:o, s:o, s:s}", "index", (int)s->args[i]->index,
					"value", number(s->args[i]->value), "valueTwo",
					number(s->args[i]->value_two), "op", s->args[i]->op));
	if (list)
		json_object_set_new(j, "args", list);
	return j;
}

static int seccomp(struct change *c, const NRI(LinuxSeccomp) * s, struct err *err)
{
	if (!s)
		return 0;
	json_t *calls = json_array();
	for (size_t i = 0; calls && i < s->n_syscalls; i++) {
		for (size_t k = 0; k < s->syscalls[i]->n_args; k++)
			if (s->syscalls[i]->args[k]->value > INT64_MAX ||
			    s->syscalls[i]->args[k]->value_two > INT64_MAX) {
				json_decref(calls);
				return too_large("seccomp argument", s->syscalls[i]->args[k]->value,
						 err);
			}
		json_array_append_new(calls, syscall_json(s->syscalls[i]));
	}
	json_t *j = json_pack("{s:s, s:o}", "defaultAction", s->default_action, "syscalls", calls);
	if (s->default_errno)
		json_object_set_new(j, "defaultErrnoRet", json_integer(s->default_errno->value));
	if (s->n_architectures)
		json_object_set_new(j, "architectures",
				    texts(s->architectures, s->n_architectures));
	if (s->n_flags)
		json_object_set_new(j, "flags", texts(s->flags, s->n_flags));
	if (!str_empty(s->listener_path))
		json_object_set_new(j, "listenerPath", json_string(s->listener_path));
	if (!str_empty(s->listener_metadata))
		json_object_set_new(j, "listenerMetadata", json_string(s->listener_metadata));
	return set(c, NRI_FIELD(SeccompPolicy), "linux/seccomp", j, err);
}

static const char *enum_name(const ProtobufCEnumDescriptor *d, int v)
{
	const ProtobufCEnumValue *e = protobuf_c_enum_descriptor_get_value(d, v);
	return e ? e->name : NULL;
}

#define ENUM(m) &nri__pkg__api__v1alpha1__##m##__descriptor

static int unknown(const char *what, struct err *err)
{
	return err_set(err, ERR_INVALID_ARGUMENT, "%s: unknown value", what);
}

static int io_priority(struct change *c, const NRI(LinuxIOPriority) * p, struct err *err)
{
	const char *name = p ? enum_name(ENUM(ioprio_class), (int)p->class_) : NULL;

	if (!p)
		return 0;
	if (!name)
		return unknown("class of I/O priority", err);
	return set(c, NRI_FIELD(IoPriority), "process/ioPriority",
		   json_pack("{s:s, s:i}", "class", name, "priority", p->priority), err);
}

static int scheduler(struct change *c, const NRI(LinuxScheduler) * s, struct err *err)
{
	const char *name = s ? enum_name(ENUM(linux_scheduler_policy), (int)s->policy) : NULL;

	if (!s)
		return 0;
	if (!name)
		return unknown("scheduling policy", err);
	if (s->runtime > INT64_MAX || s->deadline > INT64_MAX || s->period > INT64_MAX)
		return too_large("scheduler", UINT64_MAX, err);
	json_t *flags = json_array();
	for (size_t i = 0; flags && i < s->n_flags; i++) {
		const char *f = enum_name(ENUM(linux_scheduler_flag), (int)s->flags[i]);
		if (!f) {
			json_decref(flags);
			return unknown("scheduler flag", err);
		}
		json_array_append_new(flags, json_string(f));
	}
	return set(c, NRI_FIELD(LinuxSched), "process/scheduler",
		   json_pack("{s:s, s:i, s:i, s:o, s:I, s:I, s:I}", "policy", name, "nice", s->nice,
			     "priority", s->priority, "flags", flags, "runtime",
			     (json_int_t)s->runtime, "deadline", (json_int_t)s->deadline, "period",
			     (json_int_t)s->period),
		   err);
}

static int memory_policy(struct change *c, const NRI(LinuxMemoryPolicy) * p, struct err *err)
{
	const char *name = p ? enum_name(ENUM(mpol_mode), (int)p->mode) : NULL;

	if (!p)
		return 0;
	if (!name)
		return unknown("mode of memory policy", err);
	json_t *flags = json_array();
	for (size_t i = 0; flags && i < p->n_flags; i++) {
		const char *f = enum_name(ENUM(mpol_flag), (int)p->flags[i]);
		if (!f) {
			json_decref(flags);
			return unknown("flag of memory policy", err);
		}
		json_array_append_new(flags, json_string(f));
	}
	return set(c, NRI_FIELD(MemoryPolicy), "linux/memoryPolicy",
		   json_pack("{s:s, s:s, s:o}", "mode", name, "nodes", str_or(p->nodes, ""),
			     "flags", flags),
		   err);
}

static int rdt(struct change *c, const NRI(LinuxRdt) * t, struct err *err)
{
	int r = 0;

	if (!t)
		return 0;
	if (t->remove) {
		nri_disclaim(c->o, c->container, NRI_FIELD(RdtClosID), "");
		nri_disclaim(c->o, c->container, NRI_FIELD(RdtSchemata), "");
		nri_disclaim(c->o, c->container, NRI_FIELD(RdtEnableMonitoring), "");
		spec_unset(c->spec, "linux/intelRdt");
	}
	if (t->clos_id)
		r = set(c, NRI_FIELD(RdtClosID), "linux/intelRdt/closID",
			json_string(t->clos_id->value), err);
	if (r == 0 && t->schemata)
		r = set(c, NRI_FIELD(RdtSchemata), "linux/intelRdt/schemata",
			texts(t->schemata->value, t->schemata->n_value), err);
	if (r == 0 && t->enable_monitoring)
		r = set(c, NRI_FIELD(RdtEnableMonitoring), "linux/intelRdt/enableMonitoring",
			json_boolean(t->enable_monitoring->value), err);
	return r;
}

static int net_devices(struct change *c, const NRI(LinuxContainerAdjustment) * l, struct err *err)
{
	json_t *o = l->n_net_devices ? object_at(c->spec, "linux/netDevices", err) : NULL;
	int r = l->n_net_devices && !o ? err_nomem(err) : 0;

	for (size_t i = 0; i < l->n_net_devices && r == 0; i++) {
		const NRI(LinuxContainerAdjustment__NetDevicesEntry) *e = l->net_devices[i];
		const char *gone = removal(e->key);

		if (gone) {
			nri_disclaim(c->o, c->container, NRI_FIELD(LinuxNetDevices), gone);
			json_object_del(o, gone);
			continue;
		}
		r = claim(c, NRI_FIELD(LinuxNetDevices), e->key, err);
		if (r == 0 &&
		    json_object_set_new(o, e->key,
					json_pack("{s:s}", "name",
						  e->value ? str_or(e->value->name, "") : "")) < 0)
			r = err_nomem(err);
	}
	return r;
}

static int linux_part(struct change *c, const NRI(LinuxContainerAdjustment) * l,
		      struct nri_classes *classes, struct err *err)
{
	int r = devices(c, l, err);

	if (r == 0 && l->resources)
		r = resources(c, l->resources, classes, err);
	if (r == 0)
		r = set_text(c, NRI_FIELD(CgroupsPath), "linux/cgroupsPath", l->cgroups_path, err);
	if (r == 0 && l->oom_score_adj)
		r = set(c, NRI_FIELD(OomScoreAdj), "process/oomScoreAdj",
			json_integer(l->oom_score_adj->value), err);
	if (r == 0)
		r = io_priority(c, l->io_priority, err);
	if (r == 0)
		r = seccomp(c, l->seccomp_policy, err);
	if (r == 0)
		r = namespaces(c, l, err);
	if (r == 0)
		r = map_apply(c, NRI_FIELD(Sysctl), "linux/sysctl", l->sysctl, l->n_sysctl, err);
	if (r == 0)
		r = net_devices(c, l, err);
	if (r == 0)
		r = scheduler(c, l->scheduler, err);
	if (r == 0)
		r = rdt(c, l->rdt, err);
	return r < 0 ? r : memory_policy(c, l->memory_policy, err);
}

int nri_adjust(json_t *spec, const NRI(ContainerAdjustment) * adj, struct nri_owners *o,
	       const char *container, const char *plugin, struct nri_classes *classes,
	       struct err *err)
{
	struct change c = {spec, o, container, plugin};
	int r = map_apply(&c, NRI_FIELD(Annotations), "annotations", adj->annotations,
			  adj->n_annotations, err);

	if (r == 0)
		r = mounts(&c, adj, err);
	if (r == 0)
		r = env(&c, adj, err);
	if (r == 0)
		r = args(&c, adj, err);
	if (r == 0)
		r = hooks(&c, adj->hooks, err);
	if (r == 0)
		r = rlimits(&c, adj, err);
	for (size_t i = 0; r == 0 && i < adj->n_cdi_devices; i++)
		r = claim(&c, NRI_FIELD(CdiDevices), adj->cdi_devices[i]->name, err);
	if (r == 0 && adj->linux)
		r = linux_part(&c, adj->linux, classes, err);
	return r;
}
