/* SPDX-License-Identifier: Apache-2.0 */
/* WebSocket frames, in pieces whose sizes the first byte decides; and base64. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "worker/websocket.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int on_message(void *arg, const void *p, size_t n, bool last)
{
	struct base64 *d = arg;
	uint8_t out[4096 + 2];
	size_t k = 0;

	if (n > 4096 || (base64_decode(d, p, n, out, &k) == 0 && k > n + 2))
		abort();
	if (last)
		(void)base64_end(d);
	return 0;
}

static int on_control(void *arg, enum websocket_opcode opcode, const void *p, size_t n)
{
	if (n > WEBSOCKET_CONTROL_MAX || opcode < WEBSOCKET_CLOSE || opcode > WEBSOCKET_PONG)
		abort();
	return 0;
}

static void round_trip(const uint8_t *data, size_t size)
{
	struct buf b = BUF_INIT;
	struct base64 d = {0};
	uint8_t *out;
	size_t n = 0;

	base64_encode(&b, data, size);
	out = malloc(b.len + 2);
	if (base64_decode(&d, b.data, b.len, out, &n) < 0 || n != size ||
	    memcmp(out, data, size) != 0 || !base64_end(&d))
		abort();
	free(out);
	buf_done(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct websocket_events events = {on_message, on_control};
	struct base64 d = {0};
	struct websocket w = {.events = &events, .arg = &d};
	size_t step;
	int r = 0;

	if (size == 0)
		return 0;
	step = data[0] ? data[0] : 8192;
	for (size_t i = 1; r == 0 && i < size; i += step)
		r = websocket_feed(&w, data + i, size - i < step ? size - i : step);
	round_trip(data, size);
	return 0;
}
