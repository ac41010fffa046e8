/* SPDX-License-Identifier: Apache-2.0 */
/* Steps in this order: default, image, process (environment, directory, terminal, user),
 * privileges, namespaces and mounts, resources. A later step changes what an earlier one has set.
 */
#include "ctr/create_spec.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>

#include "base/fd.h"
#include "ctr/create_rootless.h"
#include "ctr/options.h"
#include "client/rootfs.h"
#include "oci/seccomp.h"
#include "oci/spec.h"

#define SPEC_FILE_MAX ((size_t)8 << 20)
#define CPU_PERIOD 100000

static const char *opt_string(const struct ctr *c, const char *flag)
{
	return ctr_has_flag(c, flag) ? ctr_string(c, flag) : "";
}

static int read_json(struct ctr *c, const char *path, json_t **ret, struct err *err)
{
	size_t len;
	char *text;
	int r;

	r = file_read(c->ctx.arena, AT_FDCWD, path, SPEC_FILE_MAX, &text, &len);
	if (r < 0)
		return err_errno(err, r, "read `%s`", path);
	r = json_parse(text, len, ret, err);
	return r < 0 ? err_prefix(err, "`%s`", path) : 0;
}

int create_spec_from_file(struct ctr *c, struct create *k, json_t **ret, struct err *err)
{
	const char *path = ctr_string(c, "config");
	json_t *spec _cleanup_json_ = NULL;
	int r;

	r = read_json(c, path, &spec, err);
	if (r < 0)
		return r;
	if (!json_is_object(spec))
		return err_set(err, ERR_INVALID_ARGUMENT, "`%s` is no runtime spec", path);
	if (ctr_bool(c, "tty")) {
		r = spec_set_terminal(spec, err);
		if (r < 0)
			return r;
	}
	k->terminal = json_is_true(spec_get(spec, "process/terminal"));
	*ret = TAKE_PTR(spec);
	return 0;
}

/* ---- Process ---- */

static int apply_env_file(struct ctr *c, json_t *spec, struct err *err)
{
	const char *path = ctr_string(c, "env-file");
	char *text, **lines;
	size_t len, n;
	int r;

	if (!*path)
		return 0;
	r = file_read(c->ctx.arena, AT_FDCWD, path, SPEC_FILE_MAX, &text, &len);
	if (r < 0)
		return err_errno(err, r, "read `%s`", path);
	lines = str_split(c->ctx.arena, text, '\n', &n);
	if (!lines)
		return err_nomem(err);
	for (size_t i = 0; i < n; i++) {
		size_t end = strlen(lines[i]);

		if (end && lines[i][end - 1] == '\r')
			lines[i][--end] = '\0';
		if (!end || *lines[i] == '#')
			continue;
		r = spec_set_env(spec, lines[i], err);
		if (r < 0)
			return err_prefix(err, "`%s`", path);
	}
	return 0;
}

static int apply_process(struct ctr *c, struct create *k, json_t *spec, struct err *err)
{
	const char *cwd = ctr_string(c, "cwd");
	const char **env;
	size_t n;
	int r;

	r = apply_env_file(c, spec, err);
	env = ctr_strings(c, "env", &n);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = spec_set_env(spec, env[i], err);
	if (r == 0 && *cwd)
		r = spec_set(spec, "process/cwd", json_string(cwd), err);
	if (r == 0 && ctr_bool(c, "tty"))
		r = spec_set_terminal(spec, err);
	k->terminal = ctr_bool(c, "tty");
	if (r == 0 && ctr_bool(c, "allow-new-privs"))
		r = spec_set(spec, "process/noNewPrivileges", json_false(), err);
	return r;
}

static int apply_user(struct ctr *c, const struct create *k, json_t *spec,
		      const struct client_image *image, const struct client_mounts *mounts,
		      struct err *err)
{
	const char *user = ctr_string(c, "user");
	struct user_ids u;
	int r;

	if (!*user && image)
		user = json_str(image->config, "User", "");
	r = client_rootfs_user(c->client, &c->ctx, image ? NULL : k->ref, mounts, user, &u, err);
	return r < 0 ? r : spec_set_user(spec, u.uid, u.gid, u.gids, u.n_gids, err);
}

static int apply_privileges(struct ctr *c, json_t *spec, struct err *err)
{
	bool devices = !ctr_has_flag(c, "privileged-without-host-devices") ||
		       !ctr_bool(c, "privileged-without-host-devices");
	const char **v;
	size_t n;
	int r = 0;

	if (ctr_bool(c, "privileged")) {
		r = spec_set_privileged(spec, err);
		if (r == 0 && devices)
			r = spec_allow_all_devices(spec, err);
		if (r == 0 && devices)
			r = spec_add_device(spec, "/dev", "/dev", NULL, err);
	}
	v = ctr_strings(c, "cap-add", &n);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = spec_add_cap(spec, v[i], err);
	v = ctr_strings(c, "cap-drop", &n);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = spec_drop_cap(spec, v[i], err);
	return r < 0 ? r : create_devices(c, spec, err);
}

static int apply_confinement(struct ctr *c, json_t *spec, struct err *err)
{
	const char *profile = ctr_string(c, "seccomp-profile");
	json_t *seccomp;
	int r;

	if (*profile && !ctr_bool(c, "seccomp"))
		return err_set(err, ERR_INVALID_ARGUMENT, "--seccomp-profile needs --seccomp");
	if (ctr_bool(c, "seccomp")) {
		r = *profile ? read_json(c, profile, &seccomp, err)
			     : seccomp_default(c->ctx.arena, spec, &seccomp, err);
		if (r == 0)
			r = spec_set(spec, "linux/seccomp", seccomp, err);
		if (r < 0)
			return r;
	}
	return create_apparmor(c, spec, err);
}

/* ---- Namespaces, mounts, ids ---- */

static int apply_mounts(struct ctr *c, json_t *spec, struct err *err)
{
	size_t n;
	const char **v = ctr_strings(c, "mount", &n);
	struct mount m;
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++) {
		r = option_mount(c->ctx.arena, v[i], &m, err);
		if (r == 0)
			r = spec_add_mount(spec, &m, err);
	}
	if (r == 0 && ctr_bool(c, "net-host"))
		r = spec_set_host_network(spec, err);
	if (r == 0 && ctr_bool(c, "read-only"))
		r = spec_set(spec, "root/readonly", json_true(), err);
	if (r == 0 && *ctr_string(c, "rootfs-propagation"))
		r = spec_set(spec, "linux/rootfsPropagation",
			     json_string(ctr_string(c, "rootfs-propagation")), err);
	return r;
}

static int apply_namespaces(struct ctr *c, json_t *spec, struct err *err)
{
	size_t n;
	const char **v = ctr_strings(c, "with-ns", &n), *type, *path;
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++) {
		r = option_namespace(c->ctx.arena, v[i], &type, &path, err);
		if (r == 0)
			r = spec_set_namespace(spec, type, path, err);
	}
	if (r == 0 && *ctr_string(c, "hostname"))
		r = spec_set(spec, "hostname", json_string(ctr_string(c, "hostname")), err);
	return r;
}

static int apply_idmap(struct ctr *c, json_t *spec, const char *flag, const char *which,
		       uint32_t *ret_root, struct err *err)
{
	size_t n;
	const char **v;
	int r = 0;

	if (!ctr_has_flag(c, flag))
		return 0;
	v = ctr_strings(c, flag, &n);
	for (size_t i = 0; r == 0 && i < n; i++) {
		struct idmap m;

		r = option_idmap(v[i], &m, err);
		if (r == 0)
			r = spec_add_idmap(spec, which, m.container, m.host, m.size, err);
		if (r == 0 && m.container == 0)
			*ret_root = m.host;
	}
	return r;
}

int create_remap_labels(struct ctr *c, struct labels *l, struct err *err)
{
	static const char *const flags[][2] = {{"uidmap", "containerd.io/snapshot/uidmapping"},
					       {"gidmap", "containerd.io/snapshot/gidmapping"}};

	for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
		const char *text = NULL, **v;
		size_t n = 0;

		v = ctr_has_flag(c, flags[i][0]) ? ctr_strings(c, flags[i][0], &n) : NULL;
		for (size_t j = 0; j < n; j++) {
			text = text ? arena_printf(c->ctx.arena, "%s,%s", text, v[j]) : v[j];
			if (!text)
				return err_nomem(err);
		}
		if (text && labels_set(c->ctx.arena, l, flags[i][1], text) < 0)
			return err_nomem(err);
	}
	return 0;
}

static int apply_annotations(struct ctr *c, json_t *spec, const char *flag, struct err *err)
{
	json_t *o = json_obj_make(spec, "annotations");
	struct labels l;
	const char **v;
	size_t n;
	int r;

	v = ctr_strings(c, flag, &n);
	r = ctr_parse_labels(c->ctx.arena, v, n, &l, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < l.n; i++)
		if (!o || json_object_set_new(o, l.v[i].key, json_string(l.v[i].value)) < 0)
			return err_nomem(err);
	return 0;
}

/* ---- Resources ---- */

static int apply_cpu(struct ctr *c, json_t *spec, struct err *err)
{
	int64_t quota = ctr_int(c, "cpu-quota");
	uint64_t period = ctr_uint(c, "cpu-period");
	double cpus = ctr_has_flag(c, "cpus") ? ctr_float(c, "cpus") : 0;
	int r = 0;

	if (cpus < 0 || cpus > 1e6 || period > INT64_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT, "--cpus or --cpu-period is out of range");
	if (cpus > 0 && (quota > -1 || period > 0))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "--cpus and --cpu-quota or --cpu-period cannot be used together");
	if (cpus > 0) {
		quota = (int64_t)(cpus * CPU_PERIOD);
		period = CPU_PERIOD;
	}
	if (ctr_has_flag(c, "cpu-shares"))
		r = spec_set(spec, "linux/resources/cpu/shares",
			     json_integer(ctr_int(c, "cpu-shares")), err);
	if (r == 0 && quota > -1)
		r = spec_set(spec, "linux/resources/cpu/quota", json_integer(quota), err);
	if (r == 0 && period > 0)
		r = spec_set(spec, "linux/resources/cpu/period", json_integer((json_int_t)period),
			     err);
	if (r == 0 && *opt_string(c, "cpuset-cpus"))
		r = spec_set(spec, "linux/resources/cpu/cpus",
			     json_string(opt_string(c, "cpuset-cpus")), err);
	if (r == 0 && *opt_string(c, "cpuset-mems"))
		r = spec_set(spec, "linux/resources/cpu/mems",
			     json_string(opt_string(c, "cpuset-mems")), err);
	return r;
}

static int apply_rlimit(struct ctr *c, json_t *spec, struct err *err)
{
	const char *text = opt_string(c, "rlimit-nofile");
	uint64_t soft, hard;
	int r;

	if (!*text)
		return 0;
	r = option_rlimit(text, &soft, &hard, err);
	if (r < 0)
		return r;
	return spec_set(spec, "process/rlimits",
			json_pack("[{s:s,s:I,s:I}]", "type", "RLIMIT_NOFILE", "hard",
				  (json_int_t)hard, "soft", (json_int_t)soft),
			err);
}

static int apply_resources(struct ctr *c, json_t *spec, struct err *err)
{
	uint64_t memory = ctr_uint(c, "memory-limit");
	const char *rdt = ctr_string(c, "rdt-class");
	int r = 0;

	if (memory > INT64_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT, "--memory-limit is out of range");
	if (memory > 0)
		r = spec_set(spec, "linux/resources/memory/limit", json_integer((json_int_t)memory),
			     err);
	if (r == 0)
		r = apply_cpu(c, spec, err);
	if (r == 0)
		r = apply_rlimit(c, spec, err);
	if (r == 0)
		r = create_blockio(c, spec, err);
	if (r == 0 && *rdt)
		r = spec_set(spec, "linux/intelRdt/closID", json_string(rdt), err);
	/* --cgroup "" turns cgroups off. */
	if (r == 0 && ctr_has_flag(c, "cgroup") && ctr_is_set(c, "cgroup"))
		r = spec_set(spec, "linux/cgroupsPath", json_string(ctr_string(c, "cgroup")), err);
	return r;
}

static int fill_spec(struct ctr *c, struct create *k, const struct client_image *image,
		     const struct client_mounts *mounts, json_t *spec, struct err *err)
{
	int r;

	r = spec_allow_default_devices(spec, err);
	if (r == 0 && !image)
		r = spec_set(spec, "root/path", json_string(k->ref), err);
	if (r == 0)
		r = spec_apply_image(spec, image ? image->config : NULL, k->args, k->n_args, err);
	if (r == 0)
		r = apply_process(c, k, spec, err);
	if (r == 0)
		r = apply_user(c, k, spec, image, mounts, err);
	if (r == 0)
		r = apply_privileges(c, spec, err);
	if (r == 0)
		r = apply_confinement(c, spec, err);
	if (r == 0)
		r = apply_mounts(c, spec, err);
	if (r == 0)
		r = apply_namespaces(c, spec, err);
	if (r == 0)
		r = apply_idmap(c, spec, "uidmap", "uidMappings", &k->io_uid, err);
	if (r == 0)
		r = apply_idmap(c, spec, "gidmap", "gidMappings", &k->io_gid, err);
	if (r == 0)
		r = apply_annotations(c, spec, "label", err);
	if (r == 0)
		r = apply_annotations(c, spec, "annotation", err);
	if (r == 0)
		r = apply_resources(c, spec, err);
	if (r == 0)
		r = create_rootless(c, spec, err);
	return r < 0 ? r : create_cdi_devices(c, spec, err);
}

int create_spec(struct ctr *c, struct create *k, const struct client_image *image,
		const struct client_mounts *rootfs_mounts, json_t **ret, struct err *err)
{
	json_t *spec _cleanup_json_ = NULL;
	int r;

	r = spec_new(c->ctx.ns, k->id, spec_host_unified(), &spec, err);
	if (r == 0)
		r = fill_spec(c, k, image, rootfs_mounts, spec, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(spec);
	return 0;
}
