"""This module is the app: the one place that knows everyone, and the start of the main path."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Literal, Self

from rambla_py.actors.ping import ping_all
from rambla_py.actors.plan import Plan, make_plan
from rambla_py.actors.room import is_inside_worker, leave_worker
from rambla_py.actors.system import System
from rambla_py.actors.target import Target
from rambla_py.config import Config, load_config
from rambla_py.errors import (
    MailboxFullError,
    NotRunningError,
    UnknownChannelError,
    describe,
)
from rambla_py.receipt import Receipt
from rambla_py.redaction import Redactor
from rambla_py.report import Audit, Ping, TargetStatus
from rambla_py.route import PLAIN, draft, is_plain
from rambla_py.telemetry.events import Event, Events

__all__ = ["Rambla"]

log = logging.getLogger("rambla_py")

_apps: set[Rambla] = set()
"""The apps that run, for the exit and the fork: one that nobody holds any more is stopped properly, too."""

_State = Literal["not started", "running", "stopping", "stopped"]


class Rambla:
    """Publishes messages to the channels of one configuration.

    ``config`` is a ``Config`` or a mapping shaped as the TOML file; ``Rambla.from_toml`` reads a file. Every
    method may be called from any thread. Two apps in a process share nothing.

    >>> table = {"null": {"connections": {"here": {}}, "channels": {"demo": {"connection": "here"}}}}
    >>> with Rambla(table) as app:
    ...     app.publish("demo", "hello").outcomes(timeout_s=5)[0].status
    'ok'
    """

    def __init__(self, config: Config | Mapping[str, Any]) -> None:
        self.config = config if isinstance(config, Config) else load_config(config)
        self._redact = Redactor(self.config.secrets).text
        self._events = Events()
        self._state: _State = "not started"
        self._system: System | None = None
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._stopped.set()
        self._inherited: list[System] = []
        # Channels that one plain message reaches in one step; empty whenever it must take the longer way.
        self._hot: dict[str, Target] = {}

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str] | None = None) -> Self:
        """Return an app of a TOML file.

        Without ``path`` it looks at ``$RAMBLA_CONFIG``, ``rambla.toml``, ``config/rambla.toml``, and
        ``[tool.rambla]`` in ``pyproject.toml``. Raises ``ConfigError`` with every problem at once.
        """
        return cls(load_config(None if path is None else os.fspath(path)))

    def __repr__(self) -> str:
        return f"<Rambla {self._state}, {len(self.channels())} channels>"

    # -- life -----------------------------------------------------------------------------------------

    @property
    def plan(self) -> Plan:
        """The supervision tree of this configuration, as data."""
        return make_plan(self.config)

    def start(self) -> Self:
        """Start; lazy channels (the default) wait for their first message. Starting twice is once."""
        with self._lock:
            if self._state == "running":
                return self
            self._live(System(self.config, self.plan, self._events, self._redact))
            self._state = "running"
        _apps.add(self)
        return self

    def stop(self, timeout_s: float = 30.0) -> dict[str, Audit] | None:
        """Take no new messages, deliver what can be within ``timeout_s`` seconds, drop the rest.

        Returns the accounts. From a callback or a handler it happens in the background, and returns None.
        """
        if is_inside_worker():
            threading.Thread(target=self._stop, args=(timeout_s,), name="rambla stop", daemon=True).start()
            return None
        self._stop(timeout_s)
        return self.audit()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.start)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)

    # -- publishing -----------------------------------------------------------------------------------

    def publish(self, channels: str | Iterable[str], message: Any, /, **options: Any) -> Receipt:
        """Accept a message for one or several channels, and return the receipt of its outcomes.

        It does not wait for the network. ``message`` is any value, a ``Message``, an envelope (a dict with
        the key ``"message"``), or a callable that a worker calls with the live connection. ``options`` win
        over those of the message, which win over the channel's.

        Raises, before anything is accepted: ``UnknownChannelError``, ``OptionError``, ``NotRunningError``;
        ``MailboxFullError`` when there is no room within ``publish_timeout_s``, or at once inside an event
        loop, a handler or a callback.
        """
        try:
            target = self._hot[channels]  # type: ignore[index]
        except (KeyError, TypeError):  # several, unknown, or on the longer way: a miss costs little there
            pass
        else:
            kind = type(message)
            if "message" not in message if kind is dict else kind in PLAIN:
                return target.submit_with(message, options) if options else target.submit(message)
        return self._publish(channels, (message,), options, many=False)

    def publish_many(
        self, channels: str | Iterable[str], messages: Iterable[Any], /, **options: Any
    ) -> Receipt:
        """Accept many messages at once; each has an outcome of its own, and one receipt tells of all.

        All of them are checked before the first is accepted. Raises as ``publish`` does; once one message is
        accepted, those that find no room end as ``dropped``.
        """
        messages = tuple(messages)
        target = self._hot.get(channels) if isinstance(channels, str) and not options else None
        if target is not None and target.has_room(len(messages)) and all(map(is_plain, messages)):
            return target.submit_many(messages)
        return self._publish(channels, messages, options, many=True)

    async def publish_async(self, channels: str | Iterable[str], message: Any, /, **options: Any) -> Receipt:
        """Publish from an event loop: wait for room without blocking it, for up to ``publish_timeout_s``.

        Returns the receipt; ``await`` that for the result. Raises as ``publish`` does.
        """
        began = time.monotonic()
        channels = channels if isinstance(channels, str) else tuple(channels)
        while True:
            for target in self._targets_of(channels):
                await _room(target, began)
            try:
                return self.publish(channels, message, **options)
            except MailboxFullError as error:
                # Another thread was quicker. Where the overflow policy itself raises, so do we.
                if error.waited_s is not None or not _waits(self._targets_of(channels)):
                    raise

    def _publish(
        self, channels: str | Iterable[str], messages: tuple[Any, ...], options: dict[str, Any], *, many: bool
    ) -> Receipt:
        targets = self._targets_of(channels)
        system = self._running()
        receipt = Receipt.expecting(system.home, len(messages), len(targets), many=many)
        deliveries = [
            delivery
            for at, message in enumerate(messages)
            for delivery in draft(targets, message, options, receipt, system.next_id, at * len(targets))
        ]
        for target in targets:
            target.check_room(len(messages))
        for at, delivery in enumerate(deliveries):
            targets[at % len(targets)].admit(delivery, may_raise=at == 0)
        return receipt

    def _targets_of(self, channels: str | Iterable[str]) -> tuple[Target, ...]:
        routes = self._running().routes
        names = (channels,) if isinstance(channels, str) else tuple(dict.fromkeys(channels))
        found: list[Target] = []
        for name in names:
            if name not in routes:
                raise UnknownChannelError(name, routes)
            found.extend(routes[name])
        if not found:
            raise UnknownChannelError("", routes)
        return tuple(found)

    # -- looking --------------------------------------------------------------------------------------

    def channels(self) -> list[str]:
        """Return the names of the channels, in config order."""
        return list(
            dict.fromkeys(name for service in self.config.services.values() for name in service.channels)
        )

    def connections(self) -> list[str]:
        """Return the connections as ``service.name``, in config order."""
        return [
            f"{service.name}.{name}"
            for service in self.config.services.values()
            for name in service.connections
        ]

    def services(self) -> list[str]:
        """Return the names of the services, in config order."""
        return list(self.config.services)

    def status(self) -> dict[str, TargetStatus]:
        """Return how each target is now, by ``service.channel``."""
        return {target.config.name: self._status_of(target) for target in self._targets()}

    def audit(self) -> dict[str, Audit]:
        """Return the accounts of each target: accepted = the outcomes + pending, exact once nothing moves."""
        return {target.config.name: _audit_of(target) for target in self._targets()}

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until all that was accepted by now has its outcome; say whether it has, in time."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        return self._running().flush(deadline)

    def ping(self, channel: str | None = None, timeout_s: float = 5.0) -> list[Ping]:
        """Connect to the servers of a channel, or of all, on connections of their own; needs no start.

        Raises ``UnknownChannelError``.
        """
        known = self.channels()
        if channel is not None and channel not in known:
            raise UnknownChannelError(channel, known)
        configs = [
            config for service in self.config.services.values() for config in service.channels.values()
        ]
        chosen = [config for config in configs if channel in (None, config.channel)]
        return ping_all(chosen, timeout_s, self._redact)

    def listen(self, listener: Callable[[Event], Any]) -> Callable[[], None]:
        """Tell a listener of every event (published, attempt, outcome, worker up and down) from now on.

        Returns a function that ends it. The listener runs where the event happens, and has to be quick.
        """
        stop = self._events.listen(listener)
        self._warm()

        def end() -> None:
            stop()
            self._warm()

        return end

    def _status_of(self, target: Target) -> TargetStatus:
        ledger = target.ledger
        error = ledger.last_error
        return TargetStatus(
            service=target.service,
            channel=target.channel,
            handler=target.config.handler.__name__,
            state=target.state if target.config.enabled else "disabled",
            workers=target.crew.states(),
            queued=len(target.mailbox),
            in_flight=target.in_flight(),
            statuses={str(status): count for status, count in ledger.statuses.items()},
            reasons=dict(ledger.reasons),
            abandoned=sum(worker.is_alive() for worker in target.abandoned),
            last_error=None if error is None else self._redact(describe(error)),
        )

    # -- inside ---------------------------------------------------------------------------------------

    def _targets(self) -> list[Target]:
        return [] if self._system is None else list(self._system.targets.values())

    def _running(self) -> System:
        system = self._system
        if self._state == "running":
            return system if system is not None else self._live_again()
        raise NotRunningError(self._state)

    def _live(self, system: System) -> System:
        system.start()
        _stop_with_multiprocessing()
        self._system = system
        self._warm()
        return system

    def _live_again(self) -> System:
        """Give a forked child pools of its own; the external servers are its parent's."""
        with self._lock:
            if self._system is not None:
                return self._system
            plan, events = self.plan, self._events
            return self._live(System(self.config, plan, events, self._redact, with_servers=False))

    def _warm(self) -> None:
        """Let plain messages take the short way where nobody needs them to take the longer one."""
        routes = {} if self._system is None or self._events.listeners else self._system.routes
        self._hot = {
            name: targets[0] for name, targets in routes.items() if len(targets) == 1 and targets[0].plain
        }

    def _stop(self, timeout_s: float) -> None:
        with self._lock:
            system, first = self._system, self._state == "running"
            if first:
                self._state, self._hot = "stopping", {}
                self._stopped.clear()
        if not first:
            self._stopped.wait(timeout_s)
            return
        try:
            if system is not None:
                system.stop(time.monotonic() + timeout_s)
        finally:
            self._state = "stopped"
            _apps.discard(self)
            self._stopped.set()

    def _settle_in(self) -> None:
        if self._system is not None and self._state == "running":
            self._system.settle_in(min(1.0, self.config.rambla.exit_timeout_s))

    def _stop_at_exit(self) -> None:
        before = self._undelivered()
        self._stop(self.config.rambla.exit_timeout_s)
        left = self._undelivered() - before
        if left:
            log.warning("the interpreter ended before stop(): %d messages were not delivered", left)

    def _undelivered(self) -> int:
        return sum(audit.dropped + audit.unknown for audit in self.audit().values())

    def _after_fork(self) -> None:
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._stopped.set()
        self._hot = {}
        if self._system is not None:
            self._system.forked()
            # Kept, so that no finalizer touches the sockets that the parent goes on using.
            self._inherited.append(self._system)
            self._system = None


def _audit_of(target: Target) -> Audit:
    pending = target.pending()
    return Audit(accepted=target.ledger.accepted(), pending=pending, **target.ledger.statuses)


def _waits(targets: Iterable[Target]) -> bool:
    return all(target.config.overflow == "block" for target in targets)


async def _room(target: Target, began: float) -> None:
    """Wait until a target has room; raises ``MailboxFullError`` after its ``publish_timeout_s``."""
    config = target.config
    loop = asyncio.get_running_loop()
    while target.mailbox.full and config.overflow == "block":
        left_s = began + config.publish_timeout_s - time.monotonic()
        if left_s <= 0:
            raise MailboxFullError(
                target.service, target.channel, config.max_pending, waited_s=config.publish_timeout_s
            )
        room = asyncio.Event()
        wake = functools.partial(_tell, loop, room)
        target.room.when_free(wake)
        try:
            await asyncio.wait_for(room.wait(), left_s)
        except TimeoutError:
            continue
        finally:
            if not room.is_set():
                target.room.forget(wake)


def _tell(loop: asyncio.AbstractEventLoop, room: asyncio.Event) -> None:
    # The loop may have ended while its task waited: nobody is left to tell.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(room.set)


def _stop_apps() -> None:
    for app in list(_apps):
        app._stop_at_exit()


def _stop_with_multiprocessing() -> None:
    """Have a child of multiprocessing stop its apps: it ends with ``os._exit``, and atexit is not run."""
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.Finalize(None, _stop_apps, exitpriority=100)


def _apps_forked() -> None:
    leave_worker()
    for app in list(_apps):
        app._after_fork()


def _settle_apps_in() -> None:
    for app in list(_apps):
        app._settle_in()


atexit.register(_stop_apps)
# Private, and what concurrent.futures stands on: it runs before threads can no longer be started, where
# atexit runs after. Without it, a script that publishes and ends at once would drop all on 3.12 and later.
with contextlib.suppress(AttributeError):
    threading._register_atexit(_settle_apps_in)  # type: ignore[attr-defined]  # private
os.register_at_fork(after_in_child=_apps_forked)
