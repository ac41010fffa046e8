/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel says of its caches and bandwidth: <root>/info/<resource>/..., and the numbers of
 * the caches from the schemata of the root. A cache whose code and data have bits of their own (the
 * mount options cdp and cdpl2) has the directories L3CODE and L3DATA in place of L3. */
#include <fcntl.h>
#include <mntent.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/str.h"
#include "oci/rdt_internal.h"

#define MOUNT_LINE_MAX 16384 /* what is longer is no mount of resctrl */
#define NUMBER_FILE_MAX 256
#define SCHEMATA_MAX (256u << 10)
#define MIN_BITS_MAX 64

const char *const rdt_resource_name[RDT_RESOURCES] = {"L2", "L3", "MB"};

/* ---- the mount ---- */

DEFINE_CLEANUP(FILE *, endmntent)

int rdt_fs_find(struct arena *a, const char *mounts, struct rdt_fs *ret, struct err *err)
{
	_cleanup_(endmntentp) FILE *f = setmntent(mounts, "re");
	char *line = arena_alloc(a, MOUNT_LINE_MAX);
	struct mntent m, *found;

	if (!line)
		return err_nomem(err);
	if (!f)
		return err_errno(err, errno, "read %s", mounts);
	while ((found = getmntent_r(f, &m, line, MOUNT_LINE_MAX)) && !streq(m.mnt_type, "resctrl"))
		;
	if (!found)
		return err_set(err, ERR_NOT_FOUND,
			       "failed to detect resctrl mount point: resctrl not found in %s",
			       mounts);
	*ret = (struct rdt_fs){.root = m.mnt_dir, .mbps = hasmntopt(&m, "mba_MBps") != NULL};
	return 0;
}

/* ---- info ---- */

struct reader {
	struct arena *a;
	int info; /* directory */
	struct rdt_info *to;
};

static int number(const struct reader *r, const char *dir, const char *file, int base,
		  uint64_t *ret, struct err *err)
{
	char *text, *path = arena_printf(r->a, "%s/%s", dir, file);
	size_t n;

	if (!path)
		return err_nomem(err);
	int e = file_read(r->a, r->info, path, NUMBER_FILE_MAX, &text, &n);
	if (e == 0) {
		text[strcspn(text, " \n")] = '\0';
		e = str_to_u64(text, base, ret);
	}
	return e < 0 ? err_errno(err, e, "failed to get RDT info from \"info/%s\"", path) : 0;
}

static bool there(const struct reader *r, const char *dir)
{
	struct stat st;

	return fstatat(r->info, dir, &st, 0) == 0 && S_ISDIR(st.st_mode);
}

/* Resources may have different numbers of groups; the kernel takes the least. */
static int read_closids(const struct reader *r, const char *dir, struct err *err)
{
	uint64_t v;
	int e = number(r, dir, "num_closids", 10, &v, err);

	if (e == 0 && v < r->to->closids)
		r->to->closids = (uint32_t)v;
	return e;
}

static int read_cache(const struct reader *r, const char *dir, struct rdt_cache *c, struct err *err)
{
	uint64_t mask, min;
	int e = number(r, dir, "cbm_mask", 16, &mask, err);

	if (e == 0)
		e = number(r, dir, "min_cbm_bits", 10, &min, err);
	if (e == 0)
		e = read_closids(r, dir, err);
	if (e < 0)
		return e;
	if (!mask || (mask & (mask + 1)) || min > MIN_BITS_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "failed to get RDT info from \"info/%s\": cbm_mask %#llx with "
			       "min_cbm_bits %llu",
			       dir, (unsigned long long)mask, (unsigned long long)min);
	c->mask = mask;
	c->min_bits = (uint32_t)min;
	return 0;
}

/* ---- numbers of caches ---- */

static int by_number(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* @s: "0=fffff;1=fffff" */
static int parse_ids(struct arena *a, char *s, struct rdt_ids *ret)
{
	size_t cap = 0;
	char *item;

	*ret = (struct rdt_ids){0};
	while ((item = strsep(&s, ";"))) {
		char *id = strsep(&item, "=");
		uint64_t v;

		id += strspn(id, " ");
		if (!item || str_to_u64(id, 10, &v) < 0 || v > UINT32_MAX ||
		    ret->n == RDT_CACHES_MAX)
			return -EINVAL;
		ret->v = arena_grow(a, ret->v, &cap, ret->n + 1, sizeof(*ret->v));
		if (!ret->v)
			return -ENOMEM;
		ret->v[ret->n++] = (uint32_t)v;
	}
	qsort(ret->v, ret->n, sizeof(*ret->v), by_number);
	return 0;
}

/* From the first line of @schemata whose name begins with @prefix. */
static int find_ids(struct arena *a, const char *schemata, const char *prefix, struct rdt_ids *ret,
		    struct err *err)
{
	char *rest = arena_strdup(a, schemata), *line;

	if (!rest)
		return err_nomem(err);
	while ((line = strsep(&rest, "\n"))) {
		char *name = strsep(&line, ":");

		name += strspn(name, " ");
		if (!line || !str_has_prefix(name, prefix))
			continue;
		int e = parse_ids(a, line, ret);
		return e < 0 ? err_errno(err, e, "failed to get %s cache IDs from schemata", prefix)
			     : 0;
	}
	return err_set(err, ERR_INVALID_ARGUMENT, "no %s resources in root schemata", prefix);
}

/* ---- all ---- */

static int read_level(const struct reader *r, int level, const char *schemata, struct err *err)
{
	static const char *const dirs[RDT_LEVELS][RDT_TYPES] = {{"L2", "L2CODE", "L2DATA"},
								{"L3", "L3CODE", "L3DATA"}};
	struct rdt_cache *c = &r->to->cache[level];

	for (int t = 0; t < RDT_TYPES; t++) {
		if (!there(r, dirs[level][t]))
			continue;
		int e = read_cache(r, dirs[level][t], c, err);
		if (e < 0)
			return e;
		if (t == RDT_UNIFIED)
			c->unified = true;
		else
			c->split = true;
	}
	return c->mask ? find_ids(r->a, schemata, rdt_resource_name[level], &c->ids, err) : 0;
}

static int read_mb(const struct reader *r, const char *schemata, struct err *err)
{
	uint64_t min;
	int e;

	if (!there(r, "MB"))
		return 0;
	e = number(r, "MB", "min_bandwidth", 10, &min, err);
	if (e == 0)
		e = read_closids(r, "MB", err);
	if (e == 0)
		e = find_ids(r->a, schemata, "MB", &r->to->mb_ids, err);
	if (e < 0)
		return e;
	r->to->mb = true;
	r->to->mb_min = min > 100 ? 100 : (uint32_t)min;
	return 0;
}

int rdt_info_read(struct arena *a, const struct rdt_fs *fs, struct rdt_info *ret, struct err *err)
{
	_cleanup_close_ int root = open(fs->root, O_PATH | O_DIRECTORY | O_CLOEXEC), info = -1;
	struct rdt_info found = {.mbps = fs->mbps, .closids = UINT32_MAX};
	struct reader r = {.a = a, .to = &found};
	char *schemata;
	size_t n;
	int e;

	if (root < 0)
		return err_errno(err, errno, "open %s", fs->root);
	info = r.info = openat(root, "info", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (info < 0)
		return err_errno(err, errno, "failed to read RDT info from \"%s/info\"", fs->root);
	e = file_read(a, root, "schemata", SCHEMATA_MAX, &schemata, &n);
	if (e < 0)
		return err_errno(err, e, "failed to read root schemata");
	e = 0;
	for (int l = 0; e == 0 && l < RDT_LEVELS; l++)
		e = read_level(&r, l, schemata, err);
	if (e == 0)
		e = read_mb(&r, schemata, err);
	if (e == 0)
		*ret = found;
	return e;
}
