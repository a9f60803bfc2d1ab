"""The alerts and the dashboard that the documentation ships use metrics and labels that exist."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_apps import TIMEOUT_S, probe, running, table

from rambla_py import PermanentError

if os.environ.get("CI") != "true":
    pytest.importorskip("yaml")
    pytest.importorskip("prometheus_client")

import yaml

from rambla_py.telemetry.prometheus import RamblaCollector

OPERATE = Path(__file__).parents[2] / "docs" / "operate"
ALERTS = OPERATE / "alerts.yaml"
_SELECTOR = re.compile(r"(rambla_\w+)(?:\{(.*?)\})?")
_OF_EVERY_SAMPLE = {"job", "instance"}


@pytest.fixture(scope="module")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The names of the samples of a running app with an outbox, each with its labels."""

    def refuse(message: Any) -> None:
        raise PermanentError("no")

    config = table(probe(refuse), durable=True)
    folder = tmp_path_factory.mktemp("outbox")
    config["rambla"] = {"outbox": {"url": f"sqlite:///{folder / 'outbox.db'}"}}
    with running(config) as app:
        app.publish("orders", 1).outcomes(timeout_s=TIMEOUT_S)
        families = list(RamblaCollector(app).collect())
    return {sample.name: set(sample.labels) for family in families for sample in family.samples}


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((OPERATE / "grafana.json").read_text("utf-8"))
    return found


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def expressions() -> list[str]:
    """Every query of the dashboard: of panels and of variables."""
    queries = [one["query"]["query"] for one in dashboard()["templating"]["list"] if one["type"] == "query"]
    return [*(target["expr"] for panel in panels() for target in panel["targets"]), *queries]


def used(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Yield the metrics of an expression, each with the labels that its selector or a grouping names."""
    groups = {name for group in re.findall(r"by \((.*?)\)", expression) for name in group.split(", ")}
    asked = set(re.findall(r"label_values\(.*, (\w+)\)", expression))
    for name, selector in _SELECTOR.findall(expression):
        yield name, groups | asked | set(re.findall(r"(\w+) ?[=!]~?", re.sub(r'"[^"]*"', "", selector)))


def missing(expression: str, exposed: dict[str, set[str]]) -> list[str]:
    """Return what an expression uses and the collector does not expose."""
    return [
        f"{name}{sorted(labels - exposed.get(name, set()))}"
        for name, labels in used(expression)
        if name not in exposed or labels - exposed[name] - _OF_EVERY_SAMPLE
    ]


def test_what_does_not_exist_is_found(exposed: dict[str, set[str]]) -> None:
    """The check itself sees a wrong name, a wrong label in a selector, in a grouping, and in a variable."""
    assert missing('rate(rambla_outcome_total{status="ok"}[5m])', exposed) == [
        "rambla_outcome_total['status']"
    ]
    assert missing('rambla_queued{status!="ok", service=~"a=b"}', exposed) == ["rambla_queued['status']"]
    assert missing("sum by (service, kind) (rambla_queued)", exposed) == ["rambla_queued['kind']"]
    assert missing("label_values(rambla_state, host)", exposed) == ["rambla_state['host']"]
    assert missing('label_values(rambla_state{service=~"$service"}, channel)', exposed) == []


def test_alerts_use_what_is_exposed(exposed: dict[str, set[str]]) -> None:
    """Metrics and labels of every rule."""
    assert len(rules()) >= 5
    assert [found for rule in rules() for found in missing(rule["expr"], exposed)] == []


def test_every_alert_says_where_and_how_bad() -> None:
    """With the target, and names that differ."""
    for rule in rules():
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert "{{ $labels.service }}.{{ $labels.channel }}" in rule["annotations"]["summary"]
    assert len({rule["alert"] for rule in rules()}) == len(rules())


def test_prometheus_accepts_the_alerts() -> None:
    """``promtool`` parses the rules, their expressions, and their templates."""
    promtool = shutil.which("promtool")
    if promtool is None:
        if os.environ.get("CI") == "true":
            pytest.fail("promtool is missing: apt-get install prometheus")
        pytest.skip("promtool is missing: apt-get install prometheus")
    done = subprocess.run(
        [promtool, "check", "rules", ALERTS], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"SUCCESS: {len(rules())} rules found" in done.stdout


def test_the_dashboard_uses_what_is_exposed(exposed: dict[str, set[str]]) -> None:
    """Metrics and labels of every panel and variable."""
    assert [found for expression in expressions() for found in missing(expression, exposed)] == []


def test_the_dashboard_shows_every_metric(exposed: dict[str, set[str]]) -> None:
    """Each name of the collector is in a panel."""
    shown = {name for panel in panels() for one in panel["targets"] for name, _ in used(one["expr"])}
    assert exposed.keys() - shown == set()


def test_the_dashboard_is_one_that_grafana_imports() -> None:
    """Variables for data source, service and channel; panels with ids of their own that do not overlap."""
    board = dashboard()
    assert board["id"] is None  # Grafana gives one at the import
    variables = {one["name"]: one["type"] for one in board["templating"]["list"]}
    assert variables == {"datasource": "datasource", "service": "query", "channel": "query"}
    sources = [board["templating"]["list"][1:], panels(), *(panel["targets"] for panel in panels())]
    assert {one["datasource"]["uid"] for several in sources for one in several} == {"${datasource}"}
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    cells: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        rows, columns = range(place["y"], place["y"] + place["h"]), range(place["x"], place["x"] + place["w"])
        taken = {(row, column) for row in rows for column in columns}
        assert columns.stop <= 24
        assert not taken & cells, panel["title"]
        cells |= taken
