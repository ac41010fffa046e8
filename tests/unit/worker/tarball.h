/* SPDX-License-Identifier: Apache-2.0 */
/* Archives for tests, entry by entry, with whatever nonsense a test wants in them. */
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"

struct tarent {
	const char *name;
	char type; /* '0' file, '1' hard link, '2' symbolic link, '3' character device, '5'
		      directory, '6' fifo */
	const char *data;
	size_t len; /* 0 = strlen(data) */
	const char *link;
	unsigned mode;
	int64_t mtime;
	unsigned major, minor;
};

static inline void tarball_header(struct buf *b, const struct tarent *e, size_t len)
{
	char h[512] = {0};
	unsigned sum = 0;

	snprintf(h, 100, "%s", e->name);
	snprintf(h + 100, 8, "%07o", e->mode ? e->mode & 07777u : 0644u);
	snprintf(h + 108, 8, "%07o", 0);
	snprintf(h + 116, 8, "%07o", 0);
	snprintf(h + 124, 12, "%011zo", len & 077777777777);
	snprintf(h + 136, 12, "%011llo", (unsigned long long)e->mtime & 077777777777);
	h[156] = e->type;
	snprintf(h + 157, 100, "%s", e->link ? e->link : "");
	memcpy(h + 257, "ustar\00000", 8);
	snprintf(h + 329, 8, "%07o", e->major & 07777777u);
	snprintf(h + 337, 8, "%07o", e->minor & 07777777u);
	memset(h + 148, ' ', 8);
	for (size_t i = 0; i < sizeof(h); i++)
		sum += (unsigned char)h[i];
	snprintf(h + 148, 8, "%06o", sum & 0777777u);
	buf_add(b, h, sizeof(h));
}

static inline void tarball_data(struct buf *b, const char *p, size_t n)
{
	static const char zero[512];

	buf_add(b, p, n);
	if (n % 512)
		buf_add(b, zero, 512 - n % 512);
}

static inline void tarball_add(struct buf *b, const struct tarent *e)
{
	size_t len = e->len ? e->len : e->data ? strlen(e->data) : 0;

	tarball_header(b, e, len);
	if (e->data)
		tarball_data(b, e->data, len);
}

/* A pax header before the next entry, of one record. */
static inline void tarball_pax(struct buf *b, const char *key, const char *value)
{
	size_t n = strlen(key) + strlen(value) + 3, digits = 1;
	char record[4096];

	/* The record's length counts its own digits. */
	while ((size_t)snprintf(NULL, 0, "%zu", n + digits) != digits)
		digits++;
	snprintf(record, sizeof(record), "%zu %s=%s\n", n + digits, key, value);
	tarball_header(b, &(struct tarent){.name = "pax", .type = 'x'}, strlen(record));
	tarball_data(b, record, strlen(record));
}

static inline void tarball_end(struct buf *b)
{
	static const char zero[1024];

	buf_add(b, zero, sizeof(zero));
}
