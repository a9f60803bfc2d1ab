"""Tests of how messages become Redis commands, and how URLs and error replies are read."""

from __future__ import annotations

import datetime
import enum
import uuid
from decimal import Decimal
from typing import Any

import hiredis
import pytest
from delivery_target import Target, live_delivery
from hypothesis import given
from hypothesis import strategies as st

from rambla_py._internal.tls import TlsTable
from rambla_py.delivery import Delivery
from rambla_py.errors import (
    AccessError,
    ConnectionLostError,
    PayloadTooLargeError,
    PermanentError,
    SerializationError,
    UnavailableError,
)
from rambla_py.handler import Secret
from rambla_py.handlers.redis.encode import RedisOptions, encoder_for
from rambla_py.handlers.redis.errors import KeyDeniedError, RedirectError, reply_error
from rambla_py.handlers.redis.settings import RedisSettings, address_of
from rambla_py.policy import Policy
from rambla_py.serialization.encoding import encode


def delivery(payload: Any, *, headers: dict[str, Any] | None = None, given_id: str | None = None) -> Delivery:
    return live_delivery(
        payload=payload,
        target=Target("redis", id_prefix="id-"),
        receipt=None,
        seq=7,
        accepted_at=0.0,
        options=None,
        policy=Policy(),
        headers=headers or {},
        given_id=given_id,
    )


def command(payload: Any, *, headers: dict[str, Any] | None = None, **options: Any) -> list[bytes]:
    """Pack one message, and read it as the server would."""
    packed = encoder_for(RedisOptions(**options), "orders")(delivery(payload, headers=headers))
    reader = hiredis.Reader()
    reader.feed(packed)
    read = reader.gets()
    assert not reader.has_data(), "more than one command"
    return read


def test_set_of_one_key():
    """A mapping of one key is a plain SET."""
    assert command({"a": 1}) == [b"SET", b"a", b"1"]


def test_set_of_several_keys():
    """Several keys are one MSET, which Redis applies whole."""
    assert command({"a": 1, "b": "two"}) == [b"MSET", b"a", b"1", b"b", b"two"]


def test_set_of_one_key_with_ttl():
    """ttl_s goes along as PX, in milliseconds."""
    assert command({"a": 1}, ttl_s=1.5) == [b"SET", b"a", b"1", b"PX", b"1500"]


def test_set_of_several_keys_with_ttl():
    """Several keys with ttl_s are one script that names every key."""
    verb, _, count, *rest = command({"a": 1, "b": 2}, ttl_s=2)
    assert (verb, count, rest) == (b"EVAL", b"2", [b"a", b"b", b"2000", b"1", b"2"])


def test_ttl_is_at_least_a_millisecond():
    """A ttl_s below a millisecond does not become 0, which Redis refuses."""
    assert command({"a": 1}, ttl_s=0.0001)[-1] == b"1"


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (b"\x00raw", b"\x00raw"),
        (bytearray(b"raw"), b"raw"),
        ("é", b"\xc3\xa9"),
        ('"quoted"', b'"quoted"'),
        (b'"quoted"', b'"quoted"'),
        (10**30, b"1" + b"0" * 30),
        (1.5, b"1.5"),
        (float("nan"), b"nan"),
        (True, b"true"),
        (None, b"null"),
        ([1, "x"], b'[1,"x"]'),
        ({"k": [None]}, b'{"k":[null]}'),
        (datetime.date(2013, 1, 2), b"2013-01-02"),
        (uuid.UUID(int=1), b"00000000-0000-0000-0000-000000000001"),
        (Decimal("1.10"), b"1.10"),
        (Colour.RED, b"red"),
    ],
)
def test_values_of_a_mapping(value: Any, written: bytes):
    """Bytes go as they are, scalars as text, containers as JSON."""
    assert command({"a": value}) == [b"SET", b"a", written]


@pytest.mark.parametrize(("key", "written"), [(b"\xff", b"\xff"), (5, b"5"), ("é", b"\xc3\xa9")])
def test_keys_of_a_mapping(key: Any, written: bytes):
    """Keys may be text, bytes or numbers."""
    assert command({key: "v"})[1] == written


@pytest.mark.parametrize("verb", ["set", "hset"])
@pytest.mark.parametrize("payload", ["text", b"bytes", [1], {}])
def test_what_is_no_mapping_is_refused(verb: str, payload: Any):
    """Set and hset take a mapping with something in it; anything else no retry can mend."""
    with pytest.raises(PermanentError, match="mapping"):
        command(payload, command=verb)


def test_unserializable_value_names_its_path():
    """The error of a value that cannot be written leads to it through the mapping."""
    with pytest.raises(SerializationError) as caught:
        command({"a": 1, "b": {"c": [object()]}})
    assert caught.value.path == "$.b.c[0]"


def test_lone_surrogate_is_a_serialization_error():
    """Text that UTF-8 cannot hold is refused, not sent broken."""
    with pytest.raises(SerializationError):
        command({"a": "\ud800"})


def test_publish():
    """Publish sends the payload's bytes to the topic."""
    assert command({"id": 1}, command="publish", topic="news") == [b"PUBLISH", b"news", b'{"id":1}']


@pytest.mark.parametrize(
    ("verb", "at"), [("publish", 1), ("lpush", 1), ("rpush", 1), ("xadd", 1), ("hset", 1)]
)
def test_the_target_is_the_channel_when_none_is_named(verb: str, at: int):
    """Without topic, list, stream or hash the channel's name stands there."""
    assert command({"a": 1}, command=verb)[at] == b"orders"


@pytest.mark.parametrize("verb", ["lpush", "rpush"])
def test_push(verb: str):
    """A push without limits is the plain command."""
    assert command("x", command=verb, list="jobs") == [verb.upper().encode(), b"jobs", b"x"]


@pytest.mark.parametrize(
    ("options", "limits"),
    [
        ({"max_len": 5}, [b"5", b"0"]),
        ({"ttl_s": 1}, [b"0", b"1000"]),
        ({"max_len": 5, "ttl_s": 1}, [b"5", b"1000"]),
    ],
)
def test_push_with_limits(options: dict[str, Any], limits: list[bytes]):
    """max_len and ttl_s make the push one script, with the payload last."""
    verb, _, *rest = command("x", command="rpush", list="jobs", **options)
    assert (verb, rest) == (b"EVAL", [b"1", b"jobs", b"RPUSH", *limits, b"x"])


def test_scripts_do_not_depend_on_values():
    """The script's text is the same for every ttl_s and key: a server keeps each one it has seen."""
    first = command("x", command="rpush", list="a", ttl_s=1)[1]
    assert command("x", command="rpush", list="b", ttl_s=2, max_len=3)[1] == first


def test_hset():
    """Hset writes each key of the mapping as a field."""
    assert command({"a": 1, "b": [2]}, command="hset", hash="h") == [b"HSET", b"h", b"a", b"1", b"b", b"[2]"]


def test_xadd():
    """An entry has the message's id, and the payload as one field."""
    assert command({"n": 1}, command="xadd", stream="s") == [
        *(b"XADD", b"s", b"*", b"id", b"id-7", b"payload", b'{"n":1}')
    ]


def test_xadd_with_max_len_and_names():
    """max_len trims about; id_field and field name the fields."""
    assert command("x", command="xadd", max_len=9, id_field="key", field="body") == [
        *(b"XADD", b"orders", b"MAXLEN", b"~", b"9", b"*", b"key", b"id-7", b"body", b"x")
    ]


def test_xadd_without_id():
    """An empty id_field leaves the id out."""
    assert command("x", command="xadd", id_field="") == [b"XADD", b"orders", b"*", b"payload", b"x"]


def test_xadd_with_ttl():
    """With ttl_s the entry and the expiry are one script, with all arguments of XADD."""
    verb, _, *rest = command("x", command="xadd", ttl_s=1, max_len=9)
    assert verb == b"EVAL"
    assert rest == [b"1", b"orders", b"1000", b"MAXLEN", b"~", b"9", b"*", b"id", b"id-7", b"payload", b"x"]


def test_headers_are_fields_of_the_entry():
    """Headers travel between the id and the payload."""
    assert command("x", command="xadd", headers={"traceparent": "00-ab", "n": 1})[3:] == [
        *(b"id", b"id-7", b"traceparent", b"00-ab", b"n", b"1", b"payload", b"x")
    ]


@pytest.mark.parametrize("id_field", ["id", ""])
def test_headers_that_messages_share_are_fields_of_each_entry(id_field):
    """One after the other or not: each has the headers of its own, and its own id and payload."""
    encode = encoder_for(RedisOptions(command="xadd", id_field=id_field), "orders")
    first, second = {"traceparent": "00-ab"}, {"traceparent": "00-cd", "n": 1}
    reader = hiredis.Reader()
    for number, headers in enumerate([first, first, first, second, first, second, second, {}, second]):
        reader.feed(encode(delivery("x" * number, headers=headers, given_id=f"id-{number}")))
        fields = [item for name, value in headers.items() for item in (name.encode(), str(value).encode())]
        own = [b"id", f"id-{number}".encode()] if id_field else []
        assert reader.gets() == [b"XADD", b"orders", b"*", *own, *fields, b"payload", b"x" * number]


def test_xadd_of_a_mapping():
    """With fields = "mapping" each key of the payload is a field of its own."""
    assert command({"a": 1, "b": "x"}, command="xadd", fields="mapping")[3:] == [
        *(b"id", b"id-7", b"a", b"1", b"b", b"x")
    ]


def test_a_mapping_may_not_hide_the_id():
    """A payload key that the id's field has too is refused, and the text says how to mend it."""
    with pytest.raises(PermanentError, match="another id_field"):
        command({"id": 42}, command="xadd", fields="mapping")


def test_a_mapping_may_take_the_id_field_that_is_turned_off():
    """Without id_field the payload may have a key of that name."""
    assert command({"id": 42}, command="xadd", fields="mapping", id_field="")[3:] == [b"id", b"42"]


@pytest.mark.parametrize(
    ("payload", "options"),
    [
        ("x" * 11, {"command": "publish"}),
        ("x" * 11, {"command": "xadd"}),
        ("x" * 11, {"command": "xadd", "id_field": ""}),
        ({"a": "x" * 11}, {"command": "set"}),
        ({"x" * 11: "a"}, {"command": "hset"}),
    ],
)
def test_too_large(payload: Any, options: dict[str, Any]):
    """What is over the server's limit for a value is refused before it is sent."""
    with pytest.raises(PayloadTooLargeError) as caught:
        encoder_for(RedisOptions(**options), "orders", 10)(delivery(payload))
    assert (caught.value.size, caught.value.limit) == (11, 10)


def test_the_default_limit_is_that_of_redis():
    """A value of 512 MB is the largest that a server takes by default."""
    with pytest.raises(PayloadTooLargeError):
        encoder_for(RedisOptions(command="publish"), "orders")(delivery(bytes(512 * 1024 * 1024 + 1)))


@given(
    st.dictionaries(st.text(min_size=1) | st.binary(), st.text() | st.binary(), min_size=1),
    st.sampled_from([None, 3.0]),
)
def test_any_mapping_is_one_command(payload: dict[Any, Any], ttl_s: float | None):
    """Whatever text and bytes hold, line ends included, the server reads one command with these values."""
    read = command(payload, command="hset", ttl_s=ttl_s)
    written = [
        part if isinstance(part, bytes) else part.encode() for pair in payload.items() for part in pair
    ]
    assert read[-len(written) :] == written


@given(st.text() | st.binary(), st.text(min_size=1))
def test_any_payload_is_one_entry(payload: str | bytes, given_id: str):
    """The fast road for entries gives the same as the driver's own packing."""
    message = delivery(payload, given_id=given_id)
    packed = encoder_for(RedisOptions(command="xadd"), "orders")(message)
    words = (b"XADD", b"orders", b"*", b"id", given_id.encode(), b"payload", encode(payload))
    assert packed == hiredis.pack_command(words)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", UnavailableError),
        ("BUSY Redis is busy running a script.", UnavailableError),
        ("TRYAGAIN Multiple keys request during rehashing of slot", UnavailableError),
        ("CLUSTERDOWN Hash slot not served", UnavailableError),
        ("MISCONF Redis is configured to save RDB snapshots", UnavailableError),
        ("NOREPLICAS Not enough good replicas to write.", UnavailableError),
        ("READONLY You can't write against a read only replica.", UnavailableError),
        ("LOADING Redis is loading the dataset in memory", UnavailableError),
        ("MASTERDOWN Link with MASTER is down", UnavailableError),
        ("ERR max number of clients reached", ConnectionLostError),
        ("NOAUTH Authentication required.", AccessError),
        ("WRONGPASS invalid username-password pair", AccessError),
        ("NOPERM this user has no permissions to run the 'rpush' command", AccessError),
        ("NOPERM this user has no permissions to access one of the keys used as arguments", KeyDeniedError),
        ("NOPERM No permissions to access a channel", KeyDeniedError),
        ("WRONGTYPE Operation against a key", PermanentError),
        ("ERR unknown command", AccessError),
        ("DENIED Redis is running in protected mode", AccessError),
        ("MOVED 3999 127.0.0.1:6381", RedirectError),
        ("MOVED 3999 nonsense", PermanentError),
        ("UNBLOCKED force unblock from blocking operation", UnavailableError),
        ("", PermanentError),
    ],
)
def test_error_replies(text: str, kind: type[Exception]):
    """Each code has its error: unavailable, lost, for an operator, or permanent; the text is kept."""
    error = reply_error(text)
    assert type(error) is kind
    assert str(error).startswith(text)


@pytest.mark.parametrize(
    ("inner", "kind"),
    [
        ("@user_script: 1: -OOM command not allowed when used memory > 'maxmemory'.\r\n", UnavailableError),
        ("@user_script: 1: -READONLY You can't write against a read only replica.", UnavailableError),
        ("-READONLY You can't write against a read only replica.", UnavailableError),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", PermanentError),
        ("@user_script: 1: Unknown Redis command called from Lua script", PermanentError),
    ],
)
def test_errors_of_scripts_as_older_servers_tell_them(inner: str, kind: type[Exception]):
    """Redis 6 and Dragonfly wrap what a command in a script answered: it means the same as by itself."""
    wrapped = f"ERR Error running script (call to f_1028a5db): @user_script:1: {inner}"
    assert type(reply_error(wrapped)) is kind


def test_a_url_gives_everything():
    """User, password, host, port and database come from the URL; rediss turns on TLS."""
    url = Secret("rediss://ann:pa%2Fss@cache:7000/3")
    address = address_of(RedisSettings(url=url, port=1, database=9))
    assert address == ("cache", 7000, None, "ann", Secret("pa/ss"), 3, TlsTable(), "redis")


def test_a_url_leaves_the_rest_to_the_fields():
    """What a URL does not say is taken from the fields beside it."""
    address = address_of(RedisSettings(url=Secret("redis://cache"), password=Secret("x"), database=2))
    assert (address.host, address.port, address.password, address.database) == ("cache", 6379, Secret("x"), 2)


def test_a_unix_socket():
    """A unix URL has a path and a database."""
    address = address_of(RedisSettings(url=Secret("unix:///run/redis.sock?db=2")))
    assert (address.path, address.database, address.where) == (
        "/run/redis.sock",
        2,
        "redis at /run/redis.sock",
    )


@pytest.mark.parametrize(
    "url",
    [
        "http://:canary@host",
        "canary",
        "redis://:canary/x@host:99999999/0",
        "redis://host:canary",
        "redis://host/?canary_option=1&max_connections=canary",
    ],
)
def test_a_wrong_url_is_refused_without_showing_it(url: str):
    """A URL that cannot be used is a ValueError whose text holds nothing of a password."""
    with pytest.raises(ValueError, match="a url") as caught:
        RedisSettings(url=Secret(url))
    assert "canary" not in str(caught.value).replace("canary_option", "")
    assert caught.value.__cause__ is None


def test_url_and_host_are_refused_together():
    """One of url and host is given, not both."""
    with pytest.raises(ValueError, match="both url and host"):
        RedisSettings(url=Secret("redis://a"), host="b")


def test_settings_hide_secrets():
    """Neither the table nor the address shows a password or the URL."""
    settings = RedisSettings(url=Secret("redis://:canary@host"), password=Secret("canary"))
    assert "canary" not in f"{settings!r}{address_of(settings)!r}"
