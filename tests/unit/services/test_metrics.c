/* SPDX-License-Identifier: Apache-2.0 */
/* Metrics of containers as text: the shims' messages come from here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "plugins/runtime/metrics.h"
#include "protos.h"
#include "rpc/rpc.h"
#include "services/metrics.h"

#define V1 "io.containerd.cgroups.v1.Metrics"
#define V2 "io.containerd.cgroups.v2.Metrics"

static struct task_metric tasks[3];
static size_t n_tasks;

int runtime_metrics(struct ctx *ctx, struct runtime *rt, struct task_metric **ret, size_t *ret_n,
		    struct err *err)
{
	(void)ctx;
	(void)rt;
	(void)err;
	*ret = tasks;
	*ret_n = n_tasks;
	return 0;
}

/* Every field of the message has a value, every list two elements. */
static void *fill(struct arena *a, const ProtobufCMessageDescriptor *d, uint64_t *counter)
{
	ProtobufCMessage *m = arena_alloc(a, d->sizeof_message);

	assert_non_null(m);
	message_init(d, m);
	for (unsigned i = 0; i < d->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &d->fields[i];
		char *p = (char *)m + f->offset;

		if (f->label == PROTOBUF_C_LABEL_REPEATED) {
			size_t *n = (size_t *)((char *)m + f->quantifier_offset);
			void **v = arena_alloc(a, 2 * sizeof(uint64_t));

			*n = 2;
			*(void **)p = v;
			for (int k = 0; k < 2; k++)
				if (f->type == PROTOBUF_C_TYPE_MESSAGE)
					v[k] = fill(a, f->descriptor, counter);
				else if (f->type == PROTOBUF_C_TYPE_UINT64)
					((uint64_t *)v)[k] = ++*counter;
		} else if (f->type == PROTOBUF_C_TYPE_MESSAGE) {
			*(void **)p = fill(a, f->descriptor, counter);
		} else if (f->type == PROTOBUF_C_TYPE_UINT64) {
			*(uint64_t *)p = ++*counter;
		} else if (f->type == PROTOBUF_C_TYPE_STRING) {
			*(char **)p = arena_strdup(a, "te\"xt\n");
		}
	}
	return m;
}

static void add_task(struct arena *a, const char *id, const char *type,
		     const ProtobufCMessageDescriptor *d)
{
	uint64_t counter = 1000;
	size_t n;
	uint8_t *p = d ? rpc_pack(a, fill(a, d, &counter), &n) : (uint8_t *)"junk";

	tasks[n_tasks++] =
		(struct task_metric){.ns = "ns", .id = id, .stats = {type, p, d ? n : 4}};
}

static char *render(struct arena *a)
{
	struct ctx ctx = {.arena = a, .ns = "", .lease = ""};
	struct buf b = BUF_INIT;
	struct err err = ERR_INIT;
	char *text;

	if (metrics_tasks(&ctx, NULL, &b, &err) < 0)
		fail_msg("%s", err.text);
	text = arena_strdup(a, b.data ? b.data : "");
	buf_done(&b);
	n_tasks = 0;
	return text;
}

static size_t count(const char *text, const char *what)
{
	size_t n = 0;

	for (const char *p = text; (p = strstr(p, what)); p++)
		n++;
	return n;
}

/* A name in a table that the message does not have would have no value. */
static void every_metric_has_its_value(void **state)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	char *text;

	add_task(a, "one", V1, &io__containerd__cgroups__v1__metrics__descriptor);
	text = render(a);
	assert_int_equal(count(text, "# TYPE container_"), 68);
	assert_non_null(strstr(text,
			       "\ncontainer_memory_kerneltcp_usage_bytes{container_id=\"one\","
			       "namespace=\"ns\"} "));
	assert_int_equal(count(text, "\ncontainer_per_cpu_nanoseconds{"), 2);
	assert_int_equal(count(text, ",cpu=\"1\"} "), 1);
	assert_int_equal(count(text, "\ncontainer_blkio_io_time_recursive_total{"), 2);

	add_task(a, "two", V2, &io__containerd__cgroups__v2__metrics__descriptor);
	text = render(a);
	assert_int_equal(count(text, "# TYPE container_"), 48);
	assert_int_equal(count(text, "\ncontainer_io_rbytes_bytes{"), 2);
	assert_non_null(strstr(text, "\ncontainer_pids_current{container_id=\"two\""));
}

static void labels_are_escaped(void **state)
{
	_cleanup_arena_ struct arena *a = arena_new(0);

	add_task(a, "one", V1, &io__containerd__cgroups__v1__metrics__descriptor);
	assert_non_null(strstr(render(a), ",page=\"te\\\"xt\\n\"} "));
}

static void heads_stand_once_over_the_values_of_all_tasks(void **state)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	char *text;

	add_task(a, "one", "types.containerd.io/" V2,
		 &io__containerd__cgroups__v2__metrics__descriptor);
	add_task(a, "two", V2, &io__containerd__cgroups__v2__metrics__descriptor);
	text = render(a);
	assert_int_equal(count(text, "# TYPE container_memory_usage_bytes gauge\n"), 1);
	assert_int_equal(count(text, "\ncontainer_memory_usage_bytes{"), 2);
}

static void what_is_no_metric_is_left_out(void **state)
{
	_cleanup_arena_ struct arena *a = arena_new(0);

	add_task(a, "damaged", V1, NULL);
	add_task(a, "other", "some.other.Type", NULL);
	assert_string_equal(render(a), "");
	assert_string_equal(render(a), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_metric_has_its_value),
		cmocka_unit_test(labels_are_escaped),
		cmocka_unit_test(heads_stand_once_over_the_values_of_all_tasks),
		cmocka_unit_test(what_is_no_metric_is_left_out),
	};

	return cmocka_run_group_tests_name("metrics", tests, NULL, NULL);
}
