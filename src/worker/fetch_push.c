/* SPDX-License-Identifier: Apache-2.0 */
/* A blob or manifest from a file of the daemon's, open for reading only, to the registry.
 *
 *   CHECK     HEAD: is it there already?
 *   START     POST uploads/: where to; or the registry takes it from a repository that has it
 *   WHOLE     PUT of all of it, the usual way
 *   CHUNK     PATCH of a piece, where the whole was too much or broke off
 *   STATUS    GET: how much has come, after a piece that broke off
 *   FINISH    PUT of the digest, after the last piece
 *   MANIFEST  PUT of a manifest, by tag or digest
 *
 * An upload's Location may be on another host; the registry's authorization does not go there. An
 * upload that is lost is started anew. Attempts are counted as in fetch_call.c: a registry that
 * takes some bytes each time may be asked more often. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/str.h"
#include "base/time.h"
#include "worker/protocol.h"
#include "worker/session.h"

#define CHUNK_BYTES (16 << 20)
#define CHUNK_BYTES_MAX (1LL << 30) /* a registry may want larger ones */
#define UPLOADS_MAX 5		    /* begun for one blob */

enum push_state { CHECK, START, WHOLE, CHUNK, STATUS, FINISH, MANIFEST };

struct push {
	enum push_state state;
	char reference[DIGEST_TEXT_MAX + 1]; /* what the manifest is pushed as; tags are shorter */
	char mount_from[256];		     /* "" = nowhere */
	char *location;			     /* of the upload */
	bool foreign;			     /* that is another host */
	struct http_tls foreign_tls;
	bool chunked;
	int64_t chunk_bytes;
	int64_t begin, end; /* of the blob, what the current request carries */
	unsigned uploads;
	int64_t told_at, told;
};

void push_free(struct push *p)
{
	if (p)
		free(p->location);
	free(p);
}

static bool is_document(const struct call *c)
{
	return media_is_document(c->media_type);
}

int push_begin(struct call *c, const json_t *o, struct err *err)
{
	const char *reference = str_or(json_str(o, "reference", ""), c->digest);
	struct push *p = calloc(1, sizeof(*p));

	c->push = p;
	if (!p)
		return err_nomem(err);
	if (digest_validate(c->digest, NULL) < 0 || c->size < 0)
		return err_set(err, ERR_INVALID_ARGUMENT, "invalid digest \"%s\" or size %lld",
			       c->digest, (long long)c->size);
	if (is_document(c) && c->size > MANIFEST_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT, "manifest is larger than %d bytes",
			       MANIFEST_MAX);
	if (strlen(reference) >= sizeof(p->reference) || strpbrk(reference, "/?#% \r\n"))
		return err_set(err, ERR_INVALID_ARGUMENT, "invalid tag \"%.200s\"", reference);
	strcpy(p->reference, reference);
	snprintf(p->mount_from, sizeof(p->mount_from), "%s", json_str(o, "mount_from", ""));
	p->chunk_bytes = CHUNK_BYTES;
	p->end = c->size;
	return 0;
}

static void restart_from(struct call *c, enum push_state state)
{
	c->attempts = 0;
	c->push->state = state;
	call_send(c);
}

static void done(struct call *c, bool exists, bool mounted)
{
	call_finish(c, json_pack("{s:b,s:b}", "exists", (int)exists, "mounted", (int)mounted));
}

static void failed(struct call *c, struct err *err)
{
	static const char *const steps[] = {
		[CHECK] = "look for it",
		[START] = "start an upload",
		[WHOLE] = "upload",
		[CHUNK] = "upload a part",
		[STATUS] = "ask for what has come",
		[FINISH] = "end the upload",
		[MANIFEST] = "put the manifest",
	};

	err_prefix(err, "%s", steps[c->push->state]);
	call_step_failed(c, FAILURE_STATUS, err);
}

/* A blob can be sent where it cannot be mounted. */
bool push_goes_on(struct call *c)
{
	if (c->push->state != START || !*c->push->mount_from)
		return false;
	c->push->mount_from[0] = '\0';
	c->attempts = c->auth_attempts = 0;
	call_send(c);
	return true;
}

/* ---- answers ---- */

/* "scheme://host" of the registry itself, as an URL begins. */
static bool is_own(const struct host *h, const char *url)
{
	const char *rest = str_skip(url, h->scheme);

	rest = rest ? str_skip(rest, "://") : NULL;
	rest = rest ? str_skip(rest, h->name) : NULL;
	return rest && strchr("/?", *rest);
}

/* Where the upload goes on. */
static int take_location(struct call *c, const struct http_reply *r, struct err *err)
{
	struct push *p = c->push;

	if (!r->location ||
	    (!str_has_prefix(r->location, "http://") && !str_has_prefix(r->location, "https://")))
		return err_set(err, ERR_UNKNOWN, "%s \"%s\": no valid Location in the answer",
			       r->method, r->url);
	free(p->location);
	p->location = strdup(r->location);
	if (!p->location)
		return err_nomem(err);
	p->foreign = !is_own(c->steps[c->step].host, p->location);
	if (r->chunk_min > CHUNK_BYTES)
		p->chunk_bytes = MIN(r->chunk_min, CHUNK_BYTES_MAX);
	return 0;
}

static void next_chunk(struct call *c)
{
	struct push *p = c->push;

	p->state = p->begin == c->size ? FINISH : CHUNK;
	p->end = MIN(c->size, p->begin + p->chunk_bytes);
	call_send(c);
}

/* The bytes before @have are there. */
static void go_on_from(struct call *c, int64_t have)
{
	if (have > c->push->begin && ++c->resumes < RESUMES_MAX)
		c->attempts = 0;
	c->push->begin = have;
	next_chunk(c);
}

static void checked(struct call *c, const struct http_reply *r)
{
	/* A tag may point to something else. */
	bool exists = !is_document(c) || streq(c->push->reference, c->digest) ||
		      streq(r->digest, c->digest);

	if (exists)
		done(c, true, false);
	else
		restart_from(c, MANIFEST);
}

static void started(struct call *c, const struct http_reply *r)
{
	struct push *p = c->push;
	struct err err;

	if (r->status == 201 && *p->mount_from) {
		done(c, true, true);
		return;
	}
	p->begin = 0;
	p->end = c->size;
	p->uploads++;
	if (take_location(c, r, &err) < 0) {
		p->mount_from[0] = '\0';
		failed(c, &err);
		return;
	}
	if (p->chunked) {
		next_chunk(c);
		return;
	}
	p->state = WHOLE;
	call_send(c);
}

static void sent_all(struct call *c, const struct http_reply *r)
{
	struct err err;

	if (*r->digest && !streq(r->digest, c->digest)) {
		err_set(&err, ERR_FAILED_PRECONDITION,
			"registry has stored \"%.150s\" in its place", r->digest);
		failed(c, &err);
		return;
	}
	done(c, false, false);
}

/* What has come is what the registry says, when it does. One that takes pieces in part may be asked
 * as often as one whose connections break off. */
static void chunk_taken(struct call *c, const struct http_reply *r)
{
	const struct push *p = c->push;
	int64_t have = r->received >= 0 ? r->received : p->end;
	struct err err;

	if (have > p->end || have < p->begin)
		err_set(&err, ERR_UNKNOWN, "registry speaks of %lld bytes", (long long)have);
	else if (have < p->end && ++c->attempts >= ATTEMPTS_MAX)
		err_set(&err, ERR_UNKNOWN, "registry has taken %lld bytes of %lld, and no more",
			(long long)have, (long long)p->end);
	else if (take_location(c, r, &err) == 0) {
		go_on_from(c, have);
		return;
	}
	failed(c, &err);
}

static void succeeded(struct call *c, const struct http_reply *r)
{
	const struct push *p = c->push;
	struct err err;

	if (!p->foreign || p->state == CHECK || p->state == START || p->state == MANIFEST)
		auth_accepted(c->steps[c->step].host);
	switch (p->state) {
	case CHECK:
		checked(c, r);
		break;
	case START:
		started(c, r);
		break;
	case CHUNK:
		chunk_taken(c, r);
		break;
	case STATUS:
		if (r->received > c->size || (r->location && take_location(c, r, &err) < 0))
			restart_from(c, START);
		else
			go_on_from(c, MAX(r->received, (int64_t)0));
		break;
	default:
		sent_all(c, r);
	}
}

/* The upload did not get through: once more, in pieces. */
static void upload_broke(struct call *c, const struct http_reply *r, struct err *err)
{
	struct push *p = c->push;
	bool lost =
		r->status == 404 || p->state == STATUS || p->state == FINISH || p->state == WHOLE;

	if (c->attempts + 1 >= ATTEMPTS_MAX || (lost && p->uploads >= UPLOADS_MAX)) {
		failed(c, err);
		return;
	}
	p->chunked = true;
	p->state = lost ? START : STATUS;
	call_retry(c, r);
}

static void transport_failed(struct call *c, const struct http_reply *r)
{
	struct err err;

	if (c->sink_err.kind) {
		failed(c, &c->sink_err);
		return;
	}
	if (r->other_method)
		err_set(&err, ERR_UNKNOWN, "%s \"%s\": redirected to another request", r->method,
			r->url);
	else
		err_set(&err, r->body_cut ? ERR_FAILED_PRECONDITION : ERR_UNAVAILABLE,
			"%s \"%s\": %s", r->method, r->url,
			r->body_cut ? "reply is too long" : r->error);
	if (r->other_method || !http_may_retry(r->code))
		failed(c, &err);
	else if (c->push->location && c->push->state != START)
		upload_broke(c, r, &err);
	else if (c->attempts + 1 < ATTEMPTS_MAX)
		call_retry(c, r);
	else
		failed(c, &err);
}

static void status_failed(struct call *c, const struct http_reply *r)
{
	struct push *p = c->push;
	bool passes = r->status == 408 || r->status == 429 || r->status == 500 ||
		      r->status == 502 || r->status == 503 || r->status == 504;
	bool uploading =
		p->state == WHOLE || p->state == CHUNK || p->state == STATUS || p->state == FINISH;
	/* Too large a body, none without chunks, an upload that is gone or has other bytes. */
	bool other_way =
		(p->state == WHOLE && !p->chunked && c->size > 0 &&
		 (r->status == 405 || r->status == 411 || r->status == 413 || r->status == 501)) ||
		r->status == 404 || r->status == 416;
	struct err err;

	if (p->state == CHECK && r->status == 404) {
		restart_from(c, is_document(c) ? MANIFEST : START);
		return;
	}
	reply_error(r, &err);
	if (uploading && (passes || other_way))
		upload_broke(c, r, &err);
	else if (passes && c->attempts + 1 < ATTEMPTS_MAX)
		call_retry(c, r);
	else
		failed(c, &err);
}

static void on_done(void *arg, const struct http_reply *r)
{
	struct call *c = arg;
	bool foreign = c->push->foreign && c->push->state != CHECK && c->push->state != START &&
		       c->push->state != MANIFEST;

	c->transfer = NULL;
	if (r->status == 0 || r->other_method || (r->status < 400 && r->code != CURLE_OK))
		transport_failed(c, r);
	else if (r->status >= 200 && r->status < 300)
		succeeded(c, r);
	else if (r->status == 401 && !r->redirected && !foreign)
		auth_challenged(c, r);
	else
		status_failed(c, r);
}

/* ---- requests ---- */

static void tell(struct call *c, int64_t sent)
{
	struct push *p = c->push;
	int64_t now = time_mono();

	if (sent == p->told || (sent < c->size && now - p->told_at < WORKER_PROGRESS_NS))
		return;
	p->told = sent;
	p->told_at = now;
	session_send(c->s,
		     json_pack("{s:I,s:I}", "id", (json_int_t)c->id, "sent", (json_int_t)sent));
}

static ssize_t on_read(void *arg, int64_t offset, void *buf, size_t n)
{
	struct call *c = arg;
	ssize_t got;

	do
		got = pread(c->fd, buf, n, c->push->begin + offset);
	while (got < 0 && errno == EINTR);
	if (got <= 0) {
		if (got < 0)
			err_errno(&c->sink_err, errno, "read content");
		else
			err_set(&c->sink_err, ERR_FAILED_PRECONDITION,
				"content has fewer than %lld bytes", (long long)c->size);
		return -1;
	}
	tell(c, c->push->begin + offset + got);
	return got;
}

static char *registry_url(const struct call *c)
{
	const struct push *p = c->push;
	const struct host *h = c->steps[c->step].host;
	_cleanup_buf_ struct buf b = BUF_INIT;
	const char *sep = "?";

	buf_printf(&b, "%s://%s%s/%s/", h->scheme, h->name, h->path, c->s->repository);
	if (p->state == START)
		buf_adds(&b, "blobs/uploads/");
	else if (is_document(c))
		buf_printf(&b, "manifests/%s", p->reference);
	else
		buf_printf(&b, "blobs/%s", c->digest);
	if (p->state == START && *p->mount_from) {
		char *from = curl_easy_escape(NULL, p->mount_from, 0);

		buf_printf(&b, "?mount=%s&from=%s", c->digest, from ? from : "");
		curl_free(from);
		sep = "&";
	}
	if (h->mirror) {
		char *esc = curl_easy_escape(NULL, c->s->original_host, 0);

		buf_printf(&b, "%sns=%s", sep, esc ? esc : "");
		curl_free(esc);
	}
	return buf_take(&b, NULL);
}

/* The Location, with the digest where that ends the upload. */
static char *upload_url(const struct call *c)
{
	const struct push *p = c->push;
	_cleanup_buf_ struct buf b = BUF_INIT;
	size_t n = strcspn(p->location, "#");

	buf_add(&b, p->location, n);
	if (p->state == WHOLE || p->state == FINISH)
		buf_printf(&b, "%cdigest=%s", memchr(p->location, '?', n) ? '&' : '?', c->digest);
	return buf_take(&b, NULL);
}

static bool push_headers(const struct call *c, bool own, struct curl_slist **list)
{
	const struct push *p = c->push;
	char text[512] = "*/*";
	bool ok;

	if (p->state == CHECK && *c->media_type)
		snprintf(text, sizeof(text), "%s, */*", c->media_type);
	ok = own ? call_headers(c, text, true, list) : header_add(list, "Accept", text);
	if (!ok || p->state == CHECK || p->state == STATUS)
		return ok;
	ok = header_add(list, "Content-Type",
			p->state == MANIFEST ? c->media_type : "application/octet-stream");
	if (ok && p->state == CHUNK) {
		snprintf(text, sizeof(text), "%lld-%lld", (long long)p->begin,
			 (long long)p->end - 1);
		ok = header_add(list, "Content-Range", text);
	}
	return ok;
}

void push_send(struct call *c)
{
	static const char *const methods[] = {
		[CHECK] = "HEAD", [START] = "POST", [WHOLE] = "PUT",	[CHUNK] = "PATCH",
		[STATUS] = "GET", [FINISH] = "PUT", [MANIFEST] = "PUT",
	};
	struct push *p = c->push;
	struct host *h = c->steps[c->step].host;
	bool located =
		p->state == WHOLE || p->state == CHUNK || p->state == STATUS || p->state == FINISH;
	bool own = !located || !p->foreign;
	struct http_request r = {
		.method = methods[p->state],
		.on_read = on_read,
		.upload_size = p->state == FINISH ? 0 : p->end - p->begin,
		.tls = &h->tls,
		.connect_timeout_ms = h->dial_timeout_ms,
		.max_body = REPLY_MAX,
		.on_done = on_done,
		.arg = c,
	};
	_cleanup_free_ char *url = located ? upload_url(c) : registry_url(c);
	struct err err;

	if (!own) {
		/* A client certificate is for the host that it was configured for. */
		p->foreign_tls =
			(struct http_tls){.skip_verify = h->tls.skip_verify, .ca = h->tls.ca};
		r.tls = &p->foreign_tls;
	}
	if (!url || !push_headers(c, own, &r.headers)) {
		curl_slist_free_all(r.headers);
		err_nomem(&err);
		call_step_failed(c, FAILURE_STATUS, &err);
		return;
	}
	r.url = url;
	if (http_start(c->s->http, &r, &c->transfer, &err) < 0)
		failed(c, &err);
}
