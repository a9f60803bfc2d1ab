"""2 % of messages are bad, to brokers: what the others go through. Run with ``-rP`` to see the figures."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import nats
import paho.mqtt.client as paho
import pytest
import redis
from broker_apps import app_on
from broker_fixtures import require_kafka
from confluent_kafka import KafkaError
from kafka_proxy import KafkaProxy
from kafka_records import records_of
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from server_fixtures import require

from rambla_py import Message
from rambla_py.outcome import Outcome
from rambla_py.testing.harness import until
from rambla_py.testing.kafka_cluster import KafkaCluster
from rambla_py.testing.mosquitto import MosquittoServer
from rambla_py.testing.nats_server import NatsServer
from rambla_py.testing.servers import RedisServer

NUMBER = 1_000
BAD = frozenset(range(25, NUMBER, 50))
WAIT_S = 60.0
MARK = "harmful"
DENIED_S = 3.0
"""When messages that are not allowed expire: until then they wait for an operator."""


class Sent(NamedTuple):
    """How the messages ended, and how often the connection was lost."""

    outcomes: list[Outcome]
    lost: int


def send(handler: str, connection: dict[str, Any], bad: Callable[[int], Message], **options: Any) -> Sent:
    """Publish 1,000 messages, of which 20 are bad, and return how they ended."""
    channel = options.pop("channel", {})
    with app_on(handler, connection, channel=channel, **options) as app:
        made = [bad(n) if n in BAD else Message(str(n)) for n in range(NUMBER)]
        outcomes = app.publish_many("orders", made).outcomes(timeout_s=WAIT_S)
        return Sent(outcomes, app.status()["broker.orders"].lost_connections)


def check(name: str, sent: Sent, arrived: Iterable[bytes], *, bad: str = "fatal", attempts: int = 1) -> None:
    """Check that each of the others is ok, and came at most twice; print the figures."""
    good = set(range(NUMBER)) - BAD
    copies = Counter(int(body) for body in arrived if body.isdigit() and int(body) in good)
    most = max(sent.outcomes[n].attempts for n in good)
    ended = Counter(sent.outcomes[n].status for n in BAD)
    print(f"{name}: at most {max(copies.values())} copies, {most} attempts, {sent.lost} lost connections")
    assert {n for n in good if sent.outcomes[n].status != "ok"} == set()
    assert set(copies) == good
    assert max(copies.values()) <= 2
    assert most <= attempts
    assert ended == {bad: len(BAD)}


# -- redis ----------------------------------------------------------------------------------------------

REDIS_BIG = Message(b"x" * 1_500_000)
REDIS: dict[str, tuple[Message, dict[str, Any], bool, str]] = {
    "value over proto-max-bulk-len": (REDIS_BIG, {"proto-max-bulk-len": 1024 * 1024}, True, "fatal"),
    "command over client-query-buffer-limit": (
        REDIS_BIG,
        {"client-query-buffer-limit": 1024 * 1024},
        True,
        "fatal",
    ),
    "key of another type": (Message("x", list="string"), {}, False, "fatal"),
    "key that is denied": (Message("x", list="other", expires_s=DENIED_S), {}, False, "expired"),
}
"""The bad message, settings of the server, whether it ends the connection, and how the message ends."""


@pytest.fixture(scope="module")
def redis_of_ours() -> Iterator[RedisServer]:
    """A Redis whose settings may be changed, with a user that may write to two keys only."""
    require(RedisServer)
    with RedisServer() as server:
        with redis.Redis(host=server.host, port=server.port) as client:
            client.execute_command("ACL", "SETUSER", "user", "on", ">secret", "~list", "~string", "+@all")
            client.set("string", "x")
        yield server


@pytest.mark.parametrize("harm", REDIS)
def test_the_others_reach_redis(redis_of_ours: RedisServer, harm: str) -> None:
    """A reply of Redis fails its own message; where it closes the connection, the others come once more."""
    bad, settings, ends, status = REDIS[harm]
    server = redis_of_ours
    connection = {"host": server.host, "port": server.port, "username": "user", "password": "secret"}
    with redis.Redis(host=server.host, port=server.port) as client:
        before = {name: client.config_get(name)[name] for name in settings}
        client.delete("list")
        try:
            for name, value in settings.items():
                client.config_set(name, value)
            sent = send("redis", connection, lambda n: bad, command="rpush", list="list")
        finally:
            for name, value in before.items():
                client.config_set(name, value)
        arrived = client.lrange("list", 0, -1)
    check(f"redis, {harm}", sent, arrived, bad=status, attempts=20 if ends else 1)
    assert bool(sent.lost) == ends


# -- nats -----------------------------------------------------------------------------------------------

NATS: dict[str, tuple[Message, str]] = {
    "over the stream's max_msg_size": (Message("x" * 6_000), "fatal"),
    "over max_payload, by its header": (Message("x", headers={"h": "x" * 150_000}), "fatal"),
    "for a subject that is denied": (Message("x", subject="s.denied", expires_s=DENIED_S), "expired"),
    "for a subject of no stream": (Message("x", subject="nowhere"), "fatal"),
    "never answered": (Message("x", subject="unanswered"), "fatal"),
    "with a roll-up that the stream forbids": (Message("x", headers={"Nats-Rollup": "all"}), "fatal"),
    "over max_control_line": (Message("x", subject=f"s.{'x' * 500}"), "fatal"),
}
ENDS_NATS = "over max_control_line"
CORE_NATS = ("over max_payload, by its header", "for a subject that is denied")
NATS_CONFIG = (
    "max_control_line: 300",
    "max_payload: 100000",
    'authorization { users: [ { user: user, password: p, permissions: { publish: { deny: "s.denied" } } }, '
    "{ user: admin, password: p } ] }",
)


@pytest.fixture(scope="module")
def nats_of_ours() -> Iterator[NatsServer]:
    """A NATS with limits that messages can exceed, and a user that is denied one subject."""
    require(NatsServer)
    with NatsServer(config=NATS_CONFIG) as server:
        yield server


def with_nats(server: NatsServer, use: Callable[[Any], Awaitable[Any]]) -> Any:
    """Call with a client that may do everything."""

    async def call() -> Any:
        client = await nats.connect(f"nats://admin:p@{server.host}:{server.port}")
        try:
            return await use(client)
        finally:
            await client.close()

    return asyncio.run(call())


async def make_streams(client: Any) -> None:
    """Make a stream, and one that acknowledges nothing."""
    stream = client.jetstream()
    for name in ("ORDERS", "UNANSWERED"):
        with contextlib.suppress(nats.js.errors.NotFoundError):
            await stream.delete_stream(name)
    await stream.add_stream(name="ORDERS", subjects=["s.>"], max_msg_size=5_000)
    await stream.add_stream(name="UNANSWERED", subjects=["unanswered"], no_ack=True)


async def stored(client: Any) -> list[bytes]:
    """Return what the stream holds."""
    stream = client.jetstream()
    held = (await stream.stream_info("ORDERS")).state.messages
    reader = await stream.subscribe("s.a", stream="ORDERS", ordered_consumer=True)
    return [(await reader.next_msg(timeout=10)).data for _ in range(held)]


@pytest.mark.parametrize("harm", NATS)
def test_the_others_reach_a_stream_of_nats(nats_of_ours: NatsServer, harm: str) -> None:
    """They are stored once, whatever the bad ones do to the connection."""
    bad, status = NATS[harm]
    with_nats(nats_of_ours, make_streams)
    connection = {"url": f"nats://user:p@{nats_of_ours.host}:{nats_of_ours.port}"}
    channel = {"attempt_timeout_s": 1} if harm == "never answered" else {}
    sent = send("nats", connection, lambda n: bad, subject="s.a", channel=channel)
    arrived = with_nats(nats_of_ours, stored)
    check(f"nats, {harm}", sent, arrived, bad=status, attempts=20 if harm == ENDS_NATS else 1)
    assert len(arrived) == NUMBER - len(BAD)
    # Those without an answer are retried when nothing else is: then the silent connection is replaced.
    assert harm == "never answered" or bool(sent.lost) == (harm == ENDS_NATS)


@contextmanager
def nats_subscriber(server: NatsServer) -> Iterator[list[bytes]]:
    """Collect what is published to ``s.a`` while the block runs, and until all has arrived."""
    found: list[bytes] = []
    ready, over = threading.Event(), threading.Event()

    async def collect(client: Any) -> None:
        async def keep(message: Any) -> None:
            found.append(message.data)

        await client.subscribe("s.a", cb=keep)
        await client.flush()
        ready.set()
        await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=with_nats, args=(server, collect))
    thread.start()
    try:
        assert ready.wait(10)
        yield found
        until(lambda: len(set(found)) >= NUMBER - len(BAD))
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("harm", CORE_NATS)
def test_the_others_reach_subscribers_of_nats(nats_of_ours: NatsServer, harm: str) -> None:
    """The server reports a denied subject without ending the connection."""
    bad, status = NATS[harm]
    connection = {"url": f"nats://user:p@{nats_of_ours.host}:{nats_of_ours.port}"}
    with nats_subscriber(nats_of_ours) as arrived:
        sent = send("nats", connection, lambda n: bad, subject="s.a", jetstream=False)
    check(f"nats without JetStream, {harm}", sent, arrived, bad=status)
    assert sent.lost == 0


# -- mqtt -----------------------------------------------------------------------------------------------

MQTT: dict[str, tuple[Message, str]] = {
    "over message_size_limit": (Message(b"x" * 200_000), "fatal"),
    "over max_packet_size": (Message(b"x" * 1_200_000), "fatal"),
    "to a topic that is denied": (Message("x", topic="denied", expires_s=DENIED_S), "expired"),
    "to $SYS": (Message("x", topic="$SYS/x", expires_s=DENIED_S), "expired"),
}


@pytest.fixture(scope="module")
def mosquitto_of_ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MosquittoServer]:
    """A Mosquitto with limits that messages can exceed, which allows one topic."""
    require(MosquittoServer)
    allowed: Path = tmp_path_factory.mktemp("mosquitto") / "acl"
    allowed.write_text("topic readwrite a\n")
    limits = ["max_packet_size 1100000", "message_size_limit 100000", f"acl_file {allowed}"]
    with MosquittoServer(config=limits) as server:
        yield server


@contextmanager
def mqtt_subscriber(server: MosquittoServer) -> Iterator[list[bytes]]:
    """Collect what is published to ``a`` while the block runs, and until all has arrived."""
    found: list[bytes] = []
    ready = threading.Event()
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.on_message = lambda client, data, message: found.append(message.payload)
    client.on_subscribe = lambda *arguments: ready.set()
    client.connect(server.host, server.port)
    client.loop_start()
    try:
        client.subscribe("a", 0)
        assert ready.wait(10)
        yield found
        until(lambda: len(set(found)) >= NUMBER - len(BAD))
    finally:
        client.disconnect()
        client.loop_stop()


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("harm", MQTT)
def test_the_others_reach_mqtt(mosquitto_of_ours: MosquittoServer, harm: str, qos: int) -> None:
    """A reason code fails its own message, also one that paho does not know; the connection stays."""
    bad, status = MQTT[harm]
    connection = {"host": mosquitto_of_ours.host, "port": mosquitto_of_ours.port}
    with mqtt_subscriber(mosquitto_of_ours) as arrived:
        sent = send("mqtt", connection, lambda n: bad, topic="a", qos=qos)
    check(f"mqtt, QoS {qos}, {harm}", sent, arrived, bad=status)
    assert sent.lost == 0


# -- kafka ----------------------------------------------------------------------------------------------

KAFKA: dict[str, tuple[Any, int]] = {
    "too large": (KafkaError.MSG_SIZE_TOO_LARGE, 1),
    "invalid record": (KafkaError.INVALID_RECORD, 1),
    "policy violation": (KafkaError.POLICY_VIOLATION, 1),
    "format without headers": (KafkaError.UNSUPPORTED_FOR_MESSAGE_FORMAT, 1),
    "unknown error": (KafkaError.UNKNOWN, 1),
    "corrupt message, which the driver repeats": (KafkaError.INVALID_MSG, 3),
    "request timed out": (KafkaError.REQUEST_TIMED_OUT, 3),
    "connection cut": ("cut", 3),
}
"""What the broker does to a request with a bad record, and how many attempts the others may need.

More than one where the driver repeats the request until ``delivery_timeout_s``, or the connection is cut with
more than one request on it. None of these attempts spends a retry.
"""


@pytest.mark.parametrize("harm", KAFKA)
def test_the_others_reach_kafka(harm: str) -> None:
    """Each is sent alone once its batch is refused; where there is no answer, once the batch has timed out."""
    require_kafka()
    what, attempts = KAFKA[harm]
    with KafkaCluster(brokers=1) as cluster, KafkaProxy(cluster, what, mark=MARK.encode()) as proxy:
        cluster.create_topic("t", partitions=2)
        connection = {"servers": proxy.servers, "delivery_timeout_s": 10 if attempts == 1 else 2}
        sent = send("kafka", connection, lambda n: Message(MARK), topic="t", retries=0)
        arrived = [record.value() for record in records_of(cluster, "t")]
        assert proxy.harmed >= len(BAD)
    check(f"kafka, {harm}", sent, arrived, attempts=attempts)
    assert sent.lost == 0
