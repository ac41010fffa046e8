/* SPDX-License-Identifier: Apache-2.0 */
#include "ctr/record.h"

#include <errno.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/time.h"
#include "rpc/rpc.h"

#define LEASE_SECONDS (24 * 3600)
#define UNDO_NS (10 * NSEC_PER_SEC)

int record_arg(struct ctr *c, size_t i, const char *what, const char **ret, struct err *err)
{
	const char *arg = ctr_arg(c, i);

	if (!*arg)
		return err_set(err, ERR_INVALID_ARGUMENT, "%s must be provided", what);
	*ret = arg;
	return 0;
}

int record_label_args(struct ctr *c, struct labels *ret, struct err *err)
{
	if (c->n_args < 2)
		return err_set(err, ERR_INVALID_ARGUMENT, "no labels given");
	return ctr_parse_labels(c->ctx.arena, c->args + 1, c->n_args - 1, ret, err);
}

int record_label_mask(struct arena *a, const struct labels *l, Google__Protobuf__FieldMask *ret,
		      struct err *err)
{
	Google__Protobuf__FieldMask mask = GOOGLE__PROTOBUF__FIELD_MASK__INIT;

	mask.paths = arena_new_array(a, char *, l->n + 1);
	if (!mask.paths)
		return err_nomem(err);
	for (; mask.n_paths < l->n; mask.n_paths++) {
		mask.paths[mask.n_paths] = arena_printf(a, "labels.%s", l->v[mask.n_paths].key);
		if (!mask.paths[mask.n_paths])
			return err_nomem(err);
	}
	*ret = mask;
	return 0;
}

const char *record_labels(struct arena *a, struct pb_label *const *entries, size_t n)
{
	struct labels l;

	return pb_labels_in(a, entries, n, &l) < 0 ? NULL : ctr_format_labels(a, &l);
}

int record_print_labels(struct arena *a, struct pb_label *const *entries, size_t n, struct err *err)
{
	const char *text = n ? record_labels(a, entries, n) : "";

	if (!text)
		return err_nomem(err);
	puts(text);
	return 0;
}

void record_age(int64_t s, char out[40])
{
	long long minutes = s / 60, hours = (s + 1800) / 3600, days = hours / 24;

	if (s < 1)
		snprintf(out, 40, "Less than a second");
	else if (s == 1)
		snprintf(out, 40, "1 second");
	else if (s < 60)
		snprintf(out, 40, "%lld seconds", (long long)s);
	else if (minutes == 1)
		snprintf(out, 40, "About a minute");
	else if (minutes < 60)
		snprintf(out, 40, "%lld minutes", minutes);
	else if (hours == 1)
		snprintf(out, 40, "About an hour");
	else if (hours < 48)
		snprintf(out, 40, "%lld hours", hours);
	else if (days < 14)
		snprintf(out, 40, "%lld days", days);
	else if (days < 60)
		snprintf(out, 40, "%lld weeks", days / 7);
	else if (days < 730)
		snprintf(out, 40, "%lld months", days / 30);
	else
		snprintf(out, 40, "%lld years", days / 365);
}

void record_local_time(struct timespec t, char out[40])
{
	struct tm tm;
	size_t n;

	if (!localtime_r(&t.tv_sec, &tm)) {
		time_format_rfc3339(t, out);
		return;
	}
	n = strftime(out, 40, "%Y-%m-%dT%H:%M:%S", &tm);
	if (tm.tm_gmtoff == 0)
		snprintf(out + n, 40 - n, "Z");
	else
		snprintf(out + n, 40 - n, "%c%02ld:%02ld", tm.tm_gmtoff < 0 ? '-' : '+',
			 labs(tm.tm_gmtoff) / 3600, labs(tm.tm_gmtoff) / 60 % 60);
}

const char *record_utc_time(struct arena *a, struct timespec t)
{
	char text[40];

	t.tv_nsec = 0;
	time_format_rfc3339(t, text);
	return arena_strdup(a, text);
}

int record_copy_content(struct ctr *c, const char *digest, int fd, struct err *err)
{
	PB_CONTENT(ReadContentRequest) req = PB_CONTENT_INIT(READ_CONTENT_REQUEST);
	struct rpc_stream *s _cleanup_(rpc_stream_freep) = NULL;
	struct arena *a _cleanup_arena_ = arena_new(0);
	PB_CONTENT(ReadContentResponse) * m;
	int r;

	if (!a)
		return err_nomem(err);
	req.digest = (char *)digest;
	r = client_stream(c->client, &c->ctx, PB_CONTENT_SERVICE, "Read", &req.base, &s, err);
	if (r < 0)
		return r;
	for (;;) {
		arena_reset(a);
		r = rpc_stream_recv(
			s, a, &containerd__services__content__v1__read_content_response__descriptor,
			&m, err);
		if (r <= 0)
			return r;
		r = fd_write_full(fd, m->data.data, m->data.len);
		if (r < 0)
			return err_errno(err, r, "write %s",
					 fd == STDOUT_FILENO ? "standard output" : "content");
	}
}

int record_lease_begin(struct ctr *c, struct err *err)
{
	return client_lease_create(c->client, &c->ctx, LEASE_SECONDS, &c->ctx.lease, err);
}

int64_t record_undo_begin(struct ctr *c)
{
	int64_t own = c->ctx.deadline;

	if (own)
		c->ctx.deadline = MAX(own, time_mono() + UNDO_NS);
	return own;
}

void record_lease_end(struct ctr *c)
{
	const char *id = c->ctx.lease;
	int64_t deadline = record_undo_begin(c);
	struct err e = ERR_INIT;

	c->ctx.lease = "";
	if (client_lease_delete(c->client, &c->ctx, id, &e) < 0)
		ctr_warn("delete lease \"%s\": %s", id, e.text);
	c->ctx.deadline = deadline;
}

void record_undo_snapshot(struct ctr *c, const char *snapshotter, const char *key)
{
	int64_t deadline = record_undo_begin(c);
	struct err e = ERR_INIT;

	if (client_snapshot_remove(c->client, &c->ctx, snapshotter, key, &e) < 0)
		ctr_warn("remove snapshot \"%s\": %s", key, e.text);
	c->ctx.deadline = deadline;
}

int record_each(struct ctr *c, const char *failed, bool missing_ok,
		int (*fn)(struct ctr *c, const char *arg, bool last, struct err *err),
		struct err *err)
{
	int result = 0;

	for (size_t i = 0; i < c->n_args; i++) {
		struct err e = ERR_INIT;
		int r = fn(c, c->args[i], i + 1 == c->n_args, &e);

		bool fine = r == -ERR_NOT_FOUND && missing_ok;

		if (r < 0 && (c->n_args > 1 || fine))
			ctr_warn("%s \"%s\": %s", failed, c->args[i], e.text);
		if (r < 0 && !fine && result == 0) {
			result = err_copy(err, &e);
			err_prefix(err, "%s \"%s\"", failed, c->args[i]);
		}
	}
	return result;
}

int record_unimplemented(struct ctr *c, struct err *err)
{
	return err_set(err, ERR_UNIMPLEMENTED, "%s %s", c->level->parent->command->name,
		       c->level->command->name);
}
