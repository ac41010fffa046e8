/* SPDX-License-Identifier: Apache-2.0 */
#include "core/gc_graph.h"

#include <errno.h>
#include <string.h>

#define TABLE_MIN 1024

struct gc_edge {
	struct gc_edge *next;
	struct gc_node *to;
	bool inherent;
};

int gc_graph_init(struct gc_graph *g, struct arena *a)
{
	*g = (struct gc_graph){.arena = a, .n_table = TABLE_MIN};
	g->table = arena_new_array(a, struct gc_node *, g->n_table);
	g->last = &g->first;
	return g->table ? 0 : -ENOMEM;
}

static uint64_t hash(unsigned int type, const char *ns, const char *key, size_t n)
{
	uint64_t h = 0xcbf29ce484222325ULL ^ type;

	for (; *ns; ns++)
		h = (h ^ (uint8_t)*ns) * 0x100000001b3ULL;
	h = (h ^ '/') * 0x100000001b3ULL;
	for (size_t i = 0; i < n; i++)
		h = (h ^ (uint8_t)key[i]) * 0x100000001b3ULL;
	return h ^ h >> 32;
}

static struct gc_node *find(const struct gc_graph *g, uint64_t h, unsigned int type, const char *ns,
			    struct bolt_slice key)
{
	struct gc_node *n = g->table[h & (g->n_table - 1)];

	while (n && !(n->hash == h && n->type == type && n->key_len == key.len &&
		      memcmp(n->key, key.data, key.len) == 0 && strcmp(n->ns, ns) == 0))
		n = n->hash_next;
	return n;
}

struct gc_node *gc_graph_find(const struct gc_graph *g, unsigned int type, const char *ns,
			      struct bolt_slice key)
{
	return find(g, hash(type, ns, key.data, key.len), type, ns, key);
}

static void insert(struct gc_graph *g, struct gc_node *n)
{
	size_t at = n->hash & (g->n_table - 1);

	n->hash_next = g->table[at];
	g->table[at] = n;
}

static int grow(struct gc_graph *g)
{
	struct gc_node **table = arena_new_array(g->arena, struct gc_node *, g->n_table * 2);

	if (!table)
		return -ENOMEM;
	g->table = table;
	g->n_table *= 2;
	for (struct gc_node *n = g->first; n; n = n->next)
		insert(g, n);
	return 0;
}

struct gc_node *gc_graph_node(struct gc_graph *g, unsigned int type, const char *ns,
			      struct bolt_slice key)
{
	/* A key is text: what follows a NUL in it can not be named by anybody. */
	struct bolt_slice k = bolt_b(key.data, strnlen(key.data, key.len));
	uint64_t h = hash(type, ns, k.data, k.len);
	struct gc_node *n = find(g, h, type, ns, k);

	if (n)
		return n;
	if (g->n == g->n_table && grow(g) < 0)
		return NULL;
	n = arena_new_obj(g->arena, struct gc_node);
	if (!n)
		return NULL;
	n->type = type;
	n->ns = ns;
	n->hash = h;
	n->key_len = k.len;
	n->key = arena_strndup(g->arena, k.data, k.len);
	if (!n->key)
		return NULL;
	insert(g, n);
	*g->last = n;
	g->last = &n->next;
	g->n++;
	return n;
}

int gc_graph_edge(struct gc_graph *g, struct gc_node *from, struct gc_node *to, bool inherent)
{
	struct gc_edge *e = arena_new_obj(g->arena, struct gc_edge);

	if (!e || !from || !to)
		return -ENOMEM;
	e->to = to;
	e->inherent = inherent;
	e->next = from->edges;
	from->edges = e;
	return 0;
}

int gc_graph_root(struct gc_graph *g, struct gc_node *n, enum gc_mark mark)
{
	struct gc_node **stack;

	if (!n)
		return -ENOMEM;
	if (mark <= n->mark)
		return 0;
	stack = arena_grow(g->arena, g->stack, &g->cap_stack, g->n_stack + 1, sizeof(*stack));
	if (!stack)
		return -ENOMEM;
	n->mark = mark;
	g->stack = stack;
	g->stack[g->n_stack++] = n;
	return 0;
}

int gc_graph_mark(struct gc_graph *g)
{
	while (g->n_stack > 0) {
		struct gc_node *n = g->stack[--g->n_stack];

		for (const struct gc_edge *e = n->edges; e; e = e->next) {
			if (n->mark != GC_FULL && !e->inherent)
				continue;
			if (gc_graph_root(g, e->to, n->mark) < 0)
				return -ENOMEM;
		}
	}
	return 0;
}
