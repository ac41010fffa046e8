/* SPDX-License-Identifier: Apache-2.0 */
/* Role "pack": one layer. The request comes with the descriptors; then the jail; only then the
 * trees are looked at. */
#include <string.h>
#include <unistd.h>

#include "base/str.h"
#include "rpc/msg.h"
#include "worker/compressor.h"
#include "worker/jail.h"
#include "worker/layer.h"
#include "worker/protocol.h"
#include "worker/roles.h"

#define FDS_MAX 4

struct pack {
	enum compression compression;
	int64_t max_bytes;
	struct timespec epoch;
	struct layer_options layer;
	int output;
};

static int pack_parse(struct pack *p, const json_t *req, const int *fds, size_t n_fds,
		      struct err *err)
{
	bool lower = json_bool(req, "lower", false), changed = json_bool(req, "changed", false);

	if (n_fds != 2u + lower + changed)
		return err_set(err, ERR_INVALID_ARGUMENT, "pack: wrong number of descriptors");
	p->output = fds[0];
	p->layer.upper = fds[1];
	p->layer.lower = lower ? fds[2] : -1;
	p->layer.changed = changed ? fds[n_fds - 1] : -1;
	p->max_bytes = json_int(req, "max_bytes", 0);
	if (p->max_bytes <= 0)
		p->max_bytes = UNPACK_MAX_BYTES;
	if (json_bool(req, "epoch", false)) {
		p->epoch.tv_sec = json_int(req, "epoch_sec", 0);
		p->epoch.tv_nsec = (long)json_int(req, "epoch_nsec", 0);
		p->layer.epoch = &p->epoch;
	}
	if (p->epoch.tv_nsec < 0 || p->epoch.tv_nsec > 999999999)
		return err_set(err, ERR_INVALID_ARGUMENT, "pack: invalid time");
	return compression_parse(json_str(req, "compression", ""), &p->compression, err);
}

static int pack(const json_t *req, const int *fds, size_t n_fds, json_t **ret, struct err *err)
{
	_cleanup_(compressor_freep) struct compressor *out = NULL;
	unsigned threads = compressor_threads();
	struct pack p = {0};
	struct digest diff_id;
	int64_t size, entries;
	int r = pack_parse(&p, req, fds, n_fds, err);

	if (r < 0)
		return r;
	r = jail_pack(p.layer.upper, fds + 2, n_fds - 2, err);
	if (r < 0)
		return err_prefix(err, "confine");
	r = compressor_new(p.compression, threads, p.output, p.max_bytes, &out, err);
	if (r == 0)
		r = layer_write(&p.layer, out, &entries, err);
	if (r == 0)
		r = compressor_finish(out, &diff_id, &size, err);
	if (r < 0)
		return r;
	*ret = json_pack("{s:{s:s,s:I,s:I}}", "ok", "diff_id", diff_id.text, "size",
			 (json_int_t)size, "entries", (json_int_t)entries);
	return *ret ? 0 : err_nomem(err);
}

int role_pack(int sock)
{
	_cleanup_json_ json_t *msg = NULL, *answer = NULL;
	int fds[FDS_MAX];
	size_t n = FDS_MAX;
	struct err err = ERR_INIT;
	const json_t *req;
	int r;

	if (msg_recv(sock, 0, &msg, fds, &n, &err) <= 0)
		return 1;
	req = json_obj(msg, "pack");
	r = req ? pack(req, fds, n, &answer, &err)
		: err_set(&err, ERR_INVALID_ARGUMENT, "no pack request");
	if (r < 0)
		answer = msg_error(&err);
	/* The end of the output, which the daemon reads before the answer. */
	for (size_t i = 0; i < n; i++)
		close(fds[i]);
	return msg_send(sock, answer, NULL, 0, NULL) < 0;
}
