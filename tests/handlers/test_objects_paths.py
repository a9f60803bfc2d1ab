"""Where objects go: URLs, and the paths that templates give."""

from __future__ import annotations

import datetime as dt
import time
import uuid
from dataclasses import dataclass
from typing import Any

import pytest
from deliveries import make_delivery
from hypothesis import given
from hypothesis import strategies as st

from rambla_py.errors import PermanentError
from rambla_py.handlers.objects.place import check_path, place_of
from rambla_py.handlers.objects.template import accepted_at, template_of


@dataclass
class Order:
    customer: str


def rendered(path: str, payload: Any = None, **fields: Any) -> str:
    return template_of(path).render(make_delivery(payload, accepted_at=time.monotonic(), **fields))


# -- URLs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("s3://bucket", ("s3", "bucket", "")),
        ("s3://bucket/", ("s3", "bucket", "")),
        ("gs://bucket/a/b/", ("gs", "bucket", "a/b")),
        ("az://container/a", ("az", "container", "a")),
        ("file:///a%20folder/b/", ("file", "/a folder/b", "")),
        ("file:///", ("file", "/", "")),
        ("memory://", ("memory", "", "")),
        ("memory://shelf", ("memory", "shelf", "")),
    ],
)
def test_a_url(url: str, parts: tuple[str, str, str]) -> None:
    """A URL says which store, which bucket, container or folder, and the prefix below it."""
    assert tuple(place_of(url)) == parts


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("bucket", "a url that is not s3://"),
        ("gcs://bucket", "did you mean gs://"),
        ("s3://", "without a bucket"),
        ("az:///x", "without a container"),
        ("file://folder", "with three slashes"),
        ("s3://bucket/../other", "the part '..'"),
        ("s3://bucket?region=x", "have keys of their own"),
    ],
)
def test_a_wrong_url(url: str, told: str) -> None:
    """A URL that is wrong is refused, with what it should be."""
    with pytest.raises(ValueError, match=told):
        place_of(url)


def test_a_url_with_a_password_is_not_quoted() -> None:
    """What could be a password stands in no error."""
    with pytest.raises(ValueError, match="keys of their own") as caught:
        place_of("s3://key:hunter2@bucket")
    assert "hunter2" not in str(caught.value)


# -- templates ----------------------------------------------------------------------------------------------


def test_what_a_message_brings() -> None:
    """Id, key, channel, service and parts of the payload stand where the template says."""
    path = "{service}/{channel}/{key}/{payload.order.customer}-{payload.n:04d}/{id}.json"
    payload = {"order": Order("ada"), "n": 7}
    assert rendered(path, payload, key="k", given_id="m-1") == "test/demo/k/ada-0007/m-1.json"


def test_the_date_is_that_of_publish_in_utc() -> None:
    """The date is when the message was accepted: a retry after midnight goes where the first attempt did."""
    message = make_delivery(accepted_at=time.monotonic() - 3 * 24 * 3600)
    at = dt.datetime.now(dt.UTC) - dt.timedelta(days=3)
    assert abs((accepted_at(message) - at).total_seconds()) < 5
    assert template_of("{date:%Y/%m/%d}/x").render(message) == f"{accepted_at(message):%Y/%m/%d}/x"
    assert template_of("{date}").render(message) == f"{accepted_at(message):%Y-%m-%d}"


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (True, "true"),
        (1.5, "1.5"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (dt.date(2013, 1, 1), "2013-01-01"),
        (dt.datetime(2013, 1, 1, 12), "2013-01-01T12:00:00"),
    ],
)
def test_values_of_the_payload(value: Any, told: str) -> None:
    """Numbers, dates and UUIDs are written as people write them."""
    assert rendered("{payload.x}", {"x": value}) == told


def test_a_format_of_a_payloads_value() -> None:
    """A value that takes a format is given it; one that does not is refused with the reason."""
    assert rendered("{payload.at:%Y/%m}/x", {"at": dt.date(2013, 1, 1)}) == "2013/01/x"
    assert rendered("{payload.n:>3}x", {"n": 7}) == "  7x"
    with pytest.raises(PermanentError, match=r"payload\.n:d"):
        rendered("{payload.n:d}", {"n": "seven"})


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("{idd}.json", r"has \{idd\}, which is not known; did you mean \{id\}"),
        ("{nothing}", r"known are \{date\}"),
        ("{}", "which is not known"),
        ("{0}", "which is not known"),
        ("{id", "is no template"),
        ("{id!r}", "leave out the !r"),
        ("{id:>10}", "only dates and payloads take a format"),
        ("{payload.}", "which is not known"),
        ("{payload}", "which is not known"),
        ("{id.__class__}", "which is not known"),
        ("/{id}", "names between single slashes"),
        ("a//{id}", "names between single slashes"),
        ("../{id}", "names between single slashes"),
        ("a\\{id}", "a backslash"),
    ],
)
def test_a_wrong_template(path: str, told: str) -> None:
    """A template that cannot work is refused when it is read, with what is known."""
    with pytest.raises(ValueError, match=told):
        template_of(path)


@pytest.mark.parametrize(
    ("path", "payload", "told"),
    [
        ("{key}", None, "takes {key}, and the message has none"),
        ("{payload.x}", {}, "takes {payload.x}, and the message has none"),
        ("{payload.x}", {"x": None}, "the message has none"),
        ("{payload.x}", "text", "the message has none"),
        ("{payload.upper}", "text", "the message has none"),
        ("{payload.__class__}", Order("ada"), "the message has none"),
        ("{payload.x}", {"x": [1]}, "a value of type list"),
        ("{payload.x}", {"x": ""}, "the message has none"),
        ("{payload.x}", {"x": "../../etc/passwd"}, "is no name"),
        ("{payload.x}", {"x": "a/b"}, "is no name"),
        ("{payload.x}", {"x": "a\\b"}, "is no name"),
        ("{payload.x}", {"x": "a\nb"}, "is no name"),
        ("{payload.x}", {"x": ".."}, "the part '..'"),
        ("{payload.x}{payload.x}", {"x": "."}, "the part '..'"),
    ],
)
def test_a_value_that_is_no_name(path: str, payload: Any, told: str) -> None:
    """A message whose value cannot stand in a path fails alone, and says why."""
    with pytest.raises(PermanentError) as caught:
        rendered(path, payload)
    assert told in str(caught.value)


@given(value=st.text(max_size=20), other=st.text(max_size=20))
def test_no_value_leads_elsewhere(value: str, other: str) -> None:
    """Whatever the values are, an object stands as deep as the template says, or nowhere."""
    message = make_delivery({"a": value, "b": other})
    try:
        path = template_of("top/{payload.a}/{payload.b}{payload.a}.json").render(message)
    except PermanentError:
        return
    top, first, last = path.split("/")
    assert (top, first) == ("top", value)
    assert last == f"{other}{value}.json"
    check_path(path)
