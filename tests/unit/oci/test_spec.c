/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/str.h"
#include "oci/spec.h"

static json_t *make(bool unified)
{
	json_t *s;
	struct err err;

	if (spec_new("ns", "id", unified, &s, &err) < 0)
		fail_msg("%s", err.text);
	return s;
}

static json_t *parse(const char *text)
{
	json_t *j = json_loads(text, 0, NULL);

	assert_non_null(j);
	return j;
}

static bool has(const json_t *array, const char *word)
{
	size_t i;
	json_t *v;

	json_array_foreach (array, i, v)
		if (json_is_string(v) && streq(json_string_value(v), word))
			return true;
	return false;
}

/* The member of @array whose @key is @value. */
static json_t *find(const json_t *array, const char *key, const char *value)
{
	size_t i;
	json_t *v;

	json_array_foreach (array, i, v)
		if (streq(json_str(v, key, ""), value))
			return v;
	return NULL;
}

static void default_spec_is_that_of_containerd(void **state)
{
	json_t *s _cleanup_json_ = make(false);
	json_t *caps = spec_get(s, "process/capabilities/bounding");

	assert_string_equal(json_string_value(spec_get(s, "linux/cgroupsPath")), "/ns/id");
	assert_string_equal(json_string_value(spec_get(s, "root/path")), "rootfs");
	assert_string_equal(json_string_value(spec_get(s, "process/cwd")), "/");
	assert_true(json_is_true(spec_get(s, "process/noNewPrivileges")));
	assert_int_equal(json_array_size(caps), 14);
	assert_true(has(caps, "CAP_AUDIT_WRITE"));
	assert_false(has(caps, "CAP_SYS_ADMIN"));
	assert_int_equal(json_array_size(spec_get(s, "mounts")), 7);
	assert_int_equal(json_array_size(spec_get(s, "linux/namespaces")), 5);
	assert_true(has(spec_get(s, "linux/maskedPaths"), "/proc/kcore"));
	assert_true(has(spec_get(s, "linux/readonlyPaths"), "/proc/sys"));
	assert_true(
		has(json_arr(find(spec_get(s, "mounts"), "destination", "/sys"), "options"), "ro"));
	assert_int_equal(json_int(json_array_get(spec_get(s, "process/rlimits"), 0), "soft", 0),
			 1024);
	assert_true(json_is_false(json_object_get(
		json_array_get(spec_get(s, "linux/resources/devices"), 0), "allow")));
}

static void a_unified_host_gets_a_cgroup_namespace(void **state)
{
	json_t *s _cleanup_json_ = make(true);

	assert_non_null(find(spec_get(s, "linux/namespaces"), "type", "cgroup"));
}

static void image_gives_environment_command_and_directory(void **state)
{
	json_t *s _cleanup_json_ = make(false);
	json_t *image _cleanup_json_ =
		parse("{\"Env\":[\"PATH=/bin\",\"A=1\",\"bad\"],\"Entrypoint\":[\"/"
		      "e\"],\"Cmd\":[\"c\",\"d\"],\"WorkingDir\":\"/w\"}");
	struct err err;

	assert_int_equal(spec_apply_image(s, image, NULL, 0, &err), 0);
	assert_string_equal(spec_env(s, "PATH"), "/bin");
	assert_string_equal(spec_env(s, "A"), "1");
	assert_null(spec_env(s, "bad"));
	assert_int_equal(json_array_size(spec_get(s, "process/args")), 3);
	assert_string_equal(json_string_value(json_array_get(spec_get(s, "process/args"), 2)), "d");
	assert_string_equal(json_string_value(spec_get(s, "process/cwd")), "/w");
}

static void arguments_replace_the_command_but_not_the_entrypoint(void **state)
{
	json_t *s _cleanup_json_ = make(false);
	json_t *image _cleanup_json_ = parse("{\"Entrypoint\":[\"/e\"],\"Cmd\":[\"c\",\"d\"]}");
	const char *args[] = {"x"};
	struct err err;

	assert_int_equal(spec_apply_image(s, image, args, 1, &err), 0);
	assert_int_equal(json_array_size(spec_get(s, "process/args")), 2);
	assert_string_equal(json_string_value(json_array_get(spec_get(s, "process/args"), 1)), "x");
	assert_non_null(spec_env(s, "PATH"));
}

static void no_command_at_all_is_refused(void **state)
{
	json_t *s _cleanup_json_ = make(false);
	struct err err;

	assert_int_equal(spec_apply_image(s, NULL, NULL, 0, &err), -ERR_INVALID_ARGUMENT);
	assert_string_equal(err.text, "no arguments specified");
}

static void environment_is_replaced_in_place_and_removed_by_name(void **state)
{
	json_t *s _cleanup_json_ = make(false);
	struct err err;

	assert_int_equal(spec_set_env(s, "A=1", &err), 0);
	assert_int_equal(spec_set_env(s, "AB=2", &err), 0);
	assert_int_equal(spec_set_env(s, "A=3", &err), 0);
	assert_string_equal(json_string_value(json_array_get(spec_get(s, "process/env"), 0)),
			    "A=3");
	assert_int_equal(json_array_size(spec_get(s, "process/env")), 2);
	assert_int_equal(spec_set_env(s, "A", &err), 0);
	assert_null(spec_env(s, "A"));
	assert_string_equal(spec_env(s, "AB"), "2");
	assert_int_equal(spec_set_env(s, "=x", &err), -ERR_INVALID_ARGUMENT);
}

static void terminal_sets_term_only_when_absent(void **state)
{
	json_t *s _cleanup_json_ = make(false);
	struct err err;

	assert_int_equal(spec_set_env(s, "TERM=vt100", &err), 0);
	assert_int_equal(spec_set_terminal(s, &err), 0);
	assert_string_equal(spec_env(s, "TERM"), "vt100");
	assert_true(json_is_true(spec_get(s, "process/terminal")));
}

static void namespaces_are_joined_and_removed(void **state)
{
	json_t *s _cleanup_json_ = make(false);
	struct err err;

	assert_int_equal(spec_set_namespace(s, "network", "/n", &err), 0);
	assert_string_equal(
		json_str(find(spec_get(s, "linux/namespaces"), "type", "network"), "path", ""),
		"/n");
	assert_int_equal(json_array_size(spec_get(s, "linux/namespaces")), 5);
	spec_remove_namespace(s, "network");
	assert_null(find(spec_get(s, "linux/namespaces"), "type", "network"));
	assert_int_equal(spec_add_idmap(s, "uidMappings", 0, 1000, 10, &err), 0);
	assert_int_equal(spec_add_idmap(s, "gidMappings", 0, 4000000000u, 10, &err), 0);
	assert_non_null(find(spec_get(s, "linux/namespaces"), "type", "user"));
	assert_int_equal(json_int(json_array_get(spec_get(s, "linux/gidMappings"), 0), "hostID", 0),
			 4000000000);
	assert_int_equal(json_array_size(spec_get(s, "linux/namespaces")), 5);
}

static void capabilities_are_added_once_and_dropped(void **state)
{
	json_t *s _cleanup_json_ = make(false);
	struct err err;

	assert_int_equal(spec_add_cap(s, "CAP_SYS_ADMIN", &err), 0);
	assert_int_equal(spec_add_cap(s, "CAP_SYS_ADMIN", &err), 0);
	assert_int_equal(json_array_size(spec_get(s, "process/capabilities/effective")), 15);
	assert_int_equal(spec_drop_cap(s, "CAP_KILL", &err), 0);
	assert_false(has(spec_get(s, "process/capabilities/permitted"), "CAP_KILL"));
	assert_int_equal(spec_add_cap(s, "SYS_ADMIN", &err), -ERR_INVALID_ARGUMENT);
}

static void privileged_masks_nothing(void **state)
{
	json_t *s _cleanup_json_ = make(false);
	struct err err;

	assert_int_equal(spec_set_privileged(s, &err), 0);
	assert_null(spec_get(s, "linux/maskedPaths"));
	assert_null(spec_get(s, "linux/readonlyPaths"));
	assert_true(
		has(json_arr(find(spec_get(s, "mounts"), "destination", "/sys"), "options"), "rw"));
	assert_int_equal(spec_allow_all_devices(s, &err), 0);
	assert_int_equal(json_array_size(spec_get(s, "linux/resources/devices")), 1);
}

static void device_gets_a_node_and_a_rule(void **state)
{
	json_t *s _cleanup_json_ = make(false);
	json_t *node;
	struct err err;

	assert_int_equal(spec_add_device(s, "/dev/null", "/dev/null", "rw", &err), 0);
	node = json_array_get(spec_get(s, "linux/devices"), 0);
	assert_int_equal(json_int(node, "major", 0), 1);
	assert_int_equal(json_int(node, "minor", 0), 3);
	assert_string_equal(
		json_str(json_array_get(spec_get(s, "linux/resources/devices"), 1), "access", ""),
		"rw");
	assert_int_equal(spec_add_device(s, "/etc/passwd", "/x", "rw", &err),
			 -ERR_INVALID_ARGUMENT);
	assert_int_equal(spec_add_device(s, "/dev/not-there", "/x", "rw", &err), -ERR_NOT_FOUND);
}

static void a_spec_of_wrong_types_is_refused_not_followed(void **state)
{
	json_t *s _cleanup_json_ =
		parse("{\"process\":[],\"linux\":{\"namespaces\":3},\"mounts\":\"x\"}");
	struct err err;

	assert_int_equal(spec_set_env(s, "A=1", &err), -ERR_INVALID_ARGUMENT);
	assert_int_equal(spec_set_namespace(s, "pid", "", &err), -ERR_INVALID_ARGUMENT);
	assert_int_equal(spec_add_mount(s, &(struct mount){.target = "/x"}, &err),
			 -ERR_INVALID_ARGUMENT);
	assert_int_equal(spec_set(s, "linux/namespaces/x", json_true(), &err),
			 -ERR_INVALID_ARGUMENT);
	assert_null(spec_get(s, "process/env"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(default_spec_is_that_of_containerd),
		cmocka_unit_test(a_unified_host_gets_a_cgroup_namespace),
		cmocka_unit_test(image_gives_environment_command_and_directory),
		cmocka_unit_test(arguments_replace_the_command_but_not_the_entrypoint),
		cmocka_unit_test(no_command_at_all_is_refused),
		cmocka_unit_test(environment_is_replaced_in_place_and_removed_by_name),
		cmocka_unit_test(terminal_sets_term_only_when_absent),
		cmocka_unit_test(namespaces_are_joined_and_removed),
		cmocka_unit_test(capabilities_are_added_once_and_dropped),
		cmocka_unit_test(privileged_masks_nothing),
		cmocka_unit_test(device_gets_a_node_and_a_rule),
		cmocka_unit_test(a_spec_of_wrong_types_is_refused_not_followed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
