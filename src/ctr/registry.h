/* SPDX-License-Identifier: Apache-2.0 */
/* The flags that say how to talk to a registry, as the source of a transfer. */
#pragma once

#include "ctr/ctr.h"
#include "ctr/docker_auth.h"
#include "ctr/scratch.h"
#include "ctr/transfer.h"

extern const struct ctr_flag registry_flags[];

struct registry {
	PB_TRANSFER_TYPES(OCIRegistry) message;
	PB_TRANSFER_TYPES(RegistryResolver) resolver;
	struct client_auth given; /* --user, --refresh */
	bool has_given;
	const char *repository; /* of the reference */
	struct scratch hosts;	/* made for this transfer, when it is */
};
#define _cleanup_registry_ _cleanup_(registry_done)

/* Reads the flags and what they name, asks for a password on the terminal when --user has none,
 * checks @reference.
 * @ret must stay where it is until registry_done(). */
int registry_init(struct ctr *c, const char *reference, struct registry *ret,
		  struct err *err) _must_check_;
/* Adds the stream for credentials. */
int registry_attach(struct registry *r, struct client_transfer *t, struct err *err) _must_check_;
/* What a registry that ctr talks to itself is told. -ERR_NOT_FOUND: nothing is known. */
int registry_credentials(const struct registry *r, struct arena *a, const char *host,
			 struct client_auth *ret, struct err *err) _must_check_;
void registry_done(struct registry *r);

/* --platform flags (this host's when there are none) as messages in the arena. */
int registry_platforms(struct ctr *c, PB_TYPES(Platform) * **ret, size_t *ret_n,
		       struct err *err) _must_check_;
/* To be unpacked for each platform, with --snapshotter. */
int registry_unpacks(struct ctr *c, PB_TYPES(Platform) * *platforms, size_t n,
		     PB_TRANSFER_TYPES(ImageStore) * store, struct err *err) _must_check_;
