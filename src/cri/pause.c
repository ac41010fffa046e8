/* SPDX-License-Identifier: Apache-2.0 */
#include "cri/pause.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "src/pause/pause_blob.h"

bool cri_pause_own(const struct cri_config *c)
{
	return str_empty(c->sandbox_image) || streq(c->sandbox_image, CRI_PAUSE_IMAGE_DEFAULT);
}

int cri_pause_install(const struct cri *c, struct err *err)
{
	static const char *const dirs[] = {"dev", "etc", "proc", "sys", "tmp"};
	_cleanup_arena_ struct arena *a = arena_new(0);
	char *root = a ? path_join(a, c->o.root, "pause") : NULL, *p;
	int r = root ? 0 : err_nomem(err);

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(dirs); i++) {
		p = path_join(a, root, dirs[i]);
		r = p ? mkdir_p(p, 0755) : -ENOMEM;
		if (r < 0)
			return err_errno(err, r, "make %s/%s", root, dirs[i]);
	}
	if (r < 0)
		return r;
	_cleanup_close_ int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "open %s", root);
	r = file_write(fd, "etc/resolv.conf", "", 0, 0644);
	/* Replaced as a whole: an older one may be running. */
	if (r == 0)
		r = file_write_atomic(fd, "pause", pause_blob, sizeof(pause_blob), 0755, false);
	return r < 0 ? err_errno(err, r, "write %s/pause", root) : 0;
}

int cri_pause_rootfs(const struct cri *c, struct arena *a, struct mounts *ret, json_t **ret_config,
		     struct err *err)
{
	struct mount *m = arena_new_obj(a, struct mount);
	const char **options = arena_new_array(a, const char *, 2);
	char *root = path_join(a, c->o.root, "pause");
	json_t *config = json_pack("{s:[s], s:s}", "Entrypoint", "/pause", "WorkingDir", "/");

	if (!m || !options || !root || !config) {
		json_decref(config);
		return err_nomem(err);
	}
	options[0] = "rbind";
	options[1] = "ro";
	*m = (struct mount){
		.type = "bind", .source = root, .target = "", .options = options, .n_options = 2};
	*ret = (struct mounts){.v = m, .n = 1};
	*ret_config = config;
	return 0;
}
