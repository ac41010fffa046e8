/* SPDX-License-Identifier: Apache-2.0 */
#include "cri/status.h"

#include <fcntl.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/path.h"
#include "base/str.h"
#include "rpc/pb_json.h"

#define STATUS_MAX (1u << 20)
#define VERSION_TEXT "v1"

Runtime__V1__ContainerState cri_status_state(const struct cri_status *s)
{
	if (s->unknown)
		return RUNTIME__V1__CONTAINER_STATE__CONTAINER_UNKNOWN;
	if (s->finished_at)
		return RUNTIME__V1__CONTAINER_STATE__CONTAINER_EXITED;
	if (s->started_at)
		return RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING;
	if (s->created_at)
		return RUNTIME__V1__CONTAINER_STATE__CONTAINER_CREATED;
	return RUNTIME__V1__CONTAINER_STATE__CONTAINER_UNKNOWN;
}

int cri_status_write(struct arena *a, const char *dir, const struct cri_status *s, struct err *err)
{
	char *path = path_join(a, dir, "status");
	json_t *resources _cleanup_json_ =
		s->resources ? json_pack("{s:o}", "linux", pb_json(&s->resources->base))
			     : json_object();
	json_t *j _cleanup_json_ = json_pack(
		"{s:s, s:I, s:I, s:I, s:I, s:i, s:s, s:s, s:O, s:b}", "Version", VERSION_TEXT,
		"Pid", (json_int_t)s->pid, "CreatedAt", (json_int_t)s->created_at, "StartedAt",
		(json_int_t)s->started_at, "FinishedAt", (json_int_t)s->finished_at, "ExitCode",
		(int)s->exit_code, "Reason", str_or(s->reason, ""), "Message",
		str_or(s->message, ""), "Resources", resources, "Restore", s->restore);
	_cleanup_free_ char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;

	if (!path || !text)
		return err_nomem(err);
	int r = mkdir_p(dir, 0755);
	if (r == 0)
		r = file_write_atomic(AT_FDCWD, path, text, strlen(text), 0600,
				      s->started_at || s->finished_at);
	return r < 0 ? err_errno(err, r, "write %s", path) : 0;
}

int cri_status_read(struct arena *a, const char *dir, struct cri_status *ret, struct err *err)
{
	char *path = path_join(a, dir, "status"), *text;
	json_t *j _cleanup_json_ = NULL;
	size_t n;

	if (!path)
		return err_nomem(err);
	int r = file_read(a, AT_FDCWD, path, STATUS_MAX, &text, &n);
	if (r < 0)
		return err_errno(err, r, "read %s", path);
	r = json_parse(text, n, &j, err);
	if (r < 0)
		return err_prefix(err, "%s", path);
	if (!streq(json_str(j, "Version", ""), VERSION_TEXT))
		return err_set(err, ERR_INVALID_ARGUMENT, "%s: version \"%s\" is not known", path,
			       json_str(j, "Version", ""));
	struct cri_status s = {.pid = (uint32_t)json_int(j, "Pid", 0),
			       .created_at = json_int(j, "CreatedAt", 0),
			       .started_at = json_int(j, "StartedAt", 0),
			       .finished_at = json_int(j, "FinishedAt", 0),
			       .exit_code = (int32_t)json_int(j, "ExitCode", 0),
			       .reason = arena_strdup(a, json_str(j, "Reason", "")),
			       .message = arena_strdup(a, json_str(j, "Message", "")),
			       .restore = json_bool(j, "Restore", false)};
	json_t *linux_ = json_obj(json_obj(j, "Resources"), "linux");
	if (!s.reason || !s.message)
		return err_nomem(err);
	if (linux_)
		r = json_pb(a, linux_, &runtime__v1__linux_container_resources__descriptor,
			    &s.resources, err);
	if (r < 0)
		return err_prefix(err, "%s: Resources", path);
	*ret = s;
	return 0;
}
