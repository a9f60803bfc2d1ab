"""``rambla analytics schema`` and ``purge``: the real program, in its own process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cli_calls import Done, Program
from event_rows import request, row, write

from rambla_py.analytics.events import EVENTS

CONFIG = """
[sql.connections.main]
url = "sqlite:///events.db"
[sql.channels.analytics]
connection = "main"
[rambla.analytics]
retention_days = 30
"""

Run = Callable[..., Done]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    with Program() as program:
        yield lambda folder, *arguments: program.run(folder, "analytics", *arguments)


def _ago(days: float) -> str:
    at = datetime.now(UTC) - timedelta(days=days)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a file of events that are 1, 40 and 100 days old."""
    rows = [request("GET", "/", 200, 1.0, timestamp=_ago(days)) for days in (1, 40, 100)]
    rows.append(row("backend_error_events", error_type="KeyError", timestamp=_ago(100)))
    write(f"sqlite:///{tmp_path}/events.db", rows)
    return tmp_path


def test_the_schema_has_every_event(run: Run, tmp_path: Path) -> None:
    """One for each struct; of a table, those that go there, with the name as a constant."""
    whole = json.loads(run(tmp_path, "schema").stdout)
    assert set(whole["$defs"]) == {event.__name__ for event in EVENTS}
    one = json.loads(run(tmp_path, "schema", "--table", "payment_events").stdout)
    (payment,) = one["$defs"].values()
    assert payment["properties"]["event"]["const"] == "Payment Processing"
    assert "payment_amount" in payment["properties"]


def test_an_unknown_table_is_refused(run: Run, tmp_path: Path) -> None:
    done = run(tmp_path, "schema", "--table", "payment_event")
    assert (done.returncode, "did you mean 'payment_events'?" in done.stderr) == (1, True)


def test_old_events_are_deleted(run: Run, folder: Path) -> None:
    """By the age that is given, or that of the configuration; the newer ones stay."""
    done = run(folder, "purge", "--older-than", "90d", "--url", "sqlite:///events.db", "--yes", "--json")
    deleted = json.loads(done.stdout)["deleted"]
    assert (deleted["api_events"], deleted["backend_error_events"]) == (1, 1)
    (folder / "rambla.toml").write_text(CONFIG)
    done = run(folder, "purge", "--yes")
    assert (done.returncode, "api_events: 1 event\n" in done.stdout) == (0, True), done.stderr
    assert "deleted 1 event\n" in done.stdout
    assert "deleted 0 events\n" in run(folder, "purge", "--yes").stdout


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--url", "sqlite:///events.db", "--yes"], "retention_days"),
        (["--url", "sqlite:///events.db", "--older-than", "90"], "needs --yes"),
        (["--url", "sqlite:///events.db", "--older-than", "soon"], "expected a duration"),
        (["--url", "clickhouse://h", "--older-than", "9d", "--yes"], "no SQL database"),
    ],
)
def test_a_wrong_call_deletes_nothing(run: Run, folder: Path, arguments: list[str], text: str) -> None:
    done = run(folder, "purge", *arguments)
    assert (done.returncode, text in done.stderr) == (2, True), done.stderr
