"""Status of a target: times, kinds and reasons, ready for JSON, without secrets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_apps import TIMEOUT_S, flaky, one, probe, running, service, table, until
from supervision_cases import status_of

from rambla_py import AccessError, ChildSpec, Handler, Rambla, RejectedError, Secret, UnavailableError
from rambla_py._internal.endpoints import endpoint_of


def raising(error: BaseException) -> Any:
    def fail(*args: Any, **fields: Any) -> None:
        raise error

    return fail


WAYS: dict[str, tuple[Any, str, str, str]] = {
    "credentials": (
        probe(lambda message: None, connect=raising(AccessError("wrong password"))),
        "down",
        "AccessError",
        "wrong password",
    ),
    "init": (
        probe(lambda message: None, __init__=raising(ValueError("no licence"))),
        "down",
        "StartError",
        "no licence",
    ),
    "external server": (
        probe(
            lambda message: None,
            external_servers=lambda self, channel: [ChildSpec("broker", raising(OSError("port taken")))],
        ),
        "down",
        "StartError",
        "port taken",
    ),
    "away": (
        probe(lambda message: None, connect=raising(OSError("refused"))),
        "connecting",
        "OSError",
        "refused",
    ),
    "unavailable": (
        probe(raising(UnavailableError("read only"))),
        "blocked",
        "UnavailableError",
        "read only",
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_target_that_delivers_nothing_says_why(way: str) -> None:
    """State, reason, kind and time of the error, as data too."""
    handler, state, kind, text = WAYS[way]
    with running(table(handler), stop_s=0.3) as app:
        app.publish("orders", 1)
        assert until(lambda: status_of(app).state == state and status_of(app).last_error_type)
        status = status_of(app)
        assert text in (status.why or "")
        assert text in (status.last_error or "")
        assert status.last_error_at is not None
        assert (status.last_error_type, status.last_ok_at) == (kind, None)
        data = json.loads(json.dumps(status.to_dict()))
        assert (data["why"], data["last_error_type"]) == (status.why, kind)


def test_after_a_recovery_the_last_failure_stays_with_its_time() -> None:
    """The reason is gone, the error and both times stay."""
    with running(table(probe(flaky(1, RejectedError("not yet"))))) as app:
        assert status_of(app).why is None
        assert one(app).status == "ok"
        status = status_of(app)
        assert (status.state, status.why, status.last_error_type) == ("up", None, "RejectedError")
        assert status.last_ok_at >= status.last_error_at >= status.since - TIMEOUT_S
        assert status.batches == 2


def test_the_endpoint_holds_no_secret(tmp_path: Path) -> None:
    """Neither a login, nor a web hook's path, nor what the configuration knows as a secret."""
    (tmp_path / "token").write_text("tenant-4711")

    class Places(Handler):
        @classmethod
        def endpoint(cls, settings: Any) -> str:
            return f"place {settings['tenant']}"

        def handle_publish(self, message: Any, options: Any, state: Any) -> None: ...

    def broken(cls: Any, settings: Any) -> str:
        raise ValueError("no endpoint")

    tables = {
        "redis": {"connections": {"c": {"url": "redis://:hunter2@cache:6380/1"}}, "channels": {"a": {}}},
        "places": {
            "handler": Places,
            "connections": {"c": {"tenant": f"${{file:{tmp_path / 'token'}}}"}},
            "channels": {"a": {}},
        },
        "broken": service(probe(lambda message: None, endpoint=classmethod(broken)), b={}),
    }
    with Rambla(tables) as app:
        found = {name: status.endpoint for name, status in app.status().items()}
    assert found == {"redis.a": "redis://cache:6380/1", "places.a": "place ***", "broken.b": None}


@given(st.text(st.characters(exclude_characters="@", exclude_categories=["Cs"]), min_size=4))
def test_no_part_of_a_password_is_in_an_endpoint(password: str) -> None:
    """Whatever characters it has, encoded or not."""
    marked = f"QQ{password}QQ"
    for url in (f"amqp://shop:{marked}@broker/x", f"https://broker/{marked}?key={marked}"):
        for settings in ({"url": url}, {"urls": [Secret(url)]}):
            assert "QQ" not in (endpoint_of(settings) or "")
