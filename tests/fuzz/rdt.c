/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: any bytes are a configuration of RDT in which no two partitions share a bit of a
 * cache and each class has its schemata, or an error that says why; on systems with all resources,
 * with bandwidth in MB/s, and with none. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "oci/rdt_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t few[] = {0, 1, 63}, one[] = {7};

static const struct rdt_info systems[] = {
	{.cache = {{.unified = true, .mask = 0xff, .min_bits = 1, .ids = {few, 3}},
		   {.split = true, .mask = 0xfffff, .min_bits = 2, .ids = {few, 3}}},
	 .mb = true,
	 .mb_min = 10,
	 .mb_ids = {few, 3},
	 .closids = 16},
	{.cache =
		 {[RDT_L3] = {.unified = true, .mask = UINT64_MAX, .min_bits = 3, .ids = {one, 1}}},
	 .mb = true,
	 .mbps = true,
	 .mb_ids = {one, 1},
	 .closids = 300},
	{.closids = UINT32_MAX},
};

static void check(const struct rdt_info *info, const struct rdt_config *c)
{
	for (size_t i = 0; i < c->n_classes; i++)
		if (!c->classes[i].schemata || !rdt_class_name_valid(c->classes[i].name))
			abort();
	for (int l = 0; l < RDT_LEVELS; l++)
		for (int t = 0; t < RDT_TYPES; t++)
			for (size_t i = 0; i < info->cache[l].ids.n; i++) {
				uint64_t taken = ~info->cache[l].mask;
				for (size_t p = 0; p < c->n_partitions; p++) {
					uint64_t m = c->partitions[p].granted[l][t][i];
					if (m & taken)
						abort();
					taken |= m;
				}
			}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	for (size_t i = 0; i < ARRAY_LEN(systems); i++) {
		_cleanup_arena_ struct arena *a = arena_new(RDT_MEMORY_MAX);
		struct rdt_config c;
		struct err err = ERR_INIT;

		int e = rdt_config_parse(a, (const char *)data, size, &systems[i], &c, &err);
		if (e == 0)
			e = rdt_config_resolve(a, &systems[i], &c, &err);
		if (e < 0 && (!err.kind || !err.text[0]))
			abort();
		if (e == 0)
			check(&systems[i], &c);
	}
	return 0;
}
