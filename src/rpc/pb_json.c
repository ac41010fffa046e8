/* SPDX-License-Identifier: Apache-2.0 */
/* Message -> JSON by its descriptor. */
#include <string.h>

#include "base/str.h"
#include "rpc/pb_json.h"

static json_t *base64(const ProtobufCBinaryData *d)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char *text _cleanup_free_ = malloc(d->len / 3 * 4 + 5);
	size_t n = 0;

	if (!text)
		return NULL;
	for (size_t i = 0; i < d->len; i += 3) {
		size_t left = d->len - i;
		uint32_t v = (uint32_t)d->data[i] << 16;

		v |= left > 1 ? (uint32_t)d->data[i + 1] << 8 : 0;
		v |= left > 2 ? d->data[i + 2] : 0;
		text[n++] = digits[v >> 18 & 63];
		text[n++] = digits[v >> 12 & 63];
		text[n++] = left > 1 ? digits[v >> 6 & 63] : '=';
		text[n++] = left > 2 ? digits[v & 63] : '=';
	}
	return json_stringn(text, n);
}

/* uint64 beyond int64 has no place in jansson's integers. */
static json_t *unsigned_json(uint64_t v)
{
	return v <= INT64_MAX ? json_integer((json_int_t)v) : json_real((double)v);
}

/* One value at @p; *@ret_zero tells whether Go would leave it out. */
static json_t *value_json(const ProtobufCFieldDescriptor *f, const void *p, bool *ret_zero)
{
	*ret_zero = false;
	switch (f->type) {
	case PROTOBUF_C_TYPE_INT32:
	case PROTOBUF_C_TYPE_SINT32:
	case PROTOBUF_C_TYPE_SFIXED32:
	case PROTOBUF_C_TYPE_ENUM:
		*ret_zero = *(const int32_t *)p == 0;
		return json_integer(*(const int32_t *)p);
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_FIXED32:
		*ret_zero = *(const uint32_t *)p == 0;
		return json_integer(*(const uint32_t *)p);
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_SFIXED64:
		*ret_zero = *(const int64_t *)p == 0;
		return json_integer(*(const int64_t *)p);
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
		*ret_zero = *(const uint64_t *)p == 0;
		return unsigned_json(*(const uint64_t *)p);
	case PROTOBUF_C_TYPE_FLOAT:
		*ret_zero = *(const float *)p == 0;
		return json_real(*(const float *)p);
	case PROTOBUF_C_TYPE_DOUBLE:
		*ret_zero = *(const double *)p == 0;
		return json_real(*(const double *)p);
	case PROTOBUF_C_TYPE_BOOL:
		*ret_zero = !*(const protobuf_c_boolean *)p;
		return json_boolean(*(const protobuf_c_boolean *)p);
	case PROTOBUF_C_TYPE_STRING:
		*ret_zero = str_empty(*(char *const *)p);
		return json_string(*(char *const *)p ? *(char *const *)p : "");
	case PROTOBUF_C_TYPE_BYTES:
		*ret_zero = ((const ProtobufCBinaryData *)p)->len == 0;
		return base64(p);
	case PROTOBUF_C_TYPE_MESSAGE:
		*ret_zero = !*(ProtobufCMessage *const *)p;
		return *ret_zero ? json_null() : pb_json(*(ProtobufCMessage *const *)p);
	}
	return NULL;
}

size_t pb_value_size(const ProtobufCFieldDescriptor *f)
{
	switch (f->type) {
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_SFIXED64:
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
	case PROTOBUF_C_TYPE_DOUBLE:
		return 8;
	case PROTOBUF_C_TYPE_BOOL:
		return sizeof(protobuf_c_boolean);
	case PROTOBUF_C_TYPE_STRING:
	case PROTOBUF_C_TYPE_MESSAGE:
		return sizeof(void *);
	case PROTOBUF_C_TYPE_BYTES:
		return sizeof(ProtobufCBinaryData);
	default:
		return 4;
	}
}

bool pb_is_map(const ProtobufCFieldDescriptor *f)
{
	const ProtobufCMessageDescriptor *d = f->descriptor;

	return f->type == PROTOBUF_C_TYPE_MESSAGE && str_has_suffix(d->name, "Entry") &&
	       d->n_fields == 2 && streq(d->fields[0].name, "key") &&
	       d->fields[0].type == PROTOBUF_C_TYPE_STRING && streq(d->fields[1].name, "value");
}

/* Adds the map entry @m; takes nothing over. */
static int map_add(json_t *o, const ProtobufCMessage *m)
{
	const ProtobufCFieldDescriptor *f = m->descriptor->fields;
	const char *key = *(char *const *)((const char *)m + f[0].offset);
	bool zero;

	return json_object_set_new(o, key ? key : "",
				   value_json(&f[1], (const char *)m + f[1].offset, &zero));
}

static json_t *repeated_json(const ProtobufCFieldDescriptor *f, const void *array, size_t n)
{
	bool map = pb_is_map(f), zero;
	json_t *j = map ? json_object() : json_array();
	const char *p = array;
	int r = j ? 0 : -1;

	for (size_t i = 0; r == 0 && i < n; i++, p += pb_value_size(f))
		r = map ? map_add(j, *(ProtobufCMessage *const *)p)
			: json_array_append_new(j, value_json(f, p, &zero));
	if (r == 0)
		return j;
	json_decref(j);
	return NULL;
}

json_t *pb_json(const ProtobufCMessage *m)
{
	json_t *o = json_object();

	for (unsigned i = 0; o && i < m->descriptor->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
		const char *p = (const char *)m + f->offset;
		bool skip;
		json_t *v;

		/* Member of a oneof that is not the one set. */
		if ((f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) &&
		    *(const uint32_t *)((const char *)m + f->quantifier_offset) != f->id)
			continue;
		if (f->label == PROTOBUF_C_LABEL_REPEATED) {
			size_t n = *(const size_t *)((const char *)m + f->quantifier_offset);

			v = repeated_json(f, n ? *(void *const *)p : NULL, n);
			skip = n == 0;
		} else
			v = value_json(f, p, &skip);
		if (skip)
			json_decref(v);
		else if (json_object_set_new(o, f->name, v) < 0) {
			json_decref(o);
			return NULL;
		}
	}
	return o;
}
