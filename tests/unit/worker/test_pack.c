/* SPDX-License-Identifier: Apache-2.0 */
/* Pairs of trees to layers, and layers back to trees. Runs with and without privileges. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "worker/compressor.h"
#include "worker/inflate.h"
#include "worker/jail.h"
#include "worker/layer.h"
#include "worker/tar_apply.h"
#include "worker/tar_write.h"

#define WHEN 1600000000

struct fixture {
	char dir[32];
	int top, lower, upper, changed;
	struct layer_options o;
	struct err err;
	int64_t entries, size;
	struct digest digest;
	struct buf out;	 /* the layer */
	struct buf list; /* its entries, a line each */
};

static int make_dir(struct fixture *f, const char *name)
{
	int fd;

	assert_int_equal(mkdirat(f->top, name, 0755), 0);
	fd = openat(f->top, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	umask(0);
	strcpy(f->dir, "/tmp/pack.XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	f->top = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f->lower = make_dir(f, "lower");
	f->upper = make_dir(f, "upper");
	f->changed = make_dir(f, "changed");
	f->o = (struct layer_options){.lower = f->lower, .upper = f->upper, .changed = -1};
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(chdir("/"), 0);
	close(f->lower);
	close(f->upper);
	close(f->changed);
	close(f->top);
	rm_rf(AT_FDCWD, f->dir);
	buf_done(&f->out);
	buf_done(&f->list);
	free(f);
	return 0;
}

/* ---- making trees ---- */

static void set_time(int dir, const char *path, int64_t sec, long nsec)
{
	const struct timespec t[2] = {{.tv_sec = sec, .tv_nsec = nsec},
				      {.tv_sec = sec, .tv_nsec = nsec}};

	assert_int_equal(utimensat(dir, path, t, AT_SYMLINK_NOFOLLOW), 0);
}

static void put(int dir, const char *path, const char *content)
{
	assert_int_equal(file_write(dir, path, content, strlen(content), 0644), 0);
	set_time(dir, path, WHEN, 0);
}

static void put_dir(int dir, const char *path)
{
	assert_int_equal(mkdirat(dir, path, 0755), 0);
}

static void put_link(int dir, const char *path, const char *target)
{
	assert_int_equal(symlinkat(target, dir, path), 0);
	set_time(dir, path, WHEN, 0);
}

static void put_hard(int dir, const char *path, const char *of)
{
	assert_int_equal(linkat(dir, of, dir, path, 0), 0);
}

static void put_attr(int dir, const char *path, const char *name, const char *value)
{
	_cleanup_close_ int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	if (fsetxattr(fd, name, value, strlen(value), 0) < 0)
		skip();
}

/* ---- packing ---- */

static int pack_as(struct fixture *f, enum compression format, unsigned threads, int64_t max)
{
	_cleanup_close_ int fd = memfd_create("layer", MFD_CLOEXEC);
	_cleanup_(compressor_freep) struct compressor *c = NULL;
	off_t len;
	int r = compressor_new(format, threads, fd, max, &c, &f->err);

	if (r == 0)
		r = layer_write(&f->o, c, &f->entries, &f->err);
	if (r == 0)
		r = compressor_finish(c, &f->digest, &f->size, &f->err);
	if (r < 0)
		return r;
	len = lseek(fd, 0, SEEK_CUR);
	buf_clear(&f->out);
	assert_int_equal(buf_reserve(&f->out, (size_t)len), 0);
	assert_int_equal(fd_pread_full(fd, f->out.data, (size_t)len, 0), len);
	f->out.len = (size_t)len;
	return 0;
}

static void list_entry(struct buf *b, struct archive_entry *e)
{
	const char *hard = archive_entry_hardlink(e), *link = archive_entry_symlink(e);

	buf_printf(b, "%s", archive_entry_pathname(e));
	if (hard)
		buf_printf(b, " == %s", hard);
	if (link)
		buf_printf(b, " -> %s", link);
	buf_addc(b, '\n');
}

static struct archive *open_layer(const struct fixture *f)
{
	struct archive *a = archive_read_new();

	archive_read_support_format_tar(a);
	assert_int_equal(archive_read_open_memory(a, f->out.data, f->out.len), ARCHIVE_OK);
	return a;
}

/* Packs, and lists what came out. */
static void pack(struct fixture *f)
{
	struct archive *a;
	struct archive_entry *e;
	struct digest digest;
	int64_t n = 0;
	int r;

	if (pack_as(f, COMPRESSION_NONE, 1, INT64_MAX) < 0)
		fail_msg("%s", f->err.text);
	digest_of(DIGEST_SHA256, f->out.data, f->out.len, &digest);
	assert_string_equal(f->digest.text, digest.text);
	assert_int_equal(f->size, f->out.len);
	buf_clear(&f->list);
	a = open_layer(f);
	while ((r = archive_read_next_header(a, &e)) == ARCHIVE_OK) {
		list_entry(&f->list, e);
		n++;
	}
	assert_int_equal(r, ARCHIVE_EOF);
	assert_int_equal(n, f->entries);
	archive_read_free(a);
}

static const char *packed(struct fixture *f)
{
	pack(f);
	return f->list.len ? f->list.data : "";
}

/* The entry of this name in the packed layer; valid until the archive is freed. */
static struct archive_entry *find(struct archive *a, const char *name)
{
	struct archive_entry *e;

	while (archive_read_next_header(a, &e) == ARCHIVE_OK)
		if (streq(archive_entry_pathname(e), name))
			return e;
	fail_msg("no entry %s", name);
	return NULL;
}

/* ---- which entries ---- */

static void everything_is_added_to_nothing_sorted_by_path(void **state)
{
	struct fixture *f = *state;

	f->o.lower = -1;
	put_dir(f->upper, "b");
	put(f->upper, "b/2", "x");
	put(f->upper, "b/1", "x");
	put(f->upper, "b-", "sorts between b and b/1 as bytes, but directories hold together");
	put(f->upper, "a", "");
	put_link(f->upper, "c", "/a");
	assert_int_equal(mkfifoat(f->upper, "d", 0600), 0);
	assert_string_equal(packed(f), "a\nb/\nb/1\nb/2\nb-\nc -> /a\nd\n");
}

static void equal_trees_make_an_empty_layer(void **state)
{
	struct fixture *f = *state;
	const int both[] = {f->lower, f->upper};

	for (size_t i = 0; i < ARRAY_LEN(both); i++) {
		put_dir(both[i], "d");
		put(both[i], "d/f", "same");
		put_link(both[i], "l", "d");
	}
	assert_string_equal(packed(f), "");
	assert_int_equal(f->size, 1024);
}

static void changes_bring_the_directories_above_them(void **state)
{
	struct fixture *f = *state;
	const int both[] = {f->lower, f->upper};

	for (size_t i = 0; i < ARRAY_LEN(both); i++) {
		put_dir(both[i], "a");
		put_dir(both[i], "a/b");
		put_dir(both[i], "other");
		put(both[i], "a/b/f", i ? "new" : "old");
		put(both[i], "a/same", "same");
		put(both[i], "other/same", "same");
	}
	put(f->upper, "a/z", "added");
	assert_string_equal(packed(f), "a/\na/b/\na/b/f\na/z\n");
}

static void removed_names_are_whiteouts_of_the_topmost_directory(void **state)
{
	struct fixture *f = *state;

	put_dir(f->lower, "keep");
	put_dir(f->upper, "keep");
	put(f->lower, "keep/gone", "x");
	put_dir(f->lower, "dir");
	put(f->lower, "dir/below", "x");
	set_time(f->upper, "keep", WHEN, 5);
	assert_string_equal(packed(f), ".wh.dir\nkeep/\nkeep/.wh.gone\n");

	struct archive *a = open_layer(f);
	struct archive_entry *e = find(a, "keep/.wh.gone");
	assert_int_equal(archive_entry_mtime(e), WHEN);
	assert_int_equal(archive_entry_size(e), 0);
	archive_read_free(a);
}

static void type_changes_replace(void **state)
{
	struct fixture *f = *state;

	put_dir(f->lower, "was-dir");
	put(f->lower, "was-dir/f", "x");
	put(f->upper, "was-dir", "x");
	put(f->lower, "was-file", "x");
	put_dir(f->upper, "was-file");
	put(f->upper, "was-file/f", "x");
	assert_string_equal(packed(f), "was-dir\nwas-file/\nwas-file/f\n");
}

static void each_attribute_makes_a_change(void **state)
{
	struct fixture *f = *state;
	static const char *const names[] = {"content", "fraction", "mode",
					    "size",    "symlink",  "time"};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		put(f->lower, names[i], "abc");
		put(f->upper, names[i], "abc");
	}
	put(f->upper, "content", "abd");
	set_time(f->upper, "fraction", WHEN, 1);
	assert_int_equal(fchmodat(f->upper, "mode", 0600, 0), 0);
	put(f->upper, "size", "abcd");
	unlinkat(f->lower, "symlink", 0);
	unlinkat(f->upper, "symlink", 0);
	put_link(f->lower, "symlink", "1");
	put_link(f->upper, "symlink", "2");
	set_time(f->upper, "time", WHEN + 1, 0);
	/* The time says that nothing was written to it, though that is a lie. */
	put(f->lower, "trusted", "abc");
	put(f->upper, "trusted", "abd");
	set_time(f->lower, "trusted", WHEN, 7);
	set_time(f->upper, "trusted", WHEN, 7);
	put_dir(f->lower, "dir");
	put_dir(f->upper, "dir");
	assert_int_equal(fchmodat(f->upper, "dir", 0700, 0), 0);
	assert_string_equal(packed(f), "content\ndir/\nfraction\nmode\nsize\nsymlink -> 2\ntime\n");
}

static void changed_attributes_make_a_change_and_are_kept(void **state)
{
	struct fixture *f = *state;
	const char *name;
	const void *value;
	size_t size;

	put(f->lower, "f", "x");
	put(f->upper, "f", "x");
	put(f->lower, "g", "x");
	put(f->upper, "g", "x");
	put_attr(f->upper, "f", "user.b", "two\nlines=");
	put_attr(f->upper, "f", "user.a", "");
	put_attr(f->upper, "f", "user.overlay.opaque", "y");
	put_attr(f->upper, "g", "user.overlay.origin", "y");
	assert_string_equal(packed(f), "f\n");

	struct archive *a = open_layer(f);
	struct archive_entry *e = find(a, "f");
	assert_int_equal(archive_entry_xattr_reset(e), 2);
	while (archive_entry_xattr_next(e, &name, &value, &size) == ARCHIVE_OK) {
		bool b = streq(name, "user.b");

		assert_true(b || streq(name, "user.a"));
		assert_int_equal(size, b ? 10 : 0);
		assert_memory_equal(value, "two\nlines=", size);
	}
	archive_read_free(a);
}

static void sockets_are_left_out(void **state)
{
	struct fixture *f = *state;
	struct sockaddr_un addr = {.sun_family = AF_UNIX, .sun_path = "s"};
	_cleanup_close_ int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	put_dir(f->upper, "d");
	assert_int_equal(fchdir(f->upper), 0);
	assert_int_equal(bind(s, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_string_equal(packed(f), "d/\n");
}

static void marks_of_removed_names_count_as_absent(void **state)
{
	struct fixture *f = *state;

	put(f->lower, "gone", "x");
	put(f->upper, "new", "x");
	if (mknodat(f->upper, "gone", S_IFCHR, makedev(0, 0)) < 0 ||
	    mknodat(f->upper, "never", S_IFCHR, makedev(0, 0)) < 0 ||
	    mknodat(f->lower, "new", S_IFCHR, makedev(0, 0)) < 0)
		skip();
	assert_string_equal(packed(f), ".wh.gone\nnew\n");
}

static void only_what_the_changed_directory_names_is_looked_at(void **state)
{
	struct fixture *f = *state;

	f->o.changed = f->changed;
	/* As an overlay would be: the names in changed are those that may differ. */
	put_dir(f->lower, "d");
	put_dir(f->upper, "d");
	put_dir(f->changed, "d");
	put(f->lower, "d/f", "old");
	put(f->upper, "d/f", "new");
	put(f->changed, "d/f", "new");
	put(f->lower, "d/not-looked-at", "old");
	put(f->upper, "d/not-looked-at", "new");
	put(f->lower, "d/gone", "x");
	put(f->changed, "d/gone", "a mark");
	put_dir(f->lower, "e");
	put_dir(f->upper, "e");
	put(f->upper, "e/not-looked-at", "new");
	/* Below what is new everything is. */
	put_dir(f->upper, "n");
	put(f->upper, "n/f", "new");
	assert_string_equal(packed(f), "d/\nd/f\nd/.wh.gone\nn/\nn/f\n");
}

/* ---- hard links ---- */

static void names_of_one_file_are_hard_links(void **state)
{
	struct fixture *f = *state;

	put_dir(f->upper, "d");
	put(f->upper, "d/first", "x");
	put_hard(f->upper, "second", "d/first");
	put_link(f->upper, "s1", "x");
	put_hard(f->upper, "s2", "s1");
	assert_string_equal(packed(f), "d/\nd/first\ns1 -> x\ns2 == s1\nsecond == d/first\n");
}

static void unchanged_names_of_a_file_follow_a_new_one(void **state)
{
	struct fixture *f = *state;

	put_dir(f->lower, "a");
	put_dir(f->upper, "a");
	put(f->lower, "a/1", "x");
	put_hard(f->lower, "a/2", "a/1");
	put(f->lower, "only", "x");
	put_hard(f->lower, "only2", "only");
	put(f->upper, "a/1", "x");
	put_hard(f->upper, "a/2", "a/1");
	put(f->upper, "only", "x");
	put_hard(f->upper, "only2", "only");
	put_hard(f->upper, "new", "a/1");
	assert_string_equal(packed(f), "new\na/\na/1 == new\na/2 == new\n");
}

static void many_linked_files_are_told_apart(void **state)
{
	struct fixture *f = *state;
	struct buf want = BUF_INIT;
	char name[32];

	for (int i = 0; i < 1500; i++) {
		snprintf(name, sizeof(name), "a%04d", i);
		put(f->upper, name, "x");
		buf_printf(&want, "%s\n", name);
	}
	for (int i = 0; i < 1500; i++) {
		char to[32];

		snprintf(name, sizeof(name), "a%04d", i);
		snprintf(to, sizeof(to), "b%04d", i);
		put_hard(f->upper, to, name);
		buf_printf(&want, "%s == %s\n", to, name);
	}
	assert_string_equal(packed(f), want.data);
	buf_done(&want);
}

/* ---- what an entry says ---- */

static void long_and_foreign_names_are_kept(void **state)
{
	struct fixture *f = *state;
	struct buf want = BUF_INIT;
	char dir[121], file[251], path[400], target[301];

	memset(dir, 'd', 120);
	memset(file, 'f', 250);
	memset(target, 't', 300);
	dir[120] = file[250] = target[300] = 0;
	snprintf(path, sizeof(path), "%s/%s", dir, file);
	put_dir(f->upper, dir);
	put(f->upper, path, "x");
	put_link(f->upper, "long", target);
	put(f->upper, "\xff\xfe not UTF-8", "x");
	put(f->upper, "\xed\xa0\x80 surrogate", "x");
	put(f->upper, "\xc3\xbc", "x");
	buf_printf(&want,
		   "%s/\n%s\nlong -> %s\n\xc3\xbc\n\xed\xa0\x80 surrogate\n\xff\xfe not UTF-8\n",
		   dir, path, target);
	assert_string_equal(packed(f), want.data);
	buf_done(&want);
}

static void times_keep_their_fractions_and_sizes_their_numbers(void **state)
{
	struct fixture *f = *state;
	_cleanup_close_ int fd = openat(f->upper, "sparse", O_WRONLY | O_CREAT | O_CLOEXEC, 0640);
	char last[8] = {0};

	assert_int_equal(ftruncate(fd, 700000), 0);
	assert_int_equal(pwrite(fd, "end", 3, 699997), 3);
	set_time(f->upper, "sparse", WHEN, 120);
	put_dir(f->upper, "old");
	set_time(f->upper, "old", -5, 0);
	pack(f);

	struct archive *a = open_layer(f);
	struct archive_entry *e = find(a, "old/");
	assert_int_equal(archive_entry_mtime(e), -5);
	e = find(a, "sparse");
	assert_int_equal(archive_entry_mtime(e), WHEN);
	assert_int_equal(archive_entry_mtime_nsec(e), 120);
	assert_int_equal(archive_entry_size(e), 700000);
	assert_int_equal(archive_entry_perm(e), 0640);
	assert_string_equal(archive_entry_uname(e), "");
	for (int64_t left = 700000; left > 0;) {
		char p[4096];
		la_ssize_t n = archive_read_data(a, p, sizeof(p));

		assert_true(n > 0);
		left -= n;
		if (left == 0)
			memcpy(last, p + n - 3, 3);
	}
	assert_string_equal(last, "end");
	archive_read_free(a);
}

static void large_numbers_fit_into_a_header(void **state)
{
	struct buf b = BUF_INIT;
	const struct tar_header h = {
		.path = "f",
		.type = TAR_FILE,
		.mode = S_IFREG | 04755,
		.uid = 4000000000,
		.gid = 3000000,
		.size = 1LL << 40,
		.mtime = {.tv_sec = 1LL << 40},
	};
	struct archive *a = archive_read_new();
	struct archive_entry *e;

	assert_int_equal(tar_write_header(&b, &h), 0);
	assert_int_equal(b.len % TAR_BLOCK, 0);
	archive_read_support_format_tar(a);
	assert_int_equal(archive_read_open_memory(a, b.data, b.len), ARCHIVE_OK);
	assert_int_equal(archive_read_next_header(a, &e), ARCHIVE_OK);
	assert_int_equal(archive_entry_uid(e), 4000000000);
	assert_int_equal(archive_entry_gid(e), 3000000);
	assert_int_equal(archive_entry_size(e), 1LL << 40);
	assert_int_equal(archive_entry_mtime(e), 1LL << 40);
	assert_int_equal(archive_entry_mode(e), S_IFREG | 04755);
	archive_read_free(a);
	buf_done(&b);
}

static void nothing_is_newer_than_the_epoch(void **state)
{
	struct fixture *f = *state;
	const struct timespec epoch = {.tv_sec = WHEN, .tv_nsec = 500};
	struct archive *a;
	struct archive_entry *e;

	f->o.epoch = &epoch;
	put(f->lower, "gone", "x");
	put(f->upper, "older", "x");
	set_time(f->upper, "older", WHEN - 1, 999999999);
	put(f->upper, "newer", "x");
	set_time(f->upper, "newer", WHEN, 501);
	put_dir(f->upper, "now");
	pack(f);
	a = open_layer(f);
	while (archive_read_next_header(a, &e) == ARCHIVE_OK) {
		bool older = streq(archive_entry_pathname(e), "older");
		bool whiteout = streq(archive_entry_pathname(e), ".wh.gone");

		assert_int_equal(archive_entry_mtime(e), older ? WHEN - 1 : WHEN);
		assert_int_equal(archive_entry_mtime_nsec(e), older	 ? 999999999
							      : whiteout ? 0
									 : 500);
	}
	archive_read_free(a);
}

/* ---- formats ---- */

static void fill(struct fixture *f)
{
	_cleanup_close_ int fd = openat(f->upper, "big", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	unsigned x = 1;

	/* Some blocks that can be compressed with the help of what came before. */
	for (int i = 0; i < 700; i++) {
		unsigned char p[5000];

		for (size_t k = 0; k < sizeof(p); k++)
			p[k] = k % 100 < 50 ? (unsigned char)k
					    : (unsigned char)((x = x * 1103515245 + 12345) >> 16);
		assert_int_equal(fd_write_full(fd, p, sizeof(p)), 0);
	}
	put_dir(f->upper, "d");
	put(f->upper, "d/f", "x");
	set_time(f->upper, "big", WHEN, 0);
}

static ssize_t read_layer(void *arg, void *p, size_t n)
{
	struct buf *b = arg;

	n = MIN(n, b->len);
	memcpy(p, b->data, n);
	buf_consume(b, n);
	return (ssize_t)n;
}

static void formats_hold_the_same_bytes_whatever_the_threads(void **state)
{
	struct fixture *f = *state;
	struct buf plain = BUF_INIT;
	struct digest diff_id;

	fill(f);
	assert_int_equal(pack_as(f, COMPRESSION_NONE, 1, INT64_MAX), 0);
	buf_add(&plain, f->out.data, f->out.len);
	diff_id = f->digest;
	for (enum compression c = COMPRESSION_GZIP; c <= COMPRESSION_ZSTD; c++) {
		struct buf one = BUF_INIT;
		_cleanup_(inflate_freep) struct inflate *i = NULL;
		_cleanup_free_ char *p = malloc(plain.len + 1);
		struct err err = ERR_INIT;

		assert_int_equal(pack_as(f, c, 1, INT64_MAX), 0);
		assert_string_equal(f->digest.text, diff_id.text);
		assert_int_equal(f->size, plain.len);
		assert_true(f->out.len < plain.len * 3 / 4);
		buf_add(&one, f->out.data, f->out.len);
		assert_int_equal(pack_as(f, c, 3, INT64_MAX), 0);
		assert_int_equal(f->out.len, one.len);
		assert_memory_equal(f->out.data, one.data, one.len);
		i = inflate_new(read_layer, &one);
		assert_int_equal(inflate_read(i, p, plain.len + 1, &err), plain.len);
		assert_memory_equal(p, plain.data, plain.len);
		buf_done(&one);
	}
	buf_done(&plain);
}

static void empty_input_is_a_valid_file_of_each_format(void **state)
{
	for (enum compression c = COMPRESSION_NONE; c <= COMPRESSION_ZSTD; c++) {
		_cleanup_close_ int fd = memfd_create("empty", MFD_CLOEXEC);
		_cleanup_(compressor_freep) struct compressor *w = NULL;
		struct buf b = BUF_INIT;
		char p[600];
		struct err err = ERR_INIT;
		struct digest d;
		int64_t size;
		ssize_t n;

		assert_int_equal(compressor_new(c, 2, fd, 100, &w, &err), 0);
		assert_int_equal(compressor_finish(w, &d, &size, &err), 0);
		assert_int_equal(size, 0);
		n = pread(fd, p, sizeof(p), 0);
		buf_add(&b, p, (size_t)n);
		if (c != COMPRESSION_NONE) {
			_cleanup_(inflate_freep) struct inflate *i = inflate_new(read_layer, &b);

			assert_true(n > 0);
			assert_int_equal(inflate_read(i, p, sizeof(p), &err), 0);
		}
		buf_done(&b);
	}
}

static void too_large_a_layer_is_refused(void **state)
{
	struct fixture *f = *state;

	fill(f);
	assert_int_equal(pack_as(f, COMPRESSION_GZIP, 2, 2000000), -ERR_RESOURCE_EXHAUSTED);
	assert_non_null(strstr(f->err.text, "pack \"big\": "));
}

static void output_that_fails_ends_the_layer(void **state)
{
	struct fixture *f = *state;
	_cleanup_(compressor_freep) struct compressor *c = NULL;
	_cleanup_close_ int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);

	fill(f);
	if (compressor_new(COMPRESSION_ZSTD, 2, fd, INT64_MAX, &c, &f->err) == 0 &&
	    layer_write(&f->o, c, &f->entries, &f->err) == 0)
		assert_int_equal(compressor_finish(c, &f->digest, &f->size, &f->err),
				 -ERR_RESOURCE_EXHAUSTED);
	assert_int_equal(f->err.kind, ERR_RESOURCE_EXHAUSTED);
}

/* ---- and back ---- */

struct source {
	struct buf *b;
	size_t at;
};

static ssize_t next_block(void *arg, const void **ret, struct err *err)
{
	struct source *s = arg;
	size_t n = MIN((size_t)3000, s->b->len - s->at);

	*ret = s->b->data + s->at;
	s->at += n;
	return (ssize_t)n;
}

/* Applies the packed layer to a tree that has what lower has. */
static void apply(struct fixture *f, int target)
{
	const struct tar_apply_options o = {
		.root_fd = target,
		.keep_owner = geteuid() != 0,
		.max_entries = 1000,
		.max_file = 1 << 24,
	};
	struct source s = {.b = &f->out};
	int64_t n;

	if (tar_apply(&o, next_block, &s, &n, &f->err) < 0)
		fail_msg("%s", f->err.text);
}

static void fill_pair(int dir)
{
	put_dir(dir, "d");
	put(dir, "d/stay", "x");
	put(dir, "d/gone", "x");
	put(dir, "d/change", "old");
	put_dir(dir, "emptied");
	put(dir, "emptied/f", "x");
	put(dir, "to-dir", "x");
	put_dir(dir, "to-file");
	put(dir, "to-file/f", "x");
}

static void fill_changes(int dir)
{
	char name[201];

	memset(name, 'n', 200);
	name[200] = 0;
	assert_int_equal(rm_rf(dir, "d/gone"), 0);
	put(dir, "d/change", "new");
	set_time(dir, "d/change", WHEN, 123456789);
	assert_int_equal(rm_rf(dir, "emptied/f"), 0);
	assert_int_equal(rm_rf(dir, "to-dir"), 0);
	put_dir(dir, "to-dir");
	put(dir, "to-dir/f", "x");
	assert_int_equal(rm_rf(dir, "to-file"), 0);
	put(dir, "to-file", "x");
	put(dir, name, "long");
	put_link(dir, "link", name);
	put_hard(dir, "hard", name);
	put(dir, "\xff", "x");
	put(dir, "set", "x");
	assert_int_equal(fchmodat(dir, "set", 04711, 0), 0);
	assert_int_equal(mkfifoat(dir, "fifo", 0604), 0);
	set_time(dir, "fifo", WHEN, 0);
	set_time(dir, "d", WHEN, 5);
}

static void layer_applied_to_lower_gives_upper(void **state)
{
	struct fixture *f = *state;
	int target = make_dir(f, "target");
	struct stat a, b;

	fill_pair(f->lower);
	fill_pair(target);
	fill_pair(f->upper);
	fill_changes(f->upper);
	pack(f);
	apply(f, target);
	/* No difference is left. */
	f->o.lower = target;
	assert_string_equal(packed(f), "");
	assert_int_equal(fstatat(target, "d", &a, 0), 0);
	assert_int_equal(a.st_mtim.tv_nsec, 5);
	assert_int_equal(fstatat(target, "hard", &b, 0), 0);
	assert_int_equal(b.st_nlink, 2);
	close(target);
}

static void the_same_trees_make_the_same_layer(void **state)
{
	struct fixture *f = *state;
	struct digest first;

	fill_pair(f->lower);
	fill_pair(f->upper);
	fill_changes(f->upper);
	pack(f);
	first = f->digest;
	/* A copy of the tree has other inodes and another order of names. */
	f->o.upper = make_dir(f, "copy");
	fill_changes((fill_pair(f->o.upper), f->o.upper));
	for (const char *const *p = (const char *const[]){"d", "emptied", "to-dir", ".", NULL}; *p;
	     p++) {
		struct stat st;

		assert_int_equal(fstatat(f->upper, *p, &st, 0), 0);
		set_time(f->o.upper, *p, st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	}
	pack(f);
	assert_string_equal(f->digest.text, first.text);
	close(f->o.upper);
}

static void path_that_no_archive_takes_is_refused(void **state)
{
	struct fixture *f = *state;
	int at = fcntl(f->upper, F_DUPFD_CLOEXEC, 0);
	char name[251];

	memset(name, 'n', 250);
	name[250] = 0;
	for (int i = 0; i < 18; i++) {
		int next;

		put_dir(at, name);
		next = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		close(at);
		at = next;
	}
	close(at);
	assert_int_equal(pack_as(f, COMPRESSION_NONE, 1, INT64_MAX), -ERR_FAILED_PRECONDITION);
	assert_non_null(strstr(f->err.text, "too long"));
}

/* ---- the jail ---- */

/* 0 = the trees can be read, and nothing else can be done. */
static int try_jail(struct fixture *f)
{
	int fd;

	if (jail_pack(f->upper, &f->lower, 1, NULL) < 0)
		return 1;
	fd = openat(f->upper, "f", O_RDONLY | O_NOFOLLOW);
	if (fd < 0 || openat(f->lower, "f", O_RDONLY) < 0 || fchdir(f->lower) < 0)
		return 2;
	if (openat(f->upper, "f", O_WRONLY) >= 0 || openat(f->upper, "n", O_CREAT, 0600) >= 0 ||
	    openat(f->upper, "f", O_RDONLY | O_TRUNC) >= 0)
		return 3;
	if (unlinkat(f->upper, "f", 0) == 0 || mkdirat(f->upper, "d", 0700) == 0 ||
	    symlinkat("x", f->upper, "l") == 0 || linkat(f->upper, "f", f->upper, "h", 0) == 0 ||
	    renameat(f->upper, "f", f->upper, "r") == 0 || fchmodat(f->upper, "f", 0, 0) == 0 ||
	    fsetxattr(fd, "user.x", "", 0, 0) == 0)
		return 4;
	if (socket(AF_UNIX, SOCK_STREAM, 0) >= 0)
		return 5;
	/* The root is the upper tree. */
	return open("/f", O_RDONLY) >= 0 && open("/etc/passwd", O_RDONLY) < 0 ? 0 : 6;
}

static void jail_leaves_reading_the_trees(void **state)
{
	struct fixture *f = *state;
	int status;
	pid_t pid;

	if (geteuid() != 0)
		skip();
	put(f->lower, "f", "x");
	put(f->upper, "f", "x");
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(try_jail(f));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(everything_is_added_to_nothing_sorted_by_path),
		TEST(equal_trees_make_an_empty_layer),
		TEST(changes_bring_the_directories_above_them),
		TEST(removed_names_are_whiteouts_of_the_topmost_directory),
		TEST(type_changes_replace),
		TEST(each_attribute_makes_a_change),
		TEST(changed_attributes_make_a_change_and_are_kept),
		TEST(sockets_are_left_out),
		TEST(marks_of_removed_names_count_as_absent),
		TEST(only_what_the_changed_directory_names_is_looked_at),
		TEST(names_of_one_file_are_hard_links),
		TEST(unchanged_names_of_a_file_follow_a_new_one),
		TEST(many_linked_files_are_told_apart),
		TEST(long_and_foreign_names_are_kept),
		TEST(times_keep_their_fractions_and_sizes_their_numbers),
		TEST(large_numbers_fit_into_a_header),
		TEST(nothing_is_newer_than_the_epoch),
		TEST(formats_hold_the_same_bytes_whatever_the_threads),
		TEST(empty_input_is_a_valid_file_of_each_format),
		TEST(too_large_a_layer_is_refused),
		TEST(output_that_fails_ends_the_layer),
		TEST(layer_applied_to_lower_gives_upper),
		TEST(the_same_trees_make_the_same_layer),
		TEST(path_that_no_archive_takes_is_refused),
		TEST(jail_leaves_reading_the_trees),
	};

	setlocale(LC_CTYPE, "C.UTF-8");
	return cmocka_run_group_tests_name("pack", tests, NULL, NULL);
}
