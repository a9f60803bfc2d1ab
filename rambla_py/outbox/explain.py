"""What a channel promises, computed from its handler, its options and the journal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Literal

import msgspec

from rambla_py.config.schema import ChannelConfig, Config
from rambla_py.handler import Handler
from rambla_py.policy import Backoff

__all__ = ["PROMISES", "Explanation", "Place", "Promise", "explain"]

Promise = Literal["at-least-once", "at-most-once", "ordered", "survives-restart"]
_COMMIT_S: Final = 10.0
"""For how long a journal waits for another writer."""

PROMISES: Final[tuple[Promise, ...]] = ("at-least-once", "at-most-once", "ordered", "survives-restart")


class Place(msgspec.Struct, frozen=True):
    """Where the journal is: the name to show, and whether its rows are shared by processes (PostgreSQL)."""

    name: str
    shared: bool = False


class Explanation(msgspec.Struct, frozen=True):
    """What one target promises: three sentences, and why a promise is not kept.

    ``delivery`` is about loss and duplicates, ``order`` about order, ``wait`` about the longest waits.
    ``guarantee`` is what its handler states. A promise that is kept is not in ``broken``.
    """

    target: str
    delivery: str
    order: str
    wait: str
    guarantee: str
    broken: Mapping[Promise, str]

    def keeps(self, promise: Promise) -> bool:
        """Return whether a promise is kept."""
        return promise not in self.broken


def explain(config: Config, channel: ChannelConfig, place: Place) -> Explanation:
    """Return what a target of a configuration promises; ``place`` is where its journal is, or would be."""
    facts = _Facts(config, channel, place)
    reasons: dict[Promise, str] = {
        "at-least-once": facts.why_lost(),
        "at-most-once": facts.why_twice(),
        "ordered": facts.why_disordered(),
        "survives-restart": facts.why_in_memory(),
    }
    return Explanation(
        target=channel.name,
        delivery=_delivery(facts),
        order=_order(facts),
        wait=_wait(facts),
        guarantee=channel.handler.guarantee,
        broken={name: reasons[name] for name in PROMISES if reasons[name]},
    )


class _Facts:
    """One target, and what follows from its settings."""

    def __init__(self, config: Config, channel: ChannelConfig, place: Place) -> None:
        self.config, self.channel, self.place = config, channel, place
        self.on = channel.enabled and config.rambla.enabled
        self.success = channel.handler.promises(channel.settings, channel.options)
        self.repeats = channel.on_unknown == "retry"

    @property
    def handler(self) -> str:
        """The name of the handler's class."""
        return self.channel.handler.__name__

    def why_lost(self) -> str:
        """Return why a message may be neither delivered nor a dead letter; an empty string if it may not."""
        channel = self.channel
        if not self.on:
            return "the channel is disabled: every message ends as dropped"
        if self.success != "at least once":
            return f"{self.handler} promises {_promised(self.success)} with these options"
        if not self.repeats:
            return 'on_unknown = "report": an attempt without an answer is not repeated'
        if not channel.durable:
            return self.why_in_memory()
        if channel.policy.expires_s is not None and not self.hands_over("expired"):
            return f"expires_s = {channel.policy.expires_s:g}: what is not delivered by then ends as expired"
        return self._why_lost_behind()

    def _why_lost_behind(self) -> str:
        """Return why a message may be lost at a fallback."""
        for target in self.config.every_channel():
            if {target.channel, target.name} & set(self.channel.fallbacks) and not target.durable:
                return f"its fallback {target.name} is not durable"
        return ""

    def why_twice(self) -> str:
        """Return why a message may reach the backend twice; an empty string if it may not."""
        if not self.on:
            return ""
        if self.success == "none":
            return f"{self.handler} promises nothing with these options"
        if self.repeats and self.success == "at least once":
            return 'on_unknown = "retry": an attempt without an answer is repeated'
        if self.repeats and self.channel.durable:
            return 'on_unknown = "retry": what was sent when the process died is sent again'
        return ""

    def why_disordered(self) -> str:
        """Return why messages with a key may overtake each other; an empty string if they may not."""
        if not self.on:
            return "the channel is disabled: every message ends as dropped"
        if self.success == "none":
            return f"{self.handler} promises nothing with these options"
        return ""

    def why_in_memory(self) -> str:
        """Return why a message does not survive its process; an empty string if it does."""
        if not self.on:
            return "the channel is disabled: every message ends as dropped"
        if not self.channel.durable:
            return "durable = false: messages wait in memory, and are lost with the process"
        return ""

    def hands_over(self, status: str) -> bool:
        """Return whether messages that end with a status go to a fallback."""
        return bool(self.channel.fallbacks) and status in self.channel.fallback_on

    @property
    def attempts(self) -> int:
        """How many attempts may fail before a message ends."""
        return (self.channel.policy.retries + 1) * self._rounds

    @property
    def failing_s(self) -> float:
        """How long these attempts take at most."""
        policy = self.channel.policy
        waits_s = self._rounds * _waits(policy.backoff, policy.retries)
        return self.attempts * self.channel.attempt_timeout_s + waits_s

    @property
    def _rounds(self) -> int:
        decides = self.channel.handler.on_fatal is not Handler.on_fatal
        asked = decides or self.channel.policy.callbacks.on_fatal is not None
        return 1 + (self.channel.max_rounds if asked else 0)


def _delivery(facts: _Facts) -> str:
    if not facts.on:
        return "Nothing is delivered: the channel is disabled, and every message ends as dropped."
    kept = f"a message is in the outbox {facts.place.name} before publish returns"
    where = kept if facts.channel.durable else "a message waits in memory, and is lost with its process"
    return "; ".join([f"{_once(facts)}: {_reason(facts)}", where, *_ends(facts), *_duplicates(facts)]) + "."


def _once(facts: _Facts) -> str:
    if facts.success == "none":
        return "No promise"
    if not facts.why_twice():
        return "At most once"
    if facts.success == "at most once":
        return "Neither at least nor at most once"
    return "At least once" if facts.channel.durable else "At least once while the process lives"


def _reason(facts: _Facts) -> str:
    if facts.success == "none":
        return f"with these options {facts.handler} promises nothing"
    if facts.success == "at most once":
        return f"{facts.handler} does not wait for an answer, so what a lost connection held is lost"
    if not facts.repeats:
        return 'an attempt without an answer ends as unknown (on_unknown = "report")'
    dead = ", or it becomes a dead letter" if facts.channel.durable else ""
    return f"a message is attempted until the backend confirms it{dead}"


def _ends(facts: _Facts) -> Iterator[str]:
    channel, expires_s = facts.channel, facts.channel.policy.expires_s
    if expires_s is not None:
        yield f"what is not delivered within {_duration(expires_s)} ends as expired"
    if channel.fallbacks:
        ends = " or ".join(channel.fallback_on)
        yield f"what ends as {ends} goes to {', then '.join(channel.fallbacks)}"


def _duplicates(facts: _Facts) -> Iterator[str]:
    if not facts.repeats:
        return
    reasons = []
    if facts.success != "at most once":
        limit = _duration(facts.channel.attempt_timeout_s)
        reasons.append(f"an attempt gets no answer (lost, or over {limit})")
    if facts.channel.durable:
        reasons.append("the process dies before it has removed what was sent")
    if facts.channel.durable and facts.place.shared:
        reasons.append("another process takes over from one that is paused")
    if reasons:
        yield f"it may arrive twice, with the same id, if {' or '.join(reasons)}"


def _order(facts: _Facts) -> str:
    if not facts.on:
        return "There is no order to keep."
    among = ""
    if facts.channel.durable:
        among = ", whichever process delivers them" if facts.place.shared else ", among those of one process"
    return (
        f"Messages with the same key are sent one at a time, in the order of publish{among}; the next one is "
        "sent when one has ended, also as fatal or expired; messages without a key have no promised order."
    )


def _wait(facts: _Facts) -> str:
    if not facts.on:
        return "Nothing waits."
    channel, expires_s = facts.channel, facts.channel.policy.expires_s
    waits = [f"up to {_duration(channel.publish_timeout_s)} for room"] if channel.overflow == "block" else []
    waits += [f"up to {_duration(_COMMIT_S)} for the commit"] if channel.durable else []
    waiting = f"waits {' and '.join(waits)}" if waits else "does not wait"
    limit = (
        "without limit" if expires_s is None else f"until it expires, {_duration(expires_s)} after publish"
    )
    return (
        f"publish {waiting}; a message that keeps failing ends after {_counted(facts.attempts)}, at most "
        f"{_duration(facts.failing_s)}; while the backend cannot be reached or takes nothing, a message "
        f"waits {limit}."
    )


def _counted(attempts: int) -> str:
    return f"{attempts:,} attempt{'' if attempts == 1 else 's'}"


def _waits(backoff: Backoff, retries: int) -> float:
    """Return the sum of the longest waits before each retry, in seconds."""
    total, wait_s = 0.0, backoff.initial_s
    for done in range(retries):
        if wait_s >= backoff.max_s:
            return total + (retries - done) * backoff.max_s
        total += wait_s
        wait_s *= backoff.multiplier
    return total


def _promised(success: str) -> str:
    return "nothing" if success == "none" else success


def _duration(seconds: float) -> str:
    """Return seconds for people.

    >>> _duration(0.5), _duration(90), _duration(7_200), _duration(200_000)
    ('0.5 s', '90 s', '2 h', '2.3 days')
    """
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{round(seconds / length, 1):,g} {unit}"
    return f"{round(seconds, 1):g} s"
