/* SPDX-License-Identifier: Apache-2.0 */
/* What overlayfs, native and erofs have in common, run for all; then what the first two do in their
 * own way (test_erofs.c has the third). Where one can not be, native stands in for it. */
#include "util.h"

#include <dirent.h>
#include <pthread.h>

#include "core/erofs.h"
#include "plugins/snapshotter/erofs.h"
#include "plugins/snapshotter/native.h"
#include "plugins/snapshotter/overlayfs.h"

static int overlayfs_start(struct fix *f, const struct overlayfs_options *o)
{
	static const struct overlayfs_options none;

	return overlayfs_new(in(f, "root"), o ? o : &none, &f->sn, &f->err);
}

static int erofs_start(struct fix *f)
{
	static const struct erofs_options none;

	return erofs_new(in(f, "root"), &none, &f->sn, &f->err);
}

static int native_setup(void **state)
{
	struct fix *f = fix_new();

	*state = f;
	assert_ok(native_new(in(f, "root"), &f->sn, &f->err));
	return 0;
}

static int overlayfs_setup(void **state)
{
	struct fix *f = fix_new();

	*state = f;
	if (privileged)
		assert_ok(overlayfs_start(f, NULL));
	else
		assert_ok(native_new(in(f, "root"), &f->sn, &f->err));
	return 0;
}

static int erofs_setup(void **state)
{
	struct fix *f = fix_new();
	bool tar;

	*state = f;
	if (!privileged || erofs_probe(&f->ctx, &tar, NULL) < 0 || erofs_start(f) < 0)
		assert_ok(native_new(in(f, "root"), &f->sn, &f->err));
	return 0;
}

/* The same one again, of the same directory. */
static void restart(struct fix *f)
{
	const char *name = f->sn->name;

	f->sn->ops->free(f->sn);
	f->sn = NULL;
	assert_ok(streq(name, "native")	 ? native_new(in(f, "root"), &f->sn, &f->err)
		  : streq(name, "erofs") ? erofs_start(f)
					 : overlayfs_start(f, NULL));
}

static struct mounts prepare(struct fix *f, enum snapshot_kind kind, const char *key,
			     const char *parent)
{
	struct labels l = {0};
	struct mounts m;

	assert_ok(f->sn->ops->prepare(&f->ctx, f->sn, kind, key, parent, &l, &m, &f->err));
	return m;
}

static void commit(struct fix *f, const char *name, const char *key)
{
	struct labels l = {0};

	assert_ok(f->sn->ops->commit(&f->ctx, f->sn, name, key, "", &l, &f->err));
}

static struct snapshot_info info_of(struct fix *f, const char *key)
{
	struct snapshot_info i;

	assert_ok(f->sn->ops->stat(&f->ctx, f->sn, key, &i, &f->err));
	return i;
}

/* Mounts at "<dir>/mnt". */
static void mount_at(struct fix *f, const struct mounts *m)
{
	const char *target = in(f, "mnt");

	assert_int_equal(mkdir_p(target, 0755), 0);
	for (size_t i = 0; i < m->n; i++) {
		struct mount_spec s = {.type = m->v[i].type,
				       .source = m->v[i].source,
				       .target = m->v[i].target,
				       .options = (char *const *)m->v[i].options,
				       .n_options = m->v[i].n_options};

		assert_ok(mount_spec_mount(&s, target, &f->err));
	}
}

static void unmount(struct fix *f)
{
	assert_ok(mount_unmount_all(in(f, "mnt"), 0, &f->err));
}

static void write_layer(struct fix *f, const char *name, const char *key, const char *parent,
			const char *file)
{
	struct mounts m = prepare(f, SNAPSHOT_ACTIVE, key, parent);

	mount_at(f, &m);
	put_file(in(f, arena_printf(f->arena, "mnt/%s", file)), file);
	unmount(f);
	commit(f, name, key);
}

static size_t count_dirs(struct fix *f)
{
	DIR *d = opendir(in(f, "root/snapshots"));
	size_t n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

static int walk_count(void *arg, const struct snapshot_info *info)
{
	++*(int *)arg;
	return 0;
}

/* How often metadata.db was committed to: the number of its last transaction, of which the two meta
 * pages have one each. */
static uint64_t count_commits(struct fix *f)
{
	uint64_t last = 0, n;
	uint32_t page_size;
	int fd = open(in(f, "root/metadata.db"), O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &page_size, sizeof(page_size), 16 + 8), sizeof(page_size));
	for (int i = 0; i < 2; i++) {
		assert_int_equal(pread(fd, &n, sizeof(n), (off_t)i * page_size + 16 + 48),
				 sizeof(n));
		last = n > last ? n : last;
	}
	close(fd);
	return last;
}

/* ---- All ---- */

static void layers_add_up(void **state)
{
	NEED_ROOT();
	struct fix *f = *state;
	struct mounts m;

	write_layer(f, "l1", "k1", "", "one");
	write_layer(f, "l2", "k2", "l1", "two");
	write_layer(f, "l3", "k3", "l2", "three");
	m = prepare(f, SNAPSHOT_VIEW, "v", "l3");
	mount_at(f, &m);
	assert_true(exists(f, "mnt/one"));
	assert_true(exists(f, "mnt/two"));
	assert_true(exists(f, "mnt/three"));
	assert_int_equal(file_write(AT_FDCWD, in(f, "mnt/x"), "", 0, 0644), -EROFS);
	unmount(f);
	m = prepare(f, SNAPSHOT_ACTIVE, "a", "l3");
	mount_at(f, &m);
	assert_int_equal(unlink(in(f, "mnt/one")), 0);
	unmount(f);
	m = prepare(f, SNAPSHOT_VIEW, "v1", "l1");
	mount_at(f, &m);
	assert_true(exists(f, "mnt/one"));
	assert_false(exists(f, "mnt/two"));
	assert_int_equal(file_write(AT_FDCWD, in(f, "mnt/x"), "", 0, 0644), -EROFS);
	unmount(f);
}

static void mounts_are_the_same_when_asked_again(void **state)
{
	struct fix *f = *state;
	struct mounts m = prepare(f, SNAPSHOT_ACTIVE, "k", ""), again;

	assert_ok(f->sn->ops->mounts(&f->ctx, f->sn, "k", &again, &f->err));
	assert_int_equal(again.n, 1);
	assert_string_equal(m.v->source, again.v->source);
	assert_int_equal(m.v->n_options, again.v->n_options);
	for (size_t i = 0; i < m.v->n_options; i++)
		assert_string_equal(m.v->options[i], again.v->options[i]);
}

static void stat_tells_kind_parent_and_labels(void **state)
{
	struct fix *f = *state;
	struct labels l = {0};
	struct snapshot_info i;
	struct mounts m;

	labels_set(f->arena, &l, "containerd.io/snapshot/a", "b");
	labels_set(f->arena, &l, "containerd.io/snapshot/empty", "");
	assert_ok(f->sn->ops->prepare(&f->ctx, f->sn, SNAPSHOT_ACTIVE, "ns/1/k", "", &l, &m,
				      &f->err));
	i = info_of(f, "ns/1/k");
	assert_int_equal(i.kind, SNAPSHOT_ACTIVE);
	assert_string_equal(i.name, "ns/1/k");
	assert_string_equal(i.parent, "");
	assert_string_equal(labels_get(&i.labels, "containerd.io/snapshot/a"), "b");
	assert_null(labels_get(&i.labels, "containerd.io/snapshot/empty"));
	assert_false(time_is_zero(i.created_at));
	commit(f, "ns/2/l", "ns/1/k");
	i = info_of(f, "ns/2/l");
	assert_int_equal(i.kind, SNAPSHOT_COMMITTED);
	assert_int_equal(i.labels.n, 0); /* those of the commit only */
	prepare(f, SNAPSHOT_VIEW, "ns/3/v", "ns/2/l");
	i = info_of(f, "ns/3/v");
	assert_int_equal(i.kind, SNAPSHOT_VIEW);
	assert_string_equal(i.parent, "ns/2/l");
}

static void errors_say_what_is_wrong(void **state)
{
	struct fix *f = *state;
	struct snapshotter *s = f->sn;
	bool native = streq(s->name, "native");
	struct labels l = {0};
	struct snapshot_usage u;
	struct snapshot_info i;
	struct mounts m;

	prepare(f, SNAPSHOT_ACTIVE, "ns/1/k1", "");
	assert_err(s->ops->prepare(&f->ctx, s, SNAPSHOT_ACTIVE, "k2", "ns/1/k1", &l, &m, &f->err),
		   ERR_INVALID_ARGUMENT,
		   "failed to create snapshot: parent \"ns/1/k1\" is not committed snapshot: "
		   "invalid argument");
	assert_err(s->ops->prepare(&f->ctx, s, SNAPSHOT_ACTIVE, "k2", "none", &l, &m, &f->err),
		   ERR_NOT_FOUND,
		   "failed to create snapshot: missing parent \"none\" bucket: not found");
	assert_err(s->ops->prepare(&f->ctx, s, SNAPSHOT_VIEW, "ns/1/k1", "", &l, &m, &f->err),
		   ERR_ALREADY_EXISTS,
		   "failed to create snapshot: snapshot ns/1/k1: already exists");
	assert_err(s->ops->stat(&f->ctx, s, "none", &i, &f->err), ERR_NOT_FOUND,
		   "snapshot none does not exist: not found");
	commit(f, "c", "ns/1/k1");
	assert_err(s->ops->mounts(&f->ctx, s, "c", &m, &f->err), ERR_FAILED_PRECONDITION,
		   native ? "failed to get snapshot mount: requested snapshot c not active or "
			    "view: failed precondition"
			  : "failed to get active mount: requested snapshot c not active or "
			    "view: failed precondition");
	assert_err(
		s->ops->commit(&f->ctx, s, "d", "c", "", &l, &f->err), ERR_FAILED_PRECONDITION,
		"failed to commit snapshot c: snapshot \"c\" is not active: failed precondition");
	prepare(f, SNAPSHOT_ACTIVE, "k3", "c");
	assert_err(s->ops->commit(&f->ctx, s, "c", "k3", "", &l, &f->err), ERR_ALREADY_EXISTS,
		   "failed to commit snapshot k3: committed snapshot c: already exists");
	assert_err(s->ops->commit(&f->ctx, s, "d", "none", "", &l, &f->err), ERR_NOT_FOUND,
		   "snapshot none does not exist: not found");
	assert_err(s->ops->usage(&f->ctx, s, "none", &u, &f->err), ERR_NOT_FOUND,
		   "snapshot none does not exist: not found");
	assert_err(s->ops->remove(&f->ctx, s, "c", &f->err), ERR_FAILED_PRECONDITION,
		   native ? "failed to remove snapshot: cannot remove snapshot with child: failed "
			    "precondition"
			  : "failed to remove snapshot c: cannot remove snapshot with child: "
			    "failed precondition");
	assert_err(s->ops->remove(&f->ctx, s, "none", &f->err), ERR_NOT_FOUND,
		   native ? "failed to remove snapshot: snapshot none does not exist: not found"
			  : "failed to remove snapshot none: snapshot none does not exist: not "
			    "found");
	/* A failed call leaves no directory behind. */
	assert_ok(s->ops->cleanup(&f->ctx, s, &f->err));
	assert_int_equal(count_dirs(f), 2);
}

static void errors_have_their_kind_without_a_text(void **state)
{
	struct fix *f = *state;
	struct snapshotter *s = f->sn;
	struct labels l = {0};
	struct mounts m;

	prepare(f, SNAPSHOT_ACTIVE, "k", "");
	commit(f, "c", "k");
	assert_int_equal(s->ops->prepare(&f->ctx, s, SNAPSHOT_VIEW, "c", "", &l, &m, NULL),
			 -ERR_ALREADY_EXISTS);
	assert_int_equal(s->ops->mounts(&f->ctx, s, "c", &m, NULL), -ERR_FAILED_PRECONDITION);
	assert_int_equal(s->ops->commit(&f->ctx, s, "d", "c", "", &l, NULL),
			 -ERR_FAILED_PRECONDITION);
	assert_int_equal(s->ops->remove(&f->ctx, s, "none", NULL), -ERR_NOT_FOUND);
}

static void views_are_not_committed(void **state)
{
	struct fix *f = *state;
	struct labels l = {0};

	prepare(f, SNAPSHOT_VIEW, "v", "");
	assert_err(
		f->sn->ops->commit(&f->ctx, f->sn, "c", "v", "", &l, &f->err),
		ERR_FAILED_PRECONDITION,
		"failed to commit snapshot v: snapshot \"v\" is not active: failed precondition");
	assert_int_equal(info_of(f, "v").kind, SNAPSHOT_VIEW);
}

static void a_prepare_that_fails_is_undone(void **state)
{
	struct fix *f = *state;
	struct labels l = {0};
	struct snapshot_info i;
	struct mounts m;

	prepare(f, SNAPSHOT_ACTIVE, "k", "");
	commit(f, "p", "k");
	assert_int_equal(rm_rf(AT_FDCWD, in(f, "root/snapshots/1")), 0);
	assert_int_equal(
		f->sn->ops->prepare(&f->ctx, f->sn, SNAPSHOT_ACTIVE, "c", "p", &l, &m, &f->err),
		-ERR_NOT_FOUND);
	assert_non_null(str_skip(f->err.text, streq(f->sn->name, "native")
						      ? "copying of parent failed: "
						      : "failed to stat parent `"));
	assert_int_equal(f->sn->ops->stat(&f->ctx, f->sn, "c", &i, &f->err), -ERR_NOT_FOUND);
	assert_int_equal(count_dirs(f), 0); /* even where removal waits for cleanup */
	prepare(f, SNAPSHOT_ACTIVE, "c", "");
	assert_true(exists(f, "root/snapshots/3"));
}

static void every_change_is_one_commit_of_the_database(void **state)
{
	struct fix *f = *state;
	struct snapshotter *s = f->sn;
	struct snapshot_info u = {.name = "k"}, i;
	struct labels l = {0};
	struct snapshot_usage usage;
	struct mounts m;
	uint64_t n;
	int walked = 0;

	prepare(f, SNAPSHOT_VIEW, "first", ""); /* and the file is made */
	n = count_commits(f);
	prepare(f, SNAPSHOT_ACTIVE, "k", "");
	assert_int_equal(count_commits(f), n + 1);
	i = info_of(f, "k");
	assert_ok(s->ops->usage(&f->ctx, s, "k", &usage, &f->err));
	assert_ok(s->ops->mounts(&f->ctx, s, "k", &m, &f->err));
	assert_ok(s->ops->walk(&f->ctx, s, walk_count, &walked, &f->err));
	assert_int_equal(walked, 2);
	assert_int_equal(count_commits(f), n + 1);
	assert_ok(s->ops->update(&f->ctx, s, &u, NULL, 0, &i, &f->err));
	assert_int_equal(count_commits(f), n + 2);
	commit(f, "c", "k");
	assert_int_equal(count_commits(f), n + 3);
	assert_int_equal(
		s->ops->prepare(&f->ctx, s, SNAPSHOT_ACTIVE, "first", "c", &l, &m, &f->err),
		-ERR_ALREADY_EXISTS);
	assert_int_equal(s->ops->commit(&f->ctx, s, "d", "c", "", &l, &f->err),
			 -ERR_FAILED_PRECONDITION);
	assert_int_equal(count_commits(f), n + 3);
	assert_ok(s->ops->remove(&f->ctx, s, "c", &f->err));
	assert_int_equal(count_commits(f), n + 4);
	assert_ok(s->ops->cleanup(&f->ctx, s, &f->err));
	assert_int_equal(count_commits(f), n + 4);
}

static void removed_snapshots_can_be_made_again(void **state)
{
	struct fix *f = *state;

	prepare(f, SNAPSHOT_ACTIVE, "k", "");
	commit(f, "p", "k");
	for (int i = 0; i < 3; i++) {
		prepare(f, SNAPSHOT_ACTIVE, "k", "p");
		assert_ok(f->sn->ops->remove(&f->ctx, f->sn, "k", &f->err));
	}
	assert_ok(f->sn->ops->remove(&f->ctx, f->sn, "p", &f->err));
	assert_ok(f->sn->ops->cleanup(&f->ctx, f->sn, &f->err));
	assert_int_equal(count_dirs(f), 0);
}

static void update_changes_labels_under_the_mask(void **state)
{
	struct fix *f = *state;
	struct snapshot_info u = {.name = "k"}, got;
	char *paths[] = {"labels.a"}, *bad[] = {"parent"};

	prepare(f, SNAPSHOT_ACTIVE, "k", "");
	labels_set(f->arena, &u.labels, "a", "1");
	labels_set(f->arena, &u.labels, "b", "2");
	assert_ok(f->sn->ops->update(&f->ctx, f->sn, &u, NULL, 0, &got, &f->err));
	assert_int_equal(got.labels.n, 2);
	labels_set(f->arena, &u.labels, "a", "");
	labels_set(f->arena, &u.labels, "b", "3");
	assert_ok(f->sn->ops->update(&f->ctx, f->sn, &u, paths, 1, &got, &f->err));
	got = info_of(f, "k");
	assert_null(labels_get(&got.labels, "a"));
	assert_string_equal(labels_get(&got.labels, "b"), "2");
	assert_err(f->sn->ops->update(&f->ctx, f->sn, &u, bad, 1, &got, &f->err),
		   ERR_INVALID_ARGUMENT,
		   "cannot update \"parent\" field on snapshot \"k\": invalid argument");
}

static void usage_is_that_of_what_was_written(void **state)
{
	struct fix *f = *state;
	struct snapshot_usage u, v;
	char big[65536];

	memset(big, 'x', sizeof(big));
	prepare(f, SNAPSHOT_ACTIVE, "k", "");
	assert_ok(f->sn->ops->usage(&f->ctx, f->sn, "k", &u, &f->err));
	assert_int_equal(u.inodes, 1);
	assert_int_equal(file_write(AT_FDCWD,
				    in(f, streq(f->sn->name, "native") ? "root/snapshots/1/f"
								       : "root/snapshots/1/fs/f"),
				    big, sizeof(big), 0644),
			 0);
	assert_ok(f->sn->ops->usage(&f->ctx, f->sn, "k", &v, &f->err));
	assert_int_equal(v.inodes, 2);
	assert_true(v.size >= u.size + (int64_t)sizeof(big));
	commit(f, "c", "k");
	assert_ok(f->sn->ops->usage(&f->ctx, f->sn, "c", &u, &f->err));
	assert_int_equal(u.inodes, v.inodes);
	assert_int_equal(u.size, v.size);
	prepare(f, SNAPSHOT_VIEW, "v", "c");
	assert_ok(f->sn->ops->usage(&f->ctx, f->sn, "v", &u, &f->err));
	assert_int_equal(u.size, 0);
}

static int walk_collect(void *arg, const struct snapshot_info *info)
{
	strcat(arg, info->name);
	strcat(arg, " ");
	return streq(info->name, "stop") ? 7 : 0;
}

static void walk_goes_in_key_order_and_stops(void **state)
{
	struct fix *f = *state;
	char out[256] = "";

	assert_int_equal(f->sn->ops->walk(&f->ctx, f->sn, walk_collect, out, &f->err), 0);
	assert_string_equal(out, "");
	prepare(f, SNAPSHOT_ACTIVE, "zz", "");
	prepare(f, SNAPSHOT_ACTIVE, "b", "");
	prepare(f, SNAPSHOT_ACTIVE, "stop", "");
	prepare(f, SNAPSHOT_VIEW, "a", "");
	assert_int_equal(f->sn->ops->walk(&f->ctx, f->sn, walk_collect, out, &f->err), 7);
	assert_string_equal(out, "a b stop ");
}

static void cleanup_takes_leftovers_and_leaves_the_rest(void **state)
{
	struct fix *f = *state;

	prepare(f, SNAPSHOT_ACTIVE, "k", "");
	assert_int_equal(mkdir_p(in(f, "root/snapshots/new-1234/fs/deep/er"), 0700), 0);
	put_file(in(f, "root/snapshots/new-1234/fs/deep/file"), "");
	assert_int_equal(mkdir_p(in(f, "root/snapshots/77/fs"), 0700), 0);
	assert_int_equal(mkdir_p(in(f, "root/snapshots/01"), 0700), 0);
	put_file(in(f, "root/snapshots/stray"), "");
	assert_ok(f->sn->ops->cleanup(&f->ctx, f->sn, &f->err));
	assert_int_equal(count_dirs(f), 1);
	assert_true(exists(f, "root/snapshots/1"));
}

static void leftovers_of_the_next_number_are_in_nobodys_way(void **state)
{
	struct fix *f = *state;

	/* As a daemon leaves them that dies between naming the directory and committing the record.
	 */
	assert_int_equal(mkdir_p(in(f, "root/snapshots/1/fs"), 0700), 0);
	put_file(in(f, "root/snapshots/1/fs/old"), "");
	put_file(in(f, "root/snapshots/1/old"), "");
	prepare(f, SNAPSHOT_ACTIVE, "k", "");
	assert_false(exists(f, "root/snapshots/1/fs/old"));
	assert_false(exists(f, "root/snapshots/1/old"));
	assert_ok(f->sn->ops->cleanup(&f->ctx, f->sn, &f->err));
	assert_int_equal(count_dirs(f), 1);
}

static void record_without_directory_can_be_removed(void **state)
{
	struct fix *f = *state;
	struct snapshot_usage u;

	/* As a crash leaves it between committing the record and naming the directory. */
	prepare(f, SNAPSHOT_ACTIVE, "k", "");
	assert_int_equal(rm_rf(AT_FDCWD, in(f, "root/snapshots/1")), 0);
	assert_int_equal(f->sn->ops->usage(&f->ctx, f->sn, "k", &u, &f->err), -ERR_NOT_FOUND);
	assert_ok(f->sn->ops->cleanup(&f->ctx, f->sn, &f->err));
	assert_ok(f->sn->ops->remove(&f->ctx, f->sn, "k", &f->err));
	prepare(f, SNAPSHOT_ACTIVE, "k", "");
	assert_true(exists(f, "root/snapshots/2")); /* numbers are not given twice */
}

static void records_outlive_the_snapshotter(void **state)
{
	struct fix *f = *state;
	struct mounts m;

	prepare(f, SNAPSHOT_ACTIVE, "k", "");
	commit(f, "c", "k");
	restart(f);
	m = prepare(f, SNAPSHOT_ACTIVE, "k2", "c");
	assert_non_null(m.v);
	assert_true(exists(f, "root/snapshots/2"));
}

#define THREADS 8
#define ROUNDS 12

struct worker {
	struct fix *f;
	pthread_t thread;
	int n;
	int failed;
	struct err err;
};

static void *work(void *arg)
{
	struct worker *w = arg;
	struct snapshotter *s = w->f->sn;
	_cleanup_arena_ struct arena *a = arena_new(0);
	struct ctx ctx = {.arena = a, .ns = "default", .lease = ""};

	for (int i = 0; i < ROUNDS && !w->failed; i++) {
		char *key = arena_printf(a, "key-%d-%d", w->n, i),
		     *name = arena_printf(a, "name-%d-%d", w->n, i);
		struct labels l = {0};
		struct mounts m;

		w->failed = s->ops->prepare(&ctx, s, SNAPSHOT_ACTIVE, key, "base", &l, &m, &w->err);
		/* Everybody fails once a round, with the same key. */
		if (!w->failed && s->ops->prepare(&ctx, s, SNAPSHOT_VIEW, "base", "", &l, &m,
						  NULL) != -ERR_ALREADY_EXISTS)
			w->failed = -ERR_UNKNOWN;
		if (!w->failed && i % 3 == 0)
			w->failed = s->ops->commit(&ctx, s, name, key, "", &l, &w->err);
		else if (!w->failed && i % 3 == 1)
			w->failed = s->ops->remove(&ctx, s, key, &w->err);
		if (!w->failed && i % 4 == 0)
			w->failed = s->ops->cleanup(&ctx, s, &w->err);
	}
	return NULL;
}

static void eight_threads_do_not_get_into_each_others_way(void **state)
{
	struct fix *f = *state;
	struct worker w[THREADS] = {0};
	int n = 0;

	prepare(f, SNAPSHOT_ACTIVE, "k", "");
	commit(f, "base", "k");
	for (int i = 0; i < THREADS; i++) {
		w[i].f = f;
		w[i].n = i;
		assert_int_equal(pthread_create(&w[i].thread, NULL, work, &w[i]), 0);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(w[i].thread, NULL);
	for (int i = 0; i < THREADS; i++)
		if (w[i].failed)
			fail_msg("thread %d: %s", i, w[i].err.text);
	assert_ok(f->sn->ops->walk(&f->ctx, f->sn, walk_count, &n, &f->err));
	assert_int_equal(n, 1 + THREADS * (ROUNDS - ROUNDS / 3));
	assert_ok(f->sn->ops->cleanup(&f->ctx, f->sn, &f->err));
	assert_int_equal(count_dirs(f), n);
}

/* ---- overlayfs ---- */

static bool has_option(const struct mount *m, const char *option)
{
	for (size_t i = 0; i < m->n_options; i++)
		if (streq(m->options[i], option))
			return true;
	return false;
}

static void overlay_mounts_follow_the_table(void **state)
{
	NEED_ROOT();
	struct fix *f = *state;
	const char *r = in(f, "root/snapshots");
	struct mounts m;

	m = prepare(f, SNAPSHOT_ACTIVE, "a", "");
	assert_string_equal(m.v->type, "bind");
	assert_string_equal(m.v->source, arena_printf(f->arena, "%s/1/fs", r));
	assert_int_equal(m.v->n_options, 2);
	assert_string_equal(m.v->options[0], "rw");
	assert_string_equal(m.v->options[1], "rbind");
	assert_true(exists(f, "root/snapshots/1/work"));
	commit(f, "p1", "a");
	m = prepare(f, SNAPSHOT_VIEW, "v0", "");
	assert_string_equal(m.v->options[0], "ro");
	assert_false(exists(f, "root/snapshots/2/work"));
	m = prepare(f, SNAPSHOT_VIEW, "v1", "p1");
	assert_string_equal(m.v->type, "bind");
	assert_string_equal(m.v->source, arena_printf(f->arena, "%s/1/fs", r));
	assert_string_equal(m.v->options[0], "ro");
	m = prepare(f, SNAPSHOT_ACTIVE, "b", "p1"); /* 4 */
	assert_string_equal(m.v->type, "overlay");
	assert_string_equal(m.v->source, "overlay");
	assert_string_equal(m.v->options[0], arena_printf(f->arena, "workdir=%s/4/work", r));
	assert_string_equal(m.v->options[1], arena_printf(f->arena, "upperdir=%s/4/fs", r));
	assert_string_equal(m.v->options[2], arena_printf(f->arena, "lowerdir=%s/1/fs", r));
	assert_int_equal(has_option(m.v, "index=off"),
			 access("/sys/module/overlay/parameters/index", F_OK) == 0);
	commit(f, "p2", "b");
	m = prepare(f, SNAPSHOT_VIEW, "v2", "p2");
	assert_string_equal(m.v->type, "overlay");
	assert_string_equal(m.v->options[0],
			    arena_printf(f->arena, "lowerdir=%s/4/fs:%s/1/fs", r, r));
}

static void overlay_directories_have_their_modes(void **state)
{
	NEED_ROOT();
	struct fix *f = *state;
	struct stat st;

	umask(077);
	prepare(f, SNAPSHOT_ACTIVE, "a", "");
	umask(022);
	assert_int_equal(stat(in(f, "root"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(stat(in(f, "root/snapshots"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(stat(in(f, "root/snapshots/1"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(stat(in(f, "root/snapshots/1/fs"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	assert_int_equal(stat(in(f, "root/snapshots/1/work"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0711);
	assert_int_equal(stat(in(f, "root/metadata.db"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
}

static void overlay_top_looks_like_the_parents(void **state)
{
	NEED_ROOT();
	struct fix *f = *state;
	struct stat st;

	prepare(f, SNAPSHOT_ACTIVE, "a", "");
	assert_int_equal(chown(in(f, "root/snapshots/1/fs"), 12, 34), 0);
	assert_int_equal(chmod(in(f, "root/snapshots/1/fs"), 01777), 0);
	commit(f, "p", "a");
	prepare(f, SNAPSHOT_ACTIVE, "b", "p");
	assert_int_equal(stat(in(f, "root/snapshots/2/fs"), &st), 0);
	assert_int_equal(st.st_uid, 12);
	assert_int_equal(st.st_gid, 34);
	assert_int_equal(st.st_mode & 07777, 01777);
}

static void overlay_maps_ids_by_label(void **state)
{
	NEED_ROOT();
	struct fix *f = *state;
	struct labels l = {0};
	struct mounts m;
	struct stat st;

	labels_set(f->arena, &l, "containerd.io/snapshot/uidmapping", "0:1000:10");
	labels_set(f->arena, &l, "containerd.io/snapshot/gidmapping", "20:1:1,0:2000:10");
	write_layer(f, "p1", "k1", "", "one");
	write_layer(f, "p2", "k2", "p1", "two");
	assert_ok(f->sn->ops->prepare(&f->ctx, f->sn, SNAPSHOT_ACTIVE, "a", "p2", &l, &m, &f->err));
	assert_int_equal(stat(in(f, "root/snapshots/3/fs"), &st), 0);
	assert_int_equal(st.st_uid, 1000);
	assert_int_equal(st.st_gid, 2000);
	if (!overlayfs_remaps_ids(f->sn))
		skip();
	assert_string_equal(m.v->options[0], "uidmap=0:1000:10");
	assert_string_equal(m.v->options[1], "gidmap=20:1:1,0:2000:10");
	mount_at(f, &m);
	assert_int_equal(stat(in(f, "mnt/one"), &st), 0);
	assert_int_equal(st.st_uid, 1000);
	assert_int_equal(st.st_gid, 2000);
	unmount(f);
}

static void overlay_options_and_label_are_added(void **state)
{
	NEED_ROOT();
	struct fix *f = *state;
	char *extra[] = {"redirect_dir=off", "index=on"};
	struct overlayfs_options o = {.upperdir_label = true,
				      .sync_remove = true,
				      .mount_options = extra,
				      .n_mount_options = 2};
	struct snapshot_info i;
	struct mounts m;

	f->sn->ops->free(f->sn);
	assert_ok(overlayfs_start(f, &o));
	prepare(f, SNAPSHOT_ACTIVE, "a", "");
	commit(f, "p", "a");
	m = prepare(f, SNAPSHOT_ACTIVE, "b", "p");
	assert_string_equal(m.v->options[3], "redirect_dir=off");
	assert_string_equal(m.v->options[4], "index=on");
	assert_false(has_option(m.v, "index=off"));
	i = info_of(f, "b");
	assert_string_equal(labels_get(&i.labels, "containerd.io/snapshot/overlay.upperdir"),
			    in(f, "root/snapshots/2/fs"));
	assert_ok(f->sn->ops->remove(&f->ctx, f->sn, "b", &f->err));
	assert_int_equal(count_dirs(f), 1); /* sync_remove */
}

static int walk_labels(void *arg, const struct snapshot_info *info)
{
	const char *path = labels_get(&info->labels, "containerd.io/snapshot/overlay.upperdir");

	strcat(arg, path ? path : "-");
	strcat(arg, " ");
	return 0;
}

static void overlay_label_is_told_and_not_kept(void **state)
{
	NEED_ROOT();
	const struct overlayfs_options o = {.upperdir_label = true};
	struct snapshot_info i, u = {.name = "b"};
	struct fix *f = *state;
	char out[256] = "";

	f->sn->ops->free(f->sn);
	assert_ok(overlayfs_start(f, &o));
	prepare(f, SNAPSHOT_ACTIVE, "a", "");
	prepare(f, SNAPSHOT_VIEW, "b", "");
	labels_set(f->arena, &u.labels, "x", "y");
	assert_ok(f->sn->ops->update(&f->ctx, f->sn, &u, NULL, 0, &i, &f->err));
	assert_int_equal(i.labels.n, 2);
	assert_string_equal(labels_get(&i.labels, "x"), "y");
	assert_string_equal(labels_get(&i.labels, "containerd.io/snapshot/overlay.upperdir"),
			    in(f, "root/snapshots/2/fs"));
	assert_ok(f->sn->ops->walk(&f->ctx, f->sn, walk_labels, out, &f->err));
	assert_string_equal(out, arena_printf(f->arena, "%s %s ", in(f, "root/snapshots/1/fs"),
					      in(f, "root/snapshots/2/fs")));
	restart(f); /* without the option */
	i = info_of(f, "b");
	assert_int_equal(i.labels.n, 1);
	out[0] = 0;
	assert_ok(f->sn->ops->walk(&f->ctx, f->sn, walk_labels, out, &f->err));
	assert_string_equal(out, "- - ");
}

static void overlay_removal_waits_for_cleanup(void **state)
{
	NEED_ROOT();
	struct fix *f = *state;

	prepare(f, SNAPSHOT_ACTIVE, "a", "");
	assert_ok(f->sn->ops->remove(&f->ctx, f->sn, "a", &f->err));
	assert_true(exists(f, "root/snapshots/1/fs"));
	assert_ok(f->sn->ops->cleanup(&f->ctx, f->sn, &f->err));
	assert_int_equal(count_dirs(f), 0);
}

static void overlay_commit_can_set_the_parent(void **state)
{
	NEED_ROOT();
	struct fix *f = *state;
	struct labels l = {0};
	struct snapshot_info i;
	struct mounts m;
	struct stat st;

	assert_true(f->sn->can_rebase);
	write_layer(f, "p1", "k1", "", "one");
	assert_int_equal(chown(in(f, "root/snapshots/1/fs"), 12, 34), 0);
	assert_int_equal(chmod(in(f, "root/snapshots/1/fs"), 01777), 0);
	m = prepare(f, SNAPSHOT_ACTIVE, "k2", "");
	mount_at(f, &m);
	put_file(in(f, "mnt/two"), "");
	unmount(f);
	assert_ok(f->sn->ops->commit(&f->ctx, f->sn, "p2", "k2", "p1", &l, &f->err));
	i = info_of(f, "p2");
	assert_string_equal(i.parent, "p1");
	assert_int_equal(stat(in(f, "root/snapshots/2/fs"), &st), 0);
	assert_int_equal(st.st_uid, 12);
	assert_int_equal(st.st_gid, 34);
	assert_int_equal(st.st_mode & 07777, 01777);
	assert_int_equal(f->sn->ops->remove(&f->ctx, f->sn, "p1", &f->err),
			 -ERR_FAILED_PRECONDITION);
	m = prepare(f, SNAPSHOT_VIEW, "v", "p2");
	mount_at(f, &m);
	assert_true(exists(f, "mnt/one"));
	assert_true(exists(f, "mnt/two"));
	unmount(f);
	prepare(f, SNAPSHOT_ACTIVE, "k3", "p2");
	assert_int_equal(f->sn->ops->commit(&f->ctx, f->sn, "p3", "k3", "p1", &l, &f->err),
			 -ERR_INVALID_ARGUMENT);
	assert_ok(f->sn->ops->commit(&f->ctx, f->sn, "p3", "k3", "p2", &l, &f->err));
	prepare(f, SNAPSHOT_ACTIVE, "k4", "");
	assert_err(f->sn->ops->commit(&f->ctx, f->sn, "p4", "k4", "none", &l, &f->err),
		   ERR_NOT_FOUND, "snapshot none does not exist: not found");
}

static void overlay_with_150_layers_mounts(void **state)
{
	NEED_ROOT();
	struct fix *f = *state;
	const char *parent = "";
	struct mounts m;

	for (int i = 1; i <= 150; i++) {
		char *name = arena_printf(f->arena, "layer-%d", i);

		prepare(f, SNAPSHOT_ACTIVE, "k", parent);
		put_file(in(f, arena_printf(f->arena, "root/snapshots/%d/fs/f%d", i, i)), "");
		commit(f, name, "k");
		parent = name;
	}
	m = prepare(f, SNAPSHOT_ACTIVE, "top", parent);
	mount_at(f, &m);
	for (int i = 1; i <= 150; i++)
		assert_true(exists(f, arena_printf(f->arena, "mnt/f%d", i)));
	put_file(in(f, "mnt/new"), "");
	unmount(f);
}

/* ---- native ---- */

static void native_mounts_are_binds(void **state)
{
	struct fix *f = *state;
	struct mounts m = prepare(f, SNAPSHOT_ACTIVE, "a", "");
	struct stat st;

	assert_string_equal(m.v->type, "bind");
	assert_string_equal(m.v->source, in(f, "root/snapshots/1"));
	assert_string_equal(m.v->options[0], "rbind");
	assert_string_equal(m.v->options[1], "rw");
	assert_int_equal(stat(in(f, "root/snapshots/1"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	commit(f, "p", "a");
	m = prepare(f, SNAPSHOT_VIEW, "v", "p");
	assert_string_equal(m.v->source, in(f, "root/snapshots/1"));
	assert_string_equal(m.v->options[1], "ro");
	assert_false(exists(f, "root/snapshots/2"));
	assert_ok(f->sn->ops->remove(&f->ctx, f->sn, "v", &f->err));
	assert_true(exists(f, "root/snapshots/1"));
	m = prepare(f, SNAPSHOT_ACTIVE, "b", "p");
	assert_string_equal(m.v->source, in(f, "root/snapshots/3"));
	assert_ok(f->sn->ops->remove(&f->ctx, f->sn, "b", &f->err));
	assert_false(exists(f, "root/snapshots/3"));
}

static void native_does_not_rebase(void **state)
{
	struct fix *f = *state;
	struct labels l = {0};

	assert_false(f->sn->can_rebase);
	prepare(f, SNAPSHOT_ACTIVE, "a", "");
	commit(f, "p", "a");
	prepare(f, SNAPSHOT_ACTIVE, "b", "");
	assert_err(f->sn->ops->commit(&f->ctx, f->sn, "c", "b", "p", &l, &f->err),
		   ERR_INVALID_ARGUMENT,
		   "native snapshotter can not move snapshot b to parent \"p\": invalid argument");
	prepare(f, SNAPSHOT_VIEW, "v", ""); /* the parent is looked at first */
	assert_err(f->sn->ops->commit(&f->ctx, f->sn, "c", "v", "p", &l, &f->err),
		   ERR_INVALID_ARGUMENT,
		   "native snapshotter can not move snapshot v to parent \"p\": invalid argument");
	prepare(f, SNAPSHOT_ACTIVE, "d", "p"); /* the parent it has is fine */
	assert_ok(f->sn->ops->commit(&f->ctx, f->sn, "c", "d", "p", &l, &f->err));
}

static void canceled_copy_leaves_nothing(void **state)
{
	struct fix *f = *state;
	struct labels l = {0};
	struct mounts m;

	prepare(f, SNAPSHOT_ACTIVE, "a", "");
	for (int i = 0; i < 600; i++)
		put_file(in(f, arena_printf(f->arena, "root/snapshots/1/%d", i)), "");
	commit(f, "p", "a");
	f->ctx.canceled = true;
	assert_int_equal(
		f->sn->ops->prepare(&f->ctx, f->sn, SNAPSHOT_ACTIVE, "b", "p", &l, &m, &f->err),
		-ERR_CANCELED);
	f->ctx.canceled = false;
	assert_int_equal(count_dirs(f), 1);
	prepare(f, SNAPSHOT_ACTIVE, "b", "p");
}

#define BOTH(t)                                                    \
	{"overlayfs " #t, t, overlayfs_setup, fix_teardown, NULL}, \
	{                                                          \
		"native " #t, t, native_setup, fix_teardown, NULL  \
	}
#define ALL(t)                                                  \
	BOTH(t),                                                \
	{                                                       \
		"erofs " #t, t, erofs_setup, fix_teardown, NULL \
	}
#define OVERLAYFS(t) cmocka_unit_test_setup_teardown(t, overlayfs_setup, fix_teardown)
#define NATIVE(t) cmocka_unit_test_setup_teardown(t, native_setup, fix_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(layers_add_up),
		ALL(mounts_are_the_same_when_asked_again),
		ALL(stat_tells_kind_parent_and_labels),
		ALL(errors_say_what_is_wrong),
		ALL(errors_have_their_kind_without_a_text),
		ALL(views_are_not_committed),
		ALL(a_prepare_that_fails_is_undone),
		ALL(every_change_is_one_commit_of_the_database),
		ALL(removed_snapshots_can_be_made_again),
		ALL(update_changes_labels_under_the_mask),
		BOTH(usage_is_that_of_what_was_written),
		ALL(walk_goes_in_key_order_and_stops),
		ALL(cleanup_takes_leftovers_and_leaves_the_rest),
		ALL(leftovers_of_the_next_number_are_in_nobodys_way),
		ALL(record_without_directory_can_be_removed),
		ALL(records_outlive_the_snapshotter),
		ALL(eight_threads_do_not_get_into_each_others_way),
		OVERLAYFS(overlay_mounts_follow_the_table),
		OVERLAYFS(overlay_directories_have_their_modes),
		OVERLAYFS(overlay_top_looks_like_the_parents),
		OVERLAYFS(overlay_maps_ids_by_label),
		OVERLAYFS(overlay_options_and_label_are_added),
		OVERLAYFS(overlay_label_is_told_and_not_kept),
		OVERLAYFS(overlay_removal_waits_for_cleanup),
		OVERLAYFS(overlay_commit_can_set_the_parent),
		OVERLAYFS(overlay_with_150_layers_mounts),
		NATIVE(native_mounts_are_binds),
		NATIVE(native_does_not_rebase),
		NATIVE(canceled_copy_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, group_setup, NULL);
}
