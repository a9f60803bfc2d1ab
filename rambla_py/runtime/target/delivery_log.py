"""Log lines about the deliveries of one target."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from rambla_py.errors import DroppedError, UnknownOutcomeError
from rambla_py.telemetry.records import error_extra, log_extra, target_extra
from rambla_py.telemetry.repeats import Repeats

if TYPE_CHECKING:
    from rambla_py.config.schema import ChannelConfig
    from rambla_py.delivery import LiveDelivery
    from rambla_py.outcome import Status

__all__ = ["STOPPED", "DeliveryLog", "reason_of"]

log = logging.getLogger("rambla_py.delivery")

STOPPED = ("stopped", "stopped while in flight", "stopped before a retry")
"""Reasons of deliveries that the stop of the app ended; one closing line has their number."""

_ENDS_LOGGED = 20
"""Ends of one kind that are logged in full, with their ids; the rest of the interval is only counted."""


class _Kind(NamedTuple):
    level: int
    what: str
    reason: str


class DeliveryLog:
    """Logs a line before a retry, and when a delivery ends with a status other than ``ok``.

    A line has the target and the message's id. Repeats are suppressed: of failed attempts and drops for one
    reason the first is logged, of other ends the first few, and then their number every ten seconds.
    """

    def __init__(self, config: ChannelConfig, error_text: Callable[[BaseException | None], str]) -> None:
        self._config, self._error_text = config, error_text
        self._first_only: Repeats[_Kind] = Repeats()
        self._first_few: Repeats[_Kind] = Repeats(burst=_ENDS_LOGGED)

    @property
    def waiting(self) -> bool:
        """Whether ``write_repeats`` has something to log."""
        return self._first_only.waiting or self._first_few.waiting

    def retried(self, delivery: LiveDelivery, error: BaseException, delay_s: float) -> None:
        """Log a failed attempt that is followed by another."""
        kind = _Kind(logging.WARNING, "failed attempts", type(error).__name__)
        if self._first_only.add(kind, time.monotonic()):
            text = self._error_text(error)
            log.warning(
                "%s: %s: attempt %d failed, %s: %s",
                self._config.name,
                delivery.id,
                delivery.attempts,
                f"next in {delay_s:.3g} s" if delay_s > 0 else "next at once",
                text,
                extra={**log_extra(delivery, "failed"), **error_extra(error, text)},
            )

    def ended(self, delivery: LiveDelivery, status: Status, error: BaseException | None) -> None:
        """Log how a delivery ended, unless the closing line of the stop counts it."""
        if isinstance(error, DroppedError | UnknownOutcomeError) and error.reason in STOPPED:
            return
        reason = "" if error is None else reason_of(error)
        if status == "dropped":
            kind, repeats = _Kind(logging.WARNING, "dropped", reason), self._first_only
        else:
            kind, repeats = _Kind(logging.ERROR, f"ended as {status}", reason), self._first_few
        if repeats.add(kind, time.monotonic()):
            attempts = "1 attempt" if delivery.attempts == 1 else f"{delivery.attempts} attempts"
            text = self._error_text(error)
            log.log(
                kind.level,
                "%s: %s: %s after %s: %s",
                self._config.name,
                delivery.id,
                status,
                attempts,
                text,
                extra={**log_extra(delivery, status), **error_extra(error, text)},
            )

    def write_repeats(self, now: float, *, all_of_them: bool = False) -> None:
        """Log the numbers of suppressed lines whose interval is over, or of all."""
        for repeats in (self._first_only, self._first_few):
            for kind, number, during_s in repeats.due(now, all_of_them=all_of_them):
                log.log(
                    kind.level,
                    "%s: %d more %s in %.0f s: %s",
                    self._config.name,
                    number,
                    kind.what,
                    during_s,
                    kind.reason,
                    extra=target_extra(self._config),
                )


def reason_of(error: BaseException) -> str:
    """Return the name under which an error is counted."""
    return error.reason if isinstance(error, DroppedError) else type(error).__name__
