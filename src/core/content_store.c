/* SPDX-License-Identifier: Apache-2.0 */
/* The local content store.
 *
 *     <root>/blobs/<algorithm>/<hex>          0444, never changed
 *     <root>/ingest/<sha256 of the ref>/
 *             ref                              the reference
 *             startedat, updatedat             RFC 3339; updatedat is written when the writer is
 * closed total                            decimal, when it was said data what is there so far
 *
 * A commit syncs data, renames it to its name among the blobs and syncs that directory, so a name
 * says that the bytes are on the disk. An ingest has at most one writer: its reference is locked in
 * memory, in the store (one per directory in a process). Directories without data that a crash left
 * behind are removed when the store is opened. The digest goes along with the writes; a resumed
 * ingest is read once to catch up.
 */
#include "core/content.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fsverity.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "base/time.h"

#define SMALL_FILE_MAX 65536
#define HASH_CHUNK (256 * 1024)
#define REF_WAIT_NS (500 * NSEC_PER_MSEC) /* see ref_lock() */
#define PATH_TEXT_MAX 192 /* "ingest/<64 hex>/updatedat", "blobs/sha512/<128 hex>" */

struct ref_lock {
	struct ref_lock *next;
	char *ref;
	struct timespec since;
	int64_t since_mono;
};

struct local_store {
	struct content_store base;
	int root_fd;
	atomic_bool no_verity; /* the file system has none: not tried again */
	pthread_mutex_t lock;  /* guards refs */
	pthread_cond_t unlocked;
	struct ref_lock *refs;
};

struct local_writer {
	struct content_store_writer base;
	struct local_store *store;
	char *ref;
	char dir[PATH_TEXT_MAX]; /* below the root */
	int fd;			 /* -1 once committed */
	int64_t offset, total;
	struct timespec started, updated;
	struct hasher *hasher;
	struct digest committed;
};

static struct local_store *to_local(struct content_store *s)
{
	return (struct local_store *)s;
}

static struct local_writer *to_writer(struct content_store_writer *w)
{
	return (struct local_writer *)w;
}

/* ---- names ---- */

static void ingest_dir(const char *ref, char out[PATH_TEXT_MAX])
{
	char hex[65];

	sha256_hex(ref, strlen(ref), hex);
	snprintf(out, PATH_TEXT_MAX, "ingest/%s", hex);
}

static int blob_path(const char *digest, char out[PATH_TEXT_MAX], struct err *err)
{
	int rc = digest_validate(digest, err);

	if (rc == 0)
		snprintf(out, PATH_TEXT_MAX, "blobs/%s/%s", digest_alg_name(digest_alg(digest)),
			 digest_hex(digest));
	return rc;
}

static void file_in(const char *dir, const char *name, char out[PATH_TEXT_MAX])
{
	snprintf(out, PATH_TEXT_MAX, "%.*s/%s", PATH_TEXT_MAX - 16, dir, name);
}

/* ---- blobs ---- */

static int blob_stat(struct local_store *s, const char *digest, struct stat *st, struct err *err)
{
	char path[PATH_TEXT_MAX];
	int rc = blob_path(digest, path, err);

	if (rc < 0)
		return rc;
	if (fstatat(s->root_fd, path, st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? err_set(err, ERR_NOT_FOUND, "content %s", digest)
				       : err_errno(err, errno, "stat content %s", digest);
	return 0;
}

static int local_info(struct ctx *ctx, struct content_store *cs, const char *digest,
		      struct content_info *ret, struct err *err)
{
	struct stat st;
	int rc = blob_stat(to_local(cs), digest, &st, err);

	if (rc < 0)
		return rc;
	*ret = (struct content_info){
		.digest = arena_strdup(ctx->arena, digest),
		.size = st.st_size,
		.created_at = st.st_mtim,
		.updated_at = st.st_atim,
	};
	return ret->digest ? 0 : err_nomem(err);
}

static int local_open(struct ctx *ctx, struct content_store *cs, const char *digest, int *ret_fd,
		      int64_t *ret_size, struct err *err)
{
	struct local_store *s = to_local(cs);
	_cleanup_close_ int fd = -1;
	char path[PATH_TEXT_MAX];
	struct stat st;
	int rc = blob_path(digest, path, err);

	if (rc < 0)
		return rc;
	fd = openat(s->root_fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return errno == ENOENT ? err_set(err, ERR_NOT_FOUND, "content %s", digest)
				       : err_errno(err, errno, "open content %s", digest);
	if (fstat(fd, &st) < 0)
		return err_errno(err, errno, "stat content %s", digest);
	if (!S_ISREG(st.st_mode))
		return err_set(err, ERR_DATA_LOSS, "content %s is no regular file", digest);
	*ret_size = st.st_size;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int local_remove(struct ctx *ctx, struct content_store *cs, const char *digest,
			struct err *err)
{
	char path[PATH_TEXT_MAX];
	int rc = blob_path(digest, path, err);

	if (rc < 0)
		return rc;
	if (unlinkat(to_local(cs)->root_fd, path, 0) < 0)
		return errno == ENOENT ? err_set(err, ERR_NOT_FOUND, "content %s", digest)
				       : err_errno(err, errno, "remove content %s", digest);
	return 0;
}

static int dir_open(struct local_store *s, const char *path, DIR **ret)
{
	int fd = openat(s->root_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return -errno;
	*ret = fdopendir(fd);
	if (!*ret) {
		int e = errno;

		close(fd);
		return -e;
	}
	return 0;
}

static int walk_algorithm(struct local_store *s, enum digest_alg alg,
			  int (*fn)(void *arg, const struct content_info *info), void *arg,
			  struct err *err)
{
	_cleanup_closedir_ DIR *d = NULL;
	char path[PATH_TEXT_MAX];
	struct dirent *e;
	int rc;

	snprintf(path, sizeof(path), "blobs/%s", digest_alg_name(alg));
	rc = dir_open(s, path, &d);
	if (rc == -ENOENT)
		return 0;
	if (rc < 0)
		return err_errno(err, rc, "open %s", path);
	while ((errno = 0, e = readdir(d))) {
		struct content_info info = {0};
		char digest[sizeof(e->d_name) + 16];
		struct stat st;

		snprintf(digest, sizeof(digest), "%s:%s", digest_alg_name(alg), e->d_name);
		if (digest_validate(digest, NULL) < 0 ||
		    fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		    !S_ISREG(st.st_mode))
			continue; /* not ours, or just removed */
		info.digest = digest;
		info.size = st.st_size;
		info.created_at = st.st_mtim;
		info.updated_at = st.st_atim;
		rc = fn(arg, &info);
		if (rc != 0)
			return rc;
	}
	return errno ? err_errno(err, errno, "read %s", path) : 0;
}

static int local_walk(struct ctx *ctx, struct content_store *cs,
		      int (*fn)(void *arg, const struct content_info *info), void *arg,
		      struct err *err)
{
	int rc = 0;

	for (int alg = DIGEST_SHA256; rc == 0 && alg <= DIGEST_SHA512; alg++)
		rc = walk_algorithm(to_local(cs), (enum digest_alg)alg, fn, arg, err);
	return rc;
}

/* ---- ingests ---- */

static int small_read(struct arena *a, struct local_store *s, const char *dir, const char *name,
		      char **ret)
{
	char path[PATH_TEXT_MAX];
	size_t n;

	file_in(dir, name, path);
	return file_read(a, s->root_fd, path, SMALL_FILE_MAX, ret, &n);
}

static int small_write(struct local_store *s, const char *dir, const char *name, const char *text)
{
	char path[PATH_TEXT_MAX];

	file_in(dir, name, path);
	return file_write_atomic(s->root_fd, path, text, strlen(text), 0644, false);
}

static int time_write(struct local_store *s, const char *dir, const char *name, struct timespec t)
{
	char text[40];

	time_format_rfc3339(t, text);
	return small_write(s, dir, name, text);
}

static struct timespec time_read(struct arena *a, struct local_store *s, const char *dir,
				 const char *name)
{
	struct timespec t = {0};
	char *text;

	if (small_read(a, s, dir, name, &text) < 0 || time_parse_rfc3339(text, &t) < 0)
		t = (struct timespec){0};
	return t;
}

/* -ENOENT where there is no whole ingest. */
static int ingest_read(struct arena *a, struct local_store *s, const char *dir,
		       struct content_status *ret)
{
	struct content_status st = {.expected = ""};
	char path[PATH_TEXT_MAX], *ref, *total;
	struct stat sb;
	int rc = small_read(a, s, dir, "ref", &ref);

	if (rc < 0)
		return rc;
	file_in(dir, "data", path);
	if (fstatat(s->root_fd, path, &sb, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	st.ref = ref;
	st.offset = sb.st_size;
	st.started_at = time_read(a, s, dir, "startedat");
	st.updated_at = time_read(a, s, dir, "updatedat");
	if (time_cmp(st.updated_at, sb.st_mtim) < 0)
		st.updated_at = sb.st_mtim;
	rc = small_read(a, s, dir, "total", &total);
	if (rc == 0 && str_to_i64(total, 10, &st.total) < 0)
		st.total = 0;
	*ret = st;
	return 0;
}

static int local_status(struct ctx *ctx, struct content_store *cs, const char *ref,
			struct content_status *ret, struct err *err)
{
	char dir[PATH_TEXT_MAX];
	int rc;

	ingest_dir(ref, dir);
	rc = ingest_read(ctx->arena, to_local(cs), dir, ret);
	if (rc == -ENOENT)
		return err_set(err, ERR_NOT_FOUND, "ingest ref \"%s\"", ref);
	return rc < 0 ? err_errno(err, rc, "read ingest \"%s\"", ref) : 0;
}

static bool is_ingest_name(const char *s)
{
	return strlen(s) == 64 && strspn(s, "0123456789abcdef") == 64;
}

static int local_list_status(struct ctx *ctx, struct content_store *cs, struct content_status **ret,
			     size_t *ret_n, struct err *err)
{
	struct local_store *s = to_local(cs);
	struct content_status *v = NULL;
	_cleanup_closedir_ DIR *d = NULL;
	size_t n = 0, cap = 0;
	struct dirent *e;
	int rc = dir_open(s, "ingest", &d);

	if (rc < 0)
		return err_errno(err, rc, "open ingest");
	while ((errno = 0, e = readdir(d))) {
		char dir[PATH_TEXT_MAX];

		if (!is_ingest_name(e->d_name))
			continue;
		v = arena_grow(ctx->arena, v, &cap, n + 1, sizeof(*v));
		if (!v)
			return err_nomem(err);
		snprintf(dir, sizeof(dir), "ingest/%.64s", e->d_name);
		/* One that ends at this moment has no data any more. */
		if (ingest_read(ctx->arena, s, dir, &v[n]) == 0)
			n++;
	}
	if (errno)
		return err_errno(err, errno, "read ingest");
	*ret = v;
	*ret_n = n;
	return 0;
}

static int local_abort(struct ctx *ctx, struct content_store *cs, const char *ref, struct err *err)
{
	struct local_store *s = to_local(cs);
	char dir[PATH_TEXT_MAX];
	int rc;

	ingest_dir(ref, dir);
	if (faccessat(s->root_fd, dir, F_OK, 0) < 0 && errno == ENOENT)
		return err_set(err, ERR_NOT_FOUND, "ingest ref \"%s\"", ref);
	rc = rm_rf(s->root_fd, dir);
	return rc < 0 ? err_errno(err, rc, "remove ingest \"%s\"", ref) : 0;
}

/* ---- references in use ---- */

static struct ref_lock *ref_find(const struct local_store *s, const char *ref)
{
	struct ref_lock *l = s->refs;

	while (l && !streq(l->ref, ref))
		l = l->next;
	return l;
}

/* A client that closes a writer is not told when the daemon has seen it, and may open the next one
 * on the same reference before: so this waits a little for the reference to become free. */
static int ref_lock(struct local_store *s, const char *ref, struct err *err)
{
	struct ref_lock *l;
	char took[40], since[40];
	int64_t at = time_mono() + REF_WAIT_NS;
	struct timespec until = {at / NSEC_PER_SEC, at % NSEC_PER_SEC};
	int rc = 0;

	MUTEX_GUARD(&s->lock);

	while ((l = ref_find(s, ref)) && rc == 0)
		rc = pthread_cond_clockwait(&s->unlocked, &s->lock, CLOCK_MONOTONIC, &until);
	if (l) {
		duration_format(time_mono() - l->since_mono, took);
		time_format_rfc3339(l->since, since);
		return err_set(err, ERR_UNAVAILABLE, "ref %s locked for %s (since %s)", ref, took,
			       since);
	}
	l = calloc(1, sizeof(*l));
	if (!l || !(l->ref = strdup(ref))) {
		free(l);
		return err_nomem(err);
	}
	l->since = time_now();
	l->since_mono = time_mono();
	l->next = s->refs;
	s->refs = l;
	return 0;
}

static void ref_unlock(struct local_store *s, const char *ref)
{
	MUTEX_GUARD(&s->lock);

	for (struct ref_lock **p = &s->refs; *p; p = &(*p)->next) {
		struct ref_lock *l = *p;

		if (streq(l->ref, ref)) {
			*p = l->next;
			free(l->ref);
			free(l);
			pthread_cond_broadcast(&s->unlocked);
			return;
		}
	}
}

/* ---- writer ---- */

/* Hashes the file from @from on, up to @to. @ctx may be NULL. */
static int hash_range(struct ctx *ctx, int fd, struct hasher *h, int64_t from, int64_t to,
		      struct err *err)
{
	_cleanup_free_ char *chunk = malloc(HASH_CHUNK);
	int rc = 0;

	if (!chunk)
		return err_nomem(err);
	while (rc == 0 && from < to) {
		ssize_t n = fd_pread_full(fd, chunk, (size_t)MIN(to - from, HASH_CHUNK), from);

		if (n < 0)
			return err_errno(err, (int)n, "read ingest");
		if (n == 0)
			return err_set(err, ERR_DATA_LOSS, "ingest ends at %lld before %lld",
				       (long long)from, (long long)to);
		hasher_update(h, chunk, (size_t)n);
		from += n;
		rc = ctx ? ctx_check(ctx, err) : 0;
	}
	return rc;
}

static void writer_free(struct local_writer *w)
{
	if (w->fd >= 0)
		close(w->fd);
	if (w->hasher)
		hasher_free(w->hasher);
	free(w->ref);
	free(w);
}

static int writer_closed(const struct local_writer *w, struct err *err)
{
	return w->fd < 0 ? err_set(err, ERR_FAILED_PRECONDITION, "cannot write on closed writer")
			 : 0;
}

static int writer_status(struct content_store_writer *cw, struct content_status *ret,
			 struct err *err)
{
	struct local_writer *w = to_writer(cw);

	*ret = (struct content_status){
		.offset = w->offset,
		.total = w->total,
		.expected = "",
		.started_at = w->started,
		.updated_at = w->updated,
	};
	return 0;
}

static int writer_write(struct content_store_writer *cw, const void *p, size_t n, struct err *err)
{
	struct local_writer *w = to_writer(cw);
	int rc = writer_closed(w, err);

	if (rc < 0)
		return rc;
	if (n > (size_t)(INT64_MAX - w->offset))
		return err_set(err, ERR_OUT_OF_RANGE, "write beyond the largest size");
	rc = fd_pwrite_full(w->fd, p, n, w->offset);
	if (rc < 0) {
		/* Part of it may be there: what was not hashed does not count. */
		if (ftruncate(w->fd, w->offset) < 0)
			return err_errno(err, errno, "take back a failed write");
		return err_errno(err, rc, "write ingest");
	}
	hasher_update(w->hasher, p, n);
	w->offset += (int64_t)n;
	w->updated = time_now();
	return 0;
}

static int writer_restart_hash(struct local_writer *w, struct err *err)
{
	struct hasher *h = hasher_new(hasher_alg(w->hasher));

	if (!h)
		return err_nomem(err);
	hasher_free(w->hasher);
	w->hasher = h;
	w->offset = 0;
	return 0;
}

static int writer_truncate(struct content_store_writer *cw, int64_t size, struct err *err)
{
	struct local_writer *w = to_writer(cw);
	int rc = writer_closed(w, err);

	if (rc < 0)
		return rc;
	if (size != 0)
		return err_set(err, ERR_INVALID_ARGUMENT, "truncate: unsupported size");
	if (ftruncate(w->fd, 0) < 0)
		return err_errno(err, errno, "truncate ingest");
	w->updated = time_now();
	return writer_restart_hash(w, err);
}

static int writer_digest(struct content_store_writer *cw, struct digest *ret, struct err *err)
{
	struct local_writer *w = to_writer(cw);

	if (w->fd < 0)
		*ret = w->committed;
	else
		hasher_digest(w->hasher, ret);
	return 0;
}

static int writer_data_fd(struct content_store_writer *cw, struct err *err)
{
	struct local_writer *w = to_writer(cw);
	int rc = writer_closed(w, err);

	return rc < 0 ? rc : w->fd;
}

/* Digest of the data with @expected's algorithm, which may be another than the one that went along.
 */
static int commit_digest(struct local_writer *w, const char *expected, struct digest *ret,
			 struct err *err)
{
	_cleanup_hasher_ struct hasher *h = NULL;
	int rc;

	if (!*expected || digest_alg(expected) == hasher_alg(w->hasher)) {
		hasher_digest(w->hasher, ret);
		return 0;
	}
	h = hasher_new(digest_alg(expected));
	if (!h)
		return err_nomem(err);
	rc = hash_range(NULL, w->fd, h, 0, w->offset, err);
	if (rc == 0)
		hasher_digest(h, ret);
	return rc;
}

static int commit_check(struct local_writer *w, int64_t size, const char *expected,
			struct digest *ret, struct err *err)
{
	struct stat st;
	int rc;

	if (fstat(w->fd, &st) < 0)
		return err_errno(err, errno, "stat ingest");
	if (st.st_size != w->offset)
		return err_set(err, ERR_FAILED_PRECONDITION,
			       "ingest has %lld bytes, but %lld were digested",
			       (long long)st.st_size, (long long)w->offset);
	if (size > 0 && size != w->offset)
		return err_set(err, ERR_FAILED_PRECONDITION,
			       "unexpected commit size %lld, expected %lld", (long long)w->offset,
			       (long long)size);
	rc = commit_digest(w, expected, ret, err);
	if (rc < 0)
		return rc;
	if (*expected && !streq(ret->text, expected))
		return err_set(err, ERR_FAILED_PRECONDITION,
			       "unexpected commit digest %s, expected %s", ret->text, expected);
	return 0;
}

/* Best effort: from here on the kernel itself refuses to hand out other bytes. */
static void verity_enable(struct local_store *s, const char *path)
{
	struct fsverity_enable_arg arg = {
		.version = 1, .hash_algorithm = FS_VERITY_HASH_ALG_SHA256, .block_size = 4096};
	_cleanup_close_ int fd = -1;

	if (s->no_verity)
		return;
	fd = openat(s->root_fd, path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && ioctl(fd, FS_IOC_ENABLE_VERITY, &arg) < 0 &&
	    (errno == EOPNOTSUPP || errno == ENOTTY))
		s->no_verity = true;
}

/* Data, then its name: when the directory is synced, both are on the disk. */
static int commit_place(struct local_writer *w, const char *path, struct err *err)
{
	struct local_store *s = w->store;
	char from[PATH_TEXT_MAX], *slash, dir[PATH_TEXT_MAX];
	int rc = 0;

	if (futimens(w->fd, NULL) < 0 || fchmod(w->fd, 0444) < 0 || fsync(w->fd) < 0)
		return err_errno(err, errno, "sync ingest");
	snprintf(dir, sizeof(dir), "%s", path);
	slash = strrchr(dir, '/');
	*slash = 0;
	if (mkdirat(s->root_fd, dir, 0755) == 0)
		rc = dir_sync(s->root_fd, "blobs");
	else if (errno != EEXIST)
		rc = -errno;
	if (rc < 0)
		return err_errno(err, rc, "make %s", dir);
	file_in(w->dir, "data", from);
	if (renameat(s->root_fd, from, s->root_fd, path) < 0)
		return err_errno(err, errno, "rename ingest to %s", path);
	rc = dir_sync(s->root_fd, dir);
	return rc < 0 ? err_errno(err, rc, "sync %s", dir) : 0;
}

static int writer_commit(struct content_store_writer *cw, int64_t size, const char *expected,
			 struct digest *ret, struct err *err)
{
	struct local_writer *w = to_writer(cw);
	struct local_store *s = w->store;
	char path[PATH_TEXT_MAX];
	struct digest d;
	bool exists;
	int rc = writer_closed(w, err);

	if (rc == 0 && !str_empty(expected))
		rc = digest_validate(expected, err);
	if (rc == 0)
		rc = commit_check(w, size, expected ? expected : "", &d, err);
	if (rc == 0)
		rc = blob_path(d.text, path, err);
	if (rc < 0)
		return rc;
	exists = faccessat(s->root_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
	if (!exists) {
		rc = commit_place(w, path, err);
		if (rc < 0)
			return rc;
	}
	close(TAKE_FD(w->fd));
	w->committed = d;
	if (!exists)
		verity_enable(s, path);
	/* What does not go now goes when the store is opened. */
	(void)rm_rf(s->root_fd, w->dir);
	if (exists)
		return err_set(err, ERR_ALREADY_EXISTS, "content %s", d.text);
	*ret = d;
	return 0;
}

static void writer_close(struct content_store_writer *cw)
{
	struct local_writer *w = to_writer(cw);

	/* The time is a courtesy to who looks at the ingest later. */
	if (w->fd >= 0 && faccessat(w->store->root_fd, w->dir, F_OK, 0) == 0)
		(void)time_write(w->store, w->dir, "updatedat", w->updated);
	ref_unlock(w->store, w->ref);
	writer_free(w);
}

static const struct content_store_writer_ops writer_ops = {
	.status = writer_status,
	.write = writer_write,
	.truncate = writer_truncate,
	.digest = writer_digest,
	.data_fd = writer_data_fd,
	.commit = writer_commit,
	.close = writer_close,
};

/* Removes what is there and makes the ingest's directory with its small files. */
static int ingest_make(struct local_writer *w, struct err *err)
{
	struct local_store *s = w->store;
	char number[32];
	int rc = rm_rf(s->root_fd, w->dir);

	if (rc == 0 && mkdirat(s->root_fd, w->dir, 0755) < 0)
		rc = -errno;
	w->started = w->updated = time_now();
	if (rc == 0)
		rc = small_write(s, w->dir, "ref", w->ref);
	if (rc == 0)
		rc = time_write(s, w->dir, "startedat", w->started);
	if (rc == 0)
		rc = time_write(s, w->dir, "updatedat", w->updated);
	if (rc == 0 && w->total > 0) {
		snprintf(number, sizeof(number), "%lld", (long long)w->total);
		rc = small_write(s, w->dir, "total", number);
	}
	return rc < 0 ? err_errno(err, rc, "make ingest \"%s\"", w->ref) : 0;
}

/* True when the ingest that is there is this one's beginning. */
static bool ingest_fits(struct arena *a, struct local_writer *w)
{
	struct content_status st;

	if (ingest_read(a, w->store, w->dir, &st) < 0 || !streq(st.ref, w->ref) ||
	    (w->total > 0 && st.total > 0 && st.total != w->total))
		return false;
	w->started = st.started_at;
	w->updated = st.updated_at;
	if (w->total == 0)
		w->total = st.total;
	return true;
}

static int writer_start(struct ctx *ctx, struct local_writer *w, struct err *err)
{
	char path[PATH_TEXT_MAX];
	struct stat st;
	int rc = 0;

	ingest_dir(w->ref, w->dir);
	if (!ingest_fits(ctx->arena, w))
		rc = ingest_make(w, err);
	if (rc < 0)
		return rc;
	file_in(w->dir, "data", path);
	w->fd = openat(w->store->root_fd, path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (w->fd < 0 || fstat(w->fd, &st) < 0)
		return err_errno(err, errno, "open ingest \"%s\"", w->ref);
	rc = hash_range(ctx, w->fd, w->hasher, 0, st.st_size, err);
	if (rc == 0)
		w->offset = st.st_size;
	return rc;
}

static int local_writer_open(struct ctx *ctx, struct content_store *cs, const char *ref,
			     int64_t total, const char *expected, struct content_store_writer **ret,
			     struct err *err)
{
	struct local_store *s = to_local(cs);
	struct local_writer *w;
	int rc = str_empty(expected) ? 0 : digest_validate(expected, err);

	if (rc == 0)
		rc = ref_lock(s, ref, err);
	if (rc < 0)
		return rc;
	w = calloc(1, sizeof(*w));
	if (!w) {
		ref_unlock(s, ref);
		return err_nomem(err);
	}
	w->base.ops = &writer_ops;
	w->store = s;
	w->fd = -1;
	w->total = total;
	w->ref = strdup(ref);
	w->hasher = hasher_new(str_empty(expected) ? DIGEST_SHA256 : digest_alg(expected));
	rc = w->ref && w->hasher ? writer_start(ctx, w, err) : err_nomem(err);
	if (rc < 0) {
		ref_unlock(s, ref);
		writer_free(w);
		return rc;
	}
	*ret = &w->base;
	return 0;
}

/* ---- store ---- */

static void local_free(struct content_store *cs)
{
	struct local_store *s = to_local(cs);

	close(s->root_fd);
	pthread_cond_destroy(&s->unlocked);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static const struct content_store_ops local_ops = {
	.info = local_info,
	.open = local_open,
	.remove = local_remove,
	.walk = local_walk,
	.status = local_status,
	.list_status = local_list_status,
	.abort = local_abort,
	.writer = local_writer_open,
	.free = local_free,
};

/* Ingests whose data was renamed, or never made, when the process ended. */
static int sweep_empty_ingests(struct local_store *s)
{
	_cleanup_closedir_ DIR *d = NULL;
	struct dirent *e;
	int rc = dir_open(s, "ingest", &d);

	if (rc < 0)
		return rc;
	while ((e = readdir(d))) {
		char dir[PATH_TEXT_MAX], path[PATH_TEXT_MAX];

		if (!is_ingest_name(e->d_name))
			continue;
		snprintf(dir, sizeof(dir), "ingest/%.64s", e->d_name);
		file_in(dir, "data", path);
		if (faccessat(s->root_fd, path, F_OK, 0) < 0 && errno == ENOENT)
			rc = rm_rf(s->root_fd, dir);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int content_store_local_new(const char *root, struct content_store **ret, struct err *err)
{
	_cleanup_close_ int fd = -1;
	struct local_store *s;
	int rc = mkdir_p(root, 0755);

	if (rc == 0 && (fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		rc = -errno;
	if (rc == 0 && mkdirat(fd, "blobs", 0755) < 0 && errno != EEXIST)
		rc = -errno;
	if (rc == 0 && mkdirat(fd, "ingest", 0755) < 0 && errno != EEXIST)
		rc = -errno;
	if (rc < 0)
		return err_errno(err, rc, "open content store `%s`", root);
	s = calloc(1, sizeof(*s));
	if (!s)
		return err_nomem(err);
	s->base.ops = &local_ops;
	s->root_fd = TAKE_FD(fd);
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->unlocked, NULL);
	rc = sweep_empty_ingests(s);
	if (rc < 0) {
		local_free(&s->base);
		return err_errno(err, rc, "clean content store `%s`", root);
	}
	*ret = &s->base;
	return 0;
}
