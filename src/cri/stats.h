/* SPDX-License-Identifier: Apache-2.0 */
/* Statistics of containers and pods, read from cgroups and network namespaces when they are asked
 * for, with no call to a shim. Nothing is polled that nobody asks for: rates are made from the
 * sample of the previous question. */
#pragma once

#include "cri/internal.h"

int cri_stats_new(struct cri *c, struct cri_stats **ret, struct err *err) _must_check_;
void cri_stats_stop(struct cri_stats *s);
void cri_stats_free(struct cri_stats *s);
/* A container or pod is gone. */
void cri_stats_forget(struct cri_stats *s, const char *id);
