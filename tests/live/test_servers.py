"""Tests of the private servers themselves: that they fail on command, and come back."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
from pathlib import Path

import pika
import pytest
import redis
from server_fixtures import require

from rambla_py.testing import MotoServer
from rambla_py.testing.processes import deadline
from rambla_py.testing.servers import RabbitMqServer, RedisServer, Server, ServerError, TlsFiles


class Absent(Server):
    """A server whose program is on no machine."""

    package = "absent-server"
    programs = ("no-such-program",)


def connected(server: RabbitMqServer) -> pika.BlockingConnection:
    return pika.BlockingConnection(pika.URLParameters(server.url))


def queued(server: RabbitMqServer, queue: str) -> int:
    """Return how many messages the broker says the queue holds."""
    connection = connected(server)
    try:
        return int(connection.channel().queue_declare(queue, passive=True).method.message_count)
    finally:
        connection.close()


def redis_client(server: RedisServer, **options: object) -> redis.Redis:
    return redis.Redis.from_url(server.url, retry=None, **options)


def publish_durably(server: RabbitMqServer, queue: str) -> None:
    connection = connected(server)
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare(queue, durable=True)
    channel.basic_publish("", queue, b"kept", pika.BasicProperties(delivery_mode=2))
    connection.close()


def test_missing_names_the_package() -> None:
    """A server whose program is absent names the package, and says so again when it is started."""
    assert Absent.missing() == "absent-server"
    server = Absent()
    with pytest.raises(ServerError, match="install the package absent-server"):
        server.start()
    server.close()
    assert not server.folder.exists()


def test_failed_start_shows_the_log(redis_server: RedisServer) -> None:
    """A server that ends by itself at start raises with the tail of its log, and leaves no folder behind."""
    broken = RedisServer(config=["no-such-setting yes"])
    with pytest.raises(ServerError, match="no-such-setting"), broken:
        pass
    assert (broken.running, broken.folder.exists()) == (False, False)


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_redis_keeps_port_and_data(redis_server: RedisServer, stream_name: str, how: str) -> None:
    """After a crash or a stop, Redis is back on its port with what it held."""
    port, url = redis_server.port, redis_server.url
    with redis_client(redis_server) as client:
        client.set(stream_name, "kept")
    getattr(redis_server, how)()
    assert not redis_server.running
    redis_server.start()
    with redis_client(redis_server) as client:
        assert client.get(stream_name) == b"kept"
    assert (redis_server.port, redis_server.url) == (port, url)


def test_starts_again_after_it_ended_by_itself(redis_server: RedisServer) -> None:
    """A server that was shut down by somebody else is started again on its port."""
    with redis_client(redis_server) as client:
        client.shutdown(nosave=True)
    assert any(not redis_server.running for _ in deadline(5.0))
    redis_server.start()
    with redis_client(redis_server) as client:
        assert client.ping()


def test_paused_server_does_not_answer(redis_server: RedisServer) -> None:
    """A paused server keeps its connections and answers nothing until it is resumed."""
    with redis_client(redis_server, socket_timeout=0.2) as client:
        client.ping()
        redis_server.pause()
        with pytest.raises(redis.exceptions.TimeoutError):
            client.ping()
        redis_server.resume()
        assert client.ping()


def test_paused_server_can_be_stopped(redis_server: RedisServer) -> None:
    """A paused server ends in good order when it is stopped, and is not waited for in vain."""
    with RedisServer() as server:
        server.pause()
        server.stop()
        assert "ready to exit" in server.log_tail()


def test_redis_with_password_and_tls(redis_tls_server: RedisServer, tls_files: TlsFiles) -> None:
    """A Redis with TLS and a password accepts clients with both, and none without the password."""
    authority = str(tls_files.authority)
    with redis_client(redis_tls_server, ssl_ca_certs=authority) as client:
        assert client.ping()
    with (
        redis.Redis(port=redis_tls_server.port, ssl=True, ssl_ca_certs=authority) as client,
        pytest.raises(redis.exceptions.AuthenticationError),
    ):
        client.ping()


def test_rabbitmq_keeps_port_and_data(rabbitmq: RabbitMqServer, queue_name: str) -> None:
    """After a crash, RabbitMQ is back on its port with its durable queues and their messages."""
    publish_durably(rabbitmq, queue_name)
    rabbitmq.sync()
    rabbitmq.kill()
    rabbitmq.start()
    assert queued(rabbitmq, queue_name) == 1
    assert f"{queue_name}\t1" in rabbitmq.rabbitmqctl("list_queues", "name", "messages")


def test_memory_alarm_blocks_and_unblocks(rabbitmq: RabbitMqServer, queue_name: str) -> None:
    """The memory alarm blocks a connection that publishes; lifting it unblocks the connection."""
    heard: list[str] = []
    connection = connected(rabbitmq)
    connection.add_on_connection_blocked_callback(lambda *_: heard.append("blocked"))
    connection.add_on_connection_unblocked_callback(lambda *_: heard.append("unblocked"))
    channel = connection.channel()
    channel.queue_declare(queue_name)
    rabbitmq.set_memory_alarm(True)
    channel.basic_publish("", queue_name, b"x")
    connection.process_data_events(5)
    rabbitmq.set_memory_alarm(False)
    connection.process_data_events(5)
    connection.close()
    assert heard == ["blocked", "unblocked"]


def test_rabbitmq_speaks_tls(rabbitmq: RabbitMqServer, tls_files: TlsFiles) -> None:
    """The TLS listener shows the certificate that was given."""
    parameters = pika.URLParameters(rabbitmq.tls_url)
    context = ssl.create_default_context(cafile=str(tls_files.authority))
    parameters.ssl_options = pika.SSLOptions(context, "localhost")
    connection = pika.BlockingConnection(parameters)
    assert connection.is_open
    connection.close()


def test_failed_command_shows_its_output(rabbitmq: RabbitMqServer) -> None:
    """A rabbitmqctl command that fails raises with what it said."""
    with pytest.raises(ServerError, match="no_such_command"):
        rabbitmq.rabbitmqctl("no_such_command")


def test_servers_end_with_their_parent(redis_server: RedisServer) -> None:
    """When the process that started a server is killed, the server goes too."""
    program = (
        "import sys\n"
        "from rambla_py.testing.servers import RedisServer\n"
        "server = RedisServer().start()\n"
        "print(server.pid, server.folder, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = parent.stdout.readline().split()[0]
        parent.send_signal(signal.SIGKILL)
    assert any(_is_over(pid) for _ in deadline(5.0))


def _is_over(pid: str) -> bool:
    """Whether a process is gone, or dead and waiting for its parent to read its exit code."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_close_leaves_nothing(redis_server: RedisServer) -> None:
    """Leaving the block ends the process and removes the folder."""
    with RedisServer() as server:
        pid, folder = server.pid, server.folder
        assert pid is not None
        os.kill(pid, 0)
    assert not folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_moto_that_is_killed_before_a_request_has_nothing_to_replay():
    """Its recording begins with the first request: a server that was killed before starts empty."""
    require(MotoServer)
    with MotoServer() as server:
        server.record()
        server.kill()
        server.start()
        server.replay()
        assert not server.folder.joinpath("recording").exists()
