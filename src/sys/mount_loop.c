/* SPDX-License-Identifier: Apache-2.0 */
/* Loop devices. The device is set to clear itself: it lives as long as somebody has it open or
 * mounted. */
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "sys/mount_internal.h"

#define LOOP_TRIES 100

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

int loop_attach(const char *file, bool read_only, char *path, int *ret_fd)
{
	_cleanup_close_ int file_fd = -1, control = -1;
	int mode = read_only ? O_RDONLY : O_RDWR;

	file_fd = open(file, mode | O_CLOEXEC);
	if (file_fd < 0)
		return -errno;
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
