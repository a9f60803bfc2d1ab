"""This module reads what was handed to ``publish``: names, payload, options, and what they make."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rambla_py.actors.target import Target
from rambla_py.config.options import accepts, merge_message, option_names
from rambla_py.delivery import Delivery
from rambla_py.errors import OptionError, UnknownChannelError
from rambla_py.message import Message
from rambla_py.receipt import Receipt

__all__ = ["PLAIN", "draft", "find", "is_plain"]

PLAIN = frozenset({str, bytes, int, float, bool, type(None), list, tuple})
"""Types that are a payload and nothing else; a dict may be an envelope, any other object a callable."""


def is_plain(message: Any) -> bool:
    """Say whether a message is a payload and nothing else, with no options of its own.

    >>> is_plain({"id": 42}), is_plain({"message": {"id": 42}, "key": "k"})
    (True, False)
    """
    kind = type(message)
    return "message" not in message if kind is dict else kind in PLAIN


def find(routes: Mapping[str, tuple[Target, ...]], channels: str | Iterable[str]) -> tuple[Target, ...]:
    """Return the targets of a channel, or of several, each once; raises ``UnknownChannelError``."""
    names = (channels,) if isinstance(channels, str) else tuple(dict.fromkeys(channels))
    found: list[Target] = []
    for name in names:
        if name not in routes:
            raise UnknownChannelError(name, routes)
        found.extend(routes[name])
    if not found:
        raise UnknownChannelError("", routes)
    return tuple(found)


def draft(
    targets: Sequence[Target],
    message: Any,
    options: Mapping[str, Any],
    receipt: Receipt,
    next_id: Callable[[], str],
    first_slot: int,
) -> list[Delivery]:
    """Return a checked delivery for each target; nothing is accepted yet. Raises ``OptionError``."""
    read = [(target, *_read(message, options, target.config.envelope)) for target in targets]
    for name in dict.fromkeys(name for _, _, given in read for name in given):
        _check_name(targets, name)
    shared_id = next_id() if len(targets) > 1 else None
    return [
        _delivery(target, payload, given, receipt, shared_id, first_slot + at)
        for at, (target, payload, given) in enumerate(read)
    ]


def _read(message: Any, options: Mapping[str, Any], envelope: bool) -> tuple[Any, Mapping[str, Any]]:
    if isinstance(message, Message):
        return message.payload, {**message.options, **options}
    if envelope and type(message) is dict and "message" in message:
        return message["message"], {**_envelope_options(message), **options}
    return message, options


def _envelope_options(envelope: Mapping[str, Any]) -> dict[str, Any]:
    """An envelope may come from outside, so nothing in it may name code."""
    given = {name: value for name, value in envelope.items() if name != "message"}
    for name, value in given.items():
        if not isinstance(name, str):
            raise OptionError(repr(name), "the options of an envelope have texts as names")
        if name == "callbacks" or (name == "serializer" and ":" in str(value)):
            raise OptionError(name, "refused in an envelope, which may come from outside; use Message")
    return given


def _check_name(targets: Sequence[Target], name: str) -> None:
    if not any(accepts(target.config, name) for target in targets):
        known = {known for target in targets for known in option_names(target.config.handler)}
        if len(targets) == 1:
            only = targets[0]
            raise OptionError(
                name, "unknown", service=only.service, channel=only.channel, known=sorted(known)
            )
        where = ", ".join(target.config.name for target in targets)
        raise OptionError(name, f"unknown to {where}", channel=targets[0].channel, known=sorted(known))


def _delivery(
    target: Target,
    payload: Any,
    given: Mapping[str, Any],
    receipt: Receipt,
    shared_id: str | None,
    slot: int,
) -> Delivery:
    calls = type(payload) not in PLAIN and callable(payload)
    if not given:
        return target.delivery(payload, receipt, given_id=shared_id, slot=slot, calls=calls)
    mine = {name: value for name, value in given.items() if accepts(target.config, name)}
    merged = merge_message(target.config, mine)
    return target.delivery(
        payload,
        receipt,
        options=merged.options,
        policy=merged.policy,
        headers=merged.headers,
        key=merged.key,
        given_id=merged.id or shared_id,
        slot=slot,
        calls=calls,
    )
