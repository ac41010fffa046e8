/* SPDX-License-Identifier: Apache-2.0 */
/* Network namespaces that outlive whoever made them: bind mounts at paths. */
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "cri/network.h"
#include "sys/mount.h"

#define NETNS_DIR "/var/run/netns"

/* What a thread of its own does, since its namespace does not come back: it makes one, or enters
 * one. */
struct job {
	const char *path; /* enter; NULL = make */
	int fd;		  /* made */
	int error;
};

static int lo_up(void)
{
	struct ifreq r = {.ifr_name = "lo"};
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &r) < 0)
		return -errno;
	r.ifr_flags = (short)(r.ifr_flags | IFF_UP);
	return ioctl(fd, SIOCSIFFLAGS, &r) < 0 ? -errno : 0;
}

static void *run(void *arg)
{
	struct job *j = arg;

	if (!j->path) {
		if (unshare(CLONE_NEWNET) < 0 ||
		    (j->fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)) < 0)
			j->error = -errno;
		return NULL;
	}
	_cleanup_close_ int fd = open(j->path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
		j->error = -errno;
	else
		j->error = lo_up();
	return NULL;
}

static int run_job(struct job *j)
{
	pthread_t t;
	int r = pthread_create(&t, NULL, run, j);

	if (r)
		return -r;
	pthread_join(t, NULL);
	return j->error;
}

/* The directory, as a shared mount: what is mounted here is seen in other mount namespaces, too. */
static int prepare_dir(const char *dir, struct err *err)
{
	int r = mkdir_p(dir, 0755);

	if (r < 0)
		return err_errno(err, r, "make %s", dir);
	/* Of pods that begin at the same time one mounts it: not each on top of the others. */
	_cleanup_close_ int lock = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = lock < 0 ? -errno : -EINTR;
	while (lock >= 0 && r == -EINTR)
		r = flock(lock, LOCK_EX) < 0 ? -errno : 0;
	if (r < 0)
		return err_errno(err, r, "lock %s", dir);
	if (mount("", dir, "none", MS_SHARED | MS_REC, NULL) == 0)
		return 0;
	if (errno != EINVAL)
		return err_errno(err, errno, "make %s shared", dir);
	if (mount(dir, dir, "none", MS_BIND | MS_REC, NULL) < 0 ||
	    mount("", dir, "none", MS_SHARED | MS_REC, NULL) < 0)
		return err_errno(err, errno, "mount %s on itself", dir);
	return 0;
}

/* cni-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx */
int cri_netns_path(struct cri *c, struct arena *a, char **ret, struct err *err)
{
	const char *dir = c->config->netns_mounts_under_state_dir
				  ? path_join(a, c->o.state, "netns")
				  : NETNS_DIR;
	uint8_t b[16];
	char h[33], *path;

	random_bytes(b, sizeof(b));
	hex_encode(b, sizeof(b), h);
	path = dir ? arena_printf(a, "%s/cni-%.8s-%.4s-%.4s-%.4s-%.12s", dir, h, h + 8, h + 12,
				  h + 16, h + 20)
		   : NULL;
	if (!path)
		return err_nomem(err);
	*ret = path;
	return 0;
}

int cri_netns_new(struct arena *a, const char *path, int netns_fd, struct err *err)
{
	const char *dir = path_dir(a, path);
	struct job j = {.fd = -1};
	char from[48];
	int r = dir ? prepare_dir(dir, err) : err_nomem(err);

	if (r < 0)
		return r;
	if (netns_fd < 0) {
		r = run_job(&j);
		if (r < 0)
			return err_errno(err, r, "make a network namespace");
	}
	_cleanup_close_ int made = j.fd;
	_cleanup_close_ int point = open(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
	if (point < 0)
		return err_errno(err, errno, "make %s", path);
	snprintf(from, sizeof(from), "/proc/self/fd/%d", netns_fd < 0 ? made : netns_fd);
	if (mount(from, path, "none", MS_BIND, NULL) < 0) {
		r = err_errno(err, errno, "mount a network namespace at %s", path);
		(void)unlink(path);
		return r;
	}
	return 0;
}

int cri_netns_remove(const char *path, struct err *err)
{
	if (str_empty(path))
		return 0;
	int r = mount_unmount_all(path, MNT_DETACH | UMOUNT_NOFOLLOW, err);
	if (r < 0)
		return err_prefix(err, "network namespace %s", path);
	if (unlink(path) < 0 && errno != ENOENT)
		return err_errno(err, errno, "remove %s", path);
	return 0;
}

bool cri_netns_exists(const char *path)
{
	struct statfs s;
	return !str_empty(path) && statfs(path, &s) == 0 && s.f_type == NSFS_MAGIC;
}

int cri_netns_loopback(const char *path, struct err *err)
{
	struct job j = {.path = path, .fd = -1};
	int r = run_job(&j);
	return r < 0 ? err_errno(err, r, "set up the loopback interface in %s", path) : 0;
}

/* A mount that still has namespaces on it is busy, and stays. */
void cri_netns_done(struct cri *c)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	char *dir = a && c->config->netns_mounts_under_state_dir ? path_join(a, c->o.state, "netns")
								 : NULL;

	if (dir)
		(void)umount2(dir, UMOUNT_NOFOLLOW);
}
