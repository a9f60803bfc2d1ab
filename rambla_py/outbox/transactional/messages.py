"""Rows of messages, checked as ``publish`` checks them, without a running app."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from rambla_py.config.options import accepts
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

__all__ = ["App", "Messages", "checked"]

_HOME = Home(60.0)


class App(Protocol):
    """What has a configuration: a ``Rambla``, which need not run."""

    @property
    def config(self) -> Config:
        """The configuration."""


class Messages:
    """The rows of one call; ``ids`` are those of its messages, in order."""

    def __init__(self, ids: list[str], rows: list[Row]) -> None:
        self.ids, self.rows = ids, rows


class _Admission:
    """The part of a target that checks messages; records the options that each message gave."""

    intake = None

    def __init__(self, drafts: Drafts) -> None:
        self.drafts = drafts
        self.given: list[Mapping[str, Any]] = []

    def publish_hook(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        self.given.append(given)
        return given


class _Channel:
    """A target that takes no messages: it checks and encodes them only."""

    durability = None
    gatherings = ()

    def __init__(self, config: ChannelConfig, drafts: Drafts | None = None) -> None:
        self.config, self.service, self.channel = config, config.service, config.channel
        self.admission = _Admission(Drafts(self, _no_fast_path) if drafts is None else drafts)

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

    Those of a disabled channel are checked, and left out.
    """
    known = cast("tuple[_Channel, ...]", find_targets(cast("Routes", _routes_of(app)), channels))
    for config in (target.config for target in known):
        if not config.durable:
            reason = "is false; outbox.publish needs a channel with durable = true"
            raise OptionError("durable", reason, service=config.service, channel=config.channel)
    # New ones for each call: they record what its messages give.
    targets = tuple(_Channel(target.config, target.admission.drafts) for target in known)
    call = plan(_HOME, cast("tuple[Target, ...]", targets), tuple(messages), options, many=many)
    return _stored(targets, call.deliveries, enabled=app.config.rambla.enabled)


def _stored(targets: Sequence[_Channel], deliveries: Sequence[LiveDelivery], *, enabled: bool) -> Messages:
    now = time.time()
    ids: list[str] = []
    rows: list[Row] = []
    for number, delivery in enumerate(deliveries):
        at, place = divmod(number, len(targets))
        target = targets[place]
        given = target.admission.given[at]
        if len(targets) > 1:
            given = {name: value for name, value in given.items() if accepts(target.config, name)}
        row = row_of(target.config, delivery, given, now)
        if enabled and target.config.enabled:
            rows.append(row)
        if place == 0:
            ids.append(row.id)
    return Messages(ids, rows)


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
