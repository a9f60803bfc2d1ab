"""Rows R and W of the page on parity, each shown by a program that uses public names only."""

from __future__ import annotations

import email.policy
import gzip
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from object_worker import Bucket
from pika.adapters.blocking_connection import BlockingChannel
from public_names import hidden_names
from waiting import wait_until
from web_server import Reply, WebServer

import rambla_py as rambla
from rambla_py.handlers import routing
from rambla_py.testing import (
    CANARY,
    ClickHouseServer,
    HandlerContract,
    RabbitMqServer,
    RedisServer,
    SmtpServer,
    Step,
    connected,
    on_doubles,
)

AT_ONCE = {"initial_s": 0.0, "max_s": 0.0}


class KeptOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    color: Annotated[str, routing("the color of the answer")] = "none"


class Kept(rambla.Handler):
    """Keeps the ids of all attempts in its connection, and does what a payload says."""

    guarantee = "at least once"
    Options = KeptOptions

    def connect(self) -> list[Any]:
        return []

    def handle_batch(self, messages: Any, state: Any) -> list[Any]:
        state.connection.extend(message.id for message in messages)
        return [self.answer(message, state.connection.count(message.id)) for message in messages]

    def answer(self, message: Any, attempts: int) -> Any:
        match message.payload:
            case "refuse":
                return rambla.Failed(rambla.PermanentError("refused"))
            case "fail":
                return rambla.Failed("not yet")
            case {"after": number} if attempts <= number:
                return rambla.Failed("not yet")
            case "raise":
                return OSError("returned")
            case "value":
                return rambla.Ok({"answer": 42})
        return f"{message.key} {message.options.color}"


def program(handler: type[rambla.Handler] = Kept, **channel: Any) -> rambla.Rambla:
    return rambla.Rambla({"mine": {"handler": handler, "channels": {"orders": channel}}})


def payloads(*, source: Any, destination: Any, options: Any) -> Any:
    """A callable payload for the handler ``memory``: what it keeps of the channel ``orders``."""
    return destination.payloads("orders")


def of(service: str, connection: dict[str, Any], **options: Any) -> rambla.Rambla:
    """An app with the channel ``orders`` of a built-in handler."""
    table = {"connections": {"main": connection}, "channels": {"orders": {"options": options}}}
    return rambla.Rambla({service: table})


def test_only_public_names_are_used() -> None:
    """This file imports public names of public packages, and uses no attribute that begins with ``_``."""
    assert hidden_names(__file__) == []


def test_r1_a_file_for_each_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files include others, and values come from the environment, with defaults."""
    base = '[file.connections.here]\npath = "${FOLDER}/${NAME:-a}.jsonl"\n[file.channels.orders]\n'
    (tmp_path / "base.toml").write_text(base)
    (tmp_path / "production.toml").write_text('include = ["base.toml"]\n[rambla]\nretries = 7\n')
    monkeypatch.setenv("FOLDER", str(tmp_path))
    config = rambla.load_config(tmp_path / "production.toml")
    assert config.services["file"].channels["orders"].policy.retries == 7
    with rambla.Rambla(config) as app:
        app.publish("orders", 1).result(timeout_s=5)
    assert (tmp_path / "a.jsonl").read_text() == "1\n"


def test_r2_one_channel_several_and_services_of_one_name() -> None:
    """A channel's name reaches every service that has it, several names reach each, and one can be chosen."""
    table = {
        "memory": {"channels": {"orders": {}}},
        "other": {"handler": "memory", "channels": {"orders": {}, "copies": {}}},
    }
    with rambla.Rambla(table) as app:
        for channels, number in (("orders", 2), (["orders", "copies"], 3), ("other.copies", 1)):
            assert len(app.publish(channels, 1).outcomes(timeout_s=5)) == number


def test_r3_values_messages_envelopes_and_callables() -> None:
    """The payload is a value, a message with options, a dict that sets what its channel lists, or a function."""

    def called(*, source: Any, destination: Any, options: Any) -> tuple[Any, ...]:
        return isinstance(destination, list), options.color

    with program(envelope=["key", "color"]) as app:
        assert app.publish("orders", 1).result(timeout_s=5) == "None none"
        assert app.publish("orders", rambla.Message(1, color="red")).result(timeout_s=5) == "None red"
        envelope = {"message": 1, "key": "k", "color": "red"}
        assert app.publish("orders", envelope).result(timeout_s=5) == "k red"
        assert app.publish("orders", {"message": 1, "retries": 0}).result(timeout_s=5) == "None none"
        assert app.publish("orders", called, color="red").result(timeout_s=5) == (True, "red")


def test_r4_many_messages_in_one_call() -> None:
    """They arrive in few batches, and each has an outcome of its own."""
    with program(batch_size=100) as app:
        outcomes = app.publish_many("orders", [1, "refuse", "value", *range(97)]).outcomes(timeout_s=5)
        app.flush(timeout_s=5)
        assert app.status()["mine.orders"].batches < 10
    assert [outcome.status for outcome in outcomes[:3]] == ["ok", "fatal", "ok"]
    assert [outcome.status for outcome in outcomes[3:]] == ["ok"] * 97


def test_r5_pools_of_workers(tmp_path: Path) -> None:
    """A channel has ``count`` workers, from the file or given at the start."""
    path = tmp_path / "rambla.toml"
    path.write_text("[memory.channels.orders]\ncount = 2\nlazy = false\n")
    for overrides, number in (({}, 2), ({"memory": {"channels": {"orders": {"count": 3}}}}, 3)):
        with rambla.Rambla.from_toml(path, overrides=overrides) as app:
            assert len(app.status()["memory.orders"].workers) == number


class Hooked(Kept):
    """A handler that brings its tables, and has callbacks."""

    seen: list[str] = []

    @classmethod
    def config(cls) -> dict[str, Any]:
        return {"channels": {"orders": {"options": {"retries": 1, "backoff": AT_ONCE}}}}

    def on_success(self, outcome: rambla.Outcome) -> None:
        self.seen.append("success")

    def on_fatal(self, outcome: rambla.Outcome) -> None:
        self.seen.append("fatal")


def test_r6_a_base_for_handlers() -> None:
    """A handler brings its configuration and its callbacks as methods."""
    with rambla.Rambla({"mine": {"handler": Hooked}}) as app:
        app.publish("orders", 1).result(timeout_s=5)
        app.publish("orders", "fail").outcomes(timeout_s=5)
    assert Hooked.seen == ["success", "fatal"]


def test_r7_what_a_handler_returns() -> None:
    """A result, a failure with a reason, an exception; anything else is a success."""
    with program(options={"retries": 0}) as app:
        sent = app.publish_many("orders", ["value", "refuse", "fail", "raise", None]).outcomes(timeout_s=5)
    assert [outcome.status for outcome in sent] == ["ok", "fatal", "fatal", "fatal", "ok"]
    assert [outcome.result for outcome in sent[::4]] == [{"answer": 42}, "None none"]
    assert [str(outcome.error) for outcome in sent[1:4]] == ["refused", "not yet", "returned"]


def test_r8_retries_by_level() -> None:
    """A message's retries win over its channel's, and ``on_failure`` stops or changes them."""
    answers: list[Any] = [rambla.Retry(delay_s=0.0, retries=3), None, None]
    with program(options={"retries": 1, "backoff": AT_ONCE}) as app:

        def attempts(**options: Any) -> tuple[str, int]:
            outcome = app.publish("orders", "fail", **options).outcomes(timeout_s=5)[0]
            return outcome.status, outcome.attempts

        assert attempts() == ("fatal", 2)
        assert attempts(retries=3) == ("fatal", 4)
        assert attempts(callbacks={"on_failure": lambda outcome: rambla.STOP}) == ("failed", 1)
        change = {"on_failure": lambda outcome: answers.pop(0) if answers else None}
        assert attempts(callbacks=change) == ("fatal", 4)


def test_r9_another_round_after_the_last_retry() -> None:
    """``on_fatal`` asks for another round of attempts."""
    again = {"on_fatal": lambda outcome: rambla.RETRY}
    with program(options={"retries": 1, "backoff": AT_ONCE}, max_rounds=2) as app:
        outcome = app.publish("orders", "fail", callbacks=again).outcomes(timeout_s=5)[0]
        assert (outcome.status, outcome.attempts) == ("fatal", 6)
        assert app.publish("orders", {"after": 3}, callbacks=again).outcomes(timeout_s=5)[0].status == "ok"


class Served(rambla.Handler):
    """Needs a program, and something that starts after it."""

    starts: list[str] = []

    def external_servers(self, channel: str) -> list[Any]:
        forever = [sys.executable, "-c", "import time; time.sleep(600)"]
        return [
            rambla.Command(forever, id="program"),
            rambla.ChildSpec("after", start=lambda: self.starts.append(channel)),
        ]

    def handle_publish(self, message: Any, options: Any, state: Any) -> tuple[int, int]:
        return self.servers["program"].pid, len(self.starts)


def test_r10_external_servers() -> None:
    """They run before the pool; when one dies, it and what started after it are started again."""
    Served.starts.clear()
    with program(Served) as app:
        pid, starts = app.publish("orders", 1).result(timeout_s=20)
        assert starts == 1
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: app.publish("orders", 1).result(timeout_s=20)[1] == 2)
        assert app.publish("orders", 1).result(timeout_s=20)[0] != pid


def test_r11_what_an_app_lists() -> None:
    """Channels, connections, services and the state of each pool."""
    with rambla.Rambla({"memory": {"connections": {"here": {}}, "channels": {"orders": {}}}}) as app:
        assert app.channels() + app.connections() + app.services() == ["orders", "memory.here", "memory"]
        assert app.status()["memory.orders"].state == "idle"


@pytest.mark.parametrize(
    ("options", "payload", "body"),
    [
        ({}, {"a": 1}, b'{"a":1}'),
        ({}, b"\x00", b"\x00"),
        ({"serializer": "msgpack"}, {"a": 1}, b"\x81\xa1a\x01"),
        ({"serializer": "builtins:repr"}, {"a": 1}, b"{'a': 1}"),
        ({"format": "object"}, "1", b'{"value":1}'),
    ],
)
def test_r12_formats_and_serializers(
    options: dict[str, Any], payload: Any, body: bytes, redis_server: RedisServer, unique_name: str
) -> None:
    """The channel's format and serializer make the bytes that are sent."""

    def stored(*, source: Any, destination: Any, options: Any) -> Any:
        return destination.lpop(unique_name)

    with of("redis", {"url": redis_server.url}, command="rpush", list=unique_name, **options) as app:
        app.publish("orders", payload).result(timeout_s=10)
        assert app.publish("orders", stored).result(timeout_s=10) == body


def test_r13_rabbitmq(rabbitmq: RabbitMqServer, queue_name: str, plain: BlockingChannel) -> None:
    """What a channel declares exists, a message has its properties, and one without a queue is returned."""

    def purge(*, source: Any, destination: Any, options: Any) -> int:
        return destination.queue_purge(queue_name).method.message_count

    exchange = {"type": "topic", "auto_delete": True}
    declare = {"exchange": exchange, "queue": {"name": queue_name}, "bindings": [{"routing_key": "a.*"}]}
    options = {"exchange": f"x-{queue_name}", "routing_key": "a.b", "declare": declare, "retries": 0}
    with of("amqp", {"url": rabbitmq.url}, **options) as app:
        sent = app.publish_many("orders", [1, 2], headers={"h": 1}, properties={"type": "t"})
        sent.result(timeout_s=20)
        lost = app.publish("orders", 1, routing_key="nowhere").outcomes(timeout_s=20)[0]
        _, properties, body = plain.basic_get(queue_name, auto_ack=True)
        purged = app.publish("orders", purge).result(timeout_s=20)
    assert isinstance(lost.error, rambla.UnroutableError)
    assert (properties.type, properties.headers, body, purged) == ("t", {"h": 1}, b"1", 1)


def test_r14_redis(redis_server: RedisServer, unique_name: str) -> None:
    """Each key of a mapping is set, or a list, stream, hash or topic takes the payload."""

    def read(*, source: Any, destination: Any, options: Any) -> tuple[Any, int]:
        return destination.get(f"{unique_name}-a"), destination.ttl(f"{unique_name}-a")

    with of("redis", {"url": redis_server.url}) as app:

        def send(command: str, payload: Any, **names: str) -> Any:
            return app.publish("orders", payload, command=command, **names).result(timeout_s=10)

        app.publish("orders", {f"{unique_name}-a": "1"}, ttl_s=100).result(timeout_s=10)
        value, ttl = app.publish("orders", read).result(timeout_s=10)
        assert (value, 0 < ttl <= 100) == (b"1", True)
        assert send("rpush", 1, list=f"{unique_name}-l") == 1
        assert send("lpush", 1, list=f"{unique_name}-l") == 2
        assert send("hset", {"f": 1, "g": 2}, hash=f"{unique_name}-h") == 2
        assert send("publish", 1, topic=unique_name) == 0
        assert "-" in send("xadd", 1, stream=f"{unique_name}-s")


def test_r15_http(web_server: WebServer) -> None:
    """A request has method, headers, path and query; each status is what it means."""
    statuses = {"/base/a": [200], "/base/busy": [500, 200], "/base/wrong": [422], "/base/wait": [503, 200]}
    web_server.answer = lambda seen: Reply(statuses[seen.path].pop(0), headers={"Retry-After": "0"})
    with of("http", {"url": f"{web_server.url}/base"}, backoff=AT_ONCE) as app:
        options = {"method": "PUT", "headers": {"X-A": "1"}, "append_path": "a", "append_query": {"q": 1}}
        assert app.publish("orders", {"id": 1}, **options).result(timeout_s=10).status == 200
        paths = ("busy", "wrong", "wait")
        ends = [app.publish("orders", 1, append_path=one).outcomes(timeout_s=20)[0] for one in paths]
    first = web_server.seen[0]
    assert (first.method, first.headers["x-a"], first.target) == ("PUT", "1", "/base/a?q=1")
    assert [(end.status, end.attempts) for end in ends] == [("ok", 2), ("fatal", 1), ("ok", 2)]


def test_r16_mail(smtp_server: SmtpServer, ann: str, arrived: Callable[[], list[Any]]) -> None:
    """Text and HTML to people with names; a line break in a header is refused."""
    relay = {"relay": smtp_server.host, "port": smtp_server.port, "tls": "never"}
    mail = {"to": f"Ann <{ann}>", "subject": "Grüße", "text": "hi", "html": "<p>hi"}
    with of("smtp", relay, **{"from": "Shop <shop@example.com>"}) as app:
        app.publish("orders", mail).result(timeout_s=10)
        forged = app.publish("orders", {**mail, "subject": "a\r\nBcc: eve@example.com"})
        assert forged.outcomes(timeout_s=10)[0].status == "fatal"
    (one,) = arrived()
    content = email.message_from_bytes(one.content, policy=email.policy.default)
    assert (content["subject"], content["from"]) == ("Grüße", "Shop <shop@example.com>")
    assert content.get_content_type() == "multipart/alternative"


def test_r17_objects(bucket: Bucket, tmp_path: Path) -> None:
    """An object in S3 from bytes or a file, under a path that the message makes."""
    (tmp_path / "large.csv").write_bytes(b"a,b\n" * 2_000_000)
    options = {"path": "{payload.name}/{id}", "files_from": str(tmp_path)}
    with of("objects", bucket.settings(), **options) as app:
        app.publish("orders", {"name": "ada"}, id="one", content_type="text/x-a").result(timeout_s=20)
        app.publish("orders", {"name": "file"}, id="two", file="large.csv").result(timeout_s=30)
    one, two = bucket.get("ada/one"), bucket.get("file/two")
    assert (one["Body"], one["ContentType"]) == (b'{"name":"ada"}', "text/x-a")
    assert (len(two["Body"]), two["ContentType"]) == (8_000_000, "text/csv")


def test_r18_clickhouse(clickhouse: ClickHouseServer, unique_name: str) -> None:
    """Rows into a table, from objects or JSON text; a bad one fails alone."""
    table = unique_name.replace("-", "_")
    clickhouse.query(f"CREATE TABLE {table} (n Int64) ENGINE = MergeTree ORDER BY n")
    with of("clickhouse", {"url": clickhouse.url}, table=table) as app:
        rows = [{"n": 1}, [{"n": 2}, {"n": 3}], '{"n": 4}', {"n": "five"}]
        outcomes = app.publish_many("orders", rows).outcomes(timeout_s=20)
    assert [outcome.status for outcome in outcomes] == ["ok", "ok", "ok", "fatal"]
    assert clickhouse.query(f"SELECT sum(n) FROM {table}").strip() == "10"


def test_r19_doubles() -> None:
    """Backends that play a script, with what arrived at them; a stub with a fixed answer."""
    table = {"amqp": {"connections": {"here": {}}, "channels": {"orders": {"options": {"backoff": AT_ONCE}}}}}
    config, capture = on_doubles(rambla.load_config(table))
    capture.plan(Step.fail("quota"), "orders")
    with rambla.Rambla(config) as app:
        assert app.publish("orders", 7).outcomes(timeout_s=5)[0].attempts == 2
    assert capture.payloads("orders") == [7]
    with of("stub", {}, result="answer") as app:
        assert app.publish("orders", 1).result(timeout_s=5) == "answer"


def test_r20_rabbitmq_on_the_command_line(rabbitmq: RabbitMqServer, queue_name: str) -> None:
    """Exchanges and queues are declared, bound, looked at, purged and deleted."""

    def run(*words: str) -> tuple[int, str]:
        argv = [sys.executable, "-m", "rambla_py", "rabbit", *words, "--url", rabbitmq.url]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stdout

    exchange, binding = f"x-{queue_name}", (queue_name, f"x-{queue_name}", "--routing-key", "a.*")
    assert run("exchange", "declare", exchange, "--type", "topic")[0] == 0
    assert run("queue", "declare", queue_name)[0] == run("queue", "bind", *binding)[0] == 0
    assert queue_name in run("queue", "status", queue_name)[1]
    assert run("queue", "unbind", *binding)[0] == run("queue", "purge", queue_name, "--yes")[0] == 0
    assert run("queue", "delete", queue_name, "--yes")[0] == 0
    assert run("queue", "status", queue_name)[0] == 1
    assert run("exchange", "delete", exchange, "--yes")[0] == 0


def test_r21_events() -> None:
    """A listener gets the events of each message in order."""
    events: list[rambla.Event] = []
    with program() as app:
        app.listen(events.append)
        app.publish("orders", 1, id="one").result(timeout_s=5)
    kinds = [event.kind for event in events if event.data.get("message_id") == "one"]
    assert kinds == ["published", "attempt", "outcome"]


def test_r22_secrets_never_show(caplog: pytest.LogCaptureFixture) -> None:
    """A password shows in no log, event, error, status or ``repr``."""
    caplog.set_level(logging.DEBUG)
    shown: list[Any] = []
    with of("redis", {"url": f"redis://:{CANARY}@127.0.0.1:1/0"}, expires_s=0.2) as app:
        app.listen(shown.append)
        outcome = app.publish("orders", 1).outcomes(timeout_s=10)[0]
        shown += [app, app.config, app.status(), app.ping(), outcome, outcome.error, app.plan]
    assert outcome.status == "expired"
    assert CANARY not in caplog.text + "".join(f"{one!r}{one}" for one in shown)


def test_r23_messages_of_a_key_keep_their_order() -> None:
    """With several workers the messages of a key are delivered one after the other, by one of them."""
    with rambla.Rambla({"memory": {"channels": {"orders": {"count": 3}}}}) as app:
        app.publish_many("orders", [rambla.Message(n, key="k") for n in range(30)]).result(timeout_s=10)
        assert app.publish("orders", payloads).result(timeout_s=5) == list(range(30))


def test_w1_built_in_backends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Null, console, memory that is bounded, and a file that rotates and compresses."""
    path = tmp_path / "log.jsonl"
    with of("null", {}) as app:
        assert app.publish("orders", 1).result(timeout_s=5) is None
    with of("console", {}) as app:
        app.publish("orders", "to the console").result(timeout_s=5)
    printed = capsys.readouterr()
    assert "to the console" in printed.out + printed.err
    with of("memory", {}, max_messages=2) as app:
        app.publish_many("orders", [1, 2, 3]).result(timeout_s=5)
        assert app.publish("orders", payloads).result(timeout_s=5) == [2, 3]
    with of("file", {"path": str(path)}, rotate_bytes=2_000, compression="gzip") as app:
        for _ in range(10):
            app.publish_many("orders", ["x" * 100] * 10).result(timeout_s=10)
    lines = path.read_bytes().splitlines()
    rotated = [gzip.decompress(one.read_bytes()).splitlines() for one in tmp_path.glob("*.gz")]
    assert rotated
    assert len(lines) + sum(map(len, rotated)) == 100


def test_w2_the_life_of_a_backend() -> None:
    """Connect, ping, batches, and the counts and times of successes and errors in the status."""
    with program() as app:
        assert [ping.ok for ping in app.ping()] == [True]
        app.publish_many("orders", [1, 2, "refuse"]).outcomes(timeout_s=5)
        app.flush(timeout_s=5)
        status = app.status()["mine.orders"]
    assert (status.statuses["ok"], status.statuses["fatal"], status.batches > 0) == (2, 1, True)
    assert None not in (status.last_ok_at, status.last_error_at)
    assert app.status()["mine.orders"].state == "closed"


def test_w3_a_registry() -> None:
    """A registered class is found by its name, and configured several times."""
    rambla.register_handler("kept-for-parity", Kept)
    assert rambla.find_handler("kept-for-parity") is Kept
    assert "kept-for-parity" in rambla.handler_names()
    table = {"channels": {"orders": {}}}
    with rambla.Rambla({"kept-for-parity": table, "second": {"handler": "kept-for-parity", **table}}) as app:
        assert app.publish("orders", 1).result(timeout_s=5) == ["None none", "None none"]


def test_w4_http_with_a_batch_envelope(web_server: WebServer) -> None:
    """Many events are one request, with a timestamp and their number; wrong settings are refused."""
    with of("http", {"url": web_server.url}, body_format="batch") as app:
        app.publish_many("orders", [{"n": 1}, {"n": 2}]).result(timeout_s=10)
    bodies = [json.loads(seen.body) for seen in web_server.seen]
    assert [event for body in bodies for event in body["events"]] == [{"n": 1}, {"n": 2}]
    assert all(body["size"] == len(body["events"]) and body["timestamp"] > 1e9 for body in bodies)
    with pytest.raises(rambla.ConfigError, match=r"http\.connections\.main"):
        of("http", {"timeout": 5})


def test_w5_batches_compression_a_fallback_and_a_rate(web_server: WebServer, tmp_path: Path) -> None:
    """Batches are bounded and compressed; what one backend refuses arrives at the second."""
    web_server.answer = lambda seen: Reply(422 if b"bad" in seen.body else 200)
    options = {"body_format": "array", "compression": "gzip", "compress_above": 100}
    channel = {"batch_size": 5, "rate_limit": "1000/s", "fallback": "dead", "options": options}
    main, dead = {"main": {"url": web_server.url}}, {"main": {"path": str(tmp_path / "dead.jsonl")}}
    http = {"connections": main, "channels": {"orders": channel}}
    file = {"connections": dead, "channels": {"dead": {}}}
    with rambla.Rambla({"http": http, "file": file}) as app:
        sent = app.publish_many("orders", ["x" * 150] * 10 + ["bad"]).outcomes(timeout_s=20)
    assert all(len(json.loads(seen.body)) <= 5 for seen in web_server.seen)
    assert "gzip" in [seen.headers.get("content-encoding") for seen in web_server.seen]
    assert (sent[-1].status, sent[-1].succeeded) == ("fatal", True)
    assert (tmp_path / "dead.jsonl").read_text() == '"bad"\n'


def test_w6_a_way_to_test_a_backend() -> None:
    """A handler's methods can be called one by one."""
    with connected(Kept) as kept:
        assert kept.handle("value", 1) == [{"answer": 42}, "None none"]


class TestW6(HandlerContract):
    """A handler of one's own passes the contract suite."""

    handler = Kept
    has_server = has_address = has_login = has_poison = can_cut = stores = serializes = False

    def is_result(self, result: Any) -> bool:
        return result == "None none"
