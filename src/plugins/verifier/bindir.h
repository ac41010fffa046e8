/* SPDX-License-Identifier: Apache-2.0 */
/* io.containerd.image-verifier.v1 bindir: asks the programs of a directory, in the order of their
 * names.
 *
 * Each is run as `<program> -name N -digest D -stdin-media-type
 * application/vnd.oci.descriptor.v1+json` with the image's descriptor as JSON on its standard
 * input. Exit status 0 lets the image pass; standard output is the reason either way. One that
 * refuses ends it. A directory that is absent or empty lets everything pass. */
#pragma once

#include "plugins/verifier/verifier.h"

struct bindir_options {
	const char *dir;
	int64_t max;	    /* programs that are run at most; below 0 = all */
	int64_t timeout_ns; /* for each */
};

int bindir_verifier_new(const struct bindir_options *o, struct image_verifier **ret,
			struct err *err) _must_check_;
