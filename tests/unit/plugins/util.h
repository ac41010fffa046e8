/* SPDX-License-Identifier: Apache-2.0 */
/* A directory on a tmpfs in a mount namespace of the test's own (root only), and a context. */
#pragma once

#include <fcntl.h>
#include <sched.h>
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

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "base/time.h"
#include "core/snapshot.h"
#include "sys/mount.h"

struct fix {
	char dir[64];
	struct arena *arena;
	struct ctx ctx;
	struct err err;
	struct snapshotter *sn;
};

static bool privileged;

static inline int group_setup(void **state)
{
	privileged = geteuid() == 0 && unshare(CLONE_NEWNS) == 0 &&
		     mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL) == 0;
	return 0;
}

static inline struct fix *fix_new(void)
{
	struct fix *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	strcpy(f->dir, "/tmp/test-plugins-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	if (privileged)
		assert_int_equal(mount("tmpfs", f->dir, "tmpfs", 0, "mode=0700"), 0);
	f->arena = arena_new(0);
	f->ctx = (struct ctx){.arena = f->arena, .ns = "default", .lease = ""};
	return f;
}

static inline int fix_teardown(void **state)
{
	struct fix *f = *state;

	if (f->sn)
		f->sn->ops->free(f->sn);
	arena_free(f->arena);
	if (privileged)
		umount2(f->dir, MNT_DETACH);
	rm_rf(AT_FDCWD, f->dir);
	free(f);
	return 0;
}

static inline char *in(struct fix *f, const char *path)
{
	return path_join(f->arena, f->dir, path);
}

static inline bool exists(struct fix *f, const char *path)
{
	struct stat st;

	return lstat(in(f, path), &st) == 0;
}

static inline void put_file(const char *path, const char *text)
{
	assert_int_equal(file_write(AT_FDCWD, path, text, strlen(text), 0644), 0);
}

#define NEED_ROOT()              \
	do {                     \
		if (!privileged) \
			skip();  \
	} while (0)

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
