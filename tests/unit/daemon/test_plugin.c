/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "daemon/config.h"
#include "daemon/plugin.h"

#define T(x) PLUGIN_TYPE(x)

/* What happened, in order. */
static char events[1024];

static void happened(const char *what, const char *id)
{
	size_t n = strlen(events);

	snprintf(events + n, sizeof(events) - n, "%s%s ", what, id);
}

static void stop_any(void *instance)
{
	happened("-", instance);
}

static int init_ok(struct plugin_init *in, struct err *err)
{
	(void)err;
	happened("+", in->plugin->id);
	in->instance = (void *)in->plugin->id;
	in->stop = stop_any;
	return 0;
}

static int init_fails(struct plugin_init *in, struct err *err)
{
	happened("!", in->plugin->id);
	in->stop = stop_any;
	return err_set(err, ERR_UNAVAILABLE, "no luck");
}

static int init_skips(struct plugin_init *in, struct err *err)
{
	(void)in;
	return plugin_skip(err, "no %s generator", "scratch file");
}

static int init_unimplemented(struct plugin_init *in, struct err *err)
{
	(void)in;
	return err_set(err, ERR_UNIMPLEMENTED, "kernel lacks it");
}

static int init_needs_leaf(struct plugin_init *in, struct err *err)
{
	void *instance;
	int r;

	r = plugin_get(in->set, T("leaf.v1"), "l", &instance, err);
	return r < 0 ? r : init_ok(in, err);
}

static struct config *config;

static int setup(void **state)
{
	(void)state;
	events[0] = 0;
	log_setup(LOG_FATAL, false);
	return config_default(&config, NULL);
}

static int teardown(void **state)
{
	(void)state;
	config_free(config);
	return 0;
}

/* Loads @text as the configuration. */
static void configure(const char *text)
{
	char path[] = "/tmp/test_plugin.XXXXXX";
	struct err err = ERR_INIT;
	int fd = mkstemp(path);
	int r;

	assert_true(fd >= 0);
	assert_int_equal(fd_write_full(fd, text, strlen(text)), 0);
	close(fd);
	config_free(config);
	config = NULL;
	r = config_load(path, false, NULL, &config, &err);
	unlink(path);
	if (r < 0)
		print_error("%s\n", err.text);
	assert_int_equal(r, 0);
}

static struct plugin_set *start(const struct plugin *table, size_t n)
{
	struct plugin_set *set = NULL;
	struct err err = ERR_INIT;
	int r = plugins_start(table, n, config, NULL, init_ok, &set, &err);

	if (r < 0)
		print_error("%s\n", err.text);
	assert_int_equal(r, 0);
	return set;
}

static const struct plugin_state *state_of(const struct plugin_set *set, const char *id)
{
	for (size_t i = 0; i < plugins_count(set); i++)
		if (streq(plugins_at(set, i)->plugin->id, id))
			return plugins_at(set, i);
	fail_msg("no plugin %s", id);
	return NULL;
}

static void required_types_start_first_and_stop_last(void **state)
{
	static const char *const on_mid[] = {T("mid.v1"), T("absent.v1"), NULL},
				 *const on_leaf[] = {T("leaf.v1"), NULL};
	static const struct plugin table[] = {
		{.type = T("top.v1"), .id = "top", .requires = on_mid, .init = init_ok},
		{.type = T("mid.v1"), .id = "m1", .requires = on_leaf, .init = init_ok},
		{.type = T("other.v1"), .id = "o", .init = init_ok},
		{.type = T("leaf.v1"), .id = "l", .init = init_ok},
		{.type = T("mid.v1"), .id = "m2", .init = init_ok},
	};

	(void)state;
	plugins_stop(start(table, ARRAY_LEN(table)));
	assert_string_equal(events, "+l +m1 +m2 +top +o -o -top -m2 -m1 -l ");
}

static void cycle_is_an_error(void **state)
{
	static const char *const on_a[] = {T("a.v1"), NULL}, *const on_b[] = {T("b.v1"), NULL};
	static const struct plugin table[] = {
		{.type = T("a.v1"), .id = "a", .requires = on_b, .init = init_ok},
		{.type = T("b.v1"), .id = "b", .requires = on_a, .init = init_ok},
	};
	struct plugin_set *set = NULL;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(plugins_start(table, 2, config, NULL, NULL, &set, &err), -ERR_INTERNAL);
	plugins_stop(set);
	assert_string_equal(events, "");
}

static void each_plugin_ends_ok_skipped_or_failed(void **state)
{
	static const struct plugin table[] = {
		{.type = T("t.v1"), .id = "ok", .init = init_ok},
		{.type = T("t.v1"), .id = "fails", .init = init_fails},
		{.type = T("t.v1"), .id = "skips", .init = init_skips},
		{.type = T("t.v1"), .id = "lacks", .init = init_unimplemented},
		{.type = T("t.v1"), .id = "none"},
	};
	struct plugin_set *set = start(table, ARRAY_LEN(table));
	void *instance = NULL;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(state_of(set, "ok")->status, PLUGIN_OK);
	assert_null(state_of(set, "ok")->error);
	assert_int_equal(state_of(set, "fails")->status, PLUGIN_ERROR);
	assert_int_equal(state_of(set, "fails")->kind, ERR_UNAVAILABLE);
	assert_string_equal(state_of(set, "fails")->error, "no luck: unavailable");
	assert_int_equal(state_of(set, "skips")->status, PLUGIN_SKIP);
	assert_string_equal(state_of(set, "skips")->error,
			    "no scratch file generator: skip plugin");
	assert_string_equal(state_of(set, "lacks")->error, "kernel lacks it: skip plugin");
	assert_int_equal(state_of(set, "none")->status, PLUGIN_SKIP);
	assert_string_equal(state_of(set, "none")->error,
			    "not implemented in containerd-c yet: skip plugin");
	assert_int_equal(plugin_get(set, T("t.v1"), "ok", &instance, &err), 0);
	assert_string_equal(instance, "ok");
	assert_true(plugin_get(set, T("t.v1"), "fails", &instance, &err) < 0);
	assert_non_null(strstr(err.text, "no luck"));
	assert_int_equal(plugin_get_first(set, T("t.v1"), &instance, &err), 0);
	assert_ptr_equal(plugin_next(set, T("t.v1"), NULL), state_of(set, "ok"));
	assert_null(plugin_next(set, T("t.v1"), state_of(set, "ok")));
	plugins_stop(set);
	assert_string_equal(events, "+ok !fails -ok ");
}

static void dependant_of_a_disabled_plugin_fails(void **state)
{
	static const struct plugin table[] = {
		{.type = T("leaf.v1"), .id = "l", .init = init_ok},
		{.type = T("top.v1"), .id = "t", .init = init_needs_leaf},
	};
	struct plugin_set *set;

	(void)state;
	configure("version = 4\ndisabled_plugins = ['io.containerd.leaf.v1.l']\n");
	set = start(table, ARRAY_LEN(table));
	assert_int_equal(plugins_count(set), 1);
	assert_int_equal(state_of(set, "t")->status, PLUGIN_ERROR);
	assert_string_equal(state_of(set, "t")->error,
			    "no plugins registered for io.containerd.leaf.v1: plugin: not found");
	plugins_stop(set);
}

static void required_plugins_must_start(void **state)
{
	static const struct plugin table[] = {
		{.type = T("t.v1"), .id = "ok", .init = init_ok},
		{.type = T("t.v1"), .id = "fails", .init = init_fails},
		{.type = T("t.v1"), .id = "late", .init = init_ok},
	};
	struct plugin_set *set = NULL;
	struct err err = ERR_INIT;

	(void)state;
	configure("version = 4\nrequired_plugins = ['io.containerd.t.v1.ok']\n");
	plugins_stop(start(table, ARRAY_LEN(table)));
	events[0] = 0;
	configure("version = 4\nrequired_plugins = ['io.containerd.t.v1.fails']\n");
	assert_true(plugins_start(table, ARRAY_LEN(table), config, NULL, NULL, &set, &err) < 0);
	assert_true(
		str_has_prefix(err.text, "load required plugin io.containerd.t.v1.fails: no luck"));
	assert_string_equal(events, "+ok !fails ");
	plugins_stop(set);
	assert_string_equal(events, "+ok !fails -ok ");
	configure("version = 4\nrequired_plugins = ['io.containerd.t.v1.x', "
		  "'io.containerd.t.v1.ok', 'io.y']\n");
	assert_int_equal(plugins_start(table, ARRAY_LEN(table), config, NULL, NULL, &set, &err),
			 -ERR_NOT_FOUND);
	assert_string_equal(err.text,
			    "required plugin [io.containerd.t.v1.x io.y] not included: not found");
	plugins_stop(set);
}

static void proxies_join_their_type(void **state)
{
	static const char *const on_snapshotters[] = {T("snapshotter.v1"), NULL};
	static const struct plugin table[] = {
		{.type = T("snapshotter.v1"), .id = "native", .init = init_ok},
		{.type = T("metadata.v1"),
		 .id = "bolt",
		 .requires = on_snapshotters,
		 .init = init_ok},
	};
	const struct plugin_state *st;
	struct plugin_set *set;
	struct err err = ERR_INIT;

	(void)state;
	configure("version = 4\n[proxy_plugins.stargz]\ntype = 'snapshot'\naddress = "
		  "'/s.sock'\nexports = {root = '/r'}\n"
		  "capabilities = ['rebase']\n[proxy_plugins.odd]\ntype = "
		  "'x'\n[proxy_plugins.far]\ntype = 'sandbox'\nplatform = 'linux/s390x'\n");
	set = start(table, ARRAY_LEN(table));
	assert_string_equal(events, "+native +stargz +bolt +far ");
	st = state_of(set, "stargz");
	assert_string_equal(st->plugin->type, T("snapshotter.v1"));
	assert_string_equal(st->platform, host_platform());
	assert_string_equal(labels_get(&st->exports, "root"), "/r");
	assert_string_equal(labels_get(&st->exports, "address"), "/s.sock");
	assert_string_equal(st->capabilities[0], "rebase");
	assert_null(st->capabilities[1]);
	assert_string_equal(state_of(set, "far")->platform, "linux/s390x");
	assert_null(state_of(set, "bolt")->platform);
	plugins_stop(set);
	configure("version = 4\n[proxy_plugins.native]\ntype = 'snapshot'\n");
	assert_int_equal(plugins_start(table, ARRAY_LEN(table), config, NULL, NULL, &set, &err),
			 -ERR_ALREADY_EXISTS);
	plugins_stop(set);
}

static int init_reads_config(struct plugin_init *in, struct err *err)
{
	static const char *const caps[] = {"one"};
	const char *const *list = cfg_strings(in, "cdi_spec_dirs");

	assert_string_equal(in->root, "/var/lib/containerd/io.containerd.cri.v1.runtime");
	assert_string_equal(in->state, "/run/containerd/io.containerd.cri.v1.runtime");
	assert_string_equal(cfg_str(in, "cni.conf_dir"), "/etc/cni/net.d");
	assert_string_equal(cfg_str(in, "containerd.runtimes.runc.runtime_type"),
			    "io.containerd.runc.v2");
	assert_int_equal(cfg_int(in, "selinux_category_range"), 1024);
	assert_true(cfg_bool(in, "enable_cdi"));
	assert_int_equal(cfg_duration(in, "drain_exec_sync_io_timeout"), 7000000000);
	assert_string_equal(list[0], "/etc/cdi");
	assert_string_equal(list[1], "/var/run/cdi");
	assert_null(list[2]);
	assert_string_equal(cfg_str(in, "absent.key"), "");
	assert_int_equal(cfg_int(in, "enable_cdi"), 0);
	assert_int_equal(plugin_set_capabilities(in, caps, 1, err), 0);
	return plugin_export(in, "CRIVersion", "v2", err);
}

static void init_reads_its_configuration(void **state)
{
	static const char *const exports[] = {"CRIVersion=v1", "dir=${root}/x",
					      "n=${selinux_category_range}", NULL};
	static const struct plugin table[] = {
		{.type = T("cri.v1"),
		 .id = "runtime",
		 .exports = exports,
		 .init = init_reads_config},
	};
	const struct plugin_state *st;
	struct plugin_set *set;

	(void)state;
	configure(
		"version = 4\n[plugins.'io.containerd.cri.v1.runtime']\ndrain_exec_sync_io_timeout "
		"= '7s'\n");
	set = start(table, 1);
	st = plugins_at(set, 0);
	assert_string_equal(labels_get(&st->exports, "CRIVersion"), "v2");
	assert_string_equal(labels_get(&st->exports, "dir"),
			    "/var/lib/containerd/io.containerd.cri.v1.runtime/x");
	assert_string_equal(labels_get(&st->exports, "n"), "1024");
	assert_string_equal(st->capabilities[0], "one");
	plugins_stop(set);
}

/* The table is in load order: nothing moves when it is sorted. */
static void table_of_all_plugins_is_in_order(void **state)
{
	struct plugin_set *set = NULL;
	const struct plugin_state *st;

	(void)state;
	assert_int_equal(plugin_table_n, 65);
	/* A copy without init functions: this is about the order. */
	struct plugin *copy = calloc(plugin_table_n, sizeof(*copy));
	for (size_t i = 0; i < plugin_table_n; i++) {
		copy[i] = plugin_table[i];
		copy[i].init = NULL;
	}
	set = start(copy, plugin_table_n);
	assert_int_equal(plugins_count(set), plugin_table_n);
	for (size_t i = 0; i < plugin_table_n; i++)
		assert_ptr_equal(plugins_at(set, i)->plugin, &copy[i]);
	st = state_of(set, "scheduler");
	assert_string_equal(labels_get(&st->exports, "PauseThreshold"), "0.02");
	assert_string_equal(labels_get(&st->exports, "DeletionThreshold"), "0");
	assert_string_equal(labels_get(&st->exports, "MutationThreshold"), "100");
	assert_string_equal(labels_get(&st->exports, "ScheduleDelay"), "0s");
	st = plugins_at(set, 0);
	assert_string_equal(labels_get(&st->exports, "root"),
			    "/var/lib/containerd/io.containerd.content.v1.content");
	plugins_stop(set);
	free(copy);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(required_types_start_first_and_stop_last),
		TEST(cycle_is_an_error),
		TEST(each_plugin_ends_ok_skipped_or_failed),
		TEST(dependant_of_a_disabled_plugin_fails),
		TEST(required_plugins_must_start),
		TEST(proxies_join_their_type),
		TEST(init_reads_its_configuration),
		TEST(table_of_all_plugins_is_in_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
