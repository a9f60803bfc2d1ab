"""The text of the metrics that the operations page serves: the same as the collector's, at a fraction of the cost."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from counted_calls import Calls
from small_apps import TIMEOUT_S, probe, running, service

from rambla_py import PermanentError, Rambla

if os.environ.get("CI") != "true":
    pytest.importorskip("prometheus_client")

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from rambla_py.telemetry.exposition import Exposition
from rambla_py.telemetry.prometheus import register


def refuse_odd(message: Any) -> Any:
    if message.payload % 2:
        raise PermanentError("odd")


def parsed(text: str) -> list[Any]:
    """Return the metric families of an exposition, each with its samples."""
    return [
        (family.name, family.type, family.documentation, family.samples)
        for family in text_string_to_metric_families(text)
    ]


@pytest.mark.parametrize("name", [None, "shop"])
def test_the_text_is_that_of_the_collector(name: str | None, tmp_path: Path) -> None:
    """Every family and sample, with odd names of channels, failures, and an outbox."""
    channels: dict[str, Any] = {'a"b\n\\é': {}, "orders": {}, "kept": {"durable": True}}
    telemetry = {} if name is None else {"name": name}
    rambla = {"telemetry": telemetry, "outbox": {"url": f"sqlite:///{tmp_path / 'outbox.db'}"}}
    with running({"rambla": rambla, "probe": service(probe(refuse_odd), **channels)}) as app:
        for channel in channels:
            app.publish_many(channel, range(4)).outcomes(timeout_s=TIMEOUT_S)
        app.flush(timeout_s=TIMEOUT_S)
        registry = CollectorRegistry()
        register(app, registry)
        text = Exposition(app).text().decode()
        assert parsed(text) == parsed(generate_latest(registry).decode())
    assert text.count("rambla_dead_letters") == 3
    assert 'error="PermanentError"' in text


def test_an_app_that_never_ran_has_the_names(caplog: pytest.LogCaptureFixture) -> None:
    """Without samples; so has one whose status fails, with one line in the log."""

    class Broken(Rambla):
        """Fails to say how it is."""

        def status(self) -> Any:
            raise RuntimeError("hunter2")

    config = {"probe": service(probe(refuse_odd), orders={})}
    whole = Exposition(Rambla(config)).text().decode()
    broken = Exposition(Broken(config))
    assert broken.text().decode() == broken.text().decode() == whole
    assert [line for line in whole.splitlines() if line[0] != "#"] == whole.splitlines()[-1:]
    assert [record.getMessage() for record in caplog.records] == [
        "metrics could not be read: RuntimeError; further such failures are not logged"
    ]


def test_what_a_scrape_costs() -> None:
    """Calls of functions for a target, status included: about two for each of its 90 samples."""
    channels: dict[str, Any] = {f"orders{number}": {} for number in range(10)}
    with running({"probe": service(probe(refuse_odd), **channels)}) as app:
        exposition, calls = Exposition(app), Calls()
        for channel in channels:
            app.publish(channel, 2).result(timeout_s=TIMEOUT_S)
        exposition.text()  # works out endpoints and the texts of bounds
        with calls.counting():
            exposition.text()
    assert calls.per_message(len(channels)) < 185
