/* SPDX-License-Identifier: Apache-2.0 */
/* The running daemon. */
#pragma once

#include "base/err.h"
#include "daemon/config.h"

/* Runs until SIGTERM or SIGINT. The log is set up and the configuration checked; directories,
 * TMPDIR, oom_score, the cgroup, plugins and servers are made here. Returns 0 after an orderly end.
 */
int daemon_run(const struct config *config, struct err *err) _must_check_;
