/* SPDX-License-Identifier: Apache-2.0 */
/* A tar stream of arbitrary bytes, applied to a new directory in memory (/dev/shm), in both ways of
 * handling whiteouts.
 *
 * The first byte chooses: bit 0 overlay or plain, bits 1.. the size of blocks. A canary beside the
 * directory must stay as it is and alone: nothing may be written outside. */
#include <dirent.h>
#include <fcntl.h>
#include <locale.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/path.h"
#include "worker/tar_apply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const uint8_t *p;
	size_t n, block;
};

static ssize_t next(void *arg, const void **ret, struct err *err)
{
	struct input *in = arg;
	size_t n = MIN(in->n, in->block);

	*ret = in->p;
	in->p += n;
	in->n -= n;
	return (ssize_t)n;
}

/* Puts the checksums of headers right, or no damage to them would get past. */
static void fix_headers(uint8_t *p, size_t n)
{
	for (; n >= 512; p += 512, n -= 512) {
		unsigned sum = 0;
		char text[8];

		if (memcmp(p + 257, "ustar", 5) != 0)
			continue;
		memset(p + 148, ' ', 8);
		for (size_t i = 0; i < 512; i++)
			sum += p[i];
		snprintf(text, sizeof(text), "%06o", sum);
		memcpy(p + 148, text, 7);
	}
}

/* "canary", "lower" and "target", and nothing else. */
static void check_outside(int top)
{
	_cleanup_closedir_ DIR *d = fdopendir(dup(top));
	const struct dirent *e;
	struct stat st;
	int n = 0;

	while ((e = readdir(d)))
		n++;
	if (n != 5 || fstatat(top, "canary", &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_size != 6 ||
	    st.st_nlink != 1)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char dir[] = "/dev/shm/tar_apply.XXXXXX";
	_cleanup_free_ uint8_t *copy = malloc(size + 1);
	struct input in = {.block = 1};
	int64_t entries;
	struct err err;

	if (!copy || size < 1 || size > 1 << 20 || !mkdtemp(dir))
		return 0;
	setlocale(LC_CTYPE, "C.UTF-8");
	memcpy(copy, data, size);
	fix_headers(copy + 1, size - 1);
	in.p = copy + 1;
	in.n = size - 1;
	in.block = (size_t)(data[0] >> 1) * 37 + 1;
	{
		_cleanup_close_ int top = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
				    target = -1, lower = -1;

		if (top < 0 || mkdirat(top, "target", 0755) < 0 ||
		    mkdirat(top, "lower", 0755) < 0 || mkdirat(top, "lower/a", 0700) < 0 ||
		    file_write(top, "lower/a/b", "x", 1, 0600) < 0 ||
		    file_write(top, "canary", "canary", 6, 0600) < 0)
			abort();
		target = openat(top, "target", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		lower = openat(top, "lower", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		struct tar_apply_options o = {
			.root_fd = target,
			.lower_fds = &lower,
			.n_lowers = 1,
			.overlay = data[0] & 1,
			.userxattr = geteuid() != 0,
			.keep_owner = geteuid() != 0,
			.skip_devices = geteuid() != 0,
			.max_entries = 1000,
			.max_file = 1 << 20,
		};

		if (tar_apply(&o, next, &in, &entries, &err) < 0 && (err.kind == 0 || !err.text[0]))
			abort();
		check_outside(top);
	}
	rm_rf(AT_FDCWD, dir);
	return 0;
}
