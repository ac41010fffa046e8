/* SPDX-License-Identifier: Apache-2.0 */
/* Specs from requests that are written as JSON; what is asked of a spec is a path and the JSON that
 * must be there. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/path.h"
#include "base/str.h"
#include "cri/spec.h"
#include "oci/spec.h"
#include "rpc/pb_json.h"

#define POD                                                                                    \
	"{\"metadata\":{\"name\":\"p\",\"uid\":\"u\",\"namespace\":\"d\"},\"hostname\":\"h\"," \
	"\"annotations\":{\"a.io/x\":\"1\",\"b.io/y\":\"2\"}"
#define IMAGE                                                                                 \
	"{\"Env\":[\"PATH=/bin\",\"A=image\"],\"Entrypoint\":[\"/entry\"],\"Cmd\":[\"arg\"]," \
	"\"WorkingDir\":\"/w\",\"User\":\"bob\"}"

static const char *const globs[] = {"a.io/*", NULL}, *const none[] = {NULL};
static struct cri_handler handler = {
	.name = "runc", .pod_annotations = globs, .container_annotations = none};
static struct cri_config config = {.disable_hugetlb_controller = true,
				   .enable_unprivileged_ports = true,
				   .enable_unprivileged_icmp = true,
				   .unset_seccomp_profile = ""};
static char root[] = "/tmp/cri-spec-XXXXXX";
static const char passwd_text[] = "root:x:0:0::/:/bin/sh\nbob:x:1000:100::/:/bin/sh\n",
		  group_text[] = "root:x:0:\nusers:x:100:\nextra:x:50:bob\n";

static json_t *parse(const char *text)
{
	struct err err = ERR_INIT;
	json_t *j;
	if (json_parse(text, strlen(text), &j, &err) < 0)
		fail_msg("%s: %s", err.text, text);
	return j;
}

static void *message(struct arena *a, const char *text, const ProtobufCMessageDescriptor *d)
{
	json_t *j _cleanup_json_ = parse(text);
	struct err err = ERR_INIT;
	void *m;
	if (json_pb(a, j, d, &m, &err) < 0)
		fail_msg("%s", err.text);
	return m;
}

static int container(struct arena *a, const char *pod, const char *conf, const char *image,
		     json_t **ret, struct err *err)
{
	json_t *im _cleanup_json_ = parse(image);
	struct cri_spec_container in = {
		.config = &config,
		.runtime = &handler,
		.id = "cid",
		.name = "c",
		.container = message(a, conf, &runtime__v1__container_config__descriptor),
		.pod = message(a, pod, &runtime__v1__pod_sandbox_config__descriptor),
		.pod_id = "pid",
		.pod_pid = 42,
		.netns_path = "/var/run/netns/x",
		.image = {"docker.io/library/x:latest", im},
		.passwd = passwd_text,
		.group = group_text,
		.hostname_path = "/p/hostname",
		.hosts_path = "/p/hosts",
		.resolv_conf_path = "/p/resolv.conf",
		.shm_path = "/p/shm",
		.selinux_label = "",
	};
	return cri_spec_container(a, &in, ret, err);
}

static void check(const json_t *spec, const char *path, const char *want)
{
	json_t *is = spec_get(spec, path);
	char *text = is ? json_dumps(is, JSON_ENCODE_ANY | JSON_COMPACT) : strdup("(absent)");
	assert_string_equal(text, want);
	free(text);
}

static const json_t *mount_at(const json_t *spec, const char *target, size_t *ret_index)
{
	json_t *v = spec_get(spec, "mounts"), *m;
	size_t i;
	json_array_foreach (v, i, m)
		if (streq(json_str(m, "destination", ""), target)) {
			if (ret_index)
				*ret_index = i;
			return m;
		}
	return NULL;
}

static json_t *good(struct arena *a, const char *pod, const char *conf)
{
	struct err err = ERR_INIT;
	json_t *spec;
	if (container(a, pod, conf, IMAGE, &spec, &err) < 0)
		fail_msg("%s", err.text);
	return spec;
}

static void process_comes_from_request_then_image(void **state)
{
	struct arena *a = arena_new(0);
	json_t *s = good(a, POD "}",
			 "{\"metadata\":{\"name\":\"c\"},\"envs\":[{\"key\":\"A\",\"value\":"
			 "\"cmVx\"}],\"tty\":true}");
	check(s, "process/args", "[\"/entry\",\"arg\"]");
	check(s, "process/cwd", "\"/w\"");
	check(s, "process/env", "[\"PATH=/bin\",\"TERM=xterm\",\"HOSTNAME=h\",\"A=req\"]");
	check(s, "process/user", "{\"uid\":1000,\"gid\":100,\"additionalGids\":[50,100]}");
	check(s, "process/noNewPrivileges", "false");
	check(s, "linux/cgroupsPath", "\"/k8s.io/cid\"");
	check(s, "process/rlimits", "(absent)");
	check(s, "linux/maskedPaths", "[]");
	json_decref(s);
	/* With a command of the request the image's arguments are not meant. */
	s = good(a, POD "}", "{\"metadata\":{\"name\":\"c\"},\"command\":[\"/x\"]}");
	check(s, "process/args", "[\"/x\"]");
	json_decref(s);
	s = good(a, POD "}", "{\"metadata\":{\"name\":\"c\"},\"args\":[\"y\"]}");
	check(s, "process/args", "[\"/entry\",\"y\"]");
	json_decref(s);
	arena_free(a);
}

static void environment_of_any_bytes_becomes_text(void **state)
{
	struct arena *a = arena_new(0);
	/* 61 ff 62 c3 a9, e2 82, ed a0 80, f0 9f 90 b3 */
	json_t *s = good(a, POD "}",
			 "{\"metadata\":{\"name\":\"c\"},\"envs\":["
			 "{\"key\":\"A\",\"value\":\"Yf9iw6k=\"},"
			 "{\"key\":\"B\",\"value\":\"4oI=\"},"
			 "{\"key\":\"C\",\"value\":\"7aCA\"},"
			 "{\"key\":\"D\",\"value\":\"8J+Qsw==\"},{\"key\":\"E\"}]}");
	check(s, "process/env",
	      "[\"PATH=/bin\",\"HOSTNAME=h\",\"A=a\xef\xbf\xbd"
	      "b\xc3\xa9\",\"B=\xef\xbf\xbd\xef\xbf\xbd\","
	      "\"C=\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\",\"D=\xf0\x9f\x90\xb3\",\"E=\"]");
	json_decref(s);
	arena_free(a);
}

static void users_and_groups_follow_the_policy(void **state)
{
	static const char *const cases[][2] = {
		{"\"run_as_user\":{\"value\":7}", "{\"uid\":7,\"gid\":0,\"additionalGids\":[0]}"},
		{"\"run_as_user\":{\"value\":1000},\"run_as_group\":{\"value\":9}",
		 "{\"uid\":1000,\"gid\":9,\"additionalGids\":[9,50]}"},
		{"\"run_as_username\":\"bob\",\"supplemental_groups\":[77,50]",
		 "{\"uid\":1000,\"gid\":100,\"additionalGids\":[50,77,100]}"},
		{"\"run_as_username\":\"bob\",\"supplemental_groups\":[77],"
		 "\"supplemental_groups_policy\":1",
		 "{\"uid\":1000,\"gid\":100,\"additionalGids\":[77,100]}"},
	};
	struct arena *a = arena_new(0);
	struct err err = ERR_INIT;
	json_t *s;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char *conf = arena_printf(a,
					  "{\"metadata\":{\"name\":\"c\"},\"linux\":{\"security_"
					  "context\":{%s}}}",
					  cases[i][0]);
		s = good(a, POD "}", conf);
		check(s, "process/user", cases[i][1]);
		json_decref(s);
	}
	assert_int_equal(container(a, POD "}",
				   "{\"metadata\":{\"name\":\"c\"},\"linux\":{\"security_context\":"
				   "{\"run_as_group\":{\"value\":9}}}}",
				   IMAGE, &s, &err),
			 -ERR_UNKNOWN);
	assert_non_null(strstr(err.text, "is specified without user"));
	arena_free(a);
}

static void capabilities_all_comes_first(void **state)
{
	struct arena *a = arena_new(0);
	json_t *s = good(a, POD "}",
			 "{\"metadata\":{\"name\":\"c\"},\"linux\":{\"security_context\":{"
			 "\"capabilities\":{\"drop_capabilities\":[\"ALL\"],"
			 "\"add_capabilities\":[\"net_admin\"]}}}}");
	check(s, "process/capabilities/effective", "[\"CAP_NET_ADMIN\"]");
	check(s, "process/capabilities/inheritable", "(absent)");
	json_decref(s);
	s = good(
		a, POD "}",
		"{\"metadata\":{\"name\":\"c\"},\"linux\":{\"security_context\":{\"capabilities\":{"
		"\"drop_capabilities\":[\"CHOWN\"]}}}}");
	assert_int_equal(json_array_size(spec_get(s, "process/capabilities/bounding")), 13);
	json_decref(s);
	/* In any case. */
	s = good(a, POD "}",
		 "{\"metadata\":{\"name\":\"c\"},\"linux\":{\"security_context\":{"
		 "\"capabilities\":{\"drop_capabilities\":[\"all\"]}}}}");
	check(s, "process/capabilities/bounding", "[]");
	check(s, "process/capabilities/effective", "[]");
	json_decref(s);
	s = good(a, POD "}",
		 "{\"metadata\":{\"name\":\"c\"},\"linux\":{\"security_context\":{"
		 "\"capabilities\":{\"add_capabilities\":[\"All\"]}}}}");
	assert_true(json_array_size(spec_get(s, "process/capabilities/bounding")) > 14);
	json_decref(s);
	arena_free(a);
}

static void namespaces_are_the_pods(void **state)
{
	struct arena *a = arena_new(0);
	json_t *s = good(a, POD "}",
			 "{\"metadata\":{\"name\":\"c\"},\"linux\":{\"security_context\":{"
			 "\"namespace_options\":{\"pid\":1}}}}");
	char *text = json_dumps(spec_get(s, "linux/namespaces"), JSON_COMPACT);
	assert_non_null(strstr(text, "{\"type\":\"pid\"}"));
	assert_non_null(strstr(text, "{\"type\":\"network\",\"path\":\"/proc/42/ns/net\"}"));
	assert_non_null(strstr(text, "{\"type\":\"ipc\",\"path\":\"/proc/42/ns/ipc\"}"));
	assert_non_null(strstr(text, "{\"type\":\"mount\"}"));
	free(text);
	json_decref(s);
	s = good(a, POD "}",
		 "{\"metadata\":{\"name\":\"c\"},\"linux\":{\"security_context\":{"
		 "\"namespace_options\":{\"pid\":2,\"ipc\":2}}}}");
	text = json_dumps(spec_get(s, "linux/namespaces"), JSON_COMPACT);
	assert_null(strstr(text, "\"pid\""));
	assert_null(strstr(text, "\"ipc\""));
	free(text);
	json_decref(s);
	arena_free(a);
}

static void mounts_are_sorted_and_hide_the_default_ones(void **state)
{
	struct arena *a = arena_new(0);
	char *conf =
		arena_printf(a,
			     "{\"metadata\":{\"name\":\"c\"},\"mounts\":["
			     "{\"container_path\":\"/a/b/c\",\"host_path\":\"%s/new/dir\"},"
			     "{\"container_path\":\"/a\",\"host_path\":\"%s\",\"readonly\":true},"
			     "{\"container_path\":\"/etc/hosts\",\"host_path\":\"%s/etc/passwd\"},"
			     "{\"container_path\":\"/dev/\",\"host_path\":\"%s\"}]}",
			     root, root, root, root);
	json_t *s = good(a, POD "}", conf);
	size_t i, j;
	struct stat st;
	char *made = arena_printf(a, "%s/new/dir", root);

	assert_int_equal(stat(made, &st), 0);
	check(mount_at(s, "/a", &i), "options", "[\"rbind\",\"rprivate\",\"ro\"]");
	check(mount_at(s, "/a/b/c", &j), "options", "[\"rbind\",\"rprivate\",\"rw\"]");
	assert_true(i < j);
	check(mount_at(s, "/etc/hostname", NULL), "source", "\"/p/hostname\"");
	assert_non_null(strstr(json_str(mount_at(s, "/etc/hosts", NULL), "source", ""), "passwd"));
	assert_null(mount_at(s, "/dev/pts", NULL));
	assert_null(mount_at(s, "/run", NULL));
	check(mount_at(s, "/sys/fs/cgroup", NULL), "options",
	      "[\"nosuid\",\"noexec\",\"nodev\",\"relatime\",\"ro\"]");
	json_decref(s);
	arena_free(a);
}

static void host_network_of_the_pod_binds_sysfs_in_a_user_namespace(void **state)
{
#define USERNS                                                                    \
	"\"userns_options\":{\"mode\":0,\"uids\":[{\"host_id\":9,\"length\":1}]," \
	"\"gids\":[{\"host_id\":9,\"length\":1}]}"
	static const char conf[] =
		"{\"metadata\":{\"name\":\"c\"},\"linux\":{\"security_context\":{"
		"\"namespace_options\":{" USERNS "}}}}";
	struct arena *a = arena_new(0);
	json_t *s = good(a,
			 POD ",\"linux\":{\"security_context\":{\"namespace_options\":{"
			     "\"network\":2," USERNS "}}}}",
			 conf);

	check(mount_at(s, "/sys", NULL), "type", "\"bind\"");
	json_decref(s);
	s = good(a, POD ",\"linux\":{\"security_context\":{\"namespace_options\":{" USERNS "}}}}",
		 conf);
	check(mount_at(s, "/sys", NULL), "type", "\"sysfs\"");
	json_decref(s);
	arena_free(a);
}

static void bad_mounts_are_refused(void **state)
{
	static const char *const cases[][2] = {
		{"{\"container_path\":\"/a\",\"host_path\":\"rel\"}", "is not absolute"},
		{"{\"host_path\":\"/tmp\"}", "has no container_path"},
		{"{\"container_path\":\"/a\",\"host_path\":\"/tmp\",\"recursive_read_only\":true}",
		 "must be read-only, too"},
		{"{\"container_path\":\"/a\",\"host_path\":\"/tmp\",\"recursive_read_only\":true,"
		 "\"readonly\":true}",
		 "does not support it"},
	};
	struct arena *a = arena_new(0);
	json_t *s;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct err err = ERR_INIT;
		char *conf = arena_printf(a, "{\"metadata\":{\"name\":\"c\"},\"mounts\":[%s]}",
					  cases[i][0]);
		assert_true(container(a, POD "}", conf, IMAGE, &s, &err) < 0);
		if (!strstr(err.text, cases[i][1]))
			fail_msg("\"%s\" has no \"%s\"", err.text, cases[i][1]);
	}
	arena_free(a);
}

static void resources_and_cgroup_follow_the_pod(void **state)
{
	struct arena *a = arena_new(0);
	json_t *s = good(a, POD ",\"linux\":{\"cgroup_parent\":\"/kubepods/pod1\"}}",
			 "{\"metadata\":{\"name\":\"c\"},\"linux\":{\"resources\":{\"cpu_shares\":"
			 "512,\"cpu_quota\":20000,\"cpu_period\":100000,\"cpuset_cpus\":\"0\","
			 "\"memory_limit_in_bytes\":1048576,\"memory_swap_limit_in_bytes\":2097152,"
			 "\"oom_score_adj\":500,\"unified\":{\"memory.high\":\"9\"}}}}");
	check(s, "linux/cgroupsPath", "\"/kubepods/pod1/cid\"");
	check(s, "linux/resources/cpu",
	      "{\"shares\":512,\"quota\":20000,\"period\":100000,\"cpus\":\"0\"}");
	json_t *plain = good(a, POD "}",
			     "{\"metadata\":{\"name\":\"c\"},\"linux\":{\"resources\":{"
			     "\"memory_limit_in_bytes\":1048576}}}");
	/* Only where the kernel counts swap is there a limit, said or not. */
	if (spec_get(plain, "linux/resources/memory/swap")) {
		check(plain, "linux/resources/memory", "{\"limit\":1048576,\"swap\":1048576}");
		check(s, "linux/resources/memory", "{\"limit\":1048576,\"swap\":2097152}");
	} else
		check(s, "linux/resources/memory", "{\"limit\":1048576}");
	json_decref(plain);
	check(s, "linux/resources/unified", "{\"memory.high\":\"9\"}");
	check(s, "process/oomScoreAdj", "500");
	json_decref(s);
	s = good(a, POD ",\"linux\":{\"cgroup_parent\":\"/kubepods.slice/kubepods-pod1.slice\"}}",
		 "{\"metadata\":{\"name\":\"c\"}}");
	check(s, "linux/cgroupsPath", "\"kubepods-pod1.slice:cri-containerd:cid\"");
	json_decref(s);
	arena_free(a);
}

static void annotations_that_match_are_passed_on(void **state)
{
	struct arena *a = arena_new(0);
	json_t *s = good(a, POD "}", "{\"metadata\":{\"name\":\"c\"}}");
	const json_t *o = json_obj(s, "annotations");

	assert_string_equal(json_str(o, "a.io/x", ""), "1");
	assert_null(json_object_get(o, "b.io/y"));
	assert_string_equal(json_str(o, "io.kubernetes.cri.container-type", ""), "container");
	assert_string_equal(json_str(o, "io.kubernetes.cri.sandbox-id", ""), "pid");
	assert_string_equal(json_str(o, "io.kubernetes.cri.image-name", ""),
			    "docker.io/library/x:latest");
	json_decref(s);
	arena_free(a);
}

static void privileged_needs_a_privileged_pod(void **state)
{
	static const char conf[] =
		"{\"metadata\":{\"name\":\"c\"},\"linux\":{\"security_context\":"
		"{\"privileged\":true,\"masked_paths\":[\"/x\"],\"seccomp\":{}}}}";
	struct arena *a = arena_new(0);
	struct err err = ERR_INIT;
	json_t *s;

	assert_int_equal(container(a, POD "}", conf, IMAGE, &s, &err), -ERR_UNKNOWN);
	assert_string_equal(err.text, "no privileged container allowed in sandbox");
	s = good(a, POD ",\"linux\":{\"security_context\":{\"privileged\":true}}}", conf);
	check(s, "linux/maskedPaths", "(absent)");
	check(s, "linux/seccomp", "(absent)");
	check(s, "linux/resources/devices", "[{\"allow\":true,\"access\":\"rwm\"}]");
	check(mount_at(s, "/sys/fs/cgroup", NULL), "options",
	      "[\"nosuid\",\"noexec\",\"nodev\",\"relatime\",\"rw\"]");
	json_decref(s);
	arena_free(a);
}

static void device(const json_t *spec, const char *path, const char *key, int64_t want)
{
	json_t *v = spec_get(spec, "linux/devices"), *d;
	size_t i, n = 0;

	json_array_foreach (v, i, d)
		if (streq(json_str(d, "path", ""), path)) {
			n++;
			assert_int_equal(json_int(d, key, -1), want);
		}
	assert_int_equal(n, 1);
}

static void devices_of_the_request_come_with_those_of_the_host(void **state)
{
	struct arena *a = arena_new(0);
	/* 1:3 is null, 1:5 zero. */
	json_t *s = good(a, POD ",\"linux\":{\"security_context\":{\"privileged\":true}}}",
			 "{\"metadata\":{\"name\":\"c\"},\"devices\":["
			 "{\"host_path\":\"/dev/null\",\"container_path\":\"/dev/mine\","
			 "\"permissions\":\"r\"},"
			 "{\"host_path\":\"/dev/null\",\"container_path\":\"/dev/zero\","
			 "\"permissions\":\"rw\"}],"
			 "\"linux\":{\"security_context\":{\"privileged\":true}}}");
	device(s, "/dev/mine", "minor", 3);
	device(s, "/dev/zero", "minor", 3);
	device(s, "/dev/null", "minor", 3);
	check(s, "linux/resources/devices", "[{\"allow\":true,\"access\":\"rwm\"}]");
	json_decref(s);
	arena_free(a);
}

static void devices_are_owned_by_whom_the_security_context_names(void **state)
{
	static const char conf[] = "{\"metadata\":{\"name\":\"c\"},\"devices\":[{\"host_path\":"
				   "\"/dev/null\",\"container_path\":\"/dev/mine\","
				   "\"permissions\":\"r\"}],\"linux\":{\"security_context\":{%s}}}";
	struct arena *a = arena_new(0);
	struct stat st;
	json_t *s;

	assert_int_equal(stat("/dev/null", &st), 0);
	config.device_ownership_from_security_context = true;
	/* The image's user is bob, 1000:100. */
	s = good(a, POD "}", arena_printf(a, conf, ""));
	device(s, "/dev/mine", "uid", st.st_uid);
	device(s, "/dev/mine", "gid", st.st_gid);
	json_decref(s);
	s = good(a, POD "}", arena_printf(a, conf, "\"run_as_user\":{\"value\":1000}"));
	device(s, "/dev/mine", "uid", 1000);
	device(s, "/dev/mine", "gid", st.st_gid);
	json_decref(s);
	s = good(a, POD "}",
		 arena_printf(a, conf,
			      "\"run_as_user\":{\"value\":7},\"run_as_group\":{\"value\":8}"));
	device(s, "/dev/mine", "uid", 7);
	device(s, "/dev/mine", "gid", 8);
	json_decref(s);
	config.device_ownership_from_security_context = false;
	arena_free(a);
}

static void seccomp_default_is_for_runtime_default_only(void **state)
{
	struct arena *a = arena_new(0);
	struct err err = ERR_INIT;
	json_t *s = good(a, POD "}", "{\"metadata\":{\"name\":\"c\"}}");

	check(s, "linux/seccomp", "(absent)");
	json_decref(s);
	s = good(a, POD "}",
		 "{\"metadata\":{\"name\":\"c\"},\"linux\":{\"security_context\":{\"seccomp\":{"
		 "\"profile_type\":0}}}}");
	check(s, "linux/seccomp/defaultAction", "\"SCMP_ACT_ERRNO\"");
	json_decref(s);
	assert_true(container(a, POD "}",
			      "{\"metadata\":{\"name\":\"c\"},\"linux\":{\"security_context\":{"
			      "\"seccomp\":{\"profile_type\":2,\"localhost_ref\":\"/nowhere\"}}}}",
			      IMAGE, &s, &err) < 0);
	assert_non_null(strstr(err.text, "seccomp profile /nowhere"));
	arena_free(a);
}

static void sandbox_holds_namespaces_and_nothing_else(void **state)
{
	struct arena *a = arena_new(0);
	struct err err = ERR_INIT;
	json_t *im = parse("{\"Entrypoint\":[\"/pause\"]}"), *s;
	struct cri_spec_pod in = {
		.config = &config,
		.runtime = &handler,
		.id = "pid",
		.pod = message(a,
			       POD ",\"linux\":{\"sysctls\":{\"net.ipv4.ping_group_range\":\"1 "
				   "2\"}}}",
			       &runtime__v1__pod_sandbox_config__descriptor),
		.image = {"pause", im},
		.netns_path = "/var/run/netns/x",
		.userns_path = "",
		.shm_path = "/p/shm",
		.resolv_conf_path = "/p/resolv.conf",
		.selinux_label = "",
	};
	assert_int_equal(cri_spec_pod(a, &in, &s, &err), 0);
	check(s, "process/args", "[\"/pause\"]");
	check(s, "hostname", "\"h\"");
	check(s, "root/readonly", "true");
	check(s, "process/noNewPrivileges", "true");
	check(s, "linux/resources/cpu/shares", "2");
	assert_string_equal(json_str(spec_get(s, "linux/sysctl"), "net.ipv4.ping_group_range", ""),
			    "1 2");
	assert_string_equal(
		json_str(spec_get(s, "linux/sysctl"), "net.ipv4.ip_unprivileged_port_start", ""),
		"0");
	check(mount_at(s, "/dev/shm", NULL), "source", "\"/p/shm\"");
	check(s, "process/user/additionalGids", "(absent)");
	json_decref(s);
	in.pod = message(a,
			 POD ",\"linux\":{\"security_context\":{\"namespace_options\":{\"network\":"
			     "2}}}}",
			 &runtime__v1__pod_sandbox_config__descriptor);
	assert_int_equal(cri_spec_pod(a, &in, &s, &err), 0);
	check(s, "hostname", "\"h\"");
	check(s, "linux/sysctl", "(absent)");
	json_decref(s);
	json_decref(im);
	arena_free(a);
}

static int sandbox(struct arena *a, const char *conf, json_t **ret, struct err *err)
{
	json_t *im _cleanup_json_ = parse("{\"Entrypoint\":[\"/pause\"]}");
	struct cri_spec_pod in = {
		.config = &config,
		.runtime = &handler,
		.id = "pid",
		.pod = message(a, conf, &runtime__v1__pod_sandbox_config__descriptor),
		.image = {"pause", im},
		.netns_path = "/var/run/netns/x",
		.userns_path = "",
		.shm_path = "/p/shm",
		.resolv_conf_path = "/p/resolv.conf",
		.selinux_label = "",
	};
	return cri_spec_pod(a, &in, ret, err);
}

static void sandbox_has_the_groups_of_the_pod(void **state)
{
	struct arena *a = arena_new(0);
	struct err err = ERR_INIT;
	json_t *s;

	assert_int_equal(sandbox(a,
				 POD
				 ",\"linux\":{\"security_context\":{\"run_as_user\":{\"value\":7},"
				 "\"run_as_group\":{\"value\":70},"
				 "\"supplemental_groups\":[90,50,70,90]}}}",
				 &s, &err),
			 0);
	check(s, "process/user", "{\"uid\":7,\"gid\":70,\"additionalGids\":[50,70,90]}");
	json_decref(s);
	assert_int_equal(
		sandbox(a, POD ",\"linux\":{\"security_context\":{\"supplemental_groups\":[-1]}}}",
			&s, &err),
		-ERR_UNKNOWN);
	arena_free(a);
}

static void base_spec_is_for_containers_only(void **state)
{
	struct arena *a = arena_new(0);
	json_t *base _cleanup_json_ =
		parse("{\"process\":{\"rlimits\":[1]},\"hooks\":{\"prestart\":[]},\"linux\":{}}");
	struct err err = ERR_INIT;
	json_t *s;

	handler.base_spec = base;
	s = good(a, POD "}", "{\"metadata\":{\"name\":\"c\"}}");
	check(s, "process/rlimits", "[1]");
	check(s, "hooks", "{\"prestart\":[]}");
	json_decref(s);
	assert_int_equal(sandbox(a, POD "}", &s, &err), 0);
	check(s, "process/rlimits", "(absent)");
	check(s, "hooks", "(absent)");
	check(s, "process/noNewPrivileges", "true");
	json_decref(s);
	handler.base_spec = NULL;
	arena_free(a);
}

static int setup(void **state)
{
	char path[128];
	assert_non_null(mkdtemp(root));
	snprintf(path, sizeof(path), "%s/etc", root);
	assert_int_equal(mkdir(path, 0755), 0);
	snprintf(path, sizeof(path), "%s/etc/passwd", root);
	return file_write(AT_FDCWD, path, passwd_text, sizeof(passwd_text) - 1, 0644);
}

static int teardown(void **state)
{
	return rm_rf(AT_FDCWD, root);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(process_comes_from_request_then_image),
		cmocka_unit_test(environment_of_any_bytes_becomes_text),
		cmocka_unit_test(users_and_groups_follow_the_policy),
		cmocka_unit_test(capabilities_all_comes_first),
		cmocka_unit_test(namespaces_are_the_pods),
		cmocka_unit_test(mounts_are_sorted_and_hide_the_default_ones),
		cmocka_unit_test(host_network_of_the_pod_binds_sysfs_in_a_user_namespace),
		cmocka_unit_test(bad_mounts_are_refused),
		cmocka_unit_test(resources_and_cgroup_follow_the_pod),
		cmocka_unit_test(annotations_that_match_are_passed_on),
		cmocka_unit_test(privileged_needs_a_privileged_pod),
		cmocka_unit_test(devices_of_the_request_come_with_those_of_the_host),
		cmocka_unit_test(devices_are_owned_by_whom_the_security_context_names),
		cmocka_unit_test(seccomp_default_is_for_runtime_default_only),
		cmocka_unit_test(sandbox_holds_namespaces_and_nothing_else),
		cmocka_unit_test(sandbox_has_the_groups_of_the_pod),
		cmocka_unit_test(base_spec_is_for_containers_only),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
