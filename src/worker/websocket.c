/* SPDX-License-Identifier: Apache-2.0 */
/* WebSocket frames: see websocket.h.
 *
 *   fin:1 | 0:3 | opcode:4 | mask:1 | length:7 (126: 16 bits follow, 127: 64) | mask:32 | payload
 */
#include "worker/websocket.h"

#include <errno.h>
#include <string.h>

#define FIN 0x80
#define MASK 0x80

/* How long the head is, by its first two bytes. */
static size_t head_size(const uint8_t *h)
{
	unsigned n = h[1] & 0x7f;

	return 2 + (n == 126 ? 2 : n == 127 ? 8 : 0) + 4;
}

static bool is_control(const struct websocket *w)
{
	return w->head[0] & 8;
}

/* The head is complete. */
static int on_head(struct websocket *w)
{
	unsigned opcode = w->head[0] & 15, n = w->head[1] & 0x7f;
	size_t bytes = n == 126 ? 2 : n == 127 ? 8 : 0;

	w->left = bytes ? 0 : n;
	for (size_t i = 0; i < bytes; i++)
		w->left = w->left << 8 | w->head[2 + i];
	if (w->left > INT64_MAX || (w->head[0] & 0x70))
		return -EPROTO;
	if (is_control(w)) {
		if (opcode > WEBSOCKET_PONG || !(w->head[0] & FIN) || n > WEBSOCKET_CONTROL_MAX)
			return -EPROTO;
	} else if (opcode > WEBSOCKET_BINARY ||
		   (opcode == WEBSOCKET_CONTINUATION) != w->in_message) {
		return -EPROTO;
	} else {
		w->in_message = !(w->head[0] & FIN);
	}
	w->in_payload = true;
	w->mask_at = 0;
	w->n_payload = 0;
	return 0;
}

/* The first @n bytes of what is left of the payload; at most 4 KiB. */
static int on_payload(struct websocket *w, const uint8_t *p, size_t n)
{
	const uint8_t *mask = w->head + w->n_head - 4;
	uint8_t b[4096];
	bool last;
	int r = 0;

	for (size_t i = 0; i < n; i++)
		b[i] = p[i] ^ mask[w->mask_at++ & 3];
	w->left -= n;
	last = w->left == 0;
	if (!is_control(w)) {
		r = w->events->message(w->arg, b, n, last && (w->head[0] & FIN));
	} else {
		memcpy(w->payload + w->n_payload, b, n);
		w->n_payload += n;
		if (last)
			r = w->events->control(w->arg, w->head[0] & 15, w->payload, w->n_payload);
	}
	if (last) {
		w->in_payload = false;
		w->n_head = 0;
	}
	return r;
}

int websocket_feed(struct websocket *w, const void *data, size_t n)
{
	const uint8_t *p = data;
	int r = 0;

	while (r == 0 && n > 0) {
		if (!w->in_payload) {
			w->head[w->n_head++] = *p++;
			n--;
			/* A client must mask. */
			if (w->n_head == 2 && !(w->head[1] & MASK))
				return -EPROTO;
			if (w->n_head < 2 || w->n_head < head_size(w->head))
				continue;
			r = on_head(w);
			if (r == 0 && w->left == 0)
				r = on_payload(w, p, 0);
			continue;
		}
		size_t k = n < 4096 ? n : 4096;
		k = k < w->left ? k : (size_t)w->left;
		r = on_payload(w, p, k);
		p += k;
		n -= k;
	}
	return r;
}

void websocket_head(struct buf *out, enum websocket_opcode opcode, size_t n)
{
	unsigned bytes = n < 126 ? 0 : n <= UINT16_MAX ? 2 : 8;

	(void)buf_addc(out, (char)(FIN | opcode));
	(void)buf_addc(out, (char)(bytes == 0 ? n : bytes == 2 ? 126 : 127));
	while (bytes-- > 0)
		(void)buf_addc(out, (char)((uint64_t)n >> (8 * bytes)));
}

void websocket_close(struct buf *out, uint16_t code)
{
	websocket_head(out, WEBSOCKET_CLOSE, 2);
	(void)buf_addc(out, (char)(code >> 8));
	(void)buf_addc(out, (char)code);
}

/* ---- base64 ---- */

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static int digit(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

int base64_decode(struct base64 *d, const char *p, size_t n, uint8_t *out, size_t *ret_n)
{
	size_t k = 0;

	for (size_t i = 0; i < n; i++) {
		int v = p[i] == '=' ? 0 : digit(p[i]);

		if (p[i] == '\n' || p[i] == '\r')
			continue;
		/* Padding ends a group, and nothing follows it. */
		if (v < 0 || (p[i] == '=' && d->n < 2) || (p[i] != '=' && d->pad > 0))
			return -EINVAL;
		d->pad += p[i] == '=';
		d->bits = d->bits << 6 | (uint32_t)v;
		if (++d->n < 4)
			continue;
		for (unsigned j = 0; j < 3 - d->pad; j++)
			out[k++] = (uint8_t)(d->bits >> (16 - 8 * j));
		d->bits = 0;
		d->n = 0;
	}
	*ret_n = k;
	return 0;
}

bool base64_end(struct base64 *d)
{
	bool whole = d->n == 0;

	*d = (struct base64){0};
	return whole;
}

void base64_encode(struct buf *out, const void *data, size_t n)
{
	const uint8_t *p = data;

	for (size_t i = 0; i < n; i += 3) {
		uint32_t v = (uint32_t)p[i] << 16 | (i + 1 < n ? (uint32_t)p[i + 1] << 8 : 0) |
			     (i + 2 < n ? p[i + 2] : 0);
		char c[4] = {alphabet[v >> 18], alphabet[v >> 12 & 63],
			     i + 1 < n ? alphabet[v >> 6 & 63] : '=',
			     i + 2 < n ? alphabet[v & 63] : '='};

		(void)buf_add(out, c, sizeof(c));
	}
}
