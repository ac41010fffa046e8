/* SPDX-License-Identifier: Apache-2.0 */
/* The steps of a transfer, kept for display. Pure: events in, text out; nothing is printed and no
 * clock is read.
 *
 * An event with a name is about an object (a blob, an image) and replaces what was known of it; one
 * without is a step of the whole. For a terminal progress_render() gives the whole picture again
 * and again; for a pipe progress_line() gives one line for each change of state. Text of the daemon
 * is printed without its control characters. Not thread safe. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"

struct progress_event {
	const char *event;	 /* "downloading" */
	const char *name;	 /* "layer-sha256:..."; "" = the whole */
	const char *parent;	 /* name of the object that this one belongs to, "" */
	int64_t progress, total; /* bytes; total 0 = unknown */
};

struct progress_object {
	const char *name;
	char label[96]; /* how the name is shown */
	char event[64];
	int parent; /* index, -1 = none */
	int64_t progress, total;
	int64_t moved; /* bytes that were really moved */
};

struct progress {
	struct arena *arena; /* names */
	struct progress_object *v;
	size_t n, cap;
	char step[256]; /* the last event of the whole */
};

/* *@ret_changed: the state of an object is another one now, or a step was made. 0 or -ENOMEM. */
int progress_add(struct progress *p, const struct progress_event *e, bool *ret_changed);
/* The line of a change: what @e says, without cursor movements, ending in a newline. */
void progress_line(const struct progress *p, const struct progress_event *e, struct buf *out);
/* The whole: a line for each object (@rows lines at most in all, the last ones), then the sum. No
 * line is wider than @columns. */
void progress_render(const struct progress *p, int64_t elapsed_ns, int columns, int rows,
		     struct buf *out);
/* "elapsed: 1.2 s  total: 2.0 MiB (1.6 MiB/s)" and a newline. */
void progress_summary(const struct progress *p, int64_t elapsed_ns, struct buf *out);
