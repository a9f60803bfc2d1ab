"""A worker of a redis channel on a cluster, without its app."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from redis.crc import key_slot
from redis_worker import Worker

from rambla_py.testing.redis_groups import RedisCluster


@contextmanager
def worker(cluster: RedisCluster, settings: dict[str, Any] | None = None, **options: Any) -> Iterator[Worker]:
    with closing(Worker({"cluster": cluster.addresses[:2], **(settings or {})}, options)) as made:
        yield made


def publish_to(w: Worker, option: str, names: list[str], **options: Any) -> list[Any]:
    """Deliver a batch with a message for each name, its number the payload."""
    messages = [w.message(number, str(number)) for number in range(len(names))]
    for message, name in zip(messages, names, strict=True):
        message.options = w.handler.Options(**{**options, option: name})
    return w.handler.handle_batch(messages, w.state)


@contextmanager
def every_node_alone(cluster: RedisCluster) -> Iterator[None]:
    """Have each node serve its slots although others are gone, and no replica take over."""
    usual = {"cluster-require-full-coverage": "yes", "cluster-replica-no-failover": "no"}
    unusual = {"cluster-require-full-coverage": "no", "cluster-replica-no-failover": "yes"}
    try:
        _configure(cluster, unusual)
        yield
    finally:
        _configure(cluster, usual)  # one that is gone comes back with it


def _configure(cluster: RedisCluster, values: dict[str, str]) -> None:
    for node in cluster.awake():
        for name, value in values.items():
            node.cli("CONFIG", "SET", name, value)


def name_in(slot: int, lead: str) -> str:
    """Return a key of a slot."""
    return next(key for n in range(1_000_000) if key_slot((key := f"{lead}-{n}").encode()) == slot)
