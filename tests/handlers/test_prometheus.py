"""Metrics for Prometheus: what a scrape shows is what the app counted."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, get_args

import pytest
from counted_calls import Calls
from small_apps import TIMEOUT_S, probe, running, service, table, until

import rambla_py
from rambla_py import MailboxFullError, PermanentError, Rambla, TelemetryError

if os.environ.get("CI") != "true":
    pytest.importorskip("prometheus_client")

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from rambla_py.runtime.target.state import State
from rambla_py.telemetry.metrics import MOST_ERRORS, STATES, reason_counts
from rambla_py.telemetry.prometheus import RamblaCollector, register

NAMES = {
    "rambla_accepted_total", "rambla_outcomes_total", "rambla_reasons_total", "rambla_refused_total",
    "rambla_queued", "rambla_queued_limit", "rambla_oldest_seconds", "rambla_in_flight", "rambla_workers",
    "rambla_state", "rambla_abandoned_threads", "rambla_lost_connections_total", "rambla_restarts_total",
    "rambla_delivery_seconds", "rambla_queue_seconds", "rambla_attempt_seconds", "rambla_info",
    "rambla_outbox_pending", "rambla_outbox_oldest_seconds", "rambla_dead_letters",
}  # fmt: skip


def refuse_odd(message: Any) -> Any:
    if message.payload % 2:
        raise PermanentError("odd")


class Scrape:
    """What a registry shows, by name and labels."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.text = generate_latest(registry).decode()
        self.families = list(text_string_to_metric_families(self.text))
        self.samples = [sample for family in self.families for sample in family.samples]

    def value(self, name: str, **labels: str) -> float:
        (found,) = [
            one.value for one in self.samples if one.name == name and labels.items() <= one.labels.items()
        ]
        return found


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry(auto_describe=True)


def test_the_names_are_those_of_the_documentation(registry: CollectorRegistry) -> None:
    """Every metric has a type, a text, and the promised name; without an app that started, no sample."""
    register(Rambla(table(probe(refuse_odd))), registry)
    typed = [line.split()[2] for line in Scrape(registry).text.splitlines() if line.startswith("# TYPE")]
    assert sorted(typed) == sorted(NAMES)
    page = (Path(__file__).parents[2] / "docs" / "operate.md").read_text("utf-8")
    assert [name for name in NAMES if f"`{name}`" not in page] == []


def test_a_scrape_shows_the_accounts(registry: CollectorRegistry) -> None:
    """Accepted, outcomes of every status, reasons and histograms are those of status() and audit()."""
    with running(table(probe(refuse_odd))) as app:
        register(app, registry)
        app.publish_many("orders", list(range(10))).outcomes(timeout_s=TIMEOUT_S)
        audit, status, scrape = app.audit()["probe.orders"], app.status()["probe.orders"], Scrape(registry)
    who = {"service": "probe", "channel": "orders"}
    assert scrape.value("rambla_accepted_total", **who) == audit.accepted == 10
    for name in ("ok", "failed", "fatal", "dropped", "expired", "unknown"):
        assert scrape.value("rambla_outcomes_total", status=name, **who) == getattr(audit, name)
    assert scrape.value("rambla_outcomes_total", status="fatal", **who) == 5
    assert scrape.value("rambla_reasons_total", kind="attempt", error="PermanentError", **who) == 5
    assert scrape.value("rambla_queued_limit", **who) == 10_000
    for name, histogram in status.times.items():
        assert scrape.value(f"rambla_{name}_seconds_count", **who) == histogram.count
        assert scrape.value(f"rambla_{name}_seconds_bucket", le="+Inf", **who) == histogram.count
        first = scrape.value(f"rambla_{name}_seconds_bucket", le="0.005", **who)
        assert first == histogram.counts[0]
        assert scrape.value(f"rambla_{name}_seconds_bucket", le="10.0", **who) == sum(histogram.counts[:14])
    assert scrape.value("rambla_info", version=rambla_py.__version__) == 1


def test_states_are_one_hot(registry: CollectorRegistry) -> None:
    """Every state from 0, of targets and of workers."""
    assert get_args(State) == STATES
    with running(table(probe(refuse_odd), count=3)) as app:
        register(app, registry)
        app.publish("orders", 2).result(timeout_s=TIMEOUT_S)
        assert until(lambda: app.status()["probe.orders"].workers == ["up"] * 3)
        scrape = Scrape(registry)
    for state in STATES:
        assert scrape.value("rambla_state", state=state) == (state == "up")
        assert scrape.value("rambla_workers", state=state) == (3 if state == "up" else 0)


def test_gauges_follow_what_waits(registry: CollectorRegistry) -> None:
    """Waiting, in flight, refused, the age of the oldest."""
    gate = threading.Event()
    handler = probe(lambda message: gate.wait(TIMEOUT_S) and None)
    with running(table(handler, max_pending=2, batch_size=1, overflow="raise"), gate) as app:
        register(app, registry)
        app.publish("orders", "taken")
        assert until(lambda: app.status()["probe.orders"].in_flight == 1)
        for each in range(2):
            app.publish("orders", each)
        with pytest.raises(MailboxFullError):
            app.publish("orders", "no room")
        scrape = Scrape(registry)
    assert scrape.value("rambla_queued") == 2
    assert scrape.value("rambla_in_flight") == 1
    assert scrape.value("rambla_refused_total") == 1
    assert scrape.value("rambla_oldest_seconds") > 0


def test_an_app_is_registered_once(registry: CollectorRegistry) -> None:
    """A second registration changes nothing; the end of it takes everything out, and may come twice."""
    app = Rambla(table(probe(refuse_odd)))
    end, again = register(app, registry), register(app, registry)
    assert Scrape(registry).text.count("# TYPE rambla_queued gauge") == 1
    end()
    again()
    assert Scrape(registry).text == ""
    register(app, registry)
    assert "rambla_info" in Scrape(registry).text


def test_two_apps_have_names(registry: CollectorRegistry) -> None:
    """The label ``app`` tells them apart; without names of their own the second is refused."""
    config = table(probe(refuse_odd))
    with running(config) as first, running(config) as second, running(config) as third:
        end = register(first, registry, name="shop")
        for name in ("", "shop"):
            with pytest.raises(TelemetryError, match="different name="):
                register(second, registry, name=name)
        register(second, registry, name="mail")
        first.publish("orders", 2).result(timeout_s=TIMEOUT_S)
        scrape = Scrape(registry)
        assert scrape.value("rambla_accepted_total", app="shop") == 1
        assert scrape.value("rambla_accepted_total", app="mail") == 0
        assert scrape.text.count("# TYPE rambla_queued gauge") == 1
        end()
        register(third, registry, name="shop")
        assert Scrape(registry).value("rambla_accepted_total", app="shop") == 0


def test_an_unnamed_app_stays_alone(registry: CollectorRegistry) -> None:
    """Its samples have no label ``app``, so another app's could not be told from them."""
    with running(table(probe(refuse_odd))) as app:
        register(app, registry)
        with pytest.raises(TelemetryError):
            register(Rambla(table(probe(refuse_odd))), registry, name="mail")
        assert all("app" not in sample.labels for sample in Scrape(registry).samples)


def test_another_prefix(registry: CollectorRegistry) -> None:
    """It begins every name."""
    register(Rambla(table(probe(refuse_odd))), registry, prefix="shop_queue")
    assert all(family.name.startswith("shop_queue_") for family in Scrape(registry).families)


def test_odd_channel_names_and_the_end_of_an_app(registry: CollectorRegistry) -> None:
    """Labels are escaped; after the stop the accounts stay."""
    name = 'a"b\n\\é'
    with running({"probe": service(probe(refuse_odd), **{name: {}})}) as app:
        register(app, registry)
        app.publish(name, 2).result(timeout_s=TIMEOUT_S)
        assert Scrape(registry).value("rambla_accepted_total", channel=name) == 1
    assert Scrape(registry).value("rambla_accepted_total", channel=name) == 1


def test_a_scrape_during_a_stop(registry: CollectorRegistry) -> None:
    """It shows a target that closes, with what is still in flight."""
    gate = threading.Event()
    with running(table(probe(lambda message: gate.wait(TIMEOUT_S) and None)), gate) as app:
        register(app, registry)
        app.publish("orders", 1)
        assert until(lambda: app.status()["probe.orders"].in_flight == 1)
        stop = threading.Thread(target=app.stop, args=(TIMEOUT_S,))
        stop.start()
        assert until(lambda: app.status()["probe.orders"].state == "closing")
        scrape = Scrape(registry)
        gate.set()
        stop.join(TIMEOUT_S)
    assert scrape.value("rambla_state", state="closing") == 1
    assert scrape.value("rambla_in_flight") == 1
    assert Scrape(registry).value("rambla_state", state="closed") == 1


def test_a_thousand_targets(registry: CollectorRegistry) -> None:
    """Each has its samples."""
    channels: dict[str, Any] = {f"orders{number}": {} for number in range(1000)}
    with running({"probe": service(probe(refuse_odd), **channels)}, stop_s=60) as app:
        register(app, registry)
        app.publish("orders999", 2).result(timeout_s=30)
        families = {family.name: family.samples for family in registry.collect()}
    assert len(families["rambla_accepted"]) == len(families["rambla_queued"]) == 1000
    assert [one.labels["channel"] for one in families["rambla_accepted"] if one.value] == ["orders999"]


def test_what_a_scrape_costs() -> None:
    """Calls of functions for a target, status included: about four for each of its 90 samples."""
    channels: dict[str, Any] = {f"orders{number}": {} for number in range(10)}
    with running({"probe": service(probe(refuse_odd), **channels)}) as app:
        collector, calls = RamblaCollector(app), Calls()
        for channel in channels:
            app.publish(channel, 2).result(timeout_s=TIMEOUT_S)
        list(collector.collect())  # works out endpoints and the texts of bounds
        with calls.counting():
            samples = [sample for family in collector.collect() for sample in family.samples]
    assert len(samples) > 850
    assert calls.per_message(len(channels)) < 420


FORK = """
import os
from prometheus_client import CollectorRegistry, generate_latest
from rambla_py import Rambla
from rambla_py.telemetry.prometheus import register

app = Rambla({"null": {"connections": {"c": {}}, "channels": {"orders": {"connection": "c"}}}})
registry = CollectorRegistry()
register(app, registry)

def show(who):
    lines = generate_latest(registry).decode().splitlines()
    print(who, [line.split()[-1] for line in lines if line.startswith("rambla_accepted_total{")], flush=True)

with app:
    app.publish_many("orders", [1, 2, 3]).result(timeout_s=20)
    child = os.fork()
    if not child:
        show("child")
        app.publish("orders", 4).result(timeout_s=20)
        show("child")
        os._exit(0)
    os.waitpid(child, 0)
    show("parent")
"""


def test_a_forked_child_counts_from_zero() -> None:
    """The figures of the parent are not its own."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines() == ["child []", "child ['1.0']", "parent ['3.0']"]


def test_the_outbox_has_its_own(registry: CollectorRegistry, tmp_path: Path) -> None:
    """Messages and dead letters on the disk; without an outbox no sample."""
    config = table(probe(refuse_odd), durable=True)
    config["rambla"] = {"outbox": {"url": f"sqlite:///{tmp_path / 'outbox.db'}"}}
    with running(config) as app:
        register(app, registry)
        app.publish("orders", 1).outcomes(timeout_s=TIMEOUT_S)
        assert until(lambda: Scrape(registry).value("rambla_dead_letters") == 1)
        assert until(lambda: Scrape(registry).value("rambla_outbox_pending") == 0)
        assert Scrape(registry).value("rambla_outbox_oldest_seconds") == 0
    assert [one for one in Scrape(registry).samples if one.name == "rambla_dead_letters"] == []


def test_a_failing_app_does_not_fail_the_scrape(caplog: pytest.LogCaptureFixture) -> None:
    """The others are shown, and the failure is logged once."""

    class Broken(Rambla):
        """Fails to say how it is."""

        def status(self) -> Any:
            raise RuntimeError("hunter2")

    with running(table(probe(refuse_odd))) as app:
        collector = RamblaCollector(Broken(table(probe(refuse_odd))), name="broken")
        collector.add(app, "shop")
        for _ in range(2):
            families = {family.name: family for family in collector.collect()}
        assert [sample.labels["app"] for sample in families["rambla_accepted"].samples] == ["shop"]
    (record,) = [one for one in caplog.records if "metrics" in one.getMessage()]
    assert "hunter2" not in record.getMessage()


def test_names_of_errors_are_bounded() -> None:
    """The first fifty keep theirs for ever; the rest is one."""
    reasons = {f"attempt:E{at}": 1 for at in range(MOST_ERRORS + 10)}
    counts = reason_counts(reasons)
    assert len(counts) == MOST_ERRORS + 1
    assert counts["attempt", "other"] == 10
    assert reason_counts({**reasons, "connect:E0": 7})["connect", "E0"] == 7
