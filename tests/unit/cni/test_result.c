/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/str.h"
#include "cni/cni.h"

#define OLD                                                                                   \
	"{\"cniVersion\":\"0.2.0\",\"ip4\":{\"ip\":\"10.0.0.2/24\",\"gateway\":\"10.0.0.1\"," \
	"\"routes\":[{\"dst\":\"0.0.0.0/0\"}]},\"ip6\":{\"ip\":\"fd00::2/64\",\"routes\":"    \
	"[{\"dst\":\"::/0\",\"gw\":\"fd00::1\"}]},\"dns\":{\"nameservers\":[\"10.0.0.1\"]}}"
#define NEW                                                                                     \
	"{\"cniVersion\":\"1.1.0\",\"interfaces\":[{\"name\":\"br0\",\"mac\":\"02:00:00:00:00:" \
	"01\"},"                                                                                \
	"{\"name\":\"eth0\",\"sandbox\":\"/n\",\"mtu\":1400,\"pciID\":\"x\"}],\"ips\":["        \
	"{\"address\":\"10.0.0.2/24\",\"gateway\":\"10.0.0.1\",\"interface\":1},"               \
	"{\"address\":\"fd00::2/64\",\"interface\":1}],\"routes\":[{\"dst\":\"0.0.0.0/0\","     \
	"\"gw\":\"10.0.0.1\",\"mtu\":1300}],\"dns\":{\"nameservers\":[\"1.1.1.1\"],"            \
	"\"domain\":\"d\",\"search\":[\"s\"],\"options\":[\"o\"]}}"

static json_t *from_text(const char *text)
{
	json_t *j = json_loads(text, 0, NULL);

	assert_non_null(j);
	return j;
}

static void converts(const char *from, const char *version, const char *want)
{
	json_t *in _cleanup_json_ = from_text(from), *expected _cleanup_json_ = from_text(want);
	json_t *out _cleanup_json_ = NULL;
	struct err err = ERR_INIT;

	if (cni_result_convert(in, version, &out, &err) < 0)
		fail_msg("%s", err.text);
	if (!json_equal(out, expected))
		fail_msg("%s: %s", version, json_dumps(out, JSON_COMPACT));
}

static void old_results_become_lists(void **state)
{
	converts(OLD, "0.4.0",
		 "{\"cniVersion\":\"0.4.0\",\"ips\":[{\"address\":\"10.0.0.2/24\",\"gateway\":"
		 "\"10.0.0.1\",\"version\":\"4\"},{\"address\":\"fd00::2/64\",\"version\":\"6\"}],"
		 "\"routes\":[{\"dst\":\"0.0.0.0/0\"},{\"dst\":\"::/0\",\"gw\":\"fd00::1\"}],"
		 "\"dns\":{\"nameservers\":[\"10.0.0.1\"]}}");
}

static void lists_become_old_results_and_back(void **state)
{
	converts("{\"cniVersion\":\"0.4.0\",\"ips\":[{\"address\":\"10.0.0.2/24\",\"gateway\":"
		 "\"10.0.0.1\",\"version\":\"4\"},{\"address\":\"10.0.0.3/24\",\"version\":\"4\"},"
		 "{\"address\":\"fd00::2/64\",\"version\":\"6\"}],\"routes\":[{\"dst\":"
		 "\"0.0.0.0/0\"},{\"dst\":\"::/0\",\"gw\":\"fd00::1\"}],\"dns\":{\"nameservers\":"
		 "[\"10.0.0.1\"]}}",
		 "0.2.0", OLD);
}

static void a_newer_versions_members_are_dropped(void **state)
{
	converts(NEW, "0.3.1",
		 "{\"cniVersion\":\"0.3.1\",\"interfaces\":[{\"name\":\"br0\",\"mac\":"
		 "\"02:00:00:00:00:01\"},{\"name\":\"eth0\",\"sandbox\":\"/n\"}],\"ips\":["
		 "{\"address\":\"10.0.0.2/24\",\"gateway\":\"10.0.0.1\",\"interface\":1,"
		 "\"version\":\"4\"},{\"address\":\"fd00::2/64\",\"interface\":1,\"version\":"
		 "\"6\"}],\"routes\":[{\"dst\":\"0.0.0.0/0\",\"gw\":\"10.0.0.1\"}],\"dns\":"
		 "{\"nameservers\":[\"1.1.1.1\"],\"domain\":\"d\",\"search\":[\"s\"],"
		 "\"options\":[\"o\"]}}");
	converts(NEW, "1.1.0", NEW);
}

static void what_cannot_be_said_is_an_error(void **state)
{
	json_t *in _cleanup_json_ = from_text("{\"cniVersion\":\"1.0.0\"}");
	json_t *foreign _cleanup_json_ = from_text("{\"cniVersion\":\"3.0.0\"}");
	struct err err = ERR_INIT;
	json_t *out = NULL;

	assert_int_equal(cni_result_convert(in, "0.1.0", &out, &err), -ERR_INVALID_ARGUMENT);
	assert_non_null(strstr(err.text, "no valid IP addresses"));
	assert_int_equal(cni_result_convert(in, "0.0.9", &out, &err), -ERR_INVALID_ARGUMENT);
	assert_int_equal(cni_result_convert(foreign, "1.0.0", &out, &err), -ERR_INVALID_ARGUMENT);
	assert_null(out);
}

static void a_result_is_taken_apart(void **state)
{
	struct arena *a _cleanup_arena_ = arena_new(0);
	json_t *in _cleanup_json_ = from_text(NEW);
	struct cni_result r;

	assert_int_equal(cni_result_read(a, in, &r, NULL), 0);
	assert_int_equal(r.n_interfaces, 2);
	assert_string_equal(r.interfaces[1].sandbox, "/n");
	assert_int_equal(r.interfaces[1].mtu, 1400);
	assert_int_equal(r.n_ips, 2);
	assert_string_equal(r.ips[0].ip, "10.0.0.2");
	assert_string_equal(r.ips[0].gateway, "10.0.0.1");
	assert_int_equal(r.ips[0].interface, 1);
	assert_true(r.ips[1].v6);
	assert_string_equal(r.routes[0].gw, "10.0.0.1");
	assert_string_equal(r.dns.domain, "d");
	assert_string_equal(r.dns.options[0], "o");
}

static void an_old_result_is_taken_apart_too(void **state)
{
	struct arena *a _cleanup_arena_ = arena_new(0);
	json_t *in _cleanup_json_ = from_text(OLD);
	struct cni_result r;

	assert_int_equal(cni_result_read(a, in, &r, NULL), 0);
	assert_int_equal(r.n_interfaces, 0);
	assert_int_equal(r.n_ips, 2);
	assert_int_equal(r.ips[0].interface, -1);
	assert_int_equal(r.n_routes, 2);
}

static void nonsense_is_refused(void **state)
{
	static const char *const bad[] = {
		"[]",
		"{\"ips\":[{\"address\":\"10.0.0.2\"}]}",
		"{\"ips\":[{\"address\":\"10.0.0.2/33\"}]}",
		"{\"ips\":[{\"address\":\"10.0.0/8\"}]}",
		"{\"ips\":[{\"address\":\"10.0.0.2/8\",\"gateway\":\"x\"}]}",
		"{\"ips\":[{\"address\":\"10.0.0.2/8\",\"interface\":0}]}",
		"{\"interfaces\":[{}],\"ips\":[{\"address\":\"10.0.0.2/8\",\"interface\":-1}]}",
		"{\"routes\":[{\"dst\":\"nowhere\"}]}",
	};
	struct arena *a _cleanup_arena_ = arena_new(0);

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		json_t *in _cleanup_json_ = from_text(bad[i]);
		struct err err = ERR_INIT;
		struct cni_result r;

		if (cni_result_read(a, in, &r, &err) != -ERR_INVALID_ARGUMENT)
			fail_msg("%s", bad[i]);
		assert_true(err.text[0]);
	}
}

static void capabilities_have_the_conventions_form(void **state)
{
	const char *const servers[] = {"1.1.1.1"}, *const searches[] = {"a", "b"};
	const struct cni_port ports[] = {{80, 8080, "tcp", "127.0.0.1"}, {53, 53, "udp", ""}};
	json_t *caps _cleanup_json_ = json_object();
	json_t *want _cleanup_json_ = from_text(
		"{\"portMappings\":[{\"hostPort\":80,\"containerPort\":8080,\"protocol\":\"tcp\","
		"\"hostIP\":\"127.0.0.1\"},{\"hostPort\":53,\"containerPort\":53,\"protocol\":"
		"\"udp\"}],\"bandwidth\":{\"ingressRate\":1000,\"ingressBurst\":4294967295},"
		"\"dns\":{\"servers\":[\"1.1.1.1\"],\"searches\":[\"a\",\"b\"]},"
		"\"cgroupPath\":\"/x\",\"ips\":[\"10.0.0.9/8\"],\"ipRanges\":[[{\"subnet\":"
		"\"10.0.0.0/8\",\"gateway\":\"10.0.0.1\"}]]}");

	assert_int_equal(cni_capability_ports(caps, ports, 2), 0);
	assert_int_equal(cni_capability_bandwidth(caps, 1000, UINT32_MAX, 0, UINT32_MAX), 0);
	assert_int_equal(cni_capability_dns(caps, servers, 1, searches, 2, NULL, 0), 0);
	assert_int_equal(cni_capability_text(caps, "cgroupPath", "/x"), 0);
	assert_int_equal(cni_capability_list(caps, "ips", (const char *const[]){"10.0.0.9/8"}, 1),
			 0);
	assert_int_equal(cni_capability_ip_range(caps, "10.0.0.0/8", "", "", "10.0.0.1"), 0);
	if (!json_equal(caps, want))
		fail_msg("%s", json_dumps(caps, JSON_COMPACT));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(old_results_become_lists),
		cmocka_unit_test(lists_become_old_results_and_back),
		cmocka_unit_test(a_newer_versions_members_are_dropped),
		cmocka_unit_test(what_cannot_be_said_is_an_error),
		cmocka_unit_test(a_result_is_taken_apart),
		cmocka_unit_test(an_old_result_is_taken_apart_too),
		cmocka_unit_test(nonsense_is_refused),
		cmocka_unit_test(capabilities_have_the_conventions_form),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
