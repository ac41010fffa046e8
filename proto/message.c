/* SPDX-License-Identifier: Apache-2.0 */
/* Empty messages: see message.h. In proto3 all is zero but strings, which are empty. */
#include "message.h"

#include <string.h>

const char message_empty_string[1];

void message_init(const ProtobufCMessageDescriptor *desc, void *m)
{
	memset(m, 0, desc->sizeof_message);
	((ProtobufCMessage *)m)->descriptor = desc;
	for (unsigned i = 0; i < desc->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &desc->fields[i];

		if (f->default_value && f->label != PROTOBUF_C_LABEL_REPEATED)
			*(const void **)((char *)m + f->offset) = f->default_value;
	}
}
