"""The tables ``[rambla.web]`` and ``[rambla.telemetry]`` of a configuration."""

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


def test_everything_is_off_by_default() -> None:
    """No port is opened unless the configuration says so."""
    settings = load({}, audit=service()).rambla.web
    assert (settings.enabled, settings.host, settings.port) == (False, "127.0.0.1", 8421)
    assert (settings.socket, settings.token, settings.required, settings.need) == (None, None, (), "accept")


def test_the_token_is_secret() -> None:
    """It is masked like every other one, and may come from the environment."""
    config = load(
        {"RAMBLA_WEB_TOKEN": "from-outside"}, rambla={"web": {"token": "of-the-file"}}, audit=service()
    )
    assert config.rambla.web.token is not None
    assert config.rambla.web.token.reveal() == "from-outside"
    assert "from-outside" in config.secrets
    assert "from-outside" not in repr(config.rambla)
    assert load({"RAMBLA_WEB_TOKEN": ""}, audit=service()).rambla.web.token is None


def test_an_empty_token_is_refused() -> None:
    """It would let everyone in."""
    (problem,) = problems(token=" ")
    assert "rambla.web.token: expected a string that is not empty" in problem


def test_required_channels_must_exist() -> None:
    """By their names, or those of their targets."""
    config = load({}, rambla={"web": {"required": ["orders", "audit.orders"]}}, audit=service())
    assert config.rambla.web.required == ("orders", "audit.orders")
    (problem,) = problems(required=["orders", "ordres"])
    assert "rambla.web.required[1]" in problem
    assert "did you mean 'orders'?" in problem


def test_wrong_values_are_refused() -> None:
    """Each with its path."""
    assert "rambla.web.need" in problems(need="all")[0]
    assert "rambla.web.port" in problems(port=70_000)[0]
    assert "did you mean 'token'?" in problems(tokn="x")[0]


def test_the_app_may_have_a_name() -> None:
    """And keep no histograms."""
    telemetry = load(
        {}, rambla={"telemetry": {"name": "shop", "metrics": False}}, audit=service()
    ).rambla.telemetry
    assert (telemetry.name, telemetry.metrics) == ("shop", False)
