/* SPDX-License-Identifier: Apache-2.0 */
/* See cni_template.h. The text is interpreted as it is read: a loop goes back to where its body
 * began, and what is not to be printed is read all the same. */
#include "cri/cni_template.h"

#include <ctype.h>
#include <string.h>

#include "base/str.h"

#define DEPTH_MAX 16
#define STEPS_MAX 100000
#define NAME_MAX_ 32

enum kind { TEXT, NUMBER, LIST };
struct value {
	enum kind kind;
	const char *text;
	size_t number;
	struct cni_template_list list;
};

struct variable {
	char name[NAME_MAX_];
	struct value value;
};

struct template
{
	const char *p; /* what is not read yet */
	const struct cni_template_data *data;
	struct buf *out;
	struct variable vars[2 * DEPTH_MAX];
	size_t n_vars;
	size_t steps;
	bool trim; /* the white space that follows */
	struct err *err;
};

/* What ends a block. */
enum end { END_TEXT, END_END, END_ELSE };

struct action {
	const char *s, *end; /* without braces and the white space inside */
};

static int bad(struct template *t, const struct action *a, const char *why)
{
	return err_set(t->err, ERR_INVALID_ARGUMENT, "template: {{%.*s}}: %s",
		       (int)MIN(a->end - a->s, (ptrdiff_t)80), a->s, why);
}

static void space(struct action *a)
{
	while (a->s < a->end && isspace((unsigned char)*a->s))
		a->s++;
}

static bool word(struct action *a, const char *w)
{
	size_t n = strlen(w);

	if ((size_t)(a->end - a->s) < n || strncmp(a->s, w, n) != 0)
		return false;
	if (a->s + n < a->end && (isalnum((unsigned char)a->s[n]) || a->s[n] == '_'))
		return false;
	a->s += n;
	space(a);
	return true;
}

static int name(struct template *t, struct action *a, char out[NAME_MAX_])
{
	const struct action all = *a;
	size_t n = 0;

	while (a->s < a->end && (isalnum((unsigned char)*a->s) || *a->s == '_')) {
		if (n == NAME_MAX_ - 1)
			return bad(t, &all, "the name is too long");
		out[n++] = *a->s++;
	}
	out[n] = 0;
	space(a);
	return 0;
}

static struct value text_value(const char *s)
{
	return (struct value){.kind = TEXT, .text = s};
}

static int field(struct template *t, struct action *a, const struct value *dot, struct value *ret)
{
	const struct action all = *a;
	char id[NAME_MAX_];
	int r = name(t, a, id);

	if (r < 0)
		return r;
	if (!*id)
		*ret = *dot;
	else if (dot->kind != LIST || dot->list.v)
		return bad(t, &all, "there is no such field here");
	else if (streq(id, "PodCIDR"))
		*ret = text_value(t->data->pod_cidr);
	else if (streq(id, "PodCIDRRanges"))
		*ret = (struct value){.kind = LIST, .list = t->data->ranges};
	else if (streq(id, "Routes"))
		*ret = (struct value){.kind = LIST, .list = t->data->routes};
	else
		return bad(t, &all, "there are PodCIDR, PodCIDRRanges and Routes");
	return 0;
}

/* The data as a whole: a list without storage. */
static const struct value root = {.kind = LIST};

static int operand(struct template *t, struct action *a, const struct value *dot, struct value *ret)
{
	const struct action all = *a;
	char id[NAME_MAX_];

	if (a->s < a->end && *a->s == '.') {
		a->s++;
		return field(t, a, dot, ret);
	}
	if (a->s == a->end || *a->s++ != '$')
		return bad(t, &all, "no field and no variable");
	if (a->s < a->end && *a->s == '.') {
		a->s++;
		return field(t, a, &root, ret);
	}
	int r = name(t, a, id);
	if (r < 0)
		return r;
	for (size_t i = t->n_vars; i > 0; i--)
		if (streq(t->vars[i - 1].name, id)) {
			*ret = t->vars[i - 1].value;
			return 0;
		}
	return bad(t, &all, "no such variable");
}

static int print(struct template *t, const struct action *a, const struct value *v)
{
	if (v->kind == LIST && !v->list.v)
		return bad(t, a, "the data as a whole cannot be printed");
	if (v->kind == NUMBER)
		buf_printf(t->out, "%zu", v->number);
	else if (v->kind == TEXT)
		buf_adds(t->out, v->text);
	else {
		buf_addc(t->out, '[');
		for (size_t i = 0; i < v->list.n; i++)
			buf_printf(t->out, "%s%s", i ? " " : "", v->list.v[i]);
		buf_addc(t->out, ']');
	}
	return 0;
}

static bool truth(const struct value *v)
{
	return v->kind == TEXT ? *v->text : v->kind == NUMBER ? v->number > 0 : v->list.n > 0;
}

/* Text up to the next action, which is *@ret. 1 = there is one. */
static int next_action(struct template *t, bool emit, struct action *ret)
{
	const char *open = strstr(t->p, "{{"), *end, *close;
	bool trim;

	if (t->trim)
		while (isspace((unsigned char)*t->p))
			t->p++;
	t->trim = false;
	end = open ? open : t->p + strlen(t->p);
	trim = open && open[2] == '-' && isspace((unsigned char)open[3]);
	while (trim && end > t->p && isspace((unsigned char)end[-1]))
		end--;
	if (emit && end > t->p)
		buf_add(t->out, t->p, (size_t)(end - t->p));
	if (!open) {
		t->p = end;
		return 0;
	}
	close = strstr(open, "}}");
	if (!close)
		return err_set(t->err, ERR_INVALID_ARGUMENT, "template: an action has no }}");
	*ret = (struct action){open + 2 + trim, close};
	t->p = close + 2;
	if (close - ret->s >= 2 && close[-1] == '-' && isspace((unsigned char)close[-2])) {
		t->trim = true;
		ret->end--;
	}
	space(ret);
	while (ret->end > ret->s && isspace((unsigned char)ret->end[-1]))
		ret->end--;
	return 1;
}

static int block(struct template *t, const struct value *dot, bool emit, unsigned depth,
		 enum end *ret);

/* The block that follows "if" and its "else". */
static int branches(struct template *t, const struct action *a, const struct value *dot, bool yes,
		    bool emit, unsigned depth)
{
	enum end end;
	int r = block(t, dot, emit && yes, depth, &end);

	if (r == 0 && end == END_ELSE)
		r = block(t, dot, emit && !yes, depth, &end);
	return r == 0 && end != END_END ? bad(t, a, "has no end") : r;
}

/* "$i, $v := " or "$v := "; the names, or "". */
static int declared(struct template *t, struct action *a, char first[NAME_MAX_],
		    char second[NAME_MAX_])
{
	const struct action all = *a;
	int r = 0;

	*first = *second = 0;
	if (a->s == a->end || *a->s != '$' || !memchr(a->s, '=', (size_t)(a->end - a->s)))
		return 0;
	a->s++;
	r = name(t, a, second);
	if (r == 0 && a->s < a->end && *a->s == ',') {
		memcpy(first, second, NAME_MAX_);
		a->s++;
		space(a);
		if (a->s == a->end || *a->s++ != '$')
			return bad(t, &all, "the second variable is missing");
		r = name(t, a, second);
	}
	if (r < 0)
		return r;
	if (a->end - a->s < 2 || strncmp(a->s, ":=", 2) != 0 || !*second)
		return bad(t, &all, "variables are declared by :=");
	a->s += 2;
	space(a);
	return 0;
}

static void declare(struct template *t, const char *id, struct value v)
{
	if (!*id)
		return;
	memcpy(t->vars[t->n_vars].name, id, NAME_MAX_);
	t->vars[t->n_vars++].value = v;
}

static int range(struct template *t, struct action *a, const struct value *dot, bool emit,
		 unsigned depth)
{
	const struct action all = *a;
	char first[NAME_MAX_], second[NAME_MAX_];
	const char *body = t->p;
	bool trim = t->trim;
	size_t vars = t->n_vars;
	enum end end = END_TEXT;
	struct value over;
	int r = declared(t, a, first, second);

	if (r == 0)
		r = operand(t, a, dot, &over);
	if (r == 0 && (over.kind != LIST || !over.list.v))
		r = bad(t, &all, "no list");
	bool some = r == 0 && emit && over.list.n > 0;
	for (size_t i = 0; r == 0 && i < (some ? over.list.n : 1); i++) {
		struct value v = some ? text_value(over.list.v[i]) : text_value("");
		t->p = body;
		t->trim = trim;
		declare(t, first, (struct value){.kind = NUMBER, .number = i});
		declare(t, second, v);
		r = block(t, &v, some, depth, &end);
		t->n_vars = vars;
	}
	if (r == 0 && end == END_ELSE)
		r = block(t, dot, emit && !some, depth, &end);
	return r == 0 && end != END_END ? bad(t, &all, "has no end") : r;
}

static int action(struct template *t, struct action *a, const struct value *dot, bool emit,
		  unsigned depth)
{
	const struct action all = *a;
	struct value v;
	int r;

	if (depth == DEPTH_MAX)
		return bad(t, &all, "too deep");
	if (word(a, "range"))
		return range(t, a, dot, emit, depth + 1);
	bool cond = word(a, "if");
	r = operand(t, a, dot, &v);
	if (r == 0 && a->s < a->end)
		r = bad(t, &all, "only fields, variables, range, if, else and end are understood");
	if (r < 0)
		return r;
	if (cond)
		return branches(t, &all, dot, truth(&v), emit, depth + 1);
	return emit ? print(t, &all, &v) : 0;
}

static int block(struct template *t, const struct value *dot, bool emit, unsigned depth,
		 enum end *ret)
{
	struct action a;
	int r;

	while ((r = next_action(t, emit, &a)) > 0) {
		const struct action all = a;
		if (++t->steps > STEPS_MAX || t->out->len > CNI_TEMPLATE_OUT_MAX)
			return err_set(t->err, ERR_INVALID_ARGUMENT, "template: it makes too much");
		if (a.end - a.s >= 4 && strncmp(a.s, "/*", 2) == 0)
			continue;
		if (word(&a, "end") || word(&a, "else")) {
			if (a.s < a.end)
				return bad(t, &all, "nothing may follow");
			*ret = all.s[1] == 'n' ? END_END : END_ELSE;
			return depth == 0 ? bad(t, &all, "has no beginning") : 0;
		}
		r = action(t, &a, dot, emit, depth);
		if (r < 0)
			return r;
	}
	*ret = END_TEXT;
	return r;
}

int cni_template_render(const char *text, const struct cni_template_data *data, struct buf *out,
			struct err *err)
{
	struct template t = {.p = text, .data = data, .out = out, .err = err};
	enum end end;
	int r = block(&t, &root, true, 0, &end);

	if (r == 0 && !buf_ok(out))
		return err_nomem(err);
	return r;
}
