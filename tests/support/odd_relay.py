"""A scripted relay that answers as no real one does."""

from __future__ import annotations

import socket
import threading
from itertools import pairwise

from smtp_worker import in_background

from rambla_py.testing.ports import HOST


class OddRelay:
    """Greets, and answers each line that comes with the next answer; None closes the connection.

    An answer of 421 is a goodbye that nobody asked for: it is said once ``goodbye`` is set. After 354 it reads
    the mail, unless ``read_data`` is off.
    """

    def __init__(self, *answers: bytes | None, read_data: bool = True) -> None:
        self.settlements, self.read_data = list(answers), read_data
        self.heard: list[bytes] = []
        self.goodbye = threading.Event()
        self._listener = socket.create_server((HOST, 0))
        self.port = self._listener.getsockname()[1]
        self._thread = in_background(self._serve)

    def __enter__(self) -> OddRelay:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self._thread.join(5)

    def _serve(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        with client, client.makefile("rb") as lines:
            client.settimeout(10)
            for answer, following in pairwise([*self.settlements, b""]):
                if answer is None:
                    return
                client.sendall(answer)
                if answer.startswith(b"354") and self.read_data:
                    while lines.readline() not in (b".\r\n", b""):
                        pass
                elif following is not None and following.startswith(b"421"):
                    self.goodbye.wait(10)
                else:
                    self.heard.append(lines.readline())


HELLO = (b"220 odd\r\n", b"250-odd\r\n250 PIPELINING\r\n")
PLAIN = (b"220 odd\r\n", b"250-odd\r\n250 SIZE\r\n")
