"""Tests of the corrections to the standard library's mail policy, each beside the library's own output.

An interpreter after those that the corrections were made for may be right by itself; each must be right with
the correction.
"""

from __future__ import annotations

import email
import email.policy
import re
import sys
from email.headerregistry import Address
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mail_case import PRINTABLE, mail_of, read, refusal

from rambla_py.handlers.smtp.addresses import read_mailbox
from rambla_py.handlers.smtp.headers import field
from rambla_py.handlers.smtp.policy import POLICY, address_field

_LATEST = (3, 13, 0)

_NAMES = [
    "Größe, " * 9,
    '漢漢漢>.(,((.,::>;é>漢:é  a"":ba  @ b@漢  éé b @   <; b,a.>漢 <:.',
    '.b;"" ;b;<,,>é漢漢 ;:bé,:"é:b :<"@ ""b 漢漢éa>:< é,"ba.é<bé> ,.',
]
_SUBJECTS = [
    *_NAMES,
    ">\\ é)_a漢\u3000da\\\\\\e\u0301?;\\>>\u3000_> a?\xa0<@😀漢\\_@@ ??(;\u0301\u3000=c漢@-\xa0==a漢<:_<:😀c<>cd",
    '漢😀)de",@e= ( d,@cé😀?@😀; <<e)b>  b>b',
    '\u0301漢😀)de\u0301",@e=\u0301 (\xa0d,@cé😀?@😀; <<e)b>\xa0 \xa0b>b',
    '(😀 ?.(\u3000-"c@d)<(_éce_;\u0301))_\u0301.ée ; a) )é)é:->漢"😀=😀b)é;bee\xa0\xa0:>:" 😀\xa0=漢e=-@@)."',
    "Dôlôr sit amet, cônsectetuer adipiscing. Suspendisse pôtenti. Aliquam nibh. Suspendisse pôtenti.",
]


def _made(name: str, value: Any) -> EmailMessage:
    mail = EmailMessage(policy=email.policy.SMTP)
    mail[name] = value
    mail.set_payload("x")
    return mail


def _head(mail: EmailMessage, policy: Any) -> bytes:
    return mail.as_bytes(policy=policy).partition(b"\r\n\r\n")[0]


def _both(name: str, value: Any) -> tuple[bytes, bytes]:
    """Return the header as the library writes it, and as it is written with the corrections."""
    mail = _made(name, value)
    return _head(mail, email.policy.SMTP), _head(mail, POLICY)


def _back(head: bytes) -> EmailMessage:
    found = email.message_from_bytes(head + b"\r\n\r\nx", policy=email.policy.default)
    assert isinstance(found, EmailMessage)
    return found


def _mailboxes(head: bytes, name: str = "Resent-To") -> list[tuple[str, str]]:
    return [(one.addr_spec, one.display_name) for one in _back(head)[name].addresses]


def _longest(head: bytes) -> tuple[int, int]:
    """Return the length of the longest line, and of the longest encoded word."""
    words = re.findall(rb"=\?[\w-]+\?[qQbB]\?[^?\s]*\?=", head)
    return max(map(len, head.split(b"\r\n"))), max(map(len, words), default=0)


def _is_wrong(wrong: bool, until: tuple[int, int, int] = _LATEST) -> None:
    """Assert that the library needs the correction on the interpreters that it is for."""
    assert wrong or sys.version_info[:3] > until


def test_lines_of_quoted_printable_have_at_most_76_characters() -> None:
    """RFC 2045, 6.7, rule 5; gh-78206."""
    text = f"{'a' * 300} é"
    theirs = EmailMessage(policy=email.policy.SMTP)
    theirs.set_content(text, cte="quoted-printable")
    ours = EmailMessage(policy=POLICY)
    ours.set_content(text)
    _is_wrong(max(map(len, theirs.as_bytes().split(b"\r\n"))) == 78)
    assert b"quoted-printable" in ours.as_bytes()
    assert max(map(len, ours.as_bytes().split(b"\r\n"))) == 76
    assert ours.as_bytes().isascii()


@pytest.mark.parametrize("name", ["Subject", "Resent-To"])
def test_encoded_words_have_at_most_75_characters(name: str) -> None:
    """RFC 2047, 2: and their lines at most 76."""
    pairs = [
        _both(name, text if name == "Subject" else [Address(text, addr_spec="a@example.com")])
        for text in _SUBJECTS
    ]
    _is_wrong(any(_longest(theirs)[1] > 75 for theirs, _ in pairs))
    for _, ours in pairs:
        line, word = _longest(ours)
        assert line <= 76
        assert 0 < word <= 75


def test_spaces_between_encoded_words_are_kept() -> None:
    """RFC 2047, 6.2: a reader drops them; gh-92081, and gh-144156 where that was mended."""
    pairs = [(text, *_both("Subject", text)) for text in _SUBJECTS]
    _is_wrong(any(str(_back(theirs)["Subject"]) != text for text, theirs, _ in pairs))
    for text, _, ours in pairs:
        assert str(_back(ours)["Subject"]) == text.strip()


def test_commas_between_addresses_are_not_encoded() -> None:
    """RFC 2047, 5; gh-100884."""
    theirs, ours = _both("Resent-To", f"{'0' * 55}@example.org, ä <foo@example.org>")
    _is_wrong(b"=?utf-8?q?=2C?=" in theirs, until=(3, 11, 7))
    assert re.search(rb"example\.org,\r\n =\?\S+\?= <foo@example\.org>", ours)


def test_an_address_does_not_become_a_part_of_the_name() -> None:
    """RFC 2047, 5 (3): an encoded word is no part of an address."""
    wanted = [("a@example.com", ""), ("b@example.com", "Zoë")]
    broken = []
    for name in _NAMES:
        mailboxes = [Address(name, addr_spec=wanted[0][0]), Address("Zoë", addr_spec=wanted[1][0])]
        theirs, ours = _both("Resent-To", mailboxes)
        try:
            broken.append([one for one, _ in _mailboxes(theirs)] != ["a@example.com", "b@example.com"])
        except Exception:
            broken.append(True)
        assert [one for one, _ in _mailboxes(ours)] == ["a@example.com", "b@example.com"]
        assert _mailboxes(ours)[1][1] == "Zoë"
    _is_wrong(any(broken), until=(3, 12, 1))


def test_other_headers_of_addresses_keep_them_readable() -> None:
    """RFC 8098, 2.1, and RFC 2047, 5: only the name in one is encoded, from a payload and from the library."""
    name = "Disposition-Notification-To"
    theirs, ours = (
        head.replace(name.encode(), b"To") for head in _both(name, '"Müller, Zoë" <z@example.com>')
    )
    _is_wrong(_mailboxes(theirs, "To") == [("z@example.com", '"Müller, Zoë"')])
    assert _mailboxes(ours, "To") == [("z@example.com", "Müller, Zoë")]
    for lower in ("Errors-To", "Resent-Sender", name, "Mail-Followup-To"):
        mail = mail_of({"text": "x", "headers": {lower: "Jürgen Müller <j@bücher.example>"}})
        assert re.search(rb"%b: =\?\S+\?=(\r\n)? <j@xn--bcher-kva\.example>\r\n" % lower.encode(), mail.data)
        assert refusal({"text": "x", "headers": {lower: "Jürgen"}}) == f"$.headers.{lower}"


def test_reply_to_and_sender_keep_their_address_beside_a_name() -> None:
    """As options, as keys of a mail, as its headers, and in an ``EmailMessage``."""
    who = "Müller, Jürgen <j@bücher.example>"
    mine = EmailMessage()
    mine["Reply-To"] = mine["Sender"] = Address("Müller, Jürgen", addr_spec="j@xn--bcher-kva.example")
    mine.set_content("x")
    quoted = '"Müller, Jürgen" <j@bücher.example>'
    for mail in (
        mail_of("x", reply_to=who, sender=who),
        mail_of({"text": "x", "reply_to": [who], "sender": who}),
        mail_of({"text": "x", "headers": {"Reply-To": quoted, "Sender": quoted}}),
        mail_of("x", headers={"Reply-To": quoted, "Sender": quoted}),
        mail_of(mine),
    ):
        head = mail.data.partition(b"\r\n\r\n")[0]
        assert head.count(b"<j@xn--bcher-kva.example>") == 2
        for name in ("Reply-To", "Sender"):
            assert _mailboxes(head, name) == [("j@xn--bcher-kva.example", "Müller, Jürgen")]


def test_a_local_part_is_never_encoded() -> None:
    """RFC 2047, 5 (3): where a header cannot have it, the mail is refused."""
    mail = _made("Resent-To", "jürgen@example.com")
    _is_wrong(b"=?utf-8?" in _head(mail, email.policy.SMTP))
    with pytest.raises(ValueError, match="not ASCII"):
        _head(mail, POLICY)


@pytest.mark.parametrize("name", ["References", "In-Reply-To", "List-Unsubscribe", "X-Place"])
def test_words_longer_than_a_line_are_not_encoded(name: str) -> None:
    """RFC 5322, 2.1.1, allows 998 characters; gh-85725, gh-100991."""
    value = f"<{'a' * 80}@example.com> <https://example.com/{'b' * 90}>"
    theirs, ours = _both(name, value)
    _is_wrong(b"=?utf-8?" in theirs)
    assert ours.replace(b"\r\n", b"") == f"{name}: {value}".encode()


def test_text_that_looks_encoded_is_read_as_it_was_written() -> None:
    """RFC 2047, 6.2: an encoded word is decoded wherever it is found in text."""
    text = "what =?utf-8?q?this?= means"
    theirs, _ = _both("Subject", text)
    _is_wrong(str(_back(theirs)["Subject"]) != text)
    assert read(mail_of({"text": "x", "subject": text}))["Subject"] == text


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85"])
def test_only_cr_and_lf_end_a_line(separator: str) -> None:
    """RFC 5322, 2.2; ``str.splitlines``, by which the library goes, knows more (gh-117313)."""
    text = f"one{separator}two"
    with pytest.raises(ValueError, match="linefeed"):
        _made("Subject", text)
    assert read(mail_of({"text": "x", "subject": text}))["Subject"] == text
    name = mail_of({"text": "x", "to": {"name": text, "address": "a@example.com"}})
    assert b"<a@example.com>" in name.data


def test_fields_of_a_mail_that_was_read_are_sent_as_they_were() -> None:
    """Written again they lose their quotes, and with them the border of an address; gh-87720."""
    words = "=?utf-8?q?M=C3=BCller=2C_?= =?utf-8?q?J=C3=BCrgen?= <j@example.com>"
    value = f"{words}, {'a' * 30}@example.com"
    raw = f"Resent-To: {value}\r\nTo: ann@example.com\r\nX-A: tab\tand  spaces \r\n\r\nx".encode()
    mail = email.message_from_bytes(raw, policy=email.policy.SMTP)
    assert isinstance(mail, EmailMessage)
    _is_wrong(f"Resent-To: {value}\r\n".encode() not in mail.as_bytes())
    sent = mail_of(mail, to=[])
    assert f"Resent-To: {value}\r\n".encode() in sent.data
    assert b"X-A: tab\tand  spaces \r\n" in sent.data


def test_raw_utf8_in_a_mail_that_was_read_is_encoded() -> None:
    """It is text that only lacks its encoding."""
    raw = "X-A: Größe\r\nTo: ann@example.com\r\n\r\nx".encode()
    mail = email.message_from_bytes(raw, policy=email.policy.SMTP)
    assert read(mail_of(mail, to=[]))["X-A"] == "Größe"


@given(st.lists(st.tuples(st.just("a@example.com"), PRINTABLE), min_size=1, max_size=5))
def test_any_names_leave_the_addresses_as_they_are(mailboxes: list[tuple[str, str]]) -> None:
    """Each is there once, each name reads as it was given, and lines have their length."""
    given_ = [read_mailbox(address, name) for address, name in mailboxes]
    line = address_field("Resent-To", given_).encode()
    assert line.isascii()
    assert _longest(line)[0] <= 76
    found = _mailboxes(line)
    assert [one for one, _ in found] == [one.address for one in given_]
    for (_, read_name), one in zip(found, given_, strict=True):
        assert "".join(read_name.split()) == "".join(one.name.split())


@given(PRINTABLE)
def test_any_free_text_is_read_as_it_was_written(text: str) -> None:
    """By the library's reader; lines and words have their length."""
    line = field("Subject", text).encode()
    assert line.isascii()
    if b"=?" in line:
        assert max(_longest(line)) <= 76
    assert str(_back(line)["Subject"]) == text.strip()


@given(st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1, max_size=90))
def test_any_name_of_a_file_is_read_as_it_was_written(name: str) -> None:
    """The library writes parameters right: RFC 2231, folded."""
    mail = read(mail_of({"text": "x", "attachments": [{"content": b"x", "name": name}]}))
    assert [part.get_filename() for part in mail.iter_attachments()] == [name]
