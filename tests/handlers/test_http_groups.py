"""Deliveries grouped into requests."""

from __future__ import annotations

from typing import Any

import msgspec
from deliveries import make_delivery

from rambla_py.delivery import LiveDelivery
from rambla_py.handlers._http.groups import common_headers, grouped, wrapped


class Options(msgspec.Struct, frozen=True):
    table: str = "a"


A, B = Options(), Options("b")


def made(number: int, *, attempts: int = 1, alone: bool = False, **fields: Any) -> LiveDelivery:
    delivery = make_delivery(number, options=fields.pop("options", A), attempts=attempts, **fields)
    if alone:
        delivery.past().set_apart()
    return delivery


def payloads(deliveries: list[LiveDelivery], *, with_headers: bool) -> list[list[list[Any]]]:
    """Return the groups that may be shared, and those apart."""
    found = grouped(deliveries, with_headers=with_headers)
    return [[[delivery.payload for delivery in group] for group in groups] for groups in found]


def test_equal_options_and_headers_share_a_request() -> None:
    """Equal ones, not only the same; headers count where they are sent."""
    deliveries = [
        made(0),
        made(1, options=B),
        made(2, options=Options()),
        made(3, headers={"x": 1}),
        made(4, headers={"x": 1, "traceparent": "t"}),
    ]
    assert payloads(deliveries, with_headers=False) == [[[0, 2, 3, 4], [1]], []]
    assert payloads(deliveries, with_headers=True) == [[[0, 2], [1], [3, 4]], []]


def test_a_request_has_the_trace_that_all_of_its_messages_have() -> None:
    """``tracestate`` means nothing without its ``traceparent``; baggage is by itself."""
    common = {"x": 1, "tracestate": "s", "baggage": "b"}
    same = [made(number, headers={**common, "traceparent": "t"}) for number in range(2)]
    assert common_headers(same) == {**common, "traceparent": "t"}
    different = [made(number, headers={**common, "traceparent": f"t{number}"}) for number in range(2)]
    assert common_headers(different) == {"x": 1, "baggage": "b"}


def test_what_must_be_alone_is_alone() -> None:
    """A retry for another reason shares a request."""
    deliveries = [made(0), made(1, attempts=2), *(made(n, attempts=2, alone=True) for n in (2, 3)), made(4)]
    assert payloads(deliveries, with_headers=True) == [[[0, 1, 4]], [[2], [3]]]


def test_one_event_is_wrapped_too() -> None:
    """Start and end surround the events."""
    assert wrapped([b"1"], b",", b"[", b"]") == b"[1]"
    assert wrapped([b"1", b"2", b"3"], b"\n", end=b"\n") == b"1\n2\n3\n"
