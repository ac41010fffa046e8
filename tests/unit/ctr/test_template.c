/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "ctr/listing.h"
#include "ctr/template.h"

#define ROW                                                                                        \
	"{\"Name\":\"a\\u00e9\",\"Size\":2097152,\"On\":true,\"None\":null,\"List\":[\"x\",\"y\"," \
	"3],"                                                                                      \
	"\"Labels\":{\"team\":\"core\",\"a.b/c\":\"v\"},\"CreatedAt\":\"t\",\"SandboxID\":\"s\"}"

static int render(const char *text, struct buf *out, struct err *err)
{
	struct arena *a _cleanup_arena_ = arena_new(0);
	json_t *row _cleanup_json_ = json_loads(ROW, 0, NULL);
	struct format *t;
	int r;

	assert_non_null(row);
	r = template_parse(a, text, &t, err);
	return r < 0 ? r : template_render(t, row, out, err);
}

static void gives(const char *text, const char *want)
{
	struct buf out _cleanup_buf_ = BUF_INIT;
	struct err err = ERR_INIT;

	if (render(text, &out, &err) < 0)
		fail_msg("%s: %s", text, err.text);
	assert_string_equal(out.data ? out.data : "", want);
}

static void refused(const char *text, const char *why)
{
	struct buf out _cleanup_buf_ = BUF_INIT;
	struct err err = ERR_INIT;

	assert_int_equal(render(text, &out, &err), -ERR_INVALID_ARGUMENT);
	if (!strstr(err.text, why))
		fail_msg("%s: \"%s\" does not say \"%s\"", text, err.text, why);
}

static void fields_are_replaced(void **state)
{
	gives("", "");
	gives("plain } text {", "plain } text {");
	gives("<{{.Name}}>{{ .Size }}", "<a\xc3\xa9>2097152");
	gives("{{.On}} {{.None}}|{{.Labels.team}}|{{.Labels.nobody}}|{{.Labels.team.deep}}",
	      "true |core||");
	gives("{{.List}}", "[\"x\",\"y\",3]");
}

static void escapes_stand_for_blanks_outside_of_actions(void **state)
{
	gives("{{.Size}}\\t{{.Size}}\\n\\\\ \\x", "2097152\t2097152\n\\ \\x");
}

static void functions_take_fields_texts_and_pipes(void **state)
{
	gives("{{json .Labels}}", "{\"team\":\"core\",\"a.b/c\":\"v\"}");
	gives("{{json .Name}}", "\"a\xc3\xa9\"");
	gives("{{size .Size}} {{.Size | size}}", "2.0 MiB 2.0 MiB");
	gives("{{upper .CreatedAt}}{{lower \"ABC\"}}", "Tabc");
	gives("{{len .List}} {{len .Labels}} {{len .CreatedAt}}", "3 2 1");
	gives("{{join .List \", \"}}", "x, y, 3");
	gives("{{index .Labels \"a.b/c\"}} {{index .List 1}}{{index .List 9}}", "v y");
	gives("{{.Labels | json | len}}", "27");
	gives("{{\"a}}b\"}}", "a}}b");
	gives("{{\"q\\\"\\t\"}}", "q\"\t");
}

static void mistakes_are_named(void **state)
{
	refused("x {{.Name", "not closed at position 3");
	refused("{{.Nme}}", "no field .Nme; there are: .Name .Size");
	refused("{{nosuch .Name}}", "unknown function");
	refused("{{}}", "a value is missing");
	refused("{{json}}", "a value is missing");
	refused("{{json .Name .Size}}", "one value too many");
	refused("{{.Name .Size}}", "one value too many");
	refused("{{.Name | }}", "expected a function");
	refused("{{.Name | .Size}}", "expected a function");
	refused("{{.A.}}", "a field's name is missing");
	refused("{{.A.B.C.D.E.F.G.H.I}}", "too many fields");
	refused("{{\"open}}", "not closed");
	refused("{{index .List 99999999999999999999999999}}", "too long");
	refused("{{index .List 99999999999999999999999}}", "no number");
	refused("{{if .Name}}", "unknown function");
	refused("{{*}}", "expected a field");
}

static void templates_have_a_limit(void **state)
{
	struct buf b _cleanup_buf_ = BUF_INIT;

	for (int i = 0; i <= TEMPLATE_TERMS_MAX; i++)
		buf_adds(&b, "{{.Size}}");
	refused(b.data, "too long");
	for (size_t i = 0; i < TEMPLATE_MAX; i++)
		buf_addc(&b, 'x');
	refused(b.data, "longer than");
}

static void headings_are_the_fields_names(void **state)
{
	struct arena *a _cleanup_arena_ = arena_new(0);
	struct buf out _cleanup_buf_ = BUF_INIT;
	struct format *t;

	assert_int_equal(template_parse(a,
					"{{.Name}}\\t{{size .Size}}\\t{{.CreatedAt}}\\t"
					"{{.SandboxID}}\\t{{.Labels.team}}",
					&t, NULL),
			 0);
	assert_int_equal(template_headings(t, &out), 0);
	assert_string_equal(out.data, "NAME\tSIZE\tCREATED AT\tSANDBOX ID\tTEAM");
}

static void a_listing_wants_a_template_or_a_known_word(void **state)
{
	static const struct ctr_flag flags[] = {{"quiet", 'q', CTR_BOOL, "q"}, {}};
	const struct ctr_command root = {.name = "x", .flags = CTR_FLAGS(flags, format_flags)};
	static const struct {
		const char *format;
		int form;
	} cases[] = {{"", LISTING_PLAIN},
		     {"table", LISTING_PLAIN},
		     {"json", LISTING_JSON},
		     {"{{.A}}", LISTING_TEMPLATE},
		     {"table {{.A}}", LISTING_TABLE},
		     {"yaml", -1}};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct ctr c = {.ctx.arena = arena_new(0)};
		struct listing l _cleanup_listing_ = {.table = TABLE_INIT(1, 8, 1, ' '),
						      .key = "A"};
		char *argv[] = {"x", "--format", (char *)cases[i].format, NULL};
		struct err err = ERR_INIT;
		enum ctr_parsed parsed;
		int r;

		assert_int_equal(ctr_parse(&c, &root, 3, argv, &parsed, &err), 0);
		r = listing_begin(&c, &l, "A\t\n", &err);
		if (cases[i].form < 0)
			assert_int_equal(r, -ERR_INVALID_ARGUMENT);
		else
			assert_int_equal(l.form, cases[i].form);
		arena_free(c.ctx.arena);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fields_are_replaced),
		cmocka_unit_test(escapes_stand_for_blanks_outside_of_actions),
		cmocka_unit_test(functions_take_fields_texts_and_pipes),
		cmocka_unit_test(mistakes_are_named),
		cmocka_unit_test(templates_have_a_limit),
		cmocka_unit_test(headings_are_the_fields_names),
		cmocka_unit_test(a_listing_wants_a_template_or_a_known_word),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
