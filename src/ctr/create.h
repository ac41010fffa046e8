/* SPDX-License-Identifier: Apache-2.0 */
/* Making a container's record from the command line: what `run` and `containers create` share. */
#pragma once

#include "ctr/ctr.h"

/* Flag groups of both commands. */
extern const struct ctr_flag runtime_flags[];
extern const struct ctr_flag container_flags[];

/* What the positional arguments and the flags say. */
struct create {
	const char *ref; /* image, or root file system with --rootfs; "" with --config */
	const char *id;
	const char *const *args; /* command of the process */
	size_t n_args;
	const char *snapshotter;     /* "" when the container has no snapshot */
	struct client_mounts mounts; /* of the snapshot that was made */
	struct rpc_stream *lease;    /* its creation, later its end: not waited for yet */
	bool terminal;		     /* of the spec that was made */
	uint32_t io_uid, io_gid;     /* host ids of the container's root when ids are mapped */
};

/* Reads the positional arguments; -ERR_INVALID_ARGUMENT with ctr's texts. */
int create_args(struct ctr *c, struct create *ret, struct err *err) _must_check_;
/* Of the words of the line those that go into a spec must be UTF-8, since a spec is JSON. */
int create_check_text(const struct ctr *c, struct err *err) _must_check_;
/* Snapshot, spec and record; undoes the snapshot when a later step fails. Needs a connection.
 * In any case create_done() has to follow. */
int create_container(struct ctr *c, struct create *k, struct err *err) _must_check_;
/* Waits until the lease of the creation is gone. */
void create_done(struct ctr *c, struct create *k);
/* Deletes snapshot and record that create_container() made. */
int create_undo(struct ctr *c, const struct create *k, struct err *err) _must_check_;
/* Deletes the record, and the snapshot unless @keep_snapshot. */
int create_remove(struct ctr *c, const char *id, bool keep_snapshot, struct err *err) _must_check_;
