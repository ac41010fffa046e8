/* SPDX-License-Identifier: Apache-2.0 */
/* Short names for the generated messages, label maps, and timestamps.
 *
 *     PB_IMAGES(GetImageRequest) req = PB_IMAGES_INIT(GET_IMAGE_REQUEST);
 *     PB_IMAGES(GetImageResponse) *resp;
 *
 *     req.name = (char *)name;
 *     r = client_call(c, ctx, PB_IMAGES_SERVICE, "Get", &req.base, &resp, err);
 */
#pragma once

#include <time.h>

#include "base/arena.h"
#include "base/labels.h"
#include "protos.h"
#include "rpc/pb_json.h"

#define PB_CONTAINERS(m) Containerd__Services__Containers__V1__##m
#define PB_CONTAINERS_INIT(m) CONTAINERD__SERVICES__CONTAINERS__V1__##m##__INIT
#define PB_CONTENT(m) Containerd__Services__Content__V1__##m
#define PB_CONTENT_INIT(m) CONTAINERD__SERVICES__CONTENT__V1__##m##__INIT
#define PB_DIFF(m) Containerd__Services__Diff__V1__##m
#define PB_DIFF_INIT(m) CONTAINERD__SERVICES__DIFF__V1__##m##__INIT
#define PB_EVENTS(m) Containerd__Services__Events__V1__##m
#define PB_EVENTS_INIT(m) CONTAINERD__SERVICES__EVENTS__V1__##m##__INIT
#define PB_IMAGES(m) Containerd__Services__Images__V1__##m
#define PB_IMAGES_INIT(m) CONTAINERD__SERVICES__IMAGES__V1__##m##__INIT
#define PB_INTROSPECTION(m) Containerd__Services__Introspection__V1__##m
#define PB_INTROSPECTION_INIT(m) CONTAINERD__SERVICES__INTROSPECTION__V1__##m##__INIT
#define PB_LEASES(m) Containerd__Services__Leases__V1__##m
#define PB_LEASES_INIT(m) CONTAINERD__SERVICES__LEASES__V1__##m##__INIT
#define PB_MOUNTS(m) Containerd__Services__Mounts__V1__##m
#define PB_MOUNTS_INIT(m) CONTAINERD__SERVICES__MOUNTS__V1__##m##__INIT
#define PB_NAMESPACES(m) Containerd__Services__Namespaces__V1__##m
#define PB_NAMESPACES_INIT(m) CONTAINERD__SERVICES__NAMESPACES__V1__##m##__INIT
#define PB_SANDBOX(m) Containerd__Services__Sandbox__V1__##m
#define PB_SANDBOX_INIT(m) CONTAINERD__SERVICES__SANDBOX__V1__##m##__INIT
#define PB_SNAPSHOTS(m) Containerd__Services__Snapshots__V1__##m
#define PB_SNAPSHOTS_INIT(m) CONTAINERD__SERVICES__SNAPSHOTS__V1__##m##__INIT
#define PB_STREAMING(m) Containerd__Services__Streaming__V1__##m
#define PB_STREAMING_INIT(m) CONTAINERD__SERVICES__STREAMING__V1__##m##__INIT
#define PB_TASKS(m) Containerd__Services__Tasks__V1__##m
#define PB_TASKS_INIT(m) CONTAINERD__SERVICES__TASKS__V1__##m##__INIT
#define PB_TRANSFER(m) Containerd__Services__Transfer__V1__##m
#define PB_TRANSFER_INIT(m) CONTAINERD__SERVICES__TRANSFER__V1__##m##__INIT
#define PB_VERSION(m) Containerd__Services__Version__V1__##m
#define PB_VERSION_INIT(m) CONTAINERD__SERVICES__VERSION__V1__##m##__INIT
#define PB_TYPES(m) Containerd__Types__##m
#define PB_TYPES_INIT(m) CONTAINERD__TYPES__##m##__INIT
#define PB_TASK_TYPES(m) Containerd__V1__Types__##m
#define PB_TASK_TYPES_INIT(m) CONTAINERD__V1__TYPES__##m##__INIT
#define PB_TRANSFER_TYPES(m) Containerd__Types__Transfer__##m
#define PB_TRANSFER_TYPES_INIT(m) CONTAINERD__TYPES__TRANSFER__##m##__INIT
#define PB_RUNC(m) Containerd__Runc__V1__##m
#define PB_RUNC_INIT(m) CONTAINERD__RUNC__V1__##m##__INIT

/* Service descriptors, for client_call() and client_stream(). */
#define PB_CONTAINERS_SERVICE (&containerd__services__containers__v1__containers__descriptor)
#define PB_CONTENT_SERVICE (&containerd__services__content__v1__content__descriptor)
#define PB_DIFF_SERVICE (&containerd__services__diff__v1__diff__descriptor)
#define PB_EVENTS_SERVICE (&containerd__services__events__v1__events__descriptor)
#define PB_IMAGES_SERVICE (&containerd__services__images__v1__images__descriptor)
#define PB_INTROSPECTION_SERVICE \
	(&containerd__services__introspection__v1__introspection__descriptor)
#define PB_LEASES_SERVICE (&containerd__services__leases__v1__leases__descriptor)
#define PB_MOUNTS_SERVICE (&containerd__services__mounts__v1__mounts__descriptor)
#define PB_NAMESPACES_SERVICE (&containerd__services__namespaces__v1__namespaces__descriptor)
#define PB_SNAPSHOTS_SERVICE (&containerd__services__snapshots__v1__snapshots__descriptor)
#define PB_STREAMING_SERVICE (&containerd__services__streaming__v1__streaming__descriptor)
#define PB_TASKS_SERVICE (&containerd__services__tasks__v1__tasks__descriptor)
#define PB_TRANSFER_SERVICE (&containerd__services__transfer__v1__transfer__descriptor)
#define PB_VERSION_SERVICE (&containerd__services__version__v1__version__descriptor)
#define PB_SANDBOX_STORE_SERVICE (&containerd__services__sandbox__v1__store__descriptor)

/* The entries of a map<string, string> field: all generated entry types have this layout. */
struct pb_label {
	ProtobufCMessage base;
	char *key;
	char *value;
};

/* Sorted; the strings are the message's own. 0 or -ENOMEM. Use PB_LABELS_IN(a, msg->labels,
 * msg->n_labels, &l). */
int pb_labels_in(struct arena *a, struct pb_label *const *entries, size_t n, struct labels *ret);
#define PB_LABELS_IN(a, field, n, ret) pb_labels_in(a, (struct pb_label *const *)(field), n, ret)
/* Entries of type @entry in the arena; the strings are @l's. 0 or -ENOMEM.
 * Use PB_LABELS_OUT(a, &l, &containerd__..__labels_entry__descriptor, req.labels, req.n_labels). */
int pb_labels_out(struct arena *a, const struct labels *l, const ProtobufCMessageDescriptor *entry,
		  struct pb_label ***ret, size_t *ret_n);
#define PB_LABELS_OUT(a, l, entry, field, n) \
	pb_labels_out(a, l, entry, (struct pb_label ***)&(field), &(n))

/* NULL gives 0. */
struct timespec pb_time(const Google__Protobuf__Timestamp *t);
