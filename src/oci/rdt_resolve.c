/* SPDX-License-Identifier: Apache-2.0 */
/* Requests become bits. Partitions share no bit of a cache: those that ask for percentages lie side
 * by side in the order of their names, those that ask for bit masks lie where they say; all
 * partitions ask in the same way, for each cache, or none does. A class then gets its share of its
 * partition's bits, which it may share with other classes. Bandwidth is multiplied: half of a
 * partition's 50% is 25%. */
#include <inttypes.h>

#include "base/buf.h"
#include "base/str.h"
#include "oci/rdt_internal.h"

static uint64_t ones(uint32_t n)
{
	return n >= 64 ? UINT64_MAX : (UINT64_C(1) << n) - 1;
}

static uint32_t width(uint64_t mask)
{
	return (uint32_t)__builtin_popcountll(mask);
}

/* ---- shares of a mask ---- */

static int percent_bits(const struct rdt_share *s, uint32_t n, uint32_t min_bits, uint64_t *ret,
			struct err *err)
{
	uint32_t low = s->low ? s->low : 1, high = s->high, first, last;

	if (low > high || high > 100)
		return err_set(err, ERR_INVALID_ARGUMENT, "invalid percentage range %u-%u%%",
			       s->low, s->high);
	/* 1% to 100% are the hundredths that lie in the bits. */
	first = (low - 1) * n / 100;
	last = (high - 1) * n / 100;
	/* Too few of them: more towards the lowest bit, then towards the highest. */
	if (last - first + 1 < min_bits)
		first = last + 1 > min_bits ? last + 1 - min_bits : 0;
	if (last - first + 1 < min_bits)
		last = first + min_bits - 1;
	*ret = ones(last - first + 1) << first;
	return 0;
}

int rdt_share_bits(const struct rdt_share *s, uint64_t base, uint32_t min_bits, uint64_t *ret,
		   struct err *err)
{
	uint32_t shift = base ? (uint32_t)__builtin_ctzll(base) : 0;
	uint64_t bits = s->mask;

	if (!base || base >> shift != ones(width(base)))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "invalid basemask %#" PRIx64 ": not one block of bits", base);
	if (width(base) < min_bits)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "invalid basemask %#" PRIx64 ": fewer than %u bits set", base,
			       min_bits);
	if (s->kind != RDT_MASK) {
		int e = percent_bits(s, width(base), min_bits, &bits, err);
		if (e < 0)
			return e;
	}
	if (bits & ~(base >> shift))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "bitmask %#" PRIx64 " << %u does not fit basemask %#" PRIx64, bits,
			       shift, base);
	*ret = bits << shift;
	return 0;
}

/* ---- partitions ---- */

/* One kind of share of one cache. */
struct cell {
	const struct rdt_cache *cache;
	struct rdt_config *c;
	int level, type;
	size_t i; /* cache */
};

static const struct rdt_share *request_of(const struct cell *x, size_t partition)
{
	const struct rdt_shares *s = x->c->partitions[partition].want.cache[x->level];
	static const struct rdt_share none;

	return s ? &s[x->i].of[x->type] : &none;
}

static void grant(const struct cell *x, size_t partition, uint64_t mask)
{
	x->c->partitions[partition].granted[x->level][x->type][x->i] = mask;
}

static int mixed(const struct cell *x, struct err *err)
{
	return err_set(
		err, ERR_INVALID_ARGUMENT,
		"error resolving %s allocation for cache id %u: mixing relative and absolute "
		"allocations between partitions not supported",
		rdt_resource_name[x->level], x->cache->ids.v[x->i]);
}

static int grant_masks(const struct cell *x, struct err *err)
{
	uint64_t taken = 0;

	for (size_t p = 0; p < x->c->n_partitions; p++) {
		const struct rdt_share *s = request_of(x, p);

		if (s->kind != RDT_MASK)
			return mixed(x, err);
		if (s->mask & ~x->cache->mask)
			return err_set(
				err, ERR_INVALID_ARGUMENT,
				"%s bitmask %#" PRIx64
				" of partition \"%.128s\" does not fit the cache's %#" PRIx64,
				rdt_resource_name[x->level], s->mask, x->c->partitions[p].name,
				x->cache->mask);
		if (s->mask & taken)
			return err_set(err, ERR_INVALID_ARGUMENT,
				       "overlapping %s partition allocation requests for cache id "
				       "%u (partition \"%.128s\")",
				       rdt_resource_name[x->level], x->cache->ids.v[x->i],
				       x->c->partitions[p].name);
		taken |= s->mask;
		grant(x, p, s->mask);
	}
	return 0;
}

static int percent_total(const struct cell *x, uint32_t *ret, struct err *err)
{
	uint32_t total = 0;

	for (size_t p = 0; p < x->c->n_partitions; p++) {
		const struct rdt_share *s = request_of(x, p);

		if (s->kind == RDT_MASK)
			return mixed(x, err);
		if (s->kind != RDT_PERCENT)
			return err_set(err, ERR_INVALID_ARGUMENT,
				       "percentage ranges in partition allocation not supported "
				       "(partition \"%.128s\")",
				       x->c->partitions[p].name);
		total += s->high;
	}
	if (total > 100)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "accumulated %s \"%s\" partition allocation requests for cache id "
			       "%u exceeds 100%% (%u%%)",
			       rdt_resource_name[x->level], rdt_type_name[x->type],
			       x->cache->ids.v[x->i], total);
	*ret = total;
	return 0;
}

/* The partition that asks for least among those without bits; the first of equals. */
static size_t next_smallest(const struct cell *x, const uint32_t *bits)
{
	size_t least = SIZE_MAX;

	for (size_t p = 0; p < x->c->n_partitions; p++)
		if (!bits[p] &&
		    (least == SIZE_MAX || request_of(x, p)->high < request_of(x, least)->high))
			least = p;
	return least;
}

/* Small shares first, because they may have to be rounded up; the largest takes what is left. */
static int grant_percents(const struct cell *x, struct err *err)
{
	uint32_t bits[RDT_PARTITIONS_MAX] = {0}, total, all, left, first = 0;
	uint32_t min = x->cache->min_bits ? x->cache->min_bits : 1;
	size_t n = x->c->n_partitions;
	int e = percent_total(x, &total, err);

	if (e < 0)
		return e;
	left = all = total * width(x->cache->mask) / 100;
	for (size_t k = 0; k < n; k++) {
		size_t p = next_smallest(x, bits);

		if (left < min)
			return err_set(err, ERR_INVALID_ARGUMENT,
				       "unable to resolve %s allocation for cache id %u, not "
				       "enough exclusive bits available",
				       rdt_resource_name[x->level], x->cache->ids.v[x->i]);
		bits[p] = request_of(x, p)->high * left / (left * total / all);
		if (bits[p] < min)
			bits[p] = min;
		if (bits[p] > left || k + 1 == n)
			bits[p] = left;
		left -= bits[p];
	}
	for (size_t p = 0; p < n; p++) {
		grant(x, p, ones(bits[p]) << first);
		first += bits[p];
	}
	return 0;
}

static int missing(struct arena *a, const struct cell *x, struct err *err)
{
	const char *names = "";

	for (size_t p = 0; names && p < x->c->n_partitions; p++)
		if (!request_of(x, p)->kind)
			names = arena_printf(a, "%s%s%.64s", names, *names ? ", " : "",
					     x->c->partitions[p].name);
	return err_set(err, ERR_INVALID_ARGUMENT,
		       "some partitions (%.512s) missing %s \"%s\" allocation request for cache id "
		       "%u",
		       names ? names : "?", rdt_resource_name[x->level], rdt_type_name[x->type],
		       x->cache->ids.v[x->i]);
}

static int resolve_cell(struct arena *a, const struct cell *x, struct err *err)
{
	size_t none = 0;

	for (size_t p = 0; p < x->c->n_partitions; p++)
		none += !request_of(x, p)->kind;
	if (none == x->c->n_partitions)
		return 0;
	if (none)
		return missing(a, x, err);
	return request_of(x, 0)->kind == RDT_MASK ? grant_masks(x, err) : grant_percents(x, err);
}

static int resolve_level(struct arena *a, const struct rdt_info *info, struct rdt_config *c,
			 int level, struct err *err)
{
	struct cell x = {.cache = &info->cache[level], .c = c, .level = level};
	int e = 0;

	for (size_t p = 0; p < c->n_partitions; p++)
		for (int t = 0; t < RDT_TYPES; t++) {
			uint64_t *v = arena_new_array(a, uint64_t, x.cache->ids.n + 1);
			if (!v)
				return err_nomem(err);
			c->partitions[p].granted[level][t] = v;
		}
	for (; e == 0 && x.i < x.cache->ids.n; x.i++)
		for (x.type = 0; e == 0 && x.type < RDT_TYPES; x.type++)
			e = resolve_cell(a, &x, err);
	return e;
}

/* ---- schemata ---- */

/* Where code and data are not told apart, what is said for both counts. */
static int cache_line(const struct rdt_info *info, const struct rdt_class *c, int level, int type,
		      struct buf *to, struct err *err)
{
	static const char *const suffix[RDT_TYPES] = {"", "CODE", "DATA"};
	const struct rdt_cache *cache = &info->cache[level];
	uint64_t *const *granted = c->partition->granted[level];

	buf_printf(to, "%s%s:", rdt_resource_name[level], suffix[type]);
	for (size_t i = 0; i < cache->ids.n; i++) {
		uint64_t mask = granted[type][i] ? granted[type][i] : granted[RDT_UNIFIED][i];

		if (!mask)
			mask = cache->mask;
		if (c->want.cache[level]) {
			const struct rdt_share *s = c->want.cache[level][i].of;
			int e = rdt_share_bits(s[type].kind ? &s[type] : &s[RDT_UNIFIED], mask,
					       cache->min_bits, &mask, err);
			if (e < 0)
				return err_prefix(err, "%s allocation for cache id %u",
						  rdt_resource_name[level], cache->ids.v[i]);
		}
		buf_printf(to, "%s%u=%" PRIx64, i ? ";" : "", cache->ids.v[i], mask);
	}
	buf_addc(to, '\n');
	return 0;
}

static void mb_line(const struct rdt_info *info, const struct rdt_class *c, struct buf *to)
{
	uint64_t most = info->mbps ? RDT_MB_MAX : 100;

	buf_adds(to, "MB:");
	for (size_t i = 0; i < info->mb_ids.n; i++) {
		uint64_t base = c->partition->want.mb ? c->partition->want.mb[i] : most;
		uint64_t v = c->want.mb ? c->want.mb[i] : most;

		if (info->mbps) {
			v = v < base ? v : base;
		} else {
			base = base < info->mb_min ? info->mb_min : base;
			v = v * base / 100;
			v = v < info->mb_min ? info->mb_min : v;
		}
		buf_printf(to, "%s%u=%" PRIu64, i ? ";" : "", info->mb_ids.v[i], v);
	}
	buf_addc(to, '\n');
}

static int class_resolve(struct arena *a, const struct rdt_info *info, const struct rdt_config *c,
			 struct rdt_class *k, struct err *err)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	int e = 0;

	for (int l = 0; e == 0 && l < RDT_LEVELS; l++) {
		const struct rdt_cache *cache = &info->cache[l];

		if (cache->unified) {
			e = cache_line(info, k, l, RDT_UNIFIED, &b, err);
		} else if (cache->split) {
			e = cache_line(info, k, l, RDT_CODE, &b, err);
			if (e == 0)
				e = cache_line(info, k, l, RDT_DATA, &b, err);
		} else if (k->want.given[l] && !c->optional[l]) {
			e = err_set(err, ERR_INVALID_ARGUMENT,
				    "%s cache allocation specified in configuration but not "
				    "supported by system",
				    rdt_resource_name[l]);
		}
	}
	if (e == 0 && info->mb)
		mb_line(info, k, &b);
	else if (e == 0 && k->want.given[RDT_MB] && !c->optional[RDT_MB])
		e = err_set(err, ERR_INVALID_ARGUMENT,
			    "memory bandwidth allocation specified in configuration but not "
			    "supported by system");
	if (e < 0)
		return e;
	k->schemata = buf_ok(&b) ? arena_strdup(a, b.data ? b.data : "") : NULL;
	return k->schemata ? 0 : err_nomem(err);
}

int rdt_config_resolve(struct arena *a, const struct rdt_info *info, struct rdt_config *c,
		       struct err *err)
{
	size_t groups = 1;
	int e = 0;

	for (int l = 0; e == 0 && l < RDT_LEVELS; l++)
		e = resolve_level(a, info, c, l, err);
	for (size_t i = 0; e == 0 && i < c->n_classes; i++) {
		groups += !rdt_is_root(c->classes[i].name);
		e = class_resolve(a, info, c, &c->classes[i], err);
		if (e < 0)
			err_prefix(err, "class \"%.128s\"", c->classes[i].name);
	}
	if (e == 0 && groups > info->closids)
		e = err_set(err, ERR_INVALID_ARGUMENT,
			    "%zu classes (with the system's own), but the system has room for %u",
			    groups, info->closids);
	return e;
}
