"""Search for secrets in settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from rambla_py._internal.endpoints import is_open_address
from rambla_py._internal.redaction import looks_secret, url_secrets
from rambla_py.handler import Secret

__all__ = ["secrets_in"]


def secrets_in(value: Any, *, name: str = "", by_name: bool = True) -> Iterator[str]:
    """Yield strings to mask: each ``Secret``, passwords in URLs, and values whose name looks secret.

    An address without a login is none, for status and errors show it. With ``by_name=False`` names are
    ignored, as in the options of a handler.

    >>> sorted(secrets_in({"url": "redis://:hunter2@host", "token": "abcd", "host": "host"}))
    ['abcd', 'hunter2']
    """
    if isinstance(value, Secret):
        if not is_open_address(name, value.reveal()):
            yield value.reveal()
        yield from url_secrets(value.reveal())
    elif isinstance(value, str):
        if by_name and looks_secret(name):
            yield value
        yield from url_secrets(value)
    elif isinstance(value, msgspec.Struct):
        for field in msgspec.structs.fields(type(value)):
            yield from secrets_in(getattr(value, field.name), name=field.encode_name, by_name=by_name)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from secrets_in(item, name=str(key), by_name=by_name)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from secrets_in(item, name=name, by_name=by_name)
