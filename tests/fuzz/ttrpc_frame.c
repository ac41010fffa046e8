/* SPDX-License-Identifier: Apache-2.0 */
/* ttrpc's framing, in pieces whose sizes the first byte decides, and the envelopes in the payloads.
 */
#include <stdint.h>
#include <stdlib.h>

#include "protos.h"
#include "rpc/ttrpc_frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void envelope(const struct ttrpc_header *h, const struct rpc_msg *m)
{
	struct arena *a = arena_new(1 << 20);
	struct err err;
	void *msg;

	if (!a)
		return;
	if (rpc_unpack(a,
		       h->type == TTRPC_REQUEST ? &ttrpc__request__descriptor
						: &ttrpc__response__descriptor,
		       m->p, m->n, &msg, &err) == 0)
		protobuf_c_message_get_packed_size(msg);
	/* A type that nests in itself. */
	if (rpc_unpack(a, &google__protobuf__value__descriptor, m->p, m->n, &msg, &err) == 0)
		protobuf_c_message_get_packed_size(msg);
	arena_free(a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ttrpc_reader r = {0};
	size_t step;

	if (size == 0)
		return 0;
	step = data[0] % 17 + 1;
	data++;
	size--;
	for (size_t at = 0; at < size; at += step) {
		const uint8_t *p = data + at;
		size_t n = MIN(step, size - at);
		struct ttrpc_header h;
		struct rpc_msg *m;

		while (ttrpc_reader_feed(&r, &p, &n, &h, &m) > 0) {
			if (!m != (h.len > TTRPC_MAX))
				abort();
			if (m)
				envelope(&h, m);
			rpc_msg_free(m);
		}
		if (n != 0)
			abort();
	}
	ttrpc_reader_done(&r);
	return 0;
}
