"""This module makes texts of the values of headers, for protocols whose headers hold nothing else."""

from __future__ import annotations

from typing import Any

from rambla_py.encoding import to_json
from rambla_py.errors import PermanentError

__all__ = ["text_of"]


def text_of(name: str, value: Any) -> str:
    r"""Return a header's value: text and UTF-8 as they are, anything else as JSON.

    Raises ``PermanentError`` that names the header.

    >>> text_of("tries", 3), text_of("who", b"Zo\xc3\xab")
    ('3', 'Zoë')
    """
    try:
        data = value.encode() if isinstance(value, str) else value
        return (data if isinstance(data, bytes) else to_json(value)).decode()
    except (UnicodeError, PermanentError) as error:
        raise PermanentError(f"header {name!r}: {error}") from error
