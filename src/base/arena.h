/* SPDX-License-Identifier: Apache-2.0 */
/* Arena: memory that lives as long as a request and is freed in one go.
 *
 * Owned by whoever made it; a pointer from it is valid until arena_free() or arena_reset(). Not
 * thread safe. arena_* functions that allocate return NULL when memory ran out or the arena's limit
 * is reached.
 */
#pragma once

#include <stdarg.h>
#include <stddef.h>

#include "base/cleanup.h"

struct arena;

/* @limit: bytes at most, 0 = no limit. */
struct arena *arena_new(size_t limit);
void arena_free(struct arena *a); /* NULL is fine */
void arena_reset(struct arena *a);

/* 16-byte aligned, not cleared. */
void *arena_alloc(struct arena *a, size_t size);
void *arena_zalloc(struct arena *a, size_t size);
/* @n * @size checked for overflow, cleared. */
void *arena_calloc(struct arena *a, size_t n, size_t size);
void *arena_memdup(struct arena *a, const void *p, size_t n);
char *arena_strdup(struct arena *a, const char *s); /* NULL gives NULL */
char *arena_strndup(struct arena *a, const char *s, size_t n);
char *arena_printf(struct arena *a, const char *fmt, ...) _printf_(2, 3);
char *arena_vprintf(struct arena *a, const char *fmt, va_list ap) _printf_(2, 0);

/* Grows an array of @size byte elements to hold at least @n: copies when it must; *@cap is updated.
 * Returns the (maybe moved) array. */
void *arena_grow(struct arena *a, void *array, size_t *cap, size_t n, size_t size);

#define arena_new_array(a, type, n) ((type *)arena_calloc(a, n, sizeof(type)))
#define arena_new_obj(a, type) ((type *)arena_zalloc(a, sizeof(type)))

DEFINE_CLEANUP(struct arena *, arena_free)
#define _cleanup_arena_ _cleanup_(arena_freep)
