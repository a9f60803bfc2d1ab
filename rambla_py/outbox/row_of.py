"""Rows of checked deliveries, and the payloads of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from rambla_py.config.conversion import holds_secret
from rambla_py.config.options import declared
from rambla_py.config.reserved import as_table
from rambla_py.errors import OptionError, SerializationError
from rambla_py.handler import Secret
from rambla_py.outbox.codec import dump_value, is_native, load_value
from rambla_py.outbox.rows import Form, Row
from rambla_py.serialization.cloudevents import EVENTS
from rambla_py.serialization.json_numbers import read_json
from rambla_py.serialization.wire_format import ENCODED

if TYPE_CHECKING:
    from rambla_py.config.schema import ChannelConfig
    from rambla_py.delivery import LiveDelivery
    from rambla_py.handler import Takes
    from rambla_py.policy import Policy

__all__ = ["MAX_ID_BYTES", "body_of_row", "check_given", "decoded", "row_of", "rows_of"]

MAX_ID_BYTES: Final = 255

_BINARY = (bytes, bytearray, memoryview)
_OWN_COLUMNS = frozenset({"id", "key"})
_BY_SERIALIZER: Final[Mapping[str, Form]] = {"json": "json", "msgpack": "msgpack"}
_unpack = msgspec.msgpack.Decoder().decode


def row_of(
    config: ChannelConfig,
    delivery: LiveDelivery,
    given: Mapping[str, Any],
    now: float,
    *,
    native: bool | None = None,
) -> Row:
    """Return the row of a checked delivery, sealed, without a number.

    ``given`` are the options that the message gave, from the call and from its ``Message``; ``now`` is in
    seconds since the epoch. The payload is stored as the bytes for the wire where ``publish`` makes them,
    else as ``dump_value`` writes it; ``native`` is as there.

    Raises ``OptionError`` for an option that cannot be stored (callbacks, a function as serializer, a
    secret), for an id of more than 255 bytes, and for NUL in an id or a key; ``SerializationError``, with
    the path to the value, for a payload that cannot be stored.
    """
    options = _stored_options(config, given) if given else None
    row_id, key, delay_s = delivery.id, delivery.key, delivery.policy.delay_s
    if len(row_id) > MAX_ID_BYTES // 4 or not row_id.isalnum():  # not one of ours
        _check_text(config, "id", row_id)
    if key is not None:
        _check_text(config, "key", key)
    form, payload = _stored_payload(config, delivery, native)
    row = Row(
        target=config.name,
        id=row_id,
        key=key,
        accepted=now,
        payload=payload,
        form=form,
        options=options,
        due=now + delay_s if delay_s else None,
        wait_s=delay_s,
        given_id=bool(given) and given.get("id") is not None,
    )
    row.seal()
    return row


def rows_of(config: ChannelConfig, deliveries: Sequence[LiveDelivery], now: float) -> list[Row]:
    """Return the rows of deliveries whose messages gave no options: as ``row_of``, at half the cost.

    A delivery gets the payload as it will be read back. Raises ``SerializationError``.
    """
    first = deliveries[0]
    name, policy, takes = config.name, first.policy, config.handler.takes_for(first.options)
    due, wait_s = now + policy.delay_s if policy.delay_s else None, policy.delay_s
    as_value = takes not in ENCODED or policy.serializer in EVENTS
    rows = []
    for delivery in deliveries:
        payload = delivery.payload
        form: Form = "value"
        if delivery.calls or not as_value:
            form, data = _stored_payload(config, delivery, None)
        elif is_native(payload):
            data = dump_value(payload, native=True)
        else:
            data = dump_value(payload, native=False)
            delivery.reread(load_value(data))
        row = Row(name, delivery.id, None, now, data, form, None, due, wait_s)
        row.seal()
        rows.append(row)
    return rows


def check_given(config: ChannelConfig, given: Mapping[str, Any]) -> None:
    """Raise ``OptionError`` for options that no message can have stored.

    Who can write to the journal is not trusted to name functions, which would be imported and called.
    """
    for name, value in given.items():
        _check_option(config, name, value)


def decoded(row: Row) -> Any:
    """Return the payload of a row, as its handler gets it; raises ``ValueError`` if it cannot be read.

    The bytes of a serializer of the application's own stay bytes. Numbers of JSON keep all their digits.
    """
    try:
        match row.form:
            case "value":
                return load_value(row.payload)
            case "text":
                return row.payload.decode()
            case "json":
                return read_json(row.payload)
            case "msgpack":
                return _unpack(row.payload)
            case "bytes" | "custom":
                return row.payload
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ValueError(f"not a payload of the form {row.form!r}: {error}") from error
    raise ValueError(f"an unknown form {row.form!r}")


def body_of_row(row: Row, payload: Any, takes: Takes, policy: Policy) -> bytes | None:
    """Return the bytes for the wire that a row has; None if its payload must be encoded.

    ``payload`` is what ``decoded`` returned, ``takes`` and ``policy`` are those of its target now: bytes
    that the present configuration would not have made (another serializer) are not used.
    """
    if row.form == "value" or takes not in ENCODED:
        return None
    if row.form == "custom":
        return row.payload
    return row.payload if _form_of(payload, takes, policy) == row.form else None


def _stored_payload(config: ChannelConfig, delivery: LiveDelivery, native: bool | None) -> tuple[Form, bytes]:
    if delivery.calls:
        raise SerializationError("$", "a callable, which a durable channel cannot store")
    payload, policy = delivery.payload, delivery.policy
    form = _form_of(payload, config.handler.takes_for(delivery.options), policy)
    if form == "value":
        return form, dump_value(payload, native=native)
    return form, delivery.encoded if delivery.encoded is not None else delivery.body()


def _form_of(payload: Any, takes: Takes, policy: Policy) -> Form:
    # An event is made at each attempt: it has the data inside, and the attributes of its channel.
    if takes not in ENCODED or policy.serializer in EVENTS:
        return "value"
    if takes != "bytes":
        return "json"
    if policy.format != "object":
        if isinstance(payload, str):
            return "text"
        if isinstance(payload, _BINARY):
            return "bytes"
    return _BY_SERIALIZER.get(policy.serializer, "custom")


def _stored_options(config: ChannelConfig, given: Mapping[str, Any]) -> bytes | None:
    options: dict[str, Any] = {}
    for name, value in given.items():
        if name in _OWN_COLUMNS:
            continue
        _check_option(config, name, value)
        options[name] = as_table(value)
    if not options:
        return None
    try:
        return dump_value(options)
    except SerializationError:
        for name, value in options.items():
            _check_stored(config, name, value)
        raise


def _check_option(config: ChannelConfig, name: str, value: Any) -> None:
    fields = declared(config.handler)
    if name == "callbacks" and value:
        raise _refused(config, name, "a function cannot be stored; set callbacks on the channel")
    if name == "serializer" and (not isinstance(value, str) or ":" in value):
        raise _refused(config, name, "a function cannot be stored; set the serializer on the channel")
    if isinstance(value, Secret) or (name in fields and holds_secret(fields[name].type)):
        raise _refused(config, name, "a secret is not stored in the outbox; set it on the channel")


def _check_stored(config: ChannelConfig, name: str, value: Any) -> None:
    try:
        dump_value(value)
    except SerializationError as error:
        raise _refused(config, name, f"cannot be stored: at {error.path}: {error.got}") from error


def _check_text(config: ChannelConfig, name: str, value: str) -> None:
    if name == "id" and (len(value) > MAX_ID_BYTES or len(value.encode()) > MAX_ID_BYTES):
        reason = f"an id has at most {MAX_ID_BYTES} bytes on a durable channel; got {len(value.encode())}"
        raise _refused(config, name, reason)
    if "\0" in value:
        raise _refused(config, name, "contains NUL, which databases do not store")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _refused(config, name, "contains a lone surrogate, which databases do not store") from None


def _refused(config: ChannelConfig, name: str, reason: str) -> OptionError:
    return OptionError(name, reason, service=config.service, channel=config.channel)
