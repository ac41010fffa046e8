/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel tells of a process that a container controls: its control groups' names, which it
 * may have made itself, and the interfaces of its network namespace. The first line is the name
 * that is looked for. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/arena.h"
#include "cri/sample.h"

#define MOUNTS                                                   \
	"32 31 0:29 / /cg/cpu rw - cgroup cgroup rw,cpu\n"       \
	"35 31 0:32 / /cg/memory rw - cgroup cgroup rw,memory\n" \
	"41 31 0:38 /a /cg/unified rw - cgroup2 cgroup2 rw\n"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *a = arena_new(1 << 20);
	char *text = a ? arena_strndup(a, (const char *)data, size) : NULL, *rest;
	struct cgroup_dirs d;
	struct cri_netdev *v;
	size_t n;

	rest = text ? strchr(text, '\n') : NULL;
	if (rest) {
		*rest++ = '\0';
		(void)!cri_cgroup_locate(a, rest, MOUNTS, text, &d);
		(void)!cri_cgroup_leaf(a, text);
		(void)!cri_netdev_parse(a, rest, &v, &n);
	}
	arena_free(a);
	return 0;
}
