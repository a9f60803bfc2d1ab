"""What is done to each app of the process when it starts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["AtStart", "at_start"]


class AtStart:
    """The function that instruments apps, if there is one; set by the instrumentor of OpenTelemetry.

    It is called at each start of an app, and instruments it once.
    """

    def __init__(self) -> None:
        self.instrument: Callable[[Any], object] | None = None

    def __call__(self, app: Any) -> None:
        """Instrument an app that starts."""
        if self.instrument is not None:
            self.instrument(app)


at_start = AtStart()
"""The only one of the process: ``opentelemetry-instrument`` knows processes, not apps."""
