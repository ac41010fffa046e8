/* SPDX-License-Identifier: Apache-2.0 */
/* ctr content prune, garbage-collect: what leads to content is cut, and what nothing leads to is
 * removed. The daemon collects when a lease goes, and can be made to answer only afterwards. */
#include <ctype.h>

#include "ctr/cmd_content.h"
#include "rpc/rpc.h"

#define REF "containerd.io/gc.ref.content."
#define LEASE_SECONDS 3600

static const struct ctr_flag references_flags[] = {
	{"async", 0, CTR_BOOL, "do not wait until what is not needed any more is gone"},
	{"dry", 0, CTR_BOOL, "only print which labels would be removed"},
	{}};

struct found {
	const char *digest;
	struct labels labels; /* to be removed: empty values */
};

struct finder {
	struct arena *arena;
	struct found *v;
	size_t n, cap;
};

/* Also numbers alone, as they once were written; 0 was the configuration. */
static bool leads_to_layer(const char *key)
{
	const char *rest = str_skip(key, REF);

	if (!rest)
		return false;
	if (str_has_prefix(rest, "l."))
		return true;
	for (const char *p = rest; *p; p++)
		if (!isdigit((unsigned char)*p))
			return false;
	return *rest && !streq(rest, "0");
}

static int add_blob(struct finder *f, const PB_CONTENT(Info) * info, struct err *err)
{
	struct found new = {.digest = arena_strdup(f->arena, info->digest)};

	for (size_t i = 0; i < info->n_labels; i++)
		if (leads_to_layer(info->labels[i]->key) &&
		    labels_set(f->arena, &new.labels, info->labels[i]->key, "") < 0)
			return err_nomem(err);
	if (!new.labels.n)
		return 0;
	f->v = arena_grow(f->arena, f->v, &f->cap, f->n + 1, sizeof(*f->v));
	if (!f->v || !new.digest)
		return err_nomem(err);
	f->v[f->n++] = new;
	return 0;
}

static int find(struct ctr *c, struct finder *f, struct err *err)
{
	PB_CONTENT(ListContentRequest) req = PB_CONTENT_INIT(LIST_CONTENT_REQUEST);
	struct rpc_stream *s _cleanup_(rpc_stream_freep) = NULL;
	struct arena *a _cleanup_arena_ = arena_new(0);
	PB_CONTENT(ListContentResponse) * m;
	int r;

	if (!a)
		return err_nomem(err);
	r = client_stream(c->client, &c->ctx, PB_CONTENT_SERVICE, "List", &req.base, &s, err);
	while (r >= 0) {
		arena_reset(a);
		r = rpc_stream_recv(
			s, a, &containerd__services__content__v1__list_content_response__descriptor,
			&m, err);
		if (r <= 0)
			break;
		for (size_t i = 0; r >= 0 && i < m->n_info; i++)
			r = add_blob(f, m->info[i], err);
	}
	return r;
}

/* A lease that is made only to be deleted. */
static int collect(struct ctr *c, bool wait, struct err *err)
{
	PB_LEASES(DeleteRequest) req = PB_LEASES_INIT(DELETE_REQUEST);
	const char *id;
	int r = client_lease_create(c->client, &c->ctx, LEASE_SECONDS, &id, err);

	if (r < 0)
		return r;
	req.id = (char *)id;
	req.sync = wait;
	return client_call(c->client, &c->ctx, PB_LEASES_SERVICE, "Delete", &req.base, NULL, err);
}

static int remove_labels(struct ctr *c, const struct found *f, struct err *err)
{
	struct err e = ERR_INIT;
	int r = client_content_set_labels(c->client, &c->ctx, f->digest, &f->labels, &e);

	/* Gone meanwhile: as good. */
	return r < 0 && r != -ERR_NOT_FOUND ? err_copy(err, &e) : 0;
}

static int run_references(struct ctr *c, struct err *err)
{
	struct finder f = {.arena = c->ctx.arena};
	int r;

	r = ctr_connect(c, err);
	if (r == 0)
		r = find(c, &f, err);
	if (r == 0 && ctr_bool(c, "dry")) {
		for (size_t i = 0; i < f.n; i++)
			for (size_t k = 0; k < f.v[i].labels.n; k++)
				printf("%s %s\n", f.v[i].digest, f.v[i].labels.v[k].key);
		return 0;
	}
	for (size_t i = 0; r == 0 && i < f.n; i++)
		r = remove_labels(c, &f.v[i], err);
	return r < 0 ? r : collect(c, !ctr_bool(c, "async"), err);
}

static int run_collect(struct ctr *c, struct err *err)
{
	int r = ctr_connect(c, err);

	return r < 0 ? r : collect(c, true, err);
}

static const struct ctr_command references = {
	.name = "references",
	.usage = "let layers be collected as garbage that are needed only as content",
	.args = "[flags]",
	.description =
		"   Removes the labels by which manifests keep their layers, of all blobs of "
		"the namespace. Snapshots stay, so what is unpacked\n"
		"   runs on; but the images cannot be exported, pushed or unpacked again.",
	.flags = CTR_FLAGS(references_flags),
	.run = run_references,
};

const struct ctr_command content_prune = {
	.name = "prune",
	.usage = "remove content that can be done without",
	.subcommands = CTR_COMMANDS(&references),
};
const struct ctr_command content_collect = {
	.name = "garbage-collect",
	.aliases = {"gc"},
	.usage = "remove now what no image, container, lease or label refers to",
	.description = "   Of all kinds and namespaces, and waits until it is done.",
	.run = run_collect,
};
