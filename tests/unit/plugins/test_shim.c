/* SPDX-License-Identifier: Apache-2.0 */
/* Bundles, and the protocol of starting shims: the shims here are shell scripts that answer one
 * thing or another. */
#include "util.h"

#include <signal.h>

#include "event/loop.h"
#include "plugins/runtime/bundle.h"
#include "plugins/runtime/shim.h"
#include "protos.h"

static int setup(void **state)
{
	*state = fix_new();
	return 0;
}

static const struct any spec = {"spec", "{\"linux\":{}}", 12};

static struct bundle bundle_of(struct fix *f, const char *id)
{
	struct bundle b;
	assert_ok(bundle_at(f->arena, in(f, "root"), in(f, "state"), "default", id, &b, &f->err));
	return b;
}

static struct bundle bundle_made(struct fix *f, const char *id)
{
	struct bundle b = bundle_of(f, id);
	assert_ok(bundle_create(f->arena, &b, &spec, &f->err));
	return b;
}

/* ---- bundles ---- */

static void bundle_is_made_and_removed(void **state)
{
	struct fix *f = *state;
	struct bundle b = bundle_made(f, "one");
	char *text, link[200] = "";
	struct stat st;
	assert_ok(file_read(f->arena, AT_FDCWD, in(f, "state/default/one/config.json"), 100, &text,
			    NULL));
	assert_string_equal(text, "{\"linux\":{}}");
	assert_int_equal(stat(b.path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(stat(b.rootfs, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0711);
	assert_true(readlink(in(f, "state/default/one/work"), link, sizeof(link) - 1) > 0);
	assert_string_equal(link, in(f, "root/default/one"));
	assert_true(exists(f, "root/default/one"));
	/* A second one is refused and harms nothing. */
	assert_int_equal(bundle_create(f->arena, &b, &spec, &f->err), -ERR_ALREADY_EXISTS);
	assert_true(exists(f, "state/default/one/config.json"));
	put_file(in(f, "state/default/one/rootfs/file"), "x");
	put_file(in(f, "root/default/one/file"), "x");
	assert_ok(bundle_remove(f->arena, &b, &f->err));
	assert_false(exists(f, "state/default/one"));
	assert_false(exists(f, "state/default/.one"));
	assert_false(exists(f, "root/default/one"));
	assert_false(exists(f, "root/default/.one"));
	assert_ok(bundle_remove(f->arena, &b, &f->err)); /* absent is fine */
}

static void bundle_that_cannot_be_filled_leaves_nothing(void **state)
{
	struct fix *f = *state;
	struct bundle b = bundle_of(f, "one");
	put_file(in(f, "root"), "in the way");
	assert_int_equal(bundle_create(f->arena, &b, &spec, &f->err) < 0, 1);
	assert_non_null(strstr(f->err.text, "make work directory"));
	assert_false(exists(f, "state/default/one"));
	assert_false(exists(f, "state/default/.one"));
}

static void leftovers_of_earlier_removals_do_not_disturb(void **state)
{
	struct fix *f = *state;
	struct bundle b = bundle_made(f, "one");
	assert_int_equal(mkdir_p(in(f, "state/default/.one/rootfs/a/b"), 0700), 0);
	put_file(in(f, "state/default/.one/config.json"), "old");
	assert_int_equal(mkdir_p(in(f, "root/default/.one/x"), 0700), 0);
	assert_ok(bundle_remove(f->arena, &b, &f->err));
	assert_false(exists(f, "state/default/.one"));
	assert_false(exists(f, "root/default/.one"));
	/* The work directory of a task that was there before a reboot is taken over. */
	assert_int_equal(mkdir_p(in(f, "root/default/one/old"), 0700), 0);
	b = bundle_made(f, "one");
	assert_ok(bundle_remove(f->arena, &b, &f->err));
	assert_false(exists(f, "root/default/one"));
}

static void hidden_bundle_frees_its_name(void **state)
{
	struct fix *f = *state;
	struct bundle b = bundle_made(f, "one");
	char *hidden[2] = {NULL, NULL};
	assert_ok(bundle_hide(f->arena, &b, hidden, &f->err));
	assert_non_null(hidden[0]);
	assert_non_null(hidden[1]);
	struct bundle again = bundle_made(f, "one");
	assert_ok(bundle_sweep(hidden, &f->err));
	assert_true(exists(f, "state/default/one/config.json"));
	assert_false(exists(f, "state/default/.one"));
	assert_ok(bundle_remove(f->arena, &again, &f->err));
}

/* What is mounted there is the container's, not the bundle's; a bind of the same file system does
 * not show by its device. */
static void mounted_rootfs_is_unmounted_not_emptied(void **state)
{
	struct fix *f = *state;
	NEED_ROOT();
	struct bundle b = bundle_made(f, "one");
	assert_int_equal(mkdir_p(in(f, "data"), 0700), 0);
	put_file(in(f, "data/precious"), "x");
	assert_int_equal(mount(in(f, "data"), b.rootfs, NULL, MS_BIND, NULL), 0);
	assert_int_equal(mount("tmpfs", b.rootfs, "tmpfs", 0, NULL), 0);
	assert_int_equal(mount(in(f, "data"), b.rootfs, NULL, MS_BIND, NULL), 0);
	assert_ok(bundle_remove(f->arena, &b, &f->err));
	assert_true(exists(f, "data/precious"));
	assert_false(exists(f, "state/default/one"));
	assert_false(exists(f, "state/default/.one"));
}

static void other_mounts_in_the_bundle_stop_the_removal(void **state)
{
	struct fix *f = *state;
	NEED_ROOT();
	struct bundle b = bundle_made(f, "one");
	assert_int_equal(mkdir_p(in(f, "data"), 0700), 0);
	assert_int_equal(mkdir_p(in(f, "state/default/one/rootfs/inner"), 0700), 0);
	put_file(in(f, "data/precious"), "x");
	assert_int_equal(
		mount(in(f, "data"), in(f, "state/default/one/rootfs/inner"), NULL, MS_BIND, NULL),
		0);
	assert_true(bundle_remove(f->arena, &b, &f->err) < 0);
	assert_true(exists(f, "data/precious"));
	assert_int_equal(umount2(in(f, "state/default/.one/rootfs/inner"), MNT_DETACH), 0);
}

static void bundle_is_given_to_the_mapped_root_group(void **state)
{
	struct fix *f = *state;
	NEED_ROOT();
	static const char json[] =
		"{\"linux\":{\"gidMappings\":[{\"containerID\":1,\"hostID\":5,\"size\":1},"
		"{\"containerID\":0,\"hostID\":4711,\"size\":10}]}}";
	struct any mapped = {"spec", json, sizeof(json) - 1};
	struct bundle b = bundle_of(f, "one");
	struct stat st;
	assert_ok(bundle_create(f->arena, &b, &mapped, &f->err));
	assert_int_equal(stat(b.path, &st), 0);
	assert_int_equal(st.st_gid, 4711);
	assert_int_equal(st.st_mode & 07777, 0710);
	assert_ok(bundle_remove(f->arena, &b, &f->err));
}

/* ---- which binary ---- */

static void script(struct fix *f, const char *name, const char *body)
{
	char *path = in(f, name);
	put_file(path, arena_printf(f->arena, "#!/bin/sh\n%s\n", body));
	assert_int_equal(chmod(path, 0755), 0);
}

static void binary_is_found_by_runtime_name_or_path(void **state)
{
	struct fix *f = *state;
	char *path, *old = arena_strdup(f->arena, getenv("PATH"));
	script(f, "containerd-shim-fake-v7", "");
	setenv("PATH", arena_printf(f->arena, "relative::/proc/nonexistent:%s", f->dir), 1);
	assert_ok(shim_binary(&f->ctx, "io.containerd.fake.v7", &path, &f->err));
	assert_string_equal(path, in(f, "containerd-shim-fake-v7"));
	assert_ok(shim_binary(&f->ctx, in(f, "containerd-shim-fake-v7"), &path, &f->err));
	assert_err(shim_binary(&f->ctx, "io.containerd.fake.v8", &path, &f->err), ERR_NOT_FOUND,
		   "runtime \"io.containerd.fake.v8\" binary not installed "
		   "\"containerd-shim-fake-v8\": "
		   "file does not exist: not found");
	assert_int_equal(shim_binary(&f->ctx, "/proc/nonexistent/shim", &path, &f->err),
			 -ERR_NOT_FOUND);
	static const char *const bad[] = {"",	   "runc",  "runc.", ".v2", "io.containerd..v2",
					  "a/b.c", "../x.y"};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		int r = shim_binary(&f->ctx, bad[i], &path, &f->err);
		if (r != -ERR_INVALID_ARGUMENT)
			fail_msg("\"%s\": %d", bad[i], r);
	}
	setenv("PATH", old, 1);
}

/* ---- starting ---- */

static struct runtime_options options(struct fix *f)
{
	return (struct runtime_options){.address = "/run/c.sock",
					.ttrpc_address = "/run/c.sock.ttrpc",
					.exe = "/usr/bin/containerd",
					.version = "2.3.4",
					.socket_dir = "",
					.cleanup_timeout_ns = 60 * NSEC_PER_SEC};
}

static int start(struct fix *f, const char *body, struct shim_address *ret)
{
	struct runtime_options o = options(f);
	struct bundle b = bundle_of(f, "one");
	struct any none = {0};
	(void)!bundle_remove(f->arena, &b, NULL);
	assert_ok(bundle_create(f->arena, &b, &spec, &f->err));
	script(f, "shim", body);
	f->err = ERR_INIT;
	return shim_start(&f->ctx, &o, &b, "default", "one", in(f, "shim"), &none, ret, &f->err);
}

static void start_answer_may_be_json(void **state)
{
	struct fix *f = *state;
	struct shim_address addr, loaded;
	struct bundle b = bundle_of(f, "one");
	char *text;
	assert_ok(start(
		f, "echo '{\"version\":3,\"address\":\"unix:///run/s\",\"protocol\":\"ttrpc\"}'",
		&addr));
	assert_int_equal(addr.version, 3);
	assert_string_equal(addr.address, "unix:///run/s");
	assert_ok(file_read(f->arena, AT_FDCWD, in(f, "state/default/one/bootstrap.json"), 1000,
			    &text, NULL));
	assert_string_equal(text,
			    "{\"version\":3,\"address\":\"unix:///run/s\",\"protocol\":\"ttrpc\"}");
	assert_ok(file_read(f->arena, AT_FDCWD, in(f, "state/default/one/shim-binary-path"), 1000,
			    &text, NULL));
	assert_string_equal(text, in(f, "shim"));
	/* For containerd 1.6 and 1.7. */
	assert_ok(file_read(f->arena, AT_FDCWD, in(f, "state/default/one/address"), 1000, &text,
			    NULL));
	assert_string_equal(text, "unix:///run/s");
	assert_ok(shim_address_load(f->arena, &b, &loaded, &f->err));
	assert_string_equal(loaded.address, "unix:///run/s");
	assert_int_equal(loaded.version, 3);
}

static void start_answer_may_be_plain_text(void **state)
{
	struct fix *f = *state;
	struct shim_address addr;
	assert_ok(start(f, "printf 'unix:///run/s\\r\\n'", &addr));
	assert_int_equal(addr.version, 2);
	assert_string_equal(addr.address, "unix:///run/s");
	assert_string_equal(addr.protocol, "ttrpc");
}

static void start_answer_may_be_protobuf(void **state)
{
	struct fix *f = *state;
	struct shim_address addr;
	Containerd__Runtime__Bootstrap__V1__BootstrapResult r =
		CONTAINERD__RUNTIME__BOOTSTRAP__V1__BOOTSTRAP_RESULT__INIT;
	size_t n;
	r.version = 3;
	r.address = (char *)"unix:///run/s";
	r.protocol = (char *)"ttrpc";
	uint8_t *p = rpc_pack(f->arena, &r.base, &n);
	assert_int_equal(file_write(AT_FDCWD, in(f, "answer"), p, n, 0600), 0);
	assert_ok(start(f, arena_printf(f->arena, "cat '%s'", in(f, "answer")), &addr));
	assert_int_equal(addr.version, 3);
	assert_string_equal(addr.address, "unix:///run/s");
}

static void shim_is_given_all_it_needs(void **state)
{
	struct fix *f = *state;
	struct shim_address addr;
	Containerd__Runtime__Bootstrap__V1__BootstrapParams *p;
	char *text;
	size_t n;
	setenv("OUT", f->dir, 1);
	assert_ok(start(f,
			"cat > $OUT/stdin; echo \"$@\" > $OUT/args; pwd > $OUT/pwd; env > "
			"$OUT/env; echo unix:///x",
			&addr));
	assert_ok(file_read(f->arena, AT_FDCWD, in(f, "args"), 10000, &text, NULL));
	assert_string_equal(text, "-namespace default -address /run/c.sock -publish-binary "
				  "/usr/bin/containerd -id one start\n");
	assert_ok(file_read(f->arena, AT_FDCWD, in(f, "pwd"), 10000, &text, NULL));
	assert_string_equal(text, arena_printf(f->arena, "%s\n", in(f, "state/default/one")));
	assert_ok(file_read(f->arena, AT_FDCWD, in(f, "env"), 100000, &text, NULL));
	assert_non_null(strstr(text, "TTRPC_ADDRESS=/run/c.sock.ttrpc\n"));
	assert_non_null(strstr(text, "GRPC_ADDRESS=/run/c.sock\n"));
	assert_non_null(strstr(text, "NAMESPACE=default\n"));
	assert_ok(file_read(f->arena, AT_FDCWD, in(f, "stdin"), 10000, &text, &n));
	assert_ok(rpc_unpack(f->arena,
			     &containerd__runtime__bootstrap__v1__bootstrap_params__descriptor,
			     text, n, &p, &f->err));
	assert_string_equal(p->instance_id, "one");
	assert_string_equal(p->namespace_, "default");
	assert_string_equal(p->containerd_grpc_address, "/run/c.sock");
	assert_string_equal(p->containerd_ttrpc_address, "/run/c.sock.ttrpc");
	assert_int_equal(p->n_extensions, 0);
}

static void unusable_answers_are_refused(void **state)
{
	struct fix *f = *state;
	struct shim_address addr;
	static const struct {
		const char *body, *text;
		int kind;
	} t[] = {
		{"echo '{\"version\":4,\"address\":\"unix:///x\"}'", "unsupported shim version (4)",
		 ERR_UNIMPLEMENTED},
		{"echo '{\"version\":4294967298,\"address\":\"unix:///x\"}'",
		 "unsupported shim version", ERR_UNIMPLEMENTED},
		{"echo '{\"version\":3,\"address\":\"unix:///x\",\"protocol\":\"grpc\"}'",
		 "shim protocol \"grpc\"", ERR_UNIMPLEMENTED},
		{"echo '{\"version\":3}'", "shim answered no address", ERR_INVALID_ARGUMENT},
		{"echo '{\"version\":'", "shim's answer", ERR_INVALID_ARGUMENT},
		{"true", "shim answered no address", ERR_INVALID_ARGUMENT},
		{"echo oops >&2; echo more; exit 3", "start failed: oops: exit status 3",
		 ERR_UNKNOWN},
		{"kill -9 $$", "exit status 137", ERR_UNKNOWN},
	};
	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		int r = start(f, t[i].body, &addr);
		if (r != -t[i].kind || !strstr(f->err.text, t[i].text))
			fail_msg("%s: %d %s", t[i].body, r, f->err.text);
		assert_non_null(strstr(f->err.text, "failed to start shim "));
		assert_false(exists(f, "state/default/one/bootstrap.json"));
	}
}

static void endless_answer_is_cut_not_waited_for(void **state)
{
	struct fix *f = *state;
	struct shim_address addr;
	/* Megabytes, and a child that holds the pipe. */
	setenv("OUT", f->dir, 1);
	assert_ok(start(f,
			"(sleep 60 & echo $! > $OUT/pid); printf unix:///; head -c 3000000 "
			"/dev/zero | tr '\\0' a",
			&addr));
	assert_int_equal(strlen(addr.address), 64 << 10);
	char *pid;
	assert_ok(file_read(f->arena, AT_FDCWD, in(f, "pid"), 20, &pid, NULL));
	assert_int_equal(kill((pid_t)atoi(pid), SIGKILL), 0);
	int fd;
	assert_true(shim_connect(&addr, &fd, &f->err) < 0);
}

static void delete_tells_the_exit(void **state)
{
	struct fix *f = *state;
	struct runtime_options o = options(f);
	struct runtime_exit x;
	struct bundle b = bundle_made(f, "one");
	Containerd__Task__V2__DeleteResponse r = CONTAINERD__TASK__V2__DELETE_RESPONSE__INIT;
	Google__Protobuf__Timestamp at = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
	char *text;
	size_t n;
	r.pid = 12;
	r.exit_status = 9;
	r.exited_at = &at;
	at.seconds = 99;
	uint8_t *p = rpc_pack(f->arena, &r.base, &n);
	assert_int_equal(file_write(AT_FDCWD, in(f, "answer"), p, n, 0600), 0);
	setenv("OUT", f->dir, 1);
	script(f, "shim", "echo noise >&2; echo \"$@\" > $OUT/args; cat $OUT/answer");
	assert_ok(shim_delete(&f->ctx, &o, &b, "default", "one", in(f, "shim"), &x, &f->err));
	assert_int_equal(x.pid, 12);
	assert_int_equal(x.status, 9);
	assert_int_equal(x.at.tv_sec, 99);
	assert_ok(file_read(f->arena, AT_FDCWD, in(f, "args"), 10000, &text, NULL));
	assert_non_null(strstr(text, arena_printf(f->arena, "-bundle %s delete\n", b.path)));
	script(f, "shim", "printf '\\377\\377\\377'");
	assert_int_equal(shim_delete(&f->ctx, &o, &b, "default", "one", in(f, "shim"), &x, &f->err),
			 -ERR_INVALID_ARGUMENT);
	script(f, "shim", "exec sleep 100");
	o.cleanup_timeout_ns = 50 * NSEC_PER_MSEC;
	assert_int_equal(shim_delete(&f->ctx, &o, &b, "default", "one", in(f, "shim"), &x, &f->err),
			 -ERR_DEADLINE_EXCEEDED);
}

static void address_of_old_shims_is_loaded(void **state)
{
	struct fix *f = *state;
	struct shim_address addr;
	struct bundle b = bundle_made(f, "one");
	assert_int_equal(shim_address_load(f->arena, &b, &addr, &f->err), -ERR_NOT_FOUND);
	put_file(in(f, "state/default/one/address"), "unix:///run/old");
	assert_ok(shim_address_load(f->arena, &b, &addr, &f->err));
	assert_int_equal(addr.version, 2);
	assert_string_equal(addr.address, "unix:///run/old");
	put_file(in(f, "state/default/one/bootstrap.json"),
		 "{\"version\":9,\"address\":\"unix:///x\"}");
	assert_int_equal(shim_address_load(f->arena, &b, &addr, &f->err), -ERR_UNIMPLEMENTED);
	put_file(in(f, "state/default/one/bootstrap.json"), "rubbish");
	assert_int_equal(shim_address_load(f->arena, &b, &addr, &f->err), -ERR_INVALID_ARGUMENT);
}

static void shim_is_reached_at_any_kind_of_address(void **state)
{
	struct fix *f = *state;
	int listener, fd;
	char *path = in(f, "s.sock"), name[64];
	assert_int_equal(unix_listen(path, getuid(), getgid(), 0600, &listener), 0);
	struct shim_address addr = {.address = arena_printf(f->arena, "unix://%s", path)};
	assert_ok(shim_connect(&addr, &fd, &f->err));
	close(fd);
	addr.address = path;
	assert_ok(shim_connect(&addr, &fd, &f->err));
	close(fd);
	close(listener);
	assert_int_equal(shim_connect(&addr, &fd, &f->err), -ERR_UNAVAILABLE);
	snprintf(name, sizeof(name), "@shim-test-%d", (int)getpid());
	assert_int_equal(unix_listen(name, getuid(), getgid(), 0600, &listener), 0);
	addr.address = name + 1;
	assert_ok(shim_connect(&addr, &fd, &f->err));
	close(fd);
	close(listener);
	addr.address = "vsock://3:1024";
	assert_int_equal(shim_connect(&addr, &fd, &f->err), -ERR_UNIMPLEMENTED);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, fix_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(bundle_is_made_and_removed),
		T(bundle_that_cannot_be_filled_leaves_nothing),
		T(leftovers_of_earlier_removals_do_not_disturb),
		T(hidden_bundle_frees_its_name),
		T(mounted_rootfs_is_unmounted_not_emptied),
		T(other_mounts_in_the_bundle_stop_the_removal),
		T(bundle_is_given_to_the_mapped_root_group),
		T(binary_is_found_by_runtime_name_or_path),
		T(start_answer_may_be_json),
		T(start_answer_may_be_plain_text),
		T(start_answer_may_be_protobuf),
		T(shim_is_given_all_it_needs),
		T(unusable_answers_are_refused),
		T(endless_answer_is_cut_not_waited_for),
		T(delete_tells_the_exit),
		T(address_of_old_shims_is_loaded),
		T(shim_is_reached_at_any_kind_of_address),
	};
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, group_setup, NULL);
}
