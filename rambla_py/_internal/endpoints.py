"""Where a connection leads, from its settings, without secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["endpoint_of", "host_and_port", "is_open_address"]

_ADDRESSES = ("urls", "url", "servers", "cluster", "sentinels")
_WEB = ("http", "https", "ws", "wss")
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?")


def endpoint_of(settings: Any) -> str | None:
    """Return the address in a connection's settings, None when they have none.

    A URL is shown without login and query, a web address without its path, which may be a secret.

    >>> endpoint_of({"url": "amqp://shop:hunter2@broker:5672/%2f?heartbeat=3"})
    'amqp://broker:5672/%2f'
    >>> endpoint_of({"url": "https://hooks.example.com/T0/B0/token"})
    'https://hooks.example.com'
    >>> endpoint_of({"relay": "mx", "port": 25})
    'mx:25'
    """
    for name in _ADDRESSES:
        places = [_place(text) for text in _texts(_field(settings, name))]
        if places:
            endpoint = next(_texts(_field(settings, "endpoint")), None)
            return ", ".join(places) + (f" at {_place(endpoint)}" if endpoint else "")
    for name in ("host", "relay"):
        host = next(_texts(_field(settings, name)), None)
        if host:
            port = _field(settings, "port")
            return f"{host}:{port}" if isinstance(port, int) else host
    return next(_texts(_field(settings, "path")), None)


def host_and_port(endpoint: str | None) -> tuple[str | None, int | None]:
    """Return host and port of what ``endpoint_of`` returned, the first of several; None where unknown.

    >>> host_and_port("amqp://broker:5672/%2f, amqp://other:5672/%2f"), host_and_port("[::1]:6379")
    (('broker', 5672), ('::1', 6379))
    >>> host_and_port("sqlite:///shop.db"), host_and_port("/var/log/shop"), host_and_port(None)
    ((None, None), (None, None), (None, None))
    """
    first = (endpoint or "").split(",", maxsplit=1)[0].strip()
    scheme, found, rest = first.rpartition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0] if found else rest
    match = _HOST.fullmatch(authority)
    if match is None or scheme in ("unix", "file", "memory"):
        return None, None
    port = match["port"]
    return match["host"].strip("[]"), None if port is None else int(port)


def is_open_address(setting: str, text: str) -> bool:
    """Return whether the text of a setting is an address that ``endpoint_of`` shows as it is.

    >>> is_open_address("url", "amqp://broker:5672/%2f"), is_open_address("url", "amqp://shop:pw@broker")
    (True, False)
    >>> is_open_address("url", "nats://to/ken@broker")
    False
    >>> is_open_address("url", "https://hooks.example.com/T0/token"), is_open_address("token", "a://b")
    (False, False)
    """
    # A login with a slash that is not percent-encoded is taken for a path.
    return setting in _ADDRESSES and "://" in text and "@" not in text and _place(text) == text


def _field(settings: Any, name: str) -> Any:
    return settings.get(name) if isinstance(settings, Mapping) else getattr(settings, name, None)


def _texts(value: Any) -> Iterator[str]:
    """Yield the strings of a setting that is one or several, each of which may be a secret."""
    several = value if isinstance(value, list | tuple) else [value]
    for one in several:
        text = one.reveal() if hasattr(one, "reveal") else one
        if isinstance(text, str) and text:
            yield text


def _place(text: str) -> str:
    scheme, found, rest = text.partition("://")
    if not found:
        return text.rpartition("@")[2]
    end = re.search(r"[/?#]", rest)
    authority, path = (rest, "") if end is None else (rest[: end.start()], rest[end.start() :])
    if "@" in path and ":" in authority and "@" not in authority:
        return f"{scheme}://***"  # a password that is not percent-encoded: the authority is a part of it
    path = "" if scheme.lower() in _WEB else re.split(r"[?#]", path, maxsplit=1)[0]
    return f"{scheme}://{authority.rpartition('@')[2]}{path}"
