/* SPDX-License-Identifier: Apache-2.0 */
/* The terminal gives characters one by one and no signals meanwhile, so that there is one way out,
 * by which it is put back. */
#include "ctr/read_secret.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#define SECRET_MAX 4096
#define KEY_INTERRUPT 3
#define KEY_END 4
#define KEY_KILL 21

static int read_keys(char *p, size_t size, size_t *ret_n, struct err *err)
{
	size_t n = 0;

	for (;;) {
		char key;
		ssize_t got = read(STDIN_FILENO, &key, 1);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return err_errno(err, errno, "read the terminal");
		if (got == 0 || key == '\n' || key == '\r' || key == KEY_END)
			break;
		if (key == KEY_INTERRUPT)
			return err_set(err, ERR_CANCELED, "interrupted");
		if (key == KEY_KILL)
			n = 0;
		else if (key == 0x7f || key == '\b')
			n -= n > 0;
		else if (n + 1 >= size)
			return err_set(err, ERR_INVALID_ARGUMENT, "longer than %zu bytes",
				       size - 1);
		else
			p[n++] = key;
	}
	*ret_n = n;
	return 0;
}

int read_secret(struct arena *a, const char *prompt, const char **ret, struct err *err)
{
	struct termios old, silent;
	char text[SECRET_MAX];
	size_t n = 0;
	int r;

	if (tcgetattr(STDIN_FILENO, &old) < 0)
		return err_set(err, ERR_FAILED_PRECONDITION,
			       "standard input is no terminal to ask on");
	silent = old;
	silent.c_lflag &= ~(tcflag_t)(ECHO | ICANON | ISIG);
	silent.c_cc[VMIN] = 1;
	silent.c_cc[VTIME] = 0;
	fputs(prompt, stderr);
	if (tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent) < 0)
		return err_errno(err, errno, "set up the terminal");
	r = read_keys(text, sizeof(text), &n, err);
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &old);
	fputc('\n', stderr);
	if (r == 0) {
		*ret = arena_strndup(a, text, n);
		if (!*ret)
			r = err_nomem(err);
	}
	explicit_bzero(text, sizeof(text));
	return r;
}
