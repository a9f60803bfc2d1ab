"""``rambla analytics report``: the real program, in its own process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cli_calls import Done, Program
from event_rows import request, row, write

from rambla_py.testing.clickhouse_server import ClickHouseServer

CONFIG = """
[sql.connections.main]
url = "sqlite:///events.db"
[sql.channels.events]
connection = "main"
[null.channels.analytics]
"""


Run = Callable[..., Done]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Call the program in a folder, with arguments and an environment."""
    with Program() as program:
        yield lambda folder, *arguments, **environ: program.run(
            folder, "analytics", "report", *arguments, **environ
        )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with events of some minutes, hours and days ago."""
    made = tmp_path_factory.mktemp("report")
    rows = [
        request("GET", "/new", 200, 10.0, timestamp=_ago(60)),
        request("GET", "/older", 200, 10.0, timestamp=_ago(7_200)),
        row("backend_error_events", error_type="KeyError", timestamp=_ago(90)),
    ]
    write(f"sqlite:///{made}/analytics.db", rows)
    write(f"sqlite:///{made}/events.db", [request("POST", "/configured", 503, 10.0, timestamp=_ago(60))])
    (made / "with").mkdir()
    return made


def _ago(seconds: float) -> str:
    at = datetime.fromtimestamp(time.time() - seconds, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def test_the_last_hour_is_shown(run: Run, folder: Path) -> None:
    """By default that of ``analytics.db``; ``--since`` takes longer and shorter ones."""
    done = run(folder)
    assert done.returncode == 0, done.stderr
    assert "Analytics, last hour" in done.stdout
    assert "GET /new" in done.stdout
    assert "KeyError" in done.stdout
    assert "/older" not in done.stdout
    assert "/older" in run(folder, "--since", "1d").stdout
    assert "/new" not in run(folder, "--since", "30s").stdout


def test_the_database_is_that_of_the_options(run: Run, folder: Path, tmp_path: Path) -> None:
    """``--url`` wins over the environment, ``--config`` names a channel of SQL."""
    (tmp_path / "rambla.toml").write_text(CONFIG.replace("sqlite:///", f"sqlite:///{folder}/"))
    new = ["--url", f"sqlite:///{folder}/analytics.db"]
    environ = {"RAMBLA_ANALYTICS_URL": f"sqlite:///{folder}/events.db"}
    assert "GET /new" in run(tmp_path, *new).stdout
    assert "GET /new" in run(tmp_path, *new, **environ).stdout
    assert "POST /configured" in run(tmp_path, **environ).stdout
    for named in (["--config", "rambla.toml", "--channel", "events"], ["--channel", "sql.events"]):
        assert "POST /configured" in run(tmp_path, *named).stdout


def test_a_page_is_written(run: Run, folder: Path, tmp_path: Path) -> None:
    """As a file, or to stdout."""
    page = tmp_path / "report.html"
    assert run(folder, "--html", str(page)) == (0, "", f"wrote {page}\n")
    assert page.read_text("utf-8").startswith("<!doctype html>")
    assert page.stat().st_mode & 0o600 == 0o600
    assert "GET /new" in run(folder, "--html", "-").stdout
    refused = run(folder, "--html", str(tmp_path / "missing" / "report.html"))
    assert (refused.returncode, "No such file" in refused.stderr) == (2, True)


def test_events_in_clickhouse(run: Run, tmp_path: Path, clickhouse: ClickHouseServer) -> None:
    """By a URL, or by the channel of the configuration."""
    clickhouse.query("DROP TABLE IF EXISTS api_events")
    write(
        f"clickhouse:{clickhouse.url.partition(':')[2]}", [request("GET", "/ch", 200, 9.0, timestamp=_ago(9))]
    )
    (tmp_path / "rambla.toml").write_text(
        f"[clickhouse.connections.a]\nurl = '{clickhouse.url}'\n[clickhouse.channels.analytics]\n"
    )
    for arguments in ([], ["--url", f"clickhouse://{clickhouse.host}:{clickhouse.port}"]):
        done = run(tmp_path, *arguments)
        assert "GET /ch" in done.stdout, done.stderr


WRONG = [
    (["--since", "yesterday"], 2, "expected a duration such as 90s"),
    (["--since", "0s"], 2, "expected a duration"),
    (["--url", "jitsu+https://user:hunter2@host/db"], 2, "is no database"),
    (["--url", "clickhouse://user:hunter2@127.0.0.1:1/db"], 1, "cannot connect to 127.0.0.1:1"),
    (["--url", "sqlite:///a.db", "--config", "b.toml"], 2, "give either --url or --config"),
    (["--config", "missing.toml"], 78, "no such file"),
    (["--config", "bad.toml"], 78, "did you mean 'sql'?"),
    (["--config", "good.toml"], 2, "no SQL or ClickHouse channel 'analytics'"),
    (["--config", "good.toml", "--channel", "event"], 2, "did you mean 'events'?"),
    (["--url", "sqlite:///missing.db"], 1, "there is no file missing.db"),
    (["--url", "sqlite:///text.db"], 1, "text.db"),
]


def test_what_is_wrong_is_said(run: Run, tmp_path: Path) -> None:
    """2 for an argument, 78 for a configuration, 1 for a database; no password, and no file is made."""
    (tmp_path / "bad.toml").write_text("[sqll.channels.analytics]\n")
    (tmp_path / "good.toml").write_text(CONFIG)
    (tmp_path / "text.db").write_text("no database, but a longer file of text" * 100)
    for arguments, code, expected in WRONG:
        done = run(tmp_path, *arguments)
        assert (done.returncode, done.stdout) == (code, ""), (arguments, done.stderr)
        assert expected in " ".join(done.stderr.split())
        assert "hunter2" not in done.stderr
    assert not (tmp_path / "missing.db").exists()
