"""The bound of what a worker has in flight, and the batches that it does not cut."""

from __future__ import annotations

from typing import Any

import pytest
from small_apps import TIMEOUT_S, Seen, probe, running, table, until


@pytest.mark.parametrize("is_async", [False, True])
def test_a_batch_is_not_cut(is_async: bool) -> None:
    """A handler that answers a whole batch gets ``batch_size`` messages, although it is the larger number."""
    sizes = Seen()

    def batch(self: Any, messages: Any, state: Any) -> list[Any]:
        sizes.append(len(messages))
        return [None] * len(messages)

    async def batch_async(self: Any, messages: Any, state: Any) -> list[Any]:
        return batch(self, messages, state)

    handler = probe(handle_batch=batch_async if is_async else batch)
    with running(table(handler, batch_size=50, max_in_flight=10, batch_timeout_s=0.2)) as app:
        app.publish_many("orders", range(50)).result(timeout_s=TIMEOUT_S)
    assert list(sizes) == [50]


def test_what_is_settled_one_by_one_is_bounded() -> None:
    """No more than ``max_in_flight`` deliveries are unsettled, whatever ``batch_size`` is."""
    unsettled = Seen()

    def handle(self: Any, deliveries: Any, state: Any) -> None:
        for delivery in deliveries:
            unsettled.append(delivery)

    with running(table(probe(handle_deliveries=handle), batch_size=50, max_in_flight=10), stop_s=0.2) as app:
        app.publish_many("orders", range(50))
        unsettled.wait(10)
        assert not until(lambda: len(unsettled) > 10, timeout_s=0.2)
