/* SPDX-License-Identifier: Apache-2.0 */
#include "ctr/progress.h"

#include <errno.h>
#include <stdio.h>

#include "base/str.h"
#include "base/time.h"

#define OBJECTS_MAX 4096 /* more are not shown */
#define DEPTH_MAX 8
#define BAR_MAX 40
#define BAR_MIN 8
#define NUMBERS_WIDTH 22 /* "1023.9 MiB/1023.9 MiB" */

/* Cuts and cleans; never splits a multi-byte character. */
static void put_clean(char *out, size_t size, const char *s, size_t len)
{
	size_t n = MIN(len, size - 1);

	while (n > 0 && n < len && ((unsigned char)s[n] & 0xc0) == 0x80)
		n--;
	for (size_t i = 0; i < n; i++)
		out[i] = (unsigned char)s[i] < 0x20 || s[i] == 0x7f ? '?' : s[i];
	out[n] = '\0';
}

/* "layer-sha256:0123456789abcdef..." as "layer (0123456789ab)". */
static void put_label(struct progress_object *o)
{
	const char *colon = strrchr(o->name, ':');
	const char *dash = NULL;
	char kind[48], digits[13];

	for (const char *p = o->name; colon && p < colon; p++)
		if (*p == '-')
			dash = p;
	if (!dash || strlen(colon + 1) < 32 || colon - dash > 12) {
		put_clean(o->label, sizeof(o->label), o->name, strlen(o->name));
		return;
	}
	put_clean(kind, sizeof(kind), o->name, (size_t)(dash - o->name));
	put_clean(digits, sizeof(digits), colon + 1, strlen(colon + 1));
	snprintf(o->label, sizeof(o->label), "%s (%s)", kind, digits);
}

static int find(const struct progress *p, const char *name)
{
	for (size_t i = 0; i < p->n; i++)
		if (streq(p->v[i].name, name))
			return (int)i;
	return -1;
}

static int add_object(struct progress *p, const char *name, int *ret)
{
	struct progress_object *o;

	p->v = arena_grow(p->arena, p->v, &p->cap, p->n + 1, sizeof(*p->v));
	if (!p->v)
		return -ENOMEM;
	o = &p->v[p->n];
	*o = (struct progress_object){.name = arena_strdup(p->arena, name), .parent = -1};
	if (!o->name)
		return -ENOMEM;
	put_label(o);
	*ret = (int)p->n++;
	return 0;
}

/* Bytes count as moved only while they are on their way: what was there before did not travel. */
static bool is_moving(const char *event)
{
	return streq(event, "downloading") || streq(event, "uploading");
}

int progress_add(struct progress *p, const struct progress_event *e, bool *ret_changed)
{
	struct progress_object *o;
	char event[sizeof(o->event)];
	int i, r;

	if (!*e->name) {
		put_clean(p->step, sizeof(p->step), e->event, strlen(e->event));
		*ret_changed = true;
		return 0;
	}
	i = find(p, e->name);
	if (i < 0 && p->n == OBJECTS_MAX) {
		*ret_changed = false;
		return 0;
	}
	if (i < 0) {
		r = add_object(p, e->name, &i);
		if (r < 0)
			return r;
	}
	o = &p->v[i];
	put_clean(event, sizeof(event), e->event, strlen(e->event));
	*ret_changed = !streq(event, o->event);
	if (is_moving(event))
		o->moved = MAX(o->moved, e->progress);
	else if (is_moving(o->event) && streq(event, "complete"))
		o->moved = MAX(o->moved, MAX(e->progress, o->total));
	memcpy(o->event, event, sizeof(event));
	o->progress = e->progress;
	if (e->total > 0)
		o->total = e->total;
	if (o->parent < 0 && *e->parent && !streq(e->parent, e->name))
		o->parent = find(p, e->parent);
	return 0;
}

/* ---- Text ---- */

static bool is_done(const struct progress_object *o)
{
	return streq(o->event, "complete") || streq(o->event, "already exists") ||
	       streq(o->event, "extracted") || streq(o->event, "saved") || streq(o->event, "done");
}

static void put_numbers(int64_t progress, int64_t total, char *out, size_t size)
{
	char a[32], b[32];

	*out = '\0';
	str_size_binary(progress, a);
	str_size_binary(total, b);
	if (total > 0 && progress < total)
		snprintf(out, size, "%s/%s", a, b);
	else if (total > 0 || progress > 0)
		snprintf(out, size, "%s", total > 0 ? b : a);
}

void progress_line(const struct progress *p, const struct progress_event *e, struct buf *out)
{
	int i = *e->name ? find(p, e->name) : -1;
	char size[32];

	if (i < 0) {
		buf_printf(out, "%s\n", p->step);
		return;
	}
	buf_printf(out, "%s: %s", p->v[i].label, p->v[i].event);
	if (p->v[i].total > 0 && !streq(p->v[i].event, "waiting")) {
		str_size_binary(p->v[i].total, size);
		buf_printf(out, " (%s)", size);
	}
	buf_addc(out, '\n');
}

static int depth_of(const struct progress *p, const struct progress_object *o)
{
	int depth = 0;

	/* Parents may be told wrongly, even in a circle. */
	for (int i = o->parent; i >= 0 && depth < DEPTH_MAX; i = p->v[i].parent)
		depth++;
	return depth;
}

static int text_columns(const char *s)
{
	int n = 0;

	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

/* At most @width columns of @s, filled up with blanks. */
static void put_cell(struct buf *out, const char *s, int width)
{
	int n = 0;

	for (; *s; s++) {
		bool starts = ((unsigned char)*s & 0xc0) != 0x80;

		if (starts && n == width)
			break;
		n += starts;
		buf_addc(out, *s);
	}
	for (; n < width; n++)
		buf_addc(out, ' ');
}

static void put_bar(struct buf *out, const struct progress_object *o, int width)
{
	int inner = width - 2, filled = 0;
	bool head;

	if (is_done(o) || (o->total > 0 && o->progress >= o->total))
		filled = inner;
	else if (o->total > 0 && o->progress > 0)
		filled = (int)((double)o->progress / (double)o->total * inner);
	head = filled > 0 && filled < inner;
	buf_addc(out, '[');
	for (int i = 0; i < inner; i++)
		buf_addc(out, i + head < filled ? '=' : head && i + 1 == filled ? '>' : ' ');
	buf_addc(out, ']');
}

struct layout {
	int name, event, bar;
};

static struct layout make_layout(const struct progress *p, int columns)
{
	struct layout l = {};

	for (size_t i = 0; i < p->n; i++) {
		l.name = MAX(l.name, 2 * depth_of(p, &p->v[i]) + text_columns(p->v[i].label));
		l.event = MAX(l.event, text_columns(p->v[i].event));
	}
	/* Where it gets narrow the bar shrinks first, then the name. */
	l.event = MIN(l.event, 24);
	l.bar = MIN(BAR_MAX, columns - l.name - l.event - NUMBERS_WIDTH - 7);
	if (l.bar < BAR_MIN)
		l.bar = 0;
	l.name = MAX(8, MIN(l.name, columns - l.event - l.bar - NUMBERS_WIDTH - 7));
	return l;
}

static void put_object(const struct progress *p, const struct progress_object *o,
		       const struct layout *l, int columns, struct buf *out)
{
	struct buf line _cleanup_buf_ = BUF_INIT;
	char numbers[72], name[sizeof(o->label) + 2 * DEPTH_MAX + 1];

	snprintf(name, sizeof(name), "%*s%s", 2 * depth_of(p, o), "", o->label);
	put_numbers(o->progress, o->total, numbers, sizeof(numbers));
	put_cell(&line, name, l->name);
	buf_adds(&line, "  ");
	put_cell(&line, o->event, l->event);
	if (l->bar && o->total > 0) {
		buf_adds(&line, "  ");
		put_bar(&line, o, l->bar);
	}
	if (*numbers)
		buf_printf(&line, "  %s", numbers);
	if (!buf_ok(&line))
		return;
	while (line.len > 0 && line.data[line.len - 1] == ' ')
		line.data[--line.len] = '\0';
	put_cell(out, line.data, MIN(columns, text_columns(line.data)));
	buf_addc(out, '\n');
}

/* Objects below @parent, in the order in which they came, each followed by its own. @skip lines are
 * left out. */
static void put_objects(const struct progress *p, int parent, int depth, const struct layout *l,
			int columns, size_t *skip, struct buf *out)
{
	for (size_t i = 0; i < p->n; i++) {
		if (p->v[i].parent != parent)
			continue;
		if (*skip > 0)
			(*skip)--;
		else
			put_object(p, &p->v[i], l, columns, out);
		if (depth < DEPTH_MAX)
			put_objects(p, (int)i, depth + 1, l, columns, skip, out);
	}
}

void progress_summary(const struct progress *p, int64_t elapsed_ns, struct buf *out)
{
	double seconds = (double)MAX(elapsed_ns, 1) / (double)NSEC_PER_SEC;
	char total[32], rate[32];
	int64_t sum = 0;

	for (size_t i = 0; i < p->n; i++)
		if (__builtin_add_overflow(sum, p->v[i].moved, &sum))
			sum = INT64_MAX;
	str_size_binary(sum, total);
	str_size_binary((int64_t)((double)sum / seconds), rate);
	buf_printf(out, "elapsed: %.1f s  total: %s (%s/s)\n", seconds, total, rate);
}

void progress_render(const struct progress *p, int64_t elapsed_ns, int columns, int rows,
		     struct buf *out)
{
	struct layout l;
	size_t room = (size_t)MAX(rows - 3, 1), skip = p->n > room ? p->n - room : 0;

	columns = MAX(columns, 20);
	l = make_layout(p, columns);
	if (*p->step) {
		put_cell(out, p->step, MIN(columns, text_columns(p->step)));
		buf_addc(out, '\n');
	}
	put_objects(p, -1, 0, &l, columns, &skip, out);
	progress_summary(p, elapsed_ns, out);
}
