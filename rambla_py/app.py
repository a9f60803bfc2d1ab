"""This module is the app: the one place that knows everyone, and the start of the main path."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from rambla_py.actors.inside import is_inside_worker
from rambla_py.actors.looking import audit_of, status_of
from rambla_py.actors.ping import ping_all
from rambla_py.actors.plan import Plan, make_plan
from rambla_py.actors.target import Target
from rambla_py.config import Config, load_config
from rambla_py.errors import MailboxFullError, UnknownChannelError
from rambla_py.life import Life
from rambla_py.receipt import Receipt
from rambla_py.redaction import Redactor
from rambla_py.report import Audit, Ping, TargetStatus
from rambla_py.route import PLAIN, draft, find, is_plain
from rambla_py.telemetry.events import Event

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
        self._redact = Redactor(self.config.secrets).text
        self._life = Life(self.config, self._redact)
        # Channels that one plain message reaches in one step; empty whenever it must take the longer way.
        self._hot = self._life.hot

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str] | None = None) -> Self:
        """Return an app of a TOML file.

        Without ``path`` it looks at ``$RAMBLA_CONFIG``, ``rambla.toml``, ``config/rambla.toml``, and
        ``[tool.rambla]`` in ``pyproject.toml``. Raises ``ConfigError`` with every problem at once.
        """
        return cls(load_config(None if path is None else os.fspath(path)))

    def __repr__(self) -> str:
        return f"<Rambla {self._life.state}, {len(self.channels())} channels>"

    # -- life -----------------------------------------------------------------------------------------

    @property
    def plan(self) -> Plan:
        """The supervision tree of this configuration, as data."""
        return make_plan(self.config)

    def start(self) -> Self:
        """Start; lazy channels (the default) wait for their first message. Starting twice is once."""
        self._life.start()
        return self

    def stop(self, timeout_s: float = 30.0) -> dict[str, Audit] | None:
        """Take no new messages, deliver what can be within ``timeout_s`` seconds, drop the rest.

        Returns the accounts. From a callback or a handler it happens in the background, and returns None.
        """
        if is_inside_worker():
            threading.Thread(
                target=self._life.stop, args=(timeout_s,), name="rambla stop", daemon=True
            ).start()
            return None
        self._life.stop(timeout_s)
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
        accepted, those that find no room end as ``dropped``: the first after ``publish_timeout_s``, those
        behind it at once.
        """
        messages = tuple(messages)
        target = self._hot.get(channels) if isinstance(channels, str) and not options else None
        if target is not None and target.room.has(len(messages)) and all(map(is_plain, messages)):
            return target.submit_many(messages)
        return self._publish(channels, messages, options, many=True)

    async def publish_async(self, channels: str | Iterable[str], message: Any, /, **options: Any) -> Receipt:
        """Publish from an event loop: wait for room without blocking it, for up to ``publish_timeout_s``.

        Returns the receipt; ``await`` that for the result. Raises as ``publish`` does.
        """
        began = time.monotonic()
        channels = channels if isinstance(channels, str) else tuple(channels)
        while True:
            targets = find(self._life.running().routes, channels)
            for target in targets:
                await target.room.wait_async(began)
            try:
                return self.publish(channels, message, **options)
            except MailboxFullError as error:
                # Another thread was quicker. Where the overflow policy itself raises, so do we.
                if error.waited_s is not None or not all(target.room.waits for target in targets):
                    raise

    def _publish(
        self, channels: str | Iterable[str], messages: tuple[Any, ...], options: dict[str, Any], *, many: bool
    ) -> Receipt:
        system = self._life.running()
        targets = find(system.routes, channels)
        receipt = Receipt.expecting(system.home, len(messages), len(targets), many=many)
        deliveries = [
            delivery
            for at, message in enumerate(messages)
            for delivery in draft(targets, message, options, receipt, system.next_id, at * len(targets))
        ]
        for target in targets:
            target.room.check(len(messages))
        stuck: set[object] = set()  # whoever waited for one in vain does not wait for each of the others, too
        for at, delivery in enumerate(deliveries):
            target = targets[at % len(targets)]
            if not target.admit(delivery, may_raise=at == 0, may_wait=target not in stuck):
                stuck.add(target)
        return receipt

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
        return {target.config.name: status_of(target) for target in self._targets()}

    def audit(self) -> dict[str, Audit]:
        """Return the accounts of each target: accepted = the outcomes + pending, exact once nothing moves."""
        return {target.config.name: audit_of(target) for target in self._targets()}

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until all that was accepted by now has its outcome; say whether it has, in time."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        return self._life.running().flush(deadline)

    def ping(self, channel: str | None = None, timeout_s: float = 5.0) -> list[Ping]:
        """Connect to the servers of a channel, or of all, on connections of their own; needs no start.

        Raises ``UnknownChannelError``.
        """
        known = self.channels()
        if channel is not None and channel not in known:
            raise UnknownChannelError(channel, known)
        chosen = [config for config in self.config.every_channel() if channel in (None, config.channel)]
        return ping_all(chosen, timeout_s, self._redact)

    def listen(self, listener: Callable[[Event], Any]) -> Callable[[], None]:
        """Tell a listener of every event (published, attempt, outcome, worker up and down) from now on.

        Returns a function that ends it. The listener runs where the event happens, and has to be quick.
        """
        return self._life.listen(listener)

    def _targets(self) -> list[Target]:
        return self._life.targets()
