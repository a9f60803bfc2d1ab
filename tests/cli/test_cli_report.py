"""Tests of what the command line says at the end: tallies, reports, advice."""

from __future__ import annotations

import io
import socket

import pytest
from rich.console import Console

from rambla_py.cli.advice import advice
from rambla_py.cli.counts import DISTINCT, Counts
from rambla_py.cli.message_reader import Line
from rambla_py.cli.summary import Report, print_report
from rambla_py.errors import AccessError, ConnectionLostError, DroppedError, RejectedError
from rambla_py.outcome import Outcome
from rambla_py.status import Audit


class Ended:
    """A receipt that is complete."""

    def __init__(self, *outcomes: Outcome, done: bool = True) -> None:
        self._outcomes, self._done = list(outcomes), done

    def done(self) -> bool:
        return self._done

    def outcomes(self) -> list[Outcome]:
        return self._outcomes


def fatal(text: str, service: str = "amqp") -> Outcome:
    return Outcome("orders", service, "fatal", error=RejectedError(text))


def tally_of(*receipts: Ended) -> Counts:
    refused: list[int] = []
    counts = Counts(
        lambda text: text.replace("hunter2", "***"), lambda line, outcome, why: refused.append(line.number)
    )
    for number, receipt in enumerate(receipts, 1):
        counts.add(Line(number, None), receipt)  # type: ignore[arg-type]
        counts.read_to(number)
    return counts


def test_a_tally_counts_messages_and_kinds_of_failures() -> None:
    """A message that failed at two targets is one message, and two failures."""
    counts = tally_of(
        Ended(fatal("no"), fatal("no", "redis")), Ended(fatal("no")), Ended(Outcome("o", "s", "ok"))
    )
    assert counts.sweep() == 0
    assert counts.failed == 2
    assert counts.as_data()[0] == {
        "target": "amqp.orders",
        "status": "fatal",
        "error": "RejectedError: no",
        "count": 2,
    }


def test_a_tally_tells_a_hundred_errors_apart_and_no_more() -> None:
    """Errors with something of each message in them do not fill the memory, and none is lost."""
    counts = tally_of(*(Ended(fatal(f"message {number}")) for number in range(1_000)))
    counts.sweep()
    assert len(counts.failures) == DISTINCT + 1
    assert sum(counts.failures.values()) == 1_000


def test_a_tally_keeps_no_receipt_that_is_complete() -> None:
    """Ten times as many messages leave no more behind; what is pending stays."""
    waiting = Ended(done=False)
    counts = tally_of(waiting, *(Ended(Outcome("o", "s", "ok")) for _ in range(50_000)))
    assert len(counts._open) < 5_000
    assert counts.sweep() == 1


def test_a_delivery_that_its_fallback_made_has_not_failed() -> None:
    """The end of the fallback chain counts."""
    outcome = Outcome("o", "s", "fatal", error=RejectedError("no"), fallback=Outcome("spare", "s", "ok"))
    counts = tally_of(Ended(outcome))
    counts.sweep()
    assert (counts.failed, counts.as_data()) == (0, [])


def test_a_tally_shows_no_secrets_and_why_something_was_dropped() -> None:
    """The reason of a drop, and the failure before it, with secrets masked."""
    error = DroppedError("mailbox full")
    error.__cause__ = RejectedError("login hunter2")
    counts = tally_of(Ended(Outcome("o", "s", "dropped", error=error)))
    counts.sweep()
    assert counts.as_data()[0]["error"] == "mailbox full, after RejectedError: login ***"


def test_a_run_continues_before_the_first_line_that_was_not_delivered() -> None:
    """Lines that were refused are done with; those that were dropped at the end, or are pending, are not."""
    good, refused = Ended(Outcome("o", "s", "ok")), Ended(fatal("no"))
    dropped = Ended(Outcome("o", "s", "dropped", error=DroppedError("stopped")))
    for receipts, last in (
        ([good, refused, good], 3),
        ([good, refused, dropped, good, dropped], 2),
        ([good, Ended(done=False), good], 1),
        ([], 0),
    ):
        counts = tally_of(*receipts)
        counts.sweep()
        assert counts.last_line == last


def report(**changes: object) -> Report:
    fields = {
        "channel": "orders",
        "source": "a.jsonl",
        "sent": 2_000,
        "failed": 0,
        "pending": 0,
        "bad_lines": 0,
        "took_s": 0.5,
        "targets": {"amqp.orders": Audit(2_000, 2_000, 0, 0, 0, 0, 0, 0)},
        "failures": [],
        "refused": [],
        "refused_rows": 0,
        "last_line": None,
    }
    return Report(**{**fields, **changes})  # type: ignore[arg-type]


def printed(one: Report) -> str:
    console = Console(file=io.StringIO(), width=80)
    print_report(one, console)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, 0),
        ({"failed": 1}, 1),
        ({"bad_lines": 1}, 1),
        ({"pending": 1}, 1),
        ({"why": "x"}, 1),
        ({"signal": 2}, 130),
    ],
)
def test_the_exit_code_says_whether_all_was_delivered(changes: dict[str, object], code: int) -> None:
    """0 only when every message was delivered; 128 and its number after a signal."""
    assert report(**changes).exit_code == code


def test_the_table_has_no_columns_for_what_never_happened() -> None:
    """A status that occurred nowhere is not there; numbers have thousands separators."""
    header, _, row = printed(report()).splitlines()[:3]
    assert header.split() == ["target", "accepted", "ok"]
    assert row.split() == ["amqp.orders", "2,000", "2,000"]


def test_the_last_line_says_it_all() -> None:
    """How many, where, how fast, and what went wrong; one is singular."""
    text = printed(report(failed=12, bad_lines=1)).splitlines()[-1]
    assert text == "2,000 messages sent to orders in 500 ms (4,000/s); 12 failed; 1 invalid line"


def test_a_single_message_needs_no_table() -> None:
    """One delivery is reported on one line."""
    one = report(sent=1, took_s=0.003, targets={"amqp.orders": Audit(1, 1, 0, 0, 0, 0, 0, 0)})
    assert printed(one) == "1 message sent to orders in 3 ms\n"


def refused() -> ConnectionLostError:
    error = ConnectionLostError("cannot connect to redis at 127.0.0.1:6379: [Errno 111]")
    error.__cause__ = ConnectionRefusedError(111, "Connection refused")
    return error


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (refused(), "is the server running at 127.0.0.1:6379?"),
        (ConnectionLostError("broker:5672: gaierror: Name or service not known"), "host is unknown"),
        (socket.gaierror(-2, "no"), "host is unknown"),
        (AccessError("broker:5671: the certificate was refused: expired"), "tls settings"),
        (AccessError("WRONGPASS"), "user name and the password"),
        (AccessError('FATAL: database "shop" does not exist'), "create it on the server"),
        (AccessError("(1049) Unknown database 'shop'"), "create it on the server"),
        (AccessError("NOT_ALLOWED - vhost shop not found"), "create it on the server"),
        (AccessError("ERR DB index is out of range"), "correct its name"),
        (PermissionError(13, "no"), "this user may write"),
        (ConnectionLostError("no answer within 5 s"), "--timeout"),
        (RuntimeError("odd"), "check [redis.connections.local]"),
    ],
)
def test_advice_names_what_to_look_at(error: BaseException, wanted: str) -> None:
    """Each kind of failure has a hint of its own."""
    assert wanted in advice(error, f"{type(error).__name__}: {error}", connection="redis.connections.local")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("cannot connect to redis at localhost:6379: Connection refused", " at localhost:6379"),
        ("cannot connect to [::1]:6379: Connection refused", " at [::1]:6379"),
        ("cannot connect to s3://b at http://127.0.0.1:9000: Connection refused", " at 127.0.0.1:9000"),
        ("cannot open /var/10.0.0.1:1/x: Connection refused", ""),
    ],
)
def test_advice_names_the_place_whole(text: str, place: str) -> None:
    """What stands in a URL is a place too, and no part of an address is one."""
    assert advice(None, text, connection="c").startswith(f"is the server running{place}?")
