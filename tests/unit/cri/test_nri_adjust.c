/* SPDX-License-Identifier: Apache-2.0 */
/* What plugins want changed, into specs; who owns what; and what plugins are told of a spec. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/json.h"
#include "base/str.h"
#include "cri/nri_convert.h"
#include "oci/spec.h"

struct fix {
	struct arena *a;
	struct nri_owners o;
	struct nri_classes classes;
	json_t *spec;
	struct err err;
};

static int setup(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));

	f->a = arena_new(0);
	f->o.arena = f->a;
	f->spec = json_loads(
		"{\"process\":{\"args\":[\"sh\"],\"env\":[\"A=1\",\"AB=2\"],"
		"\"oomScoreAdj\":5},\"mounts\":[{\"destination\":\"/proc\"},"
		"{\"destination\":\"/a/b\"}],\"linux\":{\"namespaces\":[{\"type\":\"pid\"}],"
		"\"resources\":{\"memory\":{\"limit\":7},\"cpu\":{\"shares\":9,\"cpus\":"
		"\"0\"},\"unified\":{\"x\":\"y\"}}}}",
		0, NULL);
	*state = f;
	return f->spec ? 0 : -1;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	json_decref(f->spec);
	arena_free(f->a);
	free(f);
	return 0;
}

static int adjust(struct fix *f, const NRI(ContainerAdjustment) * adj, const char *plugin)
{
	f->err = ERR_INIT;
	return nri_adjust(f->spec, adj, &f->o, "c", plugin, &f->classes, &f->err);
}

static int set_env(struct fix *f, const char *key, const char *value, const char *plugin)
{
	NRI(ContainerAdjustment) adj = NRI_INIT(CONTAINER_ADJUSTMENT);
	NRI(KeyValue) kv = NRI_INIT(KEY_VALUE), *v[] = {&kv};

	kv.key = (char *)key;
	kv.value = (char *)value;
	adj.env = v;
	adj.n_env = 1;
	return adjust(f, &adj, plugin);
}

static void env_is_set_and_removed_by_whole_names(void **state)
{
	struct fix *f = *state;

	assert_int_equal(set_env(f, "A", "3", "p"), 0);
	assert_string_equal(spec_env(f->spec, "A"), "3");
	assert_string_equal(spec_env(f->spec, "AB"), "2");
	assert_int_equal(json_array_size(spec_get(f->spec, "process/env")), 2);
	assert_int_equal(set_env(f, "-AB", "", "p"), 0);
	assert_null(spec_env(f->spec, "AB"));
	assert_int_equal(set_env(f, "X=Y", "", "p"), -ERR_INVALID_ARGUMENT);
}

static void conflict_names_both_until_one_removes(void **state)
{
	struct fix *f = *state;

	assert_int_equal(set_env(f, "A", "3", "10-p"), 0);
	assert_int_equal(set_env(f, "A", "4", "20-q"), -ERR_CONFLICT);
	assert_non_null(
		strstr(f->err.text, "plugins \"10-p\" and \"20-q\" both tried to set Env A"));
	assert_int_equal(set_env(f, "-A", "", "20-q"), 0);
	assert_int_equal(set_env(f, "A", "4", "20-q"), 0);
	assert_string_equal(nri_owner(&f->o, "c", NRI_FIELD(Env), "A"), "20-q");
}

static void resources_replace_what_is_set_only(void **state)
{
	struct fix *f = *state;
	NRI(LinuxResources) r = NRI_INIT(LINUX_RESOURCES), *back;
	NRI(LinuxMemory) m = NRI_INIT(LINUX_MEMORY);
	NRI(LinuxCPU) cpu = NRI_INIT(LINUX_CPU);
	NRI(OptionalInt64) swap = NRI_INIT(OPTIONAL_INT64);
	NRI(OptionalUInt64) period = NRI_INIT(OPTIONAL_UINT64);
	NRI(OptionalBool) kill = NRI_INIT(OPTIONAL_BOOL);
	NRI(LinuxPids) pids = NRI_INIT(LINUX_PIDS);

	swap.value = -1;
	period.value = 1000;
	kill.value = 1;
	pids.limit = 4;
	m.swap = &swap;
	m.disable_oom_killer = &kill;
	cpu.period = &period;
	cpu.mems = (char *)"0-1";
	r.memory = &m;
	r.cpu = &cpu;
	r.pids = &pids;
	assert_int_equal(nri_resources_apply(f->spec, &r, &f->o, "c", "p", &f->classes, &f->err),
			 0);
	assert_int_equal(nri_resources_of_spec(f->a, f->spec, &back, &f->err), 0);
	assert_int_equal(back->memory->limit->value, 7);
	assert_int_equal(back->memory->swap->value, -1);
	assert_true(back->memory->disable_oom_killer->value);
	assert_null(back->memory->kernel);
	assert_int_equal(back->cpu->shares->value, 9);
	assert_int_equal(back->cpu->period->value, 1000);
	assert_string_equal(back->cpu->cpus, "0");
	assert_string_equal(back->cpu->mems, "0-1");
	assert_int_equal(back->pids->limit, 4);
	assert_string_equal(back->unified[0]->value, "y");
	period.value = UINT64_MAX;
	assert_int_equal(nri_resources_apply(f->spec, &r, &f->o, "c", "p", &f->classes, &f->err),
			 -ERR_INVALID_ARGUMENT);
}

static int set_mount(struct fix *f, const char *at, const char *option)
{
	NRI(ContainerAdjustment) adj = NRI_INIT(CONTAINER_ADJUSTMENT);
	NRI(Mount) m = NRI_INIT(MOUNT), *v[] = {&m};
	char *options[] = {(char *)"bind", (char *)option};

	m.destination = (char *)at;
	m.source = (char *)"/";
	m.options = options;
	m.n_options = ARRAY_LEN(options);
	adj.mounts = v;
	adj.n_mounts = 1;
	return adjust(f, &adj, "p");
}

static void mounts_that_propagate_do_so_through_the_root(void **state)
{
	struct fix *f = *state;
	const json_t *linux_ = json_obj(f->spec, "linux");

	assert_int_equal(set_mount(f, "/m1", "rprivate"), 0);
	assert_null(json_object_get(linux_, "rootfsPropagation"));
	assert_int_equal(set_mount(f, "/m2", "rslave"), 0);
	assert_string_equal(json_str(linux_, "rootfsPropagation", ""), "rslave");
	assert_int_equal(set_mount(f, "/m3", "rshared"), 0);
	assert_string_equal(json_str(linux_, "rootfsPropagation", ""), "rshared");
	assert_int_equal(set_mount(f, "/m4", "rslave"), 0);
	assert_string_equal(json_str(linux_, "rootfsPropagation", ""), "rshared");
}

static void mounts_are_replaced_and_sorted(void **state)
{
	struct fix *f = *state;
	NRI(ContainerAdjustment) adj = NRI_INIT(CONTAINER_ADJUSTMENT);
	NRI(Mount)
	gone = NRI_INIT(MOUNT), again = NRI_INIT(MOUNT), top = NRI_INIT(MOUNT),
	*v[] = {&gone, &again, &top};

	gone.destination = (char *)"-/proc";
	again.destination = (char *)"/a/b";
	again.source = (char *)"/new";
	top.destination = (char *)"/a";
	adj.mounts = v;
	adj.n_mounts = 3;
	assert_int_equal(adjust(f, &adj, "p"), 0);
	assert_int_equal(nri_sort_mounts(f->spec, &f->err), 0);
	json_t *m = spec_get(f->spec, "mounts");
	assert_int_equal(json_array_size(m), 2);
	assert_string_equal(json_str(json_array_get(m, 0), "destination", ""), "/a");
	assert_string_equal(json_str(json_array_get(m, 1), "source", ""), "/new");
	top.destination = (char *)"a";
	assert_int_equal(adjust(f, &adj, "p"), -ERR_INVALID_ARGUMENT);
}

static void hooks_of_several_plugins_add_up(void **state)
{
	struct fix *f = *state;
	NRI(ContainerAdjustment) adj = NRI_INIT(CONTAINER_ADJUSTMENT);
	NRI(Hooks) hooks = NRI_INIT(HOOKS);
	NRI(Hook) h = NRI_INIT(HOOK), *v[] = {&h};

	h.path = (char *)"/bin/x";
	hooks.prestart = v;
	hooks.n_prestart = 1;
	adj.hooks = &hooks;
	assert_int_equal(adjust(f, &adj, "p"), 0);
	assert_int_equal(adjust(f, &adj, "q"), 0);
	assert_int_equal(json_array_size(spec_get(f->spec, "hooks/prestart")), 2);
	assert_string_equal(nri_owner(&f->o, "c", NRI_FIELD(OciHooks), ""), "p,q");
	h.path = (char *)"x";
	assert_int_equal(adjust(f, &adj, "q"), -ERR_INVALID_ARGUMENT);
}

static void the_rest_of_linux_is_set(void **state)
{
	struct fix *f = *state;
	NRI(ContainerAdjustment) adj = NRI_INIT(CONTAINER_ADJUSTMENT);
	NRI(LinuxContainerAdjustment) l = NRI_INIT(LINUX_CONTAINER_ADJUSTMENT);
	NRI(LinuxNamespace)
	gone = NRI_INIT(LINUX_NAMESPACE), uts = NRI_INIT(LINUX_NAMESPACE), *ns[] = {&gone, &uts};
	NRI(LinuxContainerAdjustment__SysctlEntry)
	s = NRI_INIT(LINUX_CONTAINER_ADJUSTMENT__SYSCTL_ENTRY), *sysctl[] = {&s};
	NRI(LinuxIOPriority) io = NRI_INIT(LINUX_IOPRIORITY);
	NRI(LinuxScheduler) sched = NRI_INIT(LINUX_SCHEDULER);
	NRI(LinuxRdt) rdt = NRI_INIT(LINUX_RDT);
	NRI(OptionalString) clos = NRI_INIT(OPTIONAL_STRING);
	NRI(Container) told = NRI_INIT(CONTAINER);

	gone.type = (char *)"-pid";
	uts.type = (char *)"uts";
	l.namespaces = ns;
	l.n_namespaces = 2;
	s.key = (char *)"net.a";
	s.value = (char *)"1";
	l.sysctl = sysctl;
	l.n_sysctl = 1;
	io.class_ = NRI__PKG__API__V1ALPHA1__IOPRIO_CLASS__IOPRIO_CLASS_IDLE;
	l.io_priority = &io;
	sched.policy = NRI__PKG__API__V1ALPHA1__LINUX_SCHEDULER_POLICY__SCHED_BATCH;
	l.scheduler = &sched;
	clos.value = (char *)"gold";
	rdt.clos_id = &clos;
	l.rdt = &rdt;
	l.cgroups_path = (char *)"/x";
	adj.linux = &l;
	assert_int_equal(adjust(f, &adj, "p"), 0);
	assert_int_equal(nri_container_of_spec(f->a, f->spec, &told, &f->err), 0);
	assert_int_equal(told.linux->n_namespaces, 1);
	assert_string_equal(told.linux->namespaces[0]->type, "uts");
	assert_string_equal(told.linux->sysctl[0]->value, "1");
	assert_int_equal(told.linux->io_priority->class_, io.class_);
	assert_int_equal(told.linux->scheduler->policy, sched.policy);
	assert_string_equal(told.linux->rdt->clos_id->value, "gold");
	assert_string_equal(told.linux->cgroups_path, "/x");
	assert_int_equal(told.linux->oom_score_adj->value, 5);
	io.class_ = (NRI(IOPrioClass))77;
	assert_int_equal(adjust(f, &adj, "p"), -ERR_INVALID_ARGUMENT);
}

static void an_empty_first_argument_overrides(void **state)
{
	struct fix *f = *state;
	NRI(ContainerAdjustment) adj = NRI_INIT(CONTAINER_ADJUSTMENT);
	char *over[] = {(char *)"", (char *)"b"}, *plain[] = {(char *)"a"};

	adj.args = plain;
	adj.n_args = 1;
	assert_int_equal(adjust(f, &adj, "p"), 0);
	assert_int_equal(adjust(f, &adj, "q"), -ERR_CONFLICT);
	adj.args = over;
	adj.n_args = 2;
	assert_int_equal(adjust(f, &adj, "q"), 0);
	assert_string_equal(json_string_value(json_array_get(spec_get(f->spec, "process/args"), 0)),
			    "b");
}

static void texts_must_be_utf8_and_few(void **state)
{
	struct fix *f = *state;
	static const char *const bad[] = {"\xff", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80",
					  "\xe2\x82"};
	NRI(ContainerAdjustment) adj = NRI_INIT(CONTAINER_ADJUSTMENT);
	char *one[] = {(char *)"\xe2\x82\xac \xf0\x9f\x98\x80"};

	adj.args = one;
	adj.n_args = 1;
	assert_int_equal(nri_message_check(&adj.base, &f->err), 0);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		one[0] = (char *)bad[i];
		assert_int_equal(nri_message_check(&adj.base, &f->err), -ERR_INVALID_ARGUMENT);
	}
	adj.n_args = 100000; /* counted before they are looked at */
	assert_int_equal(nri_message_check(&adj.base, &f->err), -ERR_INVALID_ARGUMENT);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(env_is_set_and_removed_by_whole_names),
		T(conflict_names_both_until_one_removes),
		T(mounts_that_propagate_do_so_through_the_root),
		T(resources_replace_what_is_set_only),
		T(mounts_are_replaced_and_sorted),
		T(hooks_of_several_plugins_add_up),
		T(the_rest_of_linux_is_set),
		T(an_empty_first_argument_overrides),
		T(texts_must_be_utf8_and_few),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
