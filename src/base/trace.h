/* SPDX-License-Identifier: Apache-2.0 */
/* Trace: spans of work, written to a file in the Chrome trace event format (JSON), which Perfetto
 * and chrome://tracing show as a time line of threads.
 *
 *     TRACE_SPAN("db", "commit");                    until the end of the enclosing block
 *     TRACE_SPAN("shim", "call", "method", method);  with an argument; it must live that long
 *
 * Off, which is the default, a span costs one load. On, it costs two readings of the clock and a
 * line in a buffer of fixed size. Times are those of CLOCK_MONOTONIC. The file is complete once
 * trace_close() has run, and good for viewers after each trace_flush(). Thread safe; the functions
 * that open and close are for one thread.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"

struct trace_span {
	int64_t begin; /* 0 = not traced */
	const char *category, *name;
	const char *key, *value; /* of the argument, or NULL */
};

extern atomic_bool trace_on;

/* Truncates @path and begins; -errno. */
int trace_open(const char *path) _must_check_;
void trace_flush(void);
void trace_close(void);

struct trace_span trace_begin(const char *category, const char *name, const char *key,
			      const char *value);
void trace_end(const struct trace_span *s);

static inline void trace_span_end(struct trace_span *s)
{
	if (s->begin)
		trace_end(s);
}

static inline struct trace_span trace_span_begin(const char *category, const char *name,
						 const char *key, const char *value)
{
	if (!atomic_load_explicit(&trace_on, memory_order_relaxed))
		return (struct trace_span){0};
	return trace_begin(category, name, key, value);
}

#define TRACE_ARGS_(category, name, key, value, ...) category, name, key, value
#define TRACE_SPAN__(l, ...)                                                  \
	_cleanup_(trace_span_end) _unused_ struct trace_span trace_span_##l = \
		trace_span_begin(TRACE_ARGS_(__VA_ARGS__, NULL, NULL, NULL))
#define TRACE_SPAN_(l, ...) TRACE_SPAN__(l, __VA_ARGS__)
#define TRACE_SPAN(...) TRACE_SPAN_(__LINE__, __VA_ARGS__)
