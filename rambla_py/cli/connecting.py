"""The time-out of ``rambla publish`` for targets that do not connect."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

from rambla_py.app import Rambla
from rambla_py.cli.advice import advice
from rambla_py.config import ChannelConfig
from rambla_py.status import TargetStatus

__all__ = ["ConnectWatch"]

_CONNECTED: Final = frozenset({"up", "blocked"})


class ConnectWatch:
    """Finds a target with messages that has not connected within ``limit_s`` of its first message.

    A target whose credentials or certificate are refused is not waited for. Those with a fallback are left
    out: their messages go there. ``unconnected`` says which target was found, and why; ``hint`` what to do.
    """

    def __init__(self, app: Rambla, limit_s: float) -> None:
        self.unconnected: str | None = None
        self.hint: str | None = None
        self._app, self._limit_s = app, limit_s
        channels = app.config.every_channel()
        self._waiting = {one.name: one for one in channels if one.enabled and not one.fallback}
        self._since: dict[str, float] = {}

    def gave_up(self) -> bool:
        """Look at the targets, and return whether one will not connect; cheap once all have connected."""
        if self._waiting and self.unconnected is None:
            for name, status in self._app.status().items():
                if name in self._waiting:
                    self._look(self._waiting[name], status)
        return self.unconnected is not None

    def is_waiting(self) -> bool:
        """Return whether a target with messages has not connected yet."""
        return self._has_messages(self._waiting)

    def others_ended(self) -> bool:
        """Return whether the targets that have connected have no message left."""
        return not self._has_messages(name for name in self._app.audit() if name not in self._waiting)

    def _has_messages(self, names: Iterable[str]) -> bool:
        audits = self._app.audit()
        return any(audits[name].pending for name in names)

    def _look(self, config: ChannelConfig, status: TargetStatus) -> None:
        if status.state in _CONNECTED or status.last_ok_at is not None:
            del self._waiting[config.name]
        elif status.queued or status.in_flight:
            now = time.monotonic()
            waited_s = now - self._since.setdefault(config.name, now)
            refused = status.state == "down" and (status.last_error or "").startswith("AccessError")
            if refused or waited_s >= self._limit_s:
                self._give_up(config, status, refused=refused)

    def _give_up(self, config: ChannelConfig, status: TargetStatus, *, refused: bool) -> None:
        error = status.last_error or "no error was reported"
        table = f"{config.service}.connections.{config.connection}"
        lead = "cannot connect" if refused else f"not connected within --connect-timeout = {self._limit_s:g}"
        self.unconnected = f"{config.name}: {lead}: {error}"
        self.hint = advice(None, error, connection=table)
