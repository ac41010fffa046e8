/* SPDX-License-Identifier: Apache-2.0 */
/* Between OCI specs and the messages of the node resource interface.
 *
 * A spec (or a piece of one that has only linux.resources) is the common form: what plugins are
 * told is read from it, and what they want changed is written into it. Results are in the arena;
 * -ERR_RESOURCE_EXHAUSTED is no memory. */
#pragma once

#include <jansson.h>

#include "base/arena.h"
#include "base/err.h"
#include "nri/plugin.h"
#include "oci/rdt.h"

/* Any map<string, string>'s entries have this layout. */
struct nri_entry {
	ProtobufCMessage base;
	char *key, *value;
};

/* Who has set what in the containers of a request: a plugin must not change what another has set.
 * Grows in the arena. */
struct nri_owner {
	const char *container;
	int field;	 /* NRI_FIELD(...) */
	const char *key; /* of a field with many, else "" */
	const char *plugin;
};
struct nri_owners {
	struct arena *arena;
	struct nri_owner *v;
	size_t n, cap;
};
#define NRI_OWNERS_MAX 8192

/* -ERR_CONFLICT that names both plugins; -ERR_INVALID_ARGUMENT: too many. */
int nri_claim(struct nri_owners *o, const char *container, int field, const char *key,
	      const char *plugin, struct err *err) _must_check_;
void nri_disclaim(struct nri_owners *o, const char *container, int field, const char *key);
/* NULL = nobody's. */
const char *nri_owner(const struct nri_owners *o, const char *container, int field,
		      const char *key);

/* Whether a reply is fit for a spec: its texts are UTF-8, and it has no more than 65536 of them and
 * of numbers. -ERR_INVALID_ARGUMENT */
int nri_message_check(const ProtobufCMessage *m, struct err *err) _must_check_;

/* Fills what the spec tells: args, env, mounts, hooks, limits, user, linux. */
int nri_container_of_spec(struct arena *a, const json_t *spec, NRI(Container) * ret,
			  struct err *err) _must_check_;
int nri_namespaces_of_spec(struct arena *a, const json_t *spec, NRI(LinuxNamespace) * **ret,
			   size_t *ret_n, struct err *err) _must_check_;
/* linux.resources; NULL members where it has none. */
int nri_resources_of_spec(struct arena *a, const json_t *spec, NRI(LinuxResources) * *ret,
			  struct err *err) _must_check_;
/* Entries of a map field from an object of strings. */
int nri_map_of_json(struct arena *a, const json_t *o, const ProtobufCMessageDescriptor *desc,
		    void *ret, size_t *ret_n, struct err *err) _must_check_;

/* Classes that resources name, which the caller looks up: NULL = not said. A class of RDT may be
 * denied to who names it. */
struct nri_classes {
	const char *blockio, *rdt;
	enum rdt_origin rdt_origin;
};
/* Writes what is set in @r into linux.resources, each claimed for @plugin. */
int nri_resources_apply(json_t *spec, const NRI(LinuxResources) * r, struct nri_owners *o,
			const char *container, const char *plugin, struct nri_classes *classes,
			struct err *err) _must_check_;
/* Makes a plugin's changes to the spec of the container that is created. CDI devices are claimed
 * and left to the caller. */
int nri_adjust(json_t *spec, const NRI(ContainerAdjustment) * adj, struct nri_owners *o,
	       const char *container, const char *plugin, struct nri_classes *classes,
	       struct err *err) _must_check_;
/* After all of them: mounts in the order of their depth. */
int nri_sort_mounts(json_t *spec, struct err *err) _must_check_;
