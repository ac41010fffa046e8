/* SPDX-License-Identifier: Apache-2.0 */
/* ctr install: programs of an image into the directory that the daemon has in its PATH.
 *
 * The image is unpacked as for a container, a view of it is mounted in a mount namespace that one
 * thread sees, and its files are copied from there. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fd.h"
#include "ctr/cmd_images.h"
#include "client/image.h"
#include "ctr/install.h"
#include "ctr/record.h"
#include "ctr/scratch.h"
#include "sys/mount.h"

static const struct ctr_flag install_flags[] = {
	{"libs", 'l', CTR_BOOL, "install lib besides bin"},
	{"replace", 'r', CTR_BOOL, "replace files that are there"},
	{"path", 0, CTR_STRING, "directory; what the daemon's plugin opt says when not given"},
	{}};

/* Where the daemon looks for programs. */
static int opt_path(struct ctr *c, const char **ret, struct err *err)
{
	PB_INTROSPECTION(PluginsRequest) req = PB_INTROSPECTION_INIT(PLUGINS_REQUEST);
	char *filter = (char *)"type==io.containerd.internal.v1,id==opt";
	PB_INTROSPECTION(PluginsResponse) * resp;
	int r;

	req.filters = &filter;
	req.n_filters = 1;
	r = client_call(c->client, &c->ctx, PB_INTROSPECTION_SERVICE, "Plugins", &req.base, &resp,
			err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < resp->n_plugins; i++)
		for (size_t k = 0; k < resp->plugins[i]->n_exports; k++)
			if (streq(resp->plugins[i]->exports[k]->key, "path") &&
			    *resp->plugins[i]->exports[k]->value) {
				*ret = resp->plugins[i]->exports[k]->value;
				return 0;
			}
	return err_set(err, ERR_FAILED_PRECONDITION,
		       "the daemon has no directory for programs (plugin opt); give one with "
		       "--path");
}

struct job {
	struct install *install;
	const struct client_mounts *mounts;
	const char *dir; /* where they are mounted */
	struct err err;
	int result;
};

static int mount_view(const struct job *j, struct err *err)
{
	int r = 0;

	if (unshare(CLONE_NEWNS) < 0)
		return err_errno(err, errno, "make a mount namespace");
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_errno(err, errno, "make the mounts private");
	for (size_t i = 0; r == 0 && i < j->mounts->n; i++) {
		const PB_TYPES(Mount) *m = j->mounts->v[i];
		const struct mount_spec spec = {.type = m->type,
						.source = m->source,
						.target = m->target,
						.options = m->options,
						.n_options = m->n_options};

		r = mount_spec_mount(&spec, j->dir, err);
	}
	return r;
}

static void *run_job(void *arg)
{
	struct job *j = arg;
	int root _cleanup_close_ = -1;

	j->result = mount_view(j, &j->err);
	if (j->result < 0)
		return NULL;
	root = open(j->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	j->result = root < 0 ? err_errno(&j->err, errno, "open `%s`", j->dir)
			     : install_tree(j->install, root, &j->err);
	return NULL;
}

static int copy_mounted(struct install *i, const struct client_mounts *mounts, struct err *err)
{
	struct scratch dir _cleanup_scratch_ = {};
	struct job j = {.install = i, .mounts = mounts, .err = ERR_INIT};
	pthread_t thread;
	int r;

	r = scratch_make("/tmp/ctr-install-XXXXXX", &dir, err);
	if (r < 0)
		return r;
	j.dir = dir.path;
	r = pthread_create(&thread, NULL, run_job, &j);
	if (r == 0)
		pthread_join(thread, NULL);
	if (r > 0)
		return err_errno(err, r, "start a thread");
	return j.result < 0 ? err_copy(err, &j.err) : 0;
}

/* Under a lease. */
static int install_image(struct ctr *c, const char *ref, struct install *i, struct err *err)
{
	struct client_image image _cleanup_client_image_ = {};
	struct client_mounts mounts = {};
	const char *snapshotter, *key;
	uint64_t random;
	int r;

	random_bytes(&random, sizeof(random));
	key = arena_printf(c->ctx.arena, "ctr-install-%016llx", (unsigned long long)random);
	if (!key)
		return err_nomem(err);
	r = client_image_load(c->client, &c->ctx, ref, "", &image, err);
	if (r == 0)
		r = client_default_snapshotter(c->client, &c->ctx, &snapshotter, err);
	if (r == 0)
		r = client_image_prepare(c->client, &c->ctx, &image, snapshotter, key, true, NULL,
					 false, &mounts, err);
	if (r < 0)
		return r;
	r = copy_mounted(i, &mounts, err);
	record_undo_snapshot(c, snapshotter, key);
	return r;
}

static int run_install(struct ctr *c, struct err *err)
{
	struct install i = {.to = ctr_string(c, "path"),
			    .libs = ctr_bool(c, "libs"),
			    .replace = ctr_bool(c, "replace")};
	const char *ref;
	int r;

	r = record_arg(c, 0, "image", &ref, err);
	if (r == 0)
		r = ctr_connect(c, err);
	if (r == 0 && !*i.to)
		r = opt_path(c, &i.to, err);
	if (r == 0)
		r = record_lease_begin(c, err);
	if (r < 0)
		return r;
	r = install_image(c, ref, &i, err);
	record_lease_end(c);
	return r;
}

const struct ctr_command cmd_install = {
	.name = "install",
	.usage = "install the programs of an image for the daemon",
	.args = "[flags] <ref>",
	.description = "   Copies the image's bin (and with --libs its lib) to /opt/containerd, or "
		       "where the daemon's plugin opt has its directory.",
	.flags = CTR_FLAGS(install_flags),
	.names = CTR_NAMES_IMAGES,
	.run = run_install,
};
