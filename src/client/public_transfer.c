/* SPDX-License-Identifier: Apache-2.0 */
/* The public interface: pull, import, export. */
#include "client/public.h"

#include <string.h>

#include "base/str.h"
#include "client/transfer.h"
#include "oci/platform.h"
#include "oci/reference.h"

struct watcher {
	containerd_progress_fn fn;
	void *arg;
};

static int tell(void *arg, const PB_TRANSFER_TYPES(Progress) * m)
{
	const struct watcher *w = arg;
	struct containerd_progress p = {.event = m->event,
					.name = m->name,
					.parent = m->n_parents ? m->parents[0] : "",
					.progress = m->progress,
					.total = m->total};

	return w->fn(w->arg, &p) ? -1 : 0;
}

static int run(struct call *k, struct client_transfer *t, const ProtobufCMessage *from,
	       const ProtobufCMessage *to, containerd_progress_fn fn, void *arg)
{
	struct watcher w = {fn, arg};
	struct client_transfer_view view = {.event = tell, .arg = &w};

	return client_transfer_run(t, from, to, fn ? &view : NULL, &k->err);
}

/* @text "" = this host's. */
static int make_platform(struct call *k, const char *text, PB_TYPES(Platform) * **ret)
{
	PB_TYPES(Platform) **v = arena_new_array(k->ctx.arena, PB_TYPES(Platform) *, 1);
	struct platform p;
	int r;

	if (*text)
		r = platform_parse(k->ctx.arena, text, &p, &k->err);
	else
		r = platform_host(k->ctx.arena, &p) < 0 ? err_nomem(&k->err) : 0;
	if (r < 0)
		return r;
	if (v)
		v[0] = arena_new_obj(k->ctx.arena, PB_TYPES(Platform));
	if (!v || !v[0])
		return err_nomem(&k->err);
	containerd__types__platform__init(v[0]);
	v[0]->os = (char *)p.os;
	v[0]->architecture = (char *)p.arch;
	v[0]->variant = (char *)p.variant;
	v[0]->os_version = (char *)p.os_version;
	*ret = v;
	return 0;
}

static int add_unpack(struct call *k, PB_TRANSFER_TYPES(ImageStore) * store,
		      PB_TYPES(Platform) * platform, const char *snapshotter)
{
	PB_TRANSFER_TYPES(UnpackConfiguration) *u =
		arena_new_obj(k->ctx.arena, PB_TRANSFER_TYPES(UnpackConfiguration));
	int r = choose_snapshotter(k, snapshotter, &snapshotter);

	if (r < 0)
		return r;
	store->unpacks = arena_new_array(k->ctx.arena, PB_TRANSFER_TYPES(UnpackConfiguration) *, 1);
	if (!u || !store->unpacks)
		return err_nomem(&k->err);
	containerd__types__transfer__unpack_configuration__init(u);
	u->platform = platform;
	u->snapshotter = (char *)snapshotter;
	store->unpacks[store->n_unpacks++] = u;
	return 0;
}

/* ---- Pull ---- */

static int fill_store(struct call *k, const struct containerd_pull_options *o,
		      PB_TRANSFER_TYPES(ImageStore) * store)
{
	PB_TYPES(Platform) * *platforms;
	struct labels l;
	int r;

	r = labels_from_public(k->ctx.arena, o->labels, o->n_labels, &l, &k->err);
	if (r < 0)
		return r;
	if (PB_LABELS_OUT(k->ctx.arena, &l,
			  &containerd__types__transfer__image_store__labels_entry__descriptor,
			  store->labels, store->n_labels) < 0)
		return err_nomem(&k->err);
	r = make_platform(k, text_or_empty(o->platform), &platforms);
	if (r == 0 && !o->no_unpack)
		r = add_unpack(k, store, platforms[0], o->snapshotter);
	if (r == 0 && !o->all_platforms) {
		store->platforms = platforms;
		store->n_platforms = 1;
	}
	store->all_metadata = true;
	return r;
}

struct pull {
	const struct containerd_pull_options *o;
	const char *reference;
};

/* Only for what they were given for. */
static int credentials(void *arg, struct arena *a, const char *host, const char *reference,
		       struct client_auth *ret, struct err *err)
{
	const struct pull *p = arg;
	bool token = p->o->identity_token != NULL;

	if ((!token && !p->o->username) || (*reference && !streq(reference, p->reference)))
		return err_set(err, ERR_NOT_FOUND, "credentials");
	*ret = (struct client_auth){
		.username = token ? "" : p->o->username,
		.secret = token ? p->o->identity_token : text_or_empty(p->o->password),
		.token = token,
	};
	return 0;
}

static int pull(struct call *k, const struct pull *p)
{
	PB_TRANSFER_TYPES(RegistryResolver) resolver = PB_TRANSFER_TYPES_INIT(REGISTRY_RESOLVER);
	PB_TRANSFER_TYPES(ImageStore) store = PB_TRANSFER_TYPES_INIT(IMAGE_STORE);
	PB_TRANSFER_TYPES(OCIRegistry) registry = PB_TRANSFER_TYPES_INIT(OCIREGISTRY);
	struct client_transfer *t _cleanup_(client_transfer_freep) = NULL;
	struct reference ref;
	const char *id;
	int r;

	r = reference_parse(k->ctx.arena, p->reference, &ref, &k->err);
	if (r == 0)
		r = client_transfer_new(k->client, &k->ctx, &t, &k->err);
	if (r == 0)
		r = fill_store(k, p->o, &store);
	if (r == 0)
		r = client_transfer_add_auth(t, credentials, (void *)p, &id, &k->err);
	if (r < 0)
		return r;
	client_transfer_options(t)->max_concurrent_downloads = p->o->max_downloads;
	store.name = registry.reference = (char *)p->reference;
	registry.resolver = &resolver;
	resolver.auth_stream = (char *)id;
	resolver.host_dir = (char *)text_or_empty(p->o->hosts_dir);
	resolver.default_scheme = (char *)(p->o->plain_http ? "http" : "");
	return run(k, t, &registry.base, &store.base, p->o->progress, p->o->progress_arg);
}

int containerd_image_pull(struct containerd_client *client, const char *reference,
			  const struct containerd_pull_options *options,
			  const struct containerd_image **ret, struct containerd_error *error)
{
	struct containerd_pull_options o;
	struct call k _cleanup_call_ = {};
	int r = call_begin(&k, client);

	call_endless(&k);
	if (r == 0)
		r = OPTIONS_COPY(o, options, &k.err);
	if (r == 0)
		r = pull(&k, &(struct pull){&o, text_or_empty(reference)});
	if (r == 0 && ret)
		r = image_give(&k, reference, ret);
	return call_end(&k, r, error);
}

/* ---- Import ---- */

static int fill_import(struct call *k, const struct containerd_import_options *o,
		       PB_TRANSFER_TYPES(ImageStore) * store)
{
	PB_TRANSFER_TYPES(ImageReference) *ref =
		arena_new_obj(k->ctx.arena, PB_TRANSFER_TYPES(ImageReference));
	PB_TYPES(Platform) * *platforms;
	int r;

	store->extra_references =
		arena_new_array(k->ctx.arena, PB_TRANSFER_TYPES(ImageReference) *, 1);
	if (!ref || !store->extra_references)
		return err_nomem(&k->err);
	containerd__types__transfer__image_reference__init(ref);
	/* A name that is given says which images are meant; without one all are. */
	ref->allow_overwrite = !o->base_name;
	ref->name = (char *)(o->base_name ? o->base_name : "import");
	ref->is_prefix = true;
	store->extra_references[store->n_extra_references++] = ref;
	store->name = (char *)text_or_empty(o->index_name);
	r = make_platform(k, text_or_empty(o->platform), &platforms);
	if (r == 0 && !o->no_unpack)
		r = add_unpack(k, store, platforms[0], o->snapshotter);
	if (r == 0 && o->only_platform) {
		store->platforms = platforms;
		store->n_platforms = 1;
	}
	return r;
}

static int names_out(struct call *k, const struct labels *saved,
		     const struct containerd_texts **ret)
{
	struct containerd_texts *l = CALL_RESULT(k, struct containerd_texts);
	const char **v = arena_new_array(k->ctx.arena, const char *, saved->n + 1);

	if (!l || !v)
		return err_nomem(&k->err);
	for (size_t i = 0; i < saved->n; i++) {
		v[i] = arena_strdup(k->ctx.arena, saved->v[i].key);
		if (!v[i])
			return err_nomem(&k->err);
	}
	l->n = saved->n;
	l->v = v;
	call_give(k, l, ret);
	return 0;
}

static int import(struct call *k, int fd, const struct containerd_import_options *o,
		  const struct containerd_texts **ret)
{
	PB_TRANSFER_TYPES(ImageImportStream) from = PB_TRANSFER_TYPES_INIT(IMAGE_IMPORT_STREAM);
	PB_TRANSFER_TYPES(ImageStore) store = PB_TRANSFER_TYPES_INIT(IMAGE_STORE);
	struct client_transfer *t;
	const char *id;
	int r;

	r = client_transfer_new(k->client, &k->ctx, &t, &k->err);
	if (r < 0)
		return r;
	r = fill_import(k, o, &store);
	if (r == 0)
		r = client_transfer_add_source(t, fd, &id, &k->err);
	if (r == 0) {
		from.stream = (char *)id;
		r = run(k, t, &from.base, &store.base, o->progress, o->progress_arg);
	}
	if (r == 0)
		r = names_out(k, client_transfer_saved(t), ret);
	client_transfer_free(t);
	return r;
}

int containerd_image_import(struct containerd_client *client, int fd,
			    const struct containerd_import_options *options,
			    const struct containerd_texts **ret, struct containerd_error *error)
{
	struct containerd_import_options o;
	struct call k _cleanup_call_ = {};
	int r = call_begin(&k, client);

	call_endless(&k);
	if (r == 0)
		r = OPTIONS_COPY(o, options, &k.err);
	if (r == 0)
		r = import(&k, fd, &o, ret);
	return call_end(&k, r, error);
}

/* ---- Export ---- */

static int fill_export(struct call *k, const char *const *names, size_t n,
		       PB_TRANSFER_TYPES(ImageStore) * store)
{
	store->extra_references =
		arena_new_array(k->ctx.arena, PB_TRANSFER_TYPES(ImageReference) *, n + 1);
	for (size_t i = 0; store->extra_references && i < n; i++) {
		PB_TRANSFER_TYPES(ImageReference) *ref =
			arena_new_obj(k->ctx.arena, PB_TRANSFER_TYPES(ImageReference));

		if (!ref)
			return err_nomem(&k->err);
		containerd__types__transfer__image_reference__init(ref);
		ref->name = (char *)names[i];
		store->extra_references[store->n_extra_references++] = ref;
	}
	return store->extra_references ? 0 : err_nomem(&k->err);
}

static int export(struct call *k, int fd, const char *const *names, size_t n,
		  const struct containerd_export_options *o)
{
	PB_TRANSFER_TYPES(ImageExportStream) to = PB_TRANSFER_TYPES_INIT(IMAGE_EXPORT_STREAM);
	PB_TRANSFER_TYPES(ImageStore) store = PB_TRANSFER_TYPES_INIT(IMAGE_STORE);
	struct client_transfer *t _cleanup_(client_transfer_freep) = NULL;
	const char *id;
	int r;

	if (n == 0)
		return err_set(&k->err, ERR_INVALID_ARGUMENT, "no images are given");
	r = client_transfer_new(k->client, &k->ctx, &t, &k->err);
	if (r == 0)
		r = fill_export(k, names, n, &store);
	if (r == 0 && !o->all_platforms) {
		r = make_platform(k, text_or_empty(o->platform), &to.platforms);
		to.n_platforms = 1;
	}
	if (r == 0)
		r = client_transfer_add_sink(t, fd, &id, &k->err);
	if (r < 0)
		return r;
	to.stream = (char *)id;
	to.all_platforms = o->all_platforms != 0;
	return run(k, t, &store.base, &to.base, o->progress, o->progress_arg);
}

int containerd_image_export(struct containerd_client *client, int fd, const char *const *names,
			    size_t n_names, const struct containerd_export_options *options,
			    struct containerd_error *error)
{
	struct containerd_export_options o;
	struct call k _cleanup_call_ = {};
	int r = call_begin(&k, client);

	call_endless(&k);
	if (r == 0)
		r = OPTIONS_COPY(o, options, &k.err);
	if (r == 0)
		r = export(&k, fd, names, n_names, &o);
	return call_end(&k, r, error);
}
