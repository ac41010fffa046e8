/* SPDX-License-Identifier: Apache-2.0 */
/* Layers unpacked by the real worker, into each kind of mounts. */
#include "util.h"

#include <sys/sysmacros.h>

#include "base/digest.h"
#include "plugins/differ/walking.h"
#include "plugins/snapshotter/native.h"
#include "plugins/snapshotter/overlayfs.h"

#define TAR "application/vnd.oci.image.layer.v1.tar"

static int setup(void **state)
{
	*state = fix_new();
	return 0;
}

static bool worker_built(void)
{
	const char *path = getenv("CONTAINERD_WORKER");

	return path && access(path, X_OK) == 0;
}

#define NEED_WORKER()                               \
	do {                                        \
		if (!privileged || !worker_built()) \
			skip();                     \
	} while (0)

/* ---- A minimal tar ---- */

static void tar_add(struct buf *b, const char *name, char type, const char *content)
{
	size_t n = content ? strlen(content) : 0;
	unsigned char h[512] = {0};
	unsigned int sum = 0;
	static const char zeroes[512];

	strcpy((char *)h, name);
	sprintf((char *)h + 100, "%07o", type == '5' ? 0755 : 0644);
	sprintf((char *)h + 108, "%07o", 0);
	sprintf((char *)h + 116, "%07o", 0);
	sprintf((char *)h + 124, "%011zo", n);
	sprintf((char *)h + 136, "%011o", 1000000);
	h[156] = (unsigned char)type;
	memcpy(h + 257, "ustar\00000", 8);
	memset(h + 148, ' ', 8);
	for (size_t i = 0; i < sizeof(h); i++)
		sum += h[i];
	sprintf((char *)h + 148, "%06o", sum);
	buf_add(b, h, sizeof(h));
	buf_add(b, content, n);
	buf_add(b, zeroes, (512 - n % 512) % 512);
}

static int tar_end(struct fix *f, struct buf *b, struct digest *ret_digest, int64_t *ret_size)
{
	static const char zeroes[1024];
	const char *path = in(f, "layer.tar");
	int fd;

	buf_add(b, zeroes, sizeof(zeroes));
	assert_true(buf_ok(b));
	digest_of(DIGEST_SHA256, b->data, b->len, ret_digest);
	*ret_size = (int64_t)b->len;
	assert_int_equal(file_write(AT_FDCWD, path, b->data, b->len, 0644), 0);
	buf_done(b);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static void apply(struct fix *f, int fd, const struct mounts *m, const struct digest *digest,
		  int64_t size)
{
	struct descriptor d;

	assert_ok(walking_apply_fd(&f->ctx, fd, TAR, m, true, &d, &f->err));
	assert_string_equal(d.media_type, TAR);
	assert_string_equal(d.digest, digest->text);
	assert_int_equal(d.size, size);
	close(fd);
}

static struct mounts prepare(struct fix *f, const char *key, const char *parent)
{
	struct labels l = {0};
	struct mounts m;

	assert_ok(
		f->sn->ops->prepare(&f->ctx, f->sn, SNAPSHOT_ACTIVE, key, parent, &l, &m, &f->err));
	return m;
}

static void commit(struct fix *f, const char *name, const char *key)
{
	struct labels l = {0};

	assert_ok(f->sn->ops->commit(&f->ctx, f->sn, name, key, "", &l, &f->err));
}

static void first_layer(struct fix *f, const struct mounts *m)
{
	struct buf b = BUF_INIT;
	struct digest digest;
	int64_t size;
	int fd;

	tar_add(&b, "dir/", '5', NULL);
	tar_add(&b, "dir/keep", '0', "keep");
	tar_add(&b, "dir/gone", '0', "gone");
	fd = tar_end(f, &b, &digest, &size);
	apply(f, fd, m, &digest, size);
}

static void second_layer(struct fix *f, const struct mounts *m)
{
	struct buf b = BUF_INIT;
	struct digest digest;
	int64_t size;
	int fd;

	tar_add(&b, "dir/.wh.gone", '0', "");
	tar_add(&b, "dir/new", '0', "new");
	fd = tar_end(f, &b, &digest, &size);
	apply(f, fd, m, &digest, size);
}

static bool is_whiteout(struct fix *f, const char *path)
{
	struct stat st;

	return lstat(in(f, path), &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(0, 0);
}

/* ---- */

static void overlay_layers_are_written_past_the_mount(void **state)
{
	NEED_WORKER();
	struct fix *f = *state;
	struct overlayfs_options o = {0};
	struct mounts m;

	assert_ok(overlayfs_new(in(f, "root"), &o, &f->sn, &f->err));
	m = prepare(f, "k1", "");
	first_layer(f, &m);
	assert_true(exists(f, "root/snapshots/1/fs/dir/keep"));
	commit(f, "l1", "k1");
	m = prepare(f, "k2", "l1");
	second_layer(f, &m);
	assert_true(exists(f, "root/snapshots/2/fs/dir/new"));
	assert_true(is_whiteout(f, "root/snapshots/2/fs/dir/gone"));
	assert_false(exists(f, "root/snapshots/2/fs/dir/keep"));
}

static void overlay_without_lower_directories_keeps_whiteouts(void **state)
{
	NEED_WORKER();
	struct fix *f = *state;
	struct overlayfs_options o = {0};
	const char *options[1];
	struct mount one = {.type = "overlay",
			    .source = "overlay",
			    .target = "",
			    .options = options,
			    .n_options = 1};
	struct mounts m;

	assert_ok(overlayfs_new(in(f, "root"), &o, &f->sn, &f->err));
	m = prepare(f, "k", "");
	options[0] = arena_printf(f->arena, "upperdir=%s", m.v->source);
	second_layer(f, &(struct mounts){.v = &one, .n = 1});
	assert_true(is_whiteout(f, "root/snapshots/1/fs/dir/gone"));
}

static void bind_gets_whiteouts_applied(void **state)
{
	NEED_WORKER();
	struct fix *f = *state;
	struct mounts m;

	assert_ok(native_new(in(f, "root"), &f->sn, &f->err));
	m = prepare(f, "k1", "");
	first_layer(f, &m);
	commit(f, "l1", "k1");
	m = prepare(f, "k2", "l1");
	second_layer(f, &m);
	assert_true(exists(f, "root/snapshots/2/dir/keep"));
	assert_true(exists(f, "root/snapshots/2/dir/new"));
	assert_false(exists(f, "root/snapshots/2/dir/gone"));
}

/* Two mounts: a tree, and another below it. Nothing of that is to be seen outside, nor left
 * afterwards. */
static void other_mounts_are_made_in_private(void **state)
{
	NEED_WORKER();
	struct fix *f = *state;
	const char *options[] = {"rbind", "rw"};
	struct mount v[2];
	char *mounts;
	size_t n;

	assert_int_equal(mkdir_p(in(f, "a/dir"), 0755), 0);
	assert_int_equal(mkdir_p(in(f, "b"), 0755), 0);
	v[0] = (struct mount){"bind", in(f, "a"), "", options, 2};
	v[1] = (struct mount){"bind", in(f, "b"), "dir", options, 2};
	assert_int_equal(mkdir_p(in(f, "tmp"), 0700), 0);
	setenv("TMPDIR", in(f, "tmp"), 1);
	first_layer(f, &(struct mounts){.v = v, .n = 2});
	unsetenv("TMPDIR");
	assert_true(exists(f, "b/keep"));
	assert_false(exists(f, "a/dir/keep"));
	assert_int_equal(
		file_read(f->arena, AT_FDCWD, "/proc/self/mountinfo", 1 << 20, &mounts, &n), 0);
	/* What others mount meanwhile is theirs. */
	assert_null(strstr(mounts, in(f, "tmp")));
	assert_int_equal(rmdir(in(f, "tmp")), 0);
}

static void read_only_mounts_stay_read_only(void **state)
{
	NEED_WORKER();
	struct fix *f = *state;
	const char *options[] = {"ro", "rbind"};
	struct mount one;
	struct descriptor d;
	struct digest digest;
	struct buf b = BUF_INIT;
	int64_t size;
	int fd;

	assert_int_equal(mkdir_p(in(f, "a"), 0755), 0);
	one = (struct mount){"bind", in(f, "a"), "", options, 2};
	tar_add(&b, "file", '0', "x");
	fd = tar_end(f, &b, &digest, &size);
	assert_true(walking_apply_fd(&f->ctx, fd, TAR, &(struct mounts){&one, 1}, false, &d,
				     &f->err) < 0);
	assert_false(exists(f, "a/file"));
	close(fd);
}

static void deep_overlays_are_mounted(void **state)
{
	NEED_WORKER();
	struct fix *f = *state;
	struct overlayfs_options o = {0};
	const char *parent = "";
	struct mounts m;

	assert_ok(overlayfs_new(in(f, "root"), &o, &f->sn, &f->err));
	m = prepare(f, "k", "");
	first_layer(f, &m);
	for (int i = 1; i <= 70; i++) {
		char *name = arena_printf(f->arena, "l%d", i);

		commit(f, name, "k");
		parent = name;
		m = prepare(f, "k", parent);
	}
	second_layer(f, &m);
	assert_true(is_whiteout(f, "root/snapshots/71/fs/dir/gone"));
	assert_true(exists(f, "root/snapshots/71/fs/dir/new"));
}

static void unknown_media_types_are_for_another_differ(void **state)
{
	static const char *const bad[] = {"",
					  "application/vnd.oci.image.layer.v1.tar+encrypted",
					  "application/vnd.oci.image.layer.v1.tar.gzip",
					  "application/vnd.docker.image.rootfs.diff.tar+gzip",
					  "application/vnd.erofs.layer.v1",
					  "application/vnd.oci.image.manifest.v1+json"};
	static const char *const good[] = {
		"application/vnd.oci.image.layer.v1.tar",
		"application/vnd.oci.image.layer.v1.tar+gzip",
		"application/vnd.oci.image.layer.v1.tar+zstd",
		"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
		"application/vnd.docker.image.rootfs.diff.tar.gzip",
		"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"};
	struct fix *f = *state;
	struct mounts none = {0};
	struct descriptor d;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(walking_apply_fd(&f->ctx, 0, bad[i], &none, false, &d, &f->err),
				 -ERR_UNIMPLEMENTED);
	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		assert_true(walking_supports(good[i]));
	assert_int_equal(walking_apply_fd(&f->ctx, 0, TAR, &none, false, &d, &f->err),
			 -ERR_INVALID_ARGUMENT);
}

static void missing_directories_are_named(void **state)
{
	struct fix *f = *state;
	const char *options[] = {"rw"};
	struct mount one = {"bind", in(f, "absent"), "", options, 1};
	struct descriptor d;

	assert_int_equal(
		walking_apply_fd(&f->ctx, 0, TAR, &(struct mounts){&one, 1}, false, &d, &f->err),
		-ERR_NOT_FOUND);
	assert_non_null(strstr(f->err.text, "/absent`"));
}

#define T(t) cmocka_unit_test_setup_teardown(t, setup, fix_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(overlay_layers_are_written_past_the_mount),
		T(overlay_without_lower_directories_keeps_whiteouts),
		T(bind_gets_whiteouts_applied),
		T(other_mounts_are_made_in_private),
		T(read_only_mounts_stay_read_only),
		T(deep_overlays_are_mounted),
		T(unknown_media_types_are_for_another_differ),
		T(missing_directories_are_named),
	};

	return cmocka_run_group_tests(tests, group_setup, NULL);
}
