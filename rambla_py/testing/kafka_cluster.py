"""A Kafka cluster of librdkafka's own mock brokers: real sockets, the real protocol.

::

    with KafkaCluster(brokers=3) as cluster:
        Producer({"bootstrap.servers": cluster.servers})

The brokers live in this process. What they can be made to do (errors for the next requests, a broker that
goes, another address) is reached through the library that confluent-kafka brings.
"""

from __future__ import annotations

import ctypes
import importlib.util
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rambla_py.testing.server_process import ServerError

__all__ = ["PRODUCE", "KafkaCluster"]

PRODUCE = 0
"""The number of the request that carries messages, for ``fail_next``."""

INIT_PRODUCER_ID = 22
METADATA = 3

_PRODUCER = 0
_ERROR_BYTES = 512


class KafkaCluster:
    """Mock brokers on free ports of 127.0.0.1, numbered from 1; data is gone with ``close``.

    Its state is librdkafka's and lives on a thread there; calls may come from any thread.
    """

    def __init__(self, brokers: int = 3) -> None:
        self._brokers = brokers
        self._library: Any = None
        self._client: Any = None
        self._cluster: Any = None

    def __repr__(self) -> str:
        return f"<KafkaCluster {self.servers if self._cluster else 'stopped'}>"

    @classmethod
    def missing(cls) -> str | None:
        """Return what to install when the library is absent, or None when it is there."""
        return None if _library_path() else "confluent-kafka"

    @property
    def servers(self) -> str:
        """``host:port`` of each broker, with commas."""
        return str(self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode())

    @property
    def url(self) -> str:
        """The same as ``servers``, by the name that other servers have."""
        return self.servers

    def start(self) -> Self:
        """Start the brokers, which answer at once."""
        path = _library_path()
        if path is None:
            raise ServerError(repr(self), "confluent-kafka is missing, or brings no library of its own")
        self._library = _declared(ctypes.CDLL(str(path)))
        error = ctypes.create_string_buffer(_ERROR_BYTES)
        configuration = self._library.rd_kafka_conf_new()
        # It would log that it has no broker: this client connects to none.
        self._library.rd_kafka_conf_set(configuration, b"log_level", b"0", error, _ERROR_BYTES)
        self._client = self._library.rd_kafka_new(_PRODUCER, configuration, error, _ERROR_BYTES)
        if not self._client:
            raise ServerError(repr(self), error.value.decode())
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._client, self._brokers)
        return self

    def close(self) -> None:
        """End the brokers; may be called twice."""
        cluster, self._cluster = self._cluster, None
        client, self._client = self._client, None
        if cluster:
            self._library.rd_kafka_mock_cluster_destroy(cluster)
        if client:
            self._library.rd_kafka_destroy(client)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def create_topic(self, topic: str, partitions: int = 4, replicas: int = 1) -> None:
        """Create a topic; one that is produced to is created automatically, with four partitions."""
        self._do("rd_kafka_mock_topic_create", topic.encode(), partitions, replicas)

    def fail_next(self, request: int, *codes: int) -> None:
        """Answer the next requests of a kind with these error codes; 0 lets one through."""
        array = (ctypes.c_int * len(codes))(*codes)
        self._library.rd_kafka_mock_push_request_errors_array(
            self._cluster, ctypes.c_int16(request), ctypes.c_size_t(len(codes)), array
        )

    def forgive(self, request: int) -> None:
        """Cancel what is left of ``fail_next``."""
        self._library.rd_kafka_mock_clear_request_errors(self._cluster, ctypes.c_int16(request))

    def set_topic_error(self, topic: str, code: int) -> None:
        """Make metadata report this error for a topic; 0 ends it."""
        self._library.rd_kafka_mock_topic_set_error(self._cluster, topic.encode(), code)

    def down(self, *brokers: int) -> None:
        """Close these brokers' connections and take no new ones; all brokers where none is named."""
        for broker in brokers or range(1, self._brokers + 1):
            self._do("rd_kafka_mock_broker_set_down", broker)

    def up(self, *brokers: int) -> None:
        """Let brokers take connections again; all where none is named."""
        for broker in brokers or range(1, self._brokers + 1):
            self._do("rd_kafka_mock_broker_set_up", broker)

    def delay(self, delay_s: float) -> None:
        """Delay every answer of the brokers by so many seconds; 0 ends it."""
        for broker in range(1, self._brokers + 1):
            self._do("rd_kafka_mock_broker_set_rtt", broker, round(delay_s * 1000))

    def advertise(self, broker: int, host: str, port: int) -> None:
        """Make the metadata report this address for a broker, such as that of a proxy in front of it."""
        self._do("rd_kafka_mock_broker_set_host_port", broker, host.encode(), port)

    def _do(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(self._cluster, *arguments)
        if code:
            raise ServerError(repr(self), f"{name} failed with code {code}")


def _library_path() -> Path | None:
    """Return the path of librdkafka in the driver's wheel; None without the driver."""
    found = importlib.util.find_spec("confluent_kafka")
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent.parent / "confluent_kafka.libs"
    return next(iter(sorted(folder.glob("librdkafka*"))), None)


def _declared(library: Any) -> Any:
    """Declare to ctypes the types that are not ints."""
    for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_mock_cluster_new"):
        getattr(library, name).restype = ctypes.c_void_p
    library.rd_kafka_new.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
    library.rd_kafka_conf_set.argtypes = [
        ctypes.c_void_p,
        ctypes.c_char_p,
        ctypes.c_char_p,
        ctypes.c_char_p,
        ctypes.c_size_t,
    ]
    library.rd_kafka_destroy.argtypes = [ctypes.c_void_p]
    library.rd_kafka_mock_cluster_new.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.rd_kafka_mock_cluster_destroy.argtypes = [ctypes.c_void_p]
    library.rd_kafka_mock_cluster_bootstraps.argtypes = [ctypes.c_void_p]
    library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    topic, pointer, number = ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int
    library.rd_kafka_mock_topic_create.argtypes = [pointer, topic, number, number]
    library.rd_kafka_mock_topic_set_error.argtypes = [pointer, topic, number]
    library.rd_kafka_mock_topic_set_error.restype = None
    library.rd_kafka_mock_push_request_errors_array.argtypes = [
        pointer,
        ctypes.c_int16,
        ctypes.c_size_t,
        ctypes.POINTER(ctypes.c_int),
    ]
    library.rd_kafka_mock_push_request_errors_array.restype = None
    library.rd_kafka_mock_clear_request_errors.argtypes = [pointer, ctypes.c_int16]
    library.rd_kafka_mock_clear_request_errors.restype = None
    broker = ctypes.c_int32
    library.rd_kafka_mock_broker_set_down.argtypes = [pointer, broker]
    library.rd_kafka_mock_broker_set_up.argtypes = [pointer, broker]
    library.rd_kafka_mock_broker_set_rtt.argtypes = [pointer, broker, number]
    library.rd_kafka_mock_broker_set_host_port.argtypes = [pointer, broker, topic, number]
    return library
