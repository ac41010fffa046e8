/* SPDX-License-Identifier: Apache-2.0 */
/* The real containerd-worker (from $CONTAINERD_WORKER) in front of a server, through core/front.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"
#include "core/front.h"
#include "event/pool.h"

#define WAIT_MS 60000

struct fixture {
	struct pool *pool;
	struct front *front;
	struct err err;
	char path[3][64]; /* sockets: plain HTTP, HTTP in TLS, streams in TLS */
	int streamed[2];  /* pipe: descriptors that options.stream got */
	atomic_int warnings;
};

/* ---- the server ---- */

static void hello(struct front_request *q, void *arg)
{
	struct front_header h = {"X-Seen", front_request_header(q, "x-asked")};

	(void)arg;
	if (front_query(q, "big")) {
		_cleanup_free_ char *b = calloc(1, 4 << 20);

		front_reply(q, 200, "application/octet-stream", b, 4 << 20);
	} else if (h.value) {
		front_reply_headers(q, 200, "text/plain", &h, 1, "hello", 5);
	} else {
		front_reply_text(q, 200, "%s %s %s", front_method(q), front_path(q), front_body(q));
	}
}

static void pieces(struct front_request *q, void *arg)
{
	const char *text = front_query(q, "n");
	int count = text ? atoi(text) : 3;
	_cleanup_close_ int fd = -1;

	(void)arg;
	if (front_reply_stream(q, 200, "text/plain", NULL, 0, &fd) < 0)
		return;
	for (int i = 0; i < count; i++) {
		usleep(2000);
		if (fd_write_full(fd, "piece\n", 6) < 0)
			return;
	}
}

/* Sends back in capitals what comes, until it ends. */
static void shout(struct front_request *q, void *arg)
{
	struct front_header h[] = {{"Upgrade", "shout"}};
	char b[4096];
	ssize_t n;
	int s[2];

	(void)arg;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
	front_reply_upgrade(q, h, 1, s[1]);
	while ((n = read(s[0], b, sizeof(b))) > 0) {
		for (ssize_t i = 0; i < n; i++)
			b[i] = b[i] >= 'a' && b[i] <= 'z' ? b[i] - 32 : b[i];
		if (fd_write_full(s[0], b, (size_t)n) < 0)
			break;
	}
	close(s[0]);
}

static void on_stream(void *arg, int fd)
{
	struct fixture *f = arg;

	assert_int_equal(write(f->streamed[1], &fd, sizeof(fd)), sizeof(fd));
}

static void on_warn(void *arg, const char *text)
{
	struct fixture *f = arg;

	(void)text;
	f->warnings++;
}

static int start(void **state, unsigned max_connections)
{
	static const struct front_route routes[] = {
		{"GET", "/hello", hello, NULL},	  {"POST", "/hello", hello, NULL},
		{"GET", "/pieces", pieces, NULL}, {NULL, "/shout/", shout, NULL},
		{"GET", "/dir/", hello, NULL},
	};
	struct fixture *f = calloc(1, sizeof(*f));
	struct front_listener l[] = {
		{.kind = FRONT_HTTP},
		{.kind = FRONT_HTTP, .self_signed = true},
		{.kind = FRONT_STREAM, .self_signed = true, .alpn = "h2"},
	};
	struct front_options o = {.name = "test",
				  .listeners = l,
				  .n_listeners = ARRAY_LEN(l),
				  .routes = routes,
				  .n_routes = ARRAY_LEN(routes),
				  .stream = on_stream,
				  .stream_arg = f,
				  .warn = on_warn,
				  .warn_arg = f,
				  .max_connections = max_connections};

	signal(SIGPIPE, SIG_IGN);
	assert_int_equal(pipe(f->streamed), 0);
	assert_int_equal(pool_new(0, &f->pool), 0);
	o.pool = f->pool;
	for (size_t i = 0; i < ARRAY_LEN(l); i++) {
		snprintf(f->path[i], sizeof(f->path[i]), "/tmp/front.%d.%zu", (int)getpid(), i);
		assert_int_equal(unix_listen(f->path[i], getuid(), getgid(), 0600, &l[i].fd), 0);
	}
	if (front_start(&o, &f->front, &f->err) < 0) {
		print_error("%s\n", f->err.text);
		return -1;
	}
	*state = f;
	return 0;
}

static int setup(void **state)
{
	return start(state, 20);
}

static int setup_many(void **state)
{
	return start(state, 200);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	front_free(f->front);
	pool_free(f->pool);
	for (size_t i = 0; i < ARRAY_LEN(f->path); i++)
		(void)unlink(f->path[i]);
	close(f->streamed[0]);
	close(f->streamed[1]);
	free(f);
	return 0;
}

/* ---- clients ---- */

static int dial(struct fixture *f, size_t i)
{
	int fd;

	assert_int_equal(unix_connect(f->path[i], &fd), 0);
	return fd;
}

static size_t read_some(int fd, void *p, size_t n)
{
	struct pollfd pf = {.fd = fd, .events = POLLIN};
	ssize_t k;

	assert_int_equal(poll(&pf, 1, WAIT_MS), 1);
	k = read(fd, p, n);
	return k < 0 ? 0 : (size_t)k;
}

/* Everything until the end. */
static char *read_end(int fd, size_t *ret_n)
{
	struct buf b = BUF_INIT;
	char p[65536];
	size_t n;

	while ((n = read_some(fd, p, sizeof(p))) > 0)
		assert_int_equal(buf_add(&b, p, n), 0);
	if (b.len == 0)
		buf_adds(&b, "");
	return buf_take(&b, ret_n);
}

static char *ask(struct fixture *f, const char *request)
{
	_cleanup_close_ int fd = dial(f, 0);
	size_t n;

	assert_int_equal(fd_write_full(fd, request, strlen(request)), 0);
	return read_end(fd, &n);
}

#define HEAD(line) line " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"

static void expect(struct fixture *f, const char *request, const char *status, const char *end)
{
	_cleanup_free_ char *a = ask(f, request);
	const char *line = str_skip(a, "HTTP/1.1 ");

	if (!line || !str_has_prefix(line, status) || !str_has_suffix(a, end))
		fail_msg("got `%s`, wanted %s and `%s`", a, status, end);
}

static void requests_reach_their_handler(void **state)
{
	expect(*state, HEAD("GET /hello") "\r\n", "200", "\r\n\r\nGET /hello \n");
	expect(*state, HEAD("HEAD /hello") "\r\n", "200", "\r\n\r\n");
	expect(*state, HEAD("POST /hello") "Content-Length: 4\r\n\r\nbody", "200",
	       "\r\n\r\nPOST /hello body\n");
	expect(*state, HEAD("GET /hello?x=1") "X-Asked: why\r\n\r\n", "200", "\r\n\r\nhello");
	expect(*state, HEAD("GET /dir/a%20b/c") "\r\n", "200", "GET /dir/a b/c \n");
}

static void requests_without_a_handler_are_refused(void **state)
{
	expect(*state, HEAD("GET /") "\r\n", "404", "404 page not found\n");
	expect(*state, HEAD("GET /hello/") "\r\n", "404", "404 page not found\n");
	expect(*state, HEAD("DELETE /hello") "\r\n", "405", "method not allowed\n");
}

static void large_and_strange_requests_are_refused(void **state)
{
	_cleanup_free_ char *long_header = malloc(100000);

	expect(*state, HEAD("POST /hello") "Content-Length: 100000\r\n\r\n", "413", "");
	expect(*state, HEAD("GET /hello?x=%ff") "\r\n", "400", "");
	expect(*state, HEAD("POST /hello") "Content-Length: 1\r\n\r\n\xff", "400", "");
	memset(long_header, 'a', 99999);
	memcpy(long_header, "GET /", 5);
	long_header[99999] = '\0';
	{
		_cleanup_free_ char *a = ask(*state, long_header);

		assert_null(strstr(a, " 200 "));
	}
}

static void large_replies_arrive_whole(void **state)
{
	_cleanup_free_ char *a = ask(*state, HEAD("GET /hello?big=1") "\r\n");

	assert_non_null(strstr(a, "Content-Length: 4194304\r\n"));
}

static void replies_come_in_pieces(void **state)
{
	_cleanup_free_ char *a = ask(*state, HEAD("GET /pieces?n=5") "\r\n"), *p = a;
	int n = 0;

	while ((p = strstr(p, "piece\n"))) {
		n++;
		p++;
	}
	assert_int_equal(n, 5);
	assert_non_null(strstr(a, "chunked"));
	assert_true(str_has_suffix(a, "0\r\n\r\n"));
}

static void upgraded_connections_are_relayed(void **state)
{
	_cleanup_close_ int fd = dial(*state, 0);
	const char *rq = "POST /shout/x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
			 "Upgrade: shout\r\n\r\nearly ";
	_cleanup_free_ char *a = NULL, *big = malloc(300000);
	char b[512] = "";
	size_t n = 0;

	assert_int_equal(fd_write_full(fd, rq, strlen(rq)), 0);
	while (!strstr(b, "EARLY "))
		n += read_some(fd, b + n, sizeof(b) - n - 1);
	assert_true(str_has_prefix(b, "HTTP/1.1 101 "));
	assert_non_null(strstr(b, "Upgrade: shout\r\n"));
	/* More than any buffer holds, without reading: the client must not be needed. */
	memset(big, 'b', 300000);
	assert_int_equal(fd_write_full(fd, big, 100000), 0);
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	a = read_end(fd, &n);
	assert_int_equal(n, 100000);
	assert_int_equal(a[99999], 'B');
}

/* The process that is started next is another one. */
static pid_t worker_pid(void)
{
	char path[64];
	pid_t found = 0;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)getpid());
	_cleanup_closedir_ DIR *d = opendir(path);

	for (struct dirent *e; (e = readdir(d));) {
		char name[512];
		int pid;

		snprintf(name, sizeof(name), "%s/%s/children", path, e->d_name);
		_cleanup_fclose_ FILE *c = fopen(name, "re");

		while (c && fscanf(c, "%d", &pid) == 1)
			found = pid;
	}
	return found;
}

static void a_process_that_dies_is_started_again(void **state)
{
	struct fixture *f = *state;
	_cleanup_close_ int fd = dial(f, 0);
	pid_t pid = worker_pid();
	char b[16];

	assert_true(pid > 0);
	expect(f, HEAD("GET /hello") "\r\n", "200", "\n");
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(read_some(fd, b, sizeof(b)), 0);
	expect(f, HEAD("GET /hello") "\r\n", "200", "\n");
	assert_int_not_equal(worker_pid(), pid);
	assert_true(f->warnings > 0);
}

static void requests_with_nul_cost_nobody_else_anything(void **state)
{
	static const char whole[] = HEAD("POST /hello") "Content-Length: 3\r\n\r\na\0b",
			  chunked[] = HEAD("POST /hello") "Transfer-Encoding: chunked\r\n\r\n"
							  "3\r\na\0b\r\n0\r\n\r\n";
	struct fixture *f = *state;
	pid_t pid = worker_pid();

	for (int i = 0; i < 2; i++) {
		_cleanup_close_ int fd = dial(f, 0);
		_cleanup_free_ char *a = NULL;
		size_t n;

		assert_int_equal(i ? fd_write_full(fd, chunked, sizeof(chunked) - 1)
				   : fd_write_full(fd, whole, sizeof(whole) - 1),
				 0);
		a = read_end(fd, &n);
		assert_non_null(str_skip(a, "HTTP/1.1 400 "));
	}
	expect(f, HEAD("GET /hello?a%00=b%00") "\r\n", "200", "GET /hello \n");
	assert_int_equal(worker_pid(), pid);
	assert_int_equal(f->warnings, 0);
}

/* ---- TLS ---- */

static gnutls_session_t tls_dial(int fd, gnutls_certificate_credentials_t cred, const char *alpn,
				 int *ret)
{
	gnutls_datum_t p = {(unsigned char *)alpn, alpn ? (unsigned)strlen(alpn) : 0};
	gnutls_session_t s;

	assert_int_equal(gnutls_init(&s, GNUTLS_CLIENT | GNUTLS_NO_SIGNAL), 0);
	gnutls_set_default_priority(s);
	gnutls_credentials_set(s, GNUTLS_CRD_CERTIFICATE, cred);
	if (alpn)
		gnutls_alpn_set_protocols(s, &p, 1, 0);
	gnutls_handshake_set_timeout(s, WAIT_MS);
	gnutls_transport_set_int(s, fd);
	do
		*ret = gnutls_handshake(s);
	while (*ret < 0 && !gnutls_error_is_fatal(*ret));
	return s;
}

static void http_works_inside_tls(void **state)
{
	const char *rq = HEAD("GET /hello?big=1") "\r\n";
	gnutls_certificate_credentials_t cred;
	_cleanup_close_ int fd = dial(*state, 1);
	size_t total = 0;
	char b[65536];
	ssize_t n;
	int r;

	gnutls_certificate_allocate_credentials(&cred);
	gnutls_session_t s = tls_dial(fd, cred, NULL, &r);
	assert_int_equal(r, 0);
	assert_int_equal(gnutls_record_send(s, rq, strlen(rq)), strlen(rq));
	while ((n = gnutls_record_recv(s, b, sizeof(b))) > 0)
		total += (size_t)n;
	assert_int_equal(n, 0);
	assert_true(total > 4 << 20);
	gnutls_deinit(s);
	gnutls_certificate_free_credentials(cred);
}

static void upgrades_work_inside_tls(void **state)
{
	const char *rq = "GET /shout/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
			 "Upgrade: shout\r\n\r\n";
	gnutls_certificate_credentials_t cred;
	_cleanup_close_ int fd = dial(*state, 1);
	_cleanup_free_ char *big = malloc(1 << 20);
	size_t total = 0, head = 0;
	char b[65536] = "";
	ssize_t n;
	int r;

	gnutls_certificate_allocate_credentials(&cred);
	gnutls_session_t s = tls_dial(fd, cred, NULL, &r);
	assert_int_equal(r, 0);
	assert_int_equal(gnutls_record_send(s, rq, strlen(rq)), strlen(rq));
	while (!strstr(b, "\r\n\r\n")) {
		n = gnutls_record_recv(s, b + head, sizeof(b) - head - 1);
		assert_true(n > 0);
		head += (size_t)n;
	}
	assert_true(str_has_prefix(b, "HTTP/1.1 101 "));
	memset(big, 'x', 1 << 20);
	/* Back and forth, so that neither side's buffers need to hold it all. */
	for (size_t off = 0; off < 1 << 20;) {
		n = gnutls_record_send(s, big + off, MIN((size_t)16000, (1u << 20) - off));
		assert_true(n > 0);
		off += (size_t)n;
		for (size_t got = 0; got < (size_t)n;) {
			ssize_t k = gnutls_record_recv(s, b, sizeof(b));

			assert_true(k > 0);
			assert_int_equal(b[0], 'X');
			got += (size_t)k;
			total += (size_t)k;
		}
	}
	gnutls_bye(s, GNUTLS_SHUT_WR);
	assert_int_equal(gnutls_record_recv(s, b, sizeof(b)), 0);
	assert_true(total >= 1 << 20);
	gnutls_deinit(s);
	gnutls_certificate_free_credentials(cred);
}

static void streams_are_handed_over_without_tls(void **state)
{
	struct fixture *f = *state;
	gnutls_certificate_credentials_t cred;
	_cleanup_close_ int fd = dial(f, 2), wrong = dial(f, 2);
	_cleanup_close_ int plain = -1;
	char b[16] = "";
	int r;

	gnutls_certificate_allocate_credentials(&cred);
	gnutls_session_t s = tls_dial(fd, cred, "h2", &r);
	assert_int_equal(r, 0);
	assert_int_equal(read(f->streamed[0], &plain, sizeof(plain)), sizeof(plain));
	assert_int_equal(gnutls_record_send(s, "ping", 4), 4);
	assert_int_equal(read_some(plain, b, sizeof(b)), 4);
	assert_string_equal(b, "ping");
	assert_int_equal(fd_write_full(plain, "pong", 4), 0);
	assert_int_equal(gnutls_record_recv(s, b, sizeof(b)), 4);
	assert_string_equal(b, "pong");
	gnutls_bye(s, GNUTLS_SHUT_WR);
	assert_int_equal(read_some(plain, b, sizeof(b)), 0);
	gnutls_deinit(s);
	s = tls_dial(wrong, cred, "http/1.1", &r);
	assert_int_not_equal(r, 0);
	gnutls_deinit(s);
	gnutls_certificate_free_credentials(cred);
}

static void more_connections_than_allowed_are_closed(void **state)
{
	int fds[21];
	char c;

	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		fds[i] = dial(*state, 0);
	/* The last is closed, and the others are not in its way. */
	assert_int_equal(read_some(fds[20], &c, 1), 0);
	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		close(fds[i]);
	for (int64_t until = time_mono() + 60 * NSEC_PER_SEC; time_mono() < until;) {
		static const char hello[] = HEAD("GET /hello") "\r\n";
		_cleanup_close_ int fd = dial(*state, 0);
		_cleanup_free_ char *a = NULL;
		size_t n;

		/* One more of those that are closed at once: maybe before anything was said. */
		if (fd_write_full(fd, hello, strlen(hello)) < 0)
			continue;
		a = read_end(fd, &n);
		if (strstr(a, " 200 "))
			return;
	}
	fail_msg("no connection after the others were closed");
}

/* Their answers are more than a socket holds, and so are they: neither side may wait for the other
 * with both full. */
static void requests_that_come_at_once_are_all_answered(void **state)
{
	enum { N = 100, LEN = 30000 };
	const char *head = "POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 30000\r\n\r\n";
	_cleanup_free_ char *body = malloc(LEN);
	pid_t pid = worker_pid();
	int fds[N];

	memset(body, 1, LEN); /* six bytes each in a message */
	for (size_t i = 0; i < N; i++) {
		fds[i] = dial(*state, 0);
		assert_int_equal(fd_write_full(fds[i], head, strlen(head)), 0);
		assert_int_equal(fd_write_full(fds[i], body, LEN - 1), 0);
	}
	for (size_t i = 0; i < N; i++)
		assert_int_equal(fd_write_full(fds[i], body, 1), 0);
	for (size_t i = 0; i < N; i++) {
		char answer[64] = "";

		assert_true(read_some(fds[i], answer, sizeof(answer) - 1) > 0);
		assert_true(str_has_prefix(answer, "HTTP/1.1 404 "));
		close(fds[i]);
	}
	assert_int_equal(worker_pid(), pid);
}

static void garbage_is_survived(void **state)
{
	pid_t pid = worker_pid();
	unsigned seed = 1;

	for (int i = 0; i < 60; i++) {
		_cleanup_close_ int fd = dial(*state, (size_t)i % 3);
		char b[700];

		for (size_t k = 0; k < sizeof(b); k++)
			b[k] = (char)rand_r(&seed);
		(void)!write(fd, b, sizeof(b));
	}
	expect(*state, HEAD("GET /hello") "\r\n", "200", "\n");
	assert_int_equal(worker_pid(), pid);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(requests_reach_their_handler),
		T(requests_without_a_handler_are_refused),
		T(large_and_strange_requests_are_refused),
		T(large_replies_arrive_whole),
		T(requests_with_nul_cost_nobody_else_anything),
		T(replies_come_in_pieces),
		T(upgraded_connections_are_relayed),
		T(a_process_that_dies_is_started_again),
		T(http_works_inside_tls),
		T(upgrades_work_inside_tls),
		T(streams_are_handed_over_without_tls),
		T(more_connections_than_allowed_are_closed),
		cmocka_unit_test_setup_teardown(requests_that_come_at_once_are_all_answered,
						setup_many, teardown),
		T(garbage_is_survived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
