"""Lookup of targets by channel name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rambla_py.config.options import accepts, merge_message, option_names
from rambla_py.config.schema import ChannelConfig, Config
from rambla_py.errors import OptionError, UnknownChannelError
from rambla_py.runtime.target.target import Target
from rambla_py.serialization.capture import captured

__all__ = ["Routes", "bound_options", "check_names", "configured", "find_targets", "known_names"]

Routes = Mapping[str, tuple[Target, ...]]
"""Targets by the name of their channel, and each by ``service.channel``."""


def find_targets(routes: Routes, channels: str | Iterable[str]) -> tuple[Target, ...]:
    """Return the targets of one or several names, each once; raises ``UnknownChannelError``.

    A name is that of a channel, which means all of its targets, or ``service.channel`` for one target.
    """
    names = (channels,) if isinstance(channels, str) else tuple(channels)
    found: dict[Target, None] = {}
    for name in names:
        if name not in routes:
            raise UnknownChannelError(name, known_names(routes, name))
        found.update(dict.fromkeys(routes[name]))
    if not found:
        raise UnknownChannelError("", known_names(routes, ""))
    return tuple(found)


def configured(config: Config, name: str) -> list[ChannelConfig]:
    """Return the configurations of the targets of a name; raises ``UnknownChannelError``."""
    targets = config.every_channel()
    found = [target for target in targets if name in (target.channel, target.name)]
    if not found:
        names = dict.fromkeys(known for target in targets for known in (target.channel, target.name))
        raise UnknownChannelError(name, known_names(names, name))
    return found


def bound_options(config: Config, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options to bind to a channel, checked and captured; raises as ``publish`` does."""
    targets = configured(config, name)
    if "id" in options:
        raise OptionError("id", "belongs to one message; give it with publish", channel=name)
    check_names(targets, options)
    captured_options = {option: captured(value) for option, value in options.items()}
    for target in targets:
        merge_message(target, {k: v for k, v in captured_options.items() if accepts(target, k)})
    return captured_options


def known_names(names: Iterable[str], name: str) -> list[str]:
    """Return the names to suggest for an unknown one; ``service.channel`` names only if it has a dot.

    >>> known_names(["orders", "amqp.orders"], "ordrs")
    ['orders']
    """
    return [known for known in names if "." not in known or "." in str(name)]


def check_names(targets: Sequence[ChannelConfig], names: Iterable[str]) -> None:
    """Raise ``OptionError`` for an option that none of the targets accepts."""
    for name in names:
        if not any(accepts(target, name) for target in targets):
            raise _unknown(targets, name)


def _unknown(targets: Sequence[ChannelConfig], name: str) -> OptionError:
    known = sorted({known for target in targets for known in option_names(target.handler)})
    first = targets[0]
    if len(targets) == 1:
        return OptionError(name, "unknown", service=first.service, channel=first.channel, known=known)
    where = ", ".join(target.name for target in targets)
    return OptionError(name, f"unknown to {where}", channel=first.channel, known=known)
