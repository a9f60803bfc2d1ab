"""Tests of the deletion of events, on each SQL database."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from analytics_cases import recorded, rows, unreachable
from analytics_stores import STORES, Store, opened

from rambla_py.analytics import AnalyticsError, Tracker
from rambla_py.analytics.retention import delete_before, delete_user
from rambla_py.sql import SqlBackend


@pytest.fixture(params=STORES[:3])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with opened(request.param, request, tmp_path) as store:
        yield store


def test_the_events_of_a_user_are_deleted(store: Store) -> None:
    """What waits is delivered first; those of others stay."""
    with Tracker(store.url) as tracker:
        for user in ("u-1", "u-2", "u-1"):
            tracker.track_user_auth("login", user, True)
        tracker.track_payment("charge", 1, "EUR", True, user_id="u-1")
        tracker.track("anonymous")
        deleted = tracker.delete_user("u-1")
        assert {table: number for table, number in deleted.items() if number} == {
            "authentication_events": 2,
            "payment_events": 1,
        }
        assert not any(tracker.delete_user("u-1").values())
    assert [row["user_id"] for row in store.rows("authentication_events")] == ["u-2"]
    assert store.count("custom_events") == 1


def test_events_before_a_moment_are_deleted(store: Store) -> None:
    moment = datetime.datetime(2024, 1, 15, 10, 30, tzinfo=datetime.UTC)
    with Tracker(store.url) as tracker:
        for seconds in (-86_400, -0.001, 0, 86_400):
            tracker.track("a", timestamp=moment + datetime.timedelta(seconds=seconds), at=seconds)
        assert tracker.flush(60)
    with SqlBackend(store.url) as db:
        assert delete_before(db, moment, ["custom_events", "missing"]) == {"custom_events": 2}
    assert [row["properties"]["at"] for row in store.rows("custom_events")] == [0, 86_400]


def test_events_in_a_table_that_is_named_with_its_schema_are_deleted(store: Store) -> None:
    """A table of a rule may be, and on MariaDB the schema is the database."""
    schemas = {"sqlite": "'main'", "postgres": "current_schema()", "mariadb": "DATABASE()"}
    (row,) = store.query(f"SELECT {schemas[store.kind]} AS name")
    table = f"{row['name']}.custom_events"
    with Tracker(store.url) as tracker:
        tracker.track("a", user_id="u-1")
        assert tracker.flush(60)
    with SqlBackend(store.url) as db:
        assert delete_user(db, "u-1", [table, f"{row['name']}.missing"]) == {table: 1}
    assert store.count("custom_events") == 0


@pytest.mark.parametrize("user_id", [None, "", "4111111111111111", "token=abc", 1.5], ids=str)
def test_an_id_that_other_users_may_have_deletes_nothing(user_id: Any, tmp_path: Path) -> None:
    """What looks like a card number or a secret is masked in events, and would match all such ids."""
    with Tracker(f"sqlite:///{tmp_path / 'events.db'}") as tracker:
        tracker.track("a", user_id="4000000000000002")
        tracker.track("b", user_id="token=xyz")
        assert tracker.flush(60)
        with pytest.raises(AnalyticsError, match="user_id") as caught:
            tracker.delete_user(user_id)
        assert str(user_id or "4111") not in str(caught.value)
    assert len(rows(tmp_path / "events.db", "custom_events")) == 2


def test_nothing_is_deleted_while_events_wait() -> None:
    """Those of the user would come back."""
    config = {**unreachable(), "rambla": {"result_timeout_s": 0.1}}
    tracker = Tracker(config, batch_timeout_s=0)
    try:
        tracker.track("a", user_id="u-1")
        with pytest.raises(AnalyticsError, match="still wait"):
            tracker.delete_user("u-1")
    finally:
        tracker.close(0)


def test_only_databases_delete() -> None:
    with recorded() as case, pytest.raises(AnalyticsError, match=r"memory\.analytics"):
        case.tracker.delete_user("u-1")
