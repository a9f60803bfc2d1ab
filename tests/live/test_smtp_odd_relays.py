"""Tests of the smtp handler against relays that misbehave."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from odd_relay import HELLO, PLAIN, OddRelay
from smtp_worker import refusal, worker
from waiting import wait_until

from rambla_py.errors import (
    AccessError,
    ConnectionLostError,
    PermanentError,
    UnknownOutcomeError,
)


@pytest.mark.parametrize(
    ("answers", "kind", "reason"),
    [
        ([b"554 not you\r\n"], AccessError, "554 not you"),
        ([b"421 too busy\r\n"], ConnectionLostError, "421 too busy"),
        ([b"HTTP/1.1 400 Bad Request\r\n"], ConnectionLostError, "does not speak SMTP; check the port"),
        ([None], ConnectionLostError, "closed"),
        ([b"220 odd\r\n", b"500 what?\r\n", b"500 what?\r\n"], AccessError, "500 what?"),
        ([b"220 odd\r\n", None], ConnectionLostError, "closed"),
        ([b"220 " + b"x" * 10_000 + b"\r\n"], ConnectionLostError, "does not speak SMTP"),
    ],
)
def test_a_greeting_that_fails(
    answers: Sequence[bytes | None], kind: type[ConnectionLostError], reason: str
) -> None:
    """A refusal for good needs an operator; anything else is a lost connection, with the relay's reply."""
    with OddRelay(*answers) as relay:
        assert reason in refusal(relay.port, kind=kind)


def test_an_old_relay_is_greeted_the_old_way() -> None:
    """One that does not know EHLO is sent HELO, and a mail without parameters."""
    answers = [b"220 old\r\n", b"502 what?\r\n", b"250 old\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"]
    with OddRelay(*answers, b"250 done\r\n") as relay, worker(relay.port) as w:
        assert w.send(to="a@example.com").reply == "250 done"
        assert relay.heard[2:4] == [b"MAIL FROM:<shop@example.com>\r\n", b"RCPT TO:<a@example.com>\r\n"]


def test_what_a_relay_says_while_idle_is_the_end_of_the_connection() -> None:
    """An unexpected 421 is a lost connection; nothing is written after it, so nothing is lost."""
    with OddRelay(*HELLO, b"421 idle for too long\r\n") as relay, worker(relay.port) as w:
        relay.goodbye.set()
        wait_until(lambda: bool(w.connection._poll.poll(0)))
        error = w.fails(ConnectionLostError, to="a@example.com")
        assert "was lost during idle time: the relay sent 421 idle for too long" in error


@pytest.mark.parametrize("go_ahead", [b"354 go\r\n", b"503 no recipients\r\n"])
def test_a_go_ahead_after_a_refusal_is_taken_back(go_ahead: bytes) -> None:
    """RFC 2920 allows 354 to nobody: an empty mail to nobody ends it, and the connection goes on."""
    heard = [b"250 ok\r\n", b"550 no\r\n", go_ahead]
    ended = [b"554 nobody\r\n"] if go_ahead.startswith(b"354") else []
    # One line is heard for each answer, and three come at once.
    with OddRelay(*HELLO, *heard, *ended, b"250 reset\r\n", read_data=True) as relay, worker(relay.port) as w:
        assert "550 no" in w.fails(PermanentError, to="a@example.com")
        assert w.losses == []


def test_a_refusal_stands_when_the_connection_ends_with_it() -> None:
    """The recipient was refused, and then the relay went: the mail is settled, and the connection is reported as lost."""
    answers = [*HELLO, b"250 ok\r\n", b"550 no\r\n", b"354 go\r\n", None]
    with OddRelay(*answers) as relay, worker(relay.port) as w:
        assert "550 no" in w.fails(PermanentError, to="a@example.com")
        assert len(w.losses) == 1


@pytest.mark.parametrize(
    ("offer", "password", "error"),
    [
        (b"250 odd\r\n", "x", "offers no login; many relays offer one only with TLS"),
        (b"250-odd\r\n250 AUTH XOAUTH2 NTLM\r\n", "x", "offers XOAUTH2, NTLM; supported are"),
        (b"250-odd\r\n250 AUTH LOGIN\r\n", "é", "does not offer AUTH PLAIN"),
    ],
)
def test_a_relay_with_other_logins_is_an_access_error(offer: bytes, password: str, error: str) -> None:
    """The error says what it offers and what is wanted, and no password is sent."""
    with OddRelay(b"220 odd\r\n", offer) as relay:
        assert error in refusal(relay.port, username="shop", password=password)
        assert not [line for line in relay.heard if line.startswith(b"AUTH")]


def test_a_login_that_is_refused_for_now_is_a_lost_connection() -> None:
    """454: the password may be right, so nobody has to act."""
    answers = [b"220 odd\r\n", b"250-odd\r\n250 AUTH PLAIN\r\n", b"454 4.7.0 busy\r\n"]
    with OddRelay(*answers) as relay:
        error = refusal(relay.port, kind=ConnectionLostError, username="shop", password="x")
        assert "454 4.7.0 busy" in error


@pytest.mark.parametrize("last", [b"garbage\r\n", b"250-\r\n" * 30_000, b"xyz", None])
def test_an_answer_that_is_none_leaves_the_outcome_unknown(last: bytes | None) -> None:
    """After the whole mail: it may have been taken, and the connection is of no more use."""
    answers = [*PLAIN, b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n", last, None]
    with OddRelay(*answers) as relay, worker(relay.port, read_timeout_s=0.3) as w:
        w.fails(UnknownOutcomeError, to="a@example.com")
        assert len(w.losses) == 1


def test_a_refusal_in_the_midst_of_the_mail_counts() -> None:
    """A relay that refuses while the mail is still being written, and closes, has given its answer."""
    answers = [b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n552 too much\r\n", None]
    with OddRelay(*PLAIN, *answers, read_data=False) as relay, worker(relay.port) as w:
        assert "552 too much" in w.fails(PermanentError, "x" * 20_000_000, to="a@example.com")
        assert len(w.losses) == 1
