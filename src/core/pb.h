/* SPDX-License-Identifier: Apache-2.0 */
/* Between core's values and protobuf messages: what several services and the plugins behind a gRPC
 * socket need.
 *
 * Everything is made in the arena that is given; NULL or a negative result means that it ran out.
 * The generated entry types of all map<string,string> fields have one layout, so one pair of
 * functions serves them all; the descriptor says which. */
#pragma once

#include "base/arena.h"
#include "base/ctx.h"
#include "base/labels.h"
#include "core/container.h"
#include "oci/descriptor.h"
#include "protos.h"

/* A message of @desc, initialised. */
void *pb_new(struct arena *a, const ProtobufCMessageDescriptor *desc);

/* Strings of messages are never NULL. */
char *pb_str(struct arena *a, const char *s);

int pb_labels_get(struct arena *a, void *entries, size_t n, struct labels *ret,
		  struct err *err) _must_check_;
/* Array of entries for a map field; *@ret_n is its length. */
int pb_labels_put(struct arena *a, const struct labels *l, const ProtobufCMessageDescriptor *entry,
		  void *ret_entries, size_t *ret_n, struct err *err) _must_check_;

struct timespec pb_time_get(const Google__Protobuf__Timestamp *t); /* NULL = zero */
Google__Protobuf__Timestamp *pb_time_put(struct arena *a, struct timespec t);

struct any pb_any_get(const Google__Protobuf__Any *any); /* NULL = absent; nothing is copied */
Google__Protobuf__Any *pb_any_put(struct arena *a, const struct any *any); /* absent gives NULL */

/* NULL gives an empty descriptor. */
int pb_descriptor_get(struct arena *a, const Containerd__Types__Descriptor *d,
		      struct descriptor *ret, struct err *err) _must_check_;
Containerd__Types__Descriptor *pb_descriptor_put(struct arena *a, const struct descriptor *d,
						 struct err *err);

int pb_mounts_get(struct arena *a, Containerd__Types__Mount **v, size_t n, struct mounts *ret,
		  struct err *err) _must_check_;
int pb_mounts_put(struct arena *a, const struct mounts *m, Containerd__Types__Mount ***ret,
		  size_t *ret_n, struct err *err) _must_check_;

/* Paths of a field mask; NULL gives none. */
static inline char **pb_mask(const Google__Protobuf__FieldMask *m, size_t *ret_n)
{
	*ret_n = m ? m->n_paths : 0;
	return m ? m->paths : NULL;
}
