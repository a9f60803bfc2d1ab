"""One rule for the URLs of all handlers."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rambla_py as rambla


class Place(NamedTuple):
    """A setting that holds a URL: its service, its key, what else the connection needs, the URL."""

    service: str
    key: str
    url: str
    others: dict[str, Any] = {}  # never modified


IN_URLS = [
    Place("amqp", "url", "amqp://shop:{}@127.0.0.1:9/v"),
    Place("amqp", "urls", "amqps://shop:{}@127.0.0.1:9/v"),
    Place("redis", "url", "redis://shop:{}@127.0.0.1:9/0"),
    Place("redis", "url", "redis+cluster://shop:{}@127.0.0.1:9"),
    Place("redis", "url", "redis+sentinel://shop:{}@127.0.0.1:9/main/0"),
    Place("http", "url", "http://shop:{}@127.0.0.1:9/in"),
    Place("http", "proxy", "http://shop:{}@127.0.0.1:9", {"url": "http://127.0.0.1:9"}),
    Place("clickhouse", "url", "https://shop:{}@127.0.0.1:9/db"),
    Place("clickhouse", "proxy", "http://shop:{}@127.0.0.1:9", {"url": "http://127.0.0.1:9"}),
    Place("jitsu", "proxy", "http://shop:{}@127.0.0.1:9", {"url": "http://127.0.0.1:9", "write_key": "k"}),
    Place("objects", "proxy", "http://shop:{}@127.0.0.1:9", {"url": "s3://bucket"}),
    Place("sql", "url", "postgresql://shop:{}@127.0.0.1:9/db"),
    Place("sql", "url", "mysql+pymysql://shop:{}@127.0.0.1:9/db"),
    Place("state", "url", "redis://shop:{}@127.0.0.1:9/0"),
    Place("kombu", "url", "amqp://shop:{}@127.0.0.1:9//"),
    Place("kombu", "url", "redis://shop:{}@127.0.0.1:9/0"),
    Place("nats", "url", "nats://shop:{}@127.0.0.1:9"),
    Place("nats", "urls", "tls://shop:{}@127.0.0.1:9"),
    Place("mqtt", "url", "mqtts://shop:{}@127.0.0.1:9"),
]
WITHOUT_PASSWORD = [
    Place("jitsu", "url", "https://127.0.0.1:9/prefix", {"write_key": "k"}),
    Place("objects", "url", "s3://bucket/prefix"),
    Place("objects", "url", "file:///tmp/objects"),
    Place("objects", "endpoint", "http://127.0.0.1:9", {"url": "s3://bucket"}),
    Place("sql", "url", "sqlite:////tmp/shop.db"),
    Place("state", "url", "sqlite:////tmp/state.db"),
    Place("state", "url", "http://127.0.0.1:9/state"),
    Place("state", "url", "memory://"),
    Place("kombu", "url", "memory://"),
]
EVERY = IN_URLS + WITHOUT_PASSWORD

places = pytest.mark.parametrize(
    "place", EVERY, ids=lambda place: f"{place.service}-{place.url.split(':')[0]}"
)
of_passwords = st.sampled_from(IN_URLS)
pieces = st.from_regex(r"[A-Za-z0-9.~-]{5,12}", fullmatch=True).map(lambda text: f"Zq{text}")


def load(place: Place, url: str) -> rambla.Config:
    """Load a configuration with a URL in its place."""
    value = [url] if place.key == "urls" else url
    return rambla.load_config(
        {
            place.service: {
                "connections": {"one": {place.key: value, **place.others}},
                "channels": {"orders": {}},
            }
        }
    )


def refusal(place: Place, url: str) -> str:
    """Return the error of a URL that must be refused."""
    with pytest.raises(rambla.ConfigError) as caught:
        load(place, url)
    return str(caught.value)


def test_every_setting_with_a_url_is_here() -> None:
    """A handler that gets another one has to be listed."""
    listed = {(place.service, place.key) for place in EVERY}
    for name in rambla.handler_names():
        handler = rambla.find_handler(name)
        if not handler.__module__.startswith("rambla_py."):
            continue  # of another test
        shape = handler.Connection
        if not (isinstance(shape, type) and issubclass(shape, msgspec.Struct)):
            continue
        # Objects of the alias s3, and webhooks of httpc, are those of the handler itself.
        names = {field for field in shape.__struct_fields__ if field in ("url", "urls", "proxy", "endpoint")}
        same = {place.service for place in EVERY if rambla.find_handler(place.service).Connection is shape}
        assert {(service, field) for service in same for field in names} <= listed, name
        assert same or not names, name


@places
def test_a_scheme_counts_in_any_case(place: Place) -> None:
    """``AMQP://`` is ``amqp://``."""
    scheme, _, rest = place.url.format("pw").partition("://")
    for written in (scheme.upper(), scheme.capitalize()):
        load(place, f"{written}://{rest}")


@places
@pytest.mark.parametrize("around", [" {}", "{} ", "{}\n", "\t{}"])
def test_whitespace_around_a_url_is_refused_by_name(place: Place, around: str) -> None:
    """It is not part of the name of a file, and no other error speaks for it."""
    assert "whitespace around it" in refusal(place, around.format(place.url.format("pw")))


@settings(max_examples=60, deadline=None)
@given(of_passwords, pieces, pieces, st.sampled_from("#/?@"))
def test_a_password_that_is_not_encoded_is_refused_without_a_part_of_it(
    place: Place, first: str, second: str, mark: str
) -> None:
    """The error says what to encode; neither half of the password is in it."""
    text = refusal(place, place.url.format(first + mark + second))
    assert "percent-encode" in text
    assert first not in text
    assert second not in text


@settings(max_examples=60, deadline=None)
@given(of_passwords, st.text(st.characters(min_codepoint=33, exclude_categories=["Cs", "Cc"]), min_size=1))
def test_any_password_can_be_encoded(place: Place, password: str) -> None:
    """Percent-encoded, every password is taken, and shows nowhere."""

    def shown(text: str) -> str:
        config = load(place, place.url.format(quote(text, safe="")))
        return repr(config.services[place.service].channels["orders"].settings)

    assert shown(password) == shown("another")
