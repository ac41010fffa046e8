/* SPDX-License-Identifier: Apache-2.0 */
/* The root of the command table. A group of commands is one file cmd_<group>.c with one symbol,
 * listed here and in meson.build. */
#include "ctr/commands.h"

static const struct ctr_flag global_flags[] = {
	{"debug", 0, CTR_BOOL, "print more about what happens"},
	{"address", 'a', CTR_STRING, "address of containerd's gRPC server",
	 "/run/containerd/containerd.sock", "CONTAINERD_ADDRESS"},
	{"timeout", 0, CTR_DURATION, "total time that a command may take", "0s"},
	{"connect-timeout", 0, CTR_DURATION, "time to wait for containerd to accept the connection",
	 "0s"},
	{"namespace", 'n', CTR_STRING, "namespace that commands work in", "default",
	 "CONTAINERD_NAMESPACE"},
	{"version", 'v', CTR_BOOL, "print the version"},
	{}};

const struct ctr_command ctr_root = {
	.name = "ctr",
	.usage = "command line of containerd",
	.description = "   Debugging and administration of a containerd daemon. The commands talk "
		       "to the daemon's gRPC socket; every object\n"
		       "   they show lives in one namespace (--namespace).",
	.flags = CTR_FLAGS(global_flags),
	.subcommands = CTR_COMMANDS(
		&cmd_plugins, &cmd_version, &cmd_containers, &cmd_content, &cmd_events, &cmd_images,
		&cmd_leases, &cmd_namespaces, &cmd_run, &cmd_snapshots, &cmd_system, &cmd_tasks,
		&cmd_pprof, &cmd_oci, &cmd_pods, &cmd_sandboxes, &cmd_shim, &cmd_info, &cmd_install,
		&cmd_deprecations, &cmd_completion, &cmd_man, &cmd_complete),
};
