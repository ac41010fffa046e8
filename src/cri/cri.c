/* SPDX-License-Identifier: Apache-2.0 */
/* The life of the CRI plugin. */
#include "cri/cri.h"

#include <stdlib.h>

#include "base/path.h"
#include "base/time.h"
#include "cri/internal.h"

int cri_new(const struct cri_options *o, struct cri **ret, struct err *err)
{
	struct cri *c = calloc(1, sizeof(*c));

	if (!c)
		return err_nomem(err);
	c->o = *o;
	c->config = o->config;
	c->pods = cri_table_new("sandbox");
	c->containers = cri_table_new("container");
	if (!c->pods || !c->containers) {
		cri_free(c);
		return err_nomem(err);
	}
	*ret = c;
	return 0;
}

int cri_recover(struct ctx *ctx, struct cri *c, struct err *err)
{
	return 0;
}

void cri_set_ready(struct cri *c)
{
	c->ready = true;
}

void cri_stop(struct cri *c)
{
	c->stopping = true;
}

void cri_free(struct cri *c)
{
	if (!c)
		return;
	cri_table_free(c->containers);
	cri_table_free(c->pods);
	free(c);
}

int cri_of(struct rpc_call *call, struct cri **ret, struct err *err)
{
	struct cri *c = rpc_data(call);

	if (!c->ready)
		return err_set(err, ERR_UNAVAILABLE, "server is not initialized yet");
	rpc_ctx(call)->ns = CRI_NS;
	*ret = c;
	return 0;
}

struct ctx cri_background(const struct cri *c, struct arena *a, int64_t timeout_ns)
{
	return (struct ctx){.arena = a,
			    .ns = CRI_NS,
			    .lease = "",
			    .deadline = timeout_ns ? time_mono() + timeout_ns : 0};
}

static char *below(struct arena *a, const char *dir, const char *kind, const char *id)
{
	char *p = path_join(a, dir, kind);
	return p ? path_join(a, p, id) : NULL;
}

char *cri_pod_root(const struct cri *c, struct arena *a, const char *id)
{
	return below(a, c->o.root, "sandboxes", id);
}

char *cri_pod_state_dir(const struct cri *c, struct arena *a, const char *id)
{
	return below(a, c->o.state, "sandboxes", id);
}

char *cri_container_root(const struct cri *c, struct arena *a, const char *id)
{
	return below(a, c->o.root, "containers", id);
}

char *cri_container_state_dir(const struct cri *c, struct arena *a, const char *id)
{
	return below(a, c->o.state, "containers", id);
}
