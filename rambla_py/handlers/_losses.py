"""Rules for requests without an answer: which fail alone, and when the server is gone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

from rambla_py.errors import DeliveryError, UnknownOutcomeError

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery, LiveDelivery

__all__ = ["Actions", "Loss", "Losses"]

Loss = tuple["Delivery", DeliveryError]


class Actions(NamedTuple):
    """What to do, in this order: hold the intake, settle deliveries, report the loss of the server.

    ``again``: deliveries to queue again, for only the request that they were to follow has failed.
    """

    hold: bool = False
    settle: Sequence[Loss] = ()
    lost: DeliveryError | None = None
    again: Sequence[Delivery] = ()


class Losses:
    """What became of the requests of one connection that had no answer. Not thread-safe.

    - A request that times out fails by itself. If the server answered nothing since that request began, it is
      gone; if not, what was to follow the request on its thread is queued again.
    - A request whose connection broke after the write is held until the server answers one that began later:
      then only this request failed. Until then the intake goes on.
    - A request that could not be sent stops the intake: the server is gone.
    - Once nothing is in flight, all that is held is reported as lost.
    """

    def __init__(self, now: float) -> None:
        self.answered_at = now
        self.stopped = False
        self.held: list[tuple[float, Loss]] = []

    def answered(self, began: float, now: float) -> list[Loss]:
        """Record an answer; return the losses that it shows to be those of single requests."""
        self.answered_at = now
        if self.stopped:
            return []
        single = [(delivery, _isolated(error)) for at, (delivery, error) in self.held if at <= began]
        self.held = [entry for entry in self.held if entry[0] > began]
        return single

    def finished(self, began: float, losses: Sequence[Loss], now: float, *, last: bool) -> Actions | None:
        """Record the end of a request that began at ``began``; ``last``: nothing else is in flight."""
        if not losses and not (last and self.held):
            return None
        timed_out = [loss for loss in losses if _is_single(loss[1])]
        others = [loss for loss in losses if not _is_single(loss[1])]
        silent = timed_out[0][1] if timed_out and self.answered_at < began else None
        again: list[Delivery] = []
        if timed_out and silent is None:
            # They were not sent because the request before them timed out, which is no loss of the server.
            again = [delivery for delivery, error in others if _is_unsent(error)]
            others = [loss for loss in others if not _is_unsent(loss[1])]
        self.held += [(now, loss) for loss in others]
        stops = any(_is_unsent(error) for _, error in others) and not self.stopped
        self.stopped = self.stopped or stops
        settle = list(timed_out)
        if last and self.held and not again:
            settle += sorted((loss for _, loss in self.held), key=_position, reverse=True)
            silent = silent or self.held[0][1][1]
            self.held = []
        # Each loss goes back to the head of the mailbox, so the last one goes first.
        return Actions(stops, tuple(settle), silent, tuple(again))


def _is_single(error: DeliveryError) -> bool:
    """Return whether a request without an answer failed by itself, on a sound connection."""
    return isinstance(error, UnknownOutcomeError) and not error.connection_lost


def _is_unsent(error: DeliveryError) -> bool:
    return not isinstance(error, UnknownOutcomeError)


def _isolated(error: DeliveryError) -> DeliveryError:
    if isinstance(error, UnknownOutcomeError):
        return UnknownOutcomeError(error.reason, connection_lost=False, together=error.together)
    return error


def _position(loss: Loss) -> int:
    return cast("LiveDelivery", loss[0]).seq
