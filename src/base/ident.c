/* SPDX-License-Identifier: Apache-2.0 */
/* containerd's identifiers: runs of letters and digits, joined by single ".", "_" or "-". */
#include "base/err.h"
#include "base/str.h"

#define IDENT_MAX 76

static bool is_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool matches(const char *s)
{
	for (bool want_alnum = true;; s++) {
		if (is_alnum(*s))
			want_alnum = false;
		else if (want_alnum)
			return false;
		else if (*s == 0)
			return true;
		else if (*s == '.' || *s == '_' || *s == '-')
			want_alnum = true;
		else
			return false;
	}
}

int ident_validate(const char *s, struct err *err)
{
	if (str_empty(s))
		return err_set(err, ERR_INVALID_ARGUMENT, "identifier must not be empty");
	if (strlen(s) > IDENT_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "identifier \"%.200s\" greater than maximum length (%d characters)",
			       s, IDENT_MAX);
	if (!matches(s))
		return err_set(
			err, ERR_INVALID_ARGUMENT,
			"identifier \"%s\" must match ^[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*$", s);
	return 0;
}
