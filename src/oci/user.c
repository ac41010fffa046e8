/* SPDX-License-Identifier: Apache-2.0 */
/* passwd(5) and group(5) lines are split by hand: the files are somebody else's, and getpwent reads
 * only the host's. */
#include "oci/user.h"

#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"

#define FIELDS_MAX 7
#define GROUPS_MAX 65536u /* the kernel's NGROUPS_MAX */

struct field {
	const char *s;
	size_t n;
};

/* Splits the line at *@p into at most FIELDS_MAX fields and moves *@p to the next one; false at the
 * end of the text. */
static bool next_line(const char **p, struct field f[FIELDS_MAX], size_t *ret_n)
{
	const char *s = *p, *end;
	size_t n = 0;

	if (!*s)
		return false;
	end = strchrnul(s, '\n');
	while (n < FIELDS_MAX) {
		const char *colon = memchr(s, ':', (size_t)(end - s));
		const char *stop = colon && n + 1 < FIELDS_MAX ? colon : end;

		f[n++] = (struct field){s, (size_t)(stop - s)};
		if (stop == end)
			break;
		s = stop + 1;
	}
	*p = *end ? end + 1 : end;
	*ret_n = n;
	return true;
}

static bool field_is(struct field f, const char *s)
{
	return f.n == strlen(s) && memcmp(f.s, s, f.n) == 0;
}

static bool parse_id(const char *s, size_t n, uint32_t *ret)
{
	char text[16];
	uint64_t v;

	if (n == 0 || n >= sizeof(text) || s[0] < '0' || s[0] > '9')
		return false;
	memcpy(text, s, n);
	text[n] = '\0';
	if (str_to_u64(text, 10, &v) < 0 || v >= UINT32_MAX)
		return false;
	*ret = (uint32_t)v;
	return true;
}

/* Entry of the user called @name, or (when @name is NULL) with the number @uid. */
static bool find_user(const char *passwd, const char *name, uint32_t uid, struct field *ret_name,
		      uint32_t *ret_uid, uint32_t *ret_gid)
{
	struct field f[FIELDS_MAX];
	size_t n;

	while (next_line(&passwd, f, &n)) {
		uint32_t u, g;

		if (n < 4 || !parse_id(f[2].s, f[2].n, &u) || !parse_id(f[3].s, f[3].n, &g))
			continue;
		if (name ? !field_is(f[0], name) : u != uid)
			continue;
		*ret_name = f[0];
		*ret_uid = u;
		*ret_gid = g;
		return true;
	}
	return false;
}

static bool find_group(const char *group, const char *name, uint32_t *ret)
{
	struct field f[FIELDS_MAX];
	size_t n;

	while (next_line(&group, f, &n))
		if (n >= 3 && field_is(f[0], name) && parse_id(f[2].s, f[2].n, ret))
			return true;
	return false;
}

static bool lists_member(struct field members, struct field user)
{
	const char *s = members.s, *end = s + members.n;

	while (s < end) {
		const char *comma = memchr(s, ',', (size_t)(end - s));
		const char *stop = comma ? comma : end;

		if ((size_t)(stop - s) == user.n && memcmp(s, user.s, user.n) == 0)
			return true;
		s = stop + 1;
	}
	return false;
}

static int add_gid(struct arena *a, struct user_ids *u, size_t *cap, uint32_t gid, struct err *err)
{
	for (size_t i = 0; i < u->n_gids; i++)
		if (u->gids[i] == gid)
			return 0;
	if (u->n_gids >= GROUPS_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT, "user has more than %u groups",
			       GROUPS_MAX);
	u->gids = arena_grow(a, u->gids, cap, u->n_gids + 1, sizeof(*u->gids));
	if (!u->gids)
		return err_nomem(err);
	u->gids[u->n_gids++] = gid;
	return 0;
}

static int add_groups(struct arena *a, struct user_ids *u, const char *group, struct field user,
		      struct err *err)
{
	struct field f[FIELDS_MAX];
	size_t n, cap = u->n_gids;
	uint32_t gid;
	int r;

	while (user.n > 0 && next_line(&group, f, &n)) {
		if (n < 4 || !parse_id(f[2].s, f[2].n, &gid) || !lists_member(f[3], user))
			continue;
		r = add_gid(a, u, &cap, gid, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int user_resolve(struct arena *a, const char *user, const char *passwd, const char *group,
		 struct user_ids *ret, struct err *err)
{
	const char *colon = strchr(user, ':');
	const char *name = colon ? arena_strndup(a, user, (size_t)(colon - user)) : user;
	struct user_ids u = {};
	struct field entry = {};
	size_t cap = 0;
	bool found;
	int r;

	if (!name)
		return err_nomem(err);
	if (!*name && !colon)
		name = "root";
	if (!*name || (colon && !colon[1]))
		return err_set(err, ERR_INVALID_ARGUMENT, "user \"%s\"", user);
	if (parse_id(name, strlen(name), &u.uid))
		found = find_user(passwd, NULL, u.uid, &entry, &u.uid, &u.gid);
	else
		found = find_user(passwd, name, 0, &entry, &u.uid, &u.gid) || streq(name, "root");
	if (!found && !(*name >= '0' && *name <= '9'))
		return err_set(err, ERR_NOT_FOUND, "user \"%s\" in /etc/passwd", name);
	if (!found && !parse_id(name, strlen(name), &u.uid))
		return err_set(err, ERR_INVALID_ARGUMENT, "user \"%s\"", user);
	if (colon && !parse_id(colon + 1, strlen(colon + 1), &u.gid) &&
	    !find_group(group, colon + 1, &u.gid))
		return err_set(err, ERR_NOT_FOUND, "group \"%s\" in /etc/group", colon + 1);
	r = add_gid(a, &u, &cap, u.gid, err);
	if (r == 0 && !colon)
		r = add_groups(a, &u, group, entry, err);
	if (r < 0)
		return r;
	*ret = u;
	return 0;
}
