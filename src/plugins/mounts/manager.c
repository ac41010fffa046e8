/* SPDX-License-Identifier: Apache-2.0 */
/* The mount manager: see manager.h.
 *
 * A name is taken by its record, which is written before anything is mounted and completed
 * afterwards; it goes when all is unmounted. Names that a call is working on are in a list besides,
 * so that neither another call nor a collection touches them. A collection holds the gate from its
 * look at the records to its verdict: no name is taken meanwhile. */
#include "plugins/mounts/manager.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "base/time.h"
#include "plugins/mounts/record.h"
#include "plugins/mounts/transform.h"
#include "sys/mount.h"

#define LOCK_TIMEOUT_NS (10 * NSEC_PER_SEC)

struct busy {
	struct busy *next;
	const char *ns, *name;
};

/* What a collection found, to be unmounted by a thread of its own: a collection, which all writers
 * wait for, has no time for that. */
struct sweep {
	struct sweep *next;
	char *dir;
};

struct mount_manager {
	char *dir; /* <state>/t */
	const char *const *roots, *const *handled;
	struct db *meta; /* that it is registered with; NULL = not */
	struct bolt *db;
	pthread_mutex_t gate; /* held to take a name; before `lock` */
	pthread_mutex_t lock; /* guards busy, sweeps and swept */
	struct busy *busy;
	struct sweep *sweeps;	  /* for the sweeper to do */
	bool swept;		  /* the sweeper has ended, or is about to */
	struct arena *collecting; /* between a collection's begin and end */
	pthread_t sweeper;	  /* a collection's, then close's */
	bool sweeping;		  /* it was started, and not joined */
};

/* ---- names at work ---- */

/* The lock is held. */
static struct busy *busy_find(struct mount_manager *m, const char *ns, const char *name)
{
	struct busy *b = m->busy;
	while (b && (!streq(b->ns, ns) || !streq(b->name, name)))
		b = b->next;
	return b;
}

static bool is_busy(struct mount_manager *m, const char *ns, const char *name)
{
	MUTEX_GUARD(&m->lock);
	return busy_find(m, ns, name) != NULL;
}

static bool busy_add(struct mount_manager *m, struct busy *b)
{
	MUTEX_GUARD(&m->lock);
	if (busy_find(m, b->ns, b->name))
		return false;
	b->next = m->busy;
	m->busy = b;
	return true;
}

static void busy_remove(struct mount_manager *m, struct busy *b)
{
	MUTEX_GUARD(&m->lock);
	struct busy **p = &m->busy;
	while (*p != b)
		p = &(*p)->next;
	*p = b->next;
}

/* ---- directories ---- */

/* Unmounts what is mounted in the directory of an activation, the last first, and removes it. */
static int unmount_dir(const char *dir, int flags, struct err *err)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	struct dirent **names = NULL;
	int n = a ? scandir(dir, &names, NULL, versionsort) : -1, r = 0;
	if (n < 0)
		return !a		 ? err_nomem(err)
		       : errno == ENOENT ? 0
					 : err_errno(err, errno, "open %s", dir);
	for (int i = 0; i < n; i++) {
		char *path = path_join(a, dir, names[i]->d_name);
		bool is_point = names[i]->d_name[0] != '.' && !strchr(names[i]->d_name, '-');
		if (r == 0 && !path)
			r = err_nomem(err);
		if (r == 0 && is_point)
			r = mount_unmount_all(path, flags | UMOUNT_NOFOLLOW, err);
		if (r == 0 && is_point && rmdir(path) < 0 && errno != ENOENT)
			r = err_errno(err, errno, "remove %s", path);
		free(names[i]);
	}
	free(names);
	if (r == 0) {
		int e = rm_rf(AT_FDCWD, dir);
		if (e < 0)
			r = err_errno(err, e, "remove %s", dir);
	}
	return r;
}

static char *activation_dir(struct mount_manager *m, struct arena *a, uint64_t id)
{
	return arena_printf(a, "%s/%llu", m->dir, (unsigned long long)id);
}

/* ---- activate ---- */

struct activation {
	struct ctx *ctx;
	struct mount_manager *m;
	const struct mounts *in;
	size_t handled; /* so many are mounted here, the rest is the caller's */
	char *dir;
	struct mount_activation act;
};

static bool is_handled(const struct mount_manager *m, const char *type)
{
	for (const char *const *h = m->handled; h && *h; h++)
		if (streq(*h, type))
			return true;
	return false;
}

/* All mounts before one with format/ are needed by it; -1: nothing needs the manager. */
static int64_t count_handled(const struct mount_manager *m, const struct mounts *in)
{
	int64_t n = -1;
	for (size_t i = 0; i < in->n; i++)
		if (is_handled(m, mount_plain_type(in->v[i].type)))
			n = (int64_t)i + 1;
		else if (mount_has_format(in->v[i].type))
			n = (int64_t)i;
		else if (n < 0 && mount_has_transform(in->v[i].type))
			n = 0;
	return n;
}

/* Names count down and have as many digits as the largest. */
static char *mount_point(struct activation *x, size_t i)
{
	int width = x->handled > 100 ? 3 : x->handled > 10 ? 2 : 1;
	return arena_printf(x->ctx->arena, "%s/%0*zu", x->dir, width, x->handled - i);
}

static int mount_one(struct activation *x, size_t i, struct err *err)
{
	struct mount_active *to = &x->act.active[i];
	struct arena *a = x->ctx->arena;
	char *point = mount_point(x, i), *note = point ? arena_printf(a, "%s-type", point) : NULL;
	int r = mount_transform(x->ctx, x->m->roots, &x->in->v[i], x->act.active, i, &to->mount,
				err);
	if (r < 0)
		return r;
	struct mount_spec spec = {.type = to->mount.type,
				  .source = to->mount.source,
				  .options = (char *const *)to->mount.options,
				  .n_options = to->mount.n_options};
	if (!note)
		return err_nomem(err);
	r = file_write(AT_FDCWD, note, to->mount.type, strlen(to->mount.type), 0600);
	if (r == 0 && mkdir(point, 0700) < 0)
		r = -errno;
	if (r < 0)
		return err_errno(err, r, "make %s", point);
	r = mount_spec_mount(&spec, point, err);
	if (r < 0)
		return r;
	to->mounted_at = time_now();
	to->mount_point = point;
	x->act.n_active++;
	return 0;
}

static int mount_all(struct activation *x, struct err *err)
{
	struct arena *a = x->ctx->arena;
	size_t n = x->in->n - x->handled;
	x->act.active = arena_new_array(a, struct mount_active, x->handled + 1);
	x->act.system = (struct mounts){.v = arena_new_array(a, struct mount, n + 1), .n = n};
	if (!x->act.active || !x->act.system.v)
		return err_nomem(err);
	if (mkdir(x->dir, 0700) < 0)
		return err_errno(err, errno, "make %s", x->dir);
	for (size_t i = 0; i < x->handled; i++) {
		int r = ctx_check(x->ctx, err);
		if (r == 0)
			r = mount_one(x, i, err);
		if (r < 0)
			return err_prefix(err, "mount %zu of \"%s\"", i, x->act.name);
	}
	for (size_t i = 0; i < n; i++) {
		int r = mount_transform(x->ctx, x->m->roots, &x->in->v[x->handled + i],
					x->act.active, x->act.n_active, &x->act.system.v[i], err);
		if (r < 0)
			return err_prefix(err, "mount %zu of \"%s\"", x->handled + i, x->act.name);
	}
	return mount_record_finish(x->m->db, x->ctx->ns, &x->act, err);
}

static void activation_undo(struct activation *x)
{
	struct err err = ERR_INIT;
	if (unmount_dir(x->dir, MNT_DETACH, &err) < 0 ||
	    mount_record_delete(x->m->db, x->ctx->ns, x->act.name, &err) < 0)
		log_error("undo mount %s in namespace %s: %s", x->act.name, x->ctx->ns, err.text);
}

static int activation_run(struct activation *x, struct err *err)
{
	struct mount_manager *m = x->m;
	pthread_mutex_lock(&m->gate);
	int r = mount_record_create(m->db, x->ctx->ns, &x->act, &x->act.id, err);
	pthread_mutex_unlock(&m->gate);
	if (r < 0)
		return r;
	x->dir = activation_dir(m, x->ctx->arena, x->act.id);
	if (!x->dir) {
		r = mount_record_delete(m->db, x->ctx->ns, x->act.name, err);
		return r < 0 ? r : err_nomem(err);
	}
	r = mount_all(x, err);
	if (r < 0)
		activation_undo(x);
	return r;
}

static int activate_check(struct ctx *ctx, const char *name, const struct mounts *mounts,
			  const struct labels *labels, struct err *err)
{
	const char *ns;
	int r = ctx_namespace(ctx, &ns, err);
	if (r == 0 && str_empty(name))
		r = err_set(err, ERR_INVALID_ARGUMENT, "mount name must not be empty");
	if (r == 0 && mounts->n > MOUNTS_MAX)
		r = err_set(err, ERR_INVALID_ARGUMENT, "more than %d mounts", MOUNTS_MAX);
	return r < 0 ? r : labels_validate(labels, err);
}

int mount_activate(struct ctx *ctx, struct mount_manager *m, const char *name,
		   const struct mounts *mounts, const struct labels *labels,
		   struct mount_activation *ret, struct err *err)
{
	int64_t handled = count_handled(m, mounts);
	int r = activate_check(ctx, name, mounts, labels, err);
	if (r < 0)
		return r;
	if (handled < 0)
		return err_set_raw(err, ERR_UNIMPLEMENTED, "not implemented");
	struct activation x = {.ctx = ctx, .m = m, .in = mounts, .handled = (size_t)handled};
	x.act = (struct mount_activation){
		.name = name, .labels = *labels, .lease = ctx->lease, .done = true};
	struct busy b = {.ns = ctx->ns, .name = name};
	if (!busy_add(m, &b))
		return err_set(err, ERR_ALREADY_EXISTS, "mount \"%s\"", name);
	r = activation_run(&x, err);
	busy_remove(m, &b);
	if (r == 0)
		*ret = x.act;
	return r;
}

int mount_activation_bind(struct arena *a, struct mount_activation *act, struct err *err)
{
	if (act->system.n || !act->n_active)
		return 0;
	struct mount *m = arena_new_obj(a, struct mount);
	const char **options = arena_new_array(a, const char *, 1);
	if (!m || !options)
		return err_nomem(err);
	options[0] = "rbind";
	*m = (struct mount){.type = "bind",
			    .source = act->active[act->n_active - 1].mount_point,
			    .target = "",
			    .options = options,
			    .n_options = 1};
	act->system = (struct mounts){m, 1};
	return 0;
}

/* ---- deactivate, info, list ---- */

int mount_deactivate(struct ctx *ctx, struct mount_manager *m, const char *name, struct err *err)
{
	struct mount_activation act;
	const char *ns;
	struct busy b = {.ns = ctx->ns, .name = name};
	int r = ctx_namespace(ctx, &ns, err);
	if (r < 0)
		return r;
	if (!busy_add(m, &b))
		return err_set(err, ERR_FAILED_PRECONDITION, "mount \"%s\" is being changed", name);
	r = mount_record_get(ctx->arena, m->db, ns, name, &act, err);
	char *dir = r == 0 ? activation_dir(m, ctx->arena, act.id) : NULL;
	if (r == 0)
		r = dir ? unmount_dir(dir, 0, err) : err_nomem(err);
	if (r == 0)
		r = mount_record_delete(m->db, ns, name, err);
	busy_remove(m, &b);
	return r;
}

int mount_activation_info(struct ctx *ctx, struct mount_manager *m, const char *name,
			  struct mount_activation *ret, struct err *err)
{
	const char *ns;
	int r = ctx_namespace(ctx, &ns, err);
	return r < 0 ? r : mount_record_get(ctx->arena, m->db, ns, name, ret, err);
}

int mount_activation_list(struct ctx *ctx, struct mount_manager *m, struct mount_activation **ret,
			  size_t *ret_n, struct err *err)
{
	const char *ns;
	int r = ctx_namespace(ctx, &ns, err);
	return r < 0 ? r : mount_record_list(ctx->arena, m->db, ns, ret, NULL, ret_n, err);
}

/* ---- collection ---- */

static int collect_begin(void *arg, int (*add)(void *scan, const struct gc_resource *r), void *scan)
{
	struct mount_manager *m = arg;
	struct mount_activation *v;
	const char **spaces;
	size_t n = 0;
	struct err err = ERR_INIT;
	m->collecting = arena_new(0);
	if (!m->collecting)
		return -ENOMEM;
	pthread_mutex_lock(&m->gate);
	int r = mount_record_list(m->collecting, m->db, NULL, &v, &spaces, &n, &err) < 0 ? -EIO : 0;
	for (size_t i = 0; r == 0 && i < n; i++) {
		struct gc_resource res = {.ns = spaces[i],
					  .name = v[i].name,
					  .active = is_busy(m, spaces[i], v[i].name),
					  .lease = v[i].lease,
					  .labels = &v[i].labels};
		r = add(scan, &res);
	}
	if (r < 0) {
		pthread_mutex_unlock(&m->gate);
		arena_free(m->collecting);
		m->collecting = NULL;
	}
	return r;
}

/* The next one; NULL: there is none, and the sweeper ends. */
static struct sweep *sweep_next(struct mount_manager *m)
{
	MUTEX_GUARD(&m->lock);
	struct sweep *s = m->sweeps;
	if (s)
		m->sweeps = s->next;
	else
		m->swept = true;
	return s;
}

static void *sweep_main(void *arg)
{
	struct mount_manager *m = arg;
	for (struct sweep *s; (s = sweep_next(m));) {
		struct err err = ERR_INIT;
		if (unmount_dir(s->dir, MNT_DETACH, &err) < 0)
			log_error("unmount what was collected: %s", err.text);
		free(s->dir);
		free(s);
	}
	return NULL;
}

static void sweep_join(struct mount_manager *m)
{
	if (m->sweeping)
		pthread_join(m->sweeper, NULL);
	m->sweeping = false;
}

/* One that an earlier collection started and that is still at it, which may take as long as a disk
 * likes, gets this list too. */
static void sweep_start(struct mount_manager *m, struct sweep *list)
{
	struct sweep **end = &m->sweeps;
	if (!list)
		return;
	pthread_mutex_lock(&m->lock);
	while (*end)
		end = &(*end)->next;
	*end = list;
	bool idle = !m->sweeping || m->swept;
	m->swept = false;
	pthread_mutex_unlock(&m->lock);
	if (!idle)
		return;
	sweep_join(m);
	m->sweeping = pthread_create(&m->sweeper, NULL, sweep_main, m) == 0;
	if (!m->sweeping)
		sweep_main(m);
}

/* The record goes now. */
static void collect_one(struct mount_manager *m, const struct gc_resource *dead,
			struct sweep **list)
{
	struct mount_activation act;
	struct err err = ERR_INIT;
	if (is_busy(m, dead->ns, dead->name) ||
	    mount_record_get(m->collecting, m->db, dead->ns, dead->name, &act, &err) < 0)
		return;
	char *dir = activation_dir(m, m->collecting, act.id);
	struct sweep *s = calloc(1, sizeof(*s));
	if (s && dir)
		s->dir = strdup(dir);
	if (!s || !s->dir) {
		free(s);
		log_error("collect mount %s in namespace %s: out of memory", dead->name, dead->ns);
		return;
	}
	if (mount_record_delete(m->db, dead->ns, dead->name, &err) < 0) {
		log_error("collect mount %s in namespace %s: %s", dead->name, dead->ns, err.text);
		free(s->dir);
		free(s);
		return;
	}
	s->next = *list;
	*list = s;
}

static void collect_end(void *arg, const struct gc_resource *dead, size_t n)
{
	struct mount_manager *m = arg;
	struct sweep *list = NULL;
	for (size_t i = 0; i < n; i++)
		collect_one(m, &dead[i], &list);
	sweep_start(m, list);
	arena_free(m->collecting);
	m->collecting = NULL;
	pthread_mutex_unlock(&m->gate);
}

struct gc_collector mount_manager_collector(struct mount_manager *m)
{
	return (struct gc_collector){
		.label = "mount", .begin = collect_begin, .end = collect_end, .arg = m};
}

/* ---- start ---- */

static bool is_known(const struct mount_activation *v, size_t n, const char *name)
{
	uint64_t id;
	if (str_to_u64(name, 10, &id) < 0)
		return false;
	for (size_t i = 0; i < n; i++)
		if (v[i].done && v[i].id == id)
			return true;
	return false;
}

/* Half-made records, and directories without a record. */
static int clean(struct mount_manager *m, struct err *err)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	_cleanup_closedir_ DIR *d = opendir(m->dir);
	struct mount_activation *v;
	const char **spaces;
	size_t n;
	if (!a || !d)
		return a ? err_errno(err, errno, "open %s", m->dir) : err_nomem(err);
	int r = mount_record_list(a, m->db, NULL, &v, &spaces, &n, err);
	for (size_t i = 0; r == 0 && i < n; i++)
		if (!v[i].done)
			r = mount_record_delete(m->db, spaces[i], v[i].name, err);
	if (r < 0)
		return r;
	for (struct dirent *e; (e = readdir(d));) {
		struct err one = ERR_INIT;
		if (e->d_name[0] == '.' || is_known(v, n, e->d_name))
			continue;
		char *dir = path_join(a, m->dir, e->d_name);
		if (!dir)
			return err_nomem(err);
		if (unmount_dir(dir, MNT_DETACH, &one) < 0)
			log_warn("mounts of an earlier daemon: %s", one.text);
	}
	return 0;
}

static int open_files(struct mount_manager *m, const char *state, struct err *err)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	struct bolt_options o = {.mode = 0600, .lock_timeout_ns = LOCK_TIMEOUT_NS};
	char *path = a ? path_join(a, state, "mounts.db") : NULL,
	     *dir = a ? path_join(a, state, "t") : NULL;
	m->dir = dir ? strdup(dir) : NULL;
	if (!path || !m->dir)
		return err_nomem(err);
	int r = mkdir_p(state, 0700);
	if (r == 0)
		r = mkdir_p(m->dir, 0700);
	if (r < 0)
		return err_errno(err, r, "make %s", m->dir);
	r = bolt_open(path, &o, &m->db);
	return r < 0 ? err_errno(err, r, "open %s", path) : clean(m, err);
}

int mount_manager_open(const struct mount_manager_options *o, struct mount_manager **ret,
		       struct err *err)
{
	struct mount_manager *m = calloc(1, sizeof(*m));
	if (!m)
		return err_nomem(err);
	m->roots = o->roots;
	m->handled = o->handled;
	pthread_mutex_init(&m->gate, NULL);
	pthread_mutex_init(&m->lock, NULL);
	int r = open_files(m, o->state, err);
	if (r == 0 && o->db) {
		struct gc_collector c = mount_manager_collector(m);
		r = gc_add_collector(o->db, &c, err);
		m->meta = r == 0 ? o->db : NULL;
	}
	if (r < 0) {
		mount_manager_close(m);
		return r;
	}
	*ret = m;
	return 0;
}

void mount_manager_close(struct mount_manager *m)
{
	if (!m)
		return;
	if (m->meta)
		gc_remove_collector(m->meta, m);
	sweep_join(m);
	if (m->db)
		bolt_close(m->db);
	pthread_mutex_destroy(&m->lock);
	pthread_mutex_destroy(&m->gate);
	free(m->dir);
	free(m);
}
