/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of `ctr content` share. */
#pragma once

#include "ctr/commands.h"

extern const struct ctr_command content_edit;  /* cmd_content_edit.c */
extern const struct ctr_command content_fetch; /* cmd_content_fetch.c */
extern const struct ctr_command content_fetch_blob, content_fetch_object,
	content_push_object;					/* cmd_content_registry.c */
extern const struct ctr_command content_prune, content_collect; /* cmd_content_prune.c */

/* The first argument as a digest; connects. */
int content_need_digest(struct ctr *c, const char **ret, struct err *err) _must_check_;
