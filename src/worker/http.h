/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP requests, many at a time in one thread, on libcurl's multi interface.
 *
 * Redirects are followed (the Authorization header stays with the host it was meant for). A
 * transfer that gets no byte for some time (stall_s) is ended; while it rests because its own
 * reader is slow that time does not run. Once a request body is sent the server has longer to
 * answer: it may have to look through all of it. HTTP/1.1 only: on a connection that transfers
 * share, one that rests would hold up the others. Callbacks run inside http_perform(). */
#pragma once

#include <curl/curl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

#define HTTP_STALL_S 30
#define HTTP_ANSWER_S 60 /* to answer a request's body, and a second more for each 16 MiB */
#define HTTP_ANSWER_MAX_S 600
#define HTTP_REDIRECTS_MAX 10
#define HTTP_CHALLENGES_MAX 16

struct http;
struct http_transfer;

struct http_tls { /* outlives its requests */
	bool skip_verify;
	const char *ca;	  /* PEM, beside the system's; NULL = none */
	const char *cert; /* PEM; NULL = none */
	const char *key;  /* PEM; NULL = in cert */
};

struct http_reply {
	CURLcode code; /* how the transfer ended; the fields below may be set even when it failed */
	char error[CURL_ERROR_SIZE];
	long status; /* of the last response, 0 = none came */
	bool redirected;
	bool other_method; /* a redirect made another request of it */
	char url[1024];	   /* asked for, without query */
	const char *method;
	int64_t length;			 /* Content-Length, -1 = none */
	int64_t range_start, range_size; /* Content-Range: first byte, and size of the whole (-1 =
					    none, unknown) */
	int64_t retry_after_s;		 /* -1 = none */
	char content_type[256];
	char digest[160];  /* Docker-Content-Digest */
	char *location;	   /* Location, against the URL that answered; NULL = none */
	int64_t received;  /* Range of an upload: bytes that are there, -1 = not said */
	int64_t chunk_min; /* OCI-Chunk-Min-Length, 0 = none */
	char *challenges[HTTP_CHALLENGES_MAX + 1]; /* WWW-Authenticate, NULL-terminated */
	struct buf body; /* of replies that on_data does not get, at most max_body bytes */
	bool body_cut;
};

struct http_request {
	const char *method; /* "GET", "HEAD", "POST", "PUT", "PATCH" */
	const char *url;
	struct curl_slist *headers; /* taken over, on failure too */
	const char *body;	    /* of POST: a form; copied */
	bool secret; /* what is in the body is for this host: no redirect takes it to another */
	/* Of PUT and PATCH: gives up to @n bytes of the body from @offset on, more than none; a
	 * negative number ends the transfer (CURLE_ABORTED_BY_CALLBACK). */
	ssize_t (*on_read)(void *arg, int64_t offset, void *p, size_t n);
	int64_t upload_size;
	const struct http_tls *tls;
	int64_t connect_timeout_ms; /* 0 = 30 s */
	int stall_s;		    /* 0 = HTTP_STALL_S */
	size_t max_body;
	/* When a success (2xx) reply's body comes: true = on_data gets it. May be NULL. */
	bool (*on_body)(void *arg, const struct http_reply *r);
	/* Returns how many of the bytes it took; a negative number ends the transfer
	 * (CURLE_WRITE_ERROR). Fewer than @n: the transfer rests, then the others come again. It
	 * rests until *@ret_fd can be written; when that is left at -1, until http_resume(). */
	ssize_t (*on_data)(void *arg, const void *p, size_t n, int *ret_fd);
	/* Once, unless canceled. The transfer is over; @r is valid during the call. */
	void (*on_done)(void *arg, const struct http_reply *r);
	void *arg;
};

/* Makes libcurl's functions there; before everything else here, and before a jail. */
int curl_load(struct err *err) _must_check_;

/* @log NULL = no traces. */
int http_new(void (*log)(void *arg, const char *line), void *log_arg, struct http **ret,
	     struct err *err) _must_check_;
void http_free(struct http *h);

/* Makes progress without waiting. */
int http_perform(struct http *h, struct err *err) _must_check_;
/* Waits until there is progress to make (a transfer that rests may go on, too), @extra_fd is
 * readable (then *@ret_readable is set), or @timeout_ms have passed. */
int http_wait(struct http *h, int extra_fd, int timeout_ms, bool *ret_readable,
	      struct err *err) _must_check_;

int http_start(struct http *h, const struct http_request *r, struct http_transfer **ret,
	       struct err *err) _must_check_;
/* Ends it without on_done. Not from its own callbacks. */
void http_cancel(struct http_transfer *t);
/* A transfer that rests goes on with the next http_perform(); others are not touched. */
void http_resume(struct http_transfer *t);

/* True for failures that may be gone at the next attempt: connections that broke, timeouts. */
bool http_may_retry(CURLcode code);
