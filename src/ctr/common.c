/* SPDX-License-Identifier: Apache-2.0 */
/* What several commands share: the connection, labels on the command line and in tables, JSON
 * output. */
#include "ctr/ctr.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <unistd.h>

#include "base/time.h"

int ctr_connect(struct ctr *c, struct err *err)
{
	int r;

	if (c->client)
		return 0;
	r = client_connect(ctr_string(c, "address"), ctr_int(c, "connect-timeout"), &c->client,
			   err);
	c->unreachable = r < 0;
	return r;
}

int ctr_snapshotter(struct ctr *c, const char **ret, struct err *err)
{
	const char *given = ctr_string(c, "snapshotter");

	if (*given) {
		*ret = given;
		return 0;
	}
	return client_default_snapshotter(c->client, &c->ctx, ret, err);
}

int ctr_parse_labels(struct arena *a, const char *const *words, size_t n, struct labels *ret,
		     struct err *err)
{
	struct labels l = {};

	for (size_t i = 0; i < n; i++) {
		const char *eq = strchr(words[i], '=');
		const char *key =
			eq ? arena_strndup(a, words[i], (size_t)(eq - words[i])) : words[i];

		if (!key)
			return err_nomem(err);
		if (!*key)
			return err_set(err, ERR_INVALID_ARGUMENT,
				       "label \"%s\" is not of the form key=value", words[i]);
		if (labels_set(a, &l, key, eq ? eq + 1 : "true") < 0)
			return err_nomem(err);
	}
	*ret = l;
	return 0;
}

const char *ctr_format_labels(struct arena *a, const struct labels *l)
{
	struct buf b _cleanup_buf_ = BUF_INIT;
	const char *s;

	if (l->n == 0)
		return "-";
	for (size_t i = 0; i < l->n; i++)
		buf_printf(&b, "%s%s=%s", i ? "," : "", l->v[i].key, l->v[i].value);
	s = buf_ok(&b) ? arena_strdup(a, b.data) : NULL;
	return s ? s : "-";
}

int ctr_print_json(const json_t *j, struct err *err)
{
	char *text _cleanup_free_ = json_dumps(j, JSON_INDENT(4) | JSON_ENCODE_ANY);

	if (!text)
		return err_nomem(err);
	puts(text);
	return ctr_flush(err);
}

/* stdio keeps no word of why an earlier write has failed, but whether somebody reads can be
 * seen. */
int ctr_flush(struct err *err)
{
	struct pollfd p = {.fd = STDOUT_FILENO};
	bool failed = ferror(stdout);

	if (fflush(stdout) != 0)
		return err_errno(err, errno, "write standard output");
	if (!failed)
		return 0;
	return err_errno(err, poll(&p, 1, 0) > 0 && (p.revents & POLLERR) ? EPIPE : EIO,
			 "write standard output");
}

int ctr_print(const struct buf *b, struct err *err)
{
	if (b->len)
		fwrite(b->data, 1, b->len, stdout);
	return ctr_flush(err);
}

void ctr_warn(const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fputs("ctr: warning: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}
