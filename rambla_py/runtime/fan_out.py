"""Fast path of one message to several targets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from rambla_py._internal.message_ids import SharedId
from rambla_py.config.options import accepts
from rambla_py.delivery import LiveDelivery
from rambla_py.message import Message
from rambla_py.receipt import Receipt
from rambla_py.runtime.target.drafts import CACHE_SIZE, CACHEABLE, UNCACHED, CheckedOptions
from rambla_py.runtime.target.gathering import home_of
from rambla_py.serialization.capture import ATOMS, captured

if TYPE_CHECKING:
    from rambla_py.policy import Policy
    from rambla_py.runtime.target.target import Target

__all__ = ["FanOut"]

Accept = Callable[[Any], "Receipt | None"]


class _Entry(NamedTuple):
    """What the fast path needs of one target; ``at`` is the index of its encoded body, -1 for none."""

    target: Target
    append: Callable[[LiveDelivery], None]
    idle: Sequence[Any]
    wake: Callable[[], None]
    numbers: Iterator[int]
    options: Any
    policy: Policy
    headers: dict[str, Any]
    slot: int
    copies: bool
    at: int


class FanOut:
    """Accepts one message on all targets of a channel at once, in the order of the configuration.

    The methods return None, with nothing done, for a message that must take the slow path: a target without
    room, an envelope, a callable, an option that affects the order or expiry in the mailbox.
    """

    def __init__(self, targets: Sequence[Target]) -> None:
        self._targets = tuple(targets)
        self._cache: dict[Any, Accept] = {}
        self.accept = self.bound({})

    def accept_with(self, message: Any, options: Mapping[str, Any]) -> Receipt | None:
        """Accept one message with options; raises ``OptionError`` and ``SerializationError``."""
        if not options:
            return self.accept(message)
        kinds = tuple(map(type, options.values()))
        if not CACHEABLE.issuperset(kinds) or not UNCACHED.isdisjoint(options):
            return None
        # With the types: 1, 1.0 and True are equal, but an option may accept only one of them.
        cache_key = (*options.items(), kinds)
        accept = self._cache.get(cache_key)
        if accept is None:
            if not all(any(accepts(target.config, name) for target in self._targets) for name in options):
                return None  # the slow path raises the error
            if len(self._cache) >= CACHE_SIZE:
                self._cache.clear()
            accept = self._cache[cache_key] = self.bound(options)
        return accept(message)

    def accept_many(self, payloads: Sequence[Any], options: Mapping[str, Any]) -> Receipt | None:
        """Return None: ``publish_many`` to several targets takes the slow path, with options or without.

        Each target has room of its own, and a call is admitted message by message as room appears. A fast
        path would have to plan the whole call for every target before it knows that all of it fits.
        """
        return None

    def bound(self, options: Mapping[str, Any]) -> Accept:
        """Return ``accept`` with options bound to it; raises ``OptionError``."""
        given = [_given(target, options) for target in self._targets]
        plain = all(map(_is_plain, self._targets, given))
        return _acceptor(self._targets, given) if plain else _slow_path


def _given(target: Target, options: Mapping[str, Any]) -> CheckedOptions:
    mine = {name: value for name, value in options.items() if accepts(target.config, name)}
    return target.admission.drafts.check(mine)


def _is_plain(target: Target, given: CheckedOptions) -> bool:
    draft = given.draft
    ordinary = target.plain and draft.ordinary and given.key is None and given.id is None
    return ordinary and target.admission.has_fast_path and not draft.whole


def _acceptor(targets: Sequence[Target], given: Sequence[CheckedOptions]) -> Accept:
    """Return a function that accepts payloads with these options on all targets."""
    encoders = list(dict.fromkeys(one.draft.encode for one in given if one.draft.encode is not None))
    entries = [_entry(slot, targets[slot], one, encoders) for slot, one in enumerate(given)]
    # Attaching an outbox or a hook to a target replaces its drafts, which invalidates this function.
    rooms = [
        (target.mailbox.ready, target.mailbox, target.admission, target.admission.drafts)
        for target in targets
    ]
    home, number = home_of(targets[0].home, targets), len(targets)
    reads_envelopes = any(target.config.envelope for target in targets)
    copies = any(one.draft.copies for one in given)
    atoms, monotonic, expecting = ATOMS, time.monotonic, Receipt._expecting
    no_bodies: tuple[bytes | None, ...] = (None,)

    def accept(payload: Any) -> Receipt | None:
        for ready, mailbox, admission, drafts in rooms:
            if len(ready) >= mailbox.ready_limit or admission.drafts is not drafts:
                return None
        kind = type(payload)
        if kind is dict:
            if reads_envelopes and "message" in payload:
                return None
        elif kind not in atoms and (kind is Message or callable(payload)):
            return None
        bodies = (*[encode(payload) for encode in encoders], None) if encoders else no_bodies
        copy = captured(payload) if copies and kind not in atoms else payload
        receipt = expecting(home, 1, number, many=False)
        now, shared_id = monotonic(), SharedId()
        for target, append, idle, wake, numbers, options, policy, headers, slot, is_copied, at in entries:
            append(
                LiveDelivery(
                    copy if is_copied else payload,
                    options,
                    policy,
                    headers,
                    None,
                    now,
                    0,
                    target,
                    receipt,
                    next(numbers),
                    shared_id,
                    slot,
                    False,
                    bodies[at],
                )
            )
            if idle:
                wake()
        return receipt

    return accept


def _entry(
    slot: int, target: Target, given: CheckedOptions, encoders: Sequence[Callable[[Any], bytes]]
) -> _Entry:
    draft = given.draft
    return _Entry(
        target=target,
        append=target.mailbox.ready.append,
        idle=target.wakeup.idle,
        wake=target.admission.wake,
        numbers=target.counters.numbers,
        options=draft.options,
        policy=draft.policy,
        headers=given.headers,
        slot=slot,
        copies=draft.copies,
        at=-1 if draft.encode is None else encoders.index(draft.encode),
    )


def _slow_path(payload: Any) -> Receipt | None:
    """Return None: messages with these options take the slow path."""
    return None
