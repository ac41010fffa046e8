/* SPDX-License-Identifier: Apache-2.0 */
/* Optional numbers of resources: where the spec and the messages have them. */
#pragma once

#include "nri/plugin.h"

enum nri_kind { NRI_I64, NRI_U64, NRI_BOOL };

struct nri_resource_field {
	const char *path; /* below linux.resources */
	enum nri_kind kind;
	bool cpu;      /* of LinuxCPU, else of LinuxMemory */
	size_t offset; /* of the pointer to the Optional... */
	int field;     /* NRI_FIELD(...) */
};

extern const struct nri_resource_field nri_resource_fields[];
extern const size_t nri_resource_fields_n;

const ProtobufCMessageDescriptor *nri_kind_descriptor(enum nri_kind k);
