"""Tests of ``rambla rabbit`` as a person has it: the real program, on a real broker."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import forked_program
import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from typer.testing import CliRunner

from rambla_py.cli.program import app
from rambla_py.cli.rabbit import exchange as exchange_commands
from rambla_py.cli.rabbit import queue as queue_commands
from rambla_py.testing import FaultProxy, RabbitMqServer, Server

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = [sys.executable, "-m", "rambla_py.cli", "rabbit"]
CANARY = "canary-hunter2"

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(rabbitmq: RabbitMqServer, tmp_path: Path) -> Run:
    """Run the program where a configuration has one amqp connection, without a terminal."""
    (tmp_path / "rambla.toml").write_text(
        f'[amqp.connections.local]\nurl = "{rabbitmq.url}"\n'
        '[amqp.channels.c]\nconnection = "local"\noptions = { declare = { queue = { name = "declared" } } }\n'
    )
    return lambda *arguments: _run(tmp_path, *arguments)


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name != "RAMBLA_CONFIG"}
    return forked_program.PROGRAM.run(folder, ["rabbit", *arguments], clean)


@pytest.fixture
def channel(rabbitmq: RabbitMqServer) -> Iterator[BlockingChannel]:
    """A channel beside the program's, which sees what it has done."""
    with pika.BlockingConnection(pika.URLParameters(rabbitmq.url)) as connection:
        yield connection.channel()


@pytest.fixture
def queue(channel: BlockingChannel, queue_name: str) -> str:
    """A durable queue with two messages."""
    channel.queue_declare(queue_name, durable=True)
    channel.confirm_delivery()
    for body in (b"1", b"2"):
        channel.basic_publish("", queue_name, body)
    return queue_name


@pytest.mark.parametrize("kind", ["classic", "quorum", "stream"])
def test_a_queue_is_declared_with_type_and_arguments(
    kind: str, run: Run, channel: BlockingChannel, queue_name: str
) -> None:
    """It exists, durable, with exactly these arguments: declaring it again succeeds."""
    done = run("queue", "declare", queue_name, "--type", kind, "--argument", "x-max-length-bytes=1000")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"queue {queue_name!r} exists: 0 messages, 0 consumers\n"
    arguments = {"x-queue-type": kind, "x-max-length-bytes": 1000}
    channel.queue_declare(queue_name, durable=True, arguments=arguments)


def test_a_queue_that_differs_is_named_with_the_difference(run: Run, queue: str) -> None:
    """406: what was declared, what exists, what to do; the queue is unchanged."""
    done = run("queue", "declare", queue, "--transient")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"queue {queue!r} exists and differs in durable" in done.stderr
    assert "expected 'false', but it has 'true'" in done.stderr
    assert "delete it first" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_status_counts_messages_and_exits_with_1_for_what_is_missing(run: Run, queue: str) -> None:
    """What exists is shown on stdout, what does not on stderr with the command that creates it."""
    done = run("queue", "status", queue, "no-such-queue", queue)
    assert done.returncode == 1
    assert re.findall(rf"^{re.escape(queue)} +2 +0$", done.stdout, re.MULTILINE).__len__() == 2
    assert "rambla rabbit queue declare no-such-queue" in done.stderr
    assert run("queue", "status", queue).returncode == 0


def test_status_as_json(run: Run, queue: str) -> None:
    """One document, also when a queue is missing."""
    done = run("queue", "status", queue, "no-such-queue", "--json")
    there, missing = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (1, "")
    assert there == {"queue": queue, "there": True, "messages": 2, "consumers": 0, "error": None}
    assert (missing["there"], missing["messages"]) == (False, None)
    assert "404 NOT_FOUND" in missing["error"]


def test_a_queue_of_another_connection_is_there_and_locked(
    run: Run, channel: BlockingChannel, queue_name: str
) -> None:
    """Its messages cannot be counted: the reason is shown, and it does not count as missing."""
    channel.queue_declare(queue_name, exclusive=True)
    done = run("queue", "status", queue_name)
    assert done.returncode == 0
    assert re.search(rf"^{re.escape(queue_name)} +\? +\?$", done.stdout, re.MULTILINE)
    assert "405 RESOURCE_LOCKED" in done.stderr


@pytest.mark.parametrize("verb", ["delete", "purge"])
def test_what_destroys_wants_a_yes_where_nobody_can_be_asked(
    verb: str, run: Run, channel: BlockingChannel, queue: str
) -> None:
    """Without a terminal it is wrong usage without ``--yes``, and nothing happens."""
    done = run("queue", verb, queue)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--yes" in done.stderr
    assert channel.queue_declare(queue, passive=True).method.message_count == 2


@pytest.mark.parametrize(("answer", "code", "left"), [("n", 1, 2), ("y", 0, 0)])
def test_what_destroys_asks_on_a_terminal(
    answer: str,
    code: int,
    left: int,
    run: Run,
    rabbitmq: RabbitMqServer,
    channel: BlockingChannel,
    queue: str,
) -> None:
    """A person says yes or no; only yes does it."""
    ours, theirs = pty.openpty()
    try:
        os.write(ours, f"{answer}\n".encode())
        command = [*PROGRAM, "queue", "purge", queue, "--url", rabbitmq.url]
        done = subprocess.run(
            command, check=False, stdin=theirs, capture_output=True, text=True, timeout=60, cwd=ROOT
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == code, done.stderr
    assert channel.queue_declare(queue, passive=True).method.message_count == left


def test_a_queue_is_purged_and_deleted(run: Run, channel: BlockingChannel, queue: str) -> None:
    """The messages that went are counted; a queue that is not there was not deleted."""
    refused = run("queue", "delete", queue, "--if-empty", "--yes")
    assert refused.returncode == 1
    assert "406 PRECONDITION_FAILED" in refused.stderr
    assert run("queue", "purge", queue, "--yes").stdout == f"queue {queue!r}: 2 messages removed\n"
    assert run("queue", "delete", queue, "--yes").stdout == f"queue {queue!r} is deleted, with 0 messages\n"
    again = run("queue", "delete", queue, "--yes")
    assert again.returncode == 1
    assert "404 NOT_FOUND" in again.stderr
    with pytest.raises(pika.exceptions.ChannelClosedByBroker):
        channel.queue_declare(queue, passive=True)


def test_a_binding_routes_messages_until_it_is_removed(
    run: Run, channel: BlockingChannel, queue: str, unique_name: str
) -> None:
    """Through two exchanges and a pattern into the queue, and not any more after ``unbind``."""
    first, second = f"{unique_name}-1", f"{unique_name}-2"
    for exchange in (first, second):
        assert run("exchange", "declare", exchange, "--type", "topic", "--auto-delete").returncode == 0
    assert run("exchange", "bind", second, first, "--routing-key", "paid.*").returncode == 0
    assert run("queue", "bind", queue, second, "--routing-key", "#").returncode == 0
    channel.confirm_delivery()
    channel.basic_publish(first, "paid.now", b"3", mandatory=True)
    with pytest.raises(pika.exceptions.UnroutableError):
        channel.basic_publish(first, "open", b"4", mandatory=True)
    assert channel.queue_declare(queue, passive=True).method.message_count == 3
    assert run("exchange", "status", first, second).returncode == 0
    assert run("queue", "unbind", queue, second, "--routing-key", "#").returncode == 0
    assert run("exchange", "status", second).returncode == 1  # it went with its last binding


def test_an_exchange_is_declared_and_deleted(run: Run, unique_name: str) -> None:
    """A second declaration of another type is a difference; what the broker owns stays."""
    assert run("exchange", "declare", unique_name, "--internal").stdout == (
        f"exchange {unique_name!r} exists: direct\n"
    )
    other = run("exchange", "declare", unique_name, "--internal", "--type", "fanout")
    assert other.returncode == 1
    assert "differs in type: expected 'fanout', but it has 'direct'" in other.stderr
    assert run("exchange", "delete", unique_name, "--yes").returncode == 0
    assert json.loads(run("exchange", "status", unique_name, "--json").stdout)[0]["there"] is False
    assert "403 ACCESS_REFUSED" in run("exchange", "delete", "amq.topic", "--yes").stderr


def test_nothing_else_is_declared_on_the_way(run: Run, channel: BlockingChannel, queue: str) -> None:
    """What the channels of the configuration declare is none of this command's business."""
    assert run("queue", "status", queue).returncode == 0
    with pytest.raises(pika.exceptions.ChannelClosedByBroker):
        channel.queue_declare("declared", passive=True)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["queue", "declare", ""], "must not be empty"),
        (["exchange", "declare", "a\nb"], "or contain a line break"),
        (["queue", "declare", "q", "--argument", "x"], "not of the form name=value"),
        (["queue", "declare", "q", "--type", "fast"], "--type"),
        (["queue", "declare", "q", "--service", "amqq"], "did you mean 'amqp'?"),
        (["queue", "declare", "q", "--connection", "locl"], "did you mean 'local'?"),
        (["queue", "declare", "q", "--url", "http://x"], "that is not amqp://"),
        (["queue", "declare", "q", "--url", "amqp://x", "--service", "amqp"], "either a URL or"),
        (["queue", "remove", "q"], "No such command"),
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str], problem: str, tmp_path: Path) -> None:
    """Nothing is sent, and the error says what to write."""
    config = tmp_path / "rambla.toml"
    config.write_text('[amqp.connections.local]\n[amqp.channels.c]\nconnection = "local"\n')
    done = CliRunner().invoke(app, ["--config", str(config), "rabbit", *arguments])
    assert (done.exit_code, done.stdout) == (2, "")
    assert problem in " ".join(done.stderr.split())


def test_one_of_several_connections_has_to_be_named(rabbitmq: RabbitMqServer, tmp_path: Path) -> None:
    """With two connections one has to be named; with none there is ``--url``; 78 for a wrong file."""
    two = f'[amqp.connections.a]\nurl = "{rabbitmq.url}"\n[amqp.connections.b]\nurl = "amqp://nowhere"\n'
    (tmp_path / "two.toml").write_text(two + '[amqp.channels.c]\nconnection = "a"\n')
    (tmp_path / "none.toml").write_text("[null.channels.c]\n")
    (tmp_path / "wrong.toml").write_text("[nul.channels.c]\n")
    unclear = _run(tmp_path, "queue", "status", "q", "--config", "two.toml")
    assert unclear.returncode == 2
    assert "name one: a, b" in unclear.stderr
    named = _run(tmp_path, "exchange", "status", "amq.topic", "--config", "two.toml", "--connection", "a")
    assert named.returncode == 0
    none = _run(tmp_path, "queue", "status", "q", "--config", "none.toml")
    assert (none.returncode, "give --url" in none.stderr) == (2, True)
    assert _run(tmp_path, "queue", "status", "q", "--config", "wrong.toml").returncode == 78


def test_a_broker_that_cannot_be_reached_is_reported_without_the_password(
    rabbitmq: RabbitMqServer, fault_proxy: Callable[[Server], FaultProxy], run: Run
) -> None:
    """A wrong password, a closed port and a silent broker end with 1, in time, on one line."""
    silent = fault_proxy(rabbitmq)
    silent.black_hole()
    for where in (f"127.0.0.1:{rabbitmq.port}", "127.0.0.1:1", f"{silent.host}:{silent.port}"):
        done = run("queue", "status", "q", "--url", f"amqp://guest:{CANARY}@{where}/", "--timeout", "1.5")
        assert (done.returncode, done.stdout) == (1, "")
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert CANARY not in done.stderr


def test_every_command_and_option_of_rabbit_is_documented() -> None:
    """``docs/cli.md`` names each, with each option that its help shows."""
    section = (ROOT / "docs" / "cli.md").read_text().partition("\n## `rambla rabbit")[2]
    page = (ROOT / "docs" / "cli.md").read_text().partition("\n## ")[0]
    for group, kind in ((queue_commands.app, "queue"), (exchange_commands.app, "exchange")):
        help_of = partial(CliRunner().invoke, group)
        verbs = re.findall(
            r"^  (\w+) {2,}", help_of(["--help"]).stdout.partition("Commands:")[2], re.MULTILINE
        )
        assert len(verbs) >= 5
        for verb in verbs:
            assert f"`{kind} {verb} " in section
            options = re.findall(r"(--[a-z-]+)\b", help_of([verb, "--help"]).stdout)
            assert [one for one in options if f"`{one}" not in section + page] == []
