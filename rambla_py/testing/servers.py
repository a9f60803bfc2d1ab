"""The recipes of the real servers that tests start.

::

    with RedisServer() as server:
        redis.Redis.from_url(server.url).ping()
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from rambla_py.testing.ports import HOST, free_port
from rambla_py.testing.processes import deadline, end_group, find_program, guard
from rambla_py.testing.secured_server import SecuredServer, TlsFiles
from rambla_py.testing.server_process import Server, ServerError

__all__ = ["RabbitMqServer", "RedisServer", "Server", "ServerError", "TlsFiles"]

_PROBE_TIMEOUT_S = 1.0
_CONTROL_TIMEOUT_S = 60.0
_EPMD_TIMEOUT_S = 10.0


class RedisServer(SecuredServer):
    """A private Redis that keeps its data over ``restart`` and ``kill``.

    With ``tls`` it takes TLS only, and asks clients for no certificate. ``config`` holds further lines of
    ``redis.conf``.
    """

    package = "redis-server"
    programs = ("redis-server",)

    @property
    def url(self) -> str:
        """``redis://:password@127.0.0.1:port/0``, or ``rediss://`` with TLS."""
        login = f":{quote(self.password, safe='')}@" if self.password else ""
        return f"{'rediss' if self.tls else 'redis'}://{login}{self.host}:{self.port}/0"

    def _prepare(self) -> None:
        lines = [
            f"bind {HOST}",
            f"port {0 if self.tls else self.port}",
            f"dir {self.folder}",
            "set-proc-title no",  # it would be written over the environment that /proc shows
            'save ""',
            "appendonly yes",
            "appendfsync no",  # survives SIGKILL; only a crash of the machine would lose writes
            *self._security(),
            *self.config,
        ]
        (self.folder / "redis.conf").write_text("\n".join(lines) + "\n")

    def _security(self) -> Iterable[str]:
        if self.password:
            yield f"requirepass {_quoted(self.password)}"
        if self.tls:
            yield f"tls-port {self.port}"
            yield f"tls-cert-file {self.tls.certificate}"
            yield f"tls-key-file {self.tls.key}"
            yield f"tls-ca-cert-file {self.tls.authority}"
            yield "tls-auth-clients no"

    def _argv(self) -> Sequence[str]:
        return [self._program("redis-server"), str(self.folder / "redis.conf")]

    def _answers(self) -> bool:
        with self._probe() as probe:
            probe.sendall(b"PING\r\n")
            return probe.recv(64).startswith((b"+PONG", b"-NOAUTH"))


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=_PROBE_TIMEOUT_S).close()
    except OSError:
        return False
    return True


class RabbitMqServer(Server):
    """A private RabbitMQ with an epmd of its own; guest/guest may do everything on the virtual host ``/``.

    With ``tls`` it also listens on ``tls_port``, and asks clients for no certificate. ``config`` holds
    further lines of ``rabbitmq.conf``. Durable queues and persistent messages are kept over ``restart`` and
    ``kill``. It answers about five seconds after ``start``.
    """

    package = "rabbitmq-server"
    programs = ("rabbitmq-server", "rabbitmqctl", "epmd")
    # Debian's wrappers on PATH change to the user rabbitmq and to its folders; the scripts themselves do not.
    folders = ("/usr/lib/rabbitmq/bin",)
    _node = "rambla@localhost"

    def __init__(
        self,
        *,
        tls: TlsFiles | None = None,
        config: Iterable[str] = (),
        ready_timeout_s: float = 90.0,
    ) -> None:
        super().__init__(config=config, ready_timeout_s=ready_timeout_s)
        self.tls = tls
        self.tls_port = free_port()
        self.memory_alarm = False
        self._dist_port, self._epmd_port = free_port(), free_port()
        self._epmd: subprocess.Popen[bytes] | None = None
        self._epmd_guard: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """``amqp://guest:guest@127.0.0.1:port/%2F``."""
        return f"amqp://guest:guest@{self.host}:{self.port}/%2F"

    @property
    def tls_url(self) -> str:
        """``amqps://guest:guest@127.0.0.1:tls_port/%2F``; answers only when ``tls`` was given."""
        return f"amqps://guest:guest@{self.host}:{self.tls_port}/%2F"

    def rabbitmqctl(self, *arguments: str, timeout_s: float = _CONTROL_TIMEOUT_S) -> str:
        """Run ``rabbitmqctl`` against this server and return what it prints; takes a second or two.

        Raises ``ServerError`` with the command's output when it fails, or takes longer than ``timeout_s``.
        """
        argv = [self._program("rabbitmqctl"), "-n", self._node, "-q", *arguments]
        return self._control(f"rabbitmqctl {arguments[0]}", argv, timeout_s)

    def sync(self) -> None:
        """Put what was declared on disk: a broker that is killed right after declare-ok may forget it."""
        self._evaluate("mnesia:sync_log(), ok.")

    def set_memory_alarm(self, on: bool) -> None:
        """Raise the memory alarm, which blocks every connection that publishes, or lift it.

        Returns once the broker has done so; clients are notified right afterwards.
        """
        share = "1.0e-9" if on else "0.4"
        # The monitor checks every 2.5 s; 'update' makes it check now, and get_state waits until it has.
        self._evaluate(
            f"vm_memory_monitor:set_vm_memory_high_watermark({share}), vm_memory_monitor ! update, "
            "sys:get_state(vm_memory_monitor), ok."
        )
        self.memory_alarm = on

    def _evaluate(self, code: str) -> None:
        """Evaluate an Erlang expression in the broker, which must return ``ok``."""
        # Where Erlang's own client is installed: rabbitmqctl boots Elixir, which takes a second of CPU.
        client = find_program("erl_call")
        if client is None:
            self.rabbitmqctl("eval", code)
            return
        answer = self._control("erl_call", [client, "-n", self._node, "-e"], _CONTROL_TIMEOUT_S, f"{code}\n")
        if answer.strip() != "{ok, ok}":
            raise ServerError(repr(self), f"evaluating {code!r} failed", answer)

    def _control(self, name: str, argv: Sequence[str], timeout_s: float, given: str = "") -> str:
        try:
            done = subprocess.run(
                argv,
                check=False,
                env={**os.environ, **self._environment()},
                cwd=self.folder,
                input=given,
                capture_output=True,
                text=True,
                timeout=timeout_s,
            )
        except subprocess.TimeoutExpired:
            raise ServerError(repr(self), f"{name} took over {timeout_s:g} s") from None
        if done.returncode:
            raise ServerError(repr(self), f"{name} failed", done.stdout + done.stderr)
        return done.stdout

    def _start_companions(self) -> None:
        # As a child of ours: the epmd that the broker would start is a daemon that would never end.
        argv = [self._program("epmd"), "-port", str(self._epmd_port), "-address", HOST]
        self._epmd = self._spawn(argv, "epmd.out")
        self._epmd_guard = guard(self._epmd.pid)
        self.memory_alarm = False
        if not any(_listens(self._epmd_port) for _ in deadline(_EPMD_TIMEOUT_S)):
            self._refuse(f"its epmd did not answer within {_EPMD_TIMEOUT_S:g} s")

    def _prepare(self) -> None:
        lines = [f"listeners.tcp.local = {HOST}:{self.port}", *self._tls_lines(), *self.config]
        (self.folder / "rabbitmq.conf").write_text("\n".join(lines) + "\n")
        # Empty files, so that those of a broker installed on this machine are not read.
        (self.folder / "rabbitmq-env.conf").touch()
        (self.folder / "enabled_plugins").write_text("[].\n")

    def _tls_lines(self) -> Iterable[str]:
        if self.tls:
            yield f"listeners.ssl.local = {HOST}:{self.tls_port}"
            yield f"ssl_options.cacertfile = {self.tls.authority}"
            yield f"ssl_options.certfile = {self.tls.certificate}"
            yield f"ssl_options.keyfile = {self.tls.key}"
            yield "ssl_options.verify = verify_none"
            yield "ssl_options.fail_if_no_peer_cert = false"

    def _environment(self) -> Mapping[str, str]:
        folder = self.folder
        return {
            "HOME": str(folder),  # where the Erlang cookie is
            "ERL_EPMD_ADDRESS": HOST,
            "ERL_EPMD_PORT": str(self._epmd_port),
            "RUNNING_UNDER_SYSTEMD": "true",  # the script then becomes the broker, which is so our child
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_CONF_ENV_FILE": str(folder / "rabbitmq-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "generated"),
            "RABBITMQ_SCHEMA_DIR": str(folder / "schema"),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
        }

    def _argv(self) -> Sequence[str]:
        return [self._program("rabbitmq-server")]

    def _answers(self) -> bool:
        with socket.create_connection((self.host, self.port), timeout=_PROBE_TIMEOUT_S) as probe:
            probe.sendall(b"AMQP\x00\x00\x09\x01")
            return bool(probe.recv(1))

    def _logs(self) -> Iterable[Path]:
        return [self.folder / "server.out", *sorted((self.folder / "log").glob("*@*.log"))]

    def _end(self, number: signal.Signals) -> None:
        super()._end(number)
        epmd, self._epmd = self._epmd, None
        epmd_guard, self._epmd_guard = self._epmd_guard, None
        for process in (epmd_guard, epmd):
            if process is not None:
                end_group(process, signal.SIGKILL)
