/* SPDX-License-Identifier: Apache-2.0 */
/* conf_template: what is printed, and which mistakes are told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/str.h"
#include "cri/cni_template.h"

static const char *const ranges[] = {"10.1.0.0/24", "fd00::/64"};
static const char *const routes[] = {"0.0.0.0/0", "::/0"};

static void expect(const char *text, size_t n, const char *want)
{
	const struct cni_template_data v = {
		.pod_cidr = ranges[0], .ranges = {ranges, n}, .routes = {routes, n}};
	struct buf out _cleanup_buf_ = BUF_INIT;
	struct err err = ERR_INIT;

	assert_int_equal(cni_template_render(text, &v, &out, &err), 0);
	assert_string_equal(out.data ? out.data : "", want);
}

static void refused(const char *text, const char *why)
{
	const struct cni_template_data v = {
		.pod_cidr = ranges[0], .ranges = {ranges, 2}, .routes = {routes, 2}};
	struct buf out _cleanup_buf_ = BUF_INIT;
	struct err err = ERR_INIT;

	assert_int_equal(cni_template_render(text, &v, &out, &err), -ERR_INVALID_ARGUMENT);
	if (!strstr(err.text, why))
		fail_msg("%s", err.text);
}

static void fields_are_printed(void **state)
{
	expect("", 2, "");
	expect("plain } text", 2, "plain } text");
	expect("a {{.PodCIDR}} b {{ $.PodCIDR }}", 2, "a 10.1.0.0/24 b 10.1.0.0/24");
	expect("{{.PodCIDRRanges}}", 2, "[10.1.0.0/24 fd00::/64]");
	expect("{{/* no */}}x", 2, "x");
}

static void ranges_go_over_lists(void **state)
{
	expect("{{range .Routes}}<{{.}}>{{end}}", 2, "<0.0.0.0/0><::/0>");
	expect("[{{range $i, $v := .PodCIDRRanges}}{{if $i}}, {{end}}{\"subnet\": "
	       "\"{{$v}}\"}{{end}}]",
	       2, "[{\"subnet\": \"10.1.0.0/24\"}, {\"subnet\": \"fd00::/64\"}]");
	expect("{{range $v := .Routes}}{{$v}};{{end}}", 1, "0.0.0.0/0;");
	expect("{{range .Routes}}x{{else}}none{{end}}", 0, "none");
	expect("{{range .Routes}}x{{else}}none{{end}}", 1, "x");
	expect("{{range $i, $a := .Routes}}{{range $b := $.PodCIDRRanges}}{{$i}}{{$b}} "
	       "{{end}}{{end}}",
	       2, "010.1.0.0/24 0fd00::/64 110.1.0.0/24 1fd00::/64 ");
}

static void conditions_choose(void **state)
{
	expect("{{if .PodCIDR}}yes{{else}}no{{end}}", 2, "yes");
	expect("{{if .Routes}}yes{{else}}no{{end}}", 0, "no");
	expect("{{range $i, $v := .Routes}}{{if $i}}later{{else}}first{{end}} {{end}}", 2,
	       "first later ");
}

static void white_space_is_trimmed(void **state)
{
	expect("a \n {{- .PodCIDR -}} \t b", 2, "a10.1.0.0/24b");
	expect("{{range .Routes -}}  {{.}}  {{- end}}", 2, "0.0.0.0/0::/0");
}

static void mistakes_are_told(void **state)
{
	refused("{{.Nope}}", "PodCIDR, PodCIDRRanges and Routes");
	refused("{{$x}}", "no such variable");
	refused("{{range .Routes}}x", "has no end");
	refused("{{end}}", "has no beginning");
	refused("{{if .PodCIDR", "no }}");
	refused("{{.PodCIDR | printf}}", "only fields");
	refused("{{range .PodCIDR}}{{end}}", "no list");
	refused("{{range .}}{{end}}", "no list");
	refused("{{.}}", "as a whole");
	refused("{{range $i $v := .Routes}}{{end}}", "declared");
	refused("{{range $v := .Routes}}{{end}}{{$v}}", "no such variable");
	refused("{{template \"x\"}}", "no field");
}

static void depth_and_work_are_limited(void **state)
{
	struct buf b _cleanup_buf_ = BUF_INIT;

	for (int i = 0; i < 17; i++)
		buf_adds(&b, "{{if .PodCIDR}}");
	refused(b.data, "too deep");
	buf_clear(&b);
	for (int i = 0; i < 15; i++)
		buf_adds(&b, "{{range $.Routes}}{{range $.Routes}}{{end}}");
	for (int i = 0; i < 15; i++)
		buf_adds(&b, "{{end}}");
	const char *const many[] = {"1", "2", "3", "4", "5", "6", "7", "8"};
	const struct cni_template_data v = {
		.pod_cidr = "", .ranges = {many, 8}, .routes = {many, 8}};
	struct buf out _cleanup_buf_ = BUF_INIT;
	struct err err = ERR_INIT;
	assert_int_equal(cni_template_render(b.data, &v, &out, &err), -ERR_INVALID_ARGUMENT);
	assert_non_null(strstr(err.text, "too much"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fields_are_printed), cmocka_unit_test(ranges_go_over_lists),
		cmocka_unit_test(conditions_choose),  cmocka_unit_test(white_space_is_trimmed),
		cmocka_unit_test(mistakes_are_told),  cmocka_unit_test(depth_and_work_are_limited),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
