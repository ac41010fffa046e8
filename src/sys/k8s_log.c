/* SPDX-License-Identifier: Apache-2.0 */
/* A call gathers its lines in a batch of vectors that point into the caller's bytes and into the
 * waiting beginning of a line; it is written when it is full and before that beginning changes. */
#include "sys/k8s_log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/path.h"
#include "base/time.h"

#define HEAD_MAX 64
#define RECORDS 64
#define RECORD_VECTORS 4 /* head, waiting text, text, end */
#define KEEP_MAX 4096	 /* a larger buffer is not kept for the next line */

struct batch {
	struct k8s_log *l;
	int stream, result;
	size_t n, n_heads;
	struct iovec v[RECORDS * RECORD_VECTORS + 1];
	char heads[RECORDS][HEAD_MAX];
};

/* ---- file ---- */

static int file_open(const char *path, int *ret)
{
	/* Never waits for the other end of a fifo. */
	int flags = O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_CLOEXEC;
	int fd = open(path, flags, 0640);

	if (fd < 0 && errno == ENOENT) {
		_cleanup_arena_ struct arena *a = arena_new(0);
		char *dir = a ? path_dir(a, path) : NULL;
		int r = dir ? mkdir_p(dir, 0755) : -ENOMEM;

		if (r < 0 && r != -EEXIST)
			return r;
		fd = open(path, flags, 0640);
	}
	if (fd < 0)
		return -errno;
	*ret = fd;
	return 0;
}

int k8s_log_open(struct k8s_log *l, const char *path, int64_t limit)
{
	int r;

	*l = K8S_LOG_INIT;
	l->limit = limit <= 0 || limit > K8S_LOG_PIECE_MAX ? K8S_LOG_PIECE_MAX : (size_t)limit;
	if (!*path)
		return 0;
	r = file_open(path, &l->fd);
	if (r < 0)
		return r;
	l->path = strdup(path);
	if (!l->path) {
		k8s_log_done(l);
		return -ENOMEM;
	}
	return 0;
}

int k8s_log_reopen(struct k8s_log *l)
{
	int fd, r = l->path ? file_open(l->path, &fd) : 0;

	if (r < 0 || !l->path)
		return r;
	close(l->fd);
	l->fd = fd;
	l->torn = false;
	return 0;
}

static void line_drop(struct k8s_log_line *w)
{
	free(w->text);
	*w = (struct k8s_log_line){0};
}

void k8s_log_done(struct k8s_log *l)
{
	if (l->fd >= 0)
		close(l->fd);
	free(l->path);
	line_drop(&l->line[0]);
	line_drop(&l->line[1]);
	*l = K8S_LOG_INIT;
}

/* ---- batch ---- */

/* Writes all; returns how much was not, and sets errno then. @ret_last is the last byte written. */
static size_t write_all(int fd, struct iovec *v, size_t n, char *ret_last)
{
	size_t left = 0;

	for (size_t i = 0; i < n; i++)
		left += v[i].iov_len;
	while (left > 0) {
		ssize_t w = writev(fd, v, (int)n);

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0) {
			errno = w == 0 ? EIO : errno;
			return left;
		}
		left -= (size_t)w;
		while (w > 0) {
			size_t k = v->iov_len < (size_t)w ? v->iov_len : (size_t)w;

			if (k > 0)
				*ret_last = ((const char *)v->iov_base)[k - 1];
			v->iov_base = (char *)v->iov_base + k;
			v->iov_len -= k;
			w -= (ssize_t)k;
			if (v->iov_len == 0) {
				v++;
				n--;
			}
		}
		while (n > 0 && v->iov_len == 0) {
			v++;
			n--;
		}
	}
	return 0;
}

static void flush(struct batch *b)
{
	struct k8s_log *l = b->l;
	struct iovec *v = b->v + !l->torn;
	char last = '\n';
	size_t left;

	if (!b->n)
		return;
	/* The first vector ends a line that a full disk has cut. */
	b->v[0] = (struct iovec){(void *)"\n", 1};
	left = write_all(l->fd, v, b->n + l->torn, &last);
	if (left) {
		l->lost += left;
		if (!l->failing)
			b->result = -errno;
		l->failing = true;
		/* Nothing written: as it was. */
		l->torn = last != '\n' || (l->torn && v == b->v && b->v[0].iov_len);
	} else {
		if (l->failing)
			b->result = 1;
		l->failing = l->torn = false;
	}
	b->n = b->n_heads = 0;
}

static void vector_add(struct batch *b, const void *p, size_t n)
{
	if (n)
		b->v[1 + b->n++] = (struct iovec){(void *)p, n};
}

/* Local time as in "2026-01-31T12:00:00" and "Z" or "+01:00", once a second. */
static void second_format(struct k8s_log *l, time_t t)
{
	struct tm tm;

	if (l->second == t && t)
		return;
	l->second = t;
	localtime_r(&t, &tm);
	if (!strftime(l->when, sizeof(l->when), "%Y-%m-%dT%H:%M:%S", &tm))
		l->when[0] = '\0';
	long minutes = tm.tm_gmtoff / 60;
	unsigned abs = (unsigned)(minutes < 0 ? -minutes : minutes) % (24 * 60);

	if (!minutes)
		snprintf(l->zone, sizeof(l->zone), "Z");
	else
		snprintf(l->zone, sizeof(l->zone), "%c%02u:%02u", minutes < 0 ? '-' : '+', abs / 60,
			 abs % 60);
}

static size_t head_format(struct k8s_log *l, int stream, char tag, char out[HEAD_MAX])
{
	struct timespec t = time_now();
	char fraction[16] = "";

	second_format(l, t.tv_sec);
	if (t.tv_nsec) {
		int n = snprintf(fraction, sizeof(fraction), ".%09ld", t.tv_nsec);

		while (fraction[n - 1] == '0')
			fraction[--n] = '\0';
	}
	return (size_t)snprintf(out, HEAD_MAX, "%s%s%s %s %c ", l->when, fraction, l->zone,
				stream ? "stderr" : "stdout", tag);
}

/* A record of the waiting text and @n bytes; the waiting text stays until the batch is written. */
static void record_add(struct batch *b, char tag, size_t waiting, const char *p, size_t n)
{
	char *head;

	if (b->n_heads == RECORDS)
		flush(b);
	head = b->heads[b->n_heads++];
	vector_add(b, head, head_format(b->l, b->stream, tag, head));
	vector_add(b, b->l->line[b->stream].text, waiting);
	vector_add(b, p, n);
	vector_add(b, "\n", 1);
}

/* ---- lines ---- */

/* Appends to the waiting text, which is part of no record any more. */
static void wait_add(struct batch *b, const char *p, size_t n)
{
	struct k8s_log_line *w = &b->l->line[b->stream];

	if (!n)
		return;
	flush(b);
	if (w->len + n > w->cap) {
		size_t cap = w->cap ? w->cap : 256;
		char *text;

		while (cap < w->len + n)
			cap *= 2;
		cap = cap > b->l->limit ? b->l->limit : cap;
		text = realloc(w->text, cap);
		if (!text) { /* rather in pieces than lost */
			record_add(b, 'P', w->len, p, n);
			flush(b);
			line_drop(w);
			return;
		}
		w->text = text;
		w->cap = cap;
	}
	memcpy(w->text + w->len, p, n);
	w->len += n;
}

/* Whole pieces of the waiting text and @n bytes, as long as more than one piece is there. What is
 * left of the bytes is *@p, *@n; more than nothing unless there was nothing. */
static void pieces_add(struct batch *b, const char **p, size_t *n)
{
	struct k8s_log_line *w = &b->l->line[b->stream];

	while (w->len + *n > b->l->limit) {
		size_t k = b->l->limit - w->len;

		record_add(b, 'P', w->len, *p, k);
		w->len = 0;
		*p += k;
		*n -= k;
	}
}

static void part_add(struct batch *b, const char *p, size_t n)
{
	pieces_add(b, &p, &n);
	wait_add(b, p, n);
}

static void line_add(struct batch *b, const char *p, size_t n)
{
	struct k8s_log_line *w = &b->l->line[b->stream];

	pieces_add(b, &p, &n);
	record_add(b, 'F', w->len, p, n);
	w->len = 0;
}

static void cr_settle(struct batch *b, bool newline_follows)
{
	struct k8s_log_line *w = &b->l->line[b->stream];

	if (w->cr && !newline_follows)
		part_add(b, "\r", 1);
	w->cr = false;
}

static void batch_end(struct batch *b)
{
	struct k8s_log_line *w = &b->l->line[b->stream];

	flush(b);
	if (!w->len && w->cap > KEEP_MAX) {
		bool cr = w->cr;

		line_drop(w);
		w->cr = cr;
	}
}

int k8s_log_add(struct k8s_log *l, int stream, const char *p, size_t n)
{
	struct batch b;

	if (l->fd < 0)
		return 0;
	b.l = l;
	b.stream = stream;
	b.result = 0;
	b.n = b.n_heads = 0;
	while (n > 0) {
		const char *end = memchr(p, '\n', n);
		size_t k = end ? (size_t)(end - p) : n;
		bool cr = k > 0 && p[k - 1] == '\r';

		cr_settle(&b, k == 0);
		if (end)
			line_add(&b, p, k - cr);
		else
			part_add(&b, p, k - cr);
		l->line[stream].cr = cr && !end;
		p += k + !!end;
		n -= k + !!end;
	}
	batch_end(&b);
	return b.result;
}

int k8s_log_end(struct k8s_log *l, int stream)
{
	struct k8s_log_line *w = &l->line[stream];
	struct batch b;

	if (l->fd < 0)
		return 0;
	b.l = l;
	b.stream = stream;
	b.result = 0;
	b.n = b.n_heads = 0;
	cr_settle(&b, false);
	if (w->len)
		record_add(&b, 'P', w->len, NULL, 0);
	flush(&b);
	line_drop(w);
	return b.result;
}
