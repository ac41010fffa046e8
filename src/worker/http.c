/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/http.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/str.h"

#define BUFFER (512L << 10)
#define LINE_MAX_LOG 4096

struct http {
	CURLM *multi;
	void (*log)(void *arg, const char *line);
	void *log_arg;
	struct http_transfer *transfers;
	size_t n_transfers;
	struct curl_waitfd *waits; /* for http_wait(): room for one more than there are transfers */
	size_t cap_waits;
};

struct http_transfer {
	struct http *h;
	struct http_transfer *prev, *next;
	CURL *easy;
	struct curl_slist *headers;
	struct http_request r;
	struct http_reply reply;
	bool body_started, body_to_arg;
	/* Resting: libcurl keeps what was not taken and gives it again. */
	bool resting, ready;
	int wait_fd;  /* until it can be written; -1 = until told */
	size_t taken; /* bytes of what comes again that are not to be given again */
	int64_t uploaded;
};

static long stall_s(const struct http_request *r)
{
	return r->stall_s > 0 ? r->stall_s : HTTP_STALL_S;
}

/* ---- response headers ---- */

static void reply_reset(struct http_reply *r)
{
	r->status = 0;
	r->length = r->range_start = r->range_size = r->retry_after_s = -1;
	r->content_type[0] = r->digest[0] = '\0';
	free(r->location);
	r->location = NULL;
	r->received = -1;
	r->chunk_min = 0;
	for (size_t i = 0; r->challenges[i]; i++) {
		free(r->challenges[i]);
		r->challenges[i] = NULL;
	}
	buf_clear(&r->body);
	r->body_cut = false;
}

/* A text that does not fit is left out rather than cut. */
static void copy_text(char *to, size_t size, const char *from)
{
	size_t n = strlen(from);

	if (n < size)
		memcpy(to, from, n + 1);
}

/* "bytes 5-9/10", "bytes 5-9/" and a star */
static void parse_range(struct http_reply *r, const char *v)
{
	long long start, end, size = -1;
	int n = 0;

	if (sscanf(v, "bytes %lld-%lld/%n", &start, &end, &n) != 2 || n == 0 || start < 0 ||
	    end < start)
		return;
	if (v[n] != '*' && sscanf(v + n, "%lld", &size) != 1)
		return;
	r->range_start = start;
	r->range_size = size;
}

/* "0-9", as registries say how much of an upload they have. An upload that has nothing yet is
 * "0-0" to some. */
static void parse_received(struct http_reply *r, const char *v)
{
	long long start, end;
	const char *range = str_skip(v, "bytes=");

	if (sscanf(range ? range : v, "%lld-%lld", &start, &end) == 2 && start == 0 && end >= 0 &&
	    end < INT64_MAX)
		r->received = end == 0 ? 0 : end + 1;
}

static void parse_header(struct http_reply *r, const char *name, const char *value)
{
	if (strcasecmp(name, "content-length") == 0) {
		if (str_to_i64(value, 10, &r->length) < 0 || r->length < 0)
			r->length = -1;
	} else if (strcasecmp(name, "content-range") == 0) {
		parse_range(r, value);
	} else if (strcasecmp(name, "content-type") == 0) {
		copy_text(r->content_type, sizeof(r->content_type), value);
	} else if (strcasecmp(name, "docker-content-digest") == 0) {
		copy_text(r->digest, sizeof(r->digest), value);
	} else if (strcasecmp(name, "location") == 0) {
		free(r->location);
		r->location = strdup(value);
	} else if (strcasecmp(name, "range") == 0) {
		parse_received(r, value);
	} else if (strcasecmp(name, "oci-chunk-min-length") == 0) {
		if (str_to_i64(value, 10, &r->chunk_min) < 0 || r->chunk_min < 0)
			r->chunk_min = 0;
	} else if (strcasecmp(name, "retry-after") == 0) {
		if (str_to_i64(value, 10, &r->retry_after_s) < 0)
			r->retry_after_s = -1;
	} else if (strcasecmp(name, "www-authenticate") == 0) {
		for (size_t i = 0; i < HTTP_CHALLENGES_MAX; i++)
			if (!r->challenges[i]) {
				r->challenges[i] = strdup(value);
				break;
			}
	}
}

static bool same_part(CURLU *a, CURLU *b, CURLUPart part)
{
	char *x = NULL, *y = NULL;
	bool same = curl_url_get(a, part, &x, CURLU_DEFAULT_PORT) == CURLUE_OK &&
		    curl_url_get(b, part, &y, CURLU_DEFAULT_PORT) == CURLUE_OK &&
		    strcasecmp(x, y) == 0;

	curl_free(x);
	curl_free(y);
	return same;
}

/* A redirect sends the body again, and to a server that it was not for. */
static bool gives_away(const struct http_transfer *t, const char *location)
{
	CURLU *from = curl_url(), *to = curl_url();
	char *base = NULL;
	bool same;

	curl_easy_getinfo(t->easy, CURLINFO_EFFECTIVE_URL, &base);
	same = from && to && base && curl_url_set(from, CURLUPART_URL, base, 0) == CURLUE_OK &&
	       curl_url_set(to, CURLUPART_URL, base, 0) == CURLUE_OK &&
	       curl_url_set(to, CURLUPART_URL, location, 0) == CURLUE_OK &&
	       same_part(from, to, CURLUPART_SCHEME) && same_part(from, to, CURLUPART_HOST) &&
	       same_part(from, to, CURLUPART_PORT);
	curl_url_cleanup(from);
	curl_url_cleanup(to);
	return !same;
}

static size_t on_header(char *p, size_t size, size_t n, void *arg)
{
	struct http_transfer *t = arg;
	char line[8192], *colon, *end;
	size_t len = size * n;

	/* Not looked at; it might be a Location. */
	if (len >= sizeof(line))
		return t->r.secret ? 0 : len;
	memcpy(line, p, len);
	line[len] = '\0';
	for (end = line + len; end > line && strchr("\r\n \t", end[-1]); end--)
		end[-1] = '\0';
	if (str_has_prefix(line, "HTTP/")) {
		/* A new response: after a redirect, or after a 1xx. */
		reply_reset(&t->reply);
		curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &t->reply.status);
		return len;
	}
	colon = strchr(line, ':');
	if (colon) {
		*colon++ = '\0';
		colon += strspn(colon, " \t");
		if (t->r.secret && (t->reply.status == 307 || t->reply.status == 308) &&
		    strcasecmp(line, "location") == 0 && gives_away(t, colon))
			return 0;
		parse_header(&t->reply, line, colon);
	}
	return len;
}

/* ---- response bodies ---- */

static void body_start(struct http_transfer *t)
{
	t->body_started = true;
	curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &t->reply.status);
	if (t->reply.status >= 200 && t->reply.status < 300 && t->r.on_body)
		t->body_to_arg = t->r.on_body(t->r.arg, &t->reply);
}

/* Gives what on_data has not got yet. */
static size_t give(struct http_transfer *t, const char *p, size_t n)
{
	size_t before = MIN(t->taken, n);
	ssize_t r = 0;

	t->wait_fd = -1;
	if (before < n || n == 0)
		r = t->r.on_data(t->r.arg, p + before, n - before, &t->wait_fd);
	if (r < 0)
		return CURL_WRITEFUNC_ERROR;
	if (before + (size_t)r < n) {
		t->taken = before + (size_t)r;
		t->resting = true;
		t->ready = false;
		return CURL_WRITEFUNC_PAUSE;
	}
	t->taken -= before;
	return n;
}

static size_t on_write(char *p, size_t size, size_t n, void *arg)
{
	struct http_transfer *t = arg;
	struct http_reply *r = &t->reply;
	size_t len = size * n, room;

	if (!t->body_started)
		body_start(t);
	if (t->body_to_arg)
		return give(t, p, len);
	room = t->r.max_body > r->body.len ? t->r.max_body - r->body.len : 0;
	if (len > room)
		r->body_cut = true;
	buf_add(&r->body, p, MIN(len, room));
	/* Too long a body is not read to its end. */
	return r->body_cut ? CURL_WRITEFUNC_ERROR : len;
}

/* ---- request bodies ---- */

/* All is sent: what the server does with it may take a while. */
static void body_sent(struct http_transfer *t)
{
	long more = (long)MIN(t->r.upload_size >> 24, (int64_t)HTTP_ANSWER_MAX_S);

	curl_easy_setopt(t->easy, CURLOPT_LOW_SPEED_TIME,
			 MIN(HTTP_ANSWER_S + more, (long)HTTP_ANSWER_MAX_S));
}

static size_t on_read(char *p, size_t size, size_t n, void *arg)
{
	struct http_transfer *t = arg;
	int64_t left = t->r.upload_size - t->uploaded;
	ssize_t got;

	if (left <= 0)
		return 0;
	got = t->r.on_read(t->r.arg, t->uploaded, p, (size_t)MIN(left, (int64_t)(size * n)));
	if (got <= 0)
		return CURL_READFUNC_ABORT;
	t->uploaded += got;
	if (t->uploaded == t->r.upload_size)
		body_sent(t);
	return (size_t)got;
}

/* A redirect wants it again. */
static int on_seek(void *arg, curl_off_t offset, int origin)
{
	struct http_transfer *t = arg;

	if (origin != SEEK_SET || offset < 0 || offset > t->r.upload_size)
		return CURL_SEEKFUNC_FAIL;
	t->uploaded = offset;
	curl_easy_setopt(t->easy, CURLOPT_LOW_SPEED_TIME, stall_s(&t->r));
	return CURL_SEEKFUNC_OK;
}

/* ---- traces ---- */

static void log_header(struct http *h, const char *prefix, const char *p, size_t n)
{
	char line[LINE_MAX_LOG];
	const char *colon;

	while (n > 0 && (p[n - 1] == '\r' || p[n - 1] == '\n'))
		n--;
	if (n == 0)
		return;
	colon = memchr(p, ':', n);
	if (colon && (strncasecmp(p, "authorization:", 14) == 0 ||
		      strncasecmp(p, "proxy-authorization:", 20) == 0 ||
		      strncasecmp(p, "set-cookie:", 11) == 0 || strncasecmp(p, "cookie:", 7) == 0))
		snprintf(line, sizeof(line), "%s%.*s: <redacted>", prefix, (int)(colon - p), p);
	else
		snprintf(line, sizeof(line), "%s%.*s", prefix, (int)MIN(n, sizeof(line)), p);
	h->log(h->log_arg, line);
}

static int on_debug(CURL *easy, curl_infotype type, char *p, size_t n, void *arg)
{
	struct http *h = arg;

	if (type == CURLINFO_HEADER_IN)
		log_header(h, "< ", p, n);
	else if (type == CURLINFO_TEXT)
		log_header(h, "* ", p, n);
	else if (type == CURLINFO_HEADER_OUT)
		/* All headers of a request at once. */
		for (char *end; n > 0; n -= (size_t)(end - p), p = end) {
			char *nl = memchr(p, '\n', n);

			end = nl ? nl + 1 : p + n;
			log_header(h, "> ", p, (size_t)(end - p));
		}
	return 0;
}

/* ---- transfers ---- */

static struct curl_blob blob(const char *pem)
{
	return (struct curl_blob){
		.data = (void *)pem, .len = strlen(pem), .flags = CURL_BLOB_NOCOPY};
}

static CURLcode set_tls(CURL *e, const struct http_tls *tls)
{
	const char *file = getenv("SSL_CERT_FILE"), *dir = getenv("SSL_CERT_DIR");
	CURLcode c;

	c = curl_easy_setopt(e, CURLOPT_CAPATH, str_or(dir, "/etc/ssl/certs"));
	if (c == CURLE_OK && !str_empty(file))
		c = curl_easy_setopt(e, CURLOPT_CAINFO, file);
	if (!tls || c != CURLE_OK)
		return c;
	if (tls->ca) {
		struct curl_blob b = blob(tls->ca);

		c = curl_easy_setopt(e, CURLOPT_CAINFO_BLOB, &b);
	}
	if (c == CURLE_OK && tls->cert) {
		struct curl_blob cert = blob(tls->cert),
				 key = blob(tls->key ? tls->key : tls->cert);

		c = curl_easy_setopt(e, CURLOPT_SSLCERT_BLOB, &cert);
		if (c == CURLE_OK)
			c = curl_easy_setopt(e, CURLOPT_SSLKEY_BLOB, &key);
	}
	if (c == CURLE_OK && tls->skip_verify) {
		curl_easy_setopt(e, CURLOPT_SSL_VERIFYPEER, 0L);
		curl_easy_setopt(e, CURLOPT_SSL_VERIFYHOST, 0L);
	}
	return c;
}

#define SET(opt, value)                                        \
	do {                                                   \
		CURLcode c_ = curl_easy_setopt(e, opt, value); \
		if (c_ != CURLE_OK)                            \
			return c_;                             \
	} while (0)

static CURLcode setup_upload(struct http_transfer *t)
{
	CURL *e = t->easy;

	SET(CURLOPT_UPLOAD, 1L);
	SET(CURLOPT_INFILESIZE_LARGE, (curl_off_t)t->r.upload_size);
	SET(CURLOPT_READFUNCTION, on_read);
	SET(CURLOPT_READDATA, t);
	SET(CURLOPT_SEEKFUNCTION, on_seek);
	SET(CURLOPT_SEEKDATA, t);
	SET(CURLOPT_UPLOAD_BUFFERSIZE, BUFFER);
	if (!streq(t->r.method, "PUT"))
		SET(CURLOPT_CUSTOMREQUEST, t->r.method);
	return CURLE_OK;
}

static CURLcode setup(struct http_transfer *t)
{
	const struct http_request *r = &t->r;
	CURL *e = t->easy;

	SET(CURLOPT_URL, r->url);
	SET(CURLOPT_PRIVATE, t);
	SET(CURLOPT_ERRORBUFFER, t->reply.error);
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_FOLLOWLOCATION, 1L);
	SET(CURLOPT_MAXREDIRS, (long)HTTP_REDIRECTS_MAX);
	SET(CURLOPT_BUFFERSIZE, BUFFER);
	SET(CURLOPT_LOW_SPEED_LIMIT, 1L);
	SET(CURLOPT_LOW_SPEED_TIME, stall_s(r));
	SET(CURLOPT_CONNECTTIMEOUT_MS,
	    (long)(r->connect_timeout_ms > 0 ? MIN(r->connect_timeout_ms, 3600000) : 30000));
	SET(CURLOPT_HEADERFUNCTION, on_header);
	SET(CURLOPT_HEADERDATA, t);
	SET(CURLOPT_WRITEFUNCTION, on_write);
	SET(CURLOPT_WRITEDATA, t);
	SET(CURLOPT_HTTPHEADER, t->headers);
	if (streq(r->method, "HEAD"))
		SET(CURLOPT_NOBODY, 1L);
	else if (streq(r->method, "POST"))
		SET(CURLOPT_COPYPOSTFIELDS, r->body ? r->body : "");
	else if (!streq(r->method, "GET")) {
		CURLcode c = setup_upload(t);

		if (c != CURLE_OK)
			return c;
	}
	if (t->h->log) {
		SET(CURLOPT_VERBOSE, 1L);
		SET(CURLOPT_DEBUGFUNCTION, on_debug);
		SET(CURLOPT_DEBUGDATA, t->h);
	}
	return set_tls(e, r->tls);
}

static void transfer_free(struct http_transfer *t)
{
	if (t->easy) {
		curl_multi_remove_handle(t->h->multi, t->easy);
		curl_easy_cleanup(t->easy);
	}
	curl_slist_free_all(t->headers);
	reply_reset(&t->reply);
	buf_done(&t->reply.body);
	if (t->prev)
		t->prev->next = t->next;
	else if (t->h->transfers == t)
		t->h->transfers = t->next;
	if (t->next)
		t->next->prev = t->prev;
	t->h->n_transfers--;
	free(t);
}

/* Room to wait for one more transfer, and the extra descriptor. */
static bool reserve_wait(struct http *h)
{
	size_t cap = 2 * h->cap_waits + 16;
	struct curl_waitfd *grown;

	if (h->n_transfers + 2 <= h->cap_waits)
		return true;
	grown = reallocarray(h->waits, cap, sizeof(*grown));
	if (!grown)
		return false;
	h->waits = grown;
	h->cap_waits = cap;
	return true;
}

int http_start(struct http *h, const struct http_request *r, struct http_transfer **ret,
	       struct err *err)
{
	struct http_transfer *t = reserve_wait(h) ? calloc(1, sizeof(*t)) : NULL;
	CURLcode c;

	if (!t) {
		curl_slist_free_all(r->headers);
		return err_nomem(err);
	}
	h->n_transfers++;
	t->h = h;
	t->wait_fd = -1;
	t->r = *r;
	t->headers = r->headers;
	reply_reset(&t->reply);
	t->reply.method = r->method;
	snprintf(t->reply.url, sizeof(t->reply.url), "%.*s", (int)strcspn(r->url, "?"), r->url);
	t->easy = curl_easy_init();
	c = t->easy ? setup(t) : CURLE_OUT_OF_MEMORY;
	if (c == CURLE_OK && curl_multi_add_handle(h->multi, t->easy) != CURLM_OK)
		c = CURLE_OUT_OF_MEMORY;
	if (c != CURLE_OK) {
		int x = c == CURLE_OUT_OF_MEMORY
				? err_nomem(err)
				: err_set(err, ERR_INVALID_ARGUMENT, "%s \"%s\": %s", r->method,
					  t->reply.url, curl_easy_strerror(c));

		transfer_free(t);
		return x;
	}
	t->next = h->transfers;
	if (t->next)
		t->next->prev = t;
	h->transfers = t;
	*ret = t;
	return 0;
}

void http_cancel(struct http_transfer *t)
{
	transfer_free(t);
}

void http_resume(struct http_transfer *t)
{
	t->ready = t->resting;
}

/* Against the URL that answered; what is no URL is none. */
static void finish_location(struct http_transfer *t)
{
	_cleanup_free_ char *given = TAKE_PTR(t->reply.location);
	char *base = NULL, *full = NULL;
	CURLU *u = curl_url();

	curl_easy_getinfo(t->easy, CURLINFO_EFFECTIVE_URL, &base);
	if (u && base && curl_url_set(u, CURLUPART_URL, base, 0) == CURLUE_OK &&
	    curl_url_set(u, CURLUPART_URL, given, 0) == CURLUE_OK &&
	    curl_url_get(u, CURLUPART_URL, &full, 0) == CURLUE_OK)
		t->reply.location = strdup(full);
	curl_free(full);
	curl_url_cleanup(u);
}

static void finish(struct http_transfer *t, CURLcode code)
{
	long redirects = 0;
	char *method = NULL;

	t->reply.code = code;
	curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &t->reply.status);
	curl_easy_getinfo(t->easy, CURLINFO_REDIRECT_COUNT, &redirects);
	t->reply.redirected = redirects > 0;
	curl_easy_getinfo(t->easy, CURLINFO_EFFECTIVE_METHOD, &method);
	t->reply.other_method = method && !streq(method, t->r.method);
	if (t->reply.location)
		finish_location(t);
	if (code != CURLE_OK && !t->reply.error[0])
		copy_text(t->reply.error, sizeof(t->reply.error), curl_easy_strerror(code));
	/* An empty body starts too. */
	if (code == CURLE_OK && !t->body_started)
		body_start(t);
	t->r.on_done(t->r.arg, &t->reply);
	transfer_free(t);
}

static void finish_all(struct http *h)
{
	CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(h->multi, &left))) {
		struct http_transfer *t = NULL;

		if (m->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&t);
		finish(t, m->data.result);
	}
}

/* Lets those that rested go on. */
static void resume_all(struct http *h)
{
	struct http_transfer *t = h->transfers;

	while (t) {
		CURLcode c;

		if (!t->ready) {
			t = t->next;
			continue;
		}
		t->resting = t->ready = false;
		/* Gives at once what was kept; that may make it rest again, or fail. */
		c = curl_easy_pause(t->easy, CURLPAUSE_CONT);
		if (c == CURLE_OK) {
			t = t->next;
		} else {
			finish(t, c);
			t = h->transfers; /* the list may be another now */
		}
	}
}

int http_perform(struct http *h, struct err *err)
{
	CURLMcode c;
	int running;

	resume_all(h);
	c = curl_multi_perform(h->multi, &running);
	if (c != CURLM_OK)
		return err_set(err, ERR_INTERNAL, "http: %s", curl_multi_strerror(c));
	finish_all(h);
	return 0;
}

int http_wait(struct http *h, int extra_fd, int timeout_ms, bool *ret_readable, struct err *err)
{
	struct curl_waitfd *w = h->waits;
	struct http_transfer *t;
	unsigned n = 0;
	CURLMcode c;

	w[n++] = (struct curl_waitfd){.fd = extra_fd, .events = CURL_WAIT_POLLIN};
	for (t = h->transfers; t; t = t->next)
		if (t->resting && t->wait_fd >= 0)
			w[n++] =
				(struct curl_waitfd){.fd = t->wait_fd, .events = CURL_WAIT_POLLOUT};
	c = curl_multi_poll(h->multi, w, n, timeout_ms, NULL);
	if (c != CURLM_OK)
		return err_set(err, ERR_INTERNAL, "http: %s", curl_multi_strerror(c));
	*ret_readable = w[0].revents != 0;
	n = 1;
	for (t = h->transfers; t; t = t->next)
		if (t->resting && t->wait_fd >= 0 && w[n++].revents != 0)
			t->ready = true;
	return 0;
}

int http_new(void (*log)(void *arg, const char *line), void *log_arg, struct http **ret,
	     struct err *err)
{
	struct http *h = calloc(1, sizeof(*h));

	if (!h || !reserve_wait(h) || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK ||
	    !(h->multi = curl_multi_init())) {
		if (h)
			free(h->waits);
		free(h);
		return err_nomem(err);
	}
	h->log = log;
	h->log_arg = log_arg;
	*ret = h;
	return 0;
}

void http_free(struct http *h)
{
	if (!h)
		return;
	while (h->transfers)
		transfer_free(h->transfers);
	curl_multi_cleanup(h->multi);
	free(h->waits);
	free(h);
}

bool http_may_retry(CURLcode code)
{
	switch (code) {
	case CURLE_OPERATION_TIMEDOUT:
	case CURLE_PARTIAL_FILE:
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR:
	case CURLE_GOT_NOTHING:
	case CURLE_HTTP2:
	case CURLE_HTTP2_STREAM:
		return true;
	default:
		return false;
	}
}
