/* SPDX-License-Identifier: Apache-2.0 */
/* A registry that ctr talks to itself, by a containerd-worker of its own, with the flags of
 * registry.h. For what the transfer service has no words for. One thread. */
#pragma once

#include "core/worker.h"
#include "ctr/registry.h"

struct remote {
	struct ctr *c;
	struct registry registry;
	const char *tag, *digest; /* of the reference, "" = none */
	struct fetch *session;
};
#define _cleanup_remote_ _cleanup_(remote_close)

/* @object: tag or digest, should @reference have neither; "" = none. Nothing is sent yet. @ret must
 * stay where it is until remote_close(). */
int remote_open(struct ctr *c, const char *reference, const char *object, bool push,
		struct remote *ret, struct err *err) _must_check_;
void remote_close(struct remote *r);

typedef int (*remote_sink_fn)(void *arg, const void *p, size_t n, struct err *err);

/* Gives the bytes of @d to @sink, each once, and checks them against the digest: what is wrong is
 * known only when all of it has been given. */
int remote_fetch(struct remote *r, const struct fetch_descriptor *d, remote_sink_fn sink, void *arg,
		 struct err *err) _must_check_;
