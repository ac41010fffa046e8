/* SPDX-License-Identifier: Apache-2.0 */
/* What the daemon (core/worker.c) and a containerd-worker say to each other on the worker's
 * descriptor 3.
 *
 * Framing: rpc/msg.h (length, JSON object, descriptors). "d>w" goes to the worker, "w>d" to the
 * daemon. Numbers are integers; members that are absent have the empty value. Unknown members are
 * ignored, so either side may be newer. A worker ends when the daemon closes the socket.
 *
 * Every failure is {"error":{"kind":n,"text":"..."}} with kinds of base/err.h.
 *
 * ---- role "unpack": one request a process ----
 *
 * d>w
 * {"unpack":{"media_type":"...","whiteouts":"overlay"|"plain","userxattr":bool,"alone":bool,"max_bytes":n,"max_entries":n}}
 *     descriptors: input, target directory, lower directories (topmost first). "alone": there
 *     are some, but they are not known yet; a layer that depends on them is answered by an error
 *     of kind "aborted"
 * w>d {"progress":input bytes read}                                    any number of times
 * w>d {"ok":{"diff_id":"sha256:...","size":n,"entries":n}} or an error; then the worker ends
 *
 * The worker enters its jail (jail.h) between receiving the request and reading the first byte of
 * input.
 *
 * ---- role "pack": one request a process ----
 *
 * d>w {"pack":{"compression":"none"|"gzip"|"zstd","lower":bool,"changed":bool,"epoch":bool,
 *              "epoch_sec":n,"epoch_nsec":n,"max_bytes":n}}
 *     descriptors: output, upper directory, lower directory if "lower", changed directory if
 *     "changed" (tree_diff.h)
 * The worker writes the layer to the output and closes it, then
 * w>d {"ok":{"diff_id":"sha256:...","size":n,"entries":n}} or, in place of the rest, an error.
 * It enters its jail before it looks at the trees.
 *
 * ---- role "recompress": one request a process ----
 *
 * d>w {"recompress":{"compression":"none"|"gzip"|"zstd","max_bytes":n}}
 *     descriptors: input (compressed or not), output
 * The worker inflates the input, compresses it anew, writes it to the output and closes it, then
 * w>d {"ok":{"diff_id":"sha256:...","size":n}} (of the plain bytes) or, in place of the rest, an
 * error. It enters its jail before it reads the input.
 *
 * ---- role "fetch": one session a process, many calls at a time ----
 *
 * d>w
 * {"session":{"original_host":"...","repository":"...","object":"...","push":bool,"mount_from":["repository",...],"debug":bool,"silence":ns,"headers":[["k","v"],...],
 *      "hosts":[{"scheme":"https","host":"...","path":"/v2","capabilities":n,"skip_verify":bool,"ca":["PEM",...],
 *                "certs":[["cert PEM","key
 * PEM"],...],"headers":[["k","v"],...],"dial_timeout":ns},...]}} first message, once, without an
 * answer; capabilities as enum fetch_capability
 *
 * Calls carry an id of the daemon's choosing (> 0, unique among calls in flight):
 * d>w {"id":n,"resolve":{}}
 * d>w {"id":n,"blob":{"media_type":"...","digest":"...","size":n or -1,"offset":n,"length":n}}
 *     descriptor: the write end of a pipe (O_NONBLOCK), one for each blob. The worker never gets a
 *     file of the store: what the daemon has taken out of a pipe nobody else can change.
 *     "length": so many bytes only; a server that sends no ranges is then an error of kind
 *     "unimplemented", and nothing begins anew.
 * d>w
 * {"id":n,"push":{"media_type":"...","digest":"...","size":n,"reference":"...","mount_from":"..."}}
 *     descriptor: a regular file, open for reading only, whose first "size" bytes are sent.
 *     "reference": a manifest's tag; absent: its digest. "mount_from": a repository of the same
 *     registry that may have the blob. Blobs or manifests are told apart by media type.
 * w>d {"id":n,"sent":n}             bytes of the file, any number of times, may fall
 * d>w {"cancel":n}      the call ends with an error soon (it is answered in any case, exactly once)
 * w>d {"id":n,"piped":n,"ok":{...}}
 *     resolve: "media_type", "digest", "size"; blob: "size" (bytes of the blob); push:
 *     "exists":bool (nothing was sent), "mounted":bool
 * w>d {"id":n,"piped":n,"error":{...}}
 *
 * The pipe carries the blob's bytes from "offset" on and nothing else. "piped" is the number of
 * bytes that were written to it before the message, in all: they are in the pipe, or taken out of
 * it already, when the message arrives. A pipe that is full makes the worker wait, with this blob
 * only; one that nobody reads ends the call. A server that could not resume makes it begin anew:
 * w>d {"id":n,"restart":piped}      what follows in the pipe begins at the blob's byte 0
 * d>w {"restarted":n}               the bytes before that were taken; nothing is written until then
 *
 * Credentials are asked for when a host answers 401, in the name of one of the calls that wait:
 * w>d {"id":n,"auth":{"host":"...","challenges":["Bearer realm=...",...]}}
 * d>w
 * {"auth":{"host":"...","type":"none"|"credentials"|"refresh"|"header","username":"...","secret":"..."}}
 * d>w {"auth":{"host":"...","error":{"kind":n,"text":"..."}}}           ends the calls that wait
 * Exactly one answer for each question; the answer may come after the call was canceled.
 *
 * w>d {"log":"line"}                only with "debug"
 *
 * ---- role "front": one server a process, many connections at a time ----
 *
 * d>w {"front":{"connections":n,"listeners":[{"kind":"http"|"stream","alpn":"h2" or
 * absent,"tls":TLS or absent},...]}} descriptors: the listening sockets (they do not block), in
 * this order TLS: {"cert":"PEM","key":"PEM","ca":"PEM" when clients need a certificate} or
 *     {"self_signed":true}
 * w>d {"ready":{}} or an error; before that the worker enters its jail
 * d>w {"tls":{"listener":n,...}}    for new connections; an error comes back when it is no good
 *
 * Requests of a listener of kind "http" carry an id (> 0, never used twice by a worker):
 * w>d {"request":{"id":n,"listener":n,"method":"...","path":"decoded","query":[["k","v"],...],
 *      "headers":[["k","v"],...],"body":"..."}}
 * d>w
 * {"reply":{"id":n,"status":n,"headers":[["k","v"],...],"body":"none"|"file"|"pipe"|"upgrade"|"session",
 *      "session":SESSION with that body}}
 *     descriptor: of a file, sent from byte 0 to its end; of a pipe, sent until it ends; of a
 * stream socket, whose bytes are exchanged with the client after the headers. Exactly one for each
 *     request
 *
 * "session" is an upgrade, too, whose streams the worker takes apart (tunnel.h): SESSION is
 * {"protocol":"spdy"|"websocket","base64":bool,"close":bool,"forward":bool,
 *  "streams":["error","stdin","stdout","stderr","resize"],"ports":[n,...],"create_ms":n,"idle_ms":n}
 * and the descriptor a socket for messages about it. Its end is the session's.
 *
 * Of a command:
 *
 *     w>d {"opened":{}}              the client has opened all streams
 *     d>w {"run":{"stdin":bool,"stdout":bool,"stderr":bool}}   with a pipe's end for each
 *     w>d {"resize":{"width":n,"height":n}}   no other before its answer
 *     d>w {"resized":{}}
 *     d>w {"end":{"status":"text"}}  for the error stream, after all output; the client is let go
 *
 * Of forwarded ports, any number of times:
 *
 *     w>d {"dial":{"id":n,"port":n}}
 *     d>w {"dialed":{"id":n}}        with a connected stream socket, or
 *     d>w {"dialed":{"id":n,"error":"text"}}
 *
 * A connection of a listener of kind "stream", after the TLS handshake:
 * w>d {"stream":{"listener":n}}     descriptor: a socket with the connection's bytes, without TLS
 */
#pragma once

#define WORKER_SOCK_FD 3
#define WORKER_PROGRESS_NS \
	(50 * 1000000LL) /* at most one progress message of a call in this time */

#define UNPACK_MAX_BYTES (1LL << 40)
#define UNPACK_MAX_ENTRIES (1LL << 24)
