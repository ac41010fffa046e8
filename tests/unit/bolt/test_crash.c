/* SPDX-License-Identifier: Apache-2.0 */
/* What a power cut, a kill, a full disk and a lack of memory leave behind.
 *
 * For the power cut every write, truncation and sync is recorded. A crash at any moment leaves all
 * writes before the last sync, and of those after it any subset, in any order, torn at sectors;
 * many such files are made and opened. */
#include <signal.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "bolt/internal.h"
#include "util.h"

#define SECTOR 512

struct op {
	enum { OP_WRITE, OP_TRUNCATE, OP_SYNC, OP_ACK } kind;
	off_t off;
	size_t n;
	uint8_t *p;
};

static struct op *ops;
static size_t n_ops, cap_ops;
static bool recording;
static long writes_left = -1; /* then no space */
static long allocs_left = -1; /* then no memory */
static int sync_error;
static bool short_of_room; /* on the disk, for what is taken ahead */

static void op_add(int kind, const void *p, size_t n, off_t off)
{
	if (!recording)
		return;
	if (n_ops == cap_ops) {
		cap_ops = cap_ops ? cap_ops * 2 : 256;
		ops = realloc(ops, cap_ops * sizeof(*ops));
	}
	ops[n_ops] = (struct op){.kind = kind, .off = off, .n = n};
	if (p)
		ops[n_ops].p = memcpy(malloc(n + 1), p, n);
	n_ops++;
}

ssize_t __real_pwrite64(int fd, const void *p, size_t n, off_t off);
ssize_t __wrap_pwrite64(int fd, const void *p, size_t n, off_t off);
ssize_t __wrap_pwrite64(int fd, const void *p, size_t n, off_t off)
{
	if (writes_left == 0) {
		errno = ENOSPC;
		return -1;
	}
	writes_left -= writes_left > 0;
	op_add(OP_WRITE, p, n, off);
	return __real_pwrite64(fd, p, n, off);
}

ssize_t __wrap_pwritev64(int fd, const struct iovec *iov, int n, off_t off);
ssize_t __wrap_pwritev64(int fd, const struct iovec *iov, int n, off_t off)
{
	ssize_t total = 0;

	for (int i = 0; i < n; i++) {
		if (__wrap_pwrite64(fd, iov[i].iov_base, iov[i].iov_len, off + total) < 0)
			return total ? total : -1;
		total += (ssize_t)iov[i].iov_len;
	}
	return total;
}

int __real_ftruncate64(int fd, off_t n);
int __wrap_ftruncate64(int fd, off_t n);
int __wrap_ftruncate64(int fd, off_t n)
{
	op_add(OP_TRUNCATE, NULL, 0, n);
	return __real_ftruncate64(fd, n);
}

int __real_fallocate64(int fd, int mode, off_t off, off_t n);
int __wrap_fallocate64(int fd, int mode, off_t off, off_t n);
int __wrap_fallocate64(int fd, int mode, off_t off, off_t n)
{
	int r = __real_fallocate64(fd, mode, off, short_of_room ? n / 2 : n);

	if (!short_of_room)
		return r;
	errno = ENOSPC; /* what was there stays taken */
	return -1;
}

int __wrap_fdatasync(int fd);
int __wrap_fdatasync(int fd)
{
	if (sync_error) {
		errno = sync_error;
		return -1;
	}
	op_add(OP_SYNC, NULL, 0, 0);
	return 0;
}

void *__real_malloc(size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_malloc(size_t n)
{
	if (allocs_left == 0)
		return NULL;
	allocs_left -= allocs_left > 0;
	return __real_malloc(n);
}

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size)
{
	if (allocs_left == 0)
		return NULL;
	allocs_left -= allocs_left > 0;
	return __real_calloc(n, size);
}

void *__real_reallocarray(void *p, size_t n, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
	if (allocs_left == 0)
		return NULL;
	allocs_left -= allocs_left > 0;
	return __real_reallocarray(p, n, size);
}

struct change {
	uint64_t number;
};

/* Every commit carries its number, twice, far from each other; the rest is there to move pages
 * about. */
static int change_make(struct bolt_tx *tx, void *arg)
{
	const struct change *c = arg;
	uint64_t s = c->number;
	struct bolt_bucket *b, *x;
	char key[64], value[400];
	int r;

	r = bolt_bucket_create_if_missing(bolt_root(tx), bolt_s("b"), &b);
	if (r == 0)
		r = bolt_put(b, bolt_s("0"), bolt_b(&c->number, 8));
	if (r == 0)
		r = bolt_put(b, bolt_s("z"), bolt_b(&c->number, 8));
	memset(value, 'v', sizeof(value));
	for (int i = 0; i < 12 && r == 0; i++) {
		snprintf(key, sizeof(key), "k%03u", rnd(&s) % 150);
		if (rnd(&s) % 3)
			r = bolt_put(b, bolt_s(key), bolt_b(value, rnd(&s) % sizeof(value)));
		else
			r = bolt_delete(b, bolt_s(key));
	}
	snprintf(key, sizeof(key), "bucket%u", rnd(&s) % 5);
	if (r == 0)
		r = bolt_bucket_create_if_missing(b, bolt_s(key), &x);
	for (int i = 0; i < 8 && r == 0; i++) {
		snprintf(value, sizeof(value), "%u", rnd(&s) % 50);
		r = bolt_put(x, bolt_s(value), bolt_b(value, 300));
	}
	if (r == 0 && rnd(&s) % 6 == 0)
		r = bolt_bucket_delete(b, bolt_s(key));
	return r;
}

/* The number of the last commit that is there; the file must be whole. */
static uint64_t state_of(struct bolt *db)
{
	struct bolt_tx *tx = begin(db, false);
	struct bolt_bucket *b = bolt_bucket(bolt_root(tx), bolt_s("b"));
	struct bolt_slice v, w;
	uint64_t number = 0;

	check_tx(tx);
	if (b) {
		assert_true(bolt_get(b, bolt_s("0"), &v) && v.len == 8);
		assert_true(bolt_get(b, bolt_s("z"), &w) && slice_is(w, v.data, 8));
		memcpy(&number, v.data, 8);
	}
	bolt_rollback(tx);
	return number;
}

struct disk {
	uint8_t *p;
	size_t n;
};

static void disk_apply(struct disk *d, const struct op *op, uint64_t *torn)
{
	size_t end = op->kind == OP_TRUNCATE ? (size_t)op->off : (size_t)op->off + op->n;

	if (op->kind != OP_TRUNCATE && op->kind != OP_WRITE)
		return;
	if (end > d->n) {
		d->p = realloc(d->p, end);
		memset(d->p + d->n, 0, end - d->n);
		d->n = end;
	}
	for (size_t i = 0; op->kind == OP_WRITE && i < op->n; i += SECTOR)
		if (!torn || rnd(torn) % 2)
			memcpy(d->p + op->off + i, op->p + i, MIN((size_t)SECTOR, op->n - i));
}

/* The file after a crash just before op @at, when @acked commits were reported as done. When the
 * newest meta page is lost as well, the state before is there. */
static void crash_at(const struct dir *dir, size_t at, uint64_t acked, uint64_t *s,
		     bool no_freelist, bool lose_meta)
{
	struct disk d = {0};
	struct bolt *db;
	size_t synced = 0;
	uint64_t got, from = acked, to = acked + 1;
	struct bolt_meta m;
	bool both;

	for (size_t i = 0; i < at; i++)
		if (ops[i].kind == OP_SYNC)
			synced = i;
	for (size_t i = 0; i < at; i++) {
		if (i < synced)
			disk_apply(&d, &ops[i], NULL);
		else if (rnd(s) % 3)
			disk_apply(&d, &ops[i], rnd(s) % 2 ? s : NULL);
	}
	if (lose_meta && bolt_meta_find(d.p, d.n, &m, &both) == 0 && both && acked > 1) {
		/* The first commit has txid 2. */
		memset(d.p + m.txid % 2 * m.page_size, 0x11, SECTOR);
		from = to = m.txid - 2;
	}
	assert_int_equal(file_write(AT_FDCWD, dir->file, d.p, d.n, 0600), 0);
	free(d.p);
	db = open_with(dir, (struct bolt_options){.no_freelist_sync = no_freelist});
	got = state_of(db);
	if (got < from || got > to)
		fail_msg("op %zu: found commit %llu, wanted %llu to %llu", at,
			 (unsigned long long)got, (unsigned long long)from, (unsigned long long)to);
	check_clean(db);
	bolt_close(db);
}

static void power_cut(const struct dir *d, bool no_freelist)
{
	struct bolt *db;
	struct change c;
	uint64_t s = 99, acked = 0;

	n_ops = 0;
	recording = true;
	db = open_with(d, (struct bolt_options){.no_freelist_sync = no_freelist});
	/* A new file is synced with fsync(). */
	op_add(OP_SYNC, NULL, 0, 0);
	for (c.number = 1; c.number <= 80; c.number++) {
		assert_int_equal(bolt_update(db, change_make, &c), 0);
		op_add(OP_ACK, NULL, 0, 0);
	}
	recording = false;
	bolt_close(db);
	/* two syncs, a meta page, other pages, the mark */
	assert_in_range(n_ops, 80 * 5, 80 * 50);
	for (size_t at = 2; at <= n_ops; at++) {
		acked += ops[at - 1].kind == OP_ACK;
		for (int i = 0; i < 4; i++)
			crash_at(d, at, acked, &s, no_freelist, i == 3);
	}
	for (size_t i = 0; i < n_ops; i++)
		free(ops[i].p);
	free(ops);
	ops = NULL;
	n_ops = cap_ops = 0;
}

static void power_cut_keeps_every_finished_commit(void **state)
{
	power_cut(*state, false);
}

static void power_cut_keeps_every_finished_commit_without_free_list(void **state)
{
	power_cut(*state, true);
}

static void killed_writer_leaves_a_whole_file(void **state)
{
	struct dir *d = *state;
	uint64_t last = 0;

	for (int round = 0; round < 12; round++) {
		struct bolt *db;
		uint64_t told = 0, got;
		pid_t pid;
		int fds[2], status;

		assert_int_equal(pipe(fds), 0);
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			struct bolt_options o = {.no_freelist_sync = round % 2};
			struct change c = {last};

			if (bolt_open(d->file, &o, &db) < 0)
				_exit(1);
			for (;;) {
				c.number++;
				if (bolt_update(db, change_make, &c) < 0 ||
				    write(fds[1], &c.number, 8) != 8)
					_exit(1);
			}
		}
		close(fds[1]);
		while (told < last + 5 + (uint64_t)round * 3)
			assert_int_equal(read(fds[0], &told, 8), 8);
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		while (read(fds[0], &got, 8) == 8)
			told = got;
		close(fds[0]);
		db = open_with(d, (struct bolt_options){0});
		got = state_of(db);
		assert_in_range(got, told, told + 1);
		check_clean(db);
		bolt_close(db);
		last = got;
	}
}

static void full_disk_fails_the_commit_and_nothing_else(void **state)
{
	struct bolt *db = open_with(*state, (struct bolt_options){0});
	struct change c = {1};
	int failures = 0;

	for (long room = 0; c.number < 40; room = room == 6 ? 0 : room + 1) {
		int r;

		writes_left = room;
		r = bolt_update(db, change_make, &c);
		writes_left = -1;
		if (r == 0) {
			assert_int_equal(state_of(db), c.number++);
			continue;
		}
		assert_int_equal(r, -ENOSPC);
		failures++;
		assert_int_equal(state_of(db), c.number - 1);
		if (bolt_update(db, change_make, &c) == 0) {
			c.number++;
		} else {
			/* It was the meta page: only a new look at the file tells. */
			bolt_close(db);
			db = open_with(*state, (struct bolt_options){0});
			assert_in_range(state_of(db), c.number - 1, c.number);
			assert_int_equal(bolt_update(db, change_make, &c), 0);
			c.number++;
		}
		check_clean(db);
	}
	assert_in_range(failures, 10, 100);
	bolt_close(db);
}

static int grow(struct bolt_tx *tx, void *arg)
{
	static const char value[20000];
	const struct change *c = arg;
	struct bolt_bucket *b;
	char key[32];
	int r;

	snprintf(key, sizeof(key), "%llu", (unsigned long long)c->number);
	r = bolt_bucket_create_if_missing(bolt_root(tx), bolt_s("b"), &b);
	return r < 0 ? r : bolt_put(b, bolt_s(key), bolt_b(value, sizeof(value)));
}

static void room_that_is_not_there_is_not_taken_ahead(void **state)
{
	const struct dir *d = *state;
	struct bolt *db = open_with(d, (struct bolt_options){0});
	struct change c = {0};
	struct stat st;

	short_of_room = true;
	for (; c.number < 20; c.number++) {
		assert_int_equal(bolt_update(db, grow, &c), 0);
		assert_int_equal(stat(d->file, &st), 0);
		assert_int_equal(st.st_size, db->meta.hwm * db->page_size);
	}
	short_of_room = false;
	for (; c.number < 40; c.number++)
		assert_int_equal(bolt_update(db, grow, &c), 0);
	assert_int_equal(stat(d->file, &st), 0);
	assert_true((uint64_t)st.st_size > db->meta.hwm * db->page_size);
	check_clean(db);
	bolt_close(db);
}

static void failed_sync_is_reported(void **state)
{
	struct bolt *db = open_with(*state, (struct bolt_options){0});
	struct change c = {1};

	sync_error = EIO;
	assert_int_equal(bolt_update(db, change_make, &c), -EIO);
	sync_error = 0;
	assert_int_equal(state_of(db), 0);
	assert_int_equal(bolt_update(db, change_make, &c), 0);
	check_clean(db);
	bolt_close(db);
}

static void lack_of_memory_is_an_error_and_changes_nothing(void **state)
{
	struct bolt *db = open_with(*state, (struct bolt_options){0});
	struct change c = {1};
	long n = 0;

	for (int ok = 0; ok < 5; n++) {
		int r;

		allocs_left = n;
		r = bolt_update(db, change_make, &c);
		allocs_left = -1;
		if (r == 0) {
			assert_int_equal(state_of(db), c.number++);
			ok++;
			n = -1;
			continue;
		}
		assert_int_equal(r, -ENOMEM);
		assert_int_equal(state_of(db), c.number - 1);
		check_clean(db);
		assert_in_range(n, 0, 500);
	}
	bolt_close(db);
	for (n = 0;; n++) {
		struct dir *d = *state;
		int r;

		allocs_left = n;
		r = bolt_open(d->file, NULL, &db);
		allocs_left = -1;
		if (r == 0)
			break;
		assert_int_equal(r, -ENOMEM);
	}
	assert_in_range(n, 2, 100);
	bolt_close(db);
}

#define T(f) cmocka_unit_test_setup_teardown(f, dir_setup, dir_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(power_cut_keeps_every_finished_commit),
		T(power_cut_keeps_every_finished_commit_without_free_list),
		T(killed_writer_leaves_a_whole_file),
		T(full_disk_fails_the_commit_and_nothing_else),
		T(room_that_is_not_there_is_not_taken_ahead),
		T(failed_sync_is_reported),
		T(lack_of_memory_is_an_error_and_changes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
