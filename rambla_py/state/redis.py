"""This module keeps records in Redis, each as a hash that Redis itself removes when it expires."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from rambla_py.state.errors import (
    StateAccessError,
    StateCorruptError,
    StateError,
    StateQuotaError,
    StateTooLargeError,
    StateUnavailableError,
)
from rambla_py.state.record import Row
from rambla_py.state.rows import RowStore

__all__ = ["RedisStore"]

_CHUNK = 500
_MOST_BYTES = 512 * 1024 * 1024
_FIELDS = ("value", "created_at", "updated_at", "expires_at")

# HSET goes first: without memory it is refused, and then nothing may have been removed yet.
_WRITE = """
local created = {}
for i = 1, #KEYS do
  local at = (i - 1) * 5 + 2
  local old = redis.call('HMGET', KEYS[i], 'created_at', 'expires_at')
  local first = ARGV[at + 2]
  if ARGV[1] == '' and old[1] and (not old[2] or tonumber(old[2]) > tonumber(ARGV[at + 3])) then
    first = old[1]
  end
  redis.call('HSET', KEYS[i], 'value', ARGV[at + 1], 'created_at', first, 'updated_at', ARGV[at + 3])
  if ARGV[at + 4] == '' then
    redis.call('HDEL', KEYS[i], 'expires_at')
    redis.call('PERSIST', KEYS[i])
  else
    redis.call('HSET', KEYS[i], 'expires_at', ARGV[at + 4])
    redis.call('PEXPIREAT', KEYS[i], ARGV[at])
  end
  created[i] = first
end
return created
"""
_REMOVE = """
local old = redis.call('HMGET', KEYS[1], 'value', 'expires_at')
redis.call('DEL', KEYS[1])
return (old[1] and (not old[2] or tonumber(old[2]) > tonumber(ARGV[1]))) and 1 or 0
"""
_SWEEP = """
local count = 0
for i = 1, #KEYS do
  local expires = redis.call('HGET', KEYS[i], 'expires_at')
  if expires and tonumber(expires) <= tonumber(ARGV[1]) then count = count + redis.call('DEL', KEYS[i]) end
end
return count
"""


class RedisStore(RowStore):
    """Keeps records in the Redis of ``url``, under keys that begin with ``prefix``.

    ``url`` is ``redis://user:password@host:port/database``, ``rediss://`` or ``unix://``. Stores with another
    prefix share nothing; ``clear()`` and ``get_all()`` walk all keys of the database, to find their own.
    Redis removes expired records by its own clock, so ``cleanup_expired()`` counts only those that it has
    not yet. ``set_many`` is applied whole; the server's user needs the right to run scripts. How long a
    record outlives a crash of the server is the server's setting (``appendonly yes``). ``max_value_bytes``
    is the server's ``proto-max-bulk-len``: it closes the connection on whoever sends more.

    >>> RedisStore("redis://:hunter2@localhost:6379/0")
    <RedisStore(redis at localhost:6379/0, prefix 'rambla:state:'), not ready>
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "rambla:state:",
        connect_timeout_s: float = 5.0,
        timeout_s: float = 10.0,
        max_value_bytes: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(clock=clock)
        self._prefix = prefix.encode()
        self._connect_timeout_s, self._timeout_s = connect_timeout_s, timeout_s
        self._most = max_value_bytes or _MOST_BYTES
        try:
            self._pool = redis.ConnectionPool.from_url(
                url,
                socket_connect_timeout=connect_timeout_s,
                socket_timeout=timeout_s,
                retry=Retry(NoBackoff(), 0),
                decode_responses=False,
            )
        except ValueError:
            # From None: the cause may quote a part of the password, where that holds a slash.
            raise ValueError("a url that is not redis://..., rediss://... or unix:///path") from None
        options = self._pool.connection_kwargs
        address = options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
        self._where = f"redis at {address}/{options.get('db') or 0}"
        self._client = redis.Redis(connection_pool=self._pool)
        self._write_script = self._client.register_script(_WRITE)
        self._remove_script = self._client.register_script(_REMOVE)
        self._sweep_script = self._client.register_script(_SWEEP)

    def _name(self) -> str:
        return f"RedisStore({self._where}, prefix {self._prefix.decode()!r})"

    def _open(self) -> None:
        # By a connection of its own: the first answer may take less time than those to come.
        kwargs = {**self._pool.connection_kwargs, "socket_timeout": self._connect_timeout_s}
        pool = redis.ConnectionPool(connection_class=self._pool.connection_class, **kwargs)
        try:
            redis.Redis(connection_pool=pool).ping()
        except (redis.RedisError, OSError) as error:
            raise self._ours(error, sent=False) from error
        finally:
            pool.disconnect()

    def _shut(self) -> None:
        self._pool.disconnect()

    def _read(self, key: str) -> Row | None:
        with self._asking():
            found: Any = self._client.hmget(self._full(key), _FIELDS)
        return self._row(key, found)

    def _write(self, rows: Sequence[Row], *, exact: bool) -> Sequence[Row]:
        arguments: list[Any] = ["exact" if exact else ""]
        for row in rows:
            if len(row.value) > self._most:
                raise StateTooLargeError(row.key, len(row.value), self._most, "the server's limit of a value")
            expires_at = "" if row.expires_at is None else repr(float(row.expires_at))
            expires_ms = "" if row.expires_at is None else math.ceil(row.expires_at * 1000)
            times = (repr(float(row.created_at)), repr(float(row.updated_at)))
            arguments += (expires_ms, row.value, *times, expires_at)
        with self._asking():
            created: Any = self._write_script([self._full(row.key) for row in rows], arguments)
        return [row._replace(created_at=float(at)) for row, at in zip(rows, created, strict=True)]

    def _remove(self, key: str, now: float) -> bool:
        with self._asking():
            return bool(self._remove_script([self._full(key)], [repr(now)]))

    def _read_all(self) -> Iterable[Row]:
        rows: list[Row] = []
        with self._asking():
            for names in self._chunks():
                pipeline = self._client.pipeline(transaction=False)
                for name in names:
                    pipeline.hmget(name, _FIELDS)
                keys = [name[len(self._prefix) :].decode(errors="replace") for name in names]
                found = map(self._row, keys, pipeline.execute())
                rows += [row for row in found if row is not None]
        return rows

    def _wipe(self) -> None:
        with self._asking():
            for names in self._chunks():
                self._client.unlink(*names)

    def _sweep(self, now: float) -> int:
        with self._asking():
            return sum(int(self._sweep_script(names, [repr(now)])) for names in self._chunks())

    def _full(self, key: str) -> bytes:
        return self._prefix + key.encode()

    def _chunks(self) -> Iterator[list[bytes]]:
        """Yield the names of our keys, each once, some hundred at a time."""
        pattern = b"".join(b"\\" + bytes([c]) if c in b"*?[]\\" else bytes([c]) for c in self._prefix) + b"*"
        # SCAN may tell a key twice.
        names = iter(dict.fromkeys(self._client.scan_iter(match=pattern, count=_CHUNK)))
        while chunk := list(itertools.islice(names, _CHUNK)):
            yield chunk

    def _row(self, key: str, found: Sequence[bytes | None]) -> Row | None:
        value, created_at, updated_at, expires_at = found
        if value is None:
            return None
        try:
            times = (float(created_at or ""), float(updated_at or ""))
            return Row(key, value, *times, None if expires_at is None else float(expires_at))
        except ValueError as error:
            raise StateCorruptError(f"{self._where}, key {self._full(key)!r}", str(error)) from error

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Map errors; what fails before there is a connection was not sent."""
        try:
            # An idle connection that the server closed is noticed, and replaced, here.
            self._pool.release(self._pool.get_connection())
        except (redis.RedisError, OSError) as error:
            raise self._ours(error, sent=False) from error
        try:
            yield
        except (redis.RedisError, OSError) as error:
            raise self._ours(error, sent=True) from error

    def _ours(self, error: Exception, *, sent: bool) -> StateError:
        """Return our error for one of the driver's; the only place that knows which is which."""
        reason = str(error) or type(error).__name__
        if isinstance(error, redis.exceptions.OutOfMemoryError) or "OOM " in reason:
            return StateQuotaError(self._name(), reason)
        refused = (redis.AuthenticationError, redis.exceptions.NoPermissionError)
        if (
            isinstance(error, refused)
            or "CERTIFICATE" in reason
            or reason.startswith(("NOAUTH", "WRONGPASS"))
        ):
            return StateAccessError(self._name(), reason)
        if isinstance(error, redis.ResponseError) and "WRONGTYPE" in reason:
            return StateCorruptError(f"{self._where}, a key under {self._prefix.decode()!r}", reason)
        if isinstance(error, redis.TimeoutError | TimeoutError):
            reason = f"no answer within {self._timeout_s:g} s" if sent else "did not answer in time"
        answered = isinstance(error, redis.ResponseError)
        return StateUnavailableError(
            self._name(), reason, applied="unknown" if sent and not answered else "no"
        )
