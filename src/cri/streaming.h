/* SPDX-License-Identifier: Apache-2.0 */
/* Exec, attach and port-forward over HTTP: tokens, and the two protocols (SPDY/3.1 and WebSocket)
 * that a kubelet's clients upgrade to. HTTP and TLS themselves are served by a front worker; the
 * daemon sees plain streams of bytes after the upgrade. */
#pragma once

#include "cri/internal.h"

/* The server is started at once. */
int cri_streaming_new(struct cri *c, struct cri_streaming **ret, struct err *err) _must_check_;
/* Ends all streams. */
void cri_streaming_stop(struct cri_streaming *s);
void cri_streaming_free(struct cri_streaming *s);
