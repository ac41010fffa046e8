/* SPDX-License-Identifier: Apache-2.0 */
/* Keys of the configuration outside of plugins, in the order of `config default`. */
#include "daemon/config.h"

static const struct config_field debug_fields[] = {
	CFG_FIELD("level", CFG_STRING, NULL,
		  "log level: trace, debug, info, warn, error, fatal, panic"),
	CFG_FIELD("format", CFG_STRING, NULL, "log format: text or json"),
	CFG_UNHONOURED("log_trace_id", CFG_BOOL, "false", "add trace ids to the fields of the log"),
	CFG_OPTIONAL("trace", CFG_STRING,
		     "file for a trace of the daemon's work (Chrome trace events, for Perfetto)"),
	CFG_OLD("address", "moved to plugins.'io.containerd.server.v1.debug' in version 4"),
	CFG_OLD("uid", "moved to plugins.'io.containerd.server.v1.debug' in version 4"),
	CFG_OLD("gid", "moved to plugins.'io.containerd.server.v1.debug' in version 4"),
	CFG_END,
};

static const struct config_field cgroup_fields[] = {
	CFG_FIELD("path", CFG_STRING, NULL, "cgroup that the daemon joins at start"),
	CFG_END,
};

static const struct config_field proxy_fields[] = {
	CFG_FIELD("type", CFG_STRING, NULL, "snapshot, content, diff or sandbox"),
	CFG_FIELD("address", CFG_STRING, NULL, "unix socket of the plugin's gRPC server"),
	CFG_FIELD("platform", CFG_STRING, NULL,
		  "platform that the plugin serves; the host's when empty"),
	CFG_FIELD("exports", CFG_STRING_MAP, NULL, "exports of the plugin; address is added"),
	CFG_FIELD("capabilities", CFG_STRINGS, NULL, "capabilities of the plugin"),
	CFG_END,
};

static const struct config_field processor_fields[] = {
	CFG_FIELD("accepts", CFG_STRINGS, NULL, "media types that the processor reads"),
	CFG_FIELD("returns", CFG_STRING, NULL, "media type that it writes"),
	CFG_FIELD("path", CFG_STRING, NULL, "path or name of its program"),
	CFG_FIELD("args", CFG_STRINGS, NULL, "its arguments"),
	CFG_FIELD("env", CFG_STRINGS, NULL, "its environment"),
	CFG_END,
};

/* One name more than the table has is an error, like any other unknown key. */
static const struct config_field timeout_fields[] = {
	CFG_FIELD("io.containerd.timeout.bolt.open", CFG_DURATION, "0s",
		  "wait for the lock of a database; 0 = for ever"),
	CFG_FIELD("io.containerd.timeout.cri.defercleanup", CFG_DURATION, "1m0s",
		  "cleaning up after a failed CRI call"),
	CFG_FIELD("io.containerd.timeout.metrics.shimstats", CFG_DURATION, "2s",
		  "asking one shim for its metrics"),
	CFG_FIELD("io.containerd.timeout.shim.cleanup", CFG_DURATION, "5s", "deleting a dead shim"),
	CFG_FIELD("io.containerd.timeout.shim.load", CFG_DURATION, "5s",
		  "reconnecting to a shim at start"),
	CFG_FIELD("io.containerd.timeout.shim.shutdown", CFG_DURATION, "3s",
		  "shutting down a shim"),
	CFG_FIELD("io.containerd.timeout.task.state", CFG_DURATION, "2s",
		  "asking a shim for the state of a task"),
	CFG_END,
};

#define DECODER_ARGS                                                                             \
	"path='ctd-decoder', args=['--decryption-keys-path', '/etc/containerd/ocicrypt/keys'], " \
	"env=['OCICRYPT_KEYPROVIDER_CONFIG=/etc/containerd/ocicrypt/ocicrypt_keyprovider.conf']"
#define LAYER "application/vnd.oci.image.layer.v1."

const struct config_field config_fields[] = {
	CFG_FIELD("version", CFG_INT, "4", "version of the file; older ones are migrated"),
	CFG_FIELD("root", CFG_STRING, "/var/lib/containerd", "directory of what persists"),
	CFG_FIELD("state", CFG_STRING, "/run/containerd", "directory of what ends with the boot"),
	CFG_FIELD("temp", CFG_STRING, NULL, "TMPDIR of the daemon"),
	CFG_FIELD("disabled_plugins", CFG_STRINGS, NULL, "plugins (type.id) that are not loaded"),
	CFG_FIELD("required_plugins", CFG_STRINGS, NULL,
		  "plugins (type.id) without which the daemon does not start"),
	CFG_FIELD("oom_score", CFG_INT, "0", "oom_score_adj of the daemon, 0 = unchanged"),
	CFG_FIELD("imports", CFG_STRINGS, "['/etc/containerd/conf.d/*.toml']",
		  "further files, relative to this one; * matches"),
	CFG_SUB("debug", CFG_TABLE, NULL, debug_fields, "logging"),
	CFG_FIELD("plugins", CFG_ANY, "{}", "tables of plugins by type.id"),
	CFG_SUB("cgroup", CFG_TABLE, NULL, cgroup_fields, "the daemon's cgroup"),
	CFG_SUB("proxy_plugins", CFG_MAP, NULL, proxy_fields, "plugins behind a gRPC socket"),
	CFG_SUB("timeouts", CFG_TABLE, NULL, timeout_fields, "limits of time"),
	CFG_SUB("stream_processors", CFG_MAP,
		"{'io.containerd.ocicrypt.decoder.v1.tar' = {accepts=['" LAYER
		"tar+encrypted'], returns='" LAYER "tar', " DECODER_ARGS "}, "
		"'io.containerd.ocicrypt.decoder.v1.tar.gzip' = {accepts=['" LAYER
		"tar+gzip+encrypted'], returns='" LAYER "tar+gzip', " DECODER_ARGS "}}",
		processor_fields, "programs that turn layers of one media type into another"),
	CFG_OLD("grpc",
		"moved to plugins.'io.containerd.server.v1.grpc' and '...grpc-tcp' in version 4"),
	CFG_OLD("ttrpc", "moved to plugins.'io.containerd.server.v1.ttrpc' in version 4"),
	CFG_OLD("metrics", "moved to plugins.'io.containerd.server.v1.metrics' in version 4"),
	CFG_OLD("plugin_dir", "plugins are not loaded from files"),
	CFG_OLD("subreaper", "shims are their own subreapers"),
	CFG_OLD("no_subreaper", "shims are their own subreapers"),
	CFG_END,
};
