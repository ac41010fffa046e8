/* SPDX-License-Identifier: Apache-2.0 */
/* Loop devices. The device is set to clear itself: it lives as long as somebody has it open or
 * mounted. */
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "sys/mount_internal.h"

#define LOOP_TRIES 100
#define BUSY_TRIES 100
#define BUSY_PAUSE_NS 20000000L

static int loop_configure(int loop_fd, int file_fd, const char *file, bool read_only)
{
	struct loop_config c = {
		.fd = (unsigned int)file_fd,
		.info = {.lo_flags = LO_FLAGS_AUTOCLEAR | (read_only ? LO_FLAGS_READ_ONLY : 0)},
	};

	strncpy((char *)c.info.lo_file_name, file, LO_NAME_SIZE - 1);
	if (ioctl(loop_fd, LOOP_CONFIGURE, &c) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOTTY)
		return -errno;
	/* Before 5.8: two steps. */
	if (ioctl(loop_fd, LOOP_SET_FD, file_fd) < 0)
		return -errno;
	if (ioctl(loop_fd, LOOP_SET_STATUS64, &c.info) < 0) {
		int r = -errno;

		(void)ioctl(loop_fd, LOOP_CLR_FD, 0);
		return r;
	}
	return 0;
}

/* Two devices that write to one file know nothing of each other. */
static bool is_attached(int file_fd)
{
	for (int i = 0, gaps = 0; gaps < 64; i++) {
		char path[64];
		struct loop_info64 info;
		struct stat st;
		int fd;

		(void)snprintf(path, sizeof(path), "/sys/block/loop%d/loop", i);
		if (access(path, F_OK) < 0) {
			gaps++;
			continue;
		}
		(void)snprintf(path, sizeof(path), "/dev/loop%d", i);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		memset(&info, 0, sizeof(info));
		bool same = ioctl(fd, LOOP_GET_STATUS64, &info) == 0 && fstat(file_fd, &st) == 0 &&
			    info.lo_device == st.st_dev && info.lo_inode == st.st_ino &&
			    !(info.lo_flags & LO_FLAGS_READ_ONLY);
		close(fd);
		if (same)
			return true;
	}
	return false;
}

int loop_attach(const char *file, bool read_only, char *path, int *ret_fd)
{
	_cleanup_close_ int file_fd = -1, control = -1;
	int mode = read_only ? O_RDONLY : O_RDWR;

	file_fd = open(file, mode | O_CLOEXEC);
	if (file_fd < 0)
		return -errno;
	/* The device of what was unmounted just now goes a moment later. */
	for (int i = 0; !read_only && is_attached(file_fd); i++) {
		if (i == BUSY_TRIES)
			return -EBUSY;
		nanosleep(&(struct timespec){.tv_nsec = BUSY_PAUSE_NS}, NULL);
	}
	control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	if (control < 0)
		return -errno;
	for (int i = 0; i < LOOP_TRIES; i++) {
		_cleanup_close_ int fd = -1;
		int n = ioctl(control, LOOP_CTL_GET_FREE), r;

		if (n < 0)
			return -errno;
		(void)snprintf(path, 32, "/dev/loop%d", n);
		fd = open(path, mode | O_CLOEXEC);
		if (fd < 0)
			return -errno;
		r = loop_configure(fd, file_fd, file, read_only);
		if (r == 0) {
			*ret_fd = TAKE_FD(fd);
			return 0;
		}
		if (r != -EBUSY) /* somebody else took it between the two calls */
			return r;
	}
	return -EBUSY;
}
