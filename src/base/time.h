/* SPDX-License-Identifier: Apache-2.0 */
/* Time: wall clock as struct timespec (UTC), monotonic as nanoseconds. Texts as Go writes and reads
 * them. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#define NSEC_PER_SEC 1000000000LL
#define NSEC_PER_MSEC 1000000LL

struct timespec time_now(void);
int64_t time_mono(void); /* CLOCK_MONOTONIC, ns */
static inline bool time_is_zero(struct timespec t)
{
	return t.tv_sec == 0 && t.tv_nsec == 0;
}
int time_cmp(struct timespec a, struct timespec b);

/* RFC3339 with nanoseconds, trailing zeroes dropped, "Z": at most 36 bytes with the NUL. */
void time_format_rfc3339(struct timespec t, char out[40]);
/* RFC3339, any fraction, any offset; -EINVAL. */
int time_parse_rfc3339(const char *s, struct timespec *ret);

/* Go durations: "1h2m3.5s", "300ms", "0"; -EINVAL, -ERANGE. Nanoseconds. */
int duration_parse(const char *s, int64_t *ret_ns);
void duration_format(int64_t ns, char out[40]);
