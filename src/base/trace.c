/* SPDX-License-Identifier: Apache-2.0 */
/* The trace's file: an array of events of type X (complete: begin and duration), one a line. The
 * closing bracket may be missing, as the format allows, when the process was killed. See trace.h.
 */
#include "base/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/time.h"

#define BUFFER_SIZE (64u << 10)
#define EVENT_MAX 1024u /* all names and the argument are cut to fit */

atomic_bool trace_on;

static struct {
	pthread_mutex_t lock; /* guards the rest */
	int fd;
	char *data;
	size_t len;
	bool began; /* an event is in the file: commas go between */
} file = {.lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1};

/* What cannot be written is lost: a trace is no reason to fail. */
static void write_out(void)
{
	(void)!fd_write_full(file.fd, file.data, file.len);
	file.len = 0;
}

int trace_open(const char *path)
{
	_cleanup_free_ char *data = malloc(BUFFER_SIZE);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	if (!data) {
		close(fd);
		return -ENOMEM;
	}
	MUTEX_GUARD(&file.lock);
	file.fd = fd;
	file.data = TAKE_PTR(data);
	file.data[0] = '[';
	file.len = 1;
	file.began = false;
	atomic_store(&trace_on, true);
	return 0;
}

void trace_flush(void)
{
	MUTEX_GUARD(&file.lock);
	if (file.fd >= 0)
		write_out();
}

void trace_close(void)
{
	MUTEX_GUARD(&file.lock);
	if (file.fd < 0)
		return;
	atomic_store(&trace_on, false);
	write_out();
	(void)!fd_write_full(file.fd, "\n]\n", 3);
	fd_closep(&file.fd);
	file.fd = -1;
	free(TAKE_PTR(file.data));
}

struct trace_span trace_begin(const char *category, const char *name, const char *key,
			      const char *value)
{
	return (struct trace_span){time_mono(), category, name, key, value};
}

/* A JSON string in at most @cap bytes, quotes and NUL included; the rest of @s is dropped. */
static const char *quote(char *out, size_t cap, const char *s)
{
	size_t n = 0;

	out[n++] = '"';
	for (; *s && n + 8 < cap; s++) {
		unsigned char c = (unsigned char)*s;

		if (c < 0x20 || c >= 0x7f || c == '"' || c == '\\')
			n += (size_t)snprintf(out + n, cap - n, "\\u%04x", c);
		else
			out[n++] = (char)c;
	}
	out[n++] = '"';
	out[n] = '\0';
	return out;
}

void trace_end(const struct trace_span *s)
{
	int64_t took = time_mono() - s->begin;
	char line[EVENT_MAX], name[128], key[64], value[512], args[600] = "";
	int saved = errno, n;

	if (s->key)
		snprintf(args, sizeof(args), ",\"args\":{%s:%s}", quote(key, sizeof(key), s->key),
			 quote(value, sizeof(value), s->value ? s->value : ""));
	n = snprintf(line, sizeof(line),
		     "{\"ph\":\"X\",\"cat\":\"%s\",\"name\":%s,\"pid\":%d,\"tid\":%d,"
		     "\"ts\":%" PRId64 ".%03d,\"dur\":%" PRId64 ".%03d%s}",
		     s->category, quote(name, sizeof(name), s->name), (int)getpid(), (int)gettid(),
		     s->begin / 1000, (int)(s->begin % 1000), took / 1000, (int)(took % 1000),
		     args);

	MUTEX_GUARD(&file.lock);
	if (file.fd >= 0 && n > 0 && (size_t)n < sizeof(line)) {
		if (file.len + (size_t)n + 2 > BUFFER_SIZE)
			write_out();
		file.data[file.len++] = file.began ? ',' : '\n';
		if (file.began)
			file.data[file.len++] = '\n';
		memcpy(file.data + file.len, line, (size_t)n);
		file.len += (size_t)n;
		file.began = true;
	}
	errno = saved;
}
