"""This module tests the smtp handler against real relays, and against ones that misbehave."""

from __future__ import annotations

import email
import email.policy
import os
import smtplib
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from delivery_target import Target
from waiting import wait_until

from rambla_py.app import Rambla
from rambla_py.delivery import Delivery
from rambla_py.errors import (
    AccessError,
    ConnectionLostError,
    DeliveryError,
    PayloadTooLargeError,
    PermanentError,
    RejectedError,
    UnknownOutcomeError,
)
from rambla_py.handler import Link, Secret, State
from rambla_py.handlers.smtp import SmtpHandler
from rambla_py.handlers.smtp.wire import Sent
from rambla_py.policy import Policy
from rambla_py.testing import FaultProxy, Server, SmtpServer
from rambla_py.testing.ports import HOST
from rambla_py.testing.smtp_server import KeptMail

Proxies = Callable[[Server], FaultProxy]


class Worker:
    """Stands for a worker: a handler with its live connection, for mails to one recipient of its own."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.handler = SmtpHandler(_connection(settings), channel="mail", service="smtp")
        self.losses: list[BaseException] = []
        self.handler.link = Link(lost=self.losses.append)
        self.connection = self.handler.connect()
        self.sent = 0

    def send(self, payload: Any = "Hello", **options: Any) -> Sent:
        self.sent += 1
        made = msgspec.convert(options, SmtpHandler.Options)
        message = Delivery(
            payload,
            Target("smtp", "mail"),
            None,
            self.sent,
            0.0,
            made,
            Policy(),
            {},
            given_id=f"mail-{self.sent}",
        )
        return self.handler.handle_publish(message, made, State(self.connection, "mail", "smtp"))

    def fails(self, kind: type[DeliveryError], payload: Any = "Hello", **options: Any) -> str:
        """Send a mail that must fail with this error, exactly; return what it says."""
        with pytest.raises(kind) as caught:
            self.send(payload, **options)
        assert type(caught.value) is kind
        return str(caught.value)

    def close(self) -> None:
        self.handler.close(self.connection)


def _connection(settings: dict[str, Any]) -> Any:
    password = settings.get("password")
    given = {**settings, "password": None if password is None else Secret(password)}
    return msgspec.convert(
        {"from": "Shop <shop@example.com>", **given},
        SmtpHandler.Connection,
        dec_hook=lambda kind, value: value,
    )


@contextmanager
def worker(port: int, **settings: Any) -> Iterator[Worker]:
    with closing(Worker({"relay": HOST, "port": port, "tls": "never", **settings})) as made:
        yield made


def refusal(port: int, kind: type[ConnectionLostError] = AccessError, **settings: Any) -> str:
    """Return what the error of a connect that must fail says."""
    with pytest.raises(ConnectionLostError) as caught:
        SmtpHandler(_connection({"relay": HOST, "port": port, "tls": "never", **settings})).connect()
    assert type(caught.value) is kind
    return str(caught.value)


def in_background(run: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


@pytest.fixture
def ann(unique_name: str) -> str:
    """An address of this test's own."""
    return f"ann-{unique_name[-30:].strip('-')}@example.com"


@pytest.fixture
def arrived(smtp_server: SmtpServer, ann: str) -> Callable[[], list[KeptMail]]:
    """What the test's own address got."""
    return lambda: smtp_server.mails(ann)


@pytest.fixture(params=["pipelining", "bare"])
def port(request: pytest.FixtureRequest, smtp_server: SmtpServer) -> int:
    """A port that takes commands in one write, and one that wants to be waited for."""
    return smtp_server.port if request.param == "pipelining" else smtp_server.bare_port


# -- the connection -----------------------------------------------------------------------------------------


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
        assert "certificate was refused" in refusal(where, tls=mode)
        wrong = {"mode": mode, "ca_file": str(smtp_server.tls.authority), "server_name": "elsewhere.example"}
        assert "elsewhere.example" in refusal(where, tls=wrong)
        assert "cannot read the files" in refusal(where, tls={"mode": mode, "ca_file": "/nowhere.pem"})


def test_tls_on_the_wrong_kind_of_port_is_told(smtp_server: SmtpServer) -> None:
    """From the first byte where the relay greets first, and the other way round."""
    assert "does not begin with TLS" in refusal(smtp_server.port, tls="tls")
    silent = refusal(smtp_server.tls_port, kind=ConnectionLostError, connect_timeout_s=0.2)
    assert "it needs tls = 'tls'" in silent


def test_a_relay_without_starttls_is_given_nothing(smtp_server: SmtpServer) -> None:
    """Whoever strips STARTTLS from the greeting does not get the mail in clear text."""
    assert "does not offer STARTTLS; set tls" in refusal(smtp_server.port, tls="starttls")


@pytest.mark.parametrize(
    ("username", "password"), [("shop", "wrong"), ("nobody", "s3cret-relay"), ("shöp", "s3crét")]
)
def test_a_wrong_login_is_an_access_error(username: str, password: str, smtp_server: SmtpServer) -> None:
    """Whatever letters it has; the password is not in the error."""
    told = refusal(smtp_server.port, username=username, password=password)
    assert "refused the login: 535" in told
    assert password not in told


def test_a_relay_without_logins_is_an_access_error(smtp_server: SmtpServer) -> None:
    """It is told before the password is sent; and so is one that wants a login, where there is none."""
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
    """The limit is the one that EHLO told; the connection goes on."""
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
@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (450, RejectedError),
        (550, PermanentError),
        (452, RejectedError),
        (554, PermanentError),
        (421, ConnectionLostError),
    ],
)
def test_answers_say_what_becomes_of_a_mail(
    step: str, code: int, kind: type[DeliveryError], port: int, ann: str
) -> None:
    """4xx is for now, 5xx for good, 421 the end of the connection; at each step alike, with its words."""
    trouble = f"{step}-{code}-a@example.com"
    people = {"from": trouble, "to": ann} if step == "mail" else {"to": trouble}
    with worker(port) as w:
        told = w.fails(kind, **people)
        assert str(code) in told
        if code == 421:
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
        told = w.fails(kind, to=[ann, *bad])
        assert told.startswith(
            f"{len(bad)} of {len(bad) + 1} recipients refused, the mail was sent to nobody"
        )
        assert all(f"{who}: {code} " in told for who, code in zip(bad, codes, strict=True))
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
        assert line.startswith("smtp.mail: mail-1 was not sent to rcpt-450-a@example.com: 450 ")
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
    assert "rcpt-450-a@example.com: 450" in str(outcome.error)
    assert arrived() == []


# -- losses ----------------------------------------------------------------------------------------------------


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
        assert "no answer within read_timeout_s = 0.2" in w.fails(kind, to=f"{step}-hang-a@example.com")


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
    ids = {_header(mail, "Message-ID") for mail in arrived()}
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


# -- relays that misbehave -------------------------------------------------------------------------------------


class OddRelay:
    """Greets, and answers each line that comes with the next answer; None closes the connection.

    An answer of 421 is a goodbye that nobody asked for: it is said once ``goodbye`` is set. After 354 it reads
    the mail, unless ``read_data`` is off.
    """

    def __init__(self, *answers: bytes | None, read_data: bool = True) -> None:
        self.answers, self.read_data = list(answers), read_data
        self.heard: list[bytes] = []
        self.goodbye = threading.Event()
        self._listener = socket.create_server((HOST, 0))
        self.port = self._listener.getsockname()[1]
        self._thread = in_background(self._serve)

    def __enter__(self) -> OddRelay:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self._thread.join(5)

    def _serve(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        with client, client.makefile("rb") as lines:
            client.settimeout(10)
            for answer, following in pairwise([*self.answers, b""]):
                if answer is None:
                    return
                client.sendall(answer)
                if answer.startswith(b"354") and self.read_data:
                    while lines.readline() not in (b".\r\n", b""):
                        pass
                elif following is not None and following.startswith(b"421"):
                    self.goodbye.wait(10)
                else:
                    self.heard.append(lines.readline())


HELLO = (b"220 odd\r\n", b"250-odd\r\n250 PIPELINING\r\n")
PLAIN = (b"220 odd\r\n", b"250-odd\r\n250 SIZE\r\n")


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ([b"554 not you\r\n"], "554 not you"),
        ([b"HTTP/1.1 400 Bad Request\r\n"], "does not speak SMTP; is the port right?"),
        ([None], "closed"),
        ([b"220 odd\r\n", b"500 what?\r\n", b"500 what?\r\n"], "500 what?"),
        ([b"220 odd\r\n", None], "closed"),
        ([b"220 " + b"x" * 10_000 + b"\r\n"], "Line too long"),
    ],
)
def test_a_greeting_that_is_none_is_a_lost_connection(answers: Sequence[bytes | None], told: str) -> None:
    """With what the relay said."""
    with OddRelay(*answers) as relay:
        assert told in refusal(relay.port, kind=ConnectionLostError)


def test_an_old_relay_is_greeted_the_old_way() -> None:
    """One that does not know EHLO is sent HELO, and a mail without parameters."""
    answers = [b"220 old\r\n", b"502 what?\r\n", b"250 old\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"]
    with OddRelay(*answers, b"250 done\r\n") as relay, worker(relay.port) as w:
        assert w.send(to="a@example.com").reply == "250 done"
        assert relay.heard[2:4] == [b"MAIL FROM:<shop@example.com>\r\n", b"RCPT TO:<a@example.com>\r\n"]


def test_what_a_relay_says_while_idle_is_the_end_of_the_connection() -> None:
    """A goodbye that nobody asked for is told; nothing is written to it, so nothing is lost."""
    with OddRelay(*HELLO, b"421 idle for too long\r\n") as relay, worker(relay.port) as w:
        relay.goodbye.set()
        wait_until(lambda: bool(w.connection._poll.poll(0)))
        told = w.fails(ConnectionLostError, to="a@example.com")
        assert "was lost during idling: the relay said 421 idle for too long" in told


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
    """The recipient was refused, and then the relay went: the mail is settled, the connection is told."""
    answers = [*HELLO, b"250 ok\r\n", b"550 no\r\n", b"354 go\r\n", None]
    with OddRelay(*answers) as relay, worker(relay.port) as w:
        assert "550 no" in w.fails(PermanentError, to="a@example.com")
        assert len(w.losses) == 1


@pytest.mark.parametrize(
    ("offer", "password", "told"),
    [
        (b"250 odd\r\n", "x", "offers no login; many offer it with TLS only"),
        (b"250-odd\r\n250 AUTH XOAUTH2 NTLM\r\n", "x", "offers XOAUTH2, NTLM, and we know"),
        (b"250-odd\r\n250 AUTH LOGIN\r\n", "é", "does not offer AUTH PLAIN"),
    ],
)
def test_a_relay_with_other_logins_is_an_access_error(offer: bytes, password: str, told: str) -> None:
    """What it offers, and what is wanted, are told before a password is sent."""
    with OddRelay(b"220 odd\r\n", offer) as relay:
        assert told in refusal(relay.port, username="shop", password=password)
        assert not [line for line in relay.heard if line.startswith(b"AUTH")]


def test_a_login_that_is_refused_for_now_is_a_lost_connection() -> None:
    """454: the password may be right, so nobody has to act."""
    answers = [b"220 odd\r\n", b"250-odd\r\n250 AUTH PLAIN\r\n", b"454 4.7.0 busy\r\n"]
    with OddRelay(*answers) as relay:
        told = refusal(relay.port, kind=ConnectionLostError, username="shop", password="x")
        assert "454 4.7.0 busy" in told


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


# -- what some of the tests share --------------------------------------------------------------------------------


@contextmanager
def app(
    port: int, *, on_unknown: str = "retry", connection: dict[str, Any] | None = None, **options: Any
) -> Iterator[Rambla]:
    table = {
        "connections": {
            "relay": {
                "relay": HOST,
                "port": port,
                "tls": "never",
                "from": "shop@example.com",
                **(connection or {}),
            }
        },
        "channels": {
            "mail": {
                "connection": "relay",
                "on_unknown": on_unknown,
                "options": {"retries": 2, "backoff": {"initial_s": 0.01, "max_s": 0.02}, **options},
            }
        },
    }
    with Rambla({"smtp": table}) as running:
        yield running


def _header(mail: KeptMail, name: str) -> str:
    return str(email.message_from_bytes(mail.content, policy=email.policy.default)[name])
