/* SPDX-License-Identifier: Apache-2.0 */
/* What services share: the conversions of core/pb.h, and replies that several send. */
#pragma once

#include "core/pb.h"
#include "rpc/rpc.h"

/* Answers google.protobuf.Empty. */
int pb_send_empty(struct rpc_call *call, struct err *err) _must_check_;

/* For who was asked to wait for it, when services.gc is NULL. */
int gc_disabled(struct err *err);
