/* SPDX-License-Identifier: Apache-2.0 */
/* Prefixes of mount types: see transform.h. */
#include "plugins/mounts/transform.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"
#include "sys/spawn.h"

#define TEXT_MAX (64u << 10)
#define MKFS_NS (120 * NSEC_PER_SEC)
#define MKFS_OUTPUT 4096
#define OPTION "X-containerd."

static const char *const prefixes[] = {"format/", "mkdir/", "mkfs/"};

bool mount_has_transform(const char *type)
{
	for (size_t i = 0; i < ARRAY_LEN(prefixes); i++)
		if (str_has_prefix(type, prefixes[i]))
			return true;
	return false;
}

bool mount_has_format(const char *type)
{
	while (mount_has_transform(type)) {
		if (str_has_prefix(type, "format/"))
			return true;
		type = strchr(type, '/') + 1;
	}
	return false;
}

const char *mount_plain_type(const char *type)
{
	while (mount_has_transform(type))
		type = strchr(type, '/') + 1;
	return type;
}

struct transform {
	struct ctx *ctx;
	const char *const *roots;
	const struct mount_active *done;
	size_t n_done;
	struct mount m;
};

/* ---- format ---- */

static int place_index(const struct transform *t, const char *text, size_t *ret, struct err *err)
{
	uint64_t n;
	if (!text || str_to_u64(text, 10, &n) < 0 || n >= t->n_done)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "mount index \"%s\": there are %zu mounts before", text ? text : "",
			       t->n_done);
	*ret = (size_t)n;
	return 0;
}

static int place_overlay(const struct transform *t, char **words, struct buf *out, struct err *err)
{
	size_t from, to;
	int r = place_index(t, words[1], &from, err);
	if (r == 0)
		r = place_index(t, words[2], &to, err);
	if (r < 0)
		return r;
	for (size_t i = from;; i += from < to ? 1 : -1) {
		buf_printf(out, "%s%s", i == from ? "" : ":", t->done[i].mount_point);
		if (i == to)
			return 0;
	}
}

/* One {{ place }}; @text is what stands between the braces. */
static int place_fill(const struct transform *t, const char *text, size_t len, struct buf *out,
		      struct err *err)
{
	struct arena *a = t->ctx->arena;
	char *copy = arena_strndup(a, text, len), *words[4] = {NULL}, *save = NULL;
	size_t n = 0, at;
	if (!copy)
		return err_nomem(err);
	for (char *w = strtok_r(copy, " \t", &save); w && n < ARRAY_LEN(words);
	     w = strtok_r(NULL, " \t", &save))
		words[n++] = w;
	if (n == 3 && streq(words[0], "overlay"))
		return place_overlay(t, words, out, err);
	if (n != 2 ||
	    (!streq(words[0], "source") && !streq(words[0], "target") && !streq(words[0], "mount")))
		return err_set(err, ERR_INVALID_ARGUMENT, "format \"{{%.*s}}\"",
			       (int)MIN(len, (size_t)200), text);
	int r = place_index(t, words[1], &at, err);
	if (r < 0)
		return r;
	const struct mount_active *d = &t->done[at];
	buf_adds(out, words[0][0] == 's'   ? d->mount.source
		      : words[0][0] == 't' ? str_or(d->mount.target, "")
					   : d->mount_point);
	return 0;
}

static int fill(const struct transform *t, const char *text, const char **ret, struct err *err)
{
	_cleanup_buf_ struct buf out = BUF_INIT;
	const char *p = text, *open, *close;
	if (!text || !strstr(text, "{{")) {
		*ret = text;
		return 0;
	}
	while ((open = strstr(p, "{{"))) {
		close = strstr(open, "}}");
		if (!close)
			return err_set(err, ERR_INVALID_ARGUMENT,
				       "format \"%.200s\": }} is missing", text);
		buf_add(&out, p, (size_t)(open - p));
		int r = place_fill(t, open + 2, (size_t)(close - open) - 2, &out, err);
		if (r < 0)
			return r;
		if (out.len > TEXT_MAX)
			return err_set(err, ERR_INVALID_ARGUMENT, "format \"%.200s\" gets too long",
				       text);
		p = close + 2;
	}
	buf_adds(&out, p);
	*ret = buf_ok(&out) ? arena_strndup(t->ctx->arena, out.data ? out.data : "", out.len)
			    : NULL;
	return *ret ? 0 : err_nomem(err);
}

static int apply_format(struct transform *t, struct err *err)
{
	int r = fill(t, t->m.source, &t->m.source, err);
	if (r == 0)
		r = fill(t, t->m.target, &t->m.target, err);
	for (size_t i = 0; r == 0 && i < t->m.n_options; i++)
		r = fill(t, t->m.options[i], &t->m.options[i], err);
	return r;
}

/* ---- paths ---- */

/* The root that @path lies below, and the rest of the path. */
static int find_root(const struct transform *t, const char *path, const char **ret_root,
		     const char **ret_rest, struct err *err)
{
	static const char *const anywhere[] = {"", NULL};
	for (const char *const *root = t->roots ? t->roots : anywhere; *root; root++) {
		const char *rest = str_skip(path, *root);
		if (rest && *rest == '/' && rest[1]) {
			*ret_root = **root ? *root : "/";
			*ret_rest = rest + 1;
			return 0;
		}
	}
	return err_set(err, ERR_INVALID_ARGUMENT, "path %s is not in the daemon's directories",
		       path);
}

/* Opens the directory that holds the last component, making what is missing before it. No component
 * is followed when it is a link: below there are files of containers. */
static int open_parent(const struct transform *t, const char *path, mode_t mode,
		       const char **ret_last, struct err *err)
{
	const char *root, *rest;
	size_t n;
	int r = find_root(t, path, &root, &rest, err);
	if (r < 0)
		return r;
	char **parts = str_split(t->ctx->arena, rest, '/', &n);
	if (!parts)
		return err_nomem(err);
	_cleanup_close_ int dir = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_errno(err, errno, "open %s", root);
	for (size_t i = 0; i < n; i++) {
		if (!*parts[i] || streq(parts[i], ".") || streq(parts[i], ".."))
			return err_set(err, ERR_INVALID_ARGUMENT, "path %s is not clean", path);
		if (i + 1 == n)
			break;
		if (mkdirat(dir, parts[i], mode) < 0 && errno != EEXIST)
			return err_errno(err, errno, "make %s of %s", parts[i], path);
		int next = openat(dir, parts[i], O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (next < 0)
			return err_errno(err, errno, "open %s of %s", parts[i], path);
		close(dir);
		dir = next;
	}
	*ret_last = parts[n - 1];
	return TAKE_FD(dir);
}

/* ---- options ---- */

/* What follows @key in an option; the option is taken out. NULL = there is none (any more). */
static const char *take_option(struct mount *m, const char *key)
{
	for (size_t i = 0; i < m->n_options; i++) {
		const char *value = str_skip(m->options[i], key);
		if (!value)
			continue;
		memmove(&m->options[i], &m->options[i + 1],
			(--m->n_options - i) * sizeof(*m->options));
		return value;
	}
	return NULL;
}

static int parse_mode(const char *text, mode_t *ret, struct err *err)
{
	uint64_t mode;
	if (str_to_u64(text, 8, &mode) < 0 || mode > 07777)
		return err_set(err, ERR_INVALID_ARGUMENT, "mkdir: mode \"%s\"", text);
	*ret = (mode_t)mode;
	return 0;
}

/* ---- mkdir ---- */

static int make_one(const struct transform *t, const char *value, struct err *err)
{
	mode_t mode = 0700;
	size_t n;
	const char *last;
	char **parts = str_split(t->ctx->arena, value, ':', &n);
	if (!parts)
		return err_nomem(err);
	if (n == 0 || n == 3 || n > 4)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "mkdir: \"%s\" is not PATH[:MODE[:UID:GID]]", value);
	if (n == 4)
		return err_set(err, ERR_UNIMPLEMENTED, "mkdir: owner of %s", parts[0]);
	int r = n > 1 ? parse_mode(parts[1], &mode, err) : 0;
	if (r < 0)
		return r;
	_cleanup_close_ int dir = open_parent(t, parts[0], mode, &last, err);
	if (dir < 0)
		return err_prefix(err, "mkdir");
	if (mkdirat(dir, last, mode) < 0 && errno != EEXIST)
		return err_errno(err, errno, "mkdir %s", parts[0]);
	return 0;
}

static int apply_mkdir(struct transform *t, struct err *err)
{
	const char *value;
	int r = 0;
	while (r == 0 && (value = take_option(&t->m, OPTION "mkdir.path=")))
		r = make_one(t, value, err);
	return r;
}

/* ---- mkfs ---- */

int mount_size_parse(const char *text, int64_t *ret, struct err *err)
{
	static const char units[] = "kmgt";
	size_t digits = strspn(text, "0123456789");
	const char *rest = text + digits, *unit = *rest ? strchr(units, *rest | 0x20) : NULL;
	int shift = unit ? 10 * (int)(unit - units + 1) : 0;
	char number[24];
	int64_t n;
	rest += unit != NULL;
	bool ok = digits < sizeof(number) &&
		  (!*rest || !strcasecmp(rest, "b") || (unit && !strcasecmp(rest, "ib")));
	(void)snprintf(number, sizeof(number), "%.*s", (int)MIN(digits, sizeof(number) - 1), text);
	if (!ok || str_to_i64(number, 10, &n) < 0 || n <= 0 || n > INT64_MAX >> shift)
		return err_set(err, ERR_INVALID_ARGUMENT, "size \"%.64s\"", text);
	*ret = n << shift;
	return 0;
}

static int run_mkfs(const struct transform *t, const char *fs, const char *uuid, const char *file,
		    struct err *err)
{
	struct arena *a = t->ctx->arena;
	struct spawn_options o = SPAWN_OPTIONS_INIT;
	bool xfs = streq(fs, "xfs");
	char *program = arena_printf(a, "mkfs.%s", fs),
	     *set = arena_printf(a, "%s%s", xfs ? "uuid=" : "", uuid), *out;
	char *argv[8];
	size_t n = 0;
	int status;
	if (!program || !set)
		return err_nomem(err);
	argv[n++] = program;
	argv[n++] = (char *)"-q";
	if (*uuid) {
		argv[n++] = (char *)(xfs ? "-m" : "-U");
		argv[n++] = set;
	}
	argv[n++] = (char *)file;
	argv[n] = NULL;
	o.path = program;
	o.argv = argv;
	o.ctx = t->ctx;
	int r = spawn_run(a, &o, NULL, 0, MKFS_OUTPUT, time_mono() + MKFS_NS, &out, NULL, NULL,
			  &status, err);
	if (r < 0)
		return r;
	return status ? err_set(err, ERR_UNKNOWN, "%s %s: exit status %d: %.1000s", program, file,
				status, out)
		      : 0;
}

static int make_file_system(const struct transform *t, int64_t size, const char *fs,
			    const char *uuid, struct err *err)
{
	const char *last;
	_cleanup_close_ int dir = open_parent(t, t->m.source, 0700, &last, err);
	if (dir < 0)
		return err_prefix(err, "mkfs");
	_cleanup_close_ int fd =
		openat(dir, last, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return errno == EEXIST ? 0 : err_errno(err, errno, "mkfs: make %s", t->m.source);
	int r = ftruncate(fd, size) < 0 ? err_errno(err, errno, "mkfs: size of %s", t->m.source)
					: run_mkfs(t, fs, uuid, t->m.source, err);
	if (r < 0)
		unlinkat(dir, last, 0); /* the next attempt makes it anew */
	return r;
}

static int apply_mkfs(struct transform *t, struct err *err)
{
	static const char *const known[] = {"ext2", "ext3", "ext4", "xfs"};
	const char *size = take_option(&t->m, OPTION "mkfs.size="),
		   *fs = take_option(&t->m, OPTION "mkfs.fs=");
	const char *uuid = take_option(&t->m, OPTION "mkfs.uuid=");
	size_t i = 0;
	int64_t bytes;
	fs = str_or(fs, "ext4");
	while (i < ARRAY_LEN(known) && !streq(fs, known[i]))
		i++;
	if (i == ARRAY_LEN(known))
		return err_set(err, ERR_INVALID_ARGUMENT, "mkfs: file system \"%s\"", fs);
	if (!size)
		return err_set(err, ERR_INVALID_ARGUMENT, "mkfs: " OPTION "mkfs.size is missing");
	if (uuid && strspn(uuid, "0123456789abcdefABCDEF-") != strlen(uuid))
		return err_set(err, ERR_INVALID_ARGUMENT, "mkfs: uuid \"%s\"", uuid);
	int r = mount_size_parse(size, &bytes, err);
	return r < 0 ? err_prefix(err, "mkfs")
		     : make_file_system(t, bytes, fs, uuid ? uuid : "", err);
}

/* ---- all ---- */

int mount_transform(struct ctx *ctx, const char *const *roots, const struct mount *in,
		    const struct mount_active *done, size_t n_done, struct mount *ret,
		    struct err *err)
{
	static int (*const apply[])(struct transform * t,
				    struct err * err) = {apply_format, apply_mkdir, apply_mkfs};
	struct transform t = {.ctx = ctx, .roots = roots, .done = done, .n_done = n_done, .m = *in};
	t.m.options = arena_new_array(ctx->arena, const char *, in->n_options + 1);
	if (!t.m.options)
		return err_nomem(err);
	for (size_t i = 0; i < in->n_options; i++)
		t.m.options[i] = in->options[i];
	for (size_t i = 0; i < ARRAY_LEN(prefixes);) {
		const char *rest = str_skip(t.m.type, prefixes[i]);
		if (!rest) {
			i++;
			continue;
		}
		int r = apply[i](&t, err);
		if (r < 0)
			return r;
		t.m.type = rest;
		i = 0;
	}
	*ret = t.m;
	return 0;
}
