/* SPDX-License-Identifier: Apache-2.0 */
/* Command line -> the command's entry and the values of its flags.
 *
 * Every level of the line (ctr, group, command) owns the flags of its own table. A value starts as
 * its default, is replaced by its environment variable, then by the line. Words are read left to
 * right; a level's flags end at the first word that is no flag, and if the level has subcommands
 * that word names the next level. */
#include "ctr/ctr.h"

#include <errno.h>
#include <stdlib.h>

#include "base/time.h"

static int parse_bool(const char *s, bool *ret)
{
	static const char *const yes[] = {"1", "t", "T", "true", "TRUE", "True"};
	static const char *const no[] = {"0", "f", "F", "false", "FALSE", "False"};

	for (size_t i = 0; i < ARRAY_LEN(yes); i++)
		if (streq(s, yes[i])) {
			*ret = true;
			return 0;
		}
	for (size_t i = 0; i < ARRAY_LEN(no); i++)
		if (streq(s, no[i])) {
			*ret = false;
			return 0;
		}
	return -EINVAL;
}

static int parse_float(const char *s, double *ret)
{
	char *end;
	double d;

	if (!*s || strchr(" \t\n", *s))
		return -EINVAL;
	errno = 0;
	d = strtod(s, &end);
	if (*end)
		return -EINVAL;
	if (errno == ERANGE)
		return -ERANGE;
	*ret = d;
	return 0;
}

static int value_add_string(struct arena *a, struct ctr_value *v, const char *s, bool append)
{
	if (!append)
		v->n_strings = 0;
	v->strings = arena_grow(a, v->strings, &v->cap_strings, v->n_strings + 1, sizeof(char *));
	if (!v->strings)
		return -ENOMEM;
	v->strings[v->n_strings++] = s;
	return 0;
}

/* @append: the flag was given before on the same line. */
static int value_set(struct arena *a, struct ctr_value *v, const char *s, bool append)
{
	switch (v->flag->kind) {
	case CTR_BOOL:
		return parse_bool(s, &v->boolean);
	case CTR_STRING:
		return value_add_string(a, v, s, false);
	case CTR_STRINGS:
		return value_add_string(a, v, s, append);
	case CTR_INT:
		return str_to_i64(s, 0, &v->integer);
	case CTR_UINT:
		return str_to_u64(s, 0, &v->uinteger);
	case CTR_FLOAT:
		return parse_float(s, &v->real);
	case CTR_DURATION:
		return duration_parse(s, &v->integer);
	}
	return -EINVAL;
}

static const char *value_error(int r)
{
	return r == -ENOMEM ? "out of memory" : r == -ERANGE ? "value out of range" : "parse error";
}

static int value_init(struct arena *a, struct ctr_value *v, const struct ctr_flag *f,
		      struct err *err)
{
	const char *env = f->env ? getenv(f->env) : NULL;
	int r;

	v->flag = f;
	r = f->kind == CTR_STRING ? value_add_string(a, v, "", false) : 0;
	if (r == 0 && f->fallback)
		r = value_set(a, v, f->fallback, false);
	if (r < 0)
		return err_nomem(err);
	if (!str_empty(env)) {
		r = value_set(a, v, env, false);
		if (r < 0)
			return err_set_raw(err, ERR_INVALID_ARGUMENT,
					   "invalid value \"%s\" for flag -%s from $%s: %s", env,
					   f->name, f->env, value_error(r));
		v->set = true;
	}
	return 0;
}

static int level_new(struct arena *a, const struct ctr_command *cmd, struct ctr_level *parent,
		     struct ctr_level **ret, struct err *err)
{
	struct ctr_level *l = arena_new_obj(a, struct ctr_level);
	size_t n = 0;
	int r;

	if (!l)
		return err_nomem(err);
	l->command = cmd;
	l->parent = parent;
	for (size_t g = 0; cmd->flags && cmd->flags[g]; g++)
		for (const struct ctr_flag *f = cmd->flags[g]; f->name; f++)
			n++;
	l->values = arena_new_array(a, struct ctr_value, n + 1);
	if (!l->values)
		return err_nomem(err);
	for (size_t g = 0; cmd->flags && cmd->flags[g]; g++)
		for (const struct ctr_flag *f = cmd->flags[g]; f->name; f++) {
			r = value_init(a, &l->values[l->n_values++], f, err);
			if (r < 0)
				return r;
		}
	*ret = l;
	return 0;
}

static struct ctr_value *level_find(const struct ctr_level *l, const char *name, size_t len)
{
	for (size_t i = 0; i < l->n_values; i++) {
		const struct ctr_flag *f = l->values[i].flag;

		if (strlen(f->name) == len && memcmp(f->name, name, len) == 0)
			return &l->values[i];
		if (f->alias && len == 1 && f->alias == *name)
			return &l->values[i];
	}
	return NULL;
}

static bool is_help(const char *name, size_t len)
{
	return (len == 4 && memcmp(name, "help", 4) == 0) || (len == 1 && *name == 'h');
}

/* Reads one flag at (*argv)[0]; advances past it and its value. Sets *@ret_help for -h. */
static int parse_flag(struct arena *a, struct ctr_level *l, bool *seen, char ***argv,
		      bool *ret_help, struct err *err)
{
	const char *word = *(*argv)++;
	const char *name = word + (word[1] == '-' ? 2 : 1);
	const char *eq = strchr(name, '=');
	size_t len = eq ? (size_t)(eq - name) : strlen(name);
	const char *value = eq ? eq + 1 : NULL;
	struct ctr_value *v;
	int r;

	if (len == 0 || *name == '-')
		return err_set_raw(err, ERR_INVALID_ARGUMENT, "bad flag syntax: %.200s", word);
	v = level_find(l, name, len);
	if (!v && is_help(name, len)) {
		*ret_help = true;
		return 0;
	}
	if (!v)
		return err_set_raw(err, ERR_INVALID_ARGUMENT,
				   "flag provided but not defined: -%.*s", (int)MIN(len, 200u),
				   name);
	if (!value && v->flag->kind == CTR_BOOL)
		value = "true";
	if (!value) {
		if (!**argv)
			return err_set_raw(err, ERR_INVALID_ARGUMENT,
					   "flag needs an argument: -%.*s", (int)len, name);
		value = *(*argv)++;
	}
	r = value_set(a, v, value, seen[v - l->values]);
	if (r < 0)
		return err_set_raw(err, ERR_INVALID_ARGUMENT,
				   "invalid %s \"%s\" for flag -%.*s: %s",
				   v->flag->kind == CTR_BOOL ? "boolean value" : "value", value,
				   (int)len, name, value_error(r));
	v->set = true;
	seen[v - l->values] = true;
	return 0;
}

static int parse_level_flags(struct arena *a, struct ctr_level *l, char ***argv, bool *ret_help,
			     struct err *err)
{
	bool *seen = arena_new_array(a, bool, l->n_values + 1);
	int r;

	if (!seen)
		return err_nomem(err);
	while (**argv && (**argv)[0] == '-' && (**argv)[1]) {
		if (streq(**argv, "--")) {
			(*argv)++;
			break;
		}
		r = parse_flag(a, l, seen, argv, ret_help, err);
		if (r < 0 || *ret_help)
			return r;
	}
	return 0;
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

static int check_required(const struct ctr_level *l, struct err *err)
{
	for (size_t i = 0; i < l->n_values; i++)
		if (l->values[i].flag->required && !l->values[i].set)
			return err_set_raw(err, ERR_INVALID_ARGUMENT,
					   "Required flag \"%s\" not set", l->values[i].flag->name);
	return 0;
}

int ctr_parse(struct ctr *c, const struct ctr_command *root, int argc, char **argv,
	      enum ctr_parsed *ret, struct err *err)
{
	struct arena *a = c->ctx.arena;
	const struct ctr_command *cmd = root;
	bool help = false, wants_help = false;
	int r;

	argv += argc > 0;
	for (;;) {
		r = level_new(a, cmd, c->level, &c->level, err);
		if (r < 0)
			return r;
		/* `help` walks down the names that follow it; flags do not matter there. */
		r = help ? 0 : parse_level_flags(a, c->level, &argv, &wants_help, err);
		if (r < 0)
			return r;
		if (wants_help || !*argv || !cmd->subcommands)
			break;
		if (!help && (streq(*argv, "help") || streq(*argv, "h")) &&
		    !find_command(cmd, *argv)) {
			help = true;
			if (!*++argv)
				break;
		}
		cmd = find_command(c->level->command, *argv);
		if (!cmd)
			break;
		argv++;
	}
	c->args = (const char *const *)argv;
	for (c->n_args = 0; argv[c->n_args]; c->n_args++)
		;
	help |= wants_help;
	if (!cmd)
		*ret = CTR_PARSED_UNKNOWN;
	else if (help || !c->level->command->run)
		*ret = CTR_PARSED_HELP;
	else
		*ret = CTR_PARSED_RUN;
	return *ret == CTR_PARSED_RUN ? check_required(c->level, err) : 0;
}

/* What the getters below read: a flag of another kind is another flag, though it has the name (as
 * --debug of ctr and of pprof). */
enum member { ANY, BOOLEAN, INTEGER, UINTEGER, REAL, STRINGS };

static enum member member_of(enum ctr_kind kind)
{
	static const enum member members[] = {
		[CTR_BOOL] = BOOLEAN,	  [CTR_STRING] = STRINGS, [CTR_STRINGS] = STRINGS,
		[CTR_INT] = INTEGER,	  [CTR_UINT] = UINTEGER,  [CTR_FLOAT] = REAL,
		[CTR_DURATION] = INTEGER,
	};

	return members[kind];
}

/* The innermost one that was set, else the innermost one: a command and its group may have the same
 * flag. */
static const struct ctr_value *find_value(const struct ctr *c, const char *flag, enum member member)
{
	const struct ctr_value *found = NULL;

	for (const struct ctr_level *l = c->level; l; l = l->parent) {
		const struct ctr_value *v = level_find(l, flag, strlen(flag));

		if (!v || (member != ANY && member_of(v->flag->kind) != member))
			continue;
		if (v->set)
			return v;
		if (!found)
			found = v;
	}
	return found;
}

static const struct ctr_value *need_value(const struct ctr *c, const char *flag, enum member member)
{
	const struct ctr_value *v = find_value(c, flag, member);

	if (!v)
		abort();
	return v;
}

bool ctr_has_flag(const struct ctr *c, const char *flag)
{
	return find_value(c, flag, ANY) != NULL;
}

bool ctr_is_set(const struct ctr *c, const char *flag)
{
	return need_value(c, flag, ANY)->set;
}

bool ctr_bool(const struct ctr *c, const char *flag)
{
	return need_value(c, flag, BOOLEAN)->boolean;
}

const char *ctr_string(const struct ctr *c, const char *flag)
{
	return need_value(c, flag, STRINGS)->strings[0];
}

int64_t ctr_int(const struct ctr *c, const char *flag)
{
	return need_value(c, flag, INTEGER)->integer;
}

uint64_t ctr_uint(const struct ctr *c, const char *flag)
{
	return need_value(c, flag, UINTEGER)->uinteger;
}

double ctr_float(const struct ctr *c, const char *flag)
{
	return need_value(c, flag, REAL)->real;
}

const char **ctr_strings(const struct ctr *c, const char *flag, size_t *ret_n)
{
	const struct ctr_value *v = need_value(c, flag, STRINGS);

	*ret_n = v->n_strings;
	return v->strings;
}

const char *ctr_arg(const struct ctr *c, size_t i)
{
	return i < c->n_args ? c->args[i] : "";
}
