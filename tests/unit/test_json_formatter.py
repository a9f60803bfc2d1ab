"""Log records as lines of JSON."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from small_apps import one, probe, running, table

from rambla_py import PermanentError
from rambla_py.telemetry.logs import JsonFormatter

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def record(message: Any = "sold", *args: Any, **attributes: Any) -> logging.LogRecord:
    made = logging.LogRecord("shop", logging.WARNING, "shop.py", 1, message, args, None)
    vars(made).update(attributes)
    return made


def line_of(made: logging.LogRecord, **options: Any) -> dict[str, Any]:
    """Return what a line says; it is one line, whichever characters end one."""
    line = JsonFormatter(**options).format(made)
    assert len(line.splitlines()) == 1
    said: dict[str, Any] = json.loads(line)
    return said


class Hostile:
    """Raises whenever it is shown."""

    def __repr__(self) -> str:
        raise ValueError("no text")


def test_a_record_of_the_application_has_the_common_fields() -> None:
    """What it does not have is absent, not null."""
    made = record("sold %d", 3)
    said = line_of(made)
    at = datetime.fromtimestamp(made.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    assert said == {
        "at": at,
        "level": "WARNING",
        "logger": "shop",
        "message": "sold 3",
        "pid": made.process,
        "thread": made.threadName,
    }


def test_a_failed_delivery_has_all_of_its_fields(caplog: pytest.LogCaptureFixture) -> None:
    """Target, message, error, and the trace of its header."""

    def refuse(message: Any) -> Any:
        raise PermanentError("not today")

    with running(table(probe(refuse))) as app:
        one(app, "payl0ad", id="order-1", headers={"traceparent": f"00-{TRACE}-{SPAN}-01"})
    (made,) = [found for found in caplog.records if "not today" in found.getMessage()]
    said = line_of(made)
    assert {name: said[name] for name in list(said)[4:12]} == {
        "service": "probe",
        "channel": "orders",
        "message_id": "order-1",
        "attempts": 1,
        "status": "fatal",
        "error": "PermanentError: not today",
        "error_class": "PermanentError",
        "trace_id": TRACE,
    }
    assert said["span_id"] == SPAN
    assert "payl0ad" not in str(said)


def test_a_malformed_trace_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """Headers come from anywhere."""

    def refuse(message: Any) -> Any:
        raise PermanentError("not today")

    with running(table(probe(refuse))) as app:
        one(app, headers={"traceparent": f"00-{TRACE}-{SPAN}-01\n"})
    (made,) = [found for found in caplog.records if "not today" in found.getMessage()]
    assert "trace_id" not in line_of(made)


def test_a_message_cannot_forge_a_second_record() -> None:
    """New lines and control characters of every kind are escaped, and come back."""
    forged = 'x\n{"level": "ERROR"}\r\x0b\x0c\x1b[2J\x7f\x85\u2028\u2029"'
    line = JsonFormatter().format(record(forged))
    assert line.isprintable()
    assert json.loads(line)["message"] == forged


def test_secrets_are_masked_everywhere() -> None:
    """In the message, in extra fields of any depth, and in the stack; passwords of URLs too."""
    try:
        raise ValueError("hunter2 was refused")
    except ValueError:
        failed = record(
            "amqp://shop:pa55@broker hunter2", exc_info=sys.exc_info(), more={"deep": ["hunter2"]}
        )
    said = line_of(failed, secrets=["hunter2"], extra=["more"])
    assert "hunter2" not in str(said)
    assert "pa55" not in str(said)
    assert said["message"] == "amqp://shop:***@broker ***"
    assert said["more"] == {"deep": ["***"]}


@pytest.mark.parametrize("value", [12345678, -12345678.5, {"pin": [12345678]}])
def test_a_number_with_a_secret_in_it_is_masked_as_a_string(value: Any) -> None:
    """The line remains JSON."""
    said = line_of(record("sold", odd=value), secrets=["12345678"], extra=["odd"])
    assert "***" in str(said["odd"])
    assert "12345678" not in str(said)


def test_the_names_of_fields_are_not_masked() -> None:
    """A password may be a word that every line has."""
    said = line_of(record("null", odd=[None, True]), secrets=["level", "null", "true"], extra=["odd"])
    assert (said["level"], said["message"], said["odd"]) == ("WARNING", "***", [None, True])


@pytest.mark.parametrize("deep", [{"url": "amqp://shop:pa55@broker"}, ["https://host/?token=pa55", "next"]])
def test_passwords_of_urls_inside_values_are_masked(deep: Any) -> None:
    """At any depth, and nothing after them."""
    said = line_of(record("sold", odd=deep), extra=["odd"])["odd"]
    assert "pa55" not in str(said)
    assert len(said) == len(deep)


def test_a_secret_at_the_cut_is_not_shown_in_part() -> None:
    """Masked first, cut afterwards."""
    said = line_of(record("x" * 8_188 + "hunter2"), secrets=["hunter2"])
    assert "hunt" not in said["message"]


def test_exceptions_have_a_stack() -> None:
    """With the error's text and class."""
    try:
        raise KeyError("gone")
    except KeyError:
        said = line_of(record(exc_info=sys.exc_info()))
    assert said["error_class"] == "KeyError"
    assert said["error"] == "'gone'"
    assert said["stack"].startswith("Traceback")
    assert "test_json_formatter.py" in said["stack"]


def test_extra_fields_follow_by_name() -> None:
    """Those of the record that were asked for; they do not replace ours."""
    made = record("sold", request="r-1", level="forged", when=datetime(2026, 1, 2), other="x")
    said = line_of(made, extra=["request", "level", "when", "absent"])
    assert (said["request"], said["level"], said["when"]) == ("r-1", "WARNING", "2026-01-02T00:00:00")
    assert "other" not in said
    assert "absent" not in said


@pytest.mark.parametrize(
    "value", [object(), {1: 2, (3,): 4}, "\ud800", Hostile(), float("nan"), b"\xff", 2**70]
)
def test_no_value_breaks_a_line(value: Any) -> None:
    """What JSON does not know is its text."""
    assert "odd" in line_of(record("sold", odd=value), extra=["odd"])


def test_a_value_that_contains_itself_is_its_text() -> None:
    """Its repr ends."""
    endless: list[Any] = []
    endless.append(endless)
    assert line_of(record("sold", odd=endless), extra=["odd"])["odd"] == "[[...]]"


@pytest.mark.parametrize("value", ["é" * 10_000, ["x" * 10_000]])
def test_long_values_are_cut(value: Any) -> None:
    """After 8 KiB, between two characters."""
    said = line_of(record("sold", odd=value), extra=["odd"])["odd"]
    assert said.endswith("…")
    assert len(said.encode()) <= 8_192 + 3


@pytest.mark.parametrize("args", [("a", "b"), (Hostile(),), ()])
def test_arguments_that_do_not_fit_leave_the_format(args: tuple[Any, ...]) -> None:
    """A line is written all the same."""
    assert line_of(record("sold %s", *args))["message"] == "sold %s"
