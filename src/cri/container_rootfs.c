/* SPDX-License-Identifier: Apache-2.0 */
/* What is read of a container's root file system before it runs: users and groups, and what its
 * image has below its volumes.
 *
 * A mount for that is much work, the more so the more mounts the host has, and the end of an
 * overlay that can be written to syncs its file system. So files are looked up in the layers where
 * that can be (sys/layers.h), and the root is mounted for the rest only. */
#include <fcntl.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "cri/container.h"
#include "sys/layers.h"

#define FILE_MAX (4u << 20)

static int in_layers(struct arena *a, const struct mounts *m, struct cri_rootfs *f)
{
	struct mount_spec s;
	char *passwd, *group;

	if (m->n != 1)
		return -EAGAIN;
	s = (struct mount_spec){.type = m->v[0].type,
				.source = m->v[0].source,
				.target = m->v[0].target,
				.options = (char *const *)m->v[0].options,
				.n_options = m->v[0].n_options};
	int r = layers_file_read(a, &s, "etc", "passwd", FILE_MAX, &passwd);
	if (r == 0)
		r = layers_file_read(a, &s, "etc", "group", FILE_MAX, &group);
	if (r < 0)
		return r;
	f->passwd = passwd;
	f->group = group;
	return 0;
}

/* "" when it is not there. */
static int root_file(struct arena *a, int root, const char *path, const char **ret, struct err *err)
{
	_cleanup_close_ int fd = path_open_in_root(root, path, O_RDONLY | O_NONBLOCK, 0);
	char *text = (char *)"";
	size_t n;
	int r = 0;

	if (fd < 0 && fd != -ENOENT && fd != -ENOTDIR && fd != -ELOOP)
		return err_errno(err, fd, "open %s of the container", path);
	if (fd >= 0)
		r = fd_read_all(a, fd, FILE_MAX, &text, &n);
	if (r < 0)
		return err_errno(err, r, "read %s of the container", path);
	*ret = text;
	return 0;
}

int cri_rootfs_open(struct ctx *ctx, const struct mounts *m, bool mounted, struct cri_rootfs *ret,
		    struct err *err)
{
	if (!mounted && in_layers(ctx->arena, m, ret) == 0)
		return 0;
	int r = temp_mount(ctx, m, &ret->mount, err);
	if (r == 0)
		r = root_file(ctx->arena, ret->mount.fd, "/etc/passwd", &ret->passwd, err);
	return r < 0 ? r : root_file(ctx->arena, ret->mount.fd, "/etc/group", &ret->group, err);
}

void cri_rootfs_done(struct cri_rootfs *f)
{
	temp_mount_done(&f->mount);
}
