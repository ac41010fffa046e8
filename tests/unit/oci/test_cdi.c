/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "oci/cdi.h"
#include "oci/spec.h"
#include "oci/yaml_json.h"

static char top[] = "/tmp/cdi-XXXXXX";
static char low[64], high[64];
static const char *const dirs[] = {low, high, "/proc/nonexistent"};

static int setup(void **state)
{
	if (!mkdtemp(top))
		return -1;
	snprintf(low, sizeof(low), "%s/low", top);
	snprintf(high, sizeof(high), "%s/high", top);
	return mkdir(low, 0755) < 0 || mkdir(high, 0755) < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	rm_rf(AT_FDCWD, top);
	memcpy(top + strlen(top) - 6, "XXXXXX", 6);
	return 0;
}

static void put(const char *dir, const char *name, const char *text)
{
	char path[200];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	assert_int_equal(file_write(AT_FDCWD, path, text, strlen(text), 0644), 0);
}

static struct cdi *load(void)
{
	struct err err = ERR_INIT;
	struct cdi *c = NULL;

	if (cdi_load(dirs, 3, &c, &err) < 0)
		fail_msg("%s", err.text);
	return c;
}

static json_t *new_spec(void)
{
	json_t *spec = NULL;

	assert_int_equal(spec_new("default", "x", false, &spec, NULL), 0);
	return spec;
}

#define DEVICE(kind, name, env)                                                             \
	"{\"cdiVersion\":\"0.6.0\",\"kind\":\"" kind "\",\"containerEdits\":{\"env\":"      \
	"[\"COMMON=1\"]},\"devices\":[{\"name\":\"" name "\",\"containerEdits\":{\"env\":[" \
	"\"" env "\"]}}]}"

static void edits_are_made_in_the_spec(void **state)
{
	static const char text[] =
		"cdiVersion: \"0.7.0\"\n"
		"kind: vendor.com/gpu\n"
		"containerEdits:\n"
		"  hooks:\n"
		"  - hookName: createContainer\n"
		"    path: /bin/hook\n"
		"    args: [hook, update]\n"
		"devices:\n"
		"- name: \"0\"\n"
		"  containerEdits:\n"
		"    env: [GPU=0]\n"
		"    deviceNodes:\n"
		"    - {path: /dev/gpu0, hostPath: /dev/null, fileMode: 0660, permissions: rw}\n"
		"    mounts:\n"
		"    - hostPath: /lib/x\n"
		"      containerPath: /usr/lib/deep/x\n"
		"      options: [ro, bind]\n"
		"    - {hostPath: /lib/y, containerPath: /y}\n"
		"    additionalGids: [44, 0, 44]\n"
		"    intelRdt: {closID: c1}\n";
	static const char *const names[] = {"vendor.com/gpu=0"};
	struct cdi *c _cleanup_(cdi_freep) = NULL;
	json_t *spec _cleanup_json_ = new_spec();
	struct err err = ERR_INIT;
	const json_t *node, *rules, *mounts, *rule, *gids;

	put(low, "gpu.yaml", text);
	c = load();
	assert_string_equal(cdi_problems(c), "");
	if (cdi_inject(c, spec, names, 1, &err) < 0)
		fail_msg("%s", err.text);
	assert_string_equal(spec_env(spec, "GPU"), "0");
	node = json_array_get(spec_get(spec, "linux/devices"), 0);
	assert_string_equal(json_str(node, "path", ""), "/dev/gpu0");
	assert_string_equal(json_str(node, "type", ""), "c");
	assert_int_equal(json_int(node, "major", 0), 1);
	assert_int_equal(json_int(node, "minor", 0), 3);
	assert_int_equal(json_int(node, "fileMode", 0), 0660);
	rules = spec_get(spec, "linux/resources/devices");
	rule = json_array_get(rules, json_array_size(rules) - 1);
	assert_string_equal(json_str(rule, "access", ""), "rw");
	mounts = spec_get(spec, "mounts");
	assert_string_equal(
		json_str(json_array_get(mounts, json_array_size(mounts) - 1), "destination", ""),
		"/usr/lib/deep/x");
	gids = spec_get(spec, "process/user/additionalGids");
	assert_int_equal(json_array_size(gids), 1);
	assert_string_equal(json_string_value(spec_get(spec, "linux/intelRdt/closID")), "c1");
	assert_int_equal(json_array_size(spec_get(spec, "hooks/createContainer")), 1);
}

static void the_later_directory_wins(void **state)
{
	static const char *const names[] = {"v.com/c=d"};
	struct cdi *c _cleanup_(cdi_freep) = NULL;
	json_t *spec _cleanup_json_ = new_spec();

	put(low, "a.json", DEVICE("v.com/c", "d", "FROM=low"));
	put(high, "a.json", DEVICE("v.com/c", "d", "FROM=high"));
	c = load();
	assert_int_equal(cdi_inject(c, spec, names, 1, NULL), 0);
	assert_string_equal(spec_env(spec, "FROM"), "high");
	assert_true(cdi_has_kind(c, "v.com/c"));
	assert_false(cdi_has_kind(c, "v.com/cc"));
}

static void two_of_one_directory_cannot_be_used(void **state)
{
	static const char *const names[] = {"v.com/c=d", "v.com/c=e"};
	struct cdi *c _cleanup_(cdi_freep) = NULL;
	json_t *spec _cleanup_json_ = new_spec(), *before _cleanup_json_ = json_deep_copy(spec);
	struct err err = ERR_INIT;
	const char *const *all;

	put(low, "a.json", DEVICE("v.com/c", "d", "A=1"));
	put(low, "b.json", DEVICE("v.com/c", "d", "A=2"));
	c = load();
	assert_int_equal(cdi_devices(c, &all), 0);
	assert_int_equal(cdi_inject(c, spec, names, 2, &err), -ERR_NOT_FOUND);
	assert_non_null(strstr(err.text, "unresolvable CDI devices v.com/c=d, v.com/c=e"));
	assert_true(json_equal(spec, before));
}

static void a_bad_file_leaves_the_others(void **state)
{
	struct cdi *c _cleanup_(cdi_freep) = NULL;
	const char *const *all;

	put(low, "a.json", "{");
	put(low, "b.yaml", "kind: &a x\ncdiVersion: *a\n");
	put(low, "c.json", DEVICE("v.com/c", "d", "A=1"));
	put(low, "d.txt", "not looked at");
	c = load();
	assert_int_equal(cdi_devices(c, &all), 1);
	assert_string_equal(all[0], "v.com/c=d");
	assert_non_null(strstr(cdi_problems(c), "a.json: JSON line"));
	assert_non_null(strstr(cdi_problems(c), "b.yaml: YAML line 2: aliases are not taken"));
}

static void common_edits_are_made_once(void **state)
{
	static const char text[] =
		"{\"cdiVersion\":\"0.6.0\",\"kind\":\"v.com/c\",\"containerEdits\":{\"hooks\":[{"
		"\"hookName\":\"prestart\",\"path\":\"/h\"}]},\"devices\":[{\"name\":\"a\","
		"\"containerEdits\":{}},{\"name\":\"b\",\"containerEdits\":{}}]}";
	static const char *const names[] = {"v.com/c=a", "v.com/c=b"};
	struct cdi *c _cleanup_(cdi_freep) = NULL;
	json_t *spec _cleanup_json_ = new_spec();

	put(low, "a.json", text);
	c = load();
	assert_int_equal(cdi_inject(c, spec, names, 2, NULL), 0);
	assert_int_equal(json_array_size(spec_get(spec, "hooks/prestart")), 1);
}

static void names_are_checked(void **state)
{
	static const char *const good[] = {"nvidia.com/gpu=0", "a.b-c/d_e=GPU-1:0.x", "v/c=all"};
	static const char *const bad[] = {
		"",	  "/dev/null", "v.com/c",     "v.com=d",  "v.com/c=",
		"/c=d",	  "v.com/=d",  "1v/c=d",      "v/1c=d",	  "v/c=-d",
		"v/c=d/", "v-/c=d",    "v.com/c=a=b", "v com/c=d"};

	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		assert_true(cdi_name_valid(good[i]));
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (cdi_name_valid(bad[i]))
			fail_msg("%s", bad[i]);
}

static void refused(const char *edits, const char *why)
{
	struct err err = ERR_INIT;
	json_t *spec _cleanup_json_ = NULL;
	char text[500];

	snprintf(text, sizeof(text),
		 "{\"cdiVersion\":\"1.0.0\",\"kind\":\"v/c\",\"devices\":[{\"name\":\"d\","
		 "\"containerEdits\":%s}]}",
		 edits);
	spec = json_loads(text, 0, NULL);
	assert_non_null(spec);
	assert_int_equal(cdi_spec_check(spec, &err), -ERR_INVALID_ARGUMENT);
	if (!strstr(err.text, why))
		fail_msg("\"%s\" does not say \"%s\"", err.text, why);
}

static void edits_are_checked(void **state)
{
	refused("[]", "not an object");
	refused("{\"env\":[\"X\"]}", "K=V");
	refused("{\"env\":{}}", "no list");
	refused("{\"deviceNodes\":[{\"path\":\"dev\"}]}", "not absolute");
	refused("{\"deviceNodes\":[{\"path\":\"/d\",\"type\":\"x\"}]}", "unknown type");
	refused("{\"deviceNodes\":[{\"path\":\"/d\",\"permissions\":\"rx\"}]}", "permissions");
	refused("{\"mounts\":[{\"containerPath\":\"/d\"}]}", "hostPath");
	refused("{\"mounts\":[{\"hostPath\":\"/d\",\"containerPath\":\"d\"}]}", "not absolute");
	refused("{\"hooks\":[{\"hookName\":\"x\",\"path\":\"/h\"}]}", "unknown hook");
	refused("{\"hooks\":[{\"hookName\":\"prestart\",\"path\":\"h\"}]}", "not absolute");
	refused("{\"additionalGids\":[-1]}", "gid");
	refused("{\"netDevices\":[{}]}", "network device");
}

static void yaml_gives(const char *text, const char *want)
{
	json_t *out _cleanup_json_ = NULL, *expected _cleanup_json_ = NULL;
	struct err err = ERR_INIT;

	if (yaml_to_json(text, strlen(text), &out, &err) < 0)
		fail_msg("%s: %s", text, err.text);
	expected = json_loads(want, JSON_DECODE_ANY, NULL);
	if (!json_equal(out, expected))
		fail_msg("%s gives %s", text, json_dumps(out, JSON_ENCODE_ANY));
}

static void yaml_refused(const char *text, const char *why)
{
	struct err err = ERR_INIT;
	json_t *out = NULL;

	assert_int_equal(yaml_to_json(text, strlen(text), &out, &err), -ERR_INVALID_ARGUMENT);
	if (!strstr(err.text, why))
		fail_msg("\"%s\" does not say \"%s\"", err.text, why);
}

static void yaml_has_types_and_limits(void **state)
{
	struct buf deep _cleanup_buf_ = BUF_INIT;

	yaml_gives("", "null");
	yaml_gives("a: 1\nb: 0x10\nc: 0660\nd: 0o17\ne: -5\nf: 1.5\ng: ~\nh: True\ni: \"1\"\n"
		   "j: 1.2.3\nk: 09\nl: [a, {b: c}]\nm:\n",
		   "{\"a\":1,\"b\":16,\"c\":432,\"d\":15,\"e\":-5,\"f\":1.5,\"g\":null,\"h\":true,"
		   "\"i\":\"1\",\"j\":\"1.2.3\",\"k\":\"09\",\"l\":[\"a\",{\"b\":\"c\"}],"
		   "\"m\":null}");
	yaml_refused("a: b: c\n", "YAML line");
	yaml_refused("a: 1\na: 2\n", "the same key again");
	yaml_refused("[a]: 1\n", "a key that is no text");
	yaml_refused("a: &x [1]\nb: *x\n", "aliases");
	for (int i = 0; i <= YAML_DEPTH_MAX; i++)
		buf_addc(&deep, '[');
	yaml_refused(deep.data, "nested too deeply");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(edits_are_made_in_the_spec),
		TEST(the_later_directory_wins),
		TEST(two_of_one_directory_cannot_be_used),
		TEST(a_bad_file_leaves_the_others),
		TEST(common_edits_are_made_once),
		cmocka_unit_test(names_are_checked),
		cmocka_unit_test(edits_are_checked),
		cmocka_unit_test(yaml_has_types_and_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
