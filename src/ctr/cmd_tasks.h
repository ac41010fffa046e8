/* SPDX-License-Identifier: Apache-2.0 */
/* Commands about tasks that hang below `containers`. */
#pragma once

#include "ctr/ctr.h"

extern const struct ctr_command containers_start, containers_stop;
