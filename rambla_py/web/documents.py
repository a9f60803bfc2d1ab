"""What the routes of the operations application answer, as plain data."""

from __future__ import annotations

import os
import socket
import sys
import time
from functools import cached_property
from typing import Any, Final

import msgspec

from rambla_py._internal.redaction import Redactor
from rambla_py.app import Rambla
from rambla_py.errors import OptionError, RamblaError
from rambla_py.telemetry.error_text import ErrorText
from rambla_py.telemetry.exposition import Exposition

__all__ = ["Documents"]

_MOST_DEAD: Final = 100


class Documents:
    """Reads an app for the routes. Thread-safe; nothing is read but for a request."""

    def __init__(self, app: Rambla, title: str | None) -> None:
        self._app = app
        self._name = title or app.config.rambla.telemetry.name or "rambla"
        self.error_text = ErrorText(app.config.secrets)
        self._exposition = Exposition(app)

    def status(self) -> dict[str, Any]:
        """Return the process, and the status of each target."""
        app, lifecycle, now = self._app, self._app._lifecycle, time.monotonic()
        started_at = lifecycle.started_at
        return {
            "at": time.time(),
            "name": self._name,
            "version": sys.modules["rambla_py"].__version__,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "uptime_s": None if started_at is None else round(now - started_at, 3),
            "state": lifecycle.state,
            "targets": {name: target.to_dict() for name, target in app.status().items()},
        }

    def failures(self, channel: str | None, limit: str | None) -> dict[str, Any]:
        """Return groups of failures, and of dead letters where an outbox is configured.

        Raises ``UnknownChannelError``, and ``OptionError`` for a limit.
        """
        if limit is not None and not (limit.isascii() and limit.isdigit() and len(limit) < 10):
            raise OptionError("limit", f"expected an integer >= 1, got {limit[:20]!r}")
        groups = self._app.failures(channel, 100 if limit is None else int(limit))
        found = {"at": time.time(), "groups": [msgspec.to_builtins(group) for group in groups]}
        return found if self._app.config.rambla.outbox is None else found | self._dead(channel)

    def _dead(self, channel: str | None) -> dict[str, Any]:
        """Return the groups of dead letters, the newest first, or why they cannot be read."""
        try:
            groups = self._app.outbox.groups(channel=channel)
        except RamblaError as error:
            return {"dead": [], "dead_error": self.error_text(error)}
        groups.sort(key=lambda group: group.last_at, reverse=True)
        return {"dead": [msgspec.to_builtins(group) for group in groups[:_MOST_DEAD]]}

    def plan(self) -> dict[str, Any]:
        """Return the supervision tree; raises what a handler's ``external_servers`` raises."""
        return self._plan

    def metrics(self) -> bytes:
        """Return the metrics as Prometheus reads them."""
        return self._exposition.text()

    @cached_property
    def _plan(self) -> dict[str, Any]:
        """The plan, made once: to make it calls code of handlers."""
        data: dict[str, Any] = _masked(self._app.plan.as_data(), Redactor(self._app.config.secrets))
        return data


def _masked(value: Any, redactor: Redactor) -> Any:
    if isinstance(value, str):
        return redactor.text(value)
    if isinstance(value, dict):
        return {key: _masked(item, redactor) for key, item in value.items()}
    return [_masked(item, redactor) for item in value] if isinstance(value, list) else value
