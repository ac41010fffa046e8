/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "cni/cni.h"

static struct cni_network *parse(const char *text, bool list)
{
	struct cni_network *n = NULL;
	struct err err = ERR_INIT;

	if (cni_network_parse(text, strlen(text), "x.conf", list, &n, &err) < 0)
		fail_msg("%s", err.text);
	return n;
}

static void refused(const char *text, bool list, const char *why)
{
	struct cni_network *n = NULL;
	struct err err = ERR_INIT;

	assert_int_equal(cni_network_parse(text, strlen(text), "x.conf", list, &n, &err),
			 -ERR_INVALID_ARGUMENT);
	assert_null(n);
	if (!strstr(err.text, why))
		fail_msg("\"%s\" does not say \"%s\"", err.text, why);
}

static void a_list_has_its_plugins_in_order(void **state)
{
	struct cni_network *n _cleanup_(cni_network_freep) =
		parse("{\"name\":\"a-net\",\"cniVersion\":\"1.0.0\",\"disableCheck\":\"true\","
		      "\"plugins\":[{\"type\":\"bridge\"},{\"type\":\"portmap\"}]}",
		      true);

	assert_string_equal(n->name, "a-net");
	assert_string_equal(n->version, "1.0.0");
	assert_int_equal(n->n_plugins, 2);
	assert_string_equal(n->plugins[1].type, "portmap");
	assert_true(n->disable_check);
	assert_false(n->disable_gc);
}

static void a_single_plugin_becomes_a_list_of_one(void **state)
{
	struct cni_network *n _cleanup_(cni_network_freep) =
		parse("{\"name\":\"x\",\"type\":\"bridge\",\"bridge\":\"b0\"}", false);

	assert_int_equal(n->n_plugins, 1);
	assert_string_equal(n->version, "0.1.0");
	assert_string_equal(json_str(n->plugins[0].conf, "bridge", ""), "b0");
	assert_int_equal(json_array_size(json_arr(n->conf, "plugins")), 1);
}

static void the_greatest_known_version_is_taken(void **state)
{
	struct cni_network *n _cleanup_(cni_network_freep) = parse(
		"{\"name\":\"x\",\"cniVersion\":\"0.4.0\",\"cniVersions\":[\"0.3.1\",\"1.1.0\","
		"\"2.0.0\"],\"plugins\":[]}",
		true);

	assert_string_equal(n->version, "1.1.0");
}

static void what_is_no_network_is_refused(void **state)
{
	refused("[]", true, "not an object");
	refused("{", true, "JSON line");
	refused("{\"plugins\":[]}", true, "no network \"name\"");
	refused("{\"name\":\"a/b\",\"plugins\":[]}", true, "\"a/b\" is not valid");
	refused("{\"name\":\"x\",\"plugins\":{}}", true, "no list");
	refused("{\"name\":\"x\",\"plugins\":[{}]}", true, "plugin 1 has no \"type\"");
	refused("{\"name\":\"x\",\"plugins\":[1]}", true, "plugin 1 is no object");
	refused("{\"name\":\"x\",\"plugins\":[{\"type\":\"../sh\"}]}", true,
		"not the name of a file");
	refused("{\"name\":\"x\",\"cniVersion\":\"9.0.0\",\"plugins\":[]}", true, "\"9.0.0\"");
	refused("{\"name\":\"x\",\"disableGC\":7,\"plugins\":[]}", true, "\"disableGC\"");
	refused("{\"name\":\"x\"}", false, "no \"type\"");
	refused("{\"name\":\"x\",\"plugins\":[]}", false, ".conflist");
}

static void too_many_plugins_are_refused(void **state)
{
	struct buf b _cleanup_buf_ = BUF_INIT;

	buf_adds(&b, "{\"name\":\"x\",\"plugins\":[{\"type\":\"a\"}");
	for (int i = 0; i < CNI_PLUGINS_MAX; i++)
		buf_adds(&b, ",{\"type\":\"a\"}");
	buf_adds(&b, "]}");
	refused(b.data, true, "more than");
}

/* ---- Directories ---- */

static char dir[] = "/tmp/cni-conf-XXXXXX";

static int make_dir(void **state)
{
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	rm_rf(AT_FDCWD, dir);
	memcpy(dir + strlen(dir) - 6, "XXXXXX", 6);
	return 0;
}

static void put(const char *name, const char *text)
{
	char path[200];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	assert_int_equal(file_write(AT_FDCWD, path, text, strlen(text), 0644), 0);
}

static void networks_come_by_their_files_names(void **state)
{
	struct cni_networks l _cleanup_cni_networks_ = {};
	struct err err = ERR_INIT;

	put("20-b.conflist", "{\"name\":\"b\",\"plugins\":[{\"type\":\"bridge\"}]}");
	put("10-a.conf", "{\"name\":\"a\",\"type\":\"bridge\"}");
	put("05-empty.conflist", "{\"name\":\"empty\",\"plugins\":[]}");
	put("30-c.json", "{\"name\":\"c\",\"type\":\"bridge\"}");
	put("00-notes.txt", "not a network");
	assert_int_equal(cni_networks_load(dir, 0, &l, &err), 0);
	assert_int_equal(l.n, 3);
	assert_string_equal(l.v[0]->name, "a");
	assert_string_equal(l.v[1]->name, "b");
	assert_string_equal(l.v[2]->name, "c");
}

static void no_more_than_asked_for_are_read(void **state)
{
	struct cni_networks l _cleanup_cni_networks_ = {};
	struct err err = ERR_INIT;

	put("10-a.conf", "{\"name\":\"a\",\"type\":\"bridge\"}");
	put("20-b.conf", "broken");
	assert_int_equal(cni_networks_load(dir, 1, &l, &err), 0);
	assert_int_equal(l.n, 1);
	assert_int_equal(cni_networks_load(dir, 2, &l, &err), -ERR_INVALID_ARGUMENT);
	assert_non_null(strstr(err.text, "20-b.conf"));
	assert_int_equal(l.n, 1);
}

static void an_empty_or_absent_directory_has_no_network(void **state)
{
	struct cni_networks l _cleanup_cni_networks_ = {};
	struct err err = ERR_INIT;

	assert_int_equal(cni_networks_load(dir, 1, &l, &err), -ERR_NOT_FOUND);
	assert_non_null(strstr(err.text, "no network config found in "));
	assert_int_equal(cni_networks_load("/proc/nonexistent", 1, &l, &err), -ERR_NOT_FOUND);
}

static void plugins_of_files_join_a_list_that_wants_them(void **state)
{
	struct cni_networks l _cleanup_cni_networks_ = {};
	struct err err = ERR_INIT;
	char sub[200];

	snprintf(sub, sizeof(sub), "%s/a", dir);
	assert_int_equal(mkdir(sub, 0755), 0);
	put("10-a.conflist", "{\"name\":\"a\",\"plugins\":[{\"type\":\"bridge\"}]}");
	put("20-a.conflist", "{\"name\":\"a\",\"loadOnlyInlinedPlugins\":true,"
			     "\"plugins\":[{\"type\":\"bridge\"}]}");
	put("a/20-y.conf", "{\"type\":\"tuning\"}");
	put("a/10-x.conf", "{\"type\":\"portmap\"}");
	assert_int_equal(cni_networks_load(dir, 0, &l, &err), 0);
	assert_int_equal(l.v[0]->n_plugins, 3);
	assert_string_equal(l.v[0]->plugins[1].type, "portmap");
	assert_string_equal(l.v[0]->plugins[2].type, "tuning");
	assert_int_equal(l.v[1]->n_plugins, 1);
}

static void names_are_checked(void **state)
{
	assert_true(cni_name_valid("a.b-c_1"));
	assert_false(cni_name_valid(""));
	assert_false(cni_name_valid("-a"));
	assert_false(cni_name_valid("a b"));
	assert_true(cni_ifname_valid("eth0"));
	assert_false(cni_ifname_valid(""));
	assert_false(cni_ifname_valid(".."));
	assert_false(cni_ifname_valid("a/b"));
	assert_false(cni_ifname_valid("0123456789abcdef"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_list_has_its_plugins_in_order),
		cmocka_unit_test(a_single_plugin_becomes_a_list_of_one),
		cmocka_unit_test(the_greatest_known_version_is_taken),
		cmocka_unit_test(what_is_no_network_is_refused),
		cmocka_unit_test(too_many_plugins_are_refused),
		cmocka_unit_test_setup_teardown(networks_come_by_their_files_names, make_dir,
						remove_dir),
		cmocka_unit_test_setup_teardown(no_more_than_asked_for_are_read, make_dir,
						remove_dir),
		cmocka_unit_test_setup_teardown(an_empty_or_absent_directory_has_no_network,
						make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(plugins_of_files_join_a_list_that_wants_them,
						make_dir, remove_dir),
		cmocka_unit_test(names_are_checked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
