/* SPDX-License-Identifier: Apache-2.0 */
/* See grpc_frame.h. */
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/time.h"
#include "rpc/grpc_frame.h"

void grpc_reader_done(struct grpc_reader *r)
{
	rpc_msg_free(r->msg);
	r->msg = NULL;
}

static int head_parse(struct grpc_reader *r, struct err *err)
{
	uint32_t n;

	memcpy(&n, r->head + 1, 4);
	n = be32toh(n);
	if (r->head[0] == 1)
		return err_set_raw(err, ERR_INTERNAL,
				   "grpc: compressed message without an encoding");
	if (r->head[0] != 0)
		return err_set_raw(err, ERR_INTERNAL, "grpc: bad flag %u before a message",
				   r->head[0]);
	if (n > r->max)
		return err_set_raw(err, ERR_RESOURCE_EXHAUSTED,
				   "grpc: received message larger than max (%u vs. %zu)", n,
				   r->max);
	r->got = 0;
	r->msg = rpc_msg_new(n);
	return r->msg ? 0 : err_nomem(err);
}

int grpc_reader_feed(struct grpc_reader *r, const uint8_t **p, size_t *n, struct rpc_msg **ret,
		     struct err *err)
{
	size_t k;
	int rc;

	if (!r->msg) {
		k = MIN(GRPC_PREFIX - r->n_head, *n);
		if (k)
			memcpy(r->head + r->n_head, *p, k);
		r->n_head += k;
		*p += k;
		*n -= k;
		if (r->n_head < GRPC_PREFIX)
			return 0;
		rc = head_parse(r, err);
		if (rc < 0)
			return rc;
	}
	k = MIN(r->msg->n - r->got, *n);
	if (k)
		memcpy(r->msg->p + r->got, *p, k);
	r->got += k;
	*p += k;
	*n -= k;
	if (r->got < r->msg->n)
		return 0;
	*ret = TAKE_PTR(r->msg);
	r->n_head = r->got = 0;
	return 1;
}

void grpc_frame_wrap(struct rpc_msg *m)
{
	uint32_t n = htobe32((uint32_t)m->n);

	m->p -= GRPC_PREFIX;
	m->n += GRPC_PREFIX;
	m->p[0] = 0;
	memcpy(m->p + 1, &n, 4);
	m->framed = true;
}

/* ---- Timeouts ---- */

static const struct {
	char unit;
	int64_t ns;
} units[] = {
	{'n', 1},
	{'u', 1000},
	{'m', NSEC_PER_MSEC},
	{'S', NSEC_PER_SEC},
	{'M', 60 * NSEC_PER_SEC},
	{'H', 3600 * NSEC_PER_SEC},
};

int grpc_timeout_parse(const char *s, int64_t *ret_ns)
{
	int64_t v = 0;
	size_t n = 0;

	for (; s[n] >= '0' && s[n] <= '9'; n++) {
		if (n == 8)
			return -EINVAL;
		v = v * 10 + (s[n] - '0');
	}
	if (n == 0 || !s[n] || s[n + 1])
		return -EINVAL;
	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		if (units[i].unit != s[n])
			continue;
		if (__builtin_mul_overflow(v, units[i].ns, ret_ns))
			*ret_ns = INT64_MAX;
		return 0;
	}
	return -EINVAL;
}

void grpc_timeout_format(int64_t ns, char out[16])
{
	size_t i = 0;

	if (ns < 0)
		ns = 0;
	while (i + 1 < ARRAY_LEN(units) && ns / units[i].ns > 99999999 - 1)
		i++;
	/* Rounded up: the peer must not give up before us. */
	ns = MIN(ns / units[i].ns + (ns % units[i].ns != 0), (int64_t)99999999);
	snprintf(out, 16, "%d%c", (int)ns, units[i].unit);
}

/* ---- Texts ---- */

void grpc_message_encode(struct buf *b, const char *s)
{
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if (c >= 0x20 && c <= 0x7e && c != '%')
			buf_addc(b, (char)c);
		else
			buf_printf(b, "%%%02X", c);
	}
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

void grpc_message_decode(char *s)
{
	char *to = s;

	for (; *s; s++) {
		int hi = s[0] == '%' ? hex_digit(s[1]) : -1;
		int lo = hi >= 0 ? hex_digit(s[2]) : -1;

		if (lo < 0 || (hi == 0 && lo == 0)) {
			*to++ = *s;
			continue;
		}
		*to++ = (char)(hi << 4 | lo);
		s += 2;
	}
	*to = '\0';
}
