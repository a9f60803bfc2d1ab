"""Tests of header injection and address parsing."""

from __future__ import annotations

from email.utils import formataddr
from typing import Any

import pytest
from hypothesis import given
from mail_case import ASCII, mail_of, read, refusal

from rambla_py.errors import (
    SerializationError,
)
from rambla_py.handlers.smtp.addresses import read_mailbox

_EVIL = ["x\r\nBcc: e@example.com", "x\nBcc: e@example.com", "x\rBcc: e@example.com", "x\x00", "x\x0b"]


@pytest.mark.parametrize("evil", _EVIL)
@pytest.mark.parametrize("place", ["subject", "header", "header name", "option", "name", "address", "sender"])
def test_nothing_begins_a_header_of_its_own(place: str, evil: str) -> None:
    """The end of a line in what goes into the header is refused, wherever it comes from."""
    payload: dict[str, Any] = {"text": "hello"}
    headers = None
    if place == "subject":
        payload["subject"] = evil
    elif place == "header":
        payload["headers"] = {"X-A": evil}
    elif place == "header name":
        payload["headers"] = {evil: "x"}
    elif place == "option":
        headers = {"X-A": evil}
    elif place == "name":
        payload["to"] = {"name": evil, "address": "a@example.com"}
    elif place == "address":
        payload["to"] = f"{evil}@example.com"
    else:
        payload["from"] = f"{evil} <a@example.com>"
    with pytest.raises(SerializationError) as caught:
        mail_of(payload, headers=headers)
    assert caught.value.path.startswith(("$.", "headers."))


@pytest.mark.parametrize(
    "address",
    [
        "a@example.com, e@example.com",
        "a@example.com e@example.com",
        "a@example.com;e@example.com",
        "a@example.com> RCPT TO:<e@example.com",
        "<a@example.com><e@example.com>",
        "A <a@example.com> <e@example.com>",
        "a@example.com> SIZE=1",
        "a@exam ple.com",
        "a@b@example.com",
        "@example.com",
        "a@",
        "a",
        "",
        "a@-example.com",
        "a@example..com",
        ".a@example.com",
        '"a@example.com',
        'a"b@example.com',
        "a@exa\u2028mple.com",
        "a\u2028@example.com",
        f"{'a' * 250}@example.com",
    ],
)
def test_what_is_not_one_address_is_refused(address: str) -> None:
    """One text is one address: it cannot add a recipient, a command, or a parameter."""
    assert refusal({"to": ["ok@example.com", address], "text": "x"}) == "$.to[1]"


@pytest.mark.parametrize(
    ("text", "address", "name"),
    [
        ("a@example.com", "a@example.com", ""),
        (" <a@example.com> ", "a@example.com", ""),
        ("Doe, Jane <j@example.com>", "j@example.com", "Doe, Jane"),
        (r'"Jane \"J\" Doe" <j@example.com>', "j@example.com", 'Jane "J" Doe'),
        ('"odd name"@example.com', '"odd name"@example.com', ""),
        ("root@localhost", "root@localhost", ""),
        ("a@[192.0.2.1]", "a@[192.0.2.1]", ""),
        ("a+b.c_d@example.com", "a+b.c_d@example.com", ""),
        ("a@BÜCHER.example", "a@xn--bcher-kva.example", ""),
        ("jürgen@example.com", "jürgen@example.com", ""),
    ],
)
def test_addresses_are_read(text: str, address: str, name: str) -> None:
    """Address and name; a domain that is not ASCII goes as every relay knows it."""
    assert read_mailbox(text) == (address, name)


@given(ASCII)
def test_a_name_is_read_back_from_the_form_that_the_library_writes(name: str) -> None:
    """``email.utils.formataddr`` of an ASCII name is understood."""
    assert read_mailbox(formataddr((name.strip(), "a@example.com"))).name == name.strip()


def test_smtputf8_is_wanted_for_a_local_part_only() -> None:
    """A name or a domain in other letters does not need it; its header is then in UTF-8."""
    assert not mail_of("x", to="Jürgen <j@bücher.example>").utf8
    mail = mail_of("x", to="jürgen@example.com")
    assert mail.utf8
    assert "To: jürgen@example.com".encode() in mail.data


def test_headers_of_the_mails_own_are_refused() -> None:
    """A header may not contradict the mail: people, id and content have their own places."""
    for name in ("To", "BCC", "message-id", "Content-Type", "From", "Subject"):
        assert refusal({"text": "x", "headers": {name: "x"}}) == f"$.headers.{name}"
    assert (
        read(mail_of({"text": "x", "headers": {"Date": "Thu, 01 Jan 1970 00:00:00 +0000"}}))[
            "Date"
        ].datetime.year
        == 1970
    )
