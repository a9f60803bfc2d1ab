"""Tests of pinned address fields: what a mail may set beside its channel and connection."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage
from typing import Any

import msgspec
import pytest
from handler_case import delivery
from hypothesis import given
from hypothesis import strategies as st
from mail_case import read

from rambla_py.errors import PermanentError, SerializationError
from rambla_py.handlers.smtp.encode import Mail, compose
from rambla_py.handlers.smtp.settings import SmtpOptions, SmtpSettings

PINNED = {
    "to": "ann@example.com",
    "from": "shop@example.com",
    "reply_to": "help@example.com",
    "sender": "robot@example.com",
    "return_path": "bounces@example.com",
}
HEADERS = {"from": "From", "to": "To", "cc": "Cc", "bcc": "Bcc", "reply_to": "Reply-To", "sender": "Sender"}
EVE = "eve@example.com"


def mail_of(payload: Any, options: Any = None, settings: Any = None, headers: Any = None) -> Mail:
    made = msgspec.convert({"to": "ann@example.com"} if options is None else options, SmtpOptions)
    table = msgspec.convert({"from": "shop@example.com", **(settings or {})}, SmtpSettings)
    return compose(delivery(payload, headers=headers), made, settings=table)


def email_with(name: str, value: str) -> EmailMessage:
    mail = EmailMessage()
    mail[name] = value
    mail.set_content("x")
    return mail


@pytest.mark.parametrize("place", ["options", "settings"])
@pytest.mark.parametrize("field", ["to", "cc", "bcc", "from", "reply_to", "sender", "return_path"])
def test_a_pinned_field_cannot_be_set_to_another_value(field: str, place: str) -> None:
    """By a mapping, a header of it, or an EmailMessage; the error names the field. ``to`` pins cc and bcc."""
    if place == "settings" and field in ("to", "cc", "bcc"):
        return
    pins = {place: {"to": "ann@example.com", **PINNED} if place == "options" else {**PINNED}}
    if place == "settings":
        del pins["settings"]["to"]
    payloads: list[Any] = [{field: EVE, "text": "x"}, {field: [{"name": "Eve", "address": EVE}]}]
    if field in ("reply_to", "sender"):
        payloads.append({"headers": {HEADERS[field]: f"Eve <{EVE}>"}, "text": "x"})
    if field in HEADERS:
        payloads.append(email_with(HEADERS[field], EVE))
    for payload in payloads:
        with pytest.raises(PermanentError, match=rf"the mail sets '{field}', which .* allow = \['{field}'\]"):
            mail_of(payload, **pins)


@pytest.mark.parametrize("field", ["to", "cc", "bcc", "from", "reply_to", "sender", "return_path"])
def test_allow_lifts_one_field(field: str) -> None:
    """The named field is the mail's own; every other one stays pinned."""
    options = {**PINNED, "allow": [field]}
    mail = mail_of({field: EVE, "text": "x"}, options)
    found = read(mail)
    if field == "return_path":
        assert mail.sender == EVE
    elif field in ("to", "cc", "bcc"):
        assert EVE in mail.recipients
        assert ("ann@example.com" in mail.recipients) == (field != "to")
    else:
        assert found[HEADERS[field]] == EVE
    for other in set(PINNED) - {field}:
        with pytest.raises(PermanentError, match=f"'{other}'"):
            mail_of({other: EVE, "text": "x"}, options)


def test_the_same_value_is_no_change() -> None:
    """Compared by address, whatever the spelling of the domain; a missing name is no change."""
    options = {**PINNED, "to": ["Ann <ann@bücher.example>", "bob@example.com"]}
    payload = {**PINNED, "to": ["bob@example.com", "ann@xn--bcher-kva.example"], "text": "x"}
    mail = mail_of(payload, options)
    assert mail.recipients == ("ann@xn--bcher-kva.example", "bob@example.com")
    assert read(mail)["To"].addresses[0].display_name == "Ann"
    with pytest.raises(PermanentError, match="'to'"):
        mail_of({"to": ["bob@example.com"], "text": "x"}, options)


def test_another_display_name_is_another_value() -> None:
    """The name is what readers see first."""
    options = {"to": "ann@example.com", "from": "Shop <shop@example.com>"}
    with pytest.raises(PermanentError, match="'from'"):
        mail_of({"from": "Bank <shop@example.com>", "text": "x"}, options)


def test_fields_that_are_not_configured_are_the_mails_own() -> None:
    """Subject, text, HTML and attachments always are."""
    payload = {
        "to": EVE,
        "reply_to": [EVE, "Ann <ann@example.com>"],
        "sender": EVE,
        "return_path": "<>",
        "subject": "Mine",
        "html": "<p>x",
    }
    mail = mail_of(payload, {"subject": "Theirs"})
    found = read(mail)
    assert (mail.sender, mail.recipients, found["Subject"]) == ("", (EVE,), "Mine")
    assert (found["Reply-To"], found["Sender"]) == (f"{EVE}, Ann <ann@example.com>", EVE)


@pytest.mark.parametrize(
    ("header", "field"),
    [
        ("Mail-Reply-To", "reply_to"),
        ("Mail-Followup-To", "reply_to"),
        ("Errors-To", "return_path"),
        ("Resent-From", "from"),
        ("Resent-To", "to"),
    ],
)
def test_a_header_that_would_undo_a_pin_is_refused(header: str, field: str) -> None:
    """Headers that redirect replies or bounces, or show other addresses, count as the field they replace."""
    for payload in ({"headers": {header: EVE}, "text": "x"}, email_with(header, EVE)):
        with pytest.raises(PermanentError, match=f"'{field}'"):
            mail_of(payload, PINNED)
        mail_of(payload, {**PINNED, "allow": [field]})


def test_headers_of_the_message_pin_like_options() -> None:
    """A channel may configure Reply-To as a header: a mail cannot change it, and it cannot change an option."""
    mail = mail_of({"text": "x"}, headers={"Reply-To": "help@example.com"})
    assert read(mail)["Reply-To"] == "help@example.com"
    with pytest.raises(PermanentError, match="'reply_to'"):
        mail_of({"text": "x", "reply_to": EVE}, headers={"Reply-To": "help@example.com"})
    with pytest.raises(PermanentError, match="'reply_to'"):
        mail_of({"text": "x"}, PINNED, headers={"reply-to": EVE})


def test_a_field_that_is_set_twice_is_refused() -> None:
    """As a field and as a header of one mail, or with several addresses where there is one."""
    for payload in (
        {"text": "x", "reply_to": EVE, "headers": {"Reply-To": EVE}},
        {"text": "x", "sender": [EVE, "ann@example.com"]},
        {"text": "x", "headers": {"Sender": f"{EVE}, ann@example.com"}},
        {"text": "x", "return_path": [EVE, EVE]},
    ):
        with pytest.raises(SerializationError):
            mail_of(payload)


@given(st.data())
def test_no_mail_reaches_other_recipients(data: st.DataObject) -> None:
    """Whatever a mail says, the recipients of a channel that sets some are those."""
    addresses = st.sampled_from(["ann@example.com", EVE, "bob@example.com", "", "<>", "x@y.z, q@example.com"])
    keys = st.sampled_from([*PINNED, "cc", "bcc", "subject", "text"])
    payload = data.draw(st.dictionaries(keys, st.one_of(addresses, st.lists(addresses, max_size=3))))
    try:
        mail = mail_of(payload, PINNED)
    except PermanentError:
        return
    found = email.message_from_bytes(mail.data, policy=email.policy.default)
    assert (mail.sender, mail.recipients) == ("bounces@example.com", ("ann@example.com",))
    assert (found["Reply-To"], found["Cc"]) == ("help@example.com", None)


_SURROGATE_PARTS: list[dict[str, Any]] = [
    {"subject": "\ud800"},
    {"text": "\ud800"},
    {"html": "\ud800"},
    {"to": "\ud800@example.com"},
    {"to": "a@\ud800.example"},
    {"reply_to": "\ud800 <a@example.com>"},
    {"to": {"name": "\ud800", "address": "a@example.com"}},
    {"headers": {"X-A": "\ud800"}},
    {"headers": {"\ud800": "x"}},
    {"headers": {"Reply-To": "\ud800 <a@example.com>"}},
    {"attachments": [{"content": "\ud800"}]},
    {"attachments": [{"content": b"x", "name": "\ud800"}]},
    {"attachments": [{"content": b"x", "content_type": "\ud800/x"}]},
    {"attachments": [{"content": b"x", "cid": "\ud800"}]},
]


@pytest.mark.parametrize("part", _SURROGATE_PARTS, ids=lambda part: next(iter(part)))
def test_a_lone_surrogate_is_fatal_in_every_part(part: dict[str, Any]) -> None:
    """It cannot be encoded, so no retry helps; the error names the part and quotes nothing of it."""
    with pytest.raises(SerializationError) as caught:
        mail_of({"to": "a@example.com", **part}, {})
    assert not caught.value.retryable
    with pytest.raises(SerializationError):
        mail_of({"to": "a@example.com", "text": "x"}, {}, headers={"X-A": "\ud800"})
