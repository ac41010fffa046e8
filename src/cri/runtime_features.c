/* SPDX-License-Identifier: Apache-2.0 */
#include "cri/runtime_features.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/utsname.h>

#include "base/json.h"
#include "base/log.h"
#include "base/str.h"
#include "cri/task.h"
#include "sys/attach.h"

static bool has(const json_t *array, const char *word)
{
	size_t i;
	json_t *v;

	json_array_foreach (array, i, v)
		if (json_is_string(v) && streq(json_string_value(v), word))
			return true;
	return false;
}

static bool kernel_at_least(int major, int minor)
{
	struct utsname u;
	int x = 0, y = 0;

	return uname(&u) == 0 && sscanf(u.release, "%d.%d", &x, &y) == 2 &&
	       (x > major || (x == major && y >= minor));
}

/* https://github.com/opencontainers/runtime-spec/blob/main/features.md */
static void read_features(const Containerd__Types__RuntimeInfo *info, struct cri_features *f)
{
	json_t *j _cleanup_json_ = info->features
					   ? json_loadb((const char *)info->features->value.data,
							info->features->value.len, 0, NULL)
					   : NULL;
	const json_t *l = json_obj(j, "linux");

	f->recursive_read_only = has(json_arr(j, "mountOptions"), "rro") && kernel_at_least(5, 12);
	f->user_namespaces =
		has(json_arr(l, "namespaces"), "user") &&
		json_bool(json_obj(json_obj(l, "mountExtensions"), "idmap"), "enabled", false);
	for (size_t i = 0; i < info->n_annotations; i++)
		if (streq(info->annotations[i]->key, SHIM_LOG_ANNOTATION))
			f->shim_log = streq(info->annotations[i]->value, "true");
}

static int ask(struct ctx *ctx, const struct cri_handler *h, struct cri_features *f,
	       struct err *err)
{
	Containerd__Types__RuntimeInfo *info;
	struct any options, answer;
	int r = cri_runtime_options(ctx->arena, h, &options, err);

	if (r == 0)
		r = runtime_info(ctx, str_or(h->path, h->type), &options, &answer, err);
	if (r == 0)
		r = rpc_unpack(ctx->arena, &containerd__types__runtime_info__descriptor,
			       answer.value, answer.len, &info, err);
	if (r == 0)
		read_features(info, f);
	return r;
}

struct cri_features cri_runtime_features(struct ctx *ctx, struct cri *c,
					 const struct cri_handler *h)
{
	size_t i = (size_t)(h - c->config->handlers);
	struct cri_features f = {0};
	struct err err = ERR_INIT;

	pthread_mutex_lock(&c->features_lock);
	bool known = c->features_known[i];
	if (known)
		f = c->features[i];
	pthread_mutex_unlock(&c->features_lock);
	if (known)
		return f;
	/* Without the lock: a shim that hangs keeps nobody from the others. */
	if (ask(ctx, h, &f, &err) < 0) {
		log_warn("runtime handler %s: ask for its features: %s", h->name, err.text);
		/* A request that was over proves nothing. */
		if (ctx_check(ctx, NULL) < 0)
			return f;
	}
	MUTEX_GUARD(&c->features_lock);
	c->features[i] = f;
	c->features_known[i] = true;
	return f;
}
