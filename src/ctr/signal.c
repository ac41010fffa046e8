/* SPDX-License-Identifier: Apache-2.0 */
/* Names of signals. */
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "base/str.h"
#include "ctr/task.h"

static int parse_rt(const char *s, int *ret)
{
	bool from_max = str_has_prefix(s, "RTMAX");
	uint64_t n = 0;

	if (!from_max && !str_has_prefix(s, "RTMIN"))
		return -EINVAL;
	s += 5;
	if (*s && (*s != (from_max ? '-' : '+') || str_to_u64(s + 1, 10, &n) < 0 ||
		   n > (uint64_t)(SIGRTMAX - SIGRTMIN)))
		return -EINVAL;
	*ret = from_max ? SIGRTMAX - (int)n : SIGRTMIN + (int)n;
	return 0;
}

int signal_parse(const char *s, int *ret)
{
	char name[16];
	uint64_t n;
	size_t i;

	if (str_to_u64(s, 10, &n) == 0) {
		if (n == 0 || n > (uint64_t)SIGRTMAX)
			return -EINVAL;
		*ret = (int)n;
		return 0;
	}
	for (i = 0; s[i] && i + 1 < sizeof(name); i++)
		name[i] = s[i] >= 'a' && s[i] <= 'z' ? (char)(s[i] - 'a' + 'A') : s[i];
	name[i] = '\0';
	if (s[i])
		return -EINVAL;
	s = str_skip(name, "SIG") ? str_skip(name, "SIG") : name;
	for (int sig = 1; sig < SIGRTMIN; sig++) {
		const char *abbrev = sigabbrev_np(sig);

		if (abbrev && streq(abbrev, s)) {
			*ret = sig;
			return 0;
		}
	}
	return parse_rt(s, ret);
}
