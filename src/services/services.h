/* SPDX-License-Identifier: Apache-2.0 */
/* The gRPC services: one file each, which unpacks the request, calls core, and packs the reply. No
 * logic.
 *
 * Each has a function that fills in its table; what it may use is in struct services, made by the
 * daemon and alive as long as the server. */
#pragma once

#include <pthread.h>

#include "base/labels.h"
#include "core/db.h"
#include "core/deprecation.h"
#include "core/gc.h"
#include "rpc/rpc.h"

struct differs;
struct event_exchange;
struct loop;
struct mount_manager;
struct pool;
struct runtime;
struct sandbox_controllers;
struct streams;
struct transfer;
struct introspection_ops;

struct services {
	struct loop *loop; /* the server's */
	struct pool *pool;
	struct db *db;
	struct event_exchange *events;
	struct deprecations *deprecations; /* NULL = disabled */
	struct gc_scheduler *gc;
	struct runtime *runtime;
	struct sandbox_controllers *sandboxers;
	struct streams *streams;
	struct mount_manager *mounts;
	struct transfer *transfer;
	const struct introspection_ops *introspection;
	void *introspection_data;
	const char *introspection_root; /* directory of the file "uuid" */
	pthread_mutex_t uuid_lock;	/* held to look for that file and make it */
	const struct differs *differs;	/* in the order in which they are asked; NULL = none */
	bool diff_sync_fs;
};

/* What Introspection asks the plugin graph, which is above. */
struct plugin_info {
	const char *type, *id;
	const char *const *requires;  /* NULL-terminated types */
	const char *const *platforms; /* NULL-terminated "os/arch" */
	const char *const *capabilities;
	struct labels exports;
	bool skipped, failed;
	const char *error; /* "" when ok */
};

struct introspection_ops {
	int (*plugins)(struct ctx *ctx, void *data, struct plugin_info **ret, size_t *ret_n,
		       struct err *err);
};

void service_version(struct services *s, struct rpc_service *ret);
void service_health(struct services *s, struct rpc_service *ret);
void service_introspection(struct services *s, struct rpc_service *ret);
void service_namespaces(struct services *s, struct rpc_service *ret);
void service_containers(struct services *s, struct rpc_service *ret);
void service_images(struct services *s, struct rpc_service *ret);
void service_content(struct services *s, struct rpc_service *ret);
void service_snapshots(struct services *s, struct rpc_service *ret);
void service_diff(struct services *s, struct rpc_service *ret);
void service_leases(struct services *s, struct rpc_service *ret);
void service_events(struct services *s, struct rpc_service *ret);
void service_ttrpc_events(struct services *s, struct rpc_service *ret);
void service_tasks(struct services *s, struct rpc_service *ret);
void service_transfer(struct services *s, struct rpc_service *ret);
void service_streaming(struct services *s, struct rpc_service *ret);
void service_sandbox_store(struct services *s, struct rpc_service *ret);
void service_sandbox_controller(struct services *s, struct rpc_service *ret);
void service_mounts(struct services *s, struct rpc_service *ret);

/* Body of each: SERVICE(images, &containerd__services__images__v1__images__descriptor, methods) */
#define SERVICE(name, descriptor, table)                                   \
	void service_##name(struct services *s, struct rpc_service *ret)   \
	{                                                                  \
		*ret = (struct rpc_service){.desc = (descriptor),          \
					    .methods = (table),            \
					    .n_methods = ARRAY_LEN(table), \
					    .data = s};                    \
	}
