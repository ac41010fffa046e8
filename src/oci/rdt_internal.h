/* SPDX-License-Identifier: Apache-2.0 */
/* Classes of RDT from the inside: what the system has (rdt_info.c), what the file wants
 * (rdt_config.c), what comes of both (rdt_resolve.c). All lives in one arena. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "oci/rdt.h"

#define RDT_CACHES_MAX 1024 /* of a level */
#define RDT_PARTITIONS_MAX 64
#define RDT_CLASSES_MAX 256
#define RDT_NAME_MAX 255
#define RDT_MB_MAX UINT32_MAX /* MB/s */
#define RDT_MEMORY_MAX ((size_t)64 << 20)

enum { RDT_L2, RDT_L3, RDT_LEVELS, RDT_MB = RDT_LEVELS, RDT_RESOURCES };
extern const char *const rdt_resource_name[RDT_RESOURCES];

/* What a share of a cache is for. Where code and data have bits of their own, "unified" is what
 * counts for the one that is not given. */
enum { RDT_UNIFIED, RDT_CODE, RDT_DATA, RDT_TYPES };
extern const char *const rdt_type_name[RDT_TYPES];

/* ---- the system ---- */

struct rdt_ids {
	uint32_t *v; /* ascending */
	size_t n;
};

struct rdt_cache {
	bool unified, split; /* the schemata it has: one, or code and data */
	uint64_t mask;	     /* all its bits, contiguous from the lowest; 0 = not there */
	uint32_t min_bits;
	struct rdt_ids ids;
};

struct rdt_info {
	struct rdt_cache cache[RDT_LEVELS];
	bool mb, mbps;
	uint32_t mb_min; /* percent */
	struct rdt_ids mb_ids;
	uint32_t closids; /* groups at most, with the root's */
};

int rdt_info_read(struct arena *a, const struct rdt_fs *fs, struct rdt_info *ret,
		  struct err *err) _must_check_;

/* ---- the file ---- */

enum rdt_kind { RDT_UNSET, RDT_PERCENT, RDT_RANGE, RDT_MASK };

struct rdt_share {
	enum rdt_kind kind;
	uint32_t low, high; /* percent; only the upper one of RDT_PERCENT */
	uint64_t mask;
};

struct rdt_shares {
	struct rdt_share of[RDT_TYPES];
};

/* What a partition or a class asks for; lists are as long as the system's ids. */
struct rdt_request {
	bool given[RDT_RESOURCES];
	struct rdt_shares *cache[RDT_LEVELS];
	uint64_t *mb;
};

struct rdt_partition {
	const char *name;
	struct rdt_request want;
	uint64_t *granted[RDT_LEVELS][RDT_TYPES]; /* 0 = nobody has asked */
};

struct rdt_class {
	const char *name;
	const struct rdt_partition *partition;
	struct rdt_request want;
	bool deny_pod, deny_container;
	const char *schemata; /* what its group gets; "" = nothing */
};

struct rdt_config {
	bool optional[RDT_RESOURCES];
	struct rdt_partition *partitions; /* by name */
	size_t n_partitions;
	struct rdt_class *classes;
	size_t n_classes;
};

/* A share as the file writes it: "60%", "20-40%", "0xf0", "0-3,4"; "" is none. */
int rdt_share_parse(const char *s, uint32_t min_bits, struct rdt_share *ret,
		    struct err *err) _must_check_;

/* The file @text of @n bytes, for the system @info. */
int rdt_config_parse(struct arena *a, const char *text, size_t n, const struct rdt_info *info,
		     struct rdt_config *ret, struct err *err) _must_check_;

/* Whether @name can be a group's (or the root's). */
bool rdt_class_name_valid(const char *name);
static inline bool rdt_is_root(const char *name)
{
	return !*name || __builtin_strcmp(name, RDT_ROOT_CLASS) == 0;
}

/* ---- both ---- */

/* The bits of @base, which are contiguous, that @s means. */
int rdt_share_bits(const struct rdt_share *s, uint64_t base, uint32_t min_bits, uint64_t *ret,
		   struct err *err) _must_check_;

/* Grants partitions their bits, and sets the schemata of all classes. */
int rdt_config_resolve(struct arena *a, const struct rdt_info *info, struct rdt_config *c,
		       struct err *err) _must_check_;
