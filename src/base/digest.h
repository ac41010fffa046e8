/* SPDX-License-Identifier: Apache-2.0 */
/* Digests as OCI writes them: "sha256:<64 hex>", sha384 and sha512 likewise. Hashing is nettle's.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define DIGEST_TEXT_MAX 136 /* "sha512:" + 128 hex + NUL, rounded up */
#define SHA256_LEN 32

enum digest_alg { DIGEST_SHA256, DIGEST_SHA384, DIGEST_SHA512 };

struct digest {
	char text[DIGEST_TEXT_MAX];
};

/* -ERR_INVALID_ARGUMENT: invalid checksum digest format / unsupported digest algorithm / invalid
 * checksum digest length. */
int digest_validate(const char *text, struct err *err) _must_check_;
/* Of a valid text. */
enum digest_alg digest_alg(const char *text);
const char *digest_alg_name(enum digest_alg alg);
const char *digest_hex(const char *text); /* part after ":" */

struct hasher;
struct hasher *hasher_new(enum digest_alg alg); /* NULL = no memory */
void hasher_free(struct hasher *h);
enum digest_alg hasher_alg(const struct hasher *h);
void hasher_update(struct hasher *h, const void *p, size_t n);
/* Digest of what was hashed so far; may be called again and followed by more updates. */
void hasher_digest(const struct hasher *h, struct digest *ret);

void digest_of(enum digest_alg alg, const void *p, size_t n, struct digest *ret);
/* Hex of the SHA-256: file names. */
void sha256_hex(const void *p, size_t n, char out[65]);

DEFINE_CLEANUP(struct hasher *, hasher_free)
#define _cleanup_hasher_ _cleanup_(hasher_freep)
