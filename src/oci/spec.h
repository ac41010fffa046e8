/* SPDX-License-Identifier: Apache-2.0 */
/* OCI runtime spec (https://github.com/opencontainers/runtime-spec/blob/main/config.md): the
 * default of a Linux container, and the changes that images and clients make to it.
 *
 * A spec is a jansson object, owned by the caller. Functions change it in place; after an error it
 * is half changed and only good to be thrown away. -ERR_RESOURCE_EXHAUSTED is no memory,
 * -ERR_INVALID_ARGUMENT a spec (read from a file) whose members have the wrong types; others are
 * named. Not thread safe. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "oci/descriptor.h"

#define SPEC_TYPE_URL "types.containerd.io/opencontainers/runtime-spec/1/Spec"
#define SPEC_PROCESS_TYPE_URL "types.containerd.io/opencontainers/runtime-spec/1/Process"

/* Default spec of container @id in namespace @ns: pid, ipc, uts, mount, network (and on a host with
 * cgroup v2 only, @unified, cgroup) namespaces, pseudo file systems, masked and read-only paths, 14
 * capabilities, no new privileges, no device, rootfs "rootfs". */
int spec_new(const char *ns, const char *id, bool unified, json_t **ret,
	     struct err *err) _must_check_;

/* Replaces the member at @path ("linux/resources/memory/limit"; objects on the way are made) by
 * @value, which is taken over even on failure; NULL @value (say, json_true() never is) counts as no
 * memory. */
int spec_set(json_t *spec, const char *path, json_t *value, struct err *err) _must_check_;
/* Removes the member at @path; absent is fine. */
void spec_unset(json_t *spec, const char *path);
/* Borrowed; NULL when absent. */
json_t *spec_get(const json_t *spec, const char *path);

/* Environment, entrypoint and command, working directory of an image's config object ("config" of
 * the image document).
 * @args, when there are some, replace the image's command. The user is not applied: see oci/user.h.
 */
int spec_apply_image(json_t *spec, const json_t *config, const char *const *args, size_t n_args,
		     struct err *err) _must_check_;

int spec_set_args(json_t *spec, const char *const *args, size_t n, struct err *err) _must_check_;
/* "K=V" replaces or adds, "K" removes. */
int spec_set_env(json_t *spec, const char *assignment, struct err *err) _must_check_;
/* Value of an environment variable, NULL. */
const char *spec_env(const json_t *spec, const char *name);
/* process.terminal, and TERM=xterm when no TERM is set. */
int spec_set_terminal(json_t *spec, struct err *err) _must_check_;
/* @gids NULL: no supplementary groups. */
int spec_set_user(json_t *spec, uint32_t uid, uint32_t gid, const uint32_t *gids, size_t n_gids,
		  struct err *err) _must_check_;

/* Appends. @m's source, type and options as in the spec, target is the destination. */
int spec_add_mount(json_t *spec, const struct mount *m, struct err *err) _must_check_;
/* Sets the namespace @type (pid, network, ...) to a new one (@path "") or the one at @path. */
int spec_set_namespace(json_t *spec, const char *type, const char *path,
		       struct err *err) _must_check_;
void spec_remove_namespace(json_t *spec, const char *type);
/* @which "uidMappings" or "gidMappings"; adds the user namespace too. */
int spec_add_idmap(json_t *spec, const char *which, uint32_t container, uint32_t host,
		   uint32_t size, struct err *err) _must_check_;

/* In the bounding, effective and permitted sets. -ERR_INVALID_ARGUMENT unless @cap is "CAP_...". */
int spec_add_cap(json_t *spec, const char *cap, struct err *err) _must_check_;
int spec_drop_cap(json_t *spec, const char *cap, struct err *err) _must_check_;
/* Every capability of this process's bounding set. */
int spec_add_all_caps(json_t *spec, struct err *err) _must_check_;

/* Access to what every container gets: null, zero, full, random, urandom, tty, console, ptmx, pts.
 */
int spec_allow_default_devices(json_t *spec, struct err *err) _must_check_;
int spec_allow_all_devices(json_t *spec, struct err *err) _must_check_;
/* Device node @host, at @path in the container, with @access ("rwm"; NULL: no rule, where all is
 * allowed). When @host is a directory: all device nodes below it. -ERR_NOT_FOUND,
 * -ERR_INVALID_ARGUMENT (no device). */
int spec_add_device(json_t *spec, const char *host, const char *path, const char *access,
		    struct err *err) _must_check_;

/* All capabilities, nothing masked or read-only, /sys and cgroups writable, no seccomp, no
 * AppArmor. Devices are separate. */
int spec_set_privileged(json_t *spec, struct err *err) _must_check_;
/* The host's network namespace, with its hosts file, resolv.conf and name. */
int spec_set_host_network(json_t *spec, struct err *err) _must_check_;
/* True on a host that has only cgroup v2: what spec_new() wants to know. */
bool spec_host_unified(void);
