/* SPDX-License-Identifier: Apache-2.0 */
/* Free pages: two bitmaps over all pages.
 *
 * A page that a transaction T gives up is "gone" at once (so that giving it up twice is seen, which
 * only a damaged file makes happen) and becomes "free" when no reader of T or an older state is
 * left. The state that the older meta page describes counts as read, so both meta pages always
 * describe whole trees while we run.
 *
 * A transaction keeps what it took and gave up by itself; rolling back undoes these, and nothing
 * needs to be read again.
 *
 * On the disk: a page with flag 0x10, count and count * u64 ids, ascending; when count is 0xffff
 * the true count is the first u64. It lists gone pages, since at the next open there are no
 * readers. It is derived from the trees: where it is missing or broken, it is made anew by walking
 * them.
 */
#include "bolt/internal.h"

#define COUNT_LARGE 0xffffu

void bolt_freelist_done(struct bolt_freelist *f)
{
	for (size_t i = 0; i < f->n_pending; i++)
		free(f->pending[i].pages.v);
	free(f->pending);
	free(f->free);
	free(f->gone);
	*f = (struct bolt_freelist){0};
}

static int bits_grow(uint64_t **bits, uint64_t words, uint64_t more)
{
	uint64_t *p;

	p = reallocarray(*bits, more, sizeof(*p));
	if (!p)
		return -ENOMEM;
	memset(p + words, 0, (more - words) * sizeof(*p));
	*bits = p;
	return 0;
}

int bolt_freelist_reserve(struct bolt_freelist *f, uint64_t n)
{
	uint64_t words = f->bits / 64, more;

	if (n <= f->bits)
		return 0;
	if (n > UINT64_MAX / 4)
		return -EFBIG;
	more = MAX(n / 64 + 1, words * 2);
	if (bits_grow(&f->free, words, more) < 0 || bits_grow(&f->gone, words, more) < 0)
		return -ENOMEM;
	f->bits = more * 64;
	return 0;
}

int bolt_freelist_read(const struct bolt_tx *tx, uint64_t *bits, uint64_t *ret_n)
{
	const struct bolt_meta *m = &tx->meta;
	uint64_t size = m->page_size, count, at = BOLT_PAGE_HEADER, room;
	const uint8_t *p;
	uint32_t overflow;

	if (m->freelist < 2 || m->freelist >= m->hwm)
		return -EBADMSG;
	p = tx->map->p + m->freelist * size;
	overflow = bolt_get32(p + 12);
	if (bolt_get64(p) != m->freelist || bolt_get16(p + 8) != BOLT_PAGE_FREELIST ||
	    overflow >= m->hwm - m->freelist)
		return -EBADMSG;
	room = (((uint64_t)overflow + 1) * size - BOLT_PAGE_HEADER) / 8;
	count = bolt_get16(p + 10);
	if (count == COUNT_LARGE) {
		count = bolt_get64(p + at);
		at += 8;
		room--;
	}
	if (count > room)
		return -EBADMSG;
	for (uint64_t i = 0; i < count; i++) {
		uint64_t id = bolt_get64(p + at + i * 8);

		if (id < 2 || id >= m->hwm || bolt_bit(bits, id))
			return -EBADMSG;
		bolt_bit_set(bits, id);
	}
	/* The list's own pages are in use. */
	for (uint64_t id = m->freelist; id <= m->freelist + overflow; id++)
		if (bolt_bit(bits, id))
			return -EBADMSG;
	*ret_n = count;
	return 0;
}

static int mark_used(const struct bolt_page *pg, void *arg)
{
	uint64_t *used = arg;

	for (uint64_t id = pg->id; id <= pg->id + pg->overflow; id++) {
		if (bolt_bit(used, id))
			return -EBADMSG;
		bolt_bit_set(used, id);
	}
	return 0;
}

static int freelist_rebuild(struct bolt_freelist *f, const struct bolt_tx *tx)
{
	_cleanup_free_ uint64_t *used = calloc(tx->meta.hwm / 64 + 1, sizeof(*used));
	int r;

	if (!used)
		return -ENOMEM;
	r = bolt_page_walk(tx, tx->meta.root, true, mark_used, used);
	if (r < 0)
		return r;
	f->n_free = 0;
	for (uint64_t id = 2; id < tx->meta.hwm; id++) {
		if (bolt_bit(used, id))
			continue;
		bolt_bit_set(f->free, id);
		f->n_free++;
	}
	return 0;
}

int bolt_freelist_load(struct bolt_freelist *f, struct bolt_tx *tx)
{
	int r;

	r = bolt_freelist_reserve(f, tx->meta.hwm);
	if (r < 0)
		return r;
	r = -EBADMSG;
	if (tx->meta.freelist != BOLT_NO_FREELIST)
		r = bolt_freelist_read(tx, f->free, &f->n_free);
	if (r < 0) {
		memset(f->free, 0, f->bits / 8);
		r = freelist_rebuild(f, tx);
		if (r < 0)
			return r;
		tx->meta.freelist = BOLT_NO_FREELIST;
	}
	memcpy(f->gone, f->free, f->bits / 8);
	f->n_gone = f->n_free;
	f->hint = 2;
	return 0;
}

void bolt_freelist_release(struct bolt_freelist *f, uint64_t txid)
{
	size_t n = 0;

	for (; n < f->n_pending && f->pending[n].txid < txid; n++) {
		struct bolt_pages *pages = &f->pending[n].pages;

		for (size_t i = 0; i < pages->n; i++) {
			bolt_bit_set(f->free, pages->v[i]);
			f->hint = MIN(f->hint, pages->v[i]);
		}
		f->n_free += pages->n;
		free(pages->v);
	}
	if (n == 0)
		return;
	f->n_pending -= n;
	memmove(f->pending, f->pending + n, f->n_pending * sizeof(*f->pending));
}

/* First run of @n free pages below @end, or 0. */
static uint64_t freelist_find(struct bolt_freelist *f, uint64_t n, uint64_t end)
{
	uint64_t run = 0;

	if (f->n_free < n)
		return 0;
	for (uint64_t id = MAX(f->hint, (uint64_t)2); id < end; id++) {
		if (id % 64 == 0 && f->free[id / 64] == 0) {
			run = 0;
			id += 63;
			continue;
		}
		run = bolt_bit(f->free, id) ? run + 1 : 0;
		if (run == n)
			return id - n + 1;
	}
	return 0;
}

static int taken_add(struct bolt_tx *tx, uint64_t id, uint64_t n)
{
	if (tx->n_taken == tx->cap_taken) {
		size_t cap = MAX((size_t)16, tx->cap_taken * 2);
		struct bolt_extent *p = reallocarray(tx->taken, cap, sizeof(*p));

		if (!p)
			return -ENOMEM;
		tx->taken = p;
		tx->cap_taken = cap;
	}
	tx->taken[tx->n_taken++] = (struct bolt_extent){id, n};
	return 0;
}

int bolt_pages_take(struct bolt_tx *tx, uint64_t n, uint64_t *ret_id)
{
	struct bolt_freelist *f = &tx->db->freelist;
	uint64_t id;
	int r;

	id = freelist_find(f, n, tx->meta.hwm);
	if (id == 0) {
		id = tx->meta.hwm;
		if (n > UINT64_MAX / tx->meta.page_size - id)
			return -EFBIG;
		r = bolt_freelist_reserve(f, id + n);
		if (r < 0)
			return r;
		tx->meta.hwm += n;
		*ret_id = id;
		return 0;
	}
	r = taken_add(tx, id, n);
	if (r < 0)
		return r;
	for (uint64_t i = id; i < id + n; i++) {
		bolt_bit_clear(f->free, i);
		bolt_bit_clear(f->gone, i);
	}
	f->n_free -= n;
	f->n_gone -= n;
	if (n == 1)
		f->hint = id + 1;
	*ret_id = id;
	return 0;
}

int bolt_pages_free(struct bolt_tx *tx, uint64_t id, uint32_t overflow)
{
	struct bolt_freelist *f = &tx->db->freelist;
	struct bolt_pages *v = &tx->freed;
	uint64_t n = (uint64_t)overflow + 1;

	if (id < 2 || id >= tx->meta.hwm || n > tx->meta.hwm - id)
		return -EBADMSG;
	if (n > v->cap - v->n) {
		size_t cap = MAX(v->n + n, MAX((size_t)16, v->cap * 2));
		uint64_t *p = reallocarray(v->v, cap, sizeof(*p));

		if (!p)
			return -ENOMEM;
		v->v = p;
		v->cap = cap;
	}
	for (uint64_t i = id; i < id + n; i++) {
		if (bolt_bit(f->gone, i))
			return -EBADMSG;
		bolt_bit_set(f->gone, i);
		f->n_gone++;
		v->v[v->n++] = i;
	}
	return 0;
}

int bolt_freelist_prepare(struct bolt_freelist *f)
{
	size_t cap = MAX((size_t)8, f->cap_pending * 2);
	struct bolt_pending *p;

	if (f->n_pending < f->cap_pending)
		return 0;
	p = reallocarray(f->pending, cap, sizeof(*p));
	if (!p)
		return -ENOMEM;
	f->pending = p;
	f->cap_pending = cap;
	return 0;
}

void bolt_freelist_commit(struct bolt_tx *tx)
{
	struct bolt_freelist *f = &tx->db->freelist;

	f->pending[f->n_pending++] = (struct bolt_pending){tx->meta.txid, tx->freed};
	tx->freed = (struct bolt_pages){0};
	tx->n_taken = 0;
}

void bolt_freelist_rollback(struct bolt_tx *tx)
{
	struct bolt_freelist *f = &tx->db->freelist;

	for (size_t i = 0; i < tx->freed.n; i++)
		bolt_bit_clear(f->gone, tx->freed.v[i]);
	f->n_gone -= tx->freed.n;
	tx->freed.n = 0;
	for (size_t i = 0; i < tx->n_taken; i++) {
		const struct bolt_extent *x = &tx->taken[i];

		for (uint64_t id = x->id; id < x->id + x->n; id++) {
			bolt_bit_set(f->free, id);
			bolt_bit_set(f->gone, id);
		}
		f->hint = MIN(f->hint, x->id);
		f->n_free += x->n;
		f->n_gone += x->n;
	}
	tx->n_taken = 0;
}

int bolt_freelist_write(struct bolt_tx *tx)
{
	struct bolt_freelist *f = &tx->db->freelist;
	uint64_t size = tx->meta.page_size, pages, id, count = 0, at = BOLT_PAGE_HEADER;
	uint8_t *p;
	int r;

	/* Taking its pages can only make the list shorter. */
	pages = (BOLT_PAGE_HEADER + 8 + f->n_gone * 8 + size - 1) / size;
	if (pages - 1 > UINT32_MAX)
		return -EFBIG;
	r = bolt_pages_take(tx, pages, &id);
	if (r == 0)
		r = bolt_tx_dirty(tx, id, pages, &p);
	if (r < 0)
		return r;
	if (f->n_gone >= COUNT_LARGE) {
		bolt_put64(p + at, f->n_gone);
		at += 8;
	}
	for (uint64_t w = 0; w < f->bits / 64; w++) {
		for (uint64_t bits = f->gone[w]; bits; bits &= bits - 1) {
			bolt_put64(p + at, w * 64 + (uint64_t)__builtin_ctzll(bits));
			at += 8;
			count++;
		}
	}
	bolt_put64(p, id);
	bolt_put16(p + 8, BOLT_PAGE_FREELIST);
	bolt_put16(p + 10, (uint16_t)MIN(count, (uint64_t)COUNT_LARGE));
	bolt_put32(p + 12, (uint32_t)(pages - 1));
	tx->meta.freelist = id;
	return 0;
}
