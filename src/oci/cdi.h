/* SPDX-License-Identifier: Apache-2.0 */
/* Devices by the Container Device Interface (CDI): what vendors describe in /etc/cdi and
 * /var/run/cdi, JSON or YAML, and what a container gets that asks for "vendor/class=device".
 *
 *     struct cdi *cdi;
 *     r = cdi_load(NULL, 0, &cdi, err);
 *     r = cdi_inject(cdi, spec, names, n, err);
 *     cdi_free(cdi);
 *
 * A registry is a picture of the directories at the time of loading and is never changed; threads
 * may share it. A file that is bad does not make the others unusable: cdi_problems() tells. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/json.h"

#define CDI_FILE_MAX (4u << 20)
#define CDI_FILES_MAX 1024
#define CDI_DEVICES_MAX 65536

struct cdi;

/* @dirs: of rising priority; none: /etc/cdi, /var/run/cdi. Absent directories are empty ones. */
int cdi_load(const char *const *dirs, size_t n_dirs, struct cdi **ret,
	     struct err *err) _must_check_;
void cdi_free(struct cdi *c);
DEFINE_CLEANUP(struct cdi *, cdi_free)

/* Whether @name is of the form vendor/class=device. */
bool cdi_name_valid(const char *name);
/* "vendor/class" has devices. */
bool cdi_has_kind(const struct cdi *c, const char *kind);
/* Names of all devices, sorted; those that two files of one priority have are not among them. */
size_t cdi_devices(const struct cdi *c, const char *const **ret);
/* What is wrong with files, a line each; "" when nothing is. */
const char *cdi_problems(const struct cdi *c);

/* One spec file's JSON, checked. -ERR_INVALID_ARGUMENT that names the member. */
int cdi_spec_check(const json_t *spec, struct err *err) _must_check_;

/* Makes the edits of the devices @names in the runtime spec: those of a spec file once before those
 * of its first device. -ERR_NOT_FOUND "unresolvable CDI devices a, b"; the spec is unchanged then.
 * Device nodes that lack type and numbers are looked up on the host. */
int cdi_inject(const struct cdi *c, json_t *spec, const char *const *names, size_t n,
	       struct err *err) _must_check_;
