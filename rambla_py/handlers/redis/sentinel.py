"""This module asks sentinels where the master is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from rambla_py.errors import AccessError, ConnectionLostError
from rambla_py.handlers.redis.settings import Address, RedisConnection, address_of, sentinels_of
from rambla_py.handlers.redis.urls import Node
from rambla_py.handlers.redis.wire import RedisWire

__all__ = ["Sentinels"]


class Sentinels:
    """The sentinels of a connection's table; who answered last is asked first. For one thread."""

    def __init__(self, settings: RedisConnection) -> None:
        self._settings = settings
        self.master, self._sentinels = sentinels_of(settings)

    def connect(self) -> RedisWire:
        """Return a connection to the master.

        Raises ``ConnectionLostError`` when no sentinel tells where it is, or it is not there, or no master
        yet; ``AccessError`` when the sentinels or the master refuse us.
        """
        problems: list[ConnectionLostError] = []
        for sentinel in list(self._sentinels):
            try:
                node = self._ask(sentinel)
            except ConnectionLostError as error:
                problems.append(error)
                continue
            return self._open(node, sentinel)
        raise self._nobody(problems)

    def _ask(self, sentinel: Address) -> Node:
        timeout_s = self._settings.connect_timeout_s
        with closing(RedisWire(sentinel, connect_timeout_s=timeout_s, read_timeout_s=timeout_s)) as wire:
            told = wire.ask(b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", self.master.encode())
            if told is not None:
                return Node(told[0].decode(), int(told[1]))
            known = ", ".join(_names(wire)) or "none"
        raise ConnectionLostError(f"{sentinel.where} knows no master {self.master!r}; it knows: {known}")

    def _open(self, node: Node, sentinel: Address) -> RedisWire:
        address = address_of(self._settings)._replace(host=node.host, port=node.port, path=None)
        try:
            wire = RedisWire(
                address,
                connect_timeout_s=self._settings.connect_timeout_s,
                read_timeout_s=self._settings.read_timeout_s,
            )
            self._check_role(wire)
        except ConnectionLostError as error:
            # It may be the one that has not heard of a failover: the others are asked first next time.
            self._sentinels.sort(key=lambda one: one == sentinel)
            kind = type(error) if isinstance(error, AccessError) else ConnectionLostError
            raise kind(f"{error} (the master {self.master!r}, says {sentinel.where})") from error.__cause__
        self._sentinels.sort(key=lambda one: one != sentinel)
        return wire

    def _check_role(self, wire: RedisWire) -> None:
        try:
            role = wire.ask(b"ROLE")[0].decode()
        except ConnectionLostError as error:
            if "NOPERM" in str(error) and wire.lost is None:
                return  # a replica would say READONLY at the first write
            wire.close()
            raise
        if role != "master":
            wire.close()
            raise ConnectionLostError(
                f"{wire.address.where} is no master but a {role}; a failover is under way"
            )

    def _nobody(self, problems: list[ConnectionLostError]) -> ConnectionLostError:
        refused = any(isinstance(problem, AccessError) for problem in problems)
        kind = AccessError if refused else ConnectionLostError
        told = "; ".join(map(str, problems))
        error = kind(f"no sentinel tells where the master {self.master!r} is: {told}")
        error.__cause__ = next((problem.__cause__ for problem in problems if problem.__cause__), None)
        return error


def _names(wire: RedisWire) -> Iterator[str]:
    """Yield the names of the masters that a sentinel watches, for whoever misspelled one."""
    try:
        masters = wire.ask(b"SENTINEL", b"MASTERS")
    except ConnectionLostError:
        return
    for fields in masters:
        found = dict(zip(fields[::2], fields[1::2], strict=True))
        yield repr(found[b"name"].decode())
