/* SPDX-License-Identifier: Apache-2.0 */
/* Bundle: the directory of a task below the runtime's state directory, and its work directory below
 * the root.
 *
 *     <state>/<ns>/<id>/   config.json rootfs/ work -> <root>/<ns>/<id> log (fifo) bootstrap.json
 *                          address shim-binary-path
 *
 * Removal renames to ".<id>" first, so a half-removed bundle is never taken for a task. */
#pragma once

#include "base/arena.h"
#include "base/err.h"
#include "core/container.h"

struct bundle {
	char *path; /* all in the arena it was made in */
	char *work;
	char *rootfs;
};

/* Only names the paths. */
int bundle_at(struct arena *a, const char *root, const char *state, const char *ns, const char *id,
	      struct bundle *ret, struct err *err) _must_check_;
/* Makes the directories and config.json from the spec (type_url NULL: none). Leaves nothing behind
 * when it fails. */
int bundle_create(struct arena *a, const struct bundle *b, const struct any *spec,
		  struct err *err) _must_check_;
/* Unmounts the rootfs and renames bundle and work directory, which gives their names free; absent
 * is fine. @ret: what bundle_sweep() has to remove, from any thread (NULL = nothing), in @a. */
int bundle_hide(struct arena *a, const struct bundle *b, char *ret[2],
		struct err *err) _must_check_;
int bundle_sweep(char *const hidden[2], struct err *err) _must_check_;
/* Both. */
int bundle_remove(struct arena *a, const struct bundle *b, struct err *err) _must_check_;
