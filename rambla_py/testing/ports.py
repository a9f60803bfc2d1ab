"""Free ports for private servers."""

from __future__ import annotations

import random
import socket
from collections import deque
from pathlib import Path

__all__ = ["HOST", "free_port"]

HOST = "127.0.0.1"

_given: deque[int] = deque(maxlen=1_000)


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nothing listens on, below the range that clients are given.

    A port of the ephemeral range would be unsafe for a server that goes away and comes back: another
    connection may take it meanwhile, and a client that reconnects may even be connected to itself. The last
    thousand that it returned are not returned again: their servers may be about to start, or away.

    Raises ``OSError`` when a hundred ports in turn were taken.

    >>> 1024 < free_port() < 65536
    True
    """
    lowest = _first_ephemeral_port()
    for _ in range(100):
        port = random.randrange(max(lowest - 12_000, 1_100), lowest)
        if port not in _given and _is_free(port):
            _given.append(port)
            return port
    raise OSError(f"found no free port of {HOST} below {lowest}")


def _first_ephemeral_port() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        return 32_768


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
