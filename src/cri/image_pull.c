/* SPDX-License-Identifier: Apache-2.0 */
/* PullImage: the transfer service's pull, in the kubelet's words.
 *
 * An image gets three names: what was asked for (a tag or a digest), its digest in the repository,
 * and the id. A pull that makes no progress for the configured time is given up by a timer on the
 * loop, which holds no thread. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "core/event.h"
#include "core/image.h"
#include "core/lease.h"
#include "core/snapshot.h"
#include "cri/image.h"
#include "cri/timers.h"
#include "event/loop.h"
#include "oci/manifest.h"
#include "oci/platform.h"
#include "oci/reference.h"
#include "plugins/transfer/transfer.h"

#define LOOK_NS (1 * NSEC_PER_SEC)
#define AUTH_MAX 8192

/* ---- giving up ---- */

/* Two hold it: the pull, and the loop with its timer. */
struct watchdog {
	struct loop *loop;
	struct loop_source *timer;
	atomic_int refs;
	atomic_llong progress; /* monotonic ns of the last one */
	int64_t limit_ns;
	atomic_bool done, expired;
	atomic_bool *canceled; /* of the pull's ctx; not after @done */
	pthread_mutex_t lock;  /* guards the use of @canceled */
};

static void watchdog_unref(struct watchdog *w)
{
	if (atomic_fetch_sub(&w->refs, 1) != 1)
		return;
	pthread_mutex_destroy(&w->lock);
	free(w);
}

/* On the loop, once: the end of the pull, or the expiry. */
static void drop(void *arg)
{
	struct watchdog *w = arg;

	loop_source_free(w->timer);
	w->timer = NULL;
	watchdog_unref(w);
}

static void look(void *arg)
{
	struct watchdog *w = arg;
	int64_t now = time_mono();

	pthread_mutex_lock(&w->lock);
	if (!w->done && now - w->progress > w->limit_ns) {
		w->expired = true;
		*w->canceled = true;
	} else
		loop_timer_set(w->timer, now + LOOK_NS);
	pthread_mutex_unlock(&w->lock);
}

static void begin_watch(void *arg)
{
	struct watchdog *w = arg;

	if (loop_add_timer(w->loop, time_mono() + LOOK_NS, look, w, &w->timer) < 0)
		w->timer = NULL;
}

/* NULL: none is wanted, or there is no memory for one. */
static struct watchdog *watchdog_new(struct cri *c, struct ctx *pull)
{
	struct watchdog *w;

	if (c->config->image_pull_progress_timeout_ns <= 0 || !(w = calloc(1, sizeof(*w))))
		return NULL;
	w->loop = c->o.loop;
	w->refs = 2;
	w->progress = time_mono();
	w->limit_ns = c->config->image_pull_progress_timeout_ns;
	w->canceled = &pull->canceled;
	pthread_mutex_init(&w->lock, NULL);
	if (loop_post(c->o.loop, begin_watch, w) < 0)
		w->limit_ns = INT64_MAX;
	return w;
}

/* Its timer goes with it, by the loop. */
static bool watchdog_end(struct watchdog *w)
{
	if (!w)
		return false;
	pthread_mutex_lock(&w->lock);
	w->done = true;
	pthread_mutex_unlock(&w->lock);
	bool expired = w->expired;
	if (loop_post(w->loop, drop, w) == 0)
		watchdog_unref(w);
	return expired;
}

struct progress {
	struct watchdog *w; /* NULL = none */
	uint64_t bytes;	    /* of blobs that were fetched */
};

static void on_progress(void *arg, const struct transfer_progress *p)
{
	struct progress *s = arg;

	if (s->w)
		s->w->progress = time_mono();
	if (streq(p->event, "complete") && p->progress > 0)
		s->bytes += (uint64_t)p->progress;
}

/* ---- credentials ---- */

struct auth {
	struct ctx *ctx;
	struct cri *c;
	const CRI(AuthConfig) * request;
	pthread_mutex_t lock; /* guards the arena below: hosts may ask at the same time */
	struct arena *arena;
};

static int sextet(char ch)
{
	return ch >= 'A' && ch <= 'Z'	? ch - 'A'
	       : ch >= 'a' && ch <= 'z' ? ch - 'a' + 26
	       : ch >= '0' && ch <= '9' ? ch - '0' + 52
	       : ch == '+' || ch == '-' ? 62
	       : ch == '/' || ch == '_' ? 63
					: -1;
}

/* base64 of user:password; NULs at the end are dropped. */
static int split_auth(struct arena *a, const char *text, const char **ret_user,
		      const char **ret_secret, struct err *err)
{
	size_t n = strlen(text), out = 0;
	char *p = n <= AUTH_MAX ? arena_alloc(a, n + 1) : NULL;
	uint32_t v = 0;
	int bits = 0;

	if (!p)
		return err_set(err, ERR_INVALID_ARGUMENT, "credentials: auth is too long");
	for (size_t i = 0; i < n && text[i] != '='; i++) {
		int d = sextet(text[i]);
		if (d < 0)
			return err_set(err, ERR_INVALID_ARGUMENT, "credentials: auth is no base64");
		v = v << 6 | (uint32_t)d;
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			p[out++] = (char)(v >> bits & 0xff);
		}
	}
	p[out] = 0;
	char *colon = strchr(p, ':');
	if (!colon)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "credentials: auth is not of the form user:password");
	*colon = 0;
	*ret_user = p;
	*ret_secret = colon + 1;
	return 0;
}

static const char *host_part(struct arena *a, const char *address)
{
	const char *p = strstr(address, "://");
	p = p ? p + 3 : address;
	return arena_strndup(a, p, strcspn(p, "/"));
}

/* The same registry by its two names. */
static bool same_host(const char *a, const char *b)
{
	static const char *const docker[] = {"docker.io", "index.docker.io",
					     "registry-1.docker.io"};
	bool x = false, y = false;

	for (size_t i = 0; i < ARRAY_LEN(docker); i++) {
		x = x || streq(a, docker[i]);
		y = y || streq(b, docker[i]);
	}
	return streq(a, b) || (x && y);
}

static int fill(struct arena *a, const char *user, const char *password, const char *auth,
		const char *token, struct fetch_auth *ret, struct err *err)
{
	*ret = (struct fetch_auth){.type = FETCH_AUTH_NONE};
	if (!str_empty(user))
		*ret = (struct fetch_auth){FETCH_AUTH_CREDENTIALS, user, password};
	else if (!str_empty(token))
		*ret = (struct fetch_auth){FETCH_AUTH_REFRESH, "", token};
	else if (!str_empty(auth)) {
		int r = split_auth(a, auth, &ret->username, &ret->secret, err);
		if (r < 0)
			return r;
		ret->type = FETCH_AUTH_CREDENTIALS;
	}
	return 0;
}

static int credentials(void *arg, const char *host, const char *const *challenges,
		       struct fetch_auth *ret, struct err *err)
{
	struct auth *u = arg;
	const CRI(AuthConfig) *q = u->request;
	MUTEX_GUARD(&u->lock);

	*ret = (struct fetch_auth){.type = FETCH_AUTH_NONE};
	if (q) {
		const char *server = str_empty(q->server_address)
					     ? host
					     : host_part(u->arena, q->server_address);
		if (!server)
			return err_nomem(err);
		return same_host(server, host) ? fill(u->arena, q->username, q->password, q->auth,
						      q->identity_token, ret, err)
					       : 0;
	}
	for (size_t i = 0; i < u->c->config->n_auths; i++) {
		const struct cri_registry_auth *k = &u->c->config->auths[i];
		if (same_host(k->host, host))
			return fill(u->arena, k->username, k->password, k->auth, k->identity_token,
				    ret, err);
	}
	return 0;
}

/* ---- the pull ---- */

static int labels_of(struct ctx *ctx, struct cri *c, const char *ref, struct labels *ret,
		     struct err *err)
{
	bool pinned = false;

	for (size_t i = 0; i < c->config->pinned_images.n; i++) {
		char *name;
		if (reference_normalize(ctx->arena, c->config->pinned_images.v[i].value, &name,
					NULL) == 0)
			pinned = pinned || streq(name, ref);
	}
	*ret = (struct labels){0};
	return labels_set(ctx->arena, ret, CRI_LABEL_IMAGE, "managed") < 0 ||
			       (pinned &&
				labels_set(ctx->arena, ret, CRI_LABEL_PINNED, "pinned") < 0)
		       ? err_nomem(err)
		       : 0;
}

static bool has_labels(const struct image *i, const struct labels *labels)
{
	for (size_t k = 0; k < labels->n; k++) {
		const char *v = labels_get(&i->labels, labels->v[k].key);
		if (!v || !streq(v, labels->v[k].value))
			return false;
	}
	return true;
}

/* Points a record that exists to @i's target and gives it @i's labels; others of its labels stay.
 * -ERR_NOT_FOUND */
static int rename_image(struct ctx *ctx, struct cri *c, const struct image *i, struct err *err)
{
	Containerd__Services__Images__V1__ImageUpdate moved =
		CONTAINERD__SERVICES__IMAGES__V1__IMAGE_UPDATE__INIT;
	char **paths = arena_new_array(ctx->arena, char *, i->labels.n + 1);
	struct image ret;
	size_t n = 0;
	int r = image_get(ctx, c->o.db, i->name, &ret, err);

	if (r < 0 || (has_labels(&ret, &i->labels) && streq(ret.target.digest, i->target.digest)))
		return r;
	if (!paths)
		return err_nomem(err);
	paths[n++] = (char *)"target";
	for (size_t k = 0; k < i->labels.n; k++)
		if (!(paths[n++] = arena_printf(ctx->arena, "labels.%s", i->labels.v[k].key)))
			return err_nomem(err);
	r = image_update(ctx, c->o.db, i, paths, n, (struct timespec){0}, &ret, err);
	moved.name = (char *)i->name;
	return r < 0 ? r : event_publish(ctx, c->o.events, "/images/update", &moved.base, err);
}

/* A further name of the image, new or moved. */
static int name_image(struct ctx *ctx, struct cri *c, const char *name,
		      const struct descriptor *target, const struct labels *labels, struct err *err)
{
	Containerd__Services__Images__V1__ImageCreate made =
		CONTAINERD__SERVICES__IMAGES__V1__IMAGE_CREATE__INIT;
	struct image i = {.name = name, .labels = *labels, .target = *target}, ret;
	struct err own = ERR_INIT;
	int r = image_create(ctx, c->o.db, &i, (struct timespec){0}, &ret, &own);

	made.name = (char *)name;
	if (r == 0)
		return event_publish(ctx, c->o.events, "/images/create", &made.base, err);
	if (r != -ERR_ALREADY_EXISTS)
		return err_copy(err, &own);
	return rename_image(ctx, c, &i, err);
}

int cri_image_adopt(struct ctx *ctx, struct cri *c, const struct image *img, struct err *err)
{
	struct image mine = *img;
	struct err own = ERR_INIT;
	struct cri_image i;
	int r = labels_of(ctx, c, img->name, &mine.labels, err);

	if (r < 0 || has_labels(img, &mine.labels))
		return r;
	r = cri_image_resolve(ctx, c->images, img->name, &i, NULL, &own);
	if (r < 0)
		return r == -ERR_NOT_FOUND ? 0 : err_copy(err, &own);
	/* The id first: who sees the label relies on it. */
	r = name_image(ctx, c, i.id, &i.target, &mine.labels, err);
	if (r == 0)
		r = cri_image_refresh(ctx, c->images, i.id, err);
	if (r < 0)
		return r;
	r = rename_image(ctx, c, &mine, &own);
	return r == -ERR_NOT_FOUND ? 0 : r < 0 ? err_copy(err, &own) : 0; /* it may be gone again */
}

static int name_all(struct ctx *ctx, struct cri *c, const char *ref, const char **ret_id,
		    struct err *err)
{
	struct cri_image i;
	struct reference parts;
	struct labels labels;
	int r = cri_image_refresh(ctx, c->images, ref, err);

	if (r == 0)
		r = cri_image_resolve(ctx, c->images, ref, &i, NULL, err);
	if (r == 0)
		r = reference_parse(ctx->arena, ref, &parts, err);
	if (r == 0)
		r = labels_of(ctx, c, ref, &labels, err);
	if (r < 0)
		return r;
	char *digest = arena_printf(ctx->arena, "%s@%s", parts.locator, i.target.digest);
	if (!digest)
		return err_nomem(err);
	r = name_image(ctx, c, ref, &i.target, &labels, err);
	if (r == 0)
		r = name_image(ctx, c, digest, &i.target, &labels, err);
	if (r == 0)
		r = name_image(ctx, c, i.id, &i.target, &labels, err);
	if (r == 0)
		r = cri_image_refresh(ctx, c->images, ref, err);
	if (r == 0)
		r = cri_image_refresh(ctx, c->images, digest, err);
	if (r == 0)
		r = cri_image_refresh(ctx, c->images, i.id, err);
	*ret_id = i.id;
	return r;
}

/* Of every request, whatever the host. Several values of one header are one list. */
static int headers_of(struct ctx *ctx, const struct cri_config *c, struct labels *ret,
		      struct err *err)
{
	for (size_t i = 0; i < c->n_headers; i++) {
		const char *text = NULL;
		for (const char *const *v = c->headers[i].values; *v; v++) {
			text = text ? arena_printf(ctx->arena, "%s, %s", text, *v) : *v;
			if (!text)
				return err_nomem(err);
		}
		if (text && labels_set(ctx->arena, ret, c->headers[i].name, text) < 0)
			return err_nomem(err);
	}
	return 0;
}

static int pull_image(struct ctx *ctx, struct cri *c, const struct cri_pull *p, const char **ret_id,
		      uint64_t *bytes, struct err *err)
{
	_cleanup_arena_ struct arena *a = arena_new(1 << 20);
	struct ctx pull = {.arena = ctx->arena,
			   .ns = CRI_NS,
			   .lease = ctx->lease,
			   .deadline = ctx->deadline,
			   .parent = ctx};
	struct auth auth = {.ctx = ctx, .c = c, .request = p->auth, .arena = a};
	struct transfer_unpack unpack = {.snapshotter = p->snapshotter};
	struct transfer_store to = {
		.name = p->ref,
		.unpacks = &unpack,
		.n_unpacks = 1,
		.max_downloads = (int)MIN(c->config->max_concurrent_downloads, (int64_t)64),
		.sync_fs = c->config->image_pull_with_sync_fs,
		.no_decryption = c->config->no_decryption};
	struct transfer_registry from = {
		.reference = p->ref,
		.host_dir = str_or(c->registry_dir, str_or(c->config->registry_config_path, "")),
		.default_scheme = "",
		.auth = credentials,
		.auth_arg = &auth};
	struct platform host;
	if (!a || platform_host(ctx->arena, &host) < 0)
		return err_nomem(err);
	to.platforms = &host;
	to.n_platforms = 1;
	unpack.platform = host;
	int r = labels_of(ctx, c, p->ref, &to.labels, err);
	if (r == 0)
		r = headers_of(ctx, c->config, &from.headers, err);
	if (r < 0)
		return r;
	pthread_mutex_init(&auth.lock, NULL);
	struct watchdog *w = watchdog_new(c, &pull);
	struct progress seen = {.w = w};
	struct transfer_watch watch = {.fn = on_progress, .arg = &seen};
	r = transfer_pull(&pull, c->o.transfer, &from, &to, &watch, err);
	*bytes = seen.bytes;
	if (watchdog_end(w) && r < 0)
		r = err_set(err, ERR_DEADLINE_EXCEEDED,
			    "no progress for longer than image_pull_progress_timeout");
	pthread_mutex_destroy(&auth.lock);
	if (r == 0)
		r = name_all(ctx, c, p->ref, ret_id, err);
	return r < 0 ? err_prefix(err, "failed to pull image \"%s\"", p->ref) : 0;
}

int cri_image_pull(struct ctx *ctx, struct cri *c, const struct cri_pull *p, const char **ret_id,
		   struct err *err)
{
	int64_t begin = time_mono();
	uint64_t bytes = 0;

	cri_count_pull_begin(c);
	int r = pull_image(ctx, c, p, ret_id, &bytes, err);
	cri_count_pull_end(c, begin, bytes, r < 0);
	return r;
}

int cri_image_ensure(struct ctx *ctx, struct cri *c, const char *ref, const char *snapshotter,
		     struct cri_image *ret, json_t **ret_spec, struct err *err)
{
	struct err own = ERR_INIT;
	const char *id;
	char *name;
	int r = cri_image_resolve(ctx, c->images, ref, ret, ret_spec, &own);

	if (r != -ERR_NOT_FOUND)
		return r < 0 ? err_copy(err, &own) : 0;
	r = reference_normalize(ctx->arena, ref, &name, err);
	if (r < 0)
		return r;
	struct cri_pull p = {.ref = name, .snapshotter = snapshotter};
	r = cri_image_pull(ctx, c, &p, &id, err);
	return r < 0 ? r : cri_image_resolve(ctx, c->images, id, ret, ret_spec, err);
}

int cri_image_unpack(struct ctx *ctx, struct cri *c, const struct cri_image *i,
		     const char *snapshotter, const char **ret_chain, struct err *err)
{
	struct snapshot_info info;
	struct err own = ERR_INIT;
	int r = str_empty(i->chain_id)
			? 0
			: snapshot_stat(ctx, c->o.db, snapshotter, i->chain_id, &info, &own);

	*ret_chain = i->chain_id;
	if (r < 0 && r != -ERR_NOT_FOUND)
		return err_copy(err, &own);
	if (r < 0) {
		struct manifest m;
		r = cri_image_manifest(ctx, c, &i->target, &m, err);
		if (r == 0)
			r = transfer_unpack_manifest(ctx, c->o.transfer, &m, snapshotter,
						     c->config->no_decryption, err);
	}
	return r < 0 ? err_prefix(err, "unpack image %s for %s", i->id, snapshotter) : 0;
}

/* ---- the call ---- */

static const char *handler_name(const CRI(PullImageRequest) * q)
{
	const CRI(PodSandboxConfig) *p = q->sandbox_config;

	if (!str_empty(q->image->runtime_handler))
		return q->image->runtime_handler;
	for (size_t i = 0; p && i < p->n_annotations; i++)
		if (streq(p->annotations[i]->key, "io.containerd.cri.runtime-handler"))
			return p->annotations[i]->value;
	return "";
}

static bool auth_given(const CRI(AuthConfig) * a)
{
	return a && (!str_empty(a->username) || !str_empty(a->auth) ||
		     !str_empty(a->identity_token) || !str_empty(a->server_address));
}

int cri_pull_image(struct rpc_call *call, const void *req, struct err *err)
{
	const CRI(PullImageRequest) *q = req;
	CRI(PullImageResponse) resp = CRI_INIT(PULL_IMAGE_RESPONSE);
	struct ctx *ctx = rpc_ctx(call);
	struct cri_pull p = {0};
	const char *id;
	struct cri *c;
	char *ref;
	int r = cri_of(call, &c, err);

	if (r == 0 && (!q->image || str_empty(q->image->image)))
		return err_set(err, ERR_UNKNOWN, "image reference must not be empty");
	if (r == 0) {
		r = reference_normalize(ctx->arena, q->image->image, &ref, err);
		if (r < 0)
			err_prefix(err, "failed to parse image reference \"%s\"", q->image->image);
		r = cri_unknown(r, err);
	}
	if (r < 0)
		return r;
	const struct cri_handler *h = cri_config_handler(c->config, handler_name(q));
	if (!h && !str_empty(q->image->runtime_handler))
		return err_set(err, ERR_INVALID_ARGUMENT, "unknown runtime handler \"%s\"",
			       q->image->runtime_handler);
	p.ref = ref;
	p.snapshotter = cri_config_snapshotter(c->config, h);
	p.auth = auth_given(q->auth) ? q->auth : NULL;
	r = cri_image_pull(ctx, c, &p, &id, err);
	if (r < 0)
		return r;
	resp.image_ref = (char *)id;
	return rpc_send(call, &resp.base, err);
}
