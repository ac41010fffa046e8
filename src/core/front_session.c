/* SPDX-License-Identifier: Apache-2.0 */
/* The message that makes an upgraded connection one with streams. */
#include "core/front_session.h"

#include <unistd.h>

#include "core/front_internal.h"

void front_reply_session(struct front_request *q, const struct front_header *headers,
			 size_t n_headers, const struct front_session *s, int fd)
{
	json_t *streams = json_array(), *ports = json_array(), *m;
	bool ok = streams && ports;

	for (size_t i = 0; ok && s->streams && s->streams[i]; i++)
		ok = json_array_append_new(streams, json_string(s->streams[i])) == 0;
	for (size_t i = 0; ok && i < s->n_ports; i++)
		ok = json_array_append_new(ports, json_integer(s->ports[i])) == 0;
	m = json_pack("{s:s,s:b,s:b,s:b,s:o,s:o,s:I,s:I}", "protocol",
		      s->websocket ? "websocket" : "spdy", "base64", s->base64, "close",
		      s->close_signal, "forward", s->forward, "streams", streams, "ports", ports,
		      "create_ms", (json_int_t)s->create_ms, "idle_ms", (json_int_t)s->idle_ms);
	if (ok && m)
		front_send_reply(q, 101, NULL, headers, n_headers, "session", m, fd);
	else
		front_send_reply(q, 500, NULL, NULL, 0, "none", NULL, -1);
	if (!ok)
		json_decref(m);
	close(fd);
}
