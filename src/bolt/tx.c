/* SPDX-License-Identifier: Apache-2.0 */
/* Transactions.
 *
 * A reader takes the meta and a reference to the mapping as they are, and its place in the list
 * that keeps pages from being reused. A writer works on nodes in its arena; nothing is in the file
 * before the commit, which
 *
 *   1. merges and splits nodes and lays them out on pages that neither meta page's tree contains,
 *   2. lays out the free list, unless it is not kept in the file,
 *   3. makes the file longer when pages were added at its end,
 *   4. writes the pages in ascending order and syncs,
 *   5. writes meta page txid % 2 and syncs,
 *   6. publishes the new meta.
 *
 * A failure up to 4 leaves the file as it was. When 5 fails nobody knows which state the disk will
 * have after a power cut, so nothing more is written until the file has been opened anew.
 */
#include <sys/uio.h>

#include "base/fd.h"
#include "base/trace.h"
#include "bolt/internal.h"

#define IOV_RUN 64

void *bolt_tx_alloc(struct bolt_tx *tx, size_t n)
{
	void *p = NULL;

	if (!tx->arena)
		tx->arena = arena_new(0);
	if (tx->arena)
		p = arena_alloc(tx->arena, n ? n : 1);
	if (!p)
		bolt_tx_fail(tx, -ENOMEM);
	return p;
}

void *bolt_tx_memdup(struct bolt_tx *tx, const void *p, size_t n)
{
	void *copy = bolt_tx_alloc(tx, n);

	if (copy && n)
		memcpy(copy, p, n);
	return copy;
}

int bolt_tx_fail(struct bolt_tx *tx, int r)
{
	if (tx->err == 0)
		tx->err = r;
	return r;
}

int bolt_tx_dirty(struct bolt_tx *tx, uint64_t id, uint64_t n, uint8_t **ret)
{
	uint64_t size = n * tx->meta.page_size;
	uint8_t *p;

	if (n == 0 || size / n != tx->meta.page_size)
		return -EFBIG;
	if (tx->n_dirty == tx->cap_dirty) {
		size_t cap = MAX((size_t)32, tx->cap_dirty * 2);
		struct bolt_dirty *d = reallocarray(tx->dirty, cap, sizeof(*d));

		if (!d)
			return -ENOMEM;
		tx->dirty = d;
		tx->cap_dirty = cap;
	}
	p = bolt_tx_alloc(tx, size);
	if (!p)
		return -ENOMEM;
	memset(p, 0, size);
	tx->dirty[tx->n_dirty++] = (struct bolt_dirty){id, size, p};
	*ret = p;
	return 0;
}

/* Takes the present state. db->writer is held when @writable. */
static void tx_attach(struct bolt_tx *tx)
{
	struct bolt *db = tx->db;
	uint64_t oldest;

	pthread_mutex_lock(&db->lock);
	tx->map = db->map;
	tx->map->refs++;
	tx->meta = db->meta;
	oldest = db->meta.txid;
	if (!tx->writable) {
		tx->next = db->readers;
		if (tx->next)
			tx->next->prev = tx;
		db->readers = tx;
	} else {
		for (const struct bolt_tx *t = db->readers; t; t = t->next)
			oldest = MIN(oldest, t->meta.txid);
	}
	pthread_mutex_unlock(&db->lock);
	if (tx->writable) {
		bolt_freelist_release(&db->freelist, oldest);
		tx->meta.txid++;
	}
	tx->root = (struct bolt_bucket){
		.tx = tx, .root = tx->meta.root, .sequence = tx->meta.sequence};
}

int bolt_begin(struct bolt *db, bool writable, struct bolt_tx **ret)
{
	struct bolt_tx *tx;

	if (writable && db->o.read_only)
		return -EROFS;
	tx = calloc(1, sizeof(*tx));
	if (!tx)
		return -ENOMEM;
	tx->db = db;
	tx->writable = writable;
	if (writable) {
		pthread_mutex_lock(&db->writer);
		if (db->broken) {
			int r = db->broken;

			pthread_mutex_unlock(&db->writer);
			free(tx);
			return r;
		}
	}
	tx_attach(tx);
	*ret = tx;
	return 0;
}

/* After rollback or commit. */
static void tx_end(struct bolt_tx *tx)
{
	struct bolt *db = tx->db;

	pthread_mutex_lock(&db->lock);
	if (!tx->writable) {
		if (tx->prev)
			tx->prev->next = tx->next;
		else
			db->readers = tx->next;
		if (tx->next)
			tx->next->prev = tx->prev;
	}
	bolt_map_unref(db, tx->map);
	pthread_mutex_unlock(&db->lock);
	if (tx->writable)
		pthread_mutex_unlock(&db->writer);
	if (tx->arena)
		arena_free(tx->arena);
	free(tx->freed.v);
	free(tx->taken);
	free(tx->dirty);
	free(tx);
}

void bolt_rollback(struct bolt_tx *tx)
{
	if (!tx)
		return;
	if (tx->writable)
		bolt_freelist_rollback(tx);
	tx_end(tx);
}

static int dirty_cmp(const void *a, const void *b)
{
	const struct bolt_dirty *x = a, *y = b;

	return (x->id > y->id) - (x->id < y->id);
}

/* Writes @n buffers that follow each other in the file. */
static int run_write(int fd, const struct bolt_dirty *d, size_t n, off_t off)
{
	struct iovec iov[IOV_RUN];
	size_t total = 0;
	ssize_t done;
	int r = 0;

	for (size_t i = 0; i < n; i++) {
		iov[i] = (struct iovec){d[i].p, d[i].size};
		total += d[i].size;
	}
	done = pwritev(fd, iov, (int)n, off);
	if (done == (ssize_t)total)
		return 0;
	/* Interrupted, short or failed: again one by one, which tells why. */
	for (size_t i = 0; i < n && r == 0; i++) {
		r = fd_pwrite_full(fd, d[i].p, d[i].size, off);
		off += (off_t)d[i].size;
	}
	return r;
}

static int tx_write_pages(struct bolt_tx *tx)
{
	uint64_t size = tx->meta.page_size;
	struct bolt_dirty *d = tx->dirty;
	int r;

	qsort(d, tx->n_dirty, sizeof(*d), dirty_cmp);
	for (size_t i = 0, n; i < tx->n_dirty; i += n) {
		for (n = 1; n < IOV_RUN && i + n < tx->n_dirty; n++)
			if (d[i + n].id != d[i + n - 1].id + d[i + n - 1].size / size)
				break;
		r = run_write(tx->db->fd, d + i, n, (off_t)(d[i].id * size));
		if (r < 0)
			return r;
	}
	return 0;
}

static int tx_sync(const struct bolt_tx *tx)
{
	TRACE_SPAN("bolt", "sync");

	return tx->db->o.no_sync || fdatasync(tx->db->fd) == 0 ? 0 : -errno;
}

static int tx_write_freelist(struct bolt_tx *tx)
{
	struct bolt_meta *m = &tx->meta;
	int r;

	if (m->freelist != BOLT_NO_FREELIST) {
		const uint8_t *p = tx->map->p + m->freelist * m->page_size;

		r = bolt_pages_free(tx, m->freelist, bolt_get32(p + 12));
		if (r < 0)
			return r;
		m->freelist = BOLT_NO_FREELIST;
	}
	r = bolt_freelist_prepare(&tx->db->freelist);
	return r < 0 || tx->db->o.no_freelist_sync ? r : bolt_freelist_write(tx);
}

static int tx_write_meta(struct bolt_tx *tx)
{
	uint32_t size = tx->meta.page_size;
	uint8_t *p = bolt_tx_alloc(tx, size);
	int r;

	if (!p)
		return -ENOMEM;
	bolt_meta_encode(&tx->meta, p);
	r = fd_pwrite_full(tx->db->fd, p, size, (off_t)(tx->meta.txid % 2 * size));
	if (r == 0)
		r = tx_sync(tx);
	if (r < 0)
		tx->db->broken = r;
	return r;
}

static void tx_publish(struct bolt_tx *tx, struct bolt_map *map)
{
	struct bolt *db = tx->db;

	bolt_freelist_commit(tx);
	pthread_mutex_lock(&db->lock);
	db->meta = tx->meta;
	if (map) {
		bolt_map_unref(db, db->map);
		db->map = map;
	}
	pthread_mutex_unlock(&db->lock);
}

int bolt_commit(struct bolt_tx *tx)
{
	struct bolt_map *map = NULL;
	TRACE_SPAN("bolt", tx->changed ? "commit" : "nothing to commit");
	int r = tx->err;

	if (!tx->writable)
		r = -EROFS;
	if (r < 0 || !tx->changed) {
		bolt_rollback(tx);
		return r;
	}
	r = bolt_buckets_spill(tx);
	if (r == 0)
		r = tx->err;
	if (r == 0)
		r = tx_write_freelist(tx);
	if (r == 0)
		r = bolt_grow(tx->db, &tx->meta, &map);
	if (r == 0)
		r = tx_write_pages(tx);
	if (r == 0)
		r = tx_sync(tx);
	if (r == 0)
		r = tx_write_meta(tx);
	if (r < 0) {
		if (map) {
			pthread_mutex_lock(&tx->db->lock);
			bolt_map_unref(tx->db, map);
			pthread_mutex_unlock(&tx->db->lock);
		}
		bolt_rollback(tx);
		return r;
	}
	tx_publish(tx, map);
	tx_end(tx);
	return 0;
}

bool bolt_writable(const struct bolt_tx *tx)
{
	return tx->writable;
}
