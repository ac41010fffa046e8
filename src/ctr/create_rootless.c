/* SPDX-License-Identifier: Apache-2.0 */
#include "ctr/create_rootless.h"

#include <unistd.h>

#include "base/json.h"
#include "base/str.h"
#include "sys/userns.h"

#define TTY_GROUP 5 /* Debian's and the default spec's */

/* Whether a cgroup can be made below the hierarchy's root: it has been delegated whole then. */
static bool cgroups_writable(void)
{
	return access(spec_host_unified() ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory", W_OK) == 0;
}

static bool has_namespace(const json_t *spec, const char *type)
{
	const json_t *v;
	size_t i;

	json_array_foreach (spec_get(spec, "linux/namespaces"), i, v)
		if (streq(json_str(v, "type", ""), type))
			return true;
	return false;
}

/* sysfs shows a network namespace, and only who owns that may mount it. */
static int sysfs_bind(json_t *m)
{
	json_t *options = json_pack("[s,s,s,s,s]", "rbind", "nosuid", "noexec", "nodev", "ro");

	if (!options || json_object_set_new(m, "options", options) < 0 ||
	    json_object_set_new(m, "type", json_string("none")) < 0)
		return -1;
	return json_object_set_new(m, "source", json_string("/sys"));
}

static int option_remove(json_t *m, const char *option)
{
	json_t *options = json_arr(m, "options"), *v;
	size_t i;

	json_array_foreach (options, i, v)
		if (streq(json_string_value(v), option))
			return json_array_remove(options, i);
	return 0;
}

static int mounts(json_t *spec, struct err *err)
{
	bool own_network = has_namespace(spec, "network");
	json_t *m;
	size_t i;

	json_array_foreach (spec_get(spec, "mounts"), i, m) {
		const char *type = json_str(m, "type", "");
		int r = 0;

		if (streq(type, "sysfs") && !own_network)
			r = sysfs_bind(m);
		else if (streq(type, "devpts") && !userns_has_group(TTY_GROUP))
			r = option_remove(m, "gid=5");
		if (r < 0)
			return err_nomem(err);
	}
	return 0;
}

int create_rootless(struct ctr *c, json_t *spec, struct err *err)
{
	const char *cgroup = ctr_has_flag(c, "cgroup") ? ctr_string(c, "cgroup") : "";

	if (userns_is_initial())
		return 0;
	if (str_empty(cgroup) && !cgroups_writable()) {
		spec_unset(spec, "linux/cgroupsPath");
		if (ctr_has_flag(c, "cpu-shares") && !ctr_is_set(c, "cpu-shares"))
			spec_unset(spec, "linux/resources/cpu/shares");
	}
	return mounts(spec, err);
}
