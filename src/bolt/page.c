/* SPDX-License-Identifier: Apache-2.0 */
/* Pages as they are in the file, little endian:
 *
 *     header   u64 id, u16 flags, u16 count, u32 overflow        (overflow: pages that belong to
 * this one behind it) branch   count * { u32 pos, u32 ksize, u64 page }          then the keys leaf
 * count * { u32 flags, u32 pos, u32 ksize, u32 vsize }   then keys and values meta     header, u32
 * magic, u32 version, u32 page size, u32 flags, u64 root page, u64 root sequence, u64 free list
 * page, u64 hwm, u64 txid, u64 FNV-1a of what is before
 *
 * pos counts from the element itself. Nothing here is aligned (an inline page may start anywhere):
 * bytes are copied, not cast.
 */
#include "bolt/internal.h"

static uint64_t fnv1a(const uint8_t *p, size_t n)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (size_t i = 0; i < n; i++)
		h = (h ^ p[i]) * 0x100000001b3u;
	return h;
}

/* @n bytes from the page's begin on. */
static bool meta_decode(const uint8_t *page, size_t n, struct bolt_meta *ret)
{
	const uint8_t *m = page + BOLT_PAGE_HEADER;

	if (n < BOLT_PAGE_HEADER + BOLT_META_LEN || bolt_get32(m) != BOLT_MAGIC ||
	    bolt_get32(m + 4) != BOLT_VERSION || bolt_get64(m + 56) != fnv1a(m, 56))
		return false;
	*ret = (struct bolt_meta){
		.page_size = bolt_get32(m + 8),
		.root = bolt_get64(m + 16),
		.sequence = bolt_get64(m + 24),
		.freelist = bolt_get64(m + 32),
		.hwm = bolt_get64(m + 40),
		.txid = bolt_get64(m + 48),
	};
	return ret->page_size >= BOLT_PAGE_SIZE_MIN && ret->page_size <= BOLT_PAGE_SIZE_MAX &&
	       (ret->page_size & (ret->page_size - 1)) == 0;
}

void bolt_meta_encode(const struct bolt_meta *m, uint8_t *page)
{
	uint8_t *p = page + BOLT_PAGE_HEADER;

	memset(page, 0, m->page_size);
	bolt_put64(page, m->txid % 2);
	bolt_put16(page + 8, BOLT_PAGE_META);
	bolt_put32(p, BOLT_MAGIC);
	bolt_put32(p + 4, BOLT_VERSION);
	bolt_put32(p + 8, m->page_size);
	bolt_put64(p + 16, m->root);
	bolt_put64(p + 24, m->sequence);
	bolt_put64(p + 32, m->freelist);
	bolt_put64(p + 40, m->hwm);
	bolt_put64(p + 48, m->txid);
	bolt_put64(p + 56, fnv1a(p, 56));
}

int bolt_meta_find(const void *p, size_t n, struct bolt_meta *ret, bool *ret_other)
{
	const uint8_t *b = p;
	struct bolt_meta m[2];
	bool ok[2];

	ok[0] = meta_decode(b, n, &m[0]);
	ok[1] = false;
	if (ok[0]) {
		size_t at = m[0].page_size;

		ok[1] = at < n && meta_decode(b + at, n - at, &m[1]) && m[1].page_size == at;
	} else {
		for (size_t at = BOLT_PAGE_SIZE_MIN; at <= BOLT_PAGE_SIZE_MAX && at < n && !ok[1];
		     at *= 2)
			ok[1] = meta_decode(b + at, n - at, &m[1]) && m[1].page_size == at;
	}
	if (!ok[0] && !ok[1])
		return -EBADMSG;
	*ret = !ok[1] || (ok[0] && m[0].txid > m[1].txid) ? m[0] : m[1];
	*ret_other = ok[0] && ok[1];
	return 0;
}

bool bolt_probe(const void *p, size_t n)
{
	struct bolt_meta m;
	bool other;

	return bolt_meta_find(p, n, &m, &other) == 0;
}

int bolt_page_parse(const uint8_t *p, size_t n, struct bolt_page *ret)
{
	struct bolt_page pg = {.p = p, .size = n};

	if (n < BOLT_PAGE_HEADER)
		return -EBADMSG;
	pg.id = bolt_get64(p);
	pg.flags = bolt_get16(p + 8);
	pg.count = bolt_get16(p + 10);
	pg.overflow = bolt_get32(p + 12);
	if (pg.flags != BOLT_PAGE_LEAF && (pg.flags != BOLT_PAGE_BRANCH || pg.count == 0))
		return -EBADMSG;
	if (pg.count > (n - BOLT_PAGE_HEADER) / BOLT_ELEM)
		return -EBADMSG;
	*ret = pg;
	return 0;
}

int bolt_page_get(const struct bolt_tx *tx, uint64_t id, struct bolt_page *ret)
{
	uint64_t size = tx->meta.page_size;
	const uint8_t *p;
	uint32_t overflow;

	if (id < 2 || id >= tx->meta.hwm)
		return -EBADMSG;
	p = tx->map->p + id * size;
	overflow = bolt_get32(p + 12);
	if (bolt_get64(p) != id || overflow >= tx->meta.hwm - id)
		return -EBADMSG;
	return bolt_page_parse(p, ((uint64_t)overflow + 1) * size, ret);
}

int bolt_page_elem(const struct bolt_page *pg, unsigned int i, struct bolt_elem *ret)
{
	size_t at = BOLT_PAGE_HEADER + (size_t)i * BOLT_ELEM;
	const uint8_t *p = pg->p + at;
	struct bolt_elem e = {0};
	uint64_t begin;

	if (i >= pg->count)
		return -EBADMSG;
	if (pg->flags == BOLT_PAGE_LEAF) {
		e.flags = bolt_get32(p);
		begin = at + bolt_get32(p + 4);
		e.klen = bolt_get32(p + 8);
		e.vlen = bolt_get32(p + 12);
	} else {
		begin = at + bolt_get32(p);
		e.klen = bolt_get32(p + 4);
		e.page = bolt_get64(p + 8);
	}
	if (begin > pg->size || (uint64_t)e.klen + e.vlen > pg->size - begin)
		return -EBADMSG;
	e.key = pg->p + begin;
	e.value = e.key + e.klen;
	*ret = e;
	return 0;
}

int bolt_bucket_decode(const struct bolt_elem *e, uint64_t *ret_root, uint64_t *ret_sequence,
		       struct bolt_page *ret_inline)
{
	struct bolt_page pg = {0};
	uint64_t root;
	int r;

	if (e->vlen < BOLT_BUCKET_HEADER)
		return -EBADMSG;
	root = bolt_get64(e->value);
	if (root == 0) {
		r = bolt_page_parse(e->value + BOLT_BUCKET_HEADER, e->vlen - BOLT_BUCKET_HEADER,
				    &pg);
		if (r < 0)
			return r;
		if (pg.flags != BOLT_PAGE_LEAF)
			return -EBADMSG;
	}
	*ret_root = root;
	*ret_sequence = bolt_get64(e->value + 8);
	*ret_inline = pg;
	return 0;
}

struct walk {
	const struct bolt_tx *tx;
	bool buckets;
	bolt_page_fn *fn;
	void *arg;
};

#define WALK_DEPTH 256

static int walk_page(const struct walk *w, uint64_t id, unsigned int depth);

static int walk_leaf(const struct walk *w, const struct bolt_page *pg, unsigned int depth)
{
	struct bolt_page in;
	struct bolt_elem e;
	uint64_t root, seq;
	int r;

	for (unsigned int i = 0; i < pg->count; i++) {
		r = bolt_page_elem(pg, i, &e);
		if (r < 0)
			return r;
		if (!(e.flags & BOLT_FLAG_BUCKET))
			continue;
		r = bolt_bucket_decode(&e, &root, &seq, &in);
		if (r == 0 && depth >= WALK_DEPTH)
			r = -EBADMSG;
		if (r == 0)
			r = root ? walk_page(w, root, depth + 1) : walk_leaf(w, &in, depth + 1);
		if (r < 0)
			return r;
	}
	return 0;
}

static int walk_page(const struct walk *w, uint64_t id, unsigned int depth)
{
	struct bolt_page pg;
	struct bolt_elem e;
	int r;

	if (depth >= WALK_DEPTH)
		return -EBADMSG;
	r = bolt_page_get(w->tx, id, &pg);
	if (r == 0)
		r = w->fn(&pg, w->arg);
	if (r < 0)
		return r;
	if (pg.flags == BOLT_PAGE_LEAF)
		return w->buckets ? walk_leaf(w, &pg, depth) : 0;
	for (unsigned int i = 0; i < pg.count; i++) {
		r = bolt_page_elem(&pg, i, &e);
		if (r == 0)
			r = walk_page(w, e.page, depth + 1);
		if (r < 0)
			return r;
	}
	return 0;
}

int bolt_page_walk(const struct bolt_tx *tx, uint64_t id, bool buckets, bolt_page_fn *fn, void *arg)
{
	struct walk w = {tx, buckets, fn, arg};

	return walk_page(&w, id, 0);
}
