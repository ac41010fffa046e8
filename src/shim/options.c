/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/options.h"

#include <fcntl.h>
#include <string.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "rpc/rpc.h"
#include "shim/jscan.h"

#define FILE_MAX (64u << 10)

const char *options_type_name(const char *type_url)
{
	const char *slash = strrchr(type_url, '/');

	return slash ? slash + 1 : type_url;
}

int options_unpack(struct arena *a, const Google__Protobuf__Any *any,
		   Containerd__Runc__V1__Options **ret, struct err *err)
{
	const ProtobufCMessageDescriptor *d = &containerd__runc__v1__options__descriptor;
	bool none = !any || str_empty(any->type_url);

	if (!none && !streq(options_type_name(any->type_url), d->name))
		return err_set(err, ERR_INVALID_ARGUMENT, "options of type %s", any->type_url);
	return rpc_unpack(a, d, none ? NULL : any->value.data, none ? 0 : any->value.len, ret, err);
}

static void add_bool(struct buf *b, const char *name, bool v)
{
	buf_printf(b, "%s\"%s\":%s", b->len ? "," : "{", name, v ? "true" : "false");
}

static void add_text(struct buf *b, const char *name, const char *v)
{
	buf_printf(b, "%s\"%s\":", b->len ? "," : "{", name);
	jscan_quote(b, v);
}

static void add_number(struct buf *b, const char *name, uint32_t v)
{
	buf_printf(b, "%s\"%s\":%u", b->len ? "," : "{", name, v);
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations" /* old daemons still send these */

/* What has no value is left out, as in the files of other shims. */
static void options_json(struct buf *b, const Containerd__Runc__V1__Options *o)
{
	if (o->no_pivot_root)
		add_bool(b, "no_pivot_root", true);
	if (o->no_new_keyring)
		add_bool(b, "no_new_keyring", true);
	if (*o->shim_cgroup)
		add_text(b, "shim_cgroup", o->shim_cgroup);
	if (o->io_uid)
		add_number(b, "io_uid", o->io_uid);
	if (o->io_gid)
		add_number(b, "io_gid", o->io_gid);
	if (*o->binary_name)
		add_text(b, "binary_name", o->binary_name);
	if (*o->root)
		add_text(b, "root", o->root);
	if (o->systemd_cgroup)
		add_bool(b, "systemd_cgroup", true);
	if (*o->criu_image_path)
		add_text(b, "criu_image_path", o->criu_image_path);
	if (*o->criu_work_path)
		add_text(b, "criu_work_path", o->criu_work_path);
	if (*o->task_api_address)
		add_text(b, "task_api_address", o->task_api_address);
	if (o->task_api_version)
		add_number(b, "task_api_version", o->task_api_version);
	buf_adds(b, b->len ? "}" : "{}");
}

#pragma GCC diagnostic pop

int options_save(const char *bundle, const Containerd__Runc__V1__Options *o, struct err *err)
{
	_cleanup_close_ int dir = open(bundle, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_buf_ struct buf b = BUF_INIT;
	int r;

	if (dir < 0)
		return err_errno(err, errno, "open bundle `%s`", bundle);
	options_json(&b, o);
	if (!buf_ok(&b))
		return err_nomem(err);
	r = file_write(dir, "options.json", b.data, b.len, 0600);
	if (r == 0)
		r = file_write(dir, "runtime", o->binary_name, strlen(o->binary_name), 0600);
	return r < 0 ? err_errno(err, r, "write options into `%s`", bundle) : 0;
}

static const char *member_text(struct arena *a, struct jspan object, const char *key)
{
	struct jspan v;
	char *out;

	if (jscan_member(object, key, &v) != 1 || !jscan_is_string(v))
		return "";
	out = arena_alloc(a, v.n);
	return out && jscan_string(v, out, v.n) == 0 ? out : "";
}

int options_load(struct arena *a, const char *bundle, const char **ret_binary,
		 const char **ret_root, bool *ret_systemd_cgroup)
{
	char *path = path_join(a, bundle, "options.json"), *text;
	struct jspan o, v;
	size_t n;
	int r;

	if (!path)
		return -ENOMEM;
	*ret_binary = *ret_root = "";
	*ret_systemd_cgroup = false;
	r = file_read(a, AT_FDCWD, path, FILE_MAX, &text, &n);
	if (r == 0 && jscan_value(text, n, &o) == 0) {
		*ret_binary = member_text(a, o, "binary_name");
		*ret_root = member_text(a, o, "root");
		*ret_systemd_cgroup = jscan_member(o, "systemd_cgroup", &v) == 1 && v.n == 4 &&
				      memcmp(v.p, "true", 4) == 0;
	}
	path = path_join(a, bundle, "runtime");
	if (!path)
		return -ENOMEM;
	r = file_read(a, AT_FDCWD, path, FILE_MAX, &text, &n);
	if (r == 0 && n > 0)
		*ret_binary = text;
	return 0;
}
