/* SPDX-License-Identifier: Apache-2.0 */
/* How a transfer goes, drawn: all of it again and again on a terminal, else a line for each change.
 * Events and ticks come under the transfer's lock. */
#include "ctr/transfer.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include "base/time.h"
#include "ctr/progress.h"

struct display {
	struct progress progress;
	FILE *out;
	bool terminal;
	int drawn; /* lines on the terminal */
	int64_t started;
};

static void clear_drawn(struct display *d)
{
	if (d->drawn)
		fprintf(d->out, "\033[%dA\r\033[J", d->drawn);
	d->drawn = 0;
}

static void draw(void *arg)
{
	struct buf text _cleanup_buf_ = BUF_INIT;
	struct winsize w = {.ws_col = 80, .ws_row = 24};
	struct display *d = arg;

	ioctl(fileno(d->out), TIOCGWINSZ, &w);
	progress_render(&d->progress, time_mono() - d->started, w.ws_col ? w.ws_col : 80,
			w.ws_row ? w.ws_row : 24, &text);
	if (!buf_ok(&text))
		return;
	clear_drawn(d);
	fwrite(text.data, 1, text.len, d->out);
	fflush(d->out);
	for (size_t i = 0; i < text.len; i++)
		d->drawn += text.data[i] == '\n';
}

/* Without memory what is shown stays behind; the transfer goes on. */
static int show_event(void *arg, const PB_TRANSFER_TYPES(Progress) * m)
{
	struct display *d = arg;
	struct progress_event e = {.event = m->event,
				   .name = m->name,
				   .parent = m->n_parents ? m->parents[0] : "",
				   .progress = m->progress,
				   .total = m->total};
	struct buf line _cleanup_buf_ = BUF_INIT;
	bool changed;

	if (progress_add(&d->progress, &e, &changed) < 0 || d->terminal || !changed)
		return 0;
	progress_line(&d->progress, &e, &line);
	if (buf_ok(&line))
		fwrite(line.data, 1, line.len, d->out);
	fflush(d->out);
	return 0;
}

static void finish(struct display *d, bool failed)
{
	struct buf text _cleanup_buf_ = BUF_INIT;

	if (d->terminal)
		draw(d);
	else if (!failed) {
		progress_summary(&d->progress, time_mono() - d->started, &text);
		if (buf_ok(&text))
			fwrite(text.data, 1, text.len, d->out);
	}
	fflush(d->out);
}

int transfer_begin(struct ctr *c, struct client_transfer **ret, struct err *err)
{
	int r = ctr_connect(c, err);

	return r < 0 ? r : client_transfer_new(c->client, &c->ctx, ret, err);
}

int transfer_show(struct client_transfer *t, const ProtobufCMessage *source,
		  const ProtobufCMessage *destination, FILE *out, struct err *err)
{
	struct arena *a _cleanup_arena_ = arena_new(0);
	struct display d = {.progress = {.arena = a}, .out = out, .started = time_mono()};
	struct client_transfer_view view = {.event = show_event, .arg = &d};
	int r;

	if (!a)
		return err_nomem(err);
	d.terminal = isatty(fileno(out));
	if (d.terminal)
		view.tick = draw;
	r = client_transfer_run(t, source, destination, &view, err);
	finish(&d, r < 0);
	return r;
}
