/* SPDX-License-Identifier: Apache-2.0 */
/* Buckets, keys, cursors and transactions as a caller sees them, and random changes against a
 * model. */
#include "util.h"

static void put_get_and_delete_survive_reopening(void **state)
{
	struct bolt *db = open_with(*state, (struct bolt_options){0});
	struct bolt_tx *tx = begin(db, true);
	struct bolt_bucket *b = make(bolt_root(tx), "b");

	put(b, "one", "1");
	put(b, "two", "2");
	put(b, "empty", "");
	put(b, "one", "uno");
	assert_true(has(b, "one", "uno"));
	assert_int_equal(bolt_commit(tx), 0);
	bolt_close(db);

	db = open_with(*state, (struct bolt_options){0});
	tx = begin(db, true);
	b = bolt_bucket(bolt_root(tx), bolt_s("b"));
	assert_true(has(b, "one", "uno"));
	assert_true(has(b, "empty", ""));
	assert_false(bolt_get(b, bolt_s("three"), NULL));
	assert_int_equal(bolt_delete(b, bolt_s("two")), 0);
	assert_int_equal(bolt_delete(b, bolt_s("absent")), 0);
	assert_int_equal(bolt_commit(tx), 0);
	tx = begin(db, false);
	b = bolt_bucket(bolt_root(tx), bolt_s("b"));
	assert_false(bolt_get(b, bolt_s("two"), NULL));
	assert_true(has(b, "one", "uno"));
	bolt_rollback(tx);
	check_clean(db);
	bolt_close(db);
}

static void wrong_use_is_refused_with_its_own_errno(void **state)
{
	struct bolt *db = open_fast(*state);
	struct bolt_tx *tx = begin(db, true);
	struct bolt_bucket *root = bolt_root(tx), *b = make(root, "b"), *c;
	_cleanup_free_ char *longkey = malloc(40000);

	memset(longkey, 'k', 40000);
	assert_int_equal(bolt_put(root, bolt_s("k"), bolt_s("v")), -EINVAL);
	assert_int_equal(bolt_put(b, bolt_s(""), bolt_s("v")), -EINVAL);
	assert_int_equal(bolt_put(b, bolt_b(longkey, 32769), bolt_s("v")), -EFBIG);
	assert_int_equal(bolt_put(b, bolt_b(longkey, 32768), bolt_s("v")), 0);
	assert_int_equal(bolt_put(b, bolt_s("k"), bolt_b(longkey, 0x7fffffff)), -EFBIG);
	assert_int_equal(bolt_bucket_create(root, bolt_s("b"), &c), -EEXIST);
	assert_int_equal(bolt_bucket_create(root, bolt_s(""), &c), -EINVAL);
	make(b, "sub");
	put(b, "key", "v");
	assert_int_equal(bolt_put(b, bolt_s("sub"), bolt_s("v")), -EISDIR);
	assert_int_equal(bolt_delete(b, bolt_s("sub")), -EISDIR);
	assert_int_equal(bolt_bucket_create(b, bolt_s("key"), &c), -EISDIR);
	assert_int_equal(bolt_bucket_create_if_missing(b, bolt_s("key"), &c), -EISDIR);
	assert_int_equal(bolt_bucket_delete(b, bolt_s("key")), -EISDIR);
	assert_int_equal(bolt_bucket_delete(b, bolt_s("none")), -ENOENT);
	assert_false(bolt_get(b, bolt_s("sub"), NULL));
	assert_null(bolt_bucket(b, bolt_s("key")));
	assert_int_equal(bolt_commit(tx), 0);

	tx = begin(db, false);
	b = bolt_bucket(bolt_root(tx), bolt_s("b"));
	assert_int_equal(bolt_put(b, bolt_s("k"), bolt_s("v")), -EROFS);
	assert_int_equal(bolt_delete(b, bolt_s("key")), -EROFS);
	assert_int_equal(bolt_bucket_create(b, bolt_s("n"), &c), -EROFS);
	assert_int_equal(bolt_bucket_delete(b, bolt_s("sub")), -EROFS);
	assert_int_equal(bolt_set_sequence(b, 1), -EROFS);
	assert_int_equal(bolt_commit(tx), -EROFS);
	bolt_close(db);
}

static void buckets_nest_and_are_deleted_as_a_tree(void **state)
{
	struct bolt *db = open_fast(*state);
	struct bolt_tx *tx = begin(db, true);
	struct bolt_slice path[] = {bolt_s("v1"), bolt_s("ns"), bolt_s("images")};
	struct bolt_bucket *b = bolt_root(tx), *deep;
	char key[32];

	for (size_t i = 0; i < 3; i++)
		b = make(b, path[i].data);
	for (int i = 0; i < 500; i++) {
		snprintf(key, sizeof(key), "image-%04d", i);
		put(make(b, key), "digest", "sha256:0123456789abcdef0123456789abcdef");
	}
	assert_int_equal(bolt_commit(tx), 0);
	check_clean(db);

	tx = begin(db, true);
	deep = bolt_bucket_path(bolt_root(tx), path, 3);
	assert_non_null(deep);
	assert_ptr_equal(deep, bolt_bucket_path(bolt_root(tx), path, 3));
	put(bolt_bucket(deep, bolt_s("image-0007")), "more", "x");
	make(bolt_bucket(deep, bolt_s("image-0008")), "labels");
	assert_int_equal(bolt_bucket_delete(deep, bolt_s("image-0008")), 0);
	assert_int_equal(bolt_bucket_delete(bolt_bucket(bolt_root(tx), path[0]), path[1]), 0);
	assert_null(bolt_bucket_path(bolt_root(tx), path, 2));
	make(bolt_bucket(bolt_root(tx), path[0]), "ns");
	assert_int_equal(bolt_commit(tx), 0);
	check_clean(db);

	tx = begin(db, false);
	assert_non_null(bolt_bucket_path(bolt_root(tx), path, 2));
	assert_null(bolt_bucket_path(bolt_root(tx), path, 3));
	bolt_rollback(tx);
	bolt_close(db);
}

static void nesting_has_a_limit(void **state)
{
	struct bolt *db = open_fast(*state);
	struct bolt_tx *tx = begin(db, true);
	struct bolt_bucket *b = bolt_root(tx);
	int depth = 0, r;

	while ((r = bolt_bucket_create(b, bolt_s("x"), &b)) == 0)
		depth++;
	assert_int_equal(r, -EFBIG);
	assert_in_range(depth, 32, 1000);
	assert_int_equal(bolt_commit(tx), 0);
	check_clean(db);
	bolt_close(db);
}

static void inline_bucket_grows_to_pages_and_shrinks_back(void **state)
{
	struct bolt *db = open_fast(*state);
	char key[32];

	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 200; i++) {
			struct bolt_tx *tx = begin(db, true);
			struct bolt_bucket *b = make(make(bolt_root(tx), "odd"), "b");

			snprintf(key, sizeof(key), "k%d", i);
			put(b, key, "some value that fills the bucket");
			assert_int_equal(bolt_commit(tx), 0);
		}
		check_clean(db);
		for (int i = 0; i < 200; i++) {
			struct bolt_tx *tx = begin(db, true);
			struct bolt_bucket *b = make(make(bolt_root(tx), "odd"), "b");

			snprintf(key, sizeof(key), "k%d", i);
			assert_true(has(b, key, "some value that fills the bucket"));
			assert_int_equal(bolt_delete(b, bolt_s(key)), 0);
			assert_int_equal(bolt_commit(tx), 0);
		}
		check_clean(db);
	}
	bolt_close(db);
}

static void sequence_counts_from_one_and_persists(void **state)
{
	struct bolt *db = open_fast(*state);
	struct bolt_tx *tx = begin(db, true);
	struct bolt_bucket *b = make(bolt_root(tx), "b");
	uint64_t v = 0;

	assert_int_equal(bolt_sequence(b), 0);
	assert_int_equal(bolt_next_sequence(b, &v), 0);
	assert_int_equal(v, 1);
	assert_int_equal(bolt_set_sequence(bolt_root(tx), 77), 0);
	assert_int_equal(bolt_commit(tx), 0);
	bolt_close(db);
	db = open_fast(*state);
	tx = begin(db, true);
	b = bolt_bucket(bolt_root(tx), bolt_s("b"));
	assert_int_equal(bolt_next_sequence(b, &v), 0);
	assert_int_equal(v, 2);
	assert_int_equal(bolt_sequence(bolt_root(tx)), 77);
	bolt_rollback(tx);
	tx = begin(db, true);
	b = bolt_bucket(bolt_root(tx), bolt_s("b"));
	assert_int_equal(bolt_sequence(b), 1);
	for (int i = 0; i < 300; i++) {
		char key[16];

		snprintf(key, sizeof(key), "%d", i);
		put(b, key, "0123456789012345678901234567890123456789");
	}
	assert_int_equal(bolt_set_sequence(b, UINT64_MAX - 1), 0);
	assert_int_equal(bolt_commit(tx), 0);
	tx = begin(db, false);
	b = bolt_bucket(bolt_root(tx), bolt_s("b"));
	assert_true(bolt_sequence(b) == UINT64_MAX - 1);
	bolt_rollback(tx);
	check_clean(db);
	bolt_close(db);
}

static void rollback_leaves_nothing(void **state)
{
	struct bolt *db = open_fast(*state);
	struct bolt_tx *tx = begin(db, true);

	put(make(bolt_root(tx), "b"), "k", "v");
	assert_int_equal(bolt_commit(tx), 0);
	for (int i = 0; i < 20; i++) {
		tx = begin(db, true);
		put(make(bolt_root(tx), "b"), "k", "changed");
		make(bolt_root(tx), "other");
		if (i % 2)
			assert_int_equal(bolt_bucket_delete(bolt_root(tx), bolt_s("b")), 0);
		bolt_rollback(tx);
	}
	tx = begin(db, false);
	assert_true(has(bolt_bucket(bolt_root(tx), bolt_s("b")), "k", "v"));
	assert_null(bolt_bucket(bolt_root(tx), bolt_s("other")));
	bolt_rollback(tx);
	check_clean(db);
	bolt_close(db);
}

static void reader_sees_its_state_while_pages_are_reused(void **state)
{
	struct bolt *db = open_fast(*state);
	struct bolt_tx *tx = begin(db, true), *reader;
	struct bolt_bucket *b = make(bolt_root(tx), "b");
	_cleanup_free_ char *big = malloc(100000);
	struct bolt_cursor c;
	struct bolt_item item;
	char key[32];
	int n = 0;

	memset(big, 'x', 100000);
	for (int i = 0; i < 1000; i++) {
		snprintf(key, sizeof(key), "%05d", i);
		put(b, key, "before");
	}
	assert_int_equal(bolt_commit(tx), 0);
	reader = begin(db, false);
	/* Changes everything many times and makes the mapping move. */
	for (int round = 0; round < 30; round++) {
		tx = begin(db, true);
		b = bolt_bucket(bolt_root(tx), bolt_s("b"));
		for (int i = 0; i < 1000; i += 1 + round % 3) {
			snprintf(key, sizeof(key), "%05d", i);
			put(b, key, "after");
		}
		snprintf(key, sizeof(key), "big%d", round);
		assert_int_equal(bolt_put(b, bolt_s(key), bolt_b(big, 100000)), 0);
		assert_int_equal(bolt_commit(tx), 0);
	}
	bolt_cursor_init(&c, bolt_bucket(bolt_root(reader), bolt_s("b")));
	for (bool more = bolt_first(&c, &item); more; more = bolt_next(&c, &item)) {
		snprintf(key, sizeof(key), "%05d", n++);
		assert_true(slice_is(item.key, key, 5));
		assert_true(slice_is(item.value, "before", 6));
	}
	assert_int_equal(n, 1000);
	check_tx(reader);
	bolt_rollback(reader);
	check_clean(db);
	bolt_close(db);
}

static void cursor_walks_both_ways_and_seeks(void **state)
{
	struct bolt *db = open_fast(*state);
	struct bolt_tx *tx = begin(db, true);
	struct bolt_bucket *b = make(bolt_root(tx), "b");
	struct bolt_cursor c;
	struct bolt_item item;
	char key[32];

	bolt_cursor_init(&c, b);
	assert_false(bolt_first(&c, &item));
	assert_false(bolt_last(&c, &item));
	assert_false(bolt_next(&c, &item));
	assert_false(bolt_seek(&c, bolt_s("x"), &item));
	for (int i = 0; i < 2000; i++) {
		snprintf(key, sizeof(key), "%06d", i * 2);
		if (i % 10 == 0)
			make(b, key);
		else
			put(b, key, key);
	}
	/* The same before and after the commit: nodes, then pages. */
	for (int pass = 0; pass < 2; pass++) {
		int n = 0;

		bolt_cursor_init(&c, b);
		for (bool more = bolt_first(&c, &item); more; more = bolt_next(&c, &item), n++) {
			snprintf(key, sizeof(key), "%06d", n * 2);
			assert_true(slice_is(item.key, key, 6));
			assert_int_equal(item.is_bucket, n % 10 == 0);
			assert_true(slice_is(item.value, key, n % 10 ? 6 : 0));
		}
		assert_int_equal(n, 2000);
		for (bool more = bolt_last(&c, &item); more; more = bolt_prev(&c, &item)) {
			snprintf(key, sizeof(key), "%06d", --n * 2);
			assert_true(slice_is(item.key, key, 6));
		}
		assert_int_equal(n, 0);
		for (int i = 0; i < 2000; i += 7) {
			snprintf(key, sizeof(key), "%06d", i * 2 - (i > 0));
			assert_true(bolt_seek(&c, bolt_s(key), &item));
			snprintf(key, sizeof(key), "%06d", i * 2);
			assert_true(slice_is(item.key, key, 6));
			assert_int_equal(bolt_prev(&c, &item), i > 0);
		}
		assert_false(bolt_seek(&c, bolt_s("1"), &item));
		assert_true(bolt_seek(&c, bolt_s(""), &item));
		assert_true(slice_is(item.key, "000000", 6));
		if (pass == 0) {
			assert_int_equal(bolt_commit(tx), 0);
			tx = begin(db, false);
			b = bolt_bucket(bolt_root(tx), bolt_s("b"));
		}
	}
	bolt_rollback(tx);
	bolt_close(db);
}

static void cursor_steps_over_leaves_emptied_in_the_transaction(void **state)
{
	struct bolt *db = open_fast(*state);
	struct bolt_tx *tx = begin(db, true);
	struct bolt_bucket *b = make(bolt_root(tx), "b");
	struct bolt_cursor c;
	struct bolt_item item;
	char key[32];

	for (int i = 0; i < 3000; i++) {
		snprintf(key, sizeof(key), "%06d", i);
		put(b, key, "0123456789012345678901234567890123456789");
	}
	assert_int_equal(bolt_commit(tx), 0);
	tx = begin(db, true);
	b = bolt_bucket(bolt_root(tx), bolt_s("b"));
	for (int i = 0; i < 2990; i++) {
		if (i == 1500)
			continue;
		snprintf(key, sizeof(key), "%06d", i);
		assert_int_equal(bolt_delete(b, bolt_s(key)), 0);
	}
	bolt_cursor_init(&c, b);
	assert_true(bolt_first(&c, &item));
	assert_true(slice_is(item.key, "001500", 6));
	assert_true(bolt_next(&c, &item));
	assert_true(slice_is(item.key, "002990", 6));
	assert_true(bolt_prev(&c, &item));
	assert_true(slice_is(item.key, "001500", 6));
	assert_false(bolt_prev(&c, &item));
	assert_true(bolt_seek(&c, bolt_s("000001"), &item));
	assert_true(slice_is(item.key, "001500", 6));
	assert_int_equal(bolt_delete(b, bolt_s("001500")), 0);
	for (int i = 2990; i < 3000; i++) {
		snprintf(key, sizeof(key), "%06d", i);
		assert_int_equal(bolt_delete(b, bolt_s(key)), 0);
	}
	assert_false(bolt_first(&c, &item));
	assert_false(bolt_last(&c, &item));
	assert_int_equal(bolt_commit(tx), 0);
	check_clean(db);
	bolt_close(db);
}

static void values_larger_than_a_page_come_back(void **state)
{
	static const size_t sizes[] = {4000, 4096, 5000, 65536, 1000000, 40000000};
	struct bolt *db = open_fast(*state);
	_cleanup_free_ uint8_t *p = malloc(40000000);

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		struct bolt_tx *tx = begin(db, true);
		struct bolt_bucket *b = make(bolt_root(tx), "b");

		fill(p, sizes[i], (uint32_t)i);
		assert_int_equal(bolt_put(b, bolt_b(&sizes[i], 8), bolt_b(p, sizes[i])), 0);
		assert_int_equal(bolt_commit(tx), 0);
	}
	bolt_close(db);
	db = open_fast(*state);
	struct bolt_tx *tx = begin(db, true);
	struct bolt_bucket *b = bolt_bucket(bolt_root(tx), bolt_s("b"));

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		struct bolt_slice v;

		fill(p, sizes[i], (uint32_t)i);
		assert_true(bolt_get(b, bolt_b(&sizes[i], 8), &v));
		assert_true(slice_is(v, p, sizes[i]));
		assert_int_equal(bolt_delete(b, bolt_b(&sizes[i], 8)), 0);
	}
	assert_int_equal(bolt_commit(tx), 0);
	check_clean(db);
	bolt_close(db);
}

/* More than 65534 free pages: the list's long form, over several pages. */
static void large_free_list_is_kept(void **state)
{
	struct bolt *db = open_fast(*state);
	_cleanup_free_ uint8_t *p = calloc(1, 70000 * 4096u);
	struct bolt_tx *tx = begin(db, true);
	struct bolt_bucket *b = make(bolt_root(tx), "b");

	assert_int_equal(bolt_put(b, bolt_s("k"), bolt_b(p, 70000 * 4096u)), 0);
	assert_int_equal(bolt_commit(tx), 0);
	tx = begin(db, true);
	assert_int_equal(bolt_bucket_delete(bolt_root(tx), bolt_s("b")), 0);
	assert_int_equal(bolt_commit(tx), 0);
	check_clean(db);
	bolt_close(db);
	db = open_fast(*state);
	check_clean(db);
	tx = begin(db, true);
	put(make(bolt_root(tx), "c"), "k", "v");
	assert_int_equal(bolt_commit(tx), 0);
	check_clean(db);
	bolt_close(db);
}

static void pages_are_reused_when_no_reader_is_left(void **state)
{
	struct bolt *db = open_fast(*state);
	struct bolt_options ro = {.read_only = true};
	struct bolt_tx *tx;
	char path[128], value[32];
	struct dir *d = *state;
	FILE *f;
	long size;

	(void)ro;
	for (int i = 0; i < 500; i++) {
		tx = begin(db, true);
		snprintf(value, sizeof(value), "%d", i);
		put(make(bolt_root(tx), "b"), "k", value);
		assert_int_equal(bolt_commit(tx), 0);
	}
	check_clean(db);
	bolt_close(db);
	snprintf(path, sizeof(path), "%s", d->file);
	f = fopen(path, "r");
	assert_non_null(f);
	fseek(f, 0, SEEK_END);
	size = ftell(f);
	fclose(f);
	assert_in_range(size, 4 * 4096, 64 * 1024);
}

/* The random test: buckets by path, 300 possible keys in each, 0 = absent, else the seed of the
 * value. */
static const char *const model_paths[] = {"a", "b", "a/x", "a/x/y", "a/z", "long"};
#define MODEL_BUCKETS ARRAY_LEN(model_paths)
#define MODEL_KEYS 300

struct model {
	bool exists[MODEL_BUCKETS];
	uint32_t seed[MODEL_BUCKETS][MODEL_KEYS];
	uint64_t sequence[MODEL_BUCKETS];
};

static struct bolt_slice model_key(size_t bucket, int i, char buf[1200])
{
	int n = snprintf(buf, 1200, "k%04d", i);

	if (bucket != 5)
		return bolt_b(buf, (size_t)n);
	memset(buf + n, 'z', 1100);
	return bolt_b(buf, (size_t)n + (size_t)(i * 37 % 1100));
}

static size_t model_value(uint32_t seed, uint8_t buf[9000])
{
	size_t n = seed % 50 == 0 ? 2000 + seed % 7000 : seed % 90;

	fill(buf, n, seed);
	return n;
}

static struct bolt_bucket *model_bucket(struct bolt_tx *tx, size_t i, bool create)
{
	_cleanup_free_ char *path = strdup(model_paths[i]);
	struct bolt_bucket *b = bolt_root(tx);
	char *save;

	for (char *s = strtok_r(path, "/", &save); s && b; s = strtok_r(NULL, "/", &save))
		b = create ? make(b, s) : bolt_bucket(b, bolt_s(s));
	return b;
}

static void model_verify(struct bolt_tx *tx, const struct model *m)
{
	static uint8_t want[9000];
	char kbuf[1200];

	for (size_t i = 0; i < MODEL_BUCKETS; i++) {
		struct bolt_bucket *b = model_bucket(tx, i, false);
		struct bolt_cursor c;
		struct bolt_item item;
		int k = -1;

		assert_int_equal(b != NULL, m->exists[i]);
		if (!b)
			continue;
		assert_int_equal(bolt_sequence(b), m->sequence[i]);
		bolt_cursor_init(&c, b);
		for (bool more = bolt_first(&c, &item); more; more = bolt_next(&c, &item)) {
			if (item.is_bucket)
				continue;
			for (k++; k < MODEL_KEYS && m->seed[i][k] == 0; k++)
				;
			assert_int_not_equal(k, MODEL_KEYS);
			struct bolt_slice key = model_key(i, k, kbuf);
			size_t n = model_value(m->seed[i][k], want);

			assert_true(slice_is(item.key, key.data, key.len));
			assert_true(slice_is(item.value, want, n));
		}
		for (k++; k < MODEL_KEYS; k++)
			assert_int_equal(m->seed[i][k], 0);
	}
}

static void model_delete(struct model *m, size_t i)
{
	size_t n = strlen(model_paths[i]);

	for (size_t j = 0; j < MODEL_BUCKETS; j++) {
		if (strncmp(model_paths[j], model_paths[i], n) != 0 ||
		    (model_paths[j][n] && model_paths[j][n] != '/'))
			continue;
		m->exists[j] = false;
		m->sequence[j] = 0;
		memset(m->seed[j], 0, sizeof(m->seed[j]));
	}
}

static void model_create(struct model *m, size_t i)
{
	for (size_t j = 0; j < MODEL_BUCKETS; j++) {
		size_t n = strlen(model_paths[j]);

		if (strncmp(model_paths[j], model_paths[i], n) == 0 &&
		    (!model_paths[i][n] || model_paths[i][n] == '/'))
			m->exists[j] = true;
	}
}

static void model_step(struct bolt_tx *tx, struct model *m, uint64_t *s, int phase)
{
	static uint8_t value[9000];
	size_t i = rnd(s) % MODEL_BUCKETS;
	struct bolt_bucket *b;
	char kbuf[1200];
	uint32_t op = rnd(s) % 100;
	int k = (int)(rnd(s) % MODEL_KEYS);

	if (op < 1) {
		_cleanup_free_ char *path = strdup(model_paths[i]);
		char *slash = strrchr(path, '/');
		struct bolt_bucket *parent = bolt_root(tx);

		if (!m->exists[i])
			return;
		if (slash) {
			size_t j = 0;

			*slash = '\0';
			while (strcmp(model_paths[j], path) != 0)
				j++;
			parent = model_bucket(tx, j, false);
		}
		assert_int_equal(bolt_bucket_delete(parent, bolt_s(slash ? slash + 1 : path)), 0);
		model_delete(m, i);
		return;
	}
	b = model_bucket(tx, i, true);
	model_create(m, i);
	if (op < 5) {
		assert_int_equal(bolt_next_sequence(b, &m->sequence[i]), 0);
	} else if (op < (phase ? 70u : 30u)) {
		assert_int_equal(bolt_delete(b, model_key(i, k, kbuf)), 0);
		m->seed[i][k] = 0;
	} else {
		uint32_t seed = rnd(s) | 1u << 31;
		size_t n = model_value(seed, value);

		assert_int_equal(bolt_put(b, model_key(i, k, kbuf), bolt_b(value, n)), 0);
		m->seed[i][k] = seed;
	}
}

static void random_run(const struct dir *d, uint64_t seed, bool alternate)
{
	static struct model m, before;
	struct bolt_options o = {.no_sync = true};
	struct bolt *db = open_with(d, o);
	struct bolt_tx *tx, *reader = NULL;
	static struct model seen;
	uint64_t s = seed;

	memset(&m, 0, sizeof(m));
	for (int round = 0; round < 150; round++) {
		int steps = (int)(rnd(&s) % 120);

		before = m;
		tx = begin(db, true);
		for (int i = 0; i < steps; i++)
			model_step(tx, &m, &s, round / 25 % 2);
		model_verify(tx, &m);
		if (rnd(&s) % 10 == 0) {
			bolt_rollback(tx);
			m = before;
		} else {
			assert_int_equal(bolt_commit(tx), 0);
		}
		if (reader && rnd(&s) % 4 == 0) {
			model_verify(reader, &seen);
			bolt_rollback(reader);
			reader = NULL;
		}
		if (!reader && rnd(&s) % 4 == 0) {
			reader = begin(db, false);
			seen = m;
		}
		check_clean(db);
		if (rnd(&s) % 8 == 0) {
			bolt_rollback(reader);
			reader = NULL;
			bolt_close(db);
			if (alternate)
				o.no_freelist_sync = !o.no_freelist_sync;
			db = open_with(d, o);
			check_clean(db);
		}
		tx = begin(db, false);
		model_verify(tx, &m);
		bolt_rollback(tx);
	}
	bolt_rollback(reader);
	bolt_close(db);
}

static void random_changes_match_a_model(void **state)
{
	random_run(*state, 1, false);
}

static void random_changes_match_a_model_with_and_without_free_list(void **state)
{
	random_run(*state, 2, true);
}

#define T(f) cmocka_unit_test_setup_teardown(f, dir_setup, dir_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(put_get_and_delete_survive_reopening),
		T(wrong_use_is_refused_with_its_own_errno),
		T(buckets_nest_and_are_deleted_as_a_tree),
		T(nesting_has_a_limit),
		T(inline_bucket_grows_to_pages_and_shrinks_back),
		T(sequence_counts_from_one_and_persists),
		T(rollback_leaves_nothing),
		T(reader_sees_its_state_while_pages_are_reused),
		T(cursor_walks_both_ways_and_seeks),
		T(cursor_steps_over_leaves_emptied_in_the_transaction),
		T(values_larger_than_a_page_come_back),
		T(large_free_list_is_kept),
		T(pages_are_reused_when_no_reader_is_left),
		T(random_changes_match_a_model),
		T(random_changes_match_a_model_with_and_without_free_list),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
