/* SPDX-License-Identifier: Apache-2.0 */
/* What is kept of pods and containers: containerd's JSON. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/path.h"
#include "base/str.h"
#include "cri/container.h"
#include "rpc/pb_json.h"

static struct cri_handler handlers[] = {{.name = "runc"}};
static const struct cri_config config = {
	.default_handler = "runc", .handlers = handlers, .n_handlers = 1};

static const char metadata[] =
	"{\"Version\":\"v1\",\"Metadata\":{\"ID\":\"1234\",\"Name\":\"p_d_u_1\",\"Config\":{"
	"\"metadata\":{\"name\":\"p\",\"uid\":\"u\",\"namespace\":\"d\",\"attempt\":1},"
	"\"hostname\":\"h\",\"port_mappings\":[{\"protocol\":1,\"container_port\":53}],"
	"\"labels\":{\"a\":\"b\"},\"linux\":{\"security_context\":{\"namespace_options\":{"
	"\"network\":2}}}},\"NetNSPath\":\"/var/run/netns/cni-1\",\"IP\":\"10.0.0.2\","
	"\"AdditionalIPs\":[\"fd00::2\"],\"RuntimeHandler\":\"\",\"CNIResult\":{\"x\":1},"
	"\"ProcessLabel\":\"\"}}";

static void pod_of_containerd_is_read_and_written_back(void **state)
{
	struct any any = {CRI_SANDBOX_TYPE_URL, metadata, sizeof(metadata) - 1}, again;
	struct arena *a = arena_new(0);
	struct err err = ERR_INIT;
	struct cri_pod *p;
	json_t *was, *is;

	assert_int_equal(cri_pod_unpack(&config, &any, &p, &err), 0);
	assert_string_equal(p->o.id, "1234");
	assert_string_equal(p->o.name, "p_d_u_1");
	assert_true(p->host_network);
	assert_ptr_equal(p->runtime, handlers);
	assert_string_equal(p->additional_ips[0], "fd00::2");
	assert_null(p->additional_ips[1]);
	assert_int_equal(p->config->port_mappings[0]->protocol, RUNTIME__V1__PROTOCOL__UDP);
	assert_string_equal(p->config->labels[0]->value, "b");
	assert_string_equal(cri_pod_name(a, p->config->metadata), "p_d_u_1");
	assert_int_equal(cri_pod_pack(a, p, &again, &err), 0);
	assert_int_equal(json_parse(metadata, sizeof(metadata) - 1, &was, &err), 0);
	assert_int_equal(json_parse(again.value, again.len, &is, &err), 0);
	assert_true(json_equal(was, is));
	json_decref(was);
	json_decref(is);
	cri_object_unref(&p->o);
	arena_free(a);
}

static void bad_metadata_names_what_is_wrong(void **state)
{
	static const char *const bad[][2] = {
		{"{", "metadata"},
		{"{\"Version\":\"v2\",\"Metadata\":{}}", "version \"v2\" is not known"},
		{"{\"Version\":\"v1\",\"Metadata\":{\"ID\":\"1\",\"Config\":{}}}", "no metadata"},
		{"{\"Version\":\"v1\",\"Metadata\":{\"ID\":\"1\",\"Config\":{\"hostname\":1}}}",
		 "member \"hostname\" is no string"},
		{"{\"Version\":\"v1\",\"Metadata\":{\"ID\":\"1\",\"Config\":{\"metadata\":{"
		 "\"attempt\":-1}}}}",
		 "member \"attempt\" is no integer of its range"},
	};
	struct cri_pod *p;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct any any = {CRI_SANDBOX_TYPE_URL, bad[i][0], strlen(bad[i][0])};
		struct err err = ERR_INIT;
		assert_int_equal(cri_pod_unpack(&config, &any, &p, &err), -ERR_INVALID_ARGUMENT);
		if (!strstr(err.text, bad[i][1]))
			fail_msg("\"%s\" has no \"%s\"", err.text, bad[i][1]);
	}
}

static void container_survives_being_kept(void **state)
{
	CRI(ContainerMetadata) m = CRI_INIT(CONTAINER_METADATA);
	CRI(ContainerConfig) conf = CRI_INIT(CONTAINER_CONFIG);
	CRI(KeyValue) env = CRI_INIT(KEY_VALUE), *envs[] = {&env};
	struct arena *a = arena_new(0);
	struct err err = ERR_INIT;
	struct cri_container *c, *again;
	struct any any;

	m.name = (char *)"c";
	conf.metadata = &m;
	env.key = (char *)"K";
	env.value = (ProtobufCBinaryData){.len = 3, .data = (uint8_t *)"\x01v\xff"};
	conf.envs = envs;
	conf.n_envs = 1;
	assert_int_equal(cri_container_new("77", "c_p_d_u_0", &conf, "12", &c, &err), 0);
	c->image_ref = "sha256:1";
	assert_int_equal(cri_container_pack(a, c, &any, &err), 0);
	assert_int_equal(cri_container_unpack(&any, &again, &err), 0);
	assert_string_equal(again->o.name, "c_p_d_u_0");
	assert_string_equal(again->pod_id, "12");
	assert_string_equal(again->image_ref, "sha256:1");
	assert_int_equal(again->config->envs[0]->value.len, 3);
	assert_memory_equal(again->config->envs[0]->value.data, "\x01v\xff", 3);
	cri_object_unref(&c->o);
	cri_object_unref(&again->o);
	arena_free(a);
}

static void status_file_is_read_back(void **state)
{
	char dir[] = "/tmp/cri-status-XXXXXX";
	CRI(LinuxContainerResources) res = CRI_INIT(LINUX_CONTAINER_RESOURCES);
	struct cri_status s = {.pid = 7,
			       .created_at = 1700000000000000001,
			       .started_at = 1700000000000000002,
			       .exit_code = 137,
			       .reason = "OOMKilled",
			       .resources = &res},
			  again;
	struct arena *a = arena_new(0);
	struct err err = ERR_INIT;

	res.memory_limit_in_bytes = 1 << 20;
	assert_non_null(mkdtemp(dir));
	assert_int_equal(cri_status_read(a, dir, &again, &err), -ERR_NOT_FOUND);
	assert_int_equal(cri_status_write(a, dir, &s, &err), 0);
	assert_int_equal(cri_status_read(a, dir, &again, &err), 0);
	assert_int_equal(again.started_at, s.started_at);
	assert_int_equal(again.exit_code, 137);
	assert_string_equal(again.reason, "OOMKilled");
	assert_string_equal(again.message, "");
	assert_int_equal(again.resources->memory_limit_in_bytes, 1 << 20);
	assert_int_equal(cri_status_state(&again), RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING);
	again.finished_at = 1;
	assert_int_equal(cri_status_state(&again), RUNTIME__V1__CONTAINER_STATE__CONTAINER_EXITED);
	assert_int_equal(rm_rf(-1, dir), 0);
	arena_free(a);
}

static void signals_of_the_cri_are_known(void **state)
{
	const ProtobufCEnumDescriptor *d = &runtime__v1__signal__descriptor;

	for (unsigned i = 0; i < d->n_values; i++)
		if (d->values[i].value != RUNTIME__V1__SIGNAL__RUNTIME_DEFAULT &&
		    !cri_signal_number(d->values[i].name))
			fail_msg("%s has no number", d->values[i].name);
	assert_int_equal(cri_signal_number("SIGRTMIN+3"), SIGRTMIN + 3);
	assert_int_equal(cri_signal_number("SIGRTMAX-1"), SIGRTMAX - 1);
	assert_int_equal(cri_signal_number("term"), SIGTERM);
	assert_int_equal(cri_signal_number("15"), SIGTERM);
	assert_int_equal(cri_signal_number("SIGNOTHING"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pod_of_containerd_is_read_and_written_back),
		cmocka_unit_test(bad_metadata_names_what_is_wrong),
		cmocka_unit_test(container_survives_being_kept),
		cmocka_unit_test(status_file_is_read_back),
		cmocka_unit_test(signals_of_the_cri_are_known),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
