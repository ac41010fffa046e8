/* SPDX-License-Identifier: Apache-2.0 */
/* Init functions of the plugins that exist: each takes its configuration and what it requires out
 * of the set, and makes its part.
 *
 * The service plugins are the seams that containerd's clients see in `ctr plugins ls`: here a
 * service is a table that the grpc.v1 plugin of its name registers, so those of service.v1 only say
 * that their part is there. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "base/time.h"
#include "core/content.h"
#include "core/event.h"
#include "core/gc.h"
#include "core/snapshot.h"
#include "daemon/daemon_internal.h"
#include "daemon/plugin_inits.h"
#include "daemon/servers.h"
#include "oci/blockio.h"
#include "oci/platform.h"
#include "oci/rdt.h"
#include "plugins/differ/processor.h"
#include "plugins/mounts/manager.h"
#include "plugins/restart/monitor.h"
#include "plugins/runtime/runtime.h"
#include "plugins/sandbox/shim_controller.h"
#include "plugins/snapshotter/native.h"
#include "plugins/snapshotter/overlayfs.h"
#include "plugins/streaming/manager.h"
#include "plugins/transfer/transfer.h"
#include "plugins/verifier/bindir.h"
#include "sys/userns.h"
#include "version.h"

#define LOCK_STEP_NS (1 * NSEC_PER_SEC)

static struct daemon *daemon_of(const struct plugin_init *in)
{
	return in->daemon;
}

/* ---- core ---- */

static void content_stop(void *p)
{
	struct content_store *s = p;
	s->ops->free(s);
}

int plugin_content_content_init(struct plugin_init *in, struct err *err)
{
	struct content_store *s;
	int r = content_store_local_new(in->root, &s, err);
	if (r < 0)
		return r;
	in->instance = s;
	in->stop = content_stop;
	return 0;
}

/* bin and lib of the directory go in front of PATH and LD_LIBRARY_PATH. */
static int path_prepend(struct arena *a, const char *name, const char *dir, struct err *err)
{
	const char *have = getenv(name);
	const char *value = str_empty(have) ? dir : arena_printf(a, "%s:%s", dir, have);
	return value && setenv(name, value, 1) == 0 ? 0 : err_nomem(err);
}

int plugin_internal_opt_init(struct plugin_init *in, struct err *err)
{
	const char *path = cfg_str(in, "path");
	char *bin = path_join(in->arena, path, "bin"), *lib = path_join(in->arena, path, "lib");
	struct stat st;
	if (!bin || !lib)
		return err_nomem(err);
	int r = mkdir_p(bin, 0711);
	if (r == 0)
		r = mkdir_p(lib, 0711);
	/* A read-only /opt is no reason to stop; a directory that is there is used. */
	if (r < 0 && stat(bin, &st) < 0)
		log_warn("%s: cannot be made: %s", path, strerror(-r));
	r = path_prepend(in->arena, "PATH", bin, err);
	if (r == 0)
		r = path_prepend(in->arena, "LD_LIBRARY_PATH", lib, err);
	return r < 0 ? r : plugin_export(in, "path", path, err);
}

static void deprecations_stop(void *p)
{
	deprecations_free(p);
}

/* Keys that are deprecated, where a file has set them and their plugin is not disabled. */
static void deprecated_keys(const struct plugin_init *in, struct deprecations *d)
{
	static const struct {
		const char *plugin, *key;
		enum deprecation what;
	} keys[] = {
		{PLUGIN_TYPE("cri.v1.images"), "registry.mirrors",
		 DEPRECATION_CRI_REGISTRY_MIRRORS},
		{PLUGIN_TYPE("cri.v1.images"), "registry.auths", DEPRECATION_CRI_REGISTRY_AUTHS},
		{PLUGIN_TYPE("cri.v1.images"), "registry.configs",
		 DEPRECATION_CRI_REGISTRY_CONFIGS},
		{PLUGIN_TYPE("cri.v1.runtime"), "cni.bin_dir", DEPRECATION_CRI_CNI_BIN_DIR},
	};
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		const struct toml_value *v =
			config_get(config_plugin(in->config, keys[i].plugin), keys[i].key);
		const char *const *off = in->config->disabled_plugins;
		while (*off && !streq(*off, keys[i].plugin))
			off++;
		if (v && !*off &&
		    ((v->type == TOML_TABLE && v->table.n) ||
		     (v->type == TOML_STRING && *v->string.s)))
			deprecation_emit(d, keys[i].what);
	}
}

int plugin_warning_deprecations_init(struct plugin_init *in, struct err *err)
{
	struct deprecations *d = deprecations_new();
	if (!d)
		return err_nomem(err);
	deprecated_keys(in, d);
	daemon_of(in)->services.deprecations = d;
	in->instance = d;
	in->stop = deprecations_stop;
	return 0;
}

static void events_stop(void *p)
{
	event_exchange_free(p);
}

int plugin_event_exchange_init(struct plugin_init *in, struct err *err)
{
	struct event_exchange *x;
	int r = event_exchange_new(&x);
	if (r < 0)
		return err_errno(err, r, "event exchange");
	daemon_of(in)->services.events = x;
	in->instance = x;
	in->stop = events_stop;
	return 0;
}

static void snapshotter_stop(void *p)
{
	struct snapshotter *s = p;
	s->ops->free(s);
}

static const char *snapshotter_root(const struct plugin_init *in)
{
	return str_or(cfg_str(in, "root_path"), in->root);
}

int plugin_snapshotter_native_init(struct plugin_init *in, struct err *err)
{
	struct snapshotter *s;
	int r = native_new(snapshotter_root(in), &s, err);
	if (r < 0)
		return r;
	in->instance = s;
	in->stop = snapshotter_stop;
	return plugin_export(in, "root", snapshotter_root(in), err);
}

int plugin_snapshotter_overlayfs_init(struct plugin_init *in, struct err *err)
{
	const char *const *mo = cfg_strings(in, "mount_options");
	struct overlayfs_options o = {.upperdir_label = cfg_bool(in, "upperdir_label"),
				      .sync_remove = cfg_bool(in, "sync_remove"),
				      .slow_chown = cfg_bool(in, "slow_chown"),
				      .mount_options = (char *const *)mo};
	struct snapshotter *s;
	const char *caps[3];
	size_t n = 0;
	while (mo && mo[o.n_mount_options])
		o.n_mount_options++;
	int r = overlayfs_new(snapshotter_root(in), &o, &s, err);
	if (r < 0)
		return r;
	in->instance = s;
	in->stop = snapshotter_stop;
	if (overlayfs_remaps_ids(s))
		caps[n++] = "remap-ids";
	if (overlayfs_only_remaps_ids(s))
		caps[n++] = "only-remap-ids";
	if (s->can_rebase)
		caps[n++] = "rebase";
	r = plugin_set_capabilities(in, caps, n, err);
	return r < 0 ? r : plugin_export(in, "root", snapshotter_root(in), err);
}

static void db_stop(void *p)
{
	db_close(p);
}

/* Another daemon may have the file, and be about to end. One that serves where this one is to serve
 * is not. */
static int open_metadata(struct plugin_init *in, struct db_options o, struct db **ret,
			 struct err *err)
{
	const char *address = config_get_string(
		config_plugin(in->config, PLUGIN_TYPE("server.v1.grpc")), "address");
	int64_t timeout = o.lock_timeout_ns, end = time_mono() + timeout;
	for (bool told = false;; told = true) {
		struct err busy = ERR_INIT;
		o.lock_timeout_ns = timeout ? MIN(LOCK_STEP_NS, MAX(end - time_mono(), (int64_t)1))
					    : LOCK_STEP_NS;
		int r = db_open(&o, ret, &busy);
		if (r != -ERR_DEADLINE_EXCEEDED || (timeout && time_mono() >= end) ||
		    atomic_load(&daemon_of(in)->stopping))
			return r < 0 ? err_copy(err, &busy) : 0;
		_cleanup_close_ int fd = -1;
		if (!str_empty(address) && unix_connect(address, &fd) == 0)
			return err_set(err, ERR_FAILED_PRECONDITION,
				       "%s is in use: another containerd is running at %s", o.path,
				       address);
		if (!told)
			log_warn("waiting for the lock of %s: another containerd runs with this "
				 "root",
				 o.path);
	}
}

/* The store of this process, or that of a proxy plugin when this one is disabled. */
static int the_content(struct plugin_init *in, void **ret, struct err *err)
{
	const char *type = PLUGIN_TYPE("content.v1");
	const struct plugin_state *first = plugin_next(in->set, type, NULL);
	if (!first)
		return plugin_get_first(in->set, type, ret, err);
	if (plugin_next(in->set, type, first))
		return err_set(err, ERR_FAILED_PRECONDITION,
			       "multiple plugins registered for %s: disable %s.content to use "
			       "that of proxy_plugins",
			       type, type);
	*ret = first->instance;
	return 0;
}

int plugin_metadata_bolt_init(struct plugin_init *in, struct err *err)
{
	struct daemon *d = daemon_of(in);
	void *content, *events;
	struct db *db;
	/* A word that is not understood must not mean that namespaces share. */
	const char *policy = str_or(cfg_str(in, "content_sharing_policy"), "shared");
	if (!streq(policy, "shared") && !streq(policy, "isolated"))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "content_sharing_policy: unknown policy: %s", policy);
	int r = the_content(in, &content, err);
	if (r == 0)
		r = plugin_get(in->set, PLUGIN_TYPE("event.v1"), "exchange", &events, err);
	char *path = r == 0 ? path_join(in->arena, in->root, "meta.db") : NULL;
	if (r < 0)
		return r;
	r = path ? mkdir_p(in->root, 0711) : -ENOMEM;
	if (r < 0)
		return err_errno(err, r, "make %s", in->root);
	struct db_options o = {
		.path = path,
		.no_sync = cfg_bool(in, "no_sync"),
		.content_isolated = streq(policy, "isolated"),
		.lock_timeout_ns = config_timeout(in->config, "io.containerd.timeout.bolt.open"),
		.content = content,
		.events = events};
	r = open_metadata(in, o, &db, err);
	if (r < 0)
		return r;
	in->instance = db;
	in->stop = db_stop;
	d->services.db = db;
	for (const struct plugin_state *s = NULL;
	     r == 0 && (s = plugin_next(in->set, PLUGIN_TYPE("snapshotter.v1"), s));)
		r = db_add_snapshotter(db, s->instance, err);
	return r;
}

static void gc_stop(void *p)
{
	gc_scheduler_stop(p);
}

int plugin_gc_scheduler_init(struct plugin_init *in, struct err *err)
{
	struct daemon *d = daemon_of(in);
	struct gc_options o = {.pause_threshold = cfg_float(in, "pause_threshold"),
			       .deletion_threshold = (int)cfg_int(in, "deletion_threshold"),
			       .mutation_threshold = (int)cfg_int(in, "mutation_threshold"),
			       .schedule_delay_ns = cfg_duration(in, "schedule_delay"),
			       .startup_delay_ns = cfg_duration(in, "startup_delay")};
	int r = gc_scheduler_start(d->services.db, &o, &d->services.gc, err);
	in->instance = d->services.gc;
	in->stop = gc_stop;
	return r;
}

/* ---- what lies in another plugin's part ---- */

#define PRESENT(name)                                                     \
	int plugin_##name##_init(struct plugin_init *in, struct err *err) \
	{                                                                 \
		return 0;                                                 \
	}

PRESENT(service_containers_service)
PRESENT(service_content_service)
PRESENT(service_images_service)
PRESENT(service_introspection_service)
PRESENT(service_namespaces_service)
PRESENT(service_snapshots_service)
PRESENT(lease_manager)
PRESENT(shim_manager)
PRESENT(sandbox_store_local)
PRESENT(mount_handler_erofs)

/* ---- classes ---- */

static void classes_stop(void *p)
{
	struct daemon *d = p;
	json_decref(d->blockio);
	d->blockio = NULL;
	rdt_free(d->rdt);
	d->rdt = NULL;
}

/* A file that is wrong is told, and containers that name a class are refused; all else goes on. */
int plugin_service_tasks_service_init(struct plugin_init *in, struct err *err)
{
	const char *blockio = config_get_string(in->values, "blockio_config_file");
	const char *rdt = config_get_string(in->values, "rdt_config_file");
	struct daemon *d = daemon_of(in);
	struct err own = ERR_INIT;

	if (!str_empty(blockio) && blockio_load(blockio, &d->blockio, &own) < 0)
		log_error("blockio initialization failed: blockio not enabled: %s", own.text);
	own = ERR_INIT;
	if (!str_empty(rdt) && rdt_load(rdt, NULL, &d->rdt, &own) < 0)
		log_error("RDT initialization failed: %s", own.text);
	in->instance = d;
	in->stop = classes_stop;
	return 0;
}

/* ---- differs ---- */

static int processors_load(struct plugin_init *in, struct processors **ret, struct err *err)
{
	const struct toml_value *map = toml_get(in->config->tree, "stream_processors");
	struct arena *a = in->arena;
	struct processors *all = arena_new_obj(a, struct processors);
	size_t n = map ? map->table.n : 0;
	if (!all || !(all->v = arena_new_array(a, struct processor, n + 1)))
		return err_nomem(err);
	for (; all->n < n; all->n++) {
		const struct toml_value *t = map->table.v[all->n].value;
		struct processor *p = &all->v[all->n];
		*p = (struct processor){.id = map->table.v[all->n].key,
					.accepts = config_get_strings(a, t, "accepts"),
					.returns = config_get_string(t, "returns"),
					.path = config_get_string(t, "path"),
					.args = config_get_strings(a, t, "args"),
					.env = config_get_strings(a, t, "env")};
		if (!p->accepts || !p->args || !p->env)
			return err_nomem(err);
	}
	*ret = all;
	return 0;
}

static void differ_stop(void *p)
{
	struct differ *d = p;
	d->ops->free(d);
}

int plugin_differ_walking_init(struct plugin_init *in, struct err *err)
{
	struct processors *processors = NULL;
	struct differ *d;
	int r = processors_load(in, &processors, err);
	if (r == 0)
		r = walking_new(daemon_of(in)->services.db, processors, &d, err);
	if (r < 0)
		return r;
	in->instance = d;
	in->stop = differ_stop;
	return 0;
}

/* The differs of these names, in this order. */
static int differs_load(struct plugin_init *in, const char *const *names, struct differs *ret,
			struct err *err)
{
	size_t n = 0;
	while (names[n])
		n++;
	*ret = (struct differs){.v = arena_new_array(in->arena, struct differ *, n + 1)};
	if (!ret->v)
		return err_nomem(err);
	for (; *names; names++) {
		void *d;
		int r = plugin_get(in->set, PLUGIN_TYPE("differ.v1"), *names, &d, err);
		if (r < 0)
			return err_prefix(err, "needed differ %s", *names);
		ret->v[ret->n++] = d;
	}
	return 0;
}

int plugin_service_diff_service_init(struct plugin_init *in, struct err *err)
{
	struct daemon *d = daemon_of(in);
	struct differs *all = arena_new_obj(in->arena, struct differs);
	const char *const *names = cfg_strings(in, "default");
	if (!all || !names)
		return err_nomem(err);
	int r = differs_load(in, names, all, err);
	if (r < 0)
		return r;
	d->services.differs = all;
	d->services.diff_sync_fs = cfg_bool(in, "sync_fs");
	return 0;
}

/* ---- mounts ---- */

static void mounts_stop(void *p)
{
	mount_manager_close(p);
}

/* A handler's id is the type that it serves. */
static const char *const *mount_handlers(struct plugin_init *in)
{
	const char **v = NULL;
	size_t n = 0, cap = 0;
	for (const struct plugin_state *s = NULL;
	     (s = plugin_next(in->set, PLUGIN_TYPE("mount-handler.v1"), s));) {
		const char **grown = arena_grow(in->arena, v, &cap, n + 2, sizeof(*v));
		if (!grown)
			break;
		v = grown;
		v[n++] = s->plugin->id;
		v[n] = NULL;
	}
	return v;
}

int plugin_mount_manager_bolt_init(struct plugin_init *in, struct err *err)
{
	struct daemon *d = daemon_of(in);
	const char **roots = arena_new_array(in->arena, const char *, 3);
	if (!roots)
		return err_nomem(err);
	roots[0] = in->config->root;
	roots[1] = in->config->state;
	struct mount_manager_options o = {.state = in->state,
					  .roots = roots,
					  .handled = mount_handlers(in),
					  .db = d->services.db};
	int r = mount_manager_open(&o, &d->services.mounts, err);
	if (r < 0)
		return r;
	in->instance = d->services.mounts;
	in->stop = mounts_stop;
	return 0;
}

/* ---- runtime ---- */

static void runtime_stop(void *p)
{
	runtime_free(p);
}

#define SOCKET_DIR_MAX 42 /* what is left of a socket's path for it */

/* As configured; "" = the shim's own default, except in a user namespace, whose root may not have
 * /run to itself. */
static const char *shim_socket_dir(struct arena *a, const char *configured)
{
	const char *run = getenv("XDG_RUNTIME_DIR");
	char *dir, *own;

	if (!str_empty(configured) || userns_is_initial())
		return configured;
	dir = run && run[0] == '/' ? path_join(a, run, "containerd/s") : NULL;
	if (dir && strlen(dir) <= SOCKET_DIR_MAX)
		return dir;
	own = arena_printf(a, "/run/%u", (unsigned)geteuid());
	if (own && access(own, W_OK) == 0)
		return path_join(a, own, "containerd/s");
	return arena_printf(a, "/tmp/containerd-s-%u", (unsigned)geteuid());
}

/* Shims have working directories of their own. */
static const char *shim_address(struct arena *a, const char *address)
{
	if (str_empty(address) || *address == '@')
		return address;
	return str_or(path_absolute(a, address), address);
}

/* What starts and reaches shims: tasks and sandboxes do it alike. */
static struct runtime_options shim_options(const struct plugin_init *in)
{
	struct daemon *d = daemon_of(in);
	const struct config *c = in->config;
	const struct toml_value *shim = config_plugin(c, PLUGIN_TYPE("shim.v1.manager"));
	const char *address =
		config_get_string(config_plugin(c, PLUGIN_TYPE("server.v1.grpc")), "address");
	const char *ttrpc =
		config_get_string(config_plugin(c, PLUGIN_TYPE("server.v1.ttrpc")), "address");
	return (struct runtime_options){
		.loop = d->loop,
		.pool = d->pool,
		.db = d->services.db,
		.events = d->services.events,
		.root = in->root,
		.state = in->state,
		.address = shim_address(in->arena, address),
		.ttrpc_address = shim_address(in->arena, ttrpc),
		.exe = d->exe,
		.env = config_get_strings(in->arena, shim, "env"),
		.socket_dir = shim_socket_dir(in->arena, config_get_string(shim, "socket_dir")),
		.version = VERSION,
		.debug = log_level_get() <= LOG_DEBUG,
		.load_timeout_ns = config_timeout(c, "io.containerd.timeout.shim.load"),
		.cleanup_timeout_ns = config_timeout(c, "io.containerd.timeout.shim.cleanup"),
		.shutdown_timeout_ns = config_timeout(c, "io.containerd.timeout.shim.shutdown"),
		.state_timeout_ns = config_timeout(c, "io.containerd.timeout.task.state"),
		.stats_timeout_ns = config_timeout(c, "io.containerd.timeout.metrics.shimstats"),
	};
}

/* The platforms that are told of the plugin; clients ask it which ones they may run. */
static int runtime_platforms(struct plugin_init *in, struct err *err)
{
	const char *const *names = cfg_strings(in, "platforms");
	const char **v;
	size_t n = 0;
	while (names && names[n])
		n++;
	v = arena_new_array(in->arena, const char *, n + 1);
	if (!v)
		return err_nomem(err);
	for (size_t i = 0; i < n; i++) {
		struct platform p;
		int r = platform_parse(in->arena, names[i], &p, err);
		if (r < 0)
			return err_prefix(err, "platforms");
		if (platform_normalize(in->arena, &p, &p) < 0 ||
		    !(v[i] = platform_format(in->arena, &p)))
			return err_nomem(err);
	}
	in->self->platforms = v;
	return 0;
}

int plugin_runtime_task_init(struct plugin_init *in, struct err *err)
{
	struct daemon *d = daemon_of(in);
	struct runtime_options o = shim_options(in);
	struct ctx ctx = {.arena = arena_new(0), .ns = "", .lease = ""};
	if (runtime_platforms(in, err) < 0) {
		arena_free(ctx.arena);
		return -(int)err->kind;
	}
	o.sandbox_state =
		path_join(in->arena, in->config->state, PLUGIN_TYPE("sandbox.controller.v1.shim"));
	o.mounts = d->services.mounts;
	if (!ctx.arena || !o.sandbox_state) {
		arena_free(ctx.arena);
		return err_nomem(err);
	}
	int r = runtime_new(&o, &d->services.runtime, err);
	if (r == 0) {
		in->instance = d->services.runtime;
		in->stop = runtime_stop;
		r = runtime_load(&ctx, d->services.runtime, err);
	}
	arena_free(ctx.arena);
	return r;
}

/* ---- sandboxes ---- */

static void sandboxes_stop(void *p)
{
	struct sandbox_controller *c = p;
	c->ops->free(c);
}

int plugin_sandbox_controller_shim_init(struct plugin_init *in, struct err *err)
{
	struct daemon *d = daemon_of(in);
	struct runtime_options o = shim_options(in);
	struct ctx ctx = {.arena = arena_new(0), .ns = "", .lease = ""};
	if (!ctx.arena)
		return err_nomem(err);
	int r = shim_controller_new(&o, &d->shim_sandboxes, err);
	if (r == 0) {
		in->instance = d->shim_sandboxes;
		in->stop = sandboxes_stop;
		r = shim_controller_load(&ctx, d->shim_sandboxes, err);
	}
	arena_free(ctx.arena);
	return r;
}

/* ---- restart monitor ---- */

static void restart_stop(void *p)
{
	restart_monitor_free(p);
}

int plugin_monitor_container_restart_init(struct plugin_init *in, struct err *err)
{
	struct daemon *d = daemon_of(in);
	struct restart_options o = {.db = d->services.db,
				    .events = d->services.events,
				    .pool = d->pool,
				    .runtime = d->services.runtime,
				    .interval_ns = cfg_duration(in, "interval")};
	if (!o.runtime)
		return plugin_skip(err, "no task runtime");
	int r = restart_monitor_start(&o, &d->restart, err);
	in->instance = d->restart;
	in->stop = restart_stop;
	return r;
}

/* ---- transfer ---- */

#define PART_BYTES_MIN 512
#define PART_BYTES_MAX (256 << 20)

static void streams_stop(void *p)
{
	streams_free(p);
}

int plugin_streaming_manager_init(struct plugin_init *in, struct err *err)
{
	struct daemon *d = daemon_of(in);
	int r = streams_new(&d->services.streams);
	in->instance = d->services.streams;
	in->stop = streams_stop;
	return r < 0 ? err_errno(err, r, "streams") : 0;
}

static void verifier_stop(void *p)
{
	struct image_verifier *v = p;
	v->ops->free(v);
}

int plugin_image_verifier_bindir_init(struct plugin_init *in, struct err *err)
{
	struct bindir_options o = {.dir = cfg_str(in, "bin_dir"),
				   .max = cfg_int(in, "max_verifiers"),
				   .timeout_ns = cfg_duration(in, "per_verifier_timeout")};
	struct image_verifier *v;
	int r = bindir_verifier_new(&o, &v, err);
	if (r < 0)
		return r;
	in->instance = v;
	in->stop = verifier_stop;
	return 0;
}

/* Snapshotters of proxy plugins that want to know the image a layer is of. */
static int remotes_load(struct plugin_init *in, struct transfer_options *o, struct err *err)
{
	const struct plugin_state *s = NULL;
	size_t cap = 0;
	while ((s = plugin_next(in->set, PLUGIN_TYPE("snapshotter.v1"), s))) {
		const char *v = labels_get(&s->exports, "enable_remote_snapshot_annotations");
		if (!v || !streq(v, "true"))
			continue;
		const char **grown =
			arena_grow(in->arena, o->annotated, &cap, o->n_annotated + 1, sizeof(*v));
		if (!grown)
			return err_nomem(err);
		grown[o->n_annotated++] = s->plugin->id;
		o->annotated = grown;
	}
	return 0;
}

static void transfer_stop(void *p)
{
	transfer_free(p);
}

/* Of so few bytes nobody makes a request. */
static int64_t part_bytes(int64_t configured)
{
	return configured < PART_BYTES_MIN ? 0 : MIN(configured, (int64_t)PART_BYTES_MAX);
}

static bool has_plugin(const struct plugin_init *in, const char *type, const char *id)
{
	void *unused;
	return plugin_get(in->set, type, id, &unused, NULL) == 0;
}

/* One [[unpack_config]]. 0 = it is left out. */
static int unpack_rule(struct plugin_init *in, const struct toml_value *t,
		       struct transfer_unpack_rule *ret, struct err *err)
{
	struct transfer_unpack_rule r = {
		.snapshotter = str_or(config_get_string(t, "snapshotter"), "overlayfs"),
		.config_type = str_or(config_get_string(t, "config_type"), ""),
		.layer_types = config_get_strings(in->arena, t, "layer_types")};
	const char *platform = config_get_string(t, "platform");
	const char *differs[] = {config_get_string(t, "differ"), NULL};
	bool optional = config_get_bool(t, "optional");
	int x = str_empty(platform) ? 0 : platform_parse(in->arena, platform, &r.platform, err);
	if (x < 0)
		return err_prefix(err, "unpack_config: platform \"%s\"", platform);
	if (str_empty(platform) && platform_host(in->arena, &r.platform) < 0)
		return err_nomem(err);
	while (r.layer_types && r.layer_types[r.n_layer_types])
		r.n_layer_types++;
	if (!has_plugin(in, PLUGIN_TYPE("snapshotter.v1"), r.snapshotter))
		return optional ? 0
				: err_set(err, ERR_NOT_FOUND, "unpack_config: snapshotter %s",
					  r.snapshotter);
	x = str_empty(differs[0]) ? 0 : differs_load(in, differs, &r.differs, err);
	if (x < 0)
		return optional ? 0 : err_prefix(err, "unpack_config");
	*ret = r;
	return 1;
}

static int unpack_rules(struct plugin_init *in, struct transfer_options *o, struct err *err)
{
	const struct toml_value *list = config_get(in->values, "unpack_config");
	size_t n = list && list->type == TOML_ARRAY ? list->array.n : 0;
	struct transfer_unpack_rule *v =
		arena_new_array(in->arena, struct transfer_unpack_rule, n + 1);
	if (!v)
		return err_nomem(err);
	for (size_t i = 0; i < n; i++) {
		int r = unpack_rule(in, list->array.v[i], &v[o->n_rules], err);
		if (r < 0)
			return r;
		o->n_rules += (size_t)r;
	}
	o->rules = v;
	return 0;
}

int plugin_transfer_local_init(struct plugin_init *in, struct err *err)
{
	/* The latter knows stream processors. */
	static const char *const erofs_differs[] = {"erofs", "walking", NULL};
	struct daemon *d = daemon_of(in);
	struct transfer_options o = {
		.db = d->services.db,
		.events = d->services.events,
		.pool = d->pool,
		.temp = path_join(in->arena, in->root, "tmp"),
		.config_path = cfg_str(in, "config_path"),
		.max_downloads = (int)MIN(cfg_int(in, "max_concurrent_downloads"), (int64_t)64),
		.max_uploads = (int)MIN(cfg_int(in, "max_concurrent_uploaded_layers"), (int64_t)64),
		.part_bytes = part_bytes(cfg_int(in, "concurrent_layer_fetch_buffer")),
		.max_unpacks = (int)MIN(cfg_int(in, "max_concurrent_unpacks"), (int64_t)64),
		.check_platform = cfg_bool(in, "check_platform_supported"),
		.default_snapshotter = "overlayfs",
		.sync_fs = config_get_bool(
			config_plugin(in->config, PLUGIN_TYPE("service.v1.diff-service")),
			"sync_fs")};
	/* Disabled is fine; one that failed must not let every image pass. */
	void *verifier = NULL;
	int r = plugin_get(in->set, PLUGIN_TYPE("image-verifier.v1"), "bindir", &verifier, err);
	if (r < 0 && r != -ERR_NOT_FOUND)
		return r;
	o.verifier = verifier;
	/* The diff service may be disabled. */
	struct differs *own = arena_new_obj(in->arena, struct differs);
	if (!own)
		return err_nomem(err);
	if (!d->services.differs) {
		r = differs_load(in, (const char *const[]){"walking", NULL}, own, err);
		if (r < 0)
			return r;
	}
	o.differs = d->services.differs ? d->services.differs : own;
	r = unpack_rules(in, &o, err);
	if (r == 0 && has_plugin(in, PLUGIN_TYPE("differ.v1"), "erofs"))
		r = differs_load(in, erofs_differs, &o.erofs_differs, err);
	if (r == 0)
		r = remotes_load(in, &o, err);
	if (r < 0)
		return r;
	r = o.temp ? transfer_new(&o, &d->services.transfer, err) : err_nomem(err);
	in->instance = d->services.transfer;
	in->stop = transfer_stop;
	return r;
}

/* ---- services on the wire ---- */

static int add(struct plugin_init *in, void (*fill)(struct services *s, struct rpc_service *ret),
	       struct err *err)
{
	struct daemon *d = daemon_of(in);
	if (d->n_tables == DAEMON_SERVICES_MAX)
		return err_set(err, ERR_INTERNAL, "more than %d services", DAEMON_SERVICES_MAX);
	fill(&d->services, &d->tables[d->n_tables++]);
	return 0;
}

static int add_with(struct plugin_init *in, const char *type,
		    void (*fill)(struct services *s, struct rpc_service *ret), struct err *err)
{
	void *unused;
	int r = plugin_get_first(in->set, type, &unused, err);
	return r < 0 ? r : add(in, fill, err);
}

#define ON_WIRE(id, service)                                                 \
	int plugin_grpc_##id##_init(struct plugin_init *in, struct err *err) \
	{                                                                    \
		return add(in, service_##service, err);                      \
	}

/* One whose part has failed, or is disabled, is not there, like one that is disabled itself. */
#define ON_WIRE_WITH(id, service, type)                                         \
	int plugin_grpc_##id##_init(struct plugin_init *in, struct err *err)    \
	{                                                                       \
		return add_with(in, PLUGIN_TYPE(type), service_##service, err); \
	}

ON_WIRE(containers, containers)
ON_WIRE(content, content)
ON_WIRE(diff, diff)
ON_WIRE(events, events)
ON_WIRE(images, images)
ON_WIRE(leases, leases)
ON_WIRE_WITH(mounts, mounts, "mount-manager.v1")
ON_WIRE(namespaces, namespaces)
ON_WIRE(sandboxes, sandbox_store)
ON_WIRE(snapshots, snapshots)
ON_WIRE_WITH(streaming, streaming, "streaming.v1")
ON_WIRE_WITH(tasks, tasks, "runtime.v2")
ON_WIRE(version, version)
ON_WIRE(healthcheck, health)

int plugin_grpc_transfer_init(struct plugin_init *in, struct err *err)
{
	void *unused;
	int r = plugin_get_first(in->set, PLUGIN_TYPE("streaming.v1"), &unused, err);
	return r < 0 ? r : add_with(in, PLUGIN_TYPE("transfer.v1"), service_transfer, err);
}

/* The instance of each plugin of the two types is a struct sandbox_controller. */
int plugin_grpc_sandbox_controllers_init(struct plugin_init *in, struct err *err)
{
	static const char *const types[] = {PLUGIN_TYPE("podsandbox.controller.v1"),
					    PLUGIN_TYPE("sandbox.controller.v1")};
	struct daemon *d = daemon_of(in);
	int r = 0;
	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		for (const struct plugin_state *s = NULL;
		     r == 0 && (s = plugin_next(in->set, types[i], s));)
			if (s->instance)
				r = sandbox_controllers_add(&d->sandboxers, s->plugin->id,
							    s->instance, err);
	d->services.sandboxers = &d->sandboxers;
	return r < 0 ? r : add(in, service_sandbox_controller, err);
}

int plugin_grpc_introspection_init(struct plugin_init *in, struct err *err)
{
	struct daemon *d = daemon_of(in);
	d->services.introspection = &daemon_introspection;
	d->services.introspection_data = d;
	d->services.introspection_root = in->root;
	pthread_mutex_init(&d->services.uuid_lock, NULL);
	return add(in, service_introspection, err);
}

int server_listen_unix(struct plugin_init *in, const char *address, int *ret_fd, struct err *err)
{
	int r = unix_listen(address, (uid_t)cfg_int(in, "uid"), (gid_t)cfg_int(in, "gid"), 0660,
			    ret_fd);
	if (r == -EADDRINUSE)
		return err_set(err, ERR_FAILED_PRECONDITION,
			       "listen on %s: another containerd is running there", address);
	if (r < 0)
		return err_errno(err, r, "listen on %s", address);
	struct daemon *d = daemon_of(in);
	struct stat st;
	if (address[0] != '@' && lstat(address, &st) == 0 && d->n_sockets < ARRAY_LEN(d->sockets)) {
		char *path = strdup(address);
		if (path)
			d->sockets[d->n_sockets++] =
				(struct daemon_socket){path, st.st_dev, st.st_ino};
	}
	return 0;
}

int plugin_server_ttrpc_init(struct plugin_init *in, struct err *err)
{
	struct daemon *d = daemon_of(in);
	struct ttrpc_server_options o = {.check_peer = true};
	const char *address = cfg_str(in, "address");
	if (str_empty(address))
		return plugin_skip(err, "no address");
	int r = ttrpc_server_new(d->loop, d->pool, &o, &d->ttrpc);
	service_ttrpc_events(&d->services, &d->ttrpc_events);
	if (r == 0)
		r = ttrpc_server_add(d->ttrpc, &d->ttrpc_events);
	if (r < 0)
		return err_errno(err, r, "ttrpc server");
	return server_listen_unix(in, address, &d->ttrpc_fd, err);
}

/* What went wrong in a call is told once, here; what a client only got wrong itself is not worth
 * more than a debug line. */
void daemon_call_done(void *arg, const char *path, int code, const char *text, int64_t ns)
{
	char took[40];
	bool ours = code == ERR_UNKNOWN || code == ERR_INTERNAL || code == ERR_DATA_LOSS ||
		    code == ERR_RESOURCE_EXHAUSTED;
	enum log_level level = ours ? LOG_ERROR : LOG_DEBUG;
	if (level < log_level_get())
		return;
	duration_format(ns, took);
	if (code)
		log_write(level, LOG_FIELDS("method", path, "took", took), "%s", text);
	else
		log_write(level, LOG_FIELDS("method", path, "took", took), "OK");
}

int plugin_server_grpc_init(struct plugin_init *in, struct err *err)
{
	struct daemon *d = daemon_of(in);
	struct grpc_server_options o = {.max_recv = cfg_size(in, "max_recv_message_size"),
					.max_send = cfg_size(in, "max_send_message_size"),
					.on_done = daemon_call_done};
	const char *address = cfg_str(in, "address");
	if (str_empty(address))
		return err_set(err, ERR_INVALID_ARGUMENT, "grpc address cannot be empty");
	int r = grpc_server_new(d->loop, d->pool, &o, &d->grpc);
	for (size_t i = 0; r == 0 && i < d->n_tables; i++)
		r = grpc_server_add(d->grpc, &d->tables[i]);
	if (r < 0)
		return err_errno(err, r, "gRPC server");
	return server_listen_unix(in, address, &d->grpc_fd, err);
}

/* ---- introspection ---- */

static int list_plugins(struct ctx *ctx, void *data, struct plugin_info **ret, size_t *ret_n,
			struct err *err)
{
	struct daemon *d = data;
	size_t n = d->plugins ? plugins_count(d->plugins) : 0;
	struct plugin_info *v = arena_new_array(ctx->arena, struct plugin_info, n + 1);
	if (!v)
		return err_nomem(err);
	for (size_t i = 0; i < n; i++) {
		const struct plugin_state *s = plugins_at(d->plugins, i);
		const char **one = arena_new_array(ctx->arena, const char *, 2);
		if (!one)
			return err_nomem(err);
		one[0] = s->platform;
		v[i] = (struct plugin_info){.type = s->plugin->type,
					    .id = s->plugin->id,
					    .requires = s->plugin->requires,
					    .platforms = s->platforms ? s->platforms : one,
					    .capabilities = s->capabilities,
					    .exports = s->exports,
					    .skipped = s->status == PLUGIN_SKIP,
					    .failed = s->status == PLUGIN_ERROR,
					    .error = s->error ? s->error : ""};
	}
	*ret = v;
	*ret_n = n;
	return 0;
}

const struct introspection_ops daemon_introspection = {.plugins = list_plugins};
