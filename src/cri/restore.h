/* SPDX-License-Identifier: Apache-2.0 */
/* Containers that are made from a checkpoint: CreateContainer is given an archive of
 * CheckpointContainer in place of an image, or an image of such an archive's files; the start then
 * restores the processes instead of starting one. Off unless
 * enable_experimental_restore_via_create is set.
 *
 * The archive is somebody else's. It is unpacked by the confined worker; of its documents only the
 * name of the base image and the time are used, both checked; nothing but plain files reaches
 * CRIU's directory. What the container may do is what the request and the node say, as for any
 * other container. */
#pragma once

#include "cri/container.h"
#include "cri/image.h"

struct cri_restore {
	/* For the container in the request's place: the base image, the request's annotations and
	 * those that tell of the checkpoint. In ctx's arena. */
	const CRI(ContainerConfig) * config;
	struct cri_image base;
	json_t *base_spec; /* owned, may be taken */
	char *dir;	   /* what was unpacked; NULL = nothing, or it is the container's */
	int fd;
};
#define CRI_RESTORE_INIT ((struct cri_restore){.fd = -1})

/* An image by this name is a file of this host: only a checkpoint's archive can be meant. */
bool cri_restore_is_archive(const char *image);

/* Unpacks the archive @config->image names, or the files of the image @image (NULL = archive), and
 * finds the base image, pulled when it is named by a digest and not there. @ret is initialised and
 * needs cri_restore_done().
 *
 * -ERR_UNKNOWN           switched off by the configuration, or there is no CRIU
 * -ERR_INVALID_ARGUMENT  the archive is not one, or hostile
 * -ERR_NOT_FOUND         the base image is not there */
int cri_restore_open(struct ctx *ctx, struct cri *c, const CRI(ContainerConfig) * config,
		     const struct cri_image *image, const char *snapshotter,
		     struct cri_restore *ret, struct err *err) _must_check_;
/* Gives the container @k what it had: changes of its files on @rootfs (its own snapshot), its log,
 * and the processes' images for the start. */
int cri_restore_apply(struct ctx *ctx, struct cri *c, struct cri_restore *r,
		      struct cri_container *k, const struct mounts *rootfs,
		      struct err *err) _must_check_;
void cri_restore_done(struct cri_restore *r);

/* The directory that a start has to restore from; NULL = an ordinary start, or no memory. */
const char *cri_restore_path(struct cri *c, struct arena *a, const char *id);
/* The start has succeeded. */
void cri_restore_drop(struct cri *c, struct arena *a, const char *id);
