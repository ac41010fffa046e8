/* SPDX-License-Identifier: Apache-2.0 */
/* JSON -> message by its descriptor. */
#include <string.h>

#include "base/str.h"
#include "message.h"
#include "rpc/pb_json.h"

#define DEPTH_MAX 32

static int object(struct arena *a, const json_t *j, const ProtobufCMessageDescriptor *desc,
		  int depth, ProtobufCMessage **ret, struct err *err);

static int wrong(const ProtobufCFieldDescriptor *f, const char *what, struct err *err)
{
	return err_set(err, ERR_INVALID_ARGUMENT, "member \"%s\" is no %s", f->name, what);
}

static int digit(char c)
{
	return c >= 'A' && c <= 'Z'   ? c - 'A'
	       : c >= 'a' && c <= 'z' ? c - 'a' + 26
	       : c >= '0' && c <= '9' ? c - '0' + 52
	       : c == '+'	      ? 62
	       : c == '/'	      ? 63
				      : -1;
}

/* RFC 4648 with padding. */
static int base64(struct arena *a, const char *s, ProtobufCBinaryData *ret)
{
	size_t n = strlen(s), out = 0;
	uint8_t *p = arena_alloc(a, n / 4 * 3 + 1);
	if (!p)
		return -ENOMEM;
	if (n % 4)
		return -EINVAL;
	for (size_t i = 0; i < n; i += 4) {
		bool last = i + 4 == n;
		int d[4], pad = 0;
		for (int k = 0; k < 4; k++) {
			d[k] = digit(s[i + (size_t)k]);
			if (last && s[i + (size_t)k] == '=' && k >= 2) {
				pad++;
				d[k] = 0;
			} else if (d[k] < 0 || pad)
				return -EINVAL;
		}
		uint32_t v = (uint32_t)d[0] << 18 | (uint32_t)d[1] << 12 | (uint32_t)d[2] << 6 |
			     (uint32_t)d[3];
		p[out++] = (uint8_t)(v >> 16);
		if (pad < 2)
			p[out++] = (uint8_t)(v >> 8);
		if (pad < 1)
			p[out++] = (uint8_t)v;
	}
	*ret = (ProtobufCBinaryData){.len = out, .data = p};
	return 0;
}

static int integer(const json_t *j, const ProtobufCFieldDescriptor *f, int64_t min, int64_t max,
		   int64_t *ret, struct err *err)
{
	if (!json_is_integer(j))
		return wrong(f, "integer", err);
	if (json_integer_value(j) < min || json_integer_value(j) > max)
		return wrong(f, "integer of its range", err);
	*ret = json_integer_value(j);
	return 0;
}

static int value(struct arena *a, const json_t *j, const ProtobufCFieldDescriptor *f, int depth,
		 void *p, struct err *err)
{
	int64_t v;
	int r;

	switch (f->type) {
	case PROTOBUF_C_TYPE_INT32:
	case PROTOBUF_C_TYPE_SINT32:
	case PROTOBUF_C_TYPE_SFIXED32:
	case PROTOBUF_C_TYPE_ENUM:
		r = integer(j, f, INT32_MIN, INT32_MAX, &v, err);
		if (r == 0)
			*(int32_t *)p = (int32_t)v;
		return r;
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_FIXED32:
		r = integer(j, f, 0, UINT32_MAX, &v, err);
		if (r == 0)
			*(uint32_t *)p = (uint32_t)v;
		return r;
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_SFIXED64:
		return integer(j, f, INT64_MIN, INT64_MAX, p, err);
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
		/* What is beyond int64 was written as a real. */
		if (json_is_real(j) && json_real_value(j) >= 0x1p63 &&
		    json_real_value(j) <= 0x1p64) {
			*(uint64_t *)p = json_real_value(j) >= 0x1p64
						 ? UINT64_MAX
						 : (uint64_t)json_real_value(j);
			return 0;
		}
		r = integer(j, f, 0, INT64_MAX, &v, err);
		if (r == 0)
			*(uint64_t *)p = (uint64_t)v;
		return r;
	case PROTOBUF_C_TYPE_FLOAT:
		if (!json_is_number(j))
			return wrong(f, "number", err);
		*(float *)p = (float)json_number_value(j);
		return 0;
	case PROTOBUF_C_TYPE_DOUBLE:
		if (!json_is_number(j))
			return wrong(f, "number", err);
		*(double *)p = json_number_value(j);
		return 0;
	case PROTOBUF_C_TYPE_BOOL:
		if (!json_is_boolean(j))
			return wrong(f, "boolean", err);
		*(protobuf_c_boolean *)p = json_is_true(j);
		return 0;
	case PROTOBUF_C_TYPE_STRING:
		if (!json_is_string(j))
			return wrong(f, "string", err);
		*(char **)p = arena_strdup(a, json_string_value(j));
		return *(char **)p ? 0 : err_nomem(err);
	case PROTOBUF_C_TYPE_BYTES:
		r = json_is_string(j) ? base64(a, json_string_value(j), p) : -EINVAL;
		return r == -ENOMEM ? err_nomem(err) : r < 0 ? wrong(f, "base64", err) : 0;
	case PROTOBUF_C_TYPE_MESSAGE:
		r = object(a, j, f->descriptor, depth + 1, p, err);
		return r < 0 ? err_prefix(err, "%s", f->name) : 0;
	}
	return err_set(err, ERR_INTERNAL, "field \"%s\" has an unknown type", f->name);
}

static int entry(struct arena *a, const char *key, const json_t *j,
		 const ProtobufCFieldDescriptor *f, int depth, ProtobufCMessage **ret,
		 struct err *err)
{
	const ProtobufCMessageDescriptor *d = f->descriptor;
	ProtobufCMessage *m = arena_zalloc(a, d->sizeof_message);
	char *k = arena_strdup(a, key);

	if (!m || !k)
		return err_nomem(err);
	message_init(d, m);
	*(char **)((char *)m + d->fields[0].offset) = k;
	*ret = m;
	return value(a, j, &d->fields[1], depth, (char *)m + d->fields[1].offset, err);
}

/* An array, or an object for a map. */
static int repeated(struct arena *a, const json_t *j, const ProtobufCFieldDescriptor *f, int depth,
		    char *m, struct err *err)
{
	size_t size = pb_value_size(f), n = 0;
	char *array;
	int r = 0;

	if (pb_is_map(f)) {
		const char *key;
		json_t *v;

		if (!json_is_object(j))
			return wrong(f, "object", err);
		array = arena_calloc(a, json_object_size(j) + 1, size);
		if (!array)
			return err_nomem(err);
		json_object_foreach ((json_t *)j, key, v) {
			r = entry(a, key, v, f, depth, (ProtobufCMessage **)(array + size * n++),
				  err);
			if (r < 0)
				return r;
		}
	} else {
		if (!json_is_array(j))
			return wrong(f, "array", err);
		array = arena_calloc(a, json_array_size(j) + 1, size);
		if (!array)
			return err_nomem(err);
		for (; r == 0 && n < json_array_size(j); n++)
			r = value(a, json_array_get(j, n), f, depth, array + size * n, err);
	}
	if (r == 0) {
		*(void **)(m + f->offset) = n ? array : NULL;
		*(size_t *)(m + f->quantifier_offset) = n;
	}
	return r;
}

static int object(struct arena *a, const json_t *j, const ProtobufCMessageDescriptor *desc,
		  int depth, ProtobufCMessage **ret, struct err *err)
{
	ProtobufCMessage *m;
	int r = 0;

	if (depth > DEPTH_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT, "nested too deeply");
	if (!json_is_object(j))
		return err_set(err, ERR_INVALID_ARGUMENT, "no object");
	m = arena_zalloc(a, desc->sizeof_message);
	if (!m)
		return err_nomem(err);
	message_init(desc, m);
	for (unsigned i = 0; r == 0 && i < desc->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &desc->fields[i];
		const json_t *v = json_object_get(j, f->name);

		if (!v || json_is_null(v))
			continue;
		if (f->label == PROTOBUF_C_LABEL_REPEATED)
			r = repeated(a, v, f, depth, (char *)m, err);
		else
			r = value(a, v, f, depth, (char *)m + f->offset, err);
		if (r == 0 && (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF))
			*(uint32_t *)((char *)m + f->quantifier_offset) = f->id;
	}
	if (r == 0)
		*ret = m;
	return r;
}

int json_pb(struct arena *a, const json_t *j, const ProtobufCMessageDescriptor *desc, void *ret,
	    struct err *err)
{
	return object(a, j, desc, 0, ret, err);
}
