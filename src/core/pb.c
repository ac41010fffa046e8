/* SPDX-License-Identifier: Apache-2.0 */
/* Conversions: see pb.h. */
#include "core/pb.h"

#include "base/str.h"
#include "base/time.h"

/* The layout that protobuf-c gives every entry of a map<string,string>. */
struct map_entry {
	ProtobufCMessage base;
	char *key;
	char *value;
};

void *pb_new(struct arena *a, const ProtobufCMessageDescriptor *desc)
{
	void *m = arena_alloc(a, desc->sizeof_message);
	if (m)
		message_init(desc, m);
	return m;
}

char *pb_str(struct arena *a, const char *s)
{
	return arena_strdup(a, s ? s : "");
}

int pb_labels_get(struct arena *a, void *entries, size_t n, struct labels *ret, struct err *err)
{
	struct map_entry **v = entries;
	struct labels l = {0};
	for (size_t i = 0; i < n; i++)
		if (labels_set(a, &l, v[i]->key, v[i]->value) < 0)
			return err_nomem(err);
	*ret = l;
	return 0;
}

int pb_labels_put(struct arena *a, const struct labels *l, const ProtobufCMessageDescriptor *entry,
		  void *ret_entries, size_t *ret_n, struct err *err)
{
	struct map_entry **v = arena_new_array(a, struct map_entry *, l->n + 1);
	if (!v)
		return err_nomem(err);
	for (size_t i = 0; i < l->n; i++) {
		v[i] = pb_new(a, entry);
		if (!v[i])
			return err_nomem(err);
		/* The message lives no longer than the labels: both are in the call's arena. */
		v[i]->key = (char *)l->v[i].key;
		v[i]->value = (char *)l->v[i].value;
	}
	*(struct map_entry ***)ret_entries = v;
	*ret_n = l->n;
	return 0;
}

/* Nanoseconds may be any number on the wire: what is beyond a second counts as seconds. */
struct timespec pb_time_get(const Google__Protobuf__Timestamp *t)
{
	int64_t carry, nsec;
	struct timespec ts = {0};
	if (!t)
		return ts;
	carry = t->nanos / NSEC_PER_SEC;
	nsec = t->nanos % NSEC_PER_SEC;
	if (nsec < 0) {
		nsec += NSEC_PER_SEC;
		carry--;
	}
	ts.tv_nsec = (long)nsec;
	if (__builtin_add_overflow(t->seconds, carry, &ts.tv_sec))
		ts.tv_sec = t->seconds;
	return ts;
}

Google__Protobuf__Timestamp *pb_time_put(struct arena *a, struct timespec t)
{
	Google__Protobuf__Timestamp *m = pb_new(a, &google__protobuf__timestamp__descriptor);
	if (m) {
		m->seconds = t.tv_sec;
		m->nanos = (int32_t)t.tv_nsec;
	}
	return m;
}

struct any pb_any_get(const Google__Protobuf__Any *any)
{
	return any ? (struct any){.type_url = any->type_url,
				  .value = any->value.data,
				  .len = any->value.len}
		   : (struct any){0};
}

Google__Protobuf__Any *pb_any_put(struct arena *a, const struct any *any)
{
	Google__Protobuf__Any *m =
		any->type_url ? pb_new(a, &google__protobuf__any__descriptor) : NULL;
	if (m) {
		m->type_url = (char *)any->type_url;
		m->value = (ProtobufCBinaryData){.data = (uint8_t *)any->value, .len = any->len};
	}
	return m;
}

int pb_descriptor_get(struct arena *a, const Containerd__Types__Descriptor *d,
		      struct descriptor *ret, struct err *err)
{
	struct descriptor out = {.media_type = "", .digest = ""};
	if (d) {
		out.media_type = d->media_type;
		out.digest = d->digest;
		out.size = d->size;
		int r = pb_labels_get(a, d->annotations, d->n_annotations, &out.annotations, err);
		if (r < 0)
			return r;
	}
	*ret = out;
	return 0;
}

Containerd__Types__Descriptor *pb_descriptor_put(struct arena *a, const struct descriptor *d,
						 struct err *err)
{
	Containerd__Types__Descriptor *m = pb_new(a, &containerd__types__descriptor__descriptor);
	if (!m || pb_labels_put(a, &d->annotations,
				&containerd__types__descriptor__annotations_entry__descriptor,
				&m->annotations, &m->n_annotations, err) < 0) {
		err_nomem(err);
		return NULL;
	}
	m->media_type = pb_str(a, d->media_type);
	m->digest = pb_str(a, d->digest);
	m->size = d->size;
	if (!m->media_type || !m->digest) {
		err_nomem(err);
		return NULL;
	}
	return m;
}

int pb_mounts_get(struct arena *a, Containerd__Types__Mount **v, size_t n, struct mounts *ret,
		  struct err *err)
{
	struct mounts m = {.v = arena_new_array(a, struct mount, n + 1), .n = n};
	if (!m.v)
		return err_nomem(err);
	for (size_t i = 0; i < n; i++)
		m.v[i] = (struct mount){.type = v[i]->type,
					.source = v[i]->source,
					.target = v[i]->target,
					.options = (const char **)v[i]->options,
					.n_options = v[i]->n_options};
	*ret = m;
	return 0;
}

int pb_mounts_put(struct arena *a, const struct mounts *m, Containerd__Types__Mount ***ret,
		  size_t *ret_n, struct err *err)
{
	Containerd__Types__Mount **v = arena_new_array(a, Containerd__Types__Mount *, m->n + 1);
	if (!v)
		return err_nomem(err);
	for (size_t i = 0; i < m->n; i++) {
		v[i] = pb_new(a, &containerd__types__mount__descriptor);
		if (!v[i])
			return err_nomem(err);
		v[i]->type = (char *)str_or(m->v[i].type, "");
		v[i]->source = (char *)str_or(m->v[i].source, "");
		v[i]->target = (char *)str_or(m->v[i].target, "");
		v[i]->options = (char **)m->v[i].options;
		v[i]->n_options = m->v[i].n_options;
	}
	*ret = v;
	*ret_n = m->n;
	return 0;
}
