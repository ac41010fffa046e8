/* SPDX-License-Identifier: Apache-2.0 */
/* The tables of messages as the build leaves them: everything that the services speak of is found
 * by name and by number, and a message without content is the same whoever makes it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "protos.h"

#define MESSAGES_MAX 1024

static const ProtobufCServiceDescriptor *const services[] = {
	&runtime__v1__runtime_service__descriptor,
	&runtime__v1__image_service__descriptor,
	&nri__pkg__api__v1alpha1__plugin__descriptor,
	&containerd__task__v3__task__descriptor,
	&containerd__services__containers__v1__containers__descriptor,
	&containerd__services__introspection__v1__introspection__descriptor,
	&containerd__services__sandbox__v1__controller__descriptor,
	&containerd__services__snapshots__v1__snapshots__descriptor,
	&containerd__services__tasks__v1__tasks__descriptor,
};

/* Of these the services know only Any. */
static const ProtobufCMessageDescriptor *const in_any[] = {
	&google__protobuf__value__descriptor,
	&io__containerd__cgroups__v1__metrics__descriptor,
	&io__containerd__cgroups__v2__metrics__descriptor,
	&containerd__types__transfer__ociregistry__descriptor,
};

struct all {
	const ProtobufCMessageDescriptor *v[MESSAGES_MAX];
	size_t n;
};

static void add(struct all *all, const ProtobufCMessageDescriptor *d)
{
	for (size_t i = 0; i < all->n; i++)
		if (all->v[i] == d)
			return;
	assert_true(all->n < MESSAGES_MAX);
	all->v[all->n++] = d;
	for (unsigned i = 0; i < d->n_fields; i++)
		if (d->fields[i].type == PROTOBUF_C_TYPE_MESSAGE)
			add(all, d->fields[i].descriptor);
}

static int setup(void **state)
{
	struct all *all = calloc(1, sizeof(*all));

	if (!all)
		return -1;
	for (size_t i = 0; i < sizeof(services) / sizeof(services[0]); i++)
		for (unsigned m = 0; m < services[i]->n_methods; m++) {
			add(all, services[i]->methods[m].input);
			add(all, services[i]->methods[m].output);
		}
	for (size_t i = 0; i < sizeof(in_any) / sizeof(in_any[0]); i++)
		add(all, in_any[i]);
	*state = all;
	return 0;
}

static int teardown(void **state)
{
	free(*state);
	return 0;
}

static void enum_is_found(const ProtobufCEnumDescriptor *e)
{
	assert_non_null(e->name);
	for (unsigned i = 0; i < e->n_values; i++) {
		const ProtobufCEnumValue *v = &e->values[i];

		assert_ptr_equal(protobuf_c_enum_descriptor_get_value(e, v->value), v);
		assert_ptr_equal(protobuf_c_enum_descriptor_get_value_by_name(e, v->name), v);
	}
}

static void every_field_is_found_by_name_and_number(void **state)
{
	struct all *all = *state;

	assert_true(all->n > 300);
	for (size_t i = 0; i < all->n; i++) {
		const ProtobufCMessageDescriptor *d = all->v[i];

		assert_non_null(d->name);
		for (unsigned j = 0; j < d->n_fields; j++) {
			const ProtobufCFieldDescriptor *f = &d->fields[j];

			assert_ptr_equal(protobuf_c_message_descriptor_get_field(d, f->id), f);
			assert_ptr_equal(
				protobuf_c_message_descriptor_get_field_by_name(d, f->name), f);
			if (f->type == PROTOBUF_C_TYPE_ENUM)
				enum_is_found(f->descriptor);
		}
		assert_null(protobuf_c_message_descriptor_get_field(d, 536870911));
		assert_null(protobuf_c_message_descriptor_get_field_by_name(d, "no_such_field"));
	}
}

static void every_method_is_found_by_name(void **state)
{
	for (size_t i = 0; i < sizeof(services) / sizeof(services[0]); i++)
		for (unsigned m = 0; m < services[i]->n_methods; m++)
			assert_ptr_equal(protobuf_c_service_descriptor_get_method_by_name(
						 services[i], services[i]->methods[m].name),
					 &services[i]->methods[m]);
}

static void decoded_emptiness_is_an_initialized_message(void **state)
{
	struct all *all = *state;

	for (size_t i = 0; i < all->n; i++) {
		const ProtobufCMessageDescriptor *d = all->v[i];
		ProtobufCMessage *decoded = protobuf_c_message_unpack(d, NULL, 0, NULL);
		void *made = malloc(d->sizeof_message);

		assert_non_null(decoded);
		assert_non_null(made);
		memset(made, 0xff, d->sizeof_message);
		message_init(d, made);
		assert_memory_equal(made, decoded, d->sizeof_message);
		assert_int_equal(protobuf_c_message_get_packed_size(made), 0);
		free(made);
		protobuf_c_message_free_unpacked(decoded, NULL);
	}
}

/* Assignments to static objects: what is between the members is zero, too. */
#define SAME_AS_INIT(type, init, desc)                                   \
	do {                                                             \
		static const type constant = init;                       \
		type made;                                               \
		memset(&made, 0xff, sizeof(made));                       \
		message_init(desc, &made);                               \
		assert_memory_equal(&made, &constant, sizeof(constant)); \
	} while (0)

static void initialized_message_is_the_constant_of_its_type(void **state)
{
	SAME_AS_INIT(Google__Protobuf__Value, GOOGLE__PROTOBUF__VALUE__INIT,
		     &google__protobuf__value__descriptor);
	SAME_AS_INIT(Containerd__Types__Mount, CONTAINERD__TYPES__MOUNT__INIT,
		     &containerd__types__mount__descriptor);
	SAME_AS_INIT(Runtime__V1__ContainerConfig, RUNTIME__V1__CONTAINER_CONFIG__INIT,
		     &runtime__v1__container_config__descriptor);
	SAME_AS_INIT(Containerd__Services__Containers__V1__Container,
		     CONTAINERD__SERVICES__CONTAINERS__V1__CONTAINER__INIT,
		     &containerd__services__containers__v1__container__descriptor);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_field_is_found_by_name_and_number),
		cmocka_unit_test(every_method_is_found_by_name),
		cmocka_unit_test(decoded_emptiness_is_an_initialized_message),
		cmocka_unit_test(initialized_message_is_the_constant_of_its_type),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
