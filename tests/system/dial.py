# SPDX-License-Identifier: Apache-2.0
"""Connections of the tests' own clients."""

import grpc


def dial(target, options=()):
    """A channel of its own, for an address of a socket or of a host.

    It is watched, that is, read also between calls, as a client in Go does: without that it would learn from its next call only that the
    daemon had gone and come back, and that call would be lost."""
    channel = grpc.insecure_channel(f"unix:{target}" if str(target).startswith("/") else target, options=[("grpc.use_local_subchannel_pool", 1), *options])
    channel.subscribe(lambda state: None)
    return channel
