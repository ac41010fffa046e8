/* SPDX-License-Identifier: Apache-2.0 */
/* Scoped ownership: a resource has its cleanup from birth and is handed over with TAKE_PTR or
 * TAKE_FD.
 *
 *     _cleanup_free_ char *s = strdup(x);
 *     _cleanup_close_ int fd = open(...);
 *     *ret_fd = TAKE_FD(fd);
 */
#pragma once

#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(f) __attribute__((cleanup(f)))
#define _must_check_ __attribute__((warn_unused_result))
#define _printf_(a, b) __attribute__((format(printf, a, b)))
#define _unused_ __attribute__((unused))
#define _noreturn_ __attribute__((noreturn))

/* Defines `static inline void f##p(type *p)` that calls @f on a non-NULL pointer: for
 * _cleanup_(f##p). */
#define DEFINE_CLEANUP(type, f)          \
	static inline void f##p(type *p) \
	{                                \
		if (*p)                  \
			f(*p);           \
	}

#define TAKE_PTR(p)                        \
	({                                 \
		__typeof__(p) take_ = (p); \
		(p) = NULL;                \
		take_;                     \
	})
#define TAKE_FD(fd)               \
	({                        \
		int take_ = (fd); \
		(fd) = -1;        \
		take_;            \
	})

static inline void freep(void *p)
{
	free(*(void **)p);
}

/* Closes and keeps errno, so that it may run between a failure and its report. */
void fd_closep(int *fd);

static inline void mutex_unlockp(pthread_mutex_t **m)
{
	if (*m)
		pthread_mutex_unlock(*m);
}

static inline pthread_mutex_t *mutex_lock_ret(pthread_mutex_t *m)
{
	pthread_mutex_lock(m);
	return m;
}

DEFINE_CLEANUP(FILE *, fclose)
DEFINE_CLEANUP(DIR *, closedir)

#define _cleanup_free_ _cleanup_(freep)
#define _cleanup_close_ _cleanup_(fd_closep)
#define _cleanup_fclose_ _cleanup_(fclosep)
#define _cleanup_closedir_ _cleanup_(closedirp)

/* Holds @m until the end of the enclosing block. */
#define MUTEX_GUARD_(m, l) \
	_cleanup_(mutex_unlockp) _unused_ pthread_mutex_t *guard_##l = mutex_lock_ret(m)
#define MUTEX_GUARD__(m, l) MUTEX_GUARD_(m, l)
#define MUTEX_GUARD(m) MUTEX_GUARD__(m, __LINE__)

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
