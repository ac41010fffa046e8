/* SPDX-License-Identifier: Apache-2.0 */
/* Errors: a kind that a client can tell apart, and a text that names the object and the step.
 *
 * A function that can fail returns 0 or a negative enum err_kind and fills its last argument, which
 * may be NULL. The text reads from the outside in: "open `/run/x`: no such file or directory: not
 * found". The text of the kind is appended by err_set() and err_errno() themselves, as containerd's
 * clients expect it at the end; texts given to them do not carry it.
 *
 * Not thread safe: an error belongs to the call that fails.
 */
#pragma once

#include <errno.h>
#include <stdbool.h>

#include "base/cleanup.h"

/* Numbers are gRPC's status codes, so the table that turns a kind into a code is the identity;
 * those that share a code (conflict, not modified) have numbers above 100. */
enum err_kind {
	ERR_CANCELED = 1,
	ERR_UNKNOWN = 2,
	ERR_INVALID_ARGUMENT = 3,
	ERR_DEADLINE_EXCEEDED = 4,
	ERR_NOT_FOUND = 5,
	ERR_ALREADY_EXISTS = 6,
	ERR_PERMISSION_DENIED = 7,
	ERR_RESOURCE_EXHAUSTED = 8,
	ERR_FAILED_PRECONDITION = 9,
	ERR_ABORTED = 10,
	ERR_OUT_OF_RANGE = 11,
	ERR_UNIMPLEMENTED = 12,
	ERR_INTERNAL = 13,
	ERR_UNAVAILABLE = 14,
	ERR_DATA_LOSS = 15,
	ERR_UNAUTHENTICATED = 16,
	ERR_CONFLICT = 101,	/* FailedPrecondition on the wire, told apart by its text */
	ERR_NOT_MODIFIED = 102, /* the same */
};

#define ERR_TEXT_MAX 2048

struct err {
	int kind; /* 0 = no error */
	char text[ERR_TEXT_MAX];
};

#define ERR_INIT ((struct err){.kind = 0})

/* Sets kind and text, appends ": <text of the kind>" (not for ERR_UNKNOWN, and not twice); returns
 * -kind. */
int err_set(struct err *err, enum err_kind kind, const char *fmt, ...) _printf_(3, 4);

/* As err_set(), without appending the kind's text: for texts that come from another process whole.
 */
int err_set_raw(struct err *err, enum err_kind kind, const char *fmt, ...) _printf_(3, 4);

/* From an errno (positive or negative): the text gets ": <strerror>", the kind follows the number
 * (ENOENT not found, EEXIST already exists, EINVAL invalid argument, ENOSYS and EOPNOTSUPP
 * unimplemented, ENOSPC and ENOMEM resource exhausted, EACCES and EPERM permission denied,
 * ETIMEDOUT deadline exceeded, ECANCELED canceled, ECONNREFUSED and EPIPE unavailable; else
 * unknown). Returns -kind. */
int err_errno(struct err *err, int errnum, const char *fmt, ...) _printf_(3, 4);

/* Puts "<text>: " before an error that is already set, and returns -kind of it (-ERR_UNKNOWN when
 * @err is NULL: who looks at the kind passes an error): `return err_prefix(err, "unpack");` */
int err_prefix(struct err *err, const char *fmt, ...) _printf_(2, 3);

/* Copies @from over @to (may be NULL) and returns -kind. */
int err_copy(struct err *to, const struct err *from);

/* gRPC status code of a kind (or of its negative); 0 for 0. */
int err_code(int kind);

/* "OK", "Canceled", "InvalidArgument", ...: a status code as gRPC's libraries print it; "Unknown"
 * for what is none. */
const char *err_code_name(int code);

/* Kind of a gRPC status code and its text (conflict and not modified are recognised by the text's
 * end). */
enum err_kind err_kind_from_code(int code, const char *text);

/* "not found", "invalid argument", ...: the class text of containerd. */
const char *err_kind_text(int kind);

/* Kind of an errno. */
enum err_kind err_kind_from_errno(int errnum);

/* -ENOMEM's usual way out: returns -ERR_RESOURCE_EXHAUSTED, text "out of memory". */
int err_nomem(struct err *err);
