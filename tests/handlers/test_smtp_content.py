"""Tests of a mail's content: text, HTML, attachments."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from handler_case import delivery
from hypothesis import given
from hypothesis import strategies as st
from mail_case import SETTINGS, TO_ANN, mail_of, read, refusal, text_of

from rambla_py.errors import (
    PayloadTooLargeError,
    SerializationError,
)
from rambla_py.handlers.smtp.encode import compose
from rambla_py.handlers.smtp.policy import as_lines
from rambla_py.handlers.smtp.settings import SmtpOptions


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
    """A ``Path`` from anywhere, a string from the channel's folder; name and type follow from it."""
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
    """A string is UTF-8 and says so; bytes say nothing of letters; a mail is attached as bytes."""
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
    size = len(compose(message, options, settings=SETTINGS).data)
    assert compose(message, options, settings=SETTINGS, limit=size)
    with pytest.raises(PayloadTooLargeError) as caught:
        compose(message, options, settings=SETTINGS, limit=size - 1)
    assert (caught.value.size, caught.value.limit) == (size, size - 1)
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(PayloadTooLargeError):
        mail_of({"attachments": [huge]}, limit=10_000_000)
