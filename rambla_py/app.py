"""The app: an object for a configuration, and the start of the main path."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Coroutine, Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from rambla_py._internal.durations import DEFAULT, Default, time_limit
from rambla_py._internal.waiting import warn_in_event_loop
from rambla_py.channel import Channel
from rambla_py.config import Config, load_config
from rambla_py.errors import OptionError
from rambla_py.outbox.attaching import Attached, attach_outbox
from rambla_py.outbox.outbox import Outbox
from rambla_py.outbox.view import OutboxView
from rambla_py.receipt import Receipt
from rambla_py.runtime.health import Need, health_of
from rambla_py.runtime.lifecycle import Lifecycle
from rambla_py.runtime.ping import Pinged, ping_all, ping_all_async, pinged_of
from rambla_py.runtime.publisher import Publisher
from rambla_py.runtime.routing import bound_options, configured
from rambla_py.runtime.supervision.plan import Plan, make_plan
from rambla_py.runtime.target.failures import grouped
from rambla_py.runtime.target.snapshot import audit_of, status_of
from rambla_py.runtime.target.target import Target
from rambla_py.runtime.worker_threads import is_inside_worker
from rambla_py.status import Audit, FailureGroup, Health, Ping, TargetStatus
from rambla_py.telemetry.at_start import at_start
from rambla_py.telemetry.error_text import ErrorText
from rambla_py.telemetry.events import Event
from rambla_py.telemetry.observer import Observer
from rambla_py.telemetry.tracing import Tracing

__all__ = ["Rambla"]


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
        self._error_text = ErrorText(self.config.secrets, details=self.config.rambla.log_payloads)
        self._lifecycle = Lifecycle(self.config, self._error_text, attach_outbox)
        self._publisher = Publisher(self._lifecycle)
        self._is_accompanied = self._is_traced = False
        # The ways into channels that take ordinary messages in one step; empty when there are none.
        self._fast_paths = self._lifecycle.fast_paths

    @classmethod
    def from_toml(
        cls, path: str | os.PathLike[str] | None = None, *, overrides: Mapping[str, Any] | None = None
    ) -> Self:
        """Return an app of a TOML file.

        Without ``path`` it looks at ``$RAMBLA_CONFIG``, ``rambla.toml``, ``config/rambla.toml``, and
        ``[tool.rambla]`` in ``pyproject.toml``. ``overrides`` is a mapping, shaped as the file, that is laid
        over it table by table. Raises ``ConfigError`` with every problem at once.
        """
        return cls(load_config(None if path is None else os.fspath(path), overrides=overrides))

    def __repr__(self) -> str:
        return f"<Rambla {self._lifecycle.state}, {len(self.channels())} channels>"

    # -- life -----------------------------------------------------------------------------------------

    @property
    def plan(self) -> Plan:
        """The supervision tree of this configuration, as data."""
        return make_plan(self.config)

    def start(self) -> Self:
        """Start; lazy channels (the default) wait for their first message. A second call does nothing.

        Raises ``AlreadyRunningError`` while the app stops.
        """
        self._accompany()
        self._lifecycle.start()
        return self

    def _accompany(self) -> None:
        """Attach what the configuration asks for, and the process: traces, the operations page."""
        self._tracing()
        if not self._is_accompanied:
            self._is_accompanied = True
            if self.config.rambla.web.enabled:
                importlib.import_module("rambla_py.web.server").serve(self)

    def _tracing(self) -> Tracing | None:
        """Return what traces the app, also if it does not run; None unless something asked for traces."""
        at_start(self)
        telemetry = self.config.rambla.telemetry
        if telemetry.traces and not self._is_traced:
            self._is_traced = True
            importlib.import_module("rambla_py.telemetry.otel").instrument(
                self, create_spans=telemetry.create_spans, max_spans=telemetry.max_spans
            )
        return self._lifecycle.tracing

    def stop(self, timeout_s: float | None = 20.0) -> dict[str, Audit]:
        """Take no new messages, deliver within ``timeout_s`` seconds, drop the rest; return the accounts.

        It returns as soon as nothing is left. ``None`` and ``inf`` mean no limit. In a handler or a callback
        it returns the accounts of that moment, and goes on in the background. A second call, from another
        thread, waits for the first; one from a signal handler that interrupts the first takes over. An
        exception in the waiting thread (``KeyboardInterrupt``) propagates at once: messages are delivered as
        before, and the next ``stop``, or else the exit of the interpreter, finishes.

        Raises ``OptionError`` for a time that is none, before anything is stopped.
        """
        limit_s = time_limit(timeout_s)
        if is_inside_worker():
            self._lifecycle.request_stop(limit_s)
        else:
            if self._lifecycle.state in ("running", "stopping"):
                warn_in_event_loop("stop()", "astop()")
            self._lifecycle.stop(limit_s)
        return self.audit()

    async def astop(self, timeout_s: float | None = 20.0) -> dict[str, Audit]:
        """Stop as ``stop`` does, without blocking the event loop. A cancellation interrupts it."""
        await self._lifecycle.stop_async(time_limit(timeout_s))
        return self.audit()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.astop()

    # -- publishing -----------------------------------------------------------------------------------

    def publish(self, channels: str | Iterable[str], message: Any, /, **options: Any) -> Receipt:
        """Accept a message for one or several channels, and return the receipt of its outcomes.

        A channel is given by its name, or as ``"service.channel"`` for one target of several. The call does
        not wait for the network. ``message`` is any value, a ``Message``, or a callable that a worker calls
        with the live connection. The message is captured: later changes to the payload, headers or options
        have no effect. ``options`` win over those of the message, which win over the channel's.

        Raises, before anything is accepted: ``UnknownChannelError``, ``OptionError``, ``NotRunningError``,
        ``SerializationError`` (with the path to the value); ``MailboxFullError`` when there is no room within
        ``publish_timeout_s``, or at once inside an event loop, a handler or a callback.
        """
        try:
            path = self._fast_paths[channels]  # type: ignore[index]  # several raise TypeError
        except (KeyError, TypeError):  # the first message of a channel, or the slow path
            return self._publisher.publish(channels, message, options)
        if options:
            receipt = path.accept_with(message, options)
        else:
            accept = path.accept  # not called at once: an attribute that is no method is faster to read
            receipt = accept(message)
        return self._publisher.publish_slowly(channels, message, options) if receipt is None else receipt

    def publish_many(
        self, channels: str | Iterable[str], messages: Iterable[Any], /, **options: Any
    ) -> Receipt:
        """Accept many messages at once; each has an outcome of its own, and one receipt holds all of them.

        All of them are checked and captured before the first is accepted. Raises as ``publish`` does; once
        one message is accepted, those that find no room end as ``dropped``: the first after
        ``publish_timeout_s``, those behind it at once.
        """
        return self._publisher.publish_many(channels, messages, options)

    def publish_async(
        self, channels: str | Iterable[str], message: Any, /, **options: Any
    ) -> Coroutine[Any, Any, Receipt]:
        """Publish from an event loop: ``receipt = await app.publish_async(...)``.

        The message is checked and captured in this call, which raises as ``publish`` does; it is accepted in
        the coroutine returned, which waits for room without blocking the loop, for up to
        ``publish_timeout_s``. ``await receipt`` gives the result.
        """
        return self._publisher.publish_async(channels, message, options)

    def publish_many_async(
        self, channels: str | Iterable[str], messages: Iterable[Any], /, **options: Any
    ) -> Coroutine[Any, Any, Receipt]:
        """Publish many messages from an event loop: ``receipt = await app.publish_many_async(...)``.

        They are checked and captured in this call, and accepted in the coroutine returned; other tasks run
        every 1,000 messages.
        """
        return self._publisher.publish_many_async(channels, messages, options)

    def channel(self, name: str, **options: Any) -> Channel:
        """Return a channel, or ``"service.channel"`` for one target, with options bound and checked once.

        Needs no start. Raises ``UnknownChannelError`` and ``OptionError``.
        """
        return Channel(self._publisher, name, bound_options(self.config, name, options))

    # -- looking --------------------------------------------------------------------------------------

    def channels(self) -> list[str]:
        """Return the names of the channels, in config order."""
        return list(dict.fromkeys(channel.channel for channel in self.config.every_channel()))

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
        redact = self._error_text.redacted
        return {target.config.name: status_of(target, redact) for target in self._targets()}

    def audit(self) -> dict[str, Audit]:
        """Return the accounts of each target: accepted = the outcomes + pending, exact once nothing moves."""
        return {name: audit_of(target) for name, target in self._lifecycle.known_targets()}

    def failures(self, channel: str | None = None, limit: int = 100) -> list[FailureGroup]:
        """Return the last deliveries that did not end as ``ok``, by target and kind of error, newest first.

        Each target remembers its last 200, without those that are kept as dead letters. ``limit`` is the
        largest number of groups. Nothing of a message but its id is in them.

        >>> table = {"stub": {"channels": {"demo": {"options": {"error": "no room", "retries": 0}}}}}
        >>> with Rambla(table) as app:
        ...     _ = app.publish("demo", "hello").outcomes(timeout_s=5)
        >>> [(group.status, group.count) for group in app.failures("demo")]
        [('fatal', 1)]

        Raises ``UnknownChannelError``, and ``OptionError`` for a limit below 1.
        """
        if limit < 1:
            raise OptionError("limit", f"expected an integer >= 1, got {limit!r}")
        config = self._lifecycle.config_in_use()
        chosen = config.every_channel() if channel is None else configured(config, channel)
        names = {one.name for one in chosen}
        targets = [target for name, target in self._lifecycle.known_targets() if target and name in names]
        found = [one for target in targets for one in target.completion.failures.last()]
        return grouped(found, self._error_text.redacted)[:limit]

    def health(self, channels: str | Iterable[str] | None = None, *, need: Need = "accept") -> Health:
        """Return whether the app works and takes messages, without the network; for the probes of a platform.

        ``live`` is False only if the app's own threads have died or hang, never because of a backend.
        ``ready`` is whether it runs. ``channels`` adds conditions for each of their targets: it is not
        disabled and its mailbox not full; with ``need="connected"`` it is also idle or a worker is connected.

        >>> table = {"null": {"connections": {"here": {}}, "channels": {"demo": {"connection": "here"}}}}
        >>> with Rambla(table) as app:
        ...     app.health("demo")
        Health(live=True, ready=True, reasons=[])
        >>> app.health()
        Health(live=True, ready=False, reasons=['the app is stopped'])

        Raises ``UnknownChannelError``, and ``OptionError`` for another ``need``.
        """
        return health_of(self._lifecycle, channels, need)

    def flush(self, timeout_s: float | Default | None = DEFAULT) -> bool:
        """Wait until all that was accepted by now has its outcome; return whether it has.

        What others have stored in the outbox for this process to deliver counts as accepted.
        Without a time it raises ``ReceiptTimeoutError`` once none of it has ended for
        ``[rambla] result_timeout_s`` seconds. ``None`` and ``inf`` mean no limit.
        """
        limit = _limit(timeout_s)
        flush = self._lifecycle.running().flush()
        if not flush.done:
            warn_in_event_loop("flush()", "aflush()")
        return flush.wait(limit, self.config.rambla.result_timeout_s)

    async def aflush(self, timeout_s: float | Default | None = DEFAULT) -> bool:
        """Wait as ``flush`` does, without blocking the event loop."""
        limit = _limit(timeout_s)
        return await self._lifecycle.running().flush().wait_async(limit, self.config.rambla.result_timeout_s)

    def ping(self, channel: str | None = None, timeout_s: float | None = 5.0) -> list[Ping]:
        """Connect to the servers of a channel, or of all, on connections of their own; needs no start.

        Raises ``UnknownChannelError``.
        """
        chosen, limit_s = self._pinged(channel), time_limit(timeout_s)
        warn_in_event_loop("ping()", "aping()")
        return ping_all(chosen, limit_s, self._error_text)

    async def aping(self, channel: str | None = None, timeout_s: float | None = 5.0) -> list[Ping]:
        """Ping as ``ping`` does, without blocking the event loop."""
        return await ping_all_async(self._pinged(channel), time_limit(timeout_s), self._error_text)

    def _pinged(self, channel: str | None) -> list[Pinged]:
        config = self._lifecycle.config_in_use()
        chosen = config.every_channel() if channel is None else configured(config, channel)
        targets = dict(self._lifecycle.known_targets())
        return [pinged_of(target) if (target := targets.get(one.name)) else Pinged(one) for one in chosen]

    @property
    def outbox(self) -> OutboxView:
        """What the outbox holds: its audit, its status, its dead letters, which it can replay."""
        return OutboxView(self.config, self._running_outbox, self.publish)

    def _running_outbox(self) -> Outbox | None:
        attached = self._lifecycle.outbox
        if isinstance(attached, Attached):
            return attached.outbox
        return attached if isinstance(attached, Outbox) else None

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Call an observer once a batch from now on; return a function that ends it."""
        return self._lifecycle.observe(observer)

    def listen(self, listener: Callable[[Event], Any]) -> Callable[[], None]:
        """Call a listener with every event from now on; return a function that ends it.

        The listener runs on the thread where the thing happens, once for each message, and must be quick.
        While there is one, every ``publish`` costs as much as one with options; ``observe`` costs next to
        nothing.
        """
        return self._lifecycle.listen(listener)

    def _targets(self) -> list[Target]:
        return self._lifecycle.targets()


def _limit(timeout_s: float | Default | None) -> float | Default:
    return DEFAULT if timeout_s is DEFAULT else time_limit(timeout_s)
