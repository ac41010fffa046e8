/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: bytes in pieces of any size are a log from which the same bytes come back ("\r\n" as
 * "\n"), no piece larger than the limit; and requests of who attaches are taken or refused. The
 * first byte is the limit, the second the size of pieces. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/str.h"
#include "sys/attach.h"
#include "sys/k8s_log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void check_request(const uint8_t *data, size_t size)
{
	struct attach_request q;
	char answer[ATTACH_REQUEST_MAX];

	if (attach_request_parse(data, size, &q) < 0)
		return;
	check(q.kind == ATTACH_BEGIN || q.kind == ATTACH_REOPEN);
	check(q.streams <= 3 && attach_answer(&q, 5, answer) <= sizeof(answer));
}

/* Text of the log put together. */
static void read_back(const char *p, size_t n, size_t limit, struct buf *out)
{
	for (const char *end = p + n; p < end;) {
		const char *line = memchr(p, ' ', (size_t)(end - p)), *nl;

		check(line && end - line > 10 && memcmp(line, " stdout ", 8) == 0);
		check((line[8] == 'F' || line[8] == 'P') && line[9] == ' ');
		nl = memchr(line, '\n', (size_t)(end - line));
		check(nl != NULL);
		check((size_t)(nl - (line + 10)) <= limit);
		buf_add(out, line + 10, (size_t)(nl - (line + 10)));
		if (line[8] == 'F')
			buf_addc(out, '\n');
		p = nl + 1;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	_cleanup_buf_ struct buf want = BUF_INIT, got = BUF_INIT;
	struct k8s_log log = {.limit = size > 0 && data[0] ? data[0] : 1};
	size_t piece = size > 1 && data[1] ? data[1] : 1, n;
	char *text;

	check_request(data, size);
	if (!a || size < 2)
		return 0;
	log.fd = memfd_create("log", MFD_CLOEXEC);
	if (log.fd < 0)
		return 0;
	int fd = dup(log.fd);
	for (size_t i = 2; i < size; i += piece)
		check(k8s_log_add(&log, 0, (const char *)data + i,
				  size - i < piece ? size - i : piece) == 0);
	for (size_t i = 2; i < size; i++)
		if (data[i] != '\r' || i + 1 == size || data[i + 1] != '\n')
			buf_addc(&want, (char)data[i]);
	check(k8s_log_end(&log, 0) == 0);
	k8s_log_done(&log);
	check(lseek(fd, 0, SEEK_SET) == 0 && fd_read_all(a, fd, 256u << 20, &text, &n) == 0);
	close(fd);
	read_back(text, n, size > 0 && data[0] ? data[0] : 1, &got);
	check(got.len == want.len && (!got.len || memcmp(got.data, want.data, got.len) == 0));
	return 0;
}
