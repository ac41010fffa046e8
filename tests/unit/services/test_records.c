/* SPDX-License-Identifier: Apache-2.0 */
/* Namespaces, containers, images, leases and content through gRPC, on a real database. */
#include "harness.h"

#include "base/digest.h"

#define IM(x) Containerd__Services__Images__V1__##x
#define IMD(x) &containerd__services__images__v1__##x##__descriptor
#define CT(x) Containerd__Services__Containers__V1__##x
#define CTD(x) &containerd__services__containers__v1__##x##__descriptor
#define NS(x) Containerd__Services__Namespaces__V1__##x
#define NSD(x) &containerd__services__namespaces__v1__##x##__descriptor
#define LE(x) Containerd__Services__Leases__V1__##x
#define LED(x) &containerd__services__leases__v1__##x##__descriptor
#define CO(x) Containerd__Services__Content__V1__##x
#define COD(x) &containerd__services__content__v1__##x##__descriptor

#define DIGEST_A "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define DIGEST_B "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

/* ---- what is published ---- */

struct heard {
	pthread_mutex_t lock;
	char topics[32][64], ns[32][32];
	size_t n;
	struct event_subscription *sub;
};

static void hear(void *arg, const struct event *e)
{
	struct heard *heard = arg;
	MUTEX_GUARD(&heard->lock);
	if (heard->n == ARRAY_LEN(heard->topics))
		return;
	snprintf(heard->topics[heard->n], sizeof(heard->topics[0]), "%s", e->topic);
	snprintf(heard->ns[heard->n++], sizeof(heard->ns[0]), "%s", e->ns);
}

static void listen_to(struct harness *h, struct heard *heard)
{
	*heard = (struct heard){.n = 0};
	pthread_mutex_init(&heard->lock, NULL);
	assert_ok(event_subscribe(h->events, NULL, 0, hear, heard, &heard->sub, &h->err));
}

/* Events are published before the reply. */
static void assert_heard(struct heard *heard, const char *topic, const char *ns)
{
	MUTEX_GUARD(&heard->lock);
	for (size_t i = 0; i < heard->n; i++)
		if (streq(heard->topics[i], topic) && streq(heard->ns[i], ns))
			return;
	fail_msg("no event %s in %s", topic, ns);
}

/* ---- namespaces ---- */

static void namespace_is_created_updated_listed_deleted(void **state)
{
	struct harness *h = *state;
	struct heard heard;
	NS(Namespace) ns = CONTAINERD__SERVICES__NAMESPACES__V1__NAMESPACE__INIT;
	NS(Namespace__LabelsEntry)
	l = CONTAINERD__SERVICES__NAMESPACES__V1__NAMESPACE__LABELS_ENTRY__INIT, *ls[] = {&l};
	NS(CreateNamespaceRequest)
	cr = CONTAINERD__SERVICES__NAMESPACES__V1__CREATE_NAMESPACE_REQUEST__INIT;
	NS(CreateNamespaceResponse) * created;
	NS(UpdateNamespaceRequest)
	ur = CONTAINERD__SERVICES__NAMESPACES__V1__UPDATE_NAMESPACE_REQUEST__INIT;
	NS(UpdateNamespaceResponse) * updated;
	NS(ListNamespacesRequest)
	lr = CONTAINERD__SERVICES__NAMESPACES__V1__LIST_NAMESPACES_REQUEST__INIT;
	NS(ListNamespacesResponse) * listed;
	NS(DeleteNamespaceRequest)
	dr = CONTAINERD__SERVICES__NAMESPACES__V1__DELETE_NAMESPACE_REQUEST__INIT;
	NS(GetNamespaceRequest)
	gr = CONTAINERD__SERVICES__NAMESPACES__V1__GET_NAMESPACE_REQUEST__INIT;
	NS(GetNamespaceResponse) * got;
	Google__Protobuf__FieldMask mask = GOOGLE__PROTOBUF__FIELD_MASK__INIT;
	char *paths[] = {(char *)"labels.k"};
	listen_to(h, &heard);
	h->ctx.ns = ""; /* these calls need none */
	ns.name = (char *)"blue";
	l.key = (char *)"k";
	l.value = (char *)"v";
	ns.labels = ls;
	ns.n_labels = 1;
	cr.namespace_ = &ns;
	assert_ok(call(h, NAMESPACES, "Create", &cr, NSD(create_namespace_response), &created));
	assert_string_equal(created->namespace_->name, "blue");
	assert_int_equal(created->namespace_->n_labels, 1);
	assert_string_equal(created->namespace_->labels[0]->value, "v");
	assert_heard(&heard, "/namespaces/create", "blue");
	assert_err(call(h, NAMESPACES, "Create", &cr, NSD(create_namespace_response), &created),
		   ERR_ALREADY_EXISTS, "namespace \"blue\": already exists");

	l.value = (char *)"";
	ur.namespace_ = &ns;
	ur.update_mask = &mask;
	mask.paths = paths;
	mask.n_paths = 1;
	assert_ok(call(h, NAMESPACES, "Update", &ur, NSD(update_namespace_response), &updated));
	assert_int_equal(updated->namespace_->n_labels, 0);
	assert_heard(&heard, "/namespaces/update", "blue");
	paths[0] = (char *)"name";
	assert_err(call(h, NAMESPACES, "Update", &ur, NSD(update_namespace_response), &updated),
		   ERR_INVALID_ARGUMENT, "cannot update \"name\" field: invalid argument");

	assert_ok(call(h, NAMESPACES, "List", &lr, NSD(list_namespaces_response), &listed));
	assert_int_equal(listed->n_namespaces, 1);

	dr.name = (char *)"blue";
	assert_ok(call(h, NAMESPACES, "Delete", &dr, &google__protobuf__empty__descriptor, NULL));
	assert_heard(&heard, "/namespaces/delete", "blue");
	gr.name = (char *)"blue";
	assert_ok(call(h, NAMESPACES, "Get", &gr, NSD(get_namespace_response),
		       &got)); /* as containerd: no labels */
	assert_int_equal(got->namespace_->n_labels, 0);
	ur.namespace_ = NULL;
	assert_int_equal(call(h, NAMESPACES, "Update", &ur, NSD(update_namespace_response), NULL),
			 -ERR_INVALID_ARGUMENT);
	cr.namespace_ = NULL;
	assert_int_equal(call(h, NAMESPACES, "Create", &cr, NSD(create_namespace_response), NULL),
			 -ERR_INVALID_ARGUMENT);
	event_unsubscribe(heard.sub);
}

/* ---- containers ---- */

struct a_container {
	CT(Container) c;
	CT(Container__Runtime) rt;
	CT(Container__LabelsEntry) label, *labels[1];
	CT(Container__ExtensionsEntry) ext, *exts[1];
	Google__Protobuf__Any spec, value;
};

static void container_fill(struct a_container *a, const char *id)
{
	containerd__services__containers__v1__container__init(&a->c);
	containerd__services__containers__v1__container__runtime__init(&a->rt);
	containerd__services__containers__v1__container__labels_entry__init(&a->label);
	containerd__services__containers__v1__container__extensions_entry__init(&a->ext);
	google__protobuf__any__init(&a->spec);
	google__protobuf__any__init(&a->value);
	a->c.id = (char *)id;
	a->c.image = (char *)"docker.io/library/busybox:latest";
	a->rt.name = (char *)"io.containerd.runc.v2";
	a->c.runtime = &a->rt;
	a->spec.type_url = (char *)"types.containerd.io/opencontainers/runtime-spec/1/Spec";
	a->spec.value = (ProtobufCBinaryData){.data = (uint8_t *)"{}", .len = 2};
	a->c.spec = &a->spec;
	a->label.key = (char *)"a";
	a->label.value = (char *)"1";
	a->labels[0] = &a->label;
	a->c.labels = a->labels;
	a->c.n_labels = 1;
	a->value.type_url = (char *)"x";
	a->value.value = (ProtobufCBinaryData){.data = (uint8_t *)"\0\1", .len = 2};
	a->ext.key = (char *)"e";
	a->ext.value = &a->value;
	a->exts[0] = &a->ext;
	a->c.extensions = a->exts;
	a->c.n_extensions = 1;
}

static void container_comes_back_as_it_was_given(void **state)
{
	struct harness *h = *state;
	struct heard heard;
	struct a_container a;
	CT(CreateContainerRequest)
	cr = CONTAINERD__SERVICES__CONTAINERS__V1__CREATE_CONTAINER_REQUEST__INIT;
	CT(GetContainerRequest)
	gr = CONTAINERD__SERVICES__CONTAINERS__V1__GET_CONTAINER_REQUEST__INIT;
	CT(GetContainerResponse) * got;
	listen_to(h, &heard);
	container_fill(&a, "one");
	cr.container = &a.c;
	assert_ok(call(h, CONTAINERS, "Create", &cr, CTD(create_container_response), NULL));
	assert_heard(&heard, "/containers/create", "default");
	gr.id = (char *)"one";
	assert_ok(call(h, CONTAINERS, "Get", &gr, CTD(get_container_response), &got));
	assert_string_equal(got->container->image, a.c.image);
	assert_string_equal(got->container->runtime->name, a.rt.name);
	assert_null(got->container->runtime->options);
	assert_string_equal(got->container->spec->type_url, a.spec.type_url);
	assert_memory_equal(got->container->spec->value.data, "{}", 2);
	assert_string_equal(got->container->labels[0]->value, "1");
	assert_int_equal(got->container->n_extensions, 1);
	assert_memory_equal(got->container->extensions[0]->value->value.data, "\0\1", 2);
	assert_true(got->container->created_at->seconds > 1000000000);
	gr.id = (char *)"two";
	assert_err(call(h, CONTAINERS, "Get", &gr, CTD(get_container_response), &got),
		   ERR_NOT_FOUND, "container \"two\" in namespace \"default\": not found");
	h->ctx.ns = "";
	assert_err(call(h, CONTAINERS, "Get", &gr, CTD(get_container_response), &got),
		   ERR_FAILED_PRECONDITION, "namespace is required: failed precondition");
	cr.container = NULL;
	h->ctx.ns = "default";
	assert_int_equal(call(h, CONTAINERS, "Create", &cr, CTD(create_container_response), NULL),
			 -ERR_INVALID_ARGUMENT);
	event_unsubscribe(heard.sub);
}

static void container_update_follows_the_mask(void **state)
{
	struct harness *h = *state;
	struct heard heard;
	struct a_container a;
	CT(CreateContainerRequest)
	cr = CONTAINERD__SERVICES__CONTAINERS__V1__CREATE_CONTAINER_REQUEST__INIT;
	CT(UpdateContainerRequest)
	ur = CONTAINERD__SERVICES__CONTAINERS__V1__UPDATE_CONTAINER_REQUEST__INIT;
	CT(UpdateContainerResponse) * updated;
	Google__Protobuf__FieldMask mask = GOOGLE__PROTOBUF__FIELD_MASK__INIT;
	char *paths[] = {(char *)"labels.b"};
	listen_to(h, &heard);
	container_fill(&a, "one");
	cr.container = &a.c;
	assert_ok(call(h, CONTAINERS, "Create", &cr, CTD(create_container_response), NULL));
	a.label.key = (char *)"b";
	a.label.value = (char *)"2";
	a.c.image = (char *)"another";
	ur.container = &a.c;
	ur.update_mask = &mask;
	mask.paths = paths;
	mask.n_paths = 1;
	assert_ok(call(h, CONTAINERS, "Update", &ur, CTD(update_container_response), &updated));
	assert_int_equal(updated->container->n_labels, 2);
	assert_string_equal(updated->container->image, "docker.io/library/busybox:latest");
	assert_heard(&heard, "/containers/update", "default");
	paths[0] = (char *)"created_at";
	assert_int_equal(
		call(h, CONTAINERS, "Update", &ur, CTD(update_container_response), &updated),
		-ERR_INVALID_ARGUMENT);
	ur.container = NULL;
	assert_err(call(h, CONTAINERS, "Update", &ur, CTD(update_container_response), &updated),
		   ERR_INVALID_ARGUMENT, "Container.ID required: invalid argument");
	event_unsubscribe(heard.sub);
}

static void containers_are_listed_by_filter_whole_and_as_a_stream(void **state)
{
	struct harness *h = *state;
	CT(CreateContainerRequest)
	cr = CONTAINERD__SERVICES__CONTAINERS__V1__CREATE_CONTAINER_REQUEST__INIT;
	CT(ListContainersRequest)
	lr = CONTAINERD__SERVICES__CONTAINERS__V1__LIST_CONTAINERS_REQUEST__INIT;
	CT(ListContainersResponse) * listed;
	CT(ListContainerMessage) * one;
	CT(DeleteContainerRequest)
	dr = CONTAINERD__SERVICES__CONTAINERS__V1__DELETE_CONTAINER_REQUEST__INIT;
	struct rpc_stream *st;
	char id[16], *filters[] = {(char *)"id~=^c-[0-4]$"};
	int n = 0;
	for (int i = 0; i < 10; i++) {
		struct a_container a;
		snprintf(id, sizeof(id), "c-%d", i);
		container_fill(&a, id);
		cr.container = &a.c;
		assert_ok(call(h, CONTAINERS, "Create", &cr, CTD(create_container_response), NULL));
	}
	lr.filters = filters;
	lr.n_filters = 1;
	assert_ok(call(h, CONTAINERS, "List", &lr, CTD(list_containers_response), &listed));
	assert_int_equal(listed->n_containers, 5);
	assert_ok(rpc_stream_open(h->client, &h->ctx, CONTAINERS, "ListStream", &st, &h->err));
	assert_ok(rpc_stream_send(st, &lr.base, &h->err));
	assert_ok(rpc_stream_close_send(st, &h->err));
	while (rpc_stream_recv(st, h->arena, CTD(list_container_message), &one, &h->err) == 1)
		n++;
	assert_int_equal(h->err.kind, 0);
	assert_int_equal(n, 5);
	rpc_stream_free(st);
	filters[0] = (char *)"id=";
	assert_int_equal(call(h, CONTAINERS, "List", &lr, CTD(list_containers_response), &listed),
			 -ERR_INVALID_ARGUMENT);
	dr.id = (char *)"c-1";
	assert_ok(call(h, CONTAINERS, "Delete", &dr, &google__protobuf__empty__descriptor, NULL));
	assert_int_equal(
		call(h, CONTAINERS, "Delete", &dr, &google__protobuf__empty__descriptor, NULL),
		-ERR_NOT_FOUND);
}

/* ---- images ---- */

static void image_is_created_updated_guarded_deleted(void **state)
{
	struct harness *h = *state;
	struct heard heard;
	IM(Image) im = CONTAINERD__SERVICES__IMAGES__V1__IMAGE__INIT;
	IM(CreateImageRequest) cr = CONTAINERD__SERVICES__IMAGES__V1__CREATE_IMAGE_REQUEST__INIT;
	IM(CreateImageResponse) * created;
	IM(UpdateImageRequest) ur = CONTAINERD__SERVICES__IMAGES__V1__UPDATE_IMAGE_REQUEST__INIT;
	IM(UpdateImageResponse) * updated;
	IM(DeleteImageRequest) dr = CONTAINERD__SERVICES__IMAGES__V1__DELETE_IMAGE_REQUEST__INIT;
	IM(ListImagesRequest) lr = CONTAINERD__SERVICES__IMAGES__V1__LIST_IMAGES_REQUEST__INIT;
	IM(ListImagesResponse) * listed;
	Containerd__Types__Descriptor target = CONTAINERD__TYPES__DESCRIPTOR__INIT,
				      guard = CONTAINERD__TYPES__DESCRIPTOR__INIT;
	Google__Protobuf__FieldMask mask = GOOGLE__PROTOBUF__FIELD_MASK__INIT;
	Google__Protobuf__Timestamp epoch = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
	char *paths[] = {(char *)"target"};
	listen_to(h, &heard);
	cr.image = &im;
	assert_err(call(h, IMAGES, "Create", &cr, IMD(create_image_response), NULL),
		   ERR_INVALID_ARGUMENT, "Image.Name required: invalid argument");
	im.name = (char *)"registry.test/x:1";
	im.target = &target;
	target.media_type = (char *)"application/vnd.oci.image.index.v1+json";
	target.digest = (char *)DIGEST_A;
	target.size = 7;
	epoch.seconds = 1234567890;
	cr.source_date_epoch = &epoch;
	assert_ok(call(h, IMAGES, "Create", &cr, IMD(create_image_response), &created));
	assert_int_equal(created->image->created_at->seconds, 1234567890);
	assert_string_equal(created->image->target->digest, DIGEST_A);
	assert_int_equal(created->image->target->size, 7);
	assert_heard(&heard, "/images/create", "default");
	assert_int_equal(call(h, IMAGES, "Create", &cr, IMD(create_image_response), NULL),
			 -ERR_ALREADY_EXISTS);
	target.digest = (char *)DIGEST_B;
	ur.image = &im;
	ur.update_mask = &mask;
	mask.paths = paths;
	mask.n_paths = 1;
	assert_ok(call(h, IMAGES, "Update", &ur, IMD(update_image_response), &updated));
	assert_string_equal(updated->image->target->digest, DIGEST_B);
	assert_int_equal(updated->image->created_at->seconds, 1234567890);
	assert_heard(&heard, "/images/update", "default");
	assert_ok(call(h, IMAGES, "List", &lr, IMD(list_images_response), &listed));
	assert_int_equal(listed->n_images, 1);
	dr.name = im.name;
	dr.sync = true;
	dr.target = &guard;
	guard.digest = (char *)DIGEST_A;
	assert_int_equal(call(h, IMAGES, "Delete", &dr, &google__protobuf__empty__descriptor, NULL),
			 -ERR_NOT_FOUND);
	guard.digest = (char *)DIGEST_B;
	assert_ok(call(h, IMAGES, "Delete", &dr, &google__protobuf__empty__descriptor, NULL));
	assert_heard(&heard, "/images/delete", "default");
	assert_int_equal(call(h, IMAGES, "Delete", &dr, &google__protobuf__empty__descriptor, NULL),
			 -ERR_NOT_FOUND);
	event_unsubscribe(heard.sub);
}

/* ---- content and leases ---- */

static struct rpc_stream *write_begin(struct harness *h)
{
	struct rpc_stream *st;
	assert_ok(rpc_stream_open(h->client, &h->ctx, CONTENT, "Write", &st, &h->err));
	return st;
}

static int write_step(struct harness *h, struct rpc_stream *st, CO(WriteContentRequest) * r,
		      CO(WriteContentResponse) * *ret)
{
	h->err = ERR_INIT;
	if (rpc_stream_send(st, &r->base, &h->err) < 0)
		return -h->err.kind;
	return rpc_stream_recv(st, h->arena, COD(write_content_response), ret, &h->err);
}

static void blob_digest(const char *p, char *ret)
{
	struct digest d;
	digest_of(DIGEST_SHA256, p, strlen(p), &d);
	strcpy(ret, d.text);
}

static void content_is_written_read_listed_deleted(void **state)
{
	struct harness *h = *state;
	char digest[DIGEST_TEXT_MAX];
	CO(WriteContentRequest) w = CONTAINERD__SERVICES__CONTENT__V1__WRITE_CONTENT_REQUEST__INIT;
	CO(WriteContentResponse) * wr;
	CO(ReadContentRequest) rd = CONTAINERD__SERVICES__CONTENT__V1__READ_CONTENT_REQUEST__INIT;
	CO(ReadContentResponse) * chunk;
	CO(StatusRequest) sr = CONTAINERD__SERVICES__CONTENT__V1__STATUS_REQUEST__INIT;
	CO(StatusResponse) * status;
	CO(DeleteContentRequest)
	dr = CONTAINERD__SERVICES__CONTENT__V1__DELETE_CONTENT_REQUEST__INIT;
	struct rpc_stream *st = write_begin(h);
	blob_digest("hello, world", digest);
	w.ref = (char *)"upload";
	w.total = 12;
	w.action = CONTAINERD__SERVICES__CONTENT__V1__WRITE_ACTION__STAT;
	assert_int_equal(write_step(h, st, &w, &wr), 1);
	assert_int_equal(wr->offset, 0);
	w.action = CONTAINERD__SERVICES__CONTENT__V1__WRITE_ACTION__WRITE;
	w.data = (ProtobufCBinaryData){.data = (uint8_t *)"hello, ", .len = 7};
	assert_int_equal(write_step(h, st, &w, &wr), 1);
	assert_int_equal(wr->offset, 7);
	sr.ref = (char *)"upload";
	assert_ok(call(h, CONTENT, "Status", &sr, COD(status_response), &status));
	assert_int_equal(status->status->offset, 7);
	assert_int_equal(status->status->total, 12);
	w.action = CONTAINERD__SERVICES__CONTENT__V1__WRITE_ACTION__COMMIT;
	w.offset = 7;
	w.data = (ProtobufCBinaryData){.data = (uint8_t *)"world", .len = 5};
	w.expected = digest;
	assert_int_equal(write_step(h, st, &w, &wr), 1);
	assert_string_equal(wr->digest, digest);
	assert_int_equal(wr->offset, 12);
	rpc_stream_free(st);

	rd.digest = digest;
	rd.offset = 3;
	rd.size = 4;
	assert_ok(rpc_stream_open(h->client, &h->ctx, CONTENT, "Read", &st, &h->err));
	assert_ok(rpc_stream_send(st, &rd.base, &h->err));
	assert_ok(rpc_stream_close_send(st, &h->err));
	assert_int_equal(rpc_stream_recv(st, h->arena, COD(read_content_response), &chunk, &h->err),
			 1);
	assert_int_equal(chunk->data.len, 4);
	assert_memory_equal(chunk->data.data, "lo, ", 4);
	assert_int_equal(rpc_stream_recv(st, h->arena, COD(read_content_response), &chunk, &h->err),
			 0);
	rpc_stream_free(st);

	rd.offset = 13;
	assert_ok(rpc_stream_open(h->client, &h->ctx, CONTENT, "Read", &st, &h->err));
	assert_ok(rpc_stream_send(st, &rd.base, &h->err));
	assert_ok(rpc_stream_close_send(st, &h->err));
	assert_int_equal(rpc_stream_recv(st, h->arena, COD(read_content_response), &chunk, &h->err),
			 -ERR_OUT_OF_RANGE);
	rpc_stream_free(st);

	dr.digest = digest;
	assert_ok(call(h, CONTENT, "Delete", &dr, &google__protobuf__empty__descriptor, NULL));
	assert_int_equal(
		call(h, CONTENT, "Delete", &dr, &google__protobuf__empty__descriptor, NULL),
		-ERR_NOT_FOUND);
}

/* What a message needs is given back before the next one: a stream may have any number. */
static void content_write_takes_no_memory_that_grows_with_the_messages(void **state)
{
	enum { MESSAGES = 150000, AT_ONCE = 200 };
	struct harness *h = *state;
	struct rpc_stream *st = write_begin(h);
	CO(WriteContentRequest) r = CONTAINERD__SERVICES__CONTENT__V1__WRITE_CONTENT_REQUEST__INIT;
	CO(WriteContentResponse) * resp;
	char expected[8 + 128];
	snprintf(expected, sizeof(expected), "sha512:%0128d", 0);
	r.ref = (char *)"many";
	r.expected = expected;
	for (int i = 0; i < MESSAGES; i += AT_ONCE) {
		_cleanup_arena_ struct arena *a = arena_new(0);
		for (int k = 0; k < AT_ONCE; k++)
			assert_ok(rpc_stream_send(st, &r.base, &h->err));
		for (int k = 0; k < AT_ONCE; k++)
			if (rpc_stream_recv(st, a, COD(write_content_response), &resp, &h->err) !=
			    1)
				fail_msg("message %d: %s", i + k, h->err.text);
	}
	rpc_stream_free(st);
}

/* Another namespace has the blob: its bytes count, unless a client sends all of them again. */
static void content_written_from_0_takes_the_place_of_what_is_shared(void **state)
{
	struct harness *h = *state;
	char digest[DIGEST_TEXT_MAX];
	CO(WriteContentRequest) w = CONTAINERD__SERVICES__CONTENT__V1__WRITE_CONTENT_REQUEST__INIT;
	CO(WriteContentResponse) * wr;
	struct rpc_stream *st = write_begin(h);
	blob_digest("hello, world", digest);
	w.ref = (char *)"r";
	w.total = 12;
	w.action = CONTAINERD__SERVICES__CONTENT__V1__WRITE_ACTION__COMMIT;
	w.data = (ProtobufCBinaryData){.data = (uint8_t *)"hello, world", .len = 12};
	assert_int_equal(write_step(h, st, &w, &wr), 1);
	rpc_stream_free(st);

	h->ctx.ns = "other";
	st = write_begin(h);
	w.expected = digest;
	w.action = CONTAINERD__SERVICES__CONTENT__V1__WRITE_ACTION__WRITE;
	assert_int_equal(write_step(h, st, &w, &wr), 1);
	assert_int_equal(wr->offset, 12);
	w.action = CONTAINERD__SERVICES__CONTENT__V1__WRITE_ACTION__COMMIT;
	w.offset = 12;
	w.data.len = 0;
	assert_int_equal(write_step(h, st, &w, &wr), 1);
	assert_string_equal(wr->digest, digest);
	rpc_stream_free(st);
}

static void content_write_refuses_what_does_not_fit(void **state)
{
	struct harness *h = *state;
	CO(WriteContentRequest) w = CONTAINERD__SERVICES__CONTENT__V1__WRITE_CONTENT_REQUEST__INIT;
	CO(WriteContentResponse) * wr;
	struct rpc_stream *st = write_begin(h);
	assert_int_equal(write_step(h, st, &w, &wr), -ERR_INVALID_ARGUMENT); /* no reference */
	rpc_stream_free(st);

	st = write_begin(h);
	w.ref = (char *)"r";
	w.action = CONTAINERD__SERVICES__CONTENT__V1__WRITE_ACTION__WRITE;
	w.data = (ProtobufCBinaryData){.data = (uint8_t *)"abc", .len = 3};
	assert_int_equal(write_step(h, st, &w, &wr), 1);
	w.offset = 5;
	assert_int_equal(write_step(h, st, &w, &wr), -ERR_OUT_OF_RANGE);
	assert_string_equal(h->err.text, "write @5 must occur at current offset 3");
	rpc_stream_free(st);

	/* The ingest was kept, and a wrong digest keeps it too. */
	st = write_begin(h);
	w.action = CONTAINERD__SERVICES__CONTENT__V1__WRITE_ACTION__COMMIT;
	w.offset = 3;
	w.data.len = 0;
	w.expected = (char *)DIGEST_A;
	assert_int_equal(write_step(h, st, &w, &wr), -ERR_FAILED_PRECONDITION);
	rpc_stream_free(st);
	st = write_begin(h);
	w.expected = (char *)"";
	w.action = CONTAINERD__SERVICES__CONTENT__V1__WRITE_ACTION__STAT;
	assert_int_equal(write_step(h, st, &w, &wr), 1);
	assert_int_equal(wr->offset, 3);
	w.ref = (char *)"other";
	assert_int_equal(write_step(h, st, &w, &wr), -ERR_INVALID_ARGUMENT);
	rpc_stream_free(st);
}

static void lease_holds_what_is_made_under_it(void **state)
{
	struct harness *h = *state;
	char digest[DIGEST_TEXT_MAX];
	LE(CreateRequest) cr = CONTAINERD__SERVICES__LEASES__V1__CREATE_REQUEST__INIT;
	LE(CreateResponse) * lease;
	LE(ListResourcesRequest)
	lr = CONTAINERD__SERVICES__LEASES__V1__LIST_RESOURCES_REQUEST__INIT;
	LE(ListResourcesResponse) * resources;
	LE(DeleteRequest) dr = CONTAINERD__SERVICES__LEASES__V1__DELETE_REQUEST__INIT;
	LE(AddResourceRequest) ar = CONTAINERD__SERVICES__LEASES__V1__ADD_RESOURCE_REQUEST__INIT;
	LE(Resource) res = CONTAINERD__SERVICES__LEASES__V1__RESOURCE__INIT;
	CO(WriteContentRequest) w = CONTAINERD__SERVICES__CONTENT__V1__WRITE_CONTENT_REQUEST__INIT;
	CO(WriteContentResponse) * wr;
	CO(InfoRequest) ir = CONTAINERD__SERVICES__CONTENT__V1__INFO_REQUEST__INIT;
	cr.id = (char *)"mine";
	assert_ok(call(h, LEASES, "Create", &cr, LED(create_response), &lease));
	assert_string_equal(lease->lease->id, "mine");
	assert_int_equal(call(h, LEASES, "Create", &cr, LED(create_response), NULL),
			 -ERR_ALREADY_EXISTS);
	blob_digest("held", digest);
	h->ctx.lease = "mine";
	struct rpc_stream *st = write_begin(h);
	w.ref = (char *)"held";
	w.action = CONTAINERD__SERVICES__CONTENT__V1__WRITE_ACTION__COMMIT;
	w.data = (ProtobufCBinaryData){.data = (uint8_t *)"held", .len = 4};
	assert_int_equal(write_step(h, st, &w, &wr), 1);
	rpc_stream_free(st);
	h->ctx.lease = "";
	lr.id = (char *)"mine";
	assert_ok(call(h, LEASES, "ListResources", &lr, LED(list_resources_response), &resources));
	assert_int_equal(resources->n_resources, 1);
	assert_string_equal(resources->resources[0]->id, digest);
	assert_string_equal(resources->resources[0]->type, "content");
	ar.id = (char *)"mine";
	assert_int_equal(
		call(h, LEASES, "AddResource", &ar, &google__protobuf__empty__descriptor, NULL),
		-ERR_UNIMPLEMENTED);
	res.type = (char *)"nonsense";
	res.id = (char *)"x";
	ar.resource = &res;
	assert_int_equal(
		call(h, LEASES, "AddResource", &ar, &google__protobuf__empty__descriptor, NULL),
		-ERR_UNIMPLEMENTED);
	ir.digest = digest;
	assert_ok(call(h, CONTENT, "Info", &ir, COD(info_response), NULL));
	dr.id = (char *)"mine";
	dr.sync = true; /* the collection has run when the answer comes */
	assert_ok(call(h, LEASES, "Delete", &dr, &google__protobuf__empty__descriptor, NULL));
	assert_int_equal(call(h, CONTENT, "Info", &ir, COD(info_response), NULL), -ERR_NOT_FOUND);
	assert_int_equal(call(h, LEASES, "Delete", &dr, &google__protobuf__empty__descriptor, NULL),
			 -ERR_NOT_FOUND);
}

#define ASKERS 16

struct asker {
	struct harness *h;
	sem_t *answered;
	const char *uuid;
};

/* On the loop, while the test waits. */
static void on_server(void *arg, const uint8_t *resp, size_t n, const struct err *err)
{
	struct asker *a = arg;
	Containerd__Services__Introspection__V1__ServerResponse *m;
	if (!err &&
	    rpc_unpack(a->h->arena,
		       &containerd__services__introspection__v1__server_response__descriptor, resp,
		       n, &m, NULL) == 0)
		a->uuid = m->uuid;
	sem_post(a->answered);
}

static void who_asks_for_the_uuid_first_gets_what_all_get(void **state)
{
	struct harness *h = *state;
	Google__Protobuf__Empty req = GOOGLE__PROTOBUF__EMPTY__INIT;
	struct asker v[ASKERS];
	char path[96];
	sem_t answered;
	snprintf(path, sizeof(path), "%s/uuid", h->dir);
	sem_init(&answered, 0, 0);
	for (int round = 0; round < 20; round++) {
		for (int i = 0; i < ASKERS; i++) {
			v[i] = (struct asker){h, &answered, ""};
			assert_ok(rpc_call_async(
				h->client, "default",
				"containerd.services.introspection.v1.Introspection", "Server",
				&req.base, 0, on_server, &v[i], NULL, &h->err));
		}
		for (int i = 0; i < ASKERS; i++)
			sem_wait_or_fail(&answered);
		assert_int_equal(strlen(v[0].uuid), 36);
		for (int i = 1; i < ASKERS; i++)
			assert_string_equal(v[i].uuid, v[0].uuid);
		assert_int_equal(unlink(path), 0);
	}
	sem_destroy(&answered);
}

#define T(name) cmocka_unit_test_setup_teardown(name, harness_setup, harness_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(namespace_is_created_updated_listed_deleted),
		T(container_comes_back_as_it_was_given),
		T(container_update_follows_the_mask),
		T(containers_are_listed_by_filter_whole_and_as_a_stream),
		T(image_is_created_updated_guarded_deleted),
		T(content_is_written_read_listed_deleted),
		T(content_write_takes_no_memory_that_grows_with_the_messages),
		T(content_written_from_0_takes_the_place_of_what_is_shared),
		T(content_write_refuses_what_does_not_fit),
		T(lease_holds_what_is_made_under_it),
		T(who_asks_for_the_uuid_first_gets_what_all_get),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
