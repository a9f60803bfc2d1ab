"""Header values, for the protocols that several handlers speak."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from rambla_py.errors import PermanentError
from rambla_py.serialization.header_values import header_text

__all__ = ["HEADER_TYPES", "ROUTING_HEADERS", "check_amqp_headers", "check_routing_headers", "text_of"]

ROUTING_HEADERS: Final = ("CC", "BCC")
"""Headers of AMQP that RabbitMQ takes further routing keys from."""

HEADER_TYPES: Final = (type(None), list, dict, datetime)
"""What AMQP headers hold beside strings, numbers, booleans and bytes."""

_DEEPEST: Final = 100


def text_of(name: str, value: Any) -> str:
    r"""Return a header's value as a string: UTF-8 decoded, anything else as ``header_text`` writes it.

    Raises ``PermanentError`` that names the header.

    >>> text_of("tries", 3), text_of("who", b"Zo\xc3\xab")
    ('3', 'Zoë')
    """
    try:
        return value.decode() if isinstance(value, bytes) else header_text(value).encode().decode()
    except (UnicodeError, PermanentError) as error:
        raise PermanentError(f"header {name!r}: {error}") from error


def check_routing_headers(headers: Mapping[str, Any]) -> None:
    """Raise ``PermanentError`` for ``CC`` and ``BCC`` that RabbitMQ, which routes by them, refuses.

    >>> check_routing_headers({"CC": ["copies"]})
    """
    for name in ROUTING_HEADERS:
        if name in headers and not _is_routes(headers[name]):
            raise PermanentError(f"headers[{name!r}] must be an array of routing keys (strings)")


def check_amqp_headers(headers: Mapping[str, Any]) -> None:
    """Raise ``PermanentError``, naming the header, for what RabbitMQ refuses or a driver cannot encode.

    >>> check_amqp_headers({"CC": ["copies"], "ratio": [0.5]})
    """
    check_routing_headers(headers)
    for name, value in headers.items():
        _check_value(f"headers[{name!r}]", value, 1)


def _check_value(what: str, value: Any, level: int) -> None:
    if level > _DEEPEST:
        raise PermanentError(f"{what[:80]} is nested more than {_DEEPEST} levels deep")
    if isinstance(value, float) and not math.isfinite(value):
        raise PermanentError(f"{what} is NaN or infinite, which RabbitMQ refuses")
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _check_value(f"{what}[{name!r}]", inner, level + 1)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            _check_value(f"{what}[{index}]", inner, level + 1)


def _is_routes(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(route, str) for route in value)
