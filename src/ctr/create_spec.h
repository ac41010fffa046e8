/* SPDX-License-Identifier: Apache-2.0 */
/* Flags -> runtime spec. */
#pragma once

#include "ctr/create.h"
#include "client/image.h"

/* The spec of container @k->id. @image NULL: root file system @k->ref (--rootfs). @rootfs_mounts:
 * how its snapshot is mounted, to look up users. Fills k->terminal, io_uid, io_gid. */
int create_spec(struct ctr *c, struct create *k, const struct client_image *image,
		const struct client_mounts *rootfs_mounts, json_t **ret,
		struct err *err) _must_check_;
/* From the file of --config. */
int create_spec_from_file(struct ctr *c, struct create *k, json_t **ret,
			  struct err *err) _must_check_;
/* --device: nodes and directories of the host. */
int create_devices(struct ctr *c, json_t *spec, struct err *err) _must_check_;
/* --device and --gpus by CDI: the last step, since their edits refer to all that is there. */
int create_cdi_devices(struct ctr *c, json_t *spec, struct err *err) _must_check_;
/* --apparmor-profile, --apparmor-default-profile. */
int create_apparmor(struct ctr *c, json_t *spec, struct err *err) _must_check_;
/* --blockio-config-file, --blockio-class. */
int create_blockio(struct ctr *c, json_t *spec, struct err *err) _must_check_;
/* --uidmap and --gidmap as labels for the snapshot; nothing without them. */
int create_remap_labels(struct ctr *c, struct labels *l, struct err *err) _must_check_;
