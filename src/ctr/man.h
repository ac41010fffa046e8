/* SPDX-License-Identifier: Apache-2.0 */
/* Manual pages (mdoc) out of the command table. */
#pragma once

#include "ctr/ctr.h"

/* The page of the program itself when @group is NULL, else that of one of its commands with all
 * that is below it. 0 or -ENOMEM. */
int man_page(const struct ctr_command *root, const struct ctr_command *group, struct buf *out);
