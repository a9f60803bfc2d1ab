"""This module draws every error that rambla_py raises.

::

    RamblaError
    ├── ConfigError               the configuration is wrong; lists every problem
    ├── NotRunningError           the app was not started, or has stopped
    ├── UnknownChannelError       no channel of that name            (also LookupError)
    ├── OptionError               an option no target knows, or a bad value
    ├── MailboxFullError          no room, and no leave to wait for it
    ├── ReceiptTimeoutError       a receipt was not complete in time (also TimeoutError)
    ├── PublishError              at least one delivery did not end as ok
    ├── ForkedError               a receipt that belongs to the parent process
    ├── HandlerError              a handler class breaks the contract
    └── DeliveryError             one attempt failed                 .retryable
        ├── PermanentError        no retry can mend it
        │   ├── SerializationError
        │   └── PayloadTooLargeError
        ├── UnroutableError       the broker had nowhere to put the message
        ├── RejectedError         the backend said no
        ├── AttemptTimeoutError   the attempt took longer than attempt_timeout_s
        ├── ExpiredError          expires_s passed before an attempt could be made
        ├── DroppedError          dropped before delivery, with the reason
        ├── ConnectionLostError   gone before the write: nothing was sent
        │   └── AccessError       credentials or certificate refused
        └── UnknownOutcomeError   gone after the write and before the answer
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "AccessError",
    "AttemptTimeoutError",
    "ConfigError",
    "ConnectionLostError",
    "DeliveryError",
    "DroppedError",
    "ExpiredError",
    "ForkedError",
    "HandlerError",
    "MailboxFullError",
    "NotRunningError",
    "OptionError",
    "PayloadTooLargeError",
    "PermanentError",
    "Problem",
    "PublishError",
    "RamblaError",
    "ReceiptTimeoutError",
    "RejectedError",
    "SerializationError",
    "UnknownChannelError",
    "UnknownOutcomeError",
    "UnroutableError",
    "describe",
    "nearest",
]


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name closest to ``name``, or None when nothing is close.

    >>> nearest("ordrs", ["orders", "invoices"])
    'orders'
    """
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return close[0] if close else None


def describe(error: BaseException | None) -> str:
    """Return an error as ``Type: text``; a stranger's ``__str__`` may raise, and must not take us along.

    >>> describe(ValueError("no"))
    'ValueError: no'
    """
    if error is None:
        return ""
    name = type(error).__name__
    try:
        text = str(error)
    except BaseException as second:
        text = f"(its text raised {type(second).__name__})"
    return f"{name}: {text}" if text else name


def _hint(name: str, known: Iterable[str]) -> str:
    close = nearest(name, known)
    return f"; did you mean {close!r}?" if close else ""


def _text_of(error: BaseException | None) -> str:
    return describe(error).removeprefix(f"{type(error).__name__}: ")


class RamblaError(Exception):
    """The root of every error of rambla_py."""


class Problem(NamedTuple):
    """One thing wrong with a configuration: where, what was expected, what came, what to do.

    ``path`` is dotted (``amqp.channels.orders.count``); ``file`` is None for a mapping.
    """

    path: str
    expected: str
    got: str
    file: str | None = None
    hint: str | None = None

    def __str__(self) -> str:
        where = f"{self.file}: {self.path}" if self.file else self.path
        hint = f"; {self.hint}" if self.hint else ""
        return f"{where}: expected {self.expected}, got {self.got}{hint}"


class ConfigError(RamblaError):
    """The configuration was refused as a whole; ``problems`` lists every reason."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__(
            f"the configuration has {count}:" + "".join(f"\n  {problem}" for problem in self.problems)
        )


class NotRunningError(RamblaError):
    """The app accepts nothing: it was not started, or it has stopped."""

    def __init__(self, state: str) -> None:
        self.state = state
        what = "is stopping and takes no new messages" if state == "stopping" else f"is {state}"
        super().__init__(f"the app {what}; call start() before publish(), or use it in a 'with' block")


class UnknownChannelError(RamblaError, LookupError):
    """No service configures a channel of that name."""

    def __init__(self, channel: str, known: Iterable[str]) -> None:
        self.channel, self.known = channel, tuple(sorted(known))
        close = difflib.get_close_matches(channel, self.known, n=3, cutoff=0.6)
        listed = ", ".join(map(repr, close or self.known[:10])) or "none"
        lead = "nearest" if close else "configured"
        super().__init__(f"no channel {channel!r}; {lead}: {listed}")

    def __str__(self) -> str:
        return str(self.args[0])


class OptionError(RamblaError):
    """An option that no target of the message declares, or a value that it does not take."""

    def __init__(
        self, option: str, reason: str, *, service: str = "", channel: str = "", known: Iterable[str] = ()
    ) -> None:
        self.option, self.reason, self.service, self.channel = option, reason, service, channel
        where = f" for {service}.{channel}" if service else (f" for channel {channel!r}" if channel else "")
        super().__init__(f"option {option!r}{where}: {reason}{_hint(option, known)}")


class MailboxFullError(RamblaError):
    """The mailbox of a target holds ``max_pending`` messages, and the call may not wait for room."""

    def __init__(
        self, service: str, channel: str, max_pending: int, *, waited_s: float | None = None
    ) -> None:
        self.service, self.channel, self.max_pending, self.waited_s = service, channel, max_pending, waited_s
        if waited_s is None:
            advice = "publish() may not wait for room here; use 'await app.publish_async(...)'"
        else:
            advice = f"no room within publish_timeout_s = {waited_s:g}"
        super().__init__(f"{service}.{channel}: {max_pending} messages are waiting; {advice}")


class ReceiptTimeoutError(RamblaError, TimeoutError):
    """Time ran out before every delivery had an outcome; ``results`` holds None where one is missing."""

    def __init__(self, timeout_s: float, done: int, total: int, results: Sequence[Any]) -> None:
        self.timeout_s, self.done, self.total, self.results = timeout_s, done, total, list(results)
        super().__init__(f"{done} of {total} deliveries had an outcome after {timeout_s:g} s")


class PublishError(RamblaError):
    """At least one delivery ended otherwise than ok; ``outcomes`` has all of them, in order."""

    def __init__(self, outcomes: Sequence[Any]) -> None:
        self.outcomes = tuple(outcomes)
        bad = [outcome for outcome in self.outcomes if not outcome.succeeded]
        lead = f"{len(bad)} of {len(self.outcomes)} deliveries did not succeed: "
        shown = "; ".join(f"{o.service}.{o.channel} {o.status} ({_text_of(o.error)})" for o in bad[:3])
        super().__init__(lead + shown + (f"; and {len(bad) - 3} more" if len(bad) > 3 else ""))


class ForkedError(RamblaError):
    """The receipt was made before a fork; only the parent process learns its outcome."""

    def __init__(self) -> None:
        super().__init__("this receipt belongs to the parent process; publish again in the child")


class HandlerError(RamblaError):
    """A handler cannot be used: not found, its extra missing, or a class that breaks the contract."""

    def __init__(self, name: str, reason: str) -> None:
        self.name, self.reason = name, reason
        super().__init__(f"handler {name!r}: {reason}")


class DeliveryError(RamblaError):
    """One attempt failed; ``retryable`` says whether another may help.

    Handlers may raise it with any text: ``raise DeliveryError("quota reached")``. Where the backend named a
    time to come back, ``retry_after_s`` holds the seconds: the retry then waits for so long.
    """

    retryable: ClassVar[bool] = True
    retry_after_s: float | None = None


class PermanentError(DeliveryError):
    """No retry can mend it: the delivery is fatal at once."""

    retryable = False


class SerializationError(PermanentError):
    """The payload cannot be put on the wire; ``path`` leads to the value (``$.order.lines[3]``)."""

    def __init__(self, path: str, got: str) -> None:
        self.path, self.got = path, got
        super().__init__(f"cannot serialize the payload: at {path}: {got}")


class PayloadTooLargeError(PermanentError):
    """The payload is over the server's limit; sizes in bytes."""

    def __init__(self, size: int, limit: int, what: str = "the server's limit") -> None:
        self.size, self.limit = size, limit
        super().__init__(f"the payload has {size} bytes; {what} is {limit}")


class UnroutableError(DeliveryError):
    """The broker returned the message: nothing is bound where it was sent."""


class RejectedError(DeliveryError):
    """The backend understood, and refused this message for now."""


class AttemptTimeoutError(DeliveryError):
    """The attempt was given up after ``attempt_timeout_s``; whether it took effect is unknown."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        super().__init__(f"no answer within attempt_timeout_s = {timeout_s:g}")


class ExpiredError(DeliveryError):
    """``expires_s`` passed, or would have before the next attempt; ``last`` tells what kept the message."""

    retryable = False

    def __init__(self, expires_s: float, attempts: int, last: str = "") -> None:
        self.expires_s, self.attempts = expires_s, attempts
        tries = "1 attempt" if attempts == 1 else f"{attempts} attempts"
        super().__init__(f"expires_s = {expires_s:g} was over after {tries}{_because(last)}")


class DroppedError(DeliveryError):
    """The message was dropped, and ``reason`` says why; ``last`` tells what had kept it until then."""

    retryable = False

    def __init__(self, reason: str, last: str = "") -> None:
        self.reason = reason
        super().__init__(f"dropped: {reason}{_because(last)}")


def _because(last: str) -> str:
    return f"; the last error: {last}" if last else ""


class ConnectionLostError(DeliveryError):
    """The connection is gone and nothing of the message was written: no attempt is spent."""


class AccessError(ConnectionLostError):
    """The server refused the credentials, or its certificate was refused: a person must act."""


class UnknownOutcomeError(DeliveryError):
    """The connection went after the write and before the answer."""
