/* SPDX-License-Identifier: Apache-2.0 */
#include "core/lease.h"
#include "fake_snapshotter.h"

static int prepare(struct fix *f, const char *key, const char *parent, const struct labels *l)
{
	struct mounts m;

	f->err = ERR_INIT;
	return snapshot_prepare(&f->ctx, f->db, "fake", SNAPSHOT_ACTIVE, key, parent, l, &m,
				&f->err);
}

static int commit(struct fix *f, const char *name, const char *key, const char *parent,
		  const struct labels *l)
{
	f->err = ERR_INIT;
	return snapshot_commit(&f->ctx, f->db, "fake", name, key, parent, l, &f->err);
}

static void snapshot_lives_from_prepare_to_remove(void **state)
{
	struct fix *f = *state;
	struct fake s;
	struct labels given = make_labels(f->arena, "mine", "1", "containerd.io/snapshot/x", "2",
					  "containerd.io/snapshot.ref", "layer", NULL);
	struct snapshot_info i, *all;
	struct mounts m;
	size_t n;

	fake_init(&s, f);
	assert_ok(prepare(f, "a", "", NULL));
	assert_string_equal(s.v[0].name, "default/1/a");
	assert_ok(commit(f, "layer", "a", "", &given));
	assert_string_equal(s.v[0].name, "default/2/layer");
	assert_int_equal(s.v[0].labels.n, 2);
	assert_ok(prepare(f, "b", "layer", NULL));
	assert_string_equal(s.v[1].parent, "default/2/layer");
	assert_ok(snapshot_stat(&f->ctx, f->db, "fake", "layer", &i, &f->err));
	assert_int_equal(i.kind, SNAPSHOT_COMMITTED);
	assert_string_equal(i.name, "layer");
	assert_string_equal(labels_get(&i.labels, "mine"), "1");
	assert_ok(snapshot_stat(&f->ctx, f->db, "fake", "b", &i, &f->err));
	assert_string_equal(i.parent, "layer");
	assert_ok(snapshot_mounts(&f->ctx, f->db, "fake", "b", &m, &f->err));
	assert_string_equal(m.v[0].source, "default/3/b");
	assert_ok(snapshot_list(&f->ctx, f->db, "fake", NULL, &all, &n, &f->err));
	assert_int_equal(n, 2);
	assert_err(snapshot_remove(&f->ctx, f->db, "fake", "layer", &f->err),
		   ERR_FAILED_PRECONDITION,
		   "cannot remove snapshot with child: failed precondition");
	assert_ok(snapshot_remove(&f->ctx, f->db, "fake", "b", &f->err));
	assert_ok(snapshot_remove(&f->ctx, f->db, "fake", "layer", &f->err));
	assert_err(snapshot_remove(&f->ctx, f->db, "fake", "layer", &f->err), ERR_NOT_FOUND,
		   "snapshot layer does not exist: not found");
	/* The back end is the collector's. */
	assert_int_equal(s.n, 2);
}

static void snapshotter_must_be_known(void **state)
{
	struct fix *f = *state;
	struct snapshot_info i;

	assert_err(snapshot_stat(&f->ctx, f->db, "", "k", &i, &f->err), ERR_INVALID_ARGUMENT,
		   "snapshotter argument missing: invalid argument");
	assert_err(snapshot_stat(&f->ctx, f->db, "zfs", "k", &i, &f->err), ERR_INVALID_ARGUMENT,
		   "snapshotter not loaded: zfs: invalid argument");
}

static void prepare_refuses_what_can_not_be(void **state)
{
	struct fix *f = *state;
	struct fake s;

	fake_init(&s, f);
	assert_ok(prepare(f, "a", "", NULL));
	assert_err(prepare(f, "a", "", NULL), ERR_ALREADY_EXISTS, "snapshot \"a\": already exists");
	assert_err(prepare(f, "b", "x", NULL), ERR_NOT_FOUND,
		   "parent snapshot x does not exist: not found");
	assert_err(prepare(f, "b", "a", NULL), ERR_INVALID_ARGUMENT,
		   "failed to create snapshot: parent \"default/1/a\" is not committed snapshot: "
		   "invalid argument");
	assert_int_equal(prepare(f, "", "", NULL), -ERR_INVALID_ARGUMENT);
	f->ctx.lease = "none";
	assert_err(prepare(f, "b", "", NULL), ERR_NOT_FOUND, "lease does not exist: not found");
	assert_int_equal(s.n, 1);
}

static void keys_are_a_namespace_s_own(void **state)
{
	struct fix *f = *state;
	struct fake s;

	fake_init(&s, f);
	assert_ok(prepare(f, "a", "", NULL));
	f->ctx.ns = "other";
	assert_ok(prepare(f, "a", "", NULL));
	assert_non_null(fake_find(&s, "other/1/a"));
}

static void target_that_exists_is_reported_and_leased(void **state)
{
	struct fix *f = *state;
	struct labels ref = make_labels(f->arena, "containerd.io/snapshot.ref", "layer", NULL);
	struct lease_resource *r;
	struct lease l;
	struct fake s;
	size_t n;

	fake_init(&s, f);
	assert_ok(prepare(f, "a", "", &ref));
	assert_ok(commit(f, "layer", "a", "", NULL));
	assert_ok(lease_create(&f->ctx, f->db, "l", NULL, &l, &f->err));
	f->ctx.lease = "l";
	assert_err(prepare(f, "b", "", &ref), ERR_ALREADY_EXISTS,
		   "target snapshot \"layer\": already exists");
	assert_ok(lease_list_resources(&f->ctx, f->db, "l", &r, &n, &f->err));
	assert_int_equal(n, 1);
	assert_string_equal(r[0].id, "layer");
	assert_string_equal(r[0].type, "snapshots/fake");
}

static void target_in_the_back_end_is_linked(void **state)
{
	struct fix *f = *state;
	struct labels ref = make_labels(f->arena, "containerd.io/snapshot.ref", "layer", NULL);
	struct snapshot_info i;
	struct fake s;

	fake_init(&s, f);
	fake_add(&s, SNAPSHOT_COMMITTED, "remote-1", "", &ref);
	s.fail_prepare_exists = true;
	assert_err(prepare(f, "a", "", &ref), ERR_ALREADY_EXISTS,
		   "target snapshot \"layer\": already exists");
	assert_ok(snapshot_stat(&f->ctx, f->db, "fake", "layer", &i, &f->err));
	assert_int_equal(i.kind, SNAPSHOT_COMMITTED);
	ref = make_labels(f->arena, "containerd.io/snapshot.ref", "unknown", NULL);
	assert_err(prepare(f, "b", "", &ref), ERR_ALREADY_EXISTS,
		   "snapshot default/2/b: already exists");
}

/* A daemon that ended between its back end's work and its own record left it. */
static void name_that_the_back_end_has_without_a_record_is_passed_over(void **state)
{
	struct fix *f = *state;
	struct fake s;

	fake_init(&s, f);
	fake_add(&s, SNAPSHOT_ACTIVE, "default/1/a", "", NULL);
	fake_add(&s, SNAPSHOT_ACTIVE, "default/2/a", "", NULL);
	assert_ok(prepare(f, "a", "", NULL));
	assert_non_null(fake_find(&s, "default/3/a"));
	assert_ok(prepare(f, "b", "", NULL));
	assert_non_null(fake_find(&s, "default/4/b"));
}

static void name_without_a_record_is_not_taken_for_the_target(void **state)
{
	struct fix *f = *state;
	struct labels ref = make_labels(f->arena, "containerd.io/snapshot.ref", "layer", NULL);
	struct snapshot_info i;
	struct fake s;

	fake_init(&s, f);
	fake_add(&s, SNAPSHOT_ACTIVE, "default/1/a", "", NULL);
	assert_ok(prepare(f, "a", "", &ref));
	assert_non_null(fake_find(&s, "default/2/a"));
	/* Both: the name, and then the target. */
	fake_add(&s, SNAPSHOT_ACTIVE, "default/3/b", "", NULL);
	fake_add(&s, SNAPSHOT_COMMITTED, "remote-1", "", &ref);
	s.fail_prepare_exists = true;
	assert_err(prepare(f, "b", "", &ref), ERR_ALREADY_EXISTS,
		   "target snapshot \"layer\": already exists");
	assert_ok(snapshot_stat(&f->ctx, f->db, "fake", "layer", &i, &f->err));
	assert_int_equal(i.kind, SNAPSHOT_COMMITTED);
}

/* As above, of a commit. */
static void name_without_a_record_does_not_keep_from_committing(void **state)
{
	struct fix *f = *state;
	struct snapshot_info i;
	struct fake s;

	fake_init(&s, f);
	for (int slow = 0; slow < 2; slow++) {
		const char *key = slow ? "b" : "a", *name = slow ? "slow" : "quick";

		s.base.slow_commit = slow;
		assert_ok(prepare(f, key, "", NULL));
		for (int n = 1; n <= (slow ? 20 : 6); n++)
			fake_add(&s, SNAPSHOT_COMMITTED,
				 arena_printf(f->arena, "default/%d/%s", n, name), "", NULL);
		assert_ok(commit(f, name, key, "", NULL));
		assert_non_null(fake_find(
			&s, arena_printf(f->arena, "default/%d/%s", slow ? 21 : 7, name)));
		assert_ok(snapshot_stat(&f->ctx, f->db, "fake", name, &i, &f->err));
		assert_int_equal(i.kind, SNAPSHOT_COMMITTED);
		assert_err(commit(f, name, key, "", NULL), ERR_ALREADY_EXISTS,
			   arena_printf(f->arena, "snapshot \"%s\": already exists", name));
	}
}

static void commit_refuses_what_can_not_be(void **state)
{
	struct fix *f = *state;
	struct snapshot_info i;
	struct mounts m;
	struct fake s;

	fake_init(&s, f);
	assert_ok(prepare(f, "a", "", NULL));
	assert_ok(commit(f, "layer", "a", "", NULL));
	assert_err(commit(f, "layer2", "a", "", NULL), ERR_NOT_FOUND,
		   "snapshot a does not exist: not found");
	assert_ok(prepare(f, "a", "layer", NULL));
	assert_err(commit(f, "layer", "a", "", NULL), ERR_ALREADY_EXISTS,
		   "snapshot \"layer\": already exists");
	assert_int_equal(commit(f, "x", "a", "other", NULL), -ERR_INVALID_ARGUMENT);
	assert_ok(snapshot_prepare(&f->ctx, f->db, "fake", SNAPSHOT_VIEW, "v", "layer", NULL, &m,
				   &f->err));
	assert_int_equal(commit(f, "y", "v", "", NULL), -ERR_FAILED_PRECONDITION);
	/* What failed left no trace. */
	assert_ok(snapshot_stat(&f->ctx, f->db, "fake", "v", &i, &f->err));
	assert_int_equal(snapshot_stat(&f->ctx, f->db, "fake", "y", &i, &f->err), -ERR_NOT_FOUND);
}

static void commit_may_give_a_parent_to_what_has_none(void **state)
{
	struct fix *f = *state;
	struct snapshot_info i;
	struct fake s;

	fake_init(&s, f);
	assert_ok(prepare(f, "a", "", NULL));
	assert_ok(commit(f, "base", "a", "", NULL));
	assert_ok(prepare(f, "b", "", NULL));
	assert_ok(commit(f, "top", "b", "base", NULL));
	assert_ok(snapshot_stat(&f->ctx, f->db, "fake", "top", &i, &f->err));
	assert_string_equal(i.parent, "base");
	assert_int_equal(snapshot_remove(&f->ctx, f->db, "fake", "base", &f->err),
			 -ERR_FAILED_PRECONDITION);
	s.base.can_rebase = false;
	assert_ok(prepare(f, "c", "", NULL));
	assert_int_equal(commit(f, "d", "c", "base", NULL), -ERR_UNIMPLEMENTED);
}

static void lease_follows_the_commit(void **state)
{
	struct fix *f = *state;
	struct lease_resource *r;
	struct lease l;
	struct fake s;
	size_t n;

	fake_init(&s, f);
	assert_ok(lease_create(&f->ctx, f->db, "l", NULL, &l, &f->err));
	f->ctx.lease = "l";
	assert_ok(prepare(f, "a", "", NULL));
	assert_ok(lease_list_resources(&f->ctx, f->db, "l", &r, &n, &f->err));
	assert_string_equal(r[0].id, "a");
	assert_ok(commit(f, "layer", "a", "", NULL));
	assert_ok(lease_list_resources(&f->ctx, f->db, "l", &r, &n, &f->err));
	assert_int_equal(n, 1);
	assert_string_equal(r[0].id, "layer");
}

static void update_touches_labels_only(void **state)
{
	struct fix *f = *state;
	struct snapshot_info in = {.name = "a"}, got;
	char *path[] = {"labels.containerd.io/snapshot/x"}, *bad[] = {"parent"};
	struct fake s;

	fake_init(&s, f);
	assert_ok(prepare(f, "a", "", NULL));
	in.labels = make_labels(f->arena, "containerd.io/snapshot/x", "1", "mine", "2", NULL);
	assert_ok(snapshot_update(&f->ctx, f->db, "fake", &in, path, 1, &got, &f->err));
	assert_int_equal(got.labels.n, 1);
	assert_int_equal(s.v[0].labels.n, 1);
	assert_ok(snapshot_update(&f->ctx, f->db, "fake", &in, NULL, 0, &got, &f->err));
	assert_int_equal(got.labels.n, 2);
	assert_int_equal(s.v[0].labels.n, 1);
	assert_err(snapshot_update(&f->ctx, f->db, "fake", &in, bad, 1, &got, &f->err),
		   ERR_INVALID_ARGUMENT,
		   "cannot update \"parent\" field on snapshot \"a\": invalid argument");
}

static void list_is_filtered_and_skips_what_the_back_end_lost(void **state)
{
	struct fix *f = *state;
	const char *text = "kind==committed";
	struct snapshot_info *all;
	struct filter *filter;
	struct fake s;
	size_t n;

	fake_init(&s, f);
	assert_ok(prepare(f, "a", "", NULL));
	assert_ok(commit(f, "layer", "a", "", NULL));
	assert_ok(prepare(f, "b", "", NULL));
	assert_ok(prepare(f, "c", "", NULL));
	s.n--;
	assert_ok(snapshot_list(&f->ctx, f->db, "fake", NULL, &all, &n, &f->err));
	assert_int_equal(n, 2);
	assert_ok(filter_parse(f->arena, &text, 1, &filter, &f->err));
	assert_ok(snapshot_list(&f->ctx, f->db, "fake", filter, &all, &n, &f->err));
	assert_int_equal(n, 1);
	assert_string_equal(all[0].name, "layer");
}

struct seen {
	char text[256];
};

static void on_event(void *arg, const struct event *e)
{
	struct seen *s = arg;

	strncat(s->text, e->topic, sizeof(s->text) - strlen(s->text) - 1);
}

static void changes_are_published_and_views_are_not(void **state)
{
	struct fix *f = *state;
	struct event_subscription *sub;
	struct seen seen = {""};
	struct mounts m;
	struct fake s;

	fake_init(&s, f);
	assert_ok(event_subscribe(f->events, NULL, 0, on_event, &seen, &sub, &f->err));
	assert_ok(prepare(f, "a", "", NULL));
	assert_ok(commit(f, "layer", "a", "", NULL));
	assert_ok(snapshot_prepare(&f->ctx, f->db, "fake", SNAPSHOT_VIEW, "v", "layer", NULL, &m,
				   &f->err));
	assert_ok(snapshot_remove(&f->ctx, f->db, "fake", "v", &f->err));
	assert_string_equal(seen.text, "/snapshot/prepare/snapshot/commit/snapshot/remove");
	event_unsubscribe(sub);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, fix_setup, fix_teardown)
		T(snapshot_lives_from_prepare_to_remove),
		T(snapshotter_must_be_known),
		T(prepare_refuses_what_can_not_be),
		T(keys_are_a_namespace_s_own),
		T(target_that_exists_is_reported_and_leased),
		T(target_in_the_back_end_is_linked),
		T(name_that_the_back_end_has_without_a_record_is_passed_over),
		T(name_without_a_record_is_not_taken_for_the_target),
		T(name_without_a_record_does_not_keep_from_committing),
		T(commit_refuses_what_can_not_be),
		T(commit_may_give_a_parent_to_what_has_none),
		T(lease_follows_the_commit),
		T(update_touches_labels_only),
		T(list_is_filtered_and_skips_what_the_back_end_lost),
		T(changes_are_published_and_views_are_not),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
