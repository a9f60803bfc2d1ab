"""What ``rambla check`` finds on real servers, and that it leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nats
import pika
import psycopg
import pymysql
import pytest
import redis
from nats.js.api import StreamConfig
from object_fixtures import s3_client
from web_server import WebServer

from rambla_py import Handler, Preflight
from rambla_py.config import load_config
from rambla_py.runtime.ping import Pinged, check_all
from rambla_py.telemetry.error_text import ErrorText
from rambla_py.testing.clickhouse_server import ClickHouseServer
from rambla_py.testing.databases import MariaDbServer, PostgresServer
from rambla_py.testing.kafka_cluster import KafkaCluster
from rambla_py.testing.mosquitto import MosquittoServer
from rambla_py.testing.nats_server import NatsServer
from rambla_py.testing.s3 import MotoServer
from rambla_py.testing.servers import RabbitMqServer, RedisServer
from rambla_py.testing.smtp_server import SmtpServer

Found = dict[str, Any]


def checked(
    service: str,
    connection: Any,
    options: dict[str, Any] | None = None,
    *,
    channel: str = "orders",
    **more: Any,
) -> Found:
    """Return what the check of one channel finds; ``error`` is what connect or ping raised."""
    table = {
        "connections": {"here": connection},
        "channels": {channel: {"options": options or {}}},
        **more,
    }
    channels = load_config({service: table}).every_channel()
    (one,) = check_all(list(map(Pinged, channels)), 20.0, ErrorText())
    return {
        "error": one.ping.error,
        "problems": [text for text, _ in one.found.problems],
        "hints": [hint for _, hint in one.found.problems],
        "creations": one.found.creations,
        "unchecked": one.found.unchecked,
    }


def is_well(found: Found) -> bool:
    return not found["error"] and not found["problems"]


# -- RabbitMQ -------------------------------------------------------------------------------------------


@pytest.fixture
def declare(rabbitmq: RabbitMqServer) -> Any:
    """A channel to the broker."""
    connection = pika.BlockingConnection(pika.URLParameters(rabbitmq.url))
    yield connection.channel()
    connection.close()


def test_amqp_finds_missing_exchanges_and_queues(
    rabbitmq: RabbitMqServer, declare: Any, unique_name: str
) -> None:
    """A passive declare finds what is missing, and what is there has no problem."""
    for options, text in (
        ({"exchange": unique_name}, f"there is no exchange '{unique_name}'"),
        ({"routing_key": unique_name}, f"there is no queue '{unique_name}'"),
        ({"declare": {"queue": {"name": unique_name, "passive": True}}}, "404"),
    ):
        found = checked("amqp", {"url": rabbitmq.url}, options)
        assert text in found["problems"][0]
        assert not found["error"]
    declare.queue_declare(unique_name)
    declare.exchange_declare(unique_name, "topic")
    assert is_well(checked("amqp", {"url": rabbitmq.url}, {"routing_key": unique_name}))
    found = checked("amqp", {"url": rabbitmq.url}, {"exchange": unique_name, "routing_key": "a"})
    assert is_well(found)
    assert found["unchecked"] == [f"whether exchange '{unique_name}' routes routing key 'a' to a queue"]


def test_amqp_says_what_it_would_declare_and_declares_nothing(
    rabbitmq: RabbitMqServer, declare: Any, unique_name: str
) -> None:
    """Exchange, queue and binding are named; one that exists with other properties is a problem."""
    options = {
        "exchange": unique_name,
        "declare": {"exchange": {"type": "topic"}, "queue": {"name": unique_name}, "bindings": [{}]},
    }
    found = checked("amqp", {"url": rabbitmq.url}, options)
    assert is_well(found)
    assert found["creations"][:2] == [f"exchange '{unique_name}'", f"queue '{unique_name}'"]
    assert found == checked("amqp", {"url": rabbitmq.url}, options)
    declare.exchange_declare(unique_name, "fanout")
    assert "406" in checked("amqp", {"url": rabbitmq.url}, options)["problems"][0]


@pytest.mark.parametrize("exchange", ["amq.topic", ""])
def test_amqp_finds_a_missing_permission_to_write(
    rabbitmq: RabbitMqServer, declare: Any, unique_name: str, exchange: str
) -> None:
    """A user who may only read, and one who may only write: the first is found, the second is well."""
    declare.queue_declare(unique_name)
    url = rabbitmq.url.replace("guest:guest", f"{unique_name}:pw")
    rabbitmq.rabbitmqctl("add_user", unique_name, "pw")
    options = {"exchange": exchange, "routing_key": unique_name}
    for write, read, well in (("^$", ".*", False), ("^(amq.topic|amq.default)$", "^$", True)):
        rabbitmq.rabbitmqctl("set_permissions", "-p", "/", unique_name, "^$", write, read)
        found = checked("amqp", {"url": url}, options)
        assert is_well(found) == well, found
        if not well:
            assert "no permission to write to exchange" in found["problems"][0]
    rabbitmq.rabbitmqctl("delete_user", unique_name)


def test_amqp_sends_messages_without_exchange_and_key_to_the_queue_of_the_channel(
    rabbitmq: RabbitMqServer, declare: Any, unique_name: str
) -> None:
    """The routing key is the channel's name then."""
    declare.queue_declare(unique_name)
    assert is_well(checked("amqp", {"url": rabbitmq.url}, channel=unique_name))
    declare.queue_delete(unique_name)


# -- other brokers --------------------------------------------------------------------------------------


def test_kafka_finds_a_missing_topic_and_creates_none(kafka_cluster: KafkaCluster, unique_name: str) -> None:
    """It is among the topics, or is not."""
    connection = {"servers": kafka_cluster.servers}
    for _ in range(2):
        (text,) = checked("kafka", connection, {"topic": unique_name})["problems"]
        assert f"there is no topic '{unique_name}'" in text
    kafka_cluster.create_topic(unique_name)
    found = checked("kafka", connection, {"topic": unique_name})
    assert is_well(found)
    assert found["unchecked"] in ([], [f"the right to write to topic '{unique_name}'"])


def test_nats_finds_a_subject_without_a_stream(nats_server: NatsServer, unique_name: str) -> None:
    """And a stream that is not the one named; core NATS needs none."""

    async def create() -> None:
        connection = await nats.connect(nats_server.url)
        await connection.jetstream().add_stream(StreamConfig(name=unique_name, subjects=[f"{unique_name}.>"]))
        await connection.close()

    connection, subject = {"url": nats_server.url}, f"{unique_name}.a"
    (text,) = checked("nats", connection, {"subject": subject})["problems"]
    assert text == f"no stream has the subject '{subject}'"
    assert is_well(checked("nats", connection, {"subject": subject, "jetstream": False}))
    asyncio.run(create())
    found = checked("nats", connection, {"subject": subject})
    assert is_well(found)
    assert found["unchecked"] == [f"the right to publish to subject '{subject}'"]
    (text,) = checked("nats", connection, {"subject": subject, "stream": "OTHER"})["problems"]
    assert "not by 'OTHER'" in text


def test_mqtt_names_what_it_cannot_check(mosquitto: MosquittoServer) -> None:
    """MQTT has no question about rights."""
    found = checked("mqtt", {"url": mosquitto.url}, {"topic": "a/b"})
    assert is_well(found)
    assert found["unchecked"] == ["the right to publish to topic 'a/b'"]


def test_kombu_finds_a_missing_queue_and_declares_none(rabbitmq: RabbitMqServer, unique_name: str) -> None:
    """With ``declare`` it would be created, without it is missing."""
    connection = {"url": rabbitmq.url}
    for _ in range(2):
        found = checked("kombu", connection, {"queue": unique_name})
        assert is_well(found)
        assert found["creations"] == [f"queue '{unique_name}'"]
    (text,) = checked("kombu", connection, {"queue": unique_name, "declare": False})["problems"]
    assert f"there is no queue '{unique_name}'" in text


# -- Redis ----------------------------------------------------------------------------------------------


def test_redis_finds_missing_rights_and_wrong_types(redis_server: RedisServer, unique_name: str) -> None:
    """Commands and keys that the user may not use, and a key of another type; no key is written."""
    server = redis.Redis.from_url(redis_server.url)
    server.execute_command(
        "ACL", "SETUSER", unique_name, "on", ">pw", f"~{unique_name}*", "+@all", "-lpush", "resetchannels"
    )
    connection = {"host": "127.0.0.1", "port": redis_server.port, "username": unique_name, "password": "pw"}
    key = f"{unique_name}:key"
    for options, text in (
        ({"command": "xadd", "stream": key}, None),
        ({"command": "rpush", "list": key}, None),
        ({"command": "hset", "hash": key}, None),
        ({"command": "xadd", "stream": "other"}, "NOPERM"),
        ({"command": "lpush", "list": key}, "NOPERM"),
        ({"command": "publish", "topic": "other"}, "NOPERM"),
    ):
        found = checked("redis", connection, options)
        assert not found["error"]
        assert (text in found["problems"][0]) if text else is_well(found), (options, found)
    assert checked("redis", connection)["unchecked"] == ["whether the keys of payloads may be written"]
    assert server.keys(f"{unique_name}*") == []
    server.set(key, "x")
    (text,) = checked("redis", connection, {"command": "xadd", "stream": key})["problems"]
    assert "holds a string; xadd needs a stream" in text
    server.delete(key)
    server.execute_command("ACL", "DELUSER", unique_name)


# -- databases ------------------------------------------------------------------------------------------


def test_sqlite_creates_neither_file_nor_table(tmp_path: Path) -> None:
    """Both are named; without ``create_table`` the missing table is a problem."""
    path = tmp_path / "shop.db"
    connection, creating = {"url": f"sqlite:///{path}"}, {"create_table": True}
    (what,) = checked("sql", connection, creating)["creations"]
    assert what.startswith("table 'orders', and the file of")
    assert not path.exists()
    base = sqlite3.connect(path)
    base.execute("create table other (id text)")
    assert checked("sql", connection, creating)["creations"] == ["table 'orders'"]
    assert "there is no table 'orders'" in checked("sql", connection)["error"]
    assert base.execute("select name from sqlite_master").fetchall() == [("other",)]
    base.execute("create table orders (id text primary key, payload text)")
    assert is_well(checked("sql", connection))
    base.close()


@pytest.mark.parametrize("kind", ["postgres_server", "mariadb_server"])
def test_a_database_finds_a_missing_right_to_insert(
    kind: str, unique_name: str, request: pytest.FixtureRequest
) -> None:
    """A user who may only read, and one who may write; the table stays empty."""
    server: PostgresServer | MariaDbServer = request.getfixturevalue(kind)
    name = unique_name[-8:]
    user = f"u{name}" if kind == "postgres_server" else f"u{name}@'%'"
    identified = "PASSWORD" if kind == "postgres_server" else "IDENTIFIED BY"
    with contextlib.closing(operator_of(server)) as connection:
        cursor = connection.cursor()
        cursor.execute(f"CREATE TABLE t{name} (id varchar(64) primary key, payload text)")
        cursor.execute(f"CREATE USER {user} {identified} 'pw'")
        cursor.execute(f"GRANT SELECT ON t{name} TO {user}")
        scheme, _, rest = server.url.partition("://")
        table = {"url": f"{scheme}://u{name}:pw@{rest.partition('@')[2]}"}
        for options in ({"table": f"t{name}"}, {"table": f"t{name}", "upsert": False}):
            found = checked("sql", table, options)
            assert not found["error"]
            assert "denied" in found["problems"][0]
        cursor.execute(f"GRANT INSERT, UPDATE ON t{name} TO {user}")
        assert is_well(checked("sql", table, {"table": f"t{name}"}))
        cursor.execute(f"SELECT count(*) FROM t{name}")
        assert cursor.fetchone() == (0,)
        cursor.execute(f"DROP TABLE t{name}")
        cursor.execute(f"DROP USER {user}")


def operator_of(server: PostgresServer | MariaDbServer) -> Any:
    """Return a connection of a user who may grant rights."""
    if isinstance(server, PostgresServer):
        return psycopg.connect(server.url, autocommit=True)
    return pymysql.connect(unix_socket=str(server.folder / "s"), user="root", database=server.database)


def test_clickhouse_finds_a_missing_table(clickhouse: ClickHouseServer, unique_name: str) -> None:
    """An insert without rows is refused; where the table is there it adds none."""
    table = unique_name.replace("-", "_")
    connection = {"url": clickhouse.url}
    (text,) = checked("clickhouse", connection, {"table": table})["problems"]
    assert table in text
    clickhouse.query(f"CREATE TABLE {table} (n Int32) ENGINE = Memory")
    assert is_well(checked("clickhouse", connection, {"table": table}))
    assert clickhouse.query(f"SELECT count() FROM {table}").strip() == "0"
    clickhouse.query(f"DROP TABLE {table}")


def test_clickhouse_creates_no_table(clickhouse: ClickHouseServer, unique_name: str) -> None:
    """Each table that would be created is named, and none is."""
    names = [f"{unique_name}_{n}" for n in range(2)]
    tables = {name: {"columns": {"n": "payload.n::integer"}} for name in names}
    found = checked("clickhouse", {"url": clickhouse.url}, {"tables": tables, "create_table": True})
    assert found["creations"] == [f"table {name!r}" for name in names]
    assert clickhouse.query(f"EXISTS TABLE `{names[0]}`").strip() == "0"


# -- the others -----------------------------------------------------------------------------------------


def test_smtp_finds_refused_recipients_and_sends_nothing(
    smtp_server: SmtpServer, ann: str, arrived: Callable[[], list[Any]]
) -> None:
    """The relay is asked about sender and recipients, and no mail arrives."""
    connection = {"relay": "127.0.0.1", "port": smtp_server.port, "tls": "never", "from": "shop@example.com"}
    assert is_well(checked("smtp", connection, {"to": [ann]}))
    found = checked("smtp", connection)
    assert found["unchecked"] == ["whether the relay accepts the recipients: payloads name them"]
    assert arrived() == []


def test_objects_find_a_missing_bucket_and_create_no_folder(
    moto_server: MotoServer, unique_name: str, tmp_path: Path
) -> None:
    """The right to put cannot be checked in S3; a missing folder is named."""
    bucket = unique_name.lower().replace("_", "-").replace(":", "-").strip("-")[:60]
    connection = {
        "url": f"s3://{bucket}",
        "endpoint": moto_server.url,
        "access_key_id": "k",
        "secret_access_key": "s",
    }
    assert checked("objects", connection)["error"]
    s3_client(moto_server).create_bucket(Bucket=bucket)
    found = checked("objects", connection)
    assert is_well(found)
    assert found["unchecked"] == [f"the right to put objects into s3://{bucket}"]
    folder = tmp_path / "a" / "b"
    assert checked("objects", {"url": f"file://{folder}"})["creations"] == [f"folder {folder}"]
    assert list(tmp_path.iterdir()) == []


def test_file_and_state_create_nothing(tmp_path: Path) -> None:
    """Files, folders and stores that would be created are named."""
    path = tmp_path / "a" / "orders.jsonl"
    assert checked("file", {"path": str(path)})["creations"] == [f"folder {path.parent}", f"file {path}"]
    store = tmp_path / "state.db"
    assert checked("state", {"url": f"sqlite:///{store}"})["creations"] == [f"state store {store}"]
    assert list(tmp_path.iterdir()) == []


def test_http_names_what_it_cannot_check(web_server: WebServer) -> None:
    """Whether a request is accepted shows only when it is sent."""
    found = checked("http", {"url": web_server.url}, {"method": "PUT"})
    assert is_well(found)
    assert found["unchecked"] == ["whether the server accepts PUT requests with messages"]


class Checking(Handler):
    """A custom handler that knows that all of its messages would fail."""

    guarantee = "none"

    def handle_publish(self, message: Any, options: Any, state: Any) -> None:
        """Take nothing."""

    def connect(self) -> bool:
        """Return whether it may create something."""
        return not self.dry_run

    async def preflight(self, connection: bool, report: Preflight) -> None:
        """Report one of each kind."""
        report.problem(f"created: {connection}", hint="do this")
        report.would_create("a thing")
        report.not_checked("another thing")


class Silent(Handler):
    """A custom handler without a preflight."""

    guarantee = "none"

    def handle_publish(self, message: Any, options: Any, state: Any) -> None:
        """Take nothing."""


def test_a_custom_handler_may_look_too() -> None:
    """Its preflight may be async; without one the check names what it does not know."""
    found = checked("custom", {}, handler=Checking)
    assert (found["problems"], found["hints"]) == (["created: False"], ["do this"])
    assert (found["creations"], found["unchecked"]) == (["a thing"], ["another thing"])
    assert checked("custom", {}, handler=Silent)["unchecked"] == ["whether messages would be accepted"]
