/* SPDX-License-Identifier: Apache-2.0 */
/* The roles of containerd-worker: run on the control socket until the daemon closes it; the
 * process's exit code. */
#pragma once

int role_unpack(int sock);
int role_pack(int sock);
int role_recompress(int sock);
int role_fetch(int sock);
int role_front(int sock);
