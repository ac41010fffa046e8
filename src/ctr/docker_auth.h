/* SPDX-License-Identifier: Apache-2.0 */
/* Credentials that `docker login` has stored: the member "auths" of ~/.docker/config.json.
 * Credential helpers are not asked. */
#pragma once

#include "base/arena.h"
#include "base/err.h"

struct docker_auth {
	const char *username; /* "" with a token */
	const char *secret;
	bool token; /* the secret is an identity token */
};

/* What the file @text says about the registry @host ("docker.io", "10.0.0.1:5000").
 *
 * -ERR_NOT_FOUND         nothing
 * -ERR_INVALID_ARGUMENT  no JSON, or an entry that cannot be read */
int docker_auth_find(struct arena *a, const char *text, size_t n, const char *host,
		     struct docker_auth *ret, struct err *err) _must_check_;
/* The same from $DOCKER_CONFIG/config.json or ~/.docker/config.json; a file that is not there is
 * -ERR_NOT_FOUND. */
int docker_auth_load(struct arena *a, const char *host, struct docker_auth *ret,
		     struct err *err) _must_check_;
