/* SPDX-License-Identifier: Apache-2.0 */
/* Records of the pax header are written in a fixed order, so that equal entries are equal bytes. */
#include "worker/tar_write.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

#define NAME_LEN 100
#define OCTAL_7 07777777LL	/* largest number of an 8 byte field */
#define OCTAL_11 077777777777LL /* and of a 12 byte one */

/* Offsets in a header block. */
enum field {
	F_NAME = 0,
	F_MODE = 100,
	F_UID = 108,
	F_GID = 116,
	F_SIZE = 124,
	F_MTIME = 136,
	F_SUM = 148,
	F_TYPE = 156,
	F_LINK = 157,
	F_MAGIC = 257,
	F_MAJOR = 329,
	F_MINOR = 337,
};

/* ---- the block ---- */

static void put_octal(char *h, enum field at, size_t len, int64_t v)
{
	char digits[24];

	/* The terminating NUL is part of the field. */
	snprintf(digits, sizeof(digits), "%0*llo", (int)len - 1, (unsigned long long)v);
	memcpy(h + at, digits, len);
}

/* What fits, with other characters in place of those that are not ASCII: the pax header has the
 * true name. */
static void put_name(char *h, enum field at, const char *name)
{
	size_t n = strnlen(name, NAME_LEN);

	for (size_t i = 0; i < n; i++)
		h[at + i] = (unsigned char)name[i] < 0x80 ? name[i] : '_';
}

static void put_sum(char *h)
{
	unsigned sum = 0;

	memset(h + F_SUM, ' ', 8);
	for (size_t i = 0; i < TAR_BLOCK; i++)
		sum += (unsigned char)h[i];
	put_octal(h, F_SUM, 7, sum);
}

static int64_t bounded(int64_t v, int64_t max)
{
	return v >= 0 && v <= max ? v : 0;
}

static int add_block(struct buf *b, const struct tar_header *t)
{
	char h[TAR_BLOCK] = {0};

	put_name(h, F_NAME, t->path);
	put_octal(h, F_MODE, 8, t->mode & 07777);
	put_octal(h, F_UID, 8, bounded(t->uid, OCTAL_7));
	put_octal(h, F_GID, 8, bounded(t->gid, OCTAL_7));
	put_octal(h, F_SIZE, 12, bounded(t->size, OCTAL_11));
	put_octal(h, F_MTIME, 12, bounded(t->mtime.tv_sec, OCTAL_11));
	h[F_TYPE] = (char)t->type;
	if (t->link)
		put_name(h, F_LINK, t->link);
	memcpy(h + F_MAGIC, "ustar\00000", 8);
	put_octal(h, F_MAJOR, 8, bounded(major(t->dev), OCTAL_7));
	put_octal(h, F_MINOR, 8, bounded(minor(t->dev), OCTAL_7));
	put_sum(h);
	return buf_add(b, h, sizeof(h));
}

/* ---- the pax header ---- */

static void add_record(struct buf *b, const char *prefix, const char *key, const void *value,
		       size_t size)
{
	size_t n = strlen(prefix) + strlen(key) + size + 3, digits = 1;

	/* The length counts its own digits. */
	while ((size_t)snprintf(NULL, 0, "%zu", n + digits) > digits)
		digits++;
	buf_printf(b, "%zu %s%s=", n + digits, prefix, key);
	buf_add(b, value, size);
	buf_addc(b, '\n');
}

static void add_number(struct buf *b, const char *key, int64_t v, int64_t max)
{
	char text[24];
	int n = snprintf(text, sizeof(text), "%lld", (long long)v);

	if (v < 0 || v > max)
		add_record(b, "", key, text, (size_t)n);
}

static void add_mtime(struct buf *b, struct timespec t)
{
	char text[48];
	int n;

	/* Before 1970 the fraction is left out: there readers differ about its sign. */
	if (t.tv_nsec == 0 || t.tv_sec < 0) {
		add_number(b, "mtime", t.tv_sec, OCTAL_11);
		return;
	}
	n = snprintf(text, sizeof(text), "%lld.%09ld", (long long)t.tv_sec, t.tv_nsec);
	while (text[n - 1] == '0')
		n--;
	add_record(b, "", "mtime", text, (size_t)n);
}

static bool is_ascii(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s >= 0x80)
			return false;
	return true;
}

/* Length of the UTF-8 sequence at @p, 0 = there is none. */
static size_t utf8_len(const unsigned char *p)
{
	/* By the first byte: lengths, and the range of the second byte where it is narrower. */
	static const struct {
		unsigned char from, to, len, low, high;
	} heads[] = {
		{0x01, 0x7f, 1, 0, 0},	     {0xc2, 0xdf, 2, 0x80, 0xbf},
		{0xe0, 0xe0, 3, 0xa0, 0xbf}, {0xe1, 0xec, 3, 0x80, 0xbf},
		{0xed, 0xed, 3, 0x80, 0x9f}, {0xee, 0xef, 3, 0x80, 0xbf},
		{0xf0, 0xf0, 4, 0x90, 0xbf}, {0xf1, 0xf3, 4, 0x80, 0xbf},
		{0xf4, 0xf4, 4, 0x80, 0x8f},
	};

	for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
		if (*p < heads[i].from || *p > heads[i].to)
			continue;
		if (heads[i].len > 1 && (p[1] < heads[i].low || p[1] > heads[i].high))
			return 0;
		for (size_t k = 2; k < heads[i].len; k++)
			if (p[k] >> 6 != 2)
				return 0;
		return heads[i].len;
	}
	return 0;
}

static bool is_utf8(const char *s)
{
	const unsigned char *p = (const unsigned char *)s;
	size_t n = 1;

	while (*p && n > 0)
		p += n = utf8_len(p);
	return n > 0;
}

static void add_name(struct buf *b, const char *key, const char *name)
{
	size_t n = strlen(name);

	if (n > NAME_LEN || !is_ascii(name))
		add_record(b, "", key, name, n);
}

static void add_records(struct buf *b, const struct tar_header *h)
{
	if (!is_utf8(h->path) || (h->link && !is_utf8(h->link)))
		add_record(b, "", "hdrcharset", "BINARY", strlen("BINARY"));
	add_name(b, "path", h->path);
	if (h->link)
		add_name(b, "linkpath", h->link);
	add_number(b, "size", h->size, OCTAL_11);
	add_number(b, "uid", h->uid, OCTAL_7);
	add_number(b, "gid", h->gid, OCTAL_7);
	add_mtime(b, h->mtime);
	for (size_t i = 0; i < h->n_xattrs; i++)
		add_record(b, "SCHILY.xattr.", h->xattrs[i].name, h->xattrs[i].value,
			   h->xattrs[i].size);
}

static void add_padding(struct buf *b, size_t size)
{
	static const char zeroes[TAR_BLOCK];

	buf_add(b, zeroes, -size % TAR_BLOCK);
}

int tar_write_header(struct buf *b, const struct tar_header *h)
{
	_cleanup_buf_ struct buf pax = BUF_INIT;

	add_records(&pax, h);
	if (!buf_ok(&pax))
		return -ENOMEM;
	if (pax.len > 0) {
		const struct tar_header x = {
			.path = "././@PaxHeader",
			.type = TAR_PAX,
			.mode = 0644,
			.size = (int64_t)pax.len,
		};

		add_block(b, &x);
		buf_add(b, pax.data, pax.len);
		add_padding(b, pax.len);
	}
	add_block(b, h);
	return buf_ok(b) ? 0 : -ENOMEM;
}
