/* SPDX-License-Identifier: Apache-2.0 */
/* Requests as handlers see them, and their replies. A body goes to the front's process as a file in
 * memory, or through a pipe. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "core/front_internal.h"

#define TEXT_PLAIN "text/plain; charset=utf-8"

/* ---- requests ---- */

const char *front_method(const struct front_request *q)
{
	return json_str(q->m, "method", "");
}

const char *front_path(const struct front_request *q)
{
	return json_str(q->m, "path", "");
}

const char *front_body(const struct front_request *q)
{
	return json_str(q->m, "body", "");
}

size_t front_request_listener(const struct front_request *q)
{
	int64_t i = json_int(q->m, "listener", 0);

	return i < 0 || i >= (int64_t)q->front->n_listeners ? 0 : (size_t)i;
}

static bool pair_at(const json_t *list, size_t i, struct front_header *ret)
{
	const json_t *pair = json_array_get(list, i);
	const char *name = json_string_value(json_array_get(pair, 0)),
		   *value = json_string_value(json_array_get(pair, 1));

	if (!name || !value)
		return false;
	*ret = (struct front_header){name, value};
	return true;
}

const char *front_query(const struct front_request *q, const char *key)
{
	const json_t *list = json_arr(q->m, "query");
	struct front_header h;

	for (size_t i = 0; pair_at(list, i, &h); i++)
		if (streq(h.name, key))
			return h.value;
	return NULL;
}

bool front_request_header_at(const struct front_request *q, size_t i, struct front_header *ret)
{
	return pair_at(json_arr(q->m, "headers"), i, ret);
}

const char *front_request_header(const struct front_request *q, const char *name)
{
	struct front_header h;

	for (size_t i = 0; front_request_header_at(q, i, &h); i++)
		if (strcasecmp(h.name, name) == 0)
			return h.value;
	return NULL;
}

/* ---- replies ---- */

static void request_free(struct front_request *q)
{
	struct front *f = q->front;

	atomic_fetch_sub(&f->n_requests, 1);
	json_decref(q->message);
	free(q);
	front_unref(f);
}

/* False = cannot be encoded, or is too large. */
static bool add_headers(json_t *list, const char *type, const struct front_header *h, size_t n)
{
	size_t total = 0;

	if (type && json_array_append_new(list, json_pack("[s,s]", "Content-Type", type)) < 0)
		return false;
	for (size_t i = 0; i < n; i++) {
		total += strlen(h[i].name) + strlen(h[i].value) + 4;
		if (total > FRONT_REPLY_HEAD_MAX ||
		    json_array_append_new(list, json_pack("[s,s]", h[i].name, h[i].value)) < 0)
			return false;
	}
	return true;
}

void front_send_reply(struct front_request *q, int status, const char *type,
		      const struct front_header *h, size_t n, const char *body, json_t *session,
		      int fd)
{
	struct front *f = q->front;
	json_t *list = json_array();
	_cleanup_json_ json_t *m = NULL;

	if (!list || !add_headers(list, type, h, n)) {
		json_decref(list);
		list = json_array();
		status = 500;
		body = "none";
		fd = -1;
	}
	m = json_pack("{s:{s:I,s:i,s:s,s:o,s:o*}}", "reply", "id", (json_int_t)q->id, "status",
		      status, "body", body, "headers", list, "session", session);
	pthread_mutex_lock(&f->mu);
	if (f->generation == q->generation && m)
		(void)front_send_locked(f, m, fd);
	pthread_mutex_unlock(&f->mu);
	request_free(q);
}

static void send_reply(struct front_request *q, int status, const char *type,
		       const struct front_header *h, size_t n, const char *body, int fd)
{
	front_send_reply(q, status, type, h, n, body, NULL, fd);
}

static int body_file(const void *p, size_t n)
{
	_cleanup_close_ int fd = memfd_create("reply", MFD_CLOEXEC);
	int r = fd < 0 ? -errno : fd_write_full(fd, p, n);

	return r < 0 ? r : TAKE_FD(fd);
}

void front_reply_headers(struct front_request *q, int status, const char *type,
			 const struct front_header *headers, size_t n_headers, const void *body,
			 size_t n)
{
	_cleanup_close_ int fd = -1;

	if (n == 0) {
		send_reply(q, status, type, headers, n_headers, "none", -1);
		return;
	}
	fd = n > FRONT_REPLY_MAX ? -EFBIG : body_file(body, n);
	if (fd < 0)
		send_reply(q, 500, NULL, NULL, 0, "none", -1);
	else
		send_reply(q, status, type, headers, n_headers, "file", fd);
}

void front_reply(struct front_request *q, int status, const char *type, const void *body, size_t n)
{
	front_reply_headers(q, status, type, NULL, 0, body, n);
}

void front_reply_text(struct front_request *q, int status, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX + 2];
	va_list ap;
	size_t n;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text) - 1, fmt, ap);
	va_end(ap);
	n = strlen(text);
	text[n++] = '\n';
	front_reply(q, status, TEXT_PLAIN, text, n);
}

int front_reply_stream(struct front_request *q, int status, const char *type,
		       const struct front_header *headers, size_t n_headers, int *ret_fd)
{
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0) {
		int r = -errno;

		send_reply(q, 503, NULL, NULL, 0, "none", -1);
		return r;
	}
	send_reply(q, status, type, headers, n_headers, "pipe", p[0]);
	close(p[0]);
	*ret_fd = p[1];
	return 0;
}

void front_reply_upgrade(struct front_request *q, const struct front_header *headers,
			 size_t n_headers, int fd)
{
	send_reply(q, 101, NULL, headers, n_headers, "upgrade", fd);
	close(fd);
}
