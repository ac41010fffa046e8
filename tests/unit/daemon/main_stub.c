/* SPDX-License-Identifier: Apache-2.0 */
/* A daemon that only says what it was started with, for tests of the command line. */
#include <stdio.h>

#include "base/log.h"
#include "daemon/commands.h"
#include "daemon/daemon.h"

#define TABLE(c, id) config_plugin(c, "io.containerd.server.v1." id)

int daemon_run(const struct config *config, struct err *err)
{
	if (config->oom_score == 13)
		return err_set(err, ERR_UNAVAILABLE, "unlucky");
	printf("root=%s state=%s level=%s grpc=%s ttrpc=%s uid=%d\n", config->root, config->state,
	       log_level_name(log_level_get()), config_get_string(TABLE(config, "grpc"), "address"),
	       config_get_string(TABLE(config, "ttrpc"), "address"),
	       (int)config_get_int(TABLE(config, "ttrpc"), "uid"));
	return 0;
}

int command_publish(const char *address, char **args, struct err *err)
{
	printf("publish to %s:", address);
	for (; *args; args++)
		printf(" %s", *args);
	puts("");
	return 0;
}

int command_oci_hook(char **args, struct err *err)
{
	return err_set(err, ERR_NOT_FOUND, "hook %s", args[0] ? args[0] : "none");
}
