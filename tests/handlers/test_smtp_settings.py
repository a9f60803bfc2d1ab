"""Tests of the smtp handler's configuration tables."""

from __future__ import annotations

import re
from typing import Any

import pytest

from rambla_py.config import load_config
from rambla_py.errors import (
    ConfigError,
)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"to": "a@example.com, b@example.com"}, "expected one address"),
        ({"from": "nobody"}, "expected one address"),
        ({"generator": "mail_generators"}, "'module:function'"),
        ({"generator": "mail_generators:welcom"}, "did you mean 'welcome'?"),
        ({"generator": "mail_generators:NOT_A_FUNCTION"}, "not callable"),
        ({"generator": "no_such_module:x"}, "cannot import"),
    ],
)
def test_wrong_options_are_refused_at_load(options: dict[str, Any], reason: str) -> None:
    """Not at the first message."""
    table = {"connections": {"a": {}}, "channels": {"c": {"connection": "a", "options": options}}}
    with pytest.raises(ConfigError, match=re.escape(reason)):
        load_config({"smtp": table})


@pytest.mark.parametrize(
    ("connection", "reason"),
    [
        ({"relay": "a:25", "port": 25}, "set it once"),
        ({"relay": "a:b"}, "host or host:port"),
        ({"relay": "a:70000"}, "host or host:port"),
        ({"password": "x"}, "without a username"),
        ({"hostname": "a b"}, "space"),
        ({"hostname": "a\r\nQUIT"}, "not ASCII"),
        ({"from": "x"}, "expected one address"),
        ({"tls": "maybe"}, "'never'"),
    ],
)
def test_wrong_connections_are_refused_at_load(connection: dict[str, Any], reason: str) -> None:
    """Each with what to write."""
    with pytest.raises(ConfigError, match=re.escape(reason)):
        load_config({"smtp": {"connections": {"a": connection}, "channels": {"c": {"connection": "a"}}}})


@pytest.mark.parametrize(
    ("connection", "address"),
    [
        ({}, ("localhost", 587)),
        ({"tls": "never"}, ("localhost", 25)),
        ({"tls": "tls", "relay": "mail.example.com"}, ("mail.example.com", 465)),
        ({"tls": {"mode": "tls"}}, ("localhost", 465)),
        ({"relay": "mail.example.com:2525"}, ("mail.example.com", 2525)),
        ({"relay": "[::1]:2525"}, ("::1", 2525)),
        ({"relay": "::1", "port": 26}, ("::1", 26)),
    ],
)
def test_where_the_relay_is(connection: dict[str, Any], address: tuple[str, int]) -> None:
    """The port follows from the kind of TLS."""
    config = load_config({"smtp": {"connections": {"a": connection}, "channels": {"c": {"connection": "a"}}}})
    assert config.services["smtp"].connections["a"].address == address
