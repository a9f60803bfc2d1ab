"""One handler without an app around it, for unit tests of its methods."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from rambla_py.config import load_config
from rambla_py.config.options import merge_message
from rambla_py.config.schema import ChannelConfig
from rambla_py.delivery import LiveDelivery
from rambla_py.errors import DeliveryError, describe
from rambla_py.handler import Handler, State
from rambla_py.handler_levels import level_of
from rambla_py.message import Failed, Ok
from rambla_py.runtime.delivery.event_loop import EventLoop
from rambla_py.runtime.supervision.external_servers import begin
from rambla_py.runtime.supervision.plan import external_servers, make_handler
from rambla_py.serialization.wire_format import body_of
from rambla_py.telemetry.records import target_extra

__all__ = ["ConnectedHandler", "connected", "delivery"]

_SERVICE, _CHANNEL = "test", "orders"
_SETTLED_S = 10.0

_numbers = itertools.count(1)


class _AnyOptions(Handler):
    """Takes every option as it is: for deliveries that are made without a handler."""

    Options = dict

    def handle_publish(self, message: Any, options: Any, state: Any) -> None: ...


def delivery(payload: Any, /, *, handler: type[Handler] = _AnyOptions, **options: Any) -> LiveDelivery[Any]:
    """Return a delivery of its first attempt, as a worker gives it to a handler.

    ``options`` are those of ``publish``: ``id``, ``key``, ``headers``, ``retries`` and the like, checked; the
    others are those of ``handler``, checked and with its defaults, or a dict of them without it. Settled by
    ``ok``, ``failed`` or ``unknown``, it has the answer in ``result`` or ``error``. Raises ``OptionError``,
    and ``ConfigError`` where the handler requires an option, which then has to be given.

    >>> one = delivery({"id": 42}, key="order-42", table="orders")
    >>> one.body(), one.key, one.options, one.attempts
    (b'{"id":42}', 'order-42', {'table': 'orders'}, 1)
    >>> one.ok("stored")
    >>> one.status, one.result
    ('ok', 'stored')
    """
    required = {
        name: options[name]
        for name in options
        if handler.Options not in (None, dict) and name in handler.Options.__struct_fields__
    }
    config = _config(handler, None, required, connect=False)
    return _delivery(config, payload, {name: options[name] for name in options if name not in required})


def _delivery(config: ChannelConfig, payload: Any, options: Mapping[str, Any]) -> LiveDelivery[Any]:
    merged = merge_message(config, options)
    return LiveDelivery(
        payload=payload,
        options=merged.options,
        policy=merged.policy,
        headers=merged.headers,
        key=merged.key,
        accepted_at=time.monotonic(),
        attempts=1,
        target=_Target(config),
        receipt=None,
        seq=next(_numbers),
        given_id=merged.id,
        session=_Session(),
    )


class _Target:
    """The part of a target that a delivery uses."""

    def __init__(self, config: ChannelConfig) -> None:
        self.config, self.service, self.channel = config, config.service, config.channel

    @staticmethod
    def error_text(error: BaseException | None) -> str:
        return describe(error)

    def encode(self, delivery: LiveDelivery) -> bytes:
        return body_of(delivery, self.config.handler.takes_for(delivery.options))

    def expect_ids(self) -> None:
        """Draw no ids beforehand."""


class _Session:
    """Keeps the first answer to a delivery in the delivery itself."""

    worker = 0

    def __init__(self) -> None:
        self.settled = threading.Event()

    def settle_ok(self, delivery: LiveDelivery, result: Any) -> None:
        self._end(delivery, "ok", result, None)

    def settle(self, delivery: LiveDelivery, answer: Any) -> None:
        self._end(delivery, "failed", None, _plain(answer))

    def _end(self, delivery: LiveDelivery, status: Any, result: Any, error: BaseException | None) -> None:
        if not self.settled.is_set():
            delivery.status, delivery.result, delivery.error = status, result, error
            self.settled.set()


def _plain(answer: Any) -> Any:
    """Return the result or the error that an answer means."""
    if isinstance(answer, Ok):
        return answer.result
    if isinstance(answer, Failed):
        reason = answer.reason
        return reason if isinstance(reason, BaseException) else DeliveryError(str(reason))
    return answer


class ConnectedHandler:
    """A handler with its connection: ``handler``, ``state`` and ``options`` as a worker has them."""

    def __init__(self, config: ChannelConfig, handler: Handler, state: State, loop: EventLoop) -> None:
        self.handler, self.state, self.options = handler, state, config.options
        self._config, self._loop = config, loop

    def delivery(self, payload: Any, /, **options: Any) -> LiveDelivery[Any]:
        """Return a delivery with the channel's options, and these laid over them."""
        return _delivery(self._config, payload, options)

    def handle(self, *messages: Any, **options: Any) -> list[Any]:
        """Pass payloads, or deliveries, to the lowest-level ``handle_*`` method that the handler has.

        Returns one answer for each: the result, or the error that was returned or settled with. What
        ``handle_publish`` raises propagates, as it does from ``handle_batch`` and ``handle_deliveries``.
        """
        batch = [one if isinstance(one, LiveDelivery) else self.delivery(one, **options) for one in messages]
        level = level_of(type(self.handler))
        if level == "deliveries":
            return self._settled(batch)
        if level == "batch":
            return [_plain(answer) for answer in self._resolved(self.handler.handle_batch(batch, self.state))]
        return [
            _plain(self._resolved(self.handler.handle_publish(one, one.options, self.state))) for one in batch
        ]

    def ping(self) -> None:
        """Ping the connection; raises what the handler raises."""
        self._resolved(self.handler.ping(self.state.connection))

    def _settled(self, batch: Sequence[LiveDelivery[Any]]) -> list[Any]:
        self._resolved(self.handler.handle_deliveries(batch, self.state))
        for one in batch:
            session = one.session
            if isinstance(session, _Session) and not session.settled.wait(_SETTLED_S):
                raise AssertionError(f"the handler settled {one.id} not within {_SETTLED_S:g} s")
        return [one.result if one.status == "ok" else one.error for one in batch]

    def _resolved(self, answer: Any) -> Any:
        return self._loop.resolved(answer)


@contextmanager
def connected(
    handler: type[Handler],
    settings: Mapping[str, Any] | None = None,
    *,
    channel: str = _CHANNEL,
    **options: Any,
) -> Iterator[ConnectedHandler]:
    """Make a handler, start its external servers, connect it, and close all of it at the end.

    ``settings`` is the connection's table and ``options`` the channel's options, both checked as in a TOML
    file. Raises ``ConfigError``, ``StartError``, and what ``connect`` raises.

    >>> class Shouting(Handler):
    ...     def connect(self):
    ...         return self.settings["sign"]
    ...     def handle_publish(self, message, options, state):
    ...         return message.body().decode().upper() + state.connection
    >>> with connected(Shouting, {"sign": "!"}) as shouting:
    ...     shouting.handle("hello", "world")
    ['HELLO!', 'WORLD!']
    """
    config = _config(handler, settings, options, channel=channel)
    loop = EventLoop("rambla_py.testing")
    with ExitStack() as stack:
        stack.callback(loop.close)
        handles = {}
        for server in external_servers(config):
            running = begin(server, threading.Event(), target_extra(config))
            stack.callback(running.stop, 5.0)
            handles[server.id] = running.handle
        made = make_handler(config, handles)
        connection = loop.resolved(made.connect())
        stack.callback(lambda: loop.resolved(made.close(connection)))
        yield ConnectedHandler(config, made, State(connection, config.channel, config.service), loop)


def _config(
    handler: type[Handler],
    settings: Mapping[str, Any] | None,
    options: Mapping[str, Any],
    *,
    channel: str = _CHANNEL,
    connect: bool = True,
) -> ChannelConfig:
    """Return the checked configuration of one channel, without what the environment overrides."""
    kind = handler
    if not connect:  # its connection may have required keys, and plays no part
        kind = type(handler.__name__, (handler,), {"Connection": dict})
    table: dict[str, Any] = {"handler": kind, "channels": {channel: {"options": dict(options)}}}
    if settings is not None or not connect:
        table["connections"] = {"main": dict(settings or {})}
    config = load_config({_SERVICE: table}, environ={})
    return config.services[_SERVICE].channels[channel]
