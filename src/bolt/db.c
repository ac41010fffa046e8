/* SPDX-License-Identifier: Apache-2.0 */
/* The file: opened, locked, mapped for reading, written with pwrite().
 *
 * A mapping reserves more than the file has, so that growing seldom needs a new one (sizes double
 * from 32 KiB to 1 GiB, then go in steps of 1 GiB); only what is below the high water mark of a
 * meta is touched, and that is never beyond the end of the file. Transactions hold a reference to
 * the mapping that they began with: who reads never waits for a larger one, and never sees it move.
 *
 * A new file has both meta pages, an empty free list and an empty root. A file of nothing but
 * zeroes, which a crash during its creation leaves, is a new file too.
 */
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/time.h"
#include "bolt/internal.h"

#define LOCK_RETRY_NS (50 * NSEC_PER_MSEC)
#define FRESH_PAGES 4

static uint64_t round_up(uint64_t n, uint64_t step)
{
	return (n + step - 1) / step * step;
}

/* Bytes to map for a file of @need bytes. */
static uint64_t map_size(uint64_t need)
{
	uint64_t n = BOLT_MAP_MIN;

	while (n < need && n < BOLT_MAP_STEP)
		n *= 2;
	return need <= n ? n : round_up(need, BOLT_MAP_STEP);
}

static int map_new(int fd, uint64_t size, struct bolt_map **ret)
{
	_cleanup_free_ struct bolt_map *m = NULL;
	void *p;

	if (size > SIZE_MAX / 2)
		return -EFBIG;
	m = calloc(1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	p = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	*m = (struct bolt_map){.p = p, .size = size, .refs = 1, .owned = true};
	*ret = TAKE_PTR(m);
	return 0;
}

void bolt_map_unref(struct bolt *db, struct bolt_map *m)
{
	(void)db;
	if (--m->refs > 0)
		return;
	if (m->owned)
		munmap((void *)(uintptr_t)m->p, m->size);
	free(m);
}

int bolt_grow(struct bolt *db, const struct bolt_meta *m, struct bolt_map **ret_map)
{
	uint64_t need = m->hwm * m->page_size, size;
	int r;

	if (need > INT64_MAX / 2)
		return -EFBIG;
	if (need > db->map->size) {
		r = map_new(db->fd, map_size(need), ret_map);
		if (r < 0)
			return r;
	}
	if (need <= db->file_size)
		return 0;
	size = map_size(need);
	if (size > BOLT_GROW_STEP)
		size = round_up(need, BOLT_GROW_STEP);
	/* Room ahead, so that things can be deleted on a disk that has filled up. Where there is
	 * none the file gets what it needs, the next growth asks again, and what was found of it is
	 * given back; whether there is that much the write tells. */
	if (fallocate(db->fd, 0, (off_t)db->file_size, (off_t)(size - db->file_size)) < 0 &&
	    errno != EOPNOTSUPP)
		size = need;
	/* The sync before the meta page makes the new size durable too. */
	if (ftruncate(db->fd, (off_t)size) < 0)
		return -errno;
	db->file_size = size;
	return 0;
}

static int db_lock(int fd, const struct bolt_options *o)
{
	int how = o->read_only ? LOCK_SH : LOCK_EX;
	int64_t end = time_mono() + o->lock_timeout_ns;

	for (;;) {
		struct timespec wait = {.tv_nsec = LOCK_RETRY_NS};
		int64_t left;

		if (flock(fd, how | (o->lock_timeout_ns > 0 ? LOCK_NB : 0)) == 0)
			return 0;
		if (errno == EINTR)
			continue;
		if (errno != EWOULDBLOCK)
			return -errno;
		left = end - time_mono();
		if (left <= 0)
			return -ETIMEDOUT;
		wait.tv_nsec = MIN(wait.tv_nsec, left);
		(void)nanosleep(&wait, NULL);
	}
}

/* A new file, or one whose creation was cut short: nothing but zeroes in it, and not more than a
 * new file has. */
static int file_blank(int fd, uint64_t size, bool *ret)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	_cleanup_free_ uint8_t *p = NULL;
	ssize_t n;

	*ret = size == 0;
	if (size == 0 || size > FRESH_PAGES * page)
		return 0;
	p = malloc(FRESH_PAGES * page);
	if (!p)
		return -ENOMEM;
	n = fd_pread_full(fd, p, FRESH_PAGES * page, 0);
	if (n < 0)
		return (int)n;
	*ret = true;
	for (ssize_t i = 0; i < n; i++)
		*ret = *ret && p[i] == 0;
	return 0;
}

static int parent_sync(const char *path)
{
	_cleanup_free_ char *dir = strdup(path);
	char *slash;

	if (!dir)
		return -ENOMEM;
	slash = strrchr(dir, '/');
	if (slash)
		slash[slash == dir ? 1 : 0] = '\0';
	return dir_sync(AT_FDCWD, slash ? dir : ".");
}

static int file_init(int fd, const char *path, bool sync)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	_cleanup_free_ uint8_t *p = calloc(FRESH_PAGES, page);
	struct bolt_meta m = {
		.page_size = (uint32_t)page, .root = 3, .freelist = 2, .hwm = FRESH_PAGES};
	int r;

	if (!p)
		return -ENOMEM;
	for (m.txid = 0; m.txid < 2; m.txid++)
		bolt_meta_encode(&m, p + m.txid * page);
	bolt_put64(p + 2 * page, 2);
	bolt_put16(p + 2 * page + 8, BOLT_PAGE_FREELIST);
	bolt_put64(p + 3 * page, 3);
	bolt_put16(p + 3 * page + 8, BOLT_PAGE_LEAF);
	r = fd_pwrite_full(fd, p, FRESH_PAGES * page, 0);
	if (r == 0 && sync)
		r = fsync(fd) == 0 ? parent_sync(path) : -errno;
	return r;
}

static void db_init(struct bolt *db)
{
	*db = (struct bolt){.fd = -1};
	pthread_mutex_init(&db->writer, NULL);
	pthread_mutex_init(&db->lock, NULL);
	pthread_mutex_init(&db->queue_lock, NULL);
	db->queue_end = &db->queue;
}

void bolt_close(struct bolt *db)
{
	if (!db)
		return;
	if (db->map)
		bolt_map_unref(db, db->map);
	bolt_freelist_done(&db->freelist);
	if (db->fd >= 0)
		close(db->fd);
	pthread_mutex_destroy(&db->writer);
	pthread_mutex_destroy(&db->lock);
	pthread_mutex_destroy(&db->queue_lock);
	free(db);
}

/* Takes the newest state of the image of @size bytes that db->map holds. */
static int db_read_meta(struct bolt *db, uint64_t size)
{
	struct bolt_meta *m = &db->meta;
	bool other;
	int r;

	r = bolt_meta_find(db->map->p, size, m, &other);
	if (r < 0)
		return r;
	if (m->hwm < 3 || m->hwm > size / m->page_size || m->root < 2 || m->root >= m->hwm)
		return -EBADMSG;
	db->page_size = m->page_size;
	db->file_size = size;
	return 0;
}

static int db_load_freelist(struct bolt *db)
{
	struct bolt_tx tx = {.db = db, .map = db->map, .meta = db->meta};
	int r;

	r = bolt_freelist_load(&db->freelist, &tx);
	if (r < 0)
		return r;
	/* When it was not from the file, the list's page is among the free ones. */
	db->meta.freelist = tx.meta.freelist;
	return 0;
}

static int db_open_file(struct bolt *db, const char *path)
{
	const struct bolt_options *o = &db->o;
	struct stat st;
	bool blank;
	int r;

	db->fd = open(path, (o->read_only ? O_RDONLY : O_RDWR | O_CREAT) | O_CLOEXEC | O_NOCTTY,
		      o->mode ? o->mode : 0600);
	if (db->fd < 0)
		return -errno;
	r = db_lock(db->fd, o);
	if (r < 0)
		return r;
	if (fstat(db->fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	r = file_blank(db->fd, (uint64_t)st.st_size, &blank);
	if (r < 0)
		return r;
	if (blank) {
		if (o->read_only)
			return -EBADMSG;
		r = file_init(db->fd, path, !o->no_sync);
		if (r < 0)
			return r;
		if (fstat(db->fd, &st) < 0)
			return -errno;
	}
	if ((uint64_t)st.st_size > INT64_MAX / 2)
		return -EFBIG;
	r = map_new(db->fd, map_size((uint64_t)st.st_size), &db->map);
	if (r == 0)
		r = db_read_meta(db, (uint64_t)st.st_size);
	if (r == 0 && !o->read_only)
		r = db_load_freelist(db);
	return r;
}

int bolt_open(const char *path, const struct bolt_options *o, struct bolt **ret)
{
	_cleanup_(bolt_closep) struct bolt *db = malloc(sizeof(*db));
	int r;

	if (!db)
		return -ENOMEM;
	db_init(db);
	if (o)
		db->o = *o;
	r = db_open_file(db, path);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(db);
	return 0;
}

int bolt_open_image(const void *p, size_t n, struct bolt **ret)
{
	_cleanup_(bolt_closep) struct bolt *db = malloc(sizeof(*db));
	int r;

	if (!db)
		return -ENOMEM;
	db_init(db);
	db->o.read_only = true;
	db->map = calloc(1, sizeof(*db->map));
	if (!db->map)
		return -ENOMEM;
	*db->map = (struct bolt_map){.p = p, .size = n, .refs = 1};
	r = db_read_meta(db, n);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(db);
	return 0;
}

/* The mapping's reference is held meanwhile; its pages may be read at any moment. */
void bolt_trim(struct bolt *db)
{
	struct bolt_map *m;

	pthread_mutex_lock(&db->lock);
	m = db->map;
	m->refs++;
	pthread_mutex_unlock(&db->lock);
	if (m->owned)
		(void)madvise((void *)(uintptr_t)m->p, m->size, MADV_DONTNEED);
	pthread_mutex_lock(&db->lock);
	bolt_map_unref(db, m);
	pthread_mutex_unlock(&db->lock);
}
