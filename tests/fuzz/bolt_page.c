/* SPDX-License-Identifier: Apache-2.0 */
/* A bolt file of arbitrary bytes: probed, walked and checked in memory, then changed as a file.
 *
 * The checksums of the meta pages are put right first (in a copy), or no damage would get past
 * them. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/fd.h"
#include "bolt/internal.h"

#define SIZE_LIMIT (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void meta_fix(uint8_t *p, size_t n, size_t at)
{
	uint64_t h = 0xcbf29ce484222325u;

	if (at > n || n - at < BOLT_PAGE_HEADER + BOLT_META_LEN)
		return;
	p += at + BOLT_PAGE_HEADER;
	for (size_t i = 0; i < 56; i++)
		h = (h ^ p[i]) * 0x100000001b3u;
	bolt_put64(p + 56, h);
}

static void walk(struct bolt_bucket *b, int *budget)
{
	volatile uint8_t sum _unused_ = 0;
	struct bolt_cursor c;
	struct bolt_item item;

	bolt_cursor_init(&c, b);
	for (bool more = bolt_first(&c, &item); more && --*budget > 0;
	     more = bolt_next(&c, &item)) {
		struct bolt_bucket *sub = item.is_bucket ? bolt_bucket(b, item.key) : NULL;

		for (size_t i = 0; i < item.key.len; i++)
			sum += ((const uint8_t *)item.key.data)[i];
		if (item.value.len)
			sum += ((const uint8_t *)item.value.data)[item.value.len - 1];
		if (sub)
			walk(sub, budget);
	}
	for (bool more = bolt_last(&c, &item); more && --*budget > 0; more = bolt_prev(&c, &item))
		;
}

static int change(struct bolt_tx *tx, void *arg)
{
	struct bolt_bucket *b = NULL;
	struct bolt_cursor c;
	struct bolt_item item;
	int r;

	bolt_cursor_init(&c, bolt_root(tx));
	if (bolt_first(&c, &item) && item.is_bucket)
		b = bolt_bucket(bolt_root(tx), item.key);
	if (!b) {
		r = bolt_bucket_create_if_missing(bolt_root(tx), bolt_s("new"), &b);
		if (r < 0)
			return r;
	}
	bolt_cursor_init(&c, b);
	for (int i = 0; i < 40 && bolt_first(&c, &item); i++) {
		r = item.is_bucket ? bolt_bucket_delete(b, item.key) : bolt_delete(b, item.key);
		if (r < 0)
			return r;
	}
	return bolt_put(b, bolt_s("key"), bolt_s("value"));
}

static void run_memory(const uint8_t *p, size_t n)
{
	_cleanup_buf_ struct buf report = BUF_INIT;
	struct bolt_tx *tx;
	struct bolt *db;
	int budget = 5000;

	if (bolt_open_image(p, n, &db) < 0)
		return;
	if (bolt_begin(db, false, &tx) == 0) {
		walk(bolt_root(tx), &budget);
		if (bolt_check(tx, &report) < 0)
			abort();
		bolt_rollback(tx);
	}
	bolt_close(db);
}

static void run_file(const uint8_t *p, size_t n)
{
	_cleanup_close_ int fd = memfd_create("bolt", MFD_CLOEXEC);
	struct bolt_options o = {.no_sync = true};
	struct bolt *db;
	char path[64];

	if (fd < 0 || fd_write_full(fd, p, n) < 0)
		return;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	for (int i = 0; i < 2; i++) {
		if (bolt_open(path, &o, &db) < 0)
			return;
		(void)!bolt_update(db, change, NULL);
		(void)!bolt_update(db, change, NULL);
		bolt_close(db);
		o.no_freelist_sync = true;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ uint8_t *p = NULL;

	(void)bolt_probe(data, size);
	if (size < BOLT_PAGE_HEADER + BOLT_META_LEN || size > SIZE_LIMIT)
		return 0;
	p = malloc(size);
	if (!p)
		return 0;
	memcpy(p, data, size);
	meta_fix(p, size, 0);
	meta_fix(p, size, bolt_get32(p + BOLT_PAGE_HEADER + 8));
	run_memory(p, size);
	run_file(p, size);
	return 0;
}
