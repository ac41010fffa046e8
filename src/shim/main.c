/* SPDX-License-Identifier: Apache-2.0 */
/* containerd-shim-runc-v2: stands between a daemon and the OCI runtime for the containers of one
 * pod. */
#include <stdio.h>

#include "base/str.h"
#include "shim/args.h"
#include "shim/bootstrap.h"
#include "version.h"

static int dispatch(const struct shim_args *args, struct err *err)
{
	if (args->version) {
		dprintf(1, "containerd-shim-runc-v2:\n  Version:  %s\n  Revision: %s\n\n", VERSION,
			REVISION);
		return 0;
	}
	if (args->info)
		return action_info(args, err);
	if (streq(args->action, "start"))
		return action_start(args, err);
	if (streq(args->action, "delete"))
		return action_delete(args, err);
	return err_set(err, ERR_INVALID_ARGUMENT, "the action is start or delete, not `%s`",
		       args->action);
}

int main(int argc, char **argv)
{
	struct shim_args args;
	struct err err = ERR_INIT;

	if (shim_args_parse(argc, argv, &args, &err) < 0) {
		dprintf(2, "containerd-shim-runc-v2: %s\n", err.text);
		return 2;
	}
	if (dispatch(&args, &err) < 0) {
		dprintf(2, "containerd-shim-runc-v2: %s\n", err.text);
		return 1;
	}
	return 0;
}
