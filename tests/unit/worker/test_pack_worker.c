/* SPDX-License-Identifier: Apache-2.0 */
/* The real containerd-worker (from $CONTAINERD_WORKER) packing and recompressing a layer, through
 * core/worker.h. */
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

/* ---- recompress ---- */

static int recompress(struct fixture *f, enum pack_compression to)
{
	_cleanup_free_ char *in = f->out.data;
	_cleanup_close_ int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	struct recompress_request r = {.input_fd = fd, .compression = to, .write = take, .arg = f};

	assert_int_equal(fd_write_full(fd, in, f->out.len), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	f->out = (struct buf)BUF_INIT;
	f->err = ERR_INIT;
	return worker_recompress(&f->ctx, &r, &f->result, &f->err);
}

static void any_compression_becomes_any_other(void **state)
{
	static const uint8_t magic[][2] = {[PACK_GZIP] = {0x1f, 0x8b}, [PACK_ZSTD] = {0x28, 0xb5}};
	struct fixture *f = *state;
	struct pack_result plain;

	add_zeroes(f, "more", 3 << 20);
	assert_int_equal(pack(f, PACK_NONE), 0);
	plain = f->result;
	for (int i = 0; i < 2; i++)
		for (enum pack_compression c = PACK_NONE; c <= PACK_ZSTD; c++) {
			if (recompress(f, c) < 0)
				fail_msg("%s", f->err.text);
			assert_string_equal(f->result.diff_id.text, plain.diff_id.text);
			assert_int_equal(f->result.size, plain.size);
			if (c == PACK_NONE)
				assert_int_equal(f->out.len, plain.size);
			else
				assert_memory_equal(f->out.data, magic[c], 2);
		}
}

static void input_that_breaks_off_is_an_error(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(pack(f, PACK_GZIP), 0);
	f->out.len -= 10;
	assert_int_equal(recompress(f, PACK_NONE), -ERR_INVALID_ARGUMENT);
	assert_non_null(strstr(f->err.text, "recompress layer: gzip: unexpected end"));
}

static void recompression_ends_with_the_callers_error(void **state)
{
	struct fixture *f = *state;

	add_zeroes(f, "big", 16 << 20);
	assert_int_equal(pack(f, PACK_GZIP), 0);
	f->limit = 1 << 20;
	assert_int_equal(recompress(f, PACK_NONE), -ERR_ABORTED);
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
		TEST(any_compression_becomes_any_other),
		TEST(input_that_breaks_off_is_an_error),
		TEST(recompression_ends_with_the_callers_error),
	};

	return cmocka_run_group_tests_name("pack worker", tests, NULL, NULL);
}
