"""This module tests how messages become mails: people, headers, text, attachments, and what is refused."""

from __future__ import annotations

import email
import email.policy
import os
import re
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.utils import formataddr
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec
import pytest
from handler_case import delivery
from hypothesis import assume, given
from hypothesis import strategies as st

from rambla_py.config import load_config
from rambla_py.errors import (
    ConfigError,
    DeliveryError,
    PayloadTooLargeError,
    PermanentError,
    SerializationError,
)
from rambla_py.handlers.smtp.addresses import read_mailbox
from rambla_py.handlers.smtp.compose import Mail, compose
from rambla_py.handlers.smtp.parts import as_lines
from rambla_py.handlers.smtp.settings import SmtpOptions
from rambla_py.handlers.smtp.words import message_id

SENDER = "Shop <shop@example.com>"
TO_ANN: dict[str, Any] = {"to": "ann@example.com"}
PRINTABLE = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")))

ASCII = st.text(st.characters(codec="ascii", min_codepoint=32, max_codepoint=126))


def mail_of(payload: Any, *, headers: Any = None, limit: int | None = None, **options: Any) -> Mail:
    made = msgspec.convert({**TO_ANN, **options}, SmtpOptions)
    return compose(delivery(payload, headers=headers), made, sender=SENDER, limit=limit)


def read(mail: Mail) -> EmailMessage:
    """Return a mail as its reader sees it."""
    assert mail.data.replace(b"\r\n", b"").count(b"\n") == mail.data.replace(b"\r\n", b"").count(b"\r") == 0
    assert max(map(len, mail.data.split(b"\r\n"))) <= 998
    found = email.message_from_bytes(mail.data, policy=email.policy.default)
    assert found.defects == []
    assert isinstance(found, EmailMessage)
    return found


def text_of(part: Any) -> str:
    content: str = part.get_content()
    return content.replace("\r\n", "\n")


def refusal(payload: Any, **options: Any) -> str:
    """Return the path of what is wrong with a message that must be refused."""
    with pytest.raises(SerializationError) as caught:
        mail_of(payload, **options)
    return caught.value.path


# -- the envelope and the header ------------------------------------------------------------------------


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
    options = SmtpOptions(to="ann@example.com")
    made = compose(
        delivery('{"to": "bob@example.com", "text": "Hi"}', format="object"), options, sender=SENDER
    )
    assert (made.recipients, text_of(read(made))) == (("bob@example.com",), "Hi\n")
    made = compose(delivery({"id": 42}, format="bytes"), options, sender=SENDER)
    assert text_of(read(made)) == '{"id":42}\n'


def test_the_id_becomes_the_message_id() -> None:
    """With the sender's domain; the same for every attempt."""
    message = delivery("x")
    mails = [compose(message, SmtpOptions(to="a@example.com"), sender=SENDER) for _ in range(2)]
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


# -- injection ----------------------------------------------------------------------------------------------

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


# -- the content ----------------------------------------------------------------------------------------


@given(st.text())
def test_text_arrives_with_lines_that_all_end(text: str) -> None:
    """Any text: only the kind of its line ends is lost, and the last line gets one."""
    try:
        wanted = text.encode()
    except UnicodeEncodeError:
        return
    got = text_of(read(mail_of({"text": text}))).encode()
    assert got == (as_lines(wanted).replace(b"\r\n", b"\n") if wanted else b"")


@given(st.text(), st.text(), st.binary())
def test_text_html_and_attachments_arrive(text: str, html: str, content: bytes) -> None:
    """A mail of all kinds of parts has each as it was."""
    try:
        (text + html).encode()
    except UnicodeEncodeError:
        return
    one = {"content": content, "name": "Größe.pdf"}
    image = {"content": b"png", "name": "a.png", "cid": "logo", "content_type": "image/png"}
    found = read(mail_of({"text": text, "html": html, "attachments": [one, image]}))
    plain, rich = found.get_body(("plain",)), found.get_body(("html",))
    assert plain is not None
    assert rich is not None
    assert text_of(plain).split() == text.replace("\x00", "\x00").split()
    assert text_of(rich).split() == html.split()
    (attached,) = found.iter_attachments()
    assert (attached.get_content(), attached.get_filename()) == (content, "Größe.pdf")
    assert attached.get_content_type() == "application/pdf"
    (shown,) = [part for part in found.walk() if part["Content-ID"]]
    assert (shown["Content-ID"], shown.get_content()) == ("<logo>", b"png")


def test_a_mail_may_have_html_alone() -> None:
    """Then that is its body."""
    found = read(mail_of({"html": "<b>Grüße</b>"}))
    assert found.get_content_type() == "text/html"
    assert text_of(found) == "<b>Grüße</b>\n"


def test_lines_cannot_smuggle_a_second_mail() -> None:
    """No lone CR or LF leaves, whatever the text holds: some relays end a mail there."""
    for text in ("a\n.\nMAIL FROM:<e@example.com>", "a\r.\rb", "a\r\n.\r\nb", "a\n\r.\n\rb"):
        read(mail_of({"text": text}))
        read(mail_of({"text": text, "html": text}))


def test_files_are_attached(tmp_path: Path) -> None:
    """A ``Path`` from anywhere, a text from the channel's folder; name and type follow from it."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bill.pdf").write_bytes(b"%PDF")
    folder = str(tmp_path / "in")
    for payload, options in (
        ({"attachments": [{"path": tmp_path / "in" / "bill.pdf"}]}, {}),
        ({"attachments": [tmp_path / "in" / "bill.pdf"]}, {}),
        ({"attachments": [{"path": "bill.pdf"}]}, {"attachment_folder": folder}),
        ({"attachments": [{"path": f"{folder}/bill.pdf"}]}, {"attachment_folder": folder}),
    ):
        (attached,) = read(mail_of(payload, **options)).iter_attachments()
        assert attached.get_content() == b"%PDF"
        assert (attached.get_filename(), attached.get_content_type()) == ("bill.pdf", "application/pdf")


def test_text_is_attached_with_its_letters() -> None:
    """A text is UTF-8 and says so; bytes say nothing of letters; a mail is attached as bytes."""
    csv = {"content": "größe;1\n", "name": "a.csv", "content_type": "text/csv"}
    raw = {"content": b"abc", "name": "b.csv", "content_type": "text/csv"}
    mail = {"content": b"Subject: x\r\n\r\nx", "name": "c.eml"}
    found = list(read(mail_of({"text": "x", "attachments": [csv, raw, mail]})).iter_attachments())
    assert text_of(found[0]) == "größe;1\n"
    assert found[1].get_param("charset") is None
    assert (found[2].get_content_type(), found[2].get_content()) == (
        "application/octet-stream",
        mail["content"],
    )


def test_a_text_names_no_file_outside_of_the_folder(tmp_path: Path) -> None:
    """A payload may come from anywhere: without a folder it names no file, with one none beside it."""
    (tmp_path / "in").mkdir()
    (tmp_path / "secret").write_text("s")
    os.symlink(tmp_path / "secret", tmp_path / "in" / "link")
    folder = str(tmp_path / "in")
    path = "$.attachments[0].path"
    assert refusal({"attachments": [{"path": str(tmp_path / "secret")}]}) == path
    for name in ("../secret", "link", str(tmp_path / "secret"), "/etc/passwd", "a\x00b"):
        assert refusal({"attachments": [{"path": name}]}, attachment_folder=folder) == path


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Missing, a folder, or a pipe: the path leads to it, and nothing waits."""
    os.mkfifo(tmp_path / "pipe")
    for where in (tmp_path / "missing", tmp_path, tmp_path / "pipe"):
        assert refusal({"attachments": [{"path": where}]}) == "$.attachments[0].path"


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        ({"text": 3}, "$.text"),
        ({"text": "\ud800"}, "$.text"),
        ({"html": b"x"}, "$.html"),
        ({"subject": "\ud800", "text": ""}, "$.subject"),
        ({"txt": "x"}, "$.txt"),
        ({"text": "x", "to": 3}, "$.to"),
        ({"text": "x", "to": [["a@example.com"]]}, "$.to[0]"),
        ({"text": "x", "from": ["a@example.com", "b@example.com"]}, "$.from"),
        ({"text": "x", "headers": []}, "$.headers"),
        ({"text": "x", "headers": {"X-A": object()}}, "$.headers.X-A"),
        ({"text": "x", "headers": {"X A": "x"}}, "$.headers.X A"),
        ({"text": "x", "headers": {"X-A": "x" * 1000}}, "$.headers.X-A"),
        ({"attachments": {}}, "$.attachments"),
        ({"attachments": [3]}, "$.attachments[0]"),
        ({"attachments": [{}]}, "$.attachments[0]"),
        ({"attachments": [{"path": "x", "content": b"x"}]}, "$.attachments[0]"),
        ({"attachments": [{"file": "x"}]}, "$.attachments[0].file"),
        ({"attachments": [{"content": 3}]}, "$.attachments[0].content"),
        ({"attachments": [{"content": b"", "name": "a\r\nb"}]}, "$.attachments[0].name"),
        ({"attachments": [{"content": b"", "content_type": "pdf"}]}, "$.attachments[0].content_type"),
        (
            {"attachments": [{"content": b"", "content_type": "message/rfc822"}]},
            "$.attachments[0].content_type",
        ),
        ({"attachments": [{"content": b"", "cid": "a b"}]}, "$.attachments[0].cid"),
        ([1, object()], "$[1]"),
        (b"\xff", "$"),
    ],
)
def test_what_is_no_mail_is_refused_with_the_path_to_it(payload: Any, path: str) -> None:
    """The error names the value; there is no retry for it."""
    assert refusal(payload) == path


def test_nobody_to_send_from_or_to_is_refused() -> None:
    """Each with what to set."""
    assert refusal("x", to=[]) == "$.to"
    with pytest.raises(SerializationError, match=r"\$\.from.*set from on the connection"):
        compose(delivery("x"), SmtpOptions(to="a@example.com"))


def test_a_mail_over_the_limit_is_too_large(tmp_path: Path) -> None:
    """Its size is that of the whole mail; a file over the limit is not even read."""
    message, options = delivery("x" * 500), msgspec.convert(TO_ANN, SmtpOptions)
    size = len(compose(message, options, sender=SENDER).data)
    assert compose(message, options, sender=SENDER, limit=size)
    with pytest.raises(PayloadTooLargeError) as caught:
        compose(message, options, sender=SENDER, limit=size - 1)
    assert (caught.value.size, caught.value.limit) == (size, size - 1)
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(PayloadTooLargeError):
        mail_of({"attachments": [huge]}, limit=10_000_000)


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
    """Of any payload: a mapping, a text, or an ``EmailMessage``."""
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


# -- options ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"to": "a@example.com, b@example.com"}, "expected one address"),
        ({"from": "nobody"}, "expected one address"),
        ({"generator": "mail_generators"}, "'module:function'"),
        ({"generator": "mail_generators:welcom"}, "did you mean 'welcome'?"),
        ({"generator": "mail_generators:NOT_A_FUNCTION"}, "not callable"),
        ({"generator": "no_such_module:x"}, "cannot import"),
    ],
)
def test_wrong_options_are_refused_at_load(options: dict[str, Any], told: str) -> None:
    """Not at the first message."""
    table = {"connections": {"a": {}}, "channels": {"c": {"connection": "a", "options": options}}}
    with pytest.raises(ConfigError, match=re.escape(told)):
        load_config({"smtp": table})


@pytest.mark.parametrize(
    ("connection", "told"),
    [
        ({"relay": "a:25", "port": 25}, "give one of them"),
        ({"relay": "a:b"}, "host or host:port"),
        ({"relay": "a:70000"}, "host or host:port"),
        ({"password": "x"}, "without a username"),
        ({"hostname": "a b"}, "blank"),
        ({"hostname": "a\r\nQUIT"}, "not ASCII"),
        ({"from": "x"}, "expected one address"),
        ({"tls": "maybe"}, "'never'"),
    ],
)
def test_wrong_connections_are_refused_at_load(connection: dict[str, Any], told: str) -> None:
    """Each with what to write."""
    with pytest.raises(ConfigError, match=re.escape(told)):
        load_config({"smtp": {"connections": {"a": connection}, "channels": {"c": {"connection": "a"}}}})


@pytest.mark.parametrize(
    ("connection", "address"),
    [
        ({}, ("localhost", 587)),
        ({"tls": "never"}, ("localhost", 25)),
        ({"tls": "tls", "relay": "mail.example.com"}, ("mail.example.com", 465)),
        ({"tls": {"mode": "tls"}}, ("localhost", 465)),
        ({"relay": "mail.example.com:2525"}, ("mail.example.com", 2525)),
        ({"relay": "[::1]:2525"}, ("::1", 2525)),
        ({"relay": "::1", "port": 26}, ("::1", 26)),
    ],
)
def test_where_the_relay_is(connection: dict[str, Any], address: tuple[str, int]) -> None:
    """The port follows from the kind of TLS."""
    config = load_config({"smtp": {"connections": {"a": connection}, "channels": {"c": {"connection": "a"}}}})
    assert config.services["smtp"].connections["a"].address == address
