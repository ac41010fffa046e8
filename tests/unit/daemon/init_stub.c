/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in for the init functions that the table of plugins names: tests of configuration and
 * graph need none of them. */
#include "daemon/plugin_inits.h"

#define SKIP_INIT(name)                                                   \
	int plugin_##name##_init(struct plugin_init *in, struct err *err) \
	{                                                                 \
		(void)in;                                                 \
		return plugin_skip(err, "not part of this program");      \
	}

PLUGIN_INITS(SKIP_INIT)
