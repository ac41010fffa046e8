/* SPDX-License-Identifier: Apache-2.0 */
/* Role "fetch": messages of the daemon become calls, the loop lets their transfers run. */
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/str.h"
#include "base/time.h"
#include "rpc/msg.h"
#include "worker/jail.h"
#include "worker/protocol.h"
#include "worker/roles.h"
#include "worker/session.h"
#include "worker/tree.h"

#define CALLS_MAX 256
#define TICK_MS 1000

/* ---- to the daemon ---- */

void session_send(struct session *s, json_t *msg)
{
	if (!msg || msg_send(s->sock, msg, NULL, 0, NULL) < 0)
		s->broken = true;
	json_decref(msg);
}

static void on_log(void *arg, const char *line)
{
	/* A line that is not UTF-8 cannot be sent. */
	json_t *m = json_pack("{s:s}", "log", line);

	if (m)
		session_send(arg, m);
}

void call_free(struct call *c)
{
	if (c->transfer)
		http_cancel(c->transfer);
	if (c->fd >= 0)
		close(c->fd);
	hasher_free(c->hasher);
	push_free(c->push);
	if (c->prev)
		c->prev->next = c->next;
	else
		c->s->calls = c->next;
	if (c->next)
		c->next->prev = c->prev;
	free(c);
}

void call_finish(struct call *c, json_t *ok)
{
	session_send(c->s, json_pack("{s:I,s:I,s:o}", "id", (json_int_t)c->id, "piped",
				     (json_int_t)c->piped, "ok", ok));
	call_free(c);
}

void call_fail(struct call *c, const struct err *err)
{
	struct err clean = {.kind = err->kind};
	json_t *m;

	/* Texts may quote what a server sent. */
	tree_quote(err->text, clean.text, sizeof(clean.text));
	m = msg_error(&clean);
	if (m && (json_object_set_new(m, "id", json_integer(c->id)) < 0 ||
		  json_object_set_new(m, "piped", json_integer(c->piped)) < 0)) {
		json_decref(m);
		m = NULL;
	}
	session_send(c->s, m);
	call_free(c);
}

/* ---- configuration ---- */

static int append_ca(struct host *h, const json_t *list, struct err *err)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	json_t *v;
	size_t i;

	json_array_foreach (list, i, v)
		buf_printf(&b, "%s\n", json_is_string(v) ? json_string_value(v) : "");
	if (b.len == 0 && buf_ok(&b))
		return 0;
	h->ca = buf_take(&b, NULL);
	h->tls.ca = h->ca;
	return h->ca ? 0 : err_nomem(err);
}

static int configure_host(struct session *s, struct host *h, json_t *o, struct err *err)
{
	const json_t *pair = json_array_get(json_arr(o, "certs"), 0);

	h->s = s;
	h->scheme = json_str(o, "scheme", "https");
	h->name = json_str(o, "host", "");
	h->path = json_str(o, "path", "/v2");
	h->capabilities = (unsigned)json_int(o, "capabilities", 0);
	h->dial_timeout_ms = json_int(o, "dial_timeout", 0) / NSEC_PER_MSEC;
	h->headers = json_arr(o, "headers");
	h->tls.skip_verify = json_bool(o, "skip_verify", false);
	/* One pair is what a TLS client can offer without being told which authority is wanted. */
	h->tls.cert = json_string_value(json_array_get(pair, 0));
	h->tls.key = json_string_value(json_array_get(pair, 1));
	h->mirror = !streq(h->name, s->original_host) && !(streq(s->original_host, "docker.io") &&
							   streq(h->name, "registry-1.docker.io"));
	if (!*h->name || (!streq(h->scheme, "http") && !streq(h->scheme, "https")))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "registry host \"%s\": invalid name or scheme", h->name);
	return append_ca(h, json_arr(o, "ca"), err);
}

static int configure(struct session *s, json_t *config, struct err *err)
{
	json_t *hosts = json_arr(config, "hosts"), *o;
	size_t i;
	int r;

	s->config = json_incref(config);
	s->original_host = json_str(config, "original_host", "");
	s->repository = json_str(config, "repository", "");
	s->object = json_str(config, "object", "");
	s->push = json_bool(config, "push", false);
	s->silence_ns = json_int(config, "silence", 0);
	if (s->silence_ns <= 0)
		s->silence_ns = SILENCE_S * NSEC_PER_SEC;
	s->headers = json_arr(config, "headers");
	s->mount_from = json_arr(config, "mount_from");
	if (json_array_size(hosts) > HOSTS_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT, "more than %d registry hosts", HOSTS_MAX);
	json_array_foreach (hosts, i, o) {
		r = configure_host(s, &s->hosts[i], o, err);
		s->n_hosts = i + 1;
		if (r < 0)
			return r;
	}
	return http_new(json_bool(config, "debug", false) ? on_log : NULL, s, &s->http, err);
}

/* ---- from the daemon ---- */

static struct call *call_new(struct session *s, int64_t id, enum call_type type)
{
	struct call *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->s = s;
	c->id = id;
	c->type = type;
	c->fd = -1;
	c->size = c->end = -1;
	c->next = s->calls;
	if (c->next)
		c->next->prev = c;
	s->calls = c;
	return c;
}

static void answer_error(struct session *s, int64_t id, struct err *err)
{
	json_t *m = msg_error(err);

	if (m)
		json_object_set_new(m, "id", json_integer(id));
	session_send(s, m);
}

static void on_resolve(struct session *s, int64_t id)
{
	struct call *c = call_new(s, id, CALL_RESOLVE);
	struct err err;

	if (!c) {
		s->broken = true;
		return;
	}
	snprintf(c->digest, sizeof(c->digest), "%s", s->object);
	c->head = true;
	if (call_begin(c, &err) < 0)
		call_fail(c, &err);
}

static void on_blob(struct session *s, int64_t id, const json_t *o, int fd)
{
	struct call *c = call_new(s, id, CALL_BLOB);
	int64_t length = json_int(o, "length", 0);
	struct err err;

	if (!c) {
		close(fd);
		s->broken = true;
		return;
	}
	c->fd = fd;
	snprintf(c->media_type, sizeof(c->media_type), "%s", json_str(o, "media_type", ""));
	snprintf(c->digest, sizeof(c->digest), "%s", json_str(o, "digest", ""));
	c->size = json_int(o, "size", -1);
	c->off = json_int(o, "offset", 0);
	if (length > 0 && c->off >= 0 && c->size >= c->off && length <= c->size - c->off)
		c->end = c->off + length;
	if (c->off < 0 || (length != 0 && c->end < 0) || (c->size >= 0 && c->off > c->size)) {
		err_set(&err, ERR_INVALID_ARGUMENT,
			"offset %lld or length %lld is beyond the size %lld", (long long)c->off,
			(long long)length, (long long)c->size);
		call_fail(c, &err);
	} else if (c->size >= 0 && c->off == c->size) {
		call_finish(c, json_pack("{s:I}", "size", (json_int_t)c->off));
	} else if (call_begin(c, &err) < 0) {
		call_fail(c, &err);
	}
}

static void on_push(struct session *s, int64_t id, const json_t *o, int fd)
{
	struct call *c = call_new(s, id, CALL_PUSH);
	struct err err;

	if (!c) {
		close(fd);
		s->broken = true;
		return;
	}
	c->fd = fd;
	snprintf(c->media_type, sizeof(c->media_type), "%s", json_str(o, "media_type", ""));
	snprintf(c->digest, sizeof(c->digest), "%s", json_str(o, "digest", ""));
	c->size = json_int(o, "size", -1);
	if (push_begin(c, o, &err) < 0 || call_begin(c, &err) < 0)
		call_fail(c, &err);
}

static void on_cancel(struct session *s, int64_t id)
{
	struct err err;

	for (struct call *c = s->calls; c; c = c->next)
		if (c->id == id) {
			err_set_raw(&err, ERR_CANCELED, "context canceled");
			call_fail(c, &err);
			return;
		}
}

static void on_restarted(struct session *s, int64_t id)
{
	for (struct call *c = s->calls; c; c = c->next)
		if (c->id == id)
			blob_restarted(c);
}

static void on_message(struct session *s, json_t *m, int *fds, size_t n_fds)
{
	int64_t id = json_int(m, "id", 0), cancel = json_int(m, "cancel", 0);
	int64_t restarted = json_int(m, "restarted", 0);
	struct err err;
	size_t n = 0;

	for (const struct call *c = s->calls; c; c = c->next)
		n++;
	if (json_obj(m, "auth")) {
		auth_answer(s, json_obj(m, "auth"));
	} else if (cancel > 0) {
		on_cancel(s, cancel);
	} else if (restarted > 0) {
		on_restarted(s, restarted);
	} else if (id > 0 && n >= CALLS_MAX) {
		err_set(&err, ERR_RESOURCE_EXHAUSTED, "more than %d calls at a time", CALLS_MAX);
		answer_error(s, id, &err);
	} else if (id > 0 && json_obj(m, "resolve")) {
		on_resolve(s, id);
	} else if (id > 0 && json_obj(m, "blob") && n_fds == 1) {
		on_blob(s, id, json_obj(m, "blob"), fds[0]);
		return;
	} else if (id > 0 && json_obj(m, "push") && n_fds == 1) {
		on_push(s, id, json_obj(m, "push"), fds[0]);
		return;
	} else if (id > 0) {
		err_set(&err, ERR_UNIMPLEMENTED, "unknown request");
		answer_error(s, id, &err);
	}
	for (size_t i = 0; i < n_fds; i++)
		close(fds[i]);
}

/* ---- loop ---- */

/* What is due by the clock; returns milliseconds until the next. */
static int tick(struct session *s)
{
	int64_t now = time_mono(), next = now + TICK_MS * NSEC_PER_MSEC;

	for (struct call *c = s->calls; c; c = c->next) {
		if (c->state != CALL_WAIT_RETRY)
			continue;
		if (c->retry_at <= now) {
			call_send(c);
			return 0; /* it may have changed the list */
		}
		next = MIN(next, c->retry_at);
	}
	return (int)((next - now + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC);
}

static int run(struct session *s)
{
	while (!s->broken) {
		bool readable;

		if (http_perform(s->http, NULL) < 0 ||
		    http_wait(s->http, s->sock, tick(s), &readable, NULL) < 0)
			return 1;
		if (readable) {
			_cleanup_json_ json_t *m = NULL;
			int fds[1];
			size_t n = ARRAY_LEN(fds);

			if (msg_recv(s->sock, 0, &m, fds, &n, NULL) <= 0)
				return 0;
			on_message(s, m, fds, n);
		}
	}
	return 1;
}

/* Go's programs take HTTP_PROXY too, and talk to their own host without a proxy. */
static int prepare_proxy(struct err *err)
{
	const char *proxy = getenv("HTTP_PROXY"), *lower = getenv("no_proxy"),
		   *none = lower ? lower : getenv("NO_PROXY");
	_cleanup_buf_ struct buf b = BUF_INIT;

	if (proxy && !getenv("http_proxy") && setenv("http_proxy", proxy, 1) < 0)
		return err_nomem(err);
	/* The star must stand alone. */
	if (none && streq(none, "*"))
		return 0;
	buf_printf(&b, "%s%slocalhost,127.0.0.0/8,::1", str_or(none, ""),
		   str_empty(none) ? "" : ",");
	return buf_ok(&b) && setenv("no_proxy", b.data, 1) == 0 ? 0 : err_nomem(err);
}

static void session_done(struct session *s)
{
	while (s->calls)
		call_free(s->calls);
	for (size_t i = 0; i < s->n_hosts; i++) {
		auth_done(&s->hosts[i].auth);
		free(s->hosts[i].ca);
	}
	http_free(s->http);
	json_decref(s->config);
}

int role_fetch(int sock)
{
	static struct session s;
	_cleanup_json_ json_t *m = NULL;
	struct err err = ERR_INIT;
	json_t *config;
	int r;

	s.sock = sock;
	if (prepare_proxy(&err) < 0 || curl_load(&err) < 0 || jail_fetch(&err) < 0) {
		/* Nothing is asked yet: the answer to whatever comes is this. */
		session_send(&s, msg_error(&err));
		return 1;
	}
	if (msg_recv(sock, 0, &m, NULL, NULL, &err) <= 0)
		return 1;
	config = json_obj(m, "session");
	if (!config)
		err_set(&err, ERR_INVALID_ARGUMENT, "no session");
	if (!config || configure(&s, config, &err) < 0) {
		session_send(&s, msg_error(&err));
		return 1;
	}
	r = run(&s);
	session_done(&s);
	return r;
}
