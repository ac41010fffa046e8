/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: any bytes are frames or an error; taken at once or byte by byte they are the same,
 * and no piece lies outside of what was given. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "nri/mux.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int take(const uint8_t *data, size_t size, size_t step, struct buf *out)
{
	struct nri_demux d = {0};
	int r = 0;

	for (size_t at = 0; at < size && r == 0; at += step) {
		const uint8_t *p = data + at, *end = data + MIN(size, at + step), *part;
		size_t n = (size_t)(end - p), len;
		uint32_t id;

		while ((r = nri_demux_feed(&d, &p, &n, &id, &part, &len)) > 0) {
			if (part < data + at || part + len > end || len == 0)
				abort();
			for (size_t i = 0; i < len; i++) {
				buf_add(out, &id, sizeof(id));
				buf_add(out, part + i, 1);
			}
		}
	}
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf whole _cleanup_buf_ = BUF_INIT, bytes _cleanup_buf_ = BUF_INIT;

	if (size > 65536)
		return 0;
	int a = take(data, size, size ? size : 1, &whole), b = take(data, size, 1, &bytes);
	if (a != b || whole.len != bytes.len ||
	    (whole.len && memcmp(whole.data, bytes.data, whole.len) != 0))
		abort();
	return 0;
}
