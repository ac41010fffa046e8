/* SPDX-License-Identifier: Apache-2.0 */
/* The spec of a container. */
#include <stdio.h>

#include "base/path.h"
#include "base/str.h"
#include "cri/spec_internal.h"

#define HOSTNAME_LEN 64

static int append_words(json_t *args, char *const *v, size_t n, struct err *err)
{
	for (size_t i = 0; i < n; i++)
		if (json_array_append_new(args, json_string(v[i])) < 0)
			return err_nomem(err);
	return 0;
}

static int append_array(json_t *args, const json_t *from, struct err *err)
{
	size_t i;
	json_t *v;

	json_array_foreach (from, i, v)
		if (!json_is_string(v) || json_array_append(args, v) < 0)
			return err_set(err, ERR_UNKNOWN,
				       "image config: a word of the command is no string");
	return 0;
}

/* The image's command is for when the kubelet gives none at all. */
static int args(json_t *spec, const struct cri_spec_container *in, struct err *err)
{
	const CRI(ContainerConfig) *c = in->container;
	const json_t *entry = json_arr(in->image.config, "Entrypoint");
	json_t *v = json_array();
	int r = v ? spec_set(spec, "process/args", v, err) : err_nomem(err);

	if (r < 0)
		return r;
	if (json_array_size(entry) == 1 && json_is_string(json_array_get(entry, 0)) &&
	    str_empty(json_string_value(json_array_get(entry, 0))))
		entry = NULL;
	if (c->n_command)
		r = append_words(v, c->command, c->n_command, err);
	else
		r = append_array(v, entry, err);
	if (r == 0 && c->n_args)
		r = append_words(v, c->args, c->n_args, err);
	else if (r == 0 && !c->n_command)
		r = append_array(v, json_arr(in->image.config, "Cmd"), err);
	if (r == 0 && json_array_size(v) == 0)
		return err_set(err, ERR_UNKNOWN, "no command specified");
	return r;
}

static int hostname_env(struct arena *a, json_t *spec, const struct cri_spec_container *in,
			struct err *err)
{
	char own[HOSTNAME_LEN + 1] = "";
	const char *name = in->pod->hostname;

	if (str_empty(name)) {
		if (gethostname(own, sizeof(own) - 1) < 0)
			return err_errno(err, errno, "gethostname");
		name = own;
	}
	char *text = arena_printf(a, "HOSTNAME=%s", name);
	return text ? spec_set_env(spec, text, err) : err_nomem(err);
}

/* Length of the UTF-8 character that the @left bytes at @p begin with; 0 = they begin with none. */
static size_t utf8_char(const uint8_t *p, size_t left)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t n = *p < 0x80   ? 1
		   : *p < 0xc0 ? 0
		   : *p < 0xe0 ? 2
		   : *p < 0xf0 ? 3
		   : *p < 0xf8 ? 4
			       : 0;
	uint32_t c = n > 1 ? *p & (0x7fu >> n) : *p;

	if (n > left)
		return 0;
	for (size_t i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3f);
	}
	return n && (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) ? 0 : n;
}

/* "key=value" of a variable. A value may be any bytes (a secret's), which a specification in JSON
 * cannot hold: U+FFFD takes the place of each that is no text, as in specifications that Go writes.
 * NULL = no memory. */
static char *assignment(struct arena *a, const CRI(KeyValue) * e)
{
	size_t key = strlen(e->key), n = key, size;
	char *out;

	if (__builtin_mul_overflow(e->value.len, (size_t)3, &size) ||
	    __builtin_add_overflow(size, key + 2, &size) || !(out = arena_alloc(a, size)))
		return NULL;
	memcpy(out, e->key, key);
	out[n++] = '=';
	for (size_t i = 0, len; i < e->value.len; i += MAX(len, (size_t)1)) {
		len = utf8_char(e->value.data + i, e->value.len - i);
		memcpy(out + n, len ? (const char *)e->value.data + i : "\xef\xbf\xbd",
		       len ? len : 3);
		n += len ? len : 3;
	}
	out[n] = '\0';
	return out;
}

static int env(struct arena *a, json_t *spec, const struct cri_spec_container *in, struct err *err)
{
	const json_t *of_image = json_arr(in->image.config, "Env");
	size_t i;
	json_t *v;
	int r = spec_set_env(
		spec, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", err);

	if (r == 0 && in->container->tty)
		r = spec_set_terminal(spec, err);
	if (r == 0)
		r = hostname_env(a, spec, in, err);
	json_array_foreach (of_image, i, v) {
		const char *s = json_string_value(v);
		if (r == 0 && s && strchr(s, '='))
			r = spec_set_env(spec, s, err);
	}
	for (i = 0; r == 0 && i < in->container->n_envs; i++) {
		const CRI(KeyValue) *e = in->container->envs[i];
		if (memchr(e->value.data ? e->value.data : (const uint8_t *)"", 0, e->value.len))
			return err_set(err, ERR_UNKNOWN,
				       "environment variable %s has a NUL in its value", e->key);
		char *s = assignment(a, e);
		r = s ? spec_set_env(spec, s, err) : err_nomem(err);
	}
	return r;
}

static int process(struct arena *a, json_t *spec, const struct cri_spec_container *in,
		   struct err *err)
{
	const CRI(LinuxContainerSecurityContext) *s = cri_security(in->container);
	const char *cwd = str_or(in->container->working_dir,
				 str_or(json_str(in->image.config, "WorkingDir", ""), "/"));
	int r = args(spec, in, err);

	if (r == 0)
		r = env(a, spec, in, err);
	if (r == 0)
		r = spec_set(spec, "process/cwd", json_string(cwd), err);
	if (r == 0)
		r = spec_set(spec, "process/noNewPrivileges", json_boolean(s->no_new_privs), err);
	if (r == 0)
		r = spec_set(
			spec, "root",
			json_pack("{s:s, s:b}", "path", "rootfs", "readonly", s->readonly_rootfs),
			err);
	return r < 0 ? r : spec_part_user(a, spec, in, err);
}

static int join(struct arena *a, json_t *spec, const char *type, uint32_t pid, const char *file,
		struct err *err)
{
	char *path = arena_printf(a, "/proc/%u/ns/%s", pid, file);
	return path ? spec_set_namespace(spec, type, path, err) : err_nomem(err);
}

static int pid_namespace(struct arena *a, json_t *spec, const struct cri_spec_container *in,
			 const CRI(NamespaceOption) * ns, struct err *err)
{
	switch (ns->pid) {
	case RUNTIME__V1__NAMESPACE_MODE__CONTAINER:
		return spec_set_namespace(spec, "pid", "", err);
	case RUNTIME__V1__NAMESPACE_MODE__POD:
		return join(a, spec, "pid", in->pod_pid, "pid", err);
	case RUNTIME__V1__NAMESPACE_MODE__TARGET:
		if (!in->target_pid)
			return err_set(err, ERR_UNKNOWN,
				       "namespace of target container \"%s\": it does not run",
				       ns->target_id);
		return join(a, spec, "pid", in->target_pid, "pid", err);
	case RUNTIME__V1__NAMESPACE_MODE__NODE:
		spec_remove_namespace(spec, "pid");
		return 0;
	default:
		return err_set(err, ERR_UNKNOWN, "pid namespace mode %d is unknown", (int)ns->pid);
	}
}

static int namespaces(struct arena *a, json_t *spec, const struct cri_spec_container *in,
		      struct err *err)
{
	const CRI(LinuxContainerSecurityContext) *s = cri_security(in->container);
	const CRI(NamespaceOption) *ns = cri_namespaces(s->namespace_options);
	int r = pid_namespace(a, spec, in, ns, err);

	if (r == 0)
		r = join(a, spec, "network", in->pod_pid, "net", err);
	if (r == 0)
		r = join(a, spec, "uts", in->pod_pid, "uts", err);
	if (r == 0 && ns->ipc == RUNTIME__V1__NAMESPACE_MODE__NODE)
		spec_remove_namespace(spec, "ipc");
	else if (r == 0)
		r = join(a, spec, "ipc", in->pod_pid, "ipc", err);
	if (r == 0 && s->privileged)
		spec_remove_namespace(spec, "cgroup");
	if (r < 0 || !ns->userns_options)
		return r;
	char *user = arena_printf(a, "/proc/%u/ns/user", in->pod_pid);
	return user ? spec_part_userns(spec, ns->userns_options, user, err) : err_nomem(err);
}

static json_t *words(char *const *v, size_t n)
{
	json_t *a = json_array();
	for (size_t i = 0; a && i < n; i++)
		if (json_array_append_new(a, json_string(v[i])) < 0) {
			json_decref(a);
			return NULL;
		}
	return a;
}

static int security(struct arena *a, json_t *spec, const struct cri_spec_container *in,
		    struct err *err)
{
	const CRI(LinuxContainerSecurityContext) *s = cri_security(in->container);
	int r = 0;

	if (s->privileged && !cri_pod_security(in->pod)->privileged)
		return err_set(err, ERR_UNKNOWN, "no privileged container allowed in sandbox");
	if (!in->config->disable_proc_mount) {
		r = spec_set(spec, "linux/maskedPaths", words(s->masked_paths, s->n_masked_paths),
			     err);
		if (r == 0)
			r = spec_set(spec, "linux/readonlyPaths",
				     words(s->readonly_paths, s->n_readonly_paths), err);
	}
	if (r == 0 && s->privileged)
		r = spec_set_privileged(spec, err);
	else if (r == 0)
		r = spec_part_capabilities(spec, s->capabilities, err);
	if (r == 0 && !s->privileged && !str_empty(in->selinux_label)) {
		r = spec_set(spec, "process/selinuxLabel", json_string(in->selinux_label), err);
		if (r == 0)
			r = spec_set(spec, "linux/mountLabel",
				     json_string(str_or(in->selinux_mount_label, "")), err);
	}
	if (r == 0)
		r = spec_part_apparmor(a, spec, s->apparmor, s->apparmor_profile, s->privileged,
				       in->config, err);
	if (r == 0)
		r = spec_part_seccomp(a, spec, s->seccomp, s->seccomp_profile_path, s->privileged,
				      in->config, err);
	return r;
}

static int annotations(struct arena *a, json_t *spec, const struct cri_spec_container *in,
		       struct err *err)
{
	const CRI(PodSandboxMetadata) *m = in->pod->metadata;
	const char *const fixed[][2] = {
		{"container-type", "container"}, {"sandbox-id", in->pod_id},
		{"sandbox-name", m->name},	 {"sandbox-namespace", m->namespace_},
		{"sandbox-uid", m->uid},	 {"container-name", in->container->metadata->name},
		{"image-name", in->image.name}};
	struct labels of_pod, own;
	char key[64];
	int r = cri_labels(a, in->pod->annotations, in->pod->n_annotations, &of_pod, err);

	if (r == 0)
		r = cri_labels(a, in->container->annotations, in->container->n_annotations, &own,
			       err);
	if (r == 0 && in->runtime)
		r = spec_part_annotations(spec, in->runtime->pod_annotations, &of_pod, err);
	if (r == 0 && in->runtime)
		r = spec_part_annotations(spec, in->runtime->container_annotations, &own, err);
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(fixed); i++) {
		snprintf(key, sizeof(key), "io.kubernetes.cri.%s", fixed[i][0]);
		r = spec_part_annotate(spec, key, str_or(fixed[i][1], ""), err);
	}
	return r;
}

static int fill(struct arena *a, json_t *spec, const struct cri_spec_container *in, struct err *err)
{
	const CRI(LinuxContainerConfig) *l = in->container->linux;
	int r = process(a, spec, in, err);

	if (r == 0)
		r = spec_part_mounts(a, spec, in, err);
	if (r == 0)
		r = spec_part_devices(spec, in, err);
	if (r == 0 && l && l->resources)
		r = cri_spec_update_resources(spec, l->resources, in->config, err);
	/* The kubelet's zero is a value here, once it speaks of resources. */
	if (r == 0 && l && l->resources && !l->resources->oom_score_adj)
		r = spec_part_oom(spec, in->config, 0, err);
	if (r == 0 && in->pod->linux)
		r = spec_part_cgroup(a, spec, in->pod->linux->cgroup_parent, in->id, err);
	if (r == 0)
		r = namespaces(a, spec, in, err);
	if (r == 0)
		r = security(a, spec, in, err);
	return r < 0 ? r : annotations(a, spec, in, err);
}

int cri_spec_container(struct arena *a, const struct cri_spec_container *in, json_t **ret,
		       struct err *err)
{
	json_t *spec _cleanup_json_ = NULL;
	int r = spec_part_base(a, in->runtime, in->id, true, &spec, err);

	if (r == 0)
		r = fill(a, spec, in, err);
	if (r == 0)
		*ret = TAKE_PTR(spec);
	return r;
}
