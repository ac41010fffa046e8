/* SPDX-License-Identifier: Apache-2.0 */
/* The order of plugins, what they are given, what is kept: with a plugin of our own (plugin.sh),
 * which is there under two names and writes down how it was called. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "base/time.h"
#include "cni/cni.h"

static const char *plugin;
static char dir[] = "/tmp/cni-attach-XXXXXX";
static char bin[64], cache[64], log_path[64];
static const char *bins[] = {"/proc/nonexistent", bin};

static const struct cni_attachment at = {.container_id = "c1", .netns = "/ns/c1", .ifname = "eth0"};

static int setup(void **state)
{
	char path[200];

	if (!mkdtemp(dir))
		return -1;
	snprintf(bin, sizeof(bin), "%s/bin", dir);
	snprintf(cache, sizeof(cache), "%s/cache", dir);
	snprintf(log_path, sizeof(log_path), "%s/log", dir);
	setenv("CNI_TEST_LOG", log_path, 1);
	mkdir(bin, 0755);
	snprintf(path, sizeof(path), "%s/first", bin);
	if (symlink(plugin, path) < 0)
		return -1;
	snprintf(path, sizeof(path), "%s/second", bin);
	return symlink(plugin, path);
}

static int teardown(void **state)
{
	rm_rf(AT_FDCWD, dir);
	memcpy(dir + strlen(dir) - 6, "XXXXXX", 6);
	return 0;
}

static struct cni here(void)
{
	return (struct cni){.bin_dirs = bins, .n_bin_dirs = 2, .cache_dir = cache};
}

/* A list of the plugins "first" and "second" with further members. */
static struct cni_network *network(const char *version, const char *first, const char *second)
{
	struct cni_network *n = NULL;
	struct err err = ERR_INIT;
	char text[1000];

	snprintf(text, sizeof(text),
		 "{\"name\":\"net\",\"cniVersion\":\"%s\",\"plugins\":[{\"type\":\"first\"%s},"
		 "{\"type\":\"second\"%s}]}",
		 version, first, second);
	if (cni_network_parse(text, strlen(text), "", true, &n, &err) < 0)
		fail_msg("%s", err.text);
	return n;
}

/* The @i-th line of the log, in @a; "" when there are fewer. */
static const char *logged(struct arena *a, size_t i)
{
	char *text, **lines;
	size_t len, n;

	if (file_read(a, AT_FDCWD, log_path, 1 << 20, &text, &len) < 0)
		return "";
	lines = str_split(a, text, '\n', &n);
	return i < n ? lines[i] : "";
}

static void says(const struct err *err, const char *what)
{
	if (!strstr(err->text, what))
		fail_msg("\"%s\" does not say \"%s\"", err->text, what);
}

static void has(const char *line, const char *what)
{
	if (!strstr(line, what))
		fail_msg("\"%s\" has no \"%s\"", line, what);
}

static void add_hands_each_result_to_the_next_plugin(void **state)
{
	struct cni_network *n _cleanup_(cni_network_freep) = network("1.0.0", "", "");
	struct arena *a _cleanup_arena_ = arena_new(0);
	json_t *result _cleanup_json_ = NULL;
	struct err err = ERR_INIT;
	struct cni cni = here();

	if (cni_add(&cni, NULL, n, &at, &result, &err) < 0)
		fail_msg("%s", err.text);
	has(logged(a, 0), "first ADD id=c1 ns=/ns/c1 if=eth0 args= ");
	assert_null(strstr(logged(a, 0), "prevResult"));
	has(logged(a, 1), "second ADD ");
	has(logged(a, 1), "\"prevResult\":{");
	has(logged(a, 1), "\"name\":\"net\"");
	assert_string_equal(json_str(result, "cniVersion", ""), "1.0.0");
}

static void results_are_kept_and_handed_to_check_and_del_backwards(void **state)
{
	struct cni_network *n _cleanup_(cni_network_freep) = network("0.4.0", "", "");
	struct arena *a _cleanup_arena_ = arena_new(0);
	json_t *entry _cleanup_json_ = NULL, *gone = NULL;
	struct err err = ERR_INIT;
	struct cni cni = here();

	assert_int_equal(cni_check(&cni, NULL, n, &at, &err), -ERR_NOT_FOUND);
	assert_int_equal(cni_add(&cni, NULL, n, &at, NULL, &err), 0);
	assert_int_equal(cni_cached(&cni, "net", "c1", "eth0", &entry, &err), 0);
	assert_string_equal(json_str(entry, "kind", ""), "cniCacheV1");
	assert_string_equal(json_str(entry, "netns", ""), "/ns/c1");
	assert_int_equal(cni_check(&cni, NULL, n, &at, &err), 0);
	has(logged(a, 2), "first CHECK");
	has(logged(a, 2), "\"prevResult\":{");
	assert_int_equal(cni_del(&cni, NULL, n, &at, &err), 0);
	has(logged(a, 4), "second DEL");
	has(logged(a, 4), "\"prevResult\":{");
	has(logged(a, 5), "first DEL");
	assert_int_equal(cni_cached(&cni, "net", "c1", "eth0", &gone, &err), -ERR_NOT_FOUND);
}

static void before_0_4_0_there_is_no_check_and_del_gets_no_result(void **state)
{
	struct cni_network *n _cleanup_(cni_network_freep) = network("0.3.1", "", "");
	struct arena *a _cleanup_arena_ = arena_new(0);
	struct err err = ERR_INIT;
	struct cni cni = here();

	assert_int_equal(cni_add(&cni, NULL, n, &at, NULL, &err), 0);
	assert_int_equal(cni_check(&cni, NULL, n, &at, &err), -ERR_UNIMPLEMENTED);
	assert_int_equal(cni_del(&cni, NULL, n, &at, &err), 0);
	assert_null(strstr(logged(a, 2), "prevResult"));
}

static void del_of_what_was_never_attached_is_fine(void **state)
{
	struct cni_network *n _cleanup_(cni_network_freep) = network("1.0.0", "", "");
	struct cni_attachment gone = at;
	struct err err = ERR_INIT;
	struct cni cni = here();

	gone.netns = "";
	assert_int_equal(cni_del(&cni, NULL, n, &gone, &err), 0);
	assert_int_equal(cni_add(&cni, NULL, n, &gone, NULL, &err), -ERR_INVALID_ARGUMENT);
}

static void a_plugin_gets_the_capabilities_it_asks_for(void **state)
{
	struct cni_network *n _cleanup_(cni_network_freep) =
		network("1.0.0", "", ",\"capabilities\":{\"mac\":true,\"ips\":false}");
	const struct cni_arg args[] = {{"IgnoreUnknown", "1"}, {"K8S_POD_NAME", "p"}};
	struct arena *a _cleanup_arena_ = arena_new(0);
	json_t *caps _cleanup_json_ =
		json_pack("{s:s,s:[s]}", "mac", "02:00:00:00:00:07", "ips", "10.0.0.9/8");
	struct cni_attachment full = at;
	struct err err = ERR_INIT;
	struct cni cni = here();

	full.capabilities = caps;
	full.args = args;
	full.n_args = 2;
	assert_int_equal(cni_add(&cni, NULL, n, &full, NULL, &err), 0);
	assert_null(strstr(logged(a, 0), "runtimeConfig"));
	has(logged(a, 0), "args=IgnoreUnknown=1;K8S_POD_NAME=p ");
	has(logged(a, 1), "\"runtimeConfig\":{\"mac\":\"02:00:00:00:00:07\"}");
	/* What DEL is not told it takes from what was kept. */
	assert_int_equal(cni_del(&cni, NULL, n, &at, &err), 0);
	has(logged(a, 2), "args=IgnoreUnknown=1;K8S_POD_NAME=p ");
	has(logged(a, 2), "\"runtimeConfig\":{\"mac\":\"02:00:00:00:00:07\"}");
}

static void arguments_cannot_smuggle_others(void **state)
{
	struct cni_network *n _cleanup_(cni_network_freep) = network("1.0.0", "", "");
	const struct cni_arg bad[] = {{"A", "x;B=y"}, {"A=B", "x"}, {"", "x"}};
	struct err err = ERR_INIT;
	struct cni cni = here();

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct cni_attachment full = at;

		full.args = &bad[i];
		full.n_args = 1;
		assert_int_equal(cni_add(&cni, NULL, n, &full, NULL, &err), -ERR_INVALID_ARGUMENT);
	}
}

static void names_that_are_paths_are_refused(void **state)
{
	struct cni_network *n _cleanup_(cni_network_freep) = network("1.0.0", "", "");
	struct cni_attachment bad = at;
	struct err err = ERR_INIT;
	struct cni cni = here();
	json_t *entry = NULL;

	bad.container_id = "../x";
	assert_int_equal(cni_add(&cni, NULL, n, &bad, NULL, &err), -ERR_INVALID_ARGUMENT);
	bad = at;
	bad.ifname = "a/b";
	assert_int_equal(cni_add(&cni, NULL, n, &bad, NULL, &err), -ERR_INVALID_ARGUMENT);
	assert_int_equal(cni_cached(&cni, "../..", "c", "eth0", &entry, &err),
			 -ERR_INVALID_ARGUMENT);
}

static void fails_in(int64_t limit, const char *second, int kind, const char *why)
{
	struct cni_network *n _cleanup_(cni_network_freep) = network("1.0.0", "", second);
	struct err err = ERR_INIT;
	struct cni cni = here();
	json_t *entry = NULL;

	cni.timeout_ns = limit;
	assert_int_equal(cni_add(&cni, NULL, n, &at, NULL, &err), -kind);
	says(&err, "network \"net\"");
	says(&err, why);
	assert_int_equal(cni_cached(&cni, "net", "c1", "eth0", &entry, NULL), -ERR_NOT_FOUND);
}

static void fails(const char *second, int kind, const char *why)
{
	fails_in(60 * NSEC_PER_SEC, second, kind, why);
}

static void what_a_plugin_says_is_in_the_error(void **state)
{
	fails(",\"mode\":\"fail\"", ERR_INVALID_ARGUMENT,
	      "plugin type=\"second\" failed (ADD): no such bridge; br9");
	fails(",\"mode\":\"later\"", ERR_UNAVAILABLE, "lease is held");
	fails(",\"mode\":\"silent\"", ERR_UNKNOWN, "exit status 5 and no message");
	fails(",\"mode\":\"empty\"", ERR_INVALID_ARGUMENT, "printed no result");
	fails(",\"mode\":\"flood\"", ERR_INVALID_ARGUMENT, "its result");
	fails(",\"mode\":\"bad-address\"", ERR_INVALID_ARGUMENT, "\"10.1.2.3\" is not an address");
}

static void a_plugin_that_hangs_is_ended(void **state)
{
	int64_t start = time_mono();

	fails_in(NSEC_PER_SEC, ",\"mode\":\"hang\"", ERR_DEADLINE_EXCEEDED,
		 "plugin type=\"second\"");
	assert_true(time_mono() - start < 50 * NSEC_PER_SEC);
}

static void a_missing_plugin_names_the_directories(void **state)
{
	static const char text[] = "{\"name\":\"net\",\"type\":\"nosuch\"}";
	struct cni_network *n _cleanup_(cni_network_freep) = NULL;
	struct err err = ERR_INIT;
	struct cni cni = here();

	assert_int_equal(cni_network_parse(text, strlen(text), "", false, &n, &err), 0);
	assert_int_equal(cni_add(&cni, NULL, n, &at, NULL, &err), -ERR_NOT_FOUND);
	says(&err, "plugin \"nosuch\" is not in /proc/nonexistent, ");
}

static void results_of_older_plugins_are_converted(void **state)
{
	struct cni_network *n _cleanup_(cni_network_freep) =
		network("1.0.0", ",\"mode\":\"old\"", ",\"mode\":\"old\"");
	struct arena *a _cleanup_arena_ = arena_new(0);
	json_t *result _cleanup_json_ = NULL;
	struct cni_result read;
	struct err err = ERR_INIT;
	struct cni cni = here();

	assert_int_equal(cni_add(&cni, NULL, n, &at, &result, &err), 0);
	assert_int_equal(cni_result_read(a, result, &read, &err), 0);
	assert_string_equal(read.ips[0].ip, "10.1.2.3");
	has(logged(a, 1), "\"ips\":[{\"address\":\"10.1.2.3/24\"");
}

static void what_failed_to_go_stays_kept(void **state)
{
	struct cni_network *n _cleanup_(cni_network_freep) =
		network("1.0.0", ",\"mode\":\"fail-del\"", "");
	json_t *entry _cleanup_json_ = NULL;
	struct err err = ERR_INIT;
	struct cni cni = here();

	assert_int_equal(cni_add(&cni, NULL, n, &at, NULL, &err), 0);
	assert_int_equal(cni_del(&cni, NULL, n, &at, &err), -ERR_UNKNOWN);
	says(&err, "plugin type=\"first\" failed (DEL): exit status 3: cannot tidy up");
	assert_int_equal(cni_cached(&cni, "net", "c1", "eth0", &entry, &err), 0);
}

static void del_goes_on_after_what_is_not_found(void **state)
{
	struct cni_network *n _cleanup_(cni_network_freep) =
		network("1.0.0", "", ",\"mode\":\"gone-del\"");
	struct arena *a _cleanup_arena_ = arena_new(0);
	json_t *entry _cleanup_json_ = NULL;
	struct err err = ERR_INIT;
	struct cni cni = here();

	assert_int_equal(cni_add(&cni, NULL, n, &at, NULL, &err), 0);
	assert_int_equal(cni_del(&cni, NULL, n, &at, &err), 0);
	has(logged(a, 2), "second DEL");
	has(logged(a, 3), "first DEL");
	assert_int_equal(cni_cached(&cni, "net", "c1", "eth0", &entry, &err), -ERR_NOT_FOUND);
}

static void del_stops_at_a_failure_unless_all_shall_go(void **state)
{
	struct cni_network *n _cleanup_(cni_network_freep) =
		network("1.0.0", "", ",\"mode\":\"fail-del\"");
	struct arena *a _cleanup_arena_ = arena_new(0);
	json_t *entry _cleanup_json_ = NULL;
	struct err err = ERR_INIT;
	struct cni cni = here();
	char path[200];

	assert_int_equal(cni_add(&cni, NULL, n, &at, NULL, &err), 0);
	assert_int_equal(cni_del(&cni, NULL, n, &at, &err), -ERR_UNKNOWN);
	has(logged(a, 2), "second DEL");
	assert_string_equal(logged(a, 3), "");
	assert_int_equal(cni_del_all(&cni, NULL, n, &at, &err), -ERR_UNKNOWN);
	says(&err, "plugin type=\"second\" failed (DEL): exit status 3: cannot tidy up");
	has(logged(a, 4), "first DEL");
	assert_int_equal(cni_cached(&cni, "net", "c1", "eth0", &entry, &err), -ERR_NOT_FOUND);
	/* A plugin that is not there is a failure, not something that is gone. */
	snprintf(path, sizeof(path), "%s/second", bin);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(cni_del(&cni, NULL, n, &at, &err), -ERR_NOT_FOUND);
	assert_int_equal(symlink(plugin, path), 0);
}

static void gc_detaches_what_is_not_valid(void **state)
{
	struct cni_network *n _cleanup_(cni_network_freep) = network("1.1.0", "", "");
	struct arena *a _cleanup_arena_ = arena_new(0);
	struct cni_attachment other = at;
	json_t *entry _cleanup_json_ = NULL, *gone = NULL;
	struct err err = ERR_INIT;
	struct cni cni = here();

	other.container_id = "c2";
	assert_int_equal(cni_add(&cni, NULL, n, &at, NULL, &err), 0);
	assert_int_equal(cni_add(&cni, NULL, n, &other, NULL, &err), 0);
	assert_int_equal(cni_gc(&cni, NULL, n, &at, 1, &err), 0);
	has(logged(a, 4), "second DEL id=c2 ns=/ns/c1");
	has(logged(a, 6), "first GC");
	has(logged(a, 6), "\"cni.dev/valid-attachments\":[{\"containerID\":\"c1\","
			  "\"ifname\":\"eth0\"}]");
	assert_int_equal(cni_cached(&cni, "net", "c1", "eth0", &entry, &err), 0);
	assert_int_equal(cni_cached(&cni, "net", "c2", "eth0", &gone, &err), -ERR_NOT_FOUND);
}

static void status_asks_every_plugin_from_1_1_0(void **state)
{
	struct cni_network *n _cleanup_(cni_network_freep) = network("1.1.0", "", "");
	struct cni_network *old _cleanup_(cni_network_freep) = network("1.0.0", "", "");
	struct arena *a _cleanup_arena_ = arena_new(0);
	struct err err = ERR_INIT;
	struct cni cni = here();

	assert_int_equal(cni_status(&cni, NULL, old, &err), 0);
	assert_string_equal(logged(a, 0), "");
	assert_int_equal(cni_status(&cni, NULL, n, &err), 0);
	has(logged(a, 0), "first STATUS");
	has(logged(a, 1), "second STATUS");
}

static void a_canceled_request_ends_the_plugin(void **state)
{
	struct cni_network *n _cleanup_(cni_network_freep) =
		network("1.0.0", ",\"mode\":\"hang\"", "");
	struct ctx ctx = {.canceled = true};
	struct err err = ERR_INIT;
	struct cni cni = here();

	assert_int_equal(cni_add(&cni, &ctx, n, &at, NULL, &err), -ERR_CANCELED);
}

static pid_t plugin_pid(void)
{
	struct arena *a _cleanup_arena_ = arena_new(0);
	char path[80], *text;
	size_t len;

	snprintf(path, sizeof(path), "%s.pid", log_path);
	for (int i = 0; i < 60000; i++) {
		if (file_read(a, AT_FDCWD, path, 32, &text, &len) == 0)
			return atoi(text);
		usleep(1000);
	}
	fail_msg("the plugin was not started");
	return -1;
}

static void a_plugin_ends_with_who_has_called_it(void **state)
{
	struct cni_network *n _cleanup_(cni_network_freep) =
		network("1.0.0", ",\"mode\":\"stay\"", "");
	struct cni cni = here();
	pid_t caller, pid, got = 0;
	int status = 0;

	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
	caller = fork();
	assert_true(caller >= 0);
	if (caller == 0)
		_exit(cni_add(&cni, NULL, n, &at, NULL, NULL) != 0);
	pid = plugin_pid();
	assert_true(pid > 0);
	assert_int_equal(kill(caller, SIGKILL), 0);
	assert_int_equal(waitpid(caller, NULL, 0), caller);
	for (int i = 0; i < 60000 && got != pid; i++) {
		got = waitpid(pid, &status, WNOHANG);
		usleep(1000);
	}
	if (got != pid)
		kill(pid, SIGKILL);
	assert_int_equal(got, pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

int main(int argc, char **argv)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(add_hands_each_result_to_the_next_plugin),
		TEST(results_are_kept_and_handed_to_check_and_del_backwards),
		TEST(del_goes_on_after_what_is_not_found),
		TEST(del_stops_at_a_failure_unless_all_shall_go),
		TEST(before_0_4_0_there_is_no_check_and_del_gets_no_result),
		TEST(del_of_what_was_never_attached_is_fine),
		TEST(a_plugin_gets_the_capabilities_it_asks_for),
		TEST(arguments_cannot_smuggle_others),
		TEST(names_that_are_paths_are_refused),
		TEST(what_a_plugin_says_is_in_the_error),
		TEST(a_plugin_that_hangs_is_ended),
		TEST(a_missing_plugin_names_the_directories),
		TEST(results_of_older_plugins_are_converted),
		TEST(what_failed_to_go_stays_kept),
		TEST(gc_detaches_what_is_not_valid),
		TEST(status_asks_every_plugin_from_1_1_0),
		TEST(a_canceled_request_ends_the_plugin),
		TEST(a_plugin_ends_with_who_has_called_it),
	};

	if (argc != 2)
		return 2;
	plugin = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
