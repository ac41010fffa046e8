/* SPDX-License-Identifier: Apache-2.0 */
/* String maps: see labels.h. */
#include "base/labels.h"

#include <string.h>

#define LABEL_MAX 4096

/* Index of @key, or where it would stand. */
static size_t find(const struct labels *l, const char *key, bool *ret_found)
{
	size_t lo = 0, hi = l->n;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int c = strcmp(l->v[mid].key, key);
		if (c == 0) {
			*ret_found = true;
			return mid;
		}
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	*ret_found = false;
	return lo;
}

const char *labels_get(const struct labels *l, const char *key)
{
	bool found;
	size_t i = find(l, key, &found);
	return found ? l->v[i].value : NULL;
}

int labels_set(struct arena *a, struct labels *l, const char *key, const char *value)
{
	bool found;
	size_t i = find(l, key, &found);
	char *v = arena_strdup(a, value);
	if (!v)
		return -ENOMEM;
	if (found) {
		l->v[i].value = v;
		return 0;
	}
	char *k = arena_strdup(a, key);
	struct label *array = k ? arena_grow(a, l->v, &l->cap, l->n + 1, sizeof(*array)) : NULL;
	if (!array)
		return -ENOMEM;
	l->v = array;
	memmove(&l->v[i + 1], &l->v[i], (l->n - i) * sizeof(*l->v));
	l->v[i] = (struct label){k, v};
	l->n++;
	return 0;
}

void labels_unset(struct labels *l, const char *key)
{
	bool found;
	size_t i = find(l, key, &found);
	if (!found)
		return;
	memmove(&l->v[i], &l->v[i + 1], (l->n - i - 1) * sizeof(*l->v));
	l->n--;
}

int labels_copy(struct arena *a, struct labels *to, const struct labels *from)
{
	struct labels copy = {0};
	if (from->n) {
		copy.v = arena_new_array(a, struct label, from->n);
		if (!copy.v)
			return -ENOMEM;
		copy.cap = from->n;
	}
	for (size_t i = 0; i < from->n; i++) {
		copy.v[i].key = arena_strdup(a, from->v[i].key);
		copy.v[i].value = arena_strdup(a, from->v[i].value);
		if (!copy.v[i].key || !copy.v[i].value)
			return -ENOMEM;
		copy.n++;
	}
	*to = copy;
	return 0;
}

int labels_validate(const struct labels *l, struct err *err)
{
	for (size_t i = 0; i < l->n; i++) {
		size_t n = strlen(l->v[i].key) + strlen(l->v[i].value);
		if (n > LABEL_MAX)
			return err_set(err, ERR_INVALID_ARGUMENT,
				       "label key and value length (%zu bytes) greater than "
				       "maximum size (%d bytes), "
				       "key: %.64s",
				       n, LABEL_MAX, l->v[i].key);
	}
	return 0;
}
