"""Tests of what the answers of servers over HTTP mean."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyreqwest.exceptions import ConnectError, ConnectTimeoutError, ReadTimeoutError

from rambla_py.errors import (
    AccessError,
    ConnectionLostError,
    DeliveryError,
    PermanentError,
    RejectedError,
    UnavailableError,
    UnknownOutcomeError,
)
from rambla_py.handlers._http.errors import transport_error
from rambla_py.handlers._http.exchange import Answer
from rambla_py.handlers._http.status_codes import StatusRules, excerpt, refusal, retry_after_s
from rambla_py.handlers.clickhouse.errors import BadRowError, server_error


def error_of(status: int, body: bytes = b"", **headers: str) -> DeliveryError | None:
    return refusal(Answer(status, headers, body, True), "POST here")


@given(st.integers(200, 599))
def test_each_status_means_one_thing(status: int):
    """Each status is a success, unavailable, refused access, unknown, retried, or fatal."""
    error = error_of(status)
    if status < 300:
        assert error is None
    elif status in (401, 407):
        assert type(error) is AccessError
    elif status in (429, 503):
        assert type(error) is UnavailableError
    elif status in (502, 504):
        assert isinstance(error, UnknownOutcomeError)
        assert not error.connection_lost
    elif status in (408, 425) or (status >= 500 and status not in (501, 505)):
        assert type(error) is RejectedError
    else:
        assert type(error) is PermanentError


def test_statuses_that_a_channel_chooses():
    """A channel's statuses replace the defaults, and the scope is that of the request."""
    rules = StatusRules(unavailable=[404, 502], access=[403], scope="https://shop.test/in")
    answers = {
        status: refusal(Answer(status, {}, b"", True), "POST", rules) for status in (403, 404, 502, 503)
    }
    assert isinstance(answers[403], AccessError)
    assert isinstance(answers[502], UnavailableError)
    assert isinstance(answers[404], UnavailableError)
    assert answers[404].scope == "https://shop.test/in"
    assert type(answers[503]) is RejectedError


@given(st.integers(300, 599))
def test_bodies_are_never_quoted(status: int):
    """No error contains the body, which may repeat what was sent, nor the query of a redirect."""
    text = str(error_of(status, b"<html>4111-1111-1111-1111</html>", location="/in?card=4111-1111-1111-1111"))
    assert "4111" not in text
    assert "html" not in text


def test_redirects_are_redacted():
    """Secrets in the place that a redirect names are masked."""
    answer = Answer(301, {"location": "/hunter2/in"}, b"", True)
    assert "hunter2" not in str(refusal(answer, "POST", redact=lambda text: text.replace("hunter2", "***")))


@pytest.mark.parametrize(("status", "why"), [(301, "only 307 and 308"), (308, "off or exhausted")])
def test_a_redirect_that_was_not_followed(status: int, why: str):
    """The error says where it leads, and whether redirects could have been followed."""
    shown = str(error_of(status, location="/in/"))
    assert "to /in/" in shown
    assert why in shown


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", None),
        (" 7 ", 7.0),
        ("-1", None),
        ("soon", None),
        ("1.5", None),
        ("", None),
        ("²", None),
        ("86400", 300.0),
        ("9" * 400, 300.0),
    ],
)
def test_retry_after(value: str, seconds: float | None):
    """A number of seconds is taken; none at all, and nonsense, leave it to the back-off."""
    assert retry_after_s(value, now=0.0) == seconds
    error = error_of(503, **{"retry-after": value})
    assert error is not None
    assert error.retry_after_s == seconds


def test_retry_after_a_date():
    """A date is a wait from now on; one that is over is none, or all retries would be spent at once."""
    assert retry_after_s("Thu, 01 Jan 1970 01:00:00 GMT", now=3500.0) == 100.0
    assert retry_after_s("Thu, 01 Jan 1970 01:00:00 GMT", now=600.0) == 300.0
    assert retry_after_s("Thu, 01 Jan 1970 01:00:00 GMT", now=9999.0) is None


@pytest.mark.parametrize(
    "value",
    ["Thu, 01 Jan 1970 00:01:00 GMT", "Thursday, 01-Jan-70 00:01:00 GMT", "Thu Jan  1 00:01:00 1970"],
)
def test_retry_after_in_each_form_of_a_date(value: str, monkeypatch: pytest.MonkeyPatch):
    """The three forms of RFC 9110 are one time, wherever this machine is."""
    with monkeypatch.context() as here:
        here.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        seconds = retry_after_s(value, now=10.0)
    time.tzset()
    assert seconds == 50.0


def test_retry_after_a_date_by_the_clock_of_the_server():
    """What a date is counted from is the answer's own: the server's clock and ours may differ."""
    error = error_of(
        429, **{"retry-after": "Thu, 01 Jan 1970 00:01:30 GMT", "date": "Thu, 01 Jan 1970 00:01:00 GMT"}
    )
    assert error is not None
    assert error.retry_after_s == 30.0


@given(st.binary(max_size=2_000))
def test_excerpts_are_short_lines(body: bytes):
    """What a server says is shown as one line that no terminal takes for a command."""
    text = excerpt(body)
    assert len(text) <= 303
    assert text.isprintable()


def causes(*texts: str) -> dict:
    return {
        "causes": [{"message": text} for text in ("error sending request for url (http://x/s3cr3t)", *texts)]
    }


def test_tls_to_a_port_without_it():
    """The error says what is wrong with the URL."""
    error = ConnectError(
        "", causes("client error (Connect)", "received corrupt message of type InvalidContentType")
    )
    shown = transport_error(error, where="shop.test", timeout_s=1)
    assert type(shown) is ConnectionLostError
    assert "does not speak TLS on this port: is the scheme http?" in str(shown)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (
            ConnectError("", causes("client error (Connect)", "tcp connect error", "refused")),
            ConnectionLostError,
        ),
        (ConnectError("", causes("client error (SendRequest)", "connection reset")), UnknownOutcomeError),
        (ConnectError("", causes("client error (Connect)", "invalid peer certificate: x")), AccessError),
        (
            ConnectError("", causes("client error (SendRequest)", "fatal alert: CertificateRequired")),
            AccessError,
        ),
        (ConnectTimeoutError("", causes("client error (Connect)", "timed out")), ConnectionLostError),
        (ConnectTimeoutError("", causes("operation timed out")), UnknownOutcomeError),
        (ReadTimeoutError("", causes("operation timed out")), UnknownOutcomeError),
        (ValueError("invalid uri"), PermanentError),
    ],
)
def test_errors_of_the_transport(error: Exception, kind: type):
    """What was not sent is lost, what may have been read is unknown; the URL is quoted nowhere."""
    mapped = transport_error(error, where="http://x", timeout_s=1.0)
    assert type(mapped) is kind
    assert "s3cr3t" not in str(mapped)


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (500, "Code: 27, e.displayText() = DB::Exception: Cannot parse input: (at row 3)", BadRowError),
        (401, "Code: 193, e.displayText() = DB::Exception: Wrong password", AccessError),
        (403, "Code: 516. DB::Exception: Authentication failed", AccessError),
        (404, "Code: 60, e.displayText() = DB::Exception: Table x doesn't exist.", PermanentError),
        (403, "Code: 497. DB::Exception: Not enough privileges", PermanentError),
        (500, "Code: 241. DB::Exception: Memory limit (for query) exceeded", RejectedError),
        (500, "Code: 241. DB::Exception: Memory limit (total) exceeded", UnavailableError),
        (500, "Code: 202. DB::Exception: Too many simultaneous queries", UnavailableError),
        (500, "Code: 252. DB::Exception: Too many parts", UnavailableError),
        (500, "Code: 319. DB::Exception: Unknown status of insert", UnknownOutcomeError),
        (502, "Bad gateway", UnknownOutcomeError),
        (503, "<html>busy</html>", UnavailableError),
        (401, "<html>login</html>", AccessError),
        (413, "too large", BadRowError),
        (200, "", type(None)),
        (200, "Code: 1000. DB::Exception: oh", RejectedError),
    ],
)
def test_what_clickhouse_says(status: int, text: str, kind: type):
    """Codes decide where there is one, the status otherwise."""
    assert type(server_error(Answer(status, {}, text.encode(), True), "here")) is kind


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "Code: 27. DB::Exception: Cannot parse input: expected ',' before: '4111-1111': "
            "(while reading the value of key card): (at row 2)\n: While executing "
            "ParallelParsingBlockInputFormat. (CANNOT_PARSE_INPUT_ASSERTION_FAILED) (version 23.8.1.1)",
            "here: code 27 CANNOT_PARSE_INPUT_ASSERTION_FAILED, column card, row 2",
        ),
        ("Code: 117. DB::Exception: Unknown field 4111-1111", "here: code 117"),
        ("Code: 1000. DB::Exception: 4111-1111", "here: code 1000"),
        (
            "Code: 60. DB::Exception: Table x does not exist",
            "here: Code: 60. DB::Exception: Table x does not exist",
        ),
    ],
)
def test_clickhouse_rows_are_never_quoted(text: str, shown: str):
    """An error names code, column and row; it repeats the server's text only if that holds no data."""
    assert str(server_error(Answer(500, {}, text.encode(), True), "here")) == shown


def test_tables_that_are_unavailable():
    """A table that the server cannot write to now pauses only the inserts into that table."""
    answer = Answer(500, {}, b"Code: 242. DB::Exception: Table is in readonly mode", True)
    error = server_error(answer, "here", table="shop.events")
    assert isinstance(error, UnavailableError)
    assert error.scope == "here shop.events"
