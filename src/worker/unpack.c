/* SPDX-License-Identifier: Apache-2.0 */
/* Role "unpack": one layer. The request comes with the descriptors; then the jail; only then input
 * is read. */
#include <iconv.h>
#include <locale.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "base/time.h"
#include "rpc/msg.h"
#include "sys/userns.h"
#include "worker/jail.h"
#include "worker/protocol.h"
#include "worker/roles.h"
#include "worker/stream.h"
#include "worker/tar_apply.h"

struct unpack {
	int sock;
	struct stream *stream;
	int64_t reported_at;
};

/* libarchive converts names only when they are said to be UTF-8 and the locale is not. With this
 * locale they stay as they are. The conversion's tables are opened here, because in the jail the
 * files of that name are the layer's. */
static void prepare_names(void)
{
	iconv_t c;

	setlocale(LC_CTYPE, "C.UTF-8");
	c = iconv_open("UTF-8", "UTF-8");
	if (c != (iconv_t)-1)
		iconv_close(c);
}

static ssize_t next_block(void *arg, const void **ret, struct err *err)
{
	struct unpack *u = arg;
	int64_t now = time_mono();

	if (now - u->reported_at >= WORKER_PROGRESS_NS * 4) {
		json_t *m = json_pack("{s:I}", "progress", (json_int_t)stream_input(u->stream));
		int r = m ? msg_send(u->sock, m, NULL, 0, err) : err_nomem(err);

		json_decref(m);
		if (r < 0)
			return r;
		u->reported_at = now;
	}
	return stream_next(u->stream, ret, err);
}

static int unpack(int sock, const json_t *req, const int *fds, size_t n_fds, json_t **ret,
		  struct err *err)
{
	const char *whiteouts = json_str(req, "whiteouts", "overlay");
	struct tar_apply_options o = {
		.overlay = strcmp(whiteouts, "plain") != 0,
		.userxattr = json_bool(req, "userxattr", false),
		.alone = json_bool(req, "alone", false),
		.max_entries = json_int(req, "max_entries", 0),
		.max_file = json_int(req, "max_bytes", 0),
	};
	_cleanup_(stream_freep) struct stream *stream = NULL;
	struct unpack u = {.sock = sock, .reported_at = time_mono()};
	struct digest diff_id;
	int64_t size, entries;
	int r;

	if (n_fds < 2)
		return err_set(err, ERR_INVALID_ARGUMENT, "unpack: descriptors are missing");
	o.root_fd = fds[1];
	o.lower_fds = fds + 2;
	o.n_lowers = n_fds - 2;
	o.skip_devices = !userns_is_initial();
	o.keep_owner = geteuid() != 0;
	if (o.max_entries <= 0)
		o.max_entries = UNPACK_MAX_ENTRIES;
	if (o.max_file <= 0)
		o.max_file = UNPACK_MAX_BYTES;
	prepare_names();
	r = jail_unpack(o.root_fd, o.lower_fds, o.n_lowers, o.overlay && !o.userxattr, err);
	if (r < 0)
		return err_prefix(err, "confine");
	r = stream_new(fds[0], o.max_file, &stream, err);
	if (r < 0)
		return r;
	u.stream = stream;
	r = tar_apply(&o, next_block, &u, &entries, err);
	if (r == 0)
		r = stream_finish(stream, &diff_id, &size, err);
	if (r < 0)
		return r;
	*ret = json_pack("{s:{s:s,s:I,s:I}}", "ok", "diff_id", diff_id.text, "size",
			 (json_int_t)size, "entries", (json_int_t)entries);
	return *ret ? 0 : err_nomem(err);
}

int role_unpack(int sock)
{
	_cleanup_json_ json_t *msg = NULL, *answer = NULL;
	int fds[MSG_FDS_MAX];
	size_t n = MSG_FDS_MAX;
	struct err err = ERR_INIT;
	const json_t *req;
	int r;

	if (msg_recv(sock, 0, &msg, fds, &n, &err) <= 0)
		return 1;
	req = json_obj(msg, "unpack");
	r = req ? unpack(sock, req, fds, n, &answer, &err)
		: err_set(&err, ERR_INVALID_ARGUMENT, "no unpack request");
	if (r < 0)
		answer = msg_error(&err);
	return msg_send(sock, answer, NULL, 0, NULL) < 0;
}
