"""Redis commands of a state store, as generators that do no I/O.

A generator yields a list of commands, and is sent their replies in order; or it yields a ``Scan``, and is
sent the names of keys. What it returns is the result. ``RedisStore`` runs the same ones on threads and on
event loops.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from redis.crc import key_slot

from rambla_py.state.errors import StateConflictError, StateCorruptError, StateTooLargeError
from rambla_py.state.record import RemoveRule, Row, WriteRule

__all__ = ["Command", "RedisCommands", "Scan", "Steps"]

_T = TypeVar("_T")
Command = tuple[Any, ...]


class Scan(NamedTuple):
    """All keys of the database that match a pattern, each at least once."""

    pattern: bytes


Steps = Generator[list[Command] | Scan, Any, _T]

_CHUNK = 500
_FIELDS = ("value", "created_at", "updated_at", "expires_at", "version")

# Every record is looked at before one is written. HSET goes first: without memory it is refused, and then
# nothing may have been removed yet.
_WRITE = """
local function live(key, now)
  local old = redis.call('HMGET', key, 'created_at', 'expires_at', 'version')
  if old[1] and (not old[2] or tonumber(old[2]) > tonumber(now)) then return old end
end
if ARGV[1] == 'absent' or ARGV[1] == 'version' then
  for i = 1, #KEYS do
    local old = live(KEYS[i], ARGV[(i - 1) * 6 + 5])
    if ARGV[1] == 'absent' and old then return 'it exists already' end
    if ARGV[1] == 'version' and not old then return 'it does not exist' end
    if ARGV[1] == 'version' and (old[3] or '') ~= ARGV[2] then
      return 'it was set since that version was read'
    end
  end
end
local created = {}
for i = 1, #KEYS do
  local at = (i - 1) * 6 + 3
  local first = ARGV[at + 1]
  if ARGV[1] ~= 'exact' then
    local old = live(KEYS[i], ARGV[at + 2])
    if old then first = old[1] end
  end
  redis.call('HSET', KEYS[i], 'value', ARGV[at], 'created_at', first, 'updated_at', ARGV[at + 2],
             'version', ARGV[at + 3])
  if ARGV[at + 4] == '' then
    redis.call('HDEL', KEYS[i], 'expires_at')
    redis.call('PERSIST', KEYS[i])
  else
    redis.call('HSET', KEYS[i], 'expires_at', ARGV[at + 4])
    redis.call('PEXPIREAT', KEYS[i], ARGV[at + 5])
  end
  created[i] = first
end
return created
"""
_REMOVE = """
local old = redis.call('HMGET', KEYS[1], 'value', 'expires_at', 'version')
local live = old[1] and (not old[2] or tonumber(old[2]) > tonumber(ARGV[1]))
if live and ARGV[2] == 'version' and (old[3] or '') ~= ARGV[3] then
  return 'it was set since that version was read'
end
redis.call('DEL', KEYS[1])
return live and 1 or 0
"""
_REMOVE_EXPIRED = """
local expires = redis.call('HGET', KEYS[1], 'expires_at')
return (expires and tonumber(expires) <= tonumber(ARGV[1])) and redis.call('DEL', KEYS[1]) or 0
"""


class RedisCommands:
    """The commands of a store whose keys begin with ``prefix``; ``where`` names the server in errors.

    In a cluster, records of one slot are written together; elsewhere all records of a call are.
    """

    def __init__(self, prefix: str, *, is_cluster: bool, max_value_bytes: int, where: str) -> None:
        self._prefix, self._is_cluster = prefix.encode(), is_cluster
        self._max_value_bytes, self._where = max_value_bytes, where

    def read(self, keys: Sequence[str]) -> Steps[list[Row]]:
        """Read the existing rows of several keys."""
        rows: list[Row] = []
        for chunk in _chunks(keys):
            replies = yield [("HMGET", self._full(key), *_FIELDS) for key in chunk]
            rows += self._rows(chunk, replies)
        return rows

    def read_all(self, prefix: str) -> Steps[list[Row]]:
        """Read all rows whose keys begin with a prefix."""
        names = yield self._scan(prefix)
        keys = [name[len(self._prefix) :].decode(errors="replace") for name in dict.fromkeys(names)]
        rows = yield from self.read(keys)
        return rows

    def write(self, rows: Sequence[Row], rule: WriteRule) -> Steps[list[Row]]:
        """Write rows by a rule; return them as they are stored."""
        for row in rows:
            if len(row.value) > self._max_value_bytes:
                raise StateTooLargeError(
                    row.key, len(row.value), self._max_value_bytes, "the server's limit of a value"
                )
        groups = self._groups(rows)
        replies = yield [self._write_command(group, rule) for group in groups]
        created: dict[str, float] = {}
        for group, reply in zip(groups, replies, strict=True):
            if isinstance(reply, bytes):
                raise StateConflictError(group[0].key, reply.decode())
            created |= {row.key: float(at) for row, at in zip(group, reply, strict=True)}
        return [row._replace(created_at=created[row.key]) for row in rows]

    def remove(self, key: str, rule: RemoveRule) -> Steps[bool]:
        """Remove a row by a rule."""
        condition = ("", "") if rule.if_version is None else ("version", rule.if_version)
        replies = yield [("EVAL", _REMOVE, 1, self._full(key), repr(float(rule.now)), *condition)]
        if isinstance(replies[0], bytes):
            raise StateConflictError(key, replies[0].decode())
        return bool(replies[0])

    def remove_all(self, prefix: str) -> Steps[None]:
        """Remove all rows whose keys begin with a prefix."""
        names = yield self._scan(prefix)
        for chunk in _chunks(names):
            yield [("UNLINK", name) for name in chunk]

    def remove_expired(self, now: float, prefix: str) -> Steps[int]:
        """Remove the expired rows that Redis has not removed yet; return how many there were."""
        names = yield self._scan(prefix)
        count = 0
        for chunk in _chunks(list(dict.fromkeys(names))):
            replies = yield [("EVAL", _REMOVE_EXPIRED, 1, name, repr(float(now))) for name in chunk]
            count += sum(map(int, replies))
        return count

    def _full(self, key: str) -> bytes:
        return self._prefix + key.encode()

    def _scan(self, prefix: str) -> Scan:
        start = self._full(prefix)
        return Scan(b"".join(b"\\" + bytes([c]) if c in b"*?[]\\" else bytes([c]) for c in start) + b"*")

    def _groups(self, rows: Sequence[Row]) -> list[list[Row]]:
        if not self._is_cluster:
            return [list(rows)]
        slot: Callable[[Row], int] = lambda row: key_slot(self._full(row.key))  # noqa: E731
        return [list(group) for _, group in itertools.groupby(sorted(rows, key=slot), slot)]

    def _write_command(self, rows: Sequence[Row], rule: WriteRule) -> Command:
        mode = "exact" if rule.exact else "absent" if rule.if_absent else ""
        arguments: list[Any] = [mode, ""] if rule.if_version is None else ["version", rule.if_version]
        for row in rows:
            expires = ("", "")
            if row.expires_at is not None:
                expires = (repr(float(row.expires_at)), str(math.ceil(row.expires_at * 1000)))
            times = (repr(float(row.created_at)), repr(float(row.updated_at)))
            arguments += (row.value, *times, row.version, *expires)
        return ("EVAL", _WRITE, len(rows), *(self._full(row.key) for row in rows), *arguments)

    def _rows(self, keys: Iterable[str], replies: Iterable[Sequence[bytes | None]]) -> Iterator[Row]:
        for key, (value, created_at, updated_at, expires_at, version) in zip(keys, replies, strict=True):
            if value is None:
                continue
            try:
                times = (float(created_at or ""), float(updated_at or ""))
                expires = None if expires_at is None else float(expires_at)
                yield Row(key, value, *times, expires, (version or b"").decode())
            except ValueError as error:
                raise StateCorruptError(f"{self._where}, key {self._full(key)!r}", str(error)) from error


def _chunks(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    return (items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK))
