/* SPDX-License-Identifier: Apache-2.0 */
/* `ctr run --cni`: the network namespace of a container on the host's default CNI network, as the
 * interface eth0 under the id "<namespace>-<container>".
 *
 * The configuration is the first one in /etc/cni/net.d ($NETCONFPATH), the plugins are in
 * /opt/cni/bin and /usr/lib/cni ($CNI_PATH), as cnitool has it. */
#pragma once

#include "cni/cni.h"
#include "ctr/ctr.h"

struct network {
	struct cni cni;
	struct cni_networks networks;
	struct cni_attachment at;
	bool attached;
};
#define _cleanup_network_ _cleanup_(network_done)
void network_done(struct network *n);

/* Reads the configuration; nothing is attached yet. */
int network_load(struct ctr *c, const char *id, struct network *ret, struct err *err) _must_check_;
/* Attaches the namespace of process @pid; what a failure leaves is undone. */
int network_attach(struct ctr *c, struct network *n, uint32_t pid, struct err *err) _must_check_;
/* Detaches, if it is attached; warns of a failure. */
void network_detach(struct ctr *c, struct network *n);
/* Of a container that is removed: detaches what an earlier `run --cni` has left. */
void network_forget(struct ctr *c, const char *id);
