"""Rows of messages, checked as ``publish`` checks them, without a running app."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from rambla_py.errors import OptionError, describe
from rambla_py.outbox.row_of import row_of
from rambla_py.outbox.rows import Row
from rambla_py.receipt import Home
from rambla_py.runtime.calls import plan
from rambla_py.runtime.routing import Routes, find_targets
from rambla_py.runtime.target.drafts import Drafts
from rambla_py.serialization.wire_format import body_of

if TYPE_CHECKING:
    from rambla_py.config.schema import ChannelConfig, Config
    from rambla_py.delivery import LiveDelivery
    from rambla_py.runtime.target.target import Target
    from rambla_py.telemetry.tracing import CallTrace, Tracing

__all__ = ["App", "Messages", "checked"]

_HOME = Home(60.0)


class App(Protocol):
    """What has a configuration: a ``Rambla``, which need not run."""

    @property
    def config(self) -> Config:
        """The configuration."""

    def _tracing(self) -> Tracing | None:
        """Return what traces it."""


class Messages:
    """The rows of one call; ``ids`` are those of its messages, in order, ``trace`` is that of the call."""

    def __init__(self, trace: CallTrace | None) -> None:
        self.trace, self.accepted = trace, time.time()
        self.ids: list[str] = []
        self.rows: list[Row] = []


class _Admission:
    """The part of a target that checks messages."""

    intake = publish_hook = None

    def __init__(self, drafts: Drafts) -> None:
        self.drafts = drafts


class _Rows:
    """Makes the rows of one target and one call; ``gives_ids``: their ids are those of the messages."""

    def __init__(self, config: ChannelConfig, messages: Messages, *, gives_ids: bool, stored: bool) -> None:
        self._config, self._messages = config, messages
        self._gives_ids, self._stored = gives_ids, stored

    def prepare(self, deliveries: Sequence[LiveDelivery], givens: Sequence[Mapping[str, Any]]) -> None:
        """Make the rows of deliveries; raises ``SerializationError`` and ``OptionError``."""
        for delivery, given in zip(deliveries, givens, strict=True):
            row = row_of(self._config, delivery, given, self._messages.accepted)
            if self._stored:
                self._messages.rows.append(row)
            if self._gives_ids:
                self._messages.ids.append(row.id)


class _Channel:
    """A target that takes no messages: it checks and encodes them only."""

    gatherings = ()

    def __init__(
        self, config: ChannelConfig, drafts: Drafts | None = None, rows: _Rows | None = None
    ) -> None:
        self.config, self.service, self.channel = config, config.service, config.channel
        self.admission = _Admission(Drafts(self, _no_fast_path) if drafts is None else drafts)
        self.durability = rows

    @property
    def error_text(self) -> Callable[[BaseException | None], str]:
        return describe

    def encode(self, delivery: LiveDelivery) -> bytes:
        return body_of(delivery, self.config.handler.takes_for(delivery.options))

    def expect_ids(self) -> None:
        """Draw no ids beforehand."""


_routes: weakref.WeakKeyDictionary[App, dict[str, tuple[_Channel, ...]]] = weakref.WeakKeyDictionary()


def checked(
    app: App,
    channels: str | Iterable[str],
    messages: Iterable[Any],
    options: Mapping[str, Any],
    *,
    many: bool,
) -> Messages:
    """Return the rows of a call; raises as ``publish`` does, and ``OptionError`` if a channel is not durable.

    Those of a disabled channel are checked, and left out. The caller ends the trace once they are stored.
    """
    known = cast("tuple[_Channel, ...]", find_targets(cast("Routes", _routes_of(app)), channels))
    for config in (target.config for target in known):
        if not config.durable:
            reason = "is false; outbox.publish needs a channel with durable = true"
            raise OptionError("durable", reason, service=config.service, channel=config.channel)
    tracing = app._tracing()
    made = Messages(None if tracing is None else tracing.begin())
    # New ones for each call: they make its rows.
    targets = tuple(_Channel(one.config, one.admission.drafts, _rows(app, one, known, made)) for one in known)
    plan(_HOME, cast("tuple[Target, ...]", targets), tuple(messages), options, many=many, trace=made.trace)
    return made


def _rows(app: App, target: _Channel, targets: Sequence[_Channel], messages: Messages) -> _Rows:
    stored = app.config.rambla.enabled and target.config.enabled
    return _Rows(target.config, messages, gives_ids=target is targets[0], stored=stored)


def _routes_of(app: App) -> dict[str, tuple[_Channel, ...]]:
    routes = _routes.get(app)
    if routes is None:
        routes = {}
        for config in app.config.every_channel():
            target = _Channel(config)
            routes[config.channel] = (*routes.get(config.channel, ()), target)
            routes[config.name] = (target,)
        _routes[app] = routes
    return routes


def _no_fast_path(draft: Any) -> Callable[..., None]:
    return lambda *_: None
