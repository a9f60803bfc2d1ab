"""A recorder of what instrumented libraries track, in the place of a tracker."""

from __future__ import annotations

from typing import Any


class CallRecorder:
    """Keeps statements and calls: one dictionary for each."""

    def __init__(self) -> None:
        self.queries: list[dict[str, Any]] = []
        self.calls: list[dict[str, Any]] = []

    def track_db_query(self, query: str, duration_ms: float, success: bool, **fields: Any) -> None:
        assert duration_ms >= 0
        self.queries.append({"query": query, "success": success, **fields})

    def track_external_api_call(
        self, service: str, endpoint: str, duration_ms: float, success: bool, **fields: Any
    ) -> None:
        assert duration_ms >= 0
        self.calls.append({"service": service, "endpoint": endpoint, "success": success, **fields})
