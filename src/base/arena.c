/* SPDX-License-Identifier: Apache-2.0 */
/* Arena: a list of chunks, the newest first; each is twice as large as the one before up to 256
 * KiB. What is larger than a quarter of that gets a chunk of its own behind the head, so that it
 * does not waste the rest of the head. */
#include "base/arena.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALIGN 16u
#define CHUNK_MIN 1024u
#define CHUNK_MAX (256u << 10)

struct chunk {
	struct chunk *next;
	size_t size, used; /* of data */
	_Alignas(ALIGN) unsigned char data[];
};

struct arena {
	struct chunk *head;
	size_t limit, total, next_size;
};

struct arena *arena_new(size_t limit)
{
	struct arena *a = calloc(1, sizeof(*a));
	if (!a)
		return NULL;
	a->limit = limit;
	a->next_size = CHUNK_MIN;
	return a;
}

void arena_reset(struct arena *a)
{
	for (struct chunk *c = a->head, *next; c; c = next) {
		next = c->next;
		free(c);
	}
	a->head = NULL;
	a->total = 0;
	a->next_size = CHUNK_MIN;
}

void arena_free(struct arena *a)
{
	if (!a)
		return;
	arena_reset(a);
	free(a);
}

static struct chunk *chunk_new(struct arena *a, size_t size)
{
	if (size > SIZE_MAX - sizeof(struct chunk) || size > SIZE_MAX - a->total)
		return NULL;
	if (a->limit && a->total + size > a->limit)
		return NULL;
	struct chunk *c = malloc(sizeof(*c) + size);
	if (!c)
		return NULL;
	c->size = size;
	c->used = 0;
	a->total += size;
	return c;
}

void *arena_alloc(struct arena *a, size_t size)
{
	if (size > SIZE_MAX / 2)
		return NULL;
	size = (size + ALIGN - 1) & ~(size_t)(ALIGN - 1);
	if (size == 0)
		size = ALIGN;
	struct chunk *c = a->head;
	if (c && c->size - c->used >= size) {
		void *p = c->data + c->used;
		c->used += size;
		return p;
	}
	if (size > CHUNK_MAX / 4) {
		c = chunk_new(a, size);
		if (!c)
			return NULL;
		c->used = size;
		if (a->head) {
			c->next = a->head->next;
			a->head->next = c;
		} else {
			c->next = NULL;
			a->head = c;
		}
		return c->data;
	}
	size_t want = MAX(a->next_size, size);
	c = chunk_new(a, want);
	if (!c && want > size)
		c = chunk_new(a, size);
	if (!c)
		return NULL;
	a->next_size = MIN(want * 2, (size_t)CHUNK_MAX);
	c->next = a->head;
	c->used = size;
	a->head = c;
	return c->data;
}

void *arena_zalloc(struct arena *a, size_t size)
{
	void *p = arena_alloc(a, size);
	return p ? memset(p, 0, size) : NULL;
}

void *arena_calloc(struct arena *a, size_t n, size_t size)
{
	size_t bytes;
	if (__builtin_mul_overflow(n, size, &bytes))
		return NULL;
	return arena_zalloc(a, bytes);
}

void *arena_memdup(struct arena *a, const void *p, size_t n)
{
	void *to = arena_alloc(a, n);
	if (to && n)
		memcpy(to, p, n);
	return to;
}

char *arena_strndup(struct arena *a, const char *s, size_t n)
{
	n = strnlen(s, n);
	if (n == SIZE_MAX)
		return NULL;
	char *to = arena_alloc(a, n + 1);
	if (to) {
		memcpy(to, s, n);
		to[n] = 0;
	}
	return to;
}

char *arena_strdup(struct arena *a, const char *s)
{
	return s ? arena_memdup(a, s, strlen(s) + 1) : NULL;
}

char *arena_vprintf(struct arena *a, const char *fmt, va_list ap)
{
	va_list again;
	va_copy(again, ap);
	int n = vsnprintf(NULL, 0, fmt, ap);
	char *s = n < 0 ? NULL : arena_alloc(a, (size_t)n + 1);
	if (s)
		vsnprintf(s, (size_t)n + 1, fmt, again);
	va_end(again);
	return s;
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	char *s = arena_vprintf(a, fmt, ap);
	va_end(ap);
	return s;
}

void *arena_grow(struct arena *a, void *array, size_t *cap, size_t n, size_t size)
{
	if (n <= *cap)
		return array;
	size_t want = *cap ? *cap : 8, bytes;
	while (want < n)
		if (__builtin_mul_overflow(want, (size_t)2, &want))
			return NULL;
	if (__builtin_mul_overflow(want, size, &bytes))
		return NULL;
	void *to = arena_zalloc(a, bytes);
	if (!to)
		return NULL;
	if (*cap)
		memcpy(to, array, *cap * size);
	*cap = want;
	return to;
}
