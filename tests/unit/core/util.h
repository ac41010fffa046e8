/* SPDX-License-Identifier: Apache-2.0 */
/* A database in a directory of its own, and a context. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/path.h"
#include "base/str.h"
#include "base/time.h"
#include "core/content.h"
#include "core/db.h"
#include "core/event.h"
#include "core/namespace.h"

struct fix {
	char dir[64];
	char path[96];
	struct arena *arena;
	struct ctx ctx;
	struct err err;
	struct event_exchange *events;
	struct content_store *content;
	struct db *db;
};

static inline void fix_open(struct fix *f)
{
	struct db_options o = {
		.path = f->path, .no_sync = true, .content = f->content, .events = f->events};

	if (db_open(&o, &f->db, &f->err) < 0)
		fail_msg("%s", f->err.text);
}

static inline int fix_setup(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));
	char root[96];

	assert_non_null(f);
	strcpy(f->dir, "/tmp/test-core-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof(f->path), "%s/meta.db", f->dir);
	f->arena = arena_new(0);
	f->ctx = (struct ctx){.arena = f->arena, .ns = "default", .lease = ""};
	assert_int_equal(event_exchange_new(&f->events), 0);
	snprintf(root, sizeof(root), "%s/content", f->dir);
	if (content_store_local_new(root, &f->content, &f->err) < 0)
		fail_msg("%s", f->err.text);
	fix_open(f);
	*state = f;
	return 0;
}

static inline int fix_teardown(void **state)
{
	struct fix *f = *state;

	db_close(f->db);
	f->content->ops->free(f->content);
	event_exchange_free(f->events);
	arena_free(f->arena);
	rm_rf(-100 /* AT_FDCWD */, f->dir);
	free(f);
	return 0;
}

#define assert_ok(call)                                         \
	do {                                                    \
		f->err = ERR_INIT;                              \
		if ((call) != 0)                                \
			fail_msg("%s: %s", #call, f->err.text); \
	} while (0)

#define assert_err(call, error_kind, error_text)              \
	do {                                                  \
		f->err = ERR_INIT;                            \
		assert_int_equal((call), -(error_kind));      \
		assert_string_equal(f->err.text, error_text); \
	} while (0)

static inline struct labels make_labels(struct arena *a, ...)
{
	struct labels l = {0};
	const char *key;
	va_list ap;

	va_start(ap, a);
	while ((key = va_arg(ap, const char *)))
		assert_int_equal(labels_set(a, &l, key, va_arg(ap, const char *)), 0);
	va_end(ap);
	return l;
}

/* One label of a namespace; "" removes it. */
static inline int namespace_label(struct fix *f, const char *name, const char *key,
				  const char *value)
{
	struct label one = {key, value};
	struct labels l = {&one, 1, 1}, got;
	char *path = arena_printf(f->arena, "labels.%s", key);

	return namespace_update(&f->ctx, f->db, name, &l, &path, 1, &got, &f->err);
}
