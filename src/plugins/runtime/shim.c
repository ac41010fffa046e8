/* SPDX-License-Identifier: Apache-2.0 */
/* Starting and reaching shims: see shim.h. */
#include "plugins/runtime/shim.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "base/time.h"
#include "base/trace.h"
#include "core/pb.h"
#include "protos.h"
#include "sys/spawn.h"

#define START_OUTPUT_MAX (64u << 10)
#define START_TIMEOUT_NS (100 * NSEC_PER_SEC)

extern char **environ;

/* io.containerd.runc.v2 -> containerd-shim-runc-v2 */
static char *binary_name(struct arena *a, const char *runtime)
{
	size_t n;
	char **parts = str_split(a, runtime, '.', &n);
	if (!parts || n < 2 || !*parts[n - 1] || !*parts[n - 2])
		return NULL;
	return arena_printf(a, "containerd-shim-%s-%s", parts[n - 2], parts[n - 1]);
}

static char *in_path(struct arena *a, const char *name)
{
	const char *path = getenv("PATH");
	char **dirs = str_split(a, path ? path : "", ':', NULL);
	for (; dirs && *dirs; dirs++) {
		char *p = **dirs == '/' ? path_join(a, *dirs, name) : NULL;
		if (p && access(p, X_OK) == 0)
			return p;
	}
	return NULL;
}

int shim_binary(struct ctx *ctx, const char *runtime, char **ret, struct err *err)
{
	struct arena *a = ctx->arena;
	if (runtime[0] == '/') {
		if (access(runtime, X_OK) < 0)
			return err_errno(err, errno, "runtime \"%s\" binary not installed",
					 runtime);
		*ret = arena_strdup(a, runtime);
		return *ret ? 0 : err_nomem(err);
	}
	char *name = strchr(runtime, '/') ? NULL : binary_name(a, runtime);
	if (!name)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "invalid runtime name %s, correct runtime name should be either "
			       "format like "
			       "`io.containerd.runc.v2` or a full path to the binary",
			       runtime);
	char *dir = self_exe_dir(a);
	char *path = dir ? path_join(a, dir, name) : NULL;
	if (!path || access(path, X_OK) < 0)
		path = in_path(a, name);
	if (!path)
		return err_set(err, ERR_NOT_FOUND,
			       "runtime \"%s\" binary not installed \"%s\": file does not exist",
			       runtime, name);
	*ret = path;
	return 0;
}

/* ---- running the binary ---- */

static char **shim_env(struct arena *a, const struct runtime_options *o, const char *ns)
{
	size_t n = 0, extra = 0;
	while (environ[n])
		n++;
	while (o->env && o->env[extra])
		extra++;
	char **env = arena_new_array(a, char *, n + extra + 6);
	if (!env)
		return NULL;
	memcpy(env, environ, n * sizeof(*env));
	env[n++] = (char *)"GOMAXPROCS=2";
	env[n++] = (char *)"MAX_SHIM_VERSION=2";
	env[n++] = arena_printf(a, "TTRPC_ADDRESS=%s", o->ttrpc_address);
	env[n++] = arena_printf(a, "GRPC_ADDRESS=%s", o->address);
	env[n++] = arena_printf(a, "NAMESPACE=%s", ns);
	for (size_t i = 0; i < extra; i++)
		env[n++] = (char *)o->env[i];
	return env;
}

static int run(struct ctx *ctx, const struct runtime_options *o, const struct bundle *b,
	       const char *ns, const char *id, const char *binary, bool delete, const void *in,
	       size_t in_len, int64_t timeout, char **ret_out, size_t *ret_len, char **ret_err,
	       struct err *err)
{
	char *argv[16];
	size_t n = 0;
	argv[n++] = (char *)binary;
	argv[n++] = (char *)"-namespace";
	argv[n++] = (char *)ns;
	argv[n++] = (char *)"-address";
	argv[n++] = (char *)o->address;
	argv[n++] = (char *)"-publish-binary";
	argv[n++] = (char *)o->exe;
	argv[n++] = (char *)"-id";
	argv[n++] = (char *)id;
	if (delete) {
		argv[n++] = (char *)"-bundle";
		argv[n++] = b->path;
	}
	if (o->debug)
		argv[n++] = (char *)"-debug";
	argv[n++] = (char *)(delete ? "delete" : "start");
	argv[n] = NULL;
	struct spawn_options so = SPAWN_OPTIONS_INIT;
	so.path = binary;
	so.argv = argv;
	so.env = shim_env(ctx->arena, o, ns);
	so.cwd = b->path;
	so.new_pgroup = true;
	so.ctx = ctx;
	if (!so.env)
		return err_nomem(err);
	int status;
	TRACE_SPAN("shim", delete ? "run delete" : "run start", "id", id);
	int r = spawn_run(ctx->arena, &so, in, in_len, START_OUTPUT_MAX, time_mono() + timeout,
			  ret_out, ret_len, ret_err, &status, err);
	if (r < 0)
		return r;
	if (status != 0) {
		const char *text = ret_err && **ret_err ? *ret_err : *ret_out;
		size_t len = strcspn(text, "\n");
		return err_set_raw(err, ERR_UNKNOWN, "start failed: %.*s: exit status %d",
				   (int)MIN(len, (size_t)1500), text, status);
	}
	return 0;
}

/* ---- start ---- */

static Containerd__Runtime__Bootstrap__V1__LogLevel bootstrap_level(void)
{
	switch (log_level_get()) {
	case LOG_TRACE:
		return CONTAINERD__RUNTIME__BOOTSTRAP__V1__LOG_LEVEL__LOG_LEVEL_TRACE;
	case LOG_DEBUG:
		return CONTAINERD__RUNTIME__BOOTSTRAP__V1__LOG_LEVEL__LOG_LEVEL_DEBUG;
	case LOG_INFO:
		return CONTAINERD__RUNTIME__BOOTSTRAP__V1__LOG_LEVEL__LOG_LEVEL_INFO;
	case LOG_WARN:
		return CONTAINERD__RUNTIME__BOOTSTRAP__V1__LOG_LEVEL__LOG_LEVEL_WARN;
	default:
		return CONTAINERD__RUNTIME__BOOTSTRAP__V1__LOG_LEVEL__LOG_LEVEL_ERROR;
	}
}

static uint8_t *bootstrap_params(struct ctx *ctx, const struct runtime_options *o, const char *ns,
				 const char *id, const struct any *options, size_t *ret_n)
{
	Containerd__Runtime__Bootstrap__V1__BootstrapParams p =
		CONTAINERD__RUNTIME__BOOTSTRAP__V1__BOOTSTRAP_PARAMS__INIT;
	Containerd__Runtime__Bootstrap__V1__Extension ext =
		CONTAINERD__RUNTIME__BOOTSTRAP__V1__EXTENSION__INIT;
	Containerd__Runtime__Bootstrap__V1__Extension *exts[] = {&ext};
	Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;
	p.instance_id = (char *)id;
	p.namespace_ = (char *)ns;
	p.log_level = bootstrap_level();
	p.containerd_version = (char *)o->version;
	p.containerd_ttrpc_address = (char *)o->ttrpc_address;
	p.containerd_grpc_address = (char *)o->address;
	p.containerd_binary = (char *)o->exe;
	p.socket_dir = (char *)str_or(o->socket_dir, "");
	if (options->type_url) {
		any.type_url = (char *)options->type_url;
		any.value = (ProtobufCBinaryData){.data = (uint8_t *)options->value,
						  .len = options->len};
		ext.value = &any;
		p.extensions = exts;
		p.n_extensions = 1;
	}
	return rpc_pack(ctx->arena, &p.base, ret_n);
}

/* What shims from before containerd 2.3 read from stdin: the options alone. Given more, they say
 * that they do not know the type of that name. */
static uint8_t *bare_options(struct ctx *ctx, const struct any *options, size_t *ret_n)
{
	Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;
	if (options->type_url) {
		any.type_url = (char *)options->type_url;
		any.value = (ProtobufCBinaryData){.data = (uint8_t *)options->value,
						  .len = options->len};
	}
	return rpc_pack(ctx->arena, &any.base, ret_n);
}

#define NO_ADDRESS "shim answered no address, but something else"

static int address_check(struct shim_address *addr, struct err *err)
{
	if (addr->version > SHIM_VERSION_MAX)
		return err_set(err, ERR_UNIMPLEMENTED, "unsupported shim version (%d)",
			       addr->version);
	if (!streq(addr->protocol, "ttrpc"))
		return err_set(err, ERR_UNIMPLEMENTED, "shim protocol \"%s\"", addr->protocol);
	if (str_empty(addr->address))
		return err_set(err, ERR_INVALID_ARGUMENT, "shim answered no address");
	for (const char *p = addr->address; *p; p++)
		if (*p <= ' ' || *p > '~')
			return err_set(err, ERR_INVALID_ARGUMENT, NO_ADDRESS);
	return 0;
}

static int address_from_json(struct arena *a, const char *p, size_t n, struct shim_address *ret,
			     struct err *err)
{
	_cleanup_json_ json_t *j = NULL;
	int r = json_parse(p, n, &j, err);
	if (r < 0)
		return r;
	ret->version = (int)MAX(MIN(json_int(j, "version", 0), (int64_t)INT_MAX), (int64_t)0);
	ret->address = arena_strdup(a, json_str(j, "address", ""));
	ret->protocol = arena_strdup(a, json_str(j, "protocol", "ttrpc"));
	return ret->address && ret->protocol ? 0 : err_nomem(err);
}

/* A BootstrapResult, else JSON, else the bare address of a version 2 shim. */
static int address_parse(struct arena *a, const char *out, size_t n, struct shim_address *ret,
			 struct err *err)
{
	struct shim_address addr = {.version = 2, .protocol = "ttrpc"};
	Containerd__Runtime__Bootstrap__V1__BootstrapResult *res;
	while (n > 0 && (out[n - 1] == '\n' || out[n - 1] == '\r' || out[n - 1] == ' '))
		n--;
	if (n > 0 && out[0] == '{') {
		int r = address_from_json(a, out, n, &addr, err);
		if (r < 0)
			return err_prefix(err, "shim's answer");
	} else if (rpc_unpack(a, &containerd__runtime__bootstrap__v1__bootstrap_result__descriptor,
			      out, n, &res, NULL) == 0 &&
		   res->version >= 2 && !str_empty(res->address)) {
		addr = (struct shim_address){res->address, str_or(res->protocol, "ttrpc"),
					     res->version};
	} else {
		/* No C string: what precedes its first NUL must not pass for the address. */
		if (n > 0 && memchr(out, '\0', n))
			return err_set(err, ERR_INVALID_ARGUMENT, NO_ADDRESS);
		addr.address = arena_strndup(a, out, n);
		if (!addr.address)
			return err_nomem(err);
	}
	int r = address_check(&addr, err);
	if (r == 0)
		*ret = addr;
	return r;
}

/* A small file in the bundle. */
static int note(struct arena *a, const struct bundle *b, const char *name, const char *value,
		mode_t mode, struct err *err)
{
	char *path = path_join(a, b->path, name);
	if (!path)
		return err_nomem(err);
	int r = file_write_atomic(AT_FDCWD, path, value, strlen(value), mode, false);
	return r < 0 ? err_errno(err, r, "write %s", path) : 0;
}

/* The file `address` is for containerd 1.6 and 1.7, which
 * know no other: with it they take the task over when the node is given back to them. */
static int address_save(struct arena *a, const struct bundle *b, const struct shim_address *addr,
			struct err *err)
{
	_cleanup_json_ json_t *j = json_pack("{s:i,s:s,s:s}", "version", addr->version, "address",
					     addr->address, "protocol", addr->protocol);
	_cleanup_free_ char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
	if (!text)
		return err_nomem(err);
	int r = note(a, b, "bootstrap.json", text, 0644, err);
	if (r == 0 && streq(addr->protocol, "ttrpc"))
		r = note(a, b, "address", addr->address, 0644, err);
	return r;
}

int shim_start(struct ctx *ctx, const struct runtime_options *o, const struct bundle *b,
	       const char *ns, const char *id, const char *binary, const struct any *options,
	       struct shim_address *ret, struct err *err)
{
	size_t in_len, out_len;
	char *out;
	struct err first = ERR_INIT;
	uint8_t *in = bootstrap_params(ctx, o, ns, id, options, &in_len);
	if (!in)
		return err_nomem(err);
	/* Before the start: who finds the bundle without an address knows how to undo it. */
	int r = note(ctx->arena, b, "shim-binary-path", binary, 0600, err);
	if (r < 0)
		return err_prefix(err, "failed to start shim %s", binary);
	r = run(ctx, o, b, ns, id, binary, false, in, in_len, START_TIMEOUT_NS, &out, &out_len,
		NULL, &first);
	if (r < 0 && strstr(first.text, "type with url")) {
		in = bare_options(ctx, options, &in_len);
		r = in ? run(ctx, o, b, ns, id, binary, false, in, in_len, START_TIMEOUT_NS, &out,
			     &out_len, NULL, err)
		       : err_nomem(err);
	} else if (r < 0) {
		r = err_copy(err, &first);
	}
	if (r == 0)
		r = address_parse(ctx->arena, out, out_len, ret, err);
	if (r == 0)
		r = address_save(ctx->arena, b, ret, err);
	return r < 0 ? err_prefix(err, "failed to start shim %s", binary) : 0;
}

int shim_join(struct arena *a, const struct bundle *b, const char *sandbox_id,
	      const struct shim_address *addr, struct err *err)
{
	int r = address_save(a, b, addr, err);
	return r < 0 ? r : note(a, b, "sandbox", sandbox_id, 0600, err);
}

int shim_delete(struct ctx *ctx, const struct runtime_options *o, const struct bundle *b,
		const char *ns, const char *id, const char *binary, struct runtime_exit *ret,
		struct err *err)
{
	char *out, *errs;
	size_t n;
	Containerd__Task__V2__DeleteResponse *resp;
	int r = run(ctx, o, b, ns, id, binary, true, NULL, 0, o->cleanup_timeout_ns, &out, &n,
		    &errs, err);
	if (r == 0)
		r = rpc_unpack(ctx->arena, &containerd__task__v2__delete_response__descriptor, out,
			       n, &resp, err);
	if (r < 0)
		return err_prefix(err, "delete shim of %s", id);
	*ret = (struct runtime_exit){
		.pid = resp->pid, .status = resp->exit_status, .at = time_now()};
	if (resp->exited_at)
		ret->at = pb_time_get(resp->exited_at);
	return 0;
}

int shim_address_load(struct arena *a, const struct bundle *b, struct shim_address *ret,
		      struct err *err)
{
	char *path = path_join(a, b->path, "bootstrap.json"),
	     *old = path_join(a, b->path, "address"), *text;
	struct shim_address addr = {.version = 2, .protocol = "ttrpc"};
	size_t n;
	if (!path || !old)
		return err_nomem(err);
	int r = file_read(a, AT_FDCWD, path, START_OUTPUT_MAX, &text, &n);
	if (r == 0)
		r = address_from_json(a, text, n, &addr, err);
	else if (r == -ENOENT && file_read(a, AT_FDCWD, old, START_OUTPUT_MAX, &text, &n) == 0)
		r = address_parse(a, text, n, &addr, err);
	else
		return err_errno(err, r, "read %s", path);
	if (r == 0)
		r = address_check(&addr, err);
	if (r == 0)
		*ret = addr;
	return r;
}

int shim_connect(const struct shim_address *addr, int *ret_fd, struct err *err)
{
	const char *path = str_skip(addr->address, "unix://");
	char abstract[200];
	if (!path && addr->address[0] == '/')
		path = addr->address;
	if (!path) {
		if (strstr(addr->address, "://"))
			return err_set(err, ERR_UNIMPLEMENTED, "shim address %s", addr->address);
		/* A bare name is an abstract socket. */
		if (strlen(addr->address) + 2 > sizeof(abstract))
			return err_set(err, ERR_INVALID_ARGUMENT,
				       "shim address %.100s... is too long", addr->address);
		abstract[0] = '@';
		strcpy(abstract + 1, addr->address);
		path = abstract;
	}
	int r = unix_connect(path, ret_fd);
	return r < 0 ? err_errno(err, r, "connect to shim at %s", addr->address) : 0;
}
