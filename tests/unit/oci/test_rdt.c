/* SPDX-License-Identifier: Apache-2.0 */
/* Classes of RDT, against a made-up resctrl in a temporary directory whose groups come and go as
 * the kernel's do: with their files. The bits that are expected are worked out by hand. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/str.h"
#include "oci/rdt_internal.h"

/* ---- a resctrl ---- */

static char base[64], root[80];
static int make_result;
static const char *schemata_link; /* what schemata of new groups are links to; NULL = files */

static int remove_entry(const char *path, const struct stat *st, int flag, struct FTW *f)
{
	return remove(path);
}

static void remove_tree(const char *path)
{
	nftw(path, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static void put(const char *path, const char *text)
{
	char full[256], *slash;

	snprintf(full, sizeof(full), "%s/%s", root, path);
	for (slash = full + strlen(root); (slash = strchr(slash + 1, '/'));) {
		*slash = '\0';
		assert_true(mkdir(full, 0755) == 0 || errno == EEXIST);
		*slash = '/';
	}
	assert_int_equal(file_write(AT_FDCWD, full, text, strlen(text), 0644), 0);
}

static bool there(const char *path)
{
	char full[256];

	snprintf(full, sizeof(full), "%s/%s", root, path);
	return access(full, F_OK) == 0;
}

static void assert_text(const char *path, const char *expected)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	char full[256], *text;
	size_t n;

	snprintf(full, sizeof(full), "%s/%s", root, path);
	assert_int_equal(file_read(a, AT_FDCWD, full, 65536, &text, &n), 0);
	if (!streq(text, expected))
		fail_msg("%s has \"%s\" in place of \"%s\"", path, text, expected);
}

static void add_group(const char *name, const char *tasks)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/tasks", name);
	put(path, tasks);
	snprintf(path, sizeof(path), "%s/schemata", name);
	put(path, "before\n");
}

static int make_group(int dir, const char *name)
{
	char path[300];

	if (make_result < 0)
		return make_result;
	if (there(name))
		return -EEXIST;
	add_group(name, "");
	snprintf(path, sizeof(path), "%s/%s/schemata", root, name);
	if (schemata_link)
		assert_true(unlink(path) == 0 && symlink(schemata_link, path) == 0);
	return 0;
}

static int remove_group(int dir, const char *name)
{
	char path[300];

	snprintf(path, sizeof(path), "%s/%s", root, name);
	remove_tree(path);
	return 0;
}

static struct rdt_fs fs = {.root = root, .make = make_group, .remove = remove_group};

static void put_cache(const char *dir, const char *mask, const char *min)
{
	static const char *const names[] = {"cbm_mask", "min_cbm_bits", "shareable_bits",
					    "num_closids"};
	const char *const values[] = {mask, min, "0\n", "8\n"};
	char path[128];

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		snprintf(path, sizeof(path), "info/%s/%s", dir, names[i]);
		put(path, values[i]);
	}
}

static void put_mb(void)
{
	put("info/MB/min_bandwidth", "10\n");
	put("info/MB/bandwidth_gran", "10\n");
	put("info/MB/delay_linear", "1\n");
	put("info/MB/num_closids", "16\n");
}

/* 20 bits of L3 in two caches, and bandwidth. */
static void l3_and_mb(void)
{
	put_cache("L3", "fffff\n", "2\n");
	put_mb();
	put("schemata", "    MB:0=100;1=100\n    L3:0=fffff;1=fffff\n");
}

static int setup(void **state)
{
	snprintf(base, sizeof(base), "/tmp/test-rdt-XXXXXX");
	if (!mkdtemp(base))
		return -1;
	snprintf(root, sizeof(root), "%s/resctrl", base);
	if (mkdir(root, 0755) < 0)
		return -1;
	put("tasks", "1\n");
	put("info/last_cmd_status", "ok\n");
	fs.mbps = false;
	make_result = 0;
	schemata_link = NULL;
	return 0;
}

static int teardown(void **state)
{
	remove_tree(base);
	return 0;
}

static int load(const char *yaml, struct rdt **ret, struct err *err)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/rdt.yaml", base);
	assert_int_equal(file_write(AT_FDCWD, path, yaml, strlen(yaml), 0644), 0);
	return rdt_load(path, &fs, ret, err);
}

static struct rdt *loaded(const char *yaml)
{
	struct rdt *t = NULL;
	struct err err = ERR_INIT;

	if (load(yaml, &t, &err) < 0)
		fail_msg("%s", err.text);
	return t;
}

/* Groups get @expected: pairs of a path and its text, up to NULL. */
static void sets(const char *yaml, const char *const *expected)
{
	_cleanup_(rdt_freep) struct rdt *t = loaded(yaml);

	for (; *expected; expected += 2)
		assert_text(expected[0], expected[1]);
}

static void refused(const char *yaml, const char *why)
{
	struct rdt *t = NULL;
	struct err err = ERR_INIT;

	assert_int_equal(load(yaml, &t, &err), -ERR_INVALID_ARGUMENT);
	assert_null(t);
	if (!strstr(err.text, why) || !strstr(err.text, "/rdt.yaml: "))
		fail_msg("\"%s\" is not in: %s", why, err.text);
}

/* ---- shares ---- */

static void shares_are_percentages_masks_or_lists(void **state)
{
	static const struct {
		const char *text;
		struct rdt_share share;
	} good[] = {
		{"", {.kind = RDT_UNSET}},
		{"0%", {.kind = RDT_PERCENT, .high = 0}},
		{"100%", {.kind = RDT_PERCENT, .high = 100}},
		{"20-40%", {.kind = RDT_RANGE, .low = 20, .high = 40}},
		{"7-7%", {.kind = RDT_RANGE, .low = 7, .high = 7}},
		{"0xF0", {.kind = RDT_MASK, .mask = 0xf0}},
		{"0xffffffffffffffff", {.kind = RDT_MASK, .mask = UINT64_MAX}},
		{"0-5", {.kind = RDT_MASK, .mask = 0x3f}},
		{"4,3,1-2", {.kind = RDT_MASK, .mask = 0x1e}},
		{"62-63", {.kind = RDT_MASK, .mask = UINT64_C(3) << 62}},
	};
	static const char *const bad[] = {
		"%",   "101%", "1a%",  "-1%",  "4-3%", "50-101%", "5-%", "0x0",
		"0x",  "0x2f", "0xg0", "1",    "0x8",  "0,2",	  "3-3", "4-3",
		"64",  "0-64", "1,",   ",1,2", "1,,2", "1-2-3",	  "a",	 "0x1ffffffffffffffff",
		" 60%"};
	struct rdt_share s;

	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		struct err err = ERR_INIT;
		memset(&s, 0x55, sizeof(s));
		if (rdt_share_parse(good[i].text, 2, &s, &err) < 0)
			fail_msg("%s", err.text);
		assert_int_equal(s.kind, good[i].share.kind);
		assert_int_equal(s.low, good[i].share.low);
		assert_int_equal(s.high, good[i].share.high);
		assert_true(s.mask == good[i].share.mask);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (rdt_share_parse(bad[i], 2, &s, NULL) != -ERR_INVALID_ARGUMENT)
			fail_msg("\"%s\" was taken", bad[i]);
}

static void shares_of_a_mask_are_bits_of_it(void **state)
{
	static const struct {
		const char *share;
		uint64_t mask, bits; /* 0 = does not go */
	} cases[] = {
		{"100%", 0xfff, 0xfff},
		{"50%", 0xfff, 0x3f},
		{"25-75%", 0xfff, 0x1fc},
		{"50%", 0xff000, 0xf000},
		{"1%", 0xfff, 3},
		{"100-100%", 0xfff, 0xc00},
		{"0-1%", 0xff00, 0x300},
		{"0x3", 0xff000, 0x3000},
		{"1-2", 0xff000, 0x6000},
		{"0xff", 0xff00, 0xff00},
		{"0x1ff", 0xff00, 0},
		{"8-9", 0xff00, 0},
		{"0%", 0xfff, 0},
		{"50%", 0, 0},
		{"50%", 0xf0f, 0},
		{"50%", 0x10, 0},
		{"100%", UINT64_MAX, UINT64_MAX},
		{"2-3", UINT64_C(3) << 62, 0},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct rdt_share s;
		uint64_t bits = 0;
		assert_int_equal(rdt_share_parse(cases[i].share, 2, &s, NULL), 0);
		int e = rdt_share_bits(&s, cases[i].mask, 2, &bits, NULL);
		if (bits != cases[i].bits || e != (bits ? 0 : -ERR_INVALID_ARGUMENT))
			fail_msg("%s of %#llx gave %#llx", cases[i].share,
				 (unsigned long long)cases[i].mask, (unsigned long long)bits);
	}
}

/* ---- partitions ---- */

static void partitions_lie_side_by_side_in_the_order_of_names(void **state)
{
	static const struct {
		const char *shares[3]; /* of the partitions c, b and a, as the file has them */
		const char *masks[3];
	} cases[] = {
		/* 40% of 20 bits first, 60% takes the rest */
		{{NULL, "40%", "60%"}, {NULL, "ff000", "fff"}},
		/* 12 bits: 2, 4, 6 */
		{{"30%", "20%", "10%"}, {"fc0", "3c", "3"}},
		/* no partition has less than two bits */
		{{NULL, "99%", "1%"}, {NULL, "ffffc", "3"}},
		/* 19 bits: 33*19/99 = 6, 33*13/67 = 6, 7 are left */
		{{"33%", "33%", "33%"}, {"7f000", "fc0", "3f"}},
		{{NULL, "100%", "0%"}, {NULL, "ffffc", "3"}},
		{{NULL, NULL, "50%"}, {NULL, NULL, "3ff"}},
		{{"0xf0000", "0-7", "8,9"}, {"f0000", "ff", "300"}},
	};

	l3_and_mb();
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_arena_ struct arena *a = arena_new(0);
		const char *yaml = "partitions:\n", *expected[7] = {NULL};
		size_t n = 0;

		for (int p = 0; p < 3; p++) {
			const char *mask = cases[i].masks[p];
			if (!mask)
				continue;
			yaml = arena_printf(
				a, "%s  %c:\n    l3Allocation: '%s'\n    classes: {k%d: }\n", yaml,
				'c' - p, cases[i].shares[p], p);
			expected[n++] = arena_printf(a, "k%d/schemata", p);
			expected[n++] =
				arena_printf(a, "L3:0=%s;1=%s\nMB:0=100;1=100\n", mask, mask);
		}
		sets(yaml, expected);
	}
}

static void caches_have_shares_of_their_own(void **state)
{
	l3_and_mb();
	sets("partitions:\n"
	     "  a:\n"
	     "    l3Allocation: {all: 30%, 1: '0x7'}\n"
	     "    classes:\n"
	     "      one: {l3Allocation: {all: 100%, '0': 50%, 7-90: 1%}}\n"
	     "      two: {l3Allocation: {0-1: '0-1'}}\n"
	     "  b:\n"
	     "    l3Allocation: {all: 70%, 1: '4-9'}\n"
	     "    classes: {three: }\n",
	     /* 20 bits: 30% are 6, 70% are 14 */
	     (const char *[]){"one/schemata", "L3:0=7;1=7\nMB:0=100;1=100\n", "two/schemata",
			      "L3:0=3;1=3\nMB:0=100;1=100\n", "three/schemata",
			      "L3:0=fffc0;1=3f0\nMB:0=100;1=100\n", NULL});
}

static void code_and_data_count_where_the_system_tells_them_apart(void **state)
{
	static const char yaml[] =
		"partitions:\n"
		"  a:\n"
		"    l3Allocation: {all: {unified: 60%, code: 70%, data: 50%}}\n"
		"    classes: {one: }\n"
		"  b:\n"
		"    l3Allocation: {all: {unified: 40%, code: 30%, data: 50%}}\n"
		"    classes:\n"
		"      two: {l3Allocation: {1: {unified: 50%, code: 100%, data: 20%}}}\n";

	l3_and_mb();
	sets(yaml, (const char *[]){"one/schemata", "L3:0=fff;1=fff\nMB:0=100;1=100\n",
				    "two/schemata", "L3:0=ff000;1=f000\nMB:0=100;1=100\n", NULL});
	assert_int_equal(teardown(NULL), 0);
	assert_int_equal(setup(NULL), 0);
	put_cache("L3CODE", "fffff\n", "1\n");
	put_cache("L3DATA", "fffff\n", "1\n");
	put("schemata", "L3DATA:0=fffff;1=fffff\nL3CODE:0=fffff;1=fffff\n");
	/* Data: ten bits from the eleventh, 20% of which are 19*10/100 + 1 = 2. */
	sets(yaml, (const char *[]){"one/schemata", "L3CODE:0=3fff;1=3fff\nL3DATA:0=3ff;1=3ff\n",
				    "two/schemata",
				    "L3CODE:0=fc000;1=fc000\nL3DATA:0=ffc00;1=c00\n", NULL});
}

static void l2_and_l3_have_caches_of_their_own(void **state)
{
	put_cache("L2", "ff\n", "1\n");
	put_cache("L3", "3ff\n", "1\n");
	put("schemata", "L2:0=ff;2=ff;10=ff\nL3:5=3ff\n");
	sets("partitions:\n"
	     "  a:\n"
	     "    l2Allocation: {all: 50%, '10': 25%}\n"
	     "    classes: {one: , two: {l2Allocation: 50%}}\n"
	     "  b:\n"
	     "    l2Allocation: 50%\n",
	     /* 50% of 8 bits; 75% are 6 bits, and 25 parts of them 2 */
	     (const char *[]){"one/schemata", "L2:0=f;2=f;10=3\nL3:5=3ff\n", "two/schemata",
			      "L2:0=3;2=3;10=1\nL3:5=3ff\n", NULL});
}

/* ---- bandwidth ---- */

static const char bandwidth[] = "partitions:\n"
				"  a:\n"
				"    mbAllocation: [50%, 1000MBps]\n"
				"    classes:\n"
				"      one: \n"
				"      two: {mbAllocation: [7, 3GBps, 1500MBps, 50%]}\n"
				"      low: {mbAllocation: {all: [1%, 500MBps], 1: [80%, 9MBps]}}\n"
				"  b:\n"
				"    mbAllocation: {'1': [5%, 70MBps]}\n"
				"    classes: {three: }\n"
				"  c:\n"
				"    classes: {four: }\n";

static void bandwidth_is_a_percentage_of_the_partition(void **state)
{
	put_mb();
	put("schemata", "MB:0=100;1=100\n");
	sets(bandwidth,
	     (const char *[]){"one/schemata", "MB:0=50;1=50\n", "two/schemata", "MB:0=25;1=25\n",
			      "low/schemata", "MB:0=10;1=40\n", "three/schemata", "MB:0=100;1=10\n",
			      "four/schemata", "MB:0=100;1=100\n", NULL});
}

static void bandwidth_in_megabytes_is_at_most_the_partition_s(void **state)
{
	put_mb();
	put("schemata", "MB:0=4294967295;1=4294967295\n");
	fs.mbps = true;
	sets(bandwidth, (const char *[]){"one/schemata", "MB:0=1000;1=1000\n", "two/schemata",
					 "MB:0=1000;1=1000\n", "low/schemata", "MB:0=500;1=9\n",
					 "three/schemata", "MB:0=4294967295;1=70\n",
					 "four/schemata", "MB:0=4294967295;1=4294967295\n", NULL});
	refused("partitions: {a: {mbAllocation: [100%]}}", "missing 'MBps' value");
	refused("partitions: {a: {mbAllocation: [4294967296MBps]}}", "invalid bandwidth");
}

/* ---- groups ---- */

static void groups_become_what_the_file_says(void **state)
{
	static const char yaml[] = "partitions:\n"
				   "  p:\n"
				   "    l3Allocation: 50%\n"
				   "    classes:\n"
				   "      gold: {l3Allocation: 20%}\n"
				   "      new: \n"
				   "      '': {l3Allocation: 60%}\n";

	l3_and_mb();
	add_group("gold", "12\n");
	add_group("stale", "13\n");
	put("mon_groups/idle/tasks", "");
	put("mon_groups/busy/tasks", "4\n");
	put("gold/mon_groups/idle/tasks", "");
	put("not-a-group/file", "");
	/* 20% of ten bits, and 60% of them */
	sets(yaml, (const char *[]){"gold/schemata", "L3:0=3;1=3\nMB:0=100;1=100\n", "gold/tasks",
				    "12\n", "new/schemata", "L3:0=3ff;1=3ff\nMB:0=100;1=100\n",
				    "schemata", "L3:0=3f;1=3f\nMB:0=100;1=100\n", NULL});
	assert_false(there("stale"));
	assert_false(there("mon_groups/idle"));
	assert_false(there("gold/mon_groups/idle"));
	assert_true(there("mon_groups/busy/tasks"));
	assert_true(there("not-a-group/file"));
	assert_true(there("info/L3/cbm_mask"));
}

static void a_second_start_changes_nothing(void **state)
{
	static const char yaml[] = "partitions: {p: {classes: {gold: }}}";
	struct stat before, after;
	char path[128];

	l3_and_mb();
	sets(yaml, (const char *[]){NULL});
	snprintf(path, sizeof(path), "%s/gold", root);
	assert_int_equal(stat(path, &before), 0);
	put("schemata", "L3:0=fffff;1=fffff\nMB:0=100;1=100\n");
	sets(yaml, (const char *[]){"gold/schemata", "L3:0=fffff;1=fffff\nMB:0=100;1=100\n",
				    "schemata", "L3:0=fffff;1=fffff\nMB:0=100;1=100\n", NULL});
	assert_int_equal(stat(path, &after), 0);
	assert_true(before.st_ino == after.st_ino);
}

static void an_empty_file_removes_all_groups(void **state)
{
	l3_and_mb();
	add_group("stale", "");
	sets("", (const char *[]){"tasks", "1\n", NULL});
	assert_false(there("stale"));
}

static void what_the_kernel_refuses_is_told_in_its_words(void **state)
{
	static const char yaml[] = "partitions: {p: {classes: {gold: }}}";
	struct rdt *t = NULL;
	struct err err = ERR_INIT;

	l3_and_mb();
	schemata_link = "/dev/full";
	put("info/last_cmd_status", "Mask out of range\n");
	assert_int_equal(load(yaml, &t, &err), -ERR_UNKNOWN);
	assert_non_null(
		strstr(err.text, "class \"gold\": failed to write schemata: Mask out of range"));
	put("info/last_cmd_status", "ok\n");
	assert_int_equal(load(yaml, &t, &err), -ERR_RESOURCE_EXHAUSTED);
	assert_non_null(strstr(err.text, "no space left on device"));
	remove_group(-1, "gold");
	make_result = -ENOSPC;
	assert_int_equal(load(yaml, &t, &err), -ERR_RESOURCE_EXHAUSTED);
	assert_non_null(strstr(err.text, "class \"gold\": failed to make the resctrl group"));
	assert_null(t);
}

/* ---- files that are wrong ---- */

#define PART "partitions:\n  p:\n    l3Allocation: 50%\n    mbAllocation: [50%]\n    classes:\n"

static void what_is_wrong_in_a_file_is_named(void **state)
{
	static const struct {
		const char *yaml, *why;
	} cases[] = {
		{"classes: {gold: }", "unknown field \"classes\" in the file"},
		{"- a", "the file is not a map"},
		{"partitions: [a", "YAML line 2: "},
		{"partitions:\n  p: \n  p: \n", "YAML line 3: the same key again"},
		{"partitions: 3", "partitions is not a map"},
		{"partitions: {p: 3}", "partition \"p\": the partition is not a map"},
		{"partitions: {p: {l4Allocation: 5%}}",
		 "partition \"p\": unknown field \"l4Allocation\""},
		{"partitions: {p: {classes: [a]}}", "partition \"p\": classes is not a map"},
		{"partitions: {p: {l3allocation: 5%, L3Allocation: 5%}}", "twice in the partition"},
		{"options: {l3: {optional: 1}}", "optional is not true or false"},
		{"options: {l4: }", "unknown field \"l4\" in options"},
		{PART "      k: 5\n", "class \"k\": the class is not a map"},
		{PART "      k: {l3Alocation: 5%}\n", "class \"k\": unknown field \"l3Alocation\""},
		{PART "      k: {l3Allocation: 5}\n",
		 "class \"k\": failed to parse L3 allocation: the "
		 "allocation is not a text"},
		{PART "      k: {l3Allocation: 101%}\n",
		 "class \"k\": failed to parse L3 allocation: invalid percentage value \"101%\""},
		{PART "      k: {l3Allocation: {all: {unified: 5%, core: 5%}}}\n",
		 "unknown field \"core\""},
		{PART "      k: {l3Allocation: {all: {unified: 5%, code: 5%}}}\n",
		 "'code' specified but missing 'data'"},
		{PART "      k: {l3Allocation: {all: {code: 5%, data: 5%}}}\n",
		 "'unified' not specified"},
		{PART "      k: {l3Allocation: {all: {unified: [5%]}}}\n", "unified is not a text"},
		{PART "      k: {l3Allocation: {a: 5%}}\n", "invalid list of cache ids \"a\""},
		{PART "      k: {l3Allocation: {'': 5%}}\n", "invalid list of cache ids \"\""},
		{PART "      k: {l3Allocation: '0x7ff'}\n",
		 "class \"k\": L3 allocation for cache id 0: bitmask 0x7ff << 0 does not fit "
		 "basemask 0x3ff"},
		{PART "      k: {mbAllocation: 50%}\n",
		 "failed to parse MB allocation: a bandwidth is "
		 "not a list"},
		{PART "      k: {mbAllocation: [101%]}\n", "invalid bandwidth \"101%\""},
		{PART "      k: {mbAllocation: [x%]}\n", "invalid bandwidth \"x%\""},
		{PART "      k: {mbAllocation: [true]}\n", "a bandwidth is not a text"},
		{PART "      k: {mbAllocation: [5MBps]}\n", "missing '%' value"},
		{PART "      k: {kubernetes: {denyPodAnnotation: 'yes'}}\n",
		 "denyPodAnnotation is not true or false"},
		{PART "      k: {kubernetes: {allow: true}}\n", "unknown field \"allow\""},
		{PART "      k: {l2Allocation: 5%}\n",
		 "class \"k\": L2 allocation missing from the partition"},
		{PART "      k: \n  q:\n    l3Allocation: 5%\n    classes: {k: }\n",
		 "partition \"q\": class names must be unique, \"k\" defined multiple times"},
		{PART "      '': \n      system/default: \n",
		 "\"system/default\" defined multiple times"},
		{PART "      a/b: \n", "unqualified class name \"a/b\""},
		{PART "      ..: \n", "unqualified class name \"..\""},
		{PART "      info: \n", "unqualified class name \"info\""},
		{"partitions: {p: {l3Allocation: 50%}, q: {l3Allocation: 51%}}",
		 "accumulated L3 \"unified\" partition allocation requests for cache id 0 exceeds "
		 "100% "
		 "(101%)"},
		{"partitions: {p: {l3Allocation: 50%}, q: {}}",
		 "some partitions (q) missing L3 \"unified\" allocation request for cache id 0"},
		{"partitions: {p: {l3Allocation: 50%}, q: {l3Allocation: '0x3'}}",
		 "mixing relative and absolute"},
		{"partitions: {p: {l3Allocation: '0x3'}, q: {l3Allocation: 50%}}",
		 "mixing relative and absolute"},
		{"partitions: {p: {l3Allocation: 10-50%}}", "percentage ranges in partition"},
		{"partitions: {p: {l3Allocation: 0%}}", "not enough exclusive bits"},
		{"partitions: {p: {l3Allocation: '0xf'}, q: {l3Allocation: {all: '0xf0', 1: "
		 "'0x18'}}}",
		 "overlapping L3 partition allocation requests for cache id 1 (partition \"q\")"},
		{"partitions: {p: {l3Allocation: '20-21'}}", "does not fit the cache's 0xfffff"},
		{"partitions: {p: {l2Allocation: 50%, classes: {k: {l2Allocation: 50%}}}}",
		 "class \"k\": L2 cache allocation specified in configuration but not supported"},
		{"partitions: {p: {classes: {a: , b: , c: , d: , e: , f: , g: , h: }}}",
		 "9 classes (with the system's own), but the system has room for 8"},
	};

	l3_and_mb();
	add_group("stale", "");
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		refused(cases[i].yaml, cases[i].why);
	/* None of them has done anything. */
	assert_true(there("stale"));
	assert_text("schemata", "    MB:0=100;1=100\n    L3:0=fffff;1=fffff\n");
}

static void a_cache_that_is_cut_too_small_is_an_error(void **state)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	const char *yaml = "partitions:\n";

	/* 19 bits for eleven partitions of two */
	l3_and_mb();
	for (int i = 0; i < 11; i++)
		yaml = arena_printf(a, "%s  p%d: {l3Allocation: 9%%}\n", yaml, i);
	refused(yaml, "not enough exclusive bits");
}

static void what_may_be_missing_is_left_out(void **state)
{
	put_mb();
	put("schemata", "MB:0=100\n");
	sets("options: {l3: {optional: true}}\n"
	     "partitions: {p: {l3Allocation: 50%, classes: {k: {l3Allocation: 50%}}}}",
	     (const char *[]){"k/schemata", "MB:0=100\n", NULL});
	refused("partitions: {p: {l3Allocation: 50%, classes: {k: {l3Allocation: 50%}}}}",
		"class \"k\": L3 cache allocation specified");
	assert_int_equal(teardown(NULL), 0);
	assert_int_equal(setup(NULL), 0);
	put("schemata", "");
	sets("options: {mb: {optional: true}}\n"
	     "partitions: {p: {mbAllocation: [50%], classes: {k: {mbAllocation: [50%]}}}}",
	     (const char *[]){"k/schemata", "before\n", NULL});
	refused("partitions: {p: {mbAllocation: [50%], classes: {k: {mbAllocation: [50%]}}}}",
		"class \"k\": memory bandwidth allocation specified");
}

static void sizes_have_limits(void **state)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	struct rdt *t = NULL;
	struct err err = ERR_INIT;
	char *big = arena_alloc(a, RDT_FILE_MAX + 2);

	l3_and_mb();
	memset(big, '#', RDT_FILE_MAX + 1);
	big[RDT_FILE_MAX + 1] = '\0';
	assert_true(load(big, &t, &err) < 0);
	assert_non_null(strstr(err.text, "failed to read config file"));
	assert_non_null(strstr(err.text, "/rdt.yaml: file too large"));
	big[RDT_FILE_MAX] = '\0';
	rdt_free(loaded(big));
	size_t n = (size_t)sprintf(big, "partitions:\n");
	for (int i = 0; i <= RDT_PARTITIONS_MAX; i++)
		n += (size_t)sprintf(big + n, "  p%d:\n", i);
	refused(big, "more than 64 partitions");
	n = (size_t)sprintf(big, "partitions:\n  p:\n    classes:\n");
	for (int i = 0; i <= RDT_CLASSES_MAX; i++)
		n += (size_t)sprintf(big + n, "      c%d:\n", i);
	refused(big, "more than 256 classes");
	memset(big, 'n', 256);
	strcpy(big + 256, ": \n");
	refused(arena_printf(a, "partitions:\n  p:\n    classes:\n      %s", big),
		"unqualified class name");
}

/* ---- the system ---- */

static void a_system_that_is_not_understood_is_told(void **state)
{
	struct rdt *t = NULL;
	struct err err = ERR_INIT;

	l3_and_mb();
	put("info/L3/cbm_mask", "fff0f\n");
	assert_true(load("", &t, &err) < 0);
	assert_non_null(
		strstr(err.text, "RDT not enabled: failed to get RDT info from \"info/L3\""));
	put("info/L3/cbm_mask", "fffff\n");
	put("info/L3/min_cbm_bits", "two\n");
	assert_true(load("", &t, &err) < 0);
	assert_non_null(strstr(err.text, "\"info/L3/min_cbm_bits\""));
	put("info/L3/min_cbm_bits", "2\n");
	put("schemata", "MB:0=100;1=100\n");
	assert_true(load("", &t, &err) < 0);
	assert_non_null(strstr(err.text, "no L3 resources in root schemata"));
	put("schemata", "MB:0=100;1=100\nL3:0=f;x=f\n");
	assert_true(load("", &t, &err) < 0);
	assert_non_null(strstr(err.text, "failed to get L3 cache IDs from schemata"));
	fs.root = "/nonexistent";
	assert_int_equal(load("", &t, &err), -ERR_NOT_FOUND);
	fs.root = root;
	assert_null(t);
}

static void the_mount_tells_root_and_unit(void **state)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	struct rdt_fs found = {0};
	struct err err = ERR_INIT;
	char path[128];

	snprintf(path, sizeof(path), "%s/mounts", root);
	put("mounts", "tmpfs /sys/fs/resctrl tmpfs rw 0 0\nproc /proc proc rw 0 0\n");
	assert_int_equal(rdt_fs_find(a, path, &found, &err), -ERR_NOT_FOUND);
	assert_non_null(
		strstr(err.text, "failed to detect resctrl mount point: resctrl not found"));
	put("mounts", "proc /proc proc rw 0 0\nresctrl /a\\040b resctrl rw,mba_MBps 0 0\n");
	assert_int_equal(rdt_fs_find(a, path, &found, NULL), 0);
	assert_string_equal(found.root, "/a b");
	assert_true(found.mbps);
	put("mounts", "resctrl /sys/fs/resctrl resctrl rw,relatime,cdp 0 0\n");
	assert_int_equal(rdt_fs_find(a, path, &found, NULL), 0);
	assert_string_equal(found.root, "/sys/fs/resctrl");
	assert_false(found.mbps);
}

/* ---- what containers name ---- */

static void classes_are_groups_that_are_there_and_not_denied(void **state)
{
	struct err err = ERR_INIT;

	l3_and_mb();
	_cleanup_(rdt_freep) struct rdt *t =
		loaded("partitions:\n  p:\n    classes:\n      gold: \n"
		       "      low: {kubernetes: {denyPodAnnotation: true}}\n"
		       "      own: {kubernetes: {DenyContainerAnnotation: true}}\n");
	for (int o = RDT_ANYONE; o <= RDT_CONTAINER_ANNOTATION; o++) {
		assert_int_equal(rdt_class_check(t, "gold", o, NULL), 0);
		assert_int_equal(rdt_class_check(t, RDT_ROOT_CLASS, o, NULL), 0);
		assert_int_equal(rdt_class_check(t, "low", o, NULL),
				 o == RDT_POD_ANNOTATION ? -ERR_PERMISSION_DENIED : 0);
		assert_int_equal(rdt_class_check(t, "own", o, NULL),
				 o == RDT_CONTAINER_ANNOTATION ? -ERR_PERMISSION_DENIED : 0);
	}
	assert_int_equal(rdt_class_check(t, "other", RDT_ANYONE, &err), -ERR_NOT_FOUND);
	assert_non_null(strstr(err.text, "RDT class \"other\" does not exist in configuration"));
	add_group("other", "");
	assert_int_equal(rdt_class_check(t, "other", RDT_ANYONE, NULL), 0);
	remove_group(-1, "gold");
	assert_int_equal(rdt_class_check(t, "gold", RDT_ANYONE, NULL), -ERR_NOT_FOUND);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(rdt_class_check(t, (const char *[]){"..", "info", "a/b", "a\n"}[i],
						 RDT_ANYONE, NULL),
				 -ERR_INVALID_ARGUMENT);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(shares_are_percentages_masks_or_lists),
		CASE(shares_of_a_mask_are_bits_of_it),
		CASE(partitions_lie_side_by_side_in_the_order_of_names),
		CASE(caches_have_shares_of_their_own),
		CASE(code_and_data_count_where_the_system_tells_them_apart),
		CASE(l2_and_l3_have_caches_of_their_own),
		CASE(bandwidth_is_a_percentage_of_the_partition),
		CASE(bandwidth_in_megabytes_is_at_most_the_partition_s),
		CASE(groups_become_what_the_file_says),
		CASE(a_second_start_changes_nothing),
		CASE(an_empty_file_removes_all_groups),
		CASE(what_the_kernel_refuses_is_told_in_its_words),
		CASE(what_is_wrong_in_a_file_is_named),
		CASE(a_cache_that_is_cut_too_small_is_an_error),
		CASE(what_may_be_missing_is_left_out),
		CASE(sizes_have_limits),
		CASE(a_system_that_is_not_understood_is_told),
		CASE(the_mount_tells_root_and_unit),
		CASE(classes_are_groups_that_are_there_and_not_denied),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
