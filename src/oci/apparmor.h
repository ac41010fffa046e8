/* SPDX-License-Identifier: Apache-2.0 */
/* AppArmor: whether the host has it, what is loaded, and the default profile of containers.
 *
 * @host says where things are; NULL is the running system. Any thread. */
#pragma once

#include <stdbool.h>

#include "base/arena.h"
#include "base/ctx.h"
#include "base/err.h"

struct apparmor_host {
	const char *parser;   /* the program apparmor_parser, absolute or looked up in PATH */
	const char *etc;      /* /etc/apparmor.d */
	const char *profiles; /* the kernel's list of what is loaded */
	const char *enabled;  /* the kernel's parameter */
	const char *current;  /* this process's own profile */
};

/* The kernel has it turned on. */
bool apparmor_enabled(const struct apparmor_host *host);

/* 0 when the profile @name is loaded, -ERR_NOT_FOUND when not, -ERR_FAILED_PRECONDITION when
 * the host has no AppArmor; other errors: the list cannot be read. */
int apparmor_loaded(const struct apparmor_host *host, const char *name,
		    struct err *err) _must_check_;

/* Text of the default profile under @name, in the arena: everything but mounts and writing to what
 * is the host's in /proc and /sys; signals and traces only among the container's own processes.
 * -ERR_INVALID_ARGUMENT: such a name cannot be written in a profile. */
int apparmor_default_profile(struct arena *a, const struct apparmor_host *host, const char *name,
			     const char **ret, struct err *err) _must_check_;

/* Loads the default profile under @name unless one of that name is there. -ERR_NOT_FOUND: the
 * program apparmor_parser is not installed. */
int apparmor_load_default(const struct ctx *ctx, const struct apparmor_host *host, const char *name,
			  struct err *err) _must_check_;
