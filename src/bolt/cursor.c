/* SPDX-License-Identifier: Apache-2.0 */
/* Cursors: the way from the bucket's root to an item of a leaf, as a stack of pages or nodes with
 * the index in each.
 *
 * An empty leaf (all items deleted in this transaction, before the commit merges it) is stepped
 * over. Pages and nodes live until the transaction ends and indexes are checked at each step, so a
 * cursor that was kept over a change gives surprising items but never touches foreign memory.
 */
#include "bolt/internal.h"

void bolt_cursor_init(struct bolt_cursor *c, struct bolt_bucket *b)
{
	c->bucket = b;
	c->depth = 0;
}

static bool cursor_fail(struct bolt_cursor *c, int r)
{
	if (r < 0)
		bolt_tx_fail(c->bucket->tx, r);
	c->depth = 0;
	return false;
}

static int cursor_push(struct bolt_cursor *c, const struct bolt_ref *ref, unsigned int i)
{
	if (c->depth >= (int)ARRAY_LEN(c->stack))
		return -EBADMSG;
	c->stack[c->depth].is_node = ref->node != NULL;
	c->stack[c->depth].page = ref->node ? (void *)ref->node : (void *)(uintptr_t)ref->page.p;
	c->stack[c->depth].index = i;
	c->depth++;
	return 0;
}

static int cursor_ref(const struct bolt_cursor *c, struct bolt_ref *ret)
{
	const struct bolt_bucket *b = c->bucket;
	const struct bolt_tx *tx = b->tx;
	const uint8_t *p = c->stack[c->depth - 1].page;

	*ret = (struct bolt_ref){0};
	if (c->stack[c->depth - 1].is_node) {
		ret->node = c->stack[c->depth - 1].page;
		return 0;
	}
	if (p == b->inline_page.p) {
		ret->page = b->inline_page;
		return 0;
	}
	return bolt_page_get(tx, (uint64_t)(p - tx->map->p) / tx->meta.page_size, &ret->page);
}

/* Pushes the leftmost (or rightmost) way below @ref, itself included. */
static int cursor_descend(struct bolt_cursor *c, struct bolt_ref ref, bool last)
{
	int r;

	for (;;) {
		unsigned int n = bolt_ref_count(&ref), i = last && n ? n - 1 : 0;

		r = cursor_push(c, &ref, i);
		if (r < 0 || bolt_ref_leaf(&ref))
			return r;
		r = bolt_ref_child(c->bucket, &ref, i, &ref);
		if (r < 0)
			return r;
	}
}

static bool cursor_item(struct bolt_cursor *c, const struct bolt_ref *ref, struct bolt_item *ret)
{
	struct bolt_elem e;
	int r;

	r = bolt_ref_elem(ref, c->stack[c->depth - 1].index, &e);
	if (r < 0)
		return cursor_fail(c, r);
	ret->key = bolt_b(e.key, e.klen);
	ret->is_bucket = e.flags & BOLT_FLAG_BUCKET;
	ret->value = ret->is_bucket ? bolt_b("", 0) : bolt_b(e.value, e.vlen);
	return true;
}

/* From where the stack stands to the next item in the leaf above its top, after moving by @step
 * first. */
static bool cursor_step(struct bolt_cursor *c, int step, struct bolt_item *ret)
{
	struct bolt_ref ref;
	int r;

	while (c->depth > 0) {
		unsigned int *i = &c->stack[c->depth - 1].index;

		r = cursor_ref(c, &ref);
		if (r < 0)
			return cursor_fail(c, r);
		if (step < 0 && *i > bolt_ref_count(&ref))
			*i = bolt_ref_count(&ref);
		/* 0 - 1 wraps to above any count */
		*i += (unsigned int)step;
		if (*i >= bolt_ref_count(&ref)) {
			c->depth--;
			step = step < 0 ? -1 : 1;
			continue;
		}
		if (bolt_ref_leaf(&ref))
			return cursor_item(c, &ref, ret);
		r = bolt_ref_child(c->bucket, &ref, *i, &ref);
		if (r == 0)
			r = cursor_descend(c, ref, step < 0);
		if (r < 0)
			return cursor_fail(c, r);
		/* On a leaf now: take the item here unless it is empty. */
		r = cursor_ref(c, &ref);
		if (r < 0)
			return cursor_fail(c, r);
		if (bolt_ref_count(&ref) > 0)
			return cursor_item(c, &ref, ret);
	}
	return false;
}

static bool cursor_end(struct bolt_cursor *c, bool last, struct bolt_item *ret)
{
	struct bolt_ref ref;
	int r;

	c->depth = 0;
	r = bolt_ref_root(c->bucket, &ref);
	if (r == 0)
		r = cursor_descend(c, ref, last);
	if (r == 0)
		r = cursor_ref(c, &ref);
	if (r < 0)
		return cursor_fail(c, r);
	if (bolt_ref_count(&ref) == 0)
		return cursor_step(c, last ? -1 : 1, ret);
	return cursor_item(c, &ref, ret);
}

bool bolt_first(struct bolt_cursor *c, struct bolt_item *ret)
{
	return cursor_end(c, false, ret);
}

bool bolt_last(struct bolt_cursor *c, struct bolt_item *ret)
{
	return cursor_end(c, true, ret);
}

bool bolt_next(struct bolt_cursor *c, struct bolt_item *ret)
{
	return cursor_step(c, 1, ret);
}

bool bolt_prev(struct bolt_cursor *c, struct bolt_item *ret)
{
	return cursor_step(c, -1, ret);
}

bool bolt_seek(struct bolt_cursor *c, struct bolt_slice key, struct bolt_item *ret)
{
	struct bolt_ref ref;
	unsigned int i;
	bool exact;
	int r;

	c->depth = 0;
	r = bolt_ref_root(c->bucket, &ref);
	while (r == 0) {
		r = bolt_ref_search(&ref, key, &i, &exact);
		if (r == 0)
			r = cursor_push(c, &ref, i);
		if (r < 0 || bolt_ref_leaf(&ref))
			break;
		r = bolt_ref_child(c->bucket, &ref, i, &ref);
	}
	if (r < 0)
		return cursor_fail(c, r);
	return cursor_step(c, 0, ret);
}
