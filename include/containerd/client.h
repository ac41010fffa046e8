/* SPDX-License-Identifier: Apache-2.0 */
/* A client of containerd, for C and C++. Link with `pkg-config --libs libcontainerd-client`.
 *
 * Errors. A function that can fail returns 0, or the negative of one of the codes below, which are
 * gRPC's. Its last argument, which may be NULL, then tells more; it is not touched otherwise, and
 * neither are the other outputs (ret_...) of a function that failed.
 *
 * Memory. What a function gives back through a `const struct containerd_... **ret` is one piece,
 * read only, and freed by containerd_free(), whatever it points to included. Handles (clients,
 * processes, writers, subscriptions) have functions of their own that free them. Arguments are
 * copied when they are needed for longer than the call. NULL stands for an empty text or list
 * wherever a text or list is an argument.
 *
 * Threads. A connection has a thread of its own. All functions block, and may be called from any
 * thread with the same client at the same time; another handle is for one thread at a time, if
 * nothing else is said. Callbacks run on threads of the library or of the caller, as is said with
 * each, and must not free what calls them. Nothing can be used after fork(), but exec() is fine:
 * all descriptors are closed then. The library changes no signal handlers, blocks all signals on
 * its threads, and writes nothing to the standard streams.
 *
 * Growth. Structs that come from the library get further members at their ends only. Those that go
 * to it begin with their size: initialise them with CONTAINERD_INIT(), and a program that was built
 * with an older header works with a newer library. */
#ifndef CONTAINERD_CLIENT_H
#define CONTAINERD_CLIENT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* struct containerd_pull_options o = CONTAINERD_INIT(struct containerd_pull_options); */
#ifdef __cplusplus
#define CONTAINERD_INIT(type)         \
	([]() {                       \
		type o_ = {};         \
		o_.size = sizeof(o_); \
		return o_;            \
	}())
#else
#define CONTAINERD_INIT(type) ((type){.size = sizeof(type)})
#endif

#if defined(__GNUC__) || defined(__clang__)
#define CONTAINERD_CHECK __attribute__((warn_unused_result))
#else
#define CONTAINERD_CHECK
#endif

/* ---- Errors ---- */

enum containerd_code {
	CONTAINERD_CANCELED = 1,
	CONTAINERD_UNKNOWN = 2,
	CONTAINERD_INVALID_ARGUMENT = 3,
	CONTAINERD_DEADLINE_EXCEEDED = 4,
	CONTAINERD_NOT_FOUND = 5,
	CONTAINERD_ALREADY_EXISTS = 6,
	CONTAINERD_PERMISSION_DENIED = 7,
	CONTAINERD_RESOURCE_EXHAUSTED = 8, /* no memory or descriptors, too */
	CONTAINERD_FAILED_PRECONDITION = 9,
	CONTAINERD_ABORTED = 10,
	CONTAINERD_OUT_OF_RANGE = 11,
	CONTAINERD_UNIMPLEMENTED = 12,
	CONTAINERD_INTERNAL = 13,
	CONTAINERD_UNAVAILABLE = 14, /* nobody listens, or the connection is gone */
	CONTAINERD_DATA_LOSS = 15,
	CONTAINERD_UNAUTHENTICATED = 16
};

struct containerd_error {
	int code;	 /* enum containerd_code */
	char text[2048]; /* one line, without a newline */
};

/* ---- Connections ---- */

struct containerd_client;

#define CONTAINERD_DEFAULT_ADDRESS "/run/containerd/containerd.sock"

/* "2.3.4+c0.1.0": of the library. */
const char *containerd_library_version(void);

/* Connects to @address (a path, or unix:///path; NULL = the default one). @ns: the containerd
 * namespace that all calls work in, NULL = "default". @timeout_ms: how long to wait for somebody to
 * listen there, 0 = not at all. -CONTAINERD_UNAVAILABLE, -CONTAINERD_PERMISSION_DENIED */
int containerd_connect(const char *address, const char *ns, int64_t timeout_ms,
		       struct containerd_client **ret,
		       struct containerd_error *error) CONTAINERD_CHECK;

struct containerd_client_options {
	size_t size;
	const char *ns;	    /* NULL = as @client's */
	const char *lease;  /* what is made is kept as long as this lease; NULL = none */
	int64_t timeout_ms; /* of each call, 0 = none; pulls and waits have their own */
};
/* A further handle to the same connection, which ends with the last handle. */
int containerd_client_derive(struct containerd_client *client,
			     const struct containerd_client_options *options,
			     struct containerd_client **ret,
			     struct containerd_error *error) CONTAINERD_CHECK;
/* No call is under way then. Frees no other handles: those that were made with it go first. NULL is
 * fine. */
void containerd_client_free(struct containerd_client *client);

/* Frees what a function gave back as a const struct. NULL is fine. */
void containerd_free(const void *result);

struct containerd_version {
	const char *version, *revision;
};
int containerd_version_get(struct containerd_client *client, const struct containerd_version **ret,
			   struct containerd_error *error) CONTAINERD_CHECK;

struct containerd_label {
	const char *key, *value;
};

/* ---- Namespaces ---- */

struct containerd_namespace {
	const char *name;
	const struct containerd_label *labels;
	size_t n_labels;
};
struct containerd_namespaces {
	size_t n;
	const struct containerd_namespace *const *v;
};
int containerd_namespace_list(struct containerd_client *client,
			      const struct containerd_namespaces **ret,
			      struct containerd_error *error) CONTAINERD_CHECK;
int containerd_namespace_create(struct containerd_client *client, const char *name,
				const struct containerd_label *labels, size_t n_labels,
				struct containerd_error *error) CONTAINERD_CHECK;
/* Only an empty one: -CONTAINERD_FAILED_PRECONDITION */
int containerd_namespace_remove(struct containerd_client *client, const char *name,
				struct containerd_error *error) CONTAINERD_CHECK;

/* ---- Images ---- */

struct containerd_image {
	const char *name;
	const char *media_type, *digest; /* of the manifest or index */
	int64_t target_size;		 /* of that document */
	int64_t created_s, updated_s;	 /* since 1970 */
	const struct containerd_label *labels;
	size_t n_labels;
};
struct containerd_images {
	size_t n;
	const struct containerd_image *const *v;
};
/* @filters as `ctr images ls` takes them ("name~=busybox"); one that matches is enough. */
int containerd_image_list(struct containerd_client *client, const char *const *filters,
			  size_t n_filters, const struct containerd_images **ret,
			  struct containerd_error *error) CONTAINERD_CHECK;
int containerd_image_get(struct containerd_client *client, const char *name,
			 const struct containerd_image **ret,
			 struct containerd_error *error) CONTAINERD_CHECK;
/* @sync: waits until what nobody needs any more is gone. */
int containerd_image_remove(struct containerd_client *client, const char *name, int sync,
			    struct containerd_error *error) CONTAINERD_CHECK;
/* @force: the new name may be another image's. -CONTAINERD_ALREADY_EXISTS */
int containerd_image_tag(struct containerd_client *client, const char *source, const char *target,
			 int force, struct containerd_error *error) CONTAINERD_CHECK;

/* A step of a transfer: the state of an object (a layer, a document), or, with an empty name, of
 * the whole. Valid during the callback. */
struct containerd_progress {
	const char *event; /* "downloading", "extracting", "complete", ... */
	const char *name;
	const char *parent;	 /* name of the object that this one belongs to */
	int64_t progress, total; /* bytes; total 0 = not known */
};
/* On a thread of the library, one call at a time. Anything but 0 gives the transfer up, which ends
 * with -CONTAINERD_CANCELED. */
typedef int (*containerd_progress_fn)(void *arg, const struct containerd_progress *progress);

struct containerd_pull_options {
	size_t size;
	const char *platform; /* "linux/arm64"; NULL = this host's */
	int all_platforms;    /* fetch all; what is unpacked is as above */
	int no_unpack;
	const char *snapshotter; /* NULL = the namespace's default */
	const struct containerd_label *labels;
	size_t n_labels;
	const char *username, *password; /* NULL = none are sent */
	const char *identity_token;	 /* instead of both */
	int plain_http;			 /* registry without TLS */
	const char *hosts_dir; /* as containerd's certs.d; NULL = as the daemon is configured */
	unsigned int max_downloads; /* layers at once; 0 = as the daemon is configured */
	containerd_progress_fn progress;
	void *progress_arg;
};
/* @reference with host and tag or digest: "docker.io/library/busybox:latest". The daemon does the
 * work. @options and @ret may be NULL. */
int containerd_image_pull(struct containerd_client *client, const char *reference,
			  const struct containerd_pull_options *options,
			  const struct containerd_image **ret,
			  struct containerd_error *error) CONTAINERD_CHECK;

struct containerd_texts {
	size_t n;
	const char *const *v;
};
struct containerd_import_options {
	size_t size;
	const char *platform; /* unpacked, and with `only_platform` the only one stored */
	int only_platform;
	int no_unpack;
	const char *snapshotter;
	const char *base_name; /* of images that the archive names by a tag only; NULL = "import" */
	const char *index_name; /* name of an image for the archive's index; NULL = none */
	containerd_progress_fn progress;
	void *progress_arg;
};
/* Reads a tar archive (OCI layout or `docker save`, compressed or not) from @fd, which may be a
 * pipe. *@ret (may be NULL): names of the images that were stored. */
int containerd_image_import(struct containerd_client *client, int fd,
			    const struct containerd_import_options *options,
			    const struct containerd_texts **ret,
			    struct containerd_error *error) CONTAINERD_CHECK;
struct containerd_export_options {
	size_t size;
	const char *platform;
	int all_platforms;
	containerd_progress_fn progress;
	void *progress_arg;
};
/* Writes an archive of the images @names to @fd. */
int containerd_image_export(struct containerd_client *client, int fd, const char *const *names,
			    size_t n_names, const struct containerd_export_options *options,
			    struct containerd_error *error) CONTAINERD_CHECK;

/* ---- Containers ---- */

struct containerd_mount {
	const char *type; /* "bind", "tmpfs", "overlay" */
	const char *source;
	const char *target;	    /* in the container; of snapshots: below the mount point */
	const char *const *options; /* "rbind", "ro" */
	size_t n_options;
};

struct containerd_container_options {
	size_t size;
	const char *image; /* NULL = none: the spec says where the root file system is */
	const char *platform, *snapshotter;
	/* NULL, or the OCI runtime spec as JSON. The members from args to privileged must not be
	 * given then. */
	const char *spec;
	const char *const *args; /* instead of the image's command */
	size_t n_args;
	const char *const *env; /* "K=V", or "K" to take the image's K away */
	size_t n_env;
	const struct containerd_mount *mounts;
	size_t n_mounts;
	const char *cwd;      /* NULL = the image's */
	const char *user;     /* name or uid, with :group or :gid; NULL = the image's */
	const char *hostname; /* NULL = none of its own */
	int terminal;
	int read_only;	       /* root file system */
	int host_network;      /* with the host's hosts and resolv.conf */
	int privileged;	       /* all capabilities and devices */
	uint64_t memory_limit; /* bytes, 0 = none */
	/* Record. */
	const struct containerd_label *labels; /* beside the image's */
	size_t n_labels;
	const char *runtime; /* NULL = "io.containerd.runc.v2" */
};
/* Unpacks the image where that is needed, makes a snapshot with the container's id as key, and the
 * record. -CONTAINERD_ALREADY_EXISTS */
int containerd_container_create(struct containerd_client *client, const char *id,
				const struct containerd_container_options *options,
				struct containerd_error *error) CONTAINERD_CHECK;

struct containerd_container {
	const char *id, *image, *runtime, *snapshotter, *snapshot_key;
	const char *spec; /* JSON */
	int64_t created_s, updated_s;
	const struct containerd_label *labels;
	size_t n_labels;
};
struct containerd_containers {
	size_t n;
	const struct containerd_container *const *v;
};
int containerd_container_list(struct containerd_client *client, const char *const *filters,
			      size_t n_filters, const struct containerd_containers **ret,
			      struct containerd_error *error) CONTAINERD_CHECK;
int containerd_container_get(struct containerd_client *client, const char *id,
			     const struct containerd_container **ret,
			     struct containerd_error *error) CONTAINERD_CHECK;
/* The record, and its snapshot unless @keep_snapshot. Not while there is a task:
 * -CONTAINERD_FAILED_PRECONDITION */
int containerd_container_remove(struct containerd_client *client, const char *id, int keep_snapshot,
				struct containerd_error *error) CONTAINERD_CHECK;

/* ---- Tasks: running containers, and further processes in them ---- */

struct containerd_process;

/* Descriptors of this program that the process reads and writes by; -1 = none. They stay the
 * caller's and are used until the process is freed; what comes is copied by a thread. With a
 * terminal only `in` and `out` are used, and the mode of a terminal of one's own is one's own
 * business. Without streams the process has /dev/null. */
struct containerd_streams {
	int in, out, err;
};

/* Makes the task of a container; its process waits for containerd_process_start(). @streams NULL:
 * none. */
int containerd_task_create(struct containerd_client *client, const char *id,
			   const struct containerd_streams *streams,
			   struct containerd_process **ret,
			   struct containerd_error *error) CONTAINERD_CHECK;
struct containerd_exec_options {
	size_t size;
	const char *const *args;
	size_t n_args;
	const char *const *env; /* beside the container's */
	size_t n_env;
	const char *cwd, *user; /* NULL = the container's */
	int terminal;
};
/* A further process in a running task. */
int containerd_task_exec(struct containerd_client *client, const char *id, const char *exec_id,
			 const struct containerd_exec_options *options,
			 const struct containerd_streams *streams, struct containerd_process **ret,
			 struct containerd_error *error) CONTAINERD_CHECK;
/* A process that is there already; @exec_id NULL: the task's first one. Its streams stay whose they
 * are. -CONTAINERD_NOT_FOUND */
int containerd_process_open(struct containerd_client *client, const char *id, const char *exec_id,
			    struct containerd_process **ret,
			    struct containerd_error *error) CONTAINERD_CHECK;

/* Of a handle, these may be called while another thread is in containerd_process_wait():
 * containerd_process_kill(), _resize(). */
int containerd_process_start(struct containerd_process *process, uint32_t *ret_pid,
			     struct containerd_error *error) CONTAINERD_CHECK;
/* Passes the end of its input on, and waits until the process has ended, or @timeout_ms (negative:
 * without end) have passed: -CONTAINERD_DEADLINE_EXCEEDED, and it can be waited for again. A
 * process that a signal has ended has 128 and the signal's number. */
int containerd_process_wait(struct containerd_process *process, int64_t timeout_ms,
			    uint32_t *ret_status, struct containerd_error *error) CONTAINERD_CHECK;
/* @all: to all processes of the container. -CONTAINERD_NOT_FOUND: it has ended. */
int containerd_process_kill(struct containerd_process *process, int signal, int all,
			    struct containerd_error *error) CONTAINERD_CHECK;
int containerd_process_resize(struct containerd_process *process, uint32_t width, uint32_t height,
			      struct containerd_error *error) CONTAINERD_CHECK;
/* Deletes it at the daemon; @force kills it first if it runs. When this returns, all that it has
 * written is in the descriptors. @ret_status may be NULL.
 * -CONTAINERD_FAILED_PRECONDITION: it runs. */
int containerd_process_remove(struct containerd_process *process, int force, uint32_t *ret_status,
			      struct containerd_error *error) CONTAINERD_CHECK;
/* Only the handle: a process that runs goes on, without somebody who copies its streams. NULL is
 * fine. */
void containerd_process_free(struct containerd_process *process);

enum containerd_status {
	CONTAINERD_STATUS_UNKNOWN = 0,
	CONTAINERD_STATUS_CREATED = 1,
	CONTAINERD_STATUS_RUNNING = 2,
	CONTAINERD_STATUS_STOPPED = 3,
	CONTAINERD_STATUS_PAUSED = 4,
	CONTAINERD_STATUS_PAUSING = 5
};
struct containerd_task {
	const char *id; /* of the container */
	uint32_t pid;
	int status; /* enum containerd_status */
	uint32_t exit_status;
};
struct containerd_tasks {
	size_t n;
	const struct containerd_task *const *v;
};
int containerd_task_list(struct containerd_client *client, const struct containerd_tasks **ret,
			 struct containerd_error *error) CONTAINERD_CHECK;
struct containerd_pids {
	size_t n;
	const uint32_t *v;
};
int containerd_task_pids(struct containerd_client *client, const char *id,
			 const struct containerd_pids **ret,
			 struct containerd_error *error) CONTAINERD_CHECK;
struct containerd_text {
	const char *text;
};
/* Metrics of the task's cgroup as JSON; their form is that of cgroup v1 or v2, whatever the host
 * has. */
int containerd_task_metrics(struct containerd_client *client, const char *id,
			    const struct containerd_text **ret,
			    struct containerd_error *error) CONTAINERD_CHECK;
int containerd_task_pause(struct containerd_client *client, const char *id,
			  struct containerd_error *error) CONTAINERD_CHECK;
int containerd_task_resume(struct containerd_client *client, const char *id,
			   struct containerd_error *error) CONTAINERD_CHECK;

/* ---- Snapshots; @snapshotter NULL: the namespace's default ---- */

enum containerd_snapshot_kind {
	CONTAINERD_SNAPSHOT_VIEW = 1,
	CONTAINERD_SNAPSHOT_ACTIVE = 2,
	CONTAINERD_SNAPSHOT_COMMITTED = 3
};
struct containerd_snapshot {
	const char *key, *parent;
	int kind; /* enum containerd_snapshot_kind */
	int64_t created_s, updated_s;
	const struct containerd_label *labels;
	size_t n_labels;
};
struct containerd_snapshots {
	size_t n;
	const struct containerd_snapshot *const *v;
};
struct containerd_mounts {
	size_t n;
	const struct containerd_mount *v;
};
struct containerd_usage {
	int64_t bytes, inodes;
};
int containerd_snapshot_list(struct containerd_client *client, const char *snapshotter,
			     const struct containerd_snapshots **ret,
			     struct containerd_error *error) CONTAINERD_CHECK;
/* On the committed snapshot @parent (NULL = an empty one). @read_only: a view. @ret may be NULL.
 * Without a label containerd.io/gc.root or a lease it may be collected as garbage. */
int containerd_snapshot_prepare(struct containerd_client *client, const char *snapshotter,
				const char *key, const char *parent, int read_only,
				const struct containerd_label *labels, size_t n_labels,
				const struct containerd_mounts **ret,
				struct containerd_error *error) CONTAINERD_CHECK;
int containerd_snapshot_mounts(struct containerd_client *client, const char *snapshotter,
			       const char *key, const struct containerd_mounts **ret,
			       struct containerd_error *error) CONTAINERD_CHECK;
int containerd_snapshot_commit(struct containerd_client *client, const char *snapshotter,
			       const char *name, const char *key,
			       const struct containerd_label *labels, size_t n_labels,
			       struct containerd_error *error) CONTAINERD_CHECK;
int containerd_snapshot_remove(struct containerd_client *client, const char *snapshotter,
			       const char *key, struct containerd_error *error) CONTAINERD_CHECK;
/* Of this one alone, without those below it. */
int containerd_snapshot_usage(struct containerd_client *client, const char *snapshotter,
			      const char *key, struct containerd_usage *ret,
			      struct containerd_error *error) CONTAINERD_CHECK;

/* ---- Content ---- */

struct containerd_content {
	const char *digest;
	int64_t bytes;
	int64_t created_s, updated_s;
	const struct containerd_label *labels;
	size_t n_labels;
};
struct containerd_contents {
	size_t n;
	const struct containerd_content *const *v;
};
struct containerd_blob {
	const void *data; /* a NUL follows */
	size_t len;
};
int containerd_content_list(struct containerd_client *client, const char *const *filters,
			    size_t n_filters, const struct containerd_contents **ret,
			    struct containerd_error *error) CONTAINERD_CHECK;
/* A whole blob of at most @max bytes, checked against its digest. -CONTAINERD_RESOURCE_EXHAUSTED:
 * it is larger. */
int containerd_content_read(struct containerd_client *client, const char *digest, size_t max,
			    const struct containerd_blob **ret,
			    struct containerd_error *error) CONTAINERD_CHECK;
/* A blob of any size, written to @fd on the caller's thread (mind SIGPIPE), and checked when all is
 * written. */
int containerd_content_copy(struct containerd_client *client, const char *digest, int fd,
			    struct containerd_error *error) CONTAINERD_CHECK;
int containerd_content_remove(struct containerd_client *client, const char *digest,
			      struct containerd_error *error) CONTAINERD_CHECK;

struct containerd_writer;
/* @ref: a name for what is being written; an earlier try under it is overwritten. */
int containerd_writer_open(struct containerd_client *client, const char *ref,
			   struct containerd_writer **ret,
			   struct containerd_error *error) CONTAINERD_CHECK;
int containerd_writer_write(struct containerd_writer *writer, const void *data, size_t len,
			    struct containerd_error *error) CONTAINERD_CHECK;
/* Makes it a blob, once. Without a lease or a label containerd.io/gc.root it may be collected as
 * garbage. *@ret (may be NULL): its digest. */
int containerd_writer_commit(struct containerd_writer *writer,
			     const struct containerd_label *labels, size_t n_labels,
			     const struct containerd_text **ret,
			     struct containerd_error *error) CONTAINERD_CHECK;
/* What was not committed is dropped. NULL is fine. */
void containerd_writer_free(struct containerd_writer *writer);

/* ---- Leases ---- */

struct containerd_lease {
	const char *id;
	int64_t created_s;
	const struct containerd_label *labels;
	size_t n_labels;
};
struct containerd_leases {
	size_t n;
	const struct containerd_lease *const *v;
};
/* @id NULL: one is made up. @seconds: it ends by itself, 0 = never. */
int containerd_lease_create(struct containerd_client *client, const char *id, int64_t seconds,
			    const struct containerd_lease **ret,
			    struct containerd_error *error) CONTAINERD_CHECK;
int containerd_lease_remove(struct containerd_client *client, const char *id, int sync,
			    struct containerd_error *error) CONTAINERD_CHECK;
int containerd_lease_list(struct containerd_client *client, const struct containerd_leases **ret,
			  struct containerd_error *error) CONTAINERD_CHECK;

/* ---- Events ---- */

struct containerd_event {
	int64_t time_s;
	int32_t time_ns;
	const char *ns, *topic, *type;
	const char *event; /* JSON; "" when the type is not known here */
};
/* On a thread of the subscription's own. @event is valid during the call. The last call has none:
 * @end tells why, NULL when the daemon or containerd_subscription_free() has ended it. */
typedef void (*containerd_event_fn)(void *arg, const struct containerd_event *event,
				    const struct containerd_error *end);
struct containerd_subscription;
/* Events of all namespaces, those that match one of the @filters
 * (`topic~="/tasks/",namespace==default`). What happens before the daemon has the request is
 * missed.
 */
int containerd_events_subscribe(struct containerd_client *client, const char *const *filters,
				size_t n_filters, containerd_event_fn fn, void *arg,
				struct containerd_subscription **ret,
				struct containerd_error *error) CONTAINERD_CHECK;
/* Ends it and waits for its thread: not from the callback. Before its client. NULL is fine. */
void containerd_subscription_free(struct containerd_subscription *subscription);

#ifdef __cplusplus
}
#endif

#endif
