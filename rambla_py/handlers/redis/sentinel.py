"""Connections to the master that sentinels name, closed when they name another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from rambla_py._internal.redis_urls import Node
from rambla_py.errors import AccessError, ConnectionLostError
from rambla_py.handlers.redis.connection import RedisConnection
from rambla_py.handlers.redis.settings import Address, RedisSettings, address_of, sentinels_of

__all__ = ["Sentinels", "WatchedConnection"]

_MOVED = b"+switch-master"


class Sentinels:
    """The sentinels of a connection's table; the one that answered last is asked first. For one thread."""

    def __init__(self, settings: RedisSettings) -> None:
        self._settings = settings
        self.master, self._sentinels = sentinels_of(settings)

    def connect(self) -> RedisConnection:
        """Return a connection to the master.

        Raises ``ConnectionLostError`` when no sentinel names the master, or the server that they name is
        away or not a master yet; ``AccessError`` when a sentinel or the master refuses the login.
        """
        problems: list[ConnectionLostError] = []
        for sentinel in list(self._sentinels):
            try:
                node, watch = self._ask(sentinel)
            except ConnectionLostError as error:
                problems.append(error)
                continue
            return self._open(node, sentinel, watch)
        raise self._no_answer(problems)

    def _ask(self, sentinel: Address) -> tuple[Node, RedisConnection]:
        """Return the master's address, and a connection on which the sentinel will announce a new master."""
        timeout_s = self._settings.connect_timeout_s
        connection = RedisConnection(sentinel, connect_timeout_s=timeout_s, read_timeout_s=timeout_s)
        try:
            # A failover between the two commands is not announced; the server then replies READONLY.
            node = self._master_address(connection)
            with suppress(ConnectionLostError):  # the user may lack the right to subscribe
                connection.ask(b"SUBSCRIBE", _MOVED)
            if connection.lost is not None:
                raise connection.lost
            return node, connection
        except BaseException:
            connection.close()
            raise

    def _master_address(self, connection: RedisConnection) -> Node:
        reply = connection.ask(b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", self.master.encode())
        if reply is not None:
            return Node(reply[0].decode(), int(reply[1]))
        known = ", ".join(_master_names(connection)) or "none"
        raise ConnectionLostError(
            f"{connection.address.where} knows no master {self.master!r}; it knows: {known}"
        )

    def _open(self, node: Node, sentinel: Address, watch: RedisConnection) -> RedisConnection:
        address = address_of(self._settings)._replace(host=node.host, port=node.port, path=None)
        try:
            connection = WatchedConnection(address, self._settings, watch, self.master)
            self._check_role(connection)
        except ConnectionLostError as error:
            watch.close()
            # This sentinel may not know about a failover yet: the others are asked first next time.
            self._sentinels.sort(key=lambda one: one == sentinel)
            kind = type(error) if isinstance(error, AccessError) else ConnectionLostError
            text = f"{error} ({sentinel.where} named it as the master {self.master!r})"
            raise kind(text) from error.__cause__
        self._sentinels.sort(key=lambda one: one != sentinel)
        return connection

    def _check_role(self, connection: RedisConnection) -> None:
        try:
            role = connection.ask(b"ROLE")[0].decode()
        except ConnectionLostError as error:
            if "NOPERM" in str(error) and connection.lost is None:
                return  # a replica would reply READONLY to the first write
            connection.close()
            raise
        if role != "master":
            connection.close()
            raise ConnectionLostError(
                f"{connection.address.where} is not a master but a {role}; a failover is in progress"
            )

    def _no_answer(self, problems: list[ConnectionLostError]) -> ConnectionLostError:
        refused = any(isinstance(problem, AccessError) for problem in problems)
        kind = AccessError if refused else ConnectionLostError
        details = "; ".join(map(str, problems))
        error = kind(f"no sentinel returned the address of the master {self.master!r}: {details}")
        error.__cause__ = next((problem.__cause__ for problem in problems if problem.__cause__), None)
        return error


class WatchedConnection(RedisConnection):
    """A connection to a master that is lost as soon as its sentinel announces another master.

    The old master may accept writes for another ten seconds, and discards them when it becomes a replica.
    When the connection to the sentinel is lost, the server counts as the master until it replies READONLY.
    """

    def __init__(self, address: Address, settings: RedisSettings, watch: RedisConnection, name: str) -> None:
        self._watch, self._lead = watch, name.encode() + b" "
        super().__init__(
            address, connect_timeout_s=settings.connect_timeout_s, read_timeout_s=settings.read_timeout_s
        )

    def check(self) -> None:
        """Raise ``ConnectionLostError`` when the server has gone, or is no longer the master."""
        for pushed in self._watch.pushed():
            master = self._new_master(pushed)
            if self.lost is None and master not in (None, self.address.node):
                self.lost = ConnectionLostError(
                    f"{self.address.where} is no longer the master: the sentinels promoted {master}"
                )
        super().check()

    def _renew(self) -> None:
        """Have the sentinels asked again: the same address would lead to the same server."""
        self.lost = ConnectionLostError(f"{self.address.where} takes no writes; asking the sentinels")
        raise self.lost

    def close(self) -> None:
        """Close at once, the connection to the sentinel included."""
        self._watch.close()
        super().close()

    def _new_master(self, pushed: Any) -> Node | None:
        """Return the new master that the sentinel announces; None when a message is about another thing."""
        if not isinstance(pushed, list) or pushed[:2] != [b"message", _MOVED]:
            return None
        if not pushed[2].startswith(self._lead):
            return None
        host, port = pushed[2].decode().split(" ")[-2:]
        return Node(host, int(port))


def _master_names(connection: RedisConnection) -> Iterator[str]:
    """Yield the names of the masters that a sentinel watches, to help with a misspelt one."""
    try:
        masters = connection.ask(b"SENTINEL", b"MASTERS")
    except ConnectionLostError:
        return
    for fields in masters:
        found = dict(zip(fields[::2], fields[1::2], strict=True))
        yield repr(found[b"name"].decode())
