/* SPDX-License-Identifier: Apache-2.0 */
/* The default seccomp profile of containers, as the linux.seccomp object of the OCI runtime
 * specification (https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#seccomp).
 */
#pragma once

#include "base/json.h"

/* For the capabilities in @spec's bounding set. The caller owns *@ret. */
int seccomp_default(struct arena *a, const json_t *spec, json_t **ret,
		    struct err *err) _must_check_;
