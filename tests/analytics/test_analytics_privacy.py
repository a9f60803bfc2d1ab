"""Scrubbing of further fields, addresses and sizes."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import sys
import uuid
from collections import OrderedDict, namedtuple
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rambla_py.analytics.privacy import CUT, CYCLE, UNREADABLE, PrivacySettings, Scrubber, privacy_settings
from rambla_py.errors import ConfigError

SECRET = "k4n4r1-v0g3l"
FULL_WIDTH = "\uff50\uff41\uff53\uff53\uff57\uff4f\uff52\uff44"
SCRUBBER = Scrubber(PrivacySettings(), salt=b"key")


def scrubber(**settings: Any) -> Scrubber:
    return Scrubber(privacy_settings(settings), salt=b"key")


@pytest.mark.parametrize(
    "key",
    [
        *str.split(
            "password PASSWORD passwd dbPassword user[password] apiKey X-API-Key client_secret clientSecret"
            " Authorization HTTP_AUTHORIZATION set-cookie cookies session sessionId session_id PHPSESSID csrf"
            " csrfToken _csrf cvv CVV2 card-cvc iban customerIban ssn SSN pin cardPin pin_code access_token"
            " aCcEsS_tOkEn password_hash new-password-confirmation privateKey db.password secret.answer"
        ),
        "API Key",
        "client secret",
        "accessKeyId",
        "x_api_key_v2",
        "securityCode",
        "Kennwort",
        FULL_WIDTH,
    ],
)
def test_secret_keys_are_masked(key: str) -> None:
    """The value under a secret key is masked in any case and style, whatever its type, at any level."""
    for value in [SECRET, 1234, None, [SECRET], {"a": SECRET}, b"x"]:
        assert SCRUBBER.fields({key: value})[key] == "***"
        assert SECRET not in str(SCRUBBER.fields({"a": [{"b": {key: value}}]}))


@pytest.mark.parametrize(
    "key",
    str.split(
        "routing_key spinning shipping pinterest compass author session_count token_type passenger order"
    ),
)
def test_other_keys_are_kept(key: str) -> None:
    """A name that only contains the letters of a secret one is kept."""
    assert SCRUBBER.fields({key: 5}) == {key: 5}


def test_names_of_ones_own() -> None:
    """``secret_keys`` are masked, and ``keep_keys`` are not, in any case and style."""
    own = scrubber(secret_keys=["shoe_size"], keep_keys=["publicToken"])
    fields = {"ShoeSize": 43, "customer-shoe-size": 43, "public_token": "p", "token": "t"}
    assert own.fields(fields) == {
        "ShoeSize": "***",
        "customer-shoe-size": "***",
        "public_token": "p",
        "token": "***",
    }


def test_mode_allow_keeps_the_named_fields_only() -> None:
    """Nested values of a kept field are scrubbed as ever."""
    allow = scrubber(mode="allow", keep_keys=["order_id", "cart"])
    fields = {"orderId": "o-1", "note": "n", "cart": {"items": 2, "token": "t"}, 7: "x"}
    for _ in range(2):
        assert allow.fields(fields) == {"orderId": "o-1", "cart": {"items": 2, "token": "***"}}  # type: ignore[arg-type]


class Colour(Enum):
    RED = "red"


class Broken:
    def __str__(self) -> str:
        raise MemoryError

    __repr__ = __str__


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise ValueError


@dataclasses.dataclass
class User:
    name: str
    password: str
    hidden: str = dataclasses.field(default="h", repr=False)


class Account(msgspec.Struct):
    iban: str
    plan: str


Point = namedtuple("Point", "x pin")


@pytest.mark.parametrize(
    ("value", "recorded"),
    [
        (Decimal("99.90"), "99.90"),
        (Decimal("NaN"), "NaN"),
        (float("nan"), "NaN"),
        (float("inf"), "Infinity"),
        (float("-inf"), "-Infinity"),
        (1.5, 1.5),
        (2**70, str(2**70)),
        (-(2**63), -(2**63)),
        (dt.date(2024, 1, 15), "2024-01-15"),
        (dt.datetime(2024, 1, 15, tzinfo=dt.UTC), "2024-01-15T00:00:00+00:00"),
        (dt.timedelta(seconds=2), 2.0),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Path("/a/b"), "/a/b"),
        ({5}, [5]),
        ((1, 2), [1, 2]),
        (b"text", "text"),
        (b"\xff\x00", "<2 bytes>"),
        ("\ud800", "\ufffd"),
        ("\ud83d\ude00", "\U0001f600"),
        ("a\x00b", "a\ufffdb"),
        (object(), "<object>"),
        (Broken(), UNREADABLE),
        (Text("text"), "text"),
        (Colour.RED, "red"),
        (ValueError(f"password={SECRET}"), "password=***"),
        (User("bob", SECRET), {"name": "bob", "password": "***"}),
        (Account(SECRET, "pro"), {"iban": "***", "plan": "pro"}),
        (Point(1, SECRET), {"x": 1, "pin": "***"}),
        (OrderedDict(a=1), {"a": 1}),
        ({1: "a", None: "b", b"c": "d"}, {"1": "a", "None": "b", "c": "d"}),
        ([("Cookie", SECRET), ("Host", "h")], [["Cookie", "***"], ["Host", "h"]]),
        ([{"name": "password", "value": SECRET}], [{"name": "password", "value": "***"}]),
        (("Cookie", SECRET), ["Cookie", "***"]),
        (["--token", SECRET, "-v"], ["--token", "***", "-v"]),
        (4111111111111111, "***"),
        (4111111111111111.0, "***"),
        (4111111111111112, 4111111111111112),
        (1705314600003, 1705314600003),
    ],
)
def test_values_become_plain_data(value: object, recorded: object) -> None:
    """Values of any type are recorded as JSON that every database stores."""
    fields = SCRUBBER.fields({"a": value, "b": 1})
    assert fields == {"a": recorded, "b": 1}
    assert "\\u0000" not in json.dumps(fields, allow_nan=False)


def test_an_iterator_is_not_consumed() -> None:
    """Reading it would take the items from the application."""
    numbers = iter([1, 2])
    assert "iterator" in str(SCRUBBER.fields({"a": numbers}))
    assert list(numbers) == [1, 2]


def test_depth_items_and_cycles_are_limited() -> None:
    """What is deeper than 8 levels, after 1,000 items, or a container inside itself, is marked."""
    deep: dict[str, Any] = {}
    for _ in range(5_000):
        deep = {"a": deep}
    cycle: list[Any] = [1]
    cycle.append(cycle)
    fields = SCRUBBER.fields({"deep": deep, "cycle": cycle, "wide": list(range(2_000)), "same": [deep, deep]})
    assert json.dumps(fields["deep"]).count('"a"') == 8
    assert CUT in json.dumps(fields["deep"], ensure_ascii=False)
    assert fields["cycle"] == [1, CYCLE]
    assert fields["wide"] == [*range(1_000), CUT]
    many = SCRUBBER.fields({f"f{number}": number for number in range(2_000)})
    assert len(many) == 1_001
    assert many[CUT] == CUT


def test_shared_containers_do_not_multiply() -> None:
    """A few lists that hold each other a thousand times would be more values than there are atoms."""
    value: Any = "x"
    for _ in range(7):
        value = [value] * 1_000
    assert len(json.dumps(SCRUBBER.fields({"a": value}))) < 1_000_000


def test_keys_are_scrubbed_too() -> None:
    """A secret in a key is masked; of keys that are then equal none is lost."""
    fields = {f"https://h/?page={SECRET}{number}": number for number in range(3)}
    assert SCRUBBER.fields({"a": fields})["a"] == {
        "https://h/?page=***": 0,
        "https://h/?page=***#2": 1,
        "https://h/?page=***#3": 2,
    }
    assert SCRUBBER.fields({"a\x00": 1, "\ud800": 2}) == {"a\ufffd": 1, "\ufffd": 2}


def test_a_mapping_that_raises_is_marked() -> None:
    """Nothing raises, at the limit of recursion neither."""

    class Bad(dict[str, object]):
        def items(self) -> Any:
            raise RuntimeError

    assert SCRUBBER.fields(Bad(a=1)) == {UNREADABLE: UNREADABLE}

    def deep(levels: int) -> None:
        if levels:
            deep(levels - 1)
        else:
            assert SCRUBBER.fields({"b": [[1]]}) is not None
            assert SCRUBBER.text("a=b " * 100)
            assert SCRUBBER.query("SELECT 1").type
            SCRUBBER.ip("203.0.113.7")
            SCRUBBER.email("a@b.example")
            SCRUBBER.url("https://h/?a=b")

    for levels in range(sys.getrecursionlimit() - 150, sys.getrecursionlimit(), 3):
        try:
            deep(levels)
        except RecursionError as error:
            names = []
            trace = error.__traceback__
            while trace:
                names.append(trace.tb_frame.f_code.co_name)
                trace = trace.tb_next
            assert names[-1] == "deep", names[-5:]
    assert SCRUBBER.fields({"b": [[1]]}) == {"b": [[1]]}


def test_what_is_no_exception_passes() -> None:
    """``KeyboardInterrupt`` and ``SystemExit`` are not for a scrubber to catch."""

    class Leaving:
        def __str__(self) -> str:
            raise SystemExit

    with pytest.raises(SystemExit):
        SCRUBBER.fields({"a": Leaving()})


@pytest.mark.parametrize(
    ("address", "cut"),
    [
        ("203.0.113.7", "203.0.113.0"),
        ("203.0.113.7:443", "203.0.113.0"),
        ("2001:db8:1:2::3", "2001:db8:1::"),
        ("[2001:db8:1:2::3]:443", "2001:db8:1::"),
        ("fe80::1%eth0", "fe80::"),
        ("::ffff:203.0.113.7", "203.0.113.0"),
        ("2002:cb00:7107::1", "2002:cb00:7100::"),
        ("unknown", None),
        ("", None),
        (None, None),
        (b"203.0.113.7", "203.0.113.0"),
    ],
)
def test_addresses_are_cut(address: object, cut: str | None) -> None:
    """IPv4 to /24 and IPv6 to /48; an IPv4 address inside of an IPv6 one is cut too."""
    assert SCRUBBER.ip(address) == cut


def test_addresses_are_hashed_with_a_salt_of_the_day() -> None:
    """The same within a day (UTC) and key, another on the next, and by another key."""
    now = 0.0

    def of(key: bytes) -> Scrubber:
        return Scrubber(PrivacySettings(ip="hash"), salt=key, clock=lambda: now)

    one, two = of(b"one"), of(b"two")
    first = one.ip("203.0.113.7")
    now = 86_399.0
    assert one.ip("::ffff:203.0.113.7") == first != two.ip("203.0.113.7")
    now = 86_400.0
    assert one.ip("203.0.113.7") != first
    assert scrubber(ip="keep").ip(" 203.0.113.7 ") == "203.0.113.7"
    assert scrubber(ip="drop").ip("203.0.113.7") is None


def test_addresses_under_further_keys() -> None:
    """``client_ip`` and ``email`` are addresses by their name."""
    fields = SCRUBBER.fields(
        {"client_ip": "203.0.113.7", "x-forwarded-for": "203.0.113.7, 198.51.100.9", "ip": "n/a"}
    )
    assert fields == {"client_ip": "203.0.113.0", "x-forwarded-for": "203.0.113.0, 198.51.100.0", "ip": "n/a"}
    hashed = SCRUBBER.email("bob@example.com").hash
    assert SCRUBBER.fields({"email": "Bob@Example.com"}) == {"email": f"{hashed}@example.com"}
    assert scrubber(email="drop").fields({"email": "bob@example.com"}) == {"email": "***"}


def test_lists_of_addresses_hold_addresses() -> None:
    """A list under such a key, or one inside it, is no way around it."""
    fields = SCRUBBER.fields(
        {"ips": ["203.0.113.7", ("2001:db8:1:2::3",)], "ip_addresses": {"203.0.113.7"}, "ipv4": "203.0.113.7"}
    )
    assert fields == {
        "ips": ["203.0.113.0", ["2001:db8:1::"]],
        "ip_addresses": ["203.0.113.0"],
        "ipv4": "203.0.113.0",
    }
    assert SCRUBBER.fields({"emails": ["Bob@Example.com"]})["emails"] == [
        SCRUBBER.fields({"email": "bob@example.com"})["email"]
    ]


@pytest.mark.parametrize("order", [1, -1])
def test_a_value_whose_name_is_secret_is_masked(order: int) -> None:
    """``name`` and ``value`` are fields of their own, in any order, at any level."""
    given = dict([("name", "password"), ("value", SECRET)][::order])
    assert SCRUBBER.fields(given) == {"name": "password", "value": "***"}
    assert SCRUBBER.fields({"a": [given]}) == {"a": [{"name": "password", "value": "***"}]}
    assert SCRUBBER.fields({**given, "name": "colour"})["value"] == SECRET


def test_email_addresses() -> None:
    """Domain and hash; the hash ignores case and the name before the address, and lasts."""
    parts = SCRUBBER.email("Bob <Bob@Example.com>")
    assert parts.domain == "example.com"
    assert parts == SCRUBBER.email(["bob@example.com", "eve@example.org"])
    assert parts.hash != Scrubber(PrivacySettings(), salt=b"other").email("bob@example.com").hash
    assert scrubber(email="domain").email("bob@example.com") == ("example.com", None)
    assert scrubber(email="drop").email("bob@example.com") == (None, None)
    for nothing in ["bob", "", None, "bob@", "@example.com", "a@b c", 7, [], Broken()]:
        assert SCRUBBER.email(nothing) == (None, None)


def test_the_salt_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one, it is the same within a process."""
    monkeypatch.delenv("RAMBLA_ANALYTICS_SALT", raising=False)
    random = Scrubber(PrivacySettings()).email("bob@example.com")
    assert random == Scrubber(PrivacySettings()).email("bob@example.com")
    monkeypatch.setenv("RAMBLA_ANALYTICS_SALT", "key")
    assert Scrubber(PrivacySettings()).email("bob@example.com") == SCRUBBER.email("bob@example.com") != random


def test_texts_are_cut() -> None:
    """At ``max_text``, with a mark, and with a secret across the cut masked."""
    assert SCRUBBER.text("x" * 10_000_000) == "x" * 8192 + CUT
    short = scrubber(max_text=16)
    assert short.text("a card 4111111111111111 and more") == "a card *** and m" + CUT
    assert short.text("x" * 10 + " Bearer " + SECRET * 1_000) == "x" * 10 + " Beare" + CUT


def test_events_fit() -> None:
    """The largest further fields are cut first; an event that fits is not copied."""
    event = {"id": "1", "properties": {"a": "x" * 600, "b": ["y" * 500], "c": 1}, "context": {"host": "h"}}
    assert SCRUBBER.fit(event) is event
    assert scrubber(max_event_bytes=1024).fit(event)["properties"] == {"a": CUT, "b": ["y" * 500], "c": 1}
    assert event["properties"]["a"] == "x" * 600  # type: ignore[index]


@pytest.mark.parametrize(
    "event",
    [
        {"id": "1", "properties": {f"field {number}": number for number in range(1_000)}},
        {
            "id": "1",
            "error_message": "\U0001f600" * 8192,
            "user_agent": "x" * 8192,
            "properties": {"a": "x" * 70_000},
        },
        {"id": "1", "context": {"a": "x" * 70_000}, "properties": {}},
    ],
)
def test_events_always_fit(event: dict[str, Any]) -> None:
    """Many small fields, or strings of the event's own, are cut when that is what is large."""
    fitted = scrubber(max_event_bytes=4096).fit(event)
    assert len(msgspec.json.encode(fitted)) <= 4096
    assert fitted["id"] == "1"
    assert CUT in json.dumps(fitted, ensure_ascii=False)


def test_settings_have_clear_problems() -> None:
    """All problems at once, with their paths, and the nearest name."""
    with pytest.raises(ConfigError) as caught:
        privacy_settings({"mode": "denny", "secret_key": [], "max_text": 0, "keep_keys": [""], "ip": 5})
    text = str(caught.value)
    for expected in (
        "rambla.analytics.privacy.mode",
        "did you mean 'deny'?",
        "rambla.analytics.privacy.secret_key",
        "did you mean 'secret_keys'?",
        "rambla.analytics.privacy.max_text",
        "an integer >= 16",
        "rambla.analytics.privacy.keep_keys",
        "rambla.analytics.privacy.ip",
    ):
        assert expected in text


def test_repr_shows_no_salt() -> None:
    """Nor a string that is cached."""
    own = Scrubber(PrivacySettings(), salt=SECRET.encode())
    own.text(SECRET)
    assert SECRET not in repr(own)
