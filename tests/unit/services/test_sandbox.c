/* SPDX-License-Identifier: Apache-2.0 */
/* The sandbox store through gRPC. */
#include "harness.h"

#define SB(x) Containerd__Services__Sandbox__V1__##x
#define SBD(x) &containerd__services__sandbox__v1__##x##__descriptor

static void sandbox_lives_from_create_to_delete(void **state)
{
	struct harness *h = *state;
	Containerd__Types__Sandbox s = CONTAINERD__TYPES__SANDBOX__INIT;
	Containerd__Types__Sandbox__Runtime rt = CONTAINERD__TYPES__SANDBOX__RUNTIME__INIT;
	Containerd__Types__Sandbox__ExtensionsEntry
		e = CONTAINERD__TYPES__SANDBOX__EXTENSIONS_ENTRY__INIT,
		*es[] = {&e};
	Containerd__Types__Sandbox__LabelsEntry l = CONTAINERD__TYPES__SANDBOX__LABELS_ENTRY__INIT,
						*ls[] = {&l};
	Google__Protobuf__Any value = GOOGLE__PROTOBUF__ANY__INIT;
	SB(StoreCreateRequest) cr = CONTAINERD__SERVICES__SANDBOX__V1__STORE_CREATE_REQUEST__INIT;
	SB(StoreCreateResponse) * made;
	SB(StoreUpdateRequest) ur = CONTAINERD__SERVICES__SANDBOX__V1__STORE_UPDATE_REQUEST__INIT;
	SB(StoreUpdateResponse) * updated;
	SB(StoreGetRequest) gr = CONTAINERD__SERVICES__SANDBOX__V1__STORE_GET_REQUEST__INIT;
	SB(StoreGetResponse) * got;
	SB(StoreListRequest) lr = CONTAINERD__SERVICES__SANDBOX__V1__STORE_LIST_REQUEST__INIT;
	SB(StoreListResponse) * listed;
	SB(StoreDeleteRequest) dr = CONTAINERD__SERVICES__SANDBOX__V1__STORE_DELETE_REQUEST__INIT;
	char *fields[] = {(char *)"labels.k"}, *filters[] = {(char *)"id==pod"};
	s.sandbox_id = (char *)"pod";
	s.sandboxer = (char *)"shim";
	rt.name = (char *)"io.containerd.runc.v2";
	value.type_url = (char *)"types/X";
	rt.options = &value;
	s.runtime = &rt;
	s.spec = &value;
	e.key = (char *)"ext";
	e.value = &value;
	s.extensions = es;
	s.n_extensions = 1;
	l.key = (char *)"k";
	l.value = (char *)"v";
	s.labels = ls;
	s.n_labels = 1;

	gr.sandbox_id = (char *)"pod";
	assert_err(call(h, SANDBOXES, "Get", &gr, SBD(store_get_response), &got), ERR_NOT_FOUND,
		   "no sandbox buckets: not found");
	assert_int_equal(call(h, SANDBOXES, "Create", &cr, SBD(store_create_response), &made),
			 -ERR_INVALID_ARGUMENT);
	cr.sandbox = &s;
	assert_ok(call(h, SANDBOXES, "Create", &cr, SBD(store_create_response), &made));
	assert_string_equal(made->sandbox->runtime->name, "io.containerd.runc.v2");
	assert_true(made->sandbox->created_at->seconds > 1700000000);
	assert_err(call(h, SANDBOXES, "Create", &cr, SBD(store_create_response), &made),
		   ERR_ALREADY_EXISTS, "sandbox \"pod\": already exists");

	assert_ok(call(h, SANDBOXES, "Get", &gr, SBD(store_get_response), &got));
	assert_string_equal(got->sandbox->sandboxer, "shim");
	assert_string_equal(got->sandbox->spec->type_url, "types/X");
	assert_string_equal(got->sandbox->runtime->options->type_url, "types/X");
	assert_int_equal(got->sandbox->n_extensions, 1);
	assert_string_equal(got->sandbox->extensions[0]->key, "ext");
	assert_string_equal(got->sandbox->labels[0]->value, "v");

	l.value = (char *)"w";
	ur.sandbox = &s;
	ur.fields = fields;
	ur.n_fields = 1;
	assert_ok(call(h, SANDBOXES, "Update", &ur, SBD(store_update_response), &updated));
	assert_string_equal(updated->sandbox->labels[0]->value, "w");

	lr.filters = filters;
	lr.n_filters = 1;
	assert_ok(call(h, SANDBOXES, "List", &lr, SBD(store_list_response), &listed));
	assert_int_equal(listed->n_list, 1);
	filters[0] = (char *)"id==other";
	assert_ok(call(h, SANDBOXES, "List", &lr, SBD(store_list_response), &listed));
	assert_int_equal(listed->n_list, 0);
	filters[0] = (char *)"id=~x";
	assert_int_equal(call(h, SANDBOXES, "List", &lr, SBD(store_list_response), &listed),
			 -ERR_INVALID_ARGUMENT);
	assert_true(str_has_suffix(h->err.text, ": invalid argument: invalid argument"));

	dr.sandbox_id = (char *)"pod";
	assert_ok(call(h, SANDBOXES, "Delete", &dr, SBD(store_delete_response), NULL));
	assert_err(call(h, SANDBOXES, "Get", &gr, SBD(store_get_response), &got), ERR_NOT_FOUND,
		   "bucket \"pod\" not found");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(sandbox_lives_from_create_to_delete, harness_setup,
						harness_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
