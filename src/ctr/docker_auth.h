/* SPDX-License-Identifier: Apache-2.0 */
/* Credentials that a login has stored, or that a credential helper knows.
 *
 * Files, the first that has something counts: $REGISTRY_AUTH_FILE, which when set is the only one;
 * $DOCKER_CONFIG/config.json or ~/.docker/config.json; $XDG_RUNTIME_DIR/containers/auth.json (or
 * /run/containers/UID/auth.json); ~/.config/containers/auth.json. In a file "credHelpers" comes
 * first, then "credsStore", then "auths", whose names may be hosts, their URLs, or, without a
 * scheme, a host with the beginning of a repository. A helper NAME is the program
 * docker-credential-NAME, which is asked `get` and may take a minute. */
#pragma once

#include "base/arena.h"
#include "base/err.h"
#include "client/transfer.h"

/* What the file @text says about the registry @host ("docker.io", "10.0.0.1:5000") and @repository
 * ("" = any).
 *
 * -ERR_NOT_FOUND         nothing
 * -ERR_INVALID_ARGUMENT  no JSON, an entry that cannot be read, a helper that failed */
int docker_auth_find(struct arena *a, const char *text, size_t n, const char *host,
		     const char *repository, struct client_auth *ret, struct err *err) _must_check_;
/* The same from the files. */
int docker_auth_load(struct arena *a, const char *host, const char *repository,
		     struct client_auth *ret, struct err *err) _must_check_;
