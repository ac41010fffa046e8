/* SPDX-License-Identifier: Apache-2.0 */
/* The streaming server: calls are answered with a URL that holds a token; whoever comes with it
 * within a minute gets the stream, once. HTTP, TLS, SPDY and WebSocket are spoken by a front
 * (core/front_session.h), whose process is started when the first URL is asked for: a daemon that
 * no kubelet uses has none. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "core/listen.h"
#include "cri/streaming_internal.h"

#define TOKENS_MAX 1000
#define TOKEN_BYTES 6
#define TOKEN_LEN 8
#define STACK (1u << 20)

struct token {
	char text[TOKEN_LEN + 1];
	int64_t until; /* monotonic */
	struct stream_request *q;
};

struct cri_streaming {
	struct cri *c;
	char *base;		  /* "http://127.0.0.1:1234" */
	struct front_listener at; /* its socket is the front's once there is one */
	pthread_mutex_t starting; /* guards the next */
	struct front *front;
	pthread_mutex_t lock;		 /* guards all below */
	pthread_cond_t ended;		 /* a session has */
	struct token tokens[TOKENS_MAX]; /* in order of their time */
	size_t n_tokens;
	struct stream_session *sessions;
	size_t n_sessions;
	bool stopping;
};

struct cri *stream_cri(const struct cri_streaming *s)
{
	return s->c;
}

int64_t stream_idle_ms(const struct cri_streaming *s)
{
	return s->c->config->stream_idle_timeout_ns / NSEC_PER_MSEC;
}

void stream_request_free(struct stream_request *q)
{
	if (q)
		arena_free(q->arena);
}
DEFINE_CLEANUP(struct stream_request *, stream_request_free)

/* ---- tokens ---- */

static void tokens_drop(struct cri_streaming *s, size_t from, size_t n)
{
	memmove(&s->tokens[from], &s->tokens[from + n],
		(s->n_tokens - from - n) * sizeof(s->tokens[0]));
	s->n_tokens -= n;
}

static void tokens_expire(struct cri_streaming *s)
{
	int64_t now = time_mono();
	size_t n = 0;

	while (n < s->n_tokens && s->tokens[n].until <= now)
		stream_request_free(s->tokens[n++].q);
	tokens_drop(s, 0, n);
}

static size_t token_find(const struct cri_streaming *s, const char *text)
{
	size_t i = 0;

	while (i < s->n_tokens && !streq(s->tokens[i].text, text))
		i++;
	return i;
}

static void token_text(char ret[TOKEN_LEN + 1])
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	uint8_t b[TOKEN_BYTES];
	uint64_t v = 0;

	random_bytes(b, sizeof(b));
	for (size_t i = 0; i < sizeof(b); i++)
		v = v << 8 | b[i];
	for (size_t i = 0; i < TOKEN_LEN; i++, v >>= 6)
		ret[i] = digits[v & 63];
	ret[TOKEN_LEN] = '\0';
}

/* Takes @q over. */
static int token_new(struct cri_streaming *s, struct stream_request *q, char ret[TOKEN_LEN + 1],
		     struct err *err)
{
	struct token *t;

	MUTEX_GUARD(&s->lock);
	tokens_expire(s);
	if (s->n_tokens == TOKENS_MAX || s->stopping) {
		stream_request_free(q);
		return s->stopping ? err_set(err, ERR_UNAVAILABLE, "the daemon is being stopped")
				   : err_set(err, ERR_RESOURCE_EXHAUSTED,
					     "maximum number of in-flight requests exceeded");
	}
	do
		token_text(ret);
	while (token_find(s, ret) < s->n_tokens);
	t = &s->tokens[s->n_tokens++];
	memcpy(t->text, ret, TOKEN_LEN + 1);
	t->until = time_mono() + STREAM_TOKEN_SECONDS * NSEC_PER_SEC;
	t->q = q;
	return 0;
}

struct stream_request *stream_token_use(struct cri_streaming *s, const char *token)
{
	struct stream_request *q;
	size_t i;

	MUTEX_GUARD(&s->lock);
	tokens_expire(s);
	i = token_find(s, token);
	if (i == s->n_tokens)
		return NULL;
	q = s->tokens[i].q;
	tokens_drop(s, i, 1);
	return q;
}

/* ---- the front ---- */

static void on_warn(void *arg, const char *text)
{
	log_warn("%s", text);
}

/* Unless it is there. */
static int front_begin(struct cri_streaming *s, struct err *err)
{
	struct front_route routes[] = {
		{"GET", "/exec/", stream_http_exec, s},
		{"POST", "/exec/", stream_http_exec, s},
		{"GET", "/attach/", stream_http_attach, s},
		{"POST", "/attach/", stream_http_attach, s},
		{"GET", "/portforward/", stream_http_forward, s},
		{"POST", "/portforward/", stream_http_forward, s},
	};
	struct front_options f = {.name = "streaming",
				  .pool = s->c->o.pool,
				  .listeners = &s->at,
				  .n_listeners = 1,
				  .routes = routes,
				  .n_routes = ARRAY_LEN(routes),
				  .warn = on_warn,
				  .max_connections = STREAM_SESSIONS_MAX};
	int r;

	MUTEX_GUARD(&s->starting);
	if (s->front)
		return 0;
	if (s->at.fd < 0)
		return err_set(err, ERR_UNAVAILABLE, "the daemon is being stopped");
	r = front_start(&f, &s->front, err);
	if (r < 0)
		return r;
	s->at.fd = -1;
	return 0;
}

static void front_end(struct cri_streaming *s)
{
	MUTEX_GUARD(&s->starting);
	front_free(TAKE_PTR(s->front));
	fd_closep(&s->at.fd);
	s->at.fd = -1;
}

/* ---- calls ---- */

static int request_new(enum stream_kind kind, const char *id, struct stream_request **ret,
		       struct err *err)
{
	struct arena *a = arena_new(0);
	struct stream_request *q = a ? arena_new_obj(a, struct stream_request) : NULL;

	if (!q || !(q->id = arena_strdup(a, id))) {
		arena_free(a);
		return err_nomem(err);
	}
	q->arena = a;
	q->kind = kind;
	*ret = q;
	return 0;
}

static int streams_check(const char *id, bool tty, bool in, bool out, bool err_, struct err *err)
{
	if (str_empty(id))
		return err_set(err, ERR_INVALID_ARGUMENT, "missing required container_id");
	if (tty && err_)
		return err_set(err, ERR_INVALID_ARGUMENT, "tty and stderr cannot both be true");
	if (!in && !out && !err_)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "one of stdin, stdout, or stderr must be set");
	return 0;
}

/* The whole id of a container that runs. */
static int running_container(struct ctx *ctx, struct cri *c, const char *id, const char **ret,
			     struct err *err)
{
	static const char *const names[] = {"CONTAINER_CREATED", "CONTAINER_RUNNING",
					    "CONTAINER_EXITED", "CONTAINER_UNKNOWN"};
	_cleanup_container_ struct cri_container *k = NULL;
	int r = cri_table_get(c->containers, id, &k, err);

	if (r < 0)
		return err_prefix(err, "failed to find container \"%s\" in store", id);
	pthread_mutex_lock(&k->o.lock);
	unsigned state = cri_status_state(&k->status);
	pthread_mutex_unlock(&k->o.lock);
	if (state != RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING)
		return err_set(err, ERR_UNKNOWN, "container is in %s state",
			       state < ARRAY_LEN(names) ? names[state] : "unknown");
	*ret = arena_strdup(ctx->arena, k->o.id);
	return *ret ? 0 : err_nomem(err);
}

/* "<base>/<what>/<token>" in @a; takes @q over. */
static int url_new(struct cri *c, struct arena *a, const char *what, struct stream_request *q,
		   char **ret, struct err *err)
{
	char token[TOKEN_LEN + 1];
	int r = front_begin(c->streaming, err);

	if (r < 0) {
		stream_request_free(q);
		return err_prefix(err, "streaming server");
	}
	r = token_new(c->streaming, q, token, err);
	if (r < 0)
		return r;
	*ret = arena_printf(a, "%s/%s/%s", c->streaming->base, what, token);
	return *ret ? 0 : err_nomem(err);
}

/* What Exec and Attach ask for in the same way. */
static int container_request(struct ctx *ctx, struct cri *c, const struct stream_request *wanted,
			     struct stream_request **ret, struct err *err)
{
	const struct stream_request *w = wanted;
	const char *id;
	int r = streams_check(w->id, w->tty, w->in, w->out, w->err, err);

	if (r == 0)
		r = running_container(ctx, c, w->id, &id, err);
	if (r == 0)
		r = request_new(w->kind, id, ret, err);
	if (r < 0)
		return r;
	(*ret)->tty = w->tty;
	(*ret)->in = w->in;
	(*ret)->out = w->out;
	(*ret)->err = w->err;
	return 0;
}

int cri_exec(struct rpc_call *call, const void *req, struct err *err)
{
	const CRI(ExecRequest) *m = req;
	CRI(ExecResponse) resp = CRI_INIT(EXEC_RESPONSE);
	_cleanup_(stream_request_freep) struct stream_request *q = NULL;
	struct ctx *ctx = rpc_ctx(call);
	struct cri *c;
	int r = cri_of(call, &c, err);

	if (r == 0)
		r = container_request(ctx, c,
				      &(struct stream_request){.kind = STREAM_EXEC,
							       .id = m->container_id,
							       .tty = m->tty,
							       .in = m->stdin,
							       .out = m->stdout,
							       .err = m->stderr},
				      &q, err);
	if (r < 0)
		return r;
	q->argv = arena_new_array(q->arena, char *, m->n_cmd + 1);
	if (!q->argv)
		return err_nomem(err);
	for (; q->n_argv < m->n_cmd; q->n_argv++) {
		q->argv[q->n_argv] = arena_strdup(q->arena, m->cmd[q->n_argv]);
		if (!q->argv[q->n_argv])
			return err_nomem(err);
	}
	r = url_new(c, ctx->arena, "exec", TAKE_PTR(q), &resp.url, err);
	return r < 0 ? r : rpc_send(call, &resp.base, err);
}

int cri_attach(struct rpc_call *call, const void *req, struct err *err)
{
	const CRI(AttachRequest) *m = req;
	CRI(AttachResponse) resp = CRI_INIT(ATTACH_RESPONSE);
	_cleanup_(stream_request_freep) struct stream_request *q = NULL;
	struct ctx *ctx = rpc_ctx(call);
	struct cri *c;
	int r = cri_of(call, &c, err);

	if (r == 0)
		r = container_request(ctx, c,
				      &(struct stream_request){.kind = STREAM_ATTACH,
							       .id = m->container_id,
							       .tty = m->tty,
							       .in = m->stdin,
							       .out = m->stdout,
							       .err = m->stderr},
				      &q, err);
	if (r < 0)
		return r;
	r = url_new(c, ctx->arena, "attach", TAKE_PTR(q), &resp.url, err);
	return r < 0 ? r : rpc_send(call, &resp.base, err);
}

int cri_port_forward(struct rpc_call *call, const void *req, struct err *err)
{
	const CRI(PortForwardRequest) *m = req;
	CRI(PortForwardResponse) resp = CRI_INIT(PORT_FORWARD_RESPONSE);
	_cleanup_(stream_request_freep) struct stream_request *q = NULL;
	_cleanup_pod_ struct cri_pod *p = NULL;
	struct ctx *ctx = rpc_ctx(call);
	struct cri *c;
	bool ready;
	int r = cri_of(call, &c, err);

	if (r < 0)
		return r;
	if (str_empty(m->pod_sandbox_id))
		return err_set(err, ERR_INVALID_ARGUMENT, "missing required pod_sandbox_id");
	r = cri_table_get(c->pods, m->pod_sandbox_id, &p, err);
	if (r < 0)
		return err_prefix(err, "failed to find sandbox \"%s\"", m->pod_sandbox_id);
	pthread_mutex_lock(&p->o.lock);
	ready = p->state == CRI_POD_READY;
	pthread_mutex_unlock(&p->o.lock);
	if (!ready)
		return err_set(err, ERR_UNKNOWN, "sandbox container is not running");
	r = request_new(STREAM_FORWARD, p->o.id, &q, err);
	if (r < 0)
		return r;
	q->ports = arena_new_array(q->arena, int32_t, m->n_port + 1);
	if (!q->ports)
		return err_nomem(err);
	for (; q->n_ports < m->n_port; q->n_ports++) {
		int32_t v = m->port[q->n_ports];

		if (v <= 0 || v > UINT16_MAX)
			return err_set(err, ERR_INVALID_ARGUMENT, "port %d is not one", v);
		q->ports[q->n_ports] = v;
	}
	r = url_new(c, ctx->arena, "portforward", TAKE_PTR(q), &resp.url, err);
	return r < 0 ? r : rpc_send(call, &resp.base, err);
}

/* ---- sessions ---- */

static void session_close(struct stream_session *x)
{
	stream_request_free(x->q);
	fd_closep(&x->control);
	fd_closep(&x->cancel);
	fd_closep(&x->wake);
	free(x);
}

static void *session_main(void *arg)
{
	struct stream_session *x = arg;
	struct cri_streaming *s = x->s;

	pthread_setname_np(pthread_self(), "stream");
	if (x->q->kind == STREAM_FORWARD)
		stream_forward(x);
	else
		stream_command(x);
	pthread_mutex_lock(&s->lock);
	if (x->prev)
		x->prev->next = x->next;
	else
		s->sessions = x->next;
	if (x->next)
		x->next->prev = x->prev;
	session_close(x);
	s->n_sessions--;
	pthread_cond_broadcast(&s->ended);
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

/* Under the lock: so a session is in the list, or not there. */
static int session_add(struct cri_streaming *s, struct stream_session *x, struct err *err)
{
	pthread_attr_t attr;
	pthread_t t;
	int r;

	if (s->stopping)
		return err_set(err, ERR_UNAVAILABLE, "the daemon is being stopped");
	if (s->n_sessions >= STREAM_SESSIONS_MAX)
		return err_set(err, ERR_RESOURCE_EXHAUSTED, "there are %d streams already",
			       STREAM_SESSIONS_MAX);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, STACK);
	r = pthread_create(&t, &attr, session_main, x);
	pthread_attr_destroy(&attr);
	if (r != 0)
		return err_errno(err, r, "start a thread");
	x->next = s->sessions;
	if (x->next)
		x->next->prev = x;
	s->sessions = x;
	s->n_sessions++;
	return 0;
}

int stream_session_start(struct cri_streaming *s, struct stream_request *q, bool json_status,
			 int control, struct err *err)
{
	struct stream_session *x = calloc(1, sizeof(*x));
	int r;

	if (!x) {
		stream_request_free(q);
		close(control);
		return err_nomem(err);
	}
	x->s = s;
	x->q = q;
	x->json_status = json_status;
	x->control = control;
	x->cancel = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	x->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pthread_mutex_lock(&s->lock);
	r = x->cancel < 0 || x->wake < 0 ? err_errno(err, EMFILE, "make an eventfd")
					 : session_add(s, x, err);
	pthread_mutex_unlock(&s->lock);
	if (r < 0)
		session_close(x);
	return r;
}

/* ---- life ---- */

/* The address from which this host would reach others, without sending anything. */
static bool host_address(int family, char *ret)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(9)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(9)};
	bool is4 = family == AF_INET;
	struct sockaddr *a = is4 ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6;
	socklen_t n = is4 ? sizeof(v4) : sizeof(v6);
	_cleanup_close_ int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || inet_pton(AF_INET, "192.0.2.1", &v4.sin_addr) != 1 ||
	    inet_pton(AF_INET6, "2001:db8::1", &v6.sin6_addr) != 1 || connect(fd, a, n) < 0 ||
	    getsockname(fd, a, &n) < 0)
		return false;
	return inet_ntop(family, is4 ? (void *)&v4.sin_addr : (void *)&v6.sin6_addr, ret,
			 INET6_ADDRSTRLEN);
}

static void any_address(char *ret)
{
	if (!host_address(AF_INET, ret) && !host_address(AF_INET6, ret))
		strcpy(ret, "127.0.0.1");
}

/* What clients on this host are to connect to. */
static int base_url(int fd, bool tls, char **ret)
{
	struct sockaddr_storage a = {0};
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&a;
	struct sockaddr_in *v4 = (struct sockaddr_in *)&a;
	char text[INET6_ADDRSTRLEN];
	socklen_t n = sizeof(a);
	bool is6, any;

	if (getsockname(fd, (struct sockaddr *)&a, &n) < 0)
		return -errno;
	is6 = a.ss_family == AF_INET6;
	any = is6 ? IN6_IS_ADDR_UNSPECIFIED(&v6->sin6_addr) : v4->sin_addr.s_addr == INADDR_ANY;
	if (any)
		any_address(text);
	else if (!inet_ntop(a.ss_family, is6 ? (void *)&v6->sin6_addr : (void *)&v4->sin_addr, text,
			    sizeof(text)))
		return -errno;
	is6 = strchr(text, ':');
	return asprintf(ret, "http%s://%s%s%s:%d", tls ? "s" : "", is6 ? "[" : "", text,
			is6 ? "]" : "", tcp_port(fd)) < 0
		       ? -ENOMEM
		       : 0;
}

static int listen_at(const struct cri_config *o, int *ret, struct err *err)
{
	char text[INET6_ADDRSTRLEN], address[512];
	const char *host = o->stream_address;
	bool bare6;

	if (str_empty(host)) {
		any_address(text);
		host = text;
	}
	bare6 = strchr(host, ':') && host[0] != '[';
	if (snprintf(address, sizeof(address), "%s%s%s:%s", bare6 ? "[" : "", host,
		     bare6 ? "]" : "", str_or(o->stream_port, "0")) >= (int)sizeof(address))
		return err_set(err, ERR_INVALID_ARGUMENT, "stream_server_address is too long");
	return tcp_listen(address, ret, err);
}

static int tls_of(const struct cri_config *o, struct front_listener *l, struct err *err)
{
	bool cert = !str_empty(o->stream_cert_file), key = !str_empty(o->stream_key_file);

	if (!o->stream_tls && (cert || key))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "x509_key_pair_streaming is set, but enable_tls_streaming is not");
	if (cert != key)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "x509_key_pair_streaming needs both tls_cert_file and tls_key_file");
	if (!o->stream_tls)
		return 0;
	l->self_signed = !cert;
	if (cert) {
		l->tls_cert = o->stream_cert_file;
		l->tls_key = o->stream_key_file;
	}
	return 0;
}

static int start(struct cri_streaming *s, struct err *err)
{
	const struct cri_config *o = s->c->config;
	int r = tls_of(o, &s->at, err);

	if (r == 0)
		r = listen_at(o, &s->at.fd, err);
	if (r < 0)
		return r;
	r = base_url(s->at.fd, o->stream_tls, &s->base);
	if (r < 0)
		return err_errno(err, r, "address of the streaming server");
	/* A certificate that is no good is told at the daemon's start. */
	return o->stream_tls ? front_begin(s, err) : 0;
}

int cri_streaming_new(struct cri *c, struct cri_streaming **ret, struct err *err)
{
	struct cri_streaming *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return err_nomem(err);
	s->c = c;
	s->at = (struct front_listener){.fd = -1, .kind = FRONT_HTTP};
	pthread_mutex_init(&s->starting, NULL);
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->ended, NULL);
	r = start(s, err);
	if (r < 0) {
		cri_streaming_free(s);
		return err_prefix(err, "streaming server");
	}
	*ret = s;
	return 0;
}

void cri_streaming_stop(struct cri_streaming *s)
{
	if (!s)
		return;
	pthread_mutex_lock(&s->lock);
	s->stopping = true;
	for (struct stream_session *x = s->sessions; x; x = x->next)
		(void)eventfd_write(x->cancel, 1);
	pthread_mutex_unlock(&s->lock);
	front_end(s);
	pthread_mutex_lock(&s->lock);
	while (s->n_sessions > 0)
		pthread_cond_wait(&s->ended, &s->lock);
	pthread_mutex_unlock(&s->lock);
}

void cri_streaming_free(struct cri_streaming *s)
{
	if (!s)
		return;
	front_end(s);
	for (size_t i = 0; i < s->n_tokens; i++)
		stream_request_free(s->tokens[i].q);
	pthread_cond_destroy(&s->ended);
	pthread_mutex_destroy(&s->lock);
	pthread_mutex_destroy(&s->starting);
	free(s->base);
	free(s);
}
