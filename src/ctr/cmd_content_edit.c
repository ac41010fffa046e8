/* SPDX-License-Identifier: Apache-2.0 */
/* ctr content edit: a blob in a file for an editor, and what the editor leaves as a new blob. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/fd.h"
#include "base/path.h"
#include "ctr/cmd_content.h"
#include "ctr/record.h"
#include "ctr/scratch.h"
#include "oci/manifest.h"
#include "sys/spawn.h"

#define CHUNK ((size_t)1 << 20)

static const struct ctr_flag edit_flags[] = {
	{"validate", 0, CTR_STRING,
	 "refuse a result that is no \"json\", or not a document of this media type"},
	{"editor", 0, CTR_STRING, "command that edits a file", NULL, "EDITOR"},
	{}};

static int run_editor(const char *editor, const char *path, struct err *err)
{
	char *script _cleanup_free_ = NULL;
	char *argv[] = {"sh", "-c", NULL, "sh", (char *)path, NULL};
	struct spawn_options o = SPAWN_OPTIONS_INIT;
	int pidfd _cleanup_close_ = -1;
	pid_t pid;
	int r;

	/* The editor's own words are the shell's to split; the path is one word. */
	if (asprintf(&script, "%s \"$1\"", editor) < 0) {
		script = NULL;
		return err_nomem(err);
	}
	argv[2] = script;
	o.path = "sh";
	o.argv = argv;
	o.stdin_fd = STDIN_FILENO;
	o.stdout_fd = STDOUT_FILENO;
	o.stderr_fd = STDERR_FILENO;
	r = spawn(&o, &pid, &pidfd, err);
	if (r < 0)
		return r;
	r = pidfd_wait(pidfd);
	if (r < 0)
		return err_errno(err, r, "wait for the editor");
	if (r > 0)
		return err_set(err, ERR_ABORTED, "editor \"%s\" ended with status %d", editor, r);
	return 0;
}

/* @kind "" = anything goes. */
static int validate(struct ctr *c, const char *kind, int fd, struct err *err)
{
	json_t *j _cleanup_json_ = NULL;
	struct manifest m;
	size_t len;
	char *text;
	int r;

	if (!*kind)
		return 0;
	r = fd_read_all(c->ctx.arena, fd, MANIFEST_MAX, &text, &len);
	if (r < 0)
		return err_errno(err, r, "read what was edited");
	if (lseek(fd, 0, SEEK_SET) < 0)
		return err_errno(err, errno, "read what was edited");
	if (media_is_manifest(kind) || media_is_index(kind))
		r = manifest_parse(c->ctx.arena, kind, text, len, &m, err);
	else
		r = json_parse(text, len, &j, err);
	return r < 0 ? err_prefix(err, "what was edited") : 0;
}

static int store(struct ctr *c, const char *digest, int fd, struct err *err)
{
	struct client_writer *w _cleanup_(client_writer_freep) = NULL;
	char *chunk _cleanup_free_ = malloc(CHUNK);
	const char *ref = arena_printf(c->ctx.arena, "edit-%s", digest);
	struct digest stored;
	int64_t size;
	ssize_t n;
	int r;

	if (!chunk || !ref)
		return err_nomem(err);
	r = client_writer_open(c->client, &c->ctx, ref, &w, err);
	while (r == 0 && (n = fd_read_full(fd, chunk, CHUNK)) != 0)
		r = n < 0 ? err_errno(err, (int)n, "read what was edited")
			  : client_writer_write(w, chunk, (size_t)n, err);
	if (r == 0)
		r = client_writer_commit(w, NULL, &stored, &size, err);
	if (r == 0)
		puts(stored.text);
	return r;
}

/* Editors often put a new file in the old one's place, so the path is opened again. */
static int edit(struct ctr *c, const char *digest, const char *editor, const char *path,
		struct err *err)
{
	int fd _cleanup_close_ = -1;
	int r = run_editor(editor, path, err);

	if (r < 0)
		return r;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "open `%s`", path);
	r = validate(c, ctr_string(c, "validate"), fd, err);
	return r < 0 ? r : store(c, digest, fd, err);
}

static int check_kind(const char *kind, struct err *err)
{
	if (!*kind || streq(kind, "json") || media_is_manifest(kind) || media_is_index(kind) ||
	    media_is_config(kind))
		return 0;
	return err_set(err, ERR_INVALID_ARGUMENT,
		       "--validate \"%s\": neither json nor the media type of a manifest, index or "
		       "configuration",
		       kind);
}

static int run_edit(struct ctr *c, struct err *err)
{
	const char *digest, *editor = ctr_string(c, "editor"), *dir = getenv("XDG_RUNTIME_DIR");
	struct scratch scratch _cleanup_scratch_ = {};
	int fd _cleanup_close_ = -1;
	char *path;
	int r;

	r = check_kind(ctr_string(c, "validate"), err);
	if (r == 0)
		r = content_need_digest(c, &digest, err);
	if (r < 0)
		return r;
	if (!*editor)
		return err_set(err, ERR_INVALID_ARGUMENT, "editor is required");
	path = path_join(c->ctx.arena, dir && *dir ? dir : "/tmp", "edit-XXXXXX");
	if (!path)
		return err_nomem(err);
	/* A directory, for what editors put beside a file. */
	r = scratch_make(path, &scratch, err);
	if (r < 0)
		return r;
	path = path_join(c->ctx.arena, scratch.path, "blob");
	if (!path)
		return err_nomem(err);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_errno(err, errno, "make `%s`", path);
	r = record_copy_content(c, digest, fd, err);
	return r < 0 ? r : edit(c, digest, editor, path, err);
}

const struct ctr_command content_edit = {
	.name = "edit",
	.usage = "edit a blob and store the result as a new one",
	.args = "[flags] <digest>",
	.description = "   The new blob's digest is printed. Nothing keeps the new blob; label it "
		       "(containerd.io/gc.root) or hold a lease.",
	.flags = CTR_FLAGS(edit_flags),
	.names = CTR_NAMES_CONTENT,
	.run = run_edit,
};
