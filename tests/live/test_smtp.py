"""Tests of the smtp handler against a real relay: connecting, mails, refusals."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Callable

import pytest
from smtp_worker import app, refusal, worker

from rambla_py.errors import (
    AccessError,
    ConnectionLostError,
    DeliveryError,
    PayloadTooLargeError,
    PermanentError,
    RejectedError,
    UnavailableError,
)
from rambla_py.handlers.smtp.connection import Sent
from rambla_py.testing import SmtpServer
from rambla_py.testing.smtp_server import KeptMail


@pytest.mark.parametrize("mode", ["starttls", "tls"])
def test_mail_goes_over_tls_with_a_login(
    mode: str, smtp_server: SmtpServer, ann: str, arrived: Callable[[], list[KeptMail]]
) -> None:
    """TLS after the greeting or from the first byte; the certificate is checked against the authority."""
    where = smtp_server.starttls_port if mode == "starttls" else smtp_server.tls_port
    assert smtp_server.tls is not None
    tls = {"mode": mode, "ca_file": str(smtp_server.tls.authority)}
    with worker(where, tls=tls, username=smtp_server.username, password=smtp_server.password) as w:
        w.send("one", to=ann)
        w.handler.ping(w.connection)
        w.send("x" * 300_000, to=ann)
    assert [mail.tls for mail in arrived()] == [True, True]
    assert len({mail.peer for mail in arrived()}) == 1


def test_a_certificate_that_does_not_fit_is_an_access_error(smtp_server: SmtpServer) -> None:
    """An unknown authority, and a name that the certificate does not have, on both kinds of port."""
    assert smtp_server.tls is not None
    for mode, where in (("starttls", smtp_server.starttls_port), ("tls", smtp_server.tls_port)):
        assert "certificate is not accepted" in refusal(where, tls=mode)
        wrong = {"mode": mode, "ca_file": str(smtp_server.tls.authority), "server_name": "elsewhere.example"}
        assert "elsewhere.example" in refusal(where, tls=wrong)
        assert "cannot read the files" in refusal(where, tls={"mode": mode, "ca_file": "/nowhere.pem"})


def test_tls_on_the_wrong_kind_of_port_is_reported(smtp_server: SmtpServer) -> None:
    """From the first byte where the relay greets first, and the other way round."""
    assert "does not start with TLS" in refusal(smtp_server.port, tls="tls")
    silent = refusal(smtp_server.tls_port, kind=ConnectionLostError, connect_timeout_s=0.2)
    assert "needs tls = 'tls'" in silent


def test_a_relay_without_starttls_is_given_nothing(smtp_server: SmtpServer) -> None:
    """Whoever strips STARTTLS from the greeting does not get the mail in clear text."""
    assert "does not offer STARTTLS; set tls" in refusal(smtp_server.port, tls="starttls")


@pytest.mark.parametrize(
    ("username", "password"), [("shop", "wrong"), ("nobody", "s3cret-relay"), ("shöp", "s3crét")]
)
def test_a_wrong_login_is_an_access_error(username: str, password: str, smtp_server: SmtpServer) -> None:
    """Whatever letters it has; the password is not in the error."""
    error = refusal(smtp_server.port, username=username, password=password)
    assert "refused the login: 535" in error
    assert password not in error


def test_a_relay_without_logins_is_an_access_error(smtp_server: SmtpServer) -> None:
    """It is refused before the password is sent; so is one that requires a login, where there is none."""
    assert "offers no login" in refusal(smtp_server.bare_port, username="shop", password="x")
    with worker(smtp_server.login_port) as w:
        assert "530" in w.fails(AccessError, to="ann@example.com")


def test_we_greet_with_our_address_or_the_name_that_was_given(
    smtp_server: SmtpServer, ann: str, arrived: Callable[[], list[KeptMail]]
) -> None:
    """No look-up of our own name, which may take seconds."""
    for settings in ({}, {"hostname": "shop.example.com"}):
        with worker(smtp_server.port, **settings) as w:
            w.send(to=ann)
    assert [mail.greeting for mail in arrived()] == ["[127.0.0.1]", "shop.example.com"]


def test_one_connection_carries_all_mails(port: int, ann: str, arrived: Callable[[], list[KeptMail]]) -> None:
    """It is opened once; refused mails in between do not end it."""
    with worker(port) as w:
        for number in range(5):
            w.send(f"mail {number}", to=ann)
            w.fails(PermanentError, to=["rcpt-550-a@example.com", ann])
    assert len(arrived()) == 5
    assert len({mail.peer for mail in arrived()}) == 1


# -- mails ---------------------------------------------------------------------------------------------------


def test_a_mail_arrives_as_it_was_sent(port: int, ann: str, arrived: Callable[[], list[KeptMail]]) -> None:
    """With lines that begin with dots, with nothing in it, and with the id as Message-ID."""
    texts = [".", "..\n.\n.x", "a\n.\nb\n..\n", "", "Grüße\n.\n"]
    with worker(port) as w:
        sent = [w.send(text, to=ann) for text in texts]
    mails = [email.message_from_bytes(mail.content, policy=email.policy.default) for mail in arrived()]
    bodies = [mail.get_content().replace("\r\n", "\n") for mail in mails]
    assert bodies == [text if text.endswith("\n") or not text else f"{text}\n" for text in texts]
    assert [mail["Message-ID"] for mail in mails] == [one.message_id for one in sent]
    assert [mail.options for mail in arrived()] == [[f"SIZE={len(mail.content)}"] for mail in arrived()]
    assert sent[0] == Sent("<mail-1@example.com>", "250 2.0.0 kept", {})


def test_many_recipients_are_named_in_one_mail(
    port: int, ann: str, arrived: Callable[[], list[KeptMail]]
) -> None:
    """More of them than commands are written at once."""
    many = [ann, *(f"a{number}@example.com" for number in range(350))]
    with worker(port) as w:
        w.send(to=many)
    assert [mail.recipients for mail in arrived()] == [many]


def test_a_mail_over_the_relays_size_is_too_large_before_it_is_sent(
    smtp_server: SmtpServer, ann: str, arrived: Callable[[], list[KeptMail]]
) -> None:
    """The limit is the one of the answer to EHLO; the connection stays open."""
    with worker(smtp_server.bare_port) as w:
        assert "SIZE" in w.fails(PayloadTooLargeError, "x\n" * 15_000, to=ann)
        w.send("x\n" * 5_000, to=ann)
        assert w.connection.limit == 20_000
    assert len(arrived()) == 1


def test_smtputf8_is_used_where_an_address_needs_it(
    smtp_server: SmtpServer, ann: str, arrived: Callable[[], list[KeptMail]]
) -> None:
    """A relay that does not know it is not given the mail; for names and domains none needs to."""
    with worker(smtp_server.port) as w:
        w.send(to=["jürgen@example.com", ann])
        w.send(to=["Jürgen <j@bücher.example>", ann])
    first, second = arrived()
    assert "SMTPUTF8" in first.options
    assert first.recipients[0] == "jürgen@example.com"
    assert "SMTPUTF8" not in second.options
    with worker(smtp_server.bare_port) as w:
        assert "does not offer SMTPUTF8" in w.fails(PermanentError, to="jürgen@example.com")
        w.send(to=["Jürgen <j@bücher.example>", ann])


# -- refusals -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["mail", "rcpt", "data"])
@pytest.mark.parametrize("code", [450, 550, 452, 554, 421])
def test_the_reply_decides_what_becomes_of_a_mail(step: str, code: int, port: int, ann: str) -> None:
    """5xx is permanent. 421, and 4xx before RCPT, end the session: the relay takes no mail now."""
    trouble = f"{step}-{code}-a@example.com"
    people = {"from": trouble, "to": ann} if step == "mail" else {"to": trouble}
    ends = code == 421 or (step == "mail" and code < 500)
    kind = UnavailableError if ends else RejectedError if code < 500 else PermanentError
    with worker(port) as w:
        reason = w.fails(kind, **people)
        assert str(code) in reason
        if ends:
            assert [type(loss) for loss in w.losses] == [ConnectionLostError]
            w.fails(ConnectionLostError, to=ann)
        else:
            assert w.losses == []
            w.send(to=ann)


@pytest.mark.parametrize(
    ("codes", "kind"), [([450], RejectedError), ([550], PermanentError), ([450, 550], PermanentError)]
)
def test_when_some_recipients_are_refused_nobody_gets_the_mail(
    codes: list[int], kind: type[DeliveryError], port: int, ann: str, arrived: Callable[[], list[KeptMail]]
) -> None:
    """Each is named with its answer; a retry can so mail nobody twice."""
    bad = [f"rcpt-{code}-a@example.com" for code in codes]
    with worker(port) as w:
        error = w.fails(kind, to=[ann, *bad])
        assert error.startswith(f"{len(bad)} of {len(bad) + 1} recipients refused, the mail was sent to none")
        assert all(f"recipient {place}: {code} " in error for place, code in enumerate(codes, 2))
        assert not any(who in error for who in bad)
        assert arrived() == []
        w.send(to=ann)


def test_partial_sends_to_the_others_and_names_the_refused(
    port: int, ann: str, arrived: Callable[[], list[KeptMail]], caplog: pytest.LogCaptureFixture
) -> None:
    """The result has each refused recipient with its answer, the log too; all refused is a failure."""
    bad = {"rcpt-450-a@example.com": "450 ", "rcpt-550-b@example.com": "550 "}
    with worker(port) as w:
        result = w.send(to=[*bad, ann], partial=True)
        assert {who: why[:4] for who, why in result.refused.items()} == bad
        (line,) = caplog.messages
        assert line.startswith("smtp.mail: mail-1 was not sent to 2 of its recipients: 450 ")
        assert "@" not in line
        assert w.send(to=ann, partial=True).refused == {}
        w.fails(PermanentError, to=list(bad), partial=True)
        w.fails(RejectedError, to="rcpt-450-a@example.com", partial=True)
        w.send(to=ann)
    assert [mail.recipients for mail in arrived()] == [[ann]] * 3


def test_a_retry_mails_nobody_twice(
    smtp_server: SmtpServer, ann: str, arrived: Callable[[], list[KeptMail]]
) -> None:
    """Of two recipients one is greylisted for good: all attempts fail, and the other got nothing."""
    with app(smtp_server.port, to=[ann, "rcpt-450-a@example.com"]) as running:
        outcome = running.publish("mail", "Hello").outcomes(timeout_s=20)[0]
    assert (outcome.status, outcome.attempts) == ("fatal", 3)
    assert "recipient 2: 450" in str(outcome.error)
    assert arrived() == []
