/* SPDX-License-Identifier: Apache-2.0 */
#include "services/pb.h"

int pb_send_empty(struct rpc_call *call, struct err *err)
{
	Google__Protobuf__Empty empty = GOOGLE__PROTOBUF__EMPTY__INIT;
	return rpc_send(call, &empty.base, err);
}

int gc_disabled(struct err *err)
{
	return err_set(err, ERR_FAILED_PRECONDITION,
		       "the garbage collector is disabled, nobody can wait for it");
}
