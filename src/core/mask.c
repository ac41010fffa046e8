/* SPDX-License-Identifier: Apache-2.0 */
#include "core/mask.h"

#include "base/str.h"

bool mask_field(const char *path, const char *field, const char **ret_key)
{
	const char *rest = str_skip(path, field);

	if (!rest || (*rest && *rest != '.'))
		return false;
	*ret_key = *rest ? rest + 1 : NULL;
	return true;
}

int mask_labels(struct arena *a, struct labels *to, const struct labels *from, const char *key)
{
	const char *value;

	if (!key)
		return labels_copy(a, to, from);
	value = labels_get(from, key);
	if (!str_empty(value))
		return labels_set(a, to, key, value);
	labels_unset(to, key);
	return 0;
}
