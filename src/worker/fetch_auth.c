/* SPDX-License-Identifier: Apache-2.0 */
/* Authorization of one host: none at first. A 401 with a challenge makes the first call that meets
 * it ask the daemon for credentials; then a Basic header is made of them, or a token is fetched
 * from where the challenge says. Calls that meet a 401 meanwhile wait, and all go on with what has
 * come. The scope is one for the whole session (its repository), so there is one token a host.
 *
 * A 401 to a request that carried the current authorization means that it has expired (a token is
 * fetched once more) or that the credentials are no good (the daemon is asked once more). */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/str.h"
#include "version.h"
#include "worker/challenge.h"
#include "worker/session.h"

#define ASK_MAX 2
#define TOKEN_ATTEMPTS_MAX 2
#define CLIENT_ID "containerd-client"

static void free_secret(char **p)
{
	if (*p)
		explicit_bzero(*p, strlen(*p));
	free(*p);
	*p = NULL;
}

void auth_done(struct auth *a)
{
	free_secret(&a->username);
	free_secret(&a->secret);
	free_secret(&a->authorization);
	arena_free(a->arena);
	if (a->transfer)
		http_cancel(a->transfer);
	*a = (struct auth){0};
}

/* ---- calls that wait ---- */

static bool waits_for(const struct call *c, const struct host *h)
{
	return c->state == CALL_WAIT_AUTH && c->steps[c->step].host == h;
}

bool auth_wait(struct call *c)
{
	if (c->steps[c->step].host->auth.state == AUTH_IDLE)
		return false;
	c->state = CALL_WAIT_AUTH;
	return true;
}

static struct call *waiting(struct host *h)
{
	for (struct call *c = h->s->calls; c; c = c->next)
		if (waits_for(c, h))
			return c;
	return NULL;
}

static void resume_all(struct host *h)
{
	struct call *c;

	h->auth.state = AUTH_IDLE;
	while ((c = waiting(h)))
		call_send(c);
}

static void fail_all(struct host *h, const struct err *err)
{
	struct call *c;

	h->auth.state = AUTH_IDLE;
	while ((c = waiting(h)) && h->auth.state == AUTH_IDLE) {
		c->state = CALL_RUNNING;
		call_step_failed(c, FAILURE_STATUS, err);
	}
}

static void fail(struct host *h, struct err *err)
{
	err_prefix(err, "failed to authorize");
	fail_all(h, err);
}

static void ready(struct host *h, char *authorization)
{
	struct auth *a = &h->auth;
	struct err err;

	if (!authorization) {
		err_nomem(&err);
		fail(h, &err);
		return;
	}
	free_secret(&a->authorization);
	a->authorization = authorization;
	a->accepted = false;
	a->generation++;
	resume_all(h);
}

void auth_accepted(struct host *h)
{
	h->auth.accepted = true;
}

/* ---- credentials ---- */

static void ask(struct host *h, const struct http_reply *r)
{
	struct auth *a = &h->auth;
	struct call *c = waiting(h);
	json_t *challenges = json_array();

	for (size_t i = 0; r && r->challenges[i]; i++)
		/* What is not UTF-8 is not for the daemon. */
		json_array_append_new(challenges, json_string(r->challenges[i]));
	a->state = AUTH_ASKING;
	a->asked_for = c->id;
	a->times_asked++;
	session_send(h->s, json_pack("{s:I,s:{s:s,s:o}}", "id", (json_int_t)c->id, "auth", "host",
				     h->name, "challenges", challenges));
}

static void token_fetch(struct host *h);

static char *basic(const struct auth *a)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	_cleanup_buf_ struct buf in = BUF_INIT, out = BUF_INIT;

	buf_printf(&in, "%s:%s", a->username, a->secret);
	if (!buf_ok(&in))
		return NULL;
	buf_adds(&out, "Basic ");
	for (size_t i = 0; i < in.len; i += 3) {
		size_t n = MIN(in.len - i, 3);
		const unsigned char *p = (const unsigned char *)in.data + i;
		unsigned v = (unsigned)p[0] << 16 | (n > 1 ? (unsigned)p[1] << 8 : 0) |
			     (n > 2 ? p[2] : 0);

		buf_addc(&out, digits[v >> 18]);
		buf_addc(&out, digits[v >> 12 & 63]);
		buf_addc(&out, n > 1 ? digits[v >> 6 & 63] : '=');
		buf_addc(&out, n > 2 ? digits[v & 63] : '=');
	}
	explicit_bzero(in.data, in.len);
	return buf_take(&out, NULL);
}

/* The credentials are known: make an authorization of them. */
static void proceed(struct host *h)
{
	struct auth *a = &h->auth;
	struct err err;

	if (a->type == AUTH_TYPE_HEADER) {
		ready(h, strdup(a->secret));
	} else if (a->bearer) {
		a->token_attempts = 0;
		a->token_post = a->type == AUTH_TYPE_REFRESH;
		token_fetch(h);
	} else if (a->type == AUTH_TYPE_CREDENTIALS) {
		ready(h, basic(a));
	} else {
		err_set(&err, ERR_UNAUTHENTICATED, "no basic auth credentials");
		fail(h, &err);
	}
}

static int take_credentials(struct auth *a, const json_t *o)
{
	static const char *const types[] = {"none", "credentials", "refresh", "header"};
	const char *type = json_str(o, "type", "none");

	free_secret(&a->username);
	free_secret(&a->secret);
	a->username = strdup(json_str(o, "username", ""));
	a->secret = strdup(json_str(o, "secret", ""));
	a->type = AUTH_TYPE_NONE;
	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		if (streq(type, types[i]))
			a->type = (enum auth_type)i;
	return a->username && a->secret ? 0 : -1;
}

void auth_answer(struct session *s, const json_t *o)
{
	const char *name = json_str(o, "host", "");
	struct host *h = NULL;
	struct err err;

	for (size_t i = 0; i < s->n_hosts && !h; i++)
		if (streq(s->hosts[i].name, name) && s->hosts[i].auth.state == AUTH_ASKING)
			h = &s->hosts[i];
	if (!h)
		return;
	if (!waiting(h)) {
		/* All who wanted to know have gone. */
		h->auth.state = AUTH_IDLE;
		h->auth.times_asked--;
	} else if (json_obj(o, "error")) {
		err_set_raw(&err,
			    (enum err_kind)json_int(json_obj(o, "error"), "kind", ERR_UNKNOWN),
			    "%s", json_str(json_obj(o, "error"), "text", "no credentials"));
		h->auth.times_asked--;
		if (err.kind == ERR_CANCELED && waiting(h)->id != h->auth.asked_for)
			ask(h, NULL); /* that call was canceled, others were not */
		else
			fail(h, &err);
	} else if (take_credentials(&h->auth, o) < 0) {
		err_nomem(&err);
		fail(h, &err);
	} else {
		proceed(h);
	}
}

/* ---- tokens ---- */

static void add_escaped(struct buf *b, const char *prefix, const char *value)
{
	char *e = curl_easy_escape(NULL, value, 0);

	buf_printf(b, "%s%s", prefix, e ? e : "");
	if (!e)
		b->failed = true;
	curl_free(e);
}

/* The challenge's scope, and the session's own where that does not have it. A form has one scope
 * field, with a space between scopes. */
static void add_scopes(struct host *h, struct buf *b, bool form)
{
	_cleanup_buf_ struct buf own = BUF_INIT;
	const char *asked = str_or(h->auth.scope, "");

	buf_printf(&own, "repository:%s:pull%s", h->s->repository, h->s->push ? ",push" : "");
	if (!buf_ok(&own)) {
		b->failed = true;
		return;
	}
	if (!strstr(asked, own.data) && *h->s->repository)
		add_escaped(b, "&scope=", own.data);
	if (!*asked)
		return;
	add_escaped(b,
		    form && buf_ok(b) && b->len > 0 && strstr(b->data, "&scope=") ? "+" : "&scope=",
		    asked);
}

/* Other repositories of the registry that blobs are to be mounted from. */
static void add_mount_scopes(const struct host *h, struct buf *b, bool form)
{
	json_t *v;
	size_t i;

	if (h->auth.own_scope)
		return;
	json_array_foreach (h->s->mount_from, i, v) {
		_cleanup_buf_ struct buf scope = BUF_INIT;

		buf_printf(&scope, "repository:%s:pull",
			   json_is_string(v) ? json_string_value(v) : "");
		if (buf_ok(&scope))
			add_escaped(b, form ? "+" : "&scope=", scope.data);
		else
			b->failed = true;
	}
}

static void token_done(void *arg, const struct http_reply *r)
{
	struct host *h = arg;
	struct auth *a = &h->auth;
	_cleanup_json_ json_t *o = NULL;
	_cleanup_buf_ struct buf b = BUF_INIT;
	const char *token;
	struct err err;

	a->transfer = NULL;
	if (r->status == 0 && http_may_retry(r->code) && a->token_attempts < TOKEN_ATTEMPTS_MAX) {
		token_fetch(h);
		return;
	}
	if (r->status == 405 && !a->token_post && a->type == AUTH_TYPE_CREDENTIALS) {
		a->token_post = true;
		token_fetch(h);
		return;
	}
	if (r->status >= 400 && r->status < 500 && !a->own_scope &&
	    json_array_size(h->s->mount_from) > 0) {
		/* They may be what is refused. */
		a->own_scope = true;
		token_fetch(h);
		return;
	}
	if (r->code != CURLE_OK || r->status < 200 || r->status >= 300) {
		reply_error(r, &err);
	} else if (json_parse(r->body.data ? r->body.data : "", r->body.len, &o, &err) == 0) {
		token = str_or(json_str(o, "token", ""), json_str(o, "access_token", ""));
		if (*token && !strpbrk(token, "\r\n")) {
			buf_printf(&b, "Bearer %s", token);
			ready(h, buf_take(&b, NULL));
			return;
		}
		err_set(&err, ERR_UNAUTHENTICATED,
			"authorization server did not include a token in the response");
	}
	err_prefix(&err, "failed to fetch %s token",
		   a->type == AUTH_TYPE_NONE ? "anonymous" : "oauth");
	fail(h, &err);
}

/* Parameters of the request, each with "&" before it. */
static void token_params(struct host *h, struct buf *b)
{
	const struct auth *a = &h->auth;

	if (!str_empty(a->service))
		add_escaped(b, "&service=", a->service);
	add_scopes(h, b, a->token_post);
	add_mount_scopes(h, b, a->token_post);
	if (!a->token_post)
		return;
	buf_adds(b, "&client_id=" CLIENT_ID);
	if (a->type == AUTH_TYPE_REFRESH) {
		buf_adds(b, "&grant_type=refresh_token");
		add_escaped(b, "&refresh_token=", a->secret);
	} else {
		buf_adds(b, "&grant_type=password");
		add_escaped(b, "&username=", a->username);
		add_escaped(b, "&password=", a->secret);
	}
}

/* False = no memory. */
static bool token_headers(const struct auth *a, struct curl_slist **list)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	_cleanup_free_ char *login = NULL;
	struct curl_slist *l;

	*list = curl_slist_append(NULL, "User-Agent: containerd/" VERSION);
	if (!*list)
		return false;
	if (a->token_post || a->type != AUTH_TYPE_CREDENTIALS)
		return true;
	login = basic(a);
	buf_printf(&b, "Authorization: %s", login ? login : "");
	l = login && buf_ok(&b) ? curl_slist_append(*list, b.data) : NULL;
	if (l)
		*list = l;
	return l;
}

static void token_fetch(struct host *h)
{
	struct auth *a = &h->auth;
	_cleanup_buf_ struct buf url = BUF_INIT, params = BUF_INIT;
	struct http_request r = {
		.method = a->token_post ? "POST" : "GET",
		.secret = a->token_post,
		.tls = &h->tls,
		.connect_timeout_ms = h->dial_timeout_ms,
		.stall_s = session_stall(h->s),
		.max_body = REPLY_MAX,
		.on_done = token_done,
		.arg = h,
	};
	struct err err;

	a->state = AUTH_FETCHING;
	a->token_attempts++;
	/* Secrets go no less protected than the registry itself is. */
	if (a->type != AUTH_TYPE_NONE && streq(h->scheme, "https") &&
	    !str_has_prefix(a->realm, "https://")) {
		err_set(&err, ERR_UNAUTHENTICATED,
			"token endpoint \"%s\" of an https registry is not https", a->realm);
		fail(h, &err);
		return;
	}
	token_params(h, &params);
	buf_adds(&url, a->realm);
	/* The realm may have a query already. */
	if (!a->token_post && params.len > 0)
		buf_printf(&url, "%c%s", strchr(a->realm, '?') ? '&' : '?', params.data + 1);
	if (!buf_ok(&url) || !buf_ok(&params) || !token_headers(a, &r.headers)) {
		curl_slist_free_all(r.headers);
		err_nomem(&err);
		fail(h, &err);
		return;
	}
	r.url = url.data;
	r.body = params.len > 0 ? params.data + 1 : NULL;
	if (http_start(h->s->http, &r, &a->transfer, &err) < 0)
		fail(h, &err);
}

/* ---- challenges ---- */

/* Keeps what the challenge says; -ERR_* when it is none that we know. */
static int take_challenge(struct auth *a, const struct http_reply *r, struct err *err)
{
	struct challenges all = {0};
	const struct challenge *bearer, *chosen;

	arena_free(a->arena);
	a->realm = a->service = a->scope = NULL;
	a->arena = arena_new(256 << 10);
	if (!a->arena)
		return err_nomem(err);
	for (size_t i = 0; r->challenges[i]; i++)
		if (challenges_parse(a->arena, r->challenges[i], &all) < 0)
			return err_nomem(err);
	bearer = challenges_find(&all, "bearer");
	chosen = bearer ? bearer : challenges_find(&all, "basic");
	if (!chosen) {
		reply_error(r, err);
		return -err->kind;
	}
	a->bearer = bearer;
	a->realm = labels_get(&chosen->params, "realm");
	a->service = labels_get(&chosen->params, "service");
	a->scope = labels_get(&chosen->params, "scope");
	if (bearer && !str_has_prefix(str_or(a->realm, ""), "http://") &&
	    !str_has_prefix(str_or(a->realm, ""), "https://"))
		return err_set(err, ERR_UNAUTHENTICATED,
			       "no valid realm in the registry's bearer challenge");
	return 0;
}

static void denied(struct call *c, const struct http_reply *r)
{
	struct err err;

	reply_error(r, &err);
	err_prefix(&err, "%s access denied, repository does not exist or may require authorization",
		   c->type == CALL_PUSH ? "push" : "pull");
	call_step_failed(c, FAILURE_STATUS, &err);
}

void auth_challenged(struct call *c, const struct http_reply *r)
{
	struct host *h = c->steps[c->step].host;
	struct auth *a = &h->auth;
	struct err err;

	/* Meanwhile there is something newer to try, or it is on its way. */
	if (a->state != AUTH_IDLE || c->generation != a->generation) {
		call_send(c);
		return;
	}
	if (++c->auth_attempts > AUTH_ATTEMPTS_MAX) {
		denied(c, r);
		return;
	}
	if (take_challenge(a, r, &err) < 0) {
		call_step_failed(c, FAILURE_STATUS, &err);
		return;
	}
	c->state = CALL_WAIT_AUTH;
	if (a->authorization && a->accepted && a->bearer && a->type != AUTH_TYPE_HEADER) {
		proceed(h);
	} else if (a->times_asked == 0 || (a->times_asked < ASK_MAX && a->type != AUTH_TYPE_NONE)) {
		ask(h, r);
	} else {
		c->state = CALL_RUNNING;
		denied(c, r);
	}
}
