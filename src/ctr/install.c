/* SPDX-License-Identifier: Apache-2.0 */
/* Copying: see install.h. Every name is opened relative to the directory before it, without
 * following a link; a file is written beside its place and renamed, so that a program that runs is
 * not touched and nobody sees half of one. */
#include "ctr/install.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"

#define DEPTH_MAX 16
#define TEMPORARY ".ctr-install"

static int copy_data(int from, int to, const char *name, struct err *err)
{
	for (;;) {
		ssize_t n = sendfile(to, from, NULL, (size_t)1 << 20);

		if (n == 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return err_errno(err, errno, "copy `%s`", name);
	}
}

/* Puts what is at TEMPORARY in place. */
static int put_in_place(const struct install *i, int dir, const char *name, struct err *err)
{
	unsigned int flags = i->replace ? 0 : RENAME_NOREPLACE;
	int r = 0;

	if (renameat2(dir, TEMPORARY, dir, name, flags) == 0)
		return 0;
	if (errno == EEXIST)
		r = err_set(err, ERR_ALREADY_EXISTS, "cannot replace `%s` in `%s` (--replace does)",
			    name, i->to);
	else
		r = err_errno(err, errno, "write `%s`", name);
	unlinkat(dir, TEMPORARY, 0);
	return r;
}

static int copy_file(struct install *i, int from_dir, int to_dir, const char *name, struct err *err)
{
	int from _cleanup_close_ =
		openat(from_dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	int to _cleanup_close_ = -1;
	struct stat st;
	int r;

	if (from < 0 || fstat(from, &st) < 0)
		return err_errno(err, errno, "open `%s` of the image", name);
	if (!S_ISREG(st.st_mode))
		return err_set(err, ERR_INVALID_ARGUMENT, "`%s` of the image is no file", name);
	unlinkat(to_dir, TEMPORARY, 0);
	to = openat(to_dir, TEMPORARY, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (to < 0)
		return err_errno(err, errno, "make a file in `%s`", i->to);
	r = copy_data(from, to, name, err);
	if (r == 0 && fchmod(to, st.st_mode & 0755) < 0)
		r = err_errno(err, errno, "change the mode of `%s`", name);
	if (r < 0) {
		unlinkat(to_dir, TEMPORARY, 0);
		return r;
	}
	return put_in_place(i, to_dir, name, err);
}

static int copy_link(struct install *i, int from_dir, int to_dir, const char *name, struct err *err)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(from_dir, name, target, sizeof(target) - 1);

	if (n < 0)
		return err_errno(err, errno, "read the link `%s` of the image", name);
	target[n] = '\0';
	if (strchr(target, '/') || streq(target, ".") || streq(target, ".."))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "the link `%s` of the image leads out of its directory: `%.200s`",
			       name, target);
	unlinkat(to_dir, TEMPORARY, 0);
	if (symlinkat(target, to_dir, TEMPORARY) < 0)
		return err_errno(err, errno, "make a link in `%s`", i->to);
	return put_in_place(i, to_dir, name, err);
}

static int copy_dir(struct install *i, int from, int to, int depth, struct err *err);

static int copy_subdir(struct install *i, int from_dir, int to_dir, const char *name, int depth,
		       struct err *err)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	int from _cleanup_close_ = openat(from_dir, name, flags), to _cleanup_close_ = -1;

	if (from < 0)
		return err_errno(err, errno, "open the directory `%s` of the image", name);
	if (mkdirat(to_dir, name, 0755) < 0 && errno != EEXIST)
		return err_errno(err, errno, "make the directory `%s` in `%s`", name, i->to);
	to = openat(to_dir, name, flags);
	if (to < 0)
		return err_errno(err, errno, "open the directory `%s` in `%s`", name, i->to);
	return copy_dir(i, from, to, depth, err);
}

static int copy_entry(struct install *i, int from, int to, const char *name, int depth,
		      struct err *err)
{
	struct stat st;
	int r;

	if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_errno(err, errno, "look at `%s` of the image", name);
	if (S_ISDIR(st.st_mode))
		return copy_subdir(i, from, to, name, depth + 1, err);
	r = S_ISLNK(st.st_mode) ? copy_link(i, from, to, name, err)
				: copy_file(i, from, to, name, err);
	i->n_files += r == 0;
	return r;
}

static int copy_dir(struct install *i, int from, int to, int depth, struct err *err)
{
	int fd = depth <= DEPTH_MAX ? openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	DIR *d _cleanup_closedir_ = fd >= 0 ? fdopendir(fd) : NULL;
	const struct dirent *e;
	int r = 0;

	if (depth > DEPTH_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "the image's directories are nested too deeply");
	if (!d) {
		r = err_errno(err, errno, "read a directory of the image");
		if (fd >= 0)
			close(fd);
		return r;
	}
	while (r == 0 && (e = readdir(d)))
		if (!streq(e->d_name, ".") && !streq(e->d_name, ".."))
			r = copy_entry(i, from, to, e->d_name, depth, err);
	return r;
}

/* "bin" may be a link to usr/bin: that is followed, inside of the tree. */
static int install_dir(struct install *i, int root, int to, const char *name, struct err *err)
{
	int from _cleanup_close_ = path_open_in_root(root, name, O_RDONLY | O_DIRECTORY, 0);
	int sub _cleanup_close_ = -1;

	if (from == -ENOENT || from == -ENOTDIR)
		return 0;
	if (from < 0)
		return err_errno(err, from, "open `%s` of the image", name);
	if (mkdirat(to, name, 0755) < 0 && errno != EEXIST)
		return err_errno(err, errno, "make `%s/%s`", i->to, name);
	sub = openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (sub < 0)
		return err_errno(err, errno, "open `%s/%s`", i->to, name);
	return copy_dir(i, from, sub, 0, err);
}

int install_tree(struct install *i, int root, struct err *err)
{
	int to _cleanup_close_ = -1;
	int r;

	r = mkdir_p(i->to, 0711);
	if (r < 0)
		return err_errno(err, r, "make `%s`", i->to);
	to = open(i->to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (to < 0)
		return err_errno(err, errno, "open `%s`", i->to);
	r = install_dir(i, root, to, "bin", err);
	if (r == 0 && i->libs)
		r = install_dir(i, root, to, "lib", err);
	if (r == 0 && i->n_files == 0)
		return err_set(err, ERR_NOT_FOUND, "the image has no files in bin%s",
			       i->libs ? " or lib" : "");
	return r;
}
