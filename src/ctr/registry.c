/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates and --skip-verify have no place in the transfer's messages; they go as a hosts.toml
 * in a directory made for this one transfer, which the daemon reads. */
#include "ctr/registry.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"
#include "ctr/read_secret.h"
#include "oci/platform.h"
#include "oci/reference.h"

const struct ctr_flag registry_flags[] = {
	{"skip-verify", 'k', CTR_BOOL, "do not check the registry's certificate"},
	{"plain-http", 0, CTR_BOOL, "use http"},
	{"user", 'u', CTR_STRING, "user[:password] for the registry", NULL, NULL, "user"},
	{"refresh", 0, CTR_STRING, "refresh token for the registry", NULL, NULL, "token"},
	{"hosts-dir", 0, CTR_STRING, "directory with hosts.toml files, of the daemon's file system",
	 NULL, NULL, "dir"},
	{"tlscacert", 0, CTR_STRING,
	 "certificate of the authority that has signed the registry's one", NULL, NULL, "file"},
	{"tlscert", 0, CTR_STRING, "client certificate", NULL, NULL, "file"},
	{"tlskey", 0, CTR_STRING, "key of the client certificate", NULL, NULL, "file"},
	{"http-dump", 0, CTR_BOOL, "have requests and answers written to the daemon's log"},
	{"http-trace", 0, CTR_BOOL, "have the connections' life written to the daemon's log"},
	{}};

/* ---- hosts.toml ---- */

static void put_string(struct buf *b, const char *s)
{
	buf_addc(b, '"');
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			buf_printf(b, "\\u%04x", *s);
		else if (*s == '"' || *s == '\\')
			buf_printf(b, "\\%c", *s);
		else
			buf_addc(b, *s);
	buf_addc(b, '"');
}

/* Absolute, as the daemon has another working directory. */
static int put_file(struct buf *b, const char *path, struct err *err)
{
	char *full _cleanup_free_ = realpath(path, NULL);

	if (!full)
		return err_errno(err, errno, "open `%s`", path);
	put_string(b, full);
	return 0;
}

static int make_hosts_toml(struct ctr *c, struct buf *b, struct err *err)
{
	const char *ca = ctr_string(c, "tlscacert"), *cert = ctr_string(c, "tlscert"),
		   *key = ctr_string(c, "tlskey");
	int r = 0;

	if (*key && !*cert)
		return err_set(err, ERR_INVALID_ARGUMENT, "--tlskey needs --tlscert");
	if (ctr_bool(c, "skip-verify"))
		buf_adds(b, "skip_verify = true\n");
	if (*ca) {
		buf_adds(b, "ca = ");
		r = put_file(b, ca, err);
		buf_addc(b, '\n');
	}
	if (r == 0 && *cert) {
		buf_adds(b, "client = [[");
		r = put_file(b, cert, err);
		if (r == 0 && *key) {
			buf_adds(b, ", ");
			r = put_file(b, key, err);
		}
		buf_adds(b, "]]\n");
	}
	return r < 0 ? r : buf_ok(b) ? 0 : err_nomem(err);
}

static bool wants_tls(const struct ctr *c)
{
	return ctr_bool(c, "skip-verify") || *ctr_string(c, "tlscacert") ||
	       *ctr_string(c, "tlscert") || *ctr_string(c, "tlskey");
}

/* Registries on this host are asked by http, unless something is said about certificates. */
static const char *scheme(const struct ctr *c)
{
	return ctr_bool(c, "plain-http") ? "http" : wants_tls(c) ? "https" : "";
}

/* Nothing when no flag asks for it. */
static int make_hosts_dir(struct ctr *c, const char *host, struct registry *reg, struct err *err)
{
	struct buf text _cleanup_buf_ = BUF_INIT;
	char *path;
	int r;

	if (!wants_tls(c))
		return 0;
	if (*ctr_string(c, "hosts-dir"))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "--hosts-dir says all about certificates, other flags cannot be "
			       "given with it");
	r = make_hosts_toml(c, &text, err);
	if (r == 0)
		r = scratch_make("/tmp/ctr-hosts-XXXXXX", &reg->hosts, err);
	if (r < 0)
		return r;
	path = path_join(c->ctx.arena, reg->hosts.path, host);
	if (!path)
		return err_nomem(err);
	if (mkdir(path, 0700) < 0)
		return err_errno(err, errno, "make `%s`", path);
	path = path_join(c->ctx.arena, path, "hosts.toml");
	if (!path)
		return err_nomem(err);
	r = file_write(AT_FDCWD, path, text.data, text.len, 0600);
	return r < 0 ? err_errno(err, r, "write `%s`", path) : 0;
}

/* ---- Credentials ---- */

static int read_user(struct ctr *c, struct registry *reg, struct err *err)
{
	const char *user = ctr_string(c, "user"), *refresh = ctr_string(c, "refresh");
	const char *colon = strchr(user, ':');
	int r;

	if (*user && *refresh)
		return err_set(err, ERR_INVALID_ARGUMENT, "either --user or --refresh");
	reg->has_given = *user || *refresh;
	if (*refresh)
		reg->given = (struct client_auth){.username = "", .secret = refresh, .token = true};
	if (!*user)
		return 0;
	reg->given.username =
		colon ? arena_strndup(c->ctx.arena, user, (size_t)(colon - user)) : user;
	reg->given.secret = colon ? colon + 1 : "";
	if (!reg->given.username)
		return err_nomem(err);
	if (colon)
		return 0;
	r = read_secret(c->ctx.arena, "Password: ", &reg->given.secret, err);
	return r < 0 ? err_prefix(err, "password of \"%s\"", user) : 0;
}

int registry_credentials(const struct registry *reg, struct arena *a, const char *host,
			 struct client_auth *ret, struct err *err)
{
	if (!reg->has_given)
		return docker_auth_load(a, host, reg->repository, ret, err);
	*ret = reg->given;
	return 0;
}

static int answer(void *arg, struct arena *a, const char *host, const char *reference,
		  struct client_auth *ret, struct err *err)
{
	const struct registry *reg = arg;

	/* Only for what they were given for. */
	if (reg->has_given && *reference && !streq(reference, reg->message.reference))
		return err_set(err, ERR_NOT_FOUND, "credentials of \"%.200s\"", reference);
	return registry_credentials(reg, a, host, ret, err);
}

/* ---- The message ---- */

/* A reference without host or tag gets a hint how to write it. */
static int check_reference(struct arena *a, const char *text, struct reference *ret,
			   struct err *err)
{
	struct err e = ERR_INIT, unused = ERR_INIT;
	char *full;
	int r;

	r = reference_parse(a, text, ret, &e);
	if (r == 0)
		return 0;
	if (reference_normalize(a, text, &full, &unused) < 0 || streq(full, text))
		return err_copy(err, &e);
	return err_set_raw(err, ERR_INVALID_ARGUMENT,
			   "image reference \"%.256s\": %.512s (it must name host and tag; did you "
			   "mean \"%s\"?)",
			   text, e.text, full);
}

static int http_debug(const struct ctr *c)
{
	bool dump = ctr_bool(c, "http-dump"), trace = ctr_bool(c, "http-trace");

	if (dump && trace)
		return CONTAINERD__TYPES__TRANSFER__HTTPDEBUG__BOTH;
	return dump    ? CONTAINERD__TYPES__TRANSFER__HTTPDEBUG__DEBUG
	       : trace ? CONTAINERD__TYPES__TRANSFER__HTTPDEBUG__TRACE
		       : CONTAINERD__TYPES__TRANSFER__HTTPDEBUG__DISABLED;
}

int registry_init(struct ctr *c, const char *reference, struct registry *ret, struct err *err)
{
	struct reference ref;
	int r;

	*ret = (struct registry){};
	containerd__types__transfer__ociregistry__init(&ret->message);
	containerd__types__transfer__registry_resolver__init(&ret->resolver);
	r = check_reference(c->ctx.arena, reference, &ref, err);
	if (r == 0)
		r = read_user(c, ret, err);
	if (r == 0)
		r = make_hosts_dir(c, ref.host, ret, err);
	if (r < 0) {
		registry_done(ret);
		return r;
	}
	ret->repository = ref.repository;
	ret->message.reference = (char *)reference;
	ret->message.resolver = &ret->resolver;
	ret->resolver.host_dir =
		ret->hosts.path ? ret->hosts.path : (char *)ctr_string(c, "hosts-dir");
	ret->resolver.default_scheme = (char *)scheme(c);
	ret->resolver.http_debug = http_debug(c);
	return 0;
}

int registry_attach(struct registry *reg, struct client_transfer *t, struct err *err)
{
	const char *id;
	int r;

	r = client_transfer_add_auth(t, answer, reg, &id, err);
	if (r == 0)
		reg->resolver.auth_stream = (char *)id;
	return r;
}

void registry_done(struct registry *reg)
{
	scratch_done(&reg->hosts);
}

/* ---- Platforms ---- */

int registry_platforms(struct ctr *c, PB_TYPES(Platform) * **ret, size_t *ret_n, struct err *err)
{
	struct arena *a = c->ctx.arena;
	size_t n;
	const char **words = ctr_strings(c, "platform", &n);
	PB_TYPES(Platform) **v = arena_new_array(a, PB_TYPES(Platform) *, n + 1);

	/* A flag that has one value has an empty one when it is not given. */
	if (n == 1 && !*words[0])
		n = 0;

	for (size_t i = 0; v && i < MAX(n, 1u); i++) {
		struct platform p = {};
		int r = n ? platform_parse(a, words[i], &p, err) : 0;

		if (r < 0)
			return r;
		v[i] = arena_new_obj(a, PB_TYPES(Platform));
		if (!v[i] || (n == 0 && platform_host(a, &p) < 0))
			return err_nomem(err);
		containerd__types__platform__init(v[i]);
		v[i]->os = (char *)p.os;
		v[i]->architecture = (char *)p.arch;
		v[i]->variant = (char *)p.variant;
		v[i]->os_version = (char *)p.os_version;
	}
	if (!v)
		return err_nomem(err);
	*ret = v;
	*ret_n = MAX(n, 1u);
	return 0;
}

int registry_unpacks(struct ctr *c, PB_TYPES(Platform) * *platforms, size_t n,
		     PB_TRANSFER_TYPES(ImageStore) * store, struct err *err)
{
	struct arena *a = c->ctx.arena;
	const char *snapshotter;
	int r;

	r = ctr_snapshotter(c, &snapshotter, err);
	if (r < 0)
		return r;
	store->unpacks = arena_new_array(a, PB_TRANSFER_TYPES(UnpackConfiguration) *, n + 1);
	for (size_t i = 0; store->unpacks && i < n; i++) {
		PB_TRANSFER_TYPES(UnpackConfiguration) *u =
			arena_new_obj(a, PB_TRANSFER_TYPES(UnpackConfiguration));

		if (!u)
			return err_nomem(err);
		containerd__types__transfer__unpack_configuration__init(u);
		u->platform = platforms[i];
		u->snapshotter = (char *)snapshotter;
		store->unpacks[store->n_unpacks++] = u;
	}
	return store->unpacks ? 0 : err_nomem(err);
}
