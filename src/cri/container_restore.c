/* SPDX-License-Identifier: Apache-2.0 */
/* See restore.h.
 *
 *     <root>/containers/<fresh id>/            while the container is made: the archive's files
 *     <root>/containers/<container>/restore/   from then on to its start
 *         checkpoint/   images of CRIU
 *
 * A daemon that dies meanwhile leaves a directory that no container has, which the next one
 * removes as others of that kind. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "core/deprecation.h"
#include "core/snapshot.h"
#include "core/worker.h"
#include "cri/restore.h"
#include "oci/reference.h"
#include "plugins/differ/temp_mount.h"
#include "plugins/differ/walking.h"

#define IMAGES "checkpoint"
#define CHANGES "rootfs-diff.tar"
#define LOG "container.log"
#define DOCUMENT_MAX (4u << 20)
#define ENTRIES_MAX (1 << 20)
#define LOG_MAX (INT64_C(256) << 20)
#define DEPTH_MAX 8
#define REFERENCE_MAX 4096
#define TIME_LEN 40
#define COPY_CHUNK (1u << 16)

bool cri_restore_is_archive(const char *image)
{
	return image[0] == '/' && access(image, F_OK) == 0;
}

/* ---- files of the archive ---- */

/* A file of the directory for reading; never what a link leads to, and nothing that does anything
 * by being opened. -ENOENT, -ELOOP, -EINVAL (no plain file). */
static int file_open(int dir, const char *name)
{
	_cleanup_close_ int fd = path_open_in_root(dir, name, O_PATH | O_NOFOLLOW, 0);
	char path[32];
	struct stat st;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int r = open(path, O_RDONLY | O_CLOEXEC);
	return r < 0 ? -errno : r;
}

static int document(struct ctx *ctx, struct cri_restore *r, const char *name, json_t **ret,
		    struct err *err)
{
	_cleanup_close_ int fd = file_open(r->fd, name);
	char *text;
	size_t n;
	int e = fd < 0 ? fd : fd_read_all(ctx->arena, fd, DOCUMENT_MAX, &text, &n);

	if (e < 0)
		return err_set(err, ERR_INVALID_ARGUMENT, "failed to read \"%s\": %s", name,
			       strerror(-e));
	e = json_parse(text, n, ret, err);
	if (e < 0)
		return err_prefix(err, "failed to read \"%s\"", name);
	if (json_is_object(*ret))
		return 0;
	json_decref(*ret);
	*ret = NULL;
	return err_set(err, ERR_INVALID_ARGUMENT, "failed to read \"%s\": no object", name);
}

/* CRIU opens what it finds by name: a link could lead it anywhere. */
static int only_files(int at, const char *name, int depth, int *left, struct err *err)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), r = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *e;
	struct stat st;

	if (!d) {
		r = err_set(err, ERR_INVALID_ARGUMENT, "%.64s is no directory", name);
		if (fd >= 0)
			close(fd);
		return r;
	}
	while (r == 0 && (e = readdir(d))) {
		if (streq(e->d_name, ".") || streq(e->d_name, ".."))
			continue;
		if (fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			r = err_errno(err, errno, "stat %.64s", e->d_name);
		else if (S_ISDIR(st.st_mode) && depth < DEPTH_MAX)
			r = only_files(fd, e->d_name, depth + 1, left, err);
		else if (!S_ISREG(st.st_mode) || st.st_nlink != 1 || --*left < 0)
			r = err_set(err, ERR_INVALID_ARGUMENT, "%.64s is no plain file of its own",
				    e->d_name);
	}
	closedir(d);
	return r;
}

/* ---- unpacking ---- */

static int to_file(void *arg, const void *p, size_t n, struct err *err)
{
	int r = fd_write_full(*(int *)arg, p, n);
	return r < 0 ? err_errno(err, r, "write") : 0;
}

/* An image's files as the archive that they came from, so that one way is left. */
static int archive_of_image(struct ctx *ctx, struct cri *c, const struct cri_image *i,
			    const char *snapshotter, const char *dir, int *ret, struct err *err)
{
	struct temp_mount t = TEMP_MOUNT_INIT;
	struct pack_result unused;
	struct labels none = {0};
	struct mounts mounts;
	const char *chain;
	_cleanup_close_ int out = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	char *view = arena_printf(ctx->arena, "restore-%s", path_base(dir));
	int r = !view	  ? err_nomem(err)
		: out < 0 ? err_errno(err, errno, "make a file in %s", dir)
			  : cri_image_unpack(ctx, c, i, snapshotter, &chain, err);

	if (r == 0)
		r = snapshot_prepare(ctx, c->o.db, snapshotter, SNAPSHOT_VIEW, view, chain, &none,
				     &mounts, err);
	if (r < 0)
		return r;
	r = temp_mount(ctx, &mounts, &t, err);
	struct pack_request q = {.lower_fd = -1,
				 .upper_fd = t.fd,
				 .changed_fd = -1,
				 .compression = PACK_NONE,
				 .write = to_file,
				 .arg = &out};
	if (r == 0)
		r = worker_pack(ctx, &q, &unused, err);
	temp_mount_done(&t);
	struct ctx bg = cri_background(c, ctx->arena, c->config->defer_cleanup_timeout_ns);
	struct err undo = ERR_INIT;
	if (snapshot_remove(&bg, c->o.db, snapshotter, view, &undo) < 0)
		log_warn("checkpoint image %s: remove its view: %s", i->id, undo.text);
	if (r == 0 && lseek(out, 0, SEEK_SET) < 0)
		r = err_errno(err, errno, "seek");
	if (r == 0)
		*ret = TAKE_FD(out);
	return r;
}

static int archive_open(const char *path, int *ret, struct err *err)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(err, errno, "failed to open checkpoint archive %.256s for import",
				 path);
	if (!S_ISREG(st.st_mode))
		return err_set(err, ERR_INVALID_ARGUMENT, "checkpoint archive %.256s: not a file",
			       path);
	*ret = TAKE_FD(fd);
	return 0;
}

static int unpack(struct ctx *ctx, struct cri *c, const char *name, const struct cri_image *image,
		  const char *snapshotter, struct cri_restore *r, struct err *err)
{
	_cleanup_close_ int in = -1;
	struct unpack_result unused;
	char id[CRI_ID_LEN + 1];
	int e;

	cri_id_new(id);
	char *dir = cri_container_root(c, ctx->arena, id);
	if (!dir)
		return err_nomem(err);
	e = mkdir_p(path_dir(ctx->arena, dir), 0755);
	if (e == 0 && mkdir(dir, 0700) < 0)
		e = -errno;
	if (e < 0)
		return err_errno(err, e, "make %s", dir);
	r->dir = dir;
	r->fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (r->fd < 0)
		return err_errno(err, errno, "open %s", dir);
	e = image ? archive_of_image(ctx, c, image, snapshotter, dir, &in, err)
		  : archive_open(name, &in, err);
	struct unpack_request q = {.input_fd = in,
				   .media_type = "application/x-tar",
				   .target_fd = r->fd,
				   .whiteouts = UNPACK_PLAIN,
				   .max_entries = ENTRIES_MAX};
	if (e == 0)
		e = worker_unpack(ctx, &q, &unused, err);
	/* The archive may have had its own idea of this directory. */
	if (e == 0 && (fchown(r->fd, 0, 0) < 0 || fchmod(r->fd, 0700) < 0))
		e = err_errno(err, errno, "keep %s private", dir);
	return e < 0 ? err_prefix(err, "unpacking of checkpoint archive %.256s failed", name) : 0;
}

/* ---- what it says ---- */

/* As it was written, when it has the form of a time; else "". */
static const char *time_of(struct arena *a, const char *text)
{
	size_t n = strlen(text);
	return n < TIME_LEN && strspn(text, "0123456789-:.TZ+") == n ? arena_strdup(a, text) : "";
}

static int pull_base(struct ctx *ctx, struct cri *c, const char *ref, const char *snapshotter,
		     struct err *err)
{
	struct cri_pull p = {.snapshotter = snapshotter};
	const char *unused;
	char *name;
	int e = reference_normalize(ctx->arena, ref, &name, err);

	if (e < 0)
		return err_prefix(err, "the checkpoint's base image");
	/* What a name without a digest means today is not for an archive to decide. */
	if (!strchr(name, '@'))
		return err_set(err, ERR_NOT_FOUND,
			       "failed to get checkpoint base image %.256s: pull it first", ref);
	p.ref = name;
	e = cri_image_pull(ctx, c, &p, &unused, err);
	return e < 0 ? err_prefix(err, "failed to pull checkpoint base image %.256s", ref) : 0;
}

static int base_image(struct ctx *ctx, struct cri *c, const json_t *config, const char *snapshotter,
		      struct cri_restore *r, struct err *err)
{
	const char *ref = json_str(config, "rootfsImageRef", "");
	struct err absent = ERR_INIT;

	if (str_empty(ref) || strlen(ref) > REFERENCE_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "config.dump does not name the image of the container");
	int e = cri_image_resolve(ctx, c->images, ref, &r->base, &r->base_spec, &absent);
	if (e != -ERR_NOT_FOUND)
		return e < 0 ? err_copy(err, &absent) : 0;
	e = pull_base(ctx, c, ref, snapshotter, err);
	return e < 0 ? e : cri_image_resolve(ctx, c->images, ref, &r->base, &r->base_spec, err);
}

static int annotate(struct arena *a, CRI(ContainerConfig) * k, const char *key, const char *value)
{
	CRI(ContainerConfig__AnnotationsEntry) *e =
		arena_new_obj(a, CRI(ContainerConfig__AnnotationsEntry));

	if (!e)
		return -ENOMEM;
	*e = (CRI(ContainerConfig__AnnotationsEntry))CRI_INIT(CONTAINER_CONFIG__ANNOTATIONS_ENTRY);
	e->key = arena_strdup(a, key);
	e->value = arena_strdup(a, value);
	k->annotations[k->n_annotations++] = e;
	return e->key && e->value ? 0 : -ENOMEM;
}

/* The request's configuration with the base image in the checkpoint's place. The archive's own
 * annotations and labels are not taken: they would be the author's word on what the node, the
 * kubelet and plugins decide by them. */
static int configure(struct ctx *ctx, const CRI(ContainerConfig) * asked, const json_t *dumped,
		     struct cri_restore *r, struct err *err)
{
	struct arena *a = ctx->arena;
	CRI(ContainerConfig) *k = arena_new_obj(a, CRI(ContainerConfig));
	CRI(ImageSpec) *image = arena_new_obj(a, CRI(ImageSpec));
	const char *at = time_of(a, json_str(dumped, "checkpointedTime", ""));

	if (!k || !image || !at)
		return err_nomem(err);
	*k = *asked;
	*image = *asked->image;
	image->image = (char *)cri_image_name(&r->base);
	image->user_specified_image = (char *)"";
	k->image = image;
	k->n_annotations = 0;
	k->annotations = arena_new_array(a, CRI(ContainerConfig__AnnotationsEntry) *,
					 asked->n_annotations + 3);
	if (!k->annotations)
		return err_nomem(err);
	for (size_t i = 0; i < asked->n_annotations; i++)
		if (!streq(asked->annotations[i]->key, "restored") &&
		    !streq(asked->annotations[i]->key, "checkpointedAt") &&
		    !streq(asked->annotations[i]->key, "checkpointImage"))
			k->annotations[k->n_annotations++] = asked->annotations[i];
	if (annotate(a, k, "restored", "true") < 0 || annotate(a, k, "checkpointedAt", at) < 0 ||
	    annotate(a, k, "checkpointImage", asked->image->user_specified_image) < 0)
		return err_nomem(err);
	r->config = k;
	return 0;
}

static int read_documents(struct ctx *ctx, struct cri_restore *r, json_t **ret_config,
			  struct err *err)
{
	json_t *spec _cleanup_json_ = NULL, *status _cleanup_json_ = NULL;
	int left = ENTRIES_MAX, e = document(ctx, r, "spec.dump", &spec, err);

	if (e == 0)
		e = document(ctx, r, "status.dump", &status, err);
	if (e == 0)
		e = document(ctx, r, "config.dump", ret_config, err);
	return e < 0 ? e : only_files(r->fd, IMAGES, 0, &left, err);
}

int cri_restore_open(struct ctx *ctx, struct cri *c, const CRI(ContainerConfig) * config,
		     const struct cri_image *image, const char *snapshotter,
		     struct cri_restore *ret, struct err *err)
{
	const char *name = config->image->image;
	json_t *dumped _cleanup_json_ = NULL;

	if (!c->config->enable_restore_via_create)
		return err_set(err, ERR_UNKNOWN,
			       "checkpoint restore via CreateContainer is disabled by "
			       "configuration (enable_experimental_restore_via_create)");
	int e = cri_criu_check(c, err);
	if (e < 0)
		return e;
	deprecation_emit(c->o.deprecated, DEPRECATION_CRI_CHECKPOINT_RESTORE);
	e = unpack(ctx, c, name, image, snapshotter, ret, err);
	if (e == 0)
		e = read_documents(ctx, ret, &dumped, err);
	if (e == 0)
		e = base_image(ctx, c, dumped, snapshotter, ret, err);
	if (e == 0)
		e = configure(ctx, config, dumped, ret, err);
	return e < 0 ? err_prefix(err, "checkpoint \"%.256s\"", name) : 0;
}

/* ---- into the container ---- */

static int apply_changes(struct ctx *ctx, struct cri_restore *r, const struct mounts *rootfs,
			 struct err *err)
{
	_cleanup_close_ int fd = file_open(r->fd, CHANGES);
	struct descriptor unused;

	if (fd == -ENOENT)
		return 0;
	if (fd < 0)
		return err_set(err, ERR_INVALID_ARGUMENT, CHANGES ": %s", strerror(-fd));
	int e = walking_apply_fd(ctx, fd, "application/vnd.oci.image.layer.v1.tar", rootfs, false,
				 &unused, err);
	return e < 0 ? err_prefix(err, CHANGES) : 0;
}

/* To where the kubelet looks for it, unless there is a log already. */
static int copy_log(struct arena *a, struct cri_restore *r, const char *path, struct err *err)
{
	char *dir = path_dir(a, path);
	_cleanup_close_ int in = file_open(r->fd, LOG), out = -1;
	_cleanup_free_ char *b = malloc(COPY_CHUNK);
	int64_t left = LOG_MAX;

	if (in == -ENOENT || str_empty(path))
		return 0;
	if (in < 0)
		return err_set(err, ERR_INVALID_ARGUMENT, LOG ": %s", strerror(-in));
	int made = b && dir ? mkdir_p(dir, 0755) : -ENOMEM;
	if (made < 0)
		return err_errno(err, made, "make the directory of %s", path);
	out = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0640);
	if (out < 0)
		return errno == EEXIST
			       ? 0
			       : err_errno(err, errno, "restoring container log file %s", path);
	while (left > 0) {
		ssize_t n = fd_read_full(in, b, (size_t)MIN(left, (int64_t)COPY_CHUNK));
		int e = n <= 0 ? (int)n : fd_write_full(out, b, (size_t)n);
		if (e < 0)
			return err_errno(err, e, "restoring container log file %s", path);
		if (n == 0)
			break;
		left -= n;
	}
	return 0;
}

static int remove_rest(struct cri_restore *r)
{
	static const char *const rest[] = {CHANGES,	  LOG,	    "config.dump", "spec.dump",
					   "status.dump", "status", "dump.log",	   "stats-dump"};
	int e = 0;

	for (size_t i = 0; e == 0 && i < ARRAY_LEN(rest); i++)
		e = rm_rf(r->fd, rest[i]);
	return e;
}

int cri_restore_apply(struct ctx *ctx, struct cri *c, struct cri_restore *r,
		      struct cri_container *k, const struct mounts *rootfs, struct err *err)
{
	char *root = cri_container_root(c, ctx->arena, k->o.id),
	     *to = root ? path_join(ctx->arena, root, "restore") : NULL;
	int e = to ? apply_changes(ctx, r, rootfs, err) : err_nomem(err);

	if (e == 0)
		e = copy_log(ctx->arena, r, k->log_path, err);
	if (e < 0)
		return e;
	e = remove_rest(r);
	if (e == 0)
		e = mkdir_p(root, 0755);
	if (e == 0 && rename(r->dir, to) < 0)
		e = -errno;
	if (e < 0)
		return err_errno(err, e, "make %s", to);
	r->dir = NULL;
	return 0;
}

void cri_restore_done(struct cri_restore *r)
{
	if (r->dir && rm_rf(AT_FDCWD, r->dir) < 0)
		log_warn("cannot remove %s", r->dir);
	fd_closep(&r->fd);
	json_decref(r->base_spec);
	*r = CRI_RESTORE_INIT;
}

/* ---- the start ---- */

static char *own_dir(struct cri *c, struct arena *a, const char *id, const char *name)
{
	char *root = cri_container_root(c, a, id);
	return root ? path_join(a, root, name) : NULL;
}

const char *cri_restore_path(struct cri *c, struct arena *a, const char *id)
{
	const char *dir = own_dir(c, a, id, "restore/" IMAGES);
	return dir && access(dir, F_OK) == 0 ? dir : NULL;
}

void cri_restore_drop(struct cri *c, struct arena *a, const char *id)
{
	const char *dir = own_dir(c, a, id, "restore");
	if (dir && rm_rf(AT_FDCWD, dir) < 0)
		log_warn("container %s: cannot remove %s", id, dir);
}
