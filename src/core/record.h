/* SPDX-License-Identifier: Apache-2.0 */
/* Records of one kind: what containers, images, leases, sandboxes, blobs and snapshots have in
 * common.
 *
 * A kind is a table. Of each field it says where the record's bucket keeps it, which member of the
 * struct holds it, and how clients name it in filters and field masks; reading, writing, filtering
 * and updating follow from that. What differs (validation, leases, texts) are functions of the
 * kind. The tables have no pointers to relocate but those functions.
 *
 * For core's own files. Everything that takes a transaction runs on its thread; the calls that take
 * a struct db need ctx's namespace, and their results live in ctx's arena.
 */
#pragma once

#include <stddef.h>

#include "core/db.h"
#include "core/filter.h"

enum record_type {
	RECORD_STR, /* what a field is that names no type */
	RECORD_INT,
	RECORD_CREATED, /* a time, written where a record is made */
	RECORD_UPDATED, /* a time, written at each change */
	RECORD_LABELS,
	RECORD_ANY,
	RECORD_ANY_MAP, /* writing leaves entries alone that are not named */
};

struct record_field {
	char bucket[8]; /* within the record's; "" = the record's own. Those of one come together */
	char key[12];	/* also what filters call it, behind bucket */
	char mask[12];	/* path that sets it (of a map also PATH.KEY); "" = it never changes */
	char group[8];	/* another path that sets it, together with others */
	char immutable[16]; /* what an update of all must not change, as the error calls it */
	uint8_t type;
	bool filter;
	uint16_t offset, count; /* of the member, and of a RECORD_ANY_MAP's number of entries */
};

#define RECORD_AT(type, member) .offset = offsetof(struct type, member)

/* What a call looked for that is not there. */
enum record_step { RECORD_GET, RECORD_UPDATE, RECORD_DELETE };

struct record_kind {
	char bucket[2][12]; /* below the namespace's */
	char noun[16];	    /* in errors: `container "x"` */
	char key[8];	    /* what filters call the key of a record */
	char mask_noun[16]; /* the same for `cannot update "f" field on NOUN"x"` */
	bool unquoted;	    /* errors have the key without quotes */
	uint16_t size, key_offset;
	uint16_t n_fields;
	const struct record_field *fields;
	/* All that follow may be NULL. */
	int (*validate)(const void *rec, struct err *err);
	/* Instead of `NOUN "key"`; @any: the bucket of the kind is there. */
	int (*not_found)(struct ctx *ctx, enum record_step step, bool any, const char *key,
			 struct err *err);
	/* @rec was written, over @old (NULL = it is new). @arg as given to the call. */
	int (*stored)(struct ctx *ctx, struct bolt_tx *tx, const void *old, const void *rec,
		      void *arg, struct err *err);
	/* The record in @b is about to be deleted. */
	int (*removing)(struct ctx *ctx, struct bolt_tx *tx, struct bolt_bucket *b, const char *key,
			const void *arg, struct err *err);
	/* It is gone, and the collector is about to be told. */
	void (*removed)(struct db *db);
};

/* What is asked for. */
struct record_change {
	const void *in;	    /* the record as the client has it */
	char *const *paths; /* of an update; n 0 = all that may change */
	size_t n_paths;
	struct timespec when; /* zero = now */
	void *arg;	      /* the kind's own */
};

int record_get(struct ctx *ctx, struct db *db, const struct record_kind *k, const char *key,
	       void *ret, struct err *err) _must_check_;
/* @ret_v: the address of a pointer to the kind's struct, which becomes an array. */
int record_list(struct ctx *ctx, struct db *db, const struct record_kind *k, const struct filter *f,
		void *ret_v, size_t *ret_n, struct err *err) _must_check_;
/* @ret is read back from the record, so the client sees what is stored. Does not validate. */
int record_create(struct ctx *ctx, struct db *db, const struct record_kind *k,
		  const struct record_change *ch, void *ret, struct err *err) _must_check_;
/* Applies the mask and validates; the same of @ret. */
int record_update(struct ctx *ctx, struct db *db, const struct record_kind *k,
		  const struct record_change *ch, void *ret, struct err *err) _must_check_;
/* Also tells the collector. */
int record_delete(struct ctx *ctx, struct db *db, const struct record_kind *k, const char *key,
		  const void *arg, struct err *err) _must_check_;

/* ---- parts of these ---- */

/* The bucket of a record of the kind; NULL when absent. */
struct bolt_bucket *record_tx_find(struct ctx *ctx, struct bolt_tx *tx, const struct record_kind *k,
				   const char *key);
int record_tx_create(struct ctx *ctx, struct bolt_tx *tx, const struct record_kind *k,
		     const struct record_change *ch, struct err *err) _must_check_;
int record_tx_delete(struct ctx *ctx, struct bolt_tx *tx, const struct record_kind *k,
		     const char *key, const void *arg, struct err *err) _must_check_;

/* 0 or -errno; @b NULL is -ENOMEM: what bolt_bucket() gives for a bucket that is there. */
int record_read(struct arena *a, const struct record_kind *k, struct bolt_bucket *b,
		const char *key, void *ret);

/* Sets in @to what @paths name of @from, then validates. */
int record_mask(struct arena *a, const struct record_kind *k, void *to, const void *from,
		char *const *paths, size_t n, struct err *err) _must_check_;

/* A filter_field_fn's answer. */
const char *record_field(const struct record_kind *k, const void *rec, const char *const *path,
			 size_t n);
