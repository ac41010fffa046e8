/* SPDX-License-Identifier: Apache-2.0 */
/* Digests: see digest.h. */
#include "base/digest.h"

#include <nettle/sha2.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"

static const struct {
	const char *name;
	size_t hex;
} algs[] = {
	[DIGEST_SHA256] = {"sha256", 64},
	[DIGEST_SHA384] = {"sha384", 96},
	[DIGEST_SHA512] = {"sha512", 128},
};

struct hasher {
	enum digest_alg alg;
	union {
		struct sha256_ctx sha256;
		struct sha512_ctx sha512; /* sha384 too */
	};
};

const char *digest_alg_name(enum digest_alg alg)
{
	return algs[alg].name;
}

enum digest_alg digest_alg(const char *text)
{
	for (size_t i = 0; i < ARRAY_LEN(algs); i++)
		if (str_has_prefix(text, algs[i].name))
			return (enum digest_alg)i;
	return DIGEST_SHA256;
}

const char *digest_hex(const char *text)
{
	const char *colon = strchr(text, ':');
	return colon ? colon + 1 : text;
}

/* <algorithm>:<hex>, where the algorithm is letters and digits joined by one of +._- */
static bool well_formed(const char *text)
{
	const char *colon = strchr(text, ':');
	if (!colon || colon == text || !colon[1])
		return false;
	for (const char *p = text; p < colon; p++)
		if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+._-",
			    *p))
			return false;
	return strspn(colon + 1, "abcdefABCDEF0123456789") == strlen(colon + 1);
}

int digest_validate(const char *text, struct err *err)
{
	if (str_empty(text) || !well_formed(text))
		return err_set(err, ERR_INVALID_ARGUMENT, "invalid checksum digest format");
	size_t n = (size_t)(strchr(text, ':') - text);
	for (size_t i = 0; i < ARRAY_LEN(algs); i++) {
		if (strlen(algs[i].name) != n || memcmp(text, algs[i].name, n) != 0)
			continue;
		const char *hex = text + n + 1;
		if (strlen(hex) != algs[i].hex)
			return err_set(err, ERR_INVALID_ARGUMENT, "invalid checksum digest length");
		if (strspn(hex, "abcdef0123456789") != algs[i].hex)
			return err_set(err, ERR_INVALID_ARGUMENT, "invalid checksum digest format");
		return 0;
	}
	return err_set(err, ERR_INVALID_ARGUMENT, "unsupported digest algorithm");
}

struct hasher *hasher_new(enum digest_alg alg)
{
	struct hasher *h = malloc(sizeof(*h));
	if (!h)
		return NULL;
	h->alg = alg;
	if (alg == DIGEST_SHA256)
		sha256_init(&h->sha256);
	else if (alg == DIGEST_SHA384)
		sha384_init(&h->sha512);
	else
		sha512_init(&h->sha512);
	return h;
}

void hasher_free(struct hasher *h)
{
	free(h);
}

enum digest_alg hasher_alg(const struct hasher *h)
{
	return h->alg;
}

void hasher_update(struct hasher *h, const void *p, size_t n)
{
	if (h->alg == DIGEST_SHA256)
		sha256_update(&h->sha256, n, p);
	else
		sha512_update(&h->sha512, n, p);
}

void hasher_digest(const struct hasher *h, struct digest *ret)
{
	struct hasher copy = *h; /* taking the digest resets nettle's state */
	unsigned char raw[SHA512_DIGEST_SIZE];
	size_t n = algs[h->alg].hex / 2;
	if (h->alg == DIGEST_SHA256)
		sha256_digest(&copy.sha256, n, raw);
	else if (h->alg == DIGEST_SHA384)
		sha384_digest(&copy.sha512, n, raw);
	else
		sha512_digest(&copy.sha512, n, raw);
	int len = snprintf(ret->text, sizeof(ret->text), "%s:", algs[h->alg].name);
	hex_encode(raw, n, ret->text + len);
}

void digest_of(enum digest_alg alg, const void *p, size_t n, struct digest *ret)
{
	struct hasher h = {.alg = alg};
	if (alg == DIGEST_SHA256)
		sha256_init(&h.sha256);
	else if (alg == DIGEST_SHA384)
		sha384_init(&h.sha512);
	else
		sha512_init(&h.sha512);
	hasher_update(&h, p, n);
	hasher_digest(&h, ret);
}

void sha256_hex(const void *p, size_t n, char out[65])
{
	struct digest d;
	digest_of(DIGEST_SHA256, p, n, &d);
	memcpy(out, digest_hex(d.text), 65);
}
