"""The result of a delivery over HTTP."""

from __future__ import annotations

from typing import Any, Self

import msgspec

from rambla_py.handlers._http.exchange import Answer

__all__ = ["HttpResult"]


class HttpResult(msgspec.Struct, frozen=True):
    """The server's answer: what ``Receipt.result()`` gives.

    ``headers`` has names in lower case; ``body`` ends at the connection's ``max_response_bytes``, and
    ``truncated`` is True if there was more. The messages of a batch share one answer.

    >>> HttpResult(201, {"location": "/orders/42"}, b'{"id":42}').json()
    {'id': 42}
    """

    status: int
    headers: dict[str, str]
    body: bytes
    truncated: bool = False

    @classmethod
    def of(cls, answer: Answer) -> Self:
        """Return the result of a delivery that was answered so."""
        return cls(answer.status, answer.headers, answer.body, not answer.whole)

    @property
    def text(self) -> str:
        """The body as a string; bytes that are not UTF-8 are replaced."""
        return self.body.decode(errors="replace")

    def json(self) -> Any:
        """Return the body read as JSON; raises ``msgspec.DecodeError``."""
        return msgspec.json.decode(self.body)
