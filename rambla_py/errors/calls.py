"""Errors of calls: of the configuration, of ``publish``, and of waiting for receipts."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from rambla_py.errors.attempts import describe
from rambla_py.errors.root import RamblaError, nearest

__all__ = [
    "AlreadyRunningError",
    "ConfigError",
    "ForkedError",
    "HandlerError",
    "KeptError",
    "MailboxFullError",
    "NotRunningError",
    "OptionError",
    "Problem",
    "PublishError",
    "ReceiptTimeoutError",
    "TelemetryError",
    "UnknownChannelError",
]

_SHOWN_OBSTACLES = 3


def _hint(name: str, known: Iterable[str]) -> str:
    close = nearest(name, known)
    return f"; did you mean {close!r}?" if close else ""


def _text_of(error: BaseException | None) -> str:
    return describe(error).removeprefix(f"{type(error).__name__}: ")


class Problem(NamedTuple):
    """One thing wrong with a configuration: where, what was expected, what came, what to do.

    ``path`` is dotted (``amqp.channels.orders.count``); ``file`` is None for a mapping. ``line`` is that of
    the key, or of the table around what is missing; None where there is no file.
    """

    path: str
    expected: str
    got: str
    file: str | None = None
    hint: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        where = f"{place}: {self.path}" if place else self.path
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


class AlreadyRunningError(RamblaError):
    """The app cannot be started: it runs, or it has not ended yet."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


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
    """The mailbox of a target holds ``max_pending`` messages, and there was no room in time.

    With ``key`` it holds ``max_pending_key`` messages of that key, whose first one waits for a retry.
    """

    def __init__(
        self,
        service: str,
        channel: str,
        max_pending: int,
        *,
        waited_s: float | None = None,
        key: str | None = None,
    ) -> None:
        self.service, self.channel, self.max_pending, self.waited_s = service, channel, max_pending, waited_s
        self.key = key
        waiting = f"{max_pending} messages are waiting"
        if key is not None:
            waiting = f"{max_pending} messages of one key are waiting behind a retry (max_pending_key)"
            advice = "publish() does not wait for them"
        elif waited_s is None:
            advice = "publish() may not wait for room here; use 'await app.publish_async(...)'"
        else:
            advice = f"no room within publish_timeout_s = {waited_s:g}"
        super().__init__(f"{service}.{channel}: {waiting}; {advice}")


class ReceiptTimeoutError(RamblaError, TimeoutError):
    """Time ran out before every delivery had an outcome; ``results`` holds None where one is missing.

    A call without a time raises it once none of the awaited deliveries has ended for ``result_timeout_s``.
    ``obstacles`` says, for each target of the app with messages that cannot be attempted now, why.
    """

    def __init__(
        self,
        timeout_s: float,
        done: int,
        total: int,
        results: Sequence[Any],
        *,
        quiet: bool = False,
        obstacles: Sequence[str] = (),
    ) -> None:
        self.timeout_s, self.done, self.total, self.results = timeout_s, done, total, list(results)
        self.obstacles = list(obstacles)
        reason = (
            f"and none of the others ended within [rambla] result_timeout_s = {timeout_s:g}"
            if quiet
            else f"after {timeout_s:g} s"
        )
        shown = self.obstacles[:_SHOWN_OBSTACLES]
        if len(self.obstacles) > len(shown):
            shown.append(f"and {len(self.obstacles) - len(shown)} more targets")
        super().__init__("; ".join([f"{done} of {total} deliveries had an outcome {reason}", *shown]))


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


class KeptError(RamblaError):
    """Durable messages have no outcome here: they stay in the outbox, and are delivered later or elsewhere.

    ``message_ids`` are their ids.
    """

    def __init__(self, message_ids: Sequence[str]) -> None:
        self.message_ids = tuple(message_ids)
        shown = ", ".join(self.message_ids[:3]) + (", ..." if len(self.message_ids) > 3 else "")
        super().__init__(f"kept in the outbox, to be delivered later or by another process: {shown}")


class HandlerError(RamblaError):
    """A handler cannot be used: not found, its extra missing, or a class that breaks the contract."""

    def __init__(self, name: str, reason: str) -> None:
        self.name, self.reason = name, reason
        super().__init__(f"handler {name!r}: {reason}")


class TelemetryError(RamblaError):
    """Metrics that cannot be registered: two apps in one registry have the same name, or none."""
