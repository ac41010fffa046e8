/* SPDX-License-Identifier: Apache-2.0 */
/* The directories of a snapshotter: snapshots/<id>, and on their way in and out new-<random> and
 * rm-<random>.
 *
 * The record comes first: a directory is made under a temporary name, gets its number after its
 * record is committed, and loses it again after the record is gone. So whatever a crash leaves
 * behind is a directory that no record names, and cleanup may take everything of that kind which
 * nobody in this process is working on. A record without a directory is one whose maker never
 * answered; its key is unknown to everybody and the garbage collector of the metadata removes it.
 *
 * A number that is taken by left-overs (of a daemon that names directories first) is freed by
 * moving these aside.
 *
 * Any thread. The lock guards the list of names in work and every change of a number; it is held
 * over renames, not over removals.
 */
#pragma once

#include "base/cleanup.h"
#include "plugins/snapshotter/storage.h"

struct snapdirs;

/* A directory that somebody is working on; on the stack of who does, until installed or aborted. */
struct snapdir_temp {
	char name[32]; /* "" = none */
	struct snapdir_temp *next;
};

/* Makes @root and @root/snapshots (0700). */
int snapdirs_new(const char *root, struct snapdirs **ret, struct err *err) _must_check_;
void snapdirs_free(struct snapdirs *d);
int snapdirs_fd(const struct snapdirs *d); /* of snapshots/, borrowed */
/* Is called with a directory (relative to @dirfd) that is about to be removed, without the lock;
 * before the directories are used. */
void snapdirs_set_release(struct snapdirs *d, void (*release)(int dirfd, const char *name));

/* Makes new-<random> with @mode. */
int snapdirs_begin(struct snapdirs *d, mode_t mode, struct snapdir_temp *t,
		   struct err *err) _must_check_;
/* Gives it its number. On failure the directory is as before. */
int snapdirs_install(struct snapdirs *d, struct snapdir_temp *t, uint64_t id,
		     struct err *err) _must_check_;
/* Removes what was begun; nothing when there is nothing. */
void snapdirs_abort(struct snapdirs *d, struct snapdir_temp *t);

/* Removes the directory of a record that is gone. Absent is fine. */
int snapdirs_remove(struct snapdirs *d, uint64_t id, struct err *err) _must_check_;
/* Removes everything that neither a record of @st names nor a thread works on. Goes on after a
 * failure and returns the first. */
int snapdirs_cleanup(struct ctx *ctx, struct snapdirs *d, struct storage *st,
		     struct err *err) _must_check_;

DEFINE_CLEANUP(struct snapdirs *, snapdirs_free)
