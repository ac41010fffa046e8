/* SPDX-License-Identifier: Apache-2.0 */
/* Images of the read-only file system EROFS, made by the program mkfs.erofs (erofs-utils).
 *
 * They are made from a tree of files that a worker has unpacked, in which whiteouts and opaque
 * directories are those of an overlay's upper directory. Versions from 1.7 on read tar files, too
 * (--tar=), but foreign archives are for workers, and of one with "./" in it version 1.8.6 gives
 * directories the wrong modes, owners and times. So that is only used for an index of a tar, which
 * there is no other way to make.
 *
 * The program runs as nobody, without network, in a directory of its own beside the image that
 * nobody else reaches; a tar it reads without any capability, for a tree it has those that reading
 * it takes. An image has its name only when it is whole and on the disk.
 *
 * Any thread but the loop's; blocks.
 */
#pragma once

#include <stdbool.h>

#include "base/ctx.h"
#include "base/digest.h"
#include "core/worker.h"

#define EROFS_LAYER "layer.erofs"
#define EROFS_MEDIA "application/vnd.erofs.layer.v1"
/* What makes a directory one that a layer is wanted in. */
#define EROFS_MARK ".erofslayer"

struct erofs_request {
	const char *dir; /* absolute; the image becomes <dir>/layer.erofs, which is replaced */
	const char *const *options; /* further arguments of mkfs.erofs; NULL-terminated; or NULL */
	const char *uuid_of;	    /* digest that the UUID is taken from; NULL = a random one */
	const char *tree;	    /* absolute */
};

/* Whether mkfs.erofs reads tar files.
 *
 * -ERR_NOT_FOUND  there is no mkfs.erofs */
int erofs_probe(struct ctx *ctx, bool *ret_tar, struct err *err) _must_check_;

/* Makes the image of the tree.
 *
 * -ERR_FAILED_PRECONDITION  the program failed; with what it wrote */
int erofs_make(struct ctx *ctx, const struct erofs_request *q, struct err *err) _must_check_;

/* Makes an image of an index of a tar's files, and the tar, which @input_fd is read for to its end;
 * plain or compressed. Of @q all but the tree.
 *
 * @ret  digest and size of the plain tar
 *
 * Errors also as those of worker_recompress(). */
int erofs_make_index(struct ctx *ctx, const struct erofs_request *q, int input_fd,
		     struct pack_result *ret, struct err *err) _must_check_;

/* True for the media types of EROFS layers; *@ret_zstd: the image is compressed as a whole.
 * Suffixes other than +zstd are none. */
bool erofs_media_type(const char *media_type, bool *ret_zstd);

/* Writes <dir>/layer.erofs from what @fill writes. */
int erofs_copy(const char *dir, int (*fill)(void *arg, int fd, struct err *err), void *arg,
	       struct err *err) _must_check_;
