"""Tests of mails made from messages: addresses, header, generators, EmailMessage."""

from __future__ import annotations

import email
import email.policy
import re
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from typing import Any
from urllib.parse import unquote

import pytest
from handler_case import delivery
from hypothesis import assume, given
from hypothesis import strategies as st
from mail_case import ASCII, PRINTABLE, SENDER, SETTINGS, mail_of, read, refusal, text_of

from rambla_py.errors import (
    DeliveryError,
    PermanentError,
    SerializationError,
)
from rambla_py.handlers.smtp.encode import compose
from rambla_py.handlers.smtp.headers import message_id
from rambla_py.handlers.smtp.settings import SmtpOptions


def test_a_text_is_the_text_of_a_mail_to_the_options_people() -> None:
    """Everybody is in the envelope once; who gets a blind copy is in no header."""
    mail = mail_of(
        "Hello",
        to=["Ann <ann@example.com>", "bob@example.com"],
        cc="carl@example.com",
        bcc=["dora@example.com", "bob@example.com"],
        subject="An order",
    )
    assert mail.sender == "shop@example.com"
    assert mail.recipients == tuple(f"{name}@example.com" for name in ("ann", "bob", "carl", "dora"))
    found = read(mail)
    assert found["From"] == SENDER
    assert found["To"] == "Ann <ann@example.com>, bob@example.com"
    assert (found["Cc"], found["Subject"], found["Bcc"]) == ("carl@example.com", "An order", None)
    assert found["Date"].datetime is not None
    assert b"dora" not in mail.data
    assert text_of(found) == "Hello\n"


def test_what_the_payload_says_goes_over_the_options() -> None:
    """Sender, people, subject, return path and headers of a mapping win."""
    payload = {
        "from": "Support <support@example.com>",
        "to": [{"name": "Jürgen", "address": "j@example.com"}],
        "subject": "Better",
        "text": "Hi",
        "headers": {"Reply-To": "help@example.com", "X-Tenant": "red"},
        "return_path": "bounces@example.com",
    }
    mail = mail_of(payload, subject="Worse", headers={"X-Tenant": "blue", "X-Count": 3, "X-On": True})
    assert (mail.sender, mail.recipients) == ("bounces@example.com", ("j@example.com",))
    found = read(mail)
    assert found["From"] == "Support <support@example.com>"
    assert found["To"] == "Jürgen <j@example.com>"
    assert [found[name] for name in ("Subject", "Reply-To", "X-Count", "X-On")] == [
        "Better",
        "help@example.com",
        "3",
        "true",
    ]
    assert found.get_all("X-Tenant") == ["red"]


def test_only_blind_copies_leave_the_readers_a_header() -> None:
    """A mail with nobody to show is to undisclosed recipients."""
    found = read(mail_of({"text": "x"}, to=[], bcc="a@example.com"))
    assert "undisclosed-recipients" in str(found["To"])


@pytest.mark.parametrize(
    ("payload", "body"), [(["a", 1], '["a",1]\n'), (42, "42\n"), (None, "null\n"), (b"x", "x\n"), ("", "")]
)
def test_what_is_no_mapping_is_sent_as_it_would_go_on_any_wire(payload: Any, body: str) -> None:
    """Bytes and text as they are, everything else as JSON."""
    assert text_of(read(mail_of(payload))) == body


def test_format_reads_a_mapping_from_text_or_makes_text_of_one() -> None:
    """``object`` takes a mail that arrives as JSON, ``bytes`` mails a mapping as JSON."""
    options = SmtpOptions(to="ann@example.com", allow=["to"])
    made = compose(
        delivery('{"to": "bob@example.com", "text": "Hi"}', format="object"), options, settings=SETTINGS
    )
    assert (made.recipients, text_of(read(made))) == (("bob@example.com",), "Hi\n")
    made = compose(delivery({"id": 42}, format="bytes"), options, settings=SETTINGS)
    assert text_of(read(made)) == '{"id":42}\n'


def test_the_id_becomes_the_message_id() -> None:
    """With the sender's domain; the same for every attempt."""
    message = delivery("x")
    mails = [compose(message, SmtpOptions(to="a@example.com"), settings=SETTINGS) for _ in range(2)]
    assert {mail.message_id for mail in mails} == {f"<{message.id}@example.com>"}
    assert read(mails[0])["Message-ID"] == mails[0].message_id


@given(st.text(min_size=1, max_size=80))
def test_a_message_id_can_be_read_back(given_id: str) -> None:
    """Whatever the id, the left side is valid, and no two ids have the same one."""
    assume(not re.fullmatch(r"[!-~]+@[A-Za-z0-9_.-]+", given_id))
    try:
        made = message_id(given_id, "example.com")
    except UnicodeEncodeError:
        return
    left = re.fullmatch(
        r"<([A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*)@example\.com>", made
    )
    assert left is not None
    assert unquote(left[1]) == given_id


@given(PRINTABLE, PRINTABLE, ASCII)
def test_headers_arrive_as_they_were_given(subject: str, name: str, value: str) -> None:
    """Any printable text, however long, is one header that reads as it was written; there is no other."""
    assume(not any(len(word) > 900 for word in value.split(" ")))
    payload = {
        "to": {"name": name, "address": "a@example.com"},
        "subject": subject,
        "headers": {"X-A": value},
    }
    mail = mail_of({**payload, "text": ""})
    found = read(mail)
    assert found["Subject"] == subject.strip()
    assert found["X-A"] == value.strip()
    if name.isascii():
        assert found["To"].addresses[0].display_name.strip() == name.strip()
    else:  # the library's newer reader loses blanks of encoded words, its older one does not
        raw = email.message_from_bytes(mail.data)["To"].rpartition(" <")[0]
        assert str(make_header(decode_header(raw))).strip() == name.strip()
    assert found["To"].addresses[0].addr_spec == "a@example.com"
    assert sorted(found.keys()) == sorted(
        ["From", "To", "X-A", "Subject", "Date", "Message-ID", "MIME-Version"]
        + [f"Content-{part}" for part in ("Type", "Transfer-Encoding")]
    )


# -- generators, and mails of the standard library --------------------------------------------------------


def test_a_mail_of_the_old_kind():
    """MIMEMultipart and its like are refused with the way out, and the way out works."""
    old = MIMEMultipart()
    old["To"] = "bea@example.com"
    old.attach(MIMEText("Hello"))
    with pytest.raises(SerializationError, match="MIMEMultipart, of the old kind; make an") as caught:
        mail_of(old)
    assert "email.message_from_bytes(mail.as_bytes(), policy=email.policy.SMTP)" in str(caught.value)
    mail = mail_of(email.message_from_bytes(old.as_bytes(), policy=email.policy.SMTP), to=[])
    assert mail.recipients == ("bea@example.com",)


def test_a_generator_makes_the_mail() -> None:
    """Of any payload: a mapping, a string, or an ``EmailMessage``."""
    made = mail_of({"email": "zoe@example.com", "name": "Zoë"}, generator="mail_generators:welcome")
    assert (made.recipients, read(made)["Subject"]) == (("zoe@example.com",), "Welcome, Zoë")
    assert text_of(read(mail_of(7, generator="mail_generators:text"))) == "total: 7\n"
    made = mail_of("yan@example.com", generator="mail_generators:as_email")
    assert (made.recipients, read(made)["Subject"]) == (("yan@example.com",), "Made by the library")


def test_a_generator_that_fails_says_so() -> None:
    """What it raises is retried, unless it says itself that this is of no use; nonsense is refused."""
    with pytest.raises(DeliveryError, match=r"'mail_generators:broken' raised KeyError") as caught:
        mail_of(1, generator="mail_generators:broken")
    assert caught.value.retryable
    with pytest.raises(PermanentError, match="no such template"):
        mail_of(1, generator="mail_generators:refusing")
    assert refusal(1, generator="mail_generators:number") == "$ (of the generator)"


def test_an_email_message_is_sent_as_it_is_and_left_alone() -> None:
    """Its people make the envelope; what is missing is added to a copy, and blind copies are left out."""
    mine = EmailMessage()
    mine["From"] = "Me <me@example.com>"
    mine["To"] = "Ann Ä <ann@example.com>, bob@example.com"
    mine["Bcc"] = "eve@example.com"
    mine["X-Tenant"] = "red"
    mine.set_content("Grüße\n.\nbye")
    mine.add_attachment(b"abc", maintype="application", subtype="pdf", filename="a.pdf")
    before = mine.as_bytes()
    mail = mail_of(mine, subject="Added", headers={"X-Tenant": "blue", "X-More": 1})
    assert (mail.sender, len(mail.recipients)) == ("me@example.com", 3)
    found = read(mail)
    assert (found["Bcc"], found["Subject"], found["X-More"]) == (None, "Added", "1")
    assert found.get_all("X-Tenant") == ["blue"]
    assert found["To"].addresses[0].display_name == "Ann Ä"
    assert found["Message-ID"] == mail.message_id
    body = found.get_body()
    assert body is not None
    assert text_of(body) == "Grüße\n.\nbye\n"
    assert [part.get_filename() for part in found.iter_attachments()] == ["a.pdf"]
    assert mine.as_bytes() == before


def test_an_email_message_keeps_its_own_id_and_subject() -> None:
    """What it says goes over the options, as with a mapping."""
    mine = EmailMessage()
    mine["Message-ID"] = "<mine@example.com>"
    mine["Subject"] = "Mine"
    mine["To"] = "a@example.com"
    mine.set_content("x")
    mail = mail_of(mine, subject="Theirs", to="b@example.com")
    assert (mail.message_id, mail.recipients) == ("<mine@example.com>", ("a@example.com",))
    assert read(mail).get_all("Subject") == ["Mine"]
    assert read(mail).get_all("Message-ID") == ["<mine@example.com>"]


def test_an_email_message_with_a_broken_header_is_refused() -> None:
    """Also where the policy that made it did not look."""
    mine = EmailMessage(policy=email.policy.default)
    mine["To"] = "a@example.com"
    mine.set_content("x")
    mine._headers.append(("X-A", "x\r\nBcc: e@example.com"))  # type: ignore[attr-defined]
    assert refusal(mine) == "$['X-A']"
