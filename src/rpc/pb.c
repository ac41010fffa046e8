/* SPDX-License-Identifier: Apache-2.0 */
/* protobuf-c over arenas.
 *
 * A message is looked through before it is decoded. The decoder recurses once a nested message: a
 * few bytes of input must not cost a stack frame each without end. And its strings end at a NUL. */
#include <string.h>

#include "base/str.h"
#include "rpc/rpc.h"

#define DEPTH_MAX 32

static void *arena_pb_alloc(void *data, size_t n)
{
	return arena_alloc(data, n);
}

static void arena_pb_free(void *data, void *p)
{
}

ProtobufCAllocator rpc_allocator(struct arena *a)
{
	return (ProtobufCAllocator){
		.alloc = arena_pb_alloc, .free = arena_pb_free, .allocator_data = a};
}

static bool varint_read(const uint8_t **p, const uint8_t *end, uint64_t *ret)
{
	uint64_t v = 0;

	for (int shift = 0; shift < 70 && *p < end; shift += 7) {
		uint8_t b = *(*p)++;
		if (shift < 64)
			v |= (uint64_t)(b & 0x7f) << shift;
		if (!(b & 0x80)) {
			*ret = v;
			return true;
		}
	}
	return false;
}

static bool worth_a_look(const ProtobufCMessageDescriptor *desc)
{
	for (unsigned i = 0; i < desc->n_fields; i++)
		if (desc->fields[i].type == PROTOBUF_C_TYPE_MESSAGE ||
		    desc->fields[i].type == PROTOBUF_C_TYPE_STRING)
			return true;
	return false;
}

/* Length of the character at @p, 0 = not UTF-8, or NUL. */
static size_t char_length(const uint8_t *p, size_t left)
{
	static const uint32_t least[] = {0, 1, 0x80, 0x800, 0x10000};
	size_t n = *p < 0x80	? 1
		   : *p >= 0xf8 ? 0
		   : *p >= 0xf0 ? 4
		   : *p >= 0xe0 ? 3
		   : *p >= 0xc0 ? 2
				: 0;
	uint32_t c = n > 1 ? *p & (0x7fu >> n) : *p;

	if (n == 0 || n > left)
		return 0;
	for (size_t i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3f);
	}
	return c >= least[n] && c <= 0x10ffff && (c < 0xd800 || c > 0xdfff) ? n : 0;
}

/* A text with a NUL would be cut there, so that two names look the same; one that is not UTF-8
 * could not be sent to other clients. */
static bool text_ok(const uint8_t *p, size_t n)
{
	while (n > 0) {
		uint64_t w;
		size_t step;

		if (n >= sizeof(w)) {
			memcpy(&w, p, sizeof(w));
			/* Eight of 0x01 to 0x7f. */
			if (!((w | (w - 0x0101010101010101u)) & 0x8080808080808080u)) {
				p += sizeof(w);
				n -= sizeof(w);
				continue;
			}
		}
		step = char_length(p, n);
		if (step == 0)
			return false;
		p += step;
		n -= step;
	}
	return true;
}

/* NULL, or what is wrong: a nested message deeper than @depth, a text that is none. What is
 * malformed is left to the decoder, which stops there too. */
static const char *flaw(const ProtobufCMessageDescriptor *desc, const uint8_t *p,
			const uint8_t *end, int depth)
{
	uint64_t tag, n;

	if (!worth_a_look(desc))
		return NULL;
	if (depth == 0)
		return "nested too deeply";
	while (p < end && varint_read(&p, end, &tag)) {
		const ProtobufCFieldDescriptor *f;
		const char *text = NULL;

		switch (tag & 7) {
		case 0:
			if (!varint_read(&p, end, &n))
				return NULL;
			continue;
		case 1:
			n = 8;
			break;
		case 5:
			n = 4;
			break;
		case 2:
			if (!varint_read(&p, end, &n))
				return NULL;
			break;
		default:
			return NULL;
		}
		if (n > (uint64_t)(end - p))
			return NULL;
		f = (tag & 7) == 2
			    ? protobuf_c_message_descriptor_get_field(desc, (unsigned)(tag >> 3))
			    : NULL;
		if (f && f->type == PROTOBUF_C_TYPE_MESSAGE)
			text = flaw(f->descriptor, p, p + n, depth - 1);
		else if (f && f->type == PROTOBUF_C_TYPE_STRING && !text_ok(p, n))
			text = "a string holds NUL or invalid UTF-8";
		if (text)
			return text;
		p += n;
	}
	return NULL;
}

int rpc_unpack(struct arena *a, const ProtobufCMessageDescriptor *desc, const void *p, size_t n,
	       void *ret, struct err *err)
{
	ProtobufCAllocator alloc = rpc_allocator(a);
	ProtobufCMessage *m;
	const uint8_t *b = p ? p : (const uint8_t *)"";
	const char *text = flaw(desc, b, b + n, DEPTH_MAX);

	if (text)
		return err_set(err, ERR_INVALID_ARGUMENT, "decode %s: %s", desc->name, text);
	m = protobuf_c_message_unpack(desc, &alloc, n, b);
	if (!m)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "decode %s: malformed or too large message", desc->name);
	*(ProtobufCMessage **)ret = m;
	return 0;
}

uint8_t *rpc_pack(struct arena *a, const ProtobufCMessage *msg, size_t *ret_n)
{
	size_t n = protobuf_c_message_get_packed_size(msg);
	uint8_t *p = arena_alloc(a, n ? n : 1);

	if (!p)
		return NULL;
	*ret_n = protobuf_c_message_pack(msg, p);
	return p;
}

const struct rpc_method *rpc_service_method(const struct rpc_service *s, const char *name,
					    const ProtobufCMessageDescriptor **ret_in,
					    const ProtobufCMessageDescriptor **ret_out)
{
	const ProtobufCMethodDescriptor *d =
		protobuf_c_service_descriptor_get_method_by_name(s->desc, name);

	if (!d)
		return NULL;
	for (size_t i = 0; i < s->n_methods; i++) {
		if (!streq(s->methods[i].name, name))
			continue;
		if (ret_in)
			*ret_in = d->input;
		if (ret_out)
			*ret_out = d->output;
		return &s->methods[i];
	}
	return NULL;
}
