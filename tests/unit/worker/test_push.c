/* SPDX-License-Identifier: Apache-2.0 */
/* Pushing through the real containerd-worker (from $CONTAINERD_WORKER) to a registry in this
 * process that takes uploads the way the repository's name says. */
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
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"
#include "core/worker.h"

#define BLOB_LEN (35 << 20) /* three pieces */
#define MANIFEST_TYPE "application/vnd.oci.image.manifest.v1+json"

static struct {
	int sock;
	char host[32];
	pthread_t thread;
	char *blob;
	struct digest digest;
	pthread_mutex_t lock; /* what follows */
	struct buf seen;      /* first line of each request, and what is worth noting */
	struct buf stored;    /* bytes of the upload, the last one begun */
	int requests, breaks;
	bool whole; /* the digest was put */
} reg;

/* ---- the registry ---- */

struct request {
	int c;
	char head[8192];
	size_t head_len, have; /* have: bytes of the body that came with the head */
	int64_t length;
	char method[8], target[2048], repo[64];
};

static void respond(const struct request *q, const char *status, const char *headers)
{
	char text[4096];
	int n = snprintf(text, sizeof(text),
			 "HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: 0\r\n%s\r\n", status,
			 headers);

	(void)fd_write_full(q->c, text, (size_t)n);
}

static void note(const char *text)
{
	pthread_mutex_lock(&reg.lock);
	buf_printf(&reg.seen, "%s\n", text);
	pthread_mutex_unlock(&reg.lock);
}

/* At most @max bytes of the body are stored; then it is over. */
static bool take_body(struct request *q, int64_t max)
{
	char *p = q->head + q->head_len, chunk[65536];
	int64_t left = q->length;
	size_t n = q->have;

	while (left > 0) {
		if (n == 0) {
			ssize_t r = read(q->c, chunk, MIN(sizeof(chunk), (size_t)left));

			if (r <= 0)
				return false;
			n = (size_t)r;
			p = chunk;
		}
		n = (size_t)MIN((int64_t)n, MIN(left, max));
		buf_add(&reg.stored, p, n);
		left -= (int64_t)n;
		max -= (int64_t)n;
		if (max == 0 && left > 0)
			return false;
		n = 0;
	}
	return true;
}

static bool is(const struct request *q, const char *method)
{
	return streq(q->method, method);
}

static void accepted(const struct request *q, const char *status)
{
	char h[512];

	snprintf(h, sizeof(h), "Location: /v2/%s/blobs/uploads/1?state=x\r\nRange: 0-%zu\r\n",
		 q->repo, reg.stored.len ? reg.stored.len - 1 : 0);
	respond(q, status, h);
}

static void serve_start(const struct request *q)
{
	char h[512];

	buf_clear(&reg.stored);
	if (streq(q->repo, "mount") && strstr(q->target, "?mount=sha256:") &&
	    strstr(q->target, "&from=base%2Fimage"))
		respond(q, "201 Created", "");
	else if (streq(q->repo, "nowhere"))
		respond(q, "202 Accepted", "");
	else if (streq(q->repo, "file"))
		respond(q, "202 Accepted", "Location: file:///etc/passwd\r\n");
	else if (streq(q->repo, "loop"))
		respond(q, "307 Temporary Redirect", "Location: /v2/loop/blobs/uploads/\r\n");
	else if (streq(q->repo, "other")) {
		snprintf(h, sizeof(h), "Location: http://localhost:%s/v2/other/blobs/uploads/1\r\n",
			 strchr(reg.host, ':') + 1);
		respond(q, "202 Accepted", h);
	} else
		accepted(q, "202 Accepted");
}

static void serve_upload(struct request *q)
{
	if ((streq(q->repo, "small") || streq(q->repo, "full")) && is(q, "PUT") && q->length > 0) {
		respond(q, "413 Request Entity Too Large", "");
		return;
	}
	if (streq(q->repo, "error")) {
		respond(q, "500 Internal Server Error", "");
		return;
	}
	if (streq(q->repo, "get")) {
		respond(q, "303 See Other", "Location: /v2/get/blobs/ok\r\n");
		return;
	}
	/* The first attempt at the whole breaks off, and the second piece after that. */
	if (streq(q->repo, "breaks") && q->length > 0 && (++reg.breaks == 1 || reg.breaks == 3)) {
		take_body(q, 1 << 20);
		return;
	}
	if (!take_body(q, INT64_MAX))
		return;
	if (is(q, "PATCH")) {
		if (streq(q->repo, "full")) /* takes the first piece, and no other */
			reg.stored.len = MIN(reg.stored.len, 16u << 20);
		accepted(q, "202 Accepted");
		return;
	}
	reg.whole = reg.stored.len == BLOB_LEN &&
		    memcmp(reg.stored.data, reg.blob, BLOB_LEN) == 0 &&
		    strstr(q->target, reg.digest.text);
	respond(q, reg.whole ? "201 Created" : "400 Bad Request", "");
}

static void serve(struct request *q)
{
	char line[4096];

	snprintf(line, sizeof(line), "%s %s%s%s", q->method, q->target,
		 strstr(q->head, "Authorization:") ? " authorized" : "",
		 strstr(q->head, "Content-Range:") ? " range" : "");
	note(line);
	reg.requests++;
	if (streq(q->repo, "other") && !strstr(q->head, "Authorization:") &&
	    strstr(q->head, "Host: 127.0.0.1"))
		respond(q, "401 Unauthorized", "WWW-Authenticate: Basic realm=\"r\"\r\n");
	else if (is(q, "HEAD"))
		respond(q, streq(q->repo, "there") ? "200 OK" : "404 Not Found", "");
	else if (is(q, "POST"))
		serve_start(q);
	else if (strstr(q->target, "/manifests/"))
		respond(q, "201 Created",
			streq(q->repo, "liar") ? "Docker-Content-Digest: sha256:00\r\n" : "");
	else if (is(q, "GET") && !streq(q->repo, "get"))
		accepted(q, "204 No Content");
	else if (is(q, "GET"))
		respond(q, "200 OK", "");
	else
		serve_upload(q);
}

static void *connection_main(void *arg)
{
	struct request *q = calloc(1, sizeof(*q));
	size_t n = 0;
	ssize_t r;
	char *end = NULL, *p;

	q->c = (int)(intptr_t)arg;
	while (!end && n < sizeof(q->head) - 1 &&
	       (r = read(q->c, q->head + n, sizeof(q->head) - 1 - n)) > 0) {
		n += (size_t)r;
		q->head[n] = '\0';
		end = strstr(q->head, "\r\n\r\n");
	}
	if (end) {
		q->head_len = (size_t)(end + 4 - q->head);
		q->have = n - q->head_len;
		(void)sscanf(q->head, "%7s %2047s", q->method, q->target);
		(void)sscanf(q->target, "/v2/%63[^/]", q->repo);
		p = strcasestr(q->head, "content-length:");
		q->length = p ? strtoll(p + 15, NULL, 10) : 0;
		if (strstr(q->head, "Expect:"))
			(void)fd_write_full(q->c, "HTTP/1.1 100 Continue\r\n\r\n", 25);
		serve(q);
	}
	shutdown(q->c, SHUT_WR);
	close(q->c);
	free(q);
	return NULL;
}

/* One after the other: nothing here pushes two things at a time. */
static void *registry_main(void *arg)
{
	for (;;) {
		int c = accept4(reg.sock, NULL, NULL, SOCK_CLOEXEC);

		if (c < 0)
			return NULL;
		connection_main((void *)(intptr_t)c);
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
	buf_done(&reg.stored);
	return 0;
}

/* ---- the daemon's part ---- */

struct fixture {
	struct ctx ctx;
	struct fetch *f;
	int fd, writable;
	int64_t sent;
	enum push_result result;
	struct err err;
};

static int setup(void **state)
{
	struct fixture *t = calloc(1, sizeof(*t));
	char path[64];

	t->ctx.arena = arena_new(0);
	t->ctx.deadline = time_mono() + 60 * NSEC_PER_SEC;
	t->writable = memfd_create("blob", MFD_CLOEXEC);
	assert_int_equal(fd_write_full(t->writable, reg.blob, BLOB_LEN), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", t->writable);
	t->fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(t->fd >= 0);
	buf_clear(&reg.seen);
	buf_clear(&reg.stored);
	reg.requests = reg.breaks = 0;
	reg.whole = false;
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *t = *state;

	fetch_free(t->f);
	close(t->fd);
	close(t->writable);
	arena_free(t->ctx.arena);
	free(t);
	return 0;
}

static int on_auth(void *arg, const char *host, const char *const *challenges,
		   struct fetch_auth *ret, struct err *err)
{
	*ret = (struct fetch_auth){FETCH_AUTH_CREDENTIALS, "bob", "pw"};
	return 0;
}

static void on_progress(void *arg, int64_t sent)
{
	*(int64_t *)arg = sent;
}

static int push(struct fixture *t, const char *repo, const char *type, const char *tag)
{
	struct fetch_host h = {.scheme = "http", .host = reg.host, .path = "/v2"};
	struct fetch_options o = {.original_host = reg.host,
				  .repository = repo,
				  .hosts = &h,
				  .n_hosts = 1,
				  .push = true,
				  .auth = on_auth};
	struct push_options p = {.reference = tag,
				 .mount_from = "base/image",
				 .progress = on_progress,
				 .arg = &t->sent};
	struct fetch_descriptor d = {.digest = reg.digest, .size = BLOB_LEN};

	h.capabilities = FETCH_PULL | (streq(repo, "readonly") ? 0 : FETCH_PUSH);
	snprintf(d.media_type, sizeof(d.media_type), "%s", type);
	if (*type)
		d.size = 100;
	assert_int_equal(fetch_start(&t->ctx, &o, &t->f, &t->err), 0);
	return fetch_push(t->f, &t->ctx, &d, t->fd, &p, &t->result, &t->err);
}

static void assert_pushed(struct fixture *t, const char *repo)
{
	assert_int_equal(push(t, repo, "", ""), 0);
	assert_int_equal(t->result, PUSH_SENT);
	assert_true(reg.whole);
	assert_int_equal(t->sent, BLOB_LEN);
}

static void assert_refused(struct fixture *t, int r, int kind, const char *text)
{
	assert_int_equal(r, -kind);
	if (!strstr(t->err.text, text))
		fail_msg("\"%s\" is not in \"%s\"", text, t->err.text);
}

static bool seen(const char *text)
{
	bool r;

	pthread_mutex_lock(&reg.lock);
	r = buf_ok(&reg.seen) && reg.seen.data && strstr(reg.seen.data, text);
	pthread_mutex_unlock(&reg.lock);
	return r;
}

/* ---- tests ---- */

static void blob_is_sent_at_once(void **state)
{
	struct fixture *t = *state;

	assert_pushed(t, "plain");
	assert_int_equal(reg.requests, 3);
	assert_false(seen("PATCH"));
}

static void blob_that_is_there_is_not_sent(void **state)
{
	struct fixture *t = *state;

	assert_int_equal(push(t, "there", "", ""), 0);
	assert_int_equal(t->result, PUSH_EXISTS);
	assert_int_equal(reg.requests, 1);
}

static void blob_of_another_repository_is_mounted(void **state)
{
	struct fixture *t = *state;

	assert_int_equal(push(t, "mount", "", ""), 0);
	assert_int_equal(t->result, PUSH_MOUNTED);
	assert_int_equal(reg.requests, 2);
}

static void body_that_is_too_large_goes_in_pieces(void **state)
{
	struct fixture *t = *state;

	assert_pushed(t, "small");
	assert_true(seen("PATCH /v2/small/blobs/uploads/1?state=x range"));
	/* HEAD, POST, PUT refused, POST, three pieces, PUT */
	assert_int_equal(reg.requests, 8);
}

static void upload_that_breaks_off_goes_on_from_what_has_come(void **state)
{
	struct fixture *t = *state;

	assert_pushed(t, "breaks");
	assert_true(seen("GET /v2/breaks/blobs/uploads/1"));
}

static void registry_that_takes_no_more_is_given_up(void **state)
{
	struct fixture *t = *state;

	assert_refused(t, push(t, "full", "", ""), ERR_UNKNOWN, "and no more");
	/* HEAD, POST, PUT refused, POST, a piece, five times the second one */
	assert_int_equal(reg.requests, 10);
}

static void credentials_do_not_go_to_the_location_s_host(void **state)
{
	struct fixture *t = *state;

	assert_pushed(t, "other");
	assert_true(seen("POST /v2/other/blobs/uploads/?mount"));
	assert_true(seen(" authorized\nPUT "));
	/* The PUT is the last line; nothing follows its target. */
	assert_true(str_has_suffix(reg.seen.data, "\n"));
	reg.seen.data[reg.seen.len - 1] = '\0';
	assert_true(str_has_suffix(reg.seen.data, reg.digest.text));
}

static void locations_that_lead_nowhere_are_errors(void **state)
{
	static const struct {
		const char *repo, *text;
		int kind;
	} cases[] = {
		{"nowhere", "no valid Location", ERR_UNKNOWN},
		{"file", "no valid Location", ERR_UNKNOWN},
		{"loop", "redirects", ERR_UNAVAILABLE},
		{"get", "redirected to another request", ERR_UNKNOWN},
		{"error", "500 Internal Server Error", ERR_UNKNOWN},
		{"readonly", "no push hosts", ERR_NOT_FOUND},
	};
	struct fixture *t = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_refused(t, push(t, cases[i].repo, "", ""), cases[i].kind, cases[i].text);
		fetch_free(t->f);
		t->f = NULL;
	}
}

static void manifest_is_put_by_tag_or_digest(void **state)
{
	struct fixture *t = *state;

	assert_int_equal(push(t, "plain", MANIFEST_TYPE, "v1"), 0);
	assert_true(seen("HEAD /v2/plain/manifests/v1\nPUT /v2/plain/manifests/v1\n"));
	fetch_free(t->f);
	t->f = NULL;
	assert_int_equal(push(t, "plain", MANIFEST_TYPE, ""), 0);
	assert_true(seen("PUT /v2/plain/manifests/sha256:"));
	fetch_free(t->f);
	t->f = NULL;
	assert_refused(t, push(t, "plain", MANIFEST_TYPE, "../x"), ERR_INVALID_ARGUMENT,
		       "invalid tag");
}

static void registry_that_stores_something_else_is_an_error(void **state)
{
	struct fixture *t = *state;

	assert_refused(t, push(t, "liar", MANIFEST_TYPE, "v1"), ERR_FAILED_PRECONDITION,
		       "in its place");
}

static void file_that_could_be_written_is_not_given_away(void **state)
{
	struct fixture *t = *state;
	int fd = t->fd;

	t->fd = t->writable;
	assert_refused(t, push(t, "plain", "", ""), ERR_INVALID_ARGUMENT, "reading only");
	assert_int_equal(reg.requests, 0);
	t->fd = fd;
}

static void file_that_is_too_short_is_an_error(void **state)
{
	struct fixture *t = *state;

	assert_int_equal(ftruncate(t->writable, BLOB_LEN / 2), 0);
	assert_refused(t, push(t, "plain", "", ""), ERR_FAILED_PRECONDITION, "fewer than");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(blob_is_sent_at_once),
		T(blob_that_is_there_is_not_sent),
		T(blob_of_another_repository_is_mounted),
		T(body_that_is_too_large_goes_in_pieces),
		T(upload_that_breaks_off_goes_on_from_what_has_come),
		T(registry_that_takes_no_more_is_given_up),
		T(credentials_do_not_go_to_the_location_s_host),
		T(locations_that_lead_nowhere_are_errors),
		T(manifest_is_put_by_tag_or_digest),
		T(registry_that_stores_something_else_is_an_error),
		T(file_that_could_be_written_is_not_given_away),
		T(file_that_is_too_short_is_an_error),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
