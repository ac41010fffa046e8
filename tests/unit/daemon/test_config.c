/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "daemon/config.h"

#define URI(x) "io.containerd." x

struct fixture {
	struct arena *arena;
	char dir[64];
	const char *main; /* path of the main file */
	struct config *config;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	f->arena = arena_new(0);
	strcpy(f->dir, "/tmp/test_config.XXXXXX");
	if (!f->arena || !mkdtemp(f->dir))
		return -1;
	f->main = path_join(f->arena, f->dir, "config.toml");
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	config_free(f->config);
	rm_rf(AT_FDCWD, f->dir);
	arena_free(f->arena);
	free(f);
	return 0;
}

static void write_text(struct fixture *f, const char *name, const char *text)
{
	const char *path = path_join(f->arena, f->dir, name);

	assert_int_equal(mkdir_p(path_dir(f->arena, path), 0755), 0);
	assert_int_equal(file_write(AT_FDCWD, path, text, strlen(text), 0644), 0);
}

static void load_flags(struct fixture *f, const char *text, const struct config_flags *flags)
{
	struct err err = ERR_INIT;

	write_text(f, "config.toml", text);
	config_free(f->config);
	f->config = NULL;
	if (config_load(f->main, false, flags, &f->config, &err) < 0) {
		print_error("%s\n", err.text);
		fail();
	}
}

static void load(struct fixture *f, const char *text)
{
	load_flags(f, text, NULL);
}

/* @message follows the directory of the test. */
static void assert_load_fails(struct fixture *f, const char *text, const char *message)
{
	struct config *c = (void *)f;
	struct err err = ERR_INIT;
	const char *at;

	write_text(f, "config.toml", text);
	assert_true(config_load(f->main, false, NULL, &c, &err) < 0);
	assert_ptr_equal(c, (void *)f);
	at = str_has_prefix(err.text, f->dir) ? err.text + strlen(f->dir) + 1 : err.text;
	if (!str_has_prefix(at, message)) {
		print_error("got: %s\nnot: %s\n", at, message);
		fail();
	}
}

static void assert_warns(struct fixture *f, const char *part)
{
	for (size_t i = 0; i < f->config->warnings_n; i++)
		if (strstr(f->config->warnings[i], part))
			return;
	print_error("no warning has `%s`\n", part);
	for (size_t i = 0; i < f->config->warnings_n; i++)
		print_error("  %s\n", f->config->warnings[i]);
	fail();
}

static const struct toml_value *plugin(struct fixture *f, const char *uri)
{
	const struct toml_value *t = config_plugin(f->config, uri);

	assert_non_null(t);
	return t;
}

static char *read_data(struct fixture *f, const char *name)
{
	const char *dir = getenv("CONFIG_DATA");
	char *text;
	size_t n;

	if (!dir)
		skip();
	assert_int_equal(
		file_read(f->arena, AT_FDCWD, path_join(f->arena, dir, name), 1 << 20, &text, &n),
		0);
	return text;
}

static const char *replaced(struct fixture *f, const char *text, const char *what, const char *with)
{
	struct buf b = BUF_INIT;
	const char *at;
	char *out;

	for (; (at = strstr(text, what)); text = at + strlen(what)) {
		buf_add(&b, text, (size_t)(at - text));
		buf_adds(&b, with);
	}
	buf_adds(&b, text);
	out = arena_strdup(f->arena, b.data);
	buf_done(&b);
	return out;
}

static void assert_same_text(const char *got, const char *expected)
{
	int line = 1;

	for (size_t i = 0; got[i] || expected[i]; i++) {
		if (got[i] != expected[i]) {
			while (i > 0 && expected[i - 1] != '\n')
				i--;
			print_error("line %d differs:\n got: %.*s\nwant: %.*s\n", line,
				    (int)strcspn(got + i, "\n"), got + i,
				    (int)strcspn(expected + i, "\n"), expected + i);
			fail();
		}
		line += got[i] == '\n';
	}
}

static void default_is_printed_as_containerd_does(void **state)
{
	struct fixture *f = *state;
	_cleanup_buf_ struct buf b = BUF_INIT;
	const char *expected = read_data(f, "config-default.toml");

	expected = replaced(f, expected, "@UID@",
			    arena_printf(f->arena, "%u", (unsigned int)geteuid()));
	expected = replaced(f, expected, "@GID@",
			    arena_printf(f->arena, "%u", (unsigned int)getegid()));
	expected = replaced(f, expected, "@PLATFORM@", host_platform());
	assert_int_equal(config_default(&f->config, NULL), 0);
	config_print(f->config, &b);
	assert_same_text(b.data, expected);
}

static void printed_configuration_loads_to_the_same(void **state)
{
	struct fixture *f = *state;
	_cleanup_buf_ struct buf first = BUF_INIT, second = BUF_INIT;

	load(f, "version = 4\nimports = []\noom_score = -7\n[proxy_plugins.x]\ntype = "
		"'snapshot'\naddress = '/a'\n"
		"exports = {b = "
		"'c'}\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.crun]\n"
		"runtime_type = 'io.containerd.runc.v2'\noptions = {BinaryName = 'crun', list = "
		"[{a = 1}]}\n"
		"[[plugins.'io.containerd.transfer.v1.local'.unpack_config]]\nplatform = "
		"'linux/amd64'\n"
		"[plugins.'io.containerd.gc.v1.scheduler']\npause_threshold = 1\n");
	config_print(f->config, &first);
	load(f, first.data);
	config_print(f->config, &second);
	assert_same_text(second.data, first.data);
	assert_non_null(strstr(first.data, "pause_threshold = 1.0\n"));
	assert_non_null(strstr(
		first.data,
		"[proxy_plugins]\n  [proxy_plugins.x]\n    type = 'snapshot'\n    address = '/a'\n"
		"    platform = ''\n    capabilities = []\n\n    [proxy_plugins.x.exports]\n      "
		"b = 'c'\n"));
	assert_int_equal(f->config->oom_score, -7);
}

static void missing_file_is_an_error_only_when_named(void **state)
{
	struct fixture *f = *state;
	struct config *c = NULL;
	struct err err = ERR_INIT;

	assert_int_equal(config_load(f->main, false, NULL, &c, &err), -ERR_NOT_FOUND);
	assert_non_null(strstr(err.text, f->main));
	assert_int_equal(config_load(f->main, true, NULL, &f->config, &err), 0);
	assert_null(f->config->path);
	assert_string_equal(f->config->root, "/var/lib/containerd");
}

static void unknown_key_is_an_error_with_its_place(void **state)
{
	struct fixture *f = *state;

	assert_load_fails(f, "version = 4\nfoo = 1\n", "config.toml:2:1: key `foo`: unknown key");
	assert_load_fails(f, "version = 4\n[debug]\n  lvl = 'x'\n",
			  "config.toml:3:3: key `debug.lvl`: unknown key");
	assert_load_fails(f, "version = 3\n[grpc]\nadress = 'x'\n",
			  "config.toml:3:1: key `grpc.adress`: unknown key");
	assert_load_fails(
		f,
		"version = "
		"4\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.x]\nruntime = 1\n",
		"config.toml:3:1: key "
		"`plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.x.runtime`: unknown "
		"key");
	assert_load_fails(f,
			  "version = 2\n[plugins.'io.containerd.grpc.v1.cri']\nsandbox_img = 'x'\n",
			  "config.toml:3:1: key "
			  "`plugins.'io.containerd.cri.v1.runtime'.sandbox_img`: unknown key");
	assert_load_fails(f, "version = 4\n[timeouts]\n'io.x' = '1s'\n",
			  "config.toml:3:1: key `timeouts.'io.x'`: unknown key");
}

static void wrong_type_is_an_error_with_its_place(void **state)
{
	struct fixture *f = *state;

	assert_load_fails(f, "version = 4\nroot = 7\n",
			  "config.toml:2:8: key `root`: want string, got integer");
	assert_load_fails(f, "version = 4\noom_score = 1.5\n",
			  "config.toml:2:13: key `oom_score`: want integer, got float");
	assert_load_fails(f, "version = 4\nimports = ['a', 1]\n",
			  "config.toml:2:17: key `imports`: want array of strings, got integer");
	assert_load_fails(f, "version = 4\ndebug = ''\n",
			  "config.toml:2:9: key `debug`: want table, got string");
	assert_load_fails(
		f,
		"version = 4\n[plugins.'io.containerd.gc.v1.scheduler']\nstartup_delay = '5 s'\n",
		"config.toml:3:17: key `plugins.'io.containerd.gc.v1.scheduler'.startup_delay`: `5 "
		"s` is no duration");
	assert_load_fails(
		f, "version = 2\n[plugins.'io.containerd.grpc.v1.cri']\nstream_server_port = 0\n",
		"config.toml:3:22: key `plugins.'io.containerd.grpc.v1.cri'.stream_server_port`: "
		"want string, got integer");
	assert_load_fails(f, "version = '4'\n",
			  "config.toml:1:11: key `version`: want integer, got string");
	assert_load_fails(f, "version = 4\nplugins.x = 1\n",
			  "config.toml:2:9: key `plugins.x`: want table, got integer");
	assert_load_fails(f, "version = 4\nroot = \n",
			  "config.toml: line 2, column 8: end of line where a value must stand");
}

static void values_that_do_not_go_together_are_refused(void **state)
{
	struct fixture *f = *state;

	assert_load_fails(f, "version = 5\n",
			  "config.toml:1:11: expected containerd config version equal to or less "
			  "than `4`, got `5`");
	assert_load_fails(f, "version = 4\nroot = '/x'\nstate = '/x'\n",
			  "root and state must be different paths");
	assert_load_fails(f, "version = 4\ndisabled_plugins = ['cri']\n",
			  "invalid disabled plugin URI \"cri\" expect io.containerd.x.vx");
	assert_load_fails(f, "version = 4\nrequired_plugins = ['cri']\n",
			  "invalid required plugin URI \"cri\" expect io.containerd.x.vx");
	assert_load_fails(f, "version = 4\n[debug]\nformat = 'xml'\n",
			  "log format `xml` is neither text nor json");
}

static void table_of_an_unknown_plugin_is_warned_about_and_kept(void **state)
{
	struct fixture *f = *state;

	load(f, "version = 4\n[plugins.'com.example.x.v1.y']\nb = 1\na = {d = 1, c = 2}\n");
	assert_warns(f, "config.toml:2: `plugins.'com.example.x.v1.y'`: there is no such plugin");
	assert_int_equal(config_get_int(plugin(f, "com.example.x.v1.y"), "a.c"), 2);
}

static void keys_without_effect_are_warned_about(void **state)
{
	struct fixture *f = *state;

	load(f, "version = 4\nplugin_dir = '/opt'\n[debug]\nlog_trace_id = true\n[grpc]\naddress = "
		"'/x'\n");
	assert_warns(f, "config.toml:2: key `plugin_dir` is ignored");
	assert_warns(f, "config.toml:4: key `debug.log_trace_id` has no effect yet");
	assert_warns(f, "key `grpc` is ignored: moved to");
	load(f, "version = 4\nplugin_dir = ''\n[debug]\nlog_trace_id = false\n");
	assert_int_equal(f->config->warnings_n, 0);
}

static void imports_are_followed_once_and_merged(void **state)
{
	struct fixture *f = *state;
	const struct toml_value *t;

	write_text(
		f, "d/1.toml",
		"version = 3\noom_score = 5\ndisabled_plugins = ['io.a.b', 'io.c.d']\nroot = ''\n"
		"imports = ['../config.toml', '../more.toml']\n[stream_processors.p]\npath = "
		"'one'\nargs = ['x']\n"
		"[plugins.'io.containerd.cri.v1.runtime']\ncdi_spec_dirs = ['/1']\nenable_cdi = "
		"true\n"
		"[timeouts]\n'io.containerd.timeout.shim.load' = '9s'\n");
	write_text(f, "d/2.toml",
		   "version = 4\noom_score = 0\n[stream_processors.p]\npath = 'two'\n"
		   "[plugins.'io.containerd.cri.v1.runtime']\ncdi_spec_dirs = ['/2']\nenable_cdi = "
		   "false\n");
	write_text(f, "d/3.txt", "nonsense");
	write_text(f, "more.toml", "version = 4\n[debug]\nlevel = 'debug'\n");
	load(f, "version = 4\nimports = ['d/*.toml', 'none/*']\ndisabled_plugins = ['io.c.d']\n"
		"[plugins.'io.containerd.cri.v1.runtime'.containerd]\ndefault_runtime_name = "
		"'crun'\n");
	assert_int_equal(f->config->oom_score, 5);
	assert_string_equal(f->config->root, "/var/lib/containerd");
	assert_string_equal(f->config->log_level, "debug");
	assert_string_equal(f->config->disabled_plugins[0], "io.c.d");
	assert_string_equal(f->config->disabled_plugins[1], "io.a.b");
	assert_null(f->config->disabled_plugins[2]);
	t = toml_get(toml_get(f->config->tree, "stream_processors"), "p");
	assert_string_equal(config_get_string(t, "path"), "two");
	assert_int_equal(config_get(t, "args")->array.n, 0);
	t = plugin(f, URI("cri.v1.runtime"));
	assert_string_equal(config_get_string(t, "containerd.default_runtime_name"), "crun");
	assert_false(config_get_bool(t, "enable_cdi"));
	assert_int_equal(config_get(t, "cdi_spec_dirs")->array.n, 1);
	assert_string_equal(config_get(t, "cdi_spec_dirs")->array.v[0]->string.s, "/2");
	assert_true(config_timeout(f->config, "io.containerd.timeout.shim.load") == 9000000000LL);
	assert_true(config_timeout(f->config, "io.containerd.timeout.shim.cleanup") ==
		    5000000000LL);
}

static void bad_imports_are_errors(void **state)
{
	struct fixture *f = *state;
	char expected[128];

	snprintf(expected, sizeof(expected), "open `%s/missing.toml`", f->dir);
	assert_load_fails(f, "version = 4\nimports = ['missing.toml']\n", expected);
	write_text(f, "new.toml", "version = 4\n");
	assert_load_fails(f, "version = 3\nimports = ['new.toml']\n",
			  "new.toml: drop-in config version 4 higher than root config version 3");
	write_text(f, "bad.toml", "version = 4\n\nx = 1\n");
	assert_load_fails(f, "version = 4\nimports = ['bad.toml']\n",
			  "bad.toml:3:1: key `x`: unknown key");
}

static void version_1_names_become_uris(void **state)
{
	struct fixture *f = *state;

	load(f, "disabled_plugins = ['cri', 'zfs']\nrequired_plugins = "
		"['tasks-service']\n[plugins.opt]\npath = '/o'\n"
		"[plugins.restart]\ninterval = '1s'\n[plugins.cgroups]\nno_prometheus = "
		"true\n[plugins.strange]\n");
	assert_string_equal(f->config->disabled_plugins[0], URI("grpc.v1.cri"));
	assert_string_equal(f->config->disabled_plugins[1], URI("snapshotter.v1.zfs"));
	assert_string_equal(f->config->required_plugins[0], URI("service.v1.tasks-service"));
	assert_string_equal(config_get_string(plugin(f, URI("internal.v1.opt")), "path"), "/o");
	assert_string_equal(
		config_get_string(plugin(f, URI("monitor.container.v1.restart")), "interval"),
		"1s");
	assert_true(config_get_bool(plugin(f, URI("monitor.task.v1.cgroups")), "no_prometheus"));
	assert_warns(f, "ambiguous plugin `strange`");
}

static void version_3_keeps_the_key_pair_of_streaming(void **state)
{
	struct fixture *f = *state;

	load(f, "version = 3\n[plugins.'io.containerd.grpc.v1.cri'.x509_key_pair_streaming]\n"
		"tls_cert_file = '/c'\ntls_key_file = '/k'\n");
	assert_string_equal(config_get_string(plugin(f, URI("grpc.v1.cri")),
					      "x509_key_pair_streaming.tls_key_file"),
			    "/k");
}

static void version_2_cri_is_split(void **state)
{
	struct fixture *f = *state;
	const struct toml_value *t;

	load(f,
	     "version = 2\n[plugins.'io.containerd.grpc.v1.cri']\nsandbox_image = "
	     "'pause:1'\nmax_concurrent_downloads = 9\n"
	     "enable_selinux = true\nstream_server_port = '10010'\nstats_collect_period = "
	     "11\nsystemd_cgroup = true\n"
	     "[plugins.'io.containerd.grpc.v1.cri'.x509_key_pair_streaming]\ntls_cert_file = '/c'\n"
	     "[plugins.'io.containerd.grpc.v1.cri'.registry]\nconfig_path = "
	     "'/etc/containerd/certs.d'\n"
	     "[plugins.'io.containerd.grpc.v1.cri'.cni]\nbin_dir = '/usr/lib/cni'\nconf_dir = "
	     "'/c'\n"
	     "[plugins.'io.containerd.grpc.v1.cri'.containerd]\nsnapshotter = "
	     "'native'\ndefault_runtime_name = 'k'\n"
	     "[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.k]\nruntime_type = "
	     "'io.containerd.kata.v2'\n"
	     "snapshot = 'blockfile'\nsandbox_mode = 'shim'\n"
	     "[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc.options]"
	     "\nSystemdCgroup = true\n");
	t = plugin(f, URI("cri.v1.images"));
	assert_string_equal(config_get_string(t, "pinned_images.sandbox"), "pause:1");
	assert_string_equal(config_get_string(t, "snapshotter"), "native");
	assert_string_equal(config_get_string(t, "registry.config_path"),
			    "/etc/containerd/certs.d");
	assert_int_equal(config_get_int(t, "max_concurrent_downloads"), 9);
	assert_int_equal(config_get_int(t, "stats_collect_period"), 11);
	assert_string_equal(config_get_string(t, "runtime_platform.k.snapshotter"), "blockfile");
	assert_string_equal(config_get_string(t, "runtime_platform.k.platform"), host_platform());
	t = plugin(f, URI("cri.v1.runtime"));
	assert_true(config_get_bool(t, "enable_selinux"));
	assert_string_equal(config_get_string(t, "stats_collect_period"), "");
	assert_string_equal(config_get_string(t, "cni.bin_dir"), "");
	assert_string_equal(config_get(t, "cni.bin_dirs")->array.v[0]->string.s, "/usr/lib/cni");
	assert_string_equal(config_get_string(t, "containerd.runtimes.k.sandboxer"), "shim");
	assert_string_equal(config_get_string(t, "containerd.runtimes.runc.runtime_type"),
			    "io.containerd.runc.v2");
	assert_true(config_get_bool(t, "containerd.runtimes.runc.options.SystemdCgroup"));
	assert_string_equal(config_get_string(t, "containerd.runtimes.runc.options.BinaryName"),
			    "");
	t = plugin(f, URI("grpc.v1.cri"));
	assert_string_equal(config_get_string(t, "stream_server_port"), "10010");
	assert_warns(f, "x509_key_pair_streaming of version 2 is not migrated");
	assert_warns(f, "key `plugins.'io.containerd.cri.v1.runtime'.systemd_cgroup` is ignored");
	assert_warns(f, "migrated from version 2");
}

static void version_3_servers_become_plugins(void **state)
{
	struct fixture *f = *state;
	const struct toml_value *t;

	load(f, "version = 3\n[grpc]\naddress = '/g.sock'\nuid = 7\ngid = 8\nmax_recv_message_size "
		"= 1\ntcp_address = '[::]:1'\n"
		"tcp_tls_common_name = 'n'\n[ttrpc]\naddress = ''\n[debug]\naddress = "
		"'/d.sock'\nuid = 3\nlevel = 'warn'\n"
		"[metrics]\naddress = '127.0.0.1:1'\ngrpc_histogram = true\n");
	t = plugin(f, URI("server.v1.grpc"));
	assert_string_equal(config_get_string(t, "address"), "/g.sock");
	assert_int_equal(config_get_int(t, "max_recv_message_size"), 1);
	assert_int_equal(config_get_int(t, "max_send_message_size"), 16777216);
	t = plugin(f, URI("server.v1.ttrpc"));
	assert_string_equal(config_get_string(t, "address"), "/g.sock.ttrpc");
	assert_int_equal(config_get_int(t, "uid"), 7);
	assert_int_equal(config_get_int(t, "gid"), 8);
	assert_string_equal(
		config_get_string(plugin(f, URI("server.v1.grpc-tcp")), "tls_common_name"), "n");
	assert_string_equal(config_get_string(plugin(f, URI("server.v1.debug")), "address"),
			    "/d.sock");
	assert_string_equal(f->config->log_level, "warn");
	assert_string_equal(config_get_string(plugin(f, URI("server.v1.metrics")), "address"),
			    "127.0.0.1:1");
	assert_true(
		config_get_bool(plugin(f, URI("metrics.v1.grpc-prometheus")), "grpc_histogram"));
	load(f, "version = 3\n[grpc]\naddress = '/g'\n[ttrpc]\naddress = '/t'\nuid = "
		"4\n[plugins.'io.containerd.server.v1.grpc']\nuid = 1\n");
	assert_string_equal(config_get_string(plugin(f, URI("server.v1.ttrpc")), "address"), "/t");
	t = plugin(f, URI("server.v1.grpc"));
	assert_string_equal(config_get_string(t, "address"), "/run/containerd/containerd.sock");
	assert_int_equal(config_get_int(t, "uid"), 1);
}

static void sched_core_becomes_environment_of_shims_from_version_3_only(void **state)
{
	struct fixture *f = *state;

	load(f, "version = 3\n[plugins.'io.containerd.runtime.v2.task']\nsched_core = true\n");
	assert_string_equal(
		config_get(plugin(f, URI("shim.v1.manager")), "env")->array.v[0]->string.s,
		"SCHED_CORE=1");
	load(f, "version = 2\n[plugins.'io.containerd.runtime.v2.task']\nsched_core = true\n");
	assert_int_equal(config_get(plugin(f, URI("shim.v1.manager")), "env")->array.n, 0);
	assert_warns(f, "sched_core of a version 2 file has no effect");
}

/* What Debian's containerd 1.6 prints has keys and plugins that are gone. */
static void default_of_containerd_1_6_loads(void **state)
{
	struct fixture *f = *state;

	load(f, read_data(f, "config-1.6.toml"));
	assert_warns(f, "`plugins.'io.containerd.snapshotter.v1.aufs'`: there is no such plugin");
	assert_warns(f, "`plugins.'io.containerd.runtime.v1.linux'`: there is no such plugin");
	for (size_t i = 0; i < f->config->warnings_n; i++)
		if (!strstr(f->config->warnings[i], "no such plugin") &&
		    !strstr(f->config->warnings[i], "not implemented yet"))
			assert_non_null(strstr(f->config->warnings[i], "migrated from version 2"));
	assert_string_equal(
		config_get_string(plugin(f, URI("cri.v1.images")), "pinned_images.sandbox"),
		"registry.k8s.io/pause:3.6");
	assert_string_equal(config_get_string(plugin(f, URI("server.v1.ttrpc")), "address"),
			    "/run/containerd/containerd.sock.ttrpc");
}

static void flags_win_over_files(void **state)
{
	struct fixture *f = *state;
	const struct config_flags flags = {
		.address = "/a.sock", .root = "r", .state = "/s", .log_level = "error"};
	const char *text = "version = 4\nroot = '/x'\n[debug]\nlevel = "
			   "'info'\n[plugins.'io.containerd.server.v1.grpc']\n"
			   "address = '/b.sock'\nuid = 5\ngid = 6\n";
	const struct toml_value *t;
	char cwd[4096];

	assert_non_null(getcwd(cwd, sizeof(cwd)));
	load_flags(f, text, &flags);
	assert_string_equal(f->config->root, path_join(f->arena, cwd, "r"));
	assert_string_equal(f->config->state, "/s");
	assert_string_equal(f->config->log_level, "error");
	assert_string_equal(config_get_string(plugin(f, URI("server.v1.grpc")), "address"),
			    "/a.sock");
	t = plugin(f, URI("server.v1.ttrpc"));
	assert_string_equal(config_get_string(t, "address"), "/a.sock.ttrpc");
	assert_int_equal(config_get_int(t, "uid"), 5);
	assert_int_equal(config_get_int(t, "gid"), 6);
	load_flags(f, "version = 4\n[plugins.'io.containerd.server.v1.ttrpc']\naddress = '/t'\n",
		   &flags);
	assert_string_equal(config_get_string(plugin(f, URI("server.v1.ttrpc")), "address"), "/t");
}

static void disabled_plugin_keeps_only_what_the_file_says(void **state)
{
	struct fixture *f = *state;

	load(f, "version = 4\ndisabled_plugins = ['io.containerd.nri.v1.nri', "
		"'io.containerd.internal.v1.opt']\n"
		"[plugins.'io.containerd.nri.v1.nri']\ndisable = true\n");
	assert_int_equal(plugin(f, URI("nri.v1.nri"))->table.n, 1);
	assert_null(config_plugin(f->config, URI("internal.v1.opt")));
}

/* Nobody who adds them to a time gets beyond it. */
static void durations_have_limits(void **state)
{
	static const char *const texts[] = {"2562047h47m16.854775807s", "-2562047h47m", "876000h",
					    "-1s", ""};
	static const int64_t wanted[] = {CONFIG_DURATION_MAX, -CONFIG_DURATION_MAX,
					 CONFIG_DURATION_MAX, -1000000000LL, 0};
	struct fixture *f = *state;
	char text[256];

	assert_true(CONFIG_DURATION_MAX < INT64_MAX / 2);
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		snprintf(
			text, sizeof(text),
			"version = 4\n[timeouts]\n'io.containerd.timeout.shim.load' = '%s'\n"
			"[plugins.'io.containerd.monitor.container.v1.restart']\ninterval = '%s'\n",
			*texts[i] ? texts[i] : "0s", texts[i]);
		load(f, text);
		assert_true(config_timeout(f->config, "io.containerd.timeout.shim.load") ==
			    wanted[i]);
		assert_true(config_get_duration(plugin(f, URI("monitor.container.v1.restart")),
						"interval") == wanted[i]);
	}
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(default_is_printed_as_containerd_does),
		T(printed_configuration_loads_to_the_same),
		T(missing_file_is_an_error_only_when_named),
		T(unknown_key_is_an_error_with_its_place),
		T(wrong_type_is_an_error_with_its_place),
		T(values_that_do_not_go_together_are_refused),
		T(table_of_an_unknown_plugin_is_warned_about_and_kept),
		T(keys_without_effect_are_warned_about),
		T(imports_are_followed_once_and_merged),
		T(bad_imports_are_errors),
		T(version_1_names_become_uris),
		T(version_3_keeps_the_key_pair_of_streaming),
		T(version_2_cri_is_split),
		T(version_3_servers_become_plugins),
		T(sched_core_becomes_environment_of_shims_from_version_3_only),
		T(default_of_containerd_1_6_loads),
		T(durations_have_limits),
		T(flags_win_over_files),
		T(disabled_plugin_keeps_only_what_the_file_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
