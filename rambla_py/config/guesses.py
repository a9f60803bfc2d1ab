"""Guesses of the name that is meant by a wrong one."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from rambla_py.errors import nearest

__all__ = ["Elsewhere", "guess", "nowhere"]

Elsewhere = Callable[[str], str | None]
"""Returns a hint for a key that belongs to another table; None for any other key."""

_SYNONYMS: dict[str, tuple[str, ...]] = {
    "api_key": ("write_key",),
    "address": ("url", "host", "relay"),
    "bootstrap_servers": ("urls", "url"),
    "brokers": ("urls", "url"),
    "broker": ("url", "host"),
    "bucket": ("url",),
    "concurrency": ("count",),
    "db": ("database",),
    "dbname": ("database",),
    "dsn": ("url",),
    "filename": ("path",),
    "host": ("relay", "url"),
    "hosts": ("urls", "url"),
    "login": ("username",),
    "max_attempts": ("retries",),
    "max_queue": ("max_pending",),
    "max_retries": ("retries",),
    "key": ("write_key",),
    "pass": ("password",),
    "passwd": ("password",),
    "pwd": ("password",),
    "queue": ("routing_key",),
    "queue_size": ("max_pending",),
    "retry": ("retries",),
    "server": ("host", "relay", "url"),
    "servers": ("urls", "url"),
    "ssl": ("tls",),
    "subject_prefix": ("subject",),
    "timeout": ("timeout_s", "attempt_timeout_s"),
    "token": ("write_key",),
    "ttl": ("ttl_s", "expires_s"),
    "uri": ("url", "relay", "path"),
    "url": ("relay", "urls", "path"),
    "user": ("username",),
    "user_name": ("username",),
    "vhost": ("virtual_host",),
    "workers": ("count",),
    "writekey": ("write_key",),
}


def guess(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is meant: another word for the same, its unit added, or the nearest.

    >>> guess("url", ["relay", "hostname"]), guess("delay", ["delay_s"]), guess("prot", ["port"])
    ('relay', 'delay_s', 'port')
    """
    names = list(known)
    for other in (*_SYNONYMS.get(name.lower().replace("-", "_"), ()), f"{name}_s"):
        if other in names:
            return other
    return nearest(name, names)


def nowhere(name: str) -> str | None:
    """Return no hint."""
    return None
