/* SPDX-License-Identifier: Apache-2.0 */
/* A namespaced writer: the record v1/<namespace>/content/ingests/<ref> and a writer of the store
 * behind it, whose reference is
 * "<namespace>/<n>/<ref>". The number is drawn for each record anew, so that what ends for the
 * record before (an abort that is still removing, a writer that is still open) has no part in the
 * next.
 *
 * When the store has the expected blob already (another namespace's), there is no store's writer:
 * the client is told that all bytes are there, and a commit only makes the record. If it writes all
 * the same, a store's writer is opened that begins with the shared bytes.
 *
 * Order of a commit: the blob gets its name on the disk, then the record is written. Between the
 * two content_lock keeps the collector from the blob; a crash between them leaves a blob that the
 * next collection removes.
 */
#include <time.h>

#include "base/str.h"
#include "base/time.h"
#include "base/trace.h"
#include "core/content_internal.h"
#include "core/db_internal.h"
#include "core/lease.h"
#include "core/schema.h"
#include "protos.h"

#define INGEST_SECONDS (24 * 3600)
#define COPY_CHUNK (256 * 1024)
#define PUT_TRIES 200
#define PUT_WAIT_NS (20 * NSEC_PER_MSEC)

struct content_writer {
	struct db *db;
	char *ns, *ref, *backend_ref;
	struct digest shared;		/* "" when there is a store's writer */
	int64_t size;			/* of the shared blob */
	struct timespec started;	/* of a shared writer */
	struct content_store_writer *w; /* NULL while shared, and once committed */
	bool committed;
};

struct open_call {
	struct ctx *ctx;
	bool isolated;
	const char *ref;
	const char *expected;
	bool in_store; /* the store has @expected */
	bool exists;   /* so has the namespace */
	bool shared;   /* no data needed */
	bool lost;     /* the record is not the ingest's any more */
	const char *backend_ref;
};

/* ---- open ---- */

/* True when a namespace that shares its content has @digest. */
static int shareable(struct ctx *ctx, struct bolt_tx *tx, const char *digest, bool *ret)
{
	const char **names;
	size_t n;
	int rc = schema_keys(ctx->arena, schema_find(tx, NULL, 0), true, &names, &n);

	*ret = false;
	for (size_t i = 0; rc == 0 && i < n && !*ret; i++) {
		struct bolt_bucket *labels = SCHEMA_FIND(tx, names[i], "labels");
		struct bolt_slice v;

		*ret = labels && SCHEMA_FIND(tx, names[i], "content", "blob", digest) &&
		       bolt_get(labels, bolt_s("containerd.io/namespace.shareable"), &v) &&
		       v.len == 4 && memcmp(v.data, "true", 4) == 0;
	}
	return rc;
}

static int ingest_name(struct open_call *c, struct bolt_bucket *all, struct bolt_bucket *b)
{
	struct arena *a = c->ctx->arena;
	uint64_t seq;
	int rc = schema_get_str(a, b, "ref", &c->backend_ref);

	if (rc < 0 || *c->backend_ref)
		return rc;
	rc = bolt_next_sequence(all, &seq);
	if (rc < 0)
		return rc;
	c->backend_ref = arena_printf(a, "%s/%llu/%s", c->ctx->ns, (unsigned long long)seq, c->ref);
	return c->backend_ref ? schema_put_str(b, "ref", c->backend_ref) : -ENOMEM;
}

static int ingest_write(struct open_call *c, struct bolt_tx *tx, struct err *err)
{
	struct bolt_bucket *all, *b;
	struct timespec until = time_now();
	int rc = SCHEMA_MAKE(tx, &all, c->ctx->ns, "content", "ingests");

	if (rc == 0)
		rc = bolt_bucket_create_if_missing(all, bolt_s(c->ref), &b);
	if (rc == 0)
		rc = ingest_name(c, all, b);
	if (rc == 0)
		rc = c->shared ? schema_put_str(b, "expected", c->expected)
			       : bolt_delete(b, bolt_s("expected"));
	until.tv_sec += INGEST_SECONDS;
	if (rc == 0 && str_empty(c->ctx->lease))
		rc = schema_put_time(b, "expireat", until);
	if (rc < 0)
		return err_errno(err, rc, "write ingest %s", c->ref);
	return lease_tx_add(c->ctx, tx, "ingests", c->ref, err);
}

static int open_record(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct open_call *c = arg;

	c->exists = false;
	c->shared = false;
	if (*c->expected && content_tx_find(c->ctx, tx, c->expected)) {
		c->exists = true;
		return lease_tx_add(c->ctx, tx, "content", c->expected, err);
	}
	c->shared = c->in_store;
	if (c->shared && c->isolated && shareable(c->ctx, tx, c->expected, &c->shared) < 0)
		return err_nomem(err);
	return ingest_write(c, tx, err);
}

static struct content_writer *writer_new(struct db *db, const struct open_call *c)
{
	struct content_writer *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->db = db;
	w->ns = strdup(c->ctx->ns);
	w->ref = strdup(c->ref);
	w->backend_ref = strdup(c->backend_ref);
	if (!w->ns || !w->ref || !w->backend_ref) {
		content_writer_close(w);
		return NULL;
	}
	return w;
}

/* Whether the record is still the ingest's: whoever had the writer before may have committed or
 * aborted it after we looked. */
static int open_check(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct open_call *c = arg;
	struct bolt_bucket *b = SCHEMA_FIND(tx, c->ctx->ns, "content", "ingests", c->ref);
	const char *backend_ref = "";

	if (b && schema_get_str(c->ctx->arena, b, "ref", &backend_ref) < 0)
		return err_nomem(err);
	c->lost = !streq(backend_ref, c->backend_ref);
	return 0;
}

static int open_store_writer(struct open_call *c, struct db *db, int64_t total,
			     struct content_store_writer **ret, struct err *err)
{
	struct content_store *s = db->content;
	struct content_store_writer *w;
	int rc = s->ops->writer(c->ctx, s, c->backend_ref, total, c->expected, &w, err);

	if (rc < 0)
		return rc;
	rc = db_view(c->ctx, db, open_check, c, err);
	if (rc == 0 && !c->lost) {
		*ret = w;
		return 0;
	}
	if (rc == 0)
		(void)!s->ops->abort(c->ctx, s, c->backend_ref, NULL);
	w->ops->close(w);
	return rc;
}

/* One attempt; c->lost: there must be another. */
static int writer_open(struct open_call *c, struct db *db, int64_t total,
		       struct content_writer **ret, struct err *err)
{
	struct content_store *s = db->content;
	_cleanup_(content_writer_closep) struct content_writer *w = NULL;
	struct content_info shared = {0};
	int rc;

	{
		READ_GUARD(&db->content_lock);

		c->in_store =
			*c->expected && s->ops->info(c->ctx, s, c->expected, &shared, NULL) == 0;
		rc = db_update(c->ctx, db, open_record, c, err);
	}
	/* From here on the record keeps the ingest, or the blob that it shares. */
	if (rc < 0)
		return rc;
	if (c->exists)
		return err_set(err, ERR_ALREADY_EXISTS, "content %s", c->expected);
	w = writer_new(db, c);
	if (!w)
		return err_nomem(err);
	if (c->shared) {
		snprintf(w->shared.text, sizeof(w->shared.text), "%s", c->expected);
		w->size = shared.size;
		w->started = time_now();
	} else {
		rc = open_store_writer(c, db, total, &w->w, err);
	}
	if (rc == 0 && !c->lost)
		*ret = TAKE_PTR(w);
	return rc;
}

int content_writer_open(struct ctx *ctx, struct db *db, const char *ref, int64_t total,
			const char *expected, struct content_writer **ret, struct err *err)
{
	struct open_call c = {.ctx = ctx,
			      .isolated = db->content_isolated,
			      .ref = ref,
			      .expected = expected ? expected : ""};
	int rc = db_check_namespace(ctx, err);

	if (rc == 0 && str_empty(ref))
		rc = err_set(err, ERR_INVALID_ARGUMENT, "reference must not be empty");
	if (rc == 0 && *c.expected)
		rc = digest_validate(c.expected, err);
	if (rc < 0)
		return rc;
	do {
		c.lost = false;
		rc = writer_open(&c, db, total, ret, err);
	} while (rc == 0 && c.lost);
	return rc;
}

void content_writer_close(struct content_writer *w)
{
	if (!w)
		return;
	if (w->w)
		w->w->ops->close(w->w);
	free(w->ns);
	free(w->ref);
	free(w->backend_ref);
	free(w);
}

/* ---- write ---- */

static bool is_shared(const struct content_writer *w)
{
	return w->shared.text[0];
}

static int not_committed(const struct content_writer *w, struct err *err)
{
	return w->committed
		       ? err_set(err, ERR_FAILED_PRECONDITION, "writer of %s is closed", w->ref)
		       : 0;
}

int content_writer_status(struct content_writer *w, struct content_status *ret, struct err *err)
{
	int rc = not_committed(w, err);

	if (rc < 0)
		return rc;
	if (is_shared(w)) {
		*ret = (struct content_status){
			.offset = w->size,
			.total = w->size,
			.expected = w->shared.text,
			.started_at = w->started,
			.updated_at = w->started,
		};
	} else {
		rc = w->w->ops->status(w->w, ret, err);
	}
	if (rc == 0)
		ret->ref = w->ref;
	return rc;
}

static int copy_blob(struct ctx *ctx, struct content_writer *w, struct content_store_writer *to,
		     struct err *err)
{
	struct content_store *s = w->db->content;
	_cleanup_close_ int fd = -1;
	char *chunk = arena_alloc(ctx->arena, COPY_CHUNK);
	int64_t size;
	ssize_t n;
	int rc;

	if (!chunk)
		return err_nomem(err);
	rc = s->ops->open(ctx, s, w->shared.text, &fd, &size, err);
	while (rc == 0) {
		n = read(fd, chunk, COPY_CHUNK);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(err, errno, "read content %s", w->shared.text);
		if (n == 0)
			break;
		rc = to->ops->write(to, chunk, (size_t)n, err);
	}
	return rc;
}

/* The ingest's record, NULL when it is gone: one of the same reference may be somebody else's. */
static struct bolt_bucket *own_record(struct bolt_tx *tx, const struct content_writer *w)
{
	struct bolt_bucket *b = SCHEMA_FIND(tx, w->ns, "content", "ingests", w->ref);
	struct bolt_slice ref;

	return b && bolt_get(b, bolt_s("ref"), &ref) && ref.len == strlen(w->backend_ref) &&
			       memcmp(ref.data, w->backend_ref, ref.len) == 0
		       ? b
		       : NULL;
}

static int unshare_record(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct content_writer *w = arg;
	struct bolt_bucket *b = own_record(tx, w);
	int rc = b ? bolt_delete(b, bolt_s("expected")) : -ENOENT;

	return rc < 0 ? err_errno(err, rc, "write ingest %s", w->ref) : 0;
}

/* From a shared blob to data of its own, with or without the bytes that were shared. */
static int writer_unshare(struct content_writer *w, bool keep, struct err *err)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	struct ctx ctx = {.arena = a, .ns = w->ns, .lease = ""};
	struct content_store *s = w->db->content;
	struct content_store_writer *sw;
	int rc;

	if (!a)
		return err_nomem(err);
	READ_GUARD(&w->db->content_lock);

	rc = s->ops->writer(&ctx, s, w->backend_ref, 0, w->shared.text, &sw, err);
	if (rc < 0)
		return rc;
	rc = sw->ops->truncate(sw, 0, err);
	if (rc == 0 && keep)
		rc = copy_blob(&ctx, w, sw, err);
	if (rc == 0)
		rc = db_update_always(w->db, unshare_record, w, err);
	if (rc < 0) {
		sw->ops->close(sw);
		return rc;
	}
	w->w = sw;
	w->shared.text[0] = 0;
	return 0;
}

int content_writer_write(struct content_writer *w, const void *p, size_t n, struct err *err)
{
	int rc = not_committed(w, err);

	if (rc < 0 || n == 0)
		return rc;
	if (is_shared(w))
		rc = writer_unshare(w, true, err);
	return rc < 0 ? rc : w->w->ops->write(w->w, p, n, err);
}

int content_writer_truncate(struct content_writer *w, struct err *err)
{
	int rc = not_committed(w, err);

	if (rc < 0)
		return rc;
	return is_shared(w) ? writer_unshare(w, false, err) : w->w->ops->truncate(w->w, 0, err);
}

int content_writer_digest(struct content_writer *w, struct digest *ret, struct err *err)
{
	int rc = not_committed(w, err);

	if (rc < 0)
		return rc;
	if (!is_shared(w))
		return w->w->ops->digest(w->w, ret, err);
	*ret = w->shared;
	return 0;
}

int content_writer_data_fd(struct content_writer *w, struct err *err)
{
	int rc = not_committed(w, err);

	if (rc == 0 && is_shared(w))
		rc = writer_unshare(w, true, err);
	return rc < 0 ? rc : w->w->ops->data_fd(w->w, err);
}

/* ---- commit ---- */

struct commit_call {
	struct ctx *ctx;
	struct content_writer *w;
	const char *digest;
	int64_t size;
	const struct labels *labels;
	bool exists;
};

/* Also when the namespace has it already: the ingest ends and the lease holds the blob. */
static int commit_record(struct bolt_tx *tx, void *arg, struct err *err)
{
	struct commit_call *c = arg;
	int rc;

	c->exists = content_tx_find(c->ctx, tx, c->digest) != NULL;
	rc = c->exists ? 0 : content_tx_create(c->ctx, tx, c->digest, c->size, c->labels, err);
	if (rc == 0 && own_record(tx, c->w))
		rc = content_tx_forget_ingest(c->ctx, tx, c->w->ref, err);
	return rc < 0 ? rc : lease_tx_add(c->ctx, tx, "content", c->digest, err);
}

/* Has the blob in the store, its digest and size known. */
static int commit_blob(struct ctx *ctx, struct content_writer *w, int64_t size,
		       const char *expected, struct digest *ret, int64_t *ret_size, struct err *err)
{
	struct content_store *s = w->db->content;
	struct content_status st;
	struct content_info i;
	int rc = content_writer_status(w, &st, err);

	if (rc < 0)
		return rc;
	if (size > 0 && size != st.offset)
		return err_set(err, ERR_FAILED_PRECONDITION,
			       "\"%s\" failed size validation: %lld != %lld", w->ref,
			       (long long)st.offset, (long long)size);
	*ret_size = st.offset;
	rc = content_writer_digest(w, ret, err);
	if (rc < 0)
		return rc;
	if (is_shared(w)) {
		if (*expected && !streq(expected, ret->text))
			return err_set(err, ERR_FAILED_PRECONDITION,
				       "unexpected commit digest %s, expected %s", ret->text,
				       expected);
		return s->ops->info(ctx, s, ret->text, &i, err);
	}
	/* It may be there already, from another namespace: as good. */
	if (*expected)
		snprintf(ret->text, sizeof(ret->text), "%s", expected);
	rc = w->w->ops->commit(w->w, size, expected, ret, err);
	return rc == -ERR_ALREADY_EXISTS ? 0 : rc;
}

static void publish_create(struct ctx *ctx, struct db *db, const char *digest, int64_t size)
{
	Containerd__Events__ContentCreate e = CONTAINERD__EVENTS__CONTENT_CREATE__INIT;

	e.digest = (char *)digest;
	e.size = size;
	db_publish(ctx, db, "/content/create", &e.base);
}

/* Most of the waiting for the disk, before a lock is taken; whether it worked is asked by the
 * commit. */
static void sync_early(struct content_writer *w)
{
	int fd = is_shared(w) ? -1 : w->w->ops->data_fd(w->w, NULL);

	if (fd >= 0)
		(void)fdatasync(fd);
}

int content_writer_commit(struct ctx *ctx, struct content_writer *w, int64_t size,
			  const char *expected, const struct labels *labels, struct digest *ret,
			  struct err *err)
{
	static const struct labels none;
	struct commit_call c = {.ctx = ctx, .w = w, .labels = labels ? labels : &none};
	TRACE_SPAN("content", "commit", "digest", expected);
	struct digest d;
	int rc = db_check_namespace(ctx, err);

	if (rc == 0)
		rc = not_committed(w, err);
	if (rc == 0 && !str_empty(expected))
		rc = digest_validate(expected, err);
	if (rc < 0)
		return rc;
	if (labels_validate(c.labels, err) < 0)
		return err_prefix(err, "info.Labels");
	sync_early(w);
	{
		READ_GUARD(&w->db->content_lock);

		rc = commit_blob(ctx, w, size, expected ? expected : "", &d, &c.size, err);
		if (rc < 0)
			return rc;
		c.digest = d.text;
		/* The blob is in its place: a request that was canceled now ends with its record.
		 */
		rc = db_update_always(w->db, commit_record, &c, err);
	}
	w->committed = true;
	if (w->w) {
		w->w->ops->close(w->w);
		w->w = NULL;
	}
	if (rc < 0) {
		w->db->content_dirty = true;
		db_mark_dirty(w->db, true);
		return rc;
	}
	if (c.exists)
		return err_set(err, ERR_ALREADY_EXISTS, "content %s", d.text);
	publish_create(ctx, w->db, d.text, c.size);
	*ret = d;
	return 0;
}

/* ---- in one go ---- */

static int put_labels(struct ctx *ctx, struct db *db, const char *digest,
		      const struct labels *labels, struct err *err)
{
	struct content_info in = {.digest = digest}, out;
	char **paths;

	if (!labels || !labels->n)
		return 0;
	in.labels = *labels;
	paths = arena_new_array(ctx->arena, char *, labels->n);
	if (!paths)
		return err_nomem(err);
	for (size_t i = 0; i < labels->n; i++) {
		paths[i] = arena_printf(ctx->arena, "labels.%s", labels->v[i].key);
		if (!paths[i])
			return err_nomem(err);
	}
	return content_update(ctx, db, &in, paths, labels->n, &out, err);
}

/* Waits for whoever writes the same reference at this moment. */
static int put_open(struct ctx *ctx, struct db *db, const char *ref, const struct descriptor *d,
		    struct content_writer **ret, struct err *err)
{
	const struct timespec wait = {.tv_nsec = PUT_WAIT_NS};
	int rc;

	for (int i = 0; i < PUT_TRIES; i++) {
		rc = content_writer_open(ctx, db, ref, d->size, d->digest, ret, err);
		if (rc != -ERR_UNAVAILABLE)
			return rc;
		rc = ctx_check(ctx, err);
		if (rc < 0)
			return rc;
		nanosleep(&wait, NULL);
	}
	return err_set(err, ERR_UNAVAILABLE, "ref %s is locked", ref);
}

int content_put(struct ctx *ctx, struct db *db, const char *ref, const struct descriptor *d,
		const void *p, const struct labels *labels, struct err *err)
{
	_cleanup_(content_writer_closep) struct content_writer *w = NULL;
	struct digest digest;
	int rc = put_open(ctx, db, ref, d, &w, err);

	if (rc == -ERR_ALREADY_EXISTS)
		return put_labels(ctx, db, d->digest, labels, err);
	if (rc < 0)
		return rc;
	if (!is_shared(w)) {
		rc = content_writer_truncate(w, err);
		if (rc == 0)
			rc = content_writer_write(w, p, (size_t)d->size, err);
		if (rc < 0)
			return rc;
	}
	rc = content_writer_commit(ctx, w, d->size, d->digest, labels, &digest, err);
	return rc == -ERR_ALREADY_EXISTS ? put_labels(ctx, db, d->digest, labels, err) : rc;
}
