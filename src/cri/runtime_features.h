/* SPDX-License-Identifier: Apache-2.0 */
/* What a runtime handler can do, as its shim and its OCI runtime say (`<shim> -info`). Asked once
 * each, the first time that somebody wants to know. Any thread. */
#pragma once

#include "cri/internal.h"

struct cri_features {
	bool recursive_read_only;
	bool user_namespaces;
	bool shim_log; /* the shim writes Kubernetes logs itself: see io.h */
};

/* A handler that does not answer can nothing. */
struct cri_features cri_runtime_features(struct ctx *ctx, struct cri *c,
					 const struct cri_handler *h);
