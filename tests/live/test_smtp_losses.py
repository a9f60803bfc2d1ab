"""Tests of lost connections of the smtp handler."""

from __future__ import annotations

import os
import smtplib
from collections.abc import Callable
from typing import Any

import pytest
from smtp_worker import Proxies, app, header, in_background, worker
from waiting import wait_until

from rambla_py.errors import (
    ConnectionLostError,
    DeliveryError,
    UnknownOutcomeError,
)
from rambla_py.testing import SmtpServer
from rambla_py.testing.smtp_server import KeptMail


@pytest.mark.parametrize(
    ("recipient", "kind", "kept"),
    [
        ("rcpt-die-a@example.com", ConnectionLostError, 0),
        ("data-lose-a@example.com", UnknownOutcomeError, 0),
        ("data-die-a@example.com", UnknownOutcomeError, 1),
    ],
)
def test_what_a_lost_connection_means_for_the_mail(
    recipient: str,
    kind: type[DeliveryError],
    kept: int,
    port: int,
    ann: str,
    arrived: Callable[[], list[KeptMail]],
) -> None:
    """Before its end was written it was not sent; afterwards nobody knows, whether it was kept or not."""
    with worker(port) as w:
        w.fails(kind, to=[ann, recipient])
        assert len(w.losses) == 1
        w.fails(ConnectionLostError, to=ann)
    assert len(arrived()) == kept


@pytest.mark.parametrize("step", ["rcpt", "data"])
def test_a_relay_that_falls_silent_is_given_up(step: str, port: int) -> None:
    """After ``read_timeout_s``: unknown once the whole mail was written."""
    kind = UnknownOutcomeError if step == "data" else ConnectionLostError
    with worker(port, read_timeout_s=0.2) as w:
        assert "no reply within read_timeout_s = 0.2" in w.fails(kind, to=f"{step}-hang-a@example.com")


def test_a_relay_that_does_not_read_is_given_up(
    smtp_server: SmtpServer, fault_proxy: Proxies, ann: str
) -> None:
    """A mail that is larger than all buffers does not wait for ever, and was not sent."""
    proxy = fault_proxy(smtp_server)
    with worker(proxy.port, read_timeout_s=0.5) as w:
        w.send(to=ann)
        smtp_server.pause()
        w.fails(ConnectionLostError, to=ann)


def test_a_connection_that_was_closed_while_idle_costs_no_attempt(
    smtp_server: SmtpServer, ann: str, arrived: Callable[[], list[KeptMail]]
) -> None:
    """The relay restarts between two mails: the second is delivered at its first attempt, once."""
    with app(smtp_server.port, to=ann) as running:
        assert running.publish("mail", "one").outcomes(timeout_s=20)[0].status == "ok"
        smtp_server.restart()
        outcome = running.publish("mail", "two").outcomes(timeout_s=20)[0]
    assert (outcome.status, outcome.attempts) == ("ok", 1)
    assert len(arrived()) == 2


def test_a_relay_that_is_killed_in_the_midst_loses_no_mail(
    smtp_server: SmtpServer, ann: str, arrived: Callable[[], list[KeptMail]]
) -> None:
    """Each mail has one outcome, what is ok is there, and what came twice has the same Message-ID."""
    with app(smtp_server.port, to=ann) as running:
        receipt = running.publish_many("mail", [f"mail {number}" for number in range(400)])
        wait_until(lambda: len(arrived()) > 50)
        smtp_server.kill()
        assert not receipt.done()
        smtp_server.start()
        outcomes = receipt.outcomes(timeout_s=60)
    assert {outcome.status for outcome in outcomes} == {"ok"}
    ids = {header(mail, "Message-ID") for mail in arrived()}
    assert {outcome.result.message_id for outcome in outcomes} == ids


def test_an_unknown_outcome_is_reported_where_it_is_not_retried(
    smtp_server: SmtpServer, ann: str, arrived: Callable[[], list[KeptMail]]
) -> None:
    """At most once: the mail that was kept and not confirmed is not sent again."""
    with app(smtp_server.port, to=[ann, "data-die-a@example.com"], on_unknown="report") as running:
        assert running.publish("mail", "one").outcomes(timeout_s=20)[0].status == "unknown"
    assert len(arrived()) == 1


def test_close_wakes_whoever_waits_for_an_answer(smtp_server: SmtpServer) -> None:
    """From another thread, at once, though the relay is silent; twice does no harm."""
    with worker(smtp_server.port) as w:
        answers: list[str] = []
        waiting = in_background(
            lambda: answers.append(w.fails(ConnectionLostError, to="rcpt-hang-a@example.com"))
        )
        wait_until(lambda: w.connection._busy)
        w.close()
        w.close()
        waiting.join(5)
        assert len(answers) == 1


def test_a_forked_child_leaves_its_parents_connection_alone(
    smtp_server: SmtpServer, ann: str, arrived: Callable[[], list[KeptMail]]
) -> None:
    """Closing it there says no QUIT on the parent's socket."""
    with worker(smtp_server.port) as w:
        w.send(to=ann)
        child = os.fork()
        if child == 0:
            try:
                w.close()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        w.send(to=ann)
    assert len({mail.peer for mail in arrived()}) == 1


def test_a_callable_is_given_a_client_of_the_standard_library(
    smtp_server: SmtpServer, ann: str, arrived: Callable[[], list[KeptMail]]
) -> None:
    """Logged in, on a connection of its own: what it leaves half done harms no mail of ours."""

    def half_done(*, source: Any, destination: smtplib.SMTP, options: Any) -> str:
        destination.mail("half@example.com")
        return type(destination).__mro__[1].__name__

    def whole(*, source: Any, destination: smtplib.SMTP, options: Any) -> Any:
        return destination.sendmail("me@example.com", [ann], b"Subject: x\r\n\r\nx")

    login = {"username": smtp_server.username, "password": smtp_server.password}
    with app(smtp_server.login_port, to=ann, connection=login) as running:
        assert running.publish("mail", half_done).result(timeout_s=20) == "SMTP"
        assert running.publish("mail", "Hello").outcomes(timeout_s=20)[0].status == "ok"
        assert running.publish("mail", whole).result(timeout_s=20) == {}
        smtp_server.restart()
        assert running.publish("mail", whole).result(timeout_s=20) == {}
    assert len(arrived()) == 3
