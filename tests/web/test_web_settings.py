"""What an embedded server needs of its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from config_handlers import load, service

from rambla_py import ConfigError


def problems(environ: Mapping[str, str] | None = None, **web: Any) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        load(dict(environ or {}), rambla={"web": web}, audit=service())
    return [str(problem) for problem in refused.value.problems]


def test_an_open_server_needs_a_token() -> None:
    """Other machines reach any host but loopback."""
    (problem,) = problems(enabled=True, host="0.0.0.0")
    assert "rambla.web.token" in problem
    assert "RAMBLA_WEB_TOKEN" in problem
    for host in ("127.0.0.1", "::1", "localhost"):
        assert load({}, rambla={"web": {"enabled": True, "host": host}}, audit=service()).rambla.web.enabled
    given = {"RAMBLA_WEB_TOKEN": "long-enough"}
    assert load(given, rambla={"web": {"enabled": True, "host": "::"}}, audit=service()).rambla.web.enabled


def test_tls_needs_both_files(tmp_path: Any) -> None:
    """A certificate without its key, and files that are not there, are refused."""
    given = tmp_path / "cert.pem"
    given.write_text("")
    assert ["rambla.web.tls_key" in problem for problem in problems(enabled=True, tls_cert=str(given))] == [
        True
    ]
    assert len(problems(enabled=True, tls_cert=str(given), tls_key="/nowhere/key.pem")) == 1
