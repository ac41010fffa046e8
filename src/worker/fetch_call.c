/* SPDX-License-Identifier: Apache-2.0 */
/* A call goes through its steps (a host and an endpoint each) until one has what it wants. Within a
 * step requests are repeated: with an authorization after 401, from where a body broke off, and,
 * where there is no other host to turn to, after failures that may pass. */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"
#include "base/time.h"
#include "version.h"
#include "worker/session.h"
#include "worker/tree.h"

#define RETRY_NS (50 * NSEC_PER_MSEC) /* doubled with each attempt */
#define RETRY_AFTER_MAX_S 30

static const char *const manifest_types[] = {
	"application/vnd.docker.distribution.manifest.v2+json",
	"application/vnd.docker.distribution.manifest.list.v2+json",
	"application/vnd.oci.image.manifest.v1+json",
	"application/vnd.oci.image.index.v1+json",
};

bool media_is_document(const char *media_type)
{
	for (size_t i = 0; i < ARRAY_LEN(manifest_types); i++)
		if (streq(manifest_types[i], media_type))
			return true;
	return false;
}

/* ---- errors ---- */

/* ": CODE: message" of the first of {"errors":[...]}; nothing when the body is something else. */
static void registry_words(const struct http_reply *r, char *out, size_t size)
{
	_cleanup_json_ json_t *o = NULL;
	char code[128], text[512];
	json_t *e;

	*out = '\0';
	if (!buf_ok(&r->body) || r->body_cut || r->body.len == 0 ||
	    json_parse(r->body.data, r->body.len, &o, NULL) < 0)
		return;
	e = json_array_get(json_arr(o, "errors"), 0);
	if (!json_is_object(e) || str_empty(json_str(e, "code", "")))
		return;
	tree_quote(json_str(e, "code", ""), code, sizeof(code));
	tree_quote(json_str(e, "message", ""), text, sizeof(text));
	snprintf(out, size, ": %s%s%s", code, *text ? ": " : "", text);
}

static const char *status_text(long status)
{
	static const struct {
		long status;
		const char *text;
	} texts[] = {
		{400, "Bad Request"},
		{401, "Unauthorized"},
		{403, "Forbidden"},
		{404, "Not Found"},
		{405, "Method Not Allowed"},
		{406, "Not Acceptable"},
		{408, "Request Timeout"},
		{410, "Gone"},
		{416, "Requested Range Not Satisfiable"},
		{418, "I'm a teapot"},
		{429, "Too Many Requests"},
		{500, "Internal Server Error"},
		{501, "Not Implemented"},
		{502, "Bad Gateway"},
		{503, "Service Unavailable"},
		{504, "Gateway Timeout"},
	};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		if (texts[i].status == status)
			return texts[i].text;
	return "";
}

static enum err_kind status_kind(long status)
{
	switch (status) {
	case 401:
		return ERR_UNAUTHENTICATED;
	case 403:
		return ERR_PERMISSION_DENIED;
	case 404:
		return ERR_NOT_FOUND;
	case 429:
	case 502:
	case 503:
	case 504:
		return ERR_UNAVAILABLE;
	default:
		return ERR_UNKNOWN;
	}
}

void reply_error(const struct http_reply *r, struct err *err)
{
	const char *text = status_text(r->status);
	char words[700];

	if (r->status == 0) {
		err_set(err, ERR_UNAVAILABLE, "%s \"%s\": %s", r->method, r->url, r->error);
		return;
	}
	registry_words(r, words, sizeof(words));
	err_set(err, status_kind(r->status), "unexpected status from %s request to %s: %ld%s%s%s",
		r->method, r->url, r->status, *text ? " " : "", text, words);
}

/* ---- steps ---- */

static void add_steps(struct call *c, bool manifests, unsigned capability)
{
	for (size_t i = 0; i < c->s->n_hosts; i++)
		if ((c->s->hosts[i].capabilities & capability) && c->n_steps < STEPS_MAX)
			c->steps[c->n_steps++] = (struct step){&c->s->hosts[i], manifests};
}

static bool is_last(const struct call *c)
{
	return c->step + 1 == c->n_steps ||
	       c->steps[c->step + 1].manifests != c->steps[c->step].manifests;
}

int call_begin(struct call *c, struct err *err)
{
	bool by_digest = digest_validate(c->digest, NULL) == 0;

	if (c->type == CALL_BLOB && !by_digest)
		return err_set(err, ERR_INVALID_ARGUMENT, "invalid digest \"%s\"", c->digest);
	if (c->type == CALL_RESOLVE) {
		add_steps(c, true, by_digest ? CAPABILITY_PULL : CAPABILITY_RESOLVE);
		if (by_digest)
			add_steps(c, false, CAPABILITY_PULL);
	} else if (c->type == CALL_PUSH) {
		/* All of an image goes to one host. */
		add_steps(c, false, CAPABILITY_PUSH);
		c->n_steps = MIN(c->n_steps, (size_t)1);
	} else {
		if (media_is_document(c->media_type))
			add_steps(c, true, CAPABILITY_PULL);
		add_steps(c, false, CAPABILITY_PULL);
	}
	if (c->n_steps == 0)
		return err_set(err, ERR_NOT_FOUND, "no %s hosts",
			       c->type == CALL_RESOLVE ? "resolve"
			       : c->type == CALL_PUSH  ? "push"
						       : "pull");
	c->heard = time_mono();
	call_send(c);
	return 0;
}

static void fail_with(struct call *c)
{
	const struct session *s = c->s;
	struct err err = c->err;

	if (c->type == CALL_RESOLVE && c->failure == FAILURE_NOT_FOUND)
		err_set(&err, ERR_NOT_FOUND, "%s/%s%s%s", s->original_host, s->repository,
			strchr(c->digest, ':') ? "@" : ":", c->digest);
	else if (c->type == CALL_BLOB)
		err_prefix(&err, "could not fetch %s (%s)", c->digest,
			   str_or(c->media_type, "blob"));
	else if (c->type == CALL_PUSH)
		err_prefix(&err, "could not push %s (%s)", c->digest,
			   str_or(c->media_type, "blob"));
	call_fail(c, &err);
}

void call_step_failed(struct call *c, enum failure failure, const struct err *err)
{
	if (c->type == CALL_PUSH && push_goes_on(c))
		return;
	if (failure > c->failure) {
		c->failure = failure;
		err_copy(&c->err, err);
	}
	c->attempts = c->auth_attempts = 0;
	c->heard = time_mono();
	c->head = c->type == CALL_RESOLVE;
	if (++c->step < c->n_steps)
		call_send(c);
	else
		fail_with(c);
}

void call_retry_in(struct call *c, int64_t ns)
{
	c->state = CALL_WAIT_RETRY;
	c->retry_at = time_mono() + ns;
	c->attempts++;
}

void call_retry(struct call *c, const struct http_reply *r)
{
	if (r->status != 408 && r->status != 429)
		call_retry_in(c, RETRY_NS << c->attempts);
	else
		call_retry_in(c, r->retry_after_s >= 0
					 ? MIN(r->retry_after_s, RETRY_AFTER_MAX_S) * NSEC_PER_SEC
					 : 4 * RETRY_NS << c->attempts);
}

/* ---- replies ---- */

static void resolved(struct call *c, const struct http_reply *r)
{
	const char *digest = c->digest;
	int64_t size = r->length;
	struct digest computed;
	char raw[256], type[256];

	snprintf(raw, sizeof(raw), "%.*s", (int)strcspn(r->content_type, "; "), r->content_type);
	tree_quote(raw, type, sizeof(type));
	if (digest_validate(digest, NULL) < 0)
		digest = r->digest;
	if (!c->head) {
		size = c->off;
		hasher_digest(c->hasher, &computed);
		if (digest_validate(digest, NULL) < 0)
			digest = computed.text;
	} else if (digest_validate(digest, NULL) < 0 || size < 0) {
		/* Not all registries tell in HEAD: read it. */
		c->head = false;
		call_send(c);
		return;
	}
	call_finish(c, json_pack("{s:s,s:s,s:I}", "media_type", type, "digest", digest, "size",
				 (json_int_t)size));
}

int session_stall(const struct session *s)
{
	int64_t half = s->silence_ns / 2 / NSEC_PER_SEC;

	return (int)MAX(MIN(half, (int64_t)HTTP_STALL_S), (int64_t)1);
}

/* It has said nothing for so long that asking again is in vain. */
static bool is_silent(const struct call *c)
{
	return time_mono() - c->heard >= c->s->silence_ns;
}

static void transport_failed(struct call *c, const struct http_reply *r)
{
	bool progress = c->type == CALL_BLOB && c->off > c->asked;
	struct err err;

	if (c->reader_gone) {
		call_fail(c, &c->sink_err);
		return;
	}
	if (c->sink_err.kind) {
		call_step_failed(c, FAILURE_STATUS, &c->sink_err);
		return;
	}
	err_set(&err, r->body_cut ? ERR_FAILED_PRECONDITION : ERR_UNAVAILABLE, "%s \"%s\": %s",
		r->method, r->url, r->body_cut ? "reply is too long" : r->error);
	if (progress) {
		err_prefix(&err, "body broke off at %lld", (long long)c->off);
		if (++c->resumes < RESUMES_MAX)
			c->attempts = 0;
	}
	if (http_may_retry(r->code) && (progress || is_last(c)) && c->attempts + 1 < ATTEMPTS_MAX &&
	    !is_silent(c))
		call_retry_in(c, RETRY_NS << c->attempts);
	else
		call_step_failed(c, FAILURE_TRANSPORT, &err);
}

static void succeeded(struct call *c, const struct http_reply *r)
{
	struct err err;
	int x;

	auth_accepted(c->steps[c->step].host);
	if (c->type == CALL_RESOLVE) {
		resolved(c, r);
		return;
	}
	x = blob_check(c, &err);
	if (x == 0) {
		call_finish(c, json_pack("{s:I}", "size", (json_int_t)c->off));
	} else if (x > 0 && c->attempts + 1 < ATTEMPTS_MAX) {
		if (c->off > c->asked && ++c->resumes < RESUMES_MAX)
			c->attempts = 0;
		call_retry_in(c, RETRY_NS << c->attempts);
	} else {
		call_step_failed(c, FAILURE_STATUS, &err);
	}
}

static void status_failed(struct call *c, const struct http_reply *r)
{
	bool more = c->attempts + 1 < ATTEMPTS_MAX;
	struct err err;

	reply_error(r, &err);
	switch (r->status) {
	case 404:
		call_step_failed(c, FAILURE_NOT_FOUND, &err);
		return;
	case 405:
		if (!c->head)
			break;
		c->head = false;
		call_send(c);
		return;
	case 408:
	case 429:
		if (!more)
			break;
		call_retry(c, r);
		return;
	case 500:
	case 503:
	case 504:
		if (!more || !is_last(c))
			break;
		call_retry_in(c, RETRY_NS << c->attempts);
		return;
	case 416:
		/* What the daemon has is not what the server has. */
		if (c->type != CALL_BLOB || c->asked == 0 || c->end >= 0)
			break;
		blob_restart(c);
		call_send(c);
		return;
	}
	call_step_failed(c, FAILURE_STATUS, &err);
}

static void on_done(void *arg, const struct http_reply *r)
{
	struct call *c = arg;
	bool ok = r->status >= 200 && r->status < 300;

	c->transfer = NULL;
	if (r->status >= 300)
		c->heard = time_mono();
	/* Below 400 and not ok: redirects that lead nowhere. */
	if (r->status == 0 || (r->status < 400 && r->code != CURLE_OK))
		transport_failed(c, r);
	else if (ok)
		succeeded(c, r);
	else if (r->status == 401 && !r->redirected)
		auth_challenged(c, r);
	else
		status_failed(c, r);
}

/* ---- requests ---- */

static bool resolve_on_body(void *arg, const struct http_reply *r)
{
	return true;
}

static ssize_t resolve_on_data(void *arg, const void *p, size_t n, int *ret_fd)
{
	struct call *c = arg;

	if ((int64_t)n > MANIFEST_MAX - c->off) {
		err_set(&c->sink_err, ERR_FAILED_PRECONDITION, "manifest is larger than %d bytes",
			MANIFEST_MAX);
		return -1;
	}
	c->heard = time_mono();
	hasher_update(c->hasher, p, n);
	c->off += (int64_t)n;
	return (ssize_t)n;
}

bool header_add(struct curl_slist **list, const char *key, const char *value)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	struct curl_slist *l;

	/* What would become another header is left out. */
	if (strpbrk(key, "\r\n:") || strpbrk(value, "\r\n"))
		return true;
	buf_printf(&b, *value ? "%s: %s" : "%s;%s", key, value);
	l = buf_ok(&b) ? curl_slist_append(*list, b.data) : NULL;
	if (l)
		*list = l;
	return l;
}

/* @authorized: they are not to say who we are. */
static bool add_configured(struct curl_slist **list, const json_t *headers, bool authorized)
{
	json_t *pair;
	size_t i;

	json_array_foreach (headers, i, pair) {
		const char *key = json_string_value(json_array_get(pair, 0));
		const char *value = json_string_value(json_array_get(pair, 1));

		if (authorized && key && strcasecmp(key, "Authorization") == 0)
			continue;
		if (key && value && !header_add(list, key, value))
			return false;
	}
	return true;
}

static bool has_header(const struct curl_slist *l, const char *key)
{
	size_t n = strlen(key);

	for (; l; l = l->next)
		if (strncasecmp(l->data, key, n) == 0 && (l->data[n] == ':' || l->data[n] == ';'))
			return true;
	return false;
}

bool call_headers(const struct call *c, const char *accept, bool authorized,
		  struct curl_slist **list)
{
	const struct host *h = c->steps[c->step].host;
	bool ok;

	authorized = authorized && h->auth.authorization;
	ok = add_configured(list, c->s->headers, authorized) &&
	     add_configured(list, h->headers, authorized);

	ok = ok && header_add(list, "Accept", accept);
	ok = ok && (has_header(*list, "User-Agent") ||
		    header_add(list, "User-Agent", "containerd/" VERSION));
	/* The digest is of the bytes as they are stored. */
	ok = ok && header_add(list, "Accept-Encoding", "identity");
	if (ok && authorized)
		ok = header_add(list, "Authorization", h->auth.authorization);
	return ok;
}

static bool make_headers(const struct call *c, struct curl_slist **list)
{
	char text[1024] = "";
	bool ok;

	if (c->type == CALL_RESOLVE)
		for (size_t i = 0, n = 0; i < ARRAY_LEN(manifest_types); i++)
			n += (size_t)snprintf(text + n, sizeof(text) - n, "%s, ",
					      manifest_types[i]);
	else if (*c->media_type)
		snprintf(text, sizeof(text), "%s, ", c->media_type);
	strcat(text, "*/*");
	ok = call_headers(c, text, true, list);
	if (ok && c->type == CALL_BLOB && c->end >= 0)
		snprintf(text, sizeof(text), "bytes=%lld-%lld", (long long)c->asked,
			 (long long)c->end - 1);
	else
		snprintf(text, sizeof(text), "bytes=%lld-", (long long)c->asked);
	if (ok && c->type == CALL_BLOB && (c->asked > 0 || c->end >= 0))
		ok = header_add(list, "Range", text);
	return ok;
}

static char *make_url(const struct call *c)
{
	const struct step *st = &c->steps[c->step];
	const struct host *h = st->host;
	_cleanup_buf_ struct buf b = BUF_INIT;

	buf_printf(&b, "%s://%s%s/%s/%s/%s", h->scheme, h->name, h->path, c->s->repository,
		   st->manifests ? "manifests" : "blobs", c->digest);
	if (h->mirror) {
		char *esc = curl_easy_escape(NULL, c->s->original_host, 0);

		buf_printf(&b, "?ns=%s", esc ? esc : "");
		curl_free(esc);
	}
	return buf_take(&b, NULL);
}

void call_send(struct call *c)
{
	const struct step *st = &c->steps[c->step];
	_cleanup_free_ char *url = NULL;
	struct http_request r = {
		.method = c->head ? "HEAD" : "GET",
		.tls = &st->host->tls,
		.connect_timeout_ms = st->host->dial_timeout_ms,
		.stall_s = session_stall(c->s),
		.max_body = REPLY_MAX,
		.on_body = c->type == CALL_BLOB ? blob_on_body : resolve_on_body,
		.on_data = c->type == CALL_BLOB ? blob_on_data : resolve_on_data,
		.on_done = on_done,
		.arg = c,
	};
	struct err err;

	if (auth_wait(c))
		return;
	c->state = CALL_RUNNING;
	c->sink_err.kind = 0;
	c->generation = st->host->auth.generation;
	if (c->type == CALL_PUSH) {
		push_send(c);
		return;
	}
	if (c->type == CALL_RESOLVE) {
		c->off = 0;
		hasher_free(c->hasher);
		c->hasher = hasher_new(DIGEST_SHA256);
	}
	c->asked = c->off;
	url = make_url(c);
	if (!url || !make_headers(c, &r.headers) || (c->type == CALL_RESOLVE && !c->hasher)) {
		curl_slist_free_all(r.headers);
		err_nomem(&err);
		call_step_failed(c, FAILURE_STATUS, &err);
		return;
	}
	r.url = url;
	if (http_start(c->s->http, &r, &c->transfer, &err) < 0)
		call_step_failed(c, FAILURE_STATUS, &err);
}
