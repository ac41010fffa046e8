/* SPDX-License-Identifier: Apache-2.0 */
/* args, jscan, stdio_uri, bundle, options, bootstrap and the runtime's log: what is read from text.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/digest.h"
#include "base/fd.h"
#include "base/path.h"
#include "rpc/rpc.h"
#include "shim/args.h"
#include "shim/bootstrap.h"
#include "shim/bundle.h"
#include "shim/jscan.h"
#include "shim/options.h"
#include "shim/runtime.h"
#include "shim/stdio_uri.h"

static struct jspan span(const char *text)
{
	struct jspan v;

	assert_int_equal(jscan_value(text, strlen(text), &v), 0);
	return v;
}

static char *temp_dir(void)
{
	static char dir[32];

	strcpy(dir, "/tmp/test_shim.XXXXXX");
	assert_non_null(mkdtemp(dir));
	return dir;
}

/* ---- args ---- */

static void flags_are_read_in_all_of_go_s_forms(void **state)
{
	char *argv[] = {"shim",	   "-namespace", "ns", "--id=c1", "-address=/a=b",
			"--debug", "-bundle",	 "",   "start",	  "-v"};
	struct shim_args a;

	assert_int_equal(shim_args_parse(ARRAY_LEN(argv), argv, &a, NULL), 0);
	assert_string_equal(a.ns, "ns");
	assert_string_equal(a.id, "c1");
	assert_string_equal(a.address, "/a=b");
	assert_string_equal(a.bundle, "");
	assert_string_equal(a.action, "start");
	assert_true(a.debug);
	assert_false(a.version); /* after the first word flags are no flags */
}

static void boolean_flags_take_values_only_with_an_equals_sign(void **state)
{
	char *off[] = {"shim", "-debug=false", "delete"}, *bad[] = {"shim", "-debug=maybe"};
	struct shim_args a;

	assert_int_equal(shim_args_parse(ARRAY_LEN(off), off, &a, NULL), 0);
	assert_false(a.debug);
	assert_string_equal(a.action, "delete");
	assert_int_equal(shim_args_parse(ARRAY_LEN(bad), bad, &a, NULL), -ERR_INVALID_ARGUMENT);
}

static void unknown_flags_and_missing_values_are_refused(void **state)
{
	char *unknown[] = {"shim", "-what", "start"}, *missing[] = {"shim", "-id"};
	struct shim_args a;
	struct err err = ERR_INIT;

	assert_int_equal(shim_args_parse(ARRAY_LEN(unknown), unknown, &a, &err),
			 -ERR_INVALID_ARGUMENT);
	assert_non_null(strstr(err.text, "-what"));
	assert_int_equal(shim_args_parse(ARRAY_LEN(missing), missing, &a, &err),
			 -ERR_INVALID_ARGUMENT);
}

/* ---- jscan ---- */

static void members_are_found_past_nested_values(void **state)
{
	struct jspan o = span(" {\"a\" : {\"b\":[1,{\"x\":\"}]\"}]} , \"b\":\"\\\"q\", "
			      "\"c\":-12,\"b2\":true}"),
		     v;
	char text[8];
	int64_t n;

	assert_int_equal(jscan_member(o, "b", &v), 1);
	assert_int_equal(jscan_string(v, text, sizeof(text)), 0);
	assert_string_equal(text, "\"q");
	assert_int_equal(jscan_member(o, "c", &v), 1);
	assert_int_equal(jscan_int(v, &n), 0);
	assert_int_equal(n, -12);
	assert_int_equal(jscan_member(o, "x", &v), 0);
}

static void the_last_of_equal_keys_counts(void **state)
{
	struct jspan v;
	int64_t n;

	assert_int_equal(jscan_member(span("{\"a\":1,\"\\u0061\":2}"), "a", &v), 1);
	assert_int_equal(jscan_int(v, &n), 0);
	assert_int_equal(n, 2);
}

static void escapes_are_decoded(void **state)
{
	char text[32];

	assert_int_equal(
		jscan_string(span("\"\\u00e4\\n\\ud83d\\ude00\\ud800!\""), text, sizeof(text)), 0);
	assert_string_equal(text, "\xc3\xa4\n\xf0\x9f\x98\x80\xef\xbf\xbd!");
	assert_int_equal(jscan_string(span("\"\\q\""), text, sizeof(text)), -EINVAL);
	assert_int_equal(jscan_string(span("\"\\u12\""), text, sizeof(text)), -EINVAL);
	assert_int_equal(jscan_string(span("\"abcd\""), text, 4), -ENAMETOOLONG);
	assert_int_equal(jscan_string(span("\"abc\""), text, 4), 0);
}

static void broken_json_is_an_error_and_never_read_past_its_end(void **state)
{
	static const char *const bad[] = {"",	    "{",	 "[",	     "\"",
					  "{\"a\"", "{\"a\":",	 "{\"a\":1", "\"\\",
					  "[1",	    "{\"a\":[}", "}"};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		size_t n = strlen(bad[i]);
		char *exact = malloc(n + 1); /* the sanitizer sees the end */
		struct jspan v;

		memcpy(exact, bad[i], n);
		exact = realloc(exact, n ? n : 1);
		assert_int_equal(jscan_value(exact, n, &v), -EINVAL);
		free(exact);
	}

	struct jspan v;

	assert_int_equal(jscan_member(span("{1:2}"), "a", &v), -EINVAL);
	assert_int_equal(jscan_member(span("{\"a\" 2}"), "a", &v), -EINVAL);
	assert_int_equal(jscan_member(span("[1]"), "a", &v), -EINVAL);
}

static void items_of_an_array_are_iterated(void **state)
{
	struct jspan a = span("[ 1 , 22,333 ]"), v;
	size_t pos = 0;
	int64_t n, sum = 0;

	while (jscan_next_item(a, &pos, &v) == 1) {
		assert_int_equal(jscan_int(v, &n), 0);
		sum += n;
	}
	assert_int_equal(sum, 356);
	pos = 0;
	assert_int_equal(jscan_next_item(span("[ ]"), &pos, &v), 0);
	pos = 0;
	assert_int_equal(jscan_next_item(span("null"), &pos, &v), -EINVAL);
}

static void numbers_that_do_not_fit_are_refused(void **state)
{
	int64_t n;

	assert_int_equal(jscan_int(span("9223372036854775807"), &n), 0);
	assert_int_equal(n, INT64_MAX);
	assert_int_equal(jscan_int(span("9223372036854775808"), &n), -ERANGE);
	assert_int_equal(jscan_int(span("-9223372036854775808"), &n), 0);
	assert_int_equal(jscan_int(span("1.5"), &n), -EINVAL);
	assert_int_equal(jscan_int(span("-"), &n), -EINVAL);
}

static void terminal_of_a_process_is_replaced(void **state)
{
	_cleanup_buf_ struct buf b = BUF_INIT;

	assert_int_equal(
		process_with_terminal(
			span("{\"terminal\": false, \"args\":[\"a\"] ,\"cwd\":\"/\"}"), true, &b),
		0);
	assert_string_equal(b.data, "{\"terminal\":true,\"args\":[\"a\"],\"cwd\":\"/\"}");
	buf_clear(&b);
	assert_int_equal(process_with_terminal(span("{}"), false, &b), 0);
	assert_string_equal(b.data, "{\"terminal\":false}");
	assert_int_equal(process_with_terminal(span("[]"), false, &b), -EINVAL);
}

/* ---- stdio_uri ---- */

static void plain_paths_and_fifo_uris_are_fifos(void **state)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	struct stdio_uri u;

	assert_int_equal(stdio_uri_parse(a, "", &u, NULL), 0);
	assert_int_equal(u.kind, STDIO_NULL);
	assert_int_equal(stdio_uri_parse(a, "/run/x%41", &u, NULL), 0);
	assert_int_equal(u.kind, STDIO_FIFO);
	assert_string_equal(u.path, "/run/x%41");
	assert_int_equal(stdio_uri_parse(a, "fifo:///run/x%41", &u, NULL), 0);
	assert_int_equal(u.kind, STDIO_FIFO);
	assert_string_equal(u.path, "/run/xA");
}

static void logger_gets_first_value_of_each_key_in_order(void **state)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	struct stdio_uri u;

	assert_int_equal(stdio_uri_parse(a, "binary-v2:///usr/bin/log%20it?b=1&a=x%26y+z&b=2&flag",
					 &u, NULL),
			 0);
	assert_int_equal(u.kind, STDIO_BINARY);
	assert_true(u.must_say_ready);
	assert_string_equal(u.path, "/usr/bin/log it");
	assert_int_equal(u.n_args, 6);
	assert_string_equal(u.args[0], "b");
	assert_string_equal(u.args[1], "1");
	assert_string_equal(u.args[3], "x&y z");
	assert_string_equal(u.args[4], "flag");
	assert_string_equal(u.args[5], "");
	assert_null(u.args[6]);
	assert_int_equal(stdio_uri_parse(a, "binary:///l", &u, NULL), 0);
	assert_false(u.must_say_ready);
	assert_int_equal(u.n_args, 0);
}

static void unknown_schemes_are_named(void **state)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	struct stdio_uri u;
	struct err err = ERR_INIT;

	assert_int_equal(stdio_uri_parse(a, "npipe:///x", &u, &err), -ERR_UNKNOWN);
	assert_string_equal(err.text, "unknown STDIO scheme npipe");
	assert_int_equal(stdio_uri_parse(a, "file:///x%4", &u, &err), -ERR_INVALID_ARGUMENT);
	assert_int_equal(stdio_uri_parse(a, "file:///x%", &u, &err), -ERR_INVALID_ARGUMENT);
	assert_int_equal(stdio_uri_parse(a, "file:///x%00", &u, &err), -ERR_INVALID_ARGUMENT);
	assert_int_equal(stdio_uri_parse(a, "file://", &u, &err), -ERR_INVALID_ARGUMENT);
}

/* ---- the runtime's log ---- */

static void last_error_of_the_log_is_taken(void **state)
{
	static const char log[] =
		"{\"level\":\"error\",\"msg\":\"first\",\"time\":\"t\"}\n"
		"not json\n"
		"{\"time\":\"t\",\"msg\":\"say \\\"no\\\"\",\"level\":\"error\"}\n"
		"{\"level\":\"warning\",\"msg\":\"later\"}\n";
	char text[64];

	assert_true(runtime_log_last_error(log, sizeof(log) - 1, text, sizeof(text)));
	assert_string_equal(text, "say \"no\"");
	assert_false(runtime_log_last_error("{\"level\":\"info\",\"msg\":\"x\"}", 26, text,
					    sizeof(text)));
	assert_true(runtime_log_last_error(log, sizeof(log) - 1, text, 4));
	assert_string_equal(text, "say");
}

/* ---- bundle, options ---- */

static void config_write(const char *dir, const char *text)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/config.json", dir);
	assert_int_equal(file_write(AT_FDCWD, path, text, strlen(text), 0644), 0);
}

static void annotations_group_containers(void **state)
{
	static const char *const keys[] = {"group", "sandbox", NULL};
	char *dir = temp_dir(), value[16];

	config_write(dir, "{\"annotations\":{\"sandbox\":\"s1\",\"other\":\"o\"}}");
	assert_int_equal(bundle_annotation(dir, keys, value, sizeof(value)), 1);
	assert_string_equal(value, "s1");
	config_write(dir, "{\"annotations\":{\"sandbox\":\"s1\",\"group\":\"g1\"}}");
	assert_int_equal(bundle_annotation(dir, keys, value, sizeof(value)), 1);
	assert_string_equal(value, "g1");
	config_write(dir, "{\"annotations\":null}");
	assert_int_equal(bundle_annotation(dir, keys, value, sizeof(value)), 0);
	config_write(dir, "{\"annotations\":{\"group\":\"longer than the room\"}}");
	assert_int_equal(bundle_annotation(dir, keys, value, sizeof(value)), -ENAMETOOLONG);
	assert_int_equal(rm_rf(AT_FDCWD, dir), 0);
	assert_int_equal(bundle_annotation(dir, keys, value, sizeof(value)), -ENOENT);
}

static void only_an_own_pid_namespace_is_private(void **state)
{
	char *dir = temp_dir();

	config_write(dir, "{\"linux\":{\"namespaces\":[{\"type\":\"mount\"},{\"type\":\"pid\"}]}}");
	assert_true(bundle_has_private_pidns(dir));
	config_write(
		dir,
		"{\"linux\":{\"namespaces\":[{\"type\":\"pid\",\"path\":\"/proc/1/ns/pid\"}]}}");
	assert_false(bundle_has_private_pidns(dir));
	config_write(dir, "{\"linux\":{\"namespaces\":[{\"type\":\"mount\"}]}}");
	assert_false(bundle_has_private_pidns(dir));
	config_write(dir, "{}");
	assert_false(bundle_has_private_pidns(dir));
	assert_int_equal(rm_rf(AT_FDCWD, dir), 0);
}

static void options_survive_in_the_bundle(void **state)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	Containerd__Runc__V1__Options o = CONTAINERD__RUNC__V1__OPTIONS__INIT;
	const char *binary, *root;
	char *dir = temp_dir(), *text, path[64];
	bool systemd;
	size_t n;

	o.binary_name = "cr\"un";
	o.root = "/run/x";
	o.systemd_cgroup = true;
	o.io_uid = 7;
	assert_int_equal(options_save(dir, &o, NULL), 0);
	snprintf(path, sizeof(path), "%s/options.json", dir);
	assert_int_equal(file_read(a, AT_FDCWD, path, 4096, &text, &n), 0);
	assert_string_equal(text, "{\"io_uid\":7,\"binary_name\":\"cr\\\"un\",\"root\":\"/run/"
				  "x\",\"systemd_cgroup\":true}");
	assert_int_equal(options_load(a, dir, &binary, &root, &systemd), 0);
	assert_string_equal(binary, "cr\"un");
	assert_string_equal(root, "/run/x");
	assert_true(systemd);
	assert_int_equal(rm_rf(AT_FDCWD, dir), 0);
	assert_int_equal(options_load(a, dir, &binary, &root, &systemd), 0);
	assert_string_equal(binary, "");
	assert_false(systemd);
}

static void foreign_options_are_refused(void **state)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;
	Containerd__Runc__V1__Options *o;

	assert_int_equal(options_unpack(a, NULL, &o, NULL), 0);
	assert_string_equal(o->root, "");
	any.type_url = "type.googleapis.com/containerd.runc.v1.Options";
	assert_int_equal(options_unpack(a, &any, &o, NULL), 0);
	any.type_url = "runtimeoptions.v1.Options";
	assert_int_equal(options_unpack(a, &any, &o, NULL), -ERR_INVALID_ARGUMENT);
}

/* ---- bootstrap ---- */

static const struct shim_args args = {.ns = "n1", .id = "c1", .address = "/run/c.sock"};

static void *params_pack(struct arena *a, const char *id, const char *ns, size_t *n)
{
	Containerd__Runtime__Bootstrap__V1__BootstrapParams p =
		CONTAINERD__RUNTIME__BOOTSTRAP__V1__BOOTSTRAP_PARAMS__INIT;
	Containerd__Runtime__Bootstrap__V1__Extension
		x = CONTAINERD__RUNTIME__BOOTSTRAP__V1__EXTENSION__INIT,
		*list = &x;
	Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;

	any.type_url = "type.googleapis.com/containerd.runc.v1.Options";
	x.value = &any;
	p.instance_id = (char *)id;
	p.namespace_ = (char *)ns;
	p.containerd_ttrpc_address = "/run/other.ttrpc";
	p.socket_dir = "/run/socks";
	p.extensions = &list;
	p.n_extensions = 1;
	return rpc_pack(a, &p.base, n);
}

static void current_daemons_get_a_bootstrap_result(void **state)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	_cleanup_buf_ struct buf out = BUF_INIT;
	Containerd__Runtime__Bootstrap__V1__BootstrapResult *res;
	struct bootstrap b;
	size_t n;
	void *in = params_pack(a, "c1", "n1", &n);

	assert_int_equal(bootstrap_parse(a, &args, in, n, "/run/c.sock.ttrpc", NULL, &b, NULL), 0);
	assert_true(b.current);
	assert_string_equal(b.ttrpc_address, "/run/other.ttrpc");
	assert_string_equal(b.grpc_address, "/run/c.sock");
	assert_string_equal(b.socket_dir, "/run/socks");
	assert_non_null(b.options);
	assert_int_equal(bootstrap_answer(&b, "/run/socks/x", &out), 0);
	assert_int_equal(
		rpc_unpack(a, &containerd__runtime__bootstrap__v1__bootstrap_result__descriptor,
			   out.data, out.len, &res, NULL),
		0);
	assert_int_equal(res->version, 3);
	assert_string_equal(res->address, "unix:///run/socks/x");
	assert_string_equal(res->protocol, "ttrpc");
}

static void old_daemons_options_are_not_taken_for_parameters(void **state)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	_cleanup_buf_ struct buf out = BUF_INIT;
	Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;
	struct bootstrap b;
	size_t n;
	void *in;

	any.type_url = "containerd.runc.v1.Options";
	any.value = (ProtobufCBinaryData){2, (uint8_t *)"\x08\x01"};
	in = rpc_pack(a, &any.base, &n);
	assert_int_equal(bootstrap_parse(a, &args, in, n, NULL, NULL, &b, NULL), 0);
	assert_false(b.current);
	assert_non_null(b.options);
	assert_string_equal(b.ttrpc_address, "/run/c.sock.ttrpc");
	assert_int_equal(bootstrap_answer(&b, "/run/containerd/s/x", &out), 0);
	assert_int_equal(out.len, strlen("unix:///run/containerd/s/x"));
	assert_memory_equal(out.data, "unix:///run/containerd/s/x", out.len);
	assert_int_equal(bootstrap_parse(a, &args, "", 0, "/t", NULL, &b, NULL), 0);
	assert_false(b.current);
	assert_null(b.options);
	assert_string_equal(b.ttrpc_address, "/t");
}

static void parameters_of_another_instance_are_ignored(void **state)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	struct bootstrap b;
	size_t n;
	void *in = params_pack(a, "c2", "n1", &n);

	assert_int_equal(bootstrap_parse(a, &args, in, n, NULL, NULL, &b, NULL), 0);
	assert_false(b.current);
	assert_string_equal(b.id, "c1");
}

static void ids_that_are_no_identifiers_are_refused(void **state)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	struct shim_args bad = {.ns = "n1", .id = "../x", .address = "/a"};
	struct bootstrap b;
	struct err err = ERR_INIT;

	assert_int_equal(bootstrap_parse(a, &bad, "", 0, NULL, NULL, &b, &err),
			 -ERR_INVALID_ARGUMENT);
}

static void socket_is_named_by_address_namespace_and_group(void **state)
{
	struct bootstrap b = {
		.ns = "n1", .grpc_address = "/run/c.sock", .socket_dir = SOCKET_DIR_DEFAULT};
	char path[SOCKET_PATH_MAX + 1], hex[65], want[128], dir[64];

	assert_int_equal(bootstrap_socket_path(&b, "g", path, NULL), 0);
	sha256_hex("/run/c.sock/n1/g", 16, hex);
	snprintf(want, sizeof(want), "/run/containerd/s/%s", hex);
	assert_string_equal(path, want);
	memset(dir, 'd', sizeof(dir) - 1);
	dir[0] = '/';
	dir[42] = '\0';
	b.socket_dir = dir;
	assert_int_equal(bootstrap_socket_path(&b, "g", path, NULL), -ERR_INVALID_ARGUMENT);
	dir[41] = '\0';
	assert_int_equal(bootstrap_socket_path(&b, "g", path, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(flags_are_read_in_all_of_go_s_forms),
		cmocka_unit_test(boolean_flags_take_values_only_with_an_equals_sign),
		cmocka_unit_test(unknown_flags_and_missing_values_are_refused),
		cmocka_unit_test(members_are_found_past_nested_values),
		cmocka_unit_test(the_last_of_equal_keys_counts),
		cmocka_unit_test(escapes_are_decoded),
		cmocka_unit_test(broken_json_is_an_error_and_never_read_past_its_end),
		cmocka_unit_test(items_of_an_array_are_iterated),
		cmocka_unit_test(numbers_that_do_not_fit_are_refused),
		cmocka_unit_test(terminal_of_a_process_is_replaced),
		cmocka_unit_test(plain_paths_and_fifo_uris_are_fifos),
		cmocka_unit_test(logger_gets_first_value_of_each_key_in_order),
		cmocka_unit_test(unknown_schemes_are_named),
		cmocka_unit_test(last_error_of_the_log_is_taken),
		cmocka_unit_test(annotations_group_containers),
		cmocka_unit_test(only_an_own_pid_namespace_is_private),
		cmocka_unit_test(options_survive_in_the_bundle),
		cmocka_unit_test(foreign_options_are_refused),
		cmocka_unit_test(current_daemons_get_a_bootstrap_result),
		cmocka_unit_test(old_daemons_options_are_not_taken_for_parameters),
		cmocka_unit_test(parameters_of_another_instance_are_ignored),
		cmocka_unit_test(ids_that_are_no_identifiers_are_refused),
		cmocka_unit_test(socket_is_named_by_address_namespace_and_group),
	};

	return cmocka_run_group_tests_name("shim text", tests, NULL, NULL);
}
