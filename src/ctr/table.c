/* SPDX-License-Identifier: Apache-2.0 */
/* Aligned tables, with the rules of Go's text/tabwriter.
 *
 * A cell is text that ends in a tab; what follows the last tab of a line is no cell and sets no
 * width. A column is a run of neighbouring lines that all have a cell at that place: its width is
 * that of its widest cell plus padding, at least minwidth. With a tab as padding character widths
 * are multiples of tabwidth and are filled with tabs. Widths count code points. */
#include "ctr/ctr.h"

#include <errno.h>

struct cell {
	const char *s;
	size_t len;
	int width; /* code points */
};

struct line {
	struct cell *cells; /* the last one is not ended by a tab */
	size_t n, cap;
};

struct grid {
	struct arena *a;
	const struct table *t;
	struct line *lines;
	size_t n, cap;
	int *widths; /* of the columns to the left of the one that is being looked at */
	size_t n_widths, cap_widths;
};

void table_done(struct table *t)
{
	buf_done(&t->text);
}

void table_printf(struct table *t, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	buf_vprintf(&t->text, fmt, ap);
	va_end(ap);
}

static int text_width(const char *s, size_t len)
{
	int w = 0;

	for (size_t i = 0; i < len; i++)
		w += ((unsigned char)s[i] & 0xc0) != 0x80;
	return w;
}

static int grid_split(struct grid *g)
{
	const char *p = g->t->text.data, *end = p + g->t->text.len;

	while (p < end) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		const char *stop = nl ? nl : end;
		struct line *l;

		g->lines = arena_grow(g->a, g->lines, &g->cap, g->n + 1, sizeof(*g->lines));
		if (!g->lines)
			return -ENOMEM;
		l = &g->lines[g->n++];
		*l = (struct line){};
		for (;;) {
			const char *tab = memchr(p, '\t', (size_t)(stop - p));
			size_t len = (size_t)((tab ? tab : stop) - p);

			l->cells = arena_grow(g->a, l->cells, &l->cap, l->n + 1, sizeof(*l->cells));
			if (!l->cells)
				return -ENOMEM;
			l->cells[l->n++] = (struct cell){p, len, text_width(p, len)};
			if (!tab)
				break;
			p = tab + 1;
		}
		p = stop + 1;
	}
	return 0;
}

static void put_padding(const struct table *t, struct buf *out, int text, int cell)
{
	if (t->pad == '\t') {
		if (t->tabwidth <= 0)
			return;
		cell = (cell + t->tabwidth - 1) / t->tabwidth * t->tabwidth;
		for (int n = (cell - text + t->tabwidth - 1) / t->tabwidth; n > 0; n--)
			buf_addc(out, '\t');
		return;
	}
	for (int n = cell - text; n > 0; n--)
		buf_addc(out, t->pad);
}

static void put_line(const struct grid *g, const struct line *l, struct buf *out)
{
	for (size_t j = 0; j < l->n; j++) {
		buf_add(out, l->cells[j].s, l->cells[j].len);
		if (j < g->n_widths)
			put_padding(g->t, out, l->cells[j].width, g->widths[j]);
	}
	buf_addc(out, '\n');
}

static void put_lines(const struct grid *g, size_t from, size_t to, struct buf *out)
{
	for (size_t i = from; i < to; i++)
		put_line(g, &g->lines[i], out);
}

/* Prints lines [from, to), whose first n_widths columns have known widths. */
static int grid_print(struct grid *g, size_t from, size_t to, struct buf *out)
{
	size_t column = g->n_widths;
	int r;

	for (size_t i = from; i < to; i++) {
		int width = g->t->minwidth;
		size_t end = i;

		if (column + 1 >= g->lines[i].n)
			continue;
		put_lines(g, from, i, out);
		from = i;
		for (; end < to && column + 1 < g->lines[end].n; end++) {
			const struct cell *c = &g->lines[end].cells[column];

			width = MAX(width, c->width + g->t->padding);
		}
		g->widths = arena_grow(g->a, g->widths, &g->cap_widths, column + 1, sizeof(int));
		if (!g->widths)
			return -ENOMEM;
		g->widths[column] = width;
		g->n_widths = column + 1;
		r = grid_print(g, from, end, out);
		g->n_widths = column;
		if (r < 0)
			return r;
		from = end;
		i = end - 1;
	}
	put_lines(g, from, to, out);
	return 0;
}

int table_render(const struct table *t, struct buf *out)
{
	struct arena *a _cleanup_arena_ = arena_new(0);
	struct grid g = {.a = a, .t = t};
	int r;

	if (!a || !buf_ok(&t->text))
		return -ENOMEM;
	if (t->text.len == 0)
		return 0;
	r = grid_split(&g);
	if (r == 0)
		r = grid_print(&g, 0, g.n, out);
	if (r < 0)
		return r;
	return buf_ok(out) ? 0 : -ENOMEM;
}

int table_print(struct table *t, struct err *err)
{
	struct buf out _cleanup_buf_ = BUF_INIT;

	if (table_render(t, &out) < 0)
		return err_nomem(err);
	buf_clear(&t->text);
	return ctr_print(&out, err);
}
