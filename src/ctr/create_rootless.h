/* SPDX-License-Identifier: Apache-2.0 */
/* The spec of a container whose runtime runs in a user namespace, as under RootlessKit. */
#pragma once

#include "ctr/ctr.h"
#include "oci/spec.h"

/* Takes out of @spec what only the host's root may do and nobody has asked for by a flag: a cgroup
 * where none can be made, a mount of sysfs over the host's network, a group of terminals that does
 * not exist here. Nothing in the initial user namespace. */
int create_rootless(struct ctr *c, json_t *spec, struct err *err) _must_check_;
