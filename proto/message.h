/* SPDX-License-Identifier: Apache-2.0 */
/* What the generated messages need besides protobuf-c: generate.sh leaves out what can be told from
 * their fields, see lean.awk. */
#pragma once

#include <protobuf-c/protobuf-c.h>

/* The default of a string. That of the library is in another file, and a pointer to it costs a
 * relocation with a name each. */
extern const char message_empty_string[1];
#define protobuf_c_empty_string message_empty_string

/* As if @m, of sizeof_message bytes, were assigned the ..._INIT of its type. Takes the place of
 * protobuf_c_message_init(). */
void message_init(const ProtobufCMessageDescriptor *desc, void *m);
