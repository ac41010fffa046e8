/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration of the CRI plugins (io.containerd.cri.v1.images, io.containerd.cri.v1.runtime,
 * io.containerd.grpc.v1.cri), as the daemon has read and checked it. Fixed while the daemon runs;
 * strings and lists live as long as the daemon's configuration. Lists end in NULL and are never
 * NULL. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/labels.h"

/* A runtime handler: what a pod's RuntimeClass names. */
struct cri_handler {
	const char *name; /* "runc" */
	const char *type; /* "io.containerd.runc.v2" */
	const char *path; /* of the shim; "" = found by its type */
	const char *const *pod_annotations, *const *container_annotations; /* globs */
	bool privileged_without_host_devices;
	bool privileged_without_host_devices_all_devices_allowed;
	bool cgroup_writable;
	const char *base_spec_path;
	const json_t *base_spec; /* its content; NULL = the default spec */
	const char *cni_conf_dir;
	int64_t cni_max_conf_num;
	const char *snapshotter; /* "" = the images plugin's */
	const char *sandboxer;	 /* name of a sandbox controller: "podsandbox", "shim", ... */
	const char *io_type;
	const json_t *options; /* as configured (members by the proto's or by Go's names); NULL */
};

struct cri_registry_auth {
	const char *host;
	const char *username, *password, *auth, *identity_token;
};

struct cri_registry_tls {
	const char *host;
	bool insecure_skip_verify;
	const char *ca_file, *cert_file, *key_file;
};

struct cri_registry_mirror {
	const char *host;
	const char *const *endpoints;
};

struct cri_registry_header {
	const char *name;
	const char *const *values;
};

struct cri_config {
	/* cri.v1.images */
	const char *snapshotter;
	bool disable_snapshot_annotations;
	bool discard_unpacked_layers;
	int64_t max_concurrent_downloads;
	int64_t concurrent_layer_fetch_buffer;
	int64_t image_pull_progress_timeout_ns;
	bool image_pull_with_sync_fs;
	int64_t snapshot_stats_period_s;
	bool use_local_image_pull;
	bool no_decryption;
	const char *sandbox_image; /* pinned_images.sandbox */
	struct labels pinned_images;
	const char *registry_config_path;
	struct cri_registry_mirror *mirrors;
	size_t n_mirrors;
	struct cri_registry_auth *auths; /* configs.HOST.auth, then auths.URL */
	size_t n_auths;
	struct cri_registry_tls *tls; /* configs.HOST.tls */
	size_t n_tls;
	struct cri_registry_header *headers;
	size_t n_headers;

	/* cri.v1.runtime */
	bool enable_selinux;
	int64_t selinux_category_range;
	int64_t max_container_log_line_size; /* -1 = no limit */
	bool disable_apparmor, restrict_oom_score_adj, disable_proc_mount;
	const char *unset_seccomp_profile;
	bool tolerate_missing_hugetlb_controller, disable_hugetlb_controller;
	bool device_ownership_from_security_context;
	bool ignore_image_defined_volumes;
	bool netns_mounts_under_state_dir;
	bool enable_unprivileged_ports, enable_unprivileged_icmp;
	bool enable_cdi;
	const char *const *cdi_spec_dirs;
	int64_t drain_exec_sync_io_timeout_ns; /* 0 = for ever */
	const char *const *ignore_deprecation_warnings;
	int64_t stats_period_ns, stats_retention_ns; /* 0 = the default */
	bool enable_criu, enable_restore_via_create;
	const char *default_handler;
	bool ignore_blockio_not_enabled_errors, ignore_rdt_not_enabled_errors;
	struct cri_handler *handlers; /* sorted by name */
	size_t n_handlers;
	const char *const *cni_bin_dirs;
	const char *cni_conf_dir, *cni_conf_template, *cni_ip_pref;
	int64_t cni_max_conf_num;
	bool cni_setup_serially, cni_internal_loopback;

	/* grpc.v1.cri */
	bool disable_tcp_service;
	const char *stream_address, *stream_port;
	int64_t stream_idle_timeout_ns;
	bool stream_tls;
	const char *stream_cert_file, *stream_key_file;

	int64_t defer_cleanup_timeout_ns; /* io.containerd.timeout.cri.defercleanup */
};

/* The handler @name ("" = the default one); NULL when there is none. */
const struct cri_handler *cri_config_handler(const struct cri_config *c, const char *name);
/* Snapshotter of pods of this handler (NULL = the images plugin's). */
const char *cri_config_snapshotter(const struct cri_config *c, const struct cri_handler *h);
