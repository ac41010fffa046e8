/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes: pages under change.
 *
 * The first change below a page turns it, and every page on the way to it, into a node: an array of
 * items whose keys and values still lie in the mapping until they are replaced. A branch item keeps
 * its child once that is a node too. Nodes live in the transaction's arena and grow without limit
 * while the transaction runs; only the commit looks at their size:
 *
 * bolt_node_rebalance() removes what became empty and merges with a sibling what lost items and is
 * now smaller than a quarter of a page; a root branch with a single child gives way to it.
 * bolt_node_spill() cuts each node into pieces of at least half a page, writes the pieces to pages
 * of their own and their first keys and page ids into the parent, up to the root. Every node counts
 * as changed.
 */
#include "bolt/internal.h"

#define PIECE_MAX    \
	((uint64_t)1 \
	 << 30) /* positions in a page are 32 bits; a larger single item is alone in its page */

struct bolt_node *bolt_node_new(struct bolt_tx *tx, bool leaf)
{
	struct bolt_node *n = bolt_tx_alloc(tx, sizeof(*n));

	if (n)
		*n = (struct bolt_node){.leaf = leaf};
	return n;
}

static int node_reserve(struct bolt_tx *tx, struct bolt_node *n, uint32_t count)
{
	struct bolt_node_item *p;
	uint64_t cap;

	if (count <= n->cap)
		return 0;
	cap = MAX((uint64_t)count, MAX((uint64_t)8, (uint64_t)n->cap * 2));
	if (cap > UINT32_MAX / 2)
		return bolt_tx_fail(tx, -EFBIG);
	p = bolt_tx_alloc(tx, cap * sizeof(*p));
	if (!p)
		return -ENOMEM;
	if (n->n)
		memcpy(p, n->items, n->n * sizeof(*p));
	n->items = p;
	n->cap = (uint32_t)cap;
	return 0;
}

static int node_append(struct bolt_tx *tx, struct bolt_node *n, const struct bolt_node_item *item)
{
	int r;

	r = node_reserve(tx, n, n->n + 1);
	if (r < 0)
		return r;
	n->items[n->n++] = *item;
	return 0;
}

int bolt_node_read(struct bolt_tx *tx, const struct bolt_page *pg, struct bolt_node **ret)
{
	struct bolt_node *n;
	int r;

	n = bolt_node_new(tx, pg->flags == BOLT_PAGE_LEAF);
	if (!n)
		return -ENOMEM;
	r = node_reserve(tx, n, (uint32_t)pg->count + 1);
	if (r < 0)
		return r;
	n->page = pg->id;
	n->overflow = pg->overflow;
	for (unsigned int i = 0; i < pg->count; i++) {
		r = bolt_page_elem(pg, i, &n->items[i].e);
		if (r < 0)
			return bolt_tx_fail(tx, r);
		n->items[i].child = NULL;
	}
	n->n = pg->count;
	*ret = n;
	return 0;
}

int bolt_node_child(struct bolt_tx *tx, struct bolt_node *n, uint32_t i, struct bolt_node **ret)
{
	struct bolt_node_item *item = &n->items[i];
	struct bolt_page pg;
	int r;

	if (!item->child) {
		r = bolt_page_get(tx, item->e.page, &pg);
		if (r < 0)
			return bolt_tx_fail(tx, r);
		r = bolt_node_read(tx, &pg, &item->child);
		if (r < 0)
			return r;
	}
	*ret = item->child;
	return 0;
}

uint32_t bolt_node_search(const struct bolt_node *n, struct bolt_slice key, bool *ret_exact)
{
	uint32_t lo = 0, hi = n->n;

	*ret_exact = false;
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		const struct bolt_elem *e = &n->items[mid].e;
		int c = bolt_key_cmp(e->key, e->klen, key.data, key.len);

		if (c == 0) {
			*ret_exact = true;
			return mid;
		}
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

int bolt_node_put(struct bolt_tx *tx, struct bolt_node *n, struct bolt_slice key,
		  struct bolt_slice value, uint32_t flags)
{
	struct bolt_elem *e;
	uint8_t *copy;
	uint32_t i;
	bool exact;
	int r;

	i = bolt_node_search(n, key, &exact);
	if (!exact) {
		r = node_reserve(tx, n, n->n + 1);
		if (r < 0)
			return r;
		copy = bolt_tx_memdup(tx, key.data, key.len);
		if (!copy)
			return -ENOMEM;
		memmove(n->items + i + 1, n->items + i, (n->n - i) * sizeof(*n->items));
		n->n++;
		n->items[i] =
			(struct bolt_node_item){.e = {.key = copy, .klen = (uint32_t)key.len}};
	}
	e = &n->items[i].e;
	e->value = value.data;
	e->vlen = (uint32_t)value.len;
	e->flags = flags;
	return 0;
}

void bolt_node_remove(struct bolt_node *n, uint32_t i)
{
	n->n--;
	memmove(n->items + i, n->items + i + 1, (n->n - i) * sizeof(*n->items));
	n->shrunk = true;
}

static uint64_t item_size(const struct bolt_node_item *item)
{
	return BOLT_ELEM + (uint64_t)item->e.klen + item->e.vlen;
}

uint64_t bolt_node_size(const struct bolt_node *n, uint32_t from, uint32_t to)
{
	uint64_t size = BOLT_PAGE_HEADER;

	for (uint32_t i = from; i < to; i++)
		size += item_size(&n->items[i]);
	return size;
}

void bolt_node_encode(const struct bolt_node *n, uint32_t from, uint32_t to, uint64_t id,
		      uint32_t overflow, uint8_t *out)
{
	uint32_t count = to - from;
	uint64_t data = BOLT_PAGE_HEADER + (uint64_t)count * BOLT_ELEM;

	bolt_put64(out, id);
	bolt_put16(out + 8, n->leaf ? BOLT_PAGE_LEAF : BOLT_PAGE_BRANCH);
	bolt_put16(out + 10, (uint16_t)count);
	bolt_put32(out + 12, overflow);
	for (uint32_t i = 0; i < count; i++) {
		const struct bolt_elem *e = &n->items[from + i].e;
		uint64_t at = BOLT_PAGE_HEADER + (uint64_t)i * BOLT_ELEM;
		uint8_t *p = out + at;

		if (n->leaf) {
			bolt_put32(p, e->flags);
			bolt_put32(p + 4, (uint32_t)(data - at));
			bolt_put32(p + 8, e->klen);
			bolt_put32(p + 12, e->vlen);
		} else {
			bolt_put32(p, (uint32_t)(data - at));
			bolt_put32(p + 4, e->klen);
			bolt_put64(p + 8, e->page);
		}
		if (e->klen)
			memcpy(out + data, e->key, e->klen);
		data += e->klen;
		if (e->vlen)
			memcpy(out + data, e->value, e->vlen);
		data += e->vlen;
	}
}

static int node_page_free(struct bolt_tx *tx, const struct bolt_node *n)
{
	int r;

	if (n->page == 0)
		return 0;
	r = bolt_pages_free(tx, n->page, n->overflow);
	return r < 0 ? bolt_tx_fail(tx, r) : 0;
}

/* Puts the items of child @i + 1 behind those of child @i. */
static int node_merge(struct bolt_tx *tx, struct bolt_node *n, uint32_t i)
{
	struct bolt_node *left = NULL, *right = NULL;
	int r;

	r = bolt_node_child(tx, n, i, &left);
	if (r == 0)
		r = bolt_node_child(tx, n, i + 1, &right);
	if (r < 0)
		return r;
	if (left->leaf != right->leaf)
		return bolt_tx_fail(tx, -EBADMSG);
	r = node_reserve(tx, left, left->n + right->n);
	if (r == 0)
		r = node_page_free(tx, right);
	if (r < 0)
		return r;
	memcpy(left->items + left->n, right->items, right->n * sizeof(*right->items));
	left->n += right->n;
	left->shrunk = false;
	bolt_node_remove(n, i + 1);
	return 0;
}

static bool node_small(const struct bolt_tx *tx, const struct bolt_node *n)
{
	return n->n <= (n->leaf ? 1 : 2) || bolt_node_size(n, 0, n->n) <= tx->meta.page_size / 4;
}

static int node_rebalance(struct bolt_tx *tx, struct bolt_node *n, unsigned int depth)
{
	int r;

	if (n->leaf)
		return 0;
	if (depth >= BOLT_TREE_DEPTH)
		return bolt_tx_fail(tx, -EBADMSG);
	for (uint32_t i = 0; i < n->n;) {
		struct bolt_node *c = n->items[i].child;

		r = c ? node_rebalance(tx, c, depth + 1) : 0;
		if (r == 0 && c && c->n == 0) {
			r = node_page_free(tx, c);
			bolt_node_remove(n, i);
		} else {
			i++;
		}
		if (r < 0)
			return r;
	}
	for (uint32_t i = 0; i < n->n && n->n > 1;) {
		struct bolt_node *c = n->items[i].child;

		if (!c || !c->shrunk || !node_small(tx, c)) {
			i++;
			continue;
		}
		r = node_merge(tx, n, i == 0 ? 0 : i - 1);
		if (r < 0)
			return r;
	}
	return 0;
}

int bolt_node_rebalance(struct bolt_tx *tx, struct bolt_node **root)
{
	struct bolt_node *n = *root, *child = NULL;
	int r;

	r = node_rebalance(tx, n, 0);
	if (r < 0)
		return r;
	for (unsigned int i = 0; !n->leaf && n->n == 1; i++) {
		if (i >= BOLT_TREE_DEPTH)
			return bolt_tx_fail(tx, -EBADMSG);
		r = bolt_node_child(tx, n, 0, &child);
		if (r < 0)
			return r;
		r = node_page_free(tx, n);
		if (r < 0)
			return r;
		n = child;
	}
	if (n->n == 0)
		n->leaf = true;
	*root = n;
	return 0;
}

/* End of the piece that begins at @from: all that is left when it fits in a page or is 4 items at
 * most, else about half a page, at least two items here and there. */
static uint32_t node_cut(const struct bolt_tx *tx, const struct bolt_node *n, uint32_t from)
{
	uint64_t page = tx->meta.page_size, size = BOLT_PAGE_HEADER;
	uint32_t cut = 0;

	for (uint32_t i = from; i < n->n; i++) {
		uint64_t more = item_size(&n->items[i]);

		if (i - from >= BOLT_COUNT_MAX || (i > from && size + more > PIECE_MAX))
			return i;
		if (cut == 0 && i - from >= 2 && size + more > page / 2)
			cut = i;
		size += more;
		if (cut && size > page && n->n - from > 4)
			return MIN(cut, n->n - 2);
	}
	return n->n;
}

/* Writes the pieces of @n; a branch item for each goes to @out. */
static int node_write(struct bolt_tx *tx, const struct bolt_node *n, struct bolt_node *out)
{
	uint64_t page = tx->meta.page_size;
	uint32_t from = 0;
	int r;

	r = node_page_free(tx, n);
	if (r < 0)
		return r;
	do {
		struct bolt_node_item item = {0};
		uint32_t to = node_cut(tx, n, from);
		uint64_t pages = (bolt_node_size(n, from, to) + page - 1) / page;
		uint8_t *p;

		r = bolt_pages_take(tx, pages, &item.e.page);
		if (r == 0)
			r = bolt_tx_dirty(tx, item.e.page, pages, &p);
		if (r < 0)
			return bolt_tx_fail(tx, r);
		bolt_node_encode(n, from, to, item.e.page, (uint32_t)(pages - 1), p);
		if (n->n) {
			item.e.key = n->items[from].e.key;
			item.e.klen = n->items[from].e.klen;
		}
		r = node_append(tx, out, &item);
		if (r < 0)
			return r;
		from = to;
	} while (from < n->n);
	return 0;
}

static int node_spill(struct bolt_tx *tx, struct bolt_node *n, struct bolt_node *out,
		      unsigned int depth)
{
	struct bolt_node items = {0};
	int r;

	if (depth >= BOLT_TREE_DEPTH)
		return bolt_tx_fail(tx, -EBADMSG);
	if (!n->leaf) {
		r = node_reserve(tx, &items, n->n);
		for (uint32_t i = 0; i < n->n && r == 0; i++) {
			struct bolt_node *c = n->items[i].child;

			r = c ? node_spill(tx, c, &items, depth + 1)
			      : node_append(tx, &items, &n->items[i]);
		}
		if (r < 0)
			return r;
		n->items = items.items;
		n->n = items.n;
		n->cap = items.cap;
	}
	return node_write(tx, n, out);
}

int bolt_node_spill(struct bolt_tx *tx, struct bolt_node *root, uint64_t *ret_page)
{
	struct bolt_node out = {0};
	int r;

	r = node_spill(tx, root, &out, 0);
	while (r == 0 && out.n > 1) {
		struct bolt_node top = out;

		out = (struct bolt_node){0};
		r = node_write(tx, &top, &out);
	}
	if (r < 0)
		return r;
	*ret_page = out.items[0].e.page;
	return 0;
}

static int page_free(const struct bolt_page *pg, void *arg)
{
	return bolt_pages_free(arg, pg->id, pg->overflow);
}

int bolt_tree_free(struct bolt_tx *tx, uint64_t page)
{
	int r;

	r = bolt_page_walk(tx, page, false, page_free, tx);
	return r < 0 ? bolt_tx_fail(tx, r) : 0;
}

static int node_free(struct bolt_tx *tx, const struct bolt_node *n, unsigned int depth)
{
	int r;

	if (depth >= BOLT_TREE_DEPTH)
		return bolt_tx_fail(tx, -EBADMSG);
	r = node_page_free(tx, n);
	for (uint32_t i = 0; r == 0 && !n->leaf && i < n->n; i++) {
		const struct bolt_node_item *item = &n->items[i];

		r = item->child ? node_free(tx, item->child, depth + 1)
				: bolt_tree_free(tx, item->e.page);
	}
	return r;
}

int bolt_node_free(struct bolt_tx *tx, const struct bolt_node *n)
{
	return node_free(tx, n, 0);
}
