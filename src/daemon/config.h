/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's configuration: files, imports and flags merged over the defaults, as one tree of
 * version 4 that has every key.
 *
 * A file is parsed, migrated to version 4 and checked on its own, so that an error names file, line
 * and column. Unknown keys are errors; tables of plugins that do not exist are warned about and
 * kept. Then files are merged: outside of plugins, values that are not zero replace, lists grow by
 * what they do not have, entries of timeouts, proxy_plugins and stream_processors are replaced
 * whole; tables of plugins are overlaid deeply.
 *
 * Owned by whoever loads it; read only afterwards, from any thread. All strings live as long as it.
 */
#pragma once

#include <stdint.h>

#include "daemon/config_field.h"

#define CONFIG_PATH_DEFAULT "/etc/containerd/config.toml"

struct config {
	struct arena *arena;
	const char *path;	 /* main file; NULL = there was none */
	struct toml_value *tree; /* whole, version 4 */
	const char *root, *state, *temp;
	const char *log_level, *log_format; /* "" = default */
	const char *trace;		    /* file, "" = none */
	int oom_score;
	const char *cgroup_path;
	const char *const *disabled_plugins, *const *required_plugins; /* URIs, NULL-terminated */
	const char **warnings; /* for the log, once it is set up */
	size_t warnings_n, warnings_cap;
};

/* Values from the command line, which win over files; NULL or "" = not given. */
struct config_flags {
	const char *address, *root, *state, *log_level;
};

/* @path     main file; NULL = the default path, where a missing file is fine
 * @missing_ok  a missing @path is fine too
 *
 * -ERR_NOT_FOUND         no such file, or a literal import is missing
 * -ERR_INVALID_ARGUMENT  "FILE:LINE:COLUMN: ...", or values that do not go together */
int config_load(const char *path, bool missing_ok, const struct config_flags *flags,
		struct config **ret, struct err *err) _must_check_;

/* Nothing but defaults. */
int config_default(struct config **ret, struct err *err) _must_check_;
void config_free(struct config *c);

/* As `config default` and `config dump` print it. */
void config_print(const struct config *c, struct buf *b);

/* Table of a plugin (URI "io.containerd.x.v1.id"); NULL when it has none. */
const struct toml_value *config_plugin(const struct config *c, const char *uri);

/* A timeout of [timeouts] in ns, by its full name, as config_get_duration(); 0 when unknown. */
int64_t config_timeout(const struct config *c, const char *name);

/* Values by dotted path in a table; keys that hold dots need toml_get(). Absent values and those of
 * another type are zero, "" or NULL: for known fields the check of the file has seen to it. */
const struct toml_value *config_get(const struct toml_value *t, const char *path);
const char *config_get_string(const struct toml_value *t, const char *path);
bool config_get_bool(const struct toml_value *t, const char *path);
int64_t config_get_int(const struct toml_value *t, const char *path);
double config_get_float(const struct toml_value *t, const char *path);
/* ns; what is longer than CONFIG_DURATION_MAX counts as that */
int64_t config_get_duration(const struct toml_value *t, const char *path);
#define CONFIG_DURATION_MAX ((int64_t)100 * 365 * 86400 * 1000000000)
/* NULL-terminated array in @a; NULL = no memory. */
const char *const *config_get_strings(struct arena *a, const struct toml_value *t,
				      const char *path);

/* The same of an array (NULL = an empty one). */
const char *const *config_strings(struct arena *a, const struct toml_value *v);

/* The keys outside of plugins. */
extern const struct config_field config_fields[];

DEFINE_CLEANUP(struct config *, config_free)
#define _cleanup_config_ _cleanup_(config_freep)
