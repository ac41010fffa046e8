/* SPDX-License-Identifier: Apache-2.0 */
/* The file of RDT classes: YAML by way of JSON, taken apart member by member; a member that is not
 * known is an error, so that a slip of the pen does not give away a cache. What it asks for is kept
 * for each cache that the system has; lists that name caches which it does not have say nothing. */
#include <inttypes.h>
#include <stdlib.h>
#include <strings.h>

#include "base/json.h"
#include "base/str.h"
#include "oci/rdt_internal.h"
#include "oci/yaml_json.h"

const char *const rdt_type_name[RDT_TYPES] = {"unified", "code", "data"};

struct reader {
	struct arena *a;
	const struct rdt_info *info;
	struct rdt_config *to;
};

/* ---- members ---- */

struct field {
	const char *name;
	json_t *v; /* NULL = not given */
};

static int wrong_type(const char *what, const char *wanted, struct err *err)
{
	return err_set(err, ERR_INVALID_ARGUMENT, "%s is not %s", what, wanted);
}

/* Takes the map @o apart (null is an empty one). */
static int take_fields(const json_t *o, const char *what, struct field *f, size_t n,
		       struct err *err)
{
	const char *key;
	json_t *v;
	size_t i;

	if (o && !json_is_null(o) && !json_is_object(o))
		return wrong_type(what, "a map", err);
	json_object_foreach ((json_t *)o, key, v) {
		for (i = 0; i < n && strcasecmp(key, f[i].name); i++)
			;
		if (i == n)
			return err_set(err, ERR_INVALID_ARGUMENT, "unknown field \"%.128s\" in %s",
				       key, what);
		if (f[i].v)
			return err_set(err, ERR_INVALID_ARGUMENT, "field \"%.128s\" twice in %s",
				       key, what);
		f[i].v = v;
	}
	return 0;
}

static int take_bool(const struct field *f, bool *ret, struct err *err)
{
	if (f->v && !json_is_null(f->v) && !json_is_boolean(f->v))
		return wrong_type(f->name, "true or false", err);
	*ret = json_is_true(f->v);
	return 0;
}

/* A text; a number that stands where a text belongs is one. NULL = neither, or no memory. */
static const char *text_of(struct arena *a, const json_t *v)
{
	if (json_is_integer(v))
		return arena_printf(a, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
	return json_string_value(v);
}

/* ---- shares ---- */

/* Digits at *@s up to @max; *@s is moved behind them. */
static bool scan(const char **s, int base, uint64_t max, uint64_t *ret)
{
	static const char digits[] = "0123456789abcdef";
	const char *p = *s, *d;
	uint64_t v = 0;

	for (; *p && (d = strchr(digits, *p | (*p >= 'A' ? 0x20 : 0))); p++) {
		uint64_t digit = (uint64_t)(d - digits);
		if (digit >= (uint64_t)base)
			break;
		if (v > (max - digit) / (uint64_t)base)
			return false;
		v = v * (uint64_t)base + digit;
	}
	if (p == *s)
		return false;
	*s = p;
	*ret = v;
	return true;
}

/* The next number or range of the list *@s: 1, 0 at its end, or -EINVAL. */
static int scan_list(const char **s, uint64_t max, uint64_t *ret_low, uint64_t *ret_high)
{
	uint64_t low, high;

	if (!**s)
		return 0;
	if (!scan(s, 10, max, &low))
		return -EINVAL;
	high = low;
	if (**s == '-' && (++*s, !scan(s, 10, max, &high) || high <= low))
		return -EINVAL;
	if (**s == ',')
		++*s;
	else if (**s)
		return -EINVAL;
	if (!**s && (*s)[-1] == ',')
		return -EINVAL;
	*ret_low = low;
	*ret_high = high;
	return 1;
}

static int bad_share(const char *s, const char *why, struct err *err)
{
	return err_set(err, ERR_INVALID_ARGUMENT, "invalid cache allocation \"%.64s\": %s", s, why);
}

static int percent_parse(const char *s, struct rdt_share *ret, struct err *err)
{
	const char *p = s;
	uint64_t low = 0, high;
	bool range, good = scan(&p, 10, UINT32_MAX, &high);

	range = good && *p == '-';
	if (range) {
		low = high;
		p++;
		good = scan(&p, 10, UINT32_MAX, &high);
	}
	if (!good || !streq(p, "%"))
		return bad_share(s, "no percentage", err);
	if (high > 100 || low > high)
		return err_set(err, ERR_INVALID_ARGUMENT, "invalid percentage %s \"%.64s\"",
			       range ? "range" : "value", s);
	*ret = (struct rdt_share){.kind = range ? RDT_RANGE : RDT_PERCENT,
				  .low = (uint32_t)low,
				  .high = (uint32_t)high};
	return 0;
}

static int bits_parse(const char *s, uint64_t *ret)
{
	uint64_t mask = 0, low, high;
	const char *p = str_skip(s, "0x");
	int r;

	if (p)
		return scan(&p, 16, UINT64_MAX, ret) && !*p ? 0 : -EINVAL;
	for (p = s; (r = scan_list(&p, 63, &low, &high)) > 0;)
		mask |= (UINT64_MAX >> (63 - high)) & (UINT64_MAX << low);
	*ret = mask;
	return r;
}

int rdt_share_parse(const char *s, uint32_t min_bits, struct rdt_share *ret, struct err *err)
{
	uint64_t mask, low;

	if (!*s) {
		*ret = (struct rdt_share){.kind = RDT_UNSET};
		return 0;
	}
	if (str_has_suffix(s, "%"))
		return percent_parse(s, ret, err);
	if (bits_parse(s, &mask) < 0)
		return bad_share(s, "neither a percentage nor a bitmask nor a list of bits", err);
	low = mask & -mask;
	if (!mask || ((mask + low) & mask))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "invalid cache bitmask \"%.64s\": not one continuous block of ones",
			       s);
	if ((uint32_t)__builtin_popcountll(mask) < min_bits)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "invalid cache bitmask \"%.64s\": number of bits less than %u", s,
			       min_bits);
	*ret = (struct rdt_share){.kind = RDT_MASK, .mask = mask};
	return 0;
}

/* What one list of caches gets: a share, or one for each type. */
static int shares_parse(const struct reader *r, const json_t *v, uint32_t min_bits, void *ret,
			struct err *err)
{
	struct field f[RDT_TYPES] = {{.name = "unified"}, {.name = "code"}, {.name = "data"}};
	struct rdt_shares s = {0};
	int e = 0;

	if (json_is_string(v))
		f[RDT_UNIFIED].v = (json_t *)v;
	else if (json_is_object(v) || json_is_null(v))
		e = take_fields(v, "the cache schema", f, ARRAY_LEN(f), err);
	else
		e = wrong_type("the allocation", "a text (in quotes) or a map", err);
	for (int t = 0; e == 0 && t < RDT_TYPES; t++) {
		const char *text = f[t].v && !json_is_null(f[t].v) ? text_of(r->a, f[t].v) : "";
		e = text ? rdt_share_parse(text, min_bits, &s.of[t], err)
			 : wrong_type(f[t].name, "a text", err);
	}
	if (e < 0)
		return e;
	if (!s.of[RDT_UNIFIED].kind)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "'unified' not specified in cache schema");
	if (!s.of[RDT_CODE].kind != !s.of[RDT_DATA].kind)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "'%s' specified but missing '%s' from cache schema",
			       s.of[RDT_CODE].kind ? "code" : "data",
			       s.of[RDT_CODE].kind ? "data" : "code");
	*(struct rdt_shares *)ret = s;
	return 0;
}

/* ---- memory bandwidth ---- */

/* The first value of the list in the unit that the system takes. */
static int bandwidth_parse(const struct reader *r, const json_t *v, uint32_t unused, void *ret,
			   struct err *err)
{
	const char *unit = r->info->mbps ? "MBps" : "%";
	uint64_t max = r->info->mbps ? RDT_MB_MAX : 100, n;
	json_t *item;
	size_t i;

	if (!json_is_array(v))
		return wrong_type("a bandwidth", "a list like [50%, 1000MBps]", err);
	json_array_foreach ((json_t *)v, i, item) {
		const char *text = text_of(r->a, item), *p = text;

		if (!text)
			return wrong_type("a bandwidth", "a text", err);
		if (!str_has_suffix(text, unit))
			continue;
		if (!scan(&p, 10, max, &n) || !streq(p, unit))
			return err_set(err, ERR_INVALID_ARGUMENT,
				       "invalid bandwidth \"%.64s\" (at most %" PRIu64 "%s)", text,
				       max, unit);
		*(uint64_t *)ret = n;
		return 0;
	}
	return err_set(err, ERR_INVALID_ARGUMENT,
		       "missing '%s' value from mbSchema; required because %s", unit,
		       r->info->mbps ? "'mba_MBps' is enabled in the system"
				     : "percentage-based MBA allocation is enabled in the system");
}

/* ---- lists of caches ---- */

/* Which of @ids the list @key names is set in @ret_hit. */
static int match_ids(const char *key, const struct rdt_ids *ids, bool *ret_hit, struct err *err)
{
	uint64_t low = 0, high = 0;
	const char *p = key;
	int r = *key ? 1 : -EINVAL;

	memset(ret_hit, 0, ids->n * sizeof(*ret_hit));
	while (r > 0 && (r = scan_list(&p, UINT32_MAX, &low, &high)) > 0)
		for (size_t i = 0; i < ids->n; i++)
			ret_hit[i] |= ids->v[i] >= low && ids->v[i] <= high;
	return r < 0 ? err_set(err, ERR_INVALID_ARGUMENT, "invalid list of cache ids \"%.64s\"",
			       key)
		     : 0;
}

typedef int value_parse(const struct reader *r, const json_t *v, uint32_t min_bits, void *ret,
			struct err *err);

/* The values of all caches: @v is a value for all of them, or a map of lists. @value: of @size
 * bytes, in: what a cache has that nothing names. */
static int per_cache(const struct reader *r, const json_t *v, const struct rdt_ids *ids,
		     value_parse *parse, uint32_t min_bits, void *value, size_t size, void **ret,
		     struct err *err)
{
	char *all = arena_calloc(r->a, ids->n + 1, size);
	bool *hit = arena_new_array(r->a, bool, ids->n + 1);
	json_t *map = json_is_object(v) ? (json_t *)v : NULL, *item;
	const json_t *rest = map ? json_object_get(map, "all") : json_is_null(v) ? NULL : v;
	const char *key;
	int e = 0;

	if (!all || !hit)
		return err_nomem(err);
	if (rest)
		e = parse(r, rest, min_bits, value, err);
	for (size_t i = 0; i < ids->n; i++)
		memcpy(all + i * size, value, size);
	json_object_foreach (map, key, item) {
		if (e < 0)
			break;
		if (streq(key, "all"))
			continue;
		e = match_ids(key, ids, hit, err);
		if (e == 0)
			e = parse(r, item, min_bits, value, err);
		for (size_t i = 0; e == 0 && i < ids->n; i++)
			if (hit[i])
				memcpy(all + i * size, value, size);
	}
	if (e == 0)
		*ret = all;
	return e;
}

static int cache_parse(const struct reader *r, const json_t *v, const struct rdt_cache *c,
		       struct rdt_shares **ret, struct err *err)
{
	struct rdt_shares value = {.of = {{.kind = RDT_PERCENT, .high = 100}}};
	void *all;
	int e = per_cache(r, v, &c->ids, shares_parse, c->min_bits, &value, sizeof(value), &all,
			  err);

	if (e == 0)
		*ret = all;
	return e;
}

static int mb_parse(const struct reader *r, const json_t *v, uint64_t **ret, struct err *err)
{
	uint64_t value = r->info->mbps ? RDT_MB_MAX : 100;
	void *all;
	int e = per_cache(r, v, &r->info->mb_ids, bandwidth_parse, 0, &value, sizeof(value), &all,
			  err);

	if (e == 0)
		*ret = all;
	return e;
}

/* ---- partitions and classes ---- */

/* @f: the members of all resources. */
static int request_parse(const struct reader *r, const struct field *f, struct rdt_request *ret,
			 struct err *err)
{
	int e = 0;

	for (int i = 0; e == 0 && i < RDT_RESOURCES; i++) {
		ret->given[i] = f[i].v != NULL;
		if (!f[i].v)
			continue;
		e = i == RDT_MB ? mb_parse(r, f[i].v, &ret->mb, err)
				: cache_parse(r, f[i].v, &r->info->cache[i], &ret->cache[i], err);
		if (e < 0)
			err_prefix(err, "failed to parse %s allocation", rdt_resource_name[i]);
	}
	return e;
}

bool rdt_class_name_valid(const char *name)
{
	static const char *const kept[] = {".", "..", "info", "mon_groups", "mon_data"};

	if (rdt_is_root(name))
		return true;
	for (size_t i = 0; i < ARRAY_LEN(kept); i++)
		if (streq(name, kept[i]))
			return false;
	return strlen(name) <= RDT_NAME_MAX && !strpbrk(name, "/\n");
}

static int class_parse(const struct reader *r, const json_t *v, struct rdt_class *c,
		       struct err *err)
{
	struct field f[] = {[RDT_L2] = {.name = "l2Allocation"},
			    [RDT_L3] = {.name = "l3Allocation"},
			    [RDT_MB] = {.name = "mbAllocation"},
			    [RDT_RESOURCES] = {.name = "kubernetes"}},
		     k[] = {{.name = "denyPodAnnotation"}, {.name = "denyContainerAnnotation"}};
	int e = take_fields(v, "the class", f, ARRAY_LEN(f), err);

	if (e == 0)
		e = take_fields(f[RDT_RESOURCES].v, "kubernetes", k, ARRAY_LEN(k), err);
	if (e == 0)
		e = take_bool(&k[0], &c->deny_pod, err);
	if (e == 0)
		e = take_bool(&k[1], &c->deny_container, err);
	if (e == 0)
		e = request_parse(r, f, &c->want, err);
	for (int i = 0; e == 0 && i < RDT_RESOURCES; i++)
		if (c->want.given[i] && !c->partition->want.given[i])
			e = err_set(err, ERR_INVALID_ARGUMENT,
				    "%s allocation missing from the partition",
				    rdt_resource_name[i]);
	return e;
}

static int class_add(const struct reader *r, const struct rdt_partition *p, const char *name,
		     const json_t *v, struct err *err)
{
	struct rdt_config *to = r->to;
	struct rdt_class *c = &to->classes[to->n_classes];

	if (!rdt_class_name_valid(name))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "unqualified class name \"%.128s\" (must not be '.' or '..' or one "
			       "of resctrl's own and must not contain '/' or newline)",
			       name);
	name = rdt_is_root(name) ? RDT_ROOT_CLASS : name;
	for (size_t i = 0; i < to->n_classes; i++)
		if (streq(to->classes[i].name, name))
			return err_set(err, ERR_INVALID_ARGUMENT,
				       "class names must be unique, \"%.128s\" defined multiple "
				       "times",
				       name);
	if (to->n_classes == RDT_CLASSES_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT, "more than %d classes", RDT_CLASSES_MAX);
	*c = (struct rdt_class){.name = arena_strdup(r->a, name), .partition = p};
	if (!c->name)
		return err_nomem(err);
	int e = class_parse(r, v, c, err);
	if (e < 0)
		return err_prefix(err, "class \"%.128s\"", name);
	to->n_classes++;
	return 0;
}

static int partition_parse(const struct reader *r, const json_t *v, struct rdt_partition *p,
			   struct err *err)
{
	struct field f[] = {[RDT_L2] = {.name = "l2Allocation"},
			    [RDT_L3] = {.name = "l3Allocation"},
			    [RDT_MB] = {.name = "mbAllocation"},
			    [RDT_RESOURCES] = {.name = "classes"}};
	const json_t *classes;
	const char *name;
	json_t *item;
	int e = take_fields(v, "the partition", f, ARRAY_LEN(f), err);

	if (e == 0)
		e = request_parse(r, f, &p->want, err);
	if (e < 0)
		return e;
	classes = f[RDT_RESOURCES].v;
	if (classes && !json_is_null(classes) && !json_is_object(classes))
		return wrong_type("classes", "a map", err);
	json_object_foreach ((json_t *)classes, name, item) {
		e = class_add(r, p, name, item, err);
		if (e < 0)
			return e;
	}
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct rdt_partition *)a)->name,
		      ((const struct rdt_partition *)b)->name);
}

static int partitions_parse(const struct reader *r, const json_t *v, struct err *err)
{
	struct rdt_config *to = r->to;
	const char *name;
	json_t *item;

	if (v && !json_is_null(v) && !json_is_object(v))
		return wrong_type("partitions", "a map", err);
	if (json_object_size(v) > RDT_PARTITIONS_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT, "more than %d partitions",
			       RDT_PARTITIONS_MAX);
	json_object_foreach ((json_t *)v, name, item) {
		struct rdt_partition *p = &to->partitions[to->n_partitions++];

		p->name = arena_strdup(r->a, name);
		if (!p->name)
			return err_nomem(err);
	}
	qsort(to->partitions, to->n_partitions, sizeof(*to->partitions), by_name);
	for (size_t i = 0; i < to->n_partitions; i++) {
		struct rdt_partition *p = &to->partitions[i];
		int e = partition_parse(r, json_object_get(v, p->name), p, err);
		if (e < 0)
			return err_prefix(err, "partition \"%.128s\"", p->name);
	}
	return 0;
}

static int options_parse(const struct reader *r, const json_t *v, struct err *err)
{
	struct field f[] = {
		[RDT_L2] = {.name = "l2"}, [RDT_L3] = {.name = "l3"}, [RDT_MB] = {.name = "mb"}};
	int e = take_fields(v, "options", f, ARRAY_LEN(f), err);

	for (int i = 0; e == 0 && i < RDT_RESOURCES; i++) {
		struct field o = {.name = "optional"};
		e = take_fields(f[i].v, f[i].name, &o, 1, err);
		if (e == 0)
			e = take_bool(&o, &r->to->optional[i], err);
	}
	return e;
}

int rdt_config_parse(struct arena *a, const char *text, size_t n, const struct rdt_info *info,
		     struct rdt_config *ret, struct err *err)
{
	struct field f[] = {{.name = "options"}, {.name = "partitions"}};
	struct rdt_config c = {
		.partitions = arena_new_array(a, struct rdt_partition, RDT_PARTITIONS_MAX),
		.classes = arena_new_array(a, struct rdt_class, RDT_CLASSES_MAX + 1)};
	struct reader r = {.a = a, .info = info, .to = &c};
	_cleanup_json_ json_t *j = NULL;

	if (!c.partitions || !c.classes)
		return err_nomem(err);
	int e = yaml_to_json(text, n, &j, err);
	if (e == 0)
		e = take_fields(j, "the file", f, ARRAY_LEN(f), err);
	if (e == 0)
		e = options_parse(&r, f[0].v, err);
	if (e == 0)
		e = partitions_parse(&r, f[1].v, err);
	if (e == 0)
		*ret = c;
	return e;
}
