/* SPDX-License-Identifier: Apache-2.0 */
/* OCI content descriptor (https://github.com/opencontainers/image-spec/blob/main/descriptor.md),
 * platform, and mount: plain values whose strings live in the arena of whoever made them. */
#pragma once

#include <stdint.h>

#include "base/labels.h"

struct descriptor {
	const char *media_type;
	const char *digest;
	int64_t size;
	struct labels annotations;
};

struct platform {
	const char *os;
	const char *arch;
	const char *variant;	/* "" when none */
	const char *os_version; /* "" when none */
};

struct mount {
	const char *type;
	const char *source;
	const char *target; /* below the mount point, "" mostly */
	const char **options;
	size_t n_options;
};

struct mounts {
	struct mount *v;
	size_t n;
};
