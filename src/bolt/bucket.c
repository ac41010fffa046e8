/* SPDX-License-Identifier: Apache-2.0 */
/* Buckets: a tree each, whose root page (or, when it is small, whose only page) is named in a value
 * of the parent's tree.
 *
 * A look-up descends from the bucket's root through pages, and through nodes where something has
 * changed. A change first turns the way down into nodes. A write transaction keeps every bucket
 * that was opened in a table of its parent, so that two openings give the same object; a read
 * transaction makes a new one each time. At commit changed buckets are written from the inside out:
 * the sub-bucket's new root page and sequence become a value of the parent, which thereby changes
 * too.
 *
 * A bucket is written inline, as a page inside the value, when it is one leaf without sub-buckets
 * of at most a quarter page.
 */
#include "bolt/internal.h"

int bolt_ref_root(struct bolt_bucket *b, struct bolt_ref *ret)
{
	int r;

	*ret = (struct bolt_ref){.node = b->node};
	if (b->node)
		return 0;
	if (b->inline_page.p) {
		ret->page = b->inline_page;
		return 0;
	}
	r = bolt_page_get(b->tx, b->root, &ret->page);
	return r < 0 ? bolt_tx_fail(b->tx, r) : 0;
}

int bolt_ref_child(struct bolt_bucket *b, const struct bolt_ref *r, unsigned int i,
		   struct bolt_ref *ret)
{
	struct bolt_ref child = {0};
	struct bolt_elem e;
	int res;

	if (r->node && r->node->items[i].child) {
		child.node = r->node->items[i].child;
	} else {
		res = bolt_ref_elem(r, i, &e);
		if (res == 0)
			res = bolt_page_get(b->tx, e.page, &child.page);
		if (res < 0)
			return bolt_tx_fail(b->tx, res);
	}
	*ret = child;
	return 0;
}

int bolt_ref_elem(const struct bolt_ref *r, unsigned int i, struct bolt_elem *ret)
{
	if (!r->node)
		return bolt_page_elem(&r->page, i, ret);
	*ret = r->node->items[i].e;
	return 0;
}

int bolt_ref_search(const struct bolt_ref *r, struct bolt_slice key, unsigned int *ret_i,
		    bool *ret_exact)
{
	unsigned int lo = 0, hi = bolt_ref_count(r);
	bool exact = false;
	struct bolt_elem e;
	int res;

	if (r->node) {
		lo = bolt_node_search(r->node, key, &exact);
		hi = lo;
	}
	while (lo < hi) {
		unsigned int mid = lo + (hi - lo) / 2;
		int c;

		res = bolt_page_elem(&r->page, mid, &e);
		if (res < 0)
			return res;
		c = bolt_key_cmp(e.key, e.klen, key.data, key.len);
		exact = c == 0;
		if (exact)
			lo = hi = mid;
		else if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (!bolt_ref_leaf(r) && !exact && lo > 0)
		lo--;
	*ret_i = lo;
	*ret_exact = exact;
	return 0;
}

/* 1 when @key is there, 0 when not. */
static int bucket_find(struct bolt_bucket *b, struct bolt_slice key, struct bolt_elem *ret)
{
	struct bolt_ref ref;
	unsigned int i;
	bool exact;
	int r;

	r = bolt_ref_root(b, &ref);
	for (unsigned int depth = 0; r == 0; depth++) {
		r = depth < BOLT_TREE_DEPTH ? bolt_ref_search(&ref, key, &i, &exact) : -EBADMSG;
		if (r < 0)
			break;
		if (bolt_ref_leaf(&ref)) {
			if (!exact)
				return 0;
			r = bolt_ref_elem(&ref, i, ret);
			if (r < 0)
				break;
			return 1;
		}
		r = bolt_ref_child(b, &ref, i, &ref);
	}
	return bolt_tx_fail(b->tx, r);
}

/* The root as a node. */
static int bucket_node(struct bolt_bucket *b)
{
	struct bolt_node *n;
	struct bolt_ref ref;
	int r;

	if (b->node)
		return 0;
	r = bolt_ref_root(b, &ref);
	if (r == 0)
		r = bolt_node_read(b->tx, &ref.page, &n);
	if (r < 0)
		return r;
	n->page = b->root;
	if (b->root == 0)
		n->overflow = 0;
	b->node = n;
	b->tx->changed = true;
	return 0;
}

/* The leaf where @key is or would be, as a node. */
static int bucket_leaf(struct bolt_bucket *b, struct bolt_slice key, struct bolt_node **ret)
{
	struct bolt_node *n;
	uint32_t i;
	bool exact;
	int r;

	r = bucket_node(b);
	if (r < 0)
		return r;
	n = b->node;
	for (unsigned int depth = 0; !n->leaf; depth++) {
		if (depth >= BOLT_TREE_DEPTH)
			return bolt_tx_fail(b->tx, -EBADMSG);
		i = bolt_node_search(n, key, &exact);
		r = bolt_node_child(b->tx, n, !exact && i > 0 ? i - 1 : i, &n);
		if (r < 0)
			return r;
	}
	*ret = n;
	return 0;
}

static uint32_t name_hash(struct bolt_slice name)
{
	const uint8_t *p = name.data;
	uint32_t h = 2166136261u;

	for (size_t i = 0; i < name.len; i++)
		h = (h ^ p[i]) * 16777619u;
	return h ^ h >> 15;
}

static struct bolt_bucket **child_slot(struct bolt_bucket *b, struct bolt_slice name, uint32_t hash)
{
	struct bolt_bucket **c = &b->table[hash & (b->n_table - 1)];

	while (*c && ((*c)->hash != hash ||
		      bolt_key_cmp((*c)->name.data, (*c)->name.len, name.data, name.len) != 0))
		c = &(*c)->hash_next;
	return c;
}

static struct bolt_bucket *child_find(struct bolt_bucket *b, struct bolt_slice name)
{
	return b->n_table ? *child_slot(b, name, name_hash(name)) : NULL;
}

static int child_add(struct bolt_bucket *b, struct bolt_bucket *c)
{
	struct bolt_bucket **slot;

	if (b->n_children >= b->n_table) {
		size_t n = b->n_table ? b->n_table * 2 : 8, old_n = b->n_table;
		struct bolt_bucket **old = b->table, **t;

		t = bolt_tx_alloc(b->tx, n * sizeof(struct bolt_bucket *));
		if (!t)
			return -ENOMEM;
		memset(t, 0, n * sizeof(struct bolt_bucket *));
		b->table = t;
		b->n_table = n;
		for (size_t i = 0; i < old_n; i++) {
			for (struct bolt_bucket *e = old[i], *next; e; e = next) {
				next = e->hash_next;
				slot = &t[e->hash & (n - 1)];
				e->hash_next = *slot;
				*slot = e;
			}
		}
	}
	c->hash = name_hash(c->name);
	slot = &b->table[c->hash & (b->n_table - 1)];
	c->hash_next = *slot;
	*slot = c;
	b->n_children++;
	return 0;
}

static void child_remove(struct bolt_bucket *b, struct bolt_slice name)
{
	struct bolt_bucket **slot;

	if (b->n_table == 0)
		return;
	slot = child_slot(b, name, name_hash(name));
	if (*slot) {
		*slot = (*slot)->hash_next;
		b->n_children--;
	}
}

static struct bolt_bucket *child_new(struct bolt_bucket *b, struct bolt_slice name)
{
	struct bolt_bucket *c = bolt_tx_alloc(b->tx, sizeof(*c));
	void *copy = c ? bolt_tx_memdup(b->tx, name.data, name.len) : NULL;

	if (!copy)
		return NULL;
	*c = (struct bolt_bucket){
		.tx = b->tx, .parent = b, .name = {copy, name.len}, .depth = b->depth + 1};
	return c;
}

struct bolt_bucket *bolt_root(struct bolt_tx *tx)
{
	return &tx->root;
}

struct bolt_bucket *bolt_bucket(struct bolt_bucket *b, struct bolt_slice key)
{
	struct bolt_bucket *c;
	struct bolt_elem e;
	int r;

	c = child_find(b, key);
	if (c)
		return c;
	if (bucket_find(b, key, &e) <= 0 || !(e.flags & BOLT_FLAG_BUCKET))
		return NULL;
	c = b->depth + 1 < BOLT_NEST_DEPTH ? child_new(b, key) : NULL;
	if (!c) {
		bolt_tx_fail(b->tx, -EBADMSG);
		return NULL;
	}
	r = bolt_bucket_decode(&e, &c->root, &c->sequence, &c->inline_page);
	if (r == 0 && b->tx->writable)
		r = child_add(b, c);
	if (r < 0) {
		bolt_tx_fail(b->tx, r);
		return NULL;
	}
	return c;
}

struct bolt_bucket *bolt_bucket_path(struct bolt_bucket *b, const struct bolt_slice *keys, size_t n)
{
	for (size_t i = 0; i < n && b; i++)
		b = bolt_bucket(b, keys[i]);
	return b;
}

static int key_check(const struct bolt_bucket *b, struct bolt_slice key)
{
	if (!b->tx->writable)
		return -EROFS;
	if (key.len == 0)
		return -EINVAL;
	return key.len > BOLT_KEY_MAX ? -EFBIG : 0;
}

int bolt_bucket_create(struct bolt_bucket *b, struct bolt_slice key, struct bolt_bucket **ret)
{
	static const uint8_t empty[BOLT_BUCKET_HEADER + BOLT_PAGE_HEADER] = {
		[BOLT_BUCKET_HEADER + 8] = BOLT_PAGE_LEAF};
	struct bolt_bucket *c;
	struct bolt_node *leaf;
	struct bolt_elem e;
	int r;

	r = key_check(b, key);
	if (r < 0)
		return r;
	if (b->depth + 1 >= BOLT_NEST_DEPTH)
		return -EFBIG;
	r = bucket_find(b, key, &e);
	if (r < 0)
		return r;
	if (r > 0)
		return e.flags & BOLT_FLAG_BUCKET ? -EEXIST : -EISDIR;
	c = child_new(b, key);
	if (!c)
		return -ENOMEM;
	c->node = bolt_node_new(b->tx, true);
	if (!c->node)
		return -ENOMEM;
	r = bucket_leaf(b, key, &leaf);
	if (r == 0)
		r = child_add(b, c);
	if (r == 0)
		r = bolt_node_put(b->tx, leaf, key, bolt_b(empty, sizeof(empty)), BOLT_FLAG_BUCKET);
	if (r < 0)
		return r;
	if (ret)
		*ret = c;
	return 0;
}

int bolt_bucket_create_if_missing(struct bolt_bucket *b, struct bolt_slice key,
				  struct bolt_bucket **ret)
{
	struct bolt_bucket *c;
	int r;

	r = bolt_bucket_create(b, key, ret);
	if (r != -EEXIST)
		return r;
	c = bolt_bucket(b, key);
	if (!c)
		return b->tx->err ? b->tx->err : -EBADMSG;
	if (ret)
		*ret = c;
	return 0;
}

/* Gives up the pages of @b and of all buckets in it. Its own pages go first: where a damaged file
 * makes a circle of buckets, the second visit fails. */
static int bucket_free(struct bolt_bucket *b)
{
	struct bolt_bucket *child;
	struct bolt_cursor c;
	struct bolt_item item;
	int r = 0;

	if (b->node)
		r = bolt_node_free(b->tx, b->node);
	else if (b->root)
		r = bolt_tree_free(b->tx, b->root);
	if (r < 0)
		return r;
	bolt_cursor_init(&c, b);
	for (bool more = bolt_first(&c, &item); more; more = bolt_next(&c, &item)) {
		if (!item.is_bucket)
			continue;
		child = bolt_bucket(b, item.key);
		r = child ? bucket_free(child) : bolt_tx_fail(b->tx, -EBADMSG);
		if (r < 0)
			return r;
	}
	return b->tx->err;
}

int bolt_bucket_delete(struct bolt_bucket *b, struct bolt_slice key)
{
	struct bolt_bucket *child;
	struct bolt_node *leaf;
	struct bolt_elem e;
	uint32_t i;
	bool exact;
	int r;

	r = key_check(b, key);
	if (r < 0)
		return r;
	r = bucket_find(b, key, &e);
	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	if (!(e.flags & BOLT_FLAG_BUCKET))
		return -EISDIR;
	child = bolt_bucket(b, key);
	if (!child)
		return b->tx->err ? b->tx->err : -EBADMSG;
	r = bucket_free(child);
	if (r == 0)
		r = bucket_leaf(b, key, &leaf);
	if (r < 0)
		return bolt_tx_fail(b->tx, r);
	i = bolt_node_search(leaf, key, &exact);
	if (!exact)
		return bolt_tx_fail(b->tx, -EBADMSG);
	child_remove(b, key);
	bolt_node_remove(leaf, i);
	return 0;
}

uint64_t bolt_sequence(const struct bolt_bucket *b)
{
	return b->sequence;
}

int bolt_set_sequence(struct bolt_bucket *b, uint64_t v)
{
	int r;

	if (!b->tx->writable)
		return -EROFS;
	r = bucket_node(b);
	if (r < 0)
		return r;
	b->sequence = v;
	return 0;
}

int bolt_next_sequence(struct bolt_bucket *b, uint64_t *ret)
{
	int r;

	r = bolt_set_sequence(b, b->sequence + 1);
	if (r < 0)
		return r;
	*ret = b->sequence;
	return 0;
}

bool bolt_get(struct bolt_bucket *b, struct bolt_slice key, struct bolt_slice *ret)
{
	struct bolt_elem e;

	if (bucket_find(b, key, &e) <= 0 || (e.flags & BOLT_FLAG_BUCKET))
		return false;
	if (ret)
		*ret = (struct bolt_slice){e.value, e.vlen};
	return true;
}

int bolt_put(struct bolt_bucket *b, struct bolt_slice key, struct bolt_slice value)
{
	struct bolt_node *leaf;
	uint32_t i;
	bool exact;
	void *copy;
	int r;

	r = key_check(b, key);
	if (r < 0)
		return r;
	if (!b->parent)
		return -EINVAL;
	if (value.len > BOLT_VALUE_MAX)
		return -EFBIG;
	r = bucket_leaf(b, key, &leaf);
	if (r < 0)
		return r;
	i = bolt_node_search(leaf, key, &exact);
	if (exact && (leaf->items[i].e.flags & BOLT_FLAG_BUCKET))
		return -EISDIR;
	copy = bolt_tx_memdup(b->tx, value.data, value.len);
	if (!copy)
		return -ENOMEM;
	return bolt_node_put(b->tx, leaf, key, bolt_b(copy, value.len), 0);
}

int bolt_delete(struct bolt_bucket *b, struct bolt_slice key)
{
	struct bolt_node *leaf;
	struct bolt_elem e;
	uint32_t i;
	bool exact;
	int r;

	if (!b->tx->writable)
		return -EROFS;
	r = bucket_find(b, key, &e);
	if (r <= 0)
		return r;
	if (e.flags & BOLT_FLAG_BUCKET)
		return -EISDIR;
	r = bucket_leaf(b, key, &leaf);
	if (r < 0)
		return r;
	i = bolt_node_search(leaf, key, &exact);
	if (!exact)
		return bolt_tx_fail(b->tx, -EBADMSG);
	bolt_node_remove(leaf, i);
	return 0;
}

static int bucket_rebalance(struct bolt_bucket *b)
{
	int r = 0;

	if (b->node)
		r = bolt_node_rebalance(b->tx, &b->node);
	for (size_t i = 0; i < b->n_table; i++)
		for (struct bolt_bucket *c = b->table[i]; c && r == 0; c = c->hash_next)
			r = bucket_rebalance(c);
	return r;
}

static bool bucket_fits_inline(const struct bolt_bucket *b)
{
	const struct bolt_node *n = b->node;

	if (!n->leaf || bolt_node_size(n, 0, n->n) > b->tx->meta.page_size / 4)
		return false;
	for (uint32_t i = 0; i < n->n; i++)
		if (n->items[i].e.flags & BOLT_FLAG_BUCKET)
			return false;
	return true;
}

/* Writes a changed bucket; its value for the parent. */
static int bucket_value(struct bolt_bucket *b, struct bolt_slice *ret)
{
	bool in = bucket_fits_inline(b);
	size_t len = BOLT_BUCKET_HEADER + (in ? bolt_node_size(b->node, 0, b->node->n) : 0);
	uint64_t root = 0;
	uint8_t *p;
	int r = 0;

	if (!in)
		r = bolt_node_spill(b->tx, b->node, &root);
	else if (b->node->page)
		r = bolt_pages_free(b->tx, b->node->page, b->node->overflow);
	if (r < 0)
		return bolt_tx_fail(b->tx, r);
	p = bolt_tx_alloc(b->tx, len);
	if (!p)
		return -ENOMEM;
	bolt_put64(p, root);
	bolt_put64(p + 8, b->sequence);
	if (in)
		bolt_node_encode(b->node, 0, b->node->n, 0, 0, p + BOLT_BUCKET_HEADER);
	*ret = bolt_b(p, len);
	return 0;
}

/* Writes the changed buckets in @b and sets their values. */
static int bucket_spill_children(struct bolt_bucket *b)
{
	struct bolt_slice value;
	struct bolt_node *leaf;
	int r;

	for (size_t i = 0; i < b->n_table; i++) {
		for (struct bolt_bucket *c = b->table[i]; c; c = c->hash_next) {
			r = bucket_spill_children(c);
			if (r < 0)
				return r;
			if (!c->node)
				continue;
			r = bucket_value(c, &value);
			if (r == 0)
				r = bucket_leaf(b, c->name, &leaf);
			if (r == 0)
				r = bolt_node_put(b->tx, leaf, c->name, value, BOLT_FLAG_BUCKET);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

int bolt_buckets_spill(struct bolt_tx *tx)
{
	struct bolt_bucket *b = &tx->root;
	int r;

	r = bucket_rebalance(b);
	if (r == 0)
		r = bucket_spill_children(b);
	if (r == 0 && b->node)
		r = bolt_node_spill(tx, b->node, &tx->meta.root);
	if (r < 0)
		return r;
	tx->meta.sequence = b->sequence;
	return 0;
}
