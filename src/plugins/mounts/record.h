/* SPDX-License-Identifier: Apache-2.0 */
/* Records of activations in mounts.db: see docs/bolt-schema. Functions run their own transactions;
 * any thread. */
#pragma once

#include "bolt/bolt.h"
#include "plugins/mounts/manager.h"

#define MOUNTS_MAX 255 /* the index is one byte */

/* Stores name, labels, lease and system mounts, and gives the next id. -ERR_ALREADY_EXISTS */
int mount_record_create(struct bolt *db, const char *ns, const struct mount_activation *act,
			uint64_t *ret_id, struct err *err) _must_check_;
/* The active and the final system mounts: the activation is complete. */
int mount_record_finish(struct bolt *db, const char *ns, const struct mount_activation *act,
			struct err *err) _must_check_;
/* Absent is fine. */
int mount_record_delete(struct bolt *db, const char *ns, const char *name,
			struct err *err) _must_check_;
int mount_record_get(struct arena *a, struct bolt *db, const char *ns, const char *name,
		     struct mount_activation *ret, struct err *err) _must_check_;
/* @ns NULL = of all namespaces: *@ret_ns then has that of each. */
int mount_record_list(struct arena *a, struct bolt *db, const char *ns,
		      struct mount_activation **ret, const char ***ret_ns, size_t *ret_n,
		      struct err *err) _must_check_;
