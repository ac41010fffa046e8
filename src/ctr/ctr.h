/* SPDX-License-Identifier: Apache-2.0 */
/* The framework of the command line `ctr`.
 *
 * A command is data: one const struct ctr_command with its names, flags and subcommands; parsing,
 * help, completion and manual pages are derived from that one table. The root is in commands.c; a
 * group of commands lives in one file cmd_<group>.c and is known there by one symbol `const struct
 * ctr_command cmd_<group>`.
 *
 *     static const struct ctr_flag ls_flags[] = {
 *             { "quiet", 'q', CTR_BOOL, "print only the names" },
 *             {}
 *     };
 *     static int run_ls(struct ctr *c, struct err *err)
 *     {
 *             int r = ctr_connect(c, err);
 *             if (r < 0)
 *                     return r;
 *             ... client_call(c->client, &c->ctx, ...) ...
 *             return 0;
 *     }
 *     static const struct ctr_command ls = {
 *             .name = "list", .aliases = { "ls" }, .usage = "list widgets", .args = "[flags]
 * [<filter>, ...]", .flags = CTR_FLAGS(ls_flags), .run = run_ls,
 *     };
 *     const struct ctr_command cmd_widgets = {
 *             .name = "widgets", .usage = "manage widgets", .subcommands = CTR_COMMANDS(&ls),
 *     };
 *
 * Flags come before the positional arguments, as Go's flag package reads them: `-f v`, `--flag v`,
 * `--flag=v`, `--bool`,
 * `--bool=false`, `--` ends them; the first word that is no flag ends them too. A command also sees
 * the flags of its groups and the global ones.
 *
 * One thread runs a command. Everything a command allocates comes from c->ctx.arena and lives until
 * the program ends. Errors: a command returns a negative kind with err filled, main prints "ctr:
 * <text>" and exits with 1; a positive number is the exit status itself, with nothing printed.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/ctx.h"
#include "base/err.h"
#include "base/json.h"
#include "base/labels.h"
#include "base/str.h"
#include "client/client.h"

enum ctr_kind { CTR_BOOL, CTR_STRING, CTR_STRINGS, CTR_INT, CTR_UINT, CTR_FLOAT, CTR_DURATION };

struct ctr_flag {
	const char *name; /* NULL ends the array */
	char alias;	  /* one letter, 0 = none */
	enum ctr_kind kind;
	const char *usage;
	const char *fallback; /* value when not given; NULL = "", 0, false */
	const char *env;      /* environment variable that comes before @fallback; NULL = none */
	const char *value;    /* how help calls the value; NULL = "value" */
	bool required;
};

struct ctr;
struct documents;

/* What a positional argument names: for completion, and for telling where a thing is that was not
 * found. */
enum ctr_names {
	CTR_NAMES_NONE,
	CTR_NAMES_IMAGES,
	CTR_NAMES_CONTAINERS,
	CTR_NAMES_TASKS,
	CTR_NAMES_SNAPSHOTS,
	CTR_NAMES_LEASES,
	CTR_NAMES_NAMESPACES,
	CTR_NAMES_CONTENT,
	CTR_NAMES_SANDBOXES,
	CTR_NAMES_PODS,
	CTR_NAMES_FILES,
};

struct ctr_command {
	const char *name;
	const char *aliases[4];
	const char *usage; /* one line */
	const char *args;  /* positional arguments as help shows them; NULL = "[arguments...]" */
	const char *description;		      /* paragraphs for help; NULL = none */
	const struct ctr_flag *const *flags;	      /* CTR_FLAGS(): groups, each ended by {} */
	const struct ctr_command *const *subcommands; /* CTR_COMMANDS() */
	enum ctr_names names, more;		      /* of the first argument, of the others */
	int (*run)(struct ctr *c, struct err *err);   /* NULL: subcommands only, prints its help */
	bool hidden;				      /* not in help */
};

#define CTR_FLAGS(...) ((const struct ctr_flag *const[]){__VA_ARGS__, NULL})
#define CTR_COMMANDS(...) ((const struct ctr_command *const[]){__VA_ARGS__, NULL})

/* Value of one flag that was given or has a default. */
struct ctr_value {
	const struct ctr_flag *flag;
	bool set; /* on the command line or by the environment */
	bool boolean;
	int64_t integer; /* CTR_DURATION too: nanoseconds */
	uint64_t uinteger;
	double real;
	const char **strings; /* CTR_STRING has one, "" when empty */
	size_t n_strings, cap_strings;
};

/* A command of the line and the values of its flags; parent is the group it was found in. */
struct ctr_level {
	const struct ctr_command *command;
	struct ctr_value *values;
	size_t n_values;
	struct ctr_level *parent;
};

struct ctr {
	struct ctx ctx;		 /* arena; namespace; deadline from --timeout */
	struct ctr_level *level; /* the command that runs */
	const char *const *args; /* positional arguments, NULL-terminated */
	size_t n_args;
	struct client *client;	     /* after ctr_connect() */
	bool unreachable;	     /* ctr_connect() has failed */
	struct documents *documents; /* that were read ahead, NULL = none */
};

/* ---- Flags of the running command, its groups and the global ones. Asking for a flag that no
 * table has is a bug (abort). ---- */
bool ctr_bool(const struct ctr *c, const char *flag);
const char *ctr_string(const struct ctr *c, const char *flag); /* never NULL */
int64_t ctr_int(const struct ctr *c, const char *flag);	       /* CTR_DURATION too: nanoseconds */
uint64_t ctr_uint(const struct ctr *c, const char *flag);
double ctr_float(const struct ctr *c, const char *flag);
const char **ctr_strings(const struct ctr *c, const char *flag, size_t *ret_n);
bool ctr_is_set(const struct ctr *c, const char *flag);
/* True when the running command has such a flag at all: for code that several commands share. */
bool ctr_has_flag(const struct ctr *c, const char *flag);
/* Positional argument @i, "" when there are fewer. */
const char *ctr_arg(const struct ctr *c, size_t i);

/* ---- Shared by commands ---- */

/* Connects to --address once, within --connect-timeout; sets c->client. One clear line when nobody
 * listens. */
int ctr_connect(struct ctr *c, struct err *err) _must_check_;
/* --snapshotter, else the namespace's default label, else "overlayfs". Needs a connection. */
int ctr_snapshotter(struct ctr *c, const char **ret, struct err *err) _must_check_;
/* "k=v" words into labels; a bare "k" means "k=true", "k=" (an empty value) clears the label where
 * labels are changed. */
int ctr_parse_labels(struct arena *a, const char *const *words, size_t n, struct labels *ret,
		     struct err *err) _must_check_;
/* "k=v,k2=v2" sorted by key; "-" when empty: as the LABELS columns show it. In the arena. */
const char *ctr_format_labels(struct arena *a, const struct labels *l);
/* Indented by four blanks, then a newline, on standard output. */
int ctr_print_json(const json_t *j, struct err *err) _must_check_;
/* What was printed is out: 0, or "write standard output: ...". Commands that end may leave it to
 * main. */
int ctr_flush(struct err *err) _must_check_;
/* Prints @b, which must be whole, and flushes. */
int ctr_print(const struct buf *b, struct err *err) _must_check_;
/* "ctr: warning: ..." on standard error, for what does not make the command fail. */
void ctr_warn(const char *fmt, ...) _printf_(1, 2);

/* ---- Tables: cells end in a tab, lines in a newline; columns align as Go's text/tabwriter does
 * ---- */
struct table {
	struct buf text;
	int minwidth, tabwidth, padding;
	char pad;
};
#define TABLE_INIT(minwidth_, tabwidth_, padding_, pad_) \
	((struct table){.minwidth = (minwidth_),         \
			.tabwidth = (tabwidth_),         \
			.padding = (padding_),           \
			.pad = (pad_)})
#define _cleanup_table_ _cleanup_(table_done)
void table_done(struct table *t);
void table_printf(struct table *t, const char *fmt, ...) _printf_(2, 3);
/* Aligned text of what was added; 0 or -ENOMEM. */
int table_render(const struct table *t, struct buf *out);
/* Renders to standard output and empties the table. */
int table_print(struct table *t, struct err *err) _must_check_;

/* ---- Parsing and help; main and the tests use these ---- */

enum ctr_parsed { CTR_PARSED_RUN, CTR_PARSED_HELP, CTR_PARSED_UNKNOWN };
/* Finds the command of @argv (argv[0] is the program) below @root and fills c->level, c->args.
 * c->ctx.arena must be there.
 * *@ret says what to do: run c->level->command, print its help, or complain that c->args[0] is no
 * command. -ERR_INVALID_ARGUMENT with a raw text for a bad flag. */
int ctr_parse(struct ctr *c, const struct ctr_command *root, int argc, char **argv,
	      enum ctr_parsed *ret, struct err *err) _must_check_;
/* Help of @level; 0 or -ENOMEM. */
int ctr_help(const struct ctr_level *level, struct buf *out);
/* Adds to an error of the running command what can be done about it: see hint.c. */
void ctr_hint(struct ctr *c, struct err *err);
/* Default of @f as help shows it, NULL = none. */
const char *ctr_flag_fallback(const struct ctr_flag *f);

extern const struct ctr_command ctr_root;
