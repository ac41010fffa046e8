/* SPDX-License-Identifier: Apache-2.0 */
/* containerd.services.transfer.v1.Transfer: source and destination are Anys, and the pair says what
 * is to be done. */
#include "plugins/transfer/transfer.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "core/lease.h"
#include "oci/platform.h"
#include "plugins/streaming/manager.h"
#include "services/pb.h"
#include "services/services.h"
#include "services/transfer_streams.h"

#define TR(x) Containerd__Types__Transfer__##x
#define DESC(x) containerd__types__transfer__##x##__descriptor

#define AUTH_MAX (1u << 20)
#define CHUNK (64u << 10)

/* One Transfer call. */
struct call {
	struct ctx *ctx;
	struct services *s;
	struct stream *progress;
	struct stream *auth;
	struct arena *auth_arena; /* of the answers: they are asked for on whatever thread needs
				     them, one at a time */
	const char *reference; /* of the registry's image: credentials may be for that one only */
	struct transfer_watch watch;
	const Containerd__Services__Transfer__V1__TransferOptions *options; /* or NULL */
};

static void call_done(struct call *c)
{
	stream_close(c->progress);
	stream_close(c->auth);
	arena_free(c->auth_arena);
}

static const char *type_of(const Google__Protobuf__Any *any)
{
	if (!any)
		return "";
	const char *slash = strrchr(any->type_url, '/');
	return slash ? slash + 1 : any->type_url;
}

/* ---- progress ---- */

static void progress(void *arg, const struct transfer_progress *p)
{
	struct call *c = arg;
	TR(Progress) m = CONTAINERD__TYPES__TRANSFER__PROGRESS__INIT;
	Containerd__Types__Descriptor d = CONTAINERD__TYPES__DESCRIPTOR__INIT;
	if (p->desc) {
		d.media_type = (char *)p->desc->media_type;
		d.digest = (char *)p->desc->digest;
		d.size = p->desc->size;
		m.desc = &d;
	}
	m.event = (char *)p->event;
	m.name = (char *)p->name;
	m.progress = p->progress;
	m.total = p->total;
	m.parents = (char **)p->parents;
	while (p->parents && p->parents[m.n_parents])
		m.n_parents++;
	/* One who has stopped looking does not stop the work. */
	(void)!stream_offer(c->progress, &m.base, NULL);
}

/* ---- credentials ---- */

static int ask(void *arg, const char *host, const char *const *challenges, struct fetch_auth *ret,
	       struct err *err)
{
	struct call *c = arg;
	TR(AuthRequest) req = CONTAINERD__TYPES__TRANSFER__AUTH_REQUEST__INIT;
	TR(AuthResponse) * resp;
	req.host = (char *)host;
	req.reference = (char *)c->reference;
	req.wwwauthenticate = (char **)challenges;
	while (challenges && challenges[req.n_wwwauthenticate])
		req.n_wwwauthenticate++;
	if (!c->auth_arena && !(c->auth_arena = arena_new(AUTH_MAX)))
		return err_nomem(err);
	int e = stream_send(c->auth, &req.base, err);
	if (e == 0)
		e = stream_recv(c->auth, c->auth_arena, &DESC(auth_response), &resp, err);
	if (e < 0)
		return err_prefix(err, "credentials for %s", host);
	if (e == 0) {
		*ret = (struct fetch_auth){.type = FETCH_AUTH_NONE};
		return 0;
	}
	static const enum fetch_auth_type types[] = {FETCH_AUTH_NONE, FETCH_AUTH_CREDENTIALS,
						     FETCH_AUTH_REFRESH, FETCH_AUTH_HEADER};
	if ((size_t)resp->authtype >= ARRAY_LEN(types))
		return err_set(err, ERR_INVALID_ARGUMENT, "credentials for %s: unknown type %d",
			       host, (int)resp->authtype);
	*ret = (struct fetch_auth){
		.type = types[resp->authtype], .username = resp->username, .secret = resp->secret};
	return 0;
}

/* What a client asked to see of its registry's answers goes to the daemon's log. */
static void http_line(void *arg, const char *line)
{
	log_info("registry: %s", line);
}

/* ---- what the messages say ---- */

static int registry_get(struct call *c, const Google__Protobuf__Any *any,
			struct transfer_registry *ret, struct err *err)
{
	TR(OCIRegistry) * m;
	struct transfer_registry r = {.host_dir = "", .default_scheme = ""};
	int e = rpc_unpack(c->ctx->arena, &DESC(ociregistry), any->value.data, any->value.len, &m,
			   err);
	if (e < 0)
		return e;
	r.reference = c->reference = m->reference;
	if (m->resolver) {
		r.host_dir = m->resolver->host_dir;
		r.default_scheme = m->resolver->default_scheme;
		if (m->resolver->http_debug != CONTAINERD__TYPES__TRANSFER__HTTPDEBUG__DISABLED)
			r.log = http_line;
		e = pb_labels_get(c->ctx->arena, m->resolver->headers, m->resolver->n_headers,
				  &r.headers, err);
		if (e == 0 && !str_empty(m->resolver->auth_stream)) {
			e = stream_get(c->ctx, c->s->streams, m->resolver->auth_stream, &c->auth,
				       err);
			if (e == 0)
				stream_bind(c->auth, c->ctx);
			r.auth = ask;
			r.auth_arg = c;
		}
	}
	if (e == 0)
		*ret = r;
	return e;
}

static int platform_get(struct ctx *ctx, const Containerd__Types__Platform *m, struct platform *ret,
			struct err *err)
{
	struct platform p = {"", "", "", ""};
	if (m)
		p = (struct platform){m->os, m->architecture, m->variant, m->os_version};
	if (str_empty(p.os) && str_empty(p.arch))
		return platform_host(ctx->arena, ret) < 0 ? err_nomem(err) : 0;
	return platform_normalize(ctx->arena, &p, ret) < 0 ? err_nomem(err) : 0;
}

static int platforms_get(struct ctx *ctx, Containerd__Types__Platform **v, size_t n,
			 const struct platform **ret, struct err *err)
{
	struct platform *p = arena_new_array(ctx->arena, struct platform, n + 1);
	if (!p)
		return err_nomem(err);
	for (size_t i = 0; i < n; i++) {
		int e = platform_get(ctx, v[i], &p[i], err);
		if (e < 0)
			return e;
	}
	*ret = p;
	return 0;
}

static int unpacks_get(struct ctx *ctx, const TR(ImageStore) * m, struct transfer_store *to,
		       struct err *err)
{
	struct transfer_unpack *u =
		arena_new_array(ctx->arena, struct transfer_unpack, m->n_unpacks + 1);
	if (!u)
		return err_nomem(err);
	for (size_t i = 0; i < m->n_unpacks; i++) {
		int e = platform_get(ctx, m->unpacks[i]->platform, &u[i].platform, err);
		if (e < 0)
			return e;
		u[i].snapshotter = m->unpacks[i]->snapshotter;
	}
	to->unpacks = u;
	to->n_unpacks = m->n_unpacks;
	return 0;
}

static int store_get(struct ctx *ctx, const Google__Protobuf__Any *any, struct transfer_store *ret,
		     struct err *err)
{
	TR(ImageStore) * m;
	struct transfer_store to = {0};
	int e = rpc_unpack(ctx->arena, &DESC(image_store), any->value.data, any->value.len, &m,
			   err);
	if (e == 0)
		e = pb_labels_get(ctx->arena, m->labels, m->n_labels, &to.labels, err);
	if (e == 0)
		e = platforms_get(ctx, m->platforms, m->n_platforms, &to.platforms, err);
	if (e == 0)
		e = unpacks_get(ctx, m, &to, err);
	if (e < 0)
		return e;
	struct transfer_reference *extra =
		arena_new_array(ctx->arena, struct transfer_reference, m->n_extra_references + 1);
	if (!extra)
		return err_nomem(err);
	for (size_t i = 0; i < m->n_extra_references; i++) {
		const TR(ImageReference) *r = m->extra_references[i];
		extra[i] = (struct transfer_reference){r->name, r->is_prefix, r->allow_overwrite,
						       r->add_digest, r->skip_named_digest};
	}
	to.name = m->name;
	to.n_platforms = m->n_platforms;
	to.all_metadata = m->all_metadata;
	to.manifest_limit = m->manifest_limit;
	to.extra = extra;
	to.n_extra = m->n_extra_references;
	*ret = to;
	return 0;
}

/* ---- the pairs ---- */

static int push(struct call *c, const Google__Protobuf__Any *src, const Google__Protobuf__Any *dst,
		struct err *err)
{
	struct transfer_registry to;
	struct transfer_store from;
	int e = store_get(c->ctx, src, &from, err);
	if (e == 0)
		e = registry_get(c, dst, &to, err);
	if (e < 0)
		return e;
	struct transfer_push p = {
		.name = from.name, .platforms = from.platforms, .n_platforms = from.n_platforms};
	if (c->options) {
		p.non_distributable = c->options->allow_non_distributable;
		p.max_uploads = (int)MIN(c->options->max_concurrent_uploads, (uint32_t)64);
	}
	return transfer_push(c->ctx, c->s->transfer, &p, &to, &c->watch, err);
}

static int pull(struct call *c, const Google__Protobuf__Any *src, const Google__Protobuf__Any *dst,
		struct err *err)
{
	struct transfer_registry from;
	struct transfer_store to;
	int e = registry_get(c, src, &from, err);
	if (e == 0)
		e = store_get(c->ctx, dst, &to, err);
	if (e == 0 && c->options) {
		to.max_downloads = (int)MIN(c->options->max_concurrent_downloads, (uint32_t)64);
		to.sync_fs = c->options->sync_fs;
	}
	return e < 0 ? e : transfer_pull(c->ctx, c->s->transfer, &from, &to, &c->watch, err);
}

static int tag(struct call *c, const Google__Protobuf__Any *src, const Google__Protobuf__Any *dst,
	       struct err *err)
{
	struct transfer_store from, to;
	int e = store_get(c->ctx, src, &from, err);
	if (e == 0)
		e = store_get(c->ctx, dst, &to, err);
	return e < 0 ? e : transfer_tag(c->ctx, c->s->transfer, from.name, &to, err);
}

static int import(struct call *c, const Google__Protobuf__Any *src,
		  const Google__Protobuf__Any *dst, struct err *err)
{
	TR(ImageImportStream) * m;
	struct transfer_store to;
	struct byte_source *in;
	int e = rpc_unpack(c->ctx->arena, &DESC(image_import_stream), src->value.data,
			   src->value.len, &m, err);
	if (e == 0)
		e = store_get(c->ctx, dst, &to, err);
	if (e == 0)
		e = byte_source_open(c->ctx, c->s, m->stream, &in, err);
	if (e < 0)
		return e;
	to.sync_fs = c->options && c->options->sync_fs;
	struct err broken = ERR_INIT;
	e = transfer_import(c->ctx, c->s->transfer, byte_source_fd(in), m->force_compress, &to,
			    &c->watch, err);
	int b = byte_source_close(in, e < 0, &broken);
	/* An archive that broke off is the client's end of the story. */
	return b < 0 ? err_copy(err, &broken) : e;
}

static int export(struct call *c, const Google__Protobuf__Any *src,
		  const Google__Protobuf__Any *dst, struct err *err)
{
	TR(ImageExportStream) * m;
	struct transfer_store from;
	struct byte_sink *out;
	struct transfer_export o = {0};
	int e = rpc_unpack(c->ctx->arena, &DESC(image_export_stream), dst->value.data,
			   dst->value.len, &m, err);
	if (e == 0)
		e = store_get(c->ctx, src, &from, err);
	if (e == 0)
		e = platforms_get(c->ctx, m->platforms, m->n_platforms, &o.platforms, err);
	if (e == 0)
		e = byte_sink_open(c->ctx, c->s, m->stream, &out, err);
	if (e < 0)
		return e;
	o.n_platforms = m->n_platforms;
	o.all_platforms = m->all_platforms;
	o.skip_docker_manifest = m->skip_compatibility_manifest;
	o.skip_non_distributable = m->skip_non_distributable;
	e = transfer_export(c->ctx, c->s->transfer, &from, &o, byte_sink_write, out, &c->watch,
			    err);
	byte_sink_close(out);
	return e;
}

static int copy_bytes(struct byte_source *in, struct byte_sink *out, struct err *err)
{
	_cleanup_free_ char *chunk = malloc(CHUNK);
	int r = chunk ? 0 : err_nomem(err);
	while (r == 0) {
		ssize_t n = byte_source_read(in, chunk, CHUNK, err);
		if (n <= 0)
			return (int)n;
		r = byte_sink_write(out, chunk, (size_t)n, err);
	}
	return r;
}

/* An archive as it comes, back to the client. */
static int echo(struct call *c, const Google__Protobuf__Any *src, const Google__Protobuf__Any *dst,
		struct err *err)
{
	TR(ImageImportStream) * from;
	TR(ImageExportStream) * to;
	struct byte_source *in;
	struct byte_sink *out;
	struct err broken = ERR_INIT;
	int e = rpc_unpack(c->ctx->arena, &DESC(image_import_stream), src->value.data,
			   src->value.len, &from, err);
	if (e == 0)
		e = rpc_unpack(c->ctx->arena, &DESC(image_export_stream), dst->value.data,
			       dst->value.len, &to, err);
	if (e == 0)
		e = byte_source_open(c->ctx, c->s, from->stream, &in, err);
	if (e < 0)
		return e;
	e = byte_sink_open(c->ctx, c->s, to->stream, &out, err);
	if (e == 0) {
		e = copy_bytes(in, out, err);
		byte_sink_close(out);
	}
	int b = byte_source_close(in, e < 0, &broken);
	return b < 0 ? err_copy(err, &broken) : e;
}

static const struct {
	const char *from, *to;
	int (*fn)(struct call *c, const Google__Protobuf__Any *src,
		  const Google__Protobuf__Any *dst, struct err *err);
} pairs[] = {
	{"containerd.types.transfer.OCIRegistry", "containerd.types.transfer.ImageStore", pull},
	{"containerd.types.transfer.ImageStore", "containerd.types.transfer.OCIRegistry", push},
	{"containerd.types.transfer.ImageStore", "containerd.types.transfer.ImageStore", tag},
	{"containerd.types.transfer.ImageImportStream", "containerd.types.transfer.ImageStore",
	 import},
	{"containerd.types.transfer.ImageStore", "containerd.types.transfer.ImageExportStream",
	 export},
	{"containerd.types.transfer.ImageImportStream",
	 "containerd.types.transfer.ImageExportStream", echo},
};

/* Whether it names a type that clients may mean; others cannot even be decoded. */
static bool is_known(const char *type)
{
	static const ProtobufCMessageDescriptor *const known[] = {
		&DESC(ociregistry),	    &DESC(image_store),	   &DESC(image_import_stream),
		&DESC(image_export_stream), &DESC(container_path), &DESC(read_stream),
		&DESC(write_stream),
	};
	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (streq(known[i]->name, type))
			return true;
	return false;
}

static int transfer(struct rpc_call *call, const void *req, struct err *err)
{
	const Containerd__Services__Transfer__V1__TransferRequest *r = req;
	_cleanup_(call_done) struct call c = {
		.ctx = rpc_ctx(call), .s = rpc_data(call), .options = r->options};
	const char *from = type_of(r->source), *to = type_of(r->destination), *ns;
	int e = ctx_namespace(c.ctx, &ns, err);
	if (e < 0)
		return e;
	for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
		if (!streq(pairs[i].from, from) || !streq(pairs[i].to, to))
			continue;
		if (r->options && !str_empty(r->options->progress_stream)) {
			e = stream_get(c.ctx, c.s->streams, r->options->progress_stream,
				       &c.progress, err);
			c.watch = (struct transfer_watch){progress, &c};
		}
		if (e == 0)
			e = pairs[i].fn(&c, r->source, r->destination, err);
		return e < 0 ? e : pb_send_empty(call, err);
	}
	if (!is_known(from) || !is_known(to))
		return err_set_raw(err, ERR_UNKNOWN, "type with url %s: not found",
				   is_known(from) ? to : from);
	return err_set(err, ERR_UNIMPLEMENTED, "unable to transfer from %s to %s", from, to);
}

static const struct rpc_method methods[] = {
	{"Transfer", RPC_UNARY, transfer},
};

SERVICE(transfer, &containerd__services__transfer__v1__transfer__descriptor, methods)
