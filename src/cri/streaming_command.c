/* SPDX-License-Identifier: Apache-2.0 */
/* A session of a command or an attachment. The command runs on a thread of its own with one end of
 * a pipe for each stream; the other ends are the front's process's, so that they break when the
 * client goes. This thread meanwhile sets the terminal's size. A command goes on when its client
 * has gone, as in containerd; an attachment ends. */
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "cri/io.h"
#include "cri/streaming_internal.h"
#include "rpc/msg.h"

#define STACK (1u << 20)
#define MESSAGE_NS (5 * NSEC_PER_SEC)
#define RESIZE_NS (10 * NSEC_PER_SEC)
#define GONE_NS NSEC_PER_SEC /* for an attachment to end by itself */

struct command {
	struct stream_session *x;
	struct cri_container *k;
	int fd[3];
	atomic_bool started, done;
	char exec_id[128]; /* before @started */
	int32_t code;	   /* these before @done */
	struct err err;
	int r;
	/* of this thread */
	uint32_t width, height;
	bool size_new, size_known; /* not set yet; told by the front */
	int64_t cancel_at;
};

/* ---- what becomes of it ---- */

static char *status_text(const struct command *m)
{
	const struct stream_request *q = m->x->q;
	_cleanup_buf_ struct buf b = BUF_INIT;

	if (m->r < 0) {
		(void)buf_printf(&b, "Internal error occurred: error %s container: %s",
				 q->kind == STREAM_EXEC ? "executing command in" : "attaching to",
				 m->err.text);
		return buf_take(&b, NULL);
	}
	if (m->code == 0)
		return strdup("");
	(void)buf_adds(&b, "command terminated with non-zero exit code: error executing command [");
	for (size_t i = 0; i < q->n_argv; i++)
		(void)buf_printf(&b, "%s%s", i > 0 ? " " : "", q->argv[i]);
	(void)buf_printf(&b, "], exit code %d", m->code);
	return buf_take(&b, NULL);
}

/* metav1.Status; what is not UTF-8 has no message. */
static json_t *status_json(const struct command *m, const char *text)
{
	char code[16];

	snprintf(code, sizeof(code), "%d", m->code);
	if (m->r == 0 && m->code == 0)
		return json_pack("{s:{},s:s}", "metadata", "status", "Success");
	if (m->r == 0)
		return json_pack("{s:{},s:s,s:s*,s:s,s:{s:[{s:s,s:s}]}}", "metadata", "status",
				 "Failure", "message", text, "reason", "NonZeroExitCode", "details",
				 "causes", "reason", "ExitCode", "message", code);
	return json_pack("{s:{},s:s,s:s*,s:s,s:{s:[{s:s*}]},s:i}", "metadata", "status", "Failure",
			 "message", text, "reason", "InternalError", "details", "causes", "message",
			 str_or(strstr(text, ": "), ": ") + 2, "code", 500);
}

/* NULL = no memory. */
static char *status_of(const struct command *m)
{
	_cleanup_free_ char *text = status_text(m);
	_cleanup_json_ json_t *j = NULL;

	if (!text || !m->x->json_status)
		return TAKE_PTR(text);
	j = status_json(m, text);
	if (!j && m->r == 0)
		j = status_json(m, "command terminated with non-zero exit code");
	return j ? json_dumps(j, JSON_COMPACT) : NULL;
}

/* ---- messages ---- */

/* False = the front has gone. Takes @m over. */
static bool say(struct stream_session *x, json_t *m, const int *fds, size_t n)
{
	int r = m && x->control >= 0 ? msg_send(x->control, m, fds, n, NULL) : -EPIPE;

	json_decref(m);
	return r == 0;
}

static json_t *hear(struct stream_session *x)
{
	json_t *m = NULL;

	if (msg_recv(x->control, time_mono() + MESSAGE_NS, &m, NULL, NULL, NULL) <= 0)
		return NULL;
	return m;
}

/* The client has opened its streams. */
static bool wait_opened(struct stream_session *x)
{
	int64_t until = time_mono() + (STREAM_CREATE_MS + 5000) * NSEC_PER_MSEC, left;

	while ((left = until - time_mono()) > 0) {
		_cleanup_json_ json_t *m = NULL;
		struct pollfd p[] = {{.fd = x->control, .events = POLLIN},
				     {.fd = x->cancel, .events = POLLIN}};

		if (poll(p, ARRAY_LEN(p), (int)(left / NSEC_PER_MSEC + 1)) < 0 && errno != EINTR)
			return false;
		if (p[1].revents)
			return false;
		if (!p[0].revents)
			continue;
		m = hear(x);
		if (!m)
			return false;
		if (json_obj(m, "opened"))
			return true;
	}
	return false;
}

/* ---- the command ---- */

static void on_started(void *arg, const char *exec_id)
{
	struct command *m = arg;

	snprintf(m->exec_id, sizeof(m->exec_id), "%s", exec_id);
	m->started = true;
	(void)eventfd_write(m->x->wake, 1);
}

static int run_exec(struct ctx *ctx, struct command *m)
{
	struct cri *c = stream_cri(m->x->s);
	struct stream_request *q = m->x->q;
	struct cri_exec e = {.argv = q->argv,
			     .n_argv = q->n_argv,
			     .tty = q->tty,
			     .stdin_fd = TAKE_FD(m->fd[0]),
			     .stdout_fd = TAKE_FD(m->fd[1]),
			     .stderr_fd = TAKE_FD(m->fd[2]),
			     .cancel_fd = m->x->cancel,
			     .drain_ns = c->config->drain_exec_sync_io_timeout_ns,
			     .started = on_started,
			     .arg = m};

	return cri_exec_run(ctx, c, m->k, &e, &m->code, &m->err);
}

static int run_attach(struct ctx *ctx, struct command *m)
{
	atomic_bool cancel = false;
	struct cri_attach a = {.stdin_fd = TAKE_FD(m->fd[0]),
			       .stdout_fd = TAKE_FD(m->fd[1]),
			       .stderr_fd = TAKE_FD(m->fd[2]),
			       .cancel = &cancel,
			       .cancel_fd = m->x->cancel};

	on_started(m, "");
	return cri_io_attach(ctx, stream_cri(m->x->s), m->k, &a, &m->err);
}

static void *runner(void *arg)
{
	struct command *m = arg;
	_cleanup_arena_ struct arena *a = arena_new(0);
	struct ctx ctx = cri_background(stream_cri(m->x->s), a, 0);

	if (!a)
		m->r = err_nomem(&m->err);
	else if (m->x->q->kind == STREAM_EXEC)
		m->r = run_exec(&ctx, m);
	else
		m->r = run_attach(&ctx, m);
	m->done = true;
	(void)eventfd_write(m->x->wake, 1);
	return NULL;
}

/* A pipe for each stream: the client's ends go to the front. */
static int give_streams(struct command *m, struct err *err)
{
	const struct stream_request *q = m->x->q;
	const bool want[] = {q->in, q->out, q->err};
	int theirs[3], r = 0;
	size_t n = 0;

	for (int i = 0; r == 0 && i < 3; i++) {
		int p[2];

		if (!want[i])
			continue;
		if (pipe2(p, O_CLOEXEC) < 0) {
			r = err_errno(err, errno, "make a pipe");
			break;
		}
		m->fd[i] = p[i != 0];
		theirs[n++] = p[i == 0];
	}
	if (r == 0 && !say(m->x,
			   json_pack("{s:{s:b,s:b,s:b}}", "run", "stdin", q->in, "stdout", q->out,
				     "stderr", q->err),
			   theirs, n))
		r = err_set(err, ERR_CANCELED, "the client has gone");
	while (n > 0)
		close(theirs[--n]);
	return r;
}

/* ---- meanwhile ---- */

static void set_size(struct command *m)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	struct cri *c = stream_cri(m->x->s);
	struct ctx ctx = cri_background(c, a, RESIZE_NS);
	struct err err = ERR_INIT;

	if (!m->size_new || !m->started)
		return;
	m->size_new = false;
	/* It may have ended just now: nobody needs to know. */
	if (a && !m->done &&
	    cri_io_resize(&ctx, c, m->k, m->exec_id, m->width, m->height, &err) < 0)
		log_debug("container %s: resize its terminal: %s", m->k->o.id, err.text);
	(void)say(m->x, json_pack("{s:{}}", "resized"), NULL, 0);
}

static void client_gone(struct command *m)
{
	fd_closep(&m->x->control);
	m->x->control = -1;
	if (m->x->q->kind == STREAM_ATTACH)
		m->cancel_at = time_mono() + GONE_NS;
}

static void on_message(struct command *m)
{
	_cleanup_json_ json_t *j = hear(m->x);
	json_t *o = json_obj(j, "resize");

	if (!j) {
		client_gone(m);
		return;
	}
	if (!o)
		return;
	m->width = (uint32_t)json_int(o, "width", 0);
	m->height = (uint32_t)json_int(o, "height", 0);
	m->size_new = m->x->q->tty;
	if (!m->size_new)
		(void)say(m->x, json_pack("{s:{}}", "resized"), NULL, 0);
}

static void attend(struct command *m)
{
	while (!m->done) {
		struct pollfd p[] = {{.fd = m->x->control, .events = POLLIN},
				     {.fd = m->x->wake, .events = POLLIN}};
		int64_t left = m->cancel_at ? m->cancel_at - time_mono() : 0;
		eventfd_t v;

		if (m->cancel_at && left <= 0) {
			(void)eventfd_write(m->x->cancel, 1);
			m->cancel_at = 0;
			continue;
		}
		if (poll(p, ARRAY_LEN(p), m->cancel_at ? (int)(left / NSEC_PER_MSEC + 1) : -1) <= 0)
			continue;
		if (p[1].revents)
			(void)eventfd_read(m->x->wake, &v);
		if (p[0].revents)
			on_message(m);
		set_size(m);
	}
}

/* ---- a session ---- */

static int run(struct command *m, struct err *err)
{
	pthread_attr_t attr;
	pthread_t t;
	int r = cri_table_get(stream_cri(m->x->s)->containers, m->x->q->id, &m->k, err);

	if (r == 0)
		r = give_streams(m, err);
	if (r < 0)
		return r;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK);
	r = pthread_create(&t, &attr, runner, m);
	pthread_attr_destroy(&attr);
	if (r != 0)
		return err_errno(err, r, "start a thread");
	attend(m);
	pthread_join(t, NULL);
	return m->r;
}

void stream_command(struct stream_session *x)
{
	struct command m = {.x = x, .fd = {-1, -1, -1}};
	_cleanup_free_ char *status = NULL;

	if (!wait_opened(x))
		return;
	m.r = run(&m, &m.err);
	for (int i = 0; i < 3; i++)
		fd_closep(&m.fd[i]);
	if (m.k)
		cri_object_unref(&m.k->o);
	status = status_of(&m);
	(void)say(x, json_pack("{s:{s:s*}}", "end", "status", status), NULL, 0);
}
