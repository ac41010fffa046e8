/* SPDX-License-Identifier: Apache-2.0 */
/* Headers of a tar archive in the POSIX format: ustar, and before it a pax header for what ustar
 * can not say (long or non-ASCII names, large numbers, fractions of seconds, attributes). */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "base/buf.h"

#define TAR_BLOCK 512

struct tar_xattr {
	const char *name;
	const void *value;
	size_t size;
};

enum tar_type {
	TAR_FILE = '0',
	TAR_LINK = '1', /* hard link */
	TAR_SYMLINK = '2',
	TAR_CHAR = '3',
	TAR_BLOCK_DEVICE = '4',
	TAR_DIR = '5',
	TAR_FIFO = '6',
	TAR_PAX = 'x',
};

struct tar_header {
	const char *path; /* of a directory with a slash at its end */
	const char *link; /* target, NULL = none */
	enum tar_type type;
	mode_t mode; /* permission bits only are written */
	uid_t uid;
	gid_t gid;
	int64_t size; /* of the data that follows */
	struct timespec mtime;
	dev_t dev;
	const struct tar_xattr *xattrs;
	size_t n_xattrs;
};

/* Appends the header, whole blocks. 0 or -ENOMEM. */
int tar_write_header(struct buf *b, const struct tar_header *h);
