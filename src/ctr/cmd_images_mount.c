/* SPDX-License-Identifier: Apache-2.0 */
/* ctr images mount, unmount: an image's file system at a directory of the host, as a snapshot whose
 * key is the directory. */
#include "base/time.h"
#include "ctr/cmd_images.h"
#include "ctr/cmd_snapshots.h"
#include "client/image.h"
#include "ctr/record.h"
#include "ctr/registry.h"
#include "sys/mount.h"

static const struct ctr_flag mount_flags[] = {
	{"snapshotter", 0, CTR_STRING, "snapshotter; the namespace's default when not given", NULL,
	 "CONTAINERD_SNAPSHOTTER"},
	{"label", 0, CTR_STRINGS, "label of the snapshot, key=value"},
	{"rw", 0, CTR_BOOL, "mount for writing"},
	{"platform", 0, CTR_STRING, "platform of the image; this host's when not given"},
	{"sync-fs", 0, CTR_BOOL, "sync the file system after each layer that is unpacked"},
	{"expiration", 'x', CTR_DURATION, "time after which the snapshot may be removed", "1h0m0s"},
	{}};

/* What keeps the snapshot; its id is the snapshot's key. One that is there already, of an earlier
 * mount, will do: *@ret_made is false. */
static int make_lease(struct ctr *c, const char *id, const char *snapshotter, bool *ret_made,
		      struct err *err)
{
	PB_LEASES(CreateRequest) req = PB_LEASES_INIT(CREATE_REQUEST);
	struct arena *a = c->ctx.arena;
	struct timespec end = time_now();
	const char *expire, *ref = arena_printf(a, "containerd.io/gc.ref.snapshot.%s", snapshotter);
	struct err e = ERR_INIT;
	struct labels l = {};
	int r;

	end.tv_sec += ctr_int(c, "expiration") / NSEC_PER_SEC;
	expire = record_utc_time(a, end);
	if (!ref || !expire || labels_set(a, &l, ref, id) < 0 ||
	    labels_set(a, &l, "containerd.io/gc.expire", expire) < 0 ||
	    PB_LABELS_OUT(
		    a, &l,
		    &containerd__services__leases__v1__create_request__labels_entry__descriptor,
		    req.labels, req.n_labels) < 0)
		return err_nomem(err);
	req.id = (char *)id;
	r = client_call(c->client, &c->ctx, PB_LEASES_SERVICE, "Create", &req.base, NULL, &e);
	if (r < 0 && r != -ERR_ALREADY_EXISTS)
		return err_copy(err, &e);
	c->ctx.lease = id;
	*ret_made = r == 0;
	return 0;
}

static void drop_lease(struct ctr *c, const char *id)
{
	int64_t deadline = record_undo_begin(c);
	struct err e = ERR_INIT;

	c->ctx.lease = "";
	if (client_lease_delete(c->client, &c->ctx, id, &e) < 0 && e.kind != ERR_NOT_FOUND)
		ctr_warn("delete lease \"%s\": %s", id, e.text);
	c->ctx.deadline = deadline;
}

static int mount_at(struct ctr *c, const struct client_mounts *m, const char *target,
		    struct err *err)
{
	struct mount_spec *v = arena_new_array(c->ctx.arena, struct mount_spec, m->n + 1);

	if (!v)
		return err_nomem(err);
	for (size_t i = 0; i < m->n; i++)
		v[i] = (struct mount_spec){.type = m->v[i]->type,
					   .source = m->v[i]->source,
					   .target = m->v[i]->target,
					   .options = m->v[i]->options,
					   .n_options = m->v[i]->n_options};
	return mount_specs_mount(v, m->n, target, err);
}

/* *@ret_where: @target, or without one where the files lie anyway. */
static int mount_or_find(struct ctr *c, const char *key, const char *target,
			 struct client_mounts *mounts, const char **ret_where, struct err *err)
{
	int r = snapshots_activate(c, key, mounts, NULL, err);

	if (r < 0)
		return r;
	*ret_where = target;
	if (*target)
		return mount_at(c, mounts, target, err);
	if (mounts->n != 1 || !streq(mounts->v[0]->type, "bind"))
		return err_set(
			err, ERR_FAILED_PRECONDITION,
			"the snapshot has to be mounted to be seen: give a target directory");
	*ret_where = mounts->v[0]->source;
	return 0;
}

/* Under the lease. */
static int mount_image(struct ctr *c, const struct client_image *image, const char *snapshotter,
		       const char *key, const char *target, struct err *err)
{
	struct client_mounts mounts;
	struct err e = ERR_INIT;
	struct labels l = {};
	const char **words, *where;
	bool made = true;
	size_t n;
	int r;

	words = ctr_strings(c, "label", &n);
	r = ctr_parse_labels(c->ctx.arena, words, n, &l, err);
	if (r == 0)
		r = client_image_unpack(c->client, &c->ctx, image, snapshotter,
					ctr_bool(c, "sync-fs"), err);
	if (r < 0)
		return r;
	puts(image->chain_id);
	r = client_snapshot_prepare(c->client, &c->ctx, snapshotter, key, image->chain_id,
				    !ctr_bool(c, "rw"), &l, &mounts, &e);
	if (r == -ERR_ALREADY_EXISTS) {
		made = false;
		r = client_snapshot_mounts(c->client, &c->ctx, snapshotter, key, &mounts, err);
	} else if (r < 0)
		err_copy(err, &e);
	if (r < 0)
		return r;
	r = mount_or_find(c, key, target, &mounts, &where, err);
	if (r == 0)
		puts(where);
	else if (made)
		record_undo_snapshot(c, snapshotter, key);
	return r;
}

static const char *make_key(struct arena *a)
{
	unsigned char tail[6];
	char hex[13];

	random_bytes(tail, sizeof(tail));
	hex_encode(tail, sizeof(tail), hex);
	return arena_printf(a, "ctr-images-mount-%s", hex);
}

static int run_mount(struct ctr *c, struct err *err)
{
	struct client_image image _cleanup_client_image_ = {};
	const char *name, *target = ctr_arg(c, 1), *key, *snapshotter;
	bool made;
	int r;

	key = *target ? target : make_key(c->ctx.arena);
	if (!key)
		return err_nomem(err);
	r = record_arg(c, 0, "image", &name, err);
	if (r == 0)
		r = ctr_connect(c, err);
	if (r == 0)
		r = ctr_snapshotter(c, &snapshotter, err);
	if (r == 0)
		r = client_image_load(c->client, &c->ctx, name, ctr_string(c, "platform"), &image,
				      err);
	if (r == 0)
		r = make_lease(c, key, snapshotter, &made, err);
	if (r < 0)
		return r;
	r = mount_image(c, &image, snapshotter, key, target, err);
	if (r < 0 && made)
		drop_lease(c, key);
	return r;
}

static const struct ctr_flag unmount_flags[] = {
	{"snapshotter", 0, CTR_STRING, "snapshotter; the namespace's default when not given", NULL,
	 "CONTAINERD_SNAPSHOTTER"},
	{"label", 0, CTR_STRINGS, "accepted as others write it"},
	{"rm", 0, CTR_BOOL, "remove the snapshot too"},
	{}};

static int run_unmount(struct ctr *c, struct err *err)
{
	const char *target, *snapshotter;
	struct err e = ERR_INIT;
	int r;

	r = record_arg(c, 0, "target directory", &target, err);
	if (r == 0)
		r = mount_unmount_all(target, 0, err);
	if (r == 0 && ctr_bool(c, "rm")) {
		r = ctr_connect(c, err);
		if (r == 0)
			r = ctr_snapshotter(c, &snapshotter, err);
		if (r < 0)
			return r;
		drop_lease(c, target);
		/* Without its lease it may be gone already. */
		if (client_snapshot_remove(c->client, &c->ctx, snapshotter, target, &e) < 0 &&
		    e.kind != ERR_NOT_FOUND)
			return err_copy(err, &e);
	}
	if (r == 0)
		puts(target);
	return r;
}

const struct ctr_command images_mount = {
	.name = "mount",
	.usage = "mount an image at a directory",
	.args = "[flags] <ref> [<target>]",
	.description = "   Prints the chain ID of the image's layers and the directory. Without "
		       "<target> that is where the files lie, should they do so\n"
		       "   without a mount (native, or an image of one layer).",
	.flags = CTR_FLAGS(registry_flags, mount_flags),
	.names = CTR_NAMES_IMAGES,
	.more = CTR_NAMES_FILES,
	.run = run_mount,
};
const struct ctr_command images_unmount = {
	.name = "unmount",
	.usage = "unmount an image",
	.args = "[flags] <target>",
	.flags = CTR_FLAGS(registry_flags, unmount_flags),
	.names = CTR_NAMES_FILES,
	.run = run_unmount,
};
