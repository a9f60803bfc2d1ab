"""What would make every command of a channel fail, found out without running one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rambla_py.errors import DeliveryError
from rambla_py.handlers.redis.encode import RedisOptions, pack, target_of

if TYPE_CHECKING:
    from rambla_py.handler import Preflight
    from rambla_py.handlers.redis.connection import RedisConnection

__all__ = ["look"]

_TYPES: Final = {"lpush": "list", "rpush": "list", "xadd": "stream", "hset": "hash"}


def look(connection: RedisConnection, options: RedisOptions, channel: str, report: Preflight) -> None:
    """Queue a command in a transaction, which checks the rights of the user, and discard it."""
    target = target_of(options, channel) or b""
    try:
        connection.ask(b"MULTI")
    except DeliveryError as error:
        report.not_checked(f"the right to write: {error}")
        return
    connection.send([_sample(options, target)])
    (reply,) = connection.receive()
    connection.ask(b"DISCARD")
    if isinstance(reply, DeliveryError):
        _refused(str(reply), options, connection.address.where, report)
    elif options.command == "set":
        report.not_checked("whether the keys of payloads may be written")
    if options.command in _TYPES:
        _look_at_type(connection, options.command, target.decode(), report)


def _refused(text: str, options: RedisOptions, where: str, report: Preflight) -> None:
    if options.command == "set" and "one of the keys" in text:
        report.not_checked("whether the keys of payloads may be written")
    else:
        hint = "look at the user's rights: ACL GETUSER" if "NOPERM" in text else None
        report.problem(f"{where}: {text}", hint=hint)


def _look_at_type(connection: RedisConnection, command: str, target: str, report: Preflight) -> None:
    try:
        found = connection.ask(b"TYPE", target.encode())
    except DeliveryError:
        report.not_checked(f"the type of key {target!r}")
        return
    name = found.decode() if isinstance(found, bytes) else str(found)
    if name not in ("none", _TYPES[command]):
        report.problem(
            f"{connection.address.where}: key {target!r} holds a {name}; {command} needs a {_TYPES[command]}",
            hint="name another key in the channel's options, or delete it",
        )


def _sample(options: RedisOptions, target: bytes) -> bytes:
    command = options.command.upper().encode()
    if options.command == "set":
        return pack((command, b"rambla_py.check", b""))
    if options.command == "xadd":
        return pack((command, target, b"*", b"field", b""))
    if options.command == "hset":
        return pack((command, target, b"field", b""))
    return pack((command, target, b""))
