/* SPDX-License-Identifier: Apache-2.0 */
/* See ttrpc_frame.h. */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "rpc/ttrpc_frame.h"

void ttrpc_reader_done(struct ttrpc_reader *r)
{
	rpc_msg_free(r->msg);
	r->msg = NULL;
}

static size_t take(uint8_t *to, size_t room, const uint8_t **p, size_t *n)
{
	size_t k = MIN(room, *n);

	if (to && k)
		memcpy(to, *p, k);
	*p += k;
	*n -= k;
	return k;
}

static int head_parse(struct ttrpc_reader *r)
{
	uint32_t v;

	memcpy(&v, r->head, 4);
	r->h.len = be32toh(v);
	memcpy(&v, r->head + 4, 4);
	r->h.id = be32toh(v);
	r->h.type = r->head[8];
	r->h.flags = r->head[9];
	r->got = 0;
	if (r->h.len > TTRPC_MAX)
		return 0;
	r->msg = rpc_msg_new(r->h.len);
	return r->msg ? 0 : -ENOMEM;
}

int ttrpc_reader_feed(struct ttrpc_reader *r, const uint8_t **p, size_t *n,
		      struct ttrpc_header *ret_h, struct rpc_msg **ret_msg)
{
	if (r->n_head < TTRPC_HEADER) {
		r->n_head += take(r->head + r->n_head, TTRPC_HEADER - r->n_head, p, n);
		if (r->n_head < TTRPC_HEADER)
			return 0;
		if (head_parse(r) < 0) {
			r->n_head = 0;
			return -ENOMEM;
		}
	}
	r->got += take(r->msg ? r->msg->p + r->got : NULL, r->h.len - r->got, p, n);
	if (r->got < r->h.len)
		return 0;
	*ret_h = r->h;
	*ret_msg = TAKE_PTR(r->msg);
	r->n_head = 0;
	return 1;
}

void ttrpc_frame_wrap(struct rpc_msg *m, uint32_t id, uint8_t type, uint8_t flags)
{
	uint32_t len = htobe32((uint32_t)m->n), be_id = htobe32(id);

	m->p -= TTRPC_HEADER;
	m->n += TTRPC_HEADER;
	memcpy(m->p, &len, 4);
	memcpy(m->p + 4, &be_id, 4);
	m->p[8] = type;
	m->p[9] = flags;
}

void ttrpc_response_wrap(struct rpc_msg *m)
{
	uint8_t head[8];
	size_t n = 0;
	size_t v = m->n;

	if (!m->n)
		return;
	head[n++] = 2 << 3 | 2; /* payload, length-delimited */
	for (; v >= 0x80; v >>= 7)
		head[n++] = (uint8_t)(v | 0x80);
	head[n++] = (uint8_t)v;
	m->p -= n;
	m->n += n;
	memcpy(m->p, head, n);
}
