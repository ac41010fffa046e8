/* SPDX-License-Identifier: Apache-2.0 */
/* A class becomes the blockIO object of the runtime spec in one pass over its entries. A device has
 * one element in each of the lists (weightDevice, throttle...Device), found by its numbers, so that
 * later entries replace what earlier ones said. */
#include "oci/blockio.h"

#include <ctype.h>
#include <fcntl.h>
#include <glob.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/fd.h"
#include "base/str.h"
#include "oci/yaml_json.h"

#define WEIGHT_MIN 10
#define WEIGHT_MAX 1000
#define UNSET -1
#define NUMBER_LEN_MAX 64
#define DIGITS_MAX 18 /* what a number has before its suffix is whole in an int64_t */

enum { WEIGHT, READ_BPS, WRITE_BPS, READ_IOPS, WRITE_IOPS, N_FIELDS };

static const struct {
	const char *key;	  /* in the file */
	const char *list, *value; /* in the runtime spec */
	int64_t min, max;
} fields[N_FIELDS] = {
	[WEIGHT] = {"Weight", "weightDevice", "weight", WEIGHT_MIN, WEIGHT_MAX},
	[READ_BPS] = {"ThrottleReadBps", "throttleReadBpsDevice", "rate", 0, INT64_MAX},
	[WRITE_BPS] = {"ThrottleWriteBps", "throttleWriteBpsDevice", "rate", 0, INT64_MAX},
	[READ_IOPS] = {"ThrottleReadIOPS", "throttleReadIOPSDevice", "rate", 0, INT64_MAX},
	[WRITE_IOPS] = {"ThrottleWriteIOPS", "throttleWriteIOPSDevice", "rate", 0, INT64_MAX},
};

/* ---- Quantities ---- */

/* @ret_digits * 10^@ret_exp; what follows the number. NULL: no number. */
static const char *read_number(const char *s, int64_t *ret_digits, int *ret_exp)
{
	int64_t v = 0;
	int seen = 0, digits = 0, fraction = 0;
	bool point = false;

	for (;; s++) {
		if (*s == '.' && !point) {
			point = true;
			continue;
		}
		if (!isdigit((unsigned char)*s))
			break;
		seen++;
		if (v || *s != '0')
			digits++;
		if (digits > DIGITS_MAX)
			return NULL;
		v = v * 10 + (*s - '0');
		fraction += point;
	}
	*ret_digits = v;
	*ret_exp = -fraction;
	return seen ? s : NULL;
}

/* What a suffix multiplies by: 2^@ret_shift * 10^@ret_exp. */
static int read_suffix(const char *s, int *ret_shift, int *ret_exp)
{
	static const char letters[] = "KMGTPE";
	const char *at;
	int64_t e;

	*ret_shift = *ret_exp = 0;
	if (!*s)
		return 0;
	if ((*s == 'e' || *s == 'E') && s[1] && s[1] != 'i') {
		if (str_to_i64(s[1] == '+' ? s + 2 : s + 1, 10, &e) < 0 || e < -DIGITS_MAX ||
		    e > DIGITS_MAX)
			return -EINVAL;
		*ret_exp = (int)e;
		return 0;
	}
	if (streq(s, "m")) {
		*ret_exp = -3;
		return 0;
	}
	if (streq(s, "k")) {
		*ret_exp = 3;
		return 0;
	}
	at = strchr(letters, *s);
	if (!at || (s[1] == '\0' && *s == 'K') || (s[1] && !streq(s + 1, "i")))
		return -EINVAL;
	if (s[1])
		*ret_shift = 10 * (int)(at - letters + 1);
	else
		*ret_exp = 3 * (int)(at - letters + 1);
	return 0;
}

int quantity_parse(const char *s, int64_t *ret)
{
	bool negative = *s == '-', rest = false;
	int64_t v;
	int exp, more, shift;

	s = read_number(s + (*s == '-' || *s == '+'), &v, &exp);
	if (!s || read_suffix(s, &shift, &more) < 0)
		return -EINVAL;
	exp += more;
	if (__builtin_mul_overflow(v, (int64_t)1 << shift, &v))
		return -ERANGE;
	for (; exp > 0 && v; exp--)
		if (__builtin_mul_overflow(v, 10, &v))
			return -ERANGE;
	for (; exp < 0; exp++) {
		rest |= v % 10 != 0;
		v /= 10;
	}
	/* Up means away from zero. */
	v += rest;
	*ret = negative ? -v : v;
	return 0;
}

/* ---- The file ---- */

/* The member @key, whatever the case of its letters. */
static json_t *member(const json_t *o, const char *key)
{
	const char *k;
	json_t *v;

	json_object_foreach ((json_t *)o, k, v)
		if (strcasecmp(k, key) == 0)
			return json_is_null(v) ? NULL : v;
	return NULL;
}

static int field_value(const json_t *entry, int field, int64_t *ret, struct err *err)
{
	const json_t *v = member(entry, fields[field].key);
	char text[NUMBER_LEN_MAX];
	int64_t n;

	*ret = UNSET;
	if (!v || (json_is_string(v) && json_string_length(v) == 0))
		return 0;
	if (json_is_integer(v))
		snprintf(text, sizeof(text), "%lld", (long long)json_integer_value(v));
	else if (json_is_real(v))
		snprintf(text, sizeof(text), "%.3f", json_real_value(v));
	else
		snprintf(text, sizeof(text), "%s", str_or(json_string_value(v), "?"));
	if (quantity_parse(text, &n) < 0)
		return err_set(err, ERR_INVALID_ARGUMENT, "syntax error in \"%s\" (\"%s\")",
			       fields[field].key, text);
	if (n < fields[field].min)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "value of \"%s\" (%lld) smaller than minimum (%lld)",
			       fields[field].key, (long long)n, (long long)fields[field].min);
	if (n > fields[field].max)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "value of \"%s\" (%lld) bigger than maximum (%lld)",
			       fields[field].key, (long long)n, (long long)fields[field].max);
	*ret = n;
	return 0;
}

/* ---- Devices ---- */

static int set_device(json_t *blockio, int field, dev_t dev, int64_t value, struct err *err)
{
	json_t *list = json_arr_make(blockio, fields[field].list), *e;
	json_int_t major = (json_int_t)major(dev), minor = (json_int_t)minor(dev);
	size_t i;

	if (!list)
		return err_nomem(err);
	json_array_foreach (list, i, e)
		if (json_int(e, "major", -1) == major && json_int(e, "minor", -1) == minor)
			return json_object_set_new(e, fields[field].value, json_integer(value)) < 0
				       ? err_nomem(err)
				       : 0;
	if (json_array_size(list) >= BLOCKIO_DEVICES_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT, "more than %d devices",
			       BLOCKIO_DEVICES_MAX);
	e = json_pack("{s:I,s:I,s:I}", "major", major, "minor", minor, fields[field].value,
		      (json_int_t)value);
	return !e || json_array_append_new(list, e) < 0 ? err_nomem(err) : 0;
}

static void globfreep(glob_t *g)
{
	globfree(g);
}

static int set_pattern(json_t *blockio, const char *pattern, const int64_t *values, struct err *err)
{
	_cleanup_(globfreep) glob_t g = {0};
	int r = glob(pattern, GLOB_NOSORT, NULL, &g);

	if (r == GLOB_NOSPACE)
		return err_nomem(err);
	for (size_t i = 0; r == 0 && i < g.gl_pathc; i++) {
		struct stat st;

		if (stat(g.gl_pathv[i], &st) < 0 || !S_ISBLK(st.st_mode))
			continue;
		for (int f = 0; f < N_FIELDS; f++) {
			int k = values[f] == UNSET
					? 0
					: set_device(blockio, f, st.st_rdev, values[f], err);
			if (k < 0)
				return k;
		}
	}
	return 0;
}

/* ---- Classes ---- */

static int add_entry(json_t *blockio, const json_t *entry, struct err *err)
{
	int64_t values[N_FIELDS];
	const json_t *devices = member(entry, "Devices"), *d;
	size_t i;
	int r;

	if (!json_is_object(entry) || (devices && !json_is_array(devices)))
		return err_set(err, ERR_INVALID_ARGUMENT, "an entry is not of the right form");
	for (int f = 0; f < N_FIELDS; f++) {
		r = field_value(entry, f, &values[f], err);
		if (r < 0)
			return r;
		if (f != WEIGHT && values[f] != UNSET && !devices)
			return err_set(err, ERR_INVALID_ARGUMENT, "%s without Devices",
				       fields[f].key);
	}
	if (!devices)
		return values[WEIGHT] == UNSET ||
				       json_object_set_new(blockio, "weight",
							   json_integer(values[WEIGHT])) == 0
			       ? 0
			       : err_nomem(err);
	json_array_foreach (devices, i, d) {
		if (!json_is_string(d))
			return err_set(err, ERR_INVALID_ARGUMENT, "a device is not a path");
		r = set_pattern(blockio, json_string_value(d), values, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int make_class(const json_t *entries, json_t **ret, struct err *err)
{
	_cleanup_json_ json_t *blockio = json_object();
	const json_t *entry;
	size_t i;
	int r;

	if (!blockio)
		return err_nomem(err);
	if (!json_is_null(entries) && !json_is_array(entries))
		return err_set(err, ERR_INVALID_ARGUMENT, "not a list");
	json_array_foreach (entries, i, entry) {
		r = add_entry(blockio, entry, err);
		if (r < 0)
			return r;
	}
	*ret = TAKE_PTR(blockio);
	return 0;
}

/* All classes are made, so that a wrong one is found whichever is asked for. */
static int each_class(const json_t *config, const char *name, json_t **ret, struct err *err)
{
	const json_t *classes = member(config, "Classes");
	_cleanup_json_ json_t *found = NULL;
	const char *key;
	json_t *entries;
	int r;

	if ((config && !json_is_object(config) && !json_is_null(config)) ||
	    (classes && !json_is_object(classes)))
		return err_set(err, ERR_INVALID_ARGUMENT, "Classes is not a map");
	json_object_foreach ((json_t *)classes, key, entries) {
		_cleanup_json_ json_t *made = NULL;

		r = make_class(entries, &made, err);
		if (r < 0)
			return err_prefix(err, "class \"%.128s\"", key);
		if (name && streq(key, name))
			found = TAKE_PTR(made);
	}
	if (name && !found)
		return err_set(err, ERR_NOT_FOUND, "no OCI BlockIO parameters for class \"%.128s\"",
			       name);
	if (name)
		*ret = TAKE_PTR(found);
	return 0;
}

int blockio_class(const json_t *config, const char *name, json_t **ret, struct err *err)
{
	return each_class(config, name, ret, err);
}

int blockio_check(const json_t *config, struct err *err)
{
	return each_class(config, NULL, NULL, err);
}

int blockio_load(const char *path, json_t **ret, struct err *err)
{
	_cleanup_arena_ struct arena *a = arena_new(0);
	json_t *config _cleanup_json_ = NULL;
	char *text;
	size_t n;

	if (!a)
		return err_nomem(err);
	int r = file_read(a, AT_FDCWD, path, BLOCKIO_FILE_MAX, &text, &n);
	if (r < 0)
		return err_errno(err, r, "read %s", path);
	r = yaml_to_json(text, n, &config, err);
	if (r == 0)
		r = blockio_check(config, err);
	if (r < 0)
		return err_prefix(err, "%s", path);
	*ret = TAKE_PTR(config);
	return 0;
}
