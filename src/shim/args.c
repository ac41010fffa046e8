/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/args.h"

#include <stddef.h>
#include <string.h>

#include "base/str.h"

struct flag {
	const char *name;
	bool is_bool;
	size_t offset;
};

static const struct flag flags[] = {
	{"namespace", false, offsetof(struct shim_args, ns)},
	{"id", false, offsetof(struct shim_args, id)},
	{"address", false, offsetof(struct shim_args, address)},
	{"publish-binary", false, offsetof(struct shim_args, publish_binary)},
	{"bundle", false, offsetof(struct shim_args, bundle)},
	{"socket", false, offsetof(struct shim_args, socket)},
	{"debug", true, offsetof(struct shim_args, debug)},
	{"info", true, offsetof(struct shim_args, info)},
	{"v", true, offsetof(struct shim_args, version)},
};

static const struct flag *flag_find(const char *name, size_t n)
{
	for (size_t i = 0; i < ARRAY_LEN(flags); i++)
		if (strlen(flags[i].name) == n && memcmp(flags[i].name, name, n) == 0)
			return &flags[i];
	return NULL;
}

/* The words that strconv.ParseBool knows. */
static int bool_parse(const char *s, bool *ret)
{
	static const char *const yes[] = {"1", "t", "T", "true", "TRUE", "True"};
	static const char *const no[] = {"0", "f", "F", "false", "FALSE", "False"};

	for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
		if (streq(s, yes[i]) || streq(s, no[i])) {
			*ret = streq(s, yes[i]);
			return 0;
		}
	}
	return -EINVAL;
}

int shim_args_parse(int argc, char *const *argv, struct shim_args *ret, struct err *err)
{
	struct shim_args a = {"", "", "", "", "", "", false, false, false, ""};
	int i;

	for (i = 1; i < argc; i++) {
		const char *s = argv[i], *eq;
		const struct flag *f;

		if (s[0] != '-' || !s[1])
			break;
		s += s[1] == '-' ? 2 : 1;
		if (!*s) { /* "--" */
			i++;
			break;
		}
		eq = strchr(s, '=');
		f = flag_find(s, eq ? (size_t)(eq - s) : strlen(s));
		if (!f)
			return err_set(err, ERR_INVALID_ARGUMENT,
				       "flag provided but not defined: -%s", s);
		if (f->is_bool) {
			bool *b = (bool *)((char *)&a + f->offset);

			*b = true;
			if (eq && bool_parse(eq + 1, b) < 0)
				return err_set(err, ERR_INVALID_ARGUMENT,
					       "flag -%s: not a boolean: %s", f->name, eq + 1);
			continue;
		}
		if (!eq && ++i >= argc)
			return err_set(err, ERR_INVALID_ARGUMENT, "flag needs an argument: -%s",
				       f->name);
		*(const char **)((char *)&a + f->offset) = eq ? eq + 1 : argv[i];
	}
	if (i < argc)
		a.action = argv[i];
	*ret = a;
	return 0;
}
