/* SPDX-License-Identifier: Apache-2.0 */
/* Init functions of the CRI's plugins: the configuration of three tables becomes struct cri_config,
 * and the services are made from it and put on the wire. */
#include <fcntl.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "cri/cri.h"
#include "plugins/sandbox/controller.h"
#include "daemon/daemon_internal.h"
#include "daemon/plugin_inits.h"
#include "daemon/servers.h"
#include "version.h"

#define SPEC_MAX (4u << 20)
#define CGROUP_UNIFIED "/sys/fs/cgroup/cgroup.controllers" /* version 2 alone */

static struct daemon *daemon_of(const struct plugin_init *in)
{
	return in->daemon;
}

/* ---- configuration ---- */

/* NULL = no memory. */
static json_t *json_of(const struct toml_value *v)
{
	json_t *j;
	int r = 0;

	switch (v->type) {
	case TOML_STRING:
	case TOML_DATETIME:
		return json_stringn(v->string.s, v->string.len);
	case TOML_INTEGER:
		return json_integer(v->integer);
	case TOML_FLOAT:
		return json_real(v->real);
	case TOML_BOOL:
		return json_boolean(v->boolean);
	case TOML_ARRAY:
		j = json_array();
		for (size_t i = 0; j && r == 0 && i < v->array.n; i++)
			r = json_array_append_new(j, json_of(v->array.v[i]));
		break;
	case TOML_TABLE:
		j = json_object();
		for (size_t i = 0; j && r == 0 && i < v->table.n; i++)
			r = json_object_set_new(j, v->table.v[i].key, json_of(v->table.v[i].value));
		break;
	default:
		return NULL;
	}
	if (r == 0)
		return j;
	json_decref(j);
	return NULL;
}

static int labels_of(struct arena *a, const struct toml_value *t, struct labels *ret,
		     struct err *err)
{
	for (size_t i = 0; t && i < t->table.n; i++)
		if (t->table.v[i].value->type == TOML_STRING &&
		    labels_set(a, ret, t->table.v[i].key, t->table.v[i].value->string.s) < 0)
			return err_nomem(err);
	return 0;
}

static const char *const *strings(struct arena *a, const struct toml_value *t, const char *path)
{
	static const char *const none[] = {NULL};
	const char *const *v = config_get_strings(a, t, path);
	return v ? v : none;
}

/* The same of the array itself, whose key may have dots. */
static const char *const *list_of(struct arena *a, const struct toml_value *v)
{
	static const char *const none[] = {NULL};
	const char *const *list = config_strings(a, v);
	return list ? list : none;
}

/* Host of "https://host/..." or of "host". */
static const char *host_of(struct arena *a, const char *url)
{
	const char *p = strstr(url, "://");
	p = p ? p + 3 : url;
	return arena_strndup(a, p, strcspn(p, "/"));
}

static struct cri_registry_auth auth_of(const char *host, const struct toml_value *t)
{
	return (struct cri_registry_auth){.host = host,
					  .username = config_get_string(t, "username"),
					  .password = config_get_string(t, "password"),
					  .auth = config_get_string(t, "auth"),
					  .identity_token = config_get_string(t, "identitytoken")};
}

/* The deprecated tables of registries. */
static int registry(struct arena *a, const struct toml_value *t, struct cri_config *c,
		    struct err *err)
{
	const struct toml_value *mirrors = config_get(t, "mirrors"),
				*configs = config_get(t, "configs"),
				*auths = config_get(t, "auths"),
				*headers = config_get(t, "headers");
	size_t nm = mirrors ? mirrors->table.n : 0, nc = configs ? configs->table.n : 0,
	       na = auths ? auths->table.n : 0, nh = headers ? headers->table.n : 0;

	c->registry_config_path = config_get_string(t, "config_path");
	if (nm > 0 && !str_empty(c->registry_config_path))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "registry.mirrors cannot be set beside registry.config_path");
	c->mirrors = arena_new_array(a, struct cri_registry_mirror, nm + 1);
	c->auths = arena_new_array(a, struct cri_registry_auth, nc + na + 1);
	c->tls = arena_new_array(a, struct cri_registry_tls, nc + 1);
	c->headers = arena_new_array(a, struct cri_registry_header, nh + 1);
	if (!c->mirrors || !c->auths || !c->tls || !c->headers)
		return err_nomem(err);
	for (size_t i = 0; i < nm; i++)
		c->mirrors[c->n_mirrors++] = (struct cri_registry_mirror){
			mirrors->table.v[i].key, strings(a, mirrors->table.v[i].value, "endpoint")};
	for (size_t i = 0; i < nc; i++) {
		const char *host = configs->table.v[i].key;
		const struct toml_value *v = configs->table.v[i].value, *tls = config_get(v, "tls"),
					*auth = config_get(v, "auth");
		if (auth)
			c->auths[c->n_auths++] = auth_of(host, auth);
		if (tls)
			c->tls[c->n_tls++] = (struct cri_registry_tls){
				.host = host,
				.insecure_skip_verify =
					config_get_bool(tls, "insecure_skip_verify"),
				.ca_file = config_get_string(tls, "ca_file"),
				.cert_file = config_get_string(tls, "cert_file"),
				.key_file = config_get_string(tls, "key_file")};
	}
	for (size_t i = 0; i < na; i++) {
		const char *host = host_of(a, auths->table.v[i].key);
		if (!host)
			return err_nomem(err);
		c->auths[c->n_auths++] = auth_of(host, auths->table.v[i].value);
	}
	for (size_t i = 0; i < nh; i++)
		c->headers[c->n_headers++] = (struct cri_registry_header){
			headers->table.v[i].key, list_of(a, headers->table.v[i].value)};
	return 0;
}

static int images(struct arena *a, const struct toml_value *t, struct cri_config *c,
		  struct err *err)
{
	c->snapshotter = config_get_string(t, "snapshotter");
	c->disable_snapshot_annotations = config_get_bool(t, "disable_snapshot_annotations");
	c->discard_unpacked_layers = config_get_bool(t, "discard_unpacked_layers");
	c->max_concurrent_downloads = config_get_int(t, "max_concurrent_downloads");
	c->concurrent_layer_fetch_buffer = config_get_int(t, "concurrent_layer_fetch_buffer");
	c->image_pull_progress_timeout_ns = config_get_duration(t, "image_pull_progress_timeout");
	c->image_pull_with_sync_fs = config_get_bool(t, "image_pull_with_sync_fs");
	c->snapshot_stats_period_s = config_get_int(t, "stats_collect_period");
	c->use_local_image_pull = config_get_bool(t, "use_local_image_pull");
	const char *key_model = config_get_string(t, "image_decryption.key_model");
	if (!str_empty(key_model) && !streq(key_model, "node"))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "image_decryption.key_model is \"%s\", neither node nor empty",
			       key_model);
	c->no_decryption = str_empty(key_model);
	int r = labels_of(a, config_get(t, "pinned_images"), &c->pinned_images, err);
	c->sandbox_image = labels_get(&c->pinned_images, "sandbox");
	return r < 0 ? r : registry(a, config_get(t, "registry"), c, err);
}

/* The file is read once, at start: one that is wrong is told then. */
static int base_spec(struct arena *a, struct cri_handler *h, struct err *err)
{
	char *text;
	size_t n;
	json_t *j;

	if (str_empty(h->base_spec_path))
		return 0;
	int r = file_read(a, AT_FDCWD, h->base_spec_path, SPEC_MAX, &text, &n);
	if (r < 0)
		return err_errno(err, r, "runtime %s: base_runtime_spec: read %s", h->name,
				 h->base_spec_path);
	r = json_parse(text, n, &j, err);
	if (r < 0)
		return err_prefix(err, "runtime %s: base_runtime_spec %s", h->name,
				  h->base_spec_path);
	h->base_spec = j;
	return 0;
}

static int handler(struct arena *a, const char *name, const struct toml_value *t,
		   struct cri_handler *h, struct err *err)
{
	const struct toml_value *options = config_get(t, "options");

	*h = (struct cri_handler){
		.name = name,
		.type = config_get_string(t, "runtime_type"),
		.path = config_get_string(t, "runtime_path"),
		.pod_annotations = strings(a, t, "pod_annotations"),
		.container_annotations = strings(a, t, "container_annotations"),
		.privileged_without_host_devices =
			config_get_bool(t, "privileged_without_host_devices"),
		.privileged_without_host_devices_all_devices_allowed =
			config_get_bool(t, "privileged_without_host_devices_all_devices_allowed"),
		.cgroup_writable = config_get_bool(t, "cgroup_writable"),
		.base_spec_path = config_get_string(t, "base_runtime_spec"),
		.cni_conf_dir = config_get_string(t, "cni_conf_dir"),
		.cni_max_conf_num = config_get_int(t, "cni_max_conf_num"),
		.snapshotter = config_get_string(t, "snapshotter"),
		.sandboxer = str_or(config_get_string(t, "sandboxer"), "podsandbox"),
		.io_type = config_get_string(t, "io_type"),
	};
	if (str_empty(h->type))
		return err_set(err, ERR_INVALID_ARGUMENT, "runtime %s: runtime_type is not set",
			       name);
	/* Who may write to groups of version 1 may run programs outside of them. */
	if (h->cgroup_writable && access(CGROUP_UNIFIED, F_OK) < 0)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "runtime %s: cgroup_writable is for cgroups of version 2 only",
			       name);
	if (!str_empty(h->io_type) && !streq(h->io_type, "fifo") && !streq(h->io_type, "streaming"))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "runtime %s: io_type is \"%s\", not fifo or streaming", name,
			       h->io_type);
	if (h->privileged_without_host_devices_all_devices_allowed &&
	    !h->privileged_without_host_devices)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "runtime %s: privileged_without_host_devices_all_devices_allowed "
			       "needs privileged_without_host_devices",
			       name);
	if (options) {
		h->options = json_of(options);
		if (!h->options)
			return err_nomem(err);
	}
	return base_spec(a, h, err);
}

static int handler_cmp(const void *a, const void *b)
{
	return strcmp(((const struct cri_handler *)a)->name, ((const struct cri_handler *)b)->name);
}

static int handlers(struct arena *a, const struct toml_value *t, struct cri_config *c,
		    struct err *err)
{
	const struct toml_value *runtimes = config_get(t, "runtimes");
	size_t n = runtimes ? runtimes->table.n : 0;
	int r = 0;

	c->default_handler = config_get_string(t, "default_runtime_name");
	c->ignore_blockio_not_enabled_errors =
		config_get_bool(t, "ignore_blockio_not_enabled_errors");
	c->ignore_rdt_not_enabled_errors = config_get_bool(t, "ignore_rdt_not_enabled_errors");
	c->handlers = arena_new_array(a, struct cri_handler, n + 1);
	if (!c->handlers)
		return err_nomem(err);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = handler(a, runtimes->table.v[i].key, runtimes->table.v[i].value,
			    &c->handlers[c->n_handlers++], err);
	if (r < 0)
		return r;
	qsort(c->handlers, c->n_handlers, sizeof(*c->handlers), handler_cmp);
	if (!cri_config_handler(c, ""))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "default_runtime_name \"%s\" is not among the runtimes",
			       c->default_handler);
	return 0;
}

static int cni(struct arena *a, const struct toml_value *t, struct cri_config *c, struct err *err)
{
	const char *dir = config_get_string(t, "bin_dir");

	c->cni_bin_dirs = strings(a, t, "bin_dirs");
	if (!str_empty(dir)) {
		const char **v = arena_new_array(a, const char *, 2);
		if (!v)
			return err_nomem(err);
		v[0] = dir;
		c->cni_bin_dirs = v;
	}
	c->cni_conf_dir = config_get_string(t, "conf_dir");
	c->cni_max_conf_num = config_get_int(t, "max_conf_num");
	c->cni_setup_serially = config_get_bool(t, "setup_serially");
	c->cni_conf_template = config_get_string(t, "conf_template");
	c->cni_ip_pref = config_get_string(t, "ip_pref");
	c->cni_internal_loopback = config_get_bool(t, "use_internal_loopback");
	if (!str_empty(c->cni_ip_pref) && !streq(c->cni_ip_pref, "ipv4") &&
	    !streq(c->cni_ip_pref, "ipv6") && !streq(c->cni_ip_pref, "cni"))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "cni.ip_pref is \"%s\", not ipv4, ipv6 or cni", c->cni_ip_pref);
	return 0;
}

static int runtime(struct arena *a, const struct toml_value *t, struct cri_config *c,
		   struct err *err)
{
	c->enable_selinux = config_get_bool(t, "enable_selinux");
	c->selinux_category_range = config_get_int(t, "selinux_category_range");
	c->max_container_log_line_size = config_get_int(t, "max_container_log_line_size");
	c->disable_apparmor = config_get_bool(t, "disable_apparmor");
	c->restrict_oom_score_adj = config_get_bool(t, "restrict_oom_score_adj");
	c->disable_proc_mount = config_get_bool(t, "disable_proc_mount");
	c->unset_seccomp_profile = config_get_string(t, "unset_seccomp_profile");
	c->tolerate_missing_hugetlb_controller =
		config_get_bool(t, "tolerate_missing_hugetlb_controller");
	c->disable_hugetlb_controller = config_get_bool(t, "disable_hugetlb_controller");
	c->device_ownership_from_security_context =
		config_get_bool(t, "device_ownership_from_security_context");
	c->ignore_image_defined_volumes = config_get_bool(t, "ignore_image_defined_volumes");
	c->netns_mounts_under_state_dir = config_get_bool(t, "netns_mounts_under_state_dir");
	c->enable_unprivileged_ports = config_get_bool(t, "enable_unprivileged_ports");
	c->enable_unprivileged_icmp = config_get_bool(t, "enable_unprivileged_icmp");
	c->enable_cdi = config_get_bool(t, "enable_cdi");
	c->cdi_spec_dirs = strings(a, t, "cdi_spec_dirs");
	c->drain_exec_sync_io_timeout_ns = config_get_duration(t, "drain_exec_sync_io_timeout");
	c->ignore_deprecation_warnings = strings(a, t, "ignore_deprecation_warnings");
	c->stats_period_ns = config_get_duration(t, "stats_collect_period");
	c->stats_retention_ns = config_get_duration(t, "stats_retention_period");
	c->enable_criu = config_get_bool(t, "enable_criu");
	c->enable_restore_via_create = config_get_bool(t, "enable_experimental_restore_via_create");
	if (c->max_container_log_line_size == 0 || c->max_container_log_line_size < -1)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "max_container_log_line_size is %lld: it must be above 0, or -1",
			       (long long)c->max_container_log_line_size);
	int r = handlers(a, config_get(t, "containerd"), c, err);
	return r < 0 ? r : cni(a, config_get(t, "cni"), c, err);
}

static void streaming(const struct toml_value *t, struct cri_config *c)
{
	c->disable_tcp_service = config_get_bool(t, "disable_tcp_service");
	c->stream_address = config_get_string(t, "stream_server_address");
	c->stream_port = config_get_string(t, "stream_server_port");
	c->stream_idle_timeout_ns = config_get_duration(t, "stream_idle_timeout");
	c->stream_tls = config_get_bool(t, "enable_tls_streaming");
	c->stream_cert_file = config_get_string(t, "x509_key_pair_streaming.tls_cert_file");
	c->stream_key_file = config_get_string(t, "x509_key_pair_streaming.tls_key_file");
}

static int config_of(struct daemon *d, struct arena *a, struct cri_config **ret, struct err *err)
{
	if (!d->cri_config) {
		struct cri_config *c = arena_new_obj(a, struct cri_config);
		if (!c)
			return err_nomem(err);
		c->defer_cleanup_timeout_ns =
			config_timeout(d->config, "io.containerd.timeout.cri.defercleanup");
		streaming(config_plugin(d->config, PLUGIN_TYPE("grpc.v1.cri")), c);
		d->cri_config = c;
	}
	*ret = d->cri_config;
	return 0;
}

/* ---- plugins ---- */

static void handlers_release(void *p)
{
	struct cri_config *c = p;
	for (size_t i = 0; i < c->n_handlers; i++) {
		json_decref((json_t *)c->handlers[i].options);
		json_decref((json_t *)c->handlers[i].base_spec);
	}
	c->n_handlers = 0;
}

int plugin_cri_images_init(struct plugin_init *in, struct err *err)
{
	struct cri_config *c;
	int r = config_of(daemon_of(in), in->arena, &c, err);
	return r < 0 ? r : images(in->arena, in->values, c, err);
}

int plugin_cri_runtime_init(struct plugin_init *in, struct err *err)
{
	struct cri_config *c;
	int r = config_of(daemon_of(in), in->arena, &c, err);
	if (r < 0)
		return r;
	r = runtime(in->arena, in->values, c, err);
	if (r < 0)
		handlers_release(c);
	in->instance = c;
	in->stop = handlers_release;
	return r;
}

/* The controller itself is made with the CRI, whose pods it runs. */
int plugin_podsandbox_controller_podsandbox_init(struct plugin_init *in, struct err *err)
{
	return 0;
}

/* Needed both, and found neither disabled nor wrong. */
static int require(struct plugin_init *in, const char *type, const char *id, struct err *err)
{
	void *unused;
	int r = plugin_get(in->set, type, id, &unused, err);
	return r < 0 ? err_prefix(err, "%s.%s", type, id) : 0;
}

static const char *snapshotter_root(void *arg, const char *name)
{
	struct daemon *d = arg;
	for (size_t i = 0; d->plugins && i < plugins_count(d->plugins); i++) {
		const struct plugin_state *s = plugins_at(d->plugins, i);
		if (streq(s->plugin->type, PLUGIN_TYPE("snapshotter.v1")) &&
		    streq(s->plugin->id, name))
			return labels_get(&s->exports, "root");
	}
	return NULL;
}

static void cri_plugin_stop(void *p)
{
	cri_free(p);
}

static int deprecations(struct arena *a, void *arg, struct labels *ret, struct err *err)
{
	struct deprecation_warning v[DEPRECATIONS_N];
	size_t n = arg ? deprecations_list(arg, v) : 0;
	for (size_t i = 0; i < n; i++)
		if (labels_set(a, ret, v[i].id, v[i].message) < 0)
			return err_nomem(err);
	return 0;
}

int plugin_grpc_cri_init(struct plugin_init *in, struct err *err)
{
	struct daemon *d = daemon_of(in);
	int r = require(in, PLUGIN_TYPE("cri.v1"), "images", err);
	if (r == 0)
		r = require(in, PLUGIN_TYPE("cri.v1"), "runtime", err);
	if (r < 0)
		return r;
	struct cri_options o = {.loop = d->loop,
				.pool = d->pool,
				.db = d->services.db,
				.events = d->services.events,
				.gc = d->services.gc,
				.runtime = d->services.runtime,
				.mounts = d->services.mounts,
				.transfer = d->services.transfer,
				.config = d->cri_config,
				.nri = d->nri,
				.controllers = &d->sandboxers,
				.root = in->root,
				.state = in->state,
				.version = VERSION,
				.snapshotter_root = snapshotter_root,
				.snapshotter_arg = d,
				.deprecations = deprecations,
				.deprecations_arg = d->services.deprecations,
				.deprecated = d->services.deprecations,
				.blockio = d->blockio,
				.rdt = d->rdt};
	if (!o.runtime || !o.transfer)
		return plugin_skip(err, "no task runtime or no transfer service");
	r = cri_new(&o, &d->cri, err);
	if (r < 0)
		return r;
	in->instance = d->cri;
	in->stop = cri_plugin_stop;
	if (d->n_tables + 2 > DAEMON_SERVICES_MAX)
		return err_set(err, ERR_INTERNAL, "more than %d services", DAEMON_SERVICES_MAX);
	cri_runtime_service(d->cri, &d->tables[d->n_tables++]);
	cri_image_service(d->cri, &d->tables[d->n_tables++]);
	for (size_t i = d->n_tables - 2; !cfg_bool(in, "disable_tcp_service") && i < d->n_tables;
	     i++) {
		r = server_tcp_add(d, &d->tables[i], err);
		if (r < 0)
			return r;
	}
	return 0;
}
