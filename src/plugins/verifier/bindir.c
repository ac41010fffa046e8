/* SPDX-License-Identifier: Apache-2.0 */
/* Programs that judge images: see bindir.h. */
#include "plugins/verifier/bindir.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "base/time.h"
#include "sys/spawn.h"

#define OUTPUT_MAX (32u << 10)
#define PROGRAMS_MAX 4096
#define DESCRIPTOR_TYPE "application/vnd.oci.descriptor.v1+json"

struct bindir {
	struct image_verifier base;
	char *dir;
	int64_t max, timeout_ns;
};

/* ---- which programs ---- */

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorted names; absent directories have none. */
static int list_programs(struct arena *a, const char *dir, char ***ret, size_t *ret_n,
			 struct err *err)
{
	_cleanup_closedir_ DIR *d = opendir(dir);
	char **v = NULL;
	size_t n = 0, cap = 0;
	if (!d && errno != ENOENT)
		return err_errno(err, errno, "failed to list directory contents: open %s", dir);
	for (struct dirent *e; d && (errno = 0, e = readdir(d));) {
		if (streq(e->d_name, ".") || streq(e->d_name, ".."))
			continue;
		if (n == PROGRAMS_MAX)
			return err_set(err, ERR_RESOURCE_EXHAUSTED,
				       "more than %d image verifiers in %s", PROGRAMS_MAX, dir);
		v = arena_grow(a, v, &cap, n + 1, sizeof(*v));
		if (!v || !(v[n] = arena_strdup(a, e->d_name)))
			return err_nomem(err);
		n++;
	}
	/* Half a list would leave verifiers out. */
	if (d && errno)
		return err_errno(err, errno, "failed to list directory contents: read %s", dir);
	if (n)
		qsort(v, n, sizeof(*v), by_name);
	*ret = v;
	*ret_n = n;
	return 0;
}

/* ---- one of them ---- */

static char *descriptor_json(const struct descriptor *d)
{
	_cleanup_json_ json_t *j = json_pack("{s:s,s:s,s:I}", "mediaType", d->media_type, "digest",
					     d->digest, "size", (json_int_t)d->size);
	for (size_t i = 0; j && i < d->annotations.n; i++)
		if (json_object_set_new(json_obj_make(j, "annotations"), d->annotations.v[i].key,
					json_string(d->annotations.v[i].value)) < 0)
			return NULL;
	return j ? json_dumps(j, JSON_COMPACT) : NULL;
}

/* Without the blanks around it. */
static const char *trim(char *s)
{
	size_t n = strlen(s);
	while (n && strchr(" \t\r\n", s[n - 1]))
		s[--n] = 0;
	return s + strspn(s, " \t\r\n");
}

static int run_program(struct ctx *ctx, const struct bindir *b, const char *program,
		       const char *name, const struct descriptor *d, int *ret_status,
		       const char **ret_reason, struct err *err)
{
	struct arena *a = ctx->arena;
	struct spawn_options o = SPAWN_OPTIONS_INIT;
	_cleanup_free_ char *in = descriptor_json(d);
	char *path = path_join(a, b->dir, program), *out, *errs;
	char *argv[] = {path,
			(char *)"-name",
			(char *)name,
			(char *)"-digest",
			(char *)d->digest,
			(char *)"-stdin-media-type",
			(char *)DESCRIPTOR_TYPE,
			NULL};
	if (!path || !in)
		return err_nomem(err);
	o.path = path;
	o.argv = argv;
	o.new_pgroup = true;
	o.ctx = ctx;
	int64_t deadline = time_mono() + b->timeout_ns;
	int r = spawn_run(a, &o, in, strlen(in), OUTPUT_MAX, deadline, &out, NULL, &errs,
			  ret_status, err);
	if (r < 0)
		return r;
	if (*errs)
		log_debug("image verifier %s: %s", path, trim(errs));
	*ret_reason = trim(out);
	return 0;
}

/* ---- all of them ---- */

static int verify(struct ctx *ctx, struct image_verifier *v, const char *name,
		  const struct descriptor *d, struct verdict *ret, struct err *err)
{
	const struct bindir *b = (const struct bindir *)v;
	struct arena *a = ctx->arena;
	char **programs;
	size_t n;
	const char *reasons = "";
	int r = list_programs(a, b->dir, &programs, &n, err);
	if (r < 0)
		return r;
	if (b->max >= 0 && n > (size_t)b->max) {
		log_warn("image verifiers are being skipped: %s has %zu entries, and max_verifiers "
			 "is %lld",
			 b->dir, n, (long long)b->max);
		n = (size_t)b->max;
	}
	for (size_t i = 0; i < n; i++) {
		const char *reason;
		int status;
		r = run_program(ctx, b, programs[i], name, d, &status, &reason, err);
		if (r < 0)
			return err_prefix(err, "failed to call verifier %s", programs[i]);
		reasons = status ? arena_printf(a, "verifier %s rejected image (exit code %d): %s",
						programs[i], status, reason)
				 : arena_printf(a, "%s%s%s => %s", reasons, i ? ", " : "",
						programs[i], reason);
		if (!reasons)
			return err_nomem(err);
		if (status) {
			*ret = (struct verdict){.reason = reasons};
			return 0;
		}
	}
	*ret = (struct verdict){.ok = true, .reason = n ? reasons : "there are no image verifiers"};
	return 0;
}

static void bindir_free(struct image_verifier *v)
{
	struct bindir *b = (struct bindir *)v;
	free(b->dir);
	free(b);
}

static const struct image_verifier_ops ops = {.verify = verify, .free = bindir_free};

int bindir_verifier_new(const struct bindir_options *o, struct image_verifier **ret,
			struct err *err)
{
	struct bindir *b = calloc(1, sizeof(*b));
	char *dir = strdup(o->dir);
	if (!b || !dir) {
		free(b);
		free(dir);
		return err_nomem(err);
	}
	*b = (struct bindir){.base = {.ops = &ops, .name = "bindir"},
			     .dir = dir,
			     .max = o->max,
			     .timeout_ns = o->timeout_ns};
	*ret = &b->base;
	return 0;
}
