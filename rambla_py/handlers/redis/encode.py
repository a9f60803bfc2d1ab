"""Encoding of a message as one Redis command.

There is one command and one reply for each message: a message that needs several steps (``ttl_s`` on a
list, several keys with ``ttl_s``) is one script, so that it is applied completely or not at all.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import hiredis
import msgspec
from msgspec import Meta

from rambla_py.errors import PayloadTooLargeError, PermanentError, SerializationError
from rambla_py.handlers._encoding import checked_utf8
from rambla_py.serialization.cloudevents import EVENTS
from rambla_py.serialization.encoding import encode as encode_payload
from rambla_py.serialization.wire_format import wire_headers

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = [
    "MAX_BULK_BYTES",
    "Encoder",
    "RedisOptions",
    "encoder_for",
    "pack",
    "pack_set",
    "pairs_of",
    "target_of",
    "ttl_ms",
]

MAX_BULK_BYTES = 512 * 1024 * 1024
"""The largest value that a Redis server accepts with its default ``proto-max-bulk-len``."""

_EVENT_PREFIX = "ce_"
"""Prefix of CloudEvents attributes in stream fields: that of the Kafka binding, as Redis has none."""

Encoder = Callable[["Delivery"], bytes]


class RedisOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The options of a ``redis`` channel; each may also be set for one message.

    >>> RedisOptions(command="xadd", stream="orders", max_len=100_000).id_field
    'id'
    """

    command: Annotated[
        Literal["set", "publish", "lpush", "rpush", "xadd", "hset"],
        Meta(description="the command for each message; set and hset take a mapping as payload"),
    ] = "set"
    topic: Annotated[
        str | None, Meta(description="publish: the topic; the channel's name when not given")
    ] = None
    list: Annotated[
        str | None, Meta(description="lpush, rpush: the list's key; the channel's name when not given")
    ] = None
    stream: Annotated[
        str | None, Meta(description="xadd: the stream's key; the channel's name when not given")
    ] = None
    hash: Annotated[
        str | None, Meta(description="hset: the hash's key; the channel's name when not given")
    ] = None
    ttl_s: Annotated[
        float | None,
        Meta(
            gt=0,
            le=1e9,
            description="seconds until what was written expires: with set each key; with lists, streams "
            "and hashes the whole key, restarted by each message; publish ignores it",
        ),
    ] = None
    max_len: Annotated[
        int | None,
        Meta(
            ge=1,
            description="oldest entries beyond this many are removed: exactly from a list, "
            "approximately from a stream (MAXLEN ~)",
        ),
    ] = None
    max_len_exact: Annotated[
        bool, Meta(description="xadd: keep exactly max_len entries (MAXLEN =), which costs the server more")
    ] = False
    id_field: Annotated[
        str, Meta(description='xadd: the field that carries the message\'s id; "" leaves it out')
    ] = "id"
    fields: Annotated[
        Literal["payload", "mapping"],
        Meta(description="xadd: the payload as one field, or each key of a mapping as a field of its own"),
    ] = "payload"
    field: Annotated[
        str, Meta(min_length=1, description='xadd: the field that holds the payload, when fields = "payload"')
    ] = "payload"

    @property
    def event_prefix(self) -> str | None:
        """The prefix of CloudEvents attributes, where the fields of an entry may carry them."""
        return _EVENT_PREFIX if self.command == "xadd" and self.fields == "payload" else None


@functools.lru_cache(maxsize=256)
def encoder_for(options: RedisOptions, channel: str, max_bulk_bytes: int = MAX_BULK_BYTES) -> Encoder:
    """Return the function that packs a message with these options; the constant parts are packed once.

    The function raises ``SerializationError``, ``PayloadTooLargeError``, or ``PermanentError`` for a payload
    that the command does not accept.
    """
    return _BUILDERS[options.command](options, channel, max_bulk_bytes)


def pack(arguments: Sequence[bytes]) -> bytes:
    r"""Return one command in the wire format.

    >>> pack((b"PING",))
    b'*1\r\n$4\r\nPING\r\n'
    """
    packed: bytes = hiredis.pack_command(tuple(arguments))  # type: ignore[arg-type]  # its stub says one
    return packed


def _set(options: RedisOptions, channel: str, limit: int) -> Encoder:
    ttl = ttl_ms(options)
    return lambda message: pack_set(pairs_of(message, "set", limit), ttl)


def pack_set(pairs: Sequence[bytes], ttl: bytes | None) -> bytes:
    r"""Return the one command that sets keys, all or none; ``pairs`` holds key, value, key, value.

    >>> pack_set((b"k", b"v"), None)
    b'*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n'
    """
    if not ttl:
        return pack((b"SET" if len(pairs) == 2 else b"MSET", *pairs))
    if len(pairs) == 2:
        return pack((b"SET", *pairs, b"PX", ttl))
    keys, values = pairs[::2], pairs[1::2]
    return pack((b"EVAL", _SET_SCRIPT, b"%d" % len(keys), *keys, ttl, *values))


def target_of(options: RedisOptions, channel: str) -> bytes | None:
    """Return the key or topic of every message with these options; None when each payload names its keys.

    >>> target_of(RedisOptions(command="xadd"), "orders")
    b'orders'
    """
    given = {
        "publish": options.topic,
        "lpush": options.list,
        "rpush": options.list,
        "xadd": options.stream,
        "hset": options.hash,
    }
    name = given.get(options.command)
    if options.command == "set":
        return None
    return checked_utf8(channel if name is None else name, "target")


def _publish(options: RedisOptions, channel: str, limit: int) -> Encoder:
    return _body_last((b"PUBLISH", target_of(options, channel) or b""), limit)


def _push(options: RedisOptions, channel: str, limit: int) -> Encoder:
    verb, key = options.command.upper().encode(), target_of(options, channel) or b""
    if options.ttl_s is None and options.max_len is None:
        return _body_last((verb, key), limit)
    most, ttl = b"%d" % (options.max_len or 0), ttl_ms(options) or b"0"
    return _body_last((b"EVAL", _PUSH_SCRIPT, b"1", key, verb, most, ttl), limit)


def _hset(options: RedisOptions, channel: str, limit: int) -> Encoder:
    key, ttl = target_of(options, channel) or b"", ttl_ms(options)
    start = (b"EVAL", _HSET_SCRIPT, b"1", key, ttl) if ttl else (b"HSET", key)
    return lambda message: pack((*start, *pairs_of(message, "hset", limit)))


def _xadd(options: RedisOptions, channel: str, limit: int) -> Encoder:
    key, ttl = target_of(options, channel) or b"", ttl_ms(options)
    start: tuple[bytes, ...] = (b"EVAL", _XADD_SCRIPT, b"1", key, ttl) if ttl else (b"XADD", key)
    if options.max_len is not None:
        start += (b"MAXLEN", b"=" if options.max_len_exact else b"~", b"%d" % options.max_len)
    start += (b"*",)
    if options.fields == "mapping":
        return _mapping_entry(start, options.id_field, limit)
    return _payload_entry(start, options.id_field.encode(), options.field.encode(), limit)


_BUILDERS: dict[str, Callable[[RedisOptions, str, int], Encoder]] = {
    "set": _set,
    "publish": _publish,
    "lpush": _push,
    "rpush": _push,
    "xadd": _xadd,
    "hset": _hset,
}


def _body_last(fixed: Sequence[bytes], limit: int) -> Encoder:
    head = b"*%d\r\n%b$" % (len(fixed) + 1, b"".join(map(_bulk, fixed)))

    def encode(message: Delivery) -> bytes:
        body = _body(message, limit)
        return b"%b%d\r\n%b\r\n" % (head, len(body), body)

    return encode


def _payload_entry(start: tuple[bytes, ...], id_field: bytes, field: bytes, limit: int) -> Encoder:
    plain = _body_last((*start, field), limit)
    # Formatting takes 0.7 us a message, hiredis.pack_command 1.0.
    head = b"*%d\r\n%b%b$" % (len(start) + 4, b"".join(map(_bulk, start)), _bulk(id_field))
    middle = b"\r\n%b$" % _bulk(field)

    def with_id(message: Delivery) -> bytes:
        body, name = _body(message, limit), message.id.encode()
        return b"%b%d\r\n%b%b%d\r\n%b\r\n" % (head, len(name), name, middle, len(body), body)

    fast = with_id if id_field else plain
    with_headers = _entry_with_headers(start, id_field, field, limit)

    def encode(message: Delivery) -> bytes:
        if not message.headers and message.policy.serializer not in EVENTS:
            return fast(message)
        return with_headers(message)

    return encode


def _entry_with_headers(start: tuple[bytes, ...], id_field: bytes, field: bytes, limit: int) -> Encoder:
    own_fields = 4 if id_field else 2
    # One tuple, which threads replace as a whole: the headers of the latest message, which others of the same
    # caller share, and what goes before and after the id once they have come twice.
    latest: tuple[Mapping[str, Any] | None, bytes, bytes] = None, b"", b""

    def around(headers: Mapping[str, Any]) -> tuple[bytes, bytes]:
        packed = [_bulk(item) for item in _headers(headers, limit)]
        count = len(start) + own_fields + len(packed)
        before = [*map(_bulk, start), *([_bulk(id_field), b"$"] if id_field else ())]
        return b"*%d\r\n%b" % (count, b"".join(before)), b"%b%b$" % (b"".join(packed), _bulk(field))

    def encode(message: Delivery) -> bytes:
        nonlocal latest
        headers = wire_headers(message, _EVENT_PREFIX, content_type="content-type")
        known, before, after = latest
        if headers is not known:
            latest = headers, b"", b""
            extra = [*_id(message, id_field, limit), *_headers(headers, limit)]
            return pack((*start, *extra, field, _body(message, limit)))
        if not after:
            before, after = around(headers)
            latest = headers, before, after
        body = _body(message, limit)
        if not id_field:
            return b"%b%b%d\r\n%b\r\n" % (before, after, len(body), body)
        name = message.id.encode()
        return b"%b%d\r\n%b\r\n%b%d\r\n%b\r\n" % (before, len(name), name, after, len(body), body)

    return encode


def _mapping_entry(start: tuple[bytes, ...], id_field: str, limit: int) -> Encoder:
    def encode(message: Delivery) -> bytes:
        pairs = pairs_of(message, "xadd", limit)
        headers = wire_headers(message, _EVENT_PREFIX, content_type="content-type")
        extra = [*_id(message, id_field.encode(), limit), *_headers(headers, limit)]
        taken = set(extra[::2]).intersection(pairs[::2])
        if taken:
            # Readers make a dict of an entry: of two fields with one name they would see only the last.
            names = ", ".join(repr(name.decode(errors="replace")) for name in sorted(taken))
            raise PermanentError(
                f"the payload has {names}, which the message's id or a header uses too; "
                "choose another id_field, or rename the header"
            )
        return pack((*start, *extra, *pairs))

    return encode


def _id(message: Delivery, id_field: bytes, limit: int) -> list[bytes]:
    """Return the id of a message as name and value, or nothing."""
    return [id_field, _wire(message.id, "message", "id", limit)] if id_field else []


def _headers(headers: Mapping[str, Any], limit: int) -> list[bytes]:
    """Return headers as name, value, name, value."""
    found: list[bytes] = []
    for name, value in headers.items():
        found += (_wire(name, "headers", name, limit), _wire(value, "headers", name, limit))
    return found


def pairs_of(message: Delivery, command: str, limit: int) -> list[bytes]:
    """Return a mapping as name, value, name, value; raises what ``encoder_for`` documents."""
    payload = message.payload
    if not isinstance(payload, Mapping):
        raise PermanentError(f"{command} takes a mapping as payload, got {type(payload).__name__}")
    if not payload:
        raise PermanentError(f"{command} has nothing to write: the mapping is empty")
    if message.policy.serializer in EVENTS:
        raise PermanentError(f"{command} writes the values of a mapping separately; a CloudEvent is one")
    pairs: list[bytes] = []
    for name, value in payload.items():
        pairs += (_wire(name, "$", name, limit), _wire(value, "$", name, limit))
    return pairs


def _body(message: Delivery, limit: int) -> bytes:
    body = message.body()
    if len(body) > limit:
        raise PayloadTooLargeError(len(body), limit, _LIMIT_NAME)
    return body


def _wire(value: Any, root: str, name: Any, limit: int) -> bytes:
    """Return the bytes of a name or a value; ``root`` and ``name`` are its path in errors."""
    try:
        data = _encoded(value)
    except SerializationError as error:
        path = f"{root}.{name}" + error.path.removeprefix("$")
        raise SerializationError(path, error.got) from error
    if len(data) > limit:
        raise PayloadTooLargeError(len(data), limit, _LIMIT_NAME)
    return data


def _encoded(value: Any) -> bytes:
    """Return a value encoded like a payload, except scalars, which are plain text."""
    kind = type(value)
    if kind is bytes:
        return value  # type: ignore[no-any-return]  # compared above
    if kind is int:
        return b"%d" % value
    if isinstance(value, float):
        return repr(float(value)).encode()  # JSON would turn nan into null
    data = encode_payload(value)
    if kind is not str and data.startswith(b'"') and not isinstance(value, _UNCHANGED):
        # A date, a UUID or an enum is a JSON string; as a scalar it has no quotes.
        return str(json.loads(data)).encode()
    return data


def _bulk(argument: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(argument), argument)


def ttl_ms(options: RedisOptions) -> bytes | None:
    """Return ``ttl_s`` in whole milliseconds, at least one, as bytes."""
    return None if options.ttl_s is None else b"%d" % max(1, round(options.ttl_s * 1000))


_UNCHANGED = (str, bytearray, memoryview, bytes)
_LIMIT_NAME = "the connection's max_bulk_bytes (the server's proto-max-bulk-len)"

# Scripts rather than MULTI: a transaction continues after an error, so the PEXPIRE after a refused push
# (WRONGTYPE) would make another application's key expire. Their texts are constant, because the server
# keeps every script that it has seen.
_SET_SCRIPT = (
    b"for i = 1, #KEYS do redis.call('SET', KEYS[i], ARGV[i + 1], 'PX', ARGV[1]) end "
    b"return redis.status_reply('OK')"
)
_PUSH_SCRIPT = (
    b"local verb, most, ttl = ARGV[1], tonumber(ARGV[2]), ARGV[3] "
    b"local length = redis.call(verb, KEYS[1], ARGV[4]) "
    b"if most > 0 and length > most then "
    b"if verb == 'LPUSH' then redis.call('LTRIM', KEYS[1], 0, most - 1) "
    b"else redis.call('LTRIM', KEYS[1], -most, -1) end "
    b"length = most end "
    b"if ttl ~= '0' then redis.call('PEXPIRE', KEYS[1], ttl) end "
    b"return length"
)
_HSET_SCRIPT = (
    b"local added = 0 "
    b"for i = 2, #ARGV, 2 do added = added + redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end "
    b"redis.call('PEXPIRE', KEYS[1], ARGV[1]) "
    b"return added"
)
_XADD_SCRIPT = (
    b"local id = redis.call('XADD', KEYS[1], unpack(ARGV, 2)) "
    b"redis.call('PEXPIRE', KEYS[1], ARGV[1]) "
    b"return id"
)
