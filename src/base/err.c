/* SPDX-License-Identifier: Apache-2.0 */
/* Errors: see err.h. Texts that do not fit are cut at the end of the message, never at the class
 * text. */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	int kind;
	const char *text;
} kinds[] = {
	{ERR_CANCELED, "context canceled"},
	{ERR_UNKNOWN, "unknown"},
	{ERR_INVALID_ARGUMENT, "invalid argument"},
	{ERR_DEADLINE_EXCEEDED, "context deadline exceeded"},
	{ERR_NOT_FOUND, "not found"},
	{ERR_ALREADY_EXISTS, "already exists"},
	{ERR_PERMISSION_DENIED, "permission denied"},
	{ERR_RESOURCE_EXHAUSTED, "resource exhausted"},
	{ERR_FAILED_PRECONDITION, "failed precondition"},
	{ERR_ABORTED, "aborted"},
	{ERR_OUT_OF_RANGE, "out of range"},
	{ERR_UNIMPLEMENTED, "not implemented"},
	{ERR_INTERNAL, "internal"},
	{ERR_UNAVAILABLE, "unavailable"},
	{ERR_DATA_LOSS, "data loss"},
	{ERR_UNAUTHENTICATED, "unauthenticated"},
	{ERR_CONFLICT, "conflict"},
	{ERR_NOT_MODIFIED, "not modified"},
};

const char *err_kind_text(int kind)
{
	if (kind < 0)
		kind = -kind;
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		if (kinds[i].kind == kind)
			return kinds[i].text;
	return "unknown";
}

static bool ends_with(const char *s, size_t len, const char *end)
{
	size_t n = strlen(end);
	return len >= n && memcmp(s + len - n, end, n) == 0;
}

/* Appends ": <class>" unless it is there already, cutting the message when both do not fit. */
static void append_class(char *text, int kind)
{
	if (kind == ERR_UNKNOWN)
		return;
	const char *class = err_kind_text(kind);
	size_t len = strlen(text), n = strlen(class);
	if (ends_with(text, len, class) && (len == n || text[len - n - 1] == ' '))
		return;
	if (len + n + 3 > ERR_TEXT_MAX)
		len = ERR_TEXT_MAX - n - 3;
	if (len > 0) {
		memcpy(text + len, ": ", 2);
		len += 2;
	}
	memcpy(text + len, class, n + 1);
}

int err_set(struct err *err, enum err_kind kind, const char *fmt, ...)
{
	if (!err)
		return -(int)kind;
	/* The arguments may point into the error itself. */
	char text[ERR_TEXT_MAX];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	append_class(text, kind);
	memcpy(err->text, text, strlen(text) + 1);
	err->kind = kind;
	return -(int)kind;
}

int err_set_raw(struct err *err, enum err_kind kind, const char *fmt, ...)
{
	if (!err)
		return -(int)kind;
	char text[ERR_TEXT_MAX];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	memcpy(err->text, text, strlen(text) + 1);
	err->kind = kind;
	return -(int)kind;
}

enum err_kind err_kind_from_errno(int errnum)
{
	switch (abs(errnum)) {
	case ENOENT:
		return ERR_NOT_FOUND;
	case EEXIST:
		return ERR_ALREADY_EXISTS;
	case EINVAL:
	case ENAMETOOLONG:
		return ERR_INVALID_ARGUMENT;
	case ENOSYS:
	case EOPNOTSUPP:
		return ERR_UNIMPLEMENTED;
	case ENOSPC:
	case ENOMEM:
	case EDQUOT:
	case EMFILE:
	case ENFILE:
		return ERR_RESOURCE_EXHAUSTED;
	case EACCES:
	case EPERM:
		return ERR_PERMISSION_DENIED;
	case ETIMEDOUT:
		return ERR_DEADLINE_EXCEEDED;
	case ECANCELED:
		return ERR_CANCELED;
	case ECONNREFUSED:
	case ECONNRESET:
	case EPIPE:
		return ERR_UNAVAILABLE;
	case EBADMSG:
		return ERR_DATA_LOSS;
	default:
		return ERR_UNKNOWN;
	}
}

int err_errno(struct err *err, int errnum, const char *fmt, ...)
{
	enum err_kind kind = err_kind_from_errno(errnum);
	if (!err)
		return -(int)kind;
	char text[ERR_TEXT_MAX], number[128];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	const char *why = strerror_r(abs(errnum), number, sizeof(number));
	return err_set(err, kind, "%s: %c%s", text,
		       why[0] >= 'A' && why[0] <= 'Z' ? why[0] + 32 : why[0],
		       why[0] ? why + 1 : "");
}

int err_prefix(struct err *err, const char *fmt, ...)
{
	if (!err)
		return -ERR_UNKNOWN;
	char text[ERR_TEXT_MAX];
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	size_t used = n < 0 ? 0 : MIN((size_t)n, sizeof(text) - 1);
	size_t old = strlen(err->text);
	/* When it does not fit, the step that is prefixed matters less than the cause at the end.
	 */
	if (used + 2 + old < sizeof(text)) {
		memmove(err->text + used + 2, err->text, old + 1);
		memcpy(err->text, text, used);
		memcpy(err->text + used, ": ", 2);
	}
	return -err->kind;
}

int err_copy(struct err *to, const struct err *from)
{
	if (to && to != from) {
		to->kind = from->kind;
		memcpy(to->text, from->text, strlen(from->text) + 1);
	}
	return -from->kind;
}

int err_code(int kind)
{
	if (kind < 0)
		kind = -kind;
	if (kind == ERR_CONFLICT || kind == ERR_NOT_MODIFIED)
		return ERR_FAILED_PRECONDITION;
	return kind >= 0 && kind <= 16 ? kind : ERR_UNKNOWN;
}

const char *err_code_name(int code)
{
	static const char *const names[] = {
		"OK",
		"Canceled",
		"Unknown",
		"InvalidArgument",
		"DeadlineExceeded",
		"NotFound",
		"AlreadyExists",
		"PermissionDenied",
		"ResourceExhausted",
		"FailedPrecondition",
		"Aborted",
		"OutOfRange",
		"Unimplemented",
		"Internal",
		"Unavailable",
		"DataLoss",
		"Unauthenticated",
	};

	return code >= 0 && (size_t)code < sizeof(names) / sizeof(*names) ? names[code]
									  : names[ERR_UNKNOWN];
}

enum err_kind err_kind_from_code(int code, const char *text)
{
	if (code == ERR_FAILED_PRECONDITION && text) {
		size_t len = strlen(text);
		if (ends_with(text, len, ": conflict"))
			return ERR_CONFLICT;
		if (ends_with(text, len, ": not modified"))
			return ERR_NOT_MODIFIED;
	}
	return code >= 1 && code <= 16 ? (enum err_kind)code : ERR_UNKNOWN;
}

int err_nomem(struct err *err)
{
	return err_set(err, ERR_RESOURCE_EXHAUSTED, "out of memory");
}
