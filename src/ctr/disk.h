/* SPDX-License-Identifier: Apache-2.0 */
/* What is stored in a namespace and who needs it: for `system df` and the prune commands. A picture
 * of one moment: what is made meanwhile is not in it. Everything is in the arena of c->ctx. */
#pragma once

#include "ctr/cmd_snapshots.h"

struct disk_blob {
	const char *digest;
	int64_t size;
	const PB_CONTENT(Info) * info;
	bool of_image; /* an image needs it */
	bool of_used;  /* an image that a container uses needs it */
};

struct disk_snapshot {
	const PB_SNAPSHOTS(Info) * info;
	struct disk_snapshot *parent; /* NULL = none */
	bool needed;		      /* by a container, an image, a lease, or one that is needed */
	bool of_container;	      /* a container needs it */
	size_t depth;		      /* number of ancestors */
};

struct disk_snapshots {
	const char *snapshotter;
	struct disk_snapshot *v; /* by key */
	size_t n;
};

struct disk {
	PB_IMAGES(Image) * *images;
	size_t n_images;
	PB_CONTAINERS(Container) * *containers;
	size_t n_containers;
	PB_LEASES(Lease) * *leases;
	size_t n_leases;
	struct disk_blob *blobs; /* by digest */
	size_t n_blobs;
};

/* Everything but the snapshots; connects. */
int disk_load(struct ctr *c, struct disk *ret, struct err *err) _must_check_;
bool disk_image_used(const struct disk *d, const PB_IMAGES(Image) * image);
/* The snapshots of one snapshotter, marked by @d. */
int disk_load_snapshots(struct ctr *c, const struct disk *d, const char *snapshotter,
			struct disk_snapshots *ret, struct err *err) _must_check_;
/* The snapshotters that work. */
int disk_snapshotters(struct ctr *c, const char ***ret, size_t *ret_n,
		      struct err *err) _must_check_;
