/* SPDX-License-Identifier: Apache-2.0 */
/* Init functions of the plugins, defined by the daemon for those that exist: plugin_<name>_init()
 * for each name. */
#pragma once

#include "daemon/plugin.h"

#define PLUGIN_INITS(X)                     \
	X(content_content)                  \
	X(image_verifier_bindir)            \
	X(internal_opt)                     \
	X(warning_deprecations)             \
	X(event_exchange)                   \
	X(mount_handler_erofs)              \
	X(snapshotter_blockfile)            \
	X(snapshotter_erofs)                \
	X(snapshotter_native)               \
	X(snapshotter_overlayfs)            \
	X(monitor_task_cgroups)             \
	X(metadata_bolt)                    \
	X(gc_scheduler)                     \
	X(server_metrics)                   \
	X(tracing_processor_otlp)           \
	X(internal_tracing)                 \
	X(nri_nri)                          \
	X(ttrpc_otelttrpc)                  \
	X(service_containers_service)       \
	X(service_content_service)          \
	X(differ_erofs)                     \
	X(mount_manager_bolt)               \
	X(differ_walking)                   \
	X(service_diff_service)             \
	X(service_images_service)           \
	X(service_introspection_service)    \
	X(service_namespaces_service)       \
	X(service_snapshots_service)        \
	X(shim_manager)                     \
	X(runtime_task)                     \
	X(service_tasks_service)            \
	X(grpc_containers)                  \
	X(grpc_content)                     \
	X(grpc_diff)                        \
	X(grpc_events)                      \
	X(grpc_images)                      \
	X(grpc_introspection)               \
	X(lease_manager)                    \
	X(grpc_leases)                      \
	X(grpc_mounts)                      \
	X(grpc_namespaces)                  \
	X(sandbox_store_local)              \
	X(transfer_local)                   \
	X(cri_images)                       \
	X(cri_runtime)                      \
	X(podsandbox_controller_podsandbox) \
	X(sandbox_controller_shim)          \
	X(grpc_sandbox_controllers)         \
	X(grpc_sandboxes)                   \
	X(grpc_snapshots)                   \
	X(streaming_manager)                \
	X(grpc_streaming)                   \
	X(grpc_tasks)                       \
	X(grpc_transfer)                    \
	X(grpc_version)                     \
	X(grpc_healthcheck)                 \
	X(grpc_cri)                         \
	X(server_ttrpc)                     \
	X(monitor_container_restart)        \
	X(metrics_grpc_prometheus)          \
	X(metrics_grpc_otel)                \
	X(server_grpc)                      \
	X(server_grpc_tcp)                  \
	X(http_pprof)                       \
	X(server_debug)

#define PLUGIN_DECLARE_INIT(name) plugin_init_fn plugin_##name##_init;
PLUGIN_INITS(PLUGIN_DECLARE_INIT)
#undef PLUGIN_DECLARE_INIT
