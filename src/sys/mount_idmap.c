/* SPDX-License-Identifier: Apache-2.0 */
/* Id-mapped mounts (Linux 5.12, overlay layers 5.19).
 *
 * The kernel takes the maps from a user namespace. One is made by a child that does nothing but
 * live in it until a descriptor of the namespace is open; it has no exit signal, so that no reaper
 * of this process' children ever sees it. Only a mount that is not attached yet may be mapped: what
 * is mounted is cloned, mapped, and put in place of the original.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "sys/mount_internal.h"

#define ID_MAPS_MAX 340 /* the kernel's own limit */

/* "0:100000:65536,..." into the lines of uid_map; checks that there are three numbers each. */
static char *id_map_lines(struct arena *a, const char *map)
{
	size_t n, m;
	char **parts = str_split(a, map, ',', &n), *out = arena_strdup(a, "");

	if (!parts || !out || n == 0 || n > ID_MAPS_MAX)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		char **v = str_split(a, parts[i], ':', &m);
		uint64_t id;

		if (!v || m != 3)
			return NULL;
		for (size_t k = 0; k < 3; k++)
			if (str_to_u64(v[k], 10, &id) < 0 || id > UINT32_MAX)
				return NULL;
		out = arena_printf(a, "%s%s %s %s\n", out, v[0], v[1], v[2]);
		if (!out)
			return NULL;
	}
	return out;
}

static int proc_write(struct arena *a, pid_t pid, const char *name, const char *text)
{
	char *path = arena_printf(a, "/proc/%d/%s", (int)pid, name);
	_cleanup_close_ int fd = -1;
	ssize_t n;

	if (!path)
		return -ENOMEM;
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = write(fd, text, strlen(text)); /* in one go: the kernel wants it so */
	if (n < 0)
		return -errno;
	return (size_t)n == strlen(text) ? 0 : -EIO;
}

static int ns_open(struct arena *a, pid_t pid, const char *name)
{
	char *path = arena_printf(a, "/proc/%d/ns/%s", (int)pid, name);
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;

	return path ? (fd < 0 ? -errno : fd) : -ENOMEM;
}

static int userns_setup(struct arena *a, pid_t pid, const char *uids, const char *gids, int *ret_fd,
			int *ret_netns_fd)
{
	_cleanup_close_ int fd = -1;
	int r, net;

	r = proc_write(a, pid, "uid_map", uids);
	if (r >= 0)
		r = proc_write(a, pid, "gid_map", gids);
	if (r < 0)
		return r;
	fd = ns_open(a, pid, "user");
	if (fd < 0)
		return fd;
	if (ret_netns_fd) {
		net = ns_open(a, pid, "net");
		if (net < 0)
			return net;
		*ret_netns_fd = net;
	}
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int userns_open(const char *uidmap, const char *gidmap, int *ret_fd, struct err *err)
{
	return userns_open_net(uidmap, gidmap, ret_fd, NULL, err);
}

int userns_open_net(const char *uidmap, const char *gidmap, int *ret_fd, int *ret_netns_fd,
		    struct err *err)
{
	int net = ret_netns_fd ? CLONE_NEWNET : 0;
	_cleanup_arena_ struct arena *a = arena_new(1 << 20);
	char *uids, *gids;
	pid_t pid;
	int r;

	if (!a)
		return err_nomem(err);
	uids = id_map_lines(a, uidmap);
	gids = id_map_lines(a, gidmap);
	if (!uids || !gids)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "id map `%s`, `%s`: want container:host:length[,...]", uidmap,
			       gidmap);
	pid = (pid_t)syscall(SYS_clone, CLONE_NEWUSER | net, 0, 0, 0, 0);
	if (pid < 0)
		return err_errno(err, errno, "make a user namespace");
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	r = userns_setup(a, pid, uids, gids, ret_fd, ret_netns_fd);
	(void)kill(pid, SIGKILL);
	while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
		;
	if (r < 0)
		return err_errno(err, r, "set the maps of a user namespace");
	return 0;
}

static int tree_idmap(int tree, bool recursive, int userns_fd)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP,
				  .userns_fd = (unsigned int)userns_fd};

	if (mount_setattr(tree, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &attr,
			  sizeof(attr)) < 0)
		return -errno;
	return 0;
}

static int tree_clone(const char *path, bool recursive)
{
	int fd = open_tree(AT_FDCWD, path,
			   OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (recursive ? AT_RECURSIVE : 0));

	return fd < 0 ? -errno : fd;
}

static int tree_attach(int tree, const char *target)
{
	if (move_mount(tree, "", AT_FDCWD, target,
		       MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS) < 0)
		return -errno;
	return 0;
}

int mount_idmap_in_place(const char *target, bool recursive, int userns_fd)
{
	_cleanup_close_ int tree = tree_clone(target, recursive);
	int r;

	if (tree < 0)
		return tree;
	r = tree_idmap(tree, recursive, userns_fd);
	if (r < 0)
		return r;
	if (umount2(target, MNT_DETACH) < 0)
		return -errno;
	return tree_attach(tree, target);
}

int mount_idmapped_bind(const char *source, const char *target, bool recursive, int userns_fd)
{
	_cleanup_close_ int tree = tree_clone(source, recursive);
	int r;

	if (tree < 0)
		return tree;
	r = tree_idmap(tree, recursive, userns_fd);
	return r < 0 ? r : tree_attach(tree, target);
}

int mount_drop_below(const char *target)
{
	_cleanup_close_ int tree = tree_clone(target, false);

	if (tree < 0)
		return tree;
	if (umount2(target, MNT_DETACH) < 0 || umount2(target, MNT_DETACH) < 0)
		return -errno;
	return tree_attach(tree, target);
}

bool mount_idmap_supported(const char *dir)
{
	_cleanup_close_ int userns = -1, tree = -1;

	if (userns_open("0:1:1", "0:1:1", &userns, NULL) < 0)
		return false;
	tree = tree_clone(dir, false);
	return tree >= 0 && tree_idmap(tree, false, userns) == 0;
}
