/* SPDX-License-Identifier: Apache-2.0 */
/* Names of the restart monitor's labels. */
#pragma once

#include <stdint.h>

#include "base/labels.h"

#define RESTART_STATUS "containerd.io/restart.status"
#define RESTART_POLICY "containerd.io/restart.policy"
#define RESTART_COUNT "containerd.io/restart.count"
#define RESTART_LOG_URI "containerd.io/restart.loguri"
#define RESTART_EXPLICITLY_STOPPED "containerd.io/restart.explicitly-stopped"

/* What the count's label says; 0 when it is absent or no number. */
int64_t restart_count(const struct labels *l);
