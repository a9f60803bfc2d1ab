"""Where objects go: URLs, and the paths that templates give."""

from __future__ import annotations

import datetime as dt
import re
import time
import uuid
from dataclasses import dataclass
from typing import Any

import pytest
from deliveries import make_delivery
from hypothesis import given
from hypothesis import strategies as st

from rambla_py.errors import PermanentError
from rambla_py.handlers.objects.template import accepted_at, template_of
from rambla_py.handlers.objects.urls import check_path, local_path, place_of


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
    ("url", "shown"),
    [
        ("bucket", "a url that is not s3://"),
        ("gcs://bucket", "did you mean gs://"),
        ("s3://", "without a bucket"),
        ("az:///x", "without a container"),
        ("file://folder", "with three slashes"),
        ("s3://bucket/../other", "the part '..'"),
        ("s3://bucket?region=x", "have their own keys"),
    ],
)
def test_a_wrong_url(url: str, shown: str) -> None:
    """A URL that is wrong is refused, with what it should be."""
    with pytest.raises(ValueError, match=shown):
        place_of(url)


def test_a_url_with_a_password_is_not_quoted() -> None:
    """What could be a password stands in no error."""
    with pytest.raises(ValueError, match="their own keys") as caught:
        place_of("s3://key:hunter2@bucket")
    assert "hunter2" not in str(caught.value)


# -- templates ----------------------------------------------------------------------------------------------


def test_what_a_message_brings() -> None:
    """Id, key, channel, service and parts of the payload stand where the template says."""
    path = "{service}/{channel}/{key}/{payload.order.customer}-{payload.n}/{id}.json"
    payload = {"order": Order("ada"), "n": 7}
    assert rendered(path, payload, key="k", given_id="m-1") == "test/demo/k/ada-7/m-1.json"


def test_the_date_is_that_of_publish_in_utc() -> None:
    """The date is when the message was accepted: a retry after midnight goes where the first attempt did."""
    message = make_delivery(accepted_at=time.monotonic() - 3 * 24 * 3600)
    at = dt.datetime.now(dt.UTC) - dt.timedelta(days=3)
    assert abs((accepted_at(message) - at).total_seconds()) < 5
    assert template_of("{date:%Y/%m/%d}/x").render(message) == f"{accepted_at(message):%Y/%m/%d}/x"
    assert template_of("{date}").render(message) == f"{accepted_at(message):%Y-%m-%d}"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (True, "true"),
        (1.5, "1.5"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (dt.date(2013, 1, 1), "2013-01-01"),
        (dt.datetime(2013, 1, 1, 12), "2013-01-01T12:00:00"),
    ],
)
def test_values_of_the_payload(value: Any, shown: str) -> None:
    """Numbers, dates and UUIDs are written as people write them."""
    assert rendered("{payload.x}", {"x": value}) == shown


def test_a_format_of_a_payloads_value() -> None:
    """Only dates and times take a format: that of a number could make gigabytes of it."""
    assert rendered("{payload.at:%Y/%m}/x", {"at": dt.date(2013, 1, 1)}) == "2013/01/x"
    assert rendered("{payload.at:%H}/x", {"at": dt.time(7)}) == "07/x"
    for spec in ("d", ">999999999", ".999999999f"):
        with pytest.raises(PermanentError, match="only dates take a format"):
            rendered(f"{{payload.n:{spec}}}", {"n": 7})


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("{idd}.json", r"has \{idd\}, which is not known; did you mean \{id\}"),
        ("{nothing}", r"known are \{date\}"),
        ("{}", "which is not known"),
        ("{0}", "which is not known"),
        ("{id", "is not a template"),
        ("{id!r}", "leave out the !r"),
        ("{id:>10}", "only dates take a format"),
        ("{date:%999999999d}", "not a date format"),
        ("{date:\udcff}", "not a date format"),
        ("{payload.at:%999999999d}", "not a date format"),
        ("a" * 2_000, "2000 characters"),
        ("{payload.}", "which is not known"),
        ("{payload}", "which is not known"),
        ("{id.__class__}", "which is not known"),
        ("/{id}", "names between single slashes"),
        ("a//{id}", "names between single slashes"),
        ("../{id}", "names between single slashes"),
        ("a\\{id}", "a backslash"),
    ],
)
def test_a_wrong_template(path: str, shown: str) -> None:
    """A template that cannot work is refused when it is read, with what is known."""
    with pytest.raises(ValueError, match=shown):
        template_of(path)


@pytest.mark.parametrize(
    ("path", "payload", "shown"),
    [
        ("{key}", None, "takes {key}, and the message has none"),
        ("{payload.x}", {}, "takes {payload.x}, and the message has none"),
        ("{payload.x}", {"x": None}, "the message has none"),
        ("{payload.x}", "text", "the message has none"),
        ("{payload.upper}", "text", "the message has none"),
        ("{payload.__class__}", Order("ada"), "the message has none"),
        ("{payload.x}", {"x": [1]}, "got list"),
        ("{payload.x}", {"x": ""}, "the message has none"),
        ("{payload.x}", {"x": "../../etc/passwd"}, "a slash, a backslash or a control character"),
        ("{payload.x}", {"x": "a/b"}, "a slash, a backslash or a control character"),
        ("{payload.x}", {"x": "a\\b"}, "a slash, a backslash or a control character"),
        ("{payload.x}", {"x": "a\nb"}, "a slash, a backslash or a control character"),
        ("{payload.x}", {"x": ".."}, "not names between single slashes"),
        ("{payload.x}{payload.x}", {"x": "."}, "not names between single slashes"),
    ],
)
def test_a_value_that_is_no_name(path: str, payload: Any, shown: str) -> None:
    """A message whose value cannot stand in a path fails alone, and says why."""
    with pytest.raises(PermanentError) as caught:
        rendered(path, payload)
    assert shown in str(caught.value)


@pytest.mark.parametrize(
    "value", ["a" * 2_000, "ü" * 600, 10**2_000, 10**5_000, "\udcff", "4111-1111/"], ids=list("abcdef")
)
def test_paths_are_bounded(value: Any) -> None:
    """A path of more than 1,024 bytes, or that UTF-8 cannot encode, is refused; no error quotes the value."""
    with pytest.raises(PermanentError) as caught:
        rendered("{payload.x}", {"x": value})
    assert len(str(caught.value)) < 200
    assert "4111" not in str(caught.value)


_RESERVED_NAMES = r"(t/)?a?(#|:|\||%(25){0,3}(23|3A|7C))?[0-9]{0,2}"


@given(st.lists(st.from_regex(_RESERVED_NAMES, fullmatch=True), max_size=50, unique=True))
def test_names_that_the_driver_reserves(paths: list[str]) -> None:
    """On ``file://`` no name ends in # and digits, or like a drive, and no two paths share a file."""
    stored = [local_path(path) for path in paths]
    assert len(set(stored)) == len(paths)
    assert not any(re.search(r"#[0-9]+\Z|[a-zA-Z][:|]\Z", path) for path in stored)


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
