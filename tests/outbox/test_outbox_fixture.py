"""Durable channels under the pytest fixture: the outbox is in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

TABLE = {
    "rambla": {"outbox": {"url": "sqlite:////nowhere/outbox.db"}},
    "null": {"channels": {"orders": {"durable": True}}},
}


@pytest.mark.rambla_config(TABLE)
def test_no_file_is_made(rambla: Any, rambla_capture: Any, rambla_outbox: Any) -> None:
    """Messages pass through the outbox, and their accounts are there."""
    rambla.publish("orders", {"id": 42})
    assert rambla_capture["orders"][0].payload == {"id": 42}
    assert rambla.flush(5)
    rambla.stop()
    assert rambla_outbox.rows == {}
    assert rambla_outbox.accounts["null.orders"].ok == 1
    assert not Path("/nowhere").exists()
