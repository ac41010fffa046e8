/* SPDX-License-Identifier: Apache-2.0 */
/* Profiles, as Go's net/http/pprof serves them on a socket: by HTTP/1.0, so that the answer's end
 * is that of the connection whoever serves it. */
#pragma once

#include "ctr/ctr.h"

/* Asks on @fd for /debug/pprof/@page ("heap?debug=1") and copies the answer to standard output,
 * within c->ctx. @peer is who answers, in errors: "the debug socket". */
int pprof_copy(struct ctr *c, int fd, const char *peer, const char *page,
	       struct err *err) _must_check_;
