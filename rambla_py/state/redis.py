"""A state store in Redis: a hash for each record, expired by Redis itself."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import redis

from rambla_py.state.errors import (
    StateAccessError,
    StateCorruptError,
    StateError,
    StateQuotaError,
    StateUnavailableError,
)
from rambla_py.state.record import RemoveRule, Row, StateRecord, WriteRule, check_key, check_prefix, record_of
from rambla_py.state.redis_clients import RedisClients
from rambla_py.state.redis_commands import RedisCommands, Scan, Steps
from rambla_py.state.rows import RowStore, exact_row, write_rule

__all__ = ["RedisStore"]

_MAX_VALUE_BYTES = 512 * 1024 * 1024
_SCAN_COUNT = 500
_T = TypeVar("_T")


class RedisStore(RowStore):
    """Keeps records in the Redis of ``url``, under keys that begin with ``prefix``.

    ``url`` is ``redis://user:password@host:port/database``, ``rediss://`` (TLS), ``unix://path``,
    ``redis+cluster://host:port,host:port`` or ``redis+sentinel://host:port,host:port/master/database``
    (``rediss+...`` for TLS). Stores with different prefixes are separate; ``clear()`` and ``get_all()`` scan
    all keys of the database. Redis removes expired records by its own clock, so ``cleanup_expired()`` counts
    only those that it has not removed yet. ``set_many`` is atomic; in a cluster, for the keys of each slot.
    The user needs the right to run scripts. Whether a record survives a crash of the server is the server's
    setting (``appendonly yes``). ``max_value_bytes`` is the server's ``proto-max-bulk-len``: it closes the
    connection of a client that sends more.

    The awaitable methods use connections of the running event loop, and no threads, except in a cluster.

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
        cleanup_every_s: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(cleanup_every_s=cleanup_every_s, clock=clock)
        self._prefix = prefix
        self._connect_timeout_s, self._timeout_s = connect_timeout_s, timeout_s
        self._clients = RedisClients(url, connect_timeout_s=connect_timeout_s, timeout_s=timeout_s)
        self._commands = RedisCommands(
            prefix,
            is_cluster=self._clients.is_cluster,
            max_value_bytes=max_value_bytes or _MAX_VALUE_BYTES,
            where=self._clients.where,
        )

    @classmethod
    def from_url(cls, url: str, **options: Any) -> RedisStore:
        """Return the store of a URL of Redis."""
        return cls(url, **options)

    def _name(self) -> str:
        return f"RedisStore({self._clients.where}, prefix {self._prefix!r})"

    # -- on threads -----------------------------------------------------------------------------------

    def _open(self) -> None:
        # A separate client: the first answer may be given less time than later ones.
        with self._mapped_errors(sent=False):
            client = self._clients.make(timeout_s=self._connect_timeout_s)
            try:
                client.ping()
            finally:
                self._clients.close_one(client)

    def _close(self) -> None:
        self._clients.close()

    def _read(self, key: str) -> Row | None:
        return next(iter(self._run(self._commands.read([key]))), None)

    def _read_many(self, keys: Sequence[str]) -> Iterable[Row]:
        return self._run(self._commands.read(keys))

    def _read_all(self, prefix: str) -> Iterable[Row]:
        return self._run(self._commands.read_all(prefix))

    def _write(self, rows: Sequence[Row], rule: WriteRule) -> Sequence[Row]:
        return self._run(self._commands.write(rows, rule))

    def _remove(self, key: str, rule: RemoveRule) -> bool:
        return self._run(self._commands.remove(key, rule))

    def _remove_all(self, prefix: str) -> None:
        self._run(self._commands.remove_all(prefix))

    def _remove_expired(self, now: float, prefix: str) -> int:
        return self._run(self._commands.remove_expired(now, prefix))

    def _run(self, steps: Steps[_T]) -> _T:
        """Run commands on the calling thread."""
        replies: Any = None
        while True:
            try:
                wanted = steps.send(replies)
            except StopIteration as finished:
                result: _T = finished.value
                return result
            with self._asking() as client:
                if isinstance(wanted, Scan):
                    replies = list(client.scan_iter(match=wanted.pattern, count=_SCAN_COUNT))
                elif len(wanted) == 1:
                    replies = [client.execute_command(*wanted[0])]
                else:
                    replies = _queued(client, wanted).execute() if wanted else []

    @contextmanager
    def _asking(self) -> Iterator[Any]:
        """Yield the client, and map errors; what fails before there is a connection was not sent."""
        with self._mapped_errors(sent=False):
            client = self._clients.blocking()
            if not self._clients.is_cluster:
                # An idle connection that the server closed is noticed, and replaced, here.
                pool = client.connection_pool
                pool.release(pool.get_connection())
        with self._mapped_errors(sent=True):
            yield client

    # -- on an event loop -----------------------------------------------------------------------------

    async def ainit(self) -> None:
        """Open the store, unless it is open."""
        if self._ready:
            return
        if self._clients.is_cluster:
            await super().ainit()
            return
        with self._mapped_errors(sent=False):
            client = self._clients.make_async(timeout_s=self._connect_timeout_s)
            try:
                await client.ping()
            finally:
                await self._clients.aclose_one(client)
        self._ready = True

    async def aclose(self) -> None:
        """Close the store."""
        self._threads.close()
        if self._ready:
            self._ready = False
            await self._clients.aclose()

    async def aget(self, key: str) -> StateRecord | None:
        """Return the record, or None."""
        self._check_ready()
        rows = await self._arun(self._commands.read([check_key(key)]))
        return self._record_if_live(rows[0] if rows else None)

    async def aget_many(self, keys: Iterable[str]) -> dict[str, StateRecord]:
        """Return the existing records of several keys."""
        self._check_ready()
        wanted = list(dict.fromkeys(map(check_key, keys)))
        return self._live_of(wanted, await self._arun(self._commands.read(wanted)))

    async def aget_all(self, prefix: str = "") -> list[StateRecord]:
        """Return every record whose key begins with ``prefix``."""
        self._check_ready()
        return self._live_with(prefix, await self._arun(self._commands.read_all(check_prefix(prefix))))

    async def aset(
        self,
        key: str,
        value: Any,
        *,
        expires_s: float | None = None,
        if_absent: bool = False,
        if_version: str | None = None,
    ) -> StateRecord:
        """Store a value."""
        self._check_ready()
        rule = write_rule(key, if_absent, if_version)
        rows = self._new_rows({key: value}, expires_s)
        return record_of((await self._arun(self._commands.write(rows, rule)))[0])

    async def aset_many(
        self, values: Mapping[str, Any], *, expires_s: float | None = None
    ) -> list[StateRecord]:
        """Set several keys at once."""
        self._check_ready()
        rows = self._new_rows(values, expires_s)
        kept = await self._arun(self._commands.write(rows, WriteRule())) if rows else []
        return [record_of(row) for row in kept]

    async def aput(self, record: StateRecord) -> None:
        """Store a record as it is."""
        self._check_ready()
        await self._arun(self._commands.write([exact_row(record)], WriteRule(exact=True)))

    async def adelete(self, key: str, *, if_version: str | None = None) -> bool:
        """Remove a record; return whether there was one."""
        self._check_ready()
        rule = RemoveRule(self._clock(), if_version)
        return await self._arun(self._commands.remove(check_key(key), rule))

    async def aclear(self, prefix: str = "") -> None:
        """Remove every record whose key begins with ``prefix``."""
        self._check_ready()
        await self._arun(self._commands.remove_all(check_prefix(prefix)))

    async def acleanup_expired(self, prefix: str = "") -> int:
        """Remove expired records; return how many there were."""
        self._check_ready()
        return await self._arun(self._commands.remove_expired(self._clock(), check_prefix(prefix)))

    async def _arun(self, steps: Steps[_T]) -> _T:
        """Run commands on the running event loop; those of a cluster on threads.

        The event-loop client of redis-py for clusters closes connections that other calls use while it
        discovers the nodes.
        """
        if self._clients.is_cluster:
            return await self._threads.run(self._run, steps)
        replies: Any = None
        while True:
            try:
                wanted = steps.send(replies)
            except StopIteration as finished:
                result: _T = finished.value
                return result
            async with self._aasking() as client:
                if isinstance(wanted, Scan):
                    replies = [n async for n in client.scan_iter(match=wanted.pattern, count=_SCAN_COUNT)]
                elif len(wanted) == 1:
                    replies = [await client.execute_command(*wanted[0])]
                else:
                    replies = await _queued(client, wanted).execute() if wanted else []

    @asynccontextmanager
    async def _aasking(self) -> AsyncIterator[Any]:
        with self._mapped_errors(sent=False):
            client = self._clients.asynchronous()
            if not self._clients.is_cluster:
                pool = client.connection_pool
                await pool.release(await pool.get_connection())
        with self._mapped_errors(sent=True):
            yield client

    # -- errors ---------------------------------------------------------------------------------------

    @contextmanager
    def _mapped_errors(self, *, sent: bool) -> Iterator[None]:
        try:
            yield
        except (redis.RedisError, OSError) as error:
            raise self._error_for(error, sent=sent) from error

    def _error_for(self, error: Exception, *, sent: bool) -> StateError:
        """Return our error for one of the driver's."""
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
            return StateCorruptError(f"{self._clients.where}, a key under {self._prefix!r}", reason)
        if isinstance(error, redis.TimeoutError | TimeoutError):
            reason = f"no answer within {self._timeout_s:g} s" if sent else "did not answer in time"
        answered = isinstance(error, redis.ResponseError)
        return StateUnavailableError(
            self._name(), reason, applied="unknown" if sent and not answered else "no"
        )


def _queued(client: Any, commands: Iterable[tuple[Any, ...]]) -> Any:
    """Return a pipeline of commands, which is not a transaction."""
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    return pipeline
