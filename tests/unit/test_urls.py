"""Tests of the rule by which all handlers take URLs apart."""

from __future__ import annotations

import pytest

from rambla_py._internal.urls import check_url, split_url

FORM = "nats://user:password@host:4222"


def _split(url: str):
    return split_url(url, ("nats", "tls"), FORM)


def test_parts_of_a_url():
    """Scheme and host are normalized; user and password are unquoted."""
    assert _split("NATS://shop:p%23%40@Bücher.Example:4222/a?b=c") == (
        "nats",
        "xn--bcher-kva.example",
        4222,
        "/a",
        "b=c",
        "shop",
        "p#@",
    )


@pytest.mark.parametrize("mark", "#/?")
@pytest.mark.parametrize(
    "url", ["nats://shop:4711{}s3cret@127.0.0.1:9/", "nats://shop:a@4711{}s3cret@127.0.0.1/"]
)
def test_password_that_is_not_encoded(url: str, mark: str):
    """A password that cuts the URL is refused with a hint to encode it, and no part of it is quoted."""
    for at_in_path in (False, True):
        with pytest.raises(ValueError, match="percent-encode") as refused:
            split_url(url.format(mark), ("nats",), FORM, at_in_path=at_in_path)
        assert "4711" not in str(refused.value)
        assert "s3cret" not in str(refused.value)


def test_at_sign_in_a_password():
    """An @ that is not encoded is refused, although the last one could be taken for the right one."""
    with pytest.raises(ValueError, match="more than one @ before the host; percent-encode"):
        _split("nats://shop:4711@s3cret@127.0.0.1:9/")


@pytest.mark.parametrize("url", [" nats://h", "nats://h\n", "nats://h h", "nats://h\\x", "nats://h/\udcff"])
def test_whitespace_and_control_characters(url: str):
    """Whitespace around a URL, and characters that no URL has, are refused by name."""
    with pytest.raises(ValueError, match=r"whitespace|a space, a backslash"):
        _split(url)


@pytest.mark.parametrize(
    "url", ["", "h", "amqp://h", "nats://", "nats://h:0", "nats://h:x", "nats://[::1", "nats://h#x"]
)
def test_what_is_no_url(url: str):
    """Another scheme, no host, no port number and a fragment are refused."""
    with pytest.raises(ValueError, match=r"^a url"):
        _split(url)


def test_at_sign_in_a_path():
    """An @ in a path is allowed where asked for, unless what precedes it may be a login."""
    check_url("https://npm.example/@scope/package", at_in_path=True)
    with pytest.raises(ValueError, match="%40"):
        check_url("https://npm.example:8080/@scope/package", at_in_path=True)
