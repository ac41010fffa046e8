/* SPDX-License-Identifier: Apache-2.0 */
/* A look into a bolt file.
 *
 *     bolt_dump FILE                      the tree as text: a line for each key, indented by two
 * spaces a level; [bucket] seq=N bolt_dump --check FILE              findings, one a line; exit 1
 * when there are any bolt_dump --put FILE b1/b2 KEY VALUE    makes the buckets as needed; options
 * may stand before --put: bolt_dump --delete FILE b1/b2 KEY   a key or a bucket bolt_dump
 * --no-freelist --put ...   as meta.db is written
 *
 * Bytes that are not printable ASCII, and the backslash, are shown as \xNN.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bolt/bolt.h"

static void slice_print(struct bolt_slice s)
{
	const unsigned char *p = s.data;

	for (size_t i = 0; i < s.len; i++) {
		if (p[i] >= 0x20 && p[i] < 0x7f && p[i] != '\\')
			putchar(p[i]);
		else
			printf("\\x%02x", p[i]);
	}
}

static void bucket_print(struct bolt_bucket *b, int depth)
{
	struct bolt_cursor c;
	struct bolt_item item;

	bolt_cursor_init(&c, b);
	for (bool more = bolt_first(&c, &item); more; more = bolt_next(&c, &item)) {
		struct bolt_bucket *sub = item.is_bucket ? bolt_bucket(b, item.key) : NULL;

		printf("%*s%s", depth * 2, "", item.is_bucket ? "[" : "");
		slice_print(item.key);
		if (!item.is_bucket) {
			printf(" = ");
			slice_print(item.value);
			putchar('\n');
			continue;
		}
		putchar(']');
		if (sub && bolt_sequence(sub))
			printf(" seq=%llu", (unsigned long long)bolt_sequence(sub));
		putchar('\n');
		if (sub)
			bucket_print(sub, depth + 1);
	}
}

static int dump(struct bolt_tx *tx, void *arg)
{
	bucket_print(bolt_root(tx), 0);
	return 0;
}

static int check(struct bolt_tx *tx, void *arg)
{
	_cleanup_buf_ struct buf report = BUF_INIT;
	int r;

	r = bolt_check(tx, &report);
	if (report.data)
		fputs(report.data, stdout);
	*(int *)arg = r;
	return r < 0 ? r : 0;
}

static int walk_down(struct bolt_tx *tx, const char *path, bool create, struct bolt_bucket **ret)
{
	_cleanup_free_ char *copy = strdup(path);
	struct bolt_bucket *b = bolt_root(tx);
	char *save = NULL;
	int r;

	if (!copy)
		return -ENOMEM;
	for (char *s = strtok_r(copy, "/", &save); s; s = strtok_r(NULL, "/", &save)) {
		struct bolt_bucket *sub = NULL;

		r = create ? bolt_bucket_create_if_missing(b, bolt_s(s), &sub) : 0;
		if (r < 0)
			return r;
		if (!create)
			sub = bolt_bucket(b, bolt_s(s));
		if (!sub)
			return -ENOENT;
		b = sub;
	}
	*ret = b;
	return 0;
}

static int put(struct bolt_tx *tx, void *arg)
{
	char **argv = arg;
	struct bolt_bucket *b;
	int r;

	r = walk_down(tx, argv[0], true, &b);
	return r < 0 ? r : bolt_put(b, bolt_s(argv[1]), bolt_s(argv[2]));
}

static int delete (struct bolt_tx *tx, void *arg)
{
	char **argv = arg;
	struct bolt_bucket *b;
	int r;

	r = walk_down(tx, argv[0], false, &b);
	if (r < 0)
		return r;
	r = bolt_bucket_delete(b, bolt_s(argv[1]));
	return r == -EISDIR ? bolt_delete(b, bolt_s(argv[1])) : r;
}

static int usage(void)
{
	fputs("usage: bolt_dump [--check] FILE\n"
	      "       bolt_dump [--no-freelist] --put FILE BUCKET/BUCKET KEY VALUE\n"
	      "       bolt_dump [--no-freelist] --delete FILE BUCKET/BUCKET KEY\n",
	      stderr);
	return 2;
}

int main(int argc, char **argv)
{
	_cleanup_(bolt_closep) struct bolt *db = NULL;
	struct bolt_options o = {.lock_timeout_ns = 1000000000, .read_only = true};
	int (*fn)(struct bolt_tx *, void *) = dump;
	int args = 1, findings = 0, r;

	argv++;
	argc--;
	if (argc && strcmp(*argv, "--no-freelist") == 0) {
		o.no_freelist_sync = true;
		argv++;
		argc--;
	}
	if (argc && strncmp(*argv, "--", 2) == 0) {
		if (strcmp(*argv, "--check") == 0) {
			fn = check;
		} else if (strcmp(*argv, "--put") == 0) {
			fn = put;
			args = 4;
		} else if (strcmp(*argv, "--delete") == 0) {
			fn = delete;
			args = 3;
		} else {
			return usage();
		}
		argv++;
		argc--;
	}
	if (argc != args)
		return usage();
	o.read_only = args == 1;
	r = bolt_open(argv[0], &o, &db);
	if (r == 0)
		r = o.read_only ? bolt_view(db, fn, &findings) : bolt_update(db, fn, argv + 1);
	if (r < 0) {
		fprintf(stderr, "bolt_dump: %s: %s\n", argv[0], strerror(-r));
		return 1;
	}
	return findings > 0;
}
