/* SPDX-License-Identifier: Apache-2.0 */
#include "cri/config.h"

#include "base/str.h"

const struct cri_handler *cri_config_handler(const struct cri_config *c, const char *name)
{
	name = str_or(name, c->default_handler);
	for (size_t i = 0; i < c->n_handlers; i++)
		if (streq(c->handlers[i].name, name))
			return &c->handlers[i];
	return NULL;
}

const char *cri_config_snapshotter(const struct cri_config *c, const struct cri_handler *h)
{
	return h ? str_or(h->snapshotter, c->snapshotter) : c->snapshotter;
}
