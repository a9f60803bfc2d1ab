"""Values of ``--option NAME=VALUE``."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable
from typing import Any

import msgspec

__all__ = ["read_option", "read_options"]


def read_options(given: Iterable[str]) -> dict[str, Any]:
    """Return options by name; the last of a name wins. Raises ``ValueError`` where one is no ``name=value``.

    >>> read_options(["routing_key=paid", "retries=3", 'headers={"tenant": "blue"}'])
    {'routing_key': 'paid', 'retries': 3, 'headers': {'tenant': 'blue'}}
    """
    return dict(map(read_option, given))


def read_option(text: str) -> tuple[str, Any]:
    """Return name and value; the value is parsed as JSON or TOML if it is one of them, else it is a string.

    >>> read_option("delay_s=1.5"), read_option("id='42'"), read_option("routing_key=a.b=c")
    (('delay_s', 1.5), ('id', '42'), ('routing_key', 'a.b=c'))
    """
    name, equals, value = text.partition("=")
    if not (name.strip() and equals):
        raise ValueError(f"{text!r} is not of the form name=value")
    return name.strip(), _value(value)


def _value(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        pass
    try:
        read = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    return read["value"] if len(read) == 1 and _is_meant(read["value"]) else text


def _is_meant(value: Any) -> bool:
    """Whether a TOML value was meant: dates, nan and inf are far more often strings."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, str | int | list | dict)
