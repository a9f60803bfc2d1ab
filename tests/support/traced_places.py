"""Places that traced messages land in: one channel on each kind of server, and how to look there."""

from __future__ import annotations

import asyncio
import email
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import kombu
import nats
import pika
import psycopg
import pytest
import redis
from kafka_records import records_of
from object_worker import Bucket
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from small_apps import Seen

from rambla_py.handlers import memory as memory_handler
from rambla_py.testing.databases import PostgresServer

TIMEOUT_S = 20.0
FIELDS = ("traceparent", "tracestate", "baggage")

Ask = Callable[[str], Any]
"""Returns a fixture by its name."""


class Place(NamedTuple):
    """One channel: its tables, what its spans show, and where its messages landed.

    ``landed`` returns the headers of each message by the number in it; ``fields`` are the headers of a trace
    that it keeps. ``payload`` makes the message of a number.
    """

    service: str
    settings: dict[str, Any]
    options: dict[str, Any]
    landed: Callable[[], dict[int, Mapping[str, Any]]]
    system: str = "rambla"
    destination: str = "orders"
    server: Any = None
    attributes: dict[str, Any] = {}
    fields: tuple[str, ...] = FIELDS
    payload: Callable[[int], Any] = lambda number: {"n": number}

    @property
    def table(self) -> dict[str, Any]:
        """The configuration: the channel ``orders`` of one service."""
        channels = {"orders": {"options": self.options}}
        return {self.service: {"connections": {"one": self.settings}, "channels": channels}}


PLACES: dict[str, Callable[[Ask], AbstractContextManager[Place]]] = {}


def place(function: Callable[[Ask], Iterator[Place]]) -> Callable[[Ask], Iterator[Place]]:
    """Add a place to ``PLACES``, under the name of its function."""
    PLACES[function.__name__] = contextmanager(function)
    return function


def number_in(body: str | bytes) -> int:
    return int(json.loads(body)["n"])


# -- brokers ----------------------------------------------------------------------------------------------


@place
def amqp(ask: Ask) -> Iterator[Place]:
    server, queue = ask("rabbitmq"), ask("queue_name")

    def landed() -> dict[int, Mapping[str, Any]]:
        found = {}
        with pika.BlockingConnection(pika.URLParameters(server.url)) as connection:
            channel = connection.channel()
            for _ in range(3):
                _, properties, body = channel.basic_get(queue, auto_ack=True)
                found[number_in(body)] = properties.headers
            channel.queue_delete(queue)
        return found

    options = {"routing_key": queue, "declare": {"queue": {"name": queue}}}
    key = {"messaging.rabbitmq.destination.routing_key": queue}
    yield Place("amqp", {"url": server.url}, options, landed, "rabbitmq", queue, server, key)


def _taken(url: str, queue: str) -> dict[int, Mapping[str, Any]]:
    """Take what a client of kombu finds in a queue."""
    found = {}
    with kombu.Connection(url) as connection, connection.SimpleQueue(queue) as messages:
        for _ in range(3):
            message = messages.get(timeout=TIMEOUT_S)
            message.ack()
            found[message.payload["n"]] = message.headers
    return found


@place
def kombu_on_rabbitmq(ask: Ask) -> Iterator[Place]:
    server, queue = ask("rabbitmq"), ask("queue_name")
    landed = partial(_taken, server.url, queue)
    yield Place("kombu", {"url": server.url}, {"queue": queue}, landed, "rabbitmq", queue, server)


@place
def kombu_on_redis(ask: Ask) -> Iterator[Place]:
    server, queue = ask("redis_server"), ask("queue_name")
    landed = partial(_taken, server.url, queue)
    yield Place("kombu", {"url": server.url}, {"queue": queue}, landed, "redis", queue, server)


@place
def kafka(ask: Ask) -> Iterator[Place]:
    cluster = ask("kafka_cluster")

    def landed() -> dict[int, Mapping[str, Any]]:
        found = {}
        for record in records_of(cluster, "paid"):
            names = [name for name, _ in record.headers()]
            assert len(names) == len(set(names)), f"once each: {names}"
            found[number_in(record.value())] = {name: value.decode() for name, value in record.headers()}
        return found

    host, _, port = cluster.servers.split(",")[0].rpartition(":")
    attributes = {
        "server.address": host,
        "server.port": int(port),
        "messaging.destination.partition.id": "1",
    }
    options = {"topic": "paid", "partition": 1}
    yield Place("kafka", {"servers": cluster.servers}, options, landed, "kafka", "paid", None, attributes)


@place
def nats_stream(ask: Ask) -> Iterator[Place]:
    server, stream = ask("nats_server"), ask("unique_name")

    def asked(question: Callable[[Any], Any]) -> Any:
        async def run() -> Any:
            client = await nats.connect(server.url)
            try:
                return await question(client.jetstream())
            finally:
                await client.close()

        return asyncio.run(run())

    async def read(js: Any) -> dict[int, Mapping[str, Any]]:
        found = [await js.get_msg(stream, number) for number in (1, 2, 3)]
        return {number_in(message.data): message.headers for message in found}

    subject = f"{stream}.paid"
    asked(lambda js: js.add_stream(name=stream, subjects=[subject]))
    yield Place(
        "nats", {"url": server.url}, {"subject": subject}, partial(asked, read), "nats", subject, server
    )
    asked(lambda js: js.delete_stream(stream))


@place
def mqtt(ask: Ask) -> Iterator[Place]:
    server, topic = ask("mosquitto"), ask("unique_name")
    heard, subscribed = Seen(), Seen()
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.on_message = lambda client, userdata, message: heard.append(message)
    client.on_subscribe = lambda *granted: subscribed.append(granted)
    client.connect(server.host, server.port)
    client.loop_start()
    client.subscribe(topic, 1)
    subscribed.wait()

    def landed() -> dict[int, Mapping[str, Any]]:
        return {number_in(one.payload): dict(one.properties.UserProperty) for one in heard.wait(3)}

    settings = {"host": server.host, "port": server.port}
    yield Place("mqtt", settings, {"topic": topic}, landed, "mqtt", topic, server)
    client.disconnect()
    client.loop_stop()
    client._reset_sockets()  # paho leaves those that wake its thread to the collector


@place
def redis_xadd(ask: Ask) -> Iterator[Place]:
    server, stream = ask("redis_server"), ask("stream_name")

    def landed() -> dict[int, Mapping[str, Any]]:
        with redis.Redis.from_url(server.url, decode_responses=True) as client:
            entries: Any = client.xrange(stream)
        return {number_in(fields["payload"]): fields for _, fields in entries}

    options = {"command": "xadd", "stream": stream}
    yield Place("redis", {"url": server.url}, options, landed, "redis", stream, server)


@place
def redis_rpush(ask: Ask) -> Iterator[Place]:
    server, name = ask("redis_server"), ask("unique_name")

    def landed() -> dict[int, Mapping[str, Any]]:
        with redis.Redis.from_url(server.url, decode_responses=True) as client:
            assert client.lrange(name, 0, -1) == ['{"n":0}', '{"n":1}', '{"n":2}']
        return {0: {}, 1: {}, 2: {}}

    options = {"command": "rpush", "list": name}
    yield Place("redis", {"url": server.url}, options, landed, "redis", name, server, fields=())


# -- servers ----------------------------------------------------------------------------------------------

_OK = {"http.request.method": "POST", "http.response.status_code": 200}


@place
def http(ask: Ask) -> Iterator[Place]:
    server = ask("web_server")

    def landed() -> dict[int, Mapping[str, Any]]:
        return {number_in(request.body): request.headers for request in server.seen}

    yield Place("http", {"url": server.url}, {}, landed, server=server, attributes=_OK)


@place
def http_cloudevents(ask: Ask) -> Iterator[Place]:
    server = ask("web_server")

    def landed() -> dict[int, Mapping[str, Any]]:
        return {
            number_in(request.body): {
                name.removeprefix("ce-"): value
                for name, value in request.headers.items()
                if name.startswith("ce-")
            }
            for request in server.seen
        }

    options = {"serializer": "cloudevents-binary", "event_source": "/shop", "event_type": "paid"}
    fields = ("traceparent", "tracestate")
    yield Place("http", {"url": server.url}, options, landed, server=server, attributes=_OK, fields=fields)


@place
def smtp(ask: Ask) -> Iterator[Place]:
    server, ann = ask("smtp_server"), ask("ann")

    def landed() -> dict[int, Mapping[str, Any]]:
        mails = [email.message_from_bytes(one.content) for one in server.mails(ann)]
        return {int(mail["Subject"]): {name.lower(): value for name, value in mail.items()} for mail in mails}

    settings = {"relay": server.host, "port": server.port, "tls": "never", "from": "shop@example.com"}
    yield Place(
        "smtp",
        settings,
        {"to": [ann]},
        landed,
        server=server,
        fields=("traceparent", "tracestate"),
        payload=lambda number: {"subject": str(number), "text": "paid"},
    )


# -- stores -----------------------------------------------------------------------------------------------


@place
def s3(ask: Ask) -> Iterator[Place]:
    bucket: Bucket = ask("bucket")

    def landed() -> dict[int, Mapping[str, Any]]:
        found = [bucket.get(name) for name in bucket.names()]
        return {number_in(one["Body"]): one["Metadata"] for one in found}

    settings = bucket.settings()
    settings["secret_access_key"] = "test-secret"
    yield Place("objects", settings, {}, landed, server=bucket.server)


def _other_store(server: Any, prefix: str) -> Place:
    def landed() -> dict[int, Mapping[str, Any]]:
        return {number_in(one.body): one.metadata for one in server.stored(prefix)}

    settings = server.settings()
    settings["url"] += f"/{prefix}"
    return Place("objects", settings, {}, landed, server=server)


@place
def google(ask: Ask) -> Iterator[Place]:
    yield _other_store(ask("gs_server"), ask("unique_name"))


@place
def azure(ask: Ask) -> Iterator[Place]:
    yield _other_store(ask("az_server"), ask("unique_name"))


_COLUMNS = {"n": "payload.n::integer", **{name: f"headers.{name}::varchar(80)" for name in FIELDS}}
_SELECT = "SELECT n, traceparent, tracestate, baggage FROM"


def _rows(rows: list[tuple[Any, ...]]) -> dict[int, Mapping[str, Any]]:
    return {number: dict(zip(FIELDS, values, strict=True)) for number, *values in rows}


@place
def sqlite(ask: Ask) -> Iterator[Place]:
    path: Path = ask("tmp_path") / "shop.db"

    def landed() -> dict[int, Mapping[str, Any]]:
        with closing(sqlite3.connect(path)) as connection:
            return _rows(connection.execute(f"{_SELECT} paid").fetchall())

    options = {"table": "paid", "columns": _COLUMNS, "create_table": True}
    attributes = {"db.system.name": "sqlite", "db.collection.name": "paid"}
    url = f"sqlite:///{path}"
    yield Place("sql", {"url": url}, options, landed, destination="paid", attributes=attributes)


@place
def postgresql(ask: Ask) -> Iterator[Place]:
    server: PostgresServer = ask("postgres_server")
    table = f"paid_{ask('unique_name')[-8:]}"

    def landed() -> dict[int, Mapping[str, Any]]:
        with psycopg.connect(server.url, autocommit=True) as connection:
            found = _rows(connection.execute(f"{_SELECT} {table}".encode()).fetchall())
            connection.execute(f"DROP TABLE {table}".encode())
        return found

    options = {"table": table, "columns": _COLUMNS, "create_table": True}
    attributes = {"db.system.name": "postgresql", "db.collection.name": table}
    yield Place("sql", {"url": server.url}, options, landed, "rambla", table, server, attributes)


@place
def clickhouse(ask: Ask) -> Iterator[Place]:
    server, table = ask("clickhouse"), ask("unique_name")
    server.query(f"CREATE TABLE `{table}` (n Int32) ENGINE = MergeTree ORDER BY n")

    def landed() -> dict[int, Mapping[str, Any]]:
        rows = server.query(f"SELECT n FROM `{table}`").split()
        server.query(f"DROP TABLE `{table}`")
        return {int(number): {} for number in rows}

    attributes = {"db.system.name": "clickhouse", "db.collection.name": table}
    settings = {"host": server.host, "port": server.port}
    yield Place(
        "clickhouse", settings, {"table": table}, landed, "rambla", table, server, attributes, fields=()
    )


@place
def state(ask: Ask) -> Iterator[Place]:
    path: Path = ask("tmp_path") / "state.db"

    def landed() -> dict[int, Mapping[str, Any]]:
        with closing(sqlite3.connect(path)) as connection:
            assert "traceparent" not in "".join(connection.iterdump())
        return {0: {}, 1: {}, 2: {}}

    yield Place("state", {"url": f"sqlite:///{path}"}, {}, landed, fields=())


# -- without a server -------------------------------------------------------------------------------------


@place
def file(ask: Ask) -> Iterator[Place]:
    path: Path = ask("tmp_path") / "paid.jsonl"

    def landed() -> dict[int, Mapping[str, Any]]:
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        return {line["payload"]["n"]: line["headers"] for line in lines}

    yield Place("file", {"path": str(path)}, {"record": "full"}, landed)


@place
def file_of_payloads(ask: Ask) -> Iterator[Place]:
    path: Path = ask("tmp_path") / "paid.jsonl"

    def landed() -> dict[int, Mapping[str, Any]]:
        return {json.loads(line)["n"]: json.loads(line) for line in path.read_text("utf-8").splitlines()}

    yield Place("file", {"path": str(path)}, {}, landed, fields=())


@place
def console(ask: Ask) -> Iterator[Place]:
    capture: pytest.CaptureFixture[str] = ask("capsys")

    def landed() -> dict[int, Mapping[str, Any]]:
        lines = [json.loads(line) for line in capture.readouterr().out.splitlines()]
        return {line["payload"]["n"]: line["headers"] for line in lines}

    yield Place("console", {}, {"record": "full"}, landed)


@place
def memory(ask: Ask) -> Iterator[Place]:
    name = ask("unique_name")

    def landed() -> dict[int, Mapping[str, Any]]:
        records = memory_handler.store(name).messages("orders")
        return {record.payload["n"]: record.headers for record in records}

    yield Place("memory", {"name": name}, {}, landed)
    memory_handler.forget(name)
