/* SPDX-License-Identifier: Apache-2.0 */
/* A session of forwarded ports: its thread enters the pod's network namespace, for good, and
 * connects to localhost there whenever the front asks for it; IPv4 first, then IPv6. The connection
 * is then the front's process's. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"
#include "cri/streaming_internal.h"
#include "rpc/msg.h"

#define DIALS_MAX 32
#define DIAL_NS (30 * NSEC_PER_SEC)
#define MESSAGE_NS (5 * NSEC_PER_SEC)

struct dial {
	int64_t id;
	uint16_t port;
	int fd; /* connecting */
	bool v6;
	int error4; /* why IPv4 did not work */
	int64_t until;
};

struct forward {
	struct stream_session *x;
	const char *netns; /* for texts */
	struct dial dials[DIALS_MAX];
	size_t n_dials;
};

/* False = the front has gone. Takes @m over. */
static bool say(struct forward *f, json_t *m, int fd)
{
	int r = m ? msg_send(f->x->control, m, &fd, fd >= 0, NULL) : -ENOMEM;

	json_decref(m);
	return r == 0;
}

static bool fail(struct forward *f, int64_t id, unsigned port, const char *why)
{
	char text[ERR_TEXT_MAX];

	snprintf(text, sizeof(text), "error forwarding port %u to pod %s, uid : %s", port,
		 f->x->q->id, why);
	return say(f, json_pack("{s:{s:I,s:s}}", "dialed", "id", (json_int_t)id, "error", text),
		   -1);
}

/* ---- connecting ---- */

/* 0 = connected, -EINPROGRESS, or why it cannot be. */
static int dial_begin(struct dial *d)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET,
				 .sin_port = htons(d->port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6,
				  .sin6_port = htons(d->port),
				  .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	const struct sockaddr *a = d->v6 ? (struct sockaddr *)&v6 : (struct sockaddr *)&v4;

	d->fd = socket(a->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (d->fd < 0)
		return -errno;
	return connect(d->fd, a, d->v6 ? sizeof(v6) : sizeof(v4)) < 0 ? -errno : 0;
}

static bool dial_failed(struct forward *f, const struct dial *d, int error6)
{
	char why[512];

	snprintf(why, sizeof(why),
		 "failed to connect to localhost:%u inside namespace \"%s\", IPv4: dial tcp4 "
		 "127.0.0.1:%u: connect: %s IPv6 dial tcp6 [::1]:%u: connect: %s",
		 d->port, f->netns, d->port, strerror(-d->error4), d->port, strerror(-error6));
	return fail(f, d->id, d->port, why);
}

/* What comes after the attempt with the result @r. *@ret_over: no other attempt is under way. False
 * = the front has gone. */
static bool dial_next(struct forward *f, struct dial *d, int r, bool *ret_over)
{
	bool ok = true;

	*ret_over = false;
	while (r != -EINPROGRESS) {
		if (r == 0) {
			ok = say(f, json_pack("{s:{s:I}}", "dialed", "id", (json_int_t)d->id),
				 d->fd);
			*ret_over = true;
		} else if (d->v6) {
			ok = dial_failed(f, d, r);
			*ret_over = true;
		}
		fd_closep(&d->fd);
		d->fd = -1;
		if (*ret_over)
			return ok;
		d->error4 = r;
		d->v6 = true;
		r = dial_begin(d);
	}
	return ok;
}

static int dial_result(const struct dial *d, const struct pollfd *p)
{
	int error = 0;
	socklen_t n = sizeof(error);

	if (!p->revents)
		return d->until <= time_mono() ? -ETIMEDOUT : -EINPROGRESS;
	return getsockopt(d->fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0 ? -errno : -error;
}

/* ---- the thread ---- */

static bool on_message(struct forward *f)
{
	_cleanup_json_ json_t *m = NULL;
	struct dial d = {.fd = -1, .until = time_mono() + DIAL_NS};
	json_t *o;
	bool over, ok;

	if (msg_recv(f->x->control, time_mono() + MESSAGE_NS, &m, NULL, NULL, NULL) <= 0)
		return false;
	o = json_obj(m, "dial");
	if (!o)
		return true;
	d.id = json_int(o, "id", 0);
	d.port = (uint16_t)json_int(o, "port", 0);
	ok = dial_next(f, &d, dial_begin(&d), &over);
	if (!over)
		f->dials[f->n_dials++] = d;
	return ok;
}

static void serve(struct forward *f)
{
	for (;;) {
		struct pollfd p[2 + DIALS_MAX] = {
			{.fd = f->n_dials < DIALS_MAX ? f->x->control : -1, .events = POLLIN},
			{.fd = f->x->cancel, .events = POLLIN}};
		size_t n = f->n_dials;

		for (size_t i = 0; i < n; i++)
			p[2 + i] = (struct pollfd){.fd = f->dials[i].fd, .events = POLLOUT};
		if (poll(p, 2 + n, n > 0 ? 1000 : -1) < 0 && errno != EINTR)
			return;
		if (p[1].revents)
			return;
		/* From the end, since the last takes the place of one that goes. */
		for (size_t i = n; i-- > 0;) {
			struct dial *d = &f->dials[i];
			bool over;

			if (!dial_next(f, d, dial_result(d, &p[2 + i]), &over))
				return;
			if (over)
				*d = f->dials[--f->n_dials];
		}
		if (p[0].revents && !on_message(f))
			return;
	}
}

/* The pod's network becomes the thread's. *@ret_netns in @a. */
static int enter(struct stream_session *x, const char **ret_netns, struct err *err)
{
	_cleanup_pod_ struct cri_pod *p = NULL;
	_cleanup_close_ int fd = -1;
	struct arena *a = x->q->arena;
	bool closed;
	int r = cri_table_get(stream_cri(x->s)->pods, x->q->id, &p, err);

	if (r < 0)
		return err_prefix(err, "failed to find sandbox \"%s\" in store", x->q->id);
	pthread_mutex_lock(&p->o.lock);
	closed = p->netns_closed || p->state != CRI_POD_READY;
	*ret_netns = arena_strdup(a, p->host_network ? "" : p->netns_path);
	pthread_mutex_unlock(&p->o.lock);
	if (!*ret_netns)
		return err_nomem(err);
	if (closed)
		return err_set(err, ERR_UNKNOWN, "network namespace for sandbox \"%s\" is closed",
			       x->q->id);
	if (str_empty(*ret_netns)) {
		*ret_netns = "host";
		return 0;
	}
	fd = open(*ret_netns, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
		return err_errno(err, errno, "enter network namespace %s", *ret_netns);
	return 0;
}

/* Every question gets the same answer. */
static void refuse(struct forward *f, const struct err *err)
{
	for (;;) {
		_cleanup_json_ json_t *m = NULL;
		struct pollfd p[] = {{.fd = f->x->control, .events = POLLIN},
				     {.fd = f->x->cancel, .events = POLLIN}};
		json_t *o;

		if ((poll(p, ARRAY_LEN(p), -1) < 0 && errno != EINTR) || p[1].revents)
			return;
		if (!p[0].revents)
			continue;
		if (msg_recv(f->x->control, time_mono() + MESSAGE_NS, &m, NULL, NULL, NULL) <= 0)
			return;
		o = json_obj(m, "dial");
		if (o &&
		    !fail(f, json_int(o, "id", 0), (unsigned)json_int(o, "port", 0), err->text))
			return;
	}
}

void stream_forward(struct stream_session *x)
{
	struct forward f = {.x = x};
	struct err err = ERR_INIT;

	if (enter(x, &f.netns, &err) < 0)
		refuse(&f, &err);
	else
		serve(&f);
	for (size_t i = 0; i < f.n_dials; i++)
		fd_closep(&f.dials[i].fd);
}
