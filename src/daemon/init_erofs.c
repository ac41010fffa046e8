/* SPDX-License-Identifier: Apache-2.0 */
/* The plugins of EROFS: snapshotter and differ. The mount handler is part of the mount manager. */
#include "base/str.h"
#include "core/erofs.h"
#include "daemon/daemon_internal.h"
#include "daemon/plugin_inits.h"
#include "plugins/differ/differ.h"
#include "plugins/mounts/transform.h"
#include "plugins/snapshotter/erofs.h"

static void snapshotter_stop(void *p)
{
	struct snapshotter *s = p;
	s->ops->free(s);
}

static int verity_mode(const char *mode, enum erofs_verity *ret, struct err *err)
{
	if (streq(mode, "on"))
		return err_set(err, ERR_UNIMPLEMENTED,
			       "dmverity_mode is 'on' but dm-verity is not supported");
	if (*mode && !streq(mode, "auto") && !streq(mode, "off"))
		return err_set(err, ERR_INVALID_ARGUMENT,
			       "invalid dmverity_mode \"%s\": must be \"auto\", \"on\", or \"off\"",
			       mode);
	*ret = streq(mode, "off") ? EROFS_VERITY_OFF : EROFS_VERITY_AUTO;
	return 0;
}

int plugin_snapshotter_erofs_init(struct plugin_init *in, struct err *err)
{
	const char *root = str_or(cfg_str(in, "root_path"), in->root);
	const char *size = cfg_str(in, "default_size");
	struct erofs_options o = {.mount_options = cfg_strings(in, "ovl_mount_options"),
				  .fsverity = cfg_bool(in, "enable_fsverity"),
				  .immutable = cfg_bool(in, "set_immutable")};
	const char *caps[3] = {"only-remap-ids"};
	size_t n = 1;
	struct snapshotter *s;
	int r = verity_mode(str_or(cfg_str(in, "dmverity_mode"), ""), &o.verity, err);
	if (r == 0 && !str_empty(size))
		r = mount_size_parse(size, &o.size, err);
	if (r < 0)
		return r;
	r = erofs_new(root, &o, &s, err);
	if (r < 0)
		return r;
	in->instance = s;
	in->stop = snapshotter_stop;
	if (erofs_remaps_ids(s))
		caps[n++] = "remap-ids";
	if (s->can_rebase)
		caps[n++] = "rebase";
	r = plugin_set_capabilities(in, caps, n, err);
	return r < 0 ? r : plugin_export(in, "root", root, err);
}

static void differ_stop(void *p)
{
	struct differ *d = p;
	d->ops->free(d);
}

int plugin_differ_erofs_init(struct plugin_init *in, struct err *err)
{
	struct daemon *d = in->daemon;
	struct erofs_differ_options o = {.mkfs_options = cfg_strings(in, "mkfs_options"),
					 .tar_index = cfg_bool(in, "enable_tar_index")};
	struct ctx ctx = {.arena = in->arena, .ns = "", .lease = ""};
	struct err why = ERR_INIT;
	struct differ *made;
	bool tar;
	if (cfg_bool(in, "enable_dmverity"))
		return plugin_skip(err, "dm-verity is not supported");
	if (erofs_probe(&ctx, &tar, &why) < 0)
		return plugin_skip(err, "failed to check mkfs.erofs availability: %s", why.text);
	if (o.tar_index && !tar)
		return plugin_skip(err,
				   "mkfs.erofs does not support tar mode (--tar option), which "
				   "enable_tar_index needs");
	int r = erofs_differ_new(d->services.db, &o, &made, err);
	if (r < 0)
		return r;
	in->instance = made;
	in->stop = differ_stop;
	return 0;
}
