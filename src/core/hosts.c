/* SPDX-License-Identifier: Apache-2.0 */
/* hosts.toml: see hosts.h.
 *
 * The directory of a host H:P is the first that exists of H_P_, H:P, _default below each configured
 * directory; of a plain host H it is H, then _default. Without a hosts.toml in it, *.crt are
 * authorities and NAME.cert with NAME.key client certificates. */
#include "core/hosts.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "base/time.h"
#include "base/toml.h"

#define FILE_MAX (1u << 20)
#define HOSTS_MAX 64
#define CERTS_MAX 64

#define CAPS_ALL (FETCH_PULL | FETCH_RESOLVE | FETCH_PUSH | FETCH_REFERRERS)

struct parse {
	struct arena *a;
	const char *dir; /* NULL: files are not read */
	struct err *err;
};

/* ---- hosts and addresses ---- */

static bool host_port(const char *host, const char **ret_port)
{
	const char *colon = strrchr(host, ':');
	if (!colon || strchr(colon, ']'))
		return false;
	*ret_port = colon + 1;
	return true;
}

/* "localhost", or an address of the host itself: no name that begins like one. */
static bool is_loopback(const char *host)
{
	const char *port = NULL;
	char name[64];
	struct in_addr v4;
	struct in6_addr v6;
	size_t n = host_port(host, &port) ? (size_t)(port - 1 - host) : strlen(host);
	if (n >= 2 && host[0] == '[' && host[n - 1] == ']') {
		host++;
		n -= 2;
	}
	if (n >= sizeof(name))
		return false;
	memcpy(name, host, n);
	name[n] = 0;
	if (streq(name, "localhost"))
		return true;
	if (inet_pton(AF_INET, name, &v4) == 1)
		return ntohl(v4.s_addr) >> 24 == 127;
	return inet_pton(AF_INET6, name, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

/* The server that a reference's host stands for when nothing is configured. */
static struct fetch_host host_default(const char *host, const char *scheme)
{
	const char *port = NULL;
	struct fetch_host h = {
		.scheme = "https", .host = host, .path = "/v2", .capabilities = CAPS_ALL};
	host_port(host, &port);
	if (streq(host, "docker.io"))
		h.host = "registry-1.docker.io";
	if (is_loopback(host) && port && !streq(port, "443"))
		h.scheme = "http";
	if (is_loopback(host) && !(port && streq(port, "80")))
		h.skip_verify = true;
	if (!str_empty(scheme))
		h.scheme = scheme;
	return h;
}

/* Neither blanks nor control characters. */
static bool is_printable(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s <= ' ' || *s == 0x7f)
			return false;
	return true;
}

/* "https://mirror:5000/prefix" into its parts. */
static int host_url(struct parse *p, const char *url, bool override_path, struct fetch_host *h)
{
	const char *rest;
	if ((rest = str_skip(url, "https://")))
		h->scheme = "https";
	else if ((rest = str_skip(url, "http://")))
		h->scheme = "http";
	else if (strstr(url, "://"))
		return err_set(p->err, ERR_INVALID_ARGUMENT, "host \"%.200s\": unsupported scheme",
			       url);
	else
		rest = url, h->scheme = "https";
	size_t n = strcspn(rest, "/");
	if (n == 0 || strcspn(rest, "@?#") < n || !is_printable(rest))
		return err_set(p->err, ERR_INVALID_ARGUMENT, "host \"%.200s\": no valid host name",
			       url);
	h->host = arena_strndup(p->a, rest, n);
	char *path = arena_strdup(p->a, rest + n);
	if (!h->host || !path)
		return err_nomem(p->err);
	for (size_t len = strlen(path); len > 0 && path[len - 1] == '/'; len--)
		path[len - 1] = 0;
	if (override_path || str_has_suffix(path, "/v2"))
		h->path = path;
	else
		h->path = arena_printf(p->a, "%s/v2", path);
	return h->path ? 0 : err_nomem(p->err);
}

/* ---- fields ---- */

static int wrong(struct parse *p, const struct toml_entry *e, const char *wanted)
{
	return err_set(p->err, ERR_INVALID_ARGUMENT, "line %d: %s must be %s, not %s", e->line,
		       e->key, wanted, toml_type_name(e->value->type));
}

/* A string or an array of strings, as an array. */
static int strings(struct parse *p, const struct toml_entry *e, const char ***ret, size_t *ret_n)
{
	const struct toml_value *v = e->value;
	size_t n = v->type == TOML_ARRAY ? v->array.n : 1;
	const char **out = arena_new_array(p->a, const char *, n + 1);
	if (!out)
		return err_nomem(p->err);
	for (size_t i = 0; i < n; i++) {
		const struct toml_value *s = v->type == TOML_ARRAY ? v->array.v[i] : v;
		if (s->type != TOML_STRING)
			return wrong(p, e, "a string or an array of strings");
		out[i] = s->string.s;
	}
	*ret = out;
	*ret_n = n;
	return 0;
}

static int read_pem(struct parse *p, const char *name, const char **ret)
{
	char *text;
	const char *path = name[0] == '/' ? name : path_join(p->a, p->dir ? p->dir : "", name);
	if (!path)
		return err_nomem(p->err);
	if (!p->dir) {
		*ret = path;
		return 0;
	}
	int r = file_read(p->a, AT_FDCWD, path, FILE_MAX, &text, NULL);
	if (r < 0)
		return err_errno(p->err, r, "read certificate %s", path);
	*ret = text;
	return 0;
}

static int field_ca(struct parse *p, const struct toml_entry *e, struct fetch_host *h)
{
	const char **names;
	size_t n;
	int r = strings(p, e, &names, &n);
	if (r < 0)
		return r;
	if (n > CERTS_MAX)
		return err_set(p->err, ERR_INVALID_ARGUMENT, "line %d: more than %d certificates",
			       e->line, CERTS_MAX);
	const char **pem = arena_new_array(p->a, const char *, n + 1);
	if (!pem)
		return err_nomem(p->err);
	for (size_t i = 0; i < n; i++)
		if ((r = read_pem(p, names[i], &pem[i])) < 0)
			return r;
	h->ca_pem = pem;
	h->n_ca = n;
	return 0;
}

static int client_pair(struct parse *p, const struct toml_entry *e, const struct toml_value *v,
		       struct fetch_cert *ret)
{
	const char *cert, *key = NULL;
	if (v->type == TOML_STRING) {
		cert = v->string.s;
	} else if (v->type == TOML_ARRAY && v->array.n >= 1 && v->array.n <= 2 &&
		   v->array.v[0]->type == TOML_STRING &&
		   v->array.v[v->array.n - 1]->type == TOML_STRING) {
		cert = v->array.v[0]->string.s;
		key = v->array.n == 2 ? v->array.v[1]->string.s : NULL;
	} else {
		return wrong(p, e, "a string, or an array of strings or [certificate, key] pairs");
	}
	int r = read_pem(p, cert, &ret->cert_pem);
	return r == 0 && !str_empty(key) ? read_pem(p, key, &ret->key_pem) : r;
}

static int field_client(struct parse *p, const struct toml_entry *e, struct fetch_host *h)
{
	const struct toml_value *v = e->value;
	size_t n = v->type == TOML_ARRAY ? v->array.n : 1;
	if (n > CERTS_MAX)
		return err_set(p->err, ERR_INVALID_ARGUMENT, "line %d: more than %d certificates",
			       e->line, CERTS_MAX);
	struct fetch_cert *certs = arena_new_array(p->a, struct fetch_cert, n + 1);
	if (!certs)
		return err_nomem(p->err);
	for (size_t i = 0; i < n; i++) {
		int r = client_pair(p, e, v->type == TOML_ARRAY ? v->array.v[i] : v, &certs[i]);
		if (r < 0)
			return r;
	}
	h->certs = certs;
	h->n_certs = n;
	return 0;
}

static int field_header(struct parse *p, const struct toml_entry *e, struct fetch_host *h)
{
	if (e->value->type != TOML_TABLE)
		return wrong(p, e, "a table");
	struct fetch_header *out = NULL;
	size_t n = 0, cap = 0;
	for (size_t i = 0; i < e->value->table.n; i++) {
		const char **values;
		size_t k;
		int r = strings(p, &e->value->table.v[i], &values, &k);
		if (r < 0)
			return r;
		out = arena_grow(p->a, out, &cap, n + k + 1, sizeof(*out));
		if (!out)
			return err_nomem(p->err);
		for (size_t j = 0; j < k; j++)
			out[n++] = (struct fetch_header){e->value->table.v[i].key, values[j]};
	}
	h->headers = out;
	h->n_headers = n;
	return 0;
}

static int field_capabilities(struct parse *p, const struct toml_entry *e, struct fetch_host *h)
{
	static const struct {
		const char *name;
		unsigned bit;
	} caps[] = {{"pull", FETCH_PULL},
		    {"resolve", FETCH_RESOLVE},
		    {"push", FETCH_PUSH},
		    {"referrers", FETCH_REFERRERS}};
	const char **names;
	size_t n;
	int r = strings(p, e, &names, &n);
	if (r < 0 || n == 0) /* none named: all, as when the key is absent */
		return r;
	h->capabilities = 0;
	for (size_t i = 0; i < n; i++) {
		size_t c = 0;
		while (c < ARRAY_LEN(caps) && !streq(caps[c].name, names[i]))
			c++;
		if (c == ARRAY_LEN(caps))
			return err_set(p->err, ERR_INVALID_ARGUMENT,
				       "line %d: unknown capability \"%.100s\"", e->line, names[i]);
		h->capabilities |= caps[c].bit;
	}
	return 0;
}

static int field_duration(struct parse *p, const struct toml_entry *e, struct fetch_host *h)
{
	if (e->value->type != TOML_STRING)
		return wrong(p, e, "a string");
	if (duration_parse(e->value->string.s, &h->dial_timeout_ns) < 0 || h->dial_timeout_ns < 0)
		return err_set(p->err, ERR_INVALID_ARGUMENT, "line %d: invalid duration \"%.100s\"",
			       e->line, e->value->string.s);
	return 0;
}

static int field_bool(struct parse *p, const struct toml_entry *e, bool *ret)
{
	if (e->value->type != TOML_BOOL)
		return wrong(p, e, "true or false");
	*ret = e->value->boolean;
	return 0;
}

/* The fields of one host. At the top level "server" and "host" are somebody else's. */
static int fields(struct parse *p, const struct toml_value *t, bool top, struct fetch_host *h,
		  bool *ret_override)
{
	for (size_t i = 0; i < t->table.n; i++) {
		const struct toml_entry *e = &t->table.v[i];
		int r;
		if (top && (streq(e->key, "server") || streq(e->key, "host")))
			continue;
		if (streq(e->key, "capabilities"))
			r = field_capabilities(p, e, h);
		else if (streq(e->key, "ca"))
			r = field_ca(p, e, h);
		else if (streq(e->key, "client"))
			r = field_client(p, e, h);
		else if (streq(e->key, "skip_verify"))
			r = field_bool(p, e, &h->skip_verify);
		else if (streq(e->key, "header"))
			r = field_header(p, e, h);
		else if (streq(e->key, "override_path"))
			r = field_bool(p, e, ret_override);
		else if (streq(e->key, "dial_timeout"))
			r = field_duration(p, e, h);
		else
			r = err_set(p->err, ERR_INVALID_ARGUMENT, "line %d: unknown key %.100s",
				    e->line, e->key);
		if (r < 0)
			return r;
	}
	return 0;
}

static int parse_host(struct parse *p, const struct toml_entry *e, struct fetch_host *ret)
{
	struct fetch_host h = {.capabilities = CAPS_ALL};
	bool override = false;
	if (e->value->type != TOML_TABLE)
		return wrong(p, e, "a table");
	int r = fields(p, e->value, false, &h, &override);
	if (r == 0)
		r = host_url(p, e->key, override, &h);
	if (r == 0)
		*ret = h;
	return r;
}

static int parse_server(struct parse *p, const struct toml_value *t, const char *host,
			const char *scheme, struct fetch_host *ret)
{
	const struct toml_value *server = toml_get(t, "server");
	struct fetch_host h = host_default(host, scheme);
	bool override = false;
	if (server && server->type != TOML_STRING)
		return err_set(p->err, ERR_INVALID_ARGUMENT, "line %d: server must be a string",
			       server->line);
	int r = fields(p, t, true, &h, &override);
	if (r == 0 && server && !str_empty(server->string.s))
		r = host_url(p, server->string.s, override, &h);
	if (r == 0)
		*ret = h;
	return r;
}

int hosts_parse(struct arena *a, const char *text, size_t n, const char *dir, const char *host,
		const char *default_scheme, struct hosts *ret, struct err *err)
{
	struct parse p = {.a = a, .dir = dir, .err = err};
	struct toml_value *t;
	int r = toml_parse(a, text, n, &t, err);
	if (r < 0)
		return r;
	const struct toml_value *table = toml_get(t, "host");
	if (table && table->type != TOML_TABLE)
		return err_set(err, ERR_INVALID_ARGUMENT, "line %d: host must be a table",
			       table->line);
	size_t k = table ? table->table.n : 0;
	if (k > HOSTS_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT, "more than %d hosts", HOSTS_MAX);
	struct hosts out = {.v = arena_new_array(a, struct fetch_host, k + 1)};
	if (!out.v)
		return err_nomem(err);
	for (; out.n < k; out.n++)
		if ((r = parse_host(&p, &table->table.v[out.n], &out.v[out.n])) < 0)
			return r;
	r = parse_server(&p, t, host, default_scheme, &out.v[out.n++]);
	if (r == 0)
		*ret = out;
	return r;
}

/* ---- directories ---- */

static int load_certs(struct ctx *ctx, const char *dir, struct fetch_host *h, struct err *err)
{
	struct parse p = {.a = ctx->arena, .dir = dir, .err = err};
	_cleanup_closedir_ DIR *d = opendir(dir);
	const char **ca = arena_new_array(ctx->arena, const char *, CERTS_MAX);
	struct fetch_cert *certs = arena_new_array(ctx->arena, struct fetch_cert, CERTS_MAX);
	if (!d || !ca || !certs)
		return err_errno(err, d ? ENOMEM : errno, "open %s", dir);
	for (struct dirent *e; (e = readdir(d));) {
		int r = 0;
		if (str_has_suffix(e->d_name, ".crt") && h->n_ca < CERTS_MAX) {
			r = read_pem(&p, e->d_name, &ca[h->n_ca++]);
		} else if (str_has_suffix(e->d_name, ".cert") && h->n_certs < CERTS_MAX) {
			char *key = arena_printf(ctx->arena, "%.*skey", (int)strlen(e->d_name) - 4,
						 e->d_name);
			struct fetch_cert *c = &certs[h->n_certs++];
			r = key ? read_pem(&p, e->d_name, &c->cert_pem) : err_nomem(err);
			if (r == 0)
				r = read_pem(&p, key, &c->key_pem);
		}
		if (r < 0)
			return r;
	}
	h->ca_pem = ca;
	h->certs = certs;
	return 0;
}

static const char *find_dir(struct arena *a, const char *config_path, const char *host)
{
	const char *port = NULL;
	struct stat st;
	size_t n;
	char **roots = str_split(a, config_path, ':', &n);
	const char *names[4];
	size_t k = 0;
	if (host_port(host, &port))
		names[k++] = arena_printf(a, "%.*s_%s_", (int)(port - host - 1), host, port);
	names[k++] = host;
	names[k++] = "_default";
	for (size_t i = 0; roots && i < n; i++)
		for (size_t j = 0; j < k; j++) {
			char *dir = *roots[i] && names[j] ? path_join(a, roots[i], names[j]) : NULL;
			if (dir && stat(dir, &st) == 0 && S_ISDIR(st.st_mode))
				return dir;
		}
	return NULL;
}

int hosts_load(struct ctx *ctx, const char *config_path, const char *host,
	       const char *default_scheme, struct hosts *ret, struct err *err)
{
	struct arena *a = ctx->arena;
	/* The name comes from a reference: nothing in it may lead out of the configured
	 * directories. */
	if (strchr(host, '/') || streq(host, ".") || streq(host, ".."))
		return err_set(err, ERR_INVALID_ARGUMENT, "invalid registry host \"%.200s\"", host);
	const char *dir = find_dir(a, str_or(config_path, ""), host);
	if (dir) {
		char *file = path_join(a, dir, "hosts.toml"), *text;
		size_t n;
		int r = file ? file_read(a, AT_FDCWD, file, FILE_MAX, &text, &n) : -ENOMEM;
		if (r == 0) {
			r = hosts_parse(a, text, n, dir, host, default_scheme, ret, err);
			return r < 0 ? err_prefix(err, "%s", file) : 0;
		}
		if (r != -ENOENT)
			return err_errno(err, r, "read %s", file);
	}
	struct hosts one = {.v = arena_new_array(a, struct fetch_host, 1), .n = 1};
	if (!one.v)
		return err_nomem(err);
	one.v[0] = host_default(host, default_scheme);
	int r = dir ? load_certs(ctx, dir, &one.v[0], err) : 0;
	if (r == 0)
		*ret = one;
	return r;
}
