/* SPDX-License-Identifier: Apache-2.0 */
/* Growable bytes on the heap. Zero-initialised is empty (BUF_INIT); buf_done() frees.
 *
 * Functions return 0 or -ENOMEM; a buffer that failed once stays failed and swallows what follows,
 * so a writer may check once at the end with buf_ok(). data is always followed by a NUL that len
 * does not count (once anything was added). Not thread safe.
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct buf {
	char *data;
	size_t len;
	size_t cap;
	bool failed;
};

#define BUF_INIT ((struct buf){0})

void buf_done(struct buf *b);
int buf_reserve(struct buf *b, size_t more);
int buf_add(struct buf *b, const void *p, size_t n);
int buf_adds(struct buf *b, const char *s);
int buf_addc(struct buf *b, char c);
int buf_printf(struct buf *b, const char *fmt, ...) _printf_(2, 3);
int buf_vprintf(struct buf *b, const char *fmt, va_list ap) _printf_(2, 0);
/* Drops @n bytes from the front. */
void buf_consume(struct buf *b, size_t n);
void buf_clear(struct buf *b);
static inline bool buf_ok(const struct buf *b)
{
	return !b->failed;
}
/* Hands the data over (NUL-terminated, to be freed by the caller); NULL when failed. The buffer is
 * empty after. */
char *buf_take(struct buf *b, size_t *ret_len);

#define _cleanup_buf_ _cleanup_(buf_done)
