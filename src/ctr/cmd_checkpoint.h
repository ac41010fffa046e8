/* SPDX-License-Identifier: Apache-2.0 */
/* Commands about checkpoints, which hang below `tasks` and `containers`. */
#pragma once

#include "ctr/ctr.h"

extern const struct ctr_command tasks_checkpoint, containers_checkpoint, containers_restore;
