/* SPDX-License-Identifier: Apache-2.0 */
/* SPDY/3.1: see spdy.h.
 *
 *   control:  1 | version:15 | type:16 | flags:8 | length:24 | payload
 *   data:     0 | stream:31            | flags:8 | length:24 | payload
 *   headers:  count:32, then name and value, each length:32 and bytes; a value's NUL bytes part
 *             repeated ones. Compressed. */
#include "worker/spdy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/cleanup.h"

#define VERSION 3
#define HEAD 8
#define FLAG_FIN 1
#define SETTING_INITIAL_WINDOW 7

enum type {
	SYN_STREAM = 1,
	SYN_REPLY = 2,
	RST_STREAM = 3,
	SETTINGS = 4,
	PING = 6,
	GOAWAY = 7,
	HEADERS = 8,
	WINDOW_UPDATE = 9,
};

struct spdy {
	const struct spdy_events *events;
	void *arg;
	z_stream in, out; /* of header blocks */
	uint8_t head[HEAD];
	size_t n_head;
	uint32_t left;	    /* of the payload */
	struct buf payload; /* of a control frame */
	char *block;	    /* inflated, SPDY_BLOCK_MAX + 1 bytes */
};

/* ---- the dictionary: words with their lengths, then texts without ---- */

static const char *const words[] = {
	"options",
	"head",
	"post",
	"put",
	"delete",
	"trace",
	"accept",
	"accept-charset",
	"accept-encoding",
	"accept-language",
	"accept-ranges",
	"age",
	"allow",
	"authorization",
	"cache-control",
	"connection",
	"content-base",
	"content-encoding",
	"content-language",
	"content-length",
	"content-location",
	"content-md5",
	"content-range",
	"content-type",
	"date",
	"etag",
	"expect",
	"expires",
	"from",
	"host",
	"if-match",
	"if-modified-since",
	"if-none-match",
	"if-range",
	"if-unmodified-since",
	"last-modified",
	"location",
	"max-forwards",
	"pragma",
	"proxy-authenticate",
	"proxy-authorization",
	"range",
	"referer",
	"retry-after",
	"server",
	"te",
	"trailer",
	"transfer-encoding",
	"upgrade",
	"user-agent",
	"vary",
	"via",
	"warning",
	"www-authenticate",
	"method",
	"get",
	"status",
	"200 OK",
	"version",
	"HTTP/1.1",
	"url",
	"public",
	"set-cookie",
	"keep-alive",
	"origin",
};
static const char texts[] =
	"100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
	"203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request"
	"401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented"
	"503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, "
	"Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,"
	"application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age="
	"gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

static void add32(struct buf *b, uint32_t v)
{
	uint8_t p[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};

	(void)buf_add(b, p, sizeof(p));
}

static uint32_t get32(const void *p)
{
	const uint8_t *b = p;

	return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

/* Either of both directions may be the first to need it. */
static int use_dictionary(z_stream *z, int (*fn)(z_stream *z, const Bytef *p, uInt n))
{
	_cleanup_buf_ struct buf b = BUF_INIT;

	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		add32(&b, (uint32_t)strlen(words[i]));
		(void)buf_adds(&b, words[i]);
	}
	(void)buf_adds(&b, texts);
	if (!buf_ok(&b))
		return -ENOMEM;
	return fn(z, (const Bytef *)b.data, (uInt)b.len) == Z_OK ? 0 : -EPROTO;
}

/* ---- life ---- */

struct spdy *spdy_new(const struct spdy_events *events, void *arg)
{
	struct spdy *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->events = events;
	s->arg = arg;
	s->block = malloc(SPDY_BLOCK_MAX + 1);
	/* What we say is short: small tables, of which the dictionary fits into the window. */
	if (!s->block || inflateInit(&s->in) != Z_OK ||
	    deflateInit2(&s->out, Z_BEST_SPEED, Z_DEFLATED, 11, 1, Z_DEFAULT_STRATEGY) != Z_OK ||
	    use_dictionary(&s->out, deflateSetDictionary) < 0) {
		spdy_free(s);
		return NULL;
	}
	return s;
}

void spdy_free(struct spdy *s)
{
	if (!s)
		return;
	(void)inflateEnd(&s->in);
	(void)deflateEnd(&s->out);
	buf_done(&s->payload);
	free(s->block);
	free(s);
}

/* ---- header blocks ---- */

static int inflate_block(struct spdy *s, const void *p, size_t n, size_t *ret_n)
{
	z_stream *z = &s->in;
	int r;

	z->next_in = (Bytef *)p;
	z->avail_in = (uInt)n;
	z->next_out = (Bytef *)s->block;
	z->avail_out = SPDY_BLOCK_MAX + 1;
	for (;;) {
		r = inflate(z, Z_SYNC_FLUSH);
		if (r == Z_NEED_DICT) {
			r = use_dictionary(z, inflateSetDictionary);
			if (r < 0)
				return r;
			continue;
		}
		if (r == Z_MEM_ERROR)
			return -ENOMEM;
		if ((r != Z_OK && r != Z_BUF_ERROR) || z->avail_out == 0)
			return -EPROTO;
		if (z->avail_in == 0 || r == Z_BUF_ERROR)
			break;
	}
	*ret_n = SPDY_BLOCK_MAX + 1 - z->avail_out;
	return z->avail_in == 0 ? 0 : -EPROTO;
}

/* A string with its length before it, which gets its NUL in the place of what follows: that has
 * been read by then. NULL = there is none. */
static char *take_string(char **p, char *end, size_t *ret_n)
{
	size_t n;
	char *s;

	if (end - *p < 4)
		return NULL;
	n = get32(*p);
	if (n > (size_t)(end - *p - 4))
		return NULL;
	s = *p;
	memmove(s, *p + 4, n);
	s[n] = '\0';
	*p += 4 + n;
	*ret_n = n;
	return s;
}

static int parse_headers(struct spdy *s, size_t n, struct spdy_header *h, size_t *ret_n)
{
	char *p = s->block, *end = p + n;
	uint32_t count;

	if (n < 4)
		return -EPROTO;
	count = get32(p);
	p += 4;
	if (count > SPDY_HEADERS_MAX)
		return -EPROTO;
	for (uint32_t i = 0; i < count; i++) {
		size_t n_name, n_value;

		h[i].name = take_string(&p, end, &n_name);
		h[i].value = h[i].name ? take_string(&p, end, &n_value) : NULL;
		if (!h[i].value || n_name == 0 || strlen(h[i].name) != n_name)
			return -EPROTO;
	}
	*ret_n = count;
	return p == end ? 0 : -EPROTO;
}

/* ---- frames that come ---- */

#define EVENT(s, fn, ...) ((s)->events->fn ? (s)->events->fn((s)->arg, __VA_ARGS__) : 0)

static int on_headers(struct spdy *s, const uint8_t *p, size_t n, size_t skip, bool fin)
{
	struct spdy_header h[SPDY_HEADERS_MAX];
	size_t n_block = 0, n_headers = 0;
	uint32_t id;
	int r;

	if (n < skip)
		return -EPROTO;
	id = get32(p) & 0x7fffffff;
	r = inflate_block(s, p + skip, n - skip, &n_block);
	if (r == 0)
		r = parse_headers(s, n_block, h, &n_headers);
	/* We ask for nothing, so only new streams matter. */
	if (r < 0 || skip != 10)
		return r;
	return EVENT(s, open, id, h, n_headers, fin);
}

static int on_settings(struct spdy *s, const uint8_t *p, size_t n)
{
	uint32_t count = n >= 4 ? get32(p) : 0;
	int r = 0;

	if (n < 4 || count > (n - 4) / 8)
		return -EPROTO;
	for (uint32_t i = 0; r == 0 && i < count; i++) {
		const uint8_t *e = p + 4 + 8 * (size_t)i;
		uint32_t v = get32(e + 4);

		if ((get32(e) & 0xffffff) == SETTING_INITIAL_WINDOW)
			r = v > INT32_MAX ? -EPROTO : EVENT(s, initial_window, v);
	}
	return r;
}

static int on_control(struct spdy *s)
{
	const uint8_t *p = (const uint8_t *)s->payload.data;
	uint32_t word = get32(s->head);
	size_t n = s->payload.len;
	bool fin = s->head[4] & FLAG_FIN;

	if ((word >> 16 & 0x7fff) != VERSION || !buf_ok(&s->payload))
		return buf_ok(&s->payload) ? -EPROTO : -ENOMEM;
	switch (word & 0xffff) {
	case SYN_STREAM:
		return on_headers(s, p, n, 10, fin);
	case SYN_REPLY:
	case HEADERS:
		return on_headers(s, p, n, 4, fin);
	case RST_STREAM:
		return n == 8 ? EVENT(s, reset, get32(p) & 0x7fffffff) : -EPROTO;
	case SETTINGS:
		return on_settings(s, p, n);
	case PING:
		return n == 4 ? EVENT(s, ping, get32(p)) : -EPROTO;
	case GOAWAY:
		if (n != 8)
			return -EPROTO;
		return s->events->goaway ? s->events->goaway(s->arg) : 0;
	case WINDOW_UPDATE:
		return n == 8 ? EVENT(s, window, get32(p) & 0x7fffffff, get32(p + 4) & 0x7fffffff)
			      : -EPROTO;
	default:
		return 0; /* unknown ones are to be ignored */
	}
}

/* The first @n bytes of what is left of the payload. */
static int on_payload(struct spdy *s, const uint8_t *p, size_t n)
{
	bool control = s->head[0] & 0x80, last;
	int r = 0;

	s->left -= (uint32_t)n;
	last = s->left == 0;
	if (!control)
		r = EVENT(s, data, get32(s->head), p, n, last && (s->head[4] & FLAG_FIN));
	else if (buf_add(&s->payload, p, n) < 0)
		r = -ENOMEM;
	if (last) {
		if (control && r == 0)
			r = on_control(s);
		buf_clear(&s->payload);
		s->n_head = 0;
	}
	return r;
}

int spdy_feed(struct spdy *s, const void *data, size_t n)
{
	const uint8_t *p = data;
	int r = 0;

	while (r == 0 && n > 0) {
		size_t k;

		if (s->n_head < HEAD) {
			k = n < HEAD - s->n_head ? n : HEAD - s->n_head;
			memcpy(s->head + s->n_head, p, k);
			s->n_head += k;
			p += k;
			n -= k;
			if (s->n_head < HEAD)
				return 0;
			s->left = get32(s->head + 4) & 0xffffff;
			if ((s->head[0] & 0x80) && s->left > SPDY_CONTROL_MAX)
				return -EPROTO;
			if (s->left == 0)
				r = on_payload(s, (const uint8_t *)"", 0);
			continue;
		}
		k = n < s->left ? n : s->left;
		r = on_payload(s, p, k);
		p += k;
		n -= k;
	}
	return r;
}

/* ---- frames that go ---- */

static void control(struct buf *out, enum type type, size_t n)
{
	add32(out, 0x80000000u | VERSION << 16 | type);
	add32(out, (uint32_t)n);
}

void spdy_reply(struct spdy *s, struct buf *out, uint32_t id)
{
	static const uint8_t none[4];
	uint8_t block[128];
	z_stream *z = &s->out;

	z->next_in = (Bytef *)none;
	z->avail_in = sizeof(none);
	z->next_out = block;
	z->avail_out = sizeof(block);
	if (deflate(z, Z_SYNC_FLUSH) != Z_OK || z->avail_out == 0) {
		out->failed = true;
		return;
	}
	control(out, SYN_REPLY, 4 + sizeof(block) - z->avail_out);
	add32(out, id);
	(void)buf_add(out, block, sizeof(block) - z->avail_out);
}

void spdy_data(struct buf *out, uint32_t id, const void *p, size_t n, bool fin)
{
	add32(out, id);
	add32(out, (uint32_t)n | (fin ? (uint32_t)FLAG_FIN << 24 : 0));
	if (n > 0)
		(void)buf_add(out, p, n);
}

void spdy_reset(struct buf *out, uint32_t id, enum spdy_status status)
{
	control(out, RST_STREAM, 8);
	add32(out, id);
	add32(out, status);
}

void spdy_ping(struct buf *out, uint32_t id)
{
	control(out, PING, 4);
	add32(out, id);
}

void spdy_goaway(struct buf *out, uint32_t last_id, uint32_t status)
{
	control(out, GOAWAY, 8);
	add32(out, last_id);
	add32(out, status);
}

void spdy_window(struct buf *out, uint32_t id, uint32_t delta)
{
	control(out, WINDOW_UPDATE, 8);
	add32(out, id);
	add32(out, delta);
}
