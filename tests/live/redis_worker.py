"""A worker of a redis channel without its app: a handler with its live connection."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from delivery_target import Target, live_delivery

from rambla_py._internal.tls import TlsTable
from rambla_py.delivery import Delivery
from rambla_py.errors import ConnectionLostError
from rambla_py.handler import State
from rambla_py.handlers.redis import RedisHandler
from rambla_py.policy import Policy
from rambla_py.testing.servers import TlsFiles


class Worker:
    """Stands for a worker: a handler with its live connection, for messages with the options of a channel."""

    def __init__(self, settings: dict[str, Any], options: dict[str, Any]) -> None:
        self.handler = RedisHandler(RedisHandler.Connection(**settings), channel="orders", service="redis")
        self.options = RedisHandler.Options(**options)
        self.connection = self.handler.connect()
        self.state = State(self.connection, "orders", "redis")

    def publish(self, payloads: Iterable[Any]) -> list[Any]:
        return self.handler.handle_batch([self.message(n, p) for n, p in enumerate(payloads)], self.state)

    def message(self, seq: int, payload: Any) -> Delivery:
        return live_delivery(
            payload=payload,
            target=Target("redis"),
            receipt=None,
            seq=seq,
            accepted_at=0.0,
            options=self.options,
            policy=Policy(),
            headers={},
        )

    def close(self) -> None:
        self.handler.close(self.connection)


@contextmanager
def worker(server: Any, settings: dict[str, Any] | None = None, **options: Any) -> Iterator[Worker]:
    with closing(Worker({"host": server.host, "port": server.port, **(settings or {})}, options)) as made:
        yield made


def refusal(**settings: Any) -> ConnectionLostError:
    """Return the error of a connect that must fail."""
    with pytest.raises(ConnectionLostError) as caught:
        RedisHandler(RedisHandler.Connection(**settings)).connect()
    return caught.value


def tls_table_of(files: TlsFiles | None, **settings: Any) -> Any:
    from_files = {} if files is None else {"ca_file": str(files.authority)}
    return TlsTable(**from_files, **settings)
