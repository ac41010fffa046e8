/* SPDX-License-Identifier: Apache-2.0 */
/* Real mounts, in a mount namespace of the test's own; skipped where that may not be made. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "sys/mount_internal.h"

static char root[] = "/tmp/mount-test-XXXXXX";
static bool privileged;

#define NEED_ROOT()              \
	do {                     \
		if (!privileged) \
			skip();  \
	} while (0)

static int group_setup(void **state)
{
	if (!mkdtemp(root))
		return -1;
	privileged = geteuid() == 0 && unshare(CLONE_NEWNS) == 0 &&
		     mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL) == 0 &&
		     mount("tmpfs", root, "tmpfs", MS_NOSUID, "mode=0755") == 0;
	return chdir(root);
}

static int group_teardown(void **state)
{
	if (chdir("/") < 0)
		return -1;
	if (privileged)
		(void)umount2(root, MNT_DETACH);
	return rmdir(root);
}

static int dirs_teardown(void **state)
{
	(void)umount2("target", MNT_DETACH);
	(void)umount2("target", MNT_DETACH);
	(void)rm_rf(AT_FDCWD, "target");
	return rm_rf(AT_FDCWD, "tree");
}

static int dirs_setup(void **state)
{
	if (mkdir("tree", 0755) < 0 || mkdir("target", 0755) < 0)
		return -1;
	return file_write(AT_FDCWD, "tree/file", "x", 1, 0644);
}

static char *at(struct arena *a, const char *name)
{
	return path_join(a, root, name);
}

#define OPTIONS(...) ((char *[]){__VA_ARGS__})
#define SPEC(t, s, ...)                                       \
	((struct mount_spec){.type = t,                       \
			     .source = s,                     \
			     .options = OPTIONS(__VA_ARGS__), \
			     .n_options = ARRAY_LEN(OPTIONS(__VA_ARGS__))})

static void mounts_at_target(const struct mount_spec *m)
{
	struct err err = ERR_INIT;

	if (mount_spec_mount(m, "target", &err) < 0)
		fail_msg("%s", err.text);
}

static void bind_shows_its_source(void **state)
{
	NEED_ROOT();
	mounts_at_target(&SPEC("bind", "tree", "rbind", "rw", "X-containerd.mkdir.path=/nowhere"));
	assert_int_equal(access("target/file", F_OK), 0);
	assert_int_equal(file_write(AT_FDCWD, "target/new", "", 0, 0644), 0);
}

static void bind_of_a_file_works(void **state)
{
	NEED_ROOT();
	struct err err = ERR_INIT;

	assert_int_equal(file_write(AT_FDCWD, "target/f", "", 0, 0644), 0);
	assert_int_equal(
		mount_spec_mount(&SPEC("bind", "tree/file", "bind", "ro"), "target/f", &err), 0);
	assert_int_equal(open("target/f", O_WRONLY), -1);
	assert_int_equal(errno, EROFS);
	assert_int_equal(mount_unmount_all("target/f", UMOUNT_NOFOLLOW, &err), 0);
}

static void read_only_bind_keeps_other_flags(void **state)
{
	NEED_ROOT();
	struct statvfs st;

	mounts_at_target(&SPEC("bind", "tree", "rbind", "ro", "nodev"));
	assert_int_equal(statvfs("target", &st), 0);
	assert_true(st.f_flag & ST_RDONLY);
	assert_true(st.f_flag & ST_NOSUID); /* the source's */
	assert_true(st.f_flag & ST_NODEV);
	assert_int_equal(statvfs("tree", &st), 0);
	assert_false(st.f_flag & ST_RDONLY);
}

static void remount_makes_read_only(void **state)
{
	NEED_ROOT();
	struct statvfs st;

	mounts_at_target(&SPEC("tmpfs", "tmpfs", "size=64k", "noexec"));
	mounts_at_target(&SPEC("bind", "", "remount", "bind", "ro"));
	assert_int_equal(statvfs("target", &st), 0);
	assert_true(st.f_flag & ST_RDONLY);
	assert_true(st.f_flag & ST_NOEXEC);
}

static void data_reaches_the_file_system(void **state)
{
	NEED_ROOT();
	struct stat st;
	struct err err = ERR_INIT;

	mounts_at_target(&SPEC("tmpfs", "tmpfs", "nosuid", "mode=0710", "size=64k"));
	assert_int_equal(stat("target", &st), 0);
	assert_int_equal(st.st_mode & 07777, 0710);
	assert_int_equal(mount_spec_mount(&SPEC("tmpfs", "tmpfs", "nonsense=1"), "target", &err),
			 -ERR_INVALID_ARGUMENT);
}

static void propagation_follows_the_mount(void **state)
{
	NEED_ROOT();
	_cleanup_arena_ struct arena *a = arena_new(0);
	char *info, *line;
	size_t n;

	mounts_at_target(&SPEC("bind", "tree", "rbind", "rshared"));
	assert_int_equal(file_read(a, AT_FDCWD, "/proc/self/mountinfo", 1 << 20, &info, &n), 0);
	line = strstr(info, at(a, "target"));
	assert_non_null(line);
	*strchr(line, '\n') = 0;
	assert_non_null(strstr(line, "shared:"));
}

static void target_stays_inside_of_root(void **state)
{
	NEED_ROOT();
	struct mount_spec m = SPEC("bind", "tree", "bind");
	struct err err = ERR_INIT;

	assert_int_equal(mkdir("target/sub", 0755), 0);
	assert_int_equal(symlink("/sub", "target/link"), 0);
	m.target = "../../link";
	assert_int_equal(mount_spec_mount(&m, "target", &err), 0);
	assert_int_equal(access("target/sub/file", F_OK), 0);
	assert_int_equal(mount_unmount_all("target/sub", 0, &err), 0);
	m.target = "absent";
	assert_int_equal(mount_spec_mount(&m, "target", &err), -ERR_NOT_FOUND);
}

static void failing_list_leaves_nothing_mounted(void **state)
{
	NEED_ROOT();
	struct mount_spec m[] = {SPEC("bind", "tree", "bind"), SPEC("bind", "absent", "bind")};
	struct err err = ERR_INIT;

	assert_int_equal(mount_specs_mount(m, 2, "target", &err), -ERR_NOT_FOUND);
	assert_int_equal(access("target/file", F_OK), -1);
}

static void unmount_all_takes_the_whole_stack(void **state)
{
	NEED_ROOT();
	struct err err = ERR_INIT;

	mounts_at_target(&SPEC("bind", "tree", "bind"));
	mounts_at_target(&SPEC("tmpfs", "tmpfs", "size=64k"));
	assert_int_equal(mount_unmount_all("target", 0, &err), 0);
	assert_int_equal(access("target/file", F_OK), -1);
	assert_int_equal(mount_unmount_all("target", 0, &err), 0);
	assert_int_equal(mount_unmount_all("absent", 0, &err), 0);
}

/* ---- Overlays ---- */

/* @n lower directories below tree/, each with a file of its number; "lowerdir=..." of their
 * absolute paths. */
static char *make_lowers(struct arena *a, const char *pad, int n)
{
	struct buf b = BUF_INIT;
	char *s;

	assert_int_equal(mkdir_p(path_join(a, "tree", pad), 0755), 0);
	buf_adds(&b, "lowerdir=");
	for (int i = 0; i < n; i++) {
		char *dir = arena_printf(a, "tree/%s/%d", pad, i);

		assert_int_equal(mkdir(dir, 0755), 0);
		assert_int_equal(
			file_write(AT_FDCWD, arena_printf(a, "%s/f%d", dir, i), "", 0, 0644), 0);
		buf_printf(&b, "%s%s/%s", i ? ":" : "", root, dir);
	}
	s = arena_strdup(a, b.data);
	buf_done(&b);
	return s;
}

static void all_layers_show(struct arena *a, int n)
{
	for (int i = 0; i < n; i++)
		assert_int_equal(access(arena_printf(a, "target/f%d", i), F_OK), 0);
}

static void overlay_mounts(void **state)
{
	NEED_ROOT();
	_cleanup_arena_ struct arena *a = arena_new(0);

	assert_int_equal(mkdir("tree/up", 0755), 0);
	assert_int_equal(mkdir("tree/work", 0755), 0);
	mounts_at_target(&SPEC("overlay", "overlay", "workdir=tree/work", "upperdir=tree/up",
			       make_lowers(a, "low", 2)));
	all_layers_show(a, 2);
	assert_int_equal(file_write(AT_FDCWD, "target/new", "", 0, 0644), 0);
	assert_int_equal(access("tree/up/new", F_OK), 0);
}

static void overlay_with_200_layers_mounts(void **state)
{
	NEED_ROOT();
	_cleanup_arena_ struct arena *a = arena_new(0);
	char *lower = make_lowers(a, "some-directory-name/another", 200);

	assert_true(strlen(lower) > 8192);
	mounts_at_target(&SPEC("overlay", "overlay", "ro", "index=off", lower));
	all_layers_show(a, 200);
}

static void overlay_with_very_long_paths_mounts(void **state)
{
	NEED_ROOT();
	_cleanup_arena_ struct arena *a = arena_new(0);
	char pad[301];

	memset(pad, 'p', sizeof(pad));
	pad[150] = '/';
	pad[300] = 0;
	mounts_at_target(&SPEC("overlay", "overlay", make_lowers(a, pad, 40)));
	all_layers_show(a, 40);
}

static void each_way_of_long_overlays_works(void **state)
{
	NEED_ROOT();
	_cleanup_arena_ struct arena *a = arena_new(0);
	const char *data[] = {make_lowers(a, "some-directory-name/another", 100), "index=off"};
	struct mount_plan p = {.type = "overlay",
			       .source = "overlay",
			       .target = at(a, "target"),
			       .data = data,
			       .n_data = 2};
	int r;

	assert_true(strlen(data[0]) > 4096);
	assert_int_equal(overlay_mount_relative(a, &p), 0);
	all_layers_show(a, 100);
	assert_int_equal(umount2("target", 0), 0);
	r = overlay_mount_new(a, &p);
	if (r == -EINVAL) { /* before Linux 6.5 */
		arena_free(TAKE_PTR(a));
		skip();
	}
	assert_int_equal(r, 0);
	all_layers_show(a, 100);
}

static void common_directory_ends_at_a_component(void **state)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	size_t n;
	const char **v = overlay_lowers(a, "/a/b1/fs:/a/b12/fs", &n);

	assert_int_equal(n, 2);
	assert_string_equal(overlay_common_dir(a, v, n), "/a");
	v = overlay_lowers(a, "/a/b/fs:/a/b", &n);
	assert_string_equal(overlay_common_dir(a, v, n), "/a/b");
	v = overlay_lowers(a, "/a/b:/a/b/fs", &n);
	assert_string_equal(overlay_common_dir(a, v, n), "/a/b");
	v = overlay_lowers(a, "/a/b", &n);
	assert_string_equal(overlay_common_dir(a, v, n), "/a/b");
	v = overlay_lowers(a, "/a/x:/b/x", &n);
	assert_null(overlay_common_dir(a, v, n));
	v = overlay_lowers(a, "/a\\:x:/b", &n);
	assert_int_equal(n, 2);
	assert_string_equal(v[0], "/a\\:x");
}

/* ---- Id maps ---- */

static void owner_is(const char *path, unsigned int uid, unsigned int gid)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_uid, uid);
	assert_int_equal(st.st_gid, gid);
}

static bool idmap_unsupported(const struct mount_spec *m)
{
	struct err err = ERR_INIT;
	int r = mount_spec_mount(m, "target", &err);

	if (r == -ERR_INVALID_ARGUMENT || r == -ERR_PERMISSION_DENIED)
		return true;
	if (r < 0)
		fail_msg("%s", err.text);
	return false;
}

static void id_mapped_bind_shows_mapped_owners(void **state)
{
	NEED_ROOT();
	if (idmap_unsupported(&SPEC("bind", "tree", "rbind", "ro", "uidmap=0:100000:10,10:7:1",
				    "gidmap=0:200000:10")))
		skip();
	owner_is("target/file", 100000, 200000);
	owner_is("tree/file", 0, 0);
	assert_int_equal(file_write(AT_FDCWD, "target/new", "", 0, 0644), -EROFS);
}

static void id_mapped_overlay_shows_mapped_lower_owners(void **state)
{
	NEED_ROOT();
	_cleanup_arena_ struct arena *a = arena_new(0);
	struct err err = ERR_INIT;

	assert_int_equal(mkdir("tree/up", 0755), 0);
	assert_int_equal(mkdir("tree/work", 0755), 0);
	if (idmap_unsupported(&SPEC("overlay", "overlay", "uidmap=0:100000:10",
				    "gidmap=0:200000:10", "workdir=tree/work", "upperdir=tree/up",
				    make_lowers(a, "low", 3)))) {
		arena_free(TAKE_PTR(a));
		skip();
	}
	all_layers_show(a, 3);
	owner_is("target/f2", 100000, 200000);
	assert_int_equal(file_write(AT_FDCWD, "target/new", "", 0, 0644), 0);
	/* Nothing of the way there is left behind. */
	assert_int_equal(umount2("target", 0), 0);
	assert_int_equal(umount2("target", 0), -1);
	assert_int_equal(mount_unmount_all("target", 0, &err), 0);
}

static void bad_id_maps_are_refused(void **state)
{
	static const char *const bad[] = {
		"", "0", "0:1", "0:1:2:3", "0:x:1", "0:1:99999999999", "0:1:1,"};
	struct err err;
	int fd;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(userns_open(bad[i], "0:0:1", &fd, &err), -ERR_INVALID_ARGUMENT);
	assert_int_equal(
		mount_spec_mount(&SPEC("bind", "tree", "bind", "uidmap=0:1:1"), "target", &err),
		-ERR_INVALID_ARGUMENT);
	/* No child is left behind. */
	assert_int_equal(waitpid(-1, NULL, __WALL | WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

static void loop_mounts_an_image(void **state)
{
	NEED_ROOT();
	struct err err = ERR_INIT;

	if (access("/dev/loop-control", R_OK | W_OK) < 0 || access("/sbin/mkfs.ext4", X_OK) < 0)
		skip();
	if (system("truncate -s 4M tree/img && /sbin/mkfs.ext4 -q tree/img") != 0)
		skip();
	if (mount_spec_mount(&SPEC("ext4", "tree/img", "loop", "ro"), "target", &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(access("target/lost+found", F_OK), 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, dirs_setup, dirs_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(bind_shows_its_source),
		T(bind_of_a_file_works),
		T(read_only_bind_keeps_other_flags),
		T(remount_makes_read_only),
		T(data_reaches_the_file_system),
		T(propagation_follows_the_mount),
		T(target_stays_inside_of_root),
		T(failing_list_leaves_nothing_mounted),
		T(unmount_all_takes_the_whole_stack),
		T(overlay_mounts),
		T(overlay_with_200_layers_mounts),
		T(overlay_with_very_long_paths_mounts),
		T(each_way_of_long_overlays_works),
		T(common_directory_ends_at_a_component),
		T(id_mapped_bind_shows_mapped_owners),
		T(id_mapped_overlay_shows_mapped_lower_owners),
		T(bad_id_maps_are_refused),
		T(loop_mounts_an_image),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
