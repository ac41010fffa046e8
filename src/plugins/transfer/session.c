/* SPDX-License-Identifier: Apache-2.0 */
/* What pull and push share: the session with a registry, and the labels that say which repositories
 * of it have a blob. */
#include <string.h>

#include "base/str.h"
#include "core/hosts.h"
#include "oci/reference.h"
#include "plugins/transfer/internal.h"

/* Where hosts.toml files are when nothing is configured, as for CRI. */
#define CONFIG_PATH_DEFAULT "/etc/containerd/certs.d:/etc/docker/certs.d"

int session_open(struct ctx *ctx, struct transfer *t, const struct transfer_registry *r,
		 const struct reference *ref, const struct session_push *push, struct fetch **ret,
		 struct err *err)
{
	struct hosts hosts;
	const char *path = str_or(r->host_dir, str_or(t->o.config_path, CONFIG_PATH_DEFAULT));
	int x = hosts_load(ctx, path, ref->host, r->default_scheme, &hosts, err);

	if (x < 0)
		return x;
	struct fetch_header *headers =
		arena_new_array(ctx->arena, struct fetch_header, r->headers.n + 1);
	if (!headers)
		return err_nomem(err);
	for (size_t i = 0; i < r->headers.n; i++)
		headers[i] = (struct fetch_header){r->headers.v[i].key, r->headers.v[i].value};
	struct fetch_options o = {.original_host = ref->host,
				  .repository = ref->repository,
				  .object = *ref->digest ? ref->digest : ref->tag,
				  .hosts = hosts.v,
				  .n_hosts = hosts.n,
				  .headers = headers,
				  .n_headers = r->headers.n,
				  .auth = r->auth,
				  .auth_arg = r->auth_arg,
				  .log = r->log,
				  .log_arg = r->log_arg};
	if (push) {
		o.push = true;
		o.mount_from = push->mount_from;
		o.n_mount_from = push->n_mount_from;
	}
	return fetch_start(ctx, &o, ret, err);
}

const char *source_key(struct arena *a, const char *host)
{
	const char *colon = strrchr(host, ':');
	size_t n = colon && !strchr(colon, ']') ? (size_t)(colon - host) : strlen(host);

	return arena_printf(a, "containerd.io/distribution.source.%.*s", (int)n, host);
}

const char *source_value(struct arena *a, const char *have, const char *repo)
{
	struct labels set = {0};
	char **parts = str_split(a, have ? have : "", ',', NULL);
	const char *out = "";

	for (; parts && *parts; parts++)
		if (**parts && labels_set(a, &set, *parts, "") < 0)
			return NULL;
	if (labels_set(a, &set, repo, "") < 0)
		return NULL;
	for (size_t i = 0; out && i < set.n; i++)
		out = arena_printf(a, "%s%s%s", out, i ? "," : "", set.v[i].key);
	return out;
}

/* How many components, from the first on, two repositories share. */
static size_t common_components(const char *a, const char *b)
{
	size_t n = 0;

	for (;;) {
		size_t k = strcspn(a, "/");

		if (k != strcspn(b, "/") || memcmp(a, b, k) != 0)
			return n;
		n++;
		if (!a[k] || !b[k])
			return n;
		a += k + 1;
		b += k + 1;
	}
}

const char *source_nearest(struct arena *a, const char *have, const char *repo)
{
	char **parts = str_split(a, have ? have : "", ',', NULL);
	const char *best = "";
	size_t most = 0;

	for (; parts && *parts; parts++) {
		size_t n = common_components(*parts, repo);

		if (!**parts || streq(*parts, repo) || strpbrk(*parts, " ?#&%") || n < most)
			continue;
		best = *parts;
		most = n;
	}
	return best;
}
