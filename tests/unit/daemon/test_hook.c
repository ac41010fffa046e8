/* SPDX-License-Identifier: Apache-2.0 */
/* Templates of hooks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/hook_template.h"

static const char state_text[] = "{\"ociVersion\":\"1.0\",\"id\":\"c1\",\"pid\":42,\"status\":"
				 "\"created\",\"bundle\":\"/b/c1\","
				 "\"annotations\":{\"a b\":\"x\",\"q\\\"\":\"y\"}}";

static int render(struct arena *a, const char *text, const char *root, const char **ret,
		  struct err *err)
{
	json_t *state, *spec = json_pack("{s:{s:s}}", "root", "path", root);
	int r = json_parse(state_text, strlen(state_text), &state, NULL);
	assert_int_equal(r, 0);
	r = hook_template_render(a, text, state, spec, ret, err);
	/* What is rendered may be the documents' own. */
	if (r == 0)
		*ret = arena_strdup(a, *ret);
	json_decref(state);
	json_decref(spec);
	return r;
}

static void becomes(const char *text, const char *root, const char *expected)
{
	struct arena *a = arena_new(0);
	struct err err = ERR_INIT;
	const char *out = NULL;
	int r = render(a, text, root, &out, &err);
	if (r < 0)
		fail_msg("`%s`: %s", text, err.text);
	assert_string_equal(out, expected);
	arena_free(a);
}

static void calls_become_what_state_and_spec_say(void **state)
{
	becomes("", "", "");
	becomes("plain { text } }}", "", "plain { text } }}");
	becomes("{{id}}-{{ pid }}:{{status}}", "", "c1-42:created");
	becomes("{{bundle}}", "", "/b/c1");
	becomes("--root={{rootfs}}", "rootfs", "--root=/b/c1/rootfs");
	becomes("{{rootfs}}", "/abs", "/abs");
	becomes("{{annotation \"a b\"}}{{annotation `a b`}}{{annotation \"q\\\"\"}}", "", "xxy");
	becomes("[{{annotation \"none\"}}]", "", "[]");
}

static void what_is_no_call_is_refused(void **state)
{
	static const char *const bad[] = {"{{",
					  "{{}}",
					  "{{nothing}}",
					  "{{id",
					  "{{id}",
					  "{{id \"x\"}}",
					  "{{annotation}}",
					  "{{annotation x}}",
					  "{{annotation \"x}}",
					  "{{ID}}",
					  "{{- id}}",
					  "{{annotation \"\\n\"}}"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct arena *a = arena_new(0);
		struct err err = ERR_INIT;
		const char *out = "untouched";
		assert_int_equal(render(a, bad[i], "", &out, &err), -ERR_INVALID_ARGUMENT);
		assert_non_null(strstr(err.text, bad[i]));
		assert_string_equal(out, "untouched");
		arena_free(a);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(calls_become_what_state_and_spec_say),
		cmocka_unit_test(what_is_no_call_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
