"""The refusal of a request, with its status."""

from __future__ import annotations

from rambla_py.errors import PermanentError

__all__ = ["RefusedError"]

# If a batch is refused with one of these, a part of it may pass: the content was refused, not the request.
_ABOUT_CONTENT = frozenset({400, 409, 413, 422})


class RefusedError(PermanentError):
    """The server refused a request for good; ``status`` is the HTTP status."""

    def __init__(self, text: str, status: int) -> None:
        self.status = status
        super().__init__(text)

    @property
    def concerns_content(self) -> bool:
        """Whether a part of the same batch may be accepted."""
        return self.status in _ABOUT_CONTENT
