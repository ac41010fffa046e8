/* SPDX-License-Identifier: Apache-2.0 */
/* What import does itself with images that a transfer has stored: the transfer's messages have no
 * word for it. */
#pragma once

#include "ctr/ctr.h"

/* Lets the garbage collector have the layers of what is unpacked: the manifests refer to them no
 * more. @names: keys are the images' names. Done for every --platform (this host's when not given);
 * what an image has not for one, or has not unpacked, is left as it is. */
int image_stored_discard_layers(struct ctr *c, const struct labels *names,
				struct err *err) _must_check_;
