/* SPDX-License-Identifier: Apache-2.0 */
/* A header is one block of 512 bytes, or that with others before it: pax headers ('x') and GNU's
 * long names ('L', 'K') with their bodies. Only pax headers are looked into, and not where a GNU
 * name came first. What is not understood is left to libarchive. */
#include "worker/tar_heads.h"

#include <string.h>

#include "base/str.h"

#define BLOCK 512
#define F_SIZE 124
#define SIZE_LEN 12
#define F_TYPE 156

void tar_heads_done(struct tar_heads *h)
{
	buf_done(&h->raw);
}

/* ---- bytes ---- */

/* The part of the last block that belongs to the header, up to byte @end of the archive. */
static void keep_block(struct tar_heads *h, uint64_t end)
{
	uint64_t first = h->taken - h->n, from = MAX(first, h->start), to = MIN(end, h->taken);

	if (from < to)
		(void)buf_add(&h->raw, h->block + (from - first), (size_t)(to - from));
}

ssize_t tar_heads_read(struct tar_heads *h, const void **ret, struct err *err)
{
	ssize_t n;

	if (h->recording)
		keep_block(h, UINT64_MAX);
	n = h->fn(h->arg, ret, err);
	if (n < 0)
		return n;
	h->block = n > 0 ? *ret : NULL;
	h->n = (size_t)n;
	h->taken += (uint64_t)n;
	h->counted += (size_t)n;
	/* The last block may hold much else. */
	if (h->counting && h->counted > TAR_HEADS_MAX + h->n)
		return err_set(err, ERR_INVALID_ARGUMENT, "header is longer than %u bytes",
			       TAR_HEADS_MAX);
	return n;
}

void tar_heads_count(struct tar_heads *h, bool on)
{
	h->counting = on;
	h->counted = 0;
}

void tar_heads_begin(struct tar_heads *h, uint64_t start)
{
	tar_heads_count(h, true);
	buf_clear(&h->raw);
	/* Not when more was read ahead than the last block. */
	h->recording = start >= h->taken - h->n;
	h->start = start;
	h->path = h->link = NULL;
	h->type = 0;
}

/* ---- pax headers ---- */

struct names {
	char *path, *link, *sparse; /* values without their NUL; NULL = none */
	size_t path_len, link_len, sparse_len;
	bool long_path, long_link; /* GNU's were there before */
};

/* @key=@value of a record. */
static void take_record(struct names *m, const char *key, size_t key_len, char *value, size_t len)
{
	static const char path[] = "path", link[] = "linkpath", sparse[] = "GNU.sparse.name";

	/* No name has a NUL in it. */
	if (len == 0 || memchr(value, 0, len))
		value = NULL;
	if (key_len == sizeof(path) - 1 && memcmp(key, path, key_len) == 0) {
		m->path = value;
		m->path_len = len;
	} else if (key_len == sizeof(link) - 1 && memcmp(key, link, key_len) == 0) {
		m->link = value;
		m->link_len = len;
	} else if (key_len == sizeof(sparse) - 1 && memcmp(key, sparse, key_len) == 0) {
		m->sparse = value;
		m->sparse_len = len;
	}
}

/* Records "LENGTH KEY=VALUE\n", of which the length counts all. */
static void take_records(struct names *m, char *p, size_t n)
{
	while (n > 0) {
		size_t len = 0, i = 0;
		char *key, *eq;

		for (; i < n && i < 8 && p[i] >= '0' && p[i] <= '9'; i++)
			len = len * 10 + (size_t)(p[i] - '0');
		if (i == 0 || i == n || p[i] != ' ' || len > n || len < i + 2 || p[len - 1] != '\n')
			return;
		key = p + i + 1;
		eq = memchr(key, '=', (size_t)(p + len - key));
		if (!eq)
			return;
		take_record(m, key, (size_t)(eq - key), eq + 1, (size_t)(p + len - 1 - (eq + 1)));
		p += len;
		n -= len;
	}
}

/* Octal; false = something else. */
static bool parse_size(const char *p, size_t *ret)
{
	size_t v = 0, i = 0;

	while (i < SIZE_LEN && p[i] == ' ')
		i++;
	for (; i < SIZE_LEN && p[i] >= '0' && p[i] <= '7'; i++)
		v = v << 3 | (size_t)(p[i] - '0');
	if (i < SIZE_LEN && p[i] != ' ' && p[i] != '\0')
		return false;
	*ret = v;
	return true;
}

/* The type of the block behind all those that say more of it; 0 = not understood. */
static char take_blocks(struct names *m, char *p, size_t n)
{
	while (n >= BLOCK) {
		char type = p[F_TYPE];
		size_t size;

		if (!type || !strchr("xXgLK", type))
			return type;
		if (!parse_size(p + F_SIZE, &size) || size > n - BLOCK)
			return 0;
		if (type == 'x' || type == 'X')
			take_records(m, p + BLOCK, size);
		m->long_path = m->long_path || (type == 'L' && !m->path);
		m->long_link = m->long_link || (type == 'K' && !m->link);
		size = (size + BLOCK - 1) / BLOCK * BLOCK;
		if (size > n - BLOCK)
			return 0;
		p += BLOCK + size;
		n -= BLOCK + size;
	}
	return 0;
}

int tar_heads_end(struct tar_heads *h, uint64_t end)
{
	struct names m = {0};
	bool recorded = h->recording;

	h->recording = false;
	tar_heads_count(h, false);
	if (!recorded || end - h->start <= BLOCK)
		return 0;
	keep_block(h, end);
	if (!buf_ok(&h->raw)) {
		buf_done(&h->raw);
		return -ENOMEM;
	}
	h->type = take_blocks(&m, h->raw.data, h->raw.len);
	if (!h->type)
		return 0;
	if (m.sparse) {
		m.path = m.sparse;
		m.path_len = m.sparse_len;
	}
	/* A newline is behind each. */
	if (m.path && !m.long_path) {
		m.path[m.path_len] = '\0';
		h->path = m.path;
	}
	if (m.link && !m.long_link) {
		m.link[m.link_len] = '\0';
		h->link = m.link;
	}
	return 0;
}
