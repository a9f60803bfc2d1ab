"""Loading: a TOML file or a mapping becomes a checked ``Config``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from rambla_py.config.conversion import convert_table
from rambla_py.config.environment import interpolated, overridden
from rambla_py.config.environment import overrides as given_by
from rambla_py.config.fallbacks import check_fallbacks
from rambla_py.config.handler_lookup import Found, find, own_table
from rambla_py.config.layers import Known
from rambla_py.config.outbox_table import checked_outbox
from rambla_py.config.problems import ProblemList, joined
from rambla_py.config.rambla_table import (
    check_defaults,
    chosen_services,
    read_defaults,
    read_settings,
)
from rambla_py.config.raw_tree import Node, merge, plain, wrap
from rambla_py.config.reading import read
from rambla_py.config.schema import Config, ServiceConfig
from rambla_py.config.services import Service, read_service
from rambla_py.config.web_table import check_telemetry, check_web

__all__ = ["load_config"]

RAMBLA = "rambla"

Defaults = Callable[[dict[str, Any]], Mapping[str, Any]]


def load_config(
    source: Mapping[str, Any] | str | Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    defaults: Defaults | None = None,
) -> Config:
    """Read, check and freeze a configuration.

    ``source`` is a mapping, the path of a TOML file, or None: then ``$RAMBLA_CONFIG``, ``rambla.toml``,
    ``config/rambla.toml`` and ``[tool.rambla]`` in ``pyproject.toml`` are tried in this order. ``environ``
    replaces ``os.environ``. ``overrides`` is merged over all of it, table by table, the environment included.
    ``defaults`` is called with all of it as plain data, and returns a mapping that is laid under it.
    Raises ``ConfigError`` with all problems at once.

    >>> from rambla_py.handler import Handler
    >>> class Nowhere(Handler):
    ...     def handle_publish(self, message, options, state): ...
    >>> config = load_config({"nowhere": {"handler": Nowhere, "channels": {"orders": {"count": 2}}}})
    >>> config.services["nowhere"].channels["orders"].count
    2
    """
    environment = os.environ if environ is None else environ
    problems = ProblemList()
    reading = read(source, environment, problems)
    tree = overridden(reading.tree, given_by(environment), problems)
    if overrides is not None:
        tree = merge(tree, wrap(overrides, "overrides"))
    if defaults is not None:
        tree = merge(wrap(defaults(plain(tree)), "defaults"), tree)
    raw = _Raw(tree, environment)
    config = _checked(raw, tuple(reading.files), problems)
    problems.refuse()
    return msgspec.structs.replace(config, secrets=frozenset(problems.secrets))


class _Raw(msgspec.Struct, frozen=True):
    """The tree with everything that overrides the files, and the environment."""

    tree: Node
    environ: Mapping[str, str]

    def table(self, name: str, problems: ProblemList) -> Node:
        """Return a top-level table, interpolated; an empty one, with a problem, if it is not a table."""
        node = interpolated(self.tree.get(name) or wrap({}), joined("", name), self.environ, problems)
        return convert_table(node, joined("", name), problems, f"a table, as [{name}]") or wrap({}, node.file)


def _checked(raw: _Raw, files: tuple[str, ...], problems: ProblemList) -> Config:
    rambla = raw.table(RAMBLA, problems)
    settings = read_settings(rambla, problems)
    names = [name for name in raw.tree.value if name != RAMBLA]
    chosen = chosen_services(settings, rambla, names, problems)
    found = {name: _found(raw, name, problems) for name in chosen}
    others = (_found(raw, name, ProblemList()) for name in names if name not in chosen)
    check_defaults(rambla, (service.handler.known for service in chain(found.values(), others)), problems)
    services = {name: _service(name, service, rambla, problems) for name, service in found.items()}
    check_fallbacks({name: service.table for name, service in found.items()}, problems)
    kept = {name: service for name, service in services.items() if service is not None}
    channels = [channel for service in kept.values() for channel in service.channels.values()]
    check_telemetry(settings.telemetry, rambla, problems)
    check_web(settings.web, rambla, {name: service.table for name, service in found.items()}, problems)
    outbox = checked_outbox(settings.outbox, channels, files, problems)
    return Config(services=kept, rambla=msgspec.structs.replace(settings, outbox=outbox), files=files)


class _Found(msgspec.Struct, frozen=True):
    """A service's table merged over that of its handler's ``config()``, and the handler."""

    table: Node
    handler: Found


def _found(raw: _Raw, name: str, problems: ProblemList) -> _Found:
    table = raw.table(name, problems)
    if not raw.tree.value[name].is_table:
        return _Found(table, Found(name))
    handler = find(name, table, problems)
    if handler.handler is not None:
        given = wrap(own_table(handler.handler, name, table, problems), table.file)
        table = merge(interpolated(given, joined("", name), raw.environ, problems), table)
    return _Found(table, handler)


def _service(name: str, found: _Found, rambla: Node, problems: ProblemList) -> ServiceConfig | None:
    known = found.handler.known or Known({}, anything=True)
    service = Service(
        name=name,
        handler=found.handler.handler if found.handler.known is not None else None,
        handler_name=found.handler.name,
        known=known,
        defaults=read_defaults(rambla, known, problems),
    )
    return read_service(found.table, service, problems)
