/* SPDX-License-Identifier: Apache-2.0 */
/* Fields of the plugins' configuration, for plugin_table.c. */
#pragma once

#include "daemon/config_field.h"

extern const struct config_field cri_images_fields[];
extern const struct config_field cri_runtime_fields[];
extern const struct config_field differ_erofs_fields[];
extern const struct config_field gc_fields[];
extern const struct config_field cri_grpc_fields[];
extern const struct config_field image_verifier_fields[];
extern const struct config_field opt_fields[];
extern const struct config_field tracing_fields[];
extern const struct config_field metadata_fields[];
extern const struct config_field prometheus_fields[];
extern const struct config_field restart_fields[];
extern const struct config_field cgroups_fields[];
extern const struct config_field mount_erofs_fields[];
extern const struct config_field nri_fields[];
extern const struct config_field task_runtime_fields[];
extern const struct config_field server_debug_fields[];
extern const struct config_field server_grpc_fields[];
extern const struct config_field server_tcp_fields[];
extern const struct config_field server_metrics_fields[];
extern const struct config_field server_ttrpc_fields[];
extern const struct config_field service_diff_fields[];
extern const struct config_field service_tasks_fields[];
extern const struct config_field shim_manager_fields[];
extern const struct config_field blockfile_fields[];
extern const struct config_field snap_erofs_fields[];
extern const struct config_field native_fields[];
extern const struct config_field overlayfs_fields[];
extern const struct config_field otlp_fields[];
extern const struct config_field transfer_fields[];
