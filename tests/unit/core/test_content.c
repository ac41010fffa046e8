/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <unistd.h>

#include <fcntl.h>

#include "base/fd.h"
#include "core/lease.h"
#include "core/namespace.h"
#include "util.h"

static struct digest sum(const char *s)
{
	struct digest d;

	digest_of(DIGEST_SHA256, s, strlen(s), &d);
	return d;
}

static struct content_writer *open_writer(struct fix *f, const char *ref, int64_t total,
					  const char *expected)
{
	struct content_writer *w = NULL;

	assert_ok(content_writer_open(&f->ctx, f->db, ref, total, expected, &w, &f->err));
	return w;
}

static void put(struct fix *f, const char *ref, const char *text)
{
	struct digest d = sum(text);
	struct descriptor desc = {.digest = d.text, .size = (int64_t)strlen(text)};

	assert_ok(content_put(&f->ctx, f->db, ref, &desc, text, NULL, &f->err));
}

static bool blob_exists(struct fix *f, const char *digest)
{
	return access(arena_printf(f->arena, "%s/content/blobs/sha256/%s", f->dir,
				   digest_hex(digest)),
		      F_OK) == 0;
}

static int count_ingest_dirs(struct fix *f)
{
	DIR *d = opendir(arena_printf(f->arena, "%s/content/ingest", f->dir));
	int n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

static void blob_is_written_committed_and_read(void **state)
{
	struct fix *f = *state;
	struct digest d = sum("hello world"), got;
	struct labels l = make_labels(f->arena, "k", "v", NULL);
	struct content_writer *w = open_writer(f, "r1", 11, "");
	struct content_status st;
	struct content_info info;
	struct stat sb;
	char *text;
	size_t n;

	assert_ok(content_writer_write(w, "hello ", 6, &f->err));
	assert_ok(content_writer_write(w, "world", 5, &f->err));
	assert_ok(content_status(&f->ctx, f->db, "r1", &st, &f->err));
	assert_int_equal(st.offset, 11);
	assert_int_equal(st.total, 11);
	assert_string_equal(st.ref, "r1");
	assert_ok(content_writer_commit(&f->ctx, w, 11, d.text, &l, &got, &f->err));
	content_writer_close(w);
	assert_string_equal(got.text, d.text);
	assert_ok(content_info(&f->ctx, f->db, d.text, &info, &f->err));
	assert_int_equal(info.size, 11);
	assert_string_equal(labels_get(&info.labels, "k"), "v");
	assert_ok(content_read(&f->ctx, f->db, d.text, 100, &text, &n, &f->err));
	assert_int_equal(n, 11);
	assert_memory_equal(text, "hello world", 11);
	assert_int_equal(content_read(&f->ctx, f->db, d.text, 10, &text, &n, &f->err),
			 -ERR_INVALID_ARGUMENT);
	assert_int_equal(stat(arena_printf(f->arena, "%s/content/blobs/sha256/%s", f->dir,
					   digest_hex(d.text)),
			      &sb),
			 0);
	assert_int_equal(sb.st_mode & 07777, 0444);
	assert_int_equal(count_ingest_dirs(f), 0);
	assert_err(content_status(&f->ctx, f->db, "r1", &st, &f->err), ERR_NOT_FOUND,
		   "reference r1: not found");
}

static void commit_with_wrong_digest_or_size_keeps_ingest(void **state)
{
	struct fix *f = *state;
	struct digest d = sum("right"), wrong = sum("wrong"), got;
	struct content_writer *w = open_writer(f, "r1", 0, "");

	assert_err(content_writer_commit(&f->ctx, w, 11, "", NULL, &got, &f->err),
		   ERR_FAILED_PRECONDITION,
		   "\"r1\" failed size validation: 0 != 11: failed precondition");
	assert_ok(content_writer_write(w, "right", 5, &f->err));
	assert_err(content_writer_commit(&f->ctx, w, 5, wrong.text, NULL, &got, &f->err),
		   ERR_FAILED_PRECONDITION,
		   arena_printf(f->arena,
				"unexpected commit digest %s, expected %s: failed precondition",
				d.text, wrong.text));
	content_writer_close(w);
	assert_int_equal(count_ingest_dirs(f), 1);
	assert_false(blob_exists(f, wrong.text));
	assert_false(blob_exists(f, d.text));
}

static void closed_ingest_is_resumed_with_its_digest(void **state)
{
	struct fix *f = *state;
	struct digest d = sum("hello world"), got;
	struct content_writer *w = open_writer(f, "r1", 11, "");
	struct content_status st;

	assert_ok(content_writer_write(w, "hello ", 6, &f->err));
	content_writer_close(w);
	w = open_writer(f, "r1", 11, "");
	assert_ok(content_writer_status(w, &st, &f->err));
	assert_int_equal(st.offset, 6);
	assert_ok(content_writer_digest(w, &got, &f->err));
	assert_string_equal(got.text, sum("hello ").text);
	assert_ok(content_writer_write(w, "world", 5, &f->err));
	assert_ok(content_writer_commit(&f->ctx, w, 0, d.text, NULL, &got, &f->err));
	content_writer_close(w);
}

static void another_total_starts_the_ingest_anew(void **state)
{
	struct fix *f = *state;
	struct content_writer *w = open_writer(f, "r1", 11, "");
	struct content_status st;

	assert_ok(content_writer_write(w, "hello ", 6, &f->err));
	content_writer_close(w);
	w = open_writer(f, "r1", 12, "");
	assert_ok(content_writer_status(w, &st, &f->err));
	assert_int_equal(st.offset, 0);
	assert_int_equal(st.total, 12);
	content_writer_close(w);
}

static void reference_has_one_writer(void **state)
{
	struct fix *f = *state;
	struct content_writer *w = open_writer(f, "r1", 0, ""), *other;

	f->err = ERR_INIT;
	assert_int_equal(content_writer_open(&f->ctx, f->db, "r1", 0, "", &other, &f->err),
			 -ERR_UNAVAILABLE);
	assert_non_null(strstr(f->err.text, "locked for"));
	content_writer_close(w);
	content_writer_close(open_writer(f, "r1", 0, ""));
}

/* A store in which another writer of the same reference commits, or the ingest is aborted, right
 * before a writer is opened. */
static struct {
	struct fix *f;
	const struct content_store_ops *real;
	struct content_store_ops ops;
	struct content_writer *first; /* NULL = abort */
	const char *digest;
	int calls;
} rival;

static int rival_writer(struct ctx *ctx, struct content_store *s, const char *ref, int64_t total,
			const char *expected, struct content_store_writer **ret, struct err *err)
{
	struct fix *f = rival.f;
	struct digest d;

	if (rival.calls++ == 0 && rival.first) {
		assert_ok(content_writer_commit(&f->ctx, rival.first, 5, rival.digest, NULL, &d,
						&f->err));
		content_writer_close(rival.first);
	} else if (rival.calls == 1) {
		assert_ok(content_abort(&f->ctx, f->db, "r", &f->err));
	}
	return rival.real->writer(ctx, s, ref, total, expected, ret, err);
}

static void rival_begin(struct fix *f, struct content_writer *first, const char *digest)
{
	rival.f = f;
	rival.real = f->content->ops;
	rival.ops = *rival.real;
	rival.ops.writer = rival_writer;
	rival.first = first;
	rival.digest = digest;
	rival.calls = 0;
	f->content->ops = &rival.ops;
}

static void blob_that_comes_while_a_writer_is_opened_is_seen(void **state)
{
	struct fix *f = *state;
	struct content_writer *w, *second;
	struct digest d;

	digest_of(DIGEST_SHA256, "hello", 5, &d);
	assert_ok(content_writer_open(&f->ctx, f->db, "r", 5, d.text, &w, &f->err));
	assert_ok(content_writer_write(w, "hello", 5, &f->err));
	rival_begin(f, w, d.text);
	assert_int_equal(content_writer_open(&f->ctx, f->db, "r", 5, d.text, &second, &f->err),
			 -ERR_ALREADY_EXISTS);
	f->content->ops = rival.real;
	assert_int_equal(rival.calls, 1);
	assert_int_equal(count_ingest_dirs(f), 0);
}

static void ingest_that_is_aborted_while_a_writer_is_opened_is_made_anew(void **state)
{
	struct fix *f = *state;
	struct content_status st;
	struct content_writer *w;

	rival_begin(f, NULL, NULL);
	assert_ok(content_writer_open(&f->ctx, f->db, "r", 5, NULL, &w, &f->err));
	f->content->ops = rival.real;
	assert_int_equal(rival.calls, 2);
	assert_int_equal(count_ingest_dirs(f), 1);
	assert_ok(content_status(&f->ctx, f->db, "r", &st, &f->err));
	content_writer_close(w);
}

static void *close_soon(void *arg)
{
	usleep(50 * 1000);
	content_writer_close(arg);
	return NULL;
}

/* As when a client opens it again before the daemon has seen that it closed the last one. */
static void open_waits_for_a_writer_that_is_being_closed(void **state)
{
	struct fix *f = *state;
	struct content_writer *other = NULL;
	pthread_t t;

	/* It waits for half a second, and on a busy machine the other thread may come later. */
	for (int i = 0; i < 20 && !other; i++) {
		struct content_writer *w = open_writer(f, "r1", 0, "");

		f->err = ERR_INIT;
		assert_int_equal(pthread_create(&t, NULL, close_soon, w), 0);
		if (content_writer_open(&f->ctx, f->db, "r1", 0, "", &other, &f->err) < 0)
			assert_int_equal(f->err.kind, ERR_UNAVAILABLE);
		pthread_join(t, NULL);
	}
	assert_non_null(other);
	content_writer_close(other);
}

static void truncate_restarts_the_digest(void **state)
{
	struct fix *f = *state;
	struct content_writer *w = open_writer(f, "r1", 0, "");
	struct digest got;

	assert_ok(content_writer_write(w, "old old old", 11, &f->err));
	assert_ok(content_writer_truncate(w, &f->err));
	assert_ok(content_writer_write(w, "new", 3, &f->err));
	assert_ok(content_writer_commit(&f->ctx, w, 3, sum("new").text, NULL, &got, &f->err));
	content_writer_close(w);
}

static void written_bytes_can_be_read_along(void **state)
{
	struct fix *f = *state;
	struct content_writer *w = open_writer(f, "r1", 0, "");
	int fd = content_writer_data_fd(w, &f->err);
	char got[8];

	assert_true(fd >= 0);
	assert_ok(content_writer_write(w, "abc", 3, &f->err));
	assert_int_equal(fd_pread_full(fd, got, sizeof(got), 0), 3);
	assert_ok(content_writer_write(w, "def", 3, &f->err));
	assert_int_equal(fd_pread_full(fd, got, sizeof(got), 3), 3);
	assert_memory_equal(got, "def", 3);
	assert_ok(content_writer_truncate(w, &f->err));
	assert_int_equal(fd_pread_full(fd, got, sizeof(got), 0), 0);
	content_writer_close(w);
}

static void bytes_that_were_not_digested_are_not_committed(void **state)
{
	struct fix *f = *state;
	struct content_writer *w = open_writer(f, "r1", 0, "");
	struct digest got;
	int fd = content_writer_data_fd(w, &f->err);

	assert_ok(content_writer_write(w, "abc", 3, &f->err));
	assert_int_equal(fd_pwrite_full(fd, "def", 3, 3), 0);
	assert_int_equal(content_writer_commit(&f->ctx, w, 0, "", NULL, &got, &f->err),
			 -ERR_FAILED_PRECONDITION);
	content_writer_close(w);
}

static void other_algorithm_is_digested_at_commit(void **state)
{
	struct fix *f = *state;
	struct content_writer *w = open_writer(f, "r1", 0, "");
	struct digest d, got;
	int64_t size;
	int fd;

	digest_of(DIGEST_SHA512, "x", 1, &d);
	assert_ok(content_writer_write(w, "x", 1, &f->err));
	assert_ok(content_writer_commit(&f->ctx, w, 1, d.text, NULL, &got, &f->err));
	assert_string_equal(got.text, d.text);
	content_writer_close(w);
	assert_ok(content_open(&f->ctx, f->db, d.text, &fd, &size, &f->err));
	assert_int_equal(size, 1);
	close(fd);
}

static void existing_content_is_not_written_again(void **state)
{
	struct fix *f = *state;
	struct digest d = sum("abc"), got;
	struct content_writer *w, *w2;

	put(f, "p", "abc");
	f->err = ERR_INIT;
	assert_err(content_writer_open(&f->ctx, f->db, "r", 0, d.text, &w, &f->err),
		   ERR_ALREADY_EXISTS,
		   arena_printf(f->arena, "content %s: already exists", d.text));
	w2 = open_writer(f, "r2", 0, "");
	assert_ok(content_writer_write(w2, "abc", 3, &f->err));
	assert_int_equal(content_writer_commit(&f->ctx, w2, 3, "", NULL, &got, &f->err),
			 -ERR_ALREADY_EXISTS);
	content_writer_close(w2);
	assert_int_equal(count_ingest_dirs(f), 0);
}

static void other_namespace_shares_bytes_and_not_records(void **state)
{
	struct fix *f = *state;
	struct digest d = sum("abc"), got;
	struct content_writer *w;
	struct content_status st, *all;
	struct content_info i;
	size_t n;

	put(f, "p", "abc");
	f->ctx.ns = "other";
	assert_err(content_info(&f->ctx, f->db, d.text, &i, &f->err), ERR_NOT_FOUND,
		   arena_printf(f->arena, "content digest %s: not found", d.text));
	w = open_writer(f, "r", 0, d.text);
	assert_ok(content_writer_status(w, &st, &f->err));
	assert_int_equal(st.offset, 3);
	assert_int_equal(st.total, 3);
	assert_string_equal(st.expected, d.text);
	assert_ok(content_list_status(&f->ctx, f->db, NULL, &all, &n, &f->err));
	assert_int_equal(n, 1);
	assert_string_equal(all[0].expected, d.text);
	assert_int_equal(count_ingest_dirs(f), 0);
	assert_ok(content_writer_commit(&f->ctx, w, 3, d.text, NULL, &got, &f->err));
	content_writer_close(w);
	assert_ok(content_info(&f->ctx, f->db, d.text, &i, &f->err));
	assert_int_equal(i.size, 3);
	/* The one's deletion is nothing to the other. */
	assert_ok(content_delete(&f->ctx, f->db, d.text, &f->err));
	f->ctx.ns = "default";
	assert_ok(content_info(&f->ctx, f->db, d.text, &i, &f->err));
}

static void shared_writer_that_is_written_gets_data_of_its_own(void **state)
{
	struct fix *f = *state;
	struct digest d = sum("abc"), got;
	struct content_writer *w;
	struct content_status st;

	put(f, "p", "abc");
	f->ctx.ns = "other";
	w = open_writer(f, "r", 0, d.text);
	assert_ok(content_writer_write(w, "def", 3, &f->err));
	assert_ok(content_writer_status(w, &st, &f->err));
	assert_int_equal(st.offset, 6);
	assert_string_equal(st.expected, "");
	assert_ok(content_writer_commit(&f->ctx, w, 6, sum("abcdef").text, NULL, &got, &f->err));
	content_writer_close(w);
	w = open_writer(f, "r", 0, d.text);
	assert_ok(content_writer_truncate(w, &f->err));
	assert_ok(content_writer_write(w, "abc", 3, &f->err));
	assert_ok(content_writer_commit(&f->ctx, w, 3, d.text, NULL, &got, &f->err));
	content_writer_close(w);
}

static void isolated_namespaces_share_only_what_is_marked(void **state)
{
	struct fix *f = *state;
	struct db_options o = {.path = f->path,
			       .no_sync = true,
			       .content_isolated = true,
			       .content = f->content,
			       .events = f->events};
	struct digest d = sum("abc");
	struct content_writer *w;
	struct content_status st;

	put(f, "p", "abc");
	db_close(f->db);
	assert_ok(db_open(&o, &f->db, &f->err));
	f->ctx.ns = "other";
	w = open_writer(f, "r", 0, d.text);
	assert_ok(content_writer_status(w, &st, &f->err));
	assert_int_equal(st.offset, 0);
	content_writer_close(w);
	assert_ok(namespace_label(f, "default", "containerd.io/namespace.shareable", "true"));
	w = open_writer(f, "r", 0, d.text);
	assert_ok(content_writer_status(w, &st, &f->err));
	assert_int_equal(st.offset, 3);
	content_writer_close(w);
}

static void lease_gets_ingest_then_blob(void **state)
{
	struct fix *f = *state;
	struct lease_resource *r;
	struct content_writer *w;
	struct digest got;
	struct lease l;
	size_t n;

	f->ctx.lease = "l";
	assert_err(content_writer_open(&f->ctx, f->db, "r", 0, "", &w, &f->err), ERR_NOT_FOUND,
		   "lease does not exist: not found");
	assert_ok(lease_create(&f->ctx, f->db, "l", NULL, &l, &f->err));
	w = open_writer(f, "r", 0, "");
	assert_ok(lease_list_resources(&f->ctx, f->db, "l", &r, &n, &f->err));
	assert_int_equal(n, 1);
	assert_string_equal(r[0].type, "ingests");
	assert_ok(content_writer_write(w, "abc", 3, &f->err));
	assert_ok(content_writer_commit(&f->ctx, w, 3, "", NULL, &got, &f->err));
	content_writer_close(w);
	assert_ok(lease_list_resources(&f->ctx, f->db, "l", &r, &n, &f->err));
	assert_int_equal(n, 1);
	assert_string_equal(r[0].type, "content");
	assert_string_equal(r[0].id, got.text);
}

static void abort_removes_ingest(void **state)
{
	struct fix *f = *state;
	struct content_writer *w = open_writer(f, "r", 0, "");

	assert_ok(content_writer_write(w, "abc", 3, &f->err));
	content_writer_close(w);
	assert_ok(content_abort(&f->ctx, f->db, "r", &f->err));
	assert_int_equal(count_ingest_dirs(f), 0);
	assert_err(content_abort(&f->ctx, f->db, "r", &f->err), ERR_NOT_FOUND,
		   "reference r: not found");
}

/* A store in which the reference is opened again while an abort is at it. */
static int reopening_abort(struct ctx *ctx, struct content_store *s, const char *ref,
			   struct err *err)
{
	struct fix *f = rival.f;

	if (rival.calls++ == 0) {
		rival.first = open_writer(f, "r", 0, "");
		assert_ok(content_writer_write(rival.first, "new", 3, &f->err));
	}
	return rival.real->abort(ctx, s, ref, err);
}

static void ingest_that_is_opened_while_the_last_is_aborted_keeps_its_data(void **state)
{
	struct fix *f = *state;
	struct content_writer *w = open_writer(f, "r", 0, "");
	struct content_status st;
	struct digest d;

	assert_ok(content_writer_write(w, "of old", 6, &f->err));
	content_writer_close(w);
	rival_begin(f, NULL, NULL);
	rival.ops.writer = rival.real->writer;
	rival.ops.abort = reopening_abort;
	assert_ok(content_abort(&f->ctx, f->db, "r", &f->err));
	f->content->ops = rival.real;
	assert_ok(content_status(&f->ctx, f->db, "r", &st, &f->err));
	assert_int_equal(st.offset, 3);
	assert_ok(content_writer_commit(&f->ctx, rival.first, 3, "", NULL, &d, &f->err));
	content_writer_close(rival.first);
	assert_int_equal(count_ingest_dirs(f), 0);
}

static void writer_of_an_aborted_ingest_leaves_the_next_one_alone(void **state)
{
	struct fix *f = *state;
	struct content_writer *old = open_writer(f, "r", 0, ""), *w;
	struct content_status st;
	struct digest d = sum("hello");

	put(f, "other", "hello");
	assert_ok(content_writer_write(old, "hello", 5, &f->err));
	assert_ok(content_abort(&f->ctx, f->db, "r", &f->err));
	w = open_writer(f, "r", 0, "");
	assert_ok(content_writer_write(w, "abc", 3, &f->err));
	f->err = ERR_INIT;
	assert_int_equal(content_writer_commit(&f->ctx, old, 5, d.text, NULL, &d, &f->err),
			 -ERR_ALREADY_EXISTS);
	content_writer_close(old);
	assert_ok(content_status(&f->ctx, f->db, "r", &st, &f->err));
	assert_int_equal(st.offset, 3);
	assert_ok(content_writer_commit(&f->ctx, w, 3, "", NULL, &d, &f->err));
	content_writer_close(w);
}

static void update_touches_labels_only(void **state)
{
	struct fix *f = *state;
	struct digest d = sum("abc");
	struct content_info in = {.digest = d.text}, got, *all;
	char *path[] = {"labels.a"}, *bad[] = {"size"};
	size_t n;

	put(f, "p", "abc");
	in.labels = make_labels(f->arena, "a", "1", "b", "2", NULL);
	assert_ok(content_update(&f->ctx, f->db, &in, path, 1, &got, &f->err));
	assert_int_equal(got.labels.n, 1);
	assert_ok(content_update(&f->ctx, f->db, &in, NULL, 0, &got, &f->err));
	assert_int_equal(got.labels.n, 2);
	assert_int_equal(got.size, 3);
	assert_int_equal(content_update(&f->ctx, f->db, &in, bad, 1, &got, &f->err),
			 -ERR_INVALID_ARGUMENT);
	assert_ok(content_list(&f->ctx, f->db, NULL, &all, &n, &f->err));
	assert_int_equal(n, 1);
	assert_string_equal(labels_get(&all[0].labels, "b"), "2");
	assert_int_equal(content_info(&f->ctx, f->db, "sha256:12", &got, &f->err),
			 -ERR_INVALID_ARGUMENT);
}

static void put_of_existing_content_merges_labels(void **state)
{
	struct fix *f = *state;
	struct labels a = make_labels(f->arena, "a", "1", NULL),
		      b = make_labels(f->arena, "b", "2", NULL);
	struct digest d = sum("abc");
	struct descriptor desc = {.digest = d.text, .size = 3};
	struct content_info i;

	assert_ok(content_put(&f->ctx, f->db, "p", &desc, "abc", &a, &f->err));
	assert_ok(content_put(&f->ctx, f->db, "p", &desc, "abc", &b, &f->err));
	assert_ok(content_info(&f->ctx, f->db, d.text, &i, &f->err));
	assert_int_equal(i.labels.n, 2);
}

static void damaged_blob_is_not_read(void **state)
{
	struct fix *f = *state;
	struct digest d = sum("abc");
	char *p = arena_printf(f->arena, "%s/content/blobs/sha256/%s", f->dir, digest_hex(d.text));
	char *text;
	size_t n;

	put(f, "p", "abc");
	assert_int_equal(chmod(p, 0644), 0);
	assert_int_equal(file_write(AT_FDCWD, p, "abd", 3, 0644), 0);
	assert_int_equal(content_read(&f->ctx, f->db, d.text, 10, &text, &n, &f->err),
			 -ERR_DATA_LOSS);
}

static void half_made_ingest_is_gone_after_a_restart(void **state)
{
	struct fix *f = *state;
	struct content_writer *w = open_writer(f, "r", 0, "");
	char *dir;

	assert_ok(content_writer_write(w, "abc", 3, &f->err));
	content_writer_close(w);
	dir = arena_printf(f->arena, "%s/content/ingest/%064d", f->dir, 0);
	assert_int_equal(mkdir(dir, 0755), 0);
	assert_int_equal(count_ingest_dirs(f), 2);
	f->content->ops->free(f->content);
	assert_ok(content_store_local_new(arena_printf(f->arena, "%s/content", f->dir), &f->content,
					  &f->err));
	assert_int_equal(count_ingest_dirs(f), 1);
}

struct seen {
	char topic[64];
	int n;
};

static void on_event(void *arg, const struct event *e)
{
	struct seen *s = arg;

	snprintf(s->topic, sizeof(s->topic), "%s", e->topic);
	s->n++;
}

static void commit_and_delete_are_published(void **state)
{
	struct fix *f = *state;
	struct event_subscription *s;
	struct digest d = sum("abc");
	struct seen seen = {.n = 0};
	const char *filter;

	filter = arena_printf(f->arena, "event.digest==\"%s\"", d.text);
	assert_ok(event_subscribe(f->events, &filter, 1, on_event, &seen, &s, &f->err));
	put(f, "q", "something else");
	assert_int_equal(seen.n, 0);
	put(f, "p", "abc");
	assert_int_equal(seen.n, 1);
	assert_string_equal(seen.topic, "/content/create");
	assert_ok(content_delete(&f->ctx, f->db, d.text, &f->err));
	assert_int_equal(seen.n, 2);
	assert_string_equal(seen.topic, "/content/delete");
	event_unsubscribe(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, fix_setup, fix_teardown)
		T(blob_is_written_committed_and_read),
		T(commit_with_wrong_digest_or_size_keeps_ingest),
		T(closed_ingest_is_resumed_with_its_digest),
		T(another_total_starts_the_ingest_anew),
		T(reference_has_one_writer),
		T(blob_that_comes_while_a_writer_is_opened_is_seen),
		T(ingest_that_is_aborted_while_a_writer_is_opened_is_made_anew),
		T(open_waits_for_a_writer_that_is_being_closed),
		T(truncate_restarts_the_digest),
		T(written_bytes_can_be_read_along),
		T(bytes_that_were_not_digested_are_not_committed),
		T(other_algorithm_is_digested_at_commit),
		T(existing_content_is_not_written_again),
		T(other_namespace_shares_bytes_and_not_records),
		T(shared_writer_that_is_written_gets_data_of_its_own),
		T(isolated_namespaces_share_only_what_is_marked),
		T(lease_gets_ingest_then_blob),
		T(abort_removes_ingest),
		T(ingest_that_is_opened_while_the_last_is_aborted_keeps_its_data),
		T(writer_of_an_aborted_ingest_leaves_the_next_one_alone),
		T(update_touches_labels_only),
		T(put_of_existing_content_merges_labels),
		T(damaged_blob_is_not_read),
		T(half_made_ingest_is_gone_after_a_restart),
		T(commit_and_delete_are_published),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
