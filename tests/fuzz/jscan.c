/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: any bytes are walked over without leaving them. What the scanner gives are spans of
 * the text that it takes again as they are, a decoded string that is quoted reads the same, and a
 * process document that is accepted is one with its terminal set. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "shim/bundle.h"
#include "shim/runtime.h"

#define DEPTH_MAX 16
#define STEPS_MAX 20000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void check_inside(struct jspan v, struct jspan outer)
{
	check(v.n > 0 && v.p >= outer.p && v.n <= outer.n &&
	      (size_t)(v.p - outer.p) <= outer.n - v.n);
}

static void check_string(struct jspan v)
{
	_cleanup_free_ char *text = malloc(v.n), *again = malloc(v.n);
	_cleanup_buf_ struct buf b = BUF_INIT;
	struct jspan quoted;
	int r;

	if (!text || !again)
		return;
	r = jscan_string(v, text, v.n);
	if (r < 0) {
		check(r == -EINVAL);
		return;
	}
	check(jscan_quote(&b, text) == 0);
	check(jscan_value(b.data, b.len, &quoted) == 0 && quoted.n == b.len);
	check(jscan_string(quoted, again, strlen(text) + 1) == 0 && streq(again, text));
	check(jscan_string(quoted, again, strlen(text)) == -ENAMETOOLONG);
	if (strlen(text) < 256)
		check(jscan_string_is(v, text));
}

static void walk(struct jspan v, int depth, size_t *steps)
{
	struct jspan key, item, again;
	size_t pos = 0;
	int64_t x;

	/* A value is what it is wherever it stands. */
	check(jscan_value(v.p, v.n, &again) == 0 && again.p == v.p && again.n == v.n);
	(void)!jscan_int(v, &x);
	if (jscan_is_string(v))
		check_string(v);
	if (depth == DEPTH_MAX)
		return;
	while (++*steps < STEPS_MAX && jscan_next_member(v, &pos, &key, &item) == 1) {
		check_inside(key, v);
		check_inside(item, v);
		check_string(key);
		walk(item, depth + 1, steps);
	}
	pos = 0;
	while (++*steps < STEPS_MAX && jscan_next_item(v, &pos, &item) == 1) {
		check_inside(item, v);
		walk(item, depth + 1, steps);
	}
}

static void check_process(struct jspan doc, bool terminal)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	struct jspan whole, v;

	if (process_with_terminal(doc, terminal, &b) < 0)
		return;
	check(jscan_value(b.data, b.len, &whole) == 0 && whole.n == b.len);
	check(jscan_member(whole, "terminal", &v) == 1);
	check(v.n == (terminal ? 4u : 5u) && v.p[0] == (terminal ? 't' : 'f'));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *p = (const char *)data;
	char message[64];
	size_t steps = 0;
	struct jspan v;

	if (runtime_log_last_error(p, size, message, sizeof(message)))
		check(memchr(message, '\0', sizeof(message)));
	if (jscan_value(p, size, &v) < 0)
		return 0;
	check_inside(v, (struct jspan){p, size});
	walk(v, 0, &steps);
	check_process(v, true);
	check_process(v, false);
	return 0;
}
