"""The warning of a write-ahead log that stays long."""

from __future__ import annotations

import logging
from typing import Any, cast

import pytest

from rambla_py.outbox.log_watch import LogWatch

MIB = 1 << 20


class LongLog:
    """A journal whose log has a size."""

    name, size = "o.db", 0

    def log_bytes(self) -> int:
        return self.size


def test_a_log_that_stays_long_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    """After a minute over 64 MiB, with its cause; again only after it was short in between."""
    journal = LongLog()
    watch = LogWatch(cast(Any, journal))
    caplog.set_level(logging.WARNING)
    warned = []
    for now, size in [
        (0, 65),
        (50, 65),
        (55, 1),
        (60, 65),
        (119, 65),
        (120, 65),
        (500, 65),
        (501, 1),
        (502, 65),
        (563, 65),
    ]:
        journal.size = size * MIB
        watch.look(float(now))
        warned.append(len(caplog.records))
    assert warned == [0, 0, 0, 0, 0, 1, 1, 1, 1, 2]
    assert "over 64 MiB for a minute: a program keeps a read transaction open" in caplog.text
