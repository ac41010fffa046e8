/* SPDX-License-Identifier: Apache-2.0 */
/* Mounts and devices of a container.
 *
 * Order: the pseudo file systems (without those that a mount of the kubelet hides), the cgroups,
 * then all binds by the depth of their path, so that none is hidden by one that comes later. */
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "cri/spec_internal.h"

#define MOUNTINFO_MAX (16u << 20)
#define CGROUP "/sys/fs/cgroup"
#define CONSOLE "/dev/console"
#define PRIVATE RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_PRIVATE
#define TO_CONTAINER RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_HOST_TO_CONTAINER
#define BIDIRECTIONAL RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_BIDIRECTIONAL

/* One bind on its way into the spec. */
struct bind {
	const char *target;
	json_t *mount;
	size_t order;
};

struct binds {
	struct bind *v;
	size_t n;
};

static size_t depth(const char *path)
{
	size_t n = 0;
	for (; *path; path++)
		n += *path == '/' && path[1] && path[1] != '/';
	return n;
}

static int bind_cmp(const void *a, const void *b)
{
	const struct bind *x = a, *y = b;
	size_t dx = depth(x->target), dy = depth(y->target);

	return dx != dy ? (dx > dy) - (dx < dy) : (x->order > y->order) - (x->order < y->order);
}

/* "/a//b/../c/" -> "/a/c"; relative paths start at "/". NULL = no memory. */
static char *clean(struct arena *a, const char *path)
{
	char *out = arena_alloc(a, strlen(path) + 2);
	size_t n = 0;

	if (!out)
		return NULL;
	while (*path) {
		size_t len = strcspn(path, "/");
		if (len == 2 && path[0] == '.' && path[1] == '.') {
			while (n > 0 && out[--n] != '/')
				;
		} else if (len && !(len == 1 && path[0] == '.')) {
			out[n++] = '/';
			memcpy(out + n, path, len);
			n += len;
		}
		path += len + (path[len] == '/');
	}
	if (n == 0)
		out[n++] = '/';
	out[n] = 0;
	return out;
}

static bool cri_mounts(const struct cri_spec_container *in, struct arena *a, const char *target)
{
	for (size_t i = 0; i < in->container->n_mounts; i++) {
		char *t = clean(a, in->container->mounts[i]->container_path);
		if (t && streq(t, target))
			return true;
	}
	return false;
}

/* ---- the host's side of a bind ---- */

enum propagation { PROP_PRIVATE, PROP_SLAVE = 1, PROP_SHARED = 2 };

/* Undoes the octal escapes of mountinfo in place. */
static void unescape(char *s)
{
	char *to = s;
	for (; *s; s++) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] && s[3]) {
			*to++ = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
			s += 3;
		} else
			*to++ = *s;
	}
	*to = 0;
}

/* How the mount that @path lies on propagates, from the text of a mountinfo file, which is cut up.
 */
static int propagation_of(char *info, const char *path)
{
	size_t best = 0;
	int found = PROP_PRIVATE;

	for (char *line = info, *next; line && *line; line = next) {
		char *save, *field[6], *f;
		int n = 0, p = PROP_PRIVATE;

		next = strchr(line, '\n');
		if (next)
			*next++ = 0;
		for (f = strtok_r(line, " ", &save); f && n < 6; f = strtok_r(NULL, " ", &save))
			field[n++] = f;
		if (n < 6)
			continue;
		for (; f && !streq(f, "-"); f = strtok_r(NULL, " ", &save))
			p |= str_has_prefix(f, "shared:")   ? PROP_SHARED
			     : str_has_prefix(f, "master:") ? PROP_SLAVE
							    : 0;
		unescape(field[4]);
		size_t len = strlen(field[4]);
		const char *rest = str_skip(path, field[4]);
		/* Later lines are mounted on top of earlier ones. */
		if (rest && (len == 1 || *rest == '/' || !*rest) && len >= best) {
			best = len;
			found = p;
		}
	}
	return found;
}

static int check_propagation(struct arena *a, const CRI(Mount) * m, const char *source,
			     struct err *err)
{
	char *info;
	size_t n;

	if (m->propagation == PRIVATE)
		return 0;
	int r = file_read(a, AT_FDCWD, "/proc/self/mountinfo", MOUNTINFO_MAX, &info, &n);
	if (r < 0)
		return err_errno(err, r, "read /proc/self/mountinfo");
	int p = propagation_of(info, source);
	if (m->propagation == BIDIRECTIONAL && !(p & PROP_SHARED))
		return err_set(err, ERR_UNKNOWN,
			       "path \"%s\" is mounted on \"%s\" but it is not a shared mount",
			       m->host_path, source);
	if (m->propagation == TO_CONTAINER && p == PROP_PRIVATE)
		return err_set(err, ERR_UNKNOWN,
			       "path \"%s\" is mounted on \"%s\" but it is not a shared or slave "
			       "mount",
			       m->host_path, source);
	return 0;
}

/* The real path of a source, made as a directory when there is nothing. */
static int source_of(struct arena *a, const char *host, const char **ret, struct err *err)
{
	char real[PATH_MAX];

	if (host[0] != '/')
		return err_set(err, ERR_UNKNOWN, "mount source \"%s\" is not absolute", host);
	if (!realpath(host, real)) {
		if (errno != ENOENT)
			return err_errno(err, errno, "failed to resolve symlink \"%s\"", host);
		int r = mkdir_p(host, 0755);
		if (r < 0)
			return err_errno(err, r, "failed to mkdir \"%s\"", host);
		if (!realpath(host, real))
			return err_errno(err, errno, "failed to resolve symlink \"%s\"", host);
	}
	*ret = arena_strdup(a, real);
	return *ret ? 0 : err_nomem(err);
}

static json_t *mappings(CRI(IDMapping) * *v, size_t n)
{
	json_t *a = json_array();
	for (size_t i = 0; a && i < n; i++)
		if (json_array_append_new(a, json_pack("{s:I, s:I, s:I}", "containerID",
						       (json_int_t)v[i]->container_id, "hostID",
						       (json_int_t)v[i]->host_id, "size",
						       (json_int_t)v[i]->length)) < 0) {
			json_decref(a);
			return NULL;
		}
	return a;
}

static int add(struct arena *a, struct binds *b, const char *target, json_t *mount, struct err *err)
{
	if (!mount)
		return err_nomem(err);
	b->v[b->n] = (struct bind){clean(a, target), mount, b->n};
	return b->v[b->n++].target ? 0 : err_nomem(err);
}

static json_t *bind_mount(const char *target, const char *source, const char *propagation,
			  const char *mode)
{
	return json_pack("{s:s, s:s, s:s, s:[s,s,s]}", "destination", target, "type", "bind",
			 "source", source, "options", "rbind", propagation, mode);
}

static int read_only_mode(const struct cri_spec_container *in, const CRI(Mount) * m,
			  const char **ret, struct err *err)
{
	*ret = m->readonly ? "ro" : "rw";
	if (!m->recursive_read_only)
		return 0;
	if (!m->readonly)
		return err_set(err, ERR_UNKNOWN,
			       "recursive read-only mount of %s: it must be read-only, too",
			       m->container_path);
	if (m->propagation != PRIVATE)
		return err_set(err, ERR_UNKNOWN,
			       "recursive read-only mount of %s: its propagation must be private",
			       m->container_path);
	if (!in->recursive_read_only)
		return err_set(err, ERR_UNKNOWN,
			       "recursive read-only mount of %s: the runtime handler \"%s\" does "
			       "not support it",
			       m->container_path, in->runtime ? in->runtime->name : "");
	*ret = "rro";
	return 0;
}

static int cri_mount(struct arena *a, json_t *spec, const struct cri_spec_container *in, size_t i,
		     struct binds *b, struct err *err)
{
	const CRI(Mount) *m = in->container->mounts[i];
	const char *source, *mode, *propagation = "rprivate";
	const char *image = in->image_mounts ? in->image_mounts[i] : NULL;
	int r = 0;

	if (str_empty(m->container_path))
		return err_set(err, ERR_UNKNOWN, "mount %zu has no container_path", i);
	if (image)
		source = image;
	else
		r = source_of(a, m->host_path, &source, err);
	if (r == 0)
		r = read_only_mode(in, m, &mode, err);
	if (r == 0)
		r = check_propagation(a, m, source, err);
	if (r < 0)
		return err_prefix(err, "mount \"%s\"", m->container_path);
	if (m->propagation == BIDIRECTIONAL) {
		propagation = "rshared";
		r = spec_set(spec, "linux/rootfsPropagation", json_string("rshared"), err);
	} else if (m->propagation == TO_CONTAINER) {
		const json_t *have = spec_get(spec, "linux/rootfsPropagation");
		propagation = "rslave";
		if (!have || !streq(json_string_value(have), "rshared"))
			r = spec_set(spec, "linux/rootfsPropagation", json_string("rslave"), err);
	}
	if (r < 0)
		return r;
	json_t *j = bind_mount(m->container_path, source, propagation, mode);
	if (j && m->n_uidmappings)
		json_object_set_new(j, "uidMappings", mappings(m->uidmappings, m->n_uidmappings));
	if (j && m->n_gidmappings)
		json_object_set_new(j, "gidMappings", mappings(m->gidmappings, m->n_gidmappings));
	return add(a, b, m->container_path, j, err);
}

/* What every container gets from its pod, unless the kubelet mounts it itself. */
static int implicit_mounts(struct arena *a, const struct cri_spec_container *in, struct binds *b,
			   struct err *err)
{
	const struct {
		const char *target, *source;
		bool writable;
	} files[] = {{"/etc/hostname", in->hostname_path, false},
		     {"/etc/hosts", in->hosts_path, false},
		     {"/etc/resolv.conf", in->resolv_conf_path, false},
		     {"/dev/shm", in->shm_path, true}};
	const char *mode = cri_security(in->container)->readonly_rootfs ? "ro" : "rw";
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(files); i++)
		if (!str_empty(files[i].source) && !cri_mounts(in, a, files[i].target))
			r = add(a, b, files[i].target,
				bind_mount(files[i].target, files[i].source, "rprivate",
					   files[i].writable ? "rw" : mode),
				err);
	return r;
}

/* ---- pseudo file systems ---- */

static int cgroup_mount(json_t *spec, bool writable, struct err *err)
{
	const char *options[] = {"nosuid", "noexec", "nodev", "relatime", writable ? "rw" : "ro"};
	struct mount m = {.type = "cgroup",
			  .source = "cgroup",
			  .target = CGROUP,
			  .options = options,
			  .n_options = ARRAY_LEN(options)};
	return spec_add_mount(spec, &m, err);
}

/* Those that a mount of the kubelet is on top of, or, on /dev, below. */
static void drop_hidden(struct arena *a, json_t *spec, const struct cri_spec_container *in)
{
	json_t *mounts = spec_get(spec, "mounts");
	bool dev = cri_mounts(in, a, "/dev");

	for (size_t i = json_array_size(mounts); i > 0; i--) {
		const char *d = json_str(json_array_get(mounts, i - 1), "destination", "");
		if (cri_mounts(in, a, d) || (dev && str_has_prefix(d, "/dev/")))
			json_array_remove(mounts, i - 1);
	}
}

/* With the host's network in a user namespace sysfs cannot be mounted: the host's is bound. */
static int bind_sysfs(json_t *spec, struct err *err)
{
	json_t *mounts = spec_get(spec, "mounts"), *m;
	size_t i;

	json_array_foreach (mounts, i, m)
		if (streq(json_str(m, "destination", ""), "/sys")) {
			json_t *j = json_pack("{s:s, s:s, s:s, s:[s,s,s,s,s]}", "destination",
					      "/sys", "type", "bind", "source", "/sys", "options",
					      "rbind", "rro", "nosuid", "nodev", "noexec");
			return j && json_array_set_new(mounts, i, j) == 0 ? 0 : err_nomem(err);
		}
	return 0;
}

static int pseudo(struct arena *a, json_t *spec, const struct cri_spec_container *in,
		  struct err *err)
{
	const CRI(NamespaceOption) *ns =
		cri_namespaces(cri_security(in->container)->namespace_options);
	bool writable = cri_security(in->container)->privileged ||
			(in->runtime && in->runtime->cgroup_writable);
	bool own_user = ns->userns_options &&
			ns->userns_options->mode == RUNTIME__V1__NAMESPACE_MODE__POD &&
			ns->userns_options->n_uids;
	int r = 0;

	if (own_user && cri_namespaces(cri_pod_security(in->pod)->namespace_options)->network ==
				RUNTIME__V1__NAMESPACE_MODE__NODE)
		r = bind_sysfs(spec, err);
	if (r == 0)
		r = cgroup_mount(spec, writable, err);
	drop_hidden(a, spec, in);
	return r;
}

int spec_part_mounts(struct arena *a, json_t *spec, const struct cri_spec_container *in,
		     struct err *err)
{
	struct binds b = {
		.v = arena_new_array(a, struct bind, in->container->n_mounts + in->n_volumes + 4)};
	int r = b.v ? pseudo(a, spec, in, err) : err_nomem(err);

	if (r == 0)
		r = implicit_mounts(a, in, &b, err);
	for (size_t i = 0; r == 0 && i < in->n_volumes; i++)
		if (!cri_mounts(in, a, in->volumes[i].container_path))
			r = add(a, &b, in->volumes[i].container_path,
				bind_mount(in->volumes[i].container_path, in->volumes[i].host_path,
					   "rprivate", in->volumes[i].readonly ? "ro" : "rw"),
				err);
	for (size_t i = 0; r == 0 && i < in->container->n_mounts; i++)
		r = cri_mount(a, spec, in, i, &b, err);
	qsort(b.v, b.n, sizeof(*b.v), bind_cmp);
	json_t *mounts = spec_get(spec, "mounts");
	for (size_t i = 0; i < b.n; i++)
		if (r < 0 || !json_is_array(mounts))
			json_decref(b.v[i].mount);
		else if (json_array_append_new(mounts, b.v[i].mount) < 0)
			r = err_nomem(err);
	return r;
}

/* ---- devices ---- */

/* Those that the security context names: what the image says is nobody's decision about devices. */
static int owned_by_user(json_t *spec, size_t from, const CRI(LinuxContainerSecurityContext) * s,
			 struct err *err)
{
	json_t *devices = spec_get(spec, "linux/devices");
	int64_t uid = s->run_as_user ? s->run_as_user->value : 0,
		gid = s->run_as_group ? s->run_as_group->value : 0;

	for (size_t i = from; i < json_array_size(devices); i++) {
		json_t *d = json_array_get(devices, i);
		if ((uid && json_object_set_new(d, "uid", json_integer(uid)) < 0) ||
		    (gid && json_object_set_new(d, "gid", json_integer(gid)) < 0))
			return err_nomem(err);
	}
	return 0;
}

/* The host's devices, but for those whose place has been given to another one. */
static int add_host_devices(json_t *spec, size_t from, struct err *err)
{
	size_t own = json_array_size(spec_get(spec, "linux/devices"));
	int r = spec_add_device(spec, "/dev", "/dev", NULL, err);
	json_t *devices = spec_get(spec, "linux/devices");

	for (size_t i = json_array_size(devices); r == 0 && i > own; i--) {
		const char *path = json_str(json_array_get(devices, i - 1), "path", "");
		size_t k = from;
		while (k < own && !streq(json_str(json_array_get(devices, k), "path", ""), path))
			k++;
		if (k < own)
			json_array_remove(devices, i - 1);
	}
	return r;
}

/* A terminal is mounted on /dev/console, which with the host's /dev is a device that is there, and
 * has to be opened before. */
static int add_console(json_t *spec, const CRI(ContainerConfig) * c, struct err *err)
{
	bool host_dev = false;

	for (size_t i = 0; c->tty && i < c->n_mounts; i++)
		host_dev = host_dev || (streq(c->mounts[i]->container_path, "/dev") &&
					streq(c->mounts[i]->host_path, "/dev"));
	for (size_t i = 0; i < c->n_devices; i++)
		if (streq(c->devices[i]->container_path, CONSOLE))
			return 0;
	return !host_dev || access(CONSOLE, F_OK) < 0
		       ? 0
		       : spec_add_device(spec, CONSOLE, CONSOLE, "rwm", err);
}

int spec_part_devices(json_t *spec, const struct cri_spec_container *in, struct err *err)
{
	const struct cri_handler *h = in->runtime;
	const CRI(LinuxContainerSecurityContext) *s = cri_security(in->container);
	bool all = s->privileged && !(h && h->privileged_without_host_devices);
	int r = 0;

	size_t from = json_array_size(spec_get(spec, "linux/devices"));
	for (size_t i = 0; r == 0 && i < in->container->n_devices; i++) {
		const CRI(Device) *d = in->container->devices[i];
		char real[PATH_MAX];
		if (!realpath(d->host_path, real))
			return err_errno(err, errno, "device \"%s\"", d->host_path);
		r = spec_add_device(spec, real, d->container_path, d->permissions, err);
	}
	if (r == 0)
		r = add_console(spec, in->container, err);
	if (r == 0 && in->config->device_ownership_from_security_context)
		r = owned_by_user(spec, from, s, err);
	if (r == 0 && all)
		r = add_host_devices(spec, from, err);
	if (r == 0 &&
	    (all || (s->privileged && h->privileged_without_host_devices_all_devices_allowed)))
		r = spec_allow_all_devices(spec, err);
	return r;
}
