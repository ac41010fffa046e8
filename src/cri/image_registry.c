/* SPDX-License-Identifier: Apache-2.0 */
/* The registry tables of old configurations (mirrors, configs) said in the new way: a
 * directory with a hosts.toml for each registry, which the transfer service reads like any other.
 * Written at each start. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "base/toml.h"
#include "cri/image.h"

static const struct cri_registry_tls *tls_of(const struct cri_config *c, const char *host)
{
	for (size_t i = 0; i < c->n_tls; i++)
		if (streq(c->tls[i].host, host))
			return &c->tls[i];
	return NULL;
}

static const char *host_of(struct arena *a, const char *url)
{
	const char *p = strstr(url, "://");
	p = p ? p + 3 : url;
	return arena_strndup(a, p, strcspn(p, "/"));
}

static int key_string(struct buf *b, const char *key, const char *value)
{
	if (str_empty(value))
		return 0;
	buf_adds(b, key);
	buf_adds(b, " = ");
	toml_quote(b, value);
	return buf_adds(b, "\n");
}

/* One [host."URL"] table. */
static int host_table(struct arena *a, const struct cri_config *c, struct buf *b, const char *url)
{
	const char *host = host_of(a, url);
	const struct cri_registry_tls *t = host ? tls_of(c, host) : NULL;

	if (!host)
		return -ENOMEM;
	buf_adds(b, "\n[host.");
	toml_quote_key(b, url);
	buf_adds(b, "]\ncapabilities = [\"pull\", \"resolve\"]\n");
	if (t) {
		if (t->insecure_skip_verify)
			buf_adds(b, "skip_verify = true\n");
		key_string(b, "ca", t->ca_file);
		if (!str_empty(t->cert_file)) {
			buf_adds(b, "client = [[");
			toml_quote(b, t->cert_file);
			buf_adds(b, ", ");
			toml_quote(b, t->key_file);
			buf_adds(b, "]]\n");
		}
	}
	return 0;
}

static int write_host(struct arena *a, const char *top, const char *name, const struct buf *b,
		      struct err *err)
{
	char *dir = path_join(a, top, name), *file = dir ? path_join(a, dir, "hosts.toml") : NULL;
	int r = file ? mkdir_p(dir, 0700) : -ENOMEM;

	if (r == 0)
		r = file_write_atomic(AT_FDCWD, file, b->data, b->len, 0600, false);
	return r < 0 ? err_errno(err, r, "write %s", file ? file : "hosts.toml") : 0;
}

static bool mirrored(const struct cri_config *c, const char *host)
{
	for (size_t i = 0; i < c->n_mirrors; i++)
		if (streq(c->mirrors[i].host, host))
			return true;
	return false;
}

/* "*" stands for every registry that has no entry of its own. */
static const char *dir_name(const char *host)
{
	return streq(host, "*") ? "_default" : host;
}

int cri_registry_write(struct cri *c, struct arena *a, const char **ret, struct err *err)
{
	const struct cri_config *k = c->config;
	char *top = path_join(a, c->o.state, "registry");
	int r = top ? rm_rf(AT_FDCWD, top) : -ENOMEM;

	*ret = "";
	if (r < 0)
		return err_errno(err, r, "remove the registry directory");
	if (!str_empty(k->registry_config_path) || (k->n_mirrors == 0 && k->n_tls == 0))
		return 0;
	for (size_t i = 0; r == 0 && i < k->n_mirrors; i++) {
		_cleanup_buf_ struct buf b = BUF_INIT;
		for (const char *const *e = k->mirrors[i].endpoints; r == 0 && *e; e++)
			r = host_table(a, k, &b, *e);
		r = r < 0 ? err_nomem(err)
			  : write_host(a, top, dir_name(k->mirrors[i].host), &b, err);
	}
	for (size_t i = 0; r == 0 && i < k->n_tls; i++) {
		_cleanup_buf_ struct buf b = BUF_INIT;
		if (mirrored(k, k->tls[i].host))
			continue;
		char *url = arena_printf(a, "https://%s", k->tls[i].host);
		r = url ? host_table(a, k, &b, url) : -ENOMEM;
		r = r < 0 ? err_nomem(err) : write_host(a, top, k->tls[i].host, &b, err);
	}
	if (r == 0)
		*ret = top;
	return r;
}
