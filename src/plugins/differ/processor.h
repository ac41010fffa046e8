/* SPDX-License-Identifier: Apache-2.0 */
/* Stream processors ([stream_processors]): programs of the admin that turn a layer of one media
 * type into another, until it is one that can be unpacked.
 *
 * A program reads the layer from its standard input and writes what it makes of it to its standard
 * output. It gets the daemon's environment, its own from the configuration, and
 * STREAM_PROCESSOR_MEDIATYPE, the type of what it reads; the payload that the client sent for it,
 * a packed google.protobuf.Any, is file 3. What it writes to standard error is told when it fails.
 * It runs as the daemon does: with its rights, as containerd runs it.
 *
 * The processor that comes last in the configuration is asked first, and before the daemon's own
 * decompression.
 */
#pragma once

#include "plugins/differ/differ.h"

struct processor {
	const char *id;
	const char *const *accepts; /* NULL-terminated */
	const char *returns;
	const char *path;
	const char *const *args, *const *env;
};

struct processors {
	struct processor *v;
	size_t n;
};

/* True when one of them reads @media_type. */
bool processors_take(const struct processors *all, const char *media_type);

/* As walking_apply(), behind as many processors as it takes.
 *
 * -ERR_UNIMPLEMENTED        they do not end at a type that can be unpacked
 * -ERR_INVALID_ARGUMENT     they go round in a circle
 * -ERR_FAILED_PRECONDITION  a program failed; with what it wrote to standard error
 * -ERR_DEADLINE_EXCEEDED    it took more than an hour */
int processors_apply(struct ctx *ctx, const struct processors *all, struct db *db,
		     const struct apply_request *q, struct descriptor *ret,
		     struct err *err) _must_check_;
