/* SPDX-License-Identifier: Apache-2.0 */
/* Files that are torn, cut short, or full of garbage; locks. */
#include <pthread.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/time.h"
#include "bolt/internal.h"
#include "util.h"

#define PAGE 4096

static uint8_t *file_bytes(const struct dir *d, size_t *ret_n)
{
	int fd = open(d->file, O_RDONLY | O_CLOEXEC);
	struct stat st;
	uint8_t *p;

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	p = malloc((size_t)st.st_size);
	assert_int_equal(fd_pread_full(fd, p, (size_t)st.st_size, 0), st.st_size);
	close(fd);
	*ret_n = (size_t)st.st_size;
	return p;
}

static void file_set(const struct dir *d, const void *p, size_t n)
{
	assert_int_equal(file_write(AT_FDCWD, d->file, p, n, 0600), 0);
}

/* Buckets of all kinds, two levels of pages, an overflow page, free pages. */
static void make_sample(const struct dir *d, bool no_freelist)
{
	struct bolt *db = open_with(
		d, (struct bolt_options){.no_sync = true, .no_freelist_sync = no_freelist});
	_cleanup_free_ char *big = calloc(1, 10000);

	for (int round = 0; round < 4; round++) {
		struct bolt_tx *tx = begin(db, true);
		struct bolt_bucket *b = make(bolt_root(tx), "b"), *sub = make(b, "sub");
		char key[32];

		for (int i = 0; i < 250; i++) {
			snprintf(key, sizeof(key), "key-%04d", i * 4 + round);
			put(b, key, "some value");
			put(sub, key, "another value");
			if (i % 25 == 0)
				put(make(b, key + 2), "inline", "yes");
		}
		assert_int_equal(bolt_put(sub, bolt_s("big"), bolt_b(big, 10000)), 0);
		snprintf(key, sizeof(key), "%d", round);
		put(b, "round", key);
		assert_int_equal(bolt_commit(tx), 0);
	}
	bolt_close(db);
}

static bool sample_round_is(const struct dir *d, const char *round)
{
	struct bolt *db = open_with(d, (struct bolt_options){.no_sync = true});
	struct bolt_tx *tx = begin(db, false);
	bool r = has(bolt_bucket(bolt_root(tx), bolt_s("b")), "round", round);

	bolt_rollback(tx);
	check_clean(db);
	bolt_close(db);
	return r;
}

static void torn_meta_page_falls_back_to_the_commit_before(void **state)
{
	for (int no_freelist = 0; no_freelist < 2; no_freelist++) {
		_cleanup_free_ uint8_t *p = NULL;
		struct dir *d = *state;
		struct bolt *db;
		size_t n, newest;

		unlink(d->file);
		make_sample(d, no_freelist);
		p = file_bytes(d, &n);
		newest = bolt_get64(p + 16 + 48) > bolt_get64(p + PAGE + 16 + 48) ? 0 : PAGE;
		assert_true(sample_round_is(d, "3"));
		memset(p + newest + 16 + 32, 0x5a, 20);
		file_set(d, p, n);
		assert_true(sample_round_is(d, "2"));
		/* and the file can be written again */
		db = open_fast(d);
		struct bolt_tx *tx = begin(db, true);

		put(make(bolt_root(tx), "b"), "round", "new");
		assert_int_equal(bolt_commit(tx), 0);
		bolt_close(db);
		assert_true(sample_round_is(d, "new"));
		memset(p, 0x5a, 2 * PAGE);
		file_set(d, p, n);
		assert_int_equal(bolt_open(d->file, NULL, &db), -EBADMSG);
	}
}

/* The second meta page is found even when the first, which tells the page size, is lost. */
static void first_meta_page_may_be_lost(void **state)
{
	_cleanup_free_ uint8_t *p = NULL;
	size_t n;

	make_sample(*state, false);
	p = file_bytes(*state, &n);
	memset(p, 0, PAGE);
	file_set(*state, p, n);
	assert_true(sample_round_is(*state, "3") || sample_round_is(*state, "2"));
}

static void truncated_file_is_refused(void **state)
{
	_cleanup_free_ uint8_t *p = NULL;
	struct dir *d = *state;
	struct bolt *db;
	size_t n, hwm;

	make_sample(d, false);
	p = file_bytes(d, &n);
	hwm = bolt_get64(p + 16 + 40);
	for (size_t pages = 1; pages < hwm - 3; pages++) {
		file_set(d, p, pages * PAGE - 1);
		assert_int_equal(bolt_open(d->file, NULL, &db), -EBADMSG);
	}
	file_set(d, "x", 1);
	assert_int_equal(bolt_open(d->file, NULL, &db), -EBADMSG);
}

static void file_of_zeroes_and_empty_file_are_new(void **state)
{
	_cleanup_free_ uint8_t *p = calloc(5, PAGE);
	struct bolt_options ro = {.read_only = true};
	struct dir *d = *state;
	struct bolt *db;

	assert_int_equal(bolt_open(d->file, &ro, &db), -ENOENT);
	for (size_t n = 0; n <= 4 * PAGE; n += 3000) {
		file_set(d, p, n);
		assert_int_equal(bolt_open(d->file, &ro, &db), -EBADMSG);
		db = open_fast(d);
		check_clean(db);
		bolt_close(db);
	}
	file_set(d, p, 5 * PAGE);
	assert_int_equal(bolt_open(d->file, NULL, &db), -EBADMSG);
}

static void new_file_has_the_mode_asked_for(void **state)
{
	struct dir *d = *state;
	struct stat st;

	umask(022);
	bolt_close(open_with(d, (struct bolt_options){.mode = 0644}));
	assert_int_equal(stat(d->file, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0644);
}

static void broken_free_list_is_rebuilt(void **state)
{
	_cleanup_free_ uint8_t *p = NULL;
	struct dir *d = *state;
	size_t n, meta, at;

	make_sample(d, false);
	p = file_bytes(d, &n);
	meta = bolt_get64(p + 16 + 48) > bolt_get64(p + PAGE + 16 + 48) ? 0 : PAGE;
	at = bolt_get64(p + meta + 16 + 32) * PAGE;
	assert_int_equal(bolt_get16(p + at + 8), BOLT_PAGE_FREELIST);
	assert_int_not_equal(bolt_get16(p + at + 10), 0);
	bolt_put64(p + at + 16, 1);
	file_set(d, p, n);
	assert_true(sample_round_is(d, "3"));
	struct bolt *db = open_fast(d);
	struct bolt_tx *tx = begin(db, true);

	put(make(bolt_root(tx), "b"), "round", "4");
	assert_int_equal(bolt_commit(tx), 0);
	bolt_close(db);
	assert_true(sample_round_is(d, "4"));
}

static void check_reports_lost_and_doubly_used_pages(void **state)
{
	_cleanup_free_ uint8_t *p = NULL;
	_cleanup_buf_ struct buf report = BUF_INIT;
	struct bolt_options ro = {.read_only = true};
	struct dir *d = *state;
	size_t n, meta, at, count;
	struct bolt_tx *tx;
	struct bolt *db;

	make_sample(d, false);
	p = file_bytes(d, &n);
	meta = bolt_get64(p + 16 + 48) > bolt_get64(p + PAGE + 16 + 48) ? 0 : PAGE;
	at = bolt_get64(p + meta + 16 + 32) * PAGE;
	count = bolt_get16(p + at + 10);
	/* The last free page becomes the root page. */
	bolt_put64(p + at + 16 + 8 * (count - 1), bolt_get64(p + meta + 16 + 16));
	file_set(d, p, n);
	db = open_with(d, ro);
	tx = begin(db, false);
	assert_int_equal(bolt_check(tx, &report), 2);
	assert_non_null(strstr(report.data, "part of a tree, but free\n"));
	assert_non_null(strstr(report.data, "neither in use nor free\n"));
	bolt_rollback(tx);
	bolt_close(db);
}

static int read_b(struct bolt_tx *tx, void *arg)
{
	struct bolt_bucket *b = bolt_bucket(bolt_root(tx), bolt_s("b"));

	return b ? 1 : 0;
}

static int put_b(struct bolt_tx *tx, void *arg)
{
	struct bolt_bucket *b = NULL;
	int r = bolt_bucket_create_if_missing(bolt_root(tx), bolt_s("b"), &b);

	return r < 0 ? 0 : bolt_put(b, bolt_s("k"), bolt_s("v"));
}

/* What can not be read is not taken for absent: reading reports it, writing does not commit. */
static void damage_is_an_error_and_not_absence(void **state)
{
	_cleanup_free_ uint8_t *p = NULL;
	struct dir *d = *state;
	struct bolt *db;
	size_t n, meta;

	make_sample(d, false);
	p = file_bytes(d, &n);
	meta = bolt_get64(p + 16 + 48) > bolt_get64(p + PAGE + 16 + 48) ? 0 : PAGE;
	memset(p + bolt_get64(p + meta + 16 + 16) * PAGE, 0xee, PAGE);
	file_set(d, p, n);
	db = open_fast(d);
	assert_int_equal(bolt_view(db, read_b, NULL), -EBADMSG);
	assert_int_equal(bolt_update(db, put_b, NULL), -EBADMSG);
	bolt_close(db);
	db = open_with(d, (struct bolt_options){.read_only = true});
	assert_int_equal(bolt_view(db, read_b, NULL), -EBADMSG);
	bolt_close(db);
}

static void walk(struct bolt_bucket *b, int *budget)
{
	struct bolt_cursor c;
	struct bolt_item item;
	volatile unsigned char sum _unused_ = 0;

	bolt_cursor_init(&c, b);
	for (bool more = bolt_first(&c, &item); more && --*budget > 0;
	     more = bolt_next(&c, &item)) {
		struct bolt_bucket *sub;

		for (size_t i = 0; i < item.key.len; i++)
			sum += ((const unsigned char *)item.key.data)[i];
		for (size_t i = 0; i < item.value.len; i++)
			sum += ((const unsigned char *)item.value.data)[i];
		(void)bolt_get(b, item.key, NULL);
		sub = item.is_bucket ? bolt_bucket(b, item.key) : NULL;
		if (sub)
			walk(sub, budget);
	}
}

static int scribble(struct bolt_tx *tx, void *arg)
{
	struct bolt_bucket *b = bolt_bucket(bolt_root(tx), bolt_s("b")), *sub;
	char key[32];
	int r = 0;

	if (!b)
		return 0;
	for (int i = 0; i < 1000 && r == 0; i += 2) {
		snprintf(key, sizeof(key), "key-%04d", i);
		r = bolt_delete(b, bolt_s(key));
	}
	sub = bolt_bucket(b, bolt_s("sub"));
	if (sub && r == 0)
		r = bolt_put(sub, bolt_s("key-0500"), bolt_s("x"));
	return r == 0 && *(int *)arg ? bolt_bucket_delete(b, bolt_s("sub")) : r;
}

static void random_damage_never_crashes(void **state)
{
	_cleanup_free_ uint8_t *orig = NULL;
	struct dir *d = *state;
	uint64_t s = 4711;
	size_t n;

	make_sample(d, false);
	orig = file_bytes(d, &n);
	for (int round = 0; round < 600; round++) {
		uint8_t *p = memcpy(malloc(n), orig, n);
		struct bolt *db = NULL;
		int hits = 1 + (int)(rnd(&s) % 8), delete = (int)(rnd(&s) % 2);

		for (int i = 0; i < hits; i++) {
			/* Headers and elements more often than data, never the metas' checksums. */
			size_t page = 2 + rnd(&s) % (n / PAGE - 2),
			       at = rnd(&s) % 3 ? rnd(&s) % 64 : rnd(&s) % PAGE;

			p[page * PAGE + at] =
				rnd(&s) % 2 ? (uint8_t)rnd(&s) : (uint8_t)(rnd(&s) % 4);
		}
		if (bolt_open_image(p, n, &db) == 0) {
			struct bolt_tx *tx = begin(db, false);
			int budget = 20000;

			walk(bolt_root(tx), &budget);
			assert_true(bolt_check(tx, NULL) >= 0);
			bolt_rollback(tx);
			bolt_close(db);
		}
		file_set(d, p, n);
		free(p);
		if (bolt_open(d->file, &(struct bolt_options){.no_sync = true}, &db) < 0)
			continue;
		for (int i = 0; i < 3; i++) {
			int r = bolt_update(db, scribble, &delete);

			assert_true(r <= 0);
		}
		bolt_close(db);
	}
}

static void probe_and_image_never_read_outside(void **state)
{
	_cleanup_free_ uint8_t *orig = NULL;
	size_t n;

	make_sample(*state, true);
	orig = file_bytes(*state, &n);
	for (size_t len = 0; len < n; len += len < 9000 ? 61 : 4001) {
		_cleanup_free_ uint8_t *p = memcpy(malloc(len + !len), orig, len);
		struct bolt *db = NULL;

		assert_int_equal(bolt_probe(p, len), len >= 80);
		assert_true(len == n || bolt_open_image(p, len, &db) == -EBADMSG || db);
		bolt_close(db);
	}
}

static void second_opener_waits_until_its_timeout(void **state)
{
	struct bolt_options o = {.lock_timeout_ns = 120 * NSEC_PER_MSEC};
	struct bolt_options ro = {.read_only = true, .lock_timeout_ns = 1};
	struct bolt *db = open_fast(*state), *other = NULL;
	struct dir *d = *state;
	int64_t start = time_mono();

	assert_int_equal(bolt_open(d->file, &o, &other), -ETIMEDOUT);
	assert_true(time_mono() - start >= o.lock_timeout_ns);
	assert_int_equal(bolt_open(d->file, &ro, &other), -ETIMEDOUT);
	bolt_close(db);
	/* Readers share. */
	db = open_with(d, ro);
	other = open_with(d, ro);
	assert_int_equal(bolt_update(db, put_b, NULL), -EROFS);
	struct bolt_tx *tx;

	assert_int_equal(bolt_begin(db, true, &tx), -EROFS);
	bolt_close(other);
	bolt_close(db);
}

static void *close_it(void *arg)
{
	bolt_close(arg);
	return NULL;
}

static void opener_without_timeout_gets_the_lock_in_the_end(void **state)
{
	struct bolt *db = open_fast(*state), *other;
	pthread_t t;

	assert_int_equal(pthread_create(&t, NULL, close_it, db), 0);
	other = open_fast(*state);
	pthread_join(t, NULL);
	bolt_close(other);
}

static void other_page_sizes_are_read_and_written(void **state)
{
	static const uint32_t sizes[] = {1024, 8192, 65536};
	struct dir *d = *state;

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		uint32_t size = sizes[i];
		_cleanup_free_ uint8_t *p = calloc(4, size);
		struct bolt_meta m = {
			.page_size = size, .root = 3, .freelist = BOLT_NO_FREELIST, .hwm = 4};

		for (; m.txid < 2; m.txid++)
			bolt_meta_encode(&m, p + m.txid * size);
		bolt_put64(p + 3 * (size_t)size, 3);
		bolt_put16(p + 3 * (size_t)size + 8, BOLT_PAGE_LEAF);
		file_set(d, p, 4 * (size_t)size);
		make_sample(d, i % 2);
		assert_true(sample_round_is(d, "3"));
	}
}

#define T(f) cmocka_unit_test_setup_teardown(f, dir_setup, dir_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(torn_meta_page_falls_back_to_the_commit_before),
		T(first_meta_page_may_be_lost),
		T(truncated_file_is_refused),
		T(file_of_zeroes_and_empty_file_are_new),
		T(new_file_has_the_mode_asked_for),
		T(broken_free_list_is_rebuilt),
		T(check_reports_lost_and_doubly_used_pages),
		T(damage_is_an_error_and_not_absence),
		T(random_damage_never_crashes),
		T(probe_and_image_never_read_outside),
		T(second_opener_waits_until_its_timeout),
		T(opener_without_timeout_gets_the_lock_in_the_end),
		T(other_page_sizes_are_read_and_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
