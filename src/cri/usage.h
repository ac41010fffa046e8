/* SPDX-License-Identifier: Apache-2.0 */
/* Measurements of snapshots, kept: see cri_snapshot_usage() in image.h. */
#pragma once

#include "cri/config.h"

struct cri_usage;

struct cri_usage *cri_usage_new(const struct cri_config *c); /* NULL = no memory */
void cri_usage_free(struct cri_usage *u);
