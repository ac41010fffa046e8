/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a fuzz target over files, for compilers without libFuzzer and for the test command: every
 * argument is a file, or a directory whose files are taken in the order of their names. The file in
 * work is named on stderr before the target sees it, so that a crash tells its input. */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"

#define INPUT_MAX (64u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int run_file(int dir, const char *name)
{
	_cleanup_close_ int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	_cleanup_free_ uint8_t *data = NULL;
	struct stat st;
	size_t n = 0;

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size > INPUT_MAX) {
		fprintf(stderr, "%s: cannot be read\n", name);
		return -1;
	}
	data = malloc((size_t)st.st_size + 1);
	if (!data)
		return -1;
	while (n < (size_t)st.st_size) {
		ssize_t r = read(fd, data + n, (size_t)st.st_size - n);

		if (r <= 0)
			break;
		n += (size_t)r;
	}
	/* Exactly as large as the input, so that the sanitizer sees a read beyond its end. */
	if (n) {
		uint8_t *exact = realloc(data, n);

		data = exact ? exact : data;
	}
	fprintf(stderr, "%s: %zu bytes\n", name, n);
	LLVMFuzzerTestOneInput(data, n);
	return 0;
}

static int visible(const struct dirent *e)
{
	return e->d_name[0] != '.';
}

/* The number of files, or -1. */
static int run_directory(const char *path)
{
	_cleanup_close_ int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent **list;
	int n, r = 0;

	n = dir < 0 ? -1 : scandirat(dir, ".", &list, visible, alphasort);
	if (n < 0) {
		fprintf(stderr, "%s: cannot be read\n", path);
		return -1;
	}
	for (int i = 0; i < n; i++) {
		if (run_file(dir, list[i]->d_name) < 0)
			r = -1;
		free(list[i]);
	}
	free(list);
	return r < 0 ? r : n;
}

int main(int argc, char **argv)
{
	int files = 0;

	for (int i = 1; i < argc; i++) {
		struct stat st;
		int n;

		if (stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode))
			n = run_directory(argv[i]);
		else
			n = run_file(AT_FDCWD, argv[i]) < 0 ? -1 : 1;
		if (n < 0)
			return 1;
		files += n;
	}
	if (!files) {
		fprintf(stderr, "no input: name files or directories\n");
		return 1;
	}
	printf("%d inputs\n", files);
	return 0;
}
