"""What the tables of an objects connection and channel may hold."""

from __future__ import annotations

from email.header import decode_header, make_header
from typing import Any

import msgspec
import pytest
from deliveries import make_delivery
from hypothesis import given
from hypothesis import strategies as st

from rambla_py.config import load_config
from rambla_py.errors import ConfigError, PermanentError
from rambla_py.handler import Secret
from rambla_py.handlers.objects.encode import (
    attributes_of,
    gzipped,
    media_type_of,
    media_type_of_file,
    metadata_of,
    metadata_value,
)
from rambla_py.handlers.objects.settings import ObjectsOptions, ObjectsSettings, is_header
from rambla_py.policy import Policy


@pytest.mark.parametrize(
    ("table", "shown"),
    [
        ({"url": "s3://b", "account": "shop"}, "account is for az://, and the url is s3://"),
        ({"url": "memory://", "endpoint": "http://x"}, "endpoint is for s3:// and gs:// and az://"),
        ({"url": "az://c"}, "az:// needs the account"),
        ({"url": "s3://b", "access_key_id": "k"}, "give both or none"),
        ({"url": "s3://b", "endpoint": "localhost:9000"}, "an endpoint with a url"),
        ({"url": "s3://b", "endpoint": "http://k:s@host"}, "an endpoint that is not http"),
        ({"url": "s3://b", "endpoint": "http://host:port"}, "an endpoint with a url"),
        ({"url": "gs://b", "bearer_token": Secret("tok\n")}, "bearer_token has a line break"),
        ({"url": "s3://b", "store_options": {"prefix": Secret("x")}}, "have their own keys"),
    ],
)
def test_a_connection_that_cannot_work(table: dict[str, Any], shown: str) -> None:
    """Keys that do not fit the URL are refused when the configuration is read."""
    with pytest.raises(ValueError, match=shown):
        ObjectsSettings(**table)


@pytest.mark.parametrize(
    ("table", "shown"),
    [
        ({"path": "{idd}"}, "which is not known"),
        ({"path": "latest", "body_format": "ndjson"}, "without {id}"),
        ({"file": "x", "body_format": "ndjson"}, "a file is always one object"),
        ({"metadata": {"a b": "x"}}, "letters, digits"),
        ({"metadata": {"content-type": "x"}}, "use the option content_type"),
        ({"metadata": {"ID": "x"}}, "choose another id_field"),
        ({"metadata": {"a": "x", "A": "y"}}, "a name twice"),
        ({"id_field": "a b"}, "letters, digits"),
        ({"content_type": "text/plain\r\nx: y"}, "an HTTP header cannot hold"),
    ],
)
def test_options_that_cannot_work(table: dict[str, Any], shown: str) -> None:
    """Options that contradict each other, or that a store could not take, are refused when they are read."""
    with pytest.raises(ValueError, match=shown):
        ObjectsOptions(**table)


def test_a_wrong_template_is_one_error_of_the_configuration() -> None:
    """A configuration with an unknown name in a path is refused, with the place and the nearest name."""
    options = {"path": "{date:%Y}/{idd}.json"}
    channels = {"orders": {"options": options}}
    with pytest.raises(ConfigError) as caught:
        load_config({"objects": {"connections": {"m": {"url": "memory://"}}, "channels": channels}})
    assert len(caught.value.problems) == 1
    assert "objects.channels.orders.options" in str(caught.value)
    assert "did you mean {id}?" in str(caught.value)


def test_s3_is_another_name() -> None:
    """The service may be called s3."""
    config = load_config({"s3": {"connections": {"m": {"url": "memory://"}}, "channels": {"orders": {}}}})
    assert config.services["s3"].handler.__name__ == "ObjectsHandler"


def test_secrets_do_not_show() -> None:
    """No secret of a connection is in its text; all of them are known, to be hidden elsewhere."""
    further = {"sse_kms_key_id": Secret("hunter3")}
    table = ObjectsSettings(
        url="s3://b", access_key_id="k", secret_access_key=Secret("hunter2"), store_options=further
    )
    assert "hunter" not in repr(table)
    assert sorted(table.secrets) == ["hunter2", "hunter3"]


# -- attributes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "policy", "kind"),
    [
        ({"n": 1}, {}, "application/json"),
        (b"x", {}, "application/octet-stream"),
        ("x", {}, "text/plain; charset=utf-8"),
        ("x", {"format": "object"}, "application/json"),
        ({"n": 1}, {"serializer": "msgpack"}, "application/msgpack"),
        ({"n": 1}, {"serializer": "shop:dump"}, "application/octet-stream"),
    ],
)
def test_the_media_type_of_a_payload(payload: Any, policy: dict[str, Any], kind: str) -> None:
    """The media type says what the bytes are, unless the option does."""
    message = make_delivery(payload, policy=msgspec.structs.replace(Policy(), **policy))
    assert media_type_of(ObjectsOptions(), message) == kind
    assert media_type_of(ObjectsOptions(content_type="a/b"), message) == "a/b"


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.csv", "text/csv"), ("a.tar.gz", "application/octet-stream"), ("a", "application/octet-stream")],
)
def test_the_media_type_of_a_file(name: str, kind: str) -> None:
    """A file's name tells what it is; what is packed is not called by what is in it."""
    assert media_type_of_file(ObjectsOptions(), name) == kind


def test_attributes() -> None:
    """Each option stands under the name that the driver has for it, metadata beside them."""
    options = ObjectsOptions(
        cache_control="no-store", storage_class="GLACIER", content_disposition="inline", compression="gzip"
    )
    assert attributes_of(options, "a/b", {"id": "m"}) == {
        "Content-Type": "a/b",
        "Content-Encoding": "gzip",
        "Content-Disposition": "inline",
        "Cache-Control": "no-store",
        "Storage-Class": "GLACIER",
        "id": "m",
    }


def test_metadata() -> None:
    """Metadata are the option's, the message's headers, and its id."""
    message = make_delivery({}, given_id="m-1")
    message.headers = {"traceparent": "00-1", "n": 7}
    options = ObjectsOptions(metadata={"team": "shop"}, id_field="message_id")
    wanted = {"team": "shop", "traceparent": "00-1", "n": "7", "message_id": "m-1"}
    assert metadata_of(options, message) == wanted
    assert metadata_of(ObjectsOptions(id_field=""), make_delivery({})) == {}


@pytest.mark.parametrize("name", ["id", "ID", "a b", "Content-Type"])
def test_a_header_that_has_no_place(name: str) -> None:
    """A header whose name is taken, or is none, is refused rather than lost."""
    message = make_delivery({})
    message.headers = {name: "x"}
    with pytest.raises(PermanentError, match=name):
        metadata_of(ObjectsOptions(), message)


@given(st.text(max_size=30))
def test_metadata_fits_a_header_and_comes_back(text: str) -> None:
    """Whatever a value is, an HTTP header can hold it, and it can be read again."""
    value = metadata_value(text)
    assert is_header(value)
    if value != text:
        assert str(make_header(decode_header(value))) == text.encode(errors="replace").decode()


def test_the_same_body_is_packed_alike() -> None:
    """A retry puts the same bytes."""
    assert gzipped(b"x" * 1000) == gzipped(b"x" * 1000)
    assert b"x" * 1000 not in gzipped(b"x" * 1000)
