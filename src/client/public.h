/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the public interface (include/containerd/client.h) share. They translate: a
 * call has an arena and an error of its own, and a result is an object at the end of its call's
 * arena, which containerd_free() finds by what stands before it. */
#pragma once

#include <stdatomic.h>

#include "../../include/containerd/client.h"
#include "base/json.h"
#include "client/client.h"

/* Shared by handles; the last one ends it. */
struct connection {
	atomic_int refs;
	struct client *client;
};

struct containerd_client {
	struct connection *connection;
	char *ns, *lease;
	int64_t timeout_ns;
};

struct call {
	struct client *client;
	struct ctx ctx;
	struct err err;
};
#define _cleanup_call_ _cleanup_(call_done)
void call_done(struct call *k);
int call_begin(struct call *k, const struct containerd_client *c) _must_check_;
/* For calls that take as long as they take. */
void call_endless(struct call *k);
/* What the public function returns. */
int call_end(struct call *k, int r, struct containerd_error *error);

/* A zeroed object that containerd_free() frees, and the call's arena with it; call_give() is the
 * last step. NULL = no memory. */
void *call_result(struct call *k, size_t size);
#define CALL_RESULT(k, type) ((type *)call_result(k, sizeof(type)))
void call_give(struct call *k, const void *result, const void *ret);

/* The same for a list of @n zeroed items, which the caller fills: all lists of the header have one
 * layout. *@ret_items (T **). NULL = no memory. */
void *call_list(struct call *k, size_t n, size_t item_size, void *ret_items);

/* Options of a caller that may be older or newer; NULL = all zero. */
int options_copy(void *to, size_t size, const void *from, struct err *err) _must_check_;
#define OPTIONS_COPY(to, from, err) options_copy(&(to), sizeof(to), from, err)

/* NULL -> "". */
static inline const char *text_or_empty(const char *s)
{
	return s ? s : "";
}

/* A text that must be there. */
int need_text(const char *s, const char *what, struct err *err) _must_check_;
int labels_from_public(struct arena *a, const struct containerd_label *v, size_t n,
		       struct labels *ret, struct err *err) _must_check_;
/* Of a message, in the arena. 0 or -ENOMEM. */
int labels_to_public(struct arena *a, struct pb_label *const *entries, size_t n,
		     const struct containerd_label **ret, size_t *ret_n);
#define LABELS_TO_PUBLIC(a, m, out)                                                               \
	labels_to_public(a, (struct pb_label *const *)(m)->labels, (m)->n_labels, &(out)->labels, \
			 &(out)->n_labels)

/* @given, else the namespace's default. */
int choose_snapshotter(struct call *k, const char *given, const char **ret) _must_check_;

/* The record of an image as the call's result. */
int image_give(struct call *k, const char *name, const struct containerd_image **ret) _must_check_;
