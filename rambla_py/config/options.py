"""The options of one message, checked and merged over those of its channel."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NamedTuple, cast

import msgspec

from rambla_py._internal.redaction import MASK
from rambla_py.config.conversion import dec_hook, holds_secret
from rambla_py.config.describe import type_in_words, value_in_words
from rambla_py.config.fast_checks import FastCheck, fast_check
from rambla_py.config.reserved import (
    Reserved,
    as_policy_value,
    as_table,
    delay_error,
    never_attempted,
    serializer_error,
)
from rambla_py.config.schema import ChannelConfig, ChannelSettings
from rambla_py.config.struct_fields import Field, fields_of, is_struct
from rambla_py.errors import HandlerError, OptionError
from rambla_py.handler import Handler
from rambla_py.policy import Policy
from rambla_py.serialization.capture import captured
from rambla_py.serialization.header_values import header_value

__all__ = [
    "MergedOptions",
    "OptionField",
    "accepts",
    "checked_id",
    "checked_key",
    "declared",
    "merge_headers",
    "merge_message",
    "option_names",
    "reserved",
]


class OptionField(msgspec.Struct, frozen=True):
    """One declared option: the key that users write, the attribute of the struct, and the type.

    ``default`` is ``msgspec.NODEFAULT`` for a required option. A ``routing`` option decides where a message
    goes, and may be listed in a channel's ``envelope``.
    """

    name: str
    attribute: str
    type: Any
    default: Any
    per_channel: bool
    description: str
    routing: bool = False

    @property
    def required(self) -> bool:
        """Whether a channel must set it."""
        return self.default is msgspec.NODEFAULT


class MergedOptions(NamedTuple):
    """The options of one message after merging: the handler's options, policy, headers, id and key."""

    options: Any
    policy: Policy
    headers: dict[str, Any]
    id: str | None
    key: str | None


def declared(handler: type[Handler]) -> Mapping[str, OptionField]:
    """Return the options that a handler class declares, by name, in order; none if it accepts any.

    Raises ``HandlerError`` if ``Options`` is not a msgspec struct, ``dict`` or None, or if it declares a
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
    """Return the options that every handler has, by name."""
    return _fields_of(Reserved)


def option_names(handler: type[Handler]) -> list[str]:
    """Return every option name that a message or a channel of this handler may set."""
    return [*declared(handler), *reserved()]


def accepts(channel: ChannelConfig, name: str) -> bool:
    """Return whether a target has an option with this name.

    That includes options that are set per channel only; ``merge_message`` refuses them with the reason.
    """
    return channel.handler.Options is dict or name in _slots(channel.handler)


def merge_message(channel: ChannelConfig, given: Mapping[str, Any]) -> MergedOptions:
    """Merge the options of one message over those of its channel.

    Raises ``OptionError`` for an unknown name, a value of the wrong type or out of bounds, an option that is
    set per channel only, and ``delay_s >= expires_s``. Does not change the channel. Thread-safe.
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
            changes[0][name] = captured(value)
        elif type(value) is str and not value.isascii() and not _is_text(value):
            raise _refused(channel, name, _SURROGATE)
        elif type(value) is slot.exact and (slot.fits is None or slot.fits(value)):
            changes[slot.home][slot.attribute] = value
        else:
            changes[slot.home][slot.attribute] = _checked(channel, slot, value)
    options, policy, rest = changes
    headers = merge_headers(channel, rest.get("headers"))
    own = _with_options(channel, options) if options else channel.options
    merged = _with_policy(channel, policy) if policy else channel.policy
    reason = serializer_error(merged, channel.handler, own) if options or policy else None
    if reason is not None:
        raise _refused(channel, "serializer", reason)
    return MergedOptions(own, merged, headers, rest.get("id"), rest.get("key"))


def checked_key(channel: ChannelConfig, value: Any) -> str | None:
    """Return the key of a message; raises ``OptionError``."""
    if type(value) is str and (value.isascii() or _is_text(value)):
        return value
    return merge_message(channel, {"key": value}).key


def checked_id(channel: ChannelConfig, value: Any) -> str | None:
    """Return the id that was given to a message; raises ``OptionError``."""
    if type(value) is str and value and (value.isascii() or _is_text(value)):
        return value
    return merge_message(channel, {"id": value}).id


def merge_headers(channel: ChannelConfig, value: Any) -> dict[str, Any]:
    """Return the headers of a message merged over those of its channel; raises ``OptionError``."""
    own = channel.headers or {}
    if value is None:
        return own
    checked = _headers(channel, value)
    merged = {**own, **checked} if own else checked
    if type(checked) is _Removing:
        return {name: item for name, item in merged.items() if item is not None}
    return merged


class _Removing(dict[str, Any]):
    """Headers for a backend that has no null: a None in them removes the header, also one of the channel."""


_OPTION: Final = 0
_POLICY: Final = 1
_REST: Final = 2


class _Slot(msgspec.Struct, frozen=True):
    """How one option of a message is checked; ``exact`` and ``fits`` are those of a ``FastCheck``."""

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
        routing=extra.get("rambla_per") == "routing",
    )


def _make_slots(handler: type[Handler]) -> dict[str, _Slot]:
    slots = {name: _slot(field, _OPTION) for name, field in declared(handler).items()}
    for name, field in reserved().items():
        slots[name] = _slot(field, _POLICY if name in Policy.__struct_fields__ else _REST)
    return slots


def _slot(field: OptionField, home: Literal[0, 1, 2]) -> _Slot:
    seen = (
        FastCheck()
        if field.per_channel or field.name in ("serializer", "expires_s")
        else fast_check(field.type)
    )
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
        return value
    try:
        given = as_table(value)
        return as_policy_value(field.name, msgspec.convert(captured(given), field.type, dec_hook=dec_hook))
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
    if type(value) is not dict and not isinstance(value, Mapping):
        raise _refused(channel, "headers", f"expected a mapping, got {value_in_words(value)}")
    headers: dict[str, Any] = dict(value)
    for name, item in headers.items():
        if type(name) is not str:
            raise _refused(channel, "headers", f"expected a string for each name, got {value_in_words(name)}")
        if not name.isascii() and not _is_text(name):
            raise _refused(channel, "headers", f"a name with {_SURROGATE}")
        kind = type(item)
        if kind is str:
            if not item.isascii() and not _is_text(item):
                raise _refused(channel, "headers", f"at {name!r}: {_SURROGATE}")
        elif kind not in _HEADER_VALUES and item is not None:
            headers[name] = _header_value(channel, name, item)
        elif item is None and type(None) not in channel.handler.header_types:
            headers = _Removing(headers)
    return headers


def _header_value(channel: ChannelConfig, name: str, value: Any) -> Any:
    try:
        return header_value(value, channel.handler.header_types)
    except ValueError as error:
        raise _refused(channel, "headers", f"at {name!r}: {error}") from error


_SURROGATE: Final = "a lone surrogate, which UTF-8 cannot encode"


def _is_text(value: str) -> bool:
    """Return whether a string can be encoded as UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _with_options(channel: ChannelConfig, changes: dict[str, Any]) -> Any:
    if channel.handler.Options is dict:
        return {**channel.options, **changes}
    try:
        return msgspec.structs.replace(channel.options, **changes)
    except (ValueError, TypeError) as error:
        raise _refused(channel, next(iter(changes)), str(error)) from error


def _with_policy(channel: ChannelConfig, changes: dict[str, Any]) -> Policy:
    if "expires_s" in changes:
        changes = {**changes, "expires_when_due": False}
    policy = msgspec.structs.replace(channel.policy, **changes)
    if never_attempted(policy):
        name = "delay_s" if "delay_s" in changes else "expires_s"
        raise _refused(channel, name, delay_error(policy))
    return policy


def _refused(channel: ChannelConfig, name: str, reason: str) -> OptionError:
    return OptionError(name, reason, service=channel.service, channel=channel.channel)


def _unknown(channel: ChannelConfig, name: str) -> OptionError:
    if name in ChannelSettings.__struct_fields__:
        return _refused(channel, name, "is a setting of the channel, in the configuration")
    known = option_names(channel.handler)
    return OptionError(name, "unknown", service=channel.service, channel=channel.channel, known=known)
