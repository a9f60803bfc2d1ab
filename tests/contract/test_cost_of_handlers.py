"""What a message costs with each handler, counted, beside the baseline in ``cost_of_handlers.json``.

A change that adds a call to a message fails here on every machine. If it is worth that, write the baseline
again, so that the diff shows it: ``RAMBLA_COSTS=write pytest tests/contract/test_cost_of_handlers.py``. The
same where a message costs less now. Threads interfere with each other, so that a batch is repeated until it
costs no more than the baseline; a higher cost is never reached by chance, however busy the machine.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cost_cases import CASES, CostCase
from counted_costs import Batch, CountedCalls, cost_of_publish, least, measure_batch
from small_apps import TIMEOUT_S, until

from rambla_py import Rambla
from rambla_py.registry import find_handler, handler_names

BASELINE = Path(__file__).with_name("cost_of_handlers.json")
WRITES = os.environ.get("RAMBLA_COSTS") == "write"
MANY = 200
ROUNDS = {1: 40, 50: 15, 500: 6}
DOUBLES = {"mock", "stub"}

# The baseline was counted with 3.11. Others run comprehensions without a call and switch threads at other
# moments, so that they have a bound instead, and their switches are not compared.
SAME_PYTHON = sys.version_info[:2] == (3, 11)
MORE = 1.0 if SAME_PYTHON else 1.05


class Row(msgspec.Struct, omit_defaults=True):
    """What the baseline says of one case: of ``publish`` alone, and of a batch by its size.

    A ``switches`` of None is not compared.
    """

    publish: dict[str, float]
    batches: dict[str, dict[str, int | None]]


@contextmanager
def gated(case: CostCase, connection: Any, counted: CountedCalls) -> Iterator[tuple[Rambla, threading.Event]]:
    """Run an app whose only worker connects once the gate is open: until then its messages wait."""
    base, gate = find_handler(case.handler), threading.Event()

    def connect(self: Any) -> Any:
        gate.wait(TIMEOUT_S)
        return base.connect(self)

    handler = type(base.__name__, (base,), {"connect": connect, "__module__": base.__module__})
    table = {
        "handler": handler,
        "connections": {"here": connection},
        "channels": {"orders": {"connection": "here", "options": case.options}},
    }
    with counted.installed(), Rambla({case.handler: table}) as app:
        try:
            yield app, gate
        finally:
            gate.set()


@pytest.mark.parametrize("name", CASES)
def test_a_message_costs_no_more_than_before(name: str, request: pytest.FixtureRequest) -> None:
    """Calls and memory of a publish; calls, system calls and switches of batches."""
    case, counted = CASES[name], CountedCalls()
    baseline = msgspec.json.decode(BASELINE.read_bytes(), type=dict[str, Row])
    with gated(case, case.connection(request), counted) as (app, gate):
        app.publish("orders", case.payload)
        (target,) = app._targets()
        assert until(lambda: "connecting" in target.wakeup.workers.states())
        calls, blocks = cost_of_publish(app, counted, case.payload, MANY)
        gate.set()
        assert app.flush(TIMEOUT_S)

        def measured(size: int) -> Iterator[Batch]:
            for _ in range(ROUNDS[size]):
                yield measure_batch(app, counted, case.payload, size)

        if WRITES:
            found = {str(size): usual(case, [*measured(size)]) for size in case.sizes}
            baseline[name] = Row({"calls": round(calls, 2), "blocks": round(blocks, 1)}, found)
            BASELINE.write_bytes(written(baseline))
            return
        known = baseline[name]
        assert calls <= known.publish["calls"] * MORE + 0.9
        assert blocks <= known.publish["blocks"] * MORE + 0.5
        for size in case.sizes:
            compare(measured(size), size, most(case, size, known.batches[str(size)]))


def most(case: CostCase, size: int, known: dict[str, int | None]) -> dict[str, float]:
    """Return what is allowed: no call more for a message alone, less than one a message in a batch.

    Switches are no exact count: a thread that is woken early waits for the interpreter once more. Twice as
    many and two more are allowed.
    """
    more = 0 if size == 1 else case.noise * size
    bounds = {name: count * MORE + more for name, count in known.items() if count is not None}
    if "switches" in bounds:
        bounds["switches"] += (known["switches"] or 0) + 2
    if not SAME_PYTHON:
        bounds.pop("switches", None)
    return bounds


def compare(measured: Iterator[Batch], size: int, bounds: dict[str, float]) -> None:
    """Repeat a batch until each count is within its bound."""
    batches: list[Batch] = []
    for batch in measured:
        batches.append(batch)
        found = least(batches)
        if all(found[name] <= bound for name, bound in bounds.items()):
            return
    calls = batches[-1].calls.most_common(15)
    pytest.fail(f"a batch of {size} costs {found}, at most {bounds} are allowed; the last one made {calls}")


def usual(case: CostCase, batches: list[Batch]) -> dict[str, int | None]:
    """Return what the baseline is to have: what a quarter of the batches reaches, whichever these are."""
    quarters = [least(batches[at::4]) for at in range(4)]
    found: dict[str, int | None] = {name: max(one[name] for one in quarters) for name in quarters[0]}
    switches = sorted(batch.switches for batch in batches)[len(batches) // 5]
    return {**found, "switches": switches if case.switches else None}


def written(rows: dict[str, Row]) -> bytes:
    """Return the baseline as JSON, a line for each size of a batch."""
    text = msgspec.json.format(msgspec.json.encode(dict(sorted(rows.items())))).decode()
    inner = re.sub(r"\{[^{}]*\}", lambda match: " ".join(match[0].split()), text)
    return f"{inner}\n".encode()


def test_every_handler_has_a_case() -> None:
    """All but the doubles of tests."""
    found = {find_handler(case.handler) for case in CASES.values()}
    ours = {find_handler(name) for name in handler_names() if name not in DOUBLES}
    assert found == {
        one for one in ours if one.__module__.startswith("rambla_py.")
    }  # other tests register theirs
    assert set(msgspec.json.decode(BASELINE.read_bytes())) == set(CASES)
