"""Rules for requests without an answer: which fail alone, and when the server is gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

from rambla_py.errors import DeliveryError, UnknownOutcomeError

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery, LiveDelivery

__all__ = ["Actions", "Loss", "Losses", "ServerCheck"]

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
    - Where ``asks`` returns a time, the server is asked first. If it answers, only this request failed; if
      not, the server is ``gone``, which stops the intake.
    - A request that could not be sent stops the intake: the server is gone.
    - Once nothing is in flight, all that is held is reported as lost.
    """

    def __init__(self, now: float) -> None:
        self.answered_at = now
        self.stopped = self.gone = False
        self.held: list[tuple[float, Loss]] = []

    def answered(self, began: float, now: float) -> list[Loss]:
        """Record an answer; return the losses that it shows to be those of single requests."""
        self.answered_at = now
        if self.stopped:
            return []
        single = [(delivery, _isolated(error)) for at, (delivery, error) in self.held if at <= began]
        self.held = [entry for entry in self.held if entry[0] > began]
        return single

    def asks(self, began: float, losses: Sequence[Loss], now: float) -> float | None:
        """Return since when an answer would show that the server is not gone; None: there is no need to ask.

        ``losses`` are those of a request that began at ``began``.
        """
        if self.gone or self.stopped:
            return None
        if any(_is_single(error) for _, error in losses):
            return began if self.answered_at < began else None
        return now if any(_is_shared(error) for _, error in losses) else None

    def asked(self, alive: bool, now: float) -> None:
        """Record whether the server answered when it was asked."""
        self.gone = not alive
        if alive:
            self.answered_at = now

    def single(self, since: float, losses: Sequence[Loss]) -> Sequence[Loss]:
        """Return the losses, as those of a request by itself if the server has answered since."""
        if self.answered_at <= since:
            return losses
        return [(delivery, _isolated(error)) for delivery, error in losses]

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
        stops = (self.gone or any(_is_unsent(error) for _, error in others)) and not self.stopped
        self.stopped = self.stopped or stops
        settle = list(timed_out)
        if last and self.held and not again:
            settle += sorted((loss for _, loss in self.held), key=_position, reverse=True)
            silent = silent or self.held[0][1][1]
            self.held = []
        # Each loss goes back to the head of the mailbox, so the last one goes first.
        return Actions(stops, tuple(settle), silent, tuple(again))


class ServerCheck:
    """Asks whether a server answers, once for all threads that need to know at the same time.

    ``answers`` makes a request without messages; it returns False or raises a ``DeliveryError`` if the server
    does not answer.
    """

    def __init__(self, losses: Losses, answers: Callable[[], bool]) -> None:
        self._losses, self._answers, self._lock = losses, answers, threading.Lock()

    def single(self, began: float, losses: Sequence[Loss]) -> Sequence[Loss]:
        """Return the losses of a request, as those of it alone if the server answers when asked."""
        since = self._losses.asks(began, losses, time.monotonic())
        if since is None:
            return losses
        with self._lock:  # what the threads before this one found out holds for it, too
            if not self._losses.gone and self._losses.answered_at <= since:
                self._losses.asked(self._alive(), time.monotonic())
        return self._losses.single(since, losses)

    def _alive(self) -> bool:
        try:
            return self._answers()
        except DeliveryError:
            return False


def _is_single(error: DeliveryError) -> bool:
    """Return whether a request without an answer failed by itself, on a sound connection."""
    return isinstance(error, UnknownOutcomeError) and not error.connection_lost


def _is_shared(error: DeliveryError) -> bool:
    """Return whether several messages were in a request whose connection broke."""
    return isinstance(error, UnknownOutcomeError) and error.together


def _is_unsent(error: DeliveryError) -> bool:
    return not isinstance(error, UnknownOutcomeError)


def _isolated(error: DeliveryError) -> DeliveryError:
    if isinstance(error, UnknownOutcomeError):
        return UnknownOutcomeError(error.reason, connection_lost=False, together=error.together)
    return error


def _position(loss: Loss) -> int:
    return cast("LiveDelivery", loss[0]).seq
