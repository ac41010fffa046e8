/* SPDX-License-Identifier: Apache-2.0 */
/* ctr content fetch-object, fetch-blob, push-object: single documents and blobs of a registry. The
 * first two need no daemon. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/fd.h"
#include "ctr/cmd_content.h"
#include "ctr/record.h"
#include "ctr/remote.h"
#include "oci/manifest.h"

static int print_bytes(void *arg, const void *p, size_t n, struct err *err)
{
	int r = fd_write_full(STDOUT_FILENO, p, n);

	return r < 0 ? err_errno(err, r, "write standard output") : 0;
}

static int run_fetch_object(struct ctr *c, struct err *err)
{
	struct remote remote _cleanup_remote_ = {};
	struct fetch_descriptor d;
	const char *ref;
	int r;

	r = record_arg(c, 0, "remote", &ref, err);
	if (r == 0)
		r = remote_open(c, ref, ctr_arg(c, 1), false, &remote, err);
	if (r == 0)
		r = fetch_resolve(remote.session, &c->ctx, &d, err);
	return r < 0 ? r : remote_fetch(&remote, &d, print_bytes, NULL, err);
}

/* ---- fetch-blob ---- */

static const struct ctr_flag fetch_blob_flags[] = {
	{"media-type", 0, CTR_STRING, "what the digests are of; a manifest's is asked for as such"},
	{}};

/* Without a media type it may be a blob or a manifest: a registry has them in different places. */
static int fetch_one(struct ctr *c, struct remote *remote, const char *digest, struct err *err)
{
	const char *type = ctr_string(c, "media-type");
	struct fetch_descriptor d = {.size = -1};
	struct err e = ERR_INIT;
	int r;

	r = digest_validate(digest, err);
	if (r < 0)
		return r;
	if (strlen(type) >= sizeof(d.media_type))
		return err_set(err, ERR_INVALID_ARGUMENT, "--media-type is too long");
	snprintf(d.media_type, sizeof(d.media_type), "%s", type);
	snprintf(d.digest.text, sizeof(d.digest.text), "%s", digest);
	r = remote_fetch(remote, &d, print_bytes, NULL, &e);
	if (r == -ERR_NOT_FOUND && !*type) {
		struct err unused = ERR_INIT;

		snprintf(d.media_type, sizeof(d.media_type), "%s", MEDIA_OCI_MANIFEST);
		if (remote_fetch(remote, &d, print_bytes, NULL, &unused) == 0)
			return 0;
	}
	return r < 0 ? err_copy(err, &e) : 0;
}

static int run_fetch_blob(struct ctr *c, struct err *err)
{
	struct remote remote _cleanup_remote_ = {};
	const char *ref;
	int r;

	r = record_arg(c, 0, "remote", &ref, err);
	if (r == 0 && c->n_args < 2)
		return err_set(err, ERR_INVALID_ARGUMENT, "must specify digests");
	/* The repository is all that counts of the reference. */
	if (r == 0)
		r = remote_open(c, ref, ctr_arg(c, 1), false, &remote, err);
	for (size_t i = 1; r == 0 && i < c->n_args; i++)
		r = fetch_one(c, &remote, c->args[i], err);
	return r;
}

/* ---- push-object ---- */

/* The blob in a file that has no name any more, open for reading only. */
static int blob_file(struct ctr *c, const char *digest, int *ret, struct err *err)
{
	const char *dir = getenv("TMPDIR");
	char *path = arena_printf(c->ctx.arena, "%s/push-XXXXXX", dir && *dir ? dir : "/tmp");
	int out _cleanup_close_ = -1, in _cleanup_close_ = -1;
	int r;

	if (!path)
		return err_nomem(err);
	out = mkostemp(path, O_CLOEXEC);
	if (out < 0)
		return err_errno(err, errno, "make `%s`", path);
	in = open(path, O_RDONLY | O_CLOEXEC);
	r = in < 0 ? err_errno(err, errno, "open `%s`", path) : 0;
	if (unlink(path) < 0)
		ctr_warn("remove `%s`: %s", path, strerror(errno));
	if (r == 0)
		r = record_copy_content(c, digest, out, err);
	if (r == 0)
		*ret = TAKE_FD(in);
	return r;
}

static int push(struct ctr *c, struct remote *remote, const char *digest, const char *type, int fd,
		struct err *err)
{
	bool manifest = media_is_manifest(type) || media_is_index(type);
	struct push_options o = {.reference = manifest && !*remote->digest ? remote->tag : ""};
	struct fetch_descriptor d = {};
	enum push_result how;
	struct stat st;
	int r;

	if (strlen(type) >= sizeof(d.media_type))
		return err_set(err, ERR_INVALID_ARGUMENT, "the media type is too long");
	if (fstat(fd, &st) < 0)
		return err_errno(err, errno, "look at the blob");
	snprintf(d.media_type, sizeof(d.media_type), "%s", type);
	snprintf(d.digest.text, sizeof(d.digest.text), "%s", digest);
	d.size = st.st_size;
	r = fetch_push(remote->session, &c->ctx, &d, fd, &o, &how, err);
	if (r == 0)
		printf("Pushed %s %s\n", digest, type);
	return r;
}

static int run_push_object(struct ctr *c, struct err *err)
{
	struct remote remote _cleanup_remote_ = {};
	int fd _cleanup_close_ = -1;
	const char *ref, *digest, *type;
	int r;

	r = record_arg(c, 0, "remote", &ref, err);
	if (r == 0)
		r = record_arg(c, 1, "object", &digest, err);
	if (r == 0)
		r = record_arg(c, 2, "type", &type, err);
	if (r == 0)
		r = digest_validate(digest, err);
	if (r == 0)
		r = ctr_connect(c, err);
	if (r == 0)
		r = blob_file(c, digest, &fd, err);
	if (r == 0)
		r = remote_open(c, ref, "", true, &remote, err);
	return r < 0 ? r : push(c, &remote, digest, type, fd, err);
}

/* ---- Tables ---- */

const struct ctr_command content_fetch_object = {
	.name = "fetch-object",
	.usage = "print what a registry has under a name",
	.args = "[flags] <remote> <object> [<hint>, ...]",
	.description =
		"   <remote> is an image reference; <object>, a tag or digest, counts when it "
		"has neither.",
	.flags = CTR_FLAGS(registry_flags),
	.run = run_fetch_object,
};
const struct ctr_command content_fetch_blob = {
	.name = "fetch-blob",
	.usage = "print blobs of a registry",
	.args = "[flags] <remote> [<digest>, ...]",
	.flags = CTR_FLAGS(registry_flags, fetch_blob_flags),
	.run = run_fetch_blob,
};
const struct ctr_command content_push_object = {
	.name = "push-object",
	.usage = "push a blob or a document to a registry",
	.args = "[flags] <remote> <object> <type>",
	.description = "   <object> is a digest of the content store, <type> its media type. A "
		       "manifest or index gets the tag of <remote>.",
	.flags = CTR_FLAGS(registry_flags),
	.run = run_push_object,
};
