/* SPDX-License-Identifier: Apache-2.0 */
/* cni_run add|del|check|status|gc CONFIG CACHE BIN [ID NETNS IFNAME [CAPABILITIES]]: one operation
 * on the network of a file; prints the result, or one line of error and exits with 1. For gc, ID,
 * NETNS, IFNAME is the one attachment that is valid. */
#include <stdio.h>

#include "base/str.h"
#include "cni/cni.h"

static int operate(const char *what, const struct cni *cni, const struct cni_network *n,
		   const struct cni_attachment *at, json_t **ret, struct err *err)
{
	if (streq(what, "add"))
		return cni_add(cni, NULL, n, at, ret, err);
	if (streq(what, "del"))
		return cni_del(cni, NULL, n, at, err);
	if (streq(what, "check"))
		return cni_check(cni, NULL, n, at, err);
	if (streq(what, "gc"))
		return cni_gc(cni, NULL, n, at, *at->container_id ? 1 : 0, err);
	return cni_status(cni, NULL, n, err);
}

int main(int argc, char **argv)
{
	struct cni_network *n _cleanup_(cni_network_freep) = NULL;
	json_t *result _cleanup_json_ = NULL, *caps _cleanup_json_ = NULL;
	struct cni_attachment at = {.container_id = "", .netns = "", .ifname = ""};
	struct cni cni = {.n_bin_dirs = 1};
	struct err err = ERR_INIT;
	const char *bin;
	int r;

	if (argc != 5 && argc != 8 && argc != 9)
		return 2;
	cni.cache_dir = argv[3];
	bin = argv[4];
	cni.bin_dirs = &bin;
	if (argc >= 8) {
		at.container_id = argv[5];
		at.netns = argv[6];
		at.ifname = argv[7];
	}
	at.capabilities = caps = argc == 9 ? json_loads(argv[8], 0, NULL) : NULL;
	r = cni_network_load(argv[2], &n, &err);
	if (r == 0)
		r = operate(argv[1], &cni, n, &at, &result, &err);
	if (r < 0) {
		fprintf(stderr, "%s\n", err.text);
		return 1;
	}
	if (result && json_dumpf(result, stdout, JSON_COMPACT) == 0)
		putchar('\n');
	return 0;
}
