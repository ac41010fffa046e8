/* SPDX-License-Identifier: Apache-2.0 */
/* Messages as JSON, the way Go's encoding/json writes and reads generated messages: members by
 * their proto names, zero values left out, enums and 64-bit integers as numbers, bytes in base64,
 * maps as objects. Works on any message, by its descriptor. */
#pragma once

#include <jansson.h>
#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>

#include "base/arena.h"
#include "base/err.h"

/* NULL = no memory, or a string that is no UTF-8. The caller decrefs. */
json_t *pb_json(const ProtobufCMessage *m);

/* The other way: *@ret a message of type @desc in the arena. Members that the message does not have
 * are ignored, null counts as absent.
 *
 * -ERR_INVALID_ARGUMENT  names the member that has the wrong type, is out of range or too deep */
int json_pb(struct arena *a, const json_t *j, const ProtobufCMessageDescriptor *desc,
	    void *ret /* T ** */, struct err *err) _must_check_;

/* Bytes of one value of a field; whether a field is a map<string, T>. */
size_t pb_value_size(const ProtobufCFieldDescriptor *f);
bool pb_is_map(const ProtobufCFieldDescriptor *f);
