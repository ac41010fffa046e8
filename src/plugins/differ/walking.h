/* SPDX-License-Identifier: Apache-2.0 */
/* io.containerd.differ.v1.walking: unpacks a layer into what mounts describe, and makes a layer of
 * what two of them differ in.
 *
 * Where that gives the same result, nothing is mounted: for one overlay with an upper directory,
 * and for one bind mount that may be written, the worker gets the directory itself. An overlay that
 * names an upper directory and no lower ones is fine here: that is how a layer is unpacked that
 * gets its parent only when it is committed (whiteouts are kept as overlay's, not applied).
 *
 * Any thread but the loop's; blocks until the worker is done.
 */
#pragma once

#include <stdbool.h>
#include <time.h>

#include "core/db.h"
#include "oci/descriptor.h"

/* True for the layer types that are a tar, plain or compressed with gzip or zstd. */
bool walking_supports(const char *media_type);
/* -ERR_UNIMPLEMENTED, with what to do about it. */
int walking_unknown(const char *media_type, struct err *err);

/* Unpacks the blob @d of ctx's namespace.
 *
 * @sync_fs      the file system of the target is on the disk when this returns
 * @ret_applied  the uncompressed layer: its media type, digest (the diff ID), size; in ctx's arena
 *
 * -ERR_UNIMPLEMENTED  the media type is none of walking_supports()
 * and what content_open(), the mounts and worker_unpack() say. On failure the target holds a part.
 */
int walking_apply(struct ctx *ctx, struct db *db, const struct descriptor *d,
		  const struct mounts *mounts, bool sync_fs, struct descriptor *ret_applied,
		  struct err *err) _must_check_;

/* The same from a descriptor (file or pipe, borrowed), to its end: for a layer that is still being
 * downloaded. */
int walking_apply_fd(struct ctx *ctx, int input_fd, const char *media_type,
		     const struct mounts *mounts, bool sync_fs, struct descriptor *ret_applied,
		     struct err *err) _must_check_;

/* The same for a layer whose snapshot @upper (one bind mount) gets its parent only when it is
 * committed: whiteouts are kept as an overlay's. @input_fd -1 = the blob @d of ctx's namespace.
 *
 * -ERR_ABORTED  the layer has something that depends on what lies below (a directory that it does
 *               not name itself, a hard link): it is to be unpacked in its place */
int walking_apply_alone(struct ctx *ctx, struct db *db, const struct descriptor *d, int input_fd,
			const struct mounts *upper, bool sync_fs, struct descriptor *ret_applied,
			struct err *err) _must_check_;

/* ---- The way back ---- */

struct walking_diff_options {
	const char *media_type; /* of the OCI layers plain, gzip, zstd; "" = gzip */
	const char *ref; /* key of the ingest, whose data is thrown away; "" = one of our own */
	struct labels labels;
	const struct timespec *epoch; /* nothing in the layer is newer; NULL = times as they are */
};

/* Makes a layer of what @upper has differently from @lower (no mounts = nothing), and commits it
 * with the labels given and containerd.io/uncompressed. Neither is written to. When the overlay
 * @upper is @lower and one more directory, only what this directory names is looked at.
 *
 * @ret  media type, digest, size; in ctx's arena
 *
 * -ERR_UNIMPLEMENTED  the media type is none of the three
 * and what the mounts, worker_pack() and the content store say. */
int walking_diff(struct ctx *ctx, struct db *db, const struct mounts *lower,
		 const struct mounts *upper, const struct walking_diff_options *o,
		 struct descriptor *ret, struct err *err) _must_check_;
