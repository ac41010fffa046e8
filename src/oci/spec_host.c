/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a spec that depend on this host: its capabilities, its devices, its network.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/path.h"
#include "base/str.h"
#include "oci/spec.h"

#define DEVICE_DEPTH_MAX 8

/* By number, as linux/capability.h. */
static const char *const cap_names[] = {
	"CAP_CHOWN",
	"CAP_DAC_OVERRIDE",
	"CAP_DAC_READ_SEARCH",
	"CAP_FOWNER",
	"CAP_FSETID",
	"CAP_KILL",
	"CAP_SETGID",
	"CAP_SETUID",
	"CAP_SETPCAP",
	"CAP_LINUX_IMMUTABLE",
	"CAP_NET_BIND_SERVICE",
	"CAP_NET_BROADCAST",
	"CAP_NET_ADMIN",
	"CAP_NET_RAW",
	"CAP_IPC_LOCK",
	"CAP_IPC_OWNER",
	"CAP_SYS_MODULE",
	"CAP_SYS_RAWIO",
	"CAP_SYS_CHROOT",
	"CAP_SYS_PTRACE",
	"CAP_SYS_PACCT",
	"CAP_SYS_ADMIN",
	"CAP_SYS_BOOT",
	"CAP_SYS_NICE",
	"CAP_SYS_RESOURCE",
	"CAP_SYS_TIME",
	"CAP_SYS_TTY_CONFIG",
	"CAP_MKNOD",
	"CAP_LEASE",
	"CAP_AUDIT_WRITE",
	"CAP_AUDIT_CONTROL",
	"CAP_SETFCAP",
	"CAP_MAC_OVERRIDE",
	"CAP_MAC_ADMIN",
	"CAP_SYSLOG",
	"CAP_WAKE_ALARM",
	"CAP_BLOCK_SUSPEND",
	"CAP_AUDIT_READ",
	"CAP_PERFMON",
	"CAP_BPF",
	"CAP_CHECKPOINT_RESTORE",
};

int spec_add_all_caps(json_t *spec, struct err *err)
{
	int r = 0;

	/* What our own bounding set lacks, or the kernel does not know, nobody below us can have.
	 */
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(cap_names); i++)
		if (prctl(PR_CAPBSET_READ, i) == 1)
			r = spec_add_cap(spec, cap_names[i], err);
	return r;
}

/* @minor -1: all. */
static json_t *device_rule(const char *type, int64_t major, int64_t minor, const char *access)
{
	json_t *v =
		json_pack("{s:b,s:s,s:I}", "allow", 1, "type", type, "major", (json_int_t)major);

	if (v && ((minor >= 0 && json_object_set_new(v, "minor", json_integer(minor)) < 0) ||
		  json_object_set_new(v, "access", json_string(access)) < 0)) {
		json_decref(v);
		return NULL;
	}
	return v;
}

/* Takes @v over. */
static int append_new(json_t *spec, const char *path, json_t *v, struct err *err)
{
	json_t *a;
	int r;

	if (!v)
		return err_nomem(err);
	a = spec_get(spec, path);
	if (!a) {
		a = json_array();
		r = spec_set(spec, path, a, err);
		if (r < 0) {
			json_decref(v);
			return r;
		}
	}
	if (!json_is_array(a)) {
		json_decref(v);
		return err_set(err, ERR_INVALID_ARGUMENT, "spec: member \"%s\" is no array", path);
	}
	return json_array_append_new(a, v) < 0 ? err_nomem(err) : 0;
}

int spec_allow_default_devices(json_t *spec, struct err *err)
{
	/* null, random, full, tty, zero, urandom, console, pts, ptmx */
	static const struct {
		int major, minor;
	} devices[] = {{1, 3}, {1, 8}, {1, 7}, {5, 0}, {1, 5}, {1, 9}, {5, 1}, {136, -1}, {5, 2}};
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(devices); i++)
		r = append_new(spec, "linux/resources/devices",
			       device_rule("c", devices[i].major, devices[i].minor, "rwm"), err);
	return r;
}

int spec_allow_all_devices(json_t *spec, struct err *err)
{
	return spec_set(spec, "linux/resources/devices",
			json_pack("[{s:b,s:s}]", "allow", 1, "access", "rwm"), err);
}

static int add_node(json_t *spec, const struct stat *st, const char *path, const char *access,
		    struct err *err)
{
	const char *type = S_ISBLK(st->st_mode) ? "b" : "c";
	json_int_t major = major(st->st_rdev), minor = minor(st->st_rdev);
	int r;

	r = append_new(spec, "linux/devices",
		       json_pack("{s:s,s:s,s:I,s:I,s:i,s:I,s:I}", "path", path, "type", type,
				 "major", major, "minor", minor, "fileMode",
				 (int)(st->st_mode & 07777), "uid", (json_int_t)st->st_uid, "gid",
				 (json_int_t)st->st_gid),
		       err);
	if (r == 0 && access)
		r = append_new(spec, "linux/resources/devices",
			       device_rule(type, major, minor, access), err);
	return r;
}

static bool skip_name(const char *name)
{
	/* Of /dev: what the container has file systems or links of its own for. */
	static const char *const own[] = {".",	    "..",      "pts",  "shm",	      "fd",
					  "mqueue", "console", ".lxc", ".lxd-mounts", ".udev"};

	for (size_t i = 0; i < ARRAY_LEN(own); i++)
		if (streq(name, own[i]))
			return true;
	return false;
}

static int add_tree(json_t *spec, const char *host, const char *path, const char *access, int depth,
		    struct err *err);

static int add_entry(json_t *spec, int dirfd, const char *name, const char *host, const char *path,
		     const char *access, int depth, struct err *err)
{
	struct arena *a _cleanup_arena_ = arena_new(0);
	char *sub_host = a ? path_join(a, host, name) : NULL;
	char *sub_path = a ? path_join(a, path, name) : NULL;
	struct stat st;

	if (!sub_host || !sub_path)
		return err_nomem(err);
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : err_errno(err, errno, "stat `%s`", sub_host);
	if (S_ISDIR(st.st_mode))
		return add_tree(spec, sub_host, sub_path, access, depth + 1, err);
	if (!S_ISCHR(st.st_mode) && !S_ISBLK(st.st_mode))
		return 0;
	/* A whiteout is no device. */
	return st.st_rdev == 0 ? 0 : add_node(spec, &st, sub_path, access, err);
}

static int add_tree(json_t *spec, const char *host, const char *path, const char *access, int depth,
		    struct err *err)
{
	DIR *d _cleanup_closedir_ = opendir(host);
	struct dirent *e;
	int r = 0;

	if (!d)
		return err_errno(err, errno, "open `%s`", host);
	if (depth > DEVICE_DEPTH_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT, "`%s` is nested too deeply for devices",
			       host);
	while (r == 0 && (errno = 0, e = readdir(d)))
		if (!skip_name(e->d_name))
			r = add_entry(spec, dirfd(d), e->d_name, host, path, access, depth, err);
	if (r == 0 && errno)
		return err_errno(err, errno, "read `%s`", host);
	return r;
}

int spec_add_device(json_t *spec, const char *host, const char *path, const char *access,
		    struct err *err)
{
	struct stat st;

	if (stat(host, &st) < 0)
		return err_errno(err, errno, "device `%s`", host);
	if (S_ISDIR(st.st_mode))
		return add_tree(spec, host, path, access, 0, err);
	if (!S_ISCHR(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_set(err, ERR_INVALID_ARGUMENT, "`%s` is no device", host);
	return add_node(spec, &st, path, access, err);
}

bool spec_host_unified(void)
{
	struct statfs s;

	return statfs("/sys/fs/cgroup", &s) == 0 && s.f_type == CGROUP2_SUPER_MAGIC;
}

/* ---- Network ---- */

static int bind_host_file(json_t *spec, const char *path, struct err *err)
{
	const char *options[] = {"rbind", "ro"};

	return spec_add_mount(spec,
			      &(struct mount){.type = "bind",
					      .source = path,
					      .target = path,
					      .options = options,
					      .n_options = 2},
			      err);
}

int spec_set_host_network(json_t *spec, struct err *err)
{
	char name[HOST_NAME_MAX + 1] = "", assignment[HOST_NAME_MAX + 16];
	int r;

	gethostname(name, sizeof(name) - 1);
	snprintf(assignment, sizeof(assignment), "HOSTNAME=%s", name);
	spec_remove_namespace(spec, "network");
	r = spec_set_env(spec, assignment, err);
	if (r == 0)
		r = bind_host_file(spec, "/etc/hosts", err);
	return r < 0 ? r : bind_host_file(spec, "/etc/resolv.conf", err);
}
