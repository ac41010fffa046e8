/* SPDX-License-Identifier: Apache-2.0 */
/* Who needs what: the references that the daemon's garbage collection follows, seen from outside.
 *
 * Images name their target, containers their snapshot, leases their resources; the labels
 * containerd.io/gc.ref.content... and gc.ref.snapshot.<snapshotter>... of all of them, and of blobs
 * and snapshots, name the rest. */
#include "ctr/disk.h"

#include "rpc/rpc.h"

#define REF_CONTENT "containerd.io/gc.ref.content"
#define REF_SNAPSHOT "containerd.io/gc.ref.snapshot."
#define DEPTH_MAX 64

/* ---- Blobs ---- */

static int compare_blobs(const void *a, const void *b)
{
	return strcmp(((const struct disk_blob *)a)->digest, ((const struct disk_blob *)b)->digest);
}

static struct disk_blob *find_blob(const struct disk *d, const char *digest)
{
	const struct disk_blob key = {.digest = digest};

	return d->n_blobs ? bsearch(&key, d->blobs, d->n_blobs, sizeof(key), compare_blobs) : NULL;
}

static int load_blobs(struct ctr *c, struct disk *d, struct err *err)
{
	PB_CONTENT(ListContentRequest) req = PB_CONTENT_INIT(LIST_CONTENT_REQUEST);
	struct rpc_stream *s _cleanup_(rpc_stream_freep) = NULL;
	PB_CONTENT(ListContentResponse) * m;
	size_t cap = 0;
	int r;

	r = client_stream(c->client, &c->ctx, PB_CONTENT_SERVICE, "List", &req.base, &s, err);
	if (r < 0)
		return r;
	while ((r = rpc_stream_recv(
			s, c->ctx.arena,
			&containerd__services__content__v1__list_content_response__descriptor, &m,
			err)) > 0) {
		d->blobs = arena_grow(c->ctx.arena, d->blobs, &cap, d->n_blobs + m->n_info + 1,
				      sizeof(*d->blobs));
		if (!d->blobs)
			return err_nomem(err);
		for (size_t i = 0; i < m->n_info; i++)
			d->blobs[d->n_blobs++] = (struct disk_blob){.digest = m->info[i]->digest,
								    .size = m->info[i]->size,
								    .info = m->info[i]};
	}
	if (d->n_blobs)
		qsort(d->blobs, d->n_blobs, sizeof(*d->blobs), compare_blobs);
	return r;
}

static void mark_blob(const struct disk *d, const char *digest, bool used, int depth)
{
	struct disk_blob *b = find_blob(d, digest);

	if (!b || depth > DEPTH_MAX || (b->of_image && (b->of_used || !used)))
		return;
	b->of_image = true;
	b->of_used |= used;
	for (size_t i = 0; i < b->info->n_labels; i++)
		if (str_has_prefix(b->info->labels[i]->key, REF_CONTENT))
			mark_blob(d, b->info->labels[i]->value, used, depth + 1);
}

/* ---- The records ---- */

static int load_images(struct ctr *c, struct disk *d, struct err *err)
{
	PB_IMAGES(ListImagesRequest) req = PB_IMAGES_INIT(LIST_IMAGES_REQUEST);
	PB_IMAGES(ListImagesResponse) * resp;
	int r;

	r = client_call(c->client, &c->ctx, PB_IMAGES_SERVICE, "List", &req.base, &resp, err);
	if (r < 0)
		return r;
	d->images = resp->images;
	d->n_images = resp->n_images;
	return 0;
}

static int load_containers(struct ctr *c, struct disk *d, struct err *err)
{
	PB_CONTAINERS(ListContainersRequest) req = PB_CONTAINERS_INIT(LIST_CONTAINERS_REQUEST);
	PB_CONTAINERS(ListContainersResponse) * resp;
	int r;

	r = client_call(c->client, &c->ctx, PB_CONTAINERS_SERVICE, "List", &req.base, &resp, err);
	if (r < 0)
		return r;
	d->containers = resp->containers;
	d->n_containers = resp->n_containers;
	return 0;
}

static int load_leases(struct ctr *c, struct disk *d, struct err *err)
{
	PB_LEASES(ListRequest) req = PB_LEASES_INIT(LIST_REQUEST);
	PB_LEASES(ListResponse) * resp;
	int r;

	r = client_call(c->client, &c->ctx, PB_LEASES_SERVICE, "List", &req.base, &resp, err);
	if (r < 0)
		return r;
	d->leases = resp->leases;
	d->n_leases = resp->n_leases;
	return 0;
}

bool disk_image_used(const struct disk *d, const PB_IMAGES(Image) * image)
{
	for (size_t i = 0; i < d->n_containers; i++)
		if (streq(d->containers[i]->image, image->name))
			return true;
	return false;
}

int disk_load(struct ctr *c, struct disk *ret, struct err *err)
{
	struct disk d = {};
	int r;

	/* Containers after images: one that is made in between has its image spared. */
	r = ctr_connect(c, err);
	if (r == 0)
		r = load_images(c, &d, err);
	if (r == 0)
		r = load_blobs(c, &d, err);
	if (r == 0)
		r = load_leases(c, &d, err);
	if (r == 0)
		r = load_containers(c, &d, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < d.n_images; i++)
		if (d.images[i]->target)
			mark_blob(&d, d.images[i]->target->digest, disk_image_used(&d, d.images[i]),
				  0);
	*ret = d;
	return 0;
}

/* ---- Snapshots ---- */

static int compare_snapshots(const void *a, const void *b)
{
	return strcmp(((const struct disk_snapshot *)a)->info->name,
		      ((const struct disk_snapshot *)b)->info->name);
}

static struct disk_snapshot *find_snapshot(const struct disk_snapshots *s, const char *key)
{
	PB_SNAPSHOTS(Info) info = {.name = (char *)key};
	const struct disk_snapshot k = {.info = &info};

	return s->n ? bsearch(&k, s->v, s->n, sizeof(k), compare_snapshots) : NULL;
}

static void mark_labels(const struct disk_snapshots *s, struct pb_label *const *v, size_t n);

/* The snapshot, what it stands on, and what their labels name. */
static void mark_snapshot(const struct disk_snapshots *s, const char *key, bool container)
{
	for (struct disk_snapshot *k = find_snapshot(s, key); k; k = k->parent) {
		if (k->needed && (k->of_container || !container))
			return;
		k->of_container |= container;
		if (k->needed)
			continue;
		k->needed = true;
		mark_labels(s, (struct pb_label *const *)k->info->labels, k->info->n_labels);
	}
}

/* gc.ref.snapshot.<snapshotter>, maybe with ".x" or "/x" behind. */
static void mark_labels(const struct disk_snapshots *s, struct pb_label *const *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const char *rest = str_skip(v[i]->key, REF_SNAPSHOT);

		rest = rest ? str_skip(rest, s->snapshotter) : NULL;
		if (rest && (!*rest || *rest == '.' || *rest == '/'))
			mark_snapshot(s, v[i]->value, false);
	}
}

#define MARK_LABELS(s, m) mark_labels(s, (struct pb_label *const *)(m)->labels, (m)->n_labels)

static int mark_leased(struct ctr *c, const struct disk *d, const struct disk_snapshots *s,
		       struct err *err)
{
	for (size_t i = 0; i < d->n_leases; i++) {
		PB_LEASES(ListResourcesRequest) req = PB_LEASES_INIT(LIST_RESOURCES_REQUEST);
		PB_LEASES(ListResourcesResponse) * resp;
		struct err e = ERR_INIT;
		int r;

		MARK_LABELS(s, d->leases[i]);
		req.id = d->leases[i]->id;
		r = client_call(c->client, &c->ctx, PB_LEASES_SERVICE, "ListResources", &req.base,
				&resp, &e);
		if (r == -ERR_NOT_FOUND)
			continue; /* ended meanwhile */
		if (r < 0)
			return err_copy(err, &e);
		for (size_t k = 0; k < resp->n_resources; k++) {
			const char *type = str_skip(resp->resources[k]->type, "snapshots/");

			if (type && streq(type, s->snapshotter))
				mark_snapshot(s, resp->resources[k]->id, false);
		}
	}
	return 0;
}

int disk_load_snapshots(struct ctr *c, const struct disk *d, const char *snapshotter,
			struct disk_snapshots *ret, struct err *err)
{
	struct disk_snapshots s = {.snapshotter = snapshotter};
	struct snapshots all;
	int r;

	r = snapshots_list(c, snapshotter, &all, err);
	if (r < 0)
		return r;
	s.v = arena_new_array(c->ctx.arena, struct disk_snapshot, all.n + 1);
	if (!s.v)
		return err_nomem(err);
	for (; s.n < all.n; s.n++)
		s.v[s.n].info = all.v[s.n];
	if (s.n)
		qsort(s.v, s.n, sizeof(*s.v), compare_snapshots);
	for (size_t i = 0; i < s.n; i++)
		s.v[i].parent =
			*s.v[i].info->parent ? find_snapshot(&s, s.v[i].info->parent) : NULL;
	for (size_t i = 0; i < s.n; i++)
		for (const struct disk_snapshot *p = s.v[i].parent; p && s.v[i].depth < s.n;
		     p = p->parent)
			s.v[i].depth++;
	for (size_t i = 0; i < d->n_containers; i++) {
		MARK_LABELS(&s, d->containers[i]);
		if (streq(d->containers[i]->snapshotter, snapshotter))
			mark_snapshot(&s, d->containers[i]->snapshot_key, true);
	}
	for (size_t i = 0; i < d->n_images; i++)
		MARK_LABELS(&s, d->images[i]);
	for (size_t i = 0; i < d->n_blobs; i++)
		MARK_LABELS(&s, d->blobs[i].info);
	r = mark_leased(c, d, &s, err);
	if (r < 0)
		return r;
	*ret = s;
	return 0;
}

int disk_snapshotters(struct ctr *c, const char ***ret, size_t *ret_n, struct err *err)
{
	PB_INTROSPECTION(PluginsRequest) req = PB_INTROSPECTION_INIT(PLUGINS_REQUEST);
	char *filter = (char *)"type==io.containerd.snapshotter.v1";
	PB_INTROSPECTION(PluginsResponse) * resp;
	const char **v;
	size_t n = 0;
	int r;

	req.filters = &filter;
	req.n_filters = 1;
	r = client_call(c->client, &c->ctx, PB_INTROSPECTION_SERVICE, "Plugins", &req.base, &resp,
			err);
	if (r < 0)
		return r;
	v = arena_new_array(c->ctx.arena, const char *, resp->n_plugins + 1);
	if (!v)
		return err_nomem(err);
	for (size_t i = 0; i < resp->n_plugins; i++)
		if (!resp->plugins[i]->init_err)
			v[n++] = resp->plugins[i]->id;
	*ret = v;
	*ret_n = n;
	return 0;
}
