"""What a channel's handler needs beside it: an external server, and how it is started and stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

__all__ = ["ChildSpec", "Command", "ExternalServer"]


class ChildSpec(msgspec.Struct, frozen=True):
    """An external server of any kind: how it starts, stops, and shows that it is alive.

    ``start()`` returns a handle that ``stop(handle)`` and ``alive(handle)`` are given, and that the handler
    finds as ``self.servers[id]``. A pykka actor class may be given as ``start``; its handle is the reference.
    Without ``alive`` the server is taken to live until it is stopped.
    """

    id: str
    start: Callable[[], Any]
    stop: Callable[[Any], None] | None = None
    alive: Callable[[Any], bool] | None = None


class Command(msgspec.Struct, frozen=True):
    """An external server that is a program: ended with its process group, ready when its port answers.

    ``ready`` is ``tcp://host:port``, ``http://...`` (any answer below 500), ``file:///path``
    (exists), or None. ``env`` is added to the environment. ``id``, the program unless it is given, is the
    key in ``self.servers``, where the handler finds the ``subprocess.Popen``.

    >>> command = Command(["redis-server", "--port", "6380"], ready="tcp://127.0.0.1:6380")
    >>> command.id, command.ready_timeout_s
    ('redis-server', 30.0)
    """

    argv: Sequence[str]
    ready: str | None = None
    env: dict[str, str] | None = None
    cwd: str | None = None
    ready_timeout_s: float = 30.0
    id: str = ""

    def __post_init__(self) -> None:
        if not self.id and self.argv:
            msgspec.structs.force_setattr(self, "id", self.argv[0])


ExternalServer = ChildSpec | Command | type
"""What ``external_servers`` may list; a type is a pykka actor class."""
