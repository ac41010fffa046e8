/* SPDX-License-Identifier: Apache-2.0 */
/* SPDY frames, in pieces whose sizes the first byte decides. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "worker/spdy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int on_open(void *arg, uint32_t id, const struct spdy_header *h, size_t n, bool fin)
{
	size_t *total = arg;

	for (size_t i = 0; i < n; i++)
		*total += strlen(h[i].name) + strlen(h[i].value);
	if (n > SPDY_HEADERS_MAX || id > INT32_MAX || *total > (64u << 20))
		abort();
	return 0;
}

static int on_data(void *arg, uint32_t id, const void *p, size_t n, bool fin)
{
	size_t *total = arg;
	const uint8_t *b = p;

	/* Every byte is there. */
	for (size_t i = 0; i < n; i++)
		*total += b[i] & 1;
	return id > INT32_MAX ? abort(), 0 : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct spdy_events events = {.open = on_open, .data = on_data};
	size_t total = 0, step;
	struct spdy *s;
	int r = 0;

	if (size == 0)
		return 0;
	s = spdy_new(&events, &total);
	if (!s)
		return 0;
	step = data[0] ? data[0] : 4096;
	for (size_t i = 1; r == 0 && i < size; i += step)
		r = spdy_feed(s, data + i, size - i < step ? size - i : step);
	spdy_free(s);
	return 0;
}
