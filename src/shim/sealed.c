/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/sealed.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/path.h"
#include "base/str.h"

#define PROGRAM_MAX (4 << 20)
#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)
#ifndef MFD_EXEC
#define MFD_EXEC 0x10u
#endif

/* A script would be looked for by its interpreter under the name of a descriptor that is closed. */
static int program_check(int fd, off_t *ret_size)
{
	char magic[SELFMAG];
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_mode & (S_ISUID | S_ISGID) || st.st_size > PROGRAM_MAX)
		return -ENOEXEC;
	if (pread(fd, magic, sizeof(magic), 0) != sizeof(magic) ||
	    memcmp(magic, ELFMAG, SELFMAG) != 0)
		return -ENOEXEC;
	*ret_size = st.st_size;
	return 0;
}

static int memory_file(const char *name)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);

	if (fd < 0 && errno == EINVAL) /* of a kernel where all are executable */
		fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	return fd < 0 ? -errno : fd;
}

int sealed_copy(const char *path)
{
	_cleanup_close_ int from = -1, to = -1;
	off_t size, at = 0;
	int r;

	if (!streq(path_base(path), "crun"))
		return -ENOEXEC;
	from = open(path, O_RDONLY | O_CLOEXEC);
	if (from < 0)
		return -errno;
	r = program_check(from, &size);
	if (r < 0)
		return r;
	to = memory_file(path_base(path));
	if (to < 0)
		return to;
	while (at < size) {
		ssize_t n = sendfile(to, from, &at, (size_t)(size - at));

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0) /* it has become shorter */
			return -ENOEXEC;
	}
	if (fcntl(to, F_ADD_SEALS, SEALS) < 0)
		return -errno;
	return TAKE_FD(to);
}

static bool is_same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mode == b->st_mode && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec && a->st_ctim.tv_sec == b->st_ctim.tv_sec &&
	       a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

int sealed_get(struct sealed *s, const char *path)
{
	struct stat before;
	int fd;

	if (stat(path, &before) < 0)
		return -errno;
	if (s->made && is_same(&before, &s->of))
		return s->fd;
	sealed_drop(s);
	fd = sealed_copy(path);
	if (fd < 0)
		return fd;
	/* What changes while it is copied has another time afterwards, and is copied anew. */
	*s = (struct sealed){.made = true, .fd = fd, .of = before};
	return fd;
}

void sealed_drop(struct sealed *s)
{
	if (s->made)
		close(s->fd);
	s->made = false;
}
