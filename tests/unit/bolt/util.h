/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of bolt share: a directory of their own, opening, checking, deterministic bytes.
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/path.h"
#include "bolt/bolt.h"

struct dir {
	char path[64];
	char file[80];
};

static inline int dir_setup(void **state)
{
	struct dir *d = calloc(1, sizeof(*d));

	snprintf(d->path, sizeof(d->path), "/tmp/bolt-test-XXXXXX");
	if (!mkdtemp(d->path))
		return -1;
	snprintf(d->file, sizeof(d->file), "%s/x.db", d->path);
	*state = d;
	return 0;
}

static inline int dir_teardown(void **state)
{
	struct dir *d = *state;
	int r = rm_rf(AT_FDCWD, d->path);

	free(d);
	return r;
}

static inline struct bolt *open_with(const struct dir *d, struct bolt_options o)
{
	struct bolt *db = NULL;

	assert_int_equal(bolt_open(d->file, &o, &db), 0);
	return db;
}

static inline struct bolt *open_fast(const struct dir *d)
{
	return open_with(d, (struct bolt_options){.no_sync = true});
}

static inline struct bolt_tx *begin(struct bolt *db, bool writable)
{
	struct bolt_tx *tx = NULL;

	assert_int_equal(bolt_begin(db, writable, &tx), 0);
	return tx;
}

static inline struct bolt_bucket *make(struct bolt_bucket *b, const char *name)
{
	struct bolt_bucket *c = NULL;

	assert_int_equal(bolt_bucket_create_if_missing(b, bolt_s(name), &c), 0);
	assert_non_null(c);
	return c;
}

static inline void put(struct bolt_bucket *b, const char *key, const char *value)
{
	assert_int_equal(bolt_put(b, bolt_s(key), bolt_s(value)), 0);
}

static inline bool slice_is(struct bolt_slice s, const void *p, size_t n)
{
	return s.len == n && (n == 0 || memcmp(s.data, p, n) == 0);
}

static inline bool has(struct bolt_bucket *b, const char *key, const char *value)
{
	struct bolt_slice v;

	return bolt_get(b, bolt_s(key), &v) && slice_is(v, value, strlen(value));
}

static inline void check_tx(struct bolt_tx *tx)
{
	_cleanup_buf_ struct buf report = BUF_INIT;
	int r = bolt_check(tx, &report);

	if (r != 0)
		fail_msg("check: %d\n%s", r, report.data ? report.data : "");
}

/* As a reader (free list of the file) and as a writer (free list in memory). */
static inline void check_clean(struct bolt *db)
{
	for (int w = 0; w < 2; w++) {
		struct bolt_tx *tx = begin(db, w);

		check_tx(tx);
		bolt_rollback(tx);
	}
}

static inline uint32_t rnd(uint64_t *s)
{
	*s = *s * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*s >> 33);
}

static inline void fill(uint8_t *p, size_t n, uint32_t seed)
{
	uint64_t s = seed;

	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)rnd(&s);
}
