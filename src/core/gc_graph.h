/* SPDX-License-Identifier: Apache-2.0 */
/* A graph of resources: nodes by (type, namespace, key), marked from its roots along its edges.
 * Also used as a set. All in an arena.
 *
 * A reference may be made before what it refers to: the node is there then, but not `present` until
 * its record is met.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "bolt/bolt.h"

enum gc_type {
	GC_CONTENT,
	GC_SNAPSHOT, /* key: <snapshotter>/<key> */
	GC_CONTAINER,
	GC_IMAGE,
	GC_LEASE,
	GC_INGEST,
	GC_SANDBOX,
	GC_COLLECTOR, /* and above: the nth collector's */
};

enum gc_mark {
	GC_WHITE,
	GC_FLAT, /* kept, but what its labels name is not kept for its sake */
	GC_FULL,
};

struct gc_edge;

struct gc_node {
	struct gc_node *hash_next;
	struct gc_node *next; /* in order of making */
	struct gc_edge *edges;
	const char *ns, *key;
	uint64_t hash;
	size_t key_len;
	unsigned int type;
	enum gc_mark mark;
	bool present;
	size_t count; /* the user's */
	void *user;
};

struct gc_graph {
	struct arena *arena;
	struct gc_node **table;
	size_t n, n_table;
	struct gc_node *first, **last;
	struct gc_node **stack; /* of nodes to be followed */
	size_t n_stack, cap_stack;
};

/* -ENOMEM. */
int gc_graph_init(struct gc_graph *g, struct arena *a);
/* The node, made when it is new. NULL = no memory. */
struct gc_node *gc_graph_node(struct gc_graph *g, unsigned int type, const char *ns,
			      struct bolt_slice key);
/* NULL when there is none. */
struct gc_node *gc_graph_find(const struct gc_graph *g, unsigned int type, const char *ns,
			      struct bolt_slice key);
/* @to lives while @from does. @inherent: also when @from is kept flat (and then it is kept flat
 * itself). */
int gc_graph_edge(struct gc_graph *g, struct gc_node *from, struct gc_node *to, bool inherent);
int gc_graph_root(struct gc_graph *g, struct gc_node *n, enum gc_mark mark);
/* Marks everything that the roots reach. */
int gc_graph_mark(struct gc_graph *g);
