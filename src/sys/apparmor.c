/* SPDX-License-Identifier: Apache-2.0 */
/* See apparmor.h. */
#include "sys/apparmor.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"
#include "sys/spawn.h"

#define ENABLED "/sys/module/apparmor/parameters/enabled"
#define PROFILES "/sys/kernel/security/apparmor/profiles"
#define TUNABLES "/etc/apparmor.d/tunables/global"
#define BASE "/etc/apparmor.d/abstractions/base"
#define PROFILES_MAX (4u << 20)
#define OUTPUT_MAX 4096u
#define LOAD_NS (30 * NSEC_PER_SEC)

bool apparmor_enabled(void)
{
	char on = 0;
	_cleanup_close_ int fd = open(ENABLED, O_RDONLY | O_CLOEXEC);

	return fd >= 0 && fd_read_full(fd, &on, 1) == 1 && on == 'Y';
}

/* Everything is allowed but what reaches the host through /proc and /sys, mounting, and signals and
 * traces of processes of other profiles. */
static const char rules[] =
	"  network,\n"
	"  capability,\n"
	"  file,\n"
	"  umount,\n"
	"\n"
	"  deny mount,\n"
	"  deny @{PROC}/* w,\n"
	"  deny @{PROC}/{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9]*}/** "
	"w,\n"
	"  deny @{PROC}/sys/[^k]** w,\n"
	"  deny @{PROC}/sys/kernel/{?,??,[^s][^h][^m]**} w,\n"
	"  deny @{PROC}/{kcore,kmem,mem,sysrq-trigger} rwklx,\n"
	"  deny /sys/[^f]*/** wklx,\n"
	"  deny /sys/f[^s]*/** wklx,\n"
	"  deny /sys/fs/[^c]*/** wklx,\n"
	"  deny /sys/fs/c[^g]*/** wklx,\n"
	"  deny /sys/fs/cg[^r]*/** wklx,\n"
	"  deny /sys/firmware/** rwklx,\n"
	"  deny /sys/devices/virtual/powercap/** rwklx,\n"
	"  deny /sys/kernel/security/** rwklx,\n";

char *apparmor_profile_text(struct arena *a, const char *name)
{
	return arena_printf(
		a,
		"%s%sprofile %s flags=(attach_disconnected,mediate_deleted) {\n"
		"%s%s\n"
		"  signal (receive) peer=unconfined,\n"
		"  signal (receive) peer=/usr/{bin,sbin}/{runc,crun},\n"
		"  signal (send,receive) peer=%s,\n"
		"  ptrace (trace,read,tracedby,readby) peer=%s,\n"
		"}\n",
		access(TUNABLES, F_OK) == 0 ? "#include <tunables/global>\n" : "@{PROC}=/proc/\n",
		"\n", name, access(BASE, F_OK) == 0 ? "  #include <abstractions/base>\n\n" : "",
		rules, name, name);
}

static int loaded(struct arena *a, const char *name, bool *ret, struct err *err)
{
	size_t n, len = strlen(name);
	char *text;
	int r = file_read(a, AT_FDCWD, PROFILES, PROFILES_MAX, &text, &n);

	*ret = false;
	if (r < 0)
		return err_errno(err, r, "read " PROFILES);
	for (char *p = text; p && *p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL)
		*ret = *ret || (strncmp(p, name, len) == 0 && str_has_prefix(p + len, " ("));
	return 0;
}

int apparmor_profile_ensure(struct ctx *ctx, const char *name, struct err *err)
{
	char *argv[] = {(char *)"apparmor_parser", (char *)"-Kr", NULL}, *out;
	struct spawn_options o = SPAWN_OPTIONS_INIT;
	size_t n;
	bool there;
	int status, r = loaded(ctx->arena, name, &there, err);

	if (r < 0 || there)
		return r;
	char *text = apparmor_profile_text(ctx->arena, name);
	if (!text)
		return err_nomem(err);
	o.path = argv[0];
	o.argv = argv;
	o.new_pgroup = true;
	o.ctx = ctx;
	r = spawn_run(ctx->arena, &o, text, strlen(text), OUTPUT_MAX, time_mono() + LOAD_NS, &out,
		      &n, NULL, &status, err);
	if (r < 0)
		return err_prefix(err, "load the apparmor profile %s", name);
	if (status != 0)
		return err_set(err, ERR_UNKNOWN, "load the apparmor profile %s: %.512s", name, out);
	return 0;
}
