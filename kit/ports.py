"""Choosing a port to listen on."""

from __future__ import annotations

import random
import socket

# Below the ephemeral ranges of Linux (32768-60999) and of macOS (49152-65535).  A port from those
# can be lost while its owner restarts: a client that keeps trying to reach it is given that very
# port as its own, connects to itself, and the owner finds the address in use.
LOWEST, HIGHEST = 15_000, 31_999
TRIES = 100


def free_port() -> int:
    """A TCP port on loopback that nobody listened on a moment ago.  Raises OSError."""
    for _ in range(TRIES):
        port = random.randint(LOWEST, HIGHEST)
        if is_free(port):
            return port
    raise OSError(f"no free port was found between {LOWEST} and {HIGHEST}")


def is_free(port: int) -> bool:
    """Whether a listener could bind the port on loopback at this moment."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
