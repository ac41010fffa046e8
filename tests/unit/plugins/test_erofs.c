/* SPDX-License-Identifier: Apache-2.0 */
/* The snapshotter and the differ of EROFS. Where images are made, the kernel has to know EROFS and
 * mkfs.erofs has to be there. */
#include "util.h"

#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "core/erofs.h"
#include "plugins/differ/differ.h"
#include "plugins/differ/temp_mount.h"
#include "plugins/mounts/transform.h"
#include "plugins/snapshotter/erofs.h"

static bool usable;

static int setup_all(void **state)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	struct ctx ctx = {.arena = a, .ns = "", .lease = ""};
	size_t len;
	char *text;
	bool tar;

	group_setup(state);
	usable = file_read(a, AT_FDCWD, "/proc/filesystems", 1 << 16, &text, &len) == 0 &&
		 strstr(text, "\terofs\n") && erofs_probe(&ctx, &tar, NULL) == 0;
	return 0;
}

#define NEED_EROFS()            \
	do {                    \
		if (!usable)    \
			skip(); \
	} while (0)

static int setup(void **state)
{
	*state = fix_new();
	return 0;
}

static void start(struct fix *f, const struct erofs_options *o)
{
	static const struct erofs_options none;

	assert_ok(erofs_new(in(f, "root"), o ? o : &none, &f->sn, &f->err));
}

static struct mounts prepare(struct fix *f, enum snapshot_kind kind, const char *key,
			     const char *parent, struct labels labels)
{
	struct mounts m;

	assert_ok(f->sn->ops->prepare(&f->ctx, f->sn, kind, key, parent, &labels, &m, &f->err));
	return m;
}

static int commit(struct fix *f, const char *name, const char *key)
{
	struct labels l = {0};

	return f->sn->ops->commit(&f->ctx, f->sn, name, key, "", &l, &f->err);
}

/* A layer of one file, made of the snapshot's directory @id. */
static void layer(struct fix *f, const char *name, const char *parent, int id)
{
	(void)prepare(f, SNAPSHOT_ACTIVE, "k", parent, (struct labels){0});
	put_file(in(f, arena_printf(f->arena, "root/snapshots/%d/fs/%s", id, name)), name);
	assert_ok(commit(f, name, "k"));
}

/* "type source|option|option", with "@" for the directory of the snapshots. */
static void assert_mount(struct fix *f, const struct mount *m, const char *want)
{
	char *text = arena_printf(f->arena, "%s %s", m->type, m->source);
	const char *root = in(f, "root/snapshots");
	_cleanup_buf_ struct buf out = BUF_INIT;

	for (size_t i = 0; i < m->n_options; i++)
		text = arena_printf(f->arena, "%s|%s", text, m->options[i]);
	for (const char *at; (at = strstr(text, root)); text = (char *)at + strlen(root)) {
		buf_add(&out, text, (size_t)(at - text));
		buf_adds(&out, "@");
	}
	buf_adds(&out, text);
	assert_string_equal(out.data, want);
	assert_string_equal(m->target, "");
}

static void mounts_are_containerds(void **state)
{
	static const char *const more[] = {"volatile", NULL};
	const struct erofs_options o = {.mount_options = more};
	struct fix *f = *state;
	struct mounts m;

	NEED_EROFS();
	start(f, &o);
	m = prepare(f, SNAPSHOT_ACTIVE, "k", "", (struct labels){0});
	assert_int_equal(m.n, 1);
	assert_mount(f, &m.v[0], "bind @/1/fs|rw|rbind");
	assert_ok(commit(f, "one", "k"));
	layer(f, "two", "one", 2);
	m = prepare(f, SNAPSHOT_VIEW, "v1", "one", (struct labels){0});
	assert_int_equal(m.n, 1);
	assert_mount(f, &m.v[0], "erofs @/1/layer.erofs|ro|loop");
	m = prepare(f, SNAPSHOT_VIEW, "v2", "two", (struct labels){0});
	assert_int_equal(m.n, 3);
	assert_mount(f, &m.v[0], "erofs @/2/layer.erofs|ro|loop");
	assert_mount(f, &m.v[1], "erofs @/1/layer.erofs|ro|loop");
	assert_mount(f, &m.v[2],
		     "format/mkdir/overlay overlay|lowerdir={{ overlay 0 1 }}|volatile");
	m = prepare(f, SNAPSHOT_ACTIVE, "a1", "one", (struct labels){0});
	assert_int_equal(m.n, 2);
	assert_mount(f, &m.v[1],
		     "format/mkdir/overlay overlay|workdir=@/5/work|upperdir=@/5/fs|"
		     "lowerdir={{ mount 0 }}|volatile");
	m = prepare(f, SNAPSHOT_ACTIVE, "a2", "two", (struct labels){0});
	assert_int_equal(m.n, 3);
	assert_mount(f, &m.v[2],
		     "format/mkdir/overlay overlay|workdir=@/6/work|upperdir=@/6/fs|"
		     "lowerdir={{ overlay 0 1 }}|volatile");
	assert_true(exists(f, "root/snapshots/6/.erofslayer"));
	assert_false(exists(f, "root/snapshots/4/.erofslayer"));
}

static void a_size_makes_a_file_system_of_what_is_written(void **state)
{
	const struct erofs_options o = {.size = 1 << 30};
	struct fix *f = *state;
	struct labels l = {0};
	struct mounts m;

	NEED_EROFS();
	start(f, &o);
	m = prepare(f, SNAPSHOT_ACTIVE, "k", "", l);
	assert_int_equal(m.n, 2);
	assert_mount(f, &m.v[0],
		     "mkfs/ext4 @/1/rwlayer.img|X-containerd.mkfs.fs=ext4|"
		     "X-containerd.mkfs.size=1073741824|rw|loop");
	assert_mount(f, &m.v[1],
		     "format/mkdir/bind {{ mount 0 }}/upper|"
		     "X-containerd.mkdir.path={{ mount 0 }}/upper:0755|rw|rbind");
	assert_false(exists(f, "root/snapshots/1/work"));
	assert_ok(commit(f, "one", "k"));
	assert_int_equal(labels_set(f->arena, &l, "containerd.io/snapshot/max-size", "2048000"), 0);
	m = prepare(f, SNAPSHOT_ACTIVE, "a", "one", l);
	assert_int_equal(m.n, 3);
	assert_mount(f, &m.v[0],
		     "mkfs/ext4 @/2/rwlayer.img|X-containerd.mkfs.fs=ext4|"
		     "X-containerd.mkfs.size=2048000|rw|loop");
	assert_mount(f, &m.v[1], "erofs @/1/layer.erofs|ro|loop");
	assert_mount(f, &m.v[2],
		     "format/mkdir/overlay overlay|"
		     "X-containerd.mkdir.path={{ mount 0 }}/upper:0755|"
		     "X-containerd.mkdir.path={{ mount 0 }}/work:0755|"
		     "workdir={{ mount 0 }}/work|upperdir={{ mount 0 }}/upper|"
		     "lowerdir={{ mount 1 }}");
}

static void hash_trees_are_told_to_who_mounts_unless_switched_off(void **state)
{
	const struct erofs_options off = {.verity = EROFS_VERITY_OFF};
	struct fix *f = *state;
	struct mounts m;
	struct temp_mount t = TEMP_MOUNT_INIT;

	NEED_EROFS();
	start(f, NULL);
	layer(f, "one", "", 1);
	put_file(in(f, "root/snapshots/1/layer.erofs.dmverity"), "{}");
	m = prepare(f, SNAPSHOT_VIEW, "v", "one", (struct labels){0});
	assert_mount(f, &m.v[0],
		     "erofs @/1/layer.erofs|ro|loop|"
		     "X-containerd.dmverity=@/1/layer.erofs.dmverity");
	if (privileged)
		assert_int_equal(temp_mount(&f->ctx, &m, &t, &f->err), -ERR_UNIMPLEMENTED);
	temp_mount_done(&t);
	f->sn->ops->free(f->sn);
	f->sn = NULL;
	start(f, &off);
	assert_ok(f->sn->ops->mounts(&f->ctx, f->sn, "v", &m, &f->err));
	assert_mount(f, &m.v[0], "erofs @/1/layer.erofs|ro|loop");
}

static void a_commit_keeps_owners_attributes_links_and_whiteouts(void **state)
{
	struct temp_mount t = TEMP_MOUNT_INIT;
	struct snapshot_usage u;
	struct fix *f = *state;
	struct stat st, other;
	struct mounts m;
	char value[8] = "";

	NEED_ROOT();
	NEED_EROFS();
	start(f, NULL);
	(void)prepare(f, SNAPSHOT_ACTIVE, "k", "", (struct labels){0});
	put_file(in(f, "root/snapshots/1/fs/file"), "text");
	assert_int_equal(link(in(f, "root/snapshots/1/fs/file"), in(f, "root/snapshots/1/fs/link")),
			 0);
	assert_int_equal(chown(in(f, "root/snapshots/1/fs/file"), 70000, 70001), 0);
	assert_int_equal(chmod(in(f, "root/snapshots/1/fs/file"), 04711), 0);
	assert_int_equal(mknod(in(f, "root/snapshots/1/fs/gone"), S_IFCHR, makedev(0, 0)), 0);
	assert_int_equal(mkdir(in(f, "root/snapshots/1/fs/opaque"), 0700), 0);
	assert_int_equal(
		setxattr(in(f, "root/snapshots/1/fs/opaque"), "trusted.overlay.opaque", "y", 1, 0),
		0);
	assert_ok(commit(f, "one", "k"));
	assert_false(exists(f, "root/snapshots/1/fs/file"));
	assert_int_equal(stat(in(f, "root/snapshots/1/layer.erofs"), &st), 0);
	assert_ok(f->sn->ops->usage(&f->ctx, f->sn, "one", &u, &f->err));
	assert_int_equal(u.size, st.st_blocks * 512);
	assert_int_equal(u.inodes, 1);
	assert_int_equal(st.st_uid, 0);

	m = prepare(f, SNAPSHOT_VIEW, "v", "one", (struct labels){0});
	assert_ok(temp_mount(&f->ctx, &m, &t, &f->err));
	assert_int_equal(fstatat(t.fd, "file", &st, 0), 0);
	assert_int_equal(fstatat(t.fd, "link", &other, 0), 0);
	assert_int_equal(st.st_ino, other.st_ino);
	assert_int_equal(st.st_uid, 70000);
	assert_int_equal(st.st_gid, 70001);
	assert_int_equal(st.st_mode & 07777, 04711);
	assert_int_equal(fstatat(t.fd, "gone", &st, 0), 0);
	assert_true(S_ISCHR(st.st_mode) && st.st_rdev == 0);
	{
		_cleanup_close_ int fd = openat(t.fd, "opaque", O_RDONLY | O_DIRECTORY);

		assert_int_equal(fgetxattr(fd, "trusted.overlay.opaque", value, sizeof(value)), 1);
	}
	temp_mount_done(&t);
}

/* Mounts of a list whose last names the others, where nobody sees them. */
static void layers_are_mounted_one_upon_the_other(void **state)
{
	struct temp_mount t = TEMP_MOUNT_INIT;
	struct fix *f = *state;
	struct mounts m;

	NEED_ROOT();
	NEED_EROFS();
	start(f, NULL);
	layer(f, "one", "", 1);
	layer(f, "two", "one", 2);
	m = prepare(f, SNAPSHOT_ACTIVE, "a", "two", (struct labels){0});
	assert_ok(temp_mount(&f->ctx, &m, &t, &f->err));
	assert_int_equal(faccessat(t.fd, "one", F_OK, 0), 0);
	assert_int_equal(faccessat(t.fd, "two", F_OK, 0), 0);
	assert_int_equal(file_write(t.fd, "mine", "x", 1, 0644), 0);
	temp_mount_done(&t);
	assert_true(exists(f, "root/snapshots/3/fs/mine"));
	assert_int_equal(f->sn->ops->remove(&f->ctx, f->sn, "one", &f->err),
			 -ERR_FAILED_PRECONDITION);
	assert_ok(f->sn->ops->remove(&f->ctx, f->sn, "a", &f->err));
	assert_ok(f->sn->ops->remove(&f->ctx, f->sn, "two", &f->err));
	assert_ok(f->sn->ops->remove(&f->ctx, f->sn, "one", &f->err));
	assert_false(exists(f, "root/snapshots/1"));
	assert_false(exists(f, "root/snapshots/3"));
}

static void a_snapshot_that_has_its_layer_is_not_written_to(void **state)
{
	struct fix *f = *state;
	struct mounts m;

	NEED_EROFS();
	start(f, NULL);
	(void)prepare(f, SNAPSHOT_ACTIVE, "k", "", (struct labels){0});
	put_file(in(f, "root/snapshots/1/layer.erofs"), "no image");
	assert_int_equal(f->sn->ops->mounts(&f->ctx, f->sn, "k", &m, &f->err),
			 -ERR_FAILED_PRECONDITION);
	if (privileged) /* what is no image is not committed */
		assert_true(commit(f, "one", "k") < 0);
}

static void usage_counts_what_is_written_wherever_it_is(void **state)
{
	const struct erofs_options o = {.size = 1 << 30};
	struct snapshot_usage before, after;
	struct fix *f = *state;
	char big[65536];
	struct stat st;

	memset(big, 'x', sizeof(big));
	NEED_EROFS();
	start(f, NULL);
	(void)prepare(f, SNAPSHOT_ACTIVE, "k", "", (struct labels){0});
	assert_ok(f->sn->ops->usage(&f->ctx, f->sn, "k", &before, &f->err));
	assert_int_equal(before.inodes, 1);
	assert_int_equal(
		file_write(AT_FDCWD, in(f, "root/snapshots/1/fs/f"), big, sizeof(big), 0644), 0);
	assert_ok(f->sn->ops->usage(&f->ctx, f->sn, "k", &after, &f->err));
	assert_int_equal(after.inodes, 2);
	assert_true(after.size >= before.size + (int64_t)sizeof(big));
	f->sn->ops->free(f->sn);
	f->sn = NULL;
	start(f, &o);
	(void)prepare(f, SNAPSHOT_ACTIVE, "e", "", (struct labels){0});
	assert_ok(f->sn->ops->usage(&f->ctx, f->sn, "e", &before, &f->err));
	assert_int_equal(
		file_write(AT_FDCWD, in(f, "root/snapshots/2/rwlayer.img"), big, sizeof(big), 0644),
		0);
	assert_int_equal(stat(in(f, "root/snapshots/2/rwlayer.img"), &st), 0);
	assert_ok(f->sn->ops->usage(&f->ctx, f->sn, "e", &after, &f->err));
	assert_int_equal(after.inodes, before.inodes + 1);
	assert_int_equal(after.size, before.size + st.st_blocks * 512);
}

static void a_snapshot_upon_a_lost_image_is_not_made(void **state)
{
	struct fix *f = *state;
	struct labels l = {0};
	struct snapshot_info i;
	struct mounts m;

	NEED_EROFS();
	start(f, NULL);
	layer(f, "one", "", 1);
	assert_int_equal(unlink(in(f, "root/snapshots/1/layer.erofs")), 0);
	assert_int_equal(
		f->sn->ops->prepare(&f->ctx, f->sn, SNAPSHOT_ACTIVE, "a", "one", &l, &m, &f->err),
		-ERR_NOT_FOUND);
	assert_non_null(str_skip(f->err.text, "failed to find valid erofs layer blob: `"));
	assert_int_equal(f->sn->ops->stat(&f->ctx, f->sn, "a", &i, &f->err), -ERR_NOT_FOUND);
	assert_false(exists(f, "root/snapshots/2"));
}

static void a_commit_can_set_the_parent(void **state)
{
	struct fix *f = *state;
	struct labels l = {0};
	struct snapshot_info i;
	struct stat st;

	NEED_ROOT();
	NEED_EROFS();
	start(f, NULL);
	if (!f->sn->can_rebase)
		skip();
	layer(f, "one", "", 1);
	assert_int_equal(chown(in(f, "root/snapshots/1/fs"), 12, 34), 0);
	assert_int_equal(chmod(in(f, "root/snapshots/1/fs"), 01777), 0);
	(void)prepare(f, SNAPSHOT_ACTIVE, "k", "", l);
	put_file(in(f, "root/snapshots/2/fs/file"), "text");
	assert_ok(f->sn->ops->commit(&f->ctx, f->sn, "two", "k", "one", &l, &f->err));
	assert_ok(f->sn->ops->stat(&f->ctx, f->sn, "two", &i, &f->err));
	assert_string_equal(i.parent, "one");
	assert_int_equal(stat(in(f, "root/snapshots/2/fs"), &st), 0);
	assert_int_equal(st.st_uid, 12);
	assert_int_equal(st.st_gid, 34);
	assert_int_equal(st.st_mode & 07777, 01777);
}

/* A commit that fails has its image already; what it was made of goes only with one that succeeds.
 */
static void a_commit_that_fails_keeps_what_was_written(void **state)
{
	struct fix *f = *state;

	NEED_EROFS();
	start(f, NULL);
	layer(f, "one", "", 1);
	(void)prepare(f, SNAPSHOT_ACTIVE, "k", "", (struct labels){0});
	put_file(in(f, "root/snapshots/2/fs/file"), "text");
	assert_err(commit(f, "one", "k"), ERR_ALREADY_EXISTS,
		   "failed to commit snapshot k: committed snapshot one: already exists");
	assert_true(exists(f, "root/snapshots/2/fs/file"));
}

/* ---- The differ ---- */

static int apply_to(struct fix *f, const char *media_type, struct mount *v, size_t n)
{
	struct differ *d;
	struct descriptor ret, desc = {.media_type = media_type, .digest = "sha256:0"};
	struct mounts m = {v, n};
	struct apply_request q = {.desc = &desc, .fd = open("/dev/null", O_RDONLY), .mounts = &m};
	struct erofs_differ_options o = {0};
	int r;

	assert_ok(erofs_differ_new(NULL, &o, &d, &f->err));
	r = d->ops->apply(&f->ctx, d, &q, &ret, &f->err);
	d->ops->free(d);
	close(q.fd);
	return r;
}

static void other_snapshots_and_types_are_for_other_differs(void **state)
{
	struct fix *f = *state;
	const char *ro[] = {"ro", "rbind"}, *rw[] = {"rw", "rbind"};
	struct mount bind = {
		.type = "bind", .source = in(f, "s/fs"), .options = rw, .n_options = 2};
	struct mount view = bind, image = {.type = "erofs", .source = in(f, "s/layer.erofs")};
	const char *layer_type = "application/vnd.erofs.layer.v1";

	view.options = ro;
	assert_int_equal(mkdir_p(in(f, "s/fs"), 0755), 0);
	assert_int_equal(apply_to(f, layer_type, &bind, 1), -ERR_UNIMPLEMENTED);
	put_file(in(f, "s/" EROFS_MARK), "");
	assert_int_equal(apply_to(f, layer_type, NULL, 0), -ERR_UNIMPLEMENTED);
	assert_int_equal(apply_to(f, layer_type, &view, 1), -ERR_UNIMPLEMENTED);
	assert_int_equal(apply_to(f, layer_type, &image, 1), -ERR_UNIMPLEMENTED);
	assert_int_equal(apply_to(f, "application/vnd.erofs.layer.v1+gzip", &bind, 1),
			 -ERR_UNIMPLEMENTED);
	assert_int_equal(apply_to(f, "text/plain", &bind, 1), -ERR_UNIMPLEMENTED);
	assert_int_equal(apply_to(f, layer_type, &bind, 1), 0);
	assert_true(exists(f, "s/layer.erofs"));
	/* A layer is not written over. */
	assert_int_equal(apply_to(f, layer_type, &bind, 1), -ERR_FAILED_PRECONDITION);
}

static void media_types_of_images_are_known(void **state)
{
	bool zstd;

	assert_true(erofs_media_type("application/vnd.erofs.layer.v1", &zstd) && !zstd);
	assert_true(erofs_media_type("application/vnd.erofs.layer.v1+zstd", &zstd) && zstd);
	assert_true(erofs_media_type("application/vnd.oci.image.layer.v1.erofs", &zstd) && !zstd);
	assert_false(erofs_media_type("application/vnd.erofs.layer.v1+gzip", &zstd));
	assert_false(erofs_media_type("application/vnd.oci.image.layer.v1.tar", &zstd));
	assert_false(erofs_media_type("erofs", &zstd));
	assert_false(erofs_media_type("", &zstd));
}

static void what_mkfs_says_is_in_the_error(void **state)
{
	static const char *const bad[] = {"--no-such-option", NULL};
	struct fix *f = *state;
	struct erofs_request q = {.dir = in(f, "d"), .tree = in(f, "d/fs"), .options = bad};

	NEED_EROFS();
	assert_int_equal(mkdir_p(q.tree, 0755), 0);
	assert_int_equal(erofs_make(&f->ctx, &q, &f->err), -ERR_FAILED_PRECONDITION);
	assert_non_null(strstr(f->err.text, "mkfs.erofs: exit status"));
	assert_int_equal(rmdir(in(f, "d/fs")), 0);
	assert_int_equal(rmdir(in(f, "d")), 0); /* nothing is left in it */
}

static void sizes_are_read_as_containerd_does(void **state)
{
	static const struct {
		const char *text;
		int64_t n;
	} good[] = {{"1", 1},	       {"2k", 2048},	      {"3KB", 3072},
		    {"4MiB", 4 << 20}, {"20GiB", 20LL << 30}, {"1T", 1LL << 40}};
	static const char *const bad[] = {"", "0", "-1", "k", "1x", "1kk", "1ib", "99999999999T"};
	int64_t n;

	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		assert_int_equal(mount_size_parse(good[i].text, &n, NULL), 0);
		assert_true(n == good[i].n);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(mount_size_parse(bad[i], &n, NULL), -ERR_INVALID_ARGUMENT);
}

#define T(t) cmocka_unit_test_setup_teardown(t, setup, fix_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(mounts_are_containerds),
		T(a_size_makes_a_file_system_of_what_is_written),
		T(hash_trees_are_told_to_who_mounts_unless_switched_off),
		T(a_commit_keeps_owners_attributes_links_and_whiteouts),
		T(layers_are_mounted_one_upon_the_other),
		T(a_snapshot_that_has_its_layer_is_not_written_to),
		T(usage_counts_what_is_written_wherever_it_is),
		T(a_snapshot_upon_a_lost_image_is_not_made),
		T(a_commit_can_set_the_parent),
		T(a_commit_that_fails_keeps_what_was_written),
		T(other_snapshots_and_types_are_for_other_differs),
		T(what_mkfs_says_is_in_the_error),
		cmocka_unit_test(media_types_of_images_are_known),
		cmocka_unit_test(sizes_are_read_as_containerd_does),
	};

	return cmocka_run_group_tests(tests, setup_all, NULL);
}
