/* SPDX-License-Identifier: Apache-2.0 */
/* Consistency of a committed state: every page that the root leads to is visited once, its items
 * looked at, and the visited pages are held against the free list: the one in the file for a
 * reader, the one in memory for a writer (which sees the state it began with, not its changes). A
 * reader of a file without a free list can not know which pages are lost.
 */
#include <stdarg.h>

#include "bolt/internal.h"

#define DEPTH_MAX 256
#define LINES_MAX 1000

struct check {
	struct bolt_tx *tx;
	struct buf *report;
	uint64_t *used, *gone;
	int found;
};

/* Keys of a subtree: >= lo, < hi; data = NULL for no bound. */
struct bounds {
	struct bolt_slice lo, hi;
};

static void check_tree(struct check *c, uint64_t id, struct bounds in, bool root,
		       unsigned int depth);

static void _printf_(2, 3) found(struct check *c, const char *fmt, ...)
{
	va_list ap;

	if (c->found++ >= LINES_MAX || !c->report)
		return;
	va_start(ap, fmt);
	(void)buf_vprintf(c->report, fmt, ap);
	va_end(ap);
	(void)buf_addc(c->report, '\n');
}

static bool check_mark(struct check *c, uint64_t id, uint32_t overflow, const char *what)
{
	bool fresh = true;

	for (uint64_t i = id; i <= id + overflow; i++) {
		if (bolt_bit(c->used, i)) {
			found(c, "page %llu: %s, but in use elsewhere", (unsigned long long)i,
			      what);
			fresh = false;
		} else if (c->gone && bolt_bit(c->gone, i)) {
			found(c, "page %llu: %s, but free", (unsigned long long)i, what);
		}
		bolt_bit_set(c->used, i);
	}
	return fresh;
}

static void check_key(struct check *c, unsigned long long id, unsigned int i,
		      const struct bolt_elem *e, struct bolt_slice *prev, const struct bounds *in)
{
	if (e->klen == 0 || e->klen > BOLT_KEY_MAX)
		found(c, "page %llu: item %u: key of %u bytes", id, i, e->klen);
	if (prev->data && bolt_key_cmp(prev->data, prev->len, e->key, e->klen) >= 0)
		found(c, "page %llu: item %u: key not above the one before", id, i);
	if (in->lo.data && bolt_key_cmp(e->key, e->klen, in->lo.data, in->lo.len) < 0)
		found(c, "page %llu: item %u: key below the branch's", id, i);
	if (in->hi.data && bolt_key_cmp(e->key, e->klen, in->hi.data, in->hi.len) >= 0)
		found(c, "page %llu: item %u: key not below the branch's next", id, i);
	*prev = bolt_b(e->key, e->klen);
}

static void check_leaf(struct check *c, const struct bolt_page *pg, unsigned long long id,
		       struct bounds in, unsigned int depth)
{
	static const struct bounds all;
	struct bolt_slice prev = {0};
	struct bolt_page inl;
	struct bolt_elem e;
	uint64_t root, seq;

	for (unsigned int i = 0; i < pg->count; i++) {
		if (bolt_page_elem(pg, i, &e) < 0) {
			found(c, "page %llu: item %u: outside of its page", id, i);
			return;
		}
		check_key(c, id, i, &e, &prev, &in);
		if (e.flags & ~(uint32_t)BOLT_FLAG_BUCKET)
			found(c, "page %llu: item %u: unknown flags %#x", id, i, e.flags);
		if (!(e.flags & BOLT_FLAG_BUCKET))
			continue;
		if (bolt_bucket_decode(&e, &root, &seq, &inl) < 0)
			found(c, "page %llu: item %u: broken bucket", id, i);
		else if (depth >= DEPTH_MAX)
			found(c, "page %llu: item %u: nested too deeply", id, i);
		else if (root)
			check_tree(c, root, all, true, depth + 1);
		else
			check_leaf(c, &inl, id, all, depth + 1);
	}
}

static void check_branch(struct check *c, const struct bolt_page *pg, struct bounds in,
			 unsigned int depth)
{
	unsigned long long id = pg->id;
	struct bolt_slice prev = {0};
	struct bolt_elem e, next;

	for (unsigned int i = 0; i < pg->count; i++) {
		struct bounds below = {.hi = in.hi};

		if (bolt_page_elem(pg, i, &e) < 0) {
			found(c, "page %llu: item %u: outside of its page", id, i);
			return;
		}
		check_key(c, id, i, &e, &prev, &in);
		below.lo = bolt_b(e.key, e.klen);
		if (i + 1u < pg->count && bolt_page_elem(pg, i + 1, &next) == 0)
			below.hi = bolt_b(next.key, next.klen);
		check_tree(c, e.page, below, false, depth + 1);
	}
}

static void check_tree(struct check *c, uint64_t id, struct bounds in, bool root,
		       unsigned int depth)
{
	unsigned long long name = id;
	struct bolt_page pg;

	if (depth >= DEPTH_MAX) {
		found(c, "page %llu: nested too deeply", name);
		return;
	}
	if (bolt_page_get(c->tx, id, &pg) < 0) {
		found(c, "page %llu: not a branch or leaf page", name);
		return;
	}
	if (!check_mark(c, id, pg.overflow, "part of a tree"))
		return;
	if (pg.flags == BOLT_PAGE_BRANCH) {
		check_branch(c, &pg, in, depth);
		return;
	}
	if (pg.count == 0 && !root)
		found(c, "page %llu: empty leaf below a branch", name);
	check_leaf(c, &pg, name, in, depth);
}

/* Fills c->gone, NULL when nothing is known about free pages. */
static int check_load_gone(struct check *c)
{
	const struct bolt_freelist *f = &c->tx->db->freelist;
	uint64_t hwm = c->tx->meta.hwm, id = c->tx->meta.freelist, n;
	_cleanup_free_ uint64_t *gone = NULL;

	if (!c->tx->writable && id == BOLT_NO_FREELIST)
		return 0;
	gone = calloc(hwm / 64 + 1, sizeof(*gone));
	if (!gone)
		return -ENOMEM;
	if (c->tx->writable) {
		memcpy(gone, f->gone, MIN(hwm / 64 + 1, f->bits / 64) * sizeof(*gone));
		for (size_t i = 0; i < c->tx->freed.n; i++)
			bolt_bit_clear(gone, c->tx->freed.v[i]);
	} else if (bolt_freelist_read(c->tx, gone, &n) < 0) {
		found(c, "page %llu: broken free list", (unsigned long long)id);
		return 0;
	}
	c->gone = TAKE_PTR(gone);
	if (id != BOLT_NO_FREELIST)
		(void)check_mark(c, id, bolt_get32(c->tx->map->p + id * c->tx->meta.page_size + 12),
				 "free list");
	return 0;
}

int bolt_check(struct bolt_tx *tx, struct buf *report)
{
	static const struct bounds all;
	_cleanup_free_ uint64_t *used = calloc(tx->meta.hwm / 64 + 1, sizeof(*used));
	struct check c = {.tx = tx, .report = report, .used = used};
	int r;

	if (!used)
		return -ENOMEM;
	r = check_load_gone(&c);
	if (r < 0)
		return r;
	check_tree(&c, tx->meta.root, all, true, 0);
	for (uint64_t id = 2; c.gone && id < tx->meta.hwm; id++)
		if (!bolt_bit(c.used, id) && !bolt_bit(c.gone, id))
			found(&c, "page %llu: neither in use nor free", (unsigned long long)id);
	free(c.gone);
	return report && !buf_ok(report) ? -ENOMEM : c.found;
}
