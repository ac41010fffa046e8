/* SPDX-License-Identifier: Apache-2.0 */
/* bolt, inside.
 *
 * db.c        the file: opening, locking, mapping, growing
 * page.c      bytes of a file to checked views of pages, and back; meta pages
 * freelist.c  which pages are free, and which will be when the last reader has left
 * node.c      pages under change: items in memory, merged and split at commit
 * bucket.c    look-ups, changes, nested buckets; writing them out
 * cursor.c    walking in key order
 * tx.c        begin, commit, rollback
 * batch.c     shared commits
 * check.c     consistency
 *
 * A page number, offset, length or count that was read from the file is checked against the mapping
 * before it is used; what does not fit is -EBADMSG. Functions that can not return an error
 * (bolt_get, cursors) leave it in tx->err, and a transaction with an error can not be committed:
 * damage is never taken for absence by a writer.
 *
 * Locks: db->writer is held by the write transaction for its life, and guards freelist. db->lock
 * guards meta, map, map references and the list of readers; it is held for a few instructions only.
 * db->queue_lock guards the queue of bolt_update(). Order: writer, lock.
 */
#pragma once

#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

#include "base/arena.h"
#include "bolt/bolt.h"

#define BOLT_MAGIC 0xED0CDAEDu
#define BOLT_VERSION 2
#define BOLT_NO_FREELIST UINT64_MAX

#define BOLT_PAGE_BRANCH 0x01
#define BOLT_PAGE_LEAF 0x02
#define BOLT_PAGE_META 0x04
#define BOLT_PAGE_FREELIST 0x10

#define BOLT_PAGE_HEADER 16
#define BOLT_ELEM 16
#define BOLT_META_LEN 64
#define BOLT_BUCKET_HEADER 16
#define BOLT_FLAG_BUCKET 0x01

#define BOLT_PAGE_SIZE_MIN 1024u
#define BOLT_PAGE_SIZE_MAX (1024u << 14)
#define BOLT_KEY_MAX 32768
#define BOLT_VALUE_MAX 0x7ffffffeu
#define BOLT_TREE_DEPTH 32     /* levels of pages in one bucket: cursors' stack */
#define BOLT_NEST_DEPTH 64     /* buckets in buckets */
#define BOLT_COUNT_MAX 0xfffeu /* items of a page */

#define BOLT_MAP_MIN ((uint64_t)1 << 15)
#define BOLT_MAP_STEP ((uint64_t)1 << 30)
#define BOLT_GROW_STEP ((uint64_t)16 << 20)

struct bolt_meta {
	uint32_t page_size;
	uint64_t root;
	uint64_t sequence;
	uint64_t freelist;
	uint64_t hwm; /* pages [0, hwm) exist */
	uint64_t txid;
};

/* A mapping that lives while the file's current state or a transaction refers to it. */
struct bolt_map {
	const uint8_t *p;
	size_t size;	   /* mapped; only what is below the meta's hwm is touched */
	unsigned int refs; /* db->lock */
	bool owned;	   /* munmap at the end */
};

struct bolt_pages {
	uint64_t *v;
	size_t n, cap;
};

struct bolt_pending {
	uint64_t txid;
	struct bolt_pages pages;
};

/* Two bits a page. */
struct bolt_freelist {
	uint64_t *free; /* may be written now */
	uint64_t *gone; /* free, or given up by a transaction that somebody may still read behind */
	uint64_t bits;	/* room in both */
	uint64_t n_free, n_gone;
	uint64_t hint;		      /* no free page below */
	struct bolt_pending *pending; /* ascending txid */
	size_t n_pending, cap_pending;
};

/* A call of bolt_update(), on its caller's stack; not touched after done. */
struct bolt_update_call {
	int (*fn)(struct bolt_tx *tx, void *arg);
	void *arg;
	int result;
	bool done, lead; /* queue_lock */
	pthread_cond_t cond;
	struct bolt_update_call *next;
};

struct bolt {
	int fd;
	struct bolt_options o;
	uint32_t page_size;
	uint64_t file_size;	       /* writer */
	struct bolt_freelist freelist; /* writer */
	int broken; /* writer: why nothing more may be written until the file is opened anew */

	pthread_mutex_t writer;
	pthread_mutex_t lock;
	struct bolt_map *map;
	struct bolt_meta meta;
	struct bolt_tx *readers;

	pthread_mutex_t queue_lock;
	struct bolt_update_call *queue, **queue_end;
	bool queue_led;
};

/* A checked view of a branch or leaf page: its header and the array of elements are inside of
 * @size. */
struct bolt_page {
	const uint8_t *p;
	size_t size;
	uint64_t id;
	uint32_t overflow;
	uint16_t flags;
	uint16_t count;
};

struct bolt_elem {
	const uint8_t *key, *value;
	uint32_t klen, vlen;
	uint32_t flags; /* leaf */
	uint64_t page;	/* branch */
};

struct bolt_node;

struct bolt_node_item {
	struct bolt_elem e;
	struct bolt_node
		*child; /* branch: the page at e.page as a node, once something below changes */
};

struct bolt_node {
	uint64_t page; /* where it was read from, 0 = new or inline */
	uint32_t overflow;
	bool leaf;
	bool shrunk; /* lost an item */
	uint32_t n, cap;
	struct bolt_node_item *items;
};

struct bolt_bucket {
	struct bolt_tx *tx;
	struct bolt_bucket *parent; /* NULL = root */
	struct bolt_slice name;
	unsigned int depth;
	uint64_t root; /* page, 0 = inline or new */
	uint64_t sequence;
	struct bolt_page inline_page; /* p = NULL when there is none */
	struct bolt_node *node;	      /* the root under change */
	/* Opened sub-buckets of a write transaction, by name. */
	struct bolt_bucket **table;
	size_t n_table, n_children;
	struct bolt_bucket *hash_next;
	uint32_t hash;
};

struct bolt_dirty {
	uint64_t id;
	size_t size;
	uint8_t *p;
};

struct bolt_extent {
	uint64_t id, n;
};

struct bolt_tx {
	struct bolt *db;
	bool writable;
	bool changed;
	int err; /* first damage or lack of memory */
	struct bolt_map *map;
	struct bolt_meta meta;
	struct arena *arena;
	struct bolt_bucket root;
	struct bolt_tx *prev, *next; /* readers */
	/* Writable: */
	struct bolt_pages freed;
	struct bolt_extent *taken; /* from the free list */
	size_t n_taken, cap_taken;
	struct bolt_dirty *dirty;
	size_t n_dirty, cap_dirty;
};

/* What a descent stands on: a node when the page is under change, else the page. */
struct bolt_ref {
	struct bolt_node *node;
	struct bolt_page page;
};

static inline uint16_t bolt_get16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t bolt_get32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return le32toh(v);
}

static inline uint64_t bolt_get64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return le64toh(v);
}

static inline void bolt_put16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

static inline void bolt_put32(uint8_t *p, uint32_t v)
{
	v = htole32(v);
	memcpy(p, &v, sizeof(v));
}

static inline void bolt_put64(uint8_t *p, uint64_t v)
{
	v = htole64(v);
	memcpy(p, &v, sizeof(v));
}

static inline bool bolt_bit(const uint64_t *bits, uint64_t i)
{
	return bits[i / 64] >> (i % 64) & 1;
}

static inline void bolt_bit_set(uint64_t *bits, uint64_t i)
{
	bits[i / 64] |= (uint64_t)1 << (i % 64);
}

static inline void bolt_bit_clear(uint64_t *bits, uint64_t i)
{
	bits[i / 64] &= ~((uint64_t)1 << (i % 64));
}

/* Bytewise; a prefix sorts before what it is a prefix of. */
static inline int bolt_key_cmp(const void *a, size_t alen, const void *b, size_t blen)
{
	size_t n = alen < blen ? alen : blen;
	int r = n ? memcmp(a, b, n) : 0;

	return r ? r : (alen > blen) - (alen < blen);
}

/* page.c */

/* The newest valid meta page of an image; *@ret_other: the other one is valid too. -EBADMSG. */
int bolt_meta_find(const void *p, size_t n, struct bolt_meta *ret, bool *ret_other) _must_check_;
/* Fills a whole page of @page_size bytes with meta page @m->txid % 2. */
void bolt_meta_encode(const struct bolt_meta *m, uint8_t *page);
/* Looks at @n bytes that hold a page, with nothing after it. -EBADMSG. */
int bolt_page_parse(const uint8_t *p, size_t n, struct bolt_page *ret) _must_check_;
/* A branch or leaf page of the transaction's state. -EBADMSG. */
int bolt_page_get(const struct bolt_tx *tx, uint64_t id, struct bolt_page *ret) _must_check_;
/* Element @i, which must be below count. -EBADMSG. */
int bolt_page_elem(const struct bolt_page *pg, unsigned int i, struct bolt_elem *ret) _must_check_;
/* Root page, sequence and inline page (p = NULL when none) of a bucket's value. -EBADMSG. */
int bolt_bucket_decode(const struct bolt_elem *e, uint64_t *ret_root, uint64_t *ret_sequence,
		       struct bolt_page *ret_inline) _must_check_;

/* Calls @fn for the page and all below it, sub-buckets' pages too when @buckets; @fn returns < 0 to
 * stop. -EBADMSG. */
typedef int bolt_page_fn(const struct bolt_page *pg, void *arg);
int bolt_page_walk(const struct bolt_tx *tx, uint64_t id, bool buckets, bolt_page_fn *fn,
		   void *arg) _must_check_;

/* freelist.c: the writer only */

void bolt_freelist_done(struct bolt_freelist *f);
/* Room for pages below @n. */
int bolt_freelist_reserve(struct bolt_freelist *f, uint64_t n) _must_check_;
/* Fills an empty list from the transaction's free list page, or by walking the trees when there is
 * none or it is broken (tx->meta.freelist is none then). */
int bolt_freelist_load(struct bolt_freelist *f, struct bolt_tx *tx) _must_check_;
/* Marks in @bits the pages of the transaction's free list page, itself included. -EBADMSG. */
int bolt_freelist_read(const struct bolt_tx *tx, uint64_t *bits, uint64_t *ret_n) _must_check_;
/* Makes reusable what was given up by transactions before @txid. */
void bolt_freelist_release(struct bolt_freelist *f, uint64_t txid);
/* @n contiguous pages: free ones, or new ones at the end. */
int bolt_pages_take(struct bolt_tx *tx, uint64_t n, uint64_t *ret_id) _must_check_;
/* Gives up a page and its overflow at commit; -EBADMSG when it is free already. */
int bolt_pages_free(struct bolt_tx *tx, uint64_t id, uint32_t overflow) _must_check_;
/* Room to keep what the transaction gave up, so that bolt_freelist_commit() can not fail. */
int bolt_freelist_prepare(struct bolt_freelist *f) _must_check_;
void bolt_freelist_commit(struct bolt_tx *tx);
void bolt_freelist_rollback(struct bolt_tx *tx);
/* The list as a dirty page, tx->meta.freelist set. */
int bolt_freelist_write(struct bolt_tx *tx) _must_check_;

/* node.c */

struct bolt_node *bolt_node_new(struct bolt_tx *tx, bool leaf);
int bolt_node_read(struct bolt_tx *tx, const struct bolt_page *pg,
		   struct bolt_node **ret) _must_check_;
/* Child @i of a branch, made when it is not a node yet. */
int bolt_node_child(struct bolt_tx *tx, struct bolt_node *n, uint32_t i,
		    struct bolt_node **ret) _must_check_;
/* First item whose key is >= @key; *@ret_exact when equal. */
uint32_t bolt_node_search(const struct bolt_node *n, struct bolt_slice key, bool *ret_exact);
/* Sets an item of a leaf; key and value must live as long as the transaction. */
int bolt_node_put(struct bolt_tx *tx, struct bolt_node *n, struct bolt_slice key,
		  struct bolt_slice value, uint32_t flags) _must_check_;
void bolt_node_remove(struct bolt_node *n, uint32_t i);
uint64_t bolt_node_size(const struct bolt_node *n, uint32_t from, uint32_t to);
void bolt_node_encode(const struct bolt_node *n, uint32_t from, uint32_t to, uint64_t id,
		      uint32_t overflow, uint8_t *out);
/* Merges what became small below *@root; *@root is another node when the tree lost a level. */
int bolt_node_rebalance(struct bolt_tx *tx, struct bolt_node **root) _must_check_;
/* Writes the tree to new pages, gives up the old ones. */
int bolt_node_spill(struct bolt_tx *tx, struct bolt_node *root, uint64_t *ret_page) _must_check_;
/* Gives up all pages of the tree (not those of buckets in it). */
int bolt_node_free(struct bolt_tx *tx, const struct bolt_node *n) _must_check_;
int bolt_tree_free(struct bolt_tx *tx, uint64_t page) _must_check_;

/* bucket.c */

int bolt_ref_root(struct bolt_bucket *b, struct bolt_ref *ret) _must_check_;
int bolt_ref_child(struct bolt_bucket *b, const struct bolt_ref *r, unsigned int i,
		   struct bolt_ref *ret) _must_check_;
int bolt_ref_elem(const struct bolt_ref *r, unsigned int i, struct bolt_elem *ret) _must_check_;
/* Branch: where to descend for @key. Leaf: first item >= @key, may be the count. */
int bolt_ref_search(const struct bolt_ref *r, struct bolt_slice key, unsigned int *ret_i,
		    bool *ret_exact) _must_check_;
static inline unsigned int bolt_ref_count(const struct bolt_ref *r)
{
	return r->node ? r->node->n : r->page.count;
}
static inline bool bolt_ref_leaf(const struct bolt_ref *r)
{
	return r->node ? r->node->leaf : r->page.flags == BOLT_PAGE_LEAF;
}
/* Merges and writes out all changed buckets; sets root and sequence of tx->meta. */
int bolt_buckets_spill(struct bolt_tx *tx) _must_check_;

/* tx.c */

void *bolt_tx_alloc(struct bolt_tx *tx, size_t n); /* not cleared; NULL sets tx->err */
void *bolt_tx_memdup(struct bolt_tx *tx, const void *p, size_t n);
/* Remembers @r as the transaction's error; returns it. */
int bolt_tx_fail(struct bolt_tx *tx, int r);
/* A cleared buffer of whole pages that the commit writes at page @id. */
int bolt_tx_dirty(struct bolt_tx *tx, uint64_t id, uint64_t n, uint8_t **ret) _must_check_;

/* db.c */

/* A read-only database over bytes in memory, which must live longer. -EBADMSG. */
int bolt_open_image(const void *p, size_t n, struct bolt **ret) _must_check_;
/* Makes the file hold @m->hwm pages; *@ret_map is a mapping to publish with the commit, NULL when
 * the present one will do. */
int bolt_grow(struct bolt *db, const struct bolt_meta *m, struct bolt_map **ret_map) _must_check_;
void bolt_map_unref(struct bolt *db, struct bolt_map *m); /* db->lock held */
