/* SPDX-License-Identifier: Apache-2.0 */
/* Open addressing, at most half full; strings live in an arena. */
#include "worker/pathset.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#define MEMORY_MAX (512u << 20)

static size_t hash(const char *p, size_t n)
{
	uint64_t h = 0xcbf29ce484222325;

	for (size_t i = 0; i < n; i++)
		h = (h ^ (unsigned char)p[i]) * 0x100000001b3;
	return (size_t)(h ^ h >> 29);
}

static const char **slot(const struct pathset *s, const char *p, size_t n)
{
	size_t i = hash(p, n) & (s->cap - 1);

	while (s->slots[i] && (strncmp(s->slots[i], p, n) != 0 || s->slots[i][n]))
		i = (i + 1) & (s->cap - 1);
	return &s->slots[i];
}

static int grow(struct pathset *s)
{
	struct pathset bigger = {.arena = s->arena, .n = s->n, .cap = s->cap ? s->cap * 2 : 1024};

	bigger.slots = calloc(bigger.cap, sizeof(*bigger.slots));
	if (!bigger.slots)
		return -ENOMEM;
	for (size_t i = 0; i < s->cap; i++)
		if (s->slots[i])
			*slot(&bigger, s->slots[i], strlen(s->slots[i])) = s->slots[i];
	free(s->slots);
	*s = bigger;
	return 0;
}

void pathset_done(struct pathset *s)
{
	free(s->slots);
	arena_free(s->arena);
	*s = (struct pathset){0};
}

int pathset_add(struct pathset *s, const char *path)
{
	size_t n = strlen(path);
	const char **p;

	if (!s->arena && !(s->arena = arena_new(MEMORY_MAX)))
		return -ENOMEM;
	while (n > 0) {
		if (s->n * 2 >= s->cap && grow(s) < 0)
			return -ENOMEM;
		p = slot(s, path, n);
		if (*p)
			return 0; /* and so are those above */
		*p = arena_strndup(s->arena, path, n);
		if (!*p)
			return -ENOMEM;
		s->n++;
		while (n > 0 && path[n - 1] != '/')
			n--;
		if (n > 0)
			n--;
	}
	return 0;
}

int pathset_add_alone(struct pathset *s, const char *path, const char **ret_path)
{
	size_t n = strlen(path);
	const char **p;

	if (!s->arena && !(s->arena = arena_new(MEMORY_MAX)))
		return -ENOMEM;
	if (s->n * 2 >= s->cap && grow(s) < 0)
		return -ENOMEM;
	p = slot(s, path, n);
	if (*p)
		return 0;
	*p = arena_strndup(s->arena, path, n);
	if (!*p)
		return -ENOMEM;
	s->n++;
	*ret_path = *p;
	return 1;
}

bool pathset_has(const struct pathset *s, const char *path)
{
	return s->cap > 0 && *slot(s, path, strlen(path));
}
