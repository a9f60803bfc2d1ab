"""This module asks sentinels where the master is, and listens when it moves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from rambla_py.errors import AccessError, ConnectionLostError
from rambla_py.handlers.redis.settings import Address, RedisConnection, address_of, sentinels_of
from rambla_py.handlers.redis.urls import Node
from rambla_py.handlers.redis.wire import RedisWire

__all__ = ["Sentinels", "WatchedWire"]

_MOVED = b"+switch-master"


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
                node, watch = self._ask(sentinel)
            except ConnectionLostError as error:
                problems.append(error)
                continue
            return self._open(node, sentinel, watch)
        raise self._nobody(problems)

    def _ask(self, sentinel: Address) -> tuple[Node, RedisWire]:
        """Return where the master is, and a connection to the sentinel that will tell when it moves."""
        timeout_s = self._settings.connect_timeout_s
        wire = RedisWire(sentinel, connect_timeout_s=timeout_s, read_timeout_s=timeout_s)
        try:
            # A move between the two goes unheard; the server then says READONLY, as it does without all this.
            node = self._place(wire)
            with suppress(ConnectionLostError):  # who may not listen does without
                wire.ask(b"SUBSCRIBE", _MOVED)
            if wire.lost is not None:
                raise wire.lost
            return node, wire
        except BaseException:
            wire.close()
            raise

    def _place(self, wire: RedisWire) -> Node:
        told = wire.ask(b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", self.master.encode())
        if told is not None:
            return Node(told[0].decode(), int(told[1]))
        known = ", ".join(_names(wire)) or "none"
        raise ConnectionLostError(f"{wire.address.where} knows no master {self.master!r}; it knows: {known}")

    def _open(self, node: Node, sentinel: Address, watch: RedisWire) -> RedisWire:
        address = address_of(self._settings)._replace(host=node.host, port=node.port, path=None)
        try:
            wire = WatchedWire(address, self._settings, watch, self.master)
            self._check_role(wire)
        except ConnectionLostError as error:
            watch.close()
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


class WatchedWire(RedisWire):
    """A connection to a master that is lost as soon as its sentinel says that another server is the master.

    The old one may take writes for ten seconds more, all of which it forgets when it becomes a replica. Once
    the connection to the sentinel is lost nobody listens, and the master is taken for one until it says no.
    """

    def __init__(self, address: Address, settings: RedisConnection, watch: RedisWire, name: str) -> None:
        self._watch, self._lead = watch, name.encode() + b" "
        super().__init__(
            address, connect_timeout_s=settings.connect_timeout_s, read_timeout_s=settings.read_timeout_s
        )

    def check(self) -> None:
        """Raise ``ConnectionLostError`` when the server has gone, or is the master no longer."""
        for told in self._watch.pushed():
            master = self._master_of(told)
            if self.lost is None and master not in (None, self.address.node):
                self.lost = ConnectionLostError(
                    f"{self.address.where} is the master no longer: the sentinels made it {master}"
                )
        super().check()

    def close(self) -> None:
        """Close at once, and stop to listen."""
        self._watch.close()
        super().close()

    def _master_of(self, told: Any) -> Node | None:
        """Return the new master that a message of the sentinel names; None when it is about another thing."""
        if not isinstance(told, list) or told[:2] != [b"message", _MOVED]:
            return None
        if not told[2].startswith(self._lead):
            return None
        host, port = told[2].decode().split(" ")[-2:]
        return Node(host, int(port))


def _names(wire: RedisWire) -> Iterator[str]:
    """Yield the names of the masters that a sentinel watches, for whoever misspelled one."""
    try:
        masters = wire.ask(b"SENTINEL", b"MASTERS")
    except ConnectionLostError:
        return
    for fields in masters:
        found = dict(zip(fields[::2], fields[1::2], strict=True))
        yield repr(found[b"name"].decode())
