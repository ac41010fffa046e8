/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration of the plugins, in the order in which containerd prints the keys. */
#include "daemon/plugin_config.h"

/* The runtime that is there without being configured. */
#define RUNC_RUNTIME                                                                             \
	"{runc = {runtime_type = 'io.containerd.runc.v2', sandboxer = 'podsandbox', options = {" \
	"BinaryName = '', CriuImagePath = '', CriuWorkPath = '', IoGid = 0, IoUid = 0, "         \
	"NoNewKeyring = false, Root = '', ShimCgroup = '', SystemdCgroup = false}}}"

static const struct config_field cri_mirror_fields[] = {
	CFG_FIELD("endpoint", CFG_STRINGS, NULL, "URLs, in order"),
	CFG_END,
};

static const struct config_field cri_registry_tls_fields[] = {
	CFG_FIELD("insecure_skip_verify", CFG_BOOL, NULL, "do not check the certificate"),
	CFG_FIELD("ca_file", CFG_STRING, NULL, "certificates to trust"),
	CFG_FIELD("cert_file", CFG_STRING, NULL, "client certificate"),
	CFG_FIELD("key_file", CFG_STRING, NULL, "its key"),
	CFG_END,
};

static const struct config_field cri_auth_fields[] = {
	CFG_FIELD("username", CFG_STRING, NULL, "user"),
	CFG_FIELD("password", CFG_STRING, NULL, "password"),
	CFG_FIELD("auth", CFG_STRING, NULL, "base64 of user:password"),
	CFG_FIELD("identitytoken", CFG_STRING, NULL, "identity token"),
	CFG_END,
};

static const struct config_field cri_registry_config_fields[] = {
	CFG_SUB("tls", CFG_TABLE, NULL, cri_registry_tls_fields, "TLS of this host"),
	CFG_SUB("auth", CFG_TABLE, NULL, cri_auth_fields, "credentials for this host"),
	CFG_END,
};

static const struct config_field cri_registry_fields[] = {
	CFG_FIELD("config_path", CFG_STRING, NULL, "directories of hosts.toml files"),
	CFG_SUB("mirrors", CFG_MAP, NULL, cri_mirror_fields, "deprecated: use config_path"),
	CFG_SUB("configs", CFG_MAP, NULL, cri_registry_config_fields,
		"deprecated: use config_path"),
	CFG_SUB("auths", CFG_MAP, NULL, cri_auth_fields, "deprecated: use config_path"),
	CFG_FIELD("headers", CFG_STRINGS_MAP, NULL, "headers of every request"),
	CFG_END,
};

static const struct config_field cri_decryption_fields[] = {
	CFG_FIELD("key_model", CFG_STRING, "node",
		  "node: decoders of encrypted layers find the keys on the node; empty: they are "
		  "told nothing of the layer"),
	CFG_END,
};

static const struct config_field cri_runtime_platform_fields[] = {
	CFG_FIELD("platform", CFG_STRING, NULL, "platform"),
	CFG_FIELD("snapshotter", CFG_STRING, NULL, "snapshotter"),
	CFG_END,
};

const struct config_field cri_images_fields[] = {
	CFG_FIELD("snapshotter", CFG_STRING, "overlayfs", "snapshotter for images"),
	CFG_FIELD("disable_snapshot_annotations", CFG_BOOL, "true",
		  "do not give snapshotters annotations of image and layer"),
	CFG_FIELD("discard_unpacked_layers", CFG_BOOL, "false",
		  "let layers be collected once they are unpacked"),
	CFG_FIELD("max_concurrent_downloads", CFG_INT, "3",
		  "layers of one image that are fetched at once"),
	CFG_FIELD("concurrent_layer_fetch_buffer", CFG_INT, "0",
		  "bytes of a layer that one of several requests fetches, 0 = one request"),
	CFG_FIELD("image_pull_progress_timeout", CFG_DURATION, "5m0s",
		  "a pull without progress is given up after this"),
	CFG_FIELD("image_pull_with_sync_fs", CFG_BOOL, "false", "syncfs after unpacking"),
	CFG_FIELD("stats_collect_period", CFG_INT, "10",
		  "seconds between measurements of snapshots"),
	CFG_FIELD("use_local_image_pull", CFG_BOOL, "false",
		  "pull in the CRI plugin instead of the transfer service"),
	CFG_FIELD("pinned_images", CFG_STRING_MAP, "{sandbox='registry.k8s.io/pause:3.10.2'}",
		  "images that are not collected; sandbox is the pause image"),
	CFG_SUB("registry", CFG_TABLE, NULL, cri_registry_fields, "registries"),
	CFG_SUB("image_decryption", CFG_TABLE, NULL, cri_decryption_fields, "encrypted images"),
	CFG_SUB("runtime_platform", CFG_MAP, NULL, cri_runtime_platform_fields,
		"platform and snapshotter by runtime"),
	CFG_END,
};

static const struct config_field cri_runtime_entry_fields[] = {
	CFG_FIELD("runtime_type", CFG_STRING, NULL, "io.containerd.runc.v2"),
	CFG_FIELD("runtime_path", CFG_STRING, NULL, "path of the shim instead of a name in PATH"),
	CFG_FIELD("pod_annotations", CFG_STRINGS, NULL,
		  "globs of pod annotations that go into the spec"),
	CFG_FIELD("container_annotations", CFG_STRINGS, NULL,
		  "globs of container annotations that go into the spec"),
	CFG_FIELD("privileged_without_host_devices", CFG_BOOL, NULL,
		  "privileged containers get no host devices"),
	CFG_FIELD("privileged_without_host_devices_all_devices_allowed", CFG_BOOL, NULL,
		  "but may use all devices"),
	CFG_FIELD("cgroup_writable", CFG_BOOL, NULL, "cgroups are mounted writable"),
	CFG_FIELD("base_runtime_spec", CFG_STRING, NULL,
		  "file with the spec that containers start from"),
	CFG_FIELD("cni_conf_dir", CFG_STRING, NULL,
		  "directory of network configuration for this runtime"),
	CFG_FIELD("cni_max_conf_num", CFG_INT, NULL, "as in cni"),
	CFG_FIELD("snapshotter", CFG_STRING, NULL, "snapshotter for this runtime"),
	CFG_FIELD("sandboxer", CFG_STRING, NULL, "podsandbox, shim, or the name of a proxy plugin"),
	CFG_FIELD("io_type", CFG_STRING, NULL, "fifo or streaming"),
	CFG_FIELD("options", CFG_ANY, NULL, "options of the runtime (containerd.runc.v1.Options)"),
	CFG_OLD("runtime_engine", "use options.BinaryName"),
	CFG_OLD("runtime_root", "use options.Root"),
	CFG_END,
};

static const struct config_field cri_containerd_fields[] = {
	CFG_FIELD("default_runtime_name", CFG_STRING, "runc", "runtime of pods that name none"),
	CFG_FIELD("ignore_blockio_not_enabled_errors", CFG_BOOL, "false",
		  "ignore block I/O classes where they are not configured"),
	CFG_FIELD("ignore_rdt_not_enabled_errors", CFG_BOOL, "false",
		  "ignore RDT classes where they are not configured"),
	CFG_SUB("runtimes", CFG_MAP, RUNC_RUNTIME, cri_runtime_entry_fields, "runtimes by handler"),
	CFG_OLD("default_runtime", "use default_runtime_name"),
	CFG_OLD("untrusted_workload_runtime", "use a runtime class"),
	CFG_OLD("no_pivot", "use options of the runtime"),
	CFG_END,
};

static const struct config_field cri_cni_fields[] = {
	CFG_FIELD("bin_dir", CFG_STRING, NULL, "deprecated: use bin_dirs"),
	CFG_FIELD("bin_dirs", CFG_STRINGS, "['/opt/cni/bin']", "directories of CNI plugins"),
	CFG_FIELD("conf_dir", CFG_STRING, "/etc/cni/net.d", "directory of network configuration"),
	CFG_FIELD("max_conf_num", CFG_INT, "1", "configurations that are used, 0 = all"),
	CFG_FIELD("setup_serially", CFG_BOOL, "false", "set up one network after the other"),
	CFG_FIELD("conf_template", CFG_STRING, NULL, "template that a configuration is made from"),
	CFG_FIELD("ip_pref", CFG_STRING, NULL, "ipv4, ipv6 or cni: which address is a pod's first"),
	CFG_FIELD("use_internal_loopback", CFG_BOOL, "false",
		  "set the loopback up without a CNI plugin"),
	CFG_END,
};

const struct config_field cri_runtime_fields[] = {
	CFG_FIELD("enable_selinux", CFG_BOOL, "false", "label containers for SELinux"),
	CFG_FIELD("selinux_category_range", CFG_INT, "1024", "upper limit of SELinux categories"),
	CFG_FIELD("max_container_log_line_size", CFG_INT, "16384", "longer lines are split"),
	CFG_FIELD("disable_apparmor", CFG_BOOL, "false", "ignore AppArmor"),
	CFG_FIELD("restrict_oom_score_adj", CFG_BOOL, "false",
		  "never lower oom_score_adj below the daemon's own"),
	CFG_FIELD("disable_proc_mount", CFG_BOOL, "false",
		  "leave masked and read-only paths alone"),
	CFG_FIELD("unset_seccomp_profile", CFG_STRING, NULL, "profile where a pod names none"),
	CFG_FIELD("tolerate_missing_hugetlb_controller", CFG_BOOL, "true",
		  "ignore huge page limits where the controller is missing"),
	CFG_FIELD("disable_hugetlb_controller", CFG_BOOL, "true", "ignore huge page limits"),
	CFG_FIELD("device_ownership_from_security_context", CFG_BOOL, "false",
		  "devices belong to the container's user"),
	CFG_FIELD("ignore_image_defined_volumes", CFG_BOOL, "false", "ignore volumes of images"),
	CFG_FIELD("netns_mounts_under_state_dir", CFG_BOOL, "false",
		  "network namespaces below the state directory"),
	CFG_FIELD("enable_unprivileged_ports", CFG_BOOL, "true",
		  "net.ipv4.ip_unprivileged_port_start=0 in pods"),
	CFG_FIELD("enable_unprivileged_icmp", CFG_BOOL, "true",
		  "net.ipv4.ping_group_range for everybody in pods"),
	CFG_FIELD("enable_cdi", CFG_BOOL, "true", "container device interface"),
	CFG_FIELD("cdi_spec_dirs", CFG_STRINGS, "['/etc/cdi', '/var/run/cdi']",
		  "directories of CDI specs"),
	CFG_FIELD("drain_exec_sync_io_timeout", CFG_DURATION, "0s",
		  "wait for output after an ExecSync ended, 0 = for ever"),
	CFG_FIELD("ignore_deprecation_warnings", CFG_STRINGS, NULL,
		  "ids of deprecations not to warn about"),
	CFG_FIELD("stats_collect_period", CFG_DURATION, NULL, "period of the collector of CPU use"),
	CFG_FIELD("stats_retention_period", CFG_DURATION, NULL, "how long its samples are kept"),
	CFG_FIELD("enable_criu", CFG_BOOL, "true", "checkpoint and restore"),
	CFG_FIELD("enable_experimental_restore_via_create", CFG_BOOL, "false",
		  "restore by creating from a checkpoint image"),
	CFG_SUB("containerd", CFG_TABLE, NULL, cri_containerd_fields, "runtimes"),
	CFG_SUB("cni", CFG_TABLE, NULL, cri_cni_fields, "network"),
	CFG_OLD("systemd_cgroup", "runtimes have options.SystemdCgroup"),
	CFG_OLD("disable_cgroup", "cgroups cannot be switched off"),
	CFG_END,
};

const struct config_field differ_erofs_fields[] = {
	CFG_FIELD("mkfs_options", CFG_STRINGS, NULL, "further arguments of mkfs.erofs"),
	CFG_FIELD("enable_tar_index", CFG_BOOL, "false", "keep the tar, add an index"),
	CFG_FIELD("enable_dmverity", CFG_BOOL, "false", "add a hash tree"),
	CFG_END,
};

const struct config_field gc_fields[] = {
	CFG_FIELD("pause_threshold", CFG_FLOAT, "0.02",
		  "part of the time that collections may take"),
	CFG_FIELD("deletion_threshold", CFG_INT, "0",
		  "deletions after which a collection is due at once, 0 = none"),
	CFG_FIELD("mutation_threshold", CFG_INT, "100", "changes after which a collection is due"),
	CFG_FIELD("schedule_delay", CFG_DURATION, "0s", "wait before a collection"),
	CFG_FIELD("startup_delay", CFG_DURATION, "100ms", "wait before the first one"),
	CFG_END,
};

static const struct config_field cri_key_pair_fields[] = {
	CFG_FIELD("tls_cert_file", CFG_STRING, NULL, "certificate"),
	CFG_FIELD("tls_key_file", CFG_STRING, NULL, "key"),
	CFG_END,
};

const struct config_field cri_grpc_fields[] = {
	CFG_FIELD("disable_tcp_service", CFG_BOOL, "true", "do not serve CRI on TCP"),
	CFG_FIELD("stream_server_address", CFG_STRING, "127.0.0.1",
		  "address of the streaming server"),
	CFG_FIELD("stream_server_port", CFG_STRING, "0", "its port"),
	CFG_FIELD("stream_idle_timeout", CFG_DURATION, "4h0m0s",
		  "idle streams are closed after this"),
	CFG_FIELD("enable_tls_streaming", CFG_BOOL, "false", "TLS for the streaming server"),
	CFG_SUB("x509_key_pair_streaming", CFG_TABLE, NULL, cri_key_pair_fields,
		"its certificate; one is made when empty"),
	CFG_END,
};

const struct config_field image_verifier_fields[] = {
	CFG_FIELD("bin_dir", CFG_STRING, "/opt/containerd/image-verifier/bin",
		  "directory of verifier programs"),
	CFG_FIELD("max_verifiers", CFG_INT, "10", "verifiers that are run at most, -1 = all"),
	CFG_FIELD("per_verifier_timeout", CFG_DURATION, "10s", "limit for each"),
	CFG_END,
};

const struct config_field opt_fields[] = {
	CFG_FIELD("path", CFG_STRING, "/opt/containerd",
		  "its bin and lib are put before PATH and LD_LIBRARY_PATH"),
	CFG_END,
};

const struct config_field tracing_fields[] = {
	CFG_OLD("service_name", "set OTEL_SERVICE_NAME"),
	CFG_OLD("sampling_ratio", "set OTEL_TRACES_SAMPLER"),
	CFG_END,
};

const struct config_field metadata_fields[] = {
	CFG_FIELD("content_sharing_policy", CFG_STRING, "shared",
		  "shared or isolated: may a namespace use a blob that another one has by its "
		  "digest"),
	CFG_FIELD("no_sync", CFG_BOOL, "false", "do not fsync the database"),
	CFG_END,
};

const struct config_field prometheus_fields[] = {
	CFG_FIELD("grpc_histogram", CFG_BOOL, "false", "histograms of gRPC latency"),
	CFG_END,
};

const struct config_field restart_fields[] = {
	CFG_FIELD("interval", CFG_DURATION, "10s", "period of the restart monitor"),
	CFG_END,
};

const struct config_field cgroups_fields[] = {
	CFG_FIELD("no_prometheus", CFG_BOOL, "false", "no container metrics"),
	CFG_END,
};

const struct config_field mount_erofs_fields[] = {
	CFG_END,
};

static const struct config_field nri_validator_fields[] = {
	CFG_FIELD("enable", CFG_BOOL, "false", "use it"),
	CFG_FIELD("reject_oci_hook_adjustment", CFG_BOOL, "false", "refuse hooks"),
	CFG_FIELD("reject_runtime_default_seccomp_adjustment", CFG_BOOL, "false",
		  "refuse to change the runtime's seccomp profile"),
	CFG_FIELD("reject_unconfined_seccomp_adjustment", CFG_BOOL, "false",
		  "refuse to change an unconfined one"),
	CFG_FIELD("reject_custom_seccomp_adjustment", CFG_BOOL, "false",
		  "refuse to change a custom one"),
	CFG_FIELD("reject_namespace_adjustment", CFG_BOOL, "false", "refuse to change namespaces"),
	CFG_FIELD("reject_sysctl_adjustment", CFG_BOOL, "false", "refuse to change sysctls"),
	CFG_FIELD("required_plugins", CFG_STRINGS, NULL, "plugins that must have seen a container"),
	CFG_FIELD("tolerate_missing_plugins_annotation", CFG_STRING, NULL,
		  "annotation that lifts this"),
	CFG_END,
};

const struct config_field nri_fields[] = {
	CFG_FIELD("disable", CFG_BOOL, "false", "no NRI"),
	CFG_FIELD("socket_path", CFG_STRING, "/var/run/nri/nri.sock",
		  "socket for external plugins"),
	CFG_FIELD("plugin_path", CFG_STRING, "/opt/nri/plugins", "directory of plugins to start"),
	CFG_FIELD("plugin_config_path", CFG_STRING, "/etc/nri/conf.d",
		  "directory of their configuration"),
	CFG_FIELD("plugin_registration_timeout", CFG_DURATION, "5s", "limit for registering"),
	CFG_FIELD("plugin_request_timeout", CFG_DURATION, "2s", "limit for a request"),
	CFG_FIELD("disable_connections", CFG_BOOL, "false", "no external plugins"),
	CFG_SUB("default_validator", CFG_TABLE, NULL, nri_validator_fields, "built-in validator"),
	CFG_END,
};

const struct config_field task_runtime_fields[] = {
	CFG_FIELD("platforms", CFG_STRINGS, CFG_DEF_PLATFORMS, "platforms that it says it runs"),
	CFG_OLD("sched_core",
		"put SCHED_CORE=1 into env of plugins.'io.containerd.shim.v1.manager'"),
	CFG_END,
};

const struct config_field server_debug_fields[] = {
	CFG_FIELD("address", CFG_STRING, NULL, "socket; empty = none"),
	CFG_FIELD("uid", CFG_INT, "0", "its owner"),
	CFG_FIELD("gid", CFG_INT, "0", "its group"),
	CFG_END,
};

const struct config_field server_grpc_fields[] = {
	CFG_FIELD("address", CFG_STRING, "/run/containerd/containerd.sock", "socket"),
	CFG_FIELD("uid", CFG_INT, CFG_DEF_UID, "its owner"),
	CFG_FIELD("gid", CFG_INT, CFG_DEF_GID, "its group"),
	CFG_FIELD("max_recv_message_size", CFG_INT, "16777216", "limit of a request"),
	CFG_FIELD("max_send_message_size", CFG_INT, "16777216", "limit of a reply"),
	CFG_END,
};

const struct config_field server_tcp_fields[] = {
	CFG_FIELD("address", CFG_STRING, NULL, "TCP address; empty = none"),
	CFG_FIELD("tls_ca", CFG_STRING, NULL,
		  "authorities of the certificates that clients must have"),
	CFG_FIELD("tls_cert", CFG_STRING, NULL, "certificate"),
	CFG_FIELD("tls_key", CFG_STRING, NULL, "its key"),
	CFG_FIELD("tls_common_name", CFG_STRING, NULL,
		  "certificate of Windows' store: refused on Linux, as by containerd"),
	CFG_FIELD("max_recv_message_size", CFG_INT, "16777216", "limit of a request"),
	CFG_FIELD("max_send_message_size", CFG_INT, "16777216", "limit of a reply"),
	CFG_END,
};

const struct config_field server_metrics_fields[] = {
	CFG_FIELD("address", CFG_STRING, NULL, "TCP address; empty = none"),
	CFG_END,
};

const struct config_field server_ttrpc_fields[] = {
	CFG_FIELD("address", CFG_STRING, "/run/containerd/containerd.sock.ttrpc",
		  "socket; empty = none"),
	CFG_FIELD("uid", CFG_INT, CFG_DEF_UID, "its owner"),
	CFG_FIELD("gid", CFG_INT, CFG_DEF_GID, "its group"),
	CFG_END,
};

const struct config_field service_diff_fields[] = {
	CFG_FIELD("default", CFG_STRINGS, "['walking']",
		  "differs in the order in which they are tried"),
	CFG_FIELD("sync_fs", CFG_BOOL, "false", "syncfs after applying a layer"),
	CFG_END,
};

const struct config_field service_tasks_fields[] = {
	CFG_FIELD("blockio_config_file", CFG_STRING, NULL, "classes of block I/O"),
	CFG_FIELD("rdt_config_file", CFG_STRING, NULL,
		  "classes of cache and memory bandwidth (RDT)"),
	CFG_END,
};

const struct config_field shim_manager_fields[] = {
	CFG_FIELD("env", CFG_STRINGS, NULL, "further environment of shims"),
	CFG_FIELD("socket_dir", CFG_STRING, NULL,
		  "directory of shim sockets, absolute, 42 characters at most"),
	CFG_END,
};

const struct config_field blockfile_fields[] = {
	CFG_FIELD("root_path", CFG_STRING, NULL, "directory instead of the plugin's own"),
	CFG_FIELD("scratch_file", CFG_STRING, NULL,
		  "file with an empty file system that snapshots start from"),
	CFG_FIELD("fs_type", CFG_STRING, NULL, "its type"),
	CFG_FIELD("mount_options", CFG_STRINGS, NULL, "mount options"),
	CFG_FIELD("recreate_scratch", CFG_BOOL, "false",
		  "copy the scratch file anew at every start"),
	CFG_END,
};

const struct config_field snap_erofs_fields[] = {
	CFG_FIELD("root_path", CFG_STRING, NULL, "directory instead of the plugin's own"),
	CFG_FIELD("ovl_mount_options", CFG_STRINGS, NULL, "further options of overlay mounts"),
	CFG_FIELD("enable_fsverity", CFG_BOOL, "false", "fs-verity for layers"),
	CFG_FIELD("set_immutable", CFG_BOOL, "false", "immutable flag for layers"),
	CFG_FIELD("default_size", CFG_STRING, NULL, "size of the writable layer's image"),
	CFG_FIELD("dmverity_mode", CFG_STRING, NULL, "dm-verity for layers"),
	CFG_END,
};

const struct config_field native_fields[] = {
	CFG_FIELD("root_path", CFG_STRING, NULL, "directory instead of the plugin's own"),
	CFG_END,
};

const struct config_field overlayfs_fields[] = {
	CFG_FIELD("root_path", CFG_STRING, NULL, "directory instead of the plugin's own"),
	CFG_FIELD("upperdir_label", CFG_BOOL, "false", "add a label with the upper directory"),
	CFG_FIELD("sync_remove", CFG_BOOL, "false",
		  "remove directories at once instead of at the next cleanup"),
	CFG_FIELD("slow_chown", CFG_BOOL, "false",
		  "chown recursively where id mapped mounts are missing"),
	CFG_FIELD("mount_options", CFG_STRINGS, NULL, "further mount options"),
	CFG_END,
};

const struct config_field otlp_fields[] = {
	CFG_OLD("endpoint", "set OTEL_EXPORTER_OTLP_ENDPOINT"),
	CFG_OLD("protocol", "set OTEL_EXPORTER_OTLP_PROTOCOL"),
	CFG_OLD("insecure", "give http:// in OTEL_EXPORTER_OTLP_ENDPOINT"),
	CFG_END,
};

static const struct config_field transfer_unpack_fields[] = {
	CFG_FIELD("platform", CFG_STRING, NULL, "platform"),
	CFG_FIELD("snapshotter", CFG_STRING, NULL, "snapshotter"),
	CFG_FIELD("differ", CFG_STRING, NULL,
		  "differ that unpacks for it; the diff service's when empty"),
	CFG_FIELD("config_type", CFG_STRING, NULL, "media type of the configuration"),
	CFG_FIELD("layer_types", CFG_STRINGS, NULL, "media types of layers"),
	CFG_FIELD("optional", CFG_BOOL, NULL, "leave it out when the plugin is missing"),
	CFG_END,
};

const struct config_field transfer_fields[] = {
	CFG_FIELD("max_concurrent_downloads", CFG_INT, "3",
		  "layers of one image that are fetched at once"),
	CFG_FIELD("concurrent_layer_fetch_buffer", CFG_INT, "0",
		  "bytes of a layer that one of several requests fetches, and memory that each of "
		  "them takes; below 512 = one request"),
	CFG_FIELD("max_concurrent_uploaded_layers", CFG_INT, "3",
		  "layers of one image that are pushed at once"),
	CFG_FIELD("check_platform_supported", CFG_BOOL, "false",
		  "compare whole platforms with those of unpack_config, not only their systems"),
	CFG_FIELD("config_path", CFG_STRING, NULL,
		  "directories of hosts.toml files; none named: /etc/containerd/certs.d and "
		  "/etc/docker/certs.d"),
	CFG_FIELD("max_concurrent_unpacks", CFG_INT, "1",
		  "layers of one image that are unpacked at once"),
	CFG_SUB("unpack_config", CFG_TABLES, NULL, transfer_unpack_fields,
		"what is unpacked for which platform; without it anything, with any snapshotter"),
	CFG_END,
};
