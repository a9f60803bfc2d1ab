"""The last deliveries of a target that did not end as ``ok``, and their groups."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

from rambla_py.errors import describe
from rambla_py.status import FailureGroup
from rambla_py.telemetry.normalizing import normalized

if TYPE_CHECKING:
    from rambla_py.config.schema import ChannelConfig
    from rambla_py.delivery import LiveDelivery

__all__ = ["Failure", "Failures", "grouped"]

MOST: Final = 200
"""Failures that a target remembers."""
_MOST_IDS: Final = 20
_LONGEST: Final = 1_000


class Failure(NamedTuple):
    """A delivery that did not end as ``ok``; ``text`` is not redacted, ``at`` seconds since the epoch."""

    service: str
    channel: str
    at: float
    message_id: str
    status: str
    error: str
    text: str


class Failures:
    """Remembers the last failures of one target, without payload, headers and key. Thread-safe."""

    def __init__(self, config: ChannelConfig) -> None:
        self._config, self._keeps_letters = config, config.durable or config.dead_letters
        self._last: deque[Failure] = deque(maxlen=MOST)

    def add(self, delivery: LiveDelivery) -> None:
        """Remember a delivery that has ended, unless it is kept as a dead letter."""
        rescued = delivery.fallback is not None and delivery.fallback.succeeded
        if self._keeps_letters and delivery.status == "fatal" and not rescued:
            return
        error, config = delivery.error, self._config
        # The text, not the error, which may keep the message alive through its traceback.
        name, text = ("", "") if error is None else (type(error).__name__, describe(error))
        status = delivery.status or ""
        self._last.append(
            Failure(config.service, config.channel, time.time(), delivery.id, status, name, text)
        )

    def last(self) -> list[Failure]:
        """Return them, the oldest first."""
        return list(self._last.copy())


def grouped(failures: Iterable[Failure], redact: Callable[[str], str]) -> list[FailureGroup]:
    """Return failures by target, status, class of the error and its text without values, newest first.

    Failures of one target must come in the order of time.

    >>> def no(number: int) -> Failure:
    ...     return Failure("null", "demo", 7.0 + number, f"{number}", "fatal", "KeyError", f"no row {number}")
    >>> grouped([no(1), no(2)], str)[0].count
    2
    """
    groups: dict[tuple[str, ...], list[Failure]] = {}
    for one in failures:
        key = (one.service, one.channel, one.status, one.error, normalized(one.text))
        groups.setdefault(key, []).append(one)
    found = [_group(members, redact) for members in groups.values()]
    return sorted(found, key=lambda group: -group.last_at)


def _group(members: list[Failure], redact: Callable[[str], str]) -> FailureGroup:
    first, last = members[0], members[-1]
    sample = redact(last.text)
    return FailureGroup(
        service=last.service,
        channel=last.channel,
        status=last.status,
        error=last.error,
        sample=sample if len(sample) <= _LONGEST else sample[: _LONGEST - 1] + "…",
        count=len(members),
        first_at=first.at,
        last_at=last.at,
        ids=[member.message_id for member in members[: -_MOST_IDS - 1 : -1]],
    )
