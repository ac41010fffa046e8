/* SPDX-License-Identifier: Apache-2.0 */
/* The gRPC server as HTTP/2 shows it, its limits, and the client with peers that misbehave. */
#include <nghttp2/nghttp2.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

#include "harness.h"

static int setup(void **state)
{
	harness_start(false, NULL);
	return 0;
}

static int setup_limits(void **state)
{
	struct grpc_server_options o = {
		.max_recv = 1000,
		.max_send = 2000,
		.max_connections = 3,
		.max_streams = 1,
		.handshake_timeout_ns =
			NSEC_PER_SEC, /* the harness's own client keeps to it, too */
	};

	harness_start(false, &o);
	return 0;
}

static int teardown(void **state)
{
	harness_stop();
	return 0;
}

static void assert_works(void)
{
	struct ctx ctx;
	struct err err = ERR_INIT;

	ctx_start(&ctx, WAIT_NS);
	assert_int_equal(echo_call(H.client, &ctx, "Unary", "echo", "x", 1, NULL, &err), 0);
	ctx_end(&ctx);
}

static void assert_closed(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char b[4096];
	ssize_t n;

	do {
		assert_int_equal(poll(&p, 1, 60000), 1);
		n = read(fd, b, sizeof(b));
	} while (n > 0);
	close(fd);
}

/* ---- A client of bytes ---- */

struct raw {
	int fd;
	nghttp2_hd_deflater *out;
	nghttp2_hd_inflater *in;
	char status[8], grpc_status[8], message[256], accept[32];
	bool reset;
	bool open_headers; /* CONTINUATION follows */
};

static int frame_try(struct raw *c, uint8_t type, uint8_t flags, uint32_t id, const void *p,
		     size_t n)
{
	uint8_t h[9] = {(uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n, type, flags, 0, 0,
			(uint8_t)(id >> 8), (uint8_t)id};
	int r = fd_write_full(c->fd, h, sizeof(h));

	return r < 0 ? r : fd_write_full(c->fd, p, n);
}

static void frame_put(struct raw *c, uint8_t type, uint8_t flags, uint32_t id, const void *p,
		      size_t n)
{
	assert_int_equal(frame_try(c, type, flags, id, p, n), 0);
}

static void raw_start(struct raw *c)
{
	*c = (struct raw){.fd = harness_connect()};
	assert_int_equal(nghttp2_hd_deflate_new(&c->out, 4096), 0);
	assert_int_equal(nghttp2_hd_inflate_new(&c->in), 0);
	assert_int_equal(fd_write_full(c->fd, NGHTTP2_CLIENT_MAGIC, NGHTTP2_CLIENT_MAGIC_LEN), 0);
	frame_put(c, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
}

static void raw_end(struct raw *c)
{
	nghttp2_hd_deflate_del(c->out);
	nghttp2_hd_inflate_del(c->in);
	close(c->fd);
}

static void raw_headers(struct raw *c, uint32_t id, bool end, const char *const *pairs)
{
	nghttp2_nv nv[16];
	uint8_t block[4096];
	ssize_t len;
	size_t n = 0;

	for (; pairs[0]; pairs += 2)
		nv[n++] = (nghttp2_nv){(uint8_t *)pairs[0], (uint8_t *)pairs[1], strlen(pairs[0]),
				       strlen(pairs[1]), 0};
	len = nghttp2_hd_deflate_hd(c->out, block, sizeof(block), nv, n);
	assert_true(len > 0);
	frame_put(c, NGHTTP2_HEADERS,
		  (c->open_headers ? 0 : NGHTTP2_FLAG_END_HEADERS) |
			  (end ? NGHTTP2_FLAG_END_STREAM : 0),
		  id, block, (size_t)len);
}

static void header_keep(char *to, size_t room, const nghttp2_nv *nv, const char *name)
{
	if (nv->namelen == strlen(name) && memcmp(nv->name, name, nv->namelen) == 0)
		snprintf(to, room, "%.*s", (int)nv->valuelen, (const char *)nv->value);
}

static void block_read(struct raw *c, uint8_t *p, size_t n)
{
	for (;;) {
		nghttp2_nv nv;
		int flags = 0;
		ssize_t k = nghttp2_hd_inflate_hd2(c->in, &nv, &flags, p, n, 1);

		assert_true(k >= 0);
		p += k;
		n -= (size_t)k;
		if (flags & NGHTTP2_HD_INFLATE_EMIT) {
			header_keep(c->status, sizeof(c->status), &nv, ":status");
			header_keep(c->grpc_status, sizeof(c->grpc_status), &nv, "grpc-status");
			header_keep(c->message, sizeof(c->message), &nv, "grpc-message");
			header_keep(c->accept, sizeof(c->accept), &nv, "grpc-accept-encoding");
		}
		if (flags & NGHTTP2_HD_INFLATE_FINAL) {
			nghttp2_hd_inflate_end_headers(c->in);
			return;
		}
	}
}

/* Reads until stream @id ends. */
static void raw_answer(struct raw *c, uint32_t id)
{
	struct timeval tv = {.tv_sec = 20};

	setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	for (;;) {
		static uint8_t p[1 << 16];
		uint8_t h[9];
		size_t n;

		assert_int_equal(fd_read_full(c->fd, h, sizeof(h)), 9);
		n = (size_t)h[0] << 16 | (size_t)h[1] << 8 | h[2];
		assert_true(n <= sizeof(p));
		assert_int_equal(fd_read_full(c->fd, p, n), n);
		if ((((uint32_t)h[7] << 8) | h[8]) != id)
			continue;
		if (h[3] == NGHTTP2_HEADERS)
			block_read(c, p, n);
		if (h[3] == NGHTTP2_RST_STREAM) {
			c->reset = true;
			return;
		}
		if ((h[3] == NGHTTP2_HEADERS || h[3] == NGHTTP2_DATA) &&
		    (h[4] & NGHTTP2_FLAG_END_STREAM))
			return;
	}
}

#define HEADERS(path, ...)                                                                        \
	((const char *const[]){":method", "POST", ":scheme", "http", ":path", path, ":authority", \
			       "x", __VA_ARGS__, NULL})
#define GRPC "content-type", "application/grpc"

static void expect(const char *const *headers, const void *body, size_t n, const char *http,
		   const char *status, const char *text)
{
	struct raw c;

	raw_start(&c);
	raw_headers(&c, 1, !body, headers);
	if (body)
		frame_put(&c, NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, 1, body, n);
	raw_answer(&c, 1);
	assert_string_equal(c.status, http);
	assert_string_equal(c.grpc_status, status);
	if (text)
		assert_string_equal(c.message, text);
	raw_end(&c);
}

static void requests_that_are_not_grpc_are_refused(void **state)
{
	static const char *const get[] = {
		":method",	    "GET",	  ":scheme", "http", ":path",
		"/test.Echo/Unary", ":authority", "x",	     GRPC,   NULL};

	expect(get, NULL, 0, "405", "13", NULL);
	expect(HEADERS("/test.Echo/Unary", "content-type", "text/html"), "\0\0\0\0", 5, "415", "3",
	       NULL);
	expect(HEADERS("/test.Echo/Unary", "content-type", "application/grpcx"), "\0\0\0\0", 5,
	       "415", "3", NULL);
	expect(HEADERS("/test.Echo/Unary", "x-y", "z"), "\0\0\0\0", 5, "415", "3", NULL);
	expect(HEADERS("/test.Echo/Unary", "content-type", "application/grpc+proto"), "\0\0\0\0", 5,
	       "200", "0", "");
	expect(HEADERS("/test.Echo/Unary", "content-type", "application/grpc;x=y"), "\0\0\0\0", 5,
	       "200", "0", "");
	assert_works();
}

static void malformed_requests_are_answered(void **state)
{
	expect(HEADERS("nonsense", GRPC), "\0\0\0\0", 5, "", "", NULL);
	expect(HEADERS("/nonsense", GRPC), "\0\0\0\0", 5, "200", "12",
	       "malformed method name: \"/nonsense\"");
	expect(HEADERS("/test.Echo/", GRPC), "\0\0\0\0", 5, "200", "12",
	       "unknown method  for service test.Echo");
	expect(HEADERS("/test.Echo/Unary", GRPC, "grpc-timeout", "1x"), "\0\0\0\0", 5, "200", "13",
	       NULL);
	expect(HEADERS("/test.Echo/Unary", GRPC, "grpc-timeout", "0n"), "\0\0\0\0", 5, "200", "4",
	       "context deadline exceeded");
	expect(HEADERS("/test.Echo/Unary", GRPC), NULL, 0, "200", "13",
	       "the request has no message");
	expect(HEADERS("/test.Echo/Unary", GRPC), "\0\0\0\0", 3, "200", "13",
	       "the request ends inside of a message");
	expect(HEADERS("/test.Echo/Unary", GRPC), "\0\0\0\0\0\0\0\0\0", 10, "200", "13",
	       "the request has more than one message");
	expect(HEADERS("/test.Echo/Unary", GRPC), "\0\0\0\0\2\x0a\x7f", 7, "200", "3", NULL);
	expect(HEADERS("/test.Echo/Unary", GRPC), "\1\0\0\0\0", 5, "200", "13", NULL);
	assert_works();
}

/* What nghttp2 does not check for us. */
static void requests_against_the_rules_of_headers_are_reset(void **state)
{
#define FRONT ":method", "POST", ":scheme", "http", ":path", "/test.Echo/Unary"
	static const char *const bad[][16] = {
		{":method", "POST", ":scheme", "http", NULL},
		{":method", "POST", ":path", "/test.Echo/Unary", NULL},
		{":scheme", "http", ":path", "/test.Echo/Unary", NULL},
		{FRONT, ":path", "/x", NULL},
		{FRONT, ":other", "x", NULL},
		{FRONT, "te", "trailers", ":authority", "late", NULL},
		{FRONT, "connection", "close", NULL},
		{FRONT, "transfer-encoding", "chunked", NULL},
		{FRONT, "Upper", "x", NULL},
		{FRONT, "", "x", NULL},
		{FRONT, "x", "a\001b", NULL},
		{FRONT, ":authority", "a\nb", NULL},
	};
	struct raw c;

	raw_start(&c);
	for (uint32_t i = 0; i < ARRAY_LEN(bad); i++) {
		c.reset = false;
		raw_headers(&c, 1 + 2 * i, i & 1, bad[i]);
		raw_answer(&c, 1 + 2 * i);
		assert_true(c.reset);
	}
	raw_end(&c);
	assert_works();
}

/* Programs that use grpc-go with a dialer of their own, as kubelets do. */
static void path_of_the_socket_as_authority_is_taken(void **state)
{
	static const char *const headers[] = {
		FRONT,		":authority",	    "/run/containerd/containerd.sock",
		"content-type", "application/grpc", NULL};

	expect(headers, "\0\0\0\0\0", 5, "200", "0", "");
#undef FRONT
}

static void encodings_other_than_identity_are_unimplemented(void **state)
{
	struct raw c;

	raw_start(&c);
	raw_headers(&c, 1, false, HEADERS("/test.Echo/Unary", GRPC, "grpc-encoding", "gzip"));
	frame_put(&c, NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, 1, "\0\0\0\0", 5);
	raw_answer(&c, 1);
	assert_string_equal(c.grpc_status, "12");
	assert_string_equal(c.accept, "identity");
	raw_end(&c);
	expect(HEADERS("/test.Echo/Unary", GRPC, "grpc-encoding", "identity"), "\0\0\0\0", 5, "200",
	       "0", "");
}

static void first_value_of_a_namespace_wins(void **state)
{
	struct raw c;
	uint8_t body[] = {0, 0, 0, 0, 5, 0x0a, 3, 'c', 't', 'x'};
	char b[256];
	size_t n = 0;

	raw_start(&c);
	raw_headers(&c, 1, false,
		    HEADERS("/test.Echo/Unary", GRPC, "containerd-namespace", "one",
			    "containerd-namespace", "two", "containerd-lease", "l"));
	frame_put(&c, NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, 1, body, sizeof(body));
	while (n < sizeof(b) && !memmem(b, n, "one|l|", 6)) {
		ssize_t k = read(c.fd, b + n, sizeof(b) - n);

		assert_true(k > 0);
		n += (size_t)k;
	}
	assert_non_null(memmem(b, n, "one|l|", 6));
	raw_end(&c);
}

/* A field of 12000 bytes in a CONTINUATION frame, literal without indexing. */
static int continuation_put(struct raw *c, uint32_t id, bool end)
{
	static uint8_t block[12006] = {0, 1, 'k', 0x7f, 0xe1, 0x5c};

	memset(block + 6, 'v', sizeof(block) - 6);
	return frame_try(c, NGHTTP2_CONTINUATION, end ? NGHTTP2_FLAG_END_HEADERS : 0, id, block,
			 sizeof(block));
}

static void huge_headers_are_refused(void **state)
{
	struct raw c;

	raw_start(&c);
	c.open_headers = true;
	raw_headers(&c, 1, true, HEADERS("/test.Echo/Unary", GRPC));
	for (int i = 0; i < 6; i++)
		assert_int_equal(continuation_put(&c, 1, i == 5), 0);
	raw_answer(&c, 1);
	assert_string_equal(c.grpc_status, "8");
	raw_end(&c);
	assert_works();
}

static void headers_without_end_close_the_connection(void **state)
{
	struct raw c;

	raw_start(&c);
	c.open_headers = true;
	raw_headers(&c, 1, true, HEADERS("/test.Echo/Unary", GRPC));
	for (int i = 0; i < 9; i++)
		if (continuation_put(&c, 1, false) < 0)
			break; /* the server has had enough before the last */
	assert_closed(dup(c.fd));
	raw_end(&c);
	assert_works();
}

/* ---- Hostile peers ---- */

static void garbage_closes_only_its_connection(void **state)
{
	static const char *const junk[] = {
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello tls client",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff"};

	for (size_t i = 0; i < ARRAY_LEN(junk); i++) {
		int fd = harness_connect();

		assert_int_equal(fd_write_full(fd, junk[i], strlen(junk[i])), 0);
		assert_closed(fd);
		assert_works();
	}
}

static void peers_that_vanish_mid_call_cancel_it(void **state)
{
	for (int i = 0; i < 50; i++) {
		struct raw c;

		raw_start(&c);
		raw_headers(&c, 1, false, HEADERS("/test.Echo/Block", GRPC));
		frame_put(&c, NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, 1, "\0\0\0\0", 5);
		sem_wait_or_fail(&H.entered);
		if (i % 2)
			frame_put(&c, NGHTTP2_RST_STREAM, 0, 1, "\0\0\0\10", 4);
		else
			shutdown(c.fd, SHUT_RDWR);
		sem_wait_or_fail(&H.canceled);
		raw_end(&c);
	}
	assert_works();
}

static void ten_thousand_resets_are_survived(void **state)
{
	struct raw c;

	raw_start(&c);
	for (uint32_t id = 1; id < 20000; id += 2) {
		char drain[65536];

		raw_headers(&c, id, false, HEADERS("/test.Echo/Unary", GRPC));
		frame_put(&c, NGHTTP2_RST_STREAM, 0, id, "\0\0\0\10", 4);
		recv(c.fd, drain, sizeof(drain), MSG_DONTWAIT);
	}
	raw_end(&c);
	assert_works();
}

/* Each is answered, and the answers stay in the server. */
static void peer_that_asks_and_never_reads_is_given_up(void **state)
{
	enum { BATCH = 1000, BATCHES = 300 };
	static const uint8_t headers[] = {0x83, 0x86, 0x84}; /* POST, http, / */
	static uint8_t batch[BATCH][9 + sizeof(headers)];
	struct raw c;
	uint32_t id = 1;
	int r = 0;

	raw_start(&c);
	for (int i = 0; r == 0 && i < BATCHES; i++) {
		for (int k = 0; k < BATCH; k++, id += 2) {
			const uint8_t h[] = {0,
					     0,
					     sizeof(headers),
					     NGHTTP2_HEADERS,
					     NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM,
					     (uint8_t)(id >> 24),
					     (uint8_t)(id >> 16),
					     (uint8_t)(id >> 8),
					     (uint8_t)id};

			memcpy(batch[k], h, sizeof(h));
			memcpy(batch[k] + sizeof(h), headers, sizeof(headers));
		}
		r = fd_write_full(c.fd, batch, sizeof(batch));
	}
	assert_true(r == -EPIPE || r == -ECONNRESET);
	raw_end(&c);
	assert_works();
}

static void silent_connection_is_closed(void **state)
{
	assert_closed(harness_connect());
	assert_works();
}

static void connections_above_the_limit_are_closed(void **state)
{
	struct raw c[2];
	int fd;

	/* Ours is the first. */
	assert_works();
	for (int i = 0; i < 2; i++) {
		raw_start(&c[i]);
		raw_headers(&c[i], 1, false, HEADERS("/nope/nope", GRPC));
		frame_put(&c[i], NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, 1, "\0\0\0\0", 5);
		raw_answer(&c[i], 1);
	}
	fd = harness_connect();
	assert_closed(fd);
	raw_end(&c[0]);
	raw_end(&c[1]);
	assert_works();
}

static void message_limits_hold(void **state)
{
	struct ctx ctx;
	struct err err = ERR_INIT;
	struct rpc_client *small;
	uint8_t p[2000] = {0};
	size_t v[] = {1, 3000};
	struct rpc_stream *s;
	Any *a, none = any_of("x", p, 0), big = any_of("x", p, 1500);

	ctx_start(&ctx, WAIT_NS);
	/* Server receives, unary and stream. */
	assert_int_equal(echo_call(H.client, &ctx, "Unary", "echo", p, 996, NULL, &err),
			 -ERR_RESOURCE_EXHAUSTED);
	assert_string_equal(err.text, "grpc: received message larger than max (1005 vs. 1000)");
	assert_int_equal(rpc_stream_open(H.client, &ctx, ECHO, "Collect", &s, &err), 0);
	assert_int_equal(rpc_stream_send(s, &none.base, &err), 0);
	while (atomic_load(&H.received) == 0)
		usleep(1000);
	assert_int_equal(rpc_stream_send(s, &big.base, &err), 0);
	assert_int_equal(
		rpc_stream_recv(s, ctx.arena, &google__protobuf__any__descriptor, &a, &err),
		-ERR_RESOURCE_EXHAUSTED);
	rpc_stream_free(s);
	sem_wait_or_fail(&H.canceled);
	/* Server sends. */
	assert_int_equal(rpc_stream_open(H.client, &ctx, ECHO, "Count", &s, &err), 0);
	big = any_of("", v, sizeof(v));
	assert_int_equal(rpc_stream_send(s, &big.base, &err), 0);
	assert_int_equal(rpc_stream_close_send(s, &err), 0);
	assert_int_equal(
		rpc_stream_recv(s, ctx.arena, &google__protobuf__any__descriptor, &a, &err),
		-ERR_RESOURCE_EXHAUSTED);
	assert_string_equal(err.text,
			    "grpc: trying to send message larger than max (3006 vs. 2000)");
	rpc_stream_free(s);
	/* Client receives. */
	small = harness_client(100);
	assert_int_equal(echo_call(small, &ctx, "Unary", "echo", p, 200, NULL, &err),
			 -ERR_RESOURCE_EXHAUSTED);
	assert_string_equal(err.text, "grpc: received message larger than max (209 vs. 100)");
	assert_int_equal(echo_call(small, &ctx, "Unary", "echo", p, 20, NULL, &err), 0);
	rpc_client_free(small);
	ctx_end(&ctx);
}

static void calls_above_the_stream_limit_wait(void **state)
{
	struct ctx ctx;
	struct err err = ERR_INIT;
	struct rpc_stream *s;
	Any *a, m = any_of("x", NULL, 0);

	ctx_start(&ctx, 0);
	assert_int_equal(rpc_stream_open(H.client, &ctx, ECHO, "Chat", &s, &err), 0);
	assert_int_equal(rpc_stream_send(s, &m.base, &err), 0);
	assert_int_equal(
		rpc_stream_recv(s, ctx.arena, &google__protobuf__any__descriptor, &a, &err), 1);
	ctx.deadline = time_mono() + 30 * NSEC_PER_MSEC;
	assert_int_equal(echo_call(H.client, &ctx, "Unary", "echo", NULL, 0, NULL, &err),
			 -ERR_DEADLINE_EXCEEDED);
	rpc_stream_free(s);
	assert_works();
	ctx_end(&ctx);
}

static void outcome_of_each_call_is_reported(void **state)
{
	struct ctx ctx;
	struct err err = ERR_INIT;

	ctx_start(&ctx, 0);
	assert_works();
	assert_int_equal(echo_call(H.client, &ctx, "Missing", "", NULL, 0, NULL, &err),
			 -ERR_UNIMPLEMENTED);
	assert_int_equal(atomic_load(&H.n_done), 2);
	ctx_end(&ctx);
}

/* ---- The client's peers ---- */

struct peer {
	int fd;
	const char *bytes;
	size_t n;
};

/* Reads what comes first, answers with bytes, closes. */
static void *peer_main(void *arg)
{
	struct peer *p = arg;
	char b[4096];

	if (read(p->fd, b, sizeof(b)) > 0 && fd_write_full(p->fd, p->bytes, p->n) < 0)
		abort();
	usleep(1000);
	close(p->fd);
	return NULL;
}

static void client_survives_bad_servers(void **state)
{
	static const struct {
		const char *bytes;
		size_t n;
	} cases[] = {
		{"", 0},
		{"HTTP/1.1 400 Bad Request\r\n\r\n", 28},
		{"\0\0\0\4\0\0\0\0\0", 9},
		{"\0\0\0\4\0\0\0\0\0\0\0\4\1\4\0\0\0\1\xff\xff\xff\xff", 22},
		{"\0\0\0\4\0\0\0\0\0\0\0\10\7\0\0\0\0\0\0\0\0\0\0\0\0\0", 26},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct ctx ctx;
		struct err err = ERR_INIT;
		struct rpc_client *c;
		struct peer p = {.bytes = cases[i].bytes, .n = cases[i].n};
		pthread_t t;
		int sv[2];

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
		p.fd = sv[1];
		pthread_create(&t, NULL, peer_main, &p);
		assert_int_equal(grpc_client_new(H.loop, sv[0], NULL, &c), 0);
		ctx_start(&ctx, WAIT_NS);
		assert_int_equal(echo_call(c, &ctx, "Unary", "x", NULL, 0, NULL, &err),
				 -ERR_UNAVAILABLE);
		assert_int_equal(echo_call(c, &ctx, "Unary", "x", NULL, 0, NULL, &err),
				 -ERR_UNAVAILABLE);
		pthread_join(t, NULL);
		rpc_client_free(c);
		ctx_end(&ctx);
	}
}

static void keepalive_leaves_a_live_connection_alone(void **state)
{
	struct grpc_client_options o = {.keepalive_ns = 5 * NSEC_PER_MSEC};
	struct rpc_client *c;
	struct ctx ctx;
	struct err err = ERR_INIT;

	assert_int_equal(grpc_client_new(H.loop, harness_connect(), &o, &c), 0);
	ctx_start(&ctx, 100 * NSEC_PER_MSEC);
	assert_int_equal(echo_call(c, &ctx, "Block", "x", NULL, 0, NULL, &err),
			 -ERR_DEADLINE_EXCEEDED);
	ctx.deadline = 0;
	assert_int_equal(echo_call(c, &ctx, "Unary", "x", NULL, 0, NULL, &err), 0);
	rpc_client_free(c);
	ctx_end(&ctx);
}

static void drained(void *arg)
{
	sem_post(arg);
}

static void drain_start(void *arg)
{
	grpc_server_drain(H.grpc, 3600 * NSEC_PER_SEC, drained, arg);
}

/* It neither answers nor goes, and has no calls. */
static void client_that_sleeps_does_not_hold_up_the_end(void **state)
{
	struct raw c;
	char settings[9];
	sem_t done;

	raw_start(&c);
	assert_int_equal(recv(c.fd, settings, sizeof(settings), MSG_WAITALL), sizeof(settings));
	sem_init(&done, 0, 0);
	harness_on_loop(drain_start, &done);
	sem_wait_or_fail(&done);
	raw_end(&c);
}

static void many_clients_come_and_go(void **state)
{
	struct ctx ctx;
	struct err err = ERR_INIT;

	ctx_start(&ctx, WAIT_NS);
	for (int i = 0; i < 200; i++) {
		struct rpc_client *c = harness_client(0);

		if (i % 3)
			assert_int_equal(echo_call(c, &ctx, "Unary", "x", NULL, 0, NULL, &err), 0);
		rpc_client_free(c);
	}
	ctx_end(&ctx);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define L(f) cmocka_unit_test_setup_teardown(f, setup_limits, teardown)
	const struct CMUnitTest tests[] = {
		T(requests_that_are_not_grpc_are_refused),
		T(malformed_requests_are_answered),
		T(requests_against_the_rules_of_headers_are_reset),
		T(path_of_the_socket_as_authority_is_taken),
		T(encodings_other_than_identity_are_unimplemented),
		T(first_value_of_a_namespace_wins),
		T(huge_headers_are_refused),
		T(headers_without_end_close_the_connection),
		T(garbage_closes_only_its_connection),
		T(peers_that_vanish_mid_call_cancel_it),
		T(ten_thousand_resets_are_survived),
		T(peer_that_asks_and_never_reads_is_given_up),
		L(silent_connection_is_closed),
		L(connections_above_the_limit_are_closed),
		L(message_limits_hold),
		L(calls_above_the_stream_limit_wait),
		T(outcome_of_each_call_is_reported),
		T(client_survives_bad_servers),
		T(keepalive_leaves_a_live_connection_alone),
		T(client_that_sleeps_does_not_hold_up_the_end),
		T(many_clients_come_and_go),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
