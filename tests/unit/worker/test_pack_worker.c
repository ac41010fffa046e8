/* SPDX-License-Identifier: Apache-2.0 */
/* The real containerd-worker (from $CONTAINERD_WORKER) packing a layer, through core/worker.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "base/time.h"
#include "core/worker.h"

struct fixture {
	char dir[32];
	int lower, upper;
	struct ctx ctx;
	struct err err;
	struct buf out;
	size_t limit; /* the caller takes no more; 0 = all */
	struct pack_result result;
};

static int open_dir(struct fixture *f, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/%s", f->dir, name);
	assert_int_equal(mkdir(path, 0755), 0);
	return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	strcpy(f->dir, "/tmp/packw.XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	f->lower = open_dir(f, "lower");
	f->upper = open_dir(f, "upper");
	f->ctx.deadline = time_mono() + 60 * NSEC_PER_SEC;
	assert_int_equal(file_write(f->lower, "gone", "x", 1, 0644), 0);
	assert_int_equal(file_write(f->upper, "new", "x", 1, 0644), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	close(f->lower);
	close(f->upper);
	rm_rf(AT_FDCWD, f->dir);
	buf_done(&f->out);
	free(f);
	return 0;
}

static int take(void *arg, const void *p, size_t n, struct err *err)
{
	struct fixture *f = arg;

	if (f->limit && f->out.len + n > f->limit)
		return err_set(err, ERR_ABORTED, "enough");
	return buf_add(&f->out, p, n) == 0 ? 0 : err_nomem(err);
}

static int pack(struct fixture *f, enum pack_compression compression)
{
	const struct pack_request r = {
		.lower_fd = f->lower,
		.upper_fd = f->upper,
		.changed_fd = -1,
		.compression = compression,
		.write = take,
		.arg = f,
	};

	f->err = ERR_INIT;
	return worker_pack(&f->ctx, &r, &f->result, &f->err);
}

static void add_zeroes(struct fixture *f, const char *name, off_t size)
{
	_cleanup_close_ int fd = openat(f->upper, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	assert_int_equal(ftruncate(fd, size), 0);
}

static void layer_comes_from_the_worker_with_digest_and_size(void **state)
{
	struct fixture *f = *state;
	struct digest want;

	for (enum pack_compression c = PACK_NONE; c <= PACK_ZSTD; c++) {
		struct digest first = f->result.diff_id;

		buf_clear(&f->out);
		if (pack(f, c) < 0)
			fail_msg("%s", f->err.text);
		assert_int_equal(f->result.entries, 2);
		if (c == PACK_NONE) {
			digest_of(DIGEST_SHA256, f->out.data, f->out.len, &want);
			assert_string_equal(f->result.diff_id.text, want.text);
			assert_int_equal(f->result.size, f->out.len);
			assert_string_equal(f->out.data, ".wh.gone");
		} else {
			assert_string_equal(f->result.diff_id.text, first.text);
		}
	}
}

static void unreadable_files_are_read_with_the_one_capability(void **state)
{
	struct fixture *f = *state;

	if (geteuid() != 0)
		skip();
	assert_int_equal(fchmodat(f->upper, "new", 0, 0), 0);
	assert_int_equal(fchownat(f->upper, "new", 4321, 4321, 0), 0);
	if (pack(f, PACK_GZIP) < 0)
		fail_msg("%s", f->err.text);
}

static void error_of_the_caller_ends_the_worker(void **state)
{
	struct fixture *f = *state;

	add_zeroes(f, "big", 64 << 20);
	f->limit = 1 << 20;
	assert_int_equal(pack(f, PACK_NONE), -ERR_ABORTED);
	assert_non_null(strstr(f->err.text, "pack layer: enough"));
}

static void error_of_the_worker_is_the_callers(void **state)
{
	struct fixture *f = *state;
	int at = fcntl(f->upper, F_DUPFD_CLOEXEC, 0);
	char name[251];

	memset(name, 'n', 250);
	name[250] = 0;
	for (int i = 0; i < 18; i++) {
		int next;

		assert_int_equal(mkdirat(at, name, 0755), 0);
		next = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		close(at);
		at = next;
	}
	close(at);
	assert_int_equal(pack(f, PACK_NONE), -ERR_FAILED_PRECONDITION);
}

static void pack_ends_when_the_request_does(void **state)
{
	struct fixture *f = *state;

	add_zeroes(f, "endless", 1LL << 41);
	f->ctx.deadline = time_mono() + 200 * NSEC_PER_MSEC;
	assert_int_equal(pack(f, PACK_ZSTD), -ERR_DEADLINE_EXCEEDED);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(layer_comes_from_the_worker_with_digest_and_size),
		TEST(unreadable_files_are_read_with_the_one_capability),
		TEST(error_of_the_caller_ends_the_worker),
		TEST(error_of_the_worker_is_the_callers),
		TEST(pack_ends_when_the_request_does),
	};

	return cmocka_run_group_tests_name("pack worker", tests, NULL, NULL);
}
