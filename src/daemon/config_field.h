/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration as data: a table of fields describes the keys of a TOML table. Parsing, type
 * checks, defaults, the output of `config default` and the reference page all follow from it.
 *
 * A table from a file is checked first (field_check: unknown keys, types, durations), then merged
 * with other files, then completed (field_complete: what was not given gets its default), which
 * gives a tree that has every key, in the order of the table.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/toml.h"

enum config_kind {
	CFG_BOOL,
	CFG_INT,
	CFG_FLOAT,
	CFG_STRING,
	CFG_STRINGS,	 /* array of strings */
	CFG_DURATION,	 /* string in the form of Go's durations, "" counts as 0 */
	CFG_TABLE,	 /* @fields are its keys */
	CFG_TABLES,	 /* array of tables with @fields */
	CFG_MAP,	 /* tables with @fields under any names */
	CFG_STRING_MAP,	 /* strings under any names */
	CFG_STRINGS_MAP, /* arrays of strings under any names */
	CFG_ANY,	 /* a table of anything: somebody else reads it */
	CFG_GONE,	 /* an old key of any type, accepted and dropped; @help says why */
};

/* A table of fields ends with a field without name. */
struct config_field {
	const char *name;
	enum config_kind kind;
	/* Strings and durations: the default itself; other kinds: a TOML value. NULL = false, 0,
	 * "", [], or for maps, arrays of tables and CFG_ANY: absent. CFG_DEF_* name what only the
	 * running host knows. Tables have none of their own. */
	const char *def;
	const struct config_field *fields;
	const char *help;
	bool optional; /* absent unless given: a key of ours that containerd's files do not have */
	bool honoured; /* false: containerd knows it, we do not act on it yet (a value other than
			  the default is warned about) */
};

#define CFG_DEF_UID "$uid"
#define CFG_DEF_GID "$gid"
#define CFG_DEF_PLATFORMS "$platforms" /* array of the host's platform */

#define CFG_FIELD(name_, kind_, def_, help_)                                               \
	{                                                                                  \
		.name = name_, .kind = kind_, .def = def_, .help = help_, .honoured = true \
	}
#define CFG_OPTIONAL(name_, kind_, help_)                                                       \
	{                                                                                       \
		.name = name_, .kind = kind_, .help = help_, .optional = true, .honoured = true \
	}
#define CFG_SUB(name_, kind_, def_, fields_, help_)                                          \
	{                                                                                    \
		.name = name_, .kind = kind_, .def = def_, .fields = fields_, .help = help_, \
		.honoured = true                                                             \
	}
#define CFG_UNHONOURED(name_, kind_, def_, help_)                        \
	{                                                                \
		.name = name_, .kind = kind_, .def = def_, .help = help_ \
	}
#define CFG_SUB_UNHONOURED(name_, kind_, def_, fields_, help_)                              \
	{                                                                                   \
		.name = name_, .kind = kind_, .def = def_, .fields = fields_, .help = help_ \
	}
#define CFG_OLD(name_, help_)                                  \
	{                                                      \
		.name = name_, .kind = CFG_GONE, .help = help_ \
	}
#define CFG_END              \
	{                    \
		.name = NULL \
	}

/* Receives what the operator should know; @line 0 = no place. */
struct config_sink {
	struct arena *arena;
	const char *file;
	void (*warn)(struct config_sink *sink, int line, const char *text);
};

/* Composes the text of a warning in the sink's arena. */
void config_sink_warn(struct config_sink *sink, int line, const char *fmt, ...) _printf_(3, 4);

/* Checks @table (of @sink's file, at key @path, "" for the root) against @fields and normalises it:
 * integers that stand for floats become floats, CFG_GONE keys are removed.
 *
 * -ERR_INVALID_ARGUMENT  "FILE:LINE:COLUMN: key `K`: ..." unknown key, wrong type, malformed
 * duration */
int field_check(struct config_sink *sink, const struct config_field *fields, const char *path,
		struct toml_value *table, struct err *err) _must_check_;

/* Builds a table with all @fields in order from @given (NULL = nothing) and the defaults. Maps are
 * sorted by key. */
int field_complete(struct arena *a, const struct config_field *fields,
		   const struct toml_value *given, struct toml_value **ret,
		   struct err *err) _must_check_;

/* Lays @over on @base: tables deeply, anything else is replaced. Neither is changed; @ret shares
 * values with both. */
int tree_overlay(struct arena *a, const struct toml_value *base, const struct toml_value *over,
		 struct toml_value **ret, struct err *err) _must_check_;

/* Sorts the keys of a table; @deep: of the tables in it too. */
int tree_sort(struct arena *a, const struct toml_value *t, bool deep, struct toml_value **ret,
	      struct err *err) _must_check_;

bool tree_equal(const struct toml_value *x, const struct toml_value *y);

/* false, 0, "", empty arrays and tables of nothing else. */
bool tree_is_zero(const struct toml_value *v);

struct toml_value *tree_string(struct arena *a,
			       const char *s); /* @s is not copied; NULL = no memory */

/* `a.'b.c'.d` of a path and a key. NULL = no memory. */
const char *config_key_join(struct arena *a, const char *path, const char *key);

/* "linux/amd64": what Go calls this machine. */
const char *host_platform(void);

/* Writes the tree as containerd does: two blanks a level, an empty line before every table but a
 * first one right below a header, literal quotes. */
void tree_print(struct buf *b, const struct toml_value *root);
