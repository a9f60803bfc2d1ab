"""Dead letters of deliveries, and of rows that no channel takes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rambla_py.errors import PermanentError, describe
from rambla_py.outbox.dead import letter_from
from rambla_py.outbox.rows import Letter, Progress, Row

if TYPE_CHECKING:
    from rambla_py.delivery import LiveDelivery
    from rambla_py.runtime.target.target import Target

__all__ = ["SetAsideError", "letter_of", "letter_without_target"]


class SetAsideError(PermanentError):
    """A stored message that cannot be attempted; ``code`` is the reason of its dead letter."""

    def __init__(self, code: str, reason: str) -> None:
        self.code = code
        super().__init__(reason)


def letter_of(target: Target, delivery: LiveDelivery) -> Letter:
    """Return the dead letter of a fatal delivery."""
    stored = delivery.stored
    assert stored is not None
    error = delivery.error or PermanentError("no reason was given")
    row: Row = stored.row
    text = target.error_text(error)
    progress = Progress.load(row.progress)
    progress.attempts = delivery.attempts
    progress.failed(time.time(), text)
    row.progress = progress.dump()
    return letter_from(
        row,
        progress,
        error=error,
        text=text,
        handler=target.config.handler.__name__,
        died=time.time(),
        reason=error.code if isinstance(error, SetAsideError) else "fatal",
    )


def letter_without_target(row: Row) -> Letter:
    """Return the dead letter of a row whose channel is not in the configuration."""
    error = SetAsideError("no channel", f"{row.target} is not in the configuration")
    try:
        progress = Progress.load(row.progress)
    except ValueError:
        progress = Progress()
    return letter_from(
        row,
        progress,
        error=error,
        text=describe(error),
        handler="",
        died=time.time(),
        reason=error.code,
    )
