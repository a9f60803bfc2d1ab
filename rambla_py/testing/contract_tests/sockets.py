"""Contract tests: sockets that a lost connection, or the stop, leaves open."""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rambla_py.testing.contract_case import SOME, HandlerCase
from rambla_py.testing.flags import only_if
from rambla_py.testing.harness import CHANNEL, until

__all__ = ["SocketTests"]

_FDS = Path("/proc/self/fd")
_SOCKET = "socket:["


class SocketTests(HandlerCase):
    """Of sockets: once the app is stopped none is open, and none was left to the garbage collector."""

    @only_if("has_server")
    def test_the_stop_leaves_no_socket(self) -> None:
        """After messages that were delivered."""
        with self._no_socket_left(), self.trial() as trial:
            assert trial.publish(self.payload(1)).status == "ok"

    @only_if("has_server")
    def test_a_connect_that_is_refused_leaves_no_socket(self) -> None:
        """Nothing listens there."""
        with self._no_socket_left(), self.trial(self.unreachable()) as trial:
            trial.app.publish(CHANNEL, self.payload(1))
            assert until(lambda: trial.reconnects() >= 2)
            trial.stop(timeout_s=0.2)

    @only_if("has_login")
    def test_a_login_that_is_refused_leaves_no_socket(self) -> None:
        """The socket is open, the login fails."""
        with self._no_socket_left(), self.trial(self.wrong_password()) as trial:
            trial.app.publish(CHANNEL, self.payload(1))
            assert until(lambda: trial.reconnects() >= 1 or trial.status().state == "down")
            trial.stop(timeout_s=0.2)

    @only_if("can_cut")
    def test_a_connection_that_is_cut_leaves_no_socket(self) -> None:
        """In the middle of a batch."""
        with self._no_socket_left(), self.trial() as trial:
            self.publish_over_a_cut(trial)

    @only_if("can_silence")
    def test_a_server_that_falls_silent_leaves_no_socket(self) -> None:
        """With messages in flight, and while the worker connects again."""
        channel = {"attempt_timeout_s": 1.0, "on_unknown": "report"}
        with self._no_socket_left():
            with self.trial(self.impatient(), **channel) as trial:
                assert trial.publish(self.payload(SOME)).status == "ok"
                self.silence()
                trial.publish_many(self.payloads(3), expires_s=1.5)
                trial.app.publish(CHANNEL, self.payload(4))
                trial.stop(timeout_s=0.2)
            self.end_silence()

    @only_if("can_silence")
    def test_a_stop_during_a_connect_leaves_no_socket(self) -> None:
        """The server accepts the connection and sends nothing."""
        with self._no_socket_left():
            self.silence()
            with self.trial(self.impatient()) as trial:
                trial.app.publish(CHANNEL, self.payload(1))
                assert until(lambda: trial.status().workers == ["connecting"])
                trial.stop(timeout_s=0.2)
            self.end_silence()

    @contextmanager
    def _no_socket_left(self) -> Iterator[None]:
        with self.trial() as trial:  # what a driver opens once for the whole process is open from now on
            assert trial.publish(self.payload(0)).status == "ok"
        _collect()
        before = _open_sockets()

        def left_open() -> list[str]:
            return [_at(inode) for inode in _open_sockets() - before]

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ResourceWarning)
            yield
            self.hang_up()
            assert until(lambda: not left_open(), self.release_s), f"left open: {left_open()}"
            gc.collect()
        collected = [str(one.message) for one in caught if one.category is ResourceWarning]
        assert not collected, f"left to the garbage collector: {collected}"


def _collect() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # an earlier test's
        gc.collect()


def _open_sockets() -> set[str]:
    """Return the inodes of the sockets of this process; none where there is no /proc."""
    found = set()
    for name in os.listdir(_FDS) if _FDS.is_dir() else ():
        with suppress(OSError):  # closed meanwhile
            target = os.readlink(_FDS / name)
            if target.startswith(_SOCKET):
                found.add(target.removeprefix(_SOCKET).rstrip("]"))
    return found


def _at(inode: str) -> str:
    """Return the ports of a socket, for the report."""
    for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[9] == inode:
            local, remote = (int(address.rpartition(":")[2], 16) for address in fields[1:3])
            return f"port {local}, to port {remote}"
    return f"socket {inode}"
