/* SPDX-License-Identifier: Apache-2.0 */
/* A daemon of 2.3 sends BootstrapParams; older ones send the options Any or nothing. The two
 * messages have the same shape on the wire (two leading strings), so parameters count only when
 * they repeat the id and namespace of the flags. */
#include "shim/bootstrap.h"

#include <stdio.h>
#include <string.h>

#include "base/digest.h"
#include "base/str.h"
#include "rpc/rpc.h"
#include "shim/options.h"

static enum log_level level_of(int level)
{
	if (level <= CONTAINERD__RUNTIME__BOOTSTRAP__V1__LOG_LEVEL__LOG_LEVEL_TRACE)
		return LOG_TRACE;
	if (level <= CONTAINERD__RUNTIME__BOOTSTRAP__V1__LOG_LEVEL__LOG_LEVEL_DEBUG)
		return LOG_DEBUG;
	if (level <= CONTAINERD__RUNTIME__BOOTSTRAP__V1__LOG_LEVEL__LOG_LEVEL_INFO)
		return LOG_INFO;
	return level <= CONTAINERD__RUNTIME__BOOTSTRAP__V1__LOG_LEVEL__LOG_LEVEL_WARN ? LOG_WARN
										      : LOG_ERROR;
}

static bool is_options(const Google__Protobuf__Any *any)
{
	return any && streq(options_type_name(any->type_url), "containerd.runc.v1.Options");
}

static void params_use(const Containerd__Runtime__Bootstrap__V1__BootstrapParams *p,
		       struct bootstrap *b)
{
	b->current = true;
	b->id = p->instance_id;
	b->ns = p->namespace_;
	b->grpc_address = str_or(p->containerd_grpc_address, b->grpc_address);
	b->ttrpc_address = str_or(p->containerd_ttrpc_address, b->ttrpc_address);
	b->log_level = MIN(b->log_level, level_of(p->log_level));
	if (!str_empty(p->socket_dir)) {
		b->socket_dir = p->socket_dir;
		b->socket_dir_given = true;
	}
	for (size_t i = 0; i < p->n_extensions; i++)
		if (is_options(p->extensions[i]->value))
			b->options = p->extensions[i]->value;
}

int bootstrap_parse(struct arena *a, const struct shim_args *args, const void *in, size_t n,
		    const char *ttrpc_env, const char *grpc_env, struct bootstrap *ret,
		    struct err *err)
{
	struct bootstrap b = {.id = args->id, .ns = args->ns, .socket_dir = SOCKET_DIR_DEFAULT};
	Containerd__Runtime__Bootstrap__V1__BootstrapParams *p;
	Google__Protobuf__Any *any;

	b.grpc_address = str_or(args->address, str_or(grpc_env, ""));
	b.ttrpc_address = str_or(ttrpc_env, "");
	b.log_level = args->debug ? LOG_DEBUG : LOG_INFO;
	if (n > 0 &&
	    rpc_unpack(a, &containerd__runtime__bootstrap__v1__bootstrap_params__descriptor, in, n,
		       &p, NULL) == 0 &&
	    !str_empty(p->instance_id) && streq(p->instance_id, str_or(args->id, p->instance_id)) &&
	    streq(p->namespace_, str_or(args->ns, p->namespace_)))
		params_use(p, &b);
	else if (n > 0 &&
		 rpc_unpack(a, &google__protobuf__any__descriptor, in, n, &any, NULL) == 0 &&
		 is_options(any))
		b.options = any;
	if (str_empty(b.ttrpc_address) && !str_empty(b.grpc_address)) {
		b.ttrpc_address = arena_printf(a, "%s.ttrpc", b.grpc_address);
		if (!b.ttrpc_address)
			return err_nomem(err);
	}
	if (ident_validate(b.ns, err) < 0)
		return err_prefix(err, "shim namespace");
	if (ident_validate(b.id, err) < 0)
		return err_prefix(err, "shim id");
	if (b.socket_dir[0] != '/')
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "socket directory `%s` is no absolute path", b.socket_dir);
	*ret = b;
	return 0;
}

int bootstrap_socket_path(const struct bootstrap *b, const char *group,
			  char out[SOCKET_PATH_MAX + 1], struct err *err)
{
	char text[4096], hex[65];
	int n = snprintf(text, sizeof(text), "%s/%s/%s", b->grpc_address, b->ns, group);

	if (n >= (int)sizeof(text))
		return err_set(err, ERR_INVALID_ARGUMENT, "address or group is too long");
	sha256_hex(text, (size_t)n, hex);
	n = snprintf(out, SOCKET_PATH_MAX + 1, "%s/%s", b->socket_dir, hex);
	if (n > SOCKET_PATH_MAX)
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "socket path in `%s` is longer than %d bytes", b->socket_dir,
			       SOCKET_PATH_MAX);
	return 0;
}

int bootstrap_answer(const struct bootstrap *b, const char *socket_path, struct buf *out)
{
	Containerd__Runtime__Bootstrap__V1__BootstrapResult res =
		CONTAINERD__RUNTIME__BOOTSTRAP__V1__BOOTSTRAP_RESULT__INIT;
	char address[SOCKET_PATH_MAX + 8];
	size_t n;

	snprintf(address, sizeof(address), "unix://%s", socket_path);
	if (!b->current)
		return buf_adds(out, address);
	res.version = 3;
	res.address = address;
	res.protocol = (char *)"ttrpc";
	n = protobuf_c_message_get_packed_size(&res.base);
	if (buf_reserve(out, n) < 0)
		return -ENOMEM;
	out->len += protobuf_c_message_pack(&res.base, (uint8_t *)out->data + out->len);
	return 0;
}
