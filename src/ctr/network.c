/* SPDX-License-Identifier: Apache-2.0 */
/* Networks of containers: see network.h. */
#include "ctr/network.h"

#include <stdlib.h>

#define IFNAME "eth0"

void network_done(struct network *n)
{
	cni_networks_done(&n->networks);
}

static int describe(struct ctr *c, const char *id, struct network *n, struct err *err)
{
	const char *path = getenv("CNI_PATH");
	struct arena *a = c->ctx.arena;

	if (!str_empty(path)) {
		n->cni.bin_dirs = (const char *const *)str_split(a, path, ':', &n->cni.n_bin_dirs);
		if (!n->cni.bin_dirs)
			return err_nomem(err);
	}
	n->at.container_id = arena_printf(a, "%s-%s", c->ctx.ns, id);
	n->at.netns = "";
	n->at.ifname = IFNAME;
	return n->at.container_id ? 0 : err_nomem(err);
}

int network_load(struct ctr *c, const char *id, struct network *ret, struct err *err)
{
	const char *dir = str_or(getenv("NETCONFPATH"), CNI_CONF_DIR);
	struct network n = {};
	int r;

	r = describe(c, id, &n, err);
	if (r == 0)
		r = cni_networks_load(dir, 1, &n.networks, err);
	if (r < 0)
		return r;
	*ret = n;
	return 0;
}

int network_attach(struct ctr *c, struct network *n, uint32_t pid, struct err *err)
{
	struct err e = ERR_INIT;
	int r;

	n->at.netns = arena_printf(c->ctx.arena, "/proc/%u/ns/net", pid);
	if (!n->at.netns)
		return err_nomem(err);
	r = cni_add(&n->cni, &c->ctx, n->networks.v[0], &n->at, NULL, err);
	n->attached = r == 0;
	if (r < 0 && cni_del(&n->cni, NULL, n->networks.v[0], &n->at, &e) < 0)
		ctr_warn("%s", e.text);
	return r;
}

void network_detach(struct ctr *c, struct network *n)
{
	struct err e = ERR_INIT;

	/* The process is gone, and its namespace with it: plugins take that from an empty path. */
	n->at.netns = "";
	if (n->attached && cni_del(&n->cni, NULL, n->networks.v[0], &n->at, &e) < 0)
		ctr_warn("%s", e.text);
	n->attached = false;
}

void network_forget(struct ctr *c, const char *id)
{
	struct network n _cleanup_network_ = {};
	json_t *entry _cleanup_json_ = NULL;

	if (network_load(c, id, &n, NULL) < 0 ||
	    cni_cached(&n.cni, n.networks.v[0]->name, n.at.container_id, IFNAME, &entry, NULL) < 0)
		return;
	n.attached = true;
	network_detach(c, &n);
}
