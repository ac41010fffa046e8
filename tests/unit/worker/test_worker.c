/* SPDX-License-Identifier: Apache-2.0 */
/* The real containerd-worker (from $CONTAINERD_WORKER), driven through core/worker.h, against a
 * registry in this process that misbehaves on request: the repository's name says how. And a worker
 * that was taken over, which is this program itself: again the repository says what it does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "base/time.h"
#include "core/worker.h"
#include "rpc/msg.h"
#include "tarball.h"
#include "worker/protocol.h"

#define BLOB_LEN 1500000
#define MANIFEST "{\"schemaVersion\":2}"
#define MANIFEST_TYPE "application/vnd.oci.image.manifest.v1+json"

/* ---- the registry ---- */

static struct {
	int sock;
	char host[32];
	pthread_t thread;
	char *blob;
	struct digest digest, manifest;
	atomic_int requests; /* since the test began */
	atomic_int tokens;
	pthread_mutex_t lock;
	struct buf seen; /* request heads */
} reg;

static void respond(int c, const char *status, const char *headers, const void *body, size_t len,
		    size_t cut)
{
	char head[2048];
	int n = snprintf(head, sizeof(head),
			 "HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: %zu\r\n%s\r\n",
			 status, len, headers);

	(void)fd_write_full(c, head, (size_t)n);
	(void)fd_write_full(c, body, MIN(len, cut));
}

static void status(int c, const char *status_line, const char *headers)
{
	respond(c, status_line, headers, "", 0, 0);
}

static void send_blob(int c, int64_t from, bool range, size_t cut)
{
	char headers[128] = "";

	if (range)
		snprintf(headers, sizeof(headers), "Content-Range: bytes %lld-%d/%d\r\n",
			 (long long)from, BLOB_LEN - 1, BLOB_LEN);
	else
		from = 0;
	respond(c, range ? "206 Partial Content" : "200 OK", headers, reg.blob + from,
		(size_t)(BLOB_LEN - from), cut);
}

static bool has(const char *head, const char *text)
{
	return strstr(head, text);
}

static void serve_token(int c, const char *head)
{
	char body[64];

	atomic_fetch_add(&reg.tokens, 1);
	if (has(head, "POST /token?moves=")) {
		char location[128];

		snprintf(location, sizeof(location), "Location: http://%s%s/token/there\r\n",
			 has(head, "?moves=away") ? "localhost" : "127.0.0.1",
			 strchr(reg.host, ':'));
		status(c, "307 Temporary Redirect", location);
		return;
	}
	if (has(head, "Authorization:") && !has(head, "Authorization: Basic Ym9iOnB3\r\n")) {
		status(c, "401 Unauthorized", "");
		return;
	}
	snprintf(body, sizeof(body), "{\"token\":\"T%d\"}", atomic_load(&reg.tokens));
	respond(c, "200 OK", "", body, strlen(body), SIZE_MAX);
}

static void serve_auth(int c, const char *head, const char *repo)
{
	char challenge[256];
	int nth = atomic_load(&reg.requests);

	if (streq(repo, "basic")) {
		if (has(head, "Authorization: Basic Ym9iOnB3\r\n"))
			send_blob(c, 0, false, SIZE_MAX);
		else
			status(c, "401 Unauthorized", "WWW-Authenticate: Basic realm=\"r\"\r\n");
		return;
	}
	snprintf(challenge, sizeof(challenge),
		 "WWW-Authenticate: Bearer "
		 "realm=\"http://%s/token%s%s\",service=\"s\",scope=\"repository:%s:pull\"\r\n",
		 reg.host, str_has_prefix(repo, "moves") ? "?" : "",
		 str_has_prefix(repo, "moves") ? repo : "", repo);
	/* "expires": the first token is good for one request. */
	if (!has(head, "Authorization: Bearer T") ||
	    (streq(repo, "expires") && has(head, "Bearer T1\r\n") && nth > 3) ||
	    streq(repo, "denied"))
		status(c, "401 Unauthorized", challenge);
	else
		send_blob(c, 0, false, SIZE_MAX);
}

/* The beginning of the blob, and no more until the worker goes away. */
static void send_and_hush(int c)
{
	char head[128];
	int n = snprintf(head, sizeof(head),
			 "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n",
			 BLOB_LEN);

	assert_int_equal(fd_write_full(c, head, (size_t)n), 0);
	assert_int_equal(fd_write_full(c, reg.blob, 100000), 0);
	fd_read_full(c, (char[1]){0}, 1);
}

static void serve_broken(int c, const char *repo, int64_t from, bool range)
{
	int nth = atomic_load(&reg.requests);

	if (streq(repo, "cut"))
		send_blob(c, from, range, nth < 4 ? 300000 : SIZE_MAX);
	else if (streq(repo, "norange"))
		send_blob(c, 0, false, nth < 2 ? 300000 : SIZE_MAX);
	else if (streq(repo, "breaks"))
		send_blob(c, from, range, nth < 2 ? 700000 : 0);
	else if (streq(repo, "never"))
		send_blob(c, from, range, 0);
	else if (streq(repo, "short"))
		respond(c, "200 OK", "", reg.blob, 1000, SIZE_MAX);
	else if (streq(repo, "badrange"))
		respond(c, "206 Partial Content", "Content-Range: bytes 7-16/1500000\r\n", reg.blob,
			10, SIZE_MAX);
	else if (streq(repo, "endless"))
		respond(c, "206 Partial Content", "Content-Range: bytes 7-9/*\r\n", reg.blob,
			INT64_MAX, 10);
	else if (streq(repo, "busy"))
		status(c, nth < 3 ? "429 Too Many Requests" : "404 Not Found",
		       "Retry-After: 0\r\n");
	else if (streq(repo, "error"))
		respond(c, "403 Forbidden", "",
			"{\"errors\":[{\"code\":\"DENIED\",\"message\":\"go away\"}]}", 50,
			SIZE_MAX);
	else if (streq(repo, "stutter") && nth == 1)
		send_and_hush(c);
	else if (streq(repo, "stall") || streq(repo, "stutter"))
		fd_read_full(c, (char[1]){0}, 1); /* until the worker goes away */
	else
		status(c, "404 Not Found", "");
}

static void serve(int c, const char *head)
{
	char repo[64] = "", headers[512];
	const char *range = strstr(head, "Range: bytes=");
	int64_t from = range ? strtoll(range + 13, NULL, 10) : 0;

	atomic_fetch_add(&reg.requests, 1);
	(void)sscanf(head, "%*s /v2/%63[^/]", repo);
	if (has(head, " /token")) {
		serve_token(c, head);
	} else if (streq(repo, "basic") || streq(repo, "expires") || streq(repo, "denied") ||
		   streq(repo, "bearer") || str_has_prefix(repo, "moves")) {
		serve_auth(c, head, repo);
	} else if (streq(repo, "redirect") && !has(head, "Authorization")) {
		status(c, "401 Unauthorized", "WWW-Authenticate: Basic realm=\"r\"\r\n");
	} else if (streq(repo, "redirect")) {
		snprintf(headers, sizeof(headers),
			 "Location: http://localhost:%s/v2/good/blobs/x\r\n",
			 strchr(reg.host, ':') + 1);
		status(c, "307 Temporary Redirect", headers);
	} else if (has(head, "/manifests/missing")) {
		status(c, "404 Not Found", "");
	} else if (has(head, "/manifests/")) {
		snprintf(headers, sizeof(headers),
			 "Content-Type: " MANIFEST_TYPE "; charset=utf-8\r\n%s%s\r\n",
			 streq(repo, "nodigest") ? "X: " : "Docker-Content-Digest: ",
			 reg.manifest.text);
		if (streq(repo, "nohead") && has(head, "HEAD "))
			status(c, "405 Method Not Allowed", "");
		else
			respond(c, "200 OK", headers, MANIFEST, strlen(MANIFEST),
				has(head, "HEAD ") ? 0 : SIZE_MAX);
	} else if (streq(repo, "good")) {
		send_blob(c, from, range, SIZE_MAX);
	} else {
		serve_broken(c, repo, from, range);
	}
}

static void *connection_main(void *arg)
{
	int c = (int)(intptr_t)arg;
	char head[8192];
	size_t n = 0;
	ssize_t r;

	while (n < sizeof(head) - 1 && (r = read(c, head + n, sizeof(head) - 1 - n)) > 0) {
		n += (size_t)r;
		head[n] = '\0';
		if (strstr(head, "\r\n\r\n")) {
			pthread_mutex_lock(&reg.lock);
			buf_add(&reg.seen, head, n);
			pthread_mutex_unlock(&reg.lock);
			serve(c, head);
			break;
		}
	}
	close(c);
	return NULL;
}

static void *registry_main(void *arg)
{
	for (;;) {
		int c = accept4(reg.sock, NULL, NULL, SOCK_CLOEXEC);
		pthread_t t;

		if (c < 0)
			return NULL;
		assert_int_equal(pthread_create(&t, NULL, connection_main, (void *)(intptr_t)c), 0);
		pthread_detach(t);
	}
}

static int group_setup(void **state)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(a);
	unsigned x = 1;

	signal(SIGPIPE, SIG_IGN);
	reg.sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(reg.sock, (struct sockaddr *)&a, n), 0);
	assert_int_equal(listen(reg.sock, 64), 0);
	getsockname(reg.sock, (struct sockaddr *)&a, &n);
	snprintf(reg.host, sizeof(reg.host), "127.0.0.1:%d", ntohs(a.sin_port));
	reg.blob = malloc(BLOB_LEN);
	for (size_t i = 0; i < BLOB_LEN; i++)
		reg.blob[i] = (char)((x = x * 1103515245 + 12345) >> 16);
	digest_of(DIGEST_SHA256, reg.blob, BLOB_LEN, &reg.digest);
	digest_of(DIGEST_SHA256, MANIFEST, strlen(MANIFEST), &reg.manifest);
	pthread_mutex_init(&reg.lock, NULL);
	return pthread_create(&reg.thread, NULL, registry_main, NULL);
}

static int group_teardown(void **state)
{
	shutdown(reg.sock, SHUT_RDWR);
	pthread_join(reg.thread, NULL);
	close(reg.sock);
	free(reg.blob);
	buf_done(&reg.seen);
	return 0;
}

/* ---- the daemon's part ---- */

struct fixture {
	struct ctx ctx;
	struct fetch *f;
	int fd;
	int64_t at; /* bytes in it, if it is so that they came in order */
	int restarts;
	int wait_for; /* requests that the registry has seen before bytes are taken */
	int refuse;   /* kind of the error with which they are refused */
	int asked;
	const char *user, *secret;
	const char *host;	    /* NULL = the registry's */
	struct fetch_header header; /* configured for it */
	int64_t silence_ns;
	struct err err;
};

static int setup(void **state)
{
	struct fixture *t = calloc(1, sizeof(*t));

	t->ctx.arena = arena_new(0);
	t->ctx.deadline = time_mono() + 60 * NSEC_PER_SEC;
	FILE *f = tmpfile();
	t->fd = fcntl(fileno(f), F_DUPFD_CLOEXEC, 0);
	fclose(f);
	atomic_store(&reg.requests, 0);
	atomic_store(&reg.tokens, 0);
	buf_clear(&reg.seen);
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *t = *state;

	fetch_free(t->f);
	close(t->fd);
	arena_free(t->ctx.arena);
	free(t);
	unsetenv("HTTP_PROXY");
	unsetenv("NO_PROXY");
	return 0;
}

static int on_auth(void *arg, const char *host, const char *const *challenges,
		   struct fetch_auth *ret, struct err *err)
{
	struct fixture *t = arg;

	t->asked++;
	assert_string_equal(host, reg.host);
	assert_non_null(challenges[0]);
	if (!t->user)
		return 0;
	ret->type = *t->user ? FETCH_AUTH_CREDENTIALS : FETCH_AUTH_REFRESH;
	ret->username = t->user;
	ret->secret = t->secret;
	return 0;
}

static int on_bytes(void *arg, int64_t offset, const void *p, size_t n, struct err *err)
{
	struct fixture *t = arg;

	/* Ends with the deadline of the request when it does not come. */
	while (atomic_load(&reg.requests) < t->wait_for && time_mono() < t->ctx.deadline)
		usleep(1000);
	if (t->refuse)
		return err_set(err, t->refuse, "no room");
	if (n == 0) {
		assert_int_equal(offset, 0);
		assert_int_equal(ftruncate(t->fd, 0), 0);
		t->at = 0;
		t->restarts++;
		return 0;
	}
	assert_int_equal(offset, t->at);
	assert_true(n <= 256 << 10);
	assert_int_equal(fd_pwrite_full(t->fd, p, n, offset), 0);
	t->at += (int64_t)n;
	return 0;
}

static void session(struct fixture *t, const char *repo, const char *object)
{
	struct fetch_host hosts[] = {
		{.scheme = "http",
		 .host = "127.0.0.1:1",
		 .path = "/v2",
		 .capabilities = FETCH_RESOLVE | FETCH_PULL},
		{.scheme = "http",
		 .host = t->host ? t->host : reg.host,
		 .path = "/v2",
		 .headers = &t->header,
		 .n_headers = t->header.key ? 1 : 0,
		 .capabilities = FETCH_RESOLVE | FETCH_PULL},
	};
	struct fetch_options o = {
		.original_host = "reg.example",
		.repository = repo,
		.object = object,
		.hosts = hosts,
		.n_hosts = 2,
		.auth = on_auth,
		.auth_arg = t,
		.silence_ns = t->silence_ns,
	};

	if (fetch_start(&t->ctx, &o, &t->f, &t->err) < 0)
		fail_msg("%s", t->err.text);
}

static int blob_from(struct fixture *t, const char *repo, int64_t offset, int64_t size)
{
	struct fetch_descriptor d = {.digest = reg.digest, .size = size};

	session(t, repo, "x");
	t->at = offset;
	return fetch_blob(t->f, &t->ctx, &d, offset, on_bytes, t, &t->err);
}

static int blob(struct fixture *t, const char *repo)
{
	return blob_from(t, repo, 0, BLOB_LEN);
}

static void assert_blob_is_there(struct fixture *t, int r)
{
	_cleanup_free_ char *p = malloc(BLOB_LEN + 1);

	if (r < 0)
		fail_msg("%s", t->err.text);
	assert_int_equal(fd_pread_full(t->fd, p, BLOB_LEN + 1, 0), BLOB_LEN);
	assert_memory_equal(p, reg.blob, BLOB_LEN);
	assert_int_equal(t->at, BLOB_LEN);
}

static void assert_error(struct fixture *t, int r, int kind, const char *text)
{
	if (r != -kind || !strstr(t->err.text, text))
		fail_msg("%d: %s", r, t->err.text);
}

static void resolve_asks_the_next_host_and_names_the_original(void **state)
{
	struct fixture *t = *state;
	struct fetch_descriptor d;

	session(t, "good", "latest");
	assert_int_equal(fetch_resolve(t->f, &t->ctx, &d, &t->err), 0);
	assert_string_equal(d.media_type, MANIFEST_TYPE);
	assert_string_equal(d.digest.text, reg.manifest.text);
	assert_int_equal(d.size, strlen(MANIFEST));
	assert_true(
		has(reg.seen.data, "HEAD /v2/good/manifests/latest?ns=reg.example HTTP/1.1\r\n"));
	assert_true(has(reg.seen.data, "User-Agent: containerd/2."));
	assert_true(has(reg.seen.data, MANIFEST_TYPE));
}

static void resolve_reads_the_manifest_where_head_is_not_enough(void **state)
{
	struct fixture *t = *state;
	const char *repos[] = {"nohead", "nodigest"};
	struct fetch_descriptor d;

	for (size_t i = 0; i < ARRAY_LEN(repos); i++) {
		session(t, repos[i], "latest");
		assert_int_equal(fetch_resolve(t->f, &t->ctx, &d, &t->err), 0);
		assert_string_equal(d.digest.text, reg.manifest.text);
		assert_int_equal(d.size, strlen(MANIFEST));
		fetch_free(t->f);
		t->f = NULL;
	}
}

/* As Go's clients have it: the environment's proxy is for all but this host itself. */
static void proxy_is_asked_for_other_hosts_only(void **state)
{
	struct fixture *t = *state;
	struct fetch_descriptor d;
	char proxy[64];

	snprintf(proxy, sizeof(proxy), "http://%s", reg.host);
	setenv("HTTP_PROXY", proxy, 1);
	setenv("NO_PROXY", "somewhere.invalid", 1);
	t->host = "registry.invalid";
	session(t, "good", "latest");
	assert_int_equal(fetch_resolve(t->f, &t->ctx, &d, &t->err), 0);
	assert_true(has(reg.seen.data, "HEAD http://registry.invalid/v2/good/manifests/latest?"));
	fetch_free(t->f);
	t->f = NULL;
	buf_clear(&reg.seen);
	t->host = reg.host;
	session(t, "good", "latest");
	assert_int_equal(fetch_resolve(t->f, &t->ctx, &d, &t->err), 0);
	assert_true(has(reg.seen.data, "HEAD /v2/good/manifests/latest?"));
}

static void missing_tag_is_not_found(void **state)
{
	struct fixture *t = *state;
	struct fetch_descriptor d;

	session(t, "good", "missing");
	assert_error(t, fetch_resolve(t->f, &t->ctx, &d, &t->err), ERR_NOT_FOUND,
		     "reg.example/good:missing: not found");
}

static void manifest_is_fetched_as_manifest(void **state)
{
	struct fixture *t = *state;
	struct fetch_descriptor d = {
		.media_type = MANIFEST_TYPE, .digest = reg.manifest, .size = strlen(MANIFEST)};

	session(t, "good", "x");
	assert_int_equal(fetch_blob(t->f, &t->ctx, &d, 0, on_bytes, t, &t->err), 0);
	assert_int_equal(t->at, strlen(MANIFEST));
	assert_true(has(reg.seen.data, "GET /v2/good/manifests/sha256:"));
}

static void offset_is_resumed(void **state)
{
	struct fixture *t = *state;

	assert_int_equal(fd_pwrite_full(t->fd, reg.blob, 1000, 0), 0);
	assert_blob_is_there(t, blob_from(t, "good", 1000, BLOB_LEN));
	assert_true(has(reg.seen.data, "Range: bytes=1000-\r\n"));
}

static void broken_transfer_goes_on_where_it_was(void **state)
{
	struct fixture *t = *state;

	assert_blob_is_there(t, blob(t, "cut"));
	assert_true(has(reg.seen.data, "Range: bytes=300000-\r\n"));
	assert_true(has(reg.seen.data, "Range: bytes=900000-\r\n"));
	assert_int_equal(t->restarts, 0);
}

static void server_without_ranges_starts_anew_and_says_so(void **state)
{
	struct fixture *t = *state;

	assert_blob_is_there(t, blob(t, "norange"));
	assert_int_equal(t->restarts, 1);
}

static void restart_comes_after_what_is_in_the_pipe(void **state)
{
	struct fixture *t = *state;

	/* The second answer begins while bytes of the first are still on their way. */
	t->wait_for = 2;
	assert_blob_is_there(t, blob(t, "norange"));
	assert_int_equal(t->restarts, 1);
}

static void offset_that_the_server_ignores_starts_anew(void **state)
{
	struct fixture *t = *state;

	assert_int_equal(fd_pwrite_full(t->fd, "xyz", 3, 0), 0);
	atomic_store(&reg.requests, 2);
	assert_blob_is_there(t, blob_from(t, "norange", 3, BLOB_LEN));
	assert_int_equal(t->restarts, 1);
}

static void transfer_without_progress_is_given_up(void **state)
{
	struct fixture *t = *state;

	assert_error(t, blob(t, "never"), ERR_UNAVAILABLE, "could not fetch sha256:");
	assert_int_equal(atomic_load(&reg.requests), 5);
}

static void wrong_lengths_are_errors_that_name_them(void **state)
{
	struct fixture *t = *state;

	assert_error(t, blob(t, "short"), ERR_FAILED_PRECONDITION,
		     "server has 1000 bytes, descriptor says 1500000");
	fetch_free(t->f);
	assert_error(t, blob_from(t, "good", 0, 1000), ERR_FAILED_PRECONDITION,
		     "descriptor says 1000");
	struct stat st;
	fstat(t->fd, &st);
	assert_true(st.st_size <= 1000);
	fetch_free(t->f);
	assert_error(t, blob_from(t, "badrange", 5, BLOB_LEN), ERR_UNKNOWN,
		     "bytes from 7 when asked for 5");
	fetch_free(t->f);
	assert_error(t, blob_from(t, "endless", 7, BLOB_LEN), ERR_FAILED_PRECONDITION,
		     "server has 9223372036854775807 bytes");
}

static void busy_registry_is_asked_again(void **state)
{
	struct fixture *t = *state;

	assert_error(t, blob(t, "busy"), ERR_NOT_FOUND, "404 Not Found");
	assert_int_equal(atomic_load(&reg.requests), 3);
}

static void registry_words_are_in_the_error(void **state)
{
	struct fixture *t = *state;

	assert_error(t, blob(t, "error"), ERR_PERMISSION_DENIED, "403 Forbidden: DENIED: go away");
}

static void basic_credentials_are_asked_for_once(void **state)
{
	struct fixture *t = *state;

	t->user = "bob";
	t->secret = "pw";
	assert_blob_is_there(t, blob(t, "basic"));
	assert_int_equal(t->asked, 1);
}

static void wrong_credentials_are_asked_for_again_and_then_refused(void **state)
{
	struct fixture *t = *state;

	t->user = "bob";
	t->secret = "wrong";
	assert_error(t, blob(t, "basic"), ERR_UNAUTHENTICATED, "pull access denied");
	assert_int_equal(t->asked, 2);
}

static void token_is_fetched_anonymously(void **state)
{
	struct fixture *t = *state;

	assert_blob_is_there(t, blob(t, "bearer"));
	assert_true(has(reg.seen.data,
			"GET /token?service=s&scope=repository%3Abearer%3Apull HTTP/1.1\r\n"));
	assert_int_equal(atomic_load(&reg.tokens), 1);
}

static void token_takes_the_place_of_a_configured_authorization(void **state)
{
	struct fixture *t = *state;
	const char *first;

	t->header = (struct fetch_header){"authorization", "Basic Y29uZmlndXJlZA=="};
	assert_blob_is_there(t, blob(t, "bearer"));
	first = strstr(reg.seen.data, "authorization: Basic Y29uZmlndXJlZA==\r\n");
	assert_non_null(first);
	assert_null(strstr(first + 1, "authorization: Basic"));
}

static void secrets_in_a_body_stay_with_their_host(void **state)
{
	struct fixture *t = *state;

	t->user = "";
	t->secret = "long-lived";
	assert_blob_is_there(t, blob(t, "moves=near"));
	assert_true(has(reg.seen.data, "POST /token/there"));
	fetch_free(t->f);
	t->f = NULL;
	buf_clear(&reg.seen);
	assert_error(t, blob(t, "moves=away"), ERR_UNKNOWN, "307");
	assert_false(has(reg.seen.data, "/token/there"));
}

static void expired_token_is_fetched_again(void **state)
{
	struct fixture *t = *state;
	struct fetch_descriptor d = {.digest = reg.digest, .size = BLOB_LEN};

	t->user = "bob";
	t->secret = "pw";
	assert_blob_is_there(t, blob(t, "expires"));
	assert_int_equal(ftruncate(t->fd, 0), 0);
	t->at = 0;
	assert_blob_is_there(t, fetch_blob(t->f, &t->ctx, &d, 0, on_bytes, t, &t->err));
	assert_int_equal(atomic_load(&reg.tokens), 2);
	assert_int_equal(t->asked, 1);
}

static void denied_repository_does_not_loop(void **state)
{
	struct fixture *t = *state;

	assert_error(t, blob(t, "denied"), ERR_UNAUTHENTICATED, "pull access denied");
	assert_true(atomic_load(&reg.requests) <= 4);
}

static void redirect_does_not_carry_credentials_to_another_host(void **state)
{
	struct fixture *t = *state;
	const char *there;

	t->user = "bob";
	t->secret = "pw";
	assert_blob_is_there(t, blob(t, "redirect"));
	there = strstr(reg.seen.data, "GET /v2/good/blobs/x");
	assert_non_null(there);
	assert_false(has(there, "Authorization"));
	assert_true(has(reg.seen.data, "Authorization: Basic"));
}

struct job {
	struct fixture *t;
	const struct fetch_descriptor *d;
	struct hasher *hasher;
	const atomic_bool *gate; /* not a byte is taken before it opens; NULL = none */
	int r;
	pthread_t thread;
};

static int digest_bytes(void *arg, int64_t offset, const void *p, size_t n, struct err *err)
{
	struct job *j = arg;

	while (j->gate && !atomic_load(j->gate) && time_mono() < j->t->ctx.deadline)
		usleep(1000);
	hasher_update(j->hasher, p, n);
	return 0;
}

static void *fetch_job(void *arg)
{
	struct job *j = arg;
	struct ctx ctx = {.deadline = j->t->ctx.deadline};

	j->r = fetch_blob(j->t->f, &ctx, j->d, 0, digest_bytes, j, NULL);
	return NULL;
}

static void job_start(struct job *j)
{
	j->hasher = hasher_new(DIGEST_SHA256);
	assert_int_equal(pthread_create(&j->thread, NULL, fetch_job, j), 0);
}

static void job_end(struct job *j)
{
	struct digest got;

	pthread_join(j->thread, NULL);
	assert_int_equal(j->r, 0);
	hasher_digest(j->hasher, &got);
	hasher_free(j->hasher);
	assert_string_equal(got.text, reg.digest.text);
}

static void blobs_are_fetched_in_parallel(void **state)
{
	struct fixture *t = *state;
	struct fetch_descriptor d = {.digest = reg.digest, .size = BLOB_LEN};
	struct job jobs[8];

	session(t, "bearer", "x");
	for (size_t i = 0; i < ARRAY_LEN(jobs); i++) {
		jobs[i] = (struct job){.t = t, .d = &d};
		job_start(&jobs[i]);
	}
	for (size_t i = 0; i < ARRAY_LEN(jobs); i++)
		job_end(&jobs[i]);
	assert_int_equal(t->asked, 1);
	assert_int_equal(atomic_load(&reg.tokens), 1);
}

static void slow_reader_holds_up_no_other_blob(void **state)
{
	struct fixture *t = *state;
	struct fetch_descriptor d = {.digest = reg.digest, .size = BLOB_LEN};
	atomic_bool gate = false;
	struct job slow[3], fast = {.t = t, .d = &d};

	session(t, "good", "x");
	for (size_t i = 0; i < ARRAY_LEN(slow); i++) {
		slow[i] = (struct job){.t = t, .d = &d, .gate = &gate};
		job_start(&slow[i]);
	}
	for (int i = 0; i < 3; i++) {
		job_start(&fast);
		job_end(&fast);
	}
	atomic_store(&gate, true);
	for (size_t i = 0; i < ARRAY_LEN(slow); i++)
		job_end(&slow[i]);
}

static void refused_bytes_end_the_transfer_and_the_session_goes_on(void **state)
{
	struct fixture *t = *state;
	struct fetch_descriptor d = {.digest = reg.digest, .size = BLOB_LEN};

	t->refuse = ERR_RESOURCE_EXHAUSTED;
	assert_error(t, blob(t, "good"), ERR_RESOURCE_EXHAUSTED, "no room");
	t->refuse = 0;
	assert_blob_is_there(t, fetch_blob(t->f, &t->ctx, &d, 0, on_bytes, t, &t->err));
}

static void bytes_before_an_error_are_given(void **state)
{
	struct fixture *t = *state;

	assert_error(t, blob(t, "breaks"), ERR_UNAVAILABLE, "could not fetch");
	assert_int_equal(t->at, 700000);
}

/* ---- a worker that was taken over ---- */

static void hostile_tell(int64_t id, const char *key, int64_t piped, const char *what, int64_t size)
{
	json_t *m = json_pack("{s:I,s:I}", "id", (json_int_t)id, key, (json_int_t)piped);

	if (what)
		json_object_set_new(m, what, json_pack("{s:I}", "size", (json_int_t)size));
	(void)!msg_send(WORKER_SOCK_FD, m, NULL, 0, NULL);
	json_decref(m);
}

static void hostile_blob(const char *repo, int64_t id, int fd)
{
	static char junk[4096];

	fd_set_nonblock(fd, false);
	if (streq(repo, "flood")) {
		while (fd_write_full(fd, junk, sizeof(junk)) == 0)
			;
		hostile_tell(id, "piped", 0, "ok", 1000);
	} else if (streq(repo, "claims")) {
		(void)fd_write_full(fd, junk, 10);
		hostile_tell(id, "piped", 1000, "ok", 1000);
	} else if (streq(repo, "silent")) {
		(void)fd_write_full(fd, junk, 10);
		hostile_tell(id, "piped", 10, "ok", 1000);
	} else if (streq(repo, "jumps")) {
		hostile_tell(id, "restart", INT64_MAX, NULL, 0);
	} else if (streq(repo, "leaves")) {
		(void)fd_write_full(fd, junk, 10);
		_exit(3);
	} else if (streq(repo, "hushes")) {
		close(fd);
	}
}

/* The whole program, when it is started as a worker. */
static int hostile_main(void)
{
	_cleanup_json_ json_t *first = NULL;
	const char *repo;

	signal(SIGPIPE, SIG_IGN);
	if (msg_recv(WORKER_SOCK_FD, 0, &first, NULL, NULL, NULL) <= 0)
		return 1;
	repo = json_str(json_obj(first, "session"), "repository", "");
	for (;;) {
		_cleanup_json_ json_t *m = NULL;
		int fds[1];
		size_t n = 1;

		if (msg_recv(WORKER_SOCK_FD, 0, &m, fds, &n, NULL) <= 0)
			return 0;
		if (json_obj(m, "blob") && n == 1)
			hostile_blob(repo, json_int(m, "id", 0), fds[0]);
	}
}

/* What becomes of 1000 bytes from a worker that does @how. */
static int hostile(struct fixture *t, const char *how)
{
	_cleanup_free_ char *real = strdup(getenv("CONTAINERD_WORKER"));
	struct fetch_descriptor d = {.digest = reg.digest, .size = 1000};

	setenv("CONTAINERD_WORKER", "/proc/self/exe", 1);
	session(t, how, "x");
	setenv("CONTAINERD_WORKER", real, 1);
	return fetch_blob(t->f, &t->ctx, &d, 0, on_bytes, t, &t->err);
}

static void no_more_than_the_size_is_taken(void **state)
{
	struct fixture *t = *state;

	assert_error(t, hostile(t, "flood"), ERR_FAILED_PRECONDITION, "more than the 1000 bytes");
	assert_int_equal(t->at, 0);
}

static void claims_of_a_worker_are_checked_against_the_pipe(void **state)
{
	struct fixture *t = *state;

	assert_error(t, hostile(t, "claims"), ERR_INTERNAL, "wrote 10 bytes and speaks of 1000");
	fetch_free(t->f);
	t->at = 0;
	assert_error(t, hostile(t, "silent"), ERR_INTERNAL, "ended at byte 10 of 1000");
	fetch_free(t->f);
	t->at = 0;
	assert_error(t, hostile(t, "jumps"), ERR_INTERNAL, "wrote 0 bytes and speaks of");
}

static void worker_that_ends_or_says_nothing_costs_its_call(void **state)
{
	struct fixture *t = *state;

	assert_error(t, hostile(t, "leaves"), ERR_UNAVAILABLE, "ended unexpectedly");
	fetch_free(t->f);
	t->at = 0;
	t->ctx.deadline = time_mono() + 200 * NSEC_PER_MSEC;
	assert_error(t, hostile(t, "hushes"), ERR_DEADLINE_EXCEEDED, "deadline");
}

/* ---- ends ---- */

static void canceled_call_ends_and_the_session_goes_on(void **state)
{
	struct fixture *t = *state;
	struct fetch_descriptor d;
	int64_t deadline = t->ctx.deadline;

	t->ctx.deadline = time_mono() + 300 * NSEC_PER_MSEC;
	assert_error(t, blob(t, "stall"), ERR_DEADLINE_EXCEEDED, "deadline");
	t->ctx.deadline = deadline;
	assert_int_equal(fetch_resolve(t->f, &t->ctx, &d, &t->err), 0);
	atomic_store(&t->ctx.canceled, true);
	assert_error(t, fetch_resolve(t->f, &t->ctx, &d, &t->err), ERR_CANCELED, "");
}

/* "stall" says nothing at all, "stutter" a part of the body and then nothing more. */
static void registry_that_falls_silent_is_given_up(void **state)
{
	static const char *const repos[] = {"stall", "stutter"};
	struct fixture *t = *state;

	for (size_t i = 0; i < ARRAY_LEN(repos); i++) {
		int64_t begin = time_mono();

		atomic_store(&reg.requests, 0);
		t->silence_ns = 5 * NSEC_PER_SEC;
		assert_error(t, blob(t, repos[i]), ERR_UNAVAILABLE, "could not fetch");
		assert_true(time_mono() - begin >= 5 * NSEC_PER_SEC);
		/* Asked once more at least; not after a body whose speed fell only slowly. */
		assert_in_range(atomic_load(&reg.requests), i == 0 ? 2 : 1, 4);
		fetch_free(TAKE_PTR(t->f));
	}
	assert_true(t->at > 0);
}

/* ---- unpack ---- */

static void layer_is_unpacked_by_a_worker(void **state)
{
	struct fixture *t = *state;
	char dir[] = "/tmp/worker.XXXXXX";
	_cleanup_buf_ struct buf tar = BUF_INIT;
	struct unpack_request r = {.media_type = "application/x-test"};
	struct unpack_result res;
	struct digest want;
	struct stat st;

	assert_non_null(mkdtemp(dir));
	tarball_add(&tar, &(struct tarent){.name = "d", .type = '5', .mode = 0700});
	tarball_add(&tar, &(struct tarent){.name = "d/f", .type = '0', .data = "x", .mode = 0604});
	tarball_end(&tar);
	digest_of(DIGEST_SHA256, tar.data, tar.len, &want);
	assert_int_equal(fd_pwrite_full(t->fd, tar.data, tar.len, 0), 0);
	_cleanup_close_ int target = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r.input_fd = t->fd;
	r.target_fd = target;
	if (worker_unpack(&t->ctx, &r, &res, &t->err) < 0)
		fail_msg("%s", t->err.text);
	assert_string_equal(res.diff_id.text, want.text);
	assert_int_equal(res.size, tar.len);
	assert_int_equal(res.entries, 2);
	assert_int_equal(fstatat(target, "d/f", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0604);

	tar.data[700] ^= 1;
	assert_int_equal(fd_pwrite_full(t->fd, tar.data, tar.len, 0), 0);
	assert_int_equal(lseek(t->fd, 0, SEEK_SET), 0);
	assert_error(t, worker_unpack(&t->ctx, &r, &res, &t->err), ERR_INVALID_ARGUMENT,
		     "unpack application/x-test: ");
	rm_rf(AT_FDCWD, dir);
}

static void unpack_ends_when_the_request_does(void **state)
{
	struct fixture *t = *state;
	char dir[] = "/tmp/worker.XXXXXX";
	struct unpack_request r = {0};
	struct unpack_result res;
	int fds[2];

	assert_non_null(mkdtemp(dir));
	_cleanup_close_ int target = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	r.input_fd = fds[0];
	r.target_fd = target;
	t->ctx.deadline = time_mono() + 200 * NSEC_PER_MSEC;
	assert_error(t, worker_unpack(&t->ctx, &r, &res, &t->err), ERR_DEADLINE_EXCEEDED,
		     "deadline");
	close(fds[0]);
	close(fds[1]);
	rmdir(dir);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(resolve_asks_the_next_host_and_names_the_original),
		TEST(resolve_reads_the_manifest_where_head_is_not_enough),
		TEST(proxy_is_asked_for_other_hosts_only),
		TEST(missing_tag_is_not_found),
		TEST(manifest_is_fetched_as_manifest),
		TEST(offset_is_resumed),
		TEST(broken_transfer_goes_on_where_it_was),
		TEST(server_without_ranges_starts_anew_and_says_so),
		TEST(restart_comes_after_what_is_in_the_pipe),
		TEST(offset_that_the_server_ignores_starts_anew),
		TEST(transfer_without_progress_is_given_up),
		TEST(wrong_lengths_are_errors_that_name_them),
		TEST(busy_registry_is_asked_again),
		TEST(registry_words_are_in_the_error),
		TEST(basic_credentials_are_asked_for_once),
		TEST(wrong_credentials_are_asked_for_again_and_then_refused),
		TEST(token_is_fetched_anonymously),
		TEST(token_takes_the_place_of_a_configured_authorization),
		TEST(secrets_in_a_body_stay_with_their_host),
		TEST(expired_token_is_fetched_again),
		TEST(denied_repository_does_not_loop),
		TEST(redirect_does_not_carry_credentials_to_another_host),
		TEST(blobs_are_fetched_in_parallel),
		TEST(slow_reader_holds_up_no_other_blob),
		TEST(refused_bytes_end_the_transfer_and_the_session_goes_on),
		TEST(bytes_before_an_error_are_given),
		TEST(no_more_than_the_size_is_taken),
		TEST(claims_of_a_worker_are_checked_against_the_pipe),
		TEST(worker_that_ends_or_says_nothing_costs_its_call),
		TEST(canceled_call_ends_and_the_session_goes_on),
		TEST(registry_that_falls_silent_is_given_up),
		TEST(layer_is_unpacked_by_a_worker),
		TEST(unpack_ends_when_the_request_does),
	};

	if (argc == 2 && streq(argv[1], "fetch"))
		return hostile_main();
	return cmocka_run_group_tests_name("worker", tests, group_setup, group_teardown);
}
