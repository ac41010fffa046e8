/* SPDX-License-Identifier: Apache-2.0 */
/* The default profile's rules are those of containerd and Docker; they stand in the table below,
 * after what depends on the host: the ABI, its tunables and abstractions, and the profile that the
 * daemon itself runs under, which may signal containers.
 *
 * apparmor_parser compiles the text, given on its standard input, and replaces the profile. It
 * keeps no cache of it. */
#include "oci/apparmor.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"
#include "sys/spawn.h"

#define LIST_MAX (1u << 20)
#define NAME_LEN_MAX 255
#define OUTPUT_MAX 4096
#define LOAD_NS (60 * NSEC_PER_SEC)
#define UNCONFINED "unconfined"

static const struct apparmor_host system_host = {
	.parser = "apparmor_parser",
	.etc = "/etc/apparmor.d",
	.profiles = "/sys/kernel/security/apparmor/profiles",
	.enabled = "/sys/module/apparmor/parameters/enabled",
	.current = "/proc/self/attr/current",
};

static const char *const rules[] = {
	"network",
	"capability",
	"file",
	"umount",
	"deny mount",
	/* /proc: its own entries, what is no process's, and /proc/sys but for kernel/shm* */
	"deny @{PROC}/* w",
	"deny @{PROC}/{[^1-9/],[^1-9/][^0-9/],[^1-9s/][^0-9y/][^0-9s/],"
	"[^1-9/][^0-9/][^0-9/][^0-9/]*}/** w",
	"deny @{PROC}/sys/[^k]** w",
	"deny @{PROC}/sys/kernel/{?,??,[^s][^h][^m]**} w",
	"deny @{PROC}/sysrq-trigger rwklx",
	"deny @{PROC}/kcore rwklx",
	/* /sys: all but fs/cgroup */
	"deny /sys/[^f]*/** wklx",
	"deny /sys/f[^s]*/** wklx",
	"deny /sys/fs/[^c]*/** wklx",
	"deny /sys/fs/c[^g]*/** wklx",
	"deny /sys/fs/cg[^r]*/** wklx",
	"deny /sys/firmware/** rwklx",
	"deny /sys/devices/virtual/powercap/** rwklx",
	"deny /sys/kernel/security/** rwklx",
};

static const struct apparmor_host *host_or_system(const struct apparmor_host *host)
{
	return host ? host : &system_host;
}

bool apparmor_enabled(const struct apparmor_host *host)
{
	char on = 0;
	_cleanup_close_ int fd = open(host_or_system(host)->enabled, O_RDONLY | O_CLOEXEC);

	return fd >= 0 && fd_read_full(fd, &on, 1) == 1 && on == 'Y';
}

/* A line is "name (mode)"; a name may have spaces. */
int apparmor_loaded(const struct apparmor_host *host, const char *name, struct err *err)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	const char *path = host_or_system(host)->profiles;
	char *text, *line, *save = NULL;
	size_t n;
	int r;

	if (!a)
		return err_nomem(err);
	r = file_read(a, AT_FDCWD, path, LIST_MAX, &text, &n);
	if (r == -ENOENT)
		return err_set(err, ERR_FAILED_PRECONDITION,
			       "apparmor is not enabled: there is no %s", path);
	if (r < 0)
		return err_errno(err, r, "read %s", path);
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		const char *mode = str_skip(line, name);

		if (mode && str_has_prefix(mode, " (") && !strchr(mode + 2, '('))
			return 0;
	}
	return err_set(err, ERR_NOT_FOUND, "apparmor profile not found %s", name);
}

/* ---- The text ---- */

static bool has_macro(const struct apparmor_host *host, const char *name)
{
	char path[4096];
	int n = snprintf(path, sizeof(path), "%s/%s", host->etc, name);

	return n > 0 && (size_t)n < sizeof(path) && access(path, F_OK) == 0;
}

/* What can stand between quotes as it is. */
static bool can_quote(const char *name)
{
	size_t n = strlen(name);

	for (const char *p = name; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f || *p == '"' || *p == '\\')
			return false;
	return n > 0 && n <= NAME_LEN_MAX;
}

static const char *own_profile(struct arena *a, const struct apparmor_host *host)
{
	char *text, *end;
	size_t n;

	if (file_read(a, AT_FDCWD, host->current, OUTPUT_MAX, &text, &n) < 0)
		return UNCONFINED;
	end = strstr(text, " (");
	if (!end)
		end = text + strcspn(text, "\n");
	*end = '\0';
	return can_quote(text) ? text : UNCONFINED;
}

int apparmor_default_profile(struct arena *a, const struct apparmor_host *host, const char *name,
			     const char **ret, struct err *err)
{
	struct buf b _cleanup_buf_ = BUF_INIT;
	char *text;

	host = host_or_system(host);
	if (!can_quote(name))
		return err_set(err, ERR_INVALID_ARGUMENT, "apparmor profile name \"%.64s\"", name);
	if (has_macro(host, "abi/3.0"))
		buf_adds(&b, "abi <abi/3.0>,\n");
	buf_adds(&b, has_macro(host, "tunables/global") ? "#include <tunables/global>\n"
							: "@{PROC}=/proc/\n");
	buf_printf(&b, "profile \"%s\" flags=(attach_disconnected,mediate_deleted) {\n", name);
	if (has_macro(host, "abstractions/base"))
		buf_adds(&b, "  #include <abstractions/base>\n");
	for (size_t i = 0; i < ARRAY_LEN(rules); i++)
		buf_printf(&b, "  %s,\n", rules[i]);
	/* The host and OCI runtimes may signal, the container's processes each other. */
	buf_printf(&b,
		   "  signal (receive) peer=" UNCONFINED ",\n"
		   "  signal (receive) peer=runc,\n"
		   "  signal (receive) peer=crun,\n"
		   "  signal (receive) peer=\"%s\",\n",
		   own_profile(a, host));
	buf_printf(&b,
		   "  signal (send,receive) peer=\"%s\",\n"
		   "  ptrace (trace,tracedby,read,readby) peer=\"%s\",\n"
		   "}\n",
		   name, name);
	text = buf_ok(&b) ? arena_strndup(a, b.data, b.len) : NULL;
	if (!text)
		return err_nomem(err);
	*ret = text;
	return 0;
}

/* ---- Loading ---- */

int apparmor_load_default(const struct ctx *ctx, const struct apparmor_host *host, const char *name,
			  struct err *err)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	struct spawn_options o = SPAWN_OPTIONS_INIT;
	struct err e = ERR_INIT;
	char *out, *argv[] = {"apparmor_parser", "-Kr", NULL};
	const char *text;
	size_t n;
	int status, r;

	if (!a)
		return err_nomem(err);
	host = host_or_system(host);
	if (!can_quote(name))
		return err_set(err, ERR_INVALID_ARGUMENT, "apparmor profile name \"%.64s\"", name);
	r = apparmor_loaded(host, name, &e);
	if (r == 0)
		return 0;
	if (r != -ERR_NOT_FOUND)
		return err_copy(err, &e);
	r = apparmor_default_profile(a, host, name, &text, err);
	if (r < 0)
		return r;
	o.path = host->parser;
	o.argv = argv;
	o.ctx = ctx;
	r = spawn_run(a, &o, text, strlen(text), OUTPUT_MAX, time_mono() + LOAD_NS, &out, &n, NULL,
		      &status, err);
	if (r < 0)
		return err_prefix(err, "load apparmor profile %s", name);
	if (status != 0)
		return err_set(err, ERR_UNKNOWN,
			       "load apparmor profile %s: parser error(\"%.512s\"): exit status %d",
			       name, out, status);
	return 0;
}
