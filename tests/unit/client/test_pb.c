/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "client/pb.h"

static void check_json(const ProtobufCMessage *m, const char *want)
{
	json_t *j _cleanup_json_ = pb_json(m);
	char *text _cleanup_free_ = j ? json_dumps(j, JSON_COMPACT) : NULL;

	assert_non_null(text);
	assert_string_equal(text, want);
}

static void zero_values_are_left_out(void **state)
{
	PB_TASKS(WaitRequest) m = PB_TASKS_INIT(WAIT_REQUEST);

	check_json(&m.base, "{}");
	m.container_id = (char *)"c";
	check_json(&m.base, "{\"container_id\":\"c\"}");
}

static void labels_become_an_object_and_come_back(void **state)
{
	struct arena *a _cleanup_arena_ = arena_new(0);
	PB_IMAGES(Image) m = PB_IMAGES_INIT(IMAGE);
	struct labels l = {}, back;

	assert_int_equal(labels_set(a, &l, "b", "2"), 0);
	assert_int_equal(labels_set(a, &l, "a", "1"), 0);
	assert_int_equal(
		PB_LABELS_OUT(a, &l,
			      &containerd__services__images__v1__image__labels_entry__descriptor,
			      m.labels, m.n_labels),
		0);
	check_json(&m.base, "{\"labels\":{\"a\":\"1\",\"b\":\"2\"}}");
	assert_int_equal(PB_LABELS_IN(a, m.labels, m.n_labels, &back), 0);
	assert_int_equal(back.n, 2);
	assert_string_equal(labels_get(&back, "b"), "2");
}

static void bytes_are_base64_and_messages_nest(void **state)
{
	static const struct {
		const char *bytes, *text;
	} cases[] = {{"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;
		PB_TASKS(ExecProcessRequest) m = PB_TASKS_INIT(EXEC_PROCESS_REQUEST);
		char want[128];

		any.type_url = (char *)"t";
		any.value.data = (uint8_t *)cases[i].bytes;
		any.value.len = strlen(cases[i].bytes);
		m.spec = &any;
		snprintf(want, sizeof(want), "{\"spec\":{\"type_url\":\"t\",\"value\":\"%s\"}}",
			 cases[i].text);
		check_json(&m.base, want);
	}
}

static void repeated_numbers_and_enums_are_numbers(void **state)
{
	Io__Containerd__Cgroups__V1__CPUUsage cpu = IO__CONTAINERD__CGROUPS__V1__CPUUSAGE__INIT;
	PB_TASK_TYPES(Process) p = PB_TASK_TYPES_INIT(PROCESS);
	uint64_t v[] = {1, INT64_MAX};

	cpu.per_cpu = v;
	cpu.n_per_cpu = 2;
	check_json(&cpu.base, "{\"per_cpu\":[1,9223372036854775807]}");
	p.status = CONTAINERD__V1__TYPES__STATUS__RUNNING;
	p.terminal = true;
	check_json(&p.base, "{\"status\":2,\"terminal\":true}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(zero_values_are_left_out),
		cmocka_unit_test(labels_become_an_object_and_come_back),
		cmocka_unit_test(bytes_are_base64_and_messages_nest),
		cmocka_unit_test(repeated_numbers_and_enums_are_numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
