/* SPDX-License-Identifier: Apache-2.0 */
/* Networks of pods.
 *
 * Each directory of configuration (the default one, and one for each handler that names its own)
 * has the networks that were last loaded, as a counted object: who sets a pod up holds what it
 * began with, while a reload puts a new one in place. inotify tells of changes on the loop; a pool
 * job loads. */
#include "cri/network.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "base/time.h"
#include "cni/cni.h"
#include "cri/cni_template.h"
#include "cri/spec_internal.h"
#include "cri/timers.h"
#include "event/loop.h"
#include "event/pool.h"

#define IFNAME "eth%zu"
#define AT_ONCE 8 /* networks of a pod */
#define TEMPLATE_MAX (1u << 20)
#define CONF_NAME "10-containerd-net.conflist"
#define NOT_INITIALISED "cni plugin not initialized"
#define UNWATCHED "CNI: the configuration directories are not watched: no memory"
#define BURST_MAX 0xffffffffULL

struct nets {
	atomic_uint refs;
	struct cni_networks v;
};

struct net_dir {
	const char *handler; /* "" = the default */
	const char *path;
	size_t max;
	int wd;
	struct nets *nets; /* NULL = none could be loaded */
	char *error;	   /* of the last load; NULL = it went well */
};

struct cri_network {
	struct cri *c;
	struct cni cni;
	pthread_mutex_t lock; /* guards nets and error of @dirs */
	struct net_dir *dirs;
	size_t n_dirs;
	int inotify;
	struct loop_source *source;
	atomic_bool loading, again;
	struct arena *arena;
};

/* ---- configuration ---- */

static void nets_unref(struct nets *n)
{
	if (!n || atomic_fetch_sub(&n->refs, 1) != 1)
		return;
	cni_networks_done(&n->v);
	free(n);
}
static void nets_unrefp(struct nets **n)
{
	nets_unref(*n);
}

static void load(struct cri_network *n, struct net_dir *d)
{
	struct nets *fresh = calloc(1, sizeof(*fresh)), *old;
	struct err err = ERR_INIT;
	int r = fresh ? cni_networks_load(d->path, d->max, &fresh->v, &err) : err_nomem(&err);
	char *error = r < 0 ? strdup(err.text) : NULL, *was;

	if (r < 0) {
		free(fresh);
		fresh = NULL;
	} else
		fresh->refs = 1;
	pthread_mutex_lock(&n->lock);
	old = d->nets;
	was = d->error;
	d->nets = fresh;
	d->error = error;
	pthread_mutex_unlock(&n->lock);
	nets_unref(old);
	free(was);
}

static void load_all(void *arg)
{
	struct cri_network *n = arg;

	do {
		n->again = false;
		for (size_t i = 0; i < n->n_dirs; i++)
			load(n, &n->dirs[i]);
		n->loading = false;
	} while (n->again && !atomic_exchange(&n->loading, true));
}

/* A file that has been created is written yet, which is told when it is done; a link is all there.
 */
static bool is_whole(const struct cri_network *n, const struct inotify_event *e)
{
	char path[PATH_MAX];
	struct stat st;

	if (!(e->mask & IN_CREATE))
		return true;
	for (size_t i = 0; i < n->n_dirs; i++)
		if (n->dirs[i].wd == e->wd &&
		    snprintf(path, sizeof(path), "%s/%s", n->dirs[i].path, e->name) <
			    (int)sizeof(path) &&
		    lstat(path, &st) == 0)
			return S_ISLNK(st.st_mode) || st.st_nlink > 1;
	return false;
}

static void on_change(struct loop_source *s, int fd, uint32_t events, void *arg)
{
	struct cri_network *n = arg;
	_Alignas(struct inotify_event) char buf[4096];
	bool changed = false;
	ssize_t len;

	while ((len = read(fd, buf, sizeof(buf))) > 0)
		for (const char *p = buf; p < buf + len;
		     p += sizeof(struct inotify_event) + ((const struct inotify_event *)p)->len)
			changed = changed || is_whole(n, (const struct inotify_event *)p);
	if (!changed)
		return;
	n->again = true;
	if (n->c->stopping || atomic_exchange(&n->loading, true))
		return;
	if (pool_submit(n->c->o.pool, load_all, n) < 0)
		n->loading = false;
}

static void watch(void *arg)
{
	struct cri_network *n = arg;
	if (loop_add_fd(n->c->o.loop, n->inotify, EPOLLIN, on_change, n, &n->source) < 0)
		log_warn(UNWATCHED);
}

static int add_dir(struct cri_network *n, const char *handler, const char *path, int64_t max,
		   struct err *err)
{
	struct net_dir *d = &n->dirs[n->n_dirs];

	*d = (struct net_dir){.handler = handler, .path = path, .max = max < 0 ? 0 : (size_t)max};
	/* It may come later, with what installs the network. */
	int r = mkdir_p(path, 0700);
	if (r < 0 && r != -EROFS)
		return err_errno(err, r, "make the CNI configuration directory %s", path);
	d->wd = inotify_add_watch(n->inotify, path,
				  IN_CREATE | IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM |
					  IN_DELETE | IN_ONLYDIR);
	if (d->wd < 0)
		log_warn("CNI: watch %s: %s", path, strerror(errno));
	n->n_dirs++;
	load(n, d);
	return 0;
}

int cri_network_new(struct cri *c, struct cri_network **ret, struct err *err)
{
	const struct cri_config *k = c->config;
	struct cri_network *n = calloc(1, sizeof(*n));
	int r = 0;

	if (!n || !(n->arena = arena_new(0)) ||
	    !(n->dirs = calloc(k->n_handlers + 1, sizeof(*n->dirs)))) {
		cri_network_free(n);
		return err_nomem(err);
	}
	n->c = c;
	pthread_mutex_init(&n->lock, NULL);
	n->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	n->cni.bin_dirs = k->cni_bin_dirs;
	while (n->cni.bin_dirs[n->cni.n_bin_dirs])
		n->cni.n_bin_dirs++;
	if (n->inotify < 0)
		r = err_errno(err, errno, "inotify");
	if (r == 0)
		r = add_dir(n, "", k->cni_conf_dir, k->cni_max_conf_num, err);
	for (size_t i = 0; r == 0 && i < k->n_handlers; i++)
		if (!str_empty(k->handlers[i].cni_conf_dir))
			r = add_dir(n, k->handlers[i].name, k->handlers[i].cni_conf_dir,
				    k->handlers[i].cni_max_conf_num
					    ? k->handlers[i].cni_max_conf_num
					    : 1,
				    err);
	if (r < 0) {
		cri_network_free(n);
		return r;
	}
	*ret = n;
	return 0;
}

void cri_network_watch(struct cri_network *n)
{
	if (loop_post(n->c->o.loop, watch, n) < 0)
		log_warn(UNWATCHED);
}

void cri_network_free(struct cri_network *n)
{
	if (!n)
		return;
	loop_source_free(n->source);
	if (n->inotify > 0)
		close(n->inotify);
	for (size_t i = 0; i < n->n_dirs; i++) {
		nets_unref(n->dirs[i].nets);
		free(n->dirs[i].error);
	}
	if (n->c)
		pthread_mutex_destroy(&n->lock);
	free(n->dirs);
	arena_free(n->arena);
	free(n);
}

static struct net_dir *dir_of(struct cri_network *n, const char *handler)
{
	handler = str_or(handler, n->c->config->default_handler);
	for (size_t i = 1; i < n->n_dirs; i++)
		if (streq(n->dirs[i].handler, handler))
			return &n->dirs[i];
	return &n->dirs[0];
}

/* What is loaded now, with a reference. */
static int nets_get(struct cri_network *n, const char *handler, struct nets **ret, struct err *err)
{
	struct net_dir *d = dir_of(n, handler);
	MUTEX_GUARD(&n->lock);

	if (!d->nets)
		return err_set(err, ERR_UNKNOWN, NOT_INITIALISED "%s%s", d->error ? ": " : "",
			       d->error ? d->error : "");
	atomic_fetch_add(&d->nets->refs, 1);
	*ret = d->nets;
	return 0;
}

int cri_network_ready(struct ctx *ctx, struct cri_network *n, const char *handler, struct err *err)
{
	_cleanup_(nets_unrefp) struct nets *nets = NULL;
	int r = nets_get(n, handler, &nets, err);

	for (size_t i = 0; r == 0 && i < nets->v.n; i++)
		r = cni_status(&n->cni, ctx, nets->v.v[i], err);
	return r;
}

int cri_network_info(struct ctx *ctx, struct cri_network *n, const char *handler, json_t **ret,
		     struct err *err)
{
	struct net_dir *d = dir_of(n, handler);
	json_t *v = json_array(), *dirs = json_array(), *j;
	size_t i;

	pthread_mutex_lock(&n->lock);
	for (i = 0; v && d->nets && i < d->nets->v.n; i++) {
		const struct cni_network *net = d->nets->v.v[i];
		char *source = json_dumps(net->conf, 0);
		json_array_append_new(v, json_pack("{s:{s:s, s:s, s:O, s:s}, s:o}", "Config",
						   "Name", net->name, "CNIVersion", net->version,
						   "Plugins", json_object_get(net->conf, "plugins"),
						   "Source", source ? source : "", "IFName",
						   json_sprintf(IFNAME, i)));
		free(source);
	}
	for (i = 0; dirs && i < n->cni.n_bin_dirs; i++)
		json_array_append_new(dirs, json_string(n->cni.bin_dirs[i]));
	j = json_pack("{s:o, s:s, s:i, s:s, s:o, s:s}", "PluginDirs", dirs, "PluginConfDir",
		      d->path, "PluginMaxConfNum", (int)d->max, "Prefix", "eth", "Networks", v,
		      "LastLoadStatus", d->error ? d->error : "OK");
	pthread_mutex_unlock(&n->lock);
	if (!j)
		return err_nomem(err);
	*ret = j;
	return 0;
}

int cri_network_load_status(struct arena *a, struct cri_network *n, struct labels *ret,
			    struct err *err)
{
	struct labels v = {0};
	MUTEX_GUARD(&n->lock);

	for (size_t i = 0; i < n->n_dirs; i++)
		if (labels_set(a, &v, str_or(n->dirs[i].handler, "default"),
			       n->dirs[i].error ? n->dirs[i].error : "OK") < 0)
			return err_nomem(err);
	*ret = v;
	return 0;
}

/* ---- setting up ---- */

struct setup {
	struct cri_network *n;
	struct cri_pod *p;
	struct cni_arg args[6];
	struct cni_attachment at;
	json_t *caps;
};

static const char *protocol_name(CRI(Protocol) p)
{
	return p == RUNTIME__V1__PROTOCOL__UDP	  ? "udp"
	       : p == RUNTIME__V1__PROTOCOL__SCTP ? "sctp"
						  : "tcp";
}

static int ports(struct arena *a, json_t *caps, const CRI(PodSandboxConfig) * c)
{
	struct cni_port *v = arena_new_array(a, struct cni_port, c->n_port_mappings + 1);
	size_t n = 0;

	for (size_t i = 0; v && i < c->n_port_mappings; i++) {
		const CRI(PortMapping) *m = c->port_mappings[i];
		if (m->host_port > 0)
			v[n++] = (struct cni_port){.host_port = m->host_port,
						   .container_port = m->container_port,
						   .protocol = protocol_name(m->protocol),
						   .host_ip = m->host_ip};
	}
	return !v ? -ENOMEM : n ? cni_capability_ports(caps, v, n) : 0;
}

/* A quantity as Kubernetes writes it: 10M, 1.5Gi, 100k, 1e6. Bits a second. */
static int quantity(const char *s, uint64_t *ret)
{
	static const struct {
		const char *suffix;
		double factor;
	} units[] = {{"", 1},	     {"k", 1e3},     {"M", 1e6},     {"G", 1e9},
		     {"T", 1e12},    {"P", 1e15},    {"Ki", 0x1p10}, {"Mi", 0x1p20},
		     {"Gi", 0x1p30}, {"Ti", 0x1p40}, {"Pi", 0x1p50}, {"m", 1e-3}};
	char *end;
	double v = strtod(s, &end);

	for (size_t i = 0; end != s && i < ARRAY_LEN(units); i++)
		if (streq(end, units[i].suffix)) {
			v *= units[i].factor;
			if (!(v >= 1 && v < 0x1p53))
				return -ERANGE;
			*ret = (uint64_t)v;
			return 0;
		}
	return -EINVAL;
}

static int bandwidth(json_t *caps, const struct labels *annotations, struct err *err)
{
	static const char *const keys[] = {"kubernetes.io/ingress-bandwidth",
					   "kubernetes.io/egress-bandwidth"};
	uint64_t rate[2] = {0};

	for (size_t i = 0; i < 2; i++) {
		const char *v = labels_get(annotations, keys[i]);
		if (v && quantity(v, &rate[i]) < 0)
			return err_set(err, ERR_UNKNOWN, "annotation %s: \"%s\" is no rate",
				       keys[i], v);
	}
	if (!rate[0] && !rate[1])
		return 0;
	return cni_capability_bandwidth(caps, rate[0], rate[0] ? BURST_MAX : 0, rate[1],
					rate[1] ? BURST_MAX : 0) < 0
		       ? err_nomem(err)
		       : 0;
}

static int capabilities(struct arena *a, const CRI(PodSandboxConfig) * c, json_t *caps,
			struct err *err)
{
	struct labels annotations;
	int r = cri_labels(a, c->annotations, c->n_annotations, &annotations, err);

	if (r == 0 && ports(a, caps, c) < 0)
		r = err_nomem(err);
	if (r == 0)
		r = bandwidth(caps, &annotations, err);
	if (r < 0)
		return r;
	const CRI(DNSConfig) *d = c->dns_config;
	if (d && cni_capability_dns(caps, (const char *const *)d->servers, d->n_servers,
				    (const char *const *)d->searches, d->n_searches,
				    (const char *const *)d->options, d->n_options) < 0)
		return err_nomem(err);
	if (c->linux && !str_empty(c->linux->cgroup_parent) &&
	    cni_capability_text(caps, "cgroupPath", c->linux->cgroup_parent) < 0)
		return err_nomem(err);
	json_t *notes = json_object();
	for (size_t i = 0; notes && i < annotations.n; i++)
		json_object_set_new(notes, annotations.v[i].key,
				    json_string(annotations.v[i].value));
	return json_object_set_new(caps, "io.kubernetes.cri.pod-annotations", notes) < 0
		       ? err_nomem(err)
		       : 0;
}

static int setup_init(struct arena *a, struct cri *c, struct cri_pod *p, struct setup *s,
		      struct err *err)
{
	const CRI(PodSandboxMetadata) *m = p->config->metadata;
	const char *netns;

	pthread_mutex_lock(&p->o.lock);
	netns = p->netns_closed ? "" : str_or(p->netns_path, "");
	pthread_mutex_unlock(&p->o.lock);
	*s = (struct setup){.n = c->network,
			    .p = p,
			    .args = {{"K8S_POD_NAMESPACE", m->namespace_},
				     {"K8S_POD_NAME", m->name},
				     {"K8S_POD_INFRA_CONTAINER_ID", p->o.id},
				     {"K8S_POD_UID", m->uid},
				     {"IgnoreUnknown", "1"}},
			    .caps = json_object()};
	s->at = (struct cni_attachment){.container_id = p->o.id, .netns = netns, .n_args = 5};
	if (!s->caps)
		return err_nomem(err);
	int r = capabilities(a, p->config, s->caps, err);
	if (r < 0)
		json_decref(s->caps);
	return r;
}

/* One network's result into go-cni's form: interfaces with their addresses, DNS, routes. */
static int result_add(struct arena *a, json_t *result, const json_t *from, const char *own,
		      struct err *err)
{
	struct cni_result v;
	int r = cni_result_read(a, from, &v, err);

	if (r < 0)
		return r;
	json_t *interfaces = json_obj_make(result, "Interfaces"),
	       *dns = json_arr_make(result, "DNS"), *routes = json_arr_make(result, "Routes");
	if (!interfaces || !dns || !routes)
		return err_nomem(err);
	for (size_t i = 0; i < v.n_interfaces; i++)
		json_object_set_new(interfaces, v.interfaces[i].name,
				    json_pack("{s:[], s:s, s:s}", "IPConfigs", "Mac",
					      str_or(v.interfaces[i].mac, ""), "Sandbox",
					      str_or(v.interfaces[i].sandbox, "")));
	for (size_t i = 0; i < v.n_ips; i++) {
		const struct cni_ip *ip = &v.ips[i];
		const char *name = ip->interface >= 0 && (size_t)ip->interface < v.n_interfaces
					   ? v.interfaces[ip->interface].name
					   : own;
		json_t *one = json_obj_make(interfaces, name),
		       *list = one ? json_arr_make(one, "IPConfigs") : NULL;
		if (!list ||
		    json_array_append_new(list, json_pack("{s:s, s:s}", "IP", ip->ip, "Gateway",
							  str_or(ip->gateway, ""))) < 0)
			return err_nomem(err);
	}
	for (size_t i = 0; i < v.n_routes; i++)
		json_array_append_new(routes,
				      json_pack("{s:s, s:s*}", "dst", v.routes[i].dst, "gw",
						str_empty(v.routes[i].gw) ? NULL : v.routes[i].gw));
	const json_t *of = json_obj(from, "dns");
	return json_array_append_new(dns, of ? json_deep_copy(of) : json_object()) < 0
		       ? err_nomem(err)
		       : 0;
}

static bool is_v6(const char *ip)
{
	return strchr(ip, ':') != NULL;
}

/* The pod's addresses: those of eth0, the preferred one first. Under the pod's lock. */
static int choose_ips(struct cri_pod *p, const char *pref, json_t *result, struct err *err)
{
	json_t *eth0 = json_obj(json_obj(result, "Interfaces"), "eth0"),
	       *ips = json_arr(eth0, "IPConfigs");
	size_t n = json_array_size(ips), first = 0, k = 0;
	const char **more = arena_new_array(p->o.arena, const char *, n + 1);

	if (n == 0)
		return err_set(err, ERR_UNKNOWN, "failed to find network info for sandbox \"%s\"",
			       p->o.id);
	if (!more)
		return err_nomem(err);
	if (!streq(pref, "cni"))
		for (size_t i = n; i > 0; i--)
			if (is_v6(json_str(json_array_get(ips, i - 1), "IP", "")) ==
			    streq(pref, "ipv6"))
				first = i - 1;
	p->ip = arena_strdup(p->o.arena, json_str(json_array_get(ips, first), "IP", ""));
	for (size_t i = 0; i < n; i++)
		if (i != first) {
			more[k] = arena_strdup(p->o.arena,
					       json_str(json_array_get(ips, i), "IP", ""));
			if (!more[k++])
				return err_nomem(err);
		}
	if (!p->ip)
		return err_nomem(err);
	p->additional_ips = more;
	return 0;
}

/* ---- all networks of a pod ----
 *
 * "lo", then eth0, eth1, ...: they know nothing of each other and are worked on side by side,
 * unless the configuration wants them one after the other. */

struct link {
	const struct cni_network *network; /* NULL = a loopback that no plugin made */
	struct cni_attachment at;
	json_t *result;
	int r;
	struct err err;
};

struct links {
	struct ctx *ctx; /* only asked whether it is over */
	struct setup *s;
	struct cni_network *loopback; /* NULL = without the plugin */
	struct link *v;
	size_t n;
	int (*work)(struct links *w, struct link *l);
	bool all; /* whatever comes of the others */
	atomic_size_t next;
	atomic_bool failed;
};

/* Brought up as its plugin would, with the result that it would print. */
static int loopback_up(const char *netns, json_t **ret, struct err *err)
{
	int r = cri_netns_loopback(netns, err);

	if (r < 0)
		return r;
	*ret = json_pack("{s:s, s:[{s:s, s:s, s:s}], s:[{s:s, s:i}, {s:s, s:i}]}", "cniVersion",
			 "1.0.0", "interfaces", "name", "lo", "mac", "00:00:00:00:00:00", "sandbox",
			 netns, "ips", "address", "127.0.0.1/8", "interface", 0, "address",
			 "::1/128", "interface", 0);
	return *ret ? 0 : err_nomem(err);
}

/* A node without the loopback's plugin has a loopback all the same. */
static int link_add(struct links *w, struct link *l)
{
	const struct cni *cni = &w->s->n->cni;
	int r = l->network ? cni_add(cni, w->ctx, l->network, &l->at, &l->result, &l->err)
			   : -ERR_NOT_FOUND;

	return r == -ERR_NOT_FOUND && l->network == w->loopback
		       ? loopback_up(l->at.netns, &l->result, &l->err)
		       : r;
}

static int link_del(struct links *w, struct link *l)
{
	const struct cni *cni = &w->s->n->cni;
	int r = !l->network ? 0
		: w->all    ? cni_del_all(cni, w->ctx, l->network, &l->at, &l->err)
			    : cni_del(cni, w->ctx, l->network, &l->at, &l->err);

	return r == -ERR_NOT_FOUND && l->network == w->loopback ? 0 : r;
}

static int links_init(struct links *w, struct arena *a, const struct nets *nets, struct err *err)
{
	const struct setup *s = w->s;

	w->n = nets->v.n + 1;
	w->v = arena_new_array(a, struct link, w->n);
	if (!w->v)
		return err_nomem(err);
	int r = s->n->c->config->cni_internal_loopback ? 0
						       : cni_network_loopback(&w->loopback, err);
	for (size_t i = 0; r == 0 && i < w->n; i++) {
		struct link *l = &w->v[i];
		*l = (struct link){.network = i ? nets->v.v[i - 1] : w->loopback,
				   .at = s->at,
				   .err = ERR_INIT};
		l->at.ifname = i ? arena_printf(a, IFNAME, i - 1) : "lo";
		l->at.capabilities = i ? s->caps : NULL;
		if (!l->at.ifname)
			r = err_nomem(err);
	}
	return r;
}

static void *links_work(void *arg)
{
	struct links *w = arg;
	size_t i;

	while ((w->all || !w->failed) && (i = atomic_fetch_add(&w->next, 1)) < w->n) {
		/* What was attached first is detached last. */
		struct link *l = &w->v[w->work == link_del ? w->n - 1 - i : i];
		l->r = w->work(w, l);
		if (l->r < 0)
			w->failed = true;
	}
	return NULL;
}

static int links_run(struct links *w, struct err *err)
{
	size_t more = w->s->n->c->config->cni_setup_serially ? 0 : MIN(w->n, AT_ONCE) - 1, n = 0;
	pthread_t threads[AT_ONCE];

	while (n < more && pthread_create(&threads[n], NULL, links_work, w) == 0)
		n++;
	links_work(w);
	while (n > 0)
		pthread_join(threads[--n], NULL);
	for (size_t i = 0; i < w->n; i++)
		if (w->v[i].r < 0)
			return err_copy(err, &w->v[i].err);
	return 0;
}

static int attach_all(struct ctx *ctx, struct setup *s, const struct nets *nets, json_t *result,
		      struct err *err)
{
	struct links w = {.ctx = ctx, .s = s, .work = link_add};
	int r = links_init(&w, ctx->arena, nets, err);

	if (r == 0)
		r = links_run(&w, err);
	for (size_t i = 0; w.v && i < w.n; i++) {
		if (r == 0)
			r = result_add(ctx->arena, result, w.v[i].result, w.v[i].at.ifname, err);
		json_decref(w.v[i].result);
	}
	cni_network_free(w.loopback);
	return r;
}

/* @last: nobody tries again, so each network and each plugin is called; the first error is told. */
static int detach_all(struct ctx *ctx, struct setup *s, const struct nets *nets, bool last,
		      struct err *err)
{
	struct links w = {.ctx = ctx, .s = s, .work = link_del, .all = last};
	int r = links_init(&w, ctx->arena, nets, err);

	if (r == 0)
		r = links_run(&w, err);
	cni_network_free(w.loopback);
	return r;
}

/* An operation of the plugins is counted, whatever comes of it; not finding out what they are is
 * none. */
int cri_network_setup(struct ctx *ctx, struct cri *c, struct cri_pod *p, struct err *err)
{
	_cleanup_(nets_unrefp) struct nets *nets = NULL;
	json_t *result = json_object();
	struct setup s;
	int r = result ? nets_get(c->network, p->handler, &nets, err) : err_nomem(err);

	if (r == 0)
		r = setup_init(ctx->arena, c, p, &s, err);
	if (r < 0) {
		json_decref(result);
		return r;
	}
	s.at.args = s.args;
	int64_t begin = time_mono();
	r = attach_all(ctx, &s, nets, result, err);
	cri_count_network(c, CRI_NETWORK_SET_UP, begin, r < 0);
	if (r == 0) {
		pthread_mutex_lock(&p->o.lock);
		r = choose_ips(p, str_or(c->config->cni_ip_pref, "ipv4"), result, err);
		if (r == 0) {
			json_decref(p->cni_result);
			p->cni_result = TAKE_PTR(result);
		}
		pthread_mutex_unlock(&p->o.lock);
	}
	if (r < 0) {
		struct err undo = ERR_INIT;
		struct ctx bg = cri_background(c, ctx->arena, c->config->defer_cleanup_timeout_ns);
		if (detach_all(&bg, &s, nets, true, &undo) < 0)
			log_warn("pod %s: undo its network: %s", p->o.id, undo.text);
	}
	json_decref(result);
	json_decref(s.caps);
	if (r < 0)
		err_prefix(err, "failed to setup network for sandbox \"%s\"", p->o.id);
	return cri_unknown(r, err);
}

int cri_network_teardown(struct ctx *ctx, struct cri *c, struct cri_pod *p, struct err *err)
{
	_cleanup_(nets_unrefp) struct nets *nets = NULL;
	struct setup s;
	int r = nets_get(c->network, p->handler, &nets, err);

	if (r == 0)
		r = setup_init(ctx->arena, c, p, &s, err);
	if (r < 0)
		return r;
	s.at.args = s.args;
	int64_t begin = time_mono();
	/* A failure of what never got a result is not told to anybody. */
	r = detach_all(ctx, &s, nets, !p->cni_result, err);
	cri_count_network(c, CRI_NETWORK_TEAR_DOWN, begin, r < 0);
	json_decref(s.caps);
	if (r < 0)
		err_prefix(err, "failed to destroy network for sandbox \"%s\"", p->o.id);
	return cri_unknown(r, err);
}

/* ---- a configuration from a template ---- */

/* CIDRs of a node, with commas between; one a family at most. */
static int pod_cidrs(struct arena *a, const char *cidrs, struct cni_template_data *ret,
		     struct err *err)
{
	size_t n, n_routes = 0;
	char **v = str_split(a, cidrs, ',', &n);
	const char **routes = arena_new_array(a, const char *, n + 1);
	bool has[2] = {false, false};

	if (!v || !routes)
		return err_nomem(err);
	for (size_t i = 0; i < n; i++) {
		char *slash, address[16], *end;
		bool v6 = is_v6(v[i]);
		while (*v[i] == ' ')
			v[i]++;
		slash = strchr(v[i], '/');
		unsigned long bits = slash ? strtoul(slash + 1, &end, 10) : 0;
		if (slash)
			*slash = 0;
		if (!slash || end == slash + 1 || *end || bits > (v6 ? 128 : 32) ||
		    inet_pton(v6 ? AF_INET6 : AF_INET, v[i], address) != 1)
			return err_set(err, ERR_UNKNOWN, "pod CIDR \"%.128s\": no network", cidrs);
		*slash = '/';
		if (!has[v6])
			routes[n_routes++] = v6 ? "::/0" : "0.0.0.0/0";
		has[v6] = true;
	}
	*ret = (struct cni_template_data){.pod_cidr = n ? v[0] : "",
					  .ranges = {(const char *const *)v, n},
					  .routes = {routes, n_routes}};
	return 0;
}

int cri_network_set_pod_cidr(struct ctx *ctx, struct cri_network *n, const char *cidrs,
			     struct err *err)
{
	const char *file = n->c->config->cni_conf_template, *dir = n->dirs[0].path;
	struct buf out _cleanup_buf_ = BUF_INIT;
	struct cni_template_data data;
	json_t *conf _cleanup_json_ = NULL;
	char *text;
	size_t len;

	/* Who has brought a network, or brings one without a template, knows better. */
	if (str_empty(cidrs) || str_empty(file) || cri_network_ready(ctx, n, "", NULL) == 0)
		return 0;
	int r = pod_cidrs(ctx->arena, cidrs, &data, err);
	if (r < 0)
		return r;
	r = file_read(ctx->arena, AT_FDCWD, file, TEMPLATE_MAX, &text, &len);
	if (r < 0)
		return err_errno(err, r, "CNI configuration template: read %s", file);
	r = cni_template_render(text, &data, &out, err);
	if (r == 0)
		r = json_parse(out.data ? out.data : "", out.len, &conf, err);
	if (r < 0)
		return err_prefix(err, "CNI configuration template %s", file);
	char *path = path_join(ctx->arena, dir, CONF_NAME);
	r = path ? mkdir_p(dir, 0700) : -ENOMEM;
	if (r == 0)
		r = file_write_atomic(AT_FDCWD, path, out.data, out.len, 0644, true);
	if (r < 0)
		return err_errno(err, r, "write %s/%s", dir, CONF_NAME);
	log_info("CNI: %s/%s is written for the pods' network %s", dir, CONF_NAME, cidrs);
	load(n, &n->dirs[0]);
	return 0;
}
