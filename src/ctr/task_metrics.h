/* SPDX-License-Identifier: Apache-2.0 */
/* Metrics of a task, of either version of cgroups, as a table or JSON. */
#pragma once

#include "ctr/ctr.h"

int task_metrics_print(struct ctr *c, const char *id, bool json, struct err *err) _must_check_;
