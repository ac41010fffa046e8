/* SPDX-License-Identifier: Apache-2.0 */
/* What the files about containers share. */
#pragma once

#include "cri/internal.h"
#include "cri/task.h"
#include "plugins/differ/temp_mount.h"

/* Changes the status: @fn changes a copy (strings in the container's arena), which is written to
 * the disk before anybody sees it. One change at a time; waits for others. Any thread, begun or
 * not. Nothing happens when the container has been removed. */
int cri_container_change(struct cri *c, struct cri_container *k,
			 void (*fn)(struct cri_status *s, void *arg), void *arg,
			 struct err *err) _must_check_;

/* Changes linux.resources of the spec by @fn, and of the task when it runs; puts the spec back when
 * that is refused. The status tells what the spec has. Begun. */
typedef int (*cri_resources_fn)(json_t *spec, void *arg, struct err *err);
int cri_container_change_resources(struct ctx *ctx, struct cri *c, struct cri_container *k,
				   cri_resources_fn fn, void *arg, struct err *err) _must_check_;

/* The pod; NULL when it is not there any more. With a reference. */
struct cri_pod *cri_container_pod(struct cri *c, const struct cri_container *k);

/* -ERR_UNKNOWN "sandbox container ... is not running" */
int cri_pod_is_ready(struct cri_pod *p, struct err *err) _must_check_;

/* io.h's options for this container. In @a. */
struct cri_io_options;
int cri_container_io_options(struct ctx *ctx, struct cri *c, struct cri_container *k,
			     struct cri_io_options *ret, struct err *err) _must_check_;

/* What is read of a container's root file system before it runs. */
struct cri_rootfs {
	const char *passwd, *group; /* texts in ctx's arena, "" = absent */
	struct temp_mount mount;    /* its fd is -1 when it was not needed */
};
#define CRI_ROOTFS_INIT ((struct cri_rootfs){.passwd = "", .group = "", .mount = TEMP_MOUNT_INIT})

/* Of the mounts @m of its snapshot; @mounted: whatever it takes to read the files, the whole of it
 * is wanted. cri_rootfs_done() has to follow on failure, too. */
int cri_rootfs_open(struct ctx *ctx, const struct mounts *m, bool mounted, struct cri_rootfs *ret,
		    struct err *err) _must_check_;
void cri_rootfs_done(struct cri_rootfs *f);

/* Whether the image declares volumes that are to be filled. */
bool cri_image_has_volumes(const struct cri *c, const json_t *image_config);
/* What the container's image declares as volumes, with contents copied; before the record is made.
 * *@ret in @a. */
struct cri_spec_mount;
int cri_image_volumes(struct ctx *ctx, struct cri *c, const char *id,
		      const CRI(ContainerConfig) * config, const json_t *image_config,
		      int rootfs_fd, struct cri_spec_mount **ret, size_t *ret_n,
		      struct err *err) _must_check_;
/* Mounts of images: directories on the host by the mount's index, NULL where it has none. */
int cri_image_mounts(struct ctx *ctx, struct cri *c, struct cri_pod *p,
		     const CRI(ContainerConfig) * config, const char *const **ret,
		     struct err *err) _must_check_;

/* Deletes everything of a container but its place in the tables; ctx's lease is the pod's, which
 * gives the snapshot up. Absent parts are fine. */
int cri_container_destroy(struct ctx *ctx, struct cri *c, const char *id, const char *snapshotter,
			  struct err *err) _must_check_;

/* An exit that no event told of. -ENOMEM */
int cri_container_exited(struct cri *c, struct cri_container *k, const struct runtime_exit *x);
/* Kills what runs, and waits for the exit to be recorded; begun or not. */
int cri_container_kill(struct ctx *ctx, struct cri *c, struct cri_container *k,
		       struct err *err) _must_check_;
/* It is recorded as running, and there is no task that could end: it has ended unseen. Nothing
 * happens when its exit is just being handled, which deletes the task first. */
int cri_container_lost(struct cri *c, struct cri_container *k, struct err *err) _must_check_;
/* A signal by name or number; 0 = there is none such. */
int cri_signal_number(const char *s);

/* Whether containers can be checkpointed and restored. -ERR_UNKNOWN */
int cri_criu_check(struct cri *c, struct err *err) _must_check_;

/* Exits and OOM kills, from the daemon's events. */
struct cri_exits;
int cri_exits_new(struct cri *c, struct cri_exits **ret, struct err *err) _must_check_;
void cri_exits_stop(struct cri_exits *x);
void cri_exits_free(struct cri_exits *x);
