/* SPDX-License-Identifier: Apache-2.0 */
/* Plugins of proxy_plugins: each is a connection (plugins/proxy) and the back end that stands on
 * it.
 *
 * Nothing is connected here, so a plugin whose process does not run yet is as good as any other. */
#include "base/path.h"
#include "base/str.h"
#include "daemon/config.h"
#include "daemon/daemon_internal.h"
#include "plugins/proxy/backends.h"

static void snapshotter_stop(void *p)
{
	struct snapshotter *s = p;
	s->ops->free(s);
}

static void content_stop(void *p)
{
	struct content_store *s = p;
	s->ops->free(s);
}

static void differ_stop(void *p)
{
	struct differ *d = p;
	d->ops->free(d);
}

static bool has_capability(const struct plugin_init *in, const char *name)
{
	for (const char *const *c = in->plugin->capabilities; c && *c; c++)
		if (streq(*c, name))
			return true;
	return false;
}

static int make_snapshotter(struct plugin_init *in, struct proxy *p, struct err *err)
{
	struct snapshotter *s;
	int r = proxy_snapshotter_new(p, has_capability(in, "rebase"), &s, err);
	if (r < 0)
		return r;
	in->instance = s;
	in->stop = snapshotter_stop;
	return 0;
}

static int make_content(struct plugin_init *in, struct proxy *p, struct err *err)
{
	const char *spool = path_join(in->arena, in->root, "spool");
	struct content_store *s;
	int r = spool ? proxy_content_new(p, spool, &s, err) : err_nomem(err);
	if (r < 0)
		return r;
	in->instance = s;
	in->stop = content_stop;
	return 0;
}

static int make_differ(struct plugin_init *in, struct proxy *p, struct err *err)
{
	struct differ *d;
	int r = proxy_differ_new(p, &d, err);
	if (r < 0)
		return r;
	in->instance = d;
	in->stop = differ_stop;
	return 0;
}

static void controller_stop(void *p)
{
	struct sandbox_controller *c = p;
	c->ops->free(c);
}

static int make_controller(struct plugin_init *in, struct proxy *p, struct err *err)
{
	struct sandbox_controller *c;
	int r = proxy_controller_new(p, &c, err);
	if (r < 0)
		return r;
	in->instance = c;
	in->stop = controller_stop;
	return 0;
}

int plugin_proxy_init(struct plugin_init *in, struct err *err)
{
	static const struct {
		const char *type;
		int (*make)(struct plugin_init *in, struct proxy *p, struct err *err);
	} kinds[] = {
		{PLUGIN_TYPE("snapshotter.v1"), make_snapshotter},
		{PLUGIN_TYPE("content.v1"), make_content},
		{PLUGIN_TYPE("differ.v1"), make_differ},
		{PLUGIN_TYPE("sandbox.controller.v1"), make_controller},
	};
	struct daemon *d = in->daemon;
	struct proxy *p;
	if (d->n_proxies == DAEMON_PROXIES_MAX)
		return err_set(err, ERR_RESOURCE_EXHAUSTED, "more than %d proxy plugins",
			       DAEMON_PROXIES_MAX);
	int r = proxy_new(d->loop, in->plugin->id,
			  config_get_string(plugin_proxy_config(in), "address"), &p, err);
	if (r < 0)
		return r;
	d->proxies[d->n_proxies++] = p;
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		if (streq(kinds[i].type, in->plugin->type))
			return kinds[i].make(in, p, err);
	return err_set(err, ERR_INTERNAL, "proxy plugin of type %s", in->plugin->type);
}

void proxies_disconnect(struct daemon *d)
{
	for (size_t i = 0; i < d->n_proxies; i++)
		proxy_disconnect(d->proxies[i]);
}

void proxies_free(struct daemon *d)
{
	for (size_t i = 0; i < d->n_proxies; i++)
		proxy_free(d->proxies[i]);
	d->n_proxies = 0;
}
