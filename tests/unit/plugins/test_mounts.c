/* SPDX-License-Identifier: Apache-2.0 */
/* The mount manager. What mounts needs root; the rest does not. */
#include "util.h"

#include <semaphore.h>

#include "plugins/mounts/manager.h"
#include "plugins/mounts/record.h"
#include "plugins/mounts/transform.h"

#define NEEDS_ROOT()     \
	if (!privileged) \
	skip()

#undef assert_ok
#undef assert_err
#define assert_ok(call)                                               \
	do {                                                          \
		f->base->err = ERR_INIT;                              \
		if ((call) != 0)                                      \
			fail_msg("%s: %s", #call, f->base->err.text); \
	} while (0)
#define assert_err(call, error_kind, error_text)                    \
	do {                                                        \
		f->base->err = ERR_INIT;                            \
		assert_int_equal((call), -(error_kind));            \
		assert_string_equal(f->base->err.text, error_text); \
	} while (0)

struct mfix {
	struct fix *base;
	struct arena *a;
	struct ctx *ctx;
	struct err *err;
	char *state, *root;
	const char *roots[2], *handled[2];
	struct mount_manager *m;
};

static void manager_open(struct mfix *f)
{
	struct mount_manager_options o = {
		.state = f->state, .roots = f->roots, .handled = f->handled};
	assert_ok(mount_manager_open(&o, &f->m, f->err));
}

static int setup(void **state)
{
	struct mfix *f = calloc(1, sizeof(*f));
	assert_non_null(f);
	f->base = fix_new();
	f->a = f->base->arena;
	f->ctx = &f->base->ctx;
	f->err = &f->base->err;
	f->state = arena_printf(f->a, "%s/state", f->base->dir);
	f->root = arena_printf(f->a, "%s/root", f->base->dir);
	f->roots[0] = f->root;
	assert_int_equal(mkdir(f->root, 0700), 0);
	manager_open(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct mfix *f = *state;
	void *base = f->base;
	mount_manager_close(f->m);
	free(f);
	return fix_teardown(&base);
}

static char *at(struct mfix *f, const char *name)
{
	return arena_printf(f->a, "%s/%s", f->base->dir, name);
}

static bool there(struct mfix *f, const char *name)
{
	struct stat st;
	return lstat(at(f, name), &st) == 0;
}

static bool is_mounted(struct mfix *f, const char *name)
{
	struct stat st, up;
	return stat(at(f, name), &st) == 0 &&
	       stat(arena_printf(f->a, "%s/..", at(f, name)), &up) == 0 && st.st_dev != up.st_dev;
}

static struct mount mount_of(struct mfix *f, const char *type, const char *source, size_t n,
			     const char *const *options)
{
	struct mount m = {.type = type, .source = source, .target = "", .n_options = n};
	m.options = arena_new_array(f->a, const char *, n + 1);
	for (size_t i = 0; i < n; i++)
		m.options[i] = arena_strdup(f->a, options[i]);
	return m;
}
#define OPTIONS(...) \
	ARRAY_LEN(((const char *const[]){__VA_ARGS__})), ((const char *const[]){__VA_ARGS__})

static int activate(struct mfix *f, const char *name, struct mount *v, size_t n,
		    struct mount_activation *ret)
{
	struct mounts m = {.v = v, .n = n};
	struct labels none = {0};
	f->base->err = ERR_INIT;
	return mount_activate(f->ctx, f->m, name, &m, &none, ret, f->err);
}

/* ---- transformers ---- */

static const struct mount_active done[] = {
	{.mount = {.type = "a", .source = "/src/0", .target = "/t0"}, .mount_point = "/mp/0"},
	{.mount = {.type = "b", .source = "/src/1", .target = ""}, .mount_point = "/mp/1"},
	{.mount = {.type = "c", .source = "/src/2", .target = ""}, .mount_point = "/mp/2"},
};

static int transform(struct mfix *f, struct mount m, struct mount *ret)
{
	f->base->err = ERR_INIT;
	return mount_transform(f->ctx, f->roots, &m, done, ARRAY_LEN(done), ret, f->err);
}

static void format_fills_places_from_earlier_mounts(void **state)
{
	struct mfix *f = *state;
	struct mount m;
	assert_ok(transform(
		f,
		mount_of(f, "format/overlay", "{{source 1}}/x",
			 OPTIONS("lowerdir={{ overlay 0 2 }}", "ro", "down={{overlay 2 0}}",
				 "one={{ overlay 1 1 }}", "{{ mount 2 }}-{{ target 0 }}-")),
		&m));
	assert_string_equal(m.type, "overlay");
	assert_string_equal(m.source, "/src/1/x");
	assert_int_equal(m.n_options, 5);
	assert_string_equal(m.options[0], "lowerdir=/mp/0:/mp/1:/mp/2");
	assert_string_equal(m.options[1], "ro");
	assert_string_equal(m.options[2], "down=/mp/2:/mp/1:/mp/0");
	assert_string_equal(m.options[3], "one=/mp/1");
	assert_string_equal(m.options[4], "/mp/2-/t0-");
}

static void format_that_makes_no_sense_is_refused(void **state)
{
	static const char *const bad[] = {"{{ mount 3 }}",   "{{ mount -1 }}",	"{{ mount }}",
					  "{{ mount 0 1 }}", "{{ overlay 0 }}", "{{ overlay 0 9 }}",
					  "{{ }}",	     "{{ other 0 }}",	"{{ mount 0",
					  "{{ mount x }}"};
	struct mfix *f = *state;
	struct mount m;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(
			transform(f, mount_of(f, "format/bind", bad[i], OPTIONS("ro")), &m),
			-ERR_INVALID_ARGUMENT);
	/* A text may not grow without end. */
	char *many = arena_strdup(f->a, "");
	for (int i = 0; i < 13; i++)
		many = arena_printf(f->a, "%s%s", *many ? many : "{{ overlay 0 2 }}",
				    *many ? many : "");
	assert_int_equal(transform(f, mount_of(f, "format/bind", many, OPTIONS("ro")), &m),
			 -ERR_INVALID_ARGUMENT);
}

static void mkdir_makes_directories_in_the_roots(void **state)
{
	struct mfix *f = *state;
	struct mount m;
	struct stat st;
	assert_ok(transform(
		f,
		mount_of(f, "mkdir/bind", "x",
			 OPTIONS(arena_printf(f->a, "X-containerd.mkdir.path=%s/a/b:755", f->root),
				 "ro",
				 arena_printf(f->a, "X-containerd.mkdir.path=%s/c", f->root))),
		&m));
	assert_string_equal(m.type, "bind");
	assert_int_equal(m.n_options, 1);
	assert_string_equal(m.options[0], "ro");
	assert_int_equal(stat(at(f, "root/a/b"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	assert_int_equal(stat(at(f, "root/c"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
}

static void mkdir_stays_in_the_roots(void **state)
{
	struct mfix *f = *state;
	struct mount m;
	assert_int_equal(mkdir(at(f, "outside"), 0700), 0);
	assert_int_equal(symlink(at(f, "outside"), at(f, "root/link")), 0);
	const char *bad[] = {at(f, "outside/x"),
			     at(f, "root"),
			     at(f, "root/"),
			     at(f, "rooted/x"),
			     at(f, "root/../outside/x"),
			     at(f, "root/link/x"),
			     at(f, "root//x"),
			     "relative",
			     at(f, "root/x:999"),
			     at(f, "root/x:70000"),
			     at(f, "root/x:700:0"),
			     ""};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_true(
			transform(f,
				  mount_of(f, "mkdir/bind", "x",
					   OPTIONS(arena_printf(f->a, "X-containerd.mkdir.path=%s",
								bad[i]))),
				  &m) < 0);
	assert_int_equal(
		transform(f,
			  mount_of(f, "mkdir/bind", "x",
				   OPTIONS(arena_printf(
					   f->a, "X-containerd.mkdir.path=%s/y:700:0:0", f->root))),
			  &m),
		-ERR_UNIMPLEMENTED);
	assert_false(there(f, "outside/x"));
	assert_false(there(f, "root/x"));
	assert_false(there(f, "root/y"));
}

static void mkfs_makes_a_file_system_once(void **state)
{
	struct mfix *f = *state;
	struct mount m, in;
	struct stat st;
	unsigned char magic[2] = {0};
	if (access("/sbin/mkfs.ext4", X_OK) < 0 && access("/usr/sbin/mkfs.ext4", X_OK) < 0)
		skip();
	in = mount_of(f, "mkfs/ext4", at(f, "root/dir/image"),
		      OPTIONS("X-containerd.mkfs.size=16M", "loop",
			      "X-containerd.mkfs.uuid=11111111-2222-3333-4444-555555555555"));
	assert_ok(transform(f, in, &m));
	assert_string_equal(m.type, "ext4");
	assert_int_equal(m.n_options, 1);
	assert_string_equal(m.options[0], "loop");
	assert_int_equal(stat(m.source, &st), 0);
	assert_int_equal(st.st_size, 16 << 20);
	int fd = open(m.source, O_RDWR | O_CLOEXEC);
	assert_int_equal(pread(fd, magic, 2, 0x438), 2);
	assert_memory_equal(magic, "\x53\xef", 2);
	assert_int_equal(pwrite(fd, "mine", 4, 0), 4);
	char text[5] = "";
	assert_ok(transform(f, in, &m)); /* what is there is used as it is */
	assert_int_equal(pread(fd, text, 4, 0), 4);
	assert_string_equal(text, "mine");
	close(fd);
}

static void mkfs_that_cannot_be_made_leaves_no_file(void **state)
{
	static const char *const sizes[] = {"0", "-5", "x", "", "99999999999999T", "M"};
	struct mfix *f = *state;
	struct mount m;
	char *image = at(f, "root/image");
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
		assert_int_equal(
			transform(f,
				  mount_of(f, "mkfs/ext4", image,
					   OPTIONS(arena_printf(f->a, "X-containerd.mkfs.size=%s",
								sizes[i]))),
				  &m),
			-ERR_INVALID_ARGUMENT);
	assert_int_equal(transform(f, mount_of(f, "mkfs/ext4", image, OPTIONS("loop")), &m),
			 -ERR_INVALID_ARGUMENT);
	assert_int_equal(transform(f,
				   mount_of(f, "mkfs/ext4", image,
					    OPTIONS("X-containerd.mkfs.size=1M",
						    "X-containerd.mkfs.fs=ntfs")),
				   &m),
			 -ERR_INVALID_ARGUMENT);
	assert_int_equal(transform(f,
				   mount_of(f, "mkfs/ext4", image,
					    OPTIONS("X-containerd.mkfs.size=1M",
						    "X-containerd.mkfs.uuid=-x")),
				   &m),
			 -ERR_INVALID_ARGUMENT);
	assert_true(transform(f,
			      mount_of(f, "mkfs/ext4", image, OPTIONS("X-containerd.mkfs.size=1")),
			      &m) < 0); /* too small */
	assert_false(there(f, "root/image"));
}

/* ---- activations ---- */

static void plain_mounts_are_left_to_the_caller(void **state)
{
	struct mfix *f = *state;
	struct mount_activation act;
	struct mount m = mount_of(f, "bind", "/tmp", OPTIONS("rbind", "ro"));
	assert_err(activate(f, "x", &m, 1, &act), ERR_UNIMPLEMENTED, "not implemented");
	assert_err(mount_activation_info(f->ctx, f->m, "x", &act, f->err), ERR_NOT_FOUND,
		   "mount \"x\": not found");
	m.type = "format/bind";
	assert_int_equal(activate(f, "", &m, 1, &act), -ERR_INVALID_ARGUMENT);
	f->ctx->ns = "";
	assert_int_equal(activate(f, "x", &m, 1, &act), -ERR_FAILED_PRECONDITION);
}

static void overlay_of(struct mfix *f, struct mount v[3])
{
	v[0] = mount_of(f, "tmpfs", "lower0", OPTIONS("size=1m"));
	v[1] = mount_of(f, "tmpfs", "lower1", OPTIONS("size=1m"));
	v[2] = mount_of(f, "format/mkdir/overlay", "overlay",
			OPTIONS("lowerdir={{ overlay 1 0 }}",
				arena_printf(f->a, "X-containerd.mkdir.path=%s/up", f->root),
				arena_printf(f->a, "upperdir=%s/up", f->root)));
}

static void earlier_mounts_are_mounted_and_the_rest_is_returned(void **state)
{
	struct mfix *f = *state;
	struct mount v[3];
	struct mount_activation act, info, *all;
	size_t n;
	char *text;
	NEEDS_ROOT();
	overlay_of(f, v);
	assert_ok(activate(f, "one", v, 3, &act));
	assert_int_equal(act.n_active, 2);
	assert_string_equal(act.active[0].mount_point, at(f, "state/t/1/2"));
	assert_string_equal(act.active[1].mount_point, at(f, "state/t/1/1"));
	assert_true(is_mounted(f, "state/t/1/1") && is_mounted(f, "state/t/1/2"));
	assert_ok(file_read(f->a, AT_FDCWD, at(f, "state/t/1/2-type"), 64, &text, NULL));
	assert_string_equal(text, "tmpfs");
	assert_int_equal(act.system.n, 1);
	assert_string_equal(act.system.v[0].type, "overlay");
	assert_int_equal(act.system.v[0].n_options, 2);
	assert_string_equal(
		act.system.v[0].options[0],
		arena_printf(f->a, "lowerdir=%s:%s", at(f, "state/t/1/1"), at(f, "state/t/1/2")));
	assert_true(there(f, "root/up"));

	assert_ok(mount_activation_info(f->ctx, f->m, "one", &info, f->err));
	assert_true(info.done);
	assert_int_equal(info.n_active, 2);
	assert_string_equal(info.active[0].mount.type, "tmpfs");
	assert_string_equal(info.active[0].mount_point, act.active[0].mount_point);
	assert_int_equal(info.system.n, 1);
	assert_int_equal(info.system.v[0].n_options, 2);
	assert_string_equal(info.system.v[0].options[1],
			    arena_printf(f->a, "upperdir=%s/up", f->root));
	assert_err(activate(f, "one", v, 3, &act), ERR_ALREADY_EXISTS,
		   "mount \"one\": already exists");
	f->ctx->ns = "other";
	assert_ok(mount_activation_list(f->ctx, f->m, &all, &n, f->err));
	assert_int_equal(n, 0);
	f->ctx->ns = "default";

	/* They outlive the manager. */
	mount_manager_close(f->m);
	manager_open(f);
	assert_true(is_mounted(f, "state/t/1/1") && is_mounted(f, "state/t/1/2"));
	assert_ok(mount_activation_list(f->ctx, f->m, &all, &n, f->err));
	assert_int_equal(n, 1);
	assert_ok(mount_deactivate(f->ctx, f->m, "one", f->err));
	assert_false(there(f, "state/t/1"));
	assert_err(mount_deactivate(f->ctx, f->m, "one", f->err), ERR_NOT_FOUND,
		   "mount \"one\": not found");
}

static void types_with_a_handler_are_mounted_by_the_manager(void **state)
{
	struct mfix *f = *state;
	struct mount v[2] = {mount_of(f, "tmpfs", "one", OPTIONS("size=1m")),
			     mount_of(f, "bind", "/tmp", OPTIONS("rbind", "ro"))};
	struct mount_activation act;
	NEEDS_ROOT();
	mount_manager_close(f->m);
	f->handled[0] = "tmpfs";
	manager_open(f);
	assert_ok(activate(f, "a", v, 2, &act));
	assert_int_equal(act.n_active, 1);
	assert_true(is_mounted(f, "state/t/1/1"));
	assert_int_equal(act.system.n, 1);
	assert_ok(mount_activation_bind(f->a, &act, f->err));
	assert_string_equal(act.system.v[0].source, "/tmp");
	/* When nothing is left to be mounted, what was mounted last can be bound. */
	assert_ok(activate(f, "b", v, 1, &act));
	assert_int_equal(act.system.n, 0);
	assert_ok(mount_activation_bind(f->a, &act, f->err));
	assert_int_equal(act.system.n, 1);
	assert_string_equal(act.system.v[0].type, "bind");
	assert_string_equal(act.system.v[0].source, at(f, "state/t/2/1"));
	assert_int_equal(activate(f, "c", &v[1], 1, &act), -ERR_UNIMPLEMENTED);
	assert_ok(mount_deactivate(f->ctx, f->m, "a", f->err));
	assert_ok(mount_deactivate(f->ctx, f->m, "b", f->err));
}

static void activation_that_fails_leaves_nothing(void **state)
{
	struct mfix *f = *state;
	struct mount v[3];
	struct mount_activation act;
	NEEDS_ROOT();
	overlay_of(f, v);
	v[1].type = "nosuchfs";
	assert_true(activate(f, "one", v, 3, &act) < 0);
	assert_non_null(strstr(f->base->err.text, "mount 1 of \"one\""));
	assert_false(there(f, "state/t/1"));
	assert_int_equal(mount_activation_info(f->ctx, f->m, "one", &act, f->err), -ERR_NOT_FOUND);
	overlay_of(f, v);
	v[2].options[0] = "lowerdir={{ overlay 0 7 }}";
	assert_int_equal(activate(f, "one", v, 3, &act), -ERR_INVALID_ARGUMENT);
	assert_false(there(f, "state/t/2"));
	overlay_of(f, v);
	assert_ok(activate(f, "one", v, 3, &act));
	assert_ok(mount_deactivate(f->ctx, f->m, "one", f->err));
}

static void busy_mount_stays_activated(void **state)
{
	struct mfix *f = *state;
	struct mount v[3];
	struct mount_activation act;
	NEEDS_ROOT();
	overlay_of(f, v);
	assert_ok(activate(f, "one", v, 3, &act));
	int fd = open(at(f, "state/t/1/2"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(mount_deactivate(f->ctx, f->m, "one", f->err) < 0);
	assert_ok(mount_activation_info(f->ctx, f->m, "one", &act, f->err));
	close(fd);
	assert_ok(mount_deactivate(f->ctx, f->m, "one", f->err));
	assert_false(there(f, "state/t/1"));
}

static void what_an_earlier_daemon_left_half_done_is_removed(void **state)
{
	struct mfix *f = *state;
	struct mount_activation act = {.name = "half", .lease = "l1", .labels = {0}};
	uint64_t id;
	struct bolt *db;
	struct bolt_options o = {.mode = 0600};
	NEEDS_ROOT();
	mount_manager_close(f->m);
	assert_int_equal(bolt_open(at(f, "state/mounts.db"), &o, &db), 0);
	assert_ok(mount_record_create(db, "default", &act, &id, f->err));
	bolt_close(db);
	assert_int_equal(mkdir_p(at(f, "state/t/1/1"), 0700), 0);
	assert_int_equal(mount("tmpfs", at(f, "state/t/1/1"), "tmpfs", 0, NULL), 0);
	assert_int_equal(mkdir_p(at(f, "state/t/77/1"), 0700), 0);
	manager_open(f);
	assert_false(there(f, "state/t/1"));
	assert_false(there(f, "state/t/77"));
	assert_int_equal(mount_activation_info(f->ctx, f->m, "half", &act, f->err), -ERR_NOT_FOUND);
}

/* ---- collection ---- */

struct reported {
	char name[32], ns[32], lease[32], label[64];
	bool active;
	int n;
};

static int note(void *scan, const struct gc_resource *r)
{
	struct reported *rep = scan;
	const char *label = labels_get(r->labels, "containerd.io/gc.bref.container");
	snprintf(rep->name, sizeof(rep->name), "%s", r->name);
	snprintf(rep->ns, sizeof(rep->ns), "%s", r->ns);
	snprintf(rep->lease, sizeof(rep->lease), "%s", r->lease);
	snprintf(rep->label, sizeof(rep->label), "%s", label ? label : "");
	rep->active = r->active;
	rep->n++;
	return 0;
}

static void what_is_collected_is_unmounted(void **state)
{
	struct mfix *f = *state;
	struct mount v[3];
	struct mount_activation act;
	struct reported rep = {0};
	struct labels l = {0};
	struct gc_collector c = mount_manager_collector(f->m);
	NEEDS_ROOT();
	overlay_of(f, v);
	struct mounts m = {.v = v, .n = 3};
	assert_int_equal(labels_set(f->a, &l, "containerd.io/gc.bref.container", "c1"), 0);
	f->ctx->lease = "l1";
	assert_ok(mount_activate(f->ctx, f->m, "one", &m, &l, &act, f->err));
	assert_string_equal(c.label, "mount");
	assert_int_equal(c.begin(c.arg, note, &rep), 0);
	assert_int_equal(rep.n, 1);
	assert_string_equal(rep.name, "one");
	assert_string_equal(rep.ns, "default");
	assert_string_equal(rep.lease, "l1");
	assert_string_equal(rep.label, "c1");
	assert_false(rep.active);
	c.end(c.arg, NULL, 0); /* it lives */
	assert_true(is_mounted(f, "state/t/1/1"));
	assert_int_equal(c.begin(c.arg, note, &rep), 0);
	struct gc_resource dead = {.ns = "default", .name = "one"};
	c.end(c.arg, &dead, 1);
	assert_int_equal(mount_activation_info(f->ctx, f->m, "one", &act, f->err), -ERR_NOT_FOUND);
	for (int i = 0; i < 10000 && there(f, "state/t/1"); i++)
		usleep(1000);
	assert_false(there(f, "state/t/1"));
	assert_int_equal(c.begin(c.arg, note, &rep), 0);
	c.end(c.arg, NULL, 0);
	assert_int_equal(rep.n, 2);
}

/* An unmount that hangs until it is let go. */
static struct {
	bool on;
	sem_t begun, go;
} hang;

int __real_umount2(const char *target, int flags);
int __wrap_umount2(const char *target, int flags);

int __wrap_umount2(const char *target, int flags)
{
	if (!hang.on)
		return __real_umount2(target, flags);
	sem_post(&hang.begun);
	while (sem_wait(&hang.go) < 0)
		;
	errno = EINVAL; /* nothing is mounted there */
	return -1;
}

static void record_two(struct mfix *f, struct bolt *db)
{
	for (int i = 1; i <= 2; i++) {
		struct mount_activation act = {.name = i == 1 ? "one" : "two", .lease = ""};
		uint64_t id;
		assert_ok(mount_record_create(db, "default", &act, &id, f->err));
		assert_ok(mount_record_finish(db, "default", &act, f->err));
		assert_int_equal(id, i);
		assert_int_equal(mkdir_p(at(f, i == 1 ? "state/t/1/1" : "state/t/2/1"), 0700), 0);
	}
}

static void a_collection_does_not_wait_for_what_an_earlier_one_unmounts(void **state)
{
	struct mfix *f = *state;
	struct gc_resource one = {.ns = "default", .name = "one"},
			   two = {.ns = "default", .name = "two"};
	struct mount_activation act;
	struct reported rep = {0};
	struct bolt_options o = {.mode = 0600};
	struct bolt *db;

	mount_manager_close(f->m);
	assert_int_equal(bolt_open(at(f, "state/mounts.db"), &o, &db), 0);
	record_two(f, db);
	bolt_close(db);
	manager_open(f);
	sem_init(&hang.begun, 0, 0);
	sem_init(&hang.go, 0, 0);
	hang.on = true;
	struct gc_collector c = mount_manager_collector(f->m);
	assert_int_equal(c.begin(c.arg, note, &rep), 0);
	c.end(c.arg, &one, 1);
	while (sem_wait(&hang.begun) < 0)
		;
	assert_int_equal(c.begin(c.arg, note, &rep), 0);
	c.end(c.arg, &two, 1);
	assert_int_equal(mount_activation_info(f->ctx, f->m, "two", &act, f->err), -ERR_NOT_FOUND);
	assert_true(there(f, "state/t/1"));
	assert_true(there(f, "state/t/2"));
	sem_post(&hang.go);
	sem_post(&hang.go);
	mount_manager_close(f->m);
	assert_false(there(f, "state/t/1"));
	assert_false(there(f, "state/t/2"));
	hang.on = false;
	manager_open(f);
	/* One that has done all is followed by another. */
	c = mount_manager_collector(f->m);
	assert_int_equal(c.begin(c.arg, note, &rep), 0);
	c.end(c.arg, NULL, 0);
	assert_int_equal(rep.n, 3);
}

static int count_leases(struct bolt_tx *tx, void *arg)
{
	int *n = arg;
	const struct bolt_slice path[] = {bolt_s("v1"), bolt_s("default"), bolt_s("leases")};
	struct bolt_bucket *b = bolt_bucket_path(bolt_root(tx), path, ARRAY_LEN(path));
	struct bolt_cursor cur;
	struct bolt_item it;
	*n = 0;
	if (b)
		bolt_cursor_init(&cur, b);
	for (bool ok = b && bolt_first(&cur, &it); ok; ok = bolt_next(&cur, &it))
		++*n;
	return 0;
}

static void a_long_lease_leaves_nothing_in_the_database(void **state)
{
	struct mfix *f = *state;
	struct bolt_options o = {.mode = 0600};
	struct mount_activation act = {.name = "one"};
	char *lease = arena_alloc(f->a, 2001);
	uint64_t id;
	struct bolt *db;
	int n = 0;

	memset(lease, 'l', 2000);
	lease[2000] = 0;
	act.lease = lease;
	assert_int_equal(bolt_open(at(f, "own.db"), &o, &db), 0);
	assert_ok(mount_record_create(db, "default", &act, &id, f->err));
	assert_int_equal(bolt_view(db, count_leases, &n), 0);
	assert_int_equal(n, 1);
	assert_ok(mount_record_delete(db, "default", "one", f->err));
	assert_int_equal(bolt_view(db, count_leases, &n), 0);
	assert_int_equal(n, 0);
	bolt_close(db);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(format_fills_places_from_earlier_mounts),
		T(format_that_makes_no_sense_is_refused),
		T(mkdir_makes_directories_in_the_roots),
		T(mkdir_stays_in_the_roots),
		T(mkfs_makes_a_file_system_once),
		T(mkfs_that_cannot_be_made_leaves_no_file),
		T(plain_mounts_are_left_to_the_caller),
		T(earlier_mounts_are_mounted_and_the_rest_is_returned),
		T(types_with_a_handler_are_mounted_by_the_manager),
		T(activation_that_fails_leaves_nothing),
		T(busy_mount_stays_activated),
		T(what_an_earlier_daemon_left_half_done_is_removed),
		T(what_is_collected_is_unmounted),
		T(a_collection_does_not_wait_for_what_an_earlier_one_unmounts),
		T(a_long_lease_leaves_nothing_in_the_database),
	};
	return cmocka_run_group_tests(tests, group_setup, NULL);
}
