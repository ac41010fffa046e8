/* SPDX-License-Identifier: Apache-2.0 */
/* Records of meta.db: how a value becomes bytes, and which bucket it lies in.
 *
 *     v1 / <namespace> / images | containers | snapshots | content | leases | sandboxes / ...
 *
 *     varint   zig-zag LEB128 (Go's binary.PutVarint)
 *     time     Go's time.MarshalBinary: version 1, big-endian seconds since year 1, nanoseconds,
 * zone -1 = UTC string   raw bytes labels   a bucket, one key an entry; empty values are not
 * stored, an empty map has no bucket any      google.protobuf.Any as protobuf
 *
 * For the files of core that keep records (and for stores that keep theirs in the same file).
 * Functions that return int give 0 or -errno, unless they take a struct err. What is read is copied
 * into the arena; a value that is absent or damaged reads as empty. Everything here runs inside of
 * a transaction and on its thread.
 */
#pragma once

#include <stdint.h>
#include <time.h>

#include "base/ctx.h"
#include "base/labels.h"
#include "bolt/bolt.h"
#include "core/container.h" /* struct any */

#define SCHEMA_VERSION 4

#define SCHEMA_TIME_MAX 16
#define SCHEMA_VARINT_MAX 10

/* Encodings; sizes in bytes, 0 from a decoder = not valid. */
size_t schema_varint_encode(int64_t v, uint8_t out[SCHEMA_VARINT_MAX]);
size_t schema_varint_decode(const void *p, size_t n, int64_t *ret);
size_t schema_time_encode(struct timespec t, uint8_t out[SCHEMA_TIME_MAX]);
bool schema_time_decode(const void *p, size_t n, struct timespec *ret);
int schema_any_encode(const struct any *v, struct buf *out);
/* 0, -EBADMSG or -ENOMEM. */
int schema_any_decode(struct arena *a, const void *p, size_t n, struct any *ret);

/* The bucket v1/<path>; NULL when a part of it is absent. */
struct bolt_bucket *schema_find(struct bolt_tx *tx, const char *const *path, size_t n);
int schema_make(struct bolt_tx *tx, const char *const *path, size_t n, struct bolt_bucket **ret);

#define SCHEMA_PATH_(...) ((const char *const[]){__VA_ARGS__})
#define SCHEMA_FIND(tx, ...) \
	schema_find(tx, SCHEMA_PATH_(__VA_ARGS__), ARRAY_LEN(SCHEMA_PATH_(__VA_ARGS__)))
#define SCHEMA_MAKE(tx, ret, ...) \
	schema_make(tx, SCHEMA_PATH_(__VA_ARGS__), ARRAY_LEN(SCHEMA_PATH_(__VA_ARGS__)), ret)

/* Values of a record's bucket; absent = "", 0, zero time, no labels, type_url NULL. -ENOMEM. */
int schema_get_str(struct arena *a, struct bolt_bucket *b, const char *key, const char **ret);
struct timespec schema_get_time(struct bolt_bucket *b, const char *key);
int64_t schema_get_int(struct bolt_bucket *b, const char *key);
int schema_get_labels(struct arena *a, struct bolt_bucket *b, const char *name, struct labels *ret);
int schema_get_any(struct arena *a, struct bolt_bucket *b, const char *key, struct any *ret);
int schema_get_any_map(struct arena *a, struct bolt_bucket *b, const char *name,
		       struct any_entry **ret, size_t *ret_n);
/* Copy of a key. */
const char *schema_key(struct arena *a, struct bolt_slice s);

int schema_put_str(struct bolt_bucket *b, const char *key, const char *value);
int schema_put_time(struct bolt_bucket *b, const char *key, struct timespec t);
int schema_put_int(struct bolt_bucket *b, const char *key, int64_t v);
/* Replaces the whole map. */
int schema_put_labels(struct bolt_bucket *b, const char *name, const struct labels *l);
/* Deletes the key when @v is absent. */
int schema_put_any(struct bolt_bucket *b, const char *key, const struct any *v);
/* Sets these entries and leaves others alone. */
int schema_put_any_map(struct bolt_bucket *b, const char *name, const struct any_entry *v,
		       size_t n);
/* Both times; @created zero leaves createdat as it is. */
int schema_put_times(struct bolt_bucket *b, struct timespec created, struct timespec updated);

/* Deletes a bucket that may be absent. */
int schema_drop(struct bolt_bucket *b, const char *name);

/* Keys of a bucket (NULL = none) copied into the arena: what is to be walked while the bucket
 * changes, or after the transaction. */
int schema_keys(struct arena *a, struct bolt_bucket *b, bool buckets, const char ***ret,
		size_t *ret_n);
