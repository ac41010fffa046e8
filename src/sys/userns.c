/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "sys/userns.h"

#define LINES_MAX 340 /* of a map: what the kernel takes */

struct line {
	unsigned inside, outside, n;
};

/* The lines of a map of this process. */
static size_t map_read(const char *path, struct line ret[LINES_MAX])
{
	_cleanup_fclose_ FILE *f = fopen(path, "re");
	size_t n = 0;

	while (f && n < LINES_MAX &&
	       fscanf(f, "%u %u %u", &ret[n].inside, &ret[n].outside, &ret[n].n) == 3)
		n++;
	return n;
}

bool userns_is_initial(void)
{
	struct line m[LINES_MAX];
	size_t n = map_read("/proc/self/uid_map", m);

	return n == 0 || (n == 1 && m[0].inside == 0 && m[0].outside == 0 && m[0].n == UINT32_MAX);
}

bool userns_has_group(uint32_t gid)
{
	struct line m[LINES_MAX];
	size_t n = map_read("/proc/self/gid_map", m);

	for (size_t i = 0; i < n; i++)
		if (gid >= m[i].inside && gid - m[i].inside < m[i].n)
			return true;
	return n == 0;
}
