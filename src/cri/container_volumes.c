/* SPDX-License-Identifier: Apache-2.0 */
/* Volumes that come from images.
 *
 * What a container's image declares as volumes: <root>/containers/<id>/volumes/<random>/, with the
 * contents that the image has there. Images that the kubelet mounts into containers: one read-only
 * view of the image per pod, mounted at <state>/image-volumes/<pod>/<digest>/, whose path is the
 * snapshot's key. */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "core/snapshot.h"
#include "cri/container.h"
#include "cri/image.h"
#include "cri/spec.h"
#include "plugins/differ/temp_mount.h"
#include "plugins/snapshotter/copy.h"
#include "sys/mount.h"

/* ---- declared by the image ---- */

static bool mounted(const CRI(ContainerConfig) * c, const char *path)
{
	size_t n = strlen(path);

	while (n > 1 && path[n - 1] == '/')
		n--;
	for (size_t i = 0; i < c->n_mounts; i++) {
		const char *p = c->mounts[i]->container_path;
		size_t m = strlen(p);
		while (m > 1 && p[m - 1] == '/')
			m--;
		if (m == n && strncmp(p, path, n) == 0)
			return true;
	}
	return false;
}

/* With the contents, the mode and the owner that the image has there; an empty directory when it
 * has none. */
static int fill(struct ctx *ctx, int rootfs_fd, const char *path, const char *dir, struct err *err)
{
	_cleanup_close_ int from =
		rootfs_fd < 0 ? -1 : path_open_in_root(rootfs_fd, path, O_RDONLY | O_DIRECTORY, 0);

	if (from < 0)
		return 0;
	int r = tree_copy(ctx, from, ".", dir, err);
	return r < 0 ? err_prefix(err, "copy the volume %s of the image", path) : 0;
}

bool cri_image_has_volumes(const struct cri *c, const json_t *image_config)
{
	return !c->config->ignore_image_defined_volumes &&
	       json_object_size(json_obj(image_config, "Volumes")) > 0;
}

int cri_image_volumes(struct ctx *ctx, struct cri *c, const char *id,
		      const CRI(ContainerConfig) * config, const json_t *image_config,
		      int rootfs_fd, struct cri_spec_mount **ret, size_t *ret_n, struct err *err)
{
	json_t *declared = json_obj(image_config, "Volumes"), *unused;
	struct arena *a = ctx->arena;
	const char *path;
	struct cri_spec_mount *v =
		arena_new_array(a, struct cri_spec_mount, json_object_size(declared) + 1);
	size_t n = 0;

	*ret = v;
	*ret_n = 0;
	if (!v)
		return err_nomem(err);
	if (!cri_image_has_volumes(c, image_config))
		return 0;
	json_object_foreach (declared, path, unused) {
		char name[CRI_ID_LEN + 1], *root = cri_container_root(c, a, id), *dir;
		if (mounted(config, path))
			continue;
		cri_id_new(name);
		dir = root ? arena_printf(a, "%s/volumes/%s", root, name) : NULL;
		v[n].container_path =
			path[0] == '/' ? arena_strdup(a, path) : path_join(a, "/", path);
		v[n].host_path = dir;
		if (!dir || !v[n].container_path)
			return err_nomem(err);
		int r = mkdir_p(dir, 0755);
		if (r < 0)
			return err_errno(err, r, "make %s", dir);
		r = fill(ctx, rootfs_fd, path, dir, err);
		if (r < 0)
			return r;
		n++;
	}
	*ret_n = n;
	return 0;
}

/* ---- mounted by the kubelet ---- */

static char *volumes_dir(struct cri *c, struct arena *a, const char *pod_id)
{
	char *p = path_join(a, c->o.state, "image-volumes");
	return p ? path_join(a, p, pod_id) : NULL;
}

/* Devices do not tell: a view of one layer is a bind mount, maybe of the same file system. */
static bool is_mounted(const char *path)
{
	struct statx st;

	return statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, 0, &st) == 0 &&
	       st.stx_attributes & STATX_ATTR_MOUNT_ROOT;
}

static int mount_view(struct ctx *ctx, const struct mounts *m, const char *target, struct err *err)
{
	if (m->n > 1) /* the last stands on the others */
		return temp_mount_attach(ctx, m, target, err);
	for (size_t i = 0; i < m->n; i++) {
		struct mount_spec s = {.type = m->v[i].type,
				       .source = m->v[i].source,
				       .target = m->v[i].target,
				       .options = (char *const *)m->v[i].options,
				       .n_options = m->v[i].n_options};
		int r = mount_spec_mount(&s, target, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Begun with the pod: two containers that start at once do not mount it twice. */
static int image_mounted(struct ctx *ctx, struct cri *c, struct cri_pod *p, const char *ref,
			 const char **ret, struct err *err)
{
	const char *snapshotter = cri_config_snapshotter(c->config, p->runtime), *chain, *hex;
	json_t *spec _cleanup_json_ = NULL;
	struct cri_image image;
	struct mounts mounts;
	struct err own = ERR_INIT;
	int r = cri_image_resolve(ctx, c->images, ref, &image, &spec, err);

	if (r < 0)
		return r;
	hex = strchr(image.id, ':');
	char *dir = volumes_dir(c, ctx->arena, p->o.id),
	     *target = dir ? path_join(ctx->arena, dir, hex ? hex + 1 : image.id) : NULL;
	if (!target)
		return err_nomem(err);
	*ret = target;
	if (is_mounted(target))
		return 0;
	r = mkdir_p(target, 0755);
	if (r < 0)
		return err_errno(err, r, "make %s", target);
	r = cri_image_unpack(ctx, c, &image, snapshotter, &chain, err);
	if (r < 0)
		return r;
	r = snapshot_prepare(ctx, c->o.db, snapshotter, SNAPSHOT_VIEW, target, chain,
			     &(struct labels){0}, &mounts, &own);
	if (r == -ERR_ALREADY_EXISTS)
		r = snapshot_mounts(ctx, c->o.db, snapshotter, target, &mounts, err);
	else if (r < 0)
		r = err_copy(err, &own);
	return r < 0 ? r : mount_view(ctx, &mounts, target, err);
}

/* A path in the image, which may have links in it, as a path on the host. */
static int sub_path(struct arena *a, const char *top, const char *sub, const char **ret,
		    struct err *err)
{
	char link[32], real[PATH_MAX];
	_cleanup_close_ int root = open(top, O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_close_ int fd = root < 0 ? -errno : path_open_in_root(root, sub, O_PATH, 0);

	if (fd < 0)
		return err_errno(err, fd, "image_sub_path \"%s\"", sub);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, real, sizeof(real) - 1);
	if (n < 0)
		return err_errno(err, errno, "image_sub_path \"%s\"", sub);
	*ret = arena_strndup(a, real, (size_t)n);
	return *ret ? 0 : err_nomem(err);
}

static int image_mount(struct ctx *ctx, struct cri *c, struct cri_pod *p, const CRI(Mount) * m,
		       const char **ret, struct err *err)
{
	if (!str_empty(m->host_path))
		return err_set(err, ERR_UNKNOWN, "mount %s: an image and a host_path at once",
			       m->container_path);
	if (!m->readonly)
		return err_set(err, ERR_UNKNOWN, "mount %s: an image must be read-only",
			       m->container_path);
	int r = cri_object_begin(ctx, &p->o, err);
	if (r < 0)
		return r;
	/* Of a pod that was stopped meanwhile nobody would unmount it. */
	r = cri_pod_is_ready(p, err);
	if (r == 0)
		r = image_mounted(ctx, c, p, m->image->image, ret, err);
	cri_object_end(&p->o);
	if (r == 0 && !str_empty(m->image_sub_path))
		r = sub_path(ctx->arena, *ret, m->image_sub_path, ret, err);
	return r < 0 ? err_prefix(err, "failed to mount image \"%s\"", m->image->image) : 0;
}

int cri_image_mounts(struct ctx *ctx, struct cri *c, struct cri_pod *p,
		     const CRI(ContainerConfig) * config, const char *const **ret, struct err *err)
{
	const char **v = arena_new_array(ctx->arena, const char *, config->n_mounts + 1);
	int r = v ? 0 : err_nomem(err);

	for (size_t i = 0; r == 0 && i < config->n_mounts; i++)
		if (config->mounts[i]->image && !str_empty(config->mounts[i]->image->image))
			r = image_mount(ctx, c, p, config->mounts[i], &v[i], err);
	*ret = v;
	return r;
}

int cri_pod_drop_image_volumes(struct ctx *ctx, struct cri *c, const char *pod_id, struct err *err)
{
	char *dir = volumes_dir(c, ctx->arena, pod_id);
	_cleanup_pod_ struct cri_pod *p = NULL;
	int r = 0;

	if (!dir)
		return err_nomem(err);
	_cleanup_closedir_ DIR *d = opendir(dir);
	if (!d)
		return errno == ENOENT ? 0 : err_errno(err, errno, "open %s", dir);
	if (cri_table_get(c->pods, pod_id, &p, NULL) < 0)
		p = NULL;
	const char *snapshotter = cri_config_snapshotter(c->config, p ? p->runtime : NULL);
	for (struct dirent *e; r == 0 && (e = readdir(d));) {
		struct err own = ERR_INIT;
		if (e->d_name[0] == '.')
			continue;
		char *target = path_join(ctx->arena, dir, e->d_name);
		r = target ? mount_unmount_all(target, MNT_DETACH | UMOUNT_NOFOLLOW, err)
			   : err_nomem(err);
		if (r == 0) {
			r = snapshot_remove(ctx, c->o.db, snapshotter, target, &own);
			r = r == -ERR_NOT_FOUND ? 0 : r < 0 ? err_copy(err, &own) : 0;
		}
	}
	if (r == 0) {
		r = rm_rf(AT_FDCWD, dir);
		r = r < 0 ? err_errno(err, r, "remove %s", dir) : 0;
	}
	return r;
}
