/* SPDX-License-Identifier: Apache-2.0 */
/* See documents.h. */
#include "ctr/documents.h"

#include <errno.h>
#include <string.h>

#define TABLE_MIN 64
#define AT_ONCE 32 /* streams that are open at the same time */

struct document {
	const char *digest;
	char *text; /* NULL = not read */
	size_t len;
	struct rpc_stream *stream;
};

int documents_init(struct documents *d, struct arena *a)
{
	*d = (struct documents){.arena = a, .n_table = TABLE_MIN};
	d->table = arena_new_array(a, struct document *, d->n_table);
	return d->table ? 0 : -ENOMEM;
}

static size_t hash(const char *s)
{
	uint64_t h = 0xcbf29ce484222325ULL;

	for (; *s; s++)
		h = (h ^ (uint8_t)*s) * 0x100000001b3ULL;
	return (size_t)(h ^ h >> 32);
}

/* Where @digest is, or would be. */
static struct document **slot(const struct documents *d, const char *digest)
{
	size_t at = hash(digest) & (d->n_table - 1);

	while (d->table[at] && !streq(d->table[at]->digest, digest))
		at = (at + 1) & (d->n_table - 1);
	return &d->table[at];
}

static int grow(struct documents *d)
{
	struct document **old = d->table;
	size_t n = d->n_table;

	d->table = arena_new_array(d->arena, struct document *, n * 2);
	if (!d->table) {
		d->table = old;
		return -ENOMEM;
	}
	d->n_table = n * 2;
	for (size_t i = 0; i < n; i++)
		if (old[i])
			*slot(d, old[i]->digest) = old[i];
	return 0;
}

/* NULL when it is there already; *@ret_rc -ENOMEM. */
static struct document *add(struct documents *d, const char *digest, int *ret_rc)
{
	struct document *new;

	*ret_rc = 0;
	if (*slot(d, digest))
		return NULL;
	new = arena_new_obj(d->arena, struct document);
	if (!new || !(new->digest = arena_strdup(d->arena, digest)) ||
	    (2 * ++d->n > d->n_table && grow(d) < 0)) {
		*ret_rc = -ENOMEM;
		return NULL;
	}
	*slot(d, digest) = new;
	return new;
}

/* Up to AT_ONCE of them; *@at goes on. */
static int fetch_some(struct documents *d, struct ctr *c, const char *const *digests, size_t n,
		      size_t *at, size_t max, struct err *err)
{
	struct document *v[AT_ONCE];
	struct err lost = ERR_INIT;
	size_t k = 0;
	int r = 0;

	while (r == 0 && *at < n && k < AT_ONCE) {
		struct document *x = add(d, digests[(*at)++], &r);

		if (x &&
		    client_content_request(c->client, &c->ctx, x->digest, &x->stream, &lost) == 0)
			v[k++] = x;
	}
	for (size_t i = 0; i < k; i++) {
		struct err e = ERR_INIT;

		if (client_content_receive(v[i]->stream, &c->ctx, v[i]->digest, max, &v[i]->text,
					   &v[i]->len, &e) == -ERR_UNAVAILABLE)
			lost = e;
	}
	if (r < 0)
		return err_nomem(err);
	return lost.kind == ERR_UNAVAILABLE ? err_copy(err, &lost) : 0;
}

int documents_fetch(struct documents *d, struct ctr *c, const char *const *digests, size_t n,
		    size_t max, struct err *err)
{
	size_t at = 0;
	int r = 0;

	while (r == 0 && at < n)
		r = fetch_some(d, c, digests, n, &at, max, err);
	return r;
}

const char *documents_get(const struct documents *d, const char *digest, size_t *ret_len)
{
	const struct document *x = d ? *slot(d, digest) : NULL;

	if (!x || !x->text)
		return NULL;
	*ret_len = x->len;
	return x->text;
}

int documents_read(const struct documents *d, struct ctr *c, const char *digest, size_t max,
		   const char **ret, size_t *ret_len, struct err *err)
{
	const char *text = documents_get(d, digest, ret_len);
	char *own;
	int r;

	if (text) {
		*ret = text;
		return 0;
	}
	r = client_content_read(c->client, &c->ctx, digest, max, &own, ret_len, err);
	if (r == 0)
		*ret = own;
	return r;
}
