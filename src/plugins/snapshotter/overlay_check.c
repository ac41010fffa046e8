/* SPDX-License-Identifier: Apache-2.0 */
/* An overlay of two lower and an upper directory is created as a file system context and never
 * attached: no other process sees it, and nothing is left to be unmounted when this one dies. The
 * directories are named through a descriptor, since a parameter of a context is short. Where the
 * kernel refuses contexts to this process (no privilege, or before 5.2) there is no verdict, and
 * the snapshotter tries its luck. */
#include "plugins/snapshotter/overlay_check.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include "base/path.h"
#include "base/str.h"
#include "sys/mount.h"

static bool entry_types_told(int dirfd)
{
	_cleanup_closedir_ DIR *d = NULL;
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || !(d = fdopendir(fd))) {
		if (fd >= 0)
			close(fd);
		return true;
	}
	for (struct dirent *e; (e = readdir(d));)
		if (e->d_type == DT_UNKNOWN && !streq(e->d_name, ".") && !streq(e->d_name, ".."))
			return false;
	return true;
}

bool overlay_in_userns(void)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/self/uid_map", "re");
	unsigned long long in, out, len;

	if (!f || fscanf(f, "%llu %llu %llu", &in, &out, &len) != 3)
		return false;
	return !(in == 0 && out == 0 && len == 4294967295ULL);
}

static int set_dir(int fs, const char *key, int dirfd, const char *name)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", dirfd, name);
	return fsconfig((unsigned int)fs, FSCONFIG_SET_STRING, key, path, 0) < 0 ? -errno : 0;
}

/* 0 when an overlay of the directories in @dirfd can be made; -ENODEV when the kernel has none. */
static int overlay_try(int dirfd, bool userxattr)
{
	_cleanup_close_ int fs = fsopen("overlay", FSOPEN_CLOEXEC);
	int r;

	if (fs < 0)
		return -errno;
	r = set_dir(fs, "lowerdir", dirfd, "lower");
	if (r >= 0)
		r = set_dir(fs, "upperdir", dirfd, "upper");
	if (r >= 0)
		r = set_dir(fs, "workdir", dirfd, "work");
	if (r >= 0 && userxattr &&
	    fsconfig((unsigned int)fs, FSCONFIG_SET_FLAG, "userxattr", NULL, 0) < 0)
		r = -errno;
	if (r >= 0 && fsconfig((unsigned int)fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		r = -errno;
	return r;
}

/* Overlays take id-mapped layers since 5.19. */
static bool kernel_maps_layers(void)
{
	struct utsname u;
	unsigned int major, minor;

	if (uname(&u) < 0 || sscanf(u.release, "%u.%u", &major, &minor) != 2)
		return false;
	return major > 5 || (major == 5 && minor >= 19);
}

static int support_find(const char *root, const char *dir, int dirfd, struct overlay_support *ret,
			struct err *err)
{
	static const char *const names[] = {"lower", "upper", "work"};
	int r;

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (mkdirat(dirfd, names[i], 0755) < 0)
			return err_errno(err, errno, "make directory `%s/%s`", dir, names[i]);
	if (!entry_types_told(dirfd))
		return err_set(err, ERR_FAILED_PRECONDITION,
			       "%s does not support d_type. If the backing filesystem is xfs, "
			       "please reformat "
			       "with ftype=1 to enable d_type support",
			       root);
	ret->in_userns = overlay_in_userns();
	ret->userxattr = ret->in_userns && overlay_try(dirfd, true) == 0;
	r = ret->userxattr ? 0 : overlay_try(dirfd, false);
	if (r == -ENODEV)
		return err_set(err, ERR_UNIMPLEMENTED, "the kernel has no overlay file system");
	if (r < 0 && r != -EPERM && r != -ENOSYS && r != -EACCES)
		return err_set(err, ERR_FAILED_PRECONDITION,
			       "the file system of %s can not hold an overlay: %s", root,
			       strerror(-r));
	ret->index = access("/sys/module/overlay/parameters/index", F_OK) == 0;
	ret->idmap = !ret->in_userns && kernel_maps_layers() && mount_idmap_supported(dir);
	return 0;
}

int overlay_check(const char *root, struct overlay_support *ret, struct err *err)
{
	_cleanup_free_ char *dir = NULL;
	_cleanup_close_ int fd = -1;
	struct overlay_support can = {0};
	int r;

	if (asprintf(&dir, "%s/check-XXXXXX", root) < 0)
		return err_nomem(err);
	if (!mkdtemp(dir))
		return err_errno(err, errno, "make directory `%s`", dir);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = fd < 0 ? err_errno(err, errno, "open `%s`", dir)
		   : support_find(root, dir, fd, &can, err);
	(void)rm_rf(AT_FDCWD, dir);
	if (r >= 0)
		*ret = can;
	return r;
}
