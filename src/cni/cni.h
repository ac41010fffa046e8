/* SPDX-License-Identifier: Apache-2.0 */
/* Container networks by CNI plugins: what a runtime does according to the CNI specification 1.1.0
 * (and 0.1.0 to 1.0.0 before it).
 *
 * A network is a list of plugins out of a file of the configuration directory. Attaching a network
 * namespace runs the plugins in order, each is given the result of the one before; detaching runs
 * them backwards. What was attached is kept on disk, in the layout of libcni, so that other
 * runtimes' attachments can be detached too, and a daemon that was restarted can detach its own.
 *
 *     struct cni cni = {.bin_dirs = dirs, .n_bin_dirs = 1};
 *     struct cni_networks nets = {};
 *     r = cni_networks_load("/etc/cni/net.d", 1, &nets, err);
 *     struct cni_attachment at = {.container_id = id, .netns = path, .ifname = "eth0"};
 *     r = cni_add(&cni, &ctx, nets.v[0], &at, &result, err);
 *     ...
 *     r = cni_del(&cni, &ctx, nets.v[0], &at, err);
 *     cni_networks_done(&nets);
 *
 * Calls block for as long as the plugins run (timeout_ns each); ctx's deadline and cancellation end
 * them: the plugin's process group is killed. Any thread; a loaded network is never changed, so
 * threads may share it. The same attachment must not be worked on by two threads at a time: the
 * caller has the container's lock. Nothing is printed; errors name network, plugin and command, and
 * carry what the plugin said.
 *
 * A failed ADD leaves behind what the first plugins have made: call cni_del_all(). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/ctx.h"
#include "base/err.h"
#include "base/json.h"

#define CNI_VERSION_MAX "1.1.0"
#define CNI_CONF_DIR "/etc/cni/net.d"
#define CNI_BIN_DIR "/opt/cni/bin"
#define CNI_BIN_DIR_DEBIAN "/usr/lib/cni"
#define CNI_CACHE_DIR "/var/lib/cni"

#define CNI_CONF_MAX (1u << 20)		/* bytes of a configuration file, of a result */
#define CNI_PLUGINS_MAX 64		/* in a network */
#define CNI_NETWORKS_MAX 256		/* in a directory */
#define CNI_TIMEOUT_NS (220000000000LL) /* of one plugin, when none is given */

/* ---- Configuration ---- */

struct cni_plugin {
	const char *type; /* name of its executable */
	json_t *conf;	  /* as in the file */
};

/* On the heap, never changed after it was loaded. */
struct cni_network {
	const char *name;
	const char *version; /* greatest of the file's that is known here */
	const char *source;  /* file that it came from, "" = none */
	bool disable_check, disable_gc;
	struct cni_plugin *plugins;
	size_t n_plugins;
	json_t *conf; /* the whole list; a single plugin's configuration is made a list of one */
	struct arena *arena;
};
void cni_network_free(struct cni_network *n);
DEFINE_CLEANUP(struct cni_network *, cni_network_free)

struct cni_networks {
	struct cni_network **v;
	size_t n;
};
void cni_networks_done(struct cni_networks *l);
#define _cleanup_cni_networks_ _cleanup_(cni_networks_done)

/* A network from text: @list says whether it is a list (.conflist) or one plugin (.conf, .json).
 * @source is for messages and may be a path; a list that does not say loadOnlyInlinedPlugins also
 * gets the plugins <directory of source>/<name>/ *.conf. -ERR_INVALID_ARGUMENT. */
int cni_network_parse(const char *text, size_t len, const char *source, bool list,
		      struct cni_network **ret, struct err *err) _must_check_;
int cni_network_load(const char *path, struct cni_network **ret, struct err *err) _must_check_;

/* The networks of a directory (.conf, .conflist, .json) by their files' names, at most @max of them
 * (0 = all). A list without plugins is passed over; any other bad file is an error. -ERR_NOT_FOUND
 * "no network config found in ..." when there is none. */
int cni_networks_load(const char *dir, size_t max, struct cni_networks *ret,
		      struct err *err) _must_check_;

/* The loopback network ("cni-loopback", plugin loopback, for the interface "lo"). */
int cni_network_loopback(struct cni_network **ret, struct err *err) _must_check_;

/* ---- Operations ---- */

/* Where things are. Zeroes give the defaults named above. */
struct cni {
	const char *const *bin_dirs; /* searched in order */
	size_t n_bin_dirs;
	const char *cache_dir; /* results are in <cache_dir>/results */
	int64_t timeout_ns;    /* of one plugin; negative = none */
};

struct cni_arg {
	const char *key, *value; /* no ';' or '=' in a key, no ';' in a value */
};

/* One interface of one network namespace. */
struct cni_attachment {
	const char *container_id;
	const char *netns; /* path; "" only for DEL, where the namespace is gone already */
	const char *ifname;
	const struct cni_arg *args; /* CNI_ARGS */
	size_t n_args;
	/* Object: name of a capability -> its value; a plugin gets those that its configuration
	 * enables. cni_capability_*() below fill it. NULL = none. */
	const json_t *capabilities;
};

/* Runs the plugins and keeps the result on disk. *@ret (may be NULL; the caller decrefs) is the
 * last plugin's result in the network's version.
 *
 * -ERR_INVALID_ARGUMENT   the attachment's names, or a plugin refuses its configuration
 * -ERR_NOT_FOUND          a plugin is in none of the directories
 * -ERR_DEADLINE_EXCEEDED  a plugin took too long
 * -ERR_UNAVAILABLE        a plugin says "try again later"
 * -ERR_UNKNOWN            a plugin failed otherwise */
int cni_add(const struct cni *cni, struct ctx *ctx, const struct cni_network *n,
	    const struct cni_attachment *at, json_t **ret, struct err *err) _must_check_;
/* What is not there is fine. Capabilities and arguments that the attachment does not give are taken
 * from what ADD has kept. */
int cni_del(const struct cni *cni, struct ctx *ctx, const struct cni_network *n,
	    const struct cni_attachment *at, struct err *err) _must_check_;
/* For what will not be tried again: calls every plugin, whatever the others say, and forgets the
 * attachment; the first error is returned. */
int cni_del_all(const struct cni *cni, struct ctx *ctx, const struct cni_network *n,
		const struct cni_attachment *at, struct err *err) _must_check_;
/* -ERR_NOT_FOUND when nothing is kept of an ADD; -ERR_UNIMPLEMENTED before version 0.4.0. Nothing
 * is done where the list disables it. */
int cni_check(const struct cni *cni, struct ctx *ctx, const struct cni_network *n,
	      const struct cni_attachment *at, struct err *err) _must_check_;
/* Whether the network could take containers now. From version 1.1.0; nothing is asked before. */
int cni_status(const struct cni *cni, struct ctx *ctx, const struct cni_network *n,
	       struct err *err) _must_check_;

/* Detaches what is kept on disk for this network and is not among @valid (container_id and ifname
 * count), then lets the plugins collect (from version 1.1.0). Goes on after a failure; the first
 * one is returned. */
int cni_gc(const struct cni *cni, struct ctx *ctx, const struct cni_network *n,
	   const struct cni_attachment *valid, size_t n_valid, struct err *err) _must_check_;

/* What ADD has kept, as libcni's file has it: containerId, config (base64), ifName, networkName,
 * netns, cniArgs, capabilityArgs, result. The caller decrefs. -ERR_NOT_FOUND */
int cni_cached(const struct cni *cni, const char *network, const char *container_id,
	       const char *ifname, json_t **ret, struct err *err) _must_check_;

/* ---- Capabilities: each adds to an object and returns 0 or -ENOMEM ---- */

struct cni_port {
	int host_port, container_port;
	const char *protocol; /* "tcp", "udp", "sctp" */
	const char *host_ip;  /* "" = all */
};
int cni_capability_ports(json_t *caps, const struct cni_port *v, size_t n);
/* Bits a second and bits; a rate of 0 = not limited. */
int cni_capability_bandwidth(json_t *caps, uint64_t ingress_rate, uint64_t ingress_burst,
			     uint64_t egress_rate, uint64_t egress_burst);
int cni_capability_dns(json_t *caps, const char *const *servers, size_t n_servers,
		       const char *const *searches, size_t n_searches, const char *const *options,
		       size_t n_options);
/* "cgroupPath", "mac", "infinibandGUID", "deviceID", ...: a capability that is one text. */
int cni_capability_text(json_t *caps, const char *name, const char *value);
/* "ips", "aliases", ...: one that is a list of texts. */
int cni_capability_list(json_t *caps, const char *name, const char *const *v, size_t n);
/* One range (subnet, and with range_start, range_end, gateway where not "") as a set of its own. */
int cni_capability_ip_range(json_t *caps, const char *subnet, const char *range_start,
			    const char *range_end, const char *gateway);

/* ---- Results ---- */

struct cni_interface {
	const char *name, *mac, *sandbox; /* sandbox "": on the host */
	int64_t mtu;			  /* 0 = not told */
};
struct cni_ip {
	const char *address; /* with prefix length: "10.88.0.2/16" */
	const char *ip;	     /* without */
	const char *gateway; /* "" = none */
	bool v6;
	int interface; /* index, -1 = not told */
};
struct cni_route {
	const char *dst, *gw; /* gw "" = the interface's */
};
struct cni_dns {
	const char *domain;
	const char **servers, **searches, **options;
	size_t n_servers, n_searches, n_options;
};
struct cni_result {
	struct cni_interface *interfaces;
	size_t n_interfaces;
	struct cni_ip *ips;
	size_t n_ips;
	struct cni_route *routes;
	size_t n_routes;
	struct cni_dns dns;
};

/* A result of any version, taken apart; all in the arena. -ERR_INVALID_ARGUMENT for what is no
 * result: no address that is one, an interface index that is none, a foreign version. */
int cni_result_read(struct arena *a, const json_t *j, struct cni_result *ret,
		    struct err *err) _must_check_;
/* The same in another version; the caller decrefs. What an older version cannot say is dropped.
 * -ERR_INVALID_ARGUMENT: unknown version, or nothing would be left ("no valid IP addresses"). */
int cni_result_convert(const json_t *from, const char *version, json_t **ret,
		       struct err *err) _must_check_;

/* ---- Names, as libcni takes them ---- */
bool cni_name_valid(const char *s);   /* network, container id */
bool cni_ifname_valid(const char *s); /* at most 15 bytes, none of "/: \t..." */
/* -1, 0, 1 by number; unknown texts come first. */
int cni_version_cmp(const char *a, const char *b);
bool cni_version_known(const char *v);
