/* SPDX-License-Identifier: Apache-2.0 */
/* Completion: what may stand in place of the last word of a command line that is being typed, out
 * of the command table. */
#pragma once

#include "ctr/ctr.h"

enum complete_kind {
	COMPLETE_WORDS, /* commands and flags */
	COMPLETE_NAMES, /* things that the daemon has */
	COMPLETE_SNAPSHOTTERS,
	COMPLETE_FILES,
	COMPLETE_NOTHING,
};

struct complete {
	enum complete_kind kind;
	enum ctr_names names;			/* COMPLETE_NAMES */
	const char *word;			/* what has been typed of it */
	const char *prefix;			/* goes before each candidate: "--flag=" */
	const struct ctr_command *command;	/* COMPLETE_WORDS: of which command */
	bool flags;				/* its flags, not its subcommands */
	const char *address, *ns, *snapshotter; /* given on the line, NULL = not */
};

/* @words: the line without the program's name; the last one is being typed and may be "". What is
 * in error before it gives COMPLETE_NOTHING. */
int complete_scan(struct arena *a, const struct ctr_command *root, const char *const *words,
		  size_t n, struct complete *ret, struct err *err) _must_check_;
/* COMPLETE_WORDS: a line "candidate<tab>what it is" for each that begins with the word. */
int complete_words(const struct complete *k, struct buf *out, struct err *err) _must_check_;
