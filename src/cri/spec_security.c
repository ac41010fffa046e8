/* SPDX-License-Identifier: Apache-2.0 */
/* Who a container runs as, and what it may do: users, capabilities, seccomp, AppArmor, SELinux. */
#include <fcntl.h>
#include <linux/seccomp.h>
#include <regex.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "cri/spec_internal.h"
#include "oci/apparmor.h"
#include "oci/seccomp.h"
#include "oci/user.h"

#define FILE_MAX (4u << 20)
#define DEFAULT_APPARMOR "cri-containerd.apparmor.d"
#define RUNTIME_DEFAULT RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__RuntimeDefault
#define UNCONFINED RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__Unconfined
#define LOCALHOST RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__Localhost

/* ---- users ---- */

/* "user" or "user:group" as it is asked for, "" = nothing is. */
static int wanted_user(struct arena *a, const CRI(LinuxContainerSecurityContext) * s,
		       const char **ret_user, const char **ret_whole, struct err *err)
{
	const char *user = s->run_as_username;

	if (str_empty(user) && s->run_as_user)
		user = arena_printf(a, "%lld", (long long)s->run_as_user->value);
	if (!user)
		return err_nomem(err);
	if (s->run_as_group && str_empty(user))
		return err_set(err, ERR_UNKNOWN, "user group \"%lld\" is specified without user",
			       (long long)s->run_as_group->value);
	*ret_user = user;
	*ret_whole = s->run_as_group
			     ? arena_printf(a, "%s:%lld", user, (long long)s->run_as_group->value)
			     : user;
	return *ret_whole ? 0 : err_nomem(err);
}

static int id_cmp(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

int spec_part_user(struct arena *a, json_t *spec, const struct cri_spec_container *in,
		   struct err *err)
{
	const CRI(LinuxContainerSecurityContext) *s = cri_security(in->container);
	const char *user, *whole;
	struct user_ids ids, of_user = {0};
	size_t n = 0;
	int r = wanted_user(a, s, &user, &whole, err);

	if (r < 0)
		return r;
	if (str_empty(user)) {
		whole = json_str(in->image.config, "User", "");
		user = arena_strndup(a, whole, strcspn(whole, ":"));
		if (!user)
			return err_nomem(err);
	}
	r = user_resolve(a, whole, in->passwd, in->group, &ids, err);
	if (r == 0 &&
	    s->supplemental_groups_policy != RUNTIME__V1__SUPPLEMENTAL_GROUPS_POLICY__Strict)
		r = user_resolve(a, user, in->passwd, in->group, &of_user, err);
	if (r < 0)
		return cri_unknown(r, err);
	uint32_t *gids =
		arena_new_array(a, uint32_t, 1 + of_user.n_gids + s->n_supplemental_groups);
	if (!gids)
		return err_nomem(err);
	gids[n++] = ids.gid;
	/* The user's own primary group comes first there, and is not meant when another is asked
	 * for. */
	for (size_t i = 1; i < of_user.n_gids; i++)
		gids[n++] = of_user.gids[i];
	for (size_t i = 0; i < s->n_supplemental_groups; i++) {
		if (s->supplemental_groups[i] < 0 || s->supplemental_groups[i] > UINT32_MAX)
			return err_set(err, ERR_UNKNOWN, "supplemental group %lld is out of range",
				       (long long)s->supplemental_groups[i]);
		gids[n++] = (uint32_t)s->supplemental_groups[i];
	}
	qsort(gids, n, sizeof(*gids), id_cmp);
	size_t kept = 0;
	for (size_t i = 0; i < n; i++)
		if (i == 0 || gids[i] != gids[i - 1])
			gids[kept++] = gids[i];
	return spec_set_user(spec, ids.uid, ids.gid, gids, kept, err);
}

/* ---- capabilities ---- */

static int each_cap(json_t *spec, char *const *v, size_t n,
		    int (*fn)(json_t *spec, const char *cap, struct err *err), struct err *err)
{
	char name[64];
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++) {
		if (strcasecmp(v[i], "ALL") == 0)
			continue;
		int len = snprintf(name, sizeof(name), "CAP_%s", v[i]);
		if (len < 0 || (size_t)len >= sizeof(name))
			return err_set(err, ERR_UNKNOWN, "capability \"%s\" is unknown", v[i]);
		for (char *p = name; *p; p++)
			*p = *p >= 'a' && *p <= 'z' ? (char)(*p - 'a' + 'A') : *p;
		r = fn(spec, name, err);
	}
	return r;
}

/* In any case, as names are: a manifest that says "all" means all. */
static bool has_all(char *const *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strcasecmp(v[i], "ALL") == 0)
			return true;
	return false;
}

int spec_part_capabilities(json_t *spec, const CRI(Capability) * c, struct err *err)
{
	int r = 0;

	if (!c)
		return 0;
	if (has_all(c->add_capabilities, c->n_add_capabilities))
		r = spec_add_all_caps(spec, err);
	if (r == 0 && has_all(c->drop_capabilities, c->n_drop_capabilities)) {
		r = spec_set(spec, "process/capabilities",
			     json_pack("{s:[], s:[], s:[]}", "bounding", "effective", "permitted"),
			     err);
	}
	if (r == 0)
		r = each_cap(spec, c->add_capabilities, c->n_add_capabilities, spec_add_cap, err);
	if (r == 0)
		r = each_cap(spec, c->drop_capabilities, c->n_drop_capabilities, spec_drop_cap,
			     err);
	return r;
}

/* ---- seccomp ---- */

static bool seccomp_supported(void)
{
	/* The filter at NULL is looked at only where filters are known. */
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL, 0, 0) < 0 && errno == EFAULT;
}

static int seccomp_file(struct arena *a, json_t *spec, const char *path, struct err *err)
{
	json_t *j;
	char *text;
	size_t n;
	int r = file_read(a, AT_FDCWD, path, FILE_MAX, &text, &n);

	if (r < 0)
		return cri_unknown(err_errno(err, r, "seccomp profile %s", path), err);
	r = json_parse(text, n, &j, err);
	return r < 0 ? err_prefix(err, "seccomp profile %s", path)
		     : spec_set(spec, "linux/seccomp", j, err);
}

/* "runtime/default", "unconfined", "localhost/<path>": the forms of before there were profiles. */
static int old_profile(const char *path, const char *unset, int *ret_type, const char **ret_ref,
		       struct err *err)
{
	const char *ref;

	path = str_or(path, unset);
	*ret_ref = "";
	if (str_empty(path) || streq(path, "unconfined"))
		*ret_type = UNCONFINED;
	else if (streq(path, "runtime/default") || streq(path, "docker/default"))
		*ret_type = RUNTIME_DEFAULT;
	else if ((ref = str_skip(path, "localhost/"))) {
		*ret_type = LOCALHOST;
		*ret_ref = ref;
	} else
		return err_set(err, ERR_UNKNOWN, "invalid security profile \"%s\"", path);
	return 0;
}

int spec_part_seccomp(struct arena *a, json_t *spec, const CRI(SecurityProfile) * profile,
		      const char *path, bool privileged, const struct cri_config *config,
		      struct err *err)
{
	int type = profile ? (int)profile->profile_type : 0;
	const char *ref = profile ? profile->localhost_ref : "";
	json_t *j;
	int r = 0;

	if (privileged)
		return 0;
	if (!profile)
		r = old_profile(path, config->unset_seccomp_profile, &type, &ref, err);
	if (r < 0)
		return r;
	if (type == UNCONFINED) {
		spec_unset(spec, "linux/seccomp");
		return 0;
	}
	if (!seccomp_supported())
		return err_set(err, ERR_UNKNOWN, "seccomp is not supported");
	if (type == LOCALHOST) {
		if (str_empty(ref))
			return err_set(err, ERR_UNKNOWN,
				       "seccomp profile Localhost without localhost_ref");
		ref = str_skip(ref, "localhost/") ? str_skip(ref, "localhost/") : ref;
		return seccomp_file(a, spec, ref, err);
	}
	if (type != RUNTIME_DEFAULT)
		return err_set(err, ERR_UNKNOWN, "unknown seccomp profile type %d", type);
	r = seccomp_default(a, spec, &j, err);
	return r < 0 ? r : spec_set(spec, "linux/seccomp", j, err);
}

/* ---- AppArmor ---- */

int spec_part_apparmor(struct arena *a, json_t *spec, const CRI(SecurityProfile) * profile,
		       const char *path, bool privileged, const struct cri_config *config,
		       struct err *err)
{
	int type = profile ? (int)profile->profile_type : RUNTIME_DEFAULT, r = 0;
	const char *ref = profile ? profile->localhost_ref : "";
	bool enabled = !config->disable_apparmor && apparmor_enabled(NULL);

	if (!profile && !str_empty(path))
		r = old_profile(path, "", &type, &ref, err);
	if (r < 0)
		return r;
	if (!enabled) {
		if (type == LOCALHOST)
			return err_set(err, ERR_UNKNOWN,
				       "apparmor is not supported: profile %s cannot be applied",
				       ref);
		return 0;
	}
	if (type == UNCONFINED || (privileged && type == RUNTIME_DEFAULT))
		return 0;
	if (type == LOCALHOST) {
		const char *name = str_skip(ref, "localhost/");
		name = name ? name : ref;
		if (apparmor_loaded(NULL, name, NULL) < 0)
			return err_set(err, ERR_UNKNOWN, "apparmor profile not found %s", name);
		return spec_set(spec, "process/apparmorProfile", json_string(name), err);
	}
	return spec_set(spec, "process/apparmorProfile", json_string(DEFAULT_APPARMOR), err);
}

/* ---- SELinux ---- */

/* What a context's level may look like: s0, s0:c1,c2, s0-s1:c0.c1023. */
#define LEVEL "^s[0-9]+(-s[0-9]+)?(:c[0-9]{1,4}((\\.c[0-9]{1,4})?,c[0-9]{1,4})*(\\.c[0-9]{1,4})?)?$"

static bool level_valid(const char *level)
{
	regex_t re;
	bool ok = regcomp(&re, LEVEL, REG_EXTENDED | REG_NOSUB) == 0;

	if (ok) {
		ok = regexec(&re, level, 0, NULL, 0) == 0;
		regfree(&re);
	}
	return ok;
}

/* Two categories of their own keep containers apart. */
static char *random_level(struct arena *a, int64_t range)
{
	uint32_t v[2];

	do {
		random_bytes(v, sizeof(v));
		v[0] %= (uint32_t)range;
		v[1] %= (uint32_t)range;
	} while (v[0] == v[1]);
	return arena_printf(a, "s0:c%u,c%u", MIN(v[0], v[1]), MAX(v[0], v[1]));
}

int cri_selinux_labels(struct arena *a, const struct cri_config *config,
		       const CRI(SELinuxOption) * o, const char **ret_process,
		       const char **ret_mount, struct err *err)
{
	const char *level = o ? o->level : "";

	*ret_process = *ret_mount = "";
	if (!config->enable_selinux || access("/sys/fs/selinux/enforce", F_OK) < 0)
		return 0;
	if (!str_empty(level) && !level_valid(level))
		return err_set(err, ERR_UNKNOWN, "the format of 'level' %s is not correct", level);
	if (str_empty(level))
		level = random_level(a, config->selinux_category_range < 2
						? 1024
						: config->selinux_category_range);
	*ret_process = !level ? NULL
			      : arena_printf(a, "%s:%s:%s:%s", str_or(o ? o->user : "", "system_u"),
					     str_or(o ? o->role : "", "system_r"),
					     str_or(o ? o->type : "", "container_t"), level);
	*ret_mount = !level ? NULL
			    : arena_printf(a, "%s:object_r:container_file_t:%s",
					   str_or(o ? o->user : "", "system_u"), level);
	return *ret_process && *ret_mount ? 0 : err_nomem(err);
}
