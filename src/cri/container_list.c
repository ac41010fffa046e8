/* SPDX-License-Identifier: Apache-2.0 */
/* Containers of a pod, and whether it may have some. */
#include "base/str.h"
#include "cri/container.h"

int cri_pod_is_ready(struct cri_pod *p, struct err *err)
{
	MUTEX_GUARD(&p->o.lock);

	if (p->state == CRI_POD_READY)
		return 0;
	return err_set(err, ERR_UNKNOWN, "sandbox container \"%s\" is not running", p->o.id);
}

int cri_pod_containers(struct ctx *ctx, struct cri *c, const char *pod_id,
		       struct cri_container ***ret, size_t *ret_n, struct err *err)
{
	struct cri_object **v;
	size_t n, kept = 0;
	int r = cri_table_list(c->containers, ctx->arena, &v, &n, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++)
		if (streq(((struct cri_container *)v[i])->pod_id, pod_id))
			v[kept++] = v[i];
		else
			cri_object_unref(v[i]);
	*ret = (struct cri_container **)v;
	*ret_n = kept;
	return 0;
}
