/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates of a front: read here, because its process has no files, and read again when one of
 * their directories tells of a change. A change is followed by others (certificate, then key;
 * kubelet swaps a link), so we wait a moment; and give the worker only what is different. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "base/time.h"
#include "core/front_internal.h"

#define SETTLE_NS (300 * NSEC_PER_MSEC)

static const char *const *files_of(const struct front_listener *l, const char *out[4])
{
	size_t n = 0;

	if (!str_empty(l->tls_cert))
		out[n++] = l->tls_cert;
	if (!str_empty(l->tls_key))
		out[n++] = l->tls_key;
	if (!str_empty(l->tls_ca))
		out[n++] = l->tls_ca;
	out[n] = NULL;
	return out;
}

static int read_pem(struct arena *a, const char *path, char **ret, struct err *err)
{
	size_t n;
	int r = file_read(a, AT_FDCWD, path, FRONT_TLS_MAX, ret, &n);

	return r < 0 ? err_errno(err, r, "read %s", path) : 0;
}

int front_tls_read(struct front *f, size_t i, json_t **ret, struct err *err)
{
	const struct front_listener *l = &f->listeners[i];
	_cleanup_arena_ struct arena *a = arena_new(0);
	char *cert, *key, *ca = NULL, *text;
	json_t *o;
	int r;

	if (l->self_signed) {
		*ret = json_pack("{s:b}", "self_signed", 1);
		return *ret ? 0 : err_nomem(err);
	}
	if (str_empty(l->tls_cert))
		return 0;
	r = a ? read_pem(a, l->tls_cert, &cert, err) : err_nomem(err);
	if (r == 0)
		r = read_pem(a, str_or(l->tls_key, l->tls_cert), &key, err);
	if (r == 0 && !str_empty(l->tls_ca))
		r = read_pem(a, l->tls_ca, &ca, err);
	if (r < 0)
		return r;
	text = arena_printf(a, "%s\n%s\n%s", cert, key, ca ? ca : "");
	o = json_pack("{s:i,s:s,s:s,s:s*}", "listener", (int)i, "cert", cert, "key", key, "ca", ca);
	if (!text)
		r = err_nomem(err);
	else if (!o)
		r = err_set(err, ERR_INVALID_ARGUMENT, "%s: not PEM", l->tls_cert);
	else
		digest_of(DIGEST_SHA256, text, strlen(text), &f->tls[i]);
	if (r < 0) {
		json_decref(o);
		return r;
	}
	*ret = o;
	return 0;
}

int front_tls_watch(struct front *f, struct err *err)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	const char *files[4];

	if (!a)
		return err_nomem(err);
	for (size_t i = 0; i < f->n_listeners; i++)
		for (const char *const *p = files_of(&f->listeners[i], files); *p; p++) {
			char *dir = path_dir(a, *p);

			if (f->inotify < 0)
				f->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
			if (!dir)
				return err_nomem(err);
			if (f->inotify < 0 ||
			    inotify_add_watch(f->inotify, dir,
					      IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_DELETE |
						      IN_ONLYDIR) < 0)
				return err_errno(err, errno, "watch %s", dir);
		}
	return 0;
}

void front_tls_unwatch(struct front *f)
{
	fd_closep(&f->inotify);
}

int front_tls_wait_ms(const struct front *f)
{
	int64_t left;

	if (!f->renew_at)
		return -1;
	left = f->renew_at - time_mono();
	return left <= 0 ? 0 : (int)(left / NSEC_PER_MSEC + 1);
}

static void renew(struct front *f, size_t i)
{
	_cleanup_json_ json_t *tls = NULL, *m = NULL;
	struct digest before = f->tls[i];
	struct err err = ERR_INIT;

	if (front_tls_read(f, i, &tls, &err) < 0) {
		front_warn(f, &err);
		return;
	}
	if (!tls || f->listeners[i].self_signed || streq(before.text, f->tls[i].text))
		return;
	m = json_pack("{s:O}", "tls", tls);
	MUTEX_GUARD(&f->mu);
	(void)front_send_locked(f, m, -1);
}

void front_tls_renew(struct front *f, bool event)
{
	char b[4096];

	if (event) {
		while (read(f->inotify, b, sizeof(b)) > 0)
			;
		f->renew_at = time_mono() + SETTLE_NS;
	}
	if (!f->renew_at || f->renew_at > time_mono())
		return;
	f->renew_at = 0;
	for (size_t i = 0; i < f->n_listeners; i++)
		renew(f, i);
}
