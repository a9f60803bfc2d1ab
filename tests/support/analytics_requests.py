"""A tracker on a channel in memory, and the requests, statements and calls that were tracked with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from analytics_cases import Recorded

from rambla_py.handlers import memory


class Tracked(Recorded):
    """A tracker and its requests; they are read after a flush, which no running loop may do."""

    @property
    def count(self) -> int:
        """How many events have been tracked so far; it waits for nothing."""
        return self.tracker.audit().tracked

    @property
    def requests(self) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event_action"] == "api_request"]

    @property
    def request(self) -> dict[str, Any]:
        """The only request."""
        (event,) = self.requests
        return event

    @property
    def errors(self) -> list[dict[str, Any]]:
        """The errors: each is in two tables, and counts once."""
        return [
            record.payload for record in self.records if record.headers["table"] == "backend_error_events"
        ]

    @property
    def queries(self) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event_action"] == "database_query"]

    @property
    def calls(self) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event_action"] == "external_api_call"]

    @property
    def paths(self) -> list[str]:
        return [event["path"] for event in self.requests]

    @property
    def statuses(self) -> list[int]:
        return [event["status_code"] for event in self.requests]


@contextmanager
def tracked(settings: dict[str, Any] | None = None, **arguments: Any) -> Iterator[Tracked]:
    """Yield a tracker on a channel in memory."""
    case = Tracked(settings, **arguments)
    try:
        yield case
    finally:
        case.tracker.close()
        memory.forget(case.name)
