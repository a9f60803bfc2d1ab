"""A worker connects again after each loss, for months: a connection that is closed leaves nothing behind."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

import pytest
from cost_cases import CASES

from rambla_py.handler import State
from rambla_py.registry import find_handler
from rambla_py.testing.single_handler import ConnectedHandler, connected

TIMES = 6
MOST_BYTES = 4_000
"""Of one connection: caches of drivers grow a little; what a connection holds is 100 kB and more."""


def reconnect(handler: ConnectedHandler, payload: Any) -> int:
    """Connect, send a message and close, some times; return the bytes that Python's objects have then."""
    for _ in range(TIMES):
        connection = handler._resolved(handler.handler.connect())
        handler.state = State(connection, "to", "service")
        handler.handle(payload)
        handler._resolved(handler.handler.close(connection))
    handler.state = State(None, "to", "service")
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


@pytest.mark.parametrize("name", CASES)
def test_a_closed_connection_leaves_nothing_behind(name: str, request: pytest.FixtureRequest):
    """Neither in memory of ours nor in that of its driver."""
    case = CASES[name]
    settings = dict(case.connection(request)) or None
    with connected(find_handler(case.handler), settings, **case.options) as handler:
        tracemalloc.start()
        try:
            before = reconnect(handler, case.payload)
            grown = reconnect(handler, case.payload) - before
        finally:
            tracemalloc.stop()
    assert grown / TIMES < MOST_BYTES, f"{grown / TIMES:,.0f} bytes a connection"
