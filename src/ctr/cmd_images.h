/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of `ctr images` share. */
#pragma once

#include "ctr/commands.h"
#include "oci/descriptor.h"

extern const struct ctr_command images_mount, images_unmount; /* cmd_images_mount.c */
extern const struct ctr_command images_pull;		      /* cmd_images_pull.c */
extern const struct ctr_command images_push;		      /* cmd_images_push.c */
extern const struct ctr_command images_convert;		      /* cmd_images_convert.c */
extern const struct ctr_command images_check, images_ls;      /* cmd_images_list.c */
extern const struct ctr_command images_usage;		      /* cmd_images_list.c */
extern const struct ctr_command images_prune;		      /* cmd_prune.c */
extern const struct ctr_command images_import, images_export; /* cmd_images_archive.c */

/* All images that match the filters of the command line; connects. Those without a target are an
 * error. */
int images_list(struct ctr *c, char *const *filters, size_t n, PB_IMAGES(ListImagesResponse) * *ret,
		struct err *err) _must_check_;
struct descriptor images_target(const PB_IMAGES(Image) * image);
/* Removes a record and prints its name; @sync: waits until what nobody needs any more is gone. */
int images_delete(struct ctr *c, const char *name, bool sync, struct err *err) _must_check_;
