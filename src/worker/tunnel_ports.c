/* SPDX-License-Identifier: Apache-2.0 */
/* Forwarded ports: a channel for data and one for errors belong together. When both are open the
 * daemon is asked for a connection to the port in the pod. A pair is over when both directions of
 * the data are, or when one is and nothing has moved in the other for a while. */
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/str.h"
#include "base/time.h"
#include "worker/tunnel.h"

#define HALF_NS NSEC_PER_SEC
#define DIALS_MAX 256 /* that the daemon has not answered: its socket must take them */

/* Both channels of @c's pair, of which one may not be there. */
static void pair_drop(struct channel *c)
{
	struct tunnel *t = c->tunnel;
	struct channel *peer = c->peer;

	channel_end(c);
	if (peer) {
		channel_end(peer);
		channel_drop(peer);
	}
	channel_drop(c);
	/* The ports of a WebSocket are told at its beginning; nothing can come after them. */
	if (t->framing == &framing_websocket && !t->channels)
		tunnel_finish(t, false);
}

static void pair_fail(struct channel *error, const char *text)
{
	struct tunnel *t = error->tunnel;

	if (!error->out_done)
		t->framing->write(t, error, text, strnlen(text, PIECE_MAX));
	pair_drop(error);
}

void ports_opened(struct channel *c)
{
	struct tunnel *t = c->tunnel;
	struct channel *o = t->channels;

	if (c->peer)
		return;
	while (o && (o->peer || o->role == c->role || !streq(o->request, c->request)))
		o = o->next;
	if (!o) {
		c->deadline = time_mono() + t->create_ns;
		return;
	}
	c->peer = o;
	o->peer = c;
	c->deadline = o->deadline = 0;
	if (t->n_dials >= DIALS_MAX) {
		pair_fail(c->role == CHANNEL_ERROR ? c : o, "too many connections are being made");
		return;
	}
	c = c->role == CHANNEL_DATA ? c : o;
	t->n_dials++;
	tunnel_send(t, json_pack("{s:{s:I,s:i}}", "dial", "id", (json_int_t)c->id, "port",
				 (int)c->port));
}

void ports_dialed(struct tunnel *t, const json_t *m, int fd)
{
	int64_t id = json_int(m, "id", -1);
	struct channel *c = id >= 0 ? channel_by_id(t, (uint32_t)id) : NULL;

	t->n_dials -= t->n_dials > 0;
	/* The client may have ended it since. */
	if (!c || c->role != CHANNEL_DATA || !c->peer || fd < 0) {
		if (fd >= 0)
			close(fd);
		else if (c && c->peer)
			pair_fail(c->peer, json_str(m, "error", "the port cannot be reached"));
		return;
	}
	channel_set_fd(c, fd);
}

void ports_moved(struct channel *c)
{
	if (c->source.fd < 0 || (!c->in_done && !c->out_done))
		return;
	if (c->in_done && c->out_done)
		pair_drop(c);
	else
		c->deadline = time_mono() + HALF_NS;
}

void ports_expired(struct channel *c)
{
	c->deadline = 0;
	if (c->peer)
		pair_drop(c);
	else if (c->role == CHANNEL_ERROR)
		pair_fail(c, "timed out waiting for streams");
	else
		pair_drop(c);
}

void ports_over(struct channel *c)
{
	/* One that wants to hear of no errors is fine. */
	if (c->role == CHANNEL_DATA || !c->peer)
		pair_drop(c);
}
