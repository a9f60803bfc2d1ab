"""Fault scripts of the soak, each for a few seconds: what a durable channel promised reaches the backend."""

from __future__ import annotations

from pathlib import Path

import pytest
from soak.runs import run_fault
from soak.targets import TARGETS

_SERVERS = {"amqp": "rabbitmq", "redis": "redis_server", "http": None, "sql": "postgres_server"}


@pytest.mark.parametrize("script", ["reset", "cut in answers", "refused", "publisher killed"])
@pytest.mark.parametrize("name", TARGETS)
def test_a_fault_loses_nothing(
    request: pytest.FixtureRequest, tmp_path: Path, name: str, script: str
) -> None:
    """Through a proxy, to a server that others use as well; duplicates are counted, and nothing is missing."""
    fixture = _SERVERS[name]
    target = TARGETS[name](tmp_path, None if fixture is None else request.getfixturevalue(fixture))
    if fixture is None:
        target.server.start()
    try:
        run = run_fault(tmp_path / "app", target, script, 1.0)
    finally:
        if fixture is None:
            target.server.close()
    print(f"{name}, {script}: {run}")
    assert run.lost == 0
    assert run.hits > 0
    assert run.promised > 1
