/* SPDX-License-Identifier: Apache-2.0 */
/* What was attached, on disk, as libcni keeps it: <cache_dir>/results/<network>-<container
 * id>-<interface>, JSON of kind "cniCacheV1". The parts of the name may contain "-" themselves:
 * what a file is about is read from its content. */
#include "cni/internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <nettle/base64.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"

#define ENTRY_MAX (4 * CNI_CONF_MAX)
#define KIND "cniCacheV1"

static char *results_dir(struct arena *a, const struct cni *cni)
{
	return path_join(a, str_or(cni->cache_dir, CNI_CACHE_DIR), "results");
}

static char *entry_path(struct arena *a, const struct cni *cni, const char *network,
			const char *container_id, const char *ifname)
{
	const char *dir = results_dir(a, cni);

	return dir ? arena_printf(a, "%s/%s-%s-%s", dir, network, container_id, ifname) : NULL;
}

/* Names become parts of a path. */
static int check_names(const char *network, const char *container_id, const char *ifname,
		       struct err *err)
{
	if (!cni_name_valid(network))
		return err_set(err, ERR_INVALID_ARGUMENT, "network name \"%.64s\"", network);
	if (!cni_name_valid(container_id))
		return err_set(err, ERR_INVALID_ARGUMENT, "container id \"%.64s\"", container_id);
	if (!cni_ifname_valid(ifname))
		return err_set(err, ERR_INVALID_ARGUMENT, "interface name \"%.64s\"", ifname);
	return 0;
}

static json_t *base64_text(struct arena *a, const char *p, size_t n)
{
	char *out = arena_alloc(a, BASE64_ENCODE_RAW_LENGTH(n) + 1);

	if (!out)
		return NULL;
	base64_encode_raw(out, n, (const uint8_t *)p);
	return json_stringn(out, BASE64_ENCODE_RAW_LENGTH(n));
}

static json_t *entry_new(struct arena *a, const struct cni_network *n,
			 const struct cni_attachment *at, const json_t *result)
{
	char *conf _cleanup_free_ = json_dumps(n->conf, JSON_COMPACT);
	json_t *o _cleanup_json_ = NULL, *args;

	if (!conf)
		return NULL;
	o = json_pack("{s:s,s:s,s:o,s:s,s:s}", "kind", KIND, "containerId", at->container_id,
		      "config", base64_text(a, conf, strlen(conf)), "ifName", at->ifname,
		      "networkName", n->name);
	if (!o || (*at->netns && json_object_set_new(o, "netns", json_string(at->netns)) < 0))
		return NULL;
	args = at->n_args ? json_arr_make(o, "cniArgs") : NULL;
	for (size_t i = 0; i < at->n_args; i++)
		if (json_array_append_new(
			    args, json_pack("[s,s]", at->args[i].key, at->args[i].value)) < 0)
			return NULL;
	if (at->capabilities && json_object_size(at->capabilities) &&
	    json_object_set_new(o, "capabilityArgs", json_deep_copy(at->capabilities)) < 0)
		return NULL;
	if (json_object_set_new(o, "result", json_deep_copy(result)) < 0)
		return NULL;
	return TAKE_PTR(o);
}

int cni_cache_save(const struct cni *cni, const struct cni_network *n,
		   const struct cni_attachment *at, const json_t *result, struct err *err)
{
	struct arena *a _cleanup_arena_ = arena_new(0);
	char *text _cleanup_free_ = NULL;
	json_t *o _cleanup_json_ = NULL;
	const char *dir, *path;
	int r;

	r = check_names(n->name, at->container_id, at->ifname, err);
	if (r < 0)
		return r;
	dir = a ? results_dir(a, cni) : NULL;
	path = dir ? entry_path(a, cni, n->name, at->container_id, at->ifname) : NULL;
	o = path ? entry_new(a, n, at, result) : NULL;
	text = o ? json_dumps(o, JSON_COMPACT) : NULL;
	if (!text)
		return err_nomem(err);
	r = mkdir_p(dir, 0700);
	if (r == 0)
		r = file_write_atomic(AT_FDCWD, path, text, strlen(text), 0600, false);
	return r < 0 ? err_errno(err, r, "write `%s`", path) : 0;
}

int cni_cache_remove(const struct cni *cni, const char *network, const char *container_id,
		     const char *ifname, struct err *err)
{
	struct arena *a _cleanup_arena_ = arena_new(0);
	const char *path;
	int r;

	r = check_names(network, container_id, ifname, err);
	if (r < 0)
		return r;
	path = a ? entry_path(a, cni, network, container_id, ifname) : NULL;
	if (!path)
		return err_nomem(err);
	if (unlink(path) < 0 && errno != ENOENT && errno != ENOTDIR)
		return err_errno(err, errno, "remove `%s`", path);
	return 0;
}

static int read_entry(const char *path, json_t **ret, struct err *err)
{
	struct arena *a _cleanup_arena_ = arena_new(0);
	json_t *o _cleanup_json_ = NULL;
	size_t len;
	char *text;
	int r;

	if (!a)
		return err_nomem(err);
	r = file_read(a, AT_FDCWD, path, ENTRY_MAX, &text, &len);
	if (r < 0)
		return err_errno(err, r, "read `%s`", path);
	r = json_parse(text, len, &o, err);
	if (r < 0)
		return err_prefix(err, "%s", path);
	if (!streq(json_str(o, "kind", ""), KIND))
		return err_set(err, ERR_INVALID_ARGUMENT, "`%s` is not of the kind %s", path, KIND);
	*ret = TAKE_PTR(o);
	return 0;
}

int cni_cached(const struct cni *cni, const char *network, const char *container_id,
	       const char *ifname, json_t **ret, struct err *err)
{
	struct arena *a _cleanup_arena_ = arena_new(0);
	const char *path;
	int r;

	r = check_names(network, container_id, ifname, err);
	if (r < 0)
		return r;
	path = a ? entry_path(a, cni, network, container_id, ifname) : NULL;
	return path ? read_entry(path, ret, err) : err_nomem(err);
}

int cni_cache_each(const struct cni *cni, const char *network,
		   int (*f)(void *arg, const json_t *entry, struct err *err), void *arg,
		   struct err *err)
{
	struct arena *a _cleanup_arena_ = arena_new(0);
	const char *dir = a ? results_dir(a, cni) : NULL;
	DIR *d _cleanup_closedir_ = dir ? opendir(dir) : NULL;
	const struct dirent *e;
	int r = 0;

	if (!dir)
		return err_nomem(err);
	if (!d)
		return errno == ENOENT ? 0 : err_errno(err, errno, "open `%s`", dir);
	while (r == 0 && (e = readdir(d))) {
		const char *rest = str_skip(e->d_name, network);
		json_t *entry _cleanup_json_ = NULL;
		const char *path;

		if (!rest || *rest != '-')
			continue;
		path = path_join(a, dir, e->d_name);
		if (!path)
			return err_nomem(err);
		/* Removed meanwhile, or not written by one of us: not ours to collect. */
		if (read_entry(path, &entry, NULL) == 0 &&
		    streq(json_str(entry, "networkName", ""), network))
			r = f(arg, entry, err);
	}
	return r;
}
