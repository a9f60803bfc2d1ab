"""The script of a scripted handler, with a step for each attempt."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Self

import msgspec

from rambla_py._internal.named_objects import Named
from rambla_py.delivery import Delivery
from rambla_py.errors import ConnectionLostError, UnknownOutcomeError
from rambla_py.message import Failed, Ok
from rambla_py.serialization.wire_format import wire_headers

__all__ = ["EVENT_PREFIX", "Arrival", "Script", "Step", "forget", "named", "script"]

EVENT_PREFIX = "ce-"
"""Of the attributes of a CloudEvent among the headers."""

Where = Callable[[Any], bool]


class Arrival(msgspec.Struct, frozen=True):
    """A message that reached the scripted server, as it was on the wire; ``options`` are the handler's."""

    payload: Any
    body: bytes
    id: str
    key: str | None
    attempt: int
    worker: int
    headers: dict[str, Any] = {}
    options: Any = None
    channel: str = ""
    service: str = ""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to one attempt. Make it with the class methods, which read as a script.

    ``arrivals``: how often the message reaches the server. ``answers``: with what it is settled, one after
    the other; only ``handle_deliveries`` can settle more than once. ``raises``: what leaves the handler
    instead. ``delay_s``, ``hangs``: how long the answer takes once the message has arrived. ``whole``: what
    ``handle_batch`` returns for the batch.
    """

    arrivals: int = 1
    answers: tuple[Any, ...] = (None,)
    raises: BaseException | None = None
    delay_s: float = 0.0
    hangs: bool = False
    whole: Any = None

    @classmethod
    def ok(cls, result: Any = None) -> Self:
        """Arrive, and succeed with ``result``."""
        return cls(answers=(Ok(result),))

    @classmethod
    def fail(cls, reason: str | BaseException = "failed", *, retryable: bool = True) -> Self:
        """Do not arrive, and fail alone: other messages are not affected."""
        return cls(arrivals=0, answers=(Failed(reason, retryable),))

    @classmethod
    def raising(cls, error: BaseException) -> Self:
        """Do not arrive, and raise out of the handler, even ``SystemExit``: a batch fails with it."""
        return cls(arrivals=0, raises=error)

    @classmethod
    def delay(cls, delay_s: float, result: Any = None) -> Self:
        """Arrive, and answer ``delay_s`` seconds later; ``handle_deliveries`` takes more meanwhile."""
        return cls(answers=(Ok(result),), delay_s=delay_s)

    @classmethod
    def hang(cls, result: Any = None, *, arrivals: int = 1) -> Self:
        """Arrive, and answer when ``Script.release`` is called."""
        return cls(arrivals=arrivals, answers=(Ok(result),), hangs=True)

    @classmethod
    def lose_before_write(cls) -> Self:
        """Lose the connection with the message unsent."""
        return cls(arrivals=0, raises=ConnectionLostError("the script cut the connection before the write"))

    @classmethod
    def lose_after_write(cls) -> Self:
        """Arrive, and lose the connection before the answer."""
        return cls(raises=UnknownOutcomeError("the script cut the connection after the write"))

    @classmethod
    def duplicate(cls) -> Self:
        """Arrive twice, as with a server that takes the same message again, and succeed."""
        return cls(arrivals=2)

    @classmethod
    def settle_twice(cls, first: Any = None, second: Any = None) -> Self:
        """Arrive, settle with ``first``, and settle again with ``second``, which is to be ignored."""
        return cls(answers=(first, second if second is not None else Failed("settled twice")))

    @classmethod
    def nonsense(cls, answer: Any) -> Self:
        """Let ``handle_batch`` return this in place of its list; elsewhere the attempt fails."""
        return cls(arrivals=0, answers=(Failed("nonsense"),), whole=Ok(answer))

    @property
    def loses(self) -> bool:
        """Whether the connection is gone afterwards."""
        return isinstance(self.raises, ConnectionLostError | UnknownOutcomeError)


class _Rule(msgspec.Struct, eq=False):
    step: Step
    where: Where | None
    attempt: int | None
    left: int | None

    def fits(self, message: Delivery) -> bool:
        return (
            self.left != 0
            and self.attempt in (None, message.attempts)
            and (self.where is None or bool(self.where(message)))
        )


class Script:
    """What happens to the messages of a scripted connection, and the server that they arrive at.

    An attempt for which nothing is planned arrives and succeeds. Every method may be called from any thread.

    >>> script = Script()
    >>> script.plan(Step.fail("quota"), where=lambda message: message.payload == 7, times=2)
    >>> script.arrived()
    []
    """

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.connects = self.closes = self.losses = 0
        self._moved = threading.Condition(threading.RLock())
        self._rules: list[_Rule] = []
        self._arrived: list[Arrival] = []
        self._held: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"<Script {self.name!r}: {len(self._arrived)} arrived, {self.hanging} hang>"

    def plan(
        self, step: Step, *, where: Where | None = None, attempt: int | None = None, times: int | None = 1
    ) -> None:
        """Let ``step`` happen to the next ``times`` attempts (None: all) that fit; the first such plan wins.

        ``where`` is asked about the message (its ``payload``, ``id``, ``key``, ``headers``); ``attempt`` is
        its number from 1, which a lost connection does not raise.
        """
        with self._moved:
            self._rules.append(_Rule(step, where, attempt, times))

    def arrived(self) -> list[Arrival]:
        """Return what reached the server, in order, duplicates too."""
        with self._moved:
            return list(self._arrived)

    @property
    def hanging(self) -> int:
        """How many attempts hang now."""
        with self._moved:
            return len(self._held)

    def wait_until(self, true: Callable[[Script], bool], timeout_s: float = 5.0) -> bool:
        """Wait for a condition (``lambda script: script.hanging == 2``); return whether it held in time."""
        with self._moved:
            return self._moved.wait_for(lambda: true(self), timeout_s)

    def release(self) -> int:
        """Let everything that hangs continue, in order of arrival; return how many."""
        with self._moved:
            held, self._held = self._held, []
            self._moved.notify_all()
        for go_on in held:
            go_on()
        return len(held)

    def next_step(self, message: Delivery) -> Step:
        """Return what happens to this attempt; each plan is used up as it says."""
        with self._moved:
            rule = next((rule for rule in self._rules if rule.fits(message)), None)
            if rule is None:
                return Step()
            if rule.left is not None:
                rule.left -= 1
            return rule.step

    def arrive(self, message: Delivery, body: bytes, step: Step, worker: int) -> None:
        """Keep a message as often as the step says."""
        arrival = Arrival(
            message.payload,
            body,
            message.id,
            message.key,
            message.attempts,
            worker,
            headers=wire_headers(message, EVENT_PREFIX),
            options=message.options,
            channel=message.channel,
            service=message.service,
        )
        with self._moved:
            self._arrived += [arrival] * step.arrivals
            self._moved.notify_all()

    def hold(self, go_on: Callable[[], None]) -> None:
        """Keep something for ``release``."""
        with self._moved:
            self._held.append(go_on)
            self._moved.notify_all()

    def count(self, *, connects: int = 0, closes: int = 0, losses: int = 0) -> None:
        """Count connects, losses and closes."""
        with self._moved:
            self.connects += connects
            self.closes += closes
            self.losses += losses
            self._moved.notify_all()


named = Named(Script)


def script(name: str) -> Script:
    """Return the script of the connections with this ``name``, in this process; it stays until ``forget``.

    >>> script("payments") is script("payments")
    True
    """
    return named.get(name)


def forget(name: str) -> None:
    """Remove the script of this name, at the end of a test."""
    named.forget(name)
