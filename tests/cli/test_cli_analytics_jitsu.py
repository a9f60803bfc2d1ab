"""``rambla analytics jitsu-function``: the function, run by Node.js, puts events where the tracker's routes do."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import playwright
import pytest
from analytics_cases import recorded
from cli_calls import Done, Program

from rambla_py.analytics import AnalyticsSettings
from rambla_py.analytics.events import EVENTS
from rambla_py.analytics.jitsu_function import jitsu_function
from rambla_py.analytics.settings import Rule

NODE = Path(playwright.__file__).parent / "driver" / "node"
RULES = """
[jitsu.connections.default]
url = "https://data.example.com"
write_key = "k:s"
[jitsu.channels.analytics]
[null.channels.orders]

[[rambla.analytics.rules]]
category = "business"
action = "order_*"
tables = ["order_events", "all_events"]
[[rambla.analytics.rules]]
category = "business"
tables = ["order_log"]
channel = "orders"
[[rambla.analytics.rules]]
action = "a.b?[cd]-$"
tables = ["odd"]
[[rambla.analytics.rules]]
category = "quiet"
"""
LIST = [
    Rule(category="business", action="order_*", tables=["order_events", "all_events"]),
    Rule(action="a.b?[cd]-$", tables=["odd"]),
    Rule(category="quiet"),
]
PAIRS = [
    *((event.CATEGORY, event.ACTION) for event in EVENTS),
    *(("business", action) for action in ("order_paid", "order_", "an order_", "order_\n2", "api_request")),
    *(("custom", action) for action in ("a.bxc-$", "a.bxd-$", "axbxc-$", "a.bxe-$", "custom", "é")),
    *(("quiet", action) for action in ("payment_processing", "other")),
]


@pytest.fixture(scope="module")
def run() -> Iterator[Callable[..., Done]]:
    with Program() as program:
        yield lambda folder, *arguments: program.run(folder, "analytics", "jitsu-function", *arguments)


def called(source: str, events: list[dict[str, Any]], folder: Path) -> list[Any]:
    """Return what the function returns for each event."""
    (folder / "made.mjs").write_text(source)
    (folder / "events.json").write_text(json.dumps(events))
    script = (
        'import f from "./made.mjs"; import {readFileSync} from "fs";'
        'const all = JSON.parse(readFileSync("events.json"));'
        "console.log(JSON.stringify(await Promise.all(all.map((one) => f(one, {})))));"
    )
    (folder / "run.mjs").write_text(script)
    done = subprocess.run(
        [NODE, "run.mjs"], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout)
    return found


def event(category: str, action: str, **context: Any) -> dict[str, Any]:
    return {
        "type": "track",
        "event": "Some",
        "messageId": "m-1",
        "properties": {"event_category": category, "event_action": action},
        "context": {"service": "shop", **context},
    }


def tables(found: Any) -> list[str]:
    listed = found if isinstance(found, list) else [found]
    return [one["JITSU_TABLE_NAME"] for one in listed]


def test_events_go_where_the_tracker_sends_them(tmp_path: Path) -> None:
    """The rules in their order, with their wildcards, then the tables of the events."""
    wanted: dict[str, list[str]] = {}
    with recorded({"rules": [msgspec.to_builtins(rule) for rule in LIST]}) as case:
        for number, (category, action) in enumerate(PAIRS):
            case.tracker.track(f"e{number}", event_category=category, event_action=action)
        for record in case.records:
            wanted.setdefault(record.payload["event"], []).append(record.headers["table"])
    found = called(jitsu_function(LIST), [event(*pair) for pair in PAIRS], tmp_path)
    assert {f"e{number}": sorted(tables(made)) for number, made in enumerate(found)} == {
        name: sorted(listed) for name, listed in wanted.items()
    }


def test_a_table_that_the_tracker_names_wins(tmp_path: Path) -> None:
    """It is taken out of the context; one that is no table of events has no effect."""
    events = [
        event("backend", "api_error", table="api_events"),
        event("backend", "api_error", table="users; drop"),
        event("backend", "api_error", table="__proto__"),
        {"type": "track", "event": "bare", "messageId": "m-2"},
    ]
    named, unknown, odd, bare = called(jitsu_function([]), events, tmp_path)
    assert tables(named) == ["api_events"]
    assert named["context"] == {"service": "shop"}
    assert tables(unknown) == tables(odd) == ["backend_error_events", "api_events"]
    assert {one["messageId"] for one in unknown} == {"m-1"}
    assert tables(bare) == ["custom_events"]


def test_the_rules_of_a_configuration(run: Callable[..., Done], tmp_path: Path) -> None:
    """Those whose events reach a channel of jitsu; the others are left out."""
    (tmp_path / "rambla.toml").write_text(RULES)
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == jitsu_function(LIST)
    assert "order_log" not in done.stdout
    assert "k:s" not in done.stdout


def test_without_a_configuration(run: Callable[..., Done], tmp_path: Path) -> None:
    """The tables of the built-in events are known all the same; a file that is named must exist."""
    done = run(tmp_path)
    assert (done.returncode, done.stdout) == (0, jitsu_function(AnalyticsSettings().rules))
    assert run(tmp_path, "--config", "none.toml").returncode == 78


def test_no_pattern_ends_its_string(tmp_path: Path) -> None:
    """Names from a configuration stay data in the JavaScript."""
    action = "\"'`\\/${1}\n]; throw 1 //\u2028"
    rules = [Rule(action=action, tables=['"]); throw 1; //'])]
    (found,) = called(jitsu_function(rules), [event("custom", action)], tmp_path)
    assert tables(found) == ['"]); throw 1; //']
