/* SPDX-License-Identifier: Apache-2.0 */
/* The role "fetch" inside: one session with a registry's hosts, and the calls of the daemon in
 * flight. One thread.
 *
 * fetch.c        messages and the loop
 * fetch_call.c   what a call asks which host for, and what its answers mean
 * fetch_blob.c   bytes into the daemon's pipe
 * fetch_push.c   bytes of the daemon's files to the registry
 * fetch_auth.c   credentials and tokens, by host
 *
 * Strings of the configuration point into session.config, which lives as long as the session. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/digest.h"
#include "base/err.h"
#include "worker/http.h"

#define HOSTS_MAX 64
#define STEPS_MAX (2 * HOSTS_MAX)
#define SILENCE_S 60	      /* without a byte, unless the daemon says otherwise */
#define ATTEMPTS_MAX 5	      /* requests of a step that end in failures which may pass */
#define RESUMES_MAX 100	      /* bodies of a call that broke off after some progress */
#define AUTH_ATTEMPTS_MAX 3   /* 401 answers that a call takes from one host */
#define REPLY_MAX (64u << 10) /* error replies, tokens */
#define MANIFEST_MAX (4 * 1048 * 1048)

enum capability { CAPABILITY_PULL = 1, CAPABILITY_RESOLVE = 2, CAPABILITY_PUSH = 4 };

enum auth_type { AUTH_TYPE_NONE, AUTH_TYPE_CREDENTIALS, AUTH_TYPE_REFRESH, AUTH_TYPE_HEADER };

enum auth_state {
	AUTH_IDLE,     /* requests go as they are, with the authorization when there is one */
	AUTH_ASKING,   /* the daemon is asked for credentials; calls wait */
	AUTH_FETCHING, /* the token is on its way; calls wait */
};

struct session;

struct auth {
	enum auth_state state;
	struct arena *arena; /* of what follows, of the last challenge */
	bool bearer;
	const char *realm, *service, *scope;
	int64_t asked_for; /* call in whose name the daemon was asked */
	unsigned times_asked;
	enum auth_type type; /* credentials, once times_asked > 0 */
	char *username, *secret;
	char *authorization; /* value of the header; NULL = none */
	unsigned generation; /* counts authorizations */
	bool accepted; /* a request with the current authorization has succeeded: a 401 means that
			  it expired */
	struct http_transfer *transfer;
	bool token_post;
	bool own_scope; /* a token for the other repositories, too, was refused */
	unsigned token_attempts;
};

struct host {
	struct session *s;
	const char *scheme, *name, *path;
	unsigned capabilities;
	bool mirror; /* not the reference's own host: requests carry ?ns= */
	int64_t dial_timeout_ms;
	json_t *headers;
	struct http_tls tls;
	char *ca; /* concatenated, for tls */
	struct auth auth;
};

enum call_type { CALL_RESOLVE, CALL_BLOB, CALL_PUSH };
enum call_state { CALL_RUNNING, CALL_WAIT_AUTH, CALL_WAIT_RETRY };

/* Whose errors count more when no host has it. */
enum failure { FAILURE_NONE, FAILURE_TRANSPORT, FAILURE_NOT_FOUND, FAILURE_STATUS };

struct step {
	struct host *host;
	bool manifests; /* /manifests/, else /blobs/ */
};

struct call {
	struct session *s;
	struct call *prev, *next;
	int64_t id;
	enum call_type type;
	enum call_state state;

	char media_type[256];
	char digest[DIGEST_TEXT_MAX]; /* or a tag, in resolve */
	int64_t size;		      /* -1 = unknown */

	struct step steps[STEPS_MAX];
	size_t n_steps, step;
	struct http_transfer *transfer;
	bool head;			  /* this request is a HEAD */
	unsigned generation;		  /* of the authorization that it carries */
	unsigned attempts, auth_attempts; /* of this step */
	unsigned resumes;
	int64_t retry_at;
	int64_t heard; /* when this host last said something, or was first asked */

	int fd;	       /* blob: the pipe, write end that does not block; push: the file; else -1 */
	int64_t off;   /* where in the blob the next byte belongs: the daemon has what is before */
	int64_t end;   /* blob: behind the last byte that is wanted, when that is a part; else -1 */
	int64_t asked; /* off when the request was made */
	int64_t piped; /* bytes that were written to the pipe in all */
	bool restarting;       /* nothing is written until the daemon has seen that off fell to 0 */
	struct hasher *hasher; /* resolve: of a manifest that is read for its digest */

	enum failure failure; /* the one that is answered when no step is left */
	struct err err;
	struct err sink_err; /* why the body was not taken; kind 0 = it was */
	bool reader_gone;    /* nobody reads the pipe any more */
	struct push *push;   /* CALL_PUSH, fetch_push.c */
};

struct session {
	int sock;
	json_t *config;
	const char *original_host, *repository, *object;
	bool push;
	int64_t silence_ns;
	json_t *headers;
	json_t *mount_from; /* repositories whose blobs may be mounted, for tokens */
	struct host hosts[HOSTS_MAX];
	size_t n_hosts;
	struct http *http;
	struct call *calls;
	bool broken; /* the daemon cannot be reached any more */
};

/* fetch.c */
void session_send(struct session *s,
		  json_t *msg); /* takes over; NULL (no memory) breaks the session */
/* Answers and frees. */
void call_finish(struct call *c, json_t *ok);
void call_fail(struct call *c, const struct err *err);
void call_free(struct call *c);

/* fetch_call.c */
int call_begin(struct call *c,
	       struct err *err) _must_check_; /* makes the steps, sends the first request */
/* Sends the request of the current step; call_step_failed() when that is impossible. */
void call_send(struct call *c);
/* This host has not got it: on to the next step, or the end. */
void call_step_failed(struct call *c, enum failure failure, const struct err *err);

/* The step's request is sent again after @ns. */
void call_retry_in(struct call *c, int64_t ns);
/* One more attempt, soon, or when a busy server wants it. */
void call_retry(struct call *c, const struct http_reply *r);
/* What every registry request carries; @authorized: the host's authorization, too. False = no
 * memory. */
bool call_headers(const struct call *c, const char *accept, bool authorized,
		  struct curl_slist **list);
bool header_add(struct curl_slist **list, const char *key, const char *value);
bool media_is_document(const char *media_type); /* manifests and indexes: /manifests/ */

/* fetch_push.c */
int push_begin(struct call *c, const json_t *o, struct err *err) _must_check_;
void push_send(struct call *c);
/* The step is refused; true = it goes on in another way. */
bool push_goes_on(struct call *c);
void push_free(struct push *p);

/* fetch_blob.c: the callbacks of a blob's transfer. */
bool blob_on_body(void *arg, const struct http_reply *r);
ssize_t blob_on_data(void *arg, const void *p, size_t n, int *ret_fd);
/* Begins anew, because the server sends the whole again. */
void blob_restart(struct call *c);
/* The daemon's answer to that. */
void blob_restarted(struct call *c);
/* After a reply that ended well: 0 = all is there; 1 = to be resumed; negative = failed. */
int blob_check(struct call *c, struct err *err);

/* fetch_auth.c */
/* True when requests to the host must wait; the call is set to wait. */
bool auth_wait(struct call *c);
/* Host answered 401 to @c: gets an authorization, then sends the call again, or fails its step. */
void auth_challenged(struct call *c, const struct http_reply *r);
void auth_accepted(struct host *h);
/* The daemon's answer. */
void auth_answer(struct session *s, const json_t *auth);
void auth_done(struct auth *a);

/* Seconds of silence that end one transfer: every call has two attempts at least. */
int session_stall(const struct session *s);

/* "unexpected status from GET request to URL: 500 Internal Server Error", with the registry's own
 * words when it sent some. */
void reply_error(const struct http_reply *r, struct err *err);
