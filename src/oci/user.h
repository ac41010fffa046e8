/* SPDX-License-Identifier: Apache-2.0 */
/* Users as images and command lines name them, looked up in the passwd and group files of a root
 * file system. Pure: takes bytes. */
#pragma once

#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"

struct user_ids {
	uint32_t uid, gid;
	uint32_t *gids; /* supplementary groups, with the primary one first */
	size_t n_gids;
};

/* @user: "", "name", "uid", "name:group", "uid:gid" in any mixture; "" is root. @passwd and @group
 * are the files' texts ("" when there are none).
 *
 * A number need not be in the files (gid 0 then); a name must.  Without a ":group" part the groups
 * that list the user are supplementary ones. -ERR_NOT_FOUND, -ERR_INVALID_ARGUMENT. */
int user_resolve(struct arena *a, const char *user, const char *passwd, const char *group,
		 struct user_ids *ret, struct err *err) _must_check_;
