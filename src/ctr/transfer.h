/* SPDX-License-Identifier: Apache-2.0 */
/* Transfers as commands make them: with the progress shown. */
#pragma once

#include <stdio.h>

#include "client/transfer.h"
#include "ctr/ctr.h"

/* Connects, and begins a transfer. */
int transfer_begin(struct ctr *c, struct client_transfer **ret, struct err *err) _must_check_;
/* Makes the call. Progress goes to @out: redrawn when that is a terminal, else a line for each
 * change. */
int transfer_show(struct client_transfer *t, const ProtobufCMessage *source,
		  const ProtobufCMessage *destination, FILE *out, struct err *err) _must_check_;
