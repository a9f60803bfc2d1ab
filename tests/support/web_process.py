"""The web server of tests in a process of its own. It wants a login, and refuses what holds ``poison``."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from kept_lines import KeepingServer, serve
from web_server import Reply, Seen, WebServer

LOGIN = ("shop", "right")


class WebProcess(KeepingServer):
    """Answers 200 ``thanks`` to what it has kept."""

    program = __file__

    def seen(self, path: str) -> list[Seen]:
        """Return the requests to a path that were answered well, and perhaps one more after a kill."""
        found = [msgspec.json.decode(line, type=Seen) for line in self.lines()]
        return [seen for seen in found if seen.path == path]


def _prepare(server: WebServer, keep: Callable[[bytes], None]) -> None:
    def answer(seen: Seen) -> Reply:
        if b"poison" in seen.body:
            return Reply(422, b"no poison, please")
        keep(msgspec.json.encode(seen))
        return Reply(200, b"thanks")

    server.login, server.answer = LOGIN, answer


if __name__ == "__main__":
    serve(_prepare)
