/* SPDX-License-Identifier: Apache-2.0 */
#include "ctr/remote.h"

#include "core/hosts.h"
#include "oci/reference.h"

static int authenticate(void *arg, const char *host, const char *const *challenges,
			struct fetch_auth *ret, struct err *err)
{
	struct remote *r = arg;
	struct client_auth auth;
	struct err e = ERR_INIT;
	int x = registry_credentials(&r->registry, r->c->ctx.arena, host, &auth, &e);

	if (x == -ERR_NOT_FOUND) {
		*ret = (struct fetch_auth){.type = FETCH_AUTH_NONE};
		return 0;
	}
	if (x < 0)
		return err_copy(err, &e);
	*ret = (struct fetch_auth){
		.type = auth.token ? FETCH_AUTH_REFRESH : FETCH_AUTH_CREDENTIALS,
		.username = auth.username,
		.secret = auth.secret,
	};
	return 0;
}

static void show(void *arg, const char *line)
{
	fprintf(stderr, "%s\n", line);
}

/* @reference as it is when it is whole. */
static int complete(struct arena *a, const char *reference, const char *object, const char **ret,
		    struct err *err)
{
	struct err unused = ERR_INIT;
	struct reference ref;

	*ret = reference;
	if (!*object || reference_parse(a, reference, &ref, &unused) == 0)
		return 0;
	*ret = arena_printf(a, "%s%c%s", reference, digest_validate(object, NULL) == 0 ? '@' : ':',
			    object);
	return *ret ? 0 : err_nomem(err);
}

static int start(struct remote *r, const struct reference *ref, bool push, struct err *err)
{
	const PB_TRANSFER_TYPES(RegistryResolver) *resolver = &r->registry.resolver;
	bool debug = resolver->http_debug != CONTAINERD__TYPES__TRANSFER__HTTPDEBUG__DISABLED;
	struct fetch_options o = {
		.original_host = ref->host,
		.repository = ref->repository,
		.object = *ref->digest ? ref->digest : ref->tag,
		.auth = authenticate,
		.auth_arg = r,
		.log = debug ? show : NULL,
		.push = push,
	};
	struct hosts hosts;
	int x = hosts_load(&r->c->ctx, resolver->host_dir, ref->host, resolver->default_scheme,
			   &hosts, err);

	if (x < 0)
		return x;
	o.hosts = hosts.v;
	o.n_hosts = hosts.n;
	return fetch_start(&r->c->ctx, &o, &r->session, err);
}

int remote_open(struct ctr *c, const char *reference, const char *object, bool push,
		struct remote *ret, struct err *err)
{
	struct reference ref;
	int x;

	*ret = (struct remote){.c = c};
	x = complete(c->ctx.arena, reference, object, &reference, err);
	if (x == 0)
		x = registry_init(c, reference, &ret->registry, err);
	if (x < 0)
		return x;
	x = reference_parse(c->ctx.arena, reference, &ref, err);
	if (x == 0) {
		ret->tag = ref.tag;
		ret->digest = ref.digest;
		x = start(ret, &ref, push, err);
	}
	if (x < 0)
		remote_close(ret);
	return x;
}

void remote_close(struct remote *r)
{
	if (r->session)
		fetch_free(r->session);
	r->session = NULL;
	registry_done(&r->registry);
}

/* ---- Bytes ---- */

struct taker {
	remote_sink_fn sink;
	void *arg;
	struct hasher *hasher;
	int64_t taken;
};

/* A transfer that begins anew gives again what was taken. */
static int take(void *arg, int64_t offset, const void *p, size_t n, struct err *err)
{
	struct taker *t = arg;
	size_t known;

	if (offset + (int64_t)n <= t->taken)
		return 0;
	known = offset < t->taken ? (size_t)(t->taken - offset) : 0;
	p = (const char *)p + known;
	n -= known;
	hasher_update(t->hasher, p, n);
	t->taken += (int64_t)n;
	return t->sink(t->arg, p, n, err);
}

int remote_fetch(struct remote *r, const struct fetch_descriptor *d, remote_sink_fn sink, void *arg,
		 struct err *err)
{
	struct hasher *h _cleanup_hasher_ = hasher_new(digest_alg(d->digest.text));
	struct taker t = {.sink = sink, .arg = arg, .hasher = h};
	struct digest got;
	int x;

	if (!h)
		return err_nomem(err);
	x = fetch_blob(r->session, &r->c->ctx, d, 0, take, &t, err);
	if (x < 0)
		return x;
	hasher_digest(h, &got);
	if (!streq(got.text, d->digest.text))
		return err_set(err, ERR_DATA_LOSS, "the registry gave %s for %s", got.text,
			       d->digest.text);
	return 0;
}
