/* SPDX-License-Identifier: Apache-2.0 */
/* Mounting: fstab-like descriptions become system calls.
 *
 * An option is, in this order, a flag of mount(2) that it sets or clears, a propagation change that
 * follows the mount, an instruction to this file (loop, uidmap=, gidmap=), something of
 * containerd's own that no kernel knows (X-containerd.*), or data for the file system. What does
 * not fit into one mount(2) call goes to the neighbours: overlays with data of more than a page
 * (mount_overlay.c), id-mapped mounts (mount_idmap.c), loop devices (mount_loop.c).
 *
 * A mount that fails half-way is taken back. Any thread.
 */
#include "sys/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "base/path.h"
#include "base/str.h"
#include "sys/mount_internal.h"

#define OPTIONS_MAX 4096
#define PER_MOUNT_FLAGS \
	(MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOSYMFOLLOW | ATIME_FLAGS)
#define ATIME_FLAGS (MS_NOATIME | MS_NODIRATIME | MS_RELATIME | MS_STRICTATIME)
#define BUSY_RETRIES 50
#define BUSY_RETRY_NS 50000000L

static const struct mount_flag {
	const char *name;
	unsigned long set, clear;
} mount_flags[] = {
	{"async", 0, MS_SYNCHRONOUS},
	{"atime", 0, MS_NOATIME},
	{"bind", MS_BIND, 0},
	{"defaults", 0, 0},
	{"dev", 0, MS_NODEV},
	{"diratime", 0, MS_NODIRATIME},
	{"dirsync", MS_DIRSYNC, 0},
	{"exec", 0, MS_NOEXEC},
	{"lazytime", MS_LAZYTIME, 0},
	{"mand", MS_MANDLOCK, 0},
	{"noatime", MS_NOATIME, 0},
	{"nodev", MS_NODEV, 0},
	{"nodiratime", MS_NODIRATIME, 0},
	{"noexec", MS_NOEXEC, 0},
	{"nolazytime", 0, MS_LAZYTIME},
	{"nomand", 0, MS_MANDLOCK},
	{"norelatime", 0, MS_RELATIME},
	{"nostrictatime", 0, MS_STRICTATIME},
	{"nosuid", MS_NOSUID, 0},
	{"nosymfollow", MS_NOSYMFOLLOW, 0},
	{"rbind", MS_BIND | MS_REC, 0},
	{"relatime", MS_RELATIME, 0},
	{"remount", MS_REMOUNT, 0},
	{"ro", MS_RDONLY, 0},
	{"rw", 0, MS_RDONLY},
	{"strictatime", MS_STRICTATIME, 0},
	{"suid", 0, MS_NOSUID},
	{"symfollow", 0, MS_NOSYMFOLLOW},
	{"sync", MS_SYNCHRONOUS, 0},
};

static const struct mount_flag propagation_flags[] = {
	{"private", MS_PRIVATE, 0},	  {"rprivate", MS_PRIVATE | MS_REC, 0},
	{"slave", MS_SLAVE, 0},		  {"rslave", MS_SLAVE | MS_REC, 0},
	{"shared", MS_SHARED, 0},	  {"rshared", MS_SHARED | MS_REC, 0},
	{"unbindable", MS_UNBINDABLE, 0}, {"runbindable", MS_UNBINDABLE | MS_REC, 0},
};

static const struct mount_flag *flag_find(const struct mount_flag *v, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (streq(v[i].name, name))
			return &v[i];
	return NULL;
}

static int plan_option(struct mount_plan *p, const char *o)
{
	const struct mount_flag *f = flag_find(mount_flags, ARRAY_LEN(mount_flags), o);
	const char *v;

	if (f) {
		p->flags = (p->flags & ~f->clear) | f->set;
		return 0;
	}
	f = flag_find(propagation_flags, ARRAY_LEN(propagation_flags), o);
	if (f) {
		if (p->n_propagation == ARRAY_LEN(p->propagation))
			return -E2BIG;
		p->propagation[p->n_propagation++] = f->set;
	} else if (streq(o, "loop")) {
		p->loop = true;
	} else if ((v = str_skip(o, "uidmap="))) {
		p->uidmap = v;
	} else if ((v = str_skip(o, "gidmap="))) {
		p->gidmap = v;
	} else if (*o && !str_has_prefix(o, "X-containerd.")) {
		p->data[p->n_data++] = o;
	}
	return 0;
}

static int plan_make(struct arena *a, const struct mount_spec *m, const char *target,
		     struct mount_plan *ret, struct err *err)
{
	struct mount_plan p = {.type = m->type ? m->type : "",
			       .source = m->source ? m->source : "",
			       .target = target};
	int r;

	if (m->n_options > OPTIONS_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT, "mount `%s`: more than %d options",
			       p.source, OPTIONS_MAX);
	p.data = arena_new_array(a, const char *, m->n_options + 1);
	if (!p.data)
		return err_nomem(err);
	/* A mount of type bind is one even if the options forgot to say so. */
	if (streq(p.type, "bind"))
		p.flags |= MS_BIND;
	else if (streq(p.type, "rbind"))
		p.flags |= MS_BIND | MS_REC;
	for (size_t i = 0; i < m->n_options; i++) {
		/* Without the device that checks what is read, it is not to be read. */
		if (str_has_prefix(m->options[i], "X-containerd.dmverity="))
			return err_set(err, ERR_UNIMPLEMENTED, "mount `%s`: dm-verity", p.source);
		r = plan_option(&p, m->options[i]);
		if (r < 0)
			return err_errno(err, r, "mount `%s`: option `%s`", p.source,
					 m->options[i]);
	}
	if (!p.uidmap != !p.gidmap)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "mount `%s`: uidmap and gidmap belong together", p.source);
	*ret = p;
	return 0;
}

char *plan_data(struct arena *a, const struct mount_plan *p)
{
	size_t len = 1;
	char *s, *q;

	for (size_t i = 0; i < p->n_data; i++)
		len += strlen(p->data[i]) + 1;
	s = q = arena_alloc(a, len);
	if (!s)
		return NULL;
	for (size_t i = 0; i < p->n_data; i++) {
		if (i)
			*q++ = ',';
		q = stpcpy(q, p->data[i]);
	}
	*q = 0;
	return s;
}

/* Flags of what is mounted at @target, as mount(2) wants them in a remount that is not to lose any.
 */
static int flags_kept(const char *target, unsigned long *ret)
{
	static const struct {
		unsigned long st, ms;
	} map[] = {
		{ST_RDONLY, MS_RDONLY},	    {ST_NOSUID, MS_NOSUID},
		{ST_NODEV, MS_NODEV},	    {ST_NOEXEC, MS_NOEXEC},
		{ST_NOATIME, MS_NOATIME},   {ST_NODIRATIME, MS_NODIRATIME},
		{ST_RELATIME, MS_RELATIME}, {0x2000 /* ST_NOSYMFOLLOW */, MS_NOSYMFOLLOW},
	};
	struct statfs st;
	unsigned long f = 0;

	if (statfs(target, &st) < 0)
		return -errno;
	for (size_t i = 0; i < ARRAY_LEN(map); i++)
		if ((unsigned long)st.f_flags & map[i].st)
			f |= map[i].ms;
	*ret = f;
	return 0;
}

static int bind_remount(const struct mount_plan *p)
{
	unsigned long kept = 0, want = p->flags & PER_MOUNT_FLAGS;
	int r = flags_kept(p->target, &kept);

	if (r < 0)
		return r;
	if (want & (MS_NOATIME | MS_RELATIME | MS_STRICTATIME))
		kept &= ~(MS_NOATIME | MS_RELATIME | MS_STRICTATIME);
	if (mount(NULL, p->target, NULL, MS_BIND | MS_REMOUNT | kept | want, NULL) < 0)
		return -errno;
	return 0;
}

static int plan_bind(const struct mount_plan *p, struct err *err)
{
	int r;

	if (!(p->flags & MS_REMOUNT)) {
		if (mount(p->source, p->target, NULL, p->flags & (MS_BIND | MS_REC), NULL) < 0)
			return err_errno(err, errno, "bind mount `%s` at `%s`", p->source,
					 p->target);
		if (!(p->flags & PER_MOUNT_FLAGS))
			return 0;
	}
	r = bind_remount(p);
	if (r < 0) {
		if (!(p->flags & MS_REMOUNT))
			(void)umount2(p->target, MNT_DETACH);
		return err_errno(err, r, "remount bind at `%s`", p->target);
	}
	return 0;
}

static int plan_filesystem(struct arena *a, const struct mount_plan *p, struct err *err)
{
	_cleanup_close_ int loop_fd = -1;
	char loop[32];
	const char *source = p->source;
	char *data = plan_data(a, p);
	int r;

	if (!data)
		return err_nomem(err);
	if (p->loop && streq(p->type, "erofs")) {
		/* Since Linux 6.12 such a file is mounted as it is; "loop" is for older ones. */
		if (mount(source, p->target, p->type, p->flags, data) == 0)
			return 0;
		if (errno != ENOTBLK)
			return err_errno(err, errno, "mount `%s` (erofs) at `%s`", source,
					 p->target);
	}
	if (p->loop) {
		r = loop_attach(source, p->flags & MS_RDONLY, loop, &loop_fd);
		if (r < 0)
			return err_errno(err, r, "attach `%s` to a loop device", source);
		source = loop;
	}
	if (strlen(data) >= (size_t)sysconf(_SC_PAGESIZE)) {
		if (streq(p->type, "overlay") && !(p->flags & MS_REMOUNT))
			return overlay_mount_long(a, p, err);
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "mount options of `%s` are longer than a page", p->source);
	}
	if (mount(source, p->target, p->type, p->flags, data) < 0)
		return err_errno(err, errno, "mount `%s` (%s) at `%s`", p->source, p->type,
				 p->target);
	return 0;
}

/* A lower directory that something is mounted on needs what is mounted. */
static bool other_device(const char *common, const char *lower)
{
	struct stat a, b;

	return stat(common, &a) == 0 && stat(lower, &b) == 0 && a.st_dev != b.st_dev;
}

/* An overlay whose lower layers are seen through a user namespace's maps. The id-mapped clone of
 * their common directory sits at the target for as long as the overlay needs to take its own
 * references. */
static int plan_overlay_idmapped(struct arena *a, const struct mount_plan *p, int userns,
				 struct err *err)
{
	const char **lowers = NULL, **data = arena_new_array(a, const char *, p->n_data + 1);
	struct mount_plan q = *p;
	size_t n = 0, at = 0;
	char *common, *list;
	int r;

	for (; at < p->n_data && !str_has_prefix(p->data[at], "lowerdir="); at++)
		;
	if (at == p->n_data)
		return err_set(err, ERR_INVALID_ARGUMENT, "overlay for `%s` has no lowerdir",
			       p->target);
	lowers = overlay_lowers(a, p->data[at] + strlen("lowerdir="), &n);
	if (!lowers || !data)
		return err_nomem(err);
	common = overlay_common_dir(a, lowers, n);
	if (!common)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "lower directories of the overlay for `%s` have no common directory",
			       p->target);
	list = arena_strdup(a, "lowerdir=");
	for (size_t i = 0; i < n && list; i++)
		list = arena_printf(a, "%s%s%s%s", list, i ? ":" : "", p->target,
				    lowers[i] + strlen(common));
	if (!list)
		return err_nomem(err);
	memcpy(data, p->data, p->n_data * sizeof(*data));
	data[at] = list;
	q.data = data;

	r = mount_idmapped_bind(common, p->target, other_device(common, lowers[0]), userns);
	if (r < 0)
		return err_errno(err, r, "id-mapped mount of `%s`", common);
	r = plan_filesystem(a, &q, err);
	if (r >= 0) {
		r = mount_drop_below(p->target);
		if (r >= 0)
			return 0;
		(void)umount2(p->target, MNT_DETACH);
		r = err_errno(err, r, "move the overlay at `%s`", p->target);
	}
	(void)umount2(p->target, MNT_DETACH);
	return r;
}

static int plan_idmapped(struct arena *a, const struct mount_plan *p, struct err *err)
{
	_cleanup_close_ int userns = -1;
	int r = userns_open(p->uidmap, p->gidmap, &userns, err);

	if (r < 0)
		return r;
	if (streq(p->type, "overlay"))
		return plan_overlay_idmapped(a, p, userns, err);
	r = p->flags & MS_BIND ? plan_bind(p, err) : plan_filesystem(a, p, err);
	if (r < 0)
		return r;
	r = mount_idmap_in_place(p->target, p->flags & MS_REC, userns);
	if (r < 0) {
		(void)umount2(p->target, MNT_DETACH);
		return err_errno(err, r, "id-map `%s` at `%s`", p->source, p->target);
	}
	return 0;
}

static int plan_run(struct arena *a, const struct mount_plan *p, struct err *err)
{
	/* Only a change of propagation: `mount --make-rslave`. */
	bool only_propagation =
		p->n_propagation && str_empty(p->type) && str_empty(p->source) && !p->flags;
	int r = 0;

	if (only_propagation)
		r = 0;
	else if (p->uidmap && !(p->flags & MS_REMOUNT))
		r = plan_idmapped(a, p, err);
	else if (p->flags & MS_BIND)
		r = plan_bind(p, err);
	else
		r = plan_filesystem(a, p, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < p->n_propagation; i++) {
		if (mount(NULL, p->target, NULL, p->propagation[i], NULL) < 0) {
			r = err_errno(err, errno, "set propagation of `%s`", p->target);
			if (!only_propagation && !(p->flags & MS_REMOUNT))
				(void)umount2(p->target, MNT_DETACH);
			return r;
		}
	}
	return 0;
}

/* @root, or what is @target inside of it: through a descriptor, so that no link leads out. */
static int target_open(struct arena *a, const char *root, const char *target, int *ret_fd,
		       char **ret_path, struct err *err)
{
	_cleanup_close_ int rootfd = -1;
	char *path;
	int fd;

	if (str_empty(target)) {
		*ret_path = arena_strdup(a, root);
		return *ret_path ? 0 : err_nomem(err);
	}
	rootfd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (rootfd < 0)
		return err_errno(err, errno, "open `%s`", root);
	fd = path_open_in_root(rootfd, target, O_PATH, 0);
	if (fd < 0)
		return err_errno(err, fd, "open `%s` in `%s`", target, root);
	path = arena_printf(a, "/proc/self/fd/%d", fd);
	if (!path) {
		close(fd);
		return err_nomem(err);
	}
	*ret_fd = fd;
	*ret_path = path;
	return 0;
}

int mount_spec_mount(const struct mount_spec *m, const char *root, struct err *err)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	_cleanup_close_ int fd = -1;
	struct mount_plan p;
	char *path = NULL;
	int r;

	if (!a)
		return err_nomem(err);
	r = target_open(a, root, m->target, &fd, &path, err);
	if (r < 0)
		return r;
	r = plan_make(a, m, path, &p, err);
	if (r < 0)
		return r;
	return plan_run(a, &p, err);
}

int mount_specs_mount(const struct mount_spec *m, size_t n, const char *root, struct err *err)
{
	for (size_t i = 0; i < n; i++) {
		int r = mount_spec_mount(&m[i], root, err);

		if (r >= 0)
			continue;
		while (i-- > 0) {
			/* Those below @root go with @root's own, or one by one when the root itself
			 * was there before. */
			_cleanup_arena_ struct arena *a = arena_new(0);
			_cleanup_close_ int fd = -1;
			char *path = NULL;

			if (a && target_open(a, root, m[i].target, &fd, &path, NULL) >= 0)
				(void)umount2(path, MNT_DETACH);
		}
		return r;
	}
	return 0;
}

int mount_unmount_all(const char *target, int flags, struct err *err)
{
	int busy = 0;

	for (;;) {
		if (umount2(target, flags) == 0)
			continue;
		if (errno == EINVAL || errno == ENOENT)
			return 0;
		if (errno == EINTR)
			continue;
		if (errno != EBUSY || flags & MNT_DETACH || busy++ == BUSY_RETRIES)
			return err_errno(err, errno, "unmount `%s`", target);
		nanosleep(&(struct timespec){.tv_nsec = BUSY_RETRY_NS}, NULL);
	}
}
