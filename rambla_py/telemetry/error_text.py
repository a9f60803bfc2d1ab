"""Redacted text of errors for logs, status, events and reports."""

from __future__ import annotations

from collections.abc import Iterable

from rambla_py._internal.redaction import Redactor
from rambla_py.errors import describe

__all__ = ["ErrorText"]


class ErrorText:
    """Returns an error as a string with secrets masked, and without ``detail`` unless ``details`` is set.

    >>> from rambla_py.errors import RejectedError
    >>> error = RejectedError("code 27 for hunter2").with_detail("cannot parse 4111-1111")
    >>> ErrorText(["hunter2"])(error)
    'RejectedError: code 27 for ***'
    >>> ErrorText(details=True)(error)
    'RejectedError: code 27 for hunter2; the server says: cannot parse 4111-1111'
    """

    __slots__ = ("_details", "_redact")

    def __init__(self, secrets: Iterable[str] = (), *, details: bool = False) -> None:
        self._redact, self._details = Redactor(secrets).text, details

    def redacted(self, text: str) -> str:
        """Return a string with the secrets in it masked."""
        return self._redact(text)

    def __call__(self, error: BaseException | None) -> str:
        """Return the text of an error; an empty string for None."""
        return self._redact(describe(error, detail=self._details))
