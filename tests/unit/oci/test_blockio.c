/* SPDX-License-Identifier: Apache-2.0 */
/* Classes of block I/O. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/str.h"
#include "oci/blockio.h"

static json_t *parse(const char *text)
{
	json_t *j = NULL;

	assert_int_equal(json_parse(text, strlen(text), &j, NULL), 0);
	return j;
}

static int class_of(const char *text, const char *name, json_t **ret, struct err *err)
{
	_cleanup_json_ json_t *config = parse(text);

	return blockio_class(config, name, ret, err);
}

static void refused(const char *text, const char *why)
{
	struct err err = ERR_INIT;
	json_t *j = NULL;

	assert_int_equal(class_of(text, "x", &j, &err), -ERR_INVALID_ARGUMENT);
	if (!strstr(err.text, why))
		fail_msg("\"%s\" is not in: %s", why, err.text);
	assert_null(j);
}

static void quantities_have_suffixes_and_round_up(void **state)
{
	static const struct {
		const char *text;
		int64_t value;
	} good[] = {{"0", 0},	       {"80", 80},
		    {"50M", 50000000}, {"10k", 10000},
		    {"1Ki", 1024},     {"1.5Gi", 1610612736},
		    {"1e3", 1000},     {"2E", 2000000000000000000},
		    {"1500m", 2},      {"0.1", 1},
		    {"+3", 3},	       {"-1", -1},
		    {"12.50", 13},     {"7Ei", 8070450532247928832},
		    {"1E2", 100},      {".5k", 500}};
	static const char *const bad[] = {"",	  "M",	"1K",	"1kB", "1 M",
					  "0x10", "1e", "1e99", "--1", "."};
	int64_t v;

	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		v = -77;
		if (quantity_parse(good[i].text, &v) < 0 || v != good[i].value)
			fail_msg("%s gave %lld", good[i].text, (long long)v);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (quantity_parse(bad[i], &v) >= 0)
			fail_msg("\"%s\" was taken", bad[i]);
	assert_int_equal(quantity_parse("99E", &v), -ERANGE);
	assert_int_equal(quantity_parse("8Ei", &v), -ERANGE);
	assert_true(quantity_parse("99999999999999999999", &v) < 0);
}

static void weight_without_devices_is_the_class_weight(void **state)
{
	json_t *j = NULL;

	assert_int_equal(class_of("{\"classes\":{\"x\":[{\"weight\":80},{\"Weight\":\"90\"}]}}",
				  "x", &j, NULL),
			 0);
	assert_int_equal(json_int(j, "weight", 0), 90);
	assert_int_equal(json_object_size(j), 1);
	json_decref(j);
}

static void a_class_may_be_empty(void **state)
{
	json_t *j = NULL;

	assert_int_equal(class_of("{\"Classes\":{\"x\":null}}", "x", &j, NULL), 0);
	assert_int_equal(json_object_size(j), 0);
	json_decref(j);
}

static void an_unknown_class_is_not_found(void **state)
{
	struct err err = ERR_INIT;
	json_t *j = NULL;

	assert_int_equal(class_of("{\"Classes\":{\"x\":[]}}", "y", &j, &err), -ERR_NOT_FOUND);
	assert_non_null(strstr(err.text, "no OCI BlockIO parameters for class \"y\""));
	assert_int_equal(class_of("{}", "y", &j, NULL), -ERR_NOT_FOUND);
	/* an empty file */
	assert_int_equal(blockio_class(json_null(), "y", &j, NULL), -ERR_NOT_FOUND);
	assert_int_equal(blockio_check(json_null(), NULL), 0);
	assert_null(j);
}

static void wrong_files_are_refused(void **state)
{
	refused("[]", "not a map");
	refused("{\"Classes\":[]}", "not a map");
	refused("{\"Classes\":{\"x\":{}}}", "not a list");
	refused("{\"Classes\":{\"x\":[1]}}", "right form");
	refused("{\"Classes\":{\"x\":[{\"Devices\":\"/dev/x\"}]}}", "right form");
	refused("{\"Classes\":{\"x\":[{\"Devices\":[1]}]}}", "not a path");
	refused("{\"Classes\":{\"x\":[{\"Weight\":9}]}}", "smaller than minimum (10)");
	refused("{\"Classes\":{\"x\":[{\"Weight\":1001}]}}", "bigger than maximum (1000)");
	refused("{\"Classes\":{\"x\":[{\"Weight\":\"lots\"}]}}", "syntax error in \"Weight\"");
	refused("{\"Classes\":{\"x\":[{\"ThrottleReadBps\":\"1M\"}]}}", "without Devices");
	/* also when another class is asked for */
	refused("{\"Classes\":{\"x\":[],\"z\":[{\"Weight\":true}]}}", "class \"z\"");
}

/* Some block device of this machine; false where there is none. */
static bool some_device(char path[300], dev_t *ret)
{
	DIR *d = opendir("/dev");
	struct dirent *e;
	struct stat st;
	bool found = false;

	while (d && !found && (e = readdir(d))) {
		snprintf(path, 300, "/dev/%s", e->d_name);
		found = stat(path, &st) == 0 && S_ISBLK(st.st_mode);
	}
	if (found)
		*ret = st.st_rdev;
	if (d)
		closedir(d);
	return found;
}

static void devices_are_found_by_pattern_and_later_entries_count(void **state)
{
	char path[300], text[2000];
	json_t *j = NULL, *d;
	dev_t dev;

	if (!some_device(path, &dev))
		skip();
	snprintf(text, sizeof(text),
		 "{\"Classes\":{\"x\":["
		 "{\"Devices\":[\"%.*s?\",\"/dev/null\",\"/dev/"
		 "no-such*\"],\"ThrottleReadBps\":\"50M\","
		 "\"Weight\":50},"
		 "{\"Devices\":[\"%s\"],\"ThrottleReadBps\":\"70M\",\"ThrottleWriteIOPS\":\"5k\"}]}"
		 "}",
		 (int)strlen(path) - 1, path, path);
	assert_int_equal(class_of(text, "x", &j, NULL), 0);
	for (size_t i = 0; i < json_array_size(json_arr(j, "throttleReadBpsDevice")); i++) {
		d = json_array_get(json_arr(j, "throttleReadBpsDevice"), i);
		if (json_int(d, "major", -1) == major(dev) &&
		    json_int(d, "minor", -1) == minor(dev))
			assert_int_equal(json_int(d, "rate", 0), 70000000);
		else
			assert_int_equal(json_int(d, "rate", 0), 50000000);
	}
	assert_int_equal(json_array_size(json_arr(j, "weightDevice")),
			 json_array_size(json_arr(j, "throttleReadBpsDevice")));
	assert_int_equal(json_array_size(json_arr(j, "throttleWriteIOPSDevice")), 1);
	d = json_array_get(json_arr(j, "throttleWriteIOPSDevice"), 0);
	assert_int_equal(json_int(d, "rate", 0), 5000);
	assert_null(json_arr(j, "throttleWriteBpsDevice"));
	assert_null(json_object_get(j, "weight"));
	json_decref(j);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(quantities_have_suffixes_and_round_up),
		cmocka_unit_test(weight_without_devices_is_the_class_weight),
		cmocka_unit_test(a_class_may_be_empty),
		cmocka_unit_test(an_unknown_class_is_not_found),
		cmocka_unit_test(wrong_files_are_refused),
		cmocka_unit_test(devices_are_found_by_pattern_and_later_entries_count),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
