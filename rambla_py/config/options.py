"""This module merges the options of one message over those of its channel, and checks them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NamedTuple, cast

import msgspec

from rambla_py.config.conversion import dec_hook, holds_secret
from rambla_py.config.glance import Glance, glance
from rambla_py.config.reserved import Reserved, as_table, finished, late, refusal
from rambla_py.config.schema import ChannelConfig, ChannelSettings
from rambla_py.config.shapes import Field, fields_of, is_struct
from rambla_py.config.words import type_in_words, value_in_words
from rambla_py.errors import HandlerError, OptionError
from rambla_py.handler import Handler
from rambla_py.policy import Policy
from rambla_py.redaction import MASK

__all__ = ["MergedOptions", "OptionField", "accepts", "declared", "merge_message", "option_names", "reserved"]


class OptionField(msgspec.Struct, frozen=True):
    """One option as it was declared: the key users write, the attribute it is kept in, and its type.

    ``default`` is ``msgspec.NODEFAULT`` for a required option.
    """

    name: str
    attribute: str
    type: Any
    default: Any
    per_channel: bool
    description: str

    @property
    def required(self) -> bool:
        """Whether a channel must give it."""
        return self.default is msgspec.NODEFAULT


class MergedOptions(NamedTuple):
    """What one message travels with: the handler's options, the policy, headers, its own id and key."""

    options: Any
    policy: Policy
    headers: dict[str, Any]
    id: str | None
    key: str | None


def declared(handler: type[Handler]) -> Mapping[str, OptionField]:
    """Return the options that a handler class declares itself, by name, in order; none where it takes any.

    Raises ``HandlerError`` when ``Options`` is no msgspec struct, ``dict`` or None, or when it declares a
    reserved name.

    >>> class Audit(Handler):
    ...     class Options(msgspec.Struct):
    ...         table: str = "audit"
    >>> declared(Audit)["table"].default
    'audit'
    """
    return _declared(handler)


@functools.cache
def reserved() -> Mapping[str, OptionField]:
    """Return the options that every handler knows, by name."""
    return _fields_of(Reserved)


def option_names(handler: type[Handler]) -> list[str]:
    """Return every option name that a message or a channel of this handler may set."""
    return [*declared(handler), *reserved()]


def accepts(channel: ChannelConfig, name: str) -> bool:
    """Say whether a target takes an option of this name, be it per channel only.

    Options that are set per channel only are accepted here and refused by ``merge_message``, with the reason.
    """
    return channel.handler.Options is dict or name in _slots(channel.handler)


def merge_message(channel: ChannelConfig, given: Mapping[str, Any]) -> MergedOptions:
    """Lay the options of one message over those of its channel.

    Raises ``OptionError`` for a name the target does not take, a value of the wrong type or out of bounds, an
    option that is set per channel only, and ``delay_s >= expires_s``. Nothing of the channel is changed; safe
    from any thread.
    """
    if not given:
        return MergedOptions(channel.options, channel.policy, channel.headers or {}, None, None)
    slots = _slots(channel.handler)
    changes: tuple[dict[str, Any], dict[str, Any], dict[str, Any]] = ({}, {}, {})
    for name, value in given.items():
        slot = slots.get(name)
        if slot is None:
            if channel.handler.Options is not dict:
                raise _unknown(channel, name)
            changes[0][name] = value
        elif type(value) is slot.exact and (slot.fits is None or slot.fits(value)):
            changes[slot.home][slot.attribute] = value
        else:
            changes[slot.home][slot.attribute] = _checked(channel, slot, value)
    options, policy, rest = changes
    headers = channel.headers or {}
    if rest.get("headers"):
        headers = {**headers, **rest["headers"]}
    own = _with_options(channel, options) if options else channel.options
    merged = _with_policy(channel, policy) if policy else channel.policy
    reason = refusal(merged, channel.handler, own) if options or policy else None
    if reason is not None:
        raise _refused(channel, "serializer", reason)
    return MergedOptions(own, merged, headers, rest.get("id"), rest.get("key"))


_OPTION: Final = 0
_POLICY: Final = 1
_REST: Final = 2


class _Slot(msgspec.Struct, frozen=True):
    """How one option of a message is taken; ``exact`` and ``fits`` are those of a ``Glance``."""

    field: OptionField
    attribute: str
    home: Literal[0, 1, 2]
    exact: type | None
    fits: Callable[[Any], Any] | None


def _find_declared(handler: type[Handler]) -> Mapping[str, OptionField]:
    shape = handler.Options
    if shape is None or shape is dict:
        return {}
    if not is_struct(shape):
        raise HandlerError(handler.__name__, f"Options is {shape!r}, not a msgspec struct, dict or None")
    fields = _fields_of(shape)
    taken = sorted(set(fields) & set(reserved()))
    if taken:
        raise HandlerError(handler.__name__, f"Options declares {taken[0]!r}, which is a reserved option")
    return fields


def _fields_of(shape: type[msgspec.Struct]) -> dict[str, OptionField]:
    return {field.key: _option_field(shape, field) for field in fields_of(shape)}


def _option_field(shape: type[msgspec.Struct], field: Field) -> OptionField:
    try:
        info = msgspec.inspect.type_info(field.type)
    except TypeError as error:
        raise HandlerError(shape.__qualname__, f"option {field.key!r}: {error}") from error
    extra = getattr(info, "extra", None) or {}
    schema = getattr(info, "extra_json_schema", None) or {}
    return OptionField(
        name=field.key,
        attribute=field.name,
        type=field.type,
        default=field.default,
        per_channel=extra.get("rambla_per") == "channel",
        description=schema.get("description", ""),
    )


def _make_slots(handler: type[Handler]) -> dict[str, _Slot]:
    slots = {name: _slot(field, _OPTION) for name, field in declared(handler).items()}
    for name, field in reserved().items():
        slots[name] = _slot(field, _POLICY if name in Policy.__struct_fields__ else _REST)
    return slots


def _slot(field: OptionField, home: Literal[0, 1, 2]) -> _Slot:
    seen = Glance() if field.per_channel or field.name == "serializer" else glance(field.type)
    return _Slot(field, field.attribute, home, seen.exact, seen.fits)


_declared = cast("Callable[[type[Handler]], Mapping[str, OptionField]]", functools.cache(_find_declared))
_slots = cast("Callable[[type[Handler]], dict[str, _Slot]]", functools.cache(_make_slots))


def _checked(channel: ChannelConfig, slot: _Slot, value: Any) -> Any:
    field = slot.field
    if field.per_channel:
        raise _refused(channel, field.name, "is set per channel, in the configuration, not for one message")
    if slot.home == _REST and value is None:
        return None
    if field.name == "headers":
        return _headers(channel, value)
    try:
        return finished(field.name, msgspec.convert(as_table(value), field.type, dec_hook=dec_hook))
    except msgspec.ValidationError as error:
        raise _refused(channel, field.name, _misfit(field, value, error)) from None
    except ValueError as error:
        raise _refused(channel, field.name, str(error)) from None


def _misfit(field: OptionField, value: Any, error: Exception) -> str:
    got = MASK if holds_secret(field.type) else value_in_words(value)
    detail = f" ({error})" if isinstance(value, Mapping | list | tuple) else ""
    return f"expected {type_in_words(field.type)}, got {got}{detail}"


_HEADER_VALUES = frozenset({str, int, float, bool, bytes})


def _headers(channel: ChannelConfig, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _refused(channel, "headers", f"expected a mapping, got {value_in_words(value)}")
    for name, item in value.items():
        if type(name) is not str:
            raise _refused(channel, "headers", f"expected a text for each name, got {value_in_words(name)}")
        if type(item) not in _HEADER_VALUES:
            expected = "a text, a number, true, false or bytes"
            raise _refused(
                channel, "headers", f"at {name!r}: expected {expected}, got {value_in_words(item)}"
            )
    return dict(value)


def _with_options(channel: ChannelConfig, changes: dict[str, Any]) -> Any:
    if channel.handler.Options is dict:
        return {**channel.options, **changes}
    try:
        return msgspec.structs.replace(channel.options, **changes)
    except (ValueError, TypeError) as error:
        raise _refused(channel, next(iter(changes)), str(error)) from error


def _with_policy(channel: ChannelConfig, changes: dict[str, Any]) -> Policy:
    policy = msgspec.structs.replace(channel.policy, **changes)
    if policy.delay_s and policy.expires_s is not None and policy.delay_s >= policy.expires_s:
        name = "delay_s" if "delay_s" in changes else "expires_s"
        raise _refused(channel, name, late(policy))
    return policy


def _refused(channel: ChannelConfig, name: str, reason: str) -> OptionError:
    return OptionError(name, reason, service=channel.service, channel=channel.channel)


def _unknown(channel: ChannelConfig, name: str) -> OptionError:
    if name in ChannelSettings.__struct_fields__:
        return _refused(channel, name, "is a setting of the channel, and stands in the configuration")
    known = option_names(channel.handler)
    return OptionError(name, "unknown", service=channel.service, channel=channel.channel, known=known)
