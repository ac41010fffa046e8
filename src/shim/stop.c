/* SPDX-License-Identifier: Apache-2.0 */
/* `delete`: cleans up after a shim that has died, and `-info`. Both run to their end and may block.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "base/time.h"
#include "rpc/ttrpc.h"
#include "shim/bootstrap.h"
#include "shim/bundle.h"
#include "shim/options.h"
#include "shim/runtime.h"
#include "sys/attach.h"
#include "sys/mount.h"
#include "sys/spawn.h"
#include "version.h"

#define SHUTDOWN_NS (5 * NSEC_PER_SEC)
#define RUNTIME_NS (60 * NSEC_PER_SEC)
#define FEATURES_MAX (4u << 20)
#define STDIN_MAX (4u << 20)

static void warn(const char *what, const char *text)
{
	dprintf(2, "%s: %s\n", what, text);
}

static int message_write(struct arena *a, const ProtobufCMessage *m, struct err *err)
{
	size_t n;
	uint8_t *p = rpc_pack(a, m, &n);
	int r = p ? fd_write_full(1, p, n) : -ENOMEM;

	return r < 0 ? err_errno(err, r, "write the answer") : 0;
}

/* ---- delete ---- */

/* A shim that is there although the daemon knows none: its start was cut off together with the
 * daemon. It ends unless it holds something. */
static void server_end(struct arena *a, const struct shim_args *args, int fd)
{
	_cleanup_(loop_freep) struct loop *loop = NULL;
	Containerd__Task__V3__ShutdownRequest req = CONTAINERD__TASK__V3__SHUTDOWN_REQUEST__INIT;
	struct ctx ctx = {
		.arena = a, .ns = args->ns, .lease = "", .deadline = time_mono() + SHUTDOWN_NS};
	struct rpc_client *c;
	struct err err = ERR_INIT;

	if (loop_new(&loop) < 0) {
		close(fd);
		return;
	}
	loop_drive(loop, true);
	if (ttrpc_client_new(loop, fd, NULL, NULL, &c) < 0)
		return;
	req.id = (char *)args->id;
	if (rpc_call(c, &ctx, "containerd.task.v3.Task", "Shutdown", &req.base,
		     &google__protobuf__empty__descriptor, NULL, &err) < 0)
		warn("failed to end the shim", err.text);
	rpc_client_free(c);
	loop_run_once(loop, 0); /* frees it */
}

/* The dead shim's socket, when nobody listens behind it any more. That of a group stays with the
 * group's shim. */
static void socket_remove(struct arena *a, const struct shim_args *args, const char *bundle)
{
	static const char *const keys[] = {"io.containerd.runc.v2.group",
					   "io.kubernetes.cri.sandbox-id", NULL};
	struct bootstrap b = {.id = args->id, .ns = args->ns, .grpc_address = args->address};
	char group[512], path[SOCKET_PATH_MAX + 1], dir[PATH_MAX], link[PATH_MAX];
	ssize_t n = -1;
	int fd;

	if (snprintf(link, sizeof(link), "%s/s", bundle) < (int)sizeof(link))
		n = readlink(link, dir, sizeof(dir) - 1);
	dir[MAX(n, 0)] = '\0';
	b.socket_dir = n > 0 ? dir : SOCKET_DIR_DEFAULT;
	if (bundle_annotation(bundle, keys, group, sizeof(group)) != 1)
		snprintf(group, sizeof(group), "%s", args->id);
	if (bootstrap_socket_path(&b, group, path, NULL) < 0)
		return;
	if (unix_connect(path, &fd) < 0)
		unlink(path);
	else if (streq(group, args->id))
		server_end(a, args, fd);
	else
		close(fd);
}

static void container_destroy(struct arena *a, const struct shim_args *args, const char *bundle)
{
	const char *binary = "", *root = "";
	bool systemd = false;
	struct runtime rt;
	struct err err = ERR_INIT;
	char *rootfs = path_join(a, bundle, "rootfs");

	if (options_load(a, bundle, &binary, &root, &systemd) < 0 ||
	    runtime_init(&rt, args->ns, bundle, binary, root, systemd) < 0)
		return;
	if (runtime_run(&rt, (const char *const[]){"delete", "--force", args->id, NULL},
			time_mono() + RUNTIME_NS, &err) < 0)
		warn("failed to remove OCI container", err.text);
	runtime_done(&rt);
	if (rootfs && mount_unmount_all(rootfs, 0, NULL) < 0 &&
	    mount_unmount_all(rootfs, MNT_DETACH, &err) < 0)
		warn("failed to cleanup rootfs mount", err.text);
}

int action_delete(const struct shim_args *args, struct err *err)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	Containerd__Task__V2__DeleteResponse resp = CONTAINERD__TASK__V2__DELETE_RESPONSE__INIT;
	Google__Protobuf__Timestamp at = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
	struct timespec now;
	char cwd[PATH_MAX], *bundle, *pid_file;
	int pid = 0;

	if (!a)
		return err_nomem(err);
	if (ident_validate(args->id, err) < 0 || ident_validate(args->ns, err) < 0)
		return err_prefix(err, "delete");
	if (!getcwd(cwd, sizeof(cwd)))
		return err_errno(err, errno, "working directory");
	bundle = path_join(a, path_dir(a, cwd), args->id);
	pid_file = bundle ? path_join(a, bundle, "init.pid") : NULL;
	if (!pid_file)
		return err_nomem(err);
	if (bundle_pid_read(pid_file, &pid) < 0)
		pid = 0;
	container_destroy(a, args, bundle);
	socket_remove(a, args, bundle);
	now = time_now();
	at.seconds = now.tv_sec;
	at.nanos = (int32_t)now.tv_nsec;
	resp.pid = (uint32_t)pid;
	resp.exit_status = 128 + SIGKILL;
	resp.exited_at = &at;
	return message_write(a, &resp.base, err);
}

/* ---- -info ---- */

static const char *features_read(struct arena *a, const char *program)
{
	struct spawn_options o = SPAWN_OPTIONS_INIT;
	char *argv[] = {(char *)program, (char *)"features", NULL}, *out = NULL, *errors = NULL;
	size_t n;
	int status = 1;
	struct err err = ERR_INIT;

	o.path = program;
	o.argv = argv;
	if (spawn_run(a, &o, NULL, 0, FEATURES_MAX, time_mono() + RUNTIME_NS, &out, &n, &errors,
		      &status, &err) < 0 ||
	    status)
		return NULL; /* an old runtime has none */
	return out;
}

int action_info(const struct shim_args *args, struct err *err)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	Containerd__Types__RuntimeInfo info = CONTAINERD__TYPES__RUNTIME_INFO__INIT;
	Containerd__Types__RuntimeVersion version = CONTAINERD__TYPES__RUNTIME_VERSION__INIT;
	Google__Protobuf__Any *any = NULL, features = GOOGLE__PROTOBUF__ANY__INIT;
	Containerd__Runc__V1__Options *options;
	Containerd__Types__RuntimeInfo__AnnotationsEntry
		log = CONTAINERD__TYPES__RUNTIME_INFO__ANNOTATIONS_ENTRY__INIT,
		*annotations[] = {&log};
	struct runtime rt = {NULL};
	const char *json;
	char *in;
	size_t n;
	int r = a ? fd_read_all(a, 0, STDIN_MAX, &in, &n) : -ENOMEM;

	if (r < 0)
		return err_errno(err, r, "read standard input");
	if (n > 0 && rpc_unpack(a, &google__protobuf__any__descriptor, in, n, &any, err) < 0)
		return -err->kind;
	r = options_unpack(a, any, &options, err);
	if (r < 0)
		return r;
	rt.binary = options->binary_name;
	json = features_read(a, runtime_program(&rt));
	if (json) {
		features.type_url = (char *)"types.containerd.io/opencontainers/runtime-spec/1/"
					    "features/Features";
		features.value = (ProtobufCBinaryData){strlen(json), (uint8_t *)json};
		info.features = &features;
	}
	version.version = (char *)VERSION;
	version.revision = (char *)REVISION;
	info.name = (char *)"containerd-shim-runc-v2";
	info.version = &version;
	info.options = any;
	log.key = (char *)SHIM_LOG_ANNOTATION;
	log.value = (char *)"true";
	info.annotations = annotations;
	info.n_annotations = ARRAY_LEN(annotations);
	return message_write(a, &info.base, err);
}
