/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/platform.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/utsname.h>

#include "base/fd.h"
#include "base/str.h"

#define TEXT_MAX 256
#define VECTOR_MAX 40
#define CPUINFO_MAX (4 << 20)

/* ---- Names ---- */

static const char *const known_os[] = {
	"aix",	 "android", "darwin", "dragonfly", "freebsd", "hurd",	 "illumos", "ios", "js",
	"linux", "nacl",    "netbsd", "openbsd",   "plan9",   "solaris", "windows", "zos"};

static const char *const known_arch[] = {
	"386",	   "amd64",    "amd64p32",  "arm",	   "armbe",   "arm64",
	"arm64be", "ppc64",    "ppc64le",   "loong64",	   "mips",    "mipsle",
	"mips64",  "mips64le", "mips64p32", "mips64p32le", "ppc",     "riscv",
	"riscv64", "s390",     "s390x",	    "sparc",	   "sparc64", "wasm"};

static bool known(const char *const *v, size_t n, const char *s)
{
	for (size_t i = 0; i < n; i++)
		if (streq(v[i], s))
			return true;
	return false;
}

/* What an architecture (and a variant, NULL = any) is called otherwise. The first line that fits
 * counts. */
static const struct alias {
	const char *arch, *variant, *to_arch, *to_variant; /* to_variant NULL = stays */
} aliases[] = {
	{"i386", NULL, "386", ""},	    {"x86_64", "v1", "amd64", ""},
	{"x86-64", "v1", "amd64", ""},	    {"amd64", "v1", "amd64", ""},
	{"x86_64", NULL, "amd64", NULL},    {"x86-64", NULL, "amd64", NULL},
	{"aarch64", "8", "arm64", ""},	    {"aarch64", "v8", "arm64", ""},
	{"aarch64", "v8.0", "arm64", ""},   {"arm64", "8", "arm64", ""},
	{"arm64", "v8", "arm64", ""},	    {"arm64", "v8.0", "arm64", ""},
	{"aarch64", "9", "arm64", "v9"},    {"aarch64", "9.0", "arm64", "v9"},
	{"aarch64", "v9.0", "arm64", "v9"}, {"arm64", "9", "arm64", "v9"},
	{"arm64", "9.0", "arm64", "v9"},    {"arm64", "v9.0", "arm64", "v9"},
	{"aarch64", NULL, "arm64", NULL},   {"armhf", NULL, "arm", "v7"},
	{"armel", NULL, "arm", "v6"},	    {"arm", "", "arm", "v7"},
	{"arm", "5", "arm", "v5"},	    {"arm", "6", "arm", "v6"},
	{"arm", "7", "arm", "v7"},	    {"arm", "8", "arm", "v8"},
};

static const char *or_empty(const char *s)
{
	return s ? s : "";
}

static const char *os_name(const char *os)
{
	if (str_empty(os))
		return "linux";
	return strcasecmp(os, "macos") == 0 ? "darwin" : os;
}

/* Case is left alone, so that nothing needs memory; comparisons ignore it. */
static struct platform normalize(const struct platform *p)
{
	struct platform n = {.os = os_name(p->os),
			     .arch = or_empty(p->arch),
			     .variant = or_empty(p->variant),
			     .os_version = or_empty(p->os_version)};

	for (size_t i = 0; i < ARRAY_LEN(aliases); i++) {
		const struct alias *a = &aliases[i];

		if (strcasecmp(a->arch, n.arch) != 0 ||
		    (a->variant && strcasecmp(a->variant, n.variant) != 0))
			continue;
		n.arch = a->to_arch;
		if (a->to_variant)
			n.variant = a->to_variant;
		break;
	}
	return n;
}

static const char *lower(struct arena *a, const char *s)
{
	char *c = arena_strdup(a, s);

	for (char *p = c; p && *p; p++)
		*p = (char)tolower((unsigned char)*p);
	return c;
}

int platform_normalize(struct arena *a, const struct platform *p, struct platform *ret)
{
	struct platform n = normalize(p);

	n.os = lower(a, n.os);
	n.arch = lower(a, n.arch);
	n.variant = lower(a, n.variant);
	if (!n.os || !n.arch || !n.variant)
		return -ENOMEM;
	*ret = n;
	return 0;
}

/* ---- The host ---- */

/* "CPU architecture: 8" of /proc/cpuinfo as v8; "" when it does not tell. */
static const char *cpu_variant(struct arena *a, const char *machine)
{
	char *text, *line;
	size_t n;

	if (file_read(a, AT_FDCWD, "/proc/cpuinfo", CPUINFO_MAX, &text, &n) == 0 &&
	    (line = strstr(text, "CPU architecture"))) {
		line += strcspn(line, ":\n");
		line += strspn(line, ": \t");
		if (isdigit((unsigned char)*line))
			return arena_printf(a, "v%d", *line - '0');
		if (str_has_prefix(line, "AArch64"))
			return "v8";
	}
	/* armv7l, armv8b: as the kernel calls itself. */
	if (str_has_prefix(machine, "armv") && isdigit((unsigned char)machine[4]))
		return arena_printf(a, "v%c", machine[4]);
	return "";
}

static const char *arch_of_machine(const char *machine)
{
	static const char *const map[][2] = {{"x86_64", "amd64"},	{"i686", "386"},
					     {"i586", "386"},		{"i486", "386"},
					     {"i386", "386"},		{"aarch64", "arm64"},
					     {"aarch64_be", "arm64be"}, {"loongarch64", "loong64"}};

	for (size_t i = 0; i < ARRAY_LEN(map); i++)
		if (streq(map[i][0], machine))
			return map[i][1];
	return str_has_prefix(machine, "arm") ? "arm" : machine;
}

int platform_host(struct arena *a, struct platform *ret)
{
	struct platform p = {.os = "linux", .variant = "", .os_version = ""};
	struct utsname u;

	if (uname(&u) < 0)
		return -errno;
	p.arch = arch_of_machine(u.machine);
	if (streq(p.arch, "arm") || streq(p.arch, "arm64"))
		p.variant = cpu_variant(a, u.machine);
	if (!p.variant)
		return -ENOMEM;
	return platform_normalize(a, &p, ret);
}

/* ---- Text ---- */

static bool component_valid(const char *s)
{
	if (!*s)
		return false;
	for (; *s; s++)
		if (!isalnum((unsigned char)*s) && !strchr("_.-", *s))
			return false;
	return true;
}

/* Splits "os(version)"; false when it is neither that nor a plain word. */
static bool os_split(struct arena *a, const char *s, const char **ret_os, const char **ret_version)
{
	const char *open = strchr(s, '(');
	size_t n = strlen(s);

	*ret_os = s;
	*ret_version = "";
	if (!open)
		return component_valid(s);
	if (s[n - 1] != ')')
		return false;
	*ret_os = arena_strndup(a, s, (size_t)(open - s));
	*ret_version = arena_strndup(a, open + 1, n - (size_t)(open - s) - 2);
	return *ret_os && *ret_version && component_valid(*ret_os) &&
	       (!**ret_version || component_valid(*ret_version));
}

static int parse_word(struct arena *a, const char *text, struct platform *p, struct err *err)
{
	struct platform host, n;
	int r = platform_host(a, &host);

	if (r >= 0)
		r = platform_normalize(a, &(struct platform){.os = p->os}, &n);
	if (r < 0)
		return err_errno(err, r, "platform of the host");
	if (known(known_os, ARRAY_LEN(known_os), n.os)) {
		p->os = n.os;
		p->arch = host.arch;
		p->variant =
			streq(host.arch, "arm") && streq(host.variant, "v7") ? "" : host.variant;
		return 0;
	}
	r = platform_normalize(a, &(struct platform){.arch = p->os}, &n);
	if (r < 0)
		return err_nomem(err);
	if (!known(known_arch, ARRAY_LEN(known_arch), n.arch) || *p->os_version)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "\"%s\": unknown operating system or architecture", text);
	p->os = host.os;
	p->arch = n.arch;
	p->variant = streq(n.arch, "arm") && streq(n.variant, "v7") ? "" : n.variant;
	return 0;
}

static int parse_parts(struct arena *a, const char *text, char **v, size_t n, struct platform *p,
		       struct err *err)
{
	for (size_t i = 0; i < n; i++) {
		bool ok =
			i == 0 ? os_split(a, v[0], &p->os, &p->os_version) : component_valid(v[i]);

		if (!ok)
			return err_set(err, ERR_INVALID_ARGUMENT,
				       "\"%s\" is an invalid component of \"%s\": platform "
				       "specifier component "
				       "must match \"^[A-Za-z0-9_.-]+$\"",
				       v[i], text);
	}
	if (n == 1)
		return parse_word(a, text, p, err);
	p->arch = v[1];
	p->variant = n > 2 ? v[2] : "";
	if (platform_normalize(a, p, p) < 0)
		return err_nomem(err);
	if (n == 2 && streq(p->arch, "arm") && streq(p->variant, "v7"))
		p->variant = "";
	if (n == 3 && streq(p->arch, "arm64") && !*p->variant)
		p->variant = "v8";
	return 0;
}

int platform_parse(struct arena *a, const char *text, struct platform *ret, struct err *err)
{
	struct platform p = {.os = "", .arch = "", .variant = "", .os_version = ""};
	size_t n;
	char **v;
	int r;

	if (strlen(text) > TEXT_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "platform specifier is longer than %d characters", TEXT_MAX);
	if (strchr(text, '*'))
		return err_set(err, ERR_INVALID_ARGUMENT, "\"%s\": wildcards not yet supported",
			       text);
	v = str_split(a, text, '/', &n);
	if (!v)
		return err_nomem(err);
	if (n == 0 || n > 3)
		return err_set(err, ERR_INVALID_ARGUMENT, "\"%s\": cannot parse platform specifier",
			       text);
	r = parse_parts(a, text, v, n, &p, err);
	if (r >= 0)
		*ret = p;
	return r;
}

char *platform_format(struct arena *a, const struct platform *p)
{
	const char *version = or_empty(p->os_version), *variant = or_empty(p->variant);

	if (str_empty(p->os))
		return arena_strdup(a, "unknown");
	return arena_printf(a, "%s%s%s%s%s%s%s%s", p->os, *version ? "(" : "", version,
			    *version ? ")" : "", str_empty(p->arch) ? "" : "/", or_empty(p->arch),
			    *variant ? "/" : "", variant);
}

/* ---- Matching ---- */

struct choice {
	const char *arch;
	char variant[32];
};

struct vector {
	struct choice v[VECTOR_MAX];
	size_t n;
};

static void vector_add(struct vector *o, const char *arch, int major, int minor)
{
	struct choice *c = &o->v[o->n];

	if (o->n == VECTOR_MAX)
		return;
	c->arch = arch;
	if (minor > 0)
		(void)snprintf(c->variant, sizeof(c->variant), "v%d.%d", major, minor);
	else if (major > 0)
		(void)snprintf(c->variant, sizeof(c->variant), "v%d", major);
	o->n++;
}

/* "v8", "v8.2", "v3": digits of one place each. */
static bool variant_split(const char *s, int *ret_major, int *ret_minor)
{
	if ((s[0] != 'v' && s[0] != 'V') || !isdigit((unsigned char)s[1]))
		return false;
	*ret_major = s[1] - '0';
	*ret_minor = 0;
	if (!s[2])
		return true;
	if (s[2] != '.' || !isdigit((unsigned char)s[3]) || s[4])
		return false;
	*ret_minor = s[3] - '0';
	return true;
}

static void vector_arm(struct vector *o, int major)
{
	for (; major >= 5; major--)
		vector_add(o, "arm", major, 0);
}

static void vector_arm64(struct vector *o, const char *variant)
{
	int major = 8, minor = 0;

	if (*variant && (!variant_split(variant, &major, &minor) || major < 8))
		major = 0;
	if (major == 9) {
		for (int m = minor - 1; m >= 0; m--)
			vector_add(o, "arm64", 9, m);
		/* v9.0 has what v8.5 has, and so on up to v8.9. */
		minor = MIN(minor + 5, 9);
		vector_add(o, "arm64", 8, minor);
		major = 8;
	}
	if (major == 8)
		for (int m = minor - 1; m >= 0; m--)
			vector_add(o, "arm64", 8, m);
	vector_arm(o, 8);
}

/* What runs where @want (normalized) is wanted, after itself. */
static void vector_fill(struct vector *o, const struct platform *want)
{
	int major, minor;

	if (strcasecmp(want->arch, "amd64") == 0) {
		if (variant_split(want->variant, &major, &minor))
			for (major--; major >= 1; major--)
				vector_add(o, "amd64", major, 0);
		vector_add(o, "386", 0, 0);
	} else if (strcasecmp(want->arch, "arm64") == 0) {
		vector_arm64(o, want->variant);
	} else if (strcasecmp(want->arch, "arm") == 0) {
		if (variant_split(want->variant, &major, &minor))
			vector_arm(o, major - 1);
	}
}

static bool same(const char *arch, const char *variant, const struct platform *have)
{
	struct platform n = normalize(&(struct platform){.arch = arch, .variant = variant});

	return strcasecmp(n.arch, have->arch) == 0 && strcasecmp(n.variant, have->variant) == 0;
}

int platform_rank(const struct platform *want, const struct platform *have)
{
	struct platform w = normalize(want), h = normalize(have);
	struct vector o = {.n = 0};

	if (strcasecmp(w.os, h.os) != 0)
		return -1;
	if (same(w.arch, w.variant, &h))
		return 0;
	vector_fill(&o, &w);
	for (size_t i = 0; i < o.n; i++)
		if (same(o.v[i].arch, o.v[i].variant, &h))
			return (int)i + 1;
	return -1;
}
