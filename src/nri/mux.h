/* SPDX-License-Identifier: Apache-2.0 */
/* Several connections over one, as the node resource interface (NRI) has it: frames of a 4-byte
 * connection id and a 4-byte length (both big endian), and that many bytes, which are a piece of
 * that connection's stream. Both ends know which ids there are: 1 is the plugin's service, 2 the
 * runtime's.
 *
 * The mux sits on the loop between the socket to the peer (the trunk) and two socket pairs, to
 * whose other ends ttrpc is bound as to any connection. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "event/loop.h"

#define NRI_CONN_PLUGIN 1  /* calls to the plugin */
#define NRI_CONN_RUNTIME 2 /* calls of the plugin */

#define NRI_MUX_HEADER 8
/* What a frame may carry: a ttrpc message with its header. */
#define NRI_MUX_MAX (10u + (4u << 20))

/* Takes frames apart as their bytes come. Zeroed is fresh. */
struct nri_demux {
	uint8_t head[NRI_MUX_HEADER];
	size_t n_head;
	uint32_t id, left;
};

/* Consumes from *@p. 1 = *@ret_n bytes at *@ret_p belong to connection *@ret_id; 0 = all is
 * consumed; -EMSGSIZE = a frame is too long, the stream is lost. */
int nri_demux_feed(struct nri_demux *d, const uint8_t **p, size_t *n, uint32_t *ret_id,
		   const uint8_t **ret_p, size_t *ret_n);

struct nri_mux;

/* Takes @trunk over on success. *@ret_plugin and *@ret_runtime are the caller's, stream sockets;
 * the mux ends when either of them or the trunk is closed, and closes its ends of all. The loop's
 * thread. 0 or -errno. */
int nri_mux_new(struct loop *l, int trunk, struct nri_mux **ret, int *ret_plugin, int *ret_runtime);
/* Closes all. The loop's thread, or when it does not run. NULL is fine. */
void nri_mux_free(struct nri_mux *m);
