"""Tests of what a tracker makes of its argument: a URL, a path, a mapping, a ``Config``, an app, nothing."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from analytics_cases import counts, rows, track_each, unreachable
from waiting import wait_until

from rambla_py.analytics import TABLES, AnalyticsError, Tracker
from rambla_py.analytics.connecting import Wanted, connect
from rambla_py.app import Rambla
from rambla_py.config import load_config
from rambla_py.config.schema import ChannelConfig
from rambla_py.delivery import Delivery
from rambla_py.errors import ConfigError
from rambla_py.handler import Handler, State

WANTED = Wanted("analytics", None, None, None)
NULL: dict[str, Any] = {"null": {"channels": {"analytics": {}, "orders": {}}}}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current folder, without variables of analytics in the environment."""
    for name in ("RAMBLA_CONFIG", "RAMBLA_ANALYTICS_URL", "RAMBLA_ANALYTICS_BATCH_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with contextlib.chdir(tmp_path):
        yield tmp_path


def channel(given: Any, wanted: Wanted = WANTED, name: str = "analytics") -> ChannelConfig:
    config = connect(given, wanted).app.config
    return next(one for one in config.every_channel() if one.channel == name)


def test_without_an_argument_and_a_file_it_is_a_sqlite_file(folder: Path) -> None:
    """All tables are there after the first events, one row each; the error has a row in two."""
    pytest.importorskip("psutil")
    with Tracker() as tracker:
        assert not (folder / "analytics.db").exists()
        track_each(tracker)
        assert tracker.flush(20)
        assert tracker.audit().delivered == 11
    expected = dict.fromkeys(TABLES, 1) | {"api_events": 2, "database_events": 2}
    assert counts(folder / "analytics.db") == expected
    (payment,) = rows(folder / "analytics.db", "payment_events")
    assert (payment["payment_amount"], payment["properties"]) == ("99.99", '{"order_id":"o-17"}')


def test_without_an_argument_a_file_in_the_usual_places_is_used(folder: Path) -> None:
    (folder / "rambla.toml").write_text("[null.channels.analytics]\n[rambla.analytics]\nservice = 'shop'\n")
    with Tracker() as tracker:
        assert tracker.settings.service == "shop"
        tracker.track("a")
    assert tracker.audit().delivered == 1
    assert not (folder / "analytics.db").exists()


def test_a_file_with_errors_is_no_reason_for_another_place(folder: Path) -> None:
    (folder / "rambla.toml").write_text("[nul.channels.analytics]\n")
    with pytest.raises(ConfigError, match="nul"):
        Tracker()


def test_the_url_of_the_environment_is_used_before_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "rambla.toml").write_text("[nul.channels.analytics]\n")
    monkeypatch.setenv("RAMBLA_ANALYTICS_URL", "null:")
    with Tracker() as tracker:
        tracker.track("a")
    assert tracker.audit().delivered == 1


@pytest.mark.parametrize(
    ("url", "service", "connection"),
    [
        ("sqlite:///a.db", "sql", "sqlite:///a.db"),
        ("postgresql://u:p@h/d", "sql", "postgresql://u:p@h/d"),
        ("mariadb://u:p@h/d", "sql", "mariadb://u:p@h/d"),
        ("postgresql+psycopg://u:p@h/d", "sql", "postgresql+psycopg://u:p@h/d"),
        ("clickhouse://h:8123", "clickhouse", "http://h:8123"),
        ("clickhouse+https://h", "clickhouse", "https://h"),
    ],
)
def test_a_url_is_a_channel(url: str, service: str, connection: str) -> None:
    """The nine tables and that for the rest are set on it, and created."""
    found = channel(url)
    assert (found.service, found.settings.url.reveal()) == (service, connection)
    assert (list(found.options.tables), found.options.create_table) == (list(TABLES), True)


@pytest.mark.parametrize("url", ["console:", "null:", "null://", "memory:box"])
def test_a_url_without_a_server(url: str) -> None:
    assert channel(url).service == url.partition(":")[0]


def test_an_unknown_url_is_refused_without_its_password() -> None:
    with pytest.raises(AnalyticsError, match="did you mean 'postgresql'") as caught:
        connect("postgressql://u:hunter2@h/d", WANTED)
    assert "hunter2" not in str(caught.value)


def test_a_tracker_sets_what_a_configuration_does_not_say() -> None:
    """On all of its channels; those of batches only on the tracker's."""
    found, other = channel(NULL), channel(NULL, name="orders")
    for one in (found, other):
        assert (one.overflow, one.publish_timeout_s, one.snapshot) == ("drop_newest", 0.0, False)
    assert (found.batch_ready, found.batch_timeout_s, found.batch_size) == (10, 5.0, 500)
    assert (other.batch_ready, other.batch_timeout_s) == (None, 0.0)


def test_what_a_configuration_says_stays() -> None:
    """Arguments win over it."""
    said = {
        "overflow": "block",
        "publish_timeout_s": 1.0,
        "snapshot": True,
        "batch_ready": 7,
        "batch_timeout_s": 2.0,
    }
    table = {"null": {"channels": {"analytics": said}}}
    found = channel(table)
    assert {name: getattr(found, name) for name in said} == said
    found = channel(table, Wanted("analytics", None, 20, 0.5))
    assert (found.batch_ready, found.batch_timeout_s) == (20, 0.5)


def test_a_durable_channel_refuses_what_has_no_room(tmp_path: Path) -> None:
    """A durable channel cannot have ``overflow = "drop_newest"``, the default for a tracker's channel."""
    table = {
        "null": {"channels": {"analytics": {"durable": True}}},
        "rambla": {"outbox": {"url": f"sqlite:///{tmp_path / 'outbox.db'}"}},
    }
    for given in (table, load_config(table)):
        found = channel(given)
        assert (found.overflow, found.publish_timeout_s, found.snapshot) == ("raise", 0.0, False)
    with Tracker(table) as tracker:
        tracker.track("a")
        assert tracker.flush(20)
        assert tracker.audit().delivered == 1


@pytest.mark.parametrize("said", [{}, {"write_key": "theirs:secret"}])
def test_the_write_key_of_the_argument_wins(said: dict[str, str]) -> None:
    """In the channel of the tracker, also for a checked configuration."""
    table = {
        "jitsu": {
            "connections": {"here": {"url": "https://jitsu.example", **said}},
            "channels": {"analytics": {"connection": "here"}},
        }
    }
    for given in (table, load_config(table)) if said else (table,):
        found = channel(given, Wanted("analytics", "mine:secret", None, None))
        assert found.settings.write_key.reveal() == "mine:secret"


def test_tables_that_a_configuration_names_stay() -> None:
    tables = {**TABLES, "more": {"columns": ["a"]}}
    options = {"tables": tables, "create_table": False}
    table = {
        "sql": {
            "connections": {"here": {"url": "sqlite://"}},
            "channels": {"analytics": {"connection": "here", "options": options}},
        }
    }
    found = channel(table)
    assert (list(found.options.tables)[-1], found.options.create_table) == ("more", False)


def test_a_checked_configuration_is_completed() -> None:
    """Rules with tables of their own, on a channel of their own, included."""
    table = {
        "sql": {
            "connections": {"here": {"url": "sqlite://"}},
            "channels": {name: {"connection": "here"} for name in ("analytics", "orders")},
        },
        "rambla": {
            "analytics": {
                "rules": [
                    {"action": "order_*", "channel": "orders", "tables": ["o"], "columns": {"n": "bigint"}}
                ]
            }
        },
    }
    for given in (table, load_config(table)):
        found, orders = channel(given), channel(given, name="orders")
        assert (list(found.options.tables), found.options.wal, found.batch_ready) == (list(TABLES), True, 10)
        assert found.options.tables["api_events"].upsert is True
        assert orders.options.tables["o"].columns["n"] == "payload.n::bigint"
        assert orders.overflow == "drop_newest"


def test_a_path_is_a_file(folder: Path) -> None:
    (folder / "mine.toml").write_text("[null.channels.events]\n")
    for path in ("mine.toml", folder / "mine.toml"):
        with Tracker(path, channel="events") as tracker:
            tracker.track("a")
        assert tracker.audit().delivered == 1


def test_a_borrowed_app_runs_on() -> None:
    """``close`` delivers and lets go; events after it are counted, and not published."""
    with Rambla(NULL) as app:
        tracker = Tracker(app)
        app.publish("analytics", "no event").result(timeout_s=20)
        app.publish("orders", {"event_action": "x"}).result(timeout_s=20)
        tracker.track("a")
        tracker.track_api_error(KeyError())
        tracker.close()
        tracker.track("b")
        assert app.publish("orders", 1).outcomes(timeout_s=20)[0].status == "ok"
        audit = tracker.audit()
        assert app.audit()["null.analytics"].accepted == 4
    assert (audit.tracked, audit.delivered, audit.reasons) == (3, 2, {"closed": 1})


def test_what_is_tracked_while_a_borrowed_app_is_flushed_is_counted() -> None:
    """``close`` refuses it: there would be no one left to count its end."""
    released = threading.Event()

    class Waits(Handler):
        def handle_batch(self, messages: Sequence[Delivery], state: State) -> list[Any]:
            assert released.wait(60)
            return [None] * len(messages)

    with Rambla({"waits": {"handler": Waits, "channels": {"analytics": {}}}}) as app:
        tracker = Tracker(app)
        tracker.track("a")
        closing = threading.Thread(target=tracker.close, args=(60,))
        closing.start()
        try:
            wait_until(lambda: (tracker.track("late"), tracker.audit().reasons.get("closed"))[1])
        finally:
            released.set()
            closing.join(60)
    audit = tracker.audit()
    assert (audit.delivered + audit.lost, audit.pending) == (audit.tracked, 0)


def test_a_borrowed_app_is_never_waited_for() -> None:
    """Also when its channel blocks publishers while it is full."""
    app = Rambla(unreachable(max_pending=1, publish_timeout_s=1_000)).start()
    try:
        tracker = Tracker(app)
        for _ in range(3):
            tracker.track("a")
        assert (tracker.audit().reasons, tracker.audit().pending) == ({"mailbox full": 2}, 1)
    finally:
        app.stop(0)
    assert tracker.audit().reasons == {"mailbox full": 2, "stopped": 1}


def test_a_borrowed_app_that_does_not_run() -> None:
    tracker = Tracker(Rambla(NULL))
    tracker.track("a")
    assert tracker.flush()
    tracker.close()
    assert tracker.audit().reasons == {"closed": 1}
