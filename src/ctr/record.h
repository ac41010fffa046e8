/* SPDX-License-Identifier: Apache-2.0 */
/* What the commands about stored records (images, blobs, snapshots, namespaces, leases) share:
 * label updates, ages, times. */
#pragma once

#include "ctr/ctr.h"

/* Positional argument @i, which must be there: `<what> must be provided`. */
int record_arg(struct ctr *c, size_t i, const char *what, const char **ret,
	       struct err *err) _must_check_;
/* The words after the first one are labels, at least one. */
int record_label_args(struct ctr *c, struct labels *ret, struct err *err) _must_check_;
/* A mask of labels.K for each label, in the arena. */
int record_label_mask(struct arena *a, const struct labels *l, Google__Protobuf__FieldMask *ret,
		      struct err *err) _must_check_;
/* "k=v,k2=v2" and a newline, as `label` commands answer. */
int record_print_labels(struct arena *a, struct pb_label *const *entries, size_t n,
			struct err *err) _must_check_;
/* The same as a cell of a table: "-" when empty. NULL = no memory. */
const char *record_labels(struct arena *a, struct pb_label *const *entries, size_t n);

/* "2 hours", "About a minute": an age as people say it. */
void record_age(int64_t seconds, char out[40]);
/* RFC3339 in local time, whole seconds. */
void record_local_time(struct timespec t, char out[40]);
/* RFC3339 in UTC, whole seconds: values of labels. In the arena; NULL = no memory. */
const char *record_utc_time(struct arena *a, struct timespec t);

/* Writes a blob to @fd. */
int record_copy_content(struct ctr *c, const char *digest, int fd, struct err *err) _must_check_;

/* A lease that holds what the command makes until it has ended: from now on the one of c->ctx. */
int record_lease_begin(struct ctr *c, struct err *err) _must_check_;
void record_lease_end(struct ctr *c);

/* Time to undo something, also when the command's own is over: sets the deadline of c->ctx. Returns
 * the one that is to be put back. */
int64_t record_undo_begin(struct ctr *c);
/* Removes a snapshot that the command has made for itself; what fails is told as a warning. */
void record_undo_snapshot(struct ctr *c, const char *snapshotter, const char *key);

/* Runs @fn for every positional argument. The first error is the result; with several arguments
 * each is also warned of.
 * @missing_ok: what is not found is warned of only. */
int record_each(struct ctr *c, const char *failed, bool missing_ok,
		int (*fn)(struct ctr *c, const char *arg, bool last, struct err *err),
		struct err *err) _must_check_;

/* For commands that are in ctr's table and that nobody has written: one clear line. */
int record_unimplemented(struct ctr *c, struct err *err) _must_check_;
