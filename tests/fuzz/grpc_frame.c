/* SPDX-License-Identifier: Apache-2.0 */
/* gRPC's framing, in pieces whose sizes the first byte decides; timeouts and texts. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/grpc_frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void texts(const uint8_t *data, size_t size)
{
	char *s = malloc(size + 1);
	struct buf b = BUF_INIT;
	int64_t ns;

	memcpy(s, data, size);
	s[size] = '\0';
	if (grpc_timeout_parse(s, &ns) == 0 && ns < 0)
		abort();
	grpc_message_encode(&b, s);
	if (b.len) {
		grpc_message_decode(b.data);
		if (strcmp(b.data, s) != 0)
			abort();
	}
	grpc_message_decode(s);
	buf_done(&b);
	free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct grpc_reader r = {.max = 1 << 16};
	size_t step, total = 0;
	int rc = 0;

	if (size == 0)
		return 0;
	step = data[0] % 17 + 1;
	data++;
	size--;
	for (size_t at = 0; at < size && rc >= 0; at += step) {
		const uint8_t *p = data + at;
		size_t n = MIN(step, size - at);
		struct rpc_msg *m;
		struct err err;

		while ((rc = grpc_reader_feed(&r, &p, &n, &m, &err)) > 0) {
			if (m->n > r.max)
				abort();
			total += m->n + GRPC_PREFIX;
			rpc_msg_free(m);
		}
		if (rc == 0 && n != 0)
			abort();
	}
	if (total > size)
		abort();
	grpc_reader_done(&r);
	texts(data, size);
	return 0;
}
