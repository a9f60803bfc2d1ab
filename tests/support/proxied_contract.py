"""What contract suites of servers share, which stand behind a fault proxy and may be killed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from rambla_py.testing import FaultProxy, HandlerContract, Server


class ProxiedContract(HandlerContract):
    """A suite whose server is reached through ``proxy``, which cuts its connections."""

    proxy: FaultProxy
    answer_bytes: ClassVar[int] = 300
    mid_batch_bytes: ClassVar[int] = 6_000

    def impatient(self) -> Mapping[str, Any]:
        return self.at(self.proxy.host, self.proxy.port)

    def hang_up(self) -> None:
        self.proxy.reset()

    def cut(self) -> None:
        self.proxy.cut_after(self.answer_bytes, direction="down")  # written, and the answer lost
        self.proxy.cut_after(self.mid_batch_bytes)  # and in the midst of a write

    def cuts(self) -> int:
        return self.proxy.cuts


class KilledContract(ProxiedContract):
    """A suite whose ``server`` may be silenced, and killed before its answer has arrived."""

    server: Server
    killed = 0

    def silence(self) -> None:
        self.proxy.black_hole()

    def die(self) -> None:
        self.proxy.cut_after(self.answer_bytes, direction="down", then=self.kill_and_start)

    def kill_and_start(self) -> None:
        self.server.kill()
        self.server.start()
        self.killed += 1

    def deaths(self) -> int:
        return self.killed
