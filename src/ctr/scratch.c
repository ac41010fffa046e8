/* SPDX-License-Identifier: Apache-2.0 */
#include "ctr/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "ctr/ctr.h"

#define TRIES 3 /* what works in the directory may add to it while it is emptied */

static int empty(const char *path)
{
	int r = -ENOTEMPTY;

	for (int i = 0; i < TRIES && (r == -ENOTEMPTY || r == -EEXIST); i++)
		r = rm_rf(AT_FDCWD, path);
	return r;
}

static void end_by(int number)
{
	sigset_t one;

	signal(number, SIG_DFL);
	sigemptyset(&one);
	sigaddset(&one, number);
	raise(number);
	pthread_sigmask(SIG_UNBLOCK, &one, NULL);
}

static void *watch(void *arg)
{
	const struct scratch *s = arg;
	struct pollfd p[] = {
		{.fd = s->stop_fd, .events = POLLIN},
		{.fd = s->signal_fd, .events = POLLIN},
	};
	struct signalfd_siginfo si;

	while (poll(p, ARRAY_LEN(p), -1) < 0 && errno == EINTR)
		;
	if (!p[0].revents && read(s->signal_fd, &si, sizeof(si)) == (ssize_t)sizeof(si)) {
		(void)!empty(s->path);
		end_by((int)si.ssi_signo);
	}
	return NULL;
}

/* A signal that is ignored, as under nohup, stays ignored. */
static void block(struct scratch *s, sigset_t *ret)
{
	static const int numbers[] = {SIGHUP, SIGINT, SIGTERM};

	sigemptyset(ret);
	for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
		struct sigaction now;

		if (sigaction(numbers[i], NULL, &now) == 0 && now.sa_handler != SIG_IGN)
			sigaddset(ret, numbers[i]);
	}
	pthread_sigmask(SIG_BLOCK, ret, &s->old);
}

static void stop(struct scratch *s)
{
	fd_closep(&s->signal_fd);
	fd_closep(&s->stop_fd);
	pthread_sigmask(SIG_SETMASK, &s->old, NULL);
}

int scratch_make(const char *template, struct scratch *ret, struct err *err)
{
	char *path _cleanup_free_ = strdup(template);
	sigset_t signals;
	int r;

	if (!path)
		return err_nomem(err);
	block(ret, &signals);
	ret->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
	ret->stop_fd = eventfd(0, EFD_CLOEXEC);
	if (ret->signal_fd < 0 || ret->stop_fd < 0)
		r = err_errno(err, errno, "receive signals");
	else
		r = mkdtemp(path) ? 0 : err_errno(err, errno, "make the directory `%s`", template);
	if (r < 0) {
		stop(ret);
		return r;
	}
	ret->path = TAKE_PTR(path);
	r = pthread_create(&ret->thread, NULL, watch, ret);
	if (r == 0)
		return 0;
	rmdir(ret->path);
	free(TAKE_PTR(ret->path));
	stop(ret);
	return err_errno(err, r, "start a thread");
}

void scratch_done(struct scratch *s)
{
	int r;

	if (!s->path)
		return;
	r = empty(s->path);
	if (r < 0)
		ctr_warn("remove `%s`: %s", s->path, strerror(-r));
	eventfd_write(s->stop_fd, 1);
	pthread_join(s->thread, NULL);
	free(TAKE_PTR(s->path));
	/* One that came meanwhile ends the process now. */
	stop(s);
}
