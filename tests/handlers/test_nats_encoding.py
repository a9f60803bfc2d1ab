"""Tests of NATS subjects, headers and errors, without a server."""

from __future__ import annotations

from typing import Any

import pytest
from deliveries import make_delivery
from nats import errors as driver

from rambla_py.errors import AccessError, ConnectionLostError, PermanentError, UnavailableError
from rambla_py.handlers.nats.encode import checked_subject, header_text, headers_of
from rambla_py.handlers.nats.errors import lost_error
from rambla_py.handlers.nats.jetstream import stream_error


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "a:b", "a\n", "é", "\udcff", "nats-msg-id", "NATS-Expected-Stream"]
)
def test_a_header_name_that_would_be_dropped_or_changed(name: str) -> None:
    """It is fatal, and never sent under another name or left out."""
    with pytest.raises(PermanentError, match="header"):
        headers_of(make_delivery(headers={name: "x"}), None)


@pytest.mark.parametrize("value", [" x", "x ", "\tx", "a\nb", "a\r\nb", "\udcff", b"\xff"])
def test_a_header_value_that_would_be_changed(value: Any) -> None:
    """It is fatal, and never stripped."""
    with pytest.raises(PermanentError, match="'kind'"):
        header_text("kind", value)


def test_an_id_of_the_users_own_choice() -> None:
    """The header under its exact name replaces the message's id."""
    assert headers_of(make_delivery(headers={"Nats-Msg-Id": "mine"}), "S") == {
        "Nats-Msg-Id": "mine",
        "Nats-Expected-Stream": "S",
    }


def test_a_subject_with_a_lone_surrogate() -> None:
    """It is fatal, by name."""
    with pytest.raises(PermanentError, match="subject"):
        checked_subject("a.\udcff")


@pytest.mark.parametrize(
    ("code", "err_code", "scope"),
    [
        (503, 10_077, "nats subject a"),
        (500, 0, "nats subject a"),
        (429, 0, "nats subject a"),
        (503, 10_023, "target"),
    ],
)
def test_what_jetstream_cannot_take_now(code: int, err_code: int, scope: str) -> None:
    """A full stream holds back its own subject; a server without resources the whole target."""
    error = stream_error(code, err_code, "no room", subject="a")
    assert isinstance(error, UnavailableError)
    assert error.scope == scope


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (driver.Error("nats: 'Authorization Violation'"), AccessError),
        (driver.Error("nats: user authentication expired"), AccessError),
        (driver.Error("nats: account authentication revoked"), AccessError),
        (driver.Error("nats: authentication timeout"), ConnectionLostError),
        (driver.Error("nats: maximum account active connections exceeded"), ConnectionLostError),
        (driver.Error("nats: maximum connections exceeded"), ConnectionLostError),
        (driver.SecureConnWantedError(), AccessError),
        (TimeoutError(), ConnectionLostError),
    ],
)
def test_what_an_operator_must_fix(error: Exception, kind: type) -> None:
    """Credentials, accounts and TLS are access errors; what passes by itself is a lost connection."""
    assert type(lost_error(error, where="nats at a:1")) is kind
