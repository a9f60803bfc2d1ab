"""The last deliveries that did not end as ``ok``, in groups."""

from __future__ import annotations

from typing import Any

import pytest
from small_apps import one, probe, running, table

from rambla_py import OptionError, PermanentError, Rambla, UnknownChannelError
from rambla_py.runtime.target.failures import MOST


def refuse(message: Any) -> None:
    raise PermanentError(f"row {message.payload} of 'orders' refused by hunter2")


def failing(**channel: Any) -> dict[str, Any]:
    return table(probe(refuse), options={"retries": 0}, **channel)


def test_one_kind_of_error_is_one_group() -> None:
    """Numbers and quoted values do not matter; the sample is the last one, without secrets."""
    with running(failing() | {"rambla": {"web": {"token": "hunter2"}}}) as app:
        ended = [one(app, number) for number in range(3)]
        (group,) = app.failures()
        assert (group.service, group.channel, group.status, group.error) == (
            "probe",
            "orders",
            "fatal",
            "PermanentError",
        )
        assert group.sample == "PermanentError: row 2 of 'orders' refused by ***"
        assert group.count == 3
        assert group.ids == [outcome.message_id for outcome in reversed(ended)]
        assert 1.6e9 < group.first_at <= group.last_at


def test_successes_leave_nothing() -> None:
    """Only other ends are remembered."""
    with running(table(probe(lambda message: None))) as app:
        one(app)
        assert app.failures() == []


def test_the_newest_group_is_first() -> None:
    """The limit is that of groups; a channel may be given."""

    def fail(message: Any) -> None:
        raise message.payload

    with running(table(probe(fail), options={"retries": 0})) as app:
        for error in (PermanentError("one"), PermanentError("other"), PermanentError("one")):
            one(app, error)
        assert [group.count for group in app.failures("orders")] == [2, 1]
        assert [group.sample for group in app.failures(limit=1)] == ["PermanentError: one"]
        assert len(app.failures("probe.orders")) == 2


def test_a_target_remembers_so_many() -> None:
    """The oldest are forgotten; of a group's messages the last twenty have their ids."""
    with running(failing()) as app:
        app.publish_many("orders", list(range(MOST + 5))).outcomes(timeout_s=30)
        (group,) = app.failures()
        assert (group.count, len(group.ids)) == (MOST, 20)


def test_dead_letters_are_not_failures_too(tmp_path: Any) -> None:
    """What is kept as a dead letter can be looked at there."""
    outbox = {"rambla": {"outbox": {"url": f"sqlite:///{tmp_path}/outbox.db"}}}
    with running(failing(dead_letters=True) | outbox) as app:
        one(app, 1)
        one(app, 2, expires_s=1e-6)
        assert [group.status for group in app.failures()] == ["expired"]


def test_wrong_arguments_are_refused() -> None:
    """Before the start, too."""
    app = Rambla(failing())
    assert app.failures() == []
    with pytest.raises(UnknownChannelError, match="orders"):
        app.failures("ordres")
    with pytest.raises(OptionError, match="limit"):
        app.failures(limit=0)


def test_histograms_can_be_left_out() -> None:
    """With ``metrics = false`` times are not counted; everything else is."""
    config = table(probe(lambda message: None)) | {"rambla": {"telemetry": {"metrics": False}}}
    with running(config) as app:
        one(app)
        status = app.status()["probe.orders"]
        assert (status.times, status.statuses["ok"]) == ({}, 1)
