/* SPDX-License-Identifier: Apache-2.0 */
/* Completion: see complete.h.
 *
 * Reads the line as flags.c does, but forgives: what a flag's value is does not matter, only where
 * the last word stands. */
#include "ctr/complete.h"

static const struct ctr_flag *find_flag(const struct ctr_command *cmd, const char *name, size_t len)
{
	for (size_t g = 0; cmd->flags && cmd->flags[g]; g++)
		for (const struct ctr_flag *f = cmd->flags[g]; f->name; f++)
			if ((strlen(f->name) == len && memcmp(f->name, name, len) == 0) ||
			    (f->alias && len == 1 && f->alias == *name))
				return f;
	return NULL;
}

static const struct ctr_command *find_command(const struct ctr_command *group, const char *name)
{
	for (size_t i = 0; group->subcommands && group->subcommands[i]; i++) {
		const struct ctr_command *s = group->subcommands[i];

		if (streq(s->name, name))
			return s;
		for (size_t j = 0; j < ARRAY_LEN(s->aliases) && s->aliases[j]; j++)
			if (streq(s->aliases[j], name))
				return s;
	}
	return NULL;
}

static void note_value(struct complete *k, const struct ctr_flag *f, const char *value)
{
	if (streq(f->name, "address"))
		k->address = value;
	else if (streq(f->name, "namespace"))
		k->ns = value;
	else if (streq(f->name, "snapshotter"))
		k->snapshotter = value;
}

/* Values of flags, by the flags' names: the same one means the same everywhere. */
static void complete_value(struct complete *k, const struct ctr_flag *f)
{
	static const char *const files[] = {"config",
					    "env-file",
					    "pid-file",
					    "hosts-dir",
					    "tlscacert",
					    "tlscert",
					    "tlskey",
					    "fifo-dir",
					    "address",
					    "runc-root",
					    "dump-config",
					    "path",
					    "seccomp-profile",
					    "blockio-config-file",
					    "image-path",
					    "work-path",
					    "dir"};

	k->kind = COMPLETE_NOTHING;
	if (streq(f->name, "namespace")) {
		k->kind = COMPLETE_NAMES;
		k->names = CTR_NAMES_NAMESPACES;
	} else if (streq(f->name, "sandbox")) {
		k->kind = COMPLETE_NAMES;
		k->names = CTR_NAMES_SANDBOXES;
	} else if (streq(f->name, "snapshotter"))
		k->kind = COMPLETE_SNAPSHOTTERS;
	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		if (streq(f->name, files[i]))
			k->kind = COMPLETE_FILES;
}

/* A flag word that is finished: advances past its value too. False: the last word is its value, or
 * it is not known. */
static bool pass_flag(struct complete *k, const struct ctr_command *cmd, const char *const *words,
		      size_t n, size_t *i)
{
	const char *name = words[*i] + (words[*i][1] == '-' ? 2 : 1);
	const char *eq = strchr(name, '=');
	const struct ctr_flag *f = find_flag(cmd, name, eq ? (size_t)(eq - name) : strlen(name));

	(*i)++;
	if (!f) {
		k->kind = COMPLETE_NOTHING;
		return streq(name, "help") || streq(name, "h");
	}
	if (f->kind == CTR_BOOL)
		return true;
	if (eq) {
		note_value(k, f, eq + 1);
		return true;
	}
	if (*i + 1 >= n) {
		complete_value(k, f);
		return false;
	}
	note_value(k, f, words[(*i)++]);
	return true;
}

/* The last word begins with "-". */
static int complete_flag(struct arena *a, struct complete *k, const struct ctr_command *cmd,
			 struct err *err)
{
	const char *name = k->word + (k->word[1] == '-' ? 2 : 1);
	const char *eq = strchr(name, '=');
	const struct ctr_flag *f = eq ? find_flag(cmd, name, (size_t)(eq - name)) : NULL;

	k->command = cmd;
	k->flags = true;
	if (!eq)
		return 0;
	k->kind = COMPLETE_NOTHING;
	if (f && f->kind != CTR_BOOL) {
		complete_value(k, f);
		k->prefix = arena_strndup(a, k->word, (size_t)(eq + 1 - k->word));
		k->word = eq + 1;
	}
	return k->prefix ? 0 : err_nomem(err);
}

/* Positional argument @i of @cmd. */
static void complete_argument(struct complete *k, const struct ctr_command *cmd, size_t i)
{
	k->names = i ? cmd->more : cmd->names;
	if (k->names == CTR_NAMES_FILES)
		k->kind = COMPLETE_FILES;
	else if (k->names == CTR_NAMES_NONE)
		k->kind = COMPLETE_NOTHING;
	else
		k->kind = COMPLETE_NAMES;
}

int complete_scan(struct arena *a, const struct ctr_command *root, const char *const *words,
		  size_t n, struct complete *ret, struct err *err)
{
	struct complete k = {.word = n ? words[n - 1] : "", .prefix = ""};
	const struct ctr_command *cmd = root;
	size_t i = 0, first;
	int r = 0;

	for (;;) {
		bool over = false;

		while (i + 1 < n && words[i][0] == '-' && words[i][1] && !over) {
			over = streq(words[i], "--");
			if (over)
				i++;
			else if (!pass_flag(&k, cmd, words, n, &i))
				goto out;
		}
		if (i + 1 >= n && k.word[0] == '-' && !over) {
			r = complete_flag(a, &k, cmd, err);
			goto out;
		}
		if (!cmd->subcommands)
			break;
		k.command = cmd;
		if (i + 1 >= n)
			goto out;
		/* `help` walks down the names that follow. */
		if (streq(words[i], "help") || streq(words[i], "h")) {
			i++;
			continue;
		}
		cmd = find_command(cmd, words[i++]);
		if (!cmd) {
			k.kind = COMPLETE_NOTHING;
			goto out;
		}
	}
	first = i;
	complete_argument(&k, cmd, n ? n - 1 - first : 0);
out:
	if (r < 0)
		return r;
	*ret = k;
	return 0;
}

/* ---- Candidates ---- */

static void put(const struct complete *k, const char *dashes, const char *name, const char *what,
		struct buf *out)
{
	size_t n = strlen(dashes);

	if (strncmp(k->word, dashes, MIN(n, strlen(k->word))) != 0 ||
	    (strlen(k->word) > n && !str_has_prefix(name, k->word + n)))
		return;
	buf_printf(out, "%s%s\t%s\n", dashes, name, what);
}

int complete_words(const struct complete *k, struct buf *out, struct err *err)
{
	const struct ctr_command *cmd = k->command;

	for (size_t i = 0; !k->flags && cmd->subcommands[i]; i++)
		if (!cmd->subcommands[i]->hidden)
			put(k, "", cmd->subcommands[i]->name, cmd->subcommands[i]->usage, out);
	if (!k->flags)
		put(k, "", "help", "show help", out);
	for (size_t g = 0; k->flags && cmd->flags && cmd->flags[g]; g++)
		for (const struct ctr_flag *f = cmd->flags[g]; f->name; f++) {
			const char letter[2] = {f->alias, '\0'};

			put(k, f->name[1] ? "--" : "-", f->name, f->usage, out);
			if (f->alias && !str_has_prefix(k->word, "--"))
				put(k, "-", letter, f->usage, out);
		}
	if (k->flags)
		put(k, "--", "help", "show help", out);
	return buf_ok(out) ? 0 : err_nomem(err);
}
