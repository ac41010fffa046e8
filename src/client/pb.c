/* SPDX-License-Identifier: Apache-2.0 */
#include "client/pb.h"

#include <errno.h>

int pb_labels_in(struct arena *a, struct pb_label *const *entries, size_t n, struct labels *ret)
{
	struct labels l = {};

	for (size_t i = 0; i < n; i++)
		if (labels_set(a, &l, entries[i]->key, entries[i]->value) < 0)
			return -ENOMEM;
	*ret = l;
	return 0;
}

int pb_labels_out(struct arena *a, const struct labels *l, const ProtobufCMessageDescriptor *entry,
		  struct pb_label ***ret, size_t *ret_n)
{
	struct pb_label **v = arena_new_array(a, struct pb_label *, l->n + 1);

	if (!v)
		return -ENOMEM;
	for (size_t i = 0; i < l->n; i++) {
		v[i] = arena_alloc(a, MAX(entry->sizeof_message, sizeof(struct pb_label)));
		if (!v[i])
			return -ENOMEM;
		message_init(entry, v[i]);
		v[i]->key = (char *)l->v[i].key;
		v[i]->value = (char *)l->v[i].value;
	}
	*ret = v;
	*ret_n = l->n;
	return 0;
}

struct timespec pb_time(const Google__Protobuf__Timestamp *t)
{
	return t ? (struct timespec){.tv_sec = t->seconds, .tv_nsec = t->nanos}
		 : (struct timespec){};
}
