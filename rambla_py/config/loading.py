"""This module turns a TOML file or a mapping into a checked ``Config``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from rambla_py.config.conversion import convert_table
from rambla_py.config.environment import interpolated, overridden, overrides
from rambla_py.config.fallbacks import check_fallbacks
from rambla_py.config.findings import Findings, joined
from rambla_py.config.handler_lookup import Found, find, own_table
from rambla_py.config.layers import Known
from rambla_py.config.node import Node, merge, wrap
from rambla_py.config.rambla_table import (
    check_defaults,
    chosen_services,
    read_defaults,
    read_envelope,
    read_settings,
)
from rambla_py.config.reading import read
from rambla_py.config.schema import Config, ServiceConfig
from rambla_py.config.services import Service, read_service

__all__ = ["load_config"]

RAMBLA = "rambla"


def load_config(
    source: Mapping[str, Any] | str | Path | None = None, *, environ: Mapping[str, str] | None = None
) -> Config:
    """Read, check and freeze a configuration.

    ``source`` is a mapping, the path of a TOML file, or None: then ``$RAMBLA_CONFIG``, ``rambla.toml``,
    ``config/rambla.toml`` and ``[tool.rambla]`` in ``pyproject.toml`` are looked at, in this order.
    ``environ`` stands for ``os.environ``. Raises ``ConfigError`` with every problem at once.

    >>> from rambla_py.handler import Handler
    >>> class Nowhere(Handler):
    ...     def handle_publish(self, message, options, state): ...
    >>> config = load_config({"nowhere": {"handler": Nowhere, "channels": {"orders": {"count": 2}}}})
    >>> config.services["nowhere"].channels["orders"].count
    2
    """
    environment = os.environ if environ is None else environ
    findings = Findings()
    reading = read(source, environment, findings)
    tree = overridden(reading.tree, overrides(environment), findings)
    raw = _Raw(reading.tree, tree, environment)
    config = _checked(raw, tuple(reading.files), findings)
    findings.refuse()
    return msgspec.structs.replace(config, secrets=frozenset(findings.secrets))


class _Raw(msgspec.Struct, frozen=True):
    """The tree as written, the same with the environment's overrides, and the environment."""

    written: Node
    tree: Node
    environ: Mapping[str, str]

    def table(self, name: str, findings: Findings) -> Node:
        """Return a top-level table, interpolated; an empty one where it is no table, which is noted."""
        node = interpolated(self.tree.get(name) or wrap({}), joined("", name), self.environ, findings)
        return convert_table(node, joined("", name), findings, f"a table, as [{name}]") or wrap({}, node.file)

    def states(self, name: str) -> bool:
        """Whether the files have connections or channels for a service."""
        table = self.written.get(name)
        return table is not None and bool(table.get("connections") or table.get("channels"))


def _checked(raw: _Raw, files: tuple[str, ...], findings: Findings) -> Config:
    rambla = raw.table(RAMBLA, findings)
    settings = read_settings(rambla, findings)
    names = [name for name in raw.tree.value if name != RAMBLA]
    chosen = chosen_services(settings, rambla, names, findings)
    found = {name: _found(raw, name, findings) for name in chosen}
    others = (_found(raw, name, Findings()) for name in names if name not in chosen)
    check_defaults(rambla, (service.handler.known for service in chain(found.values(), others)), findings)
    services = {name: _service(name, service, rambla, findings) for name, service in found.items()}
    check_fallbacks({name: service.table for name, service in found.items()}, findings)
    kept = {name: service for name, service in services.items() if service is not None}
    return Config(services=kept, rambla=settings, files=files)


class _Found(msgspec.Struct, frozen=True):
    """A service's table, the handler's own laid below it, and its handler."""

    table: Node
    handler: Found


def _found(raw: _Raw, name: str, findings: Findings) -> _Found:
    table = raw.table(name, findings)
    if not raw.tree.value[name].is_table:
        return _Found(table, Found(name))
    handler = find(name, table, findings)
    if handler.handler is not None and not raw.states(name):
        given = wrap(own_table(handler.handler, name, table, findings), table.file)
        table = merge(interpolated(given, joined("", name), raw.environ, findings), table)
    return _Found(table, handler)


def _service(name: str, found: _Found, rambla: Node, findings: Findings) -> ServiceConfig | None:
    known = found.handler.known or Known({}, anything=True)
    service = Service(
        name=name,
        handler=found.handler.handler if found.handler.known is not None else None,
        handler_name=found.handler.name,
        known=known,
        defaults=read_defaults(rambla, known, findings),
        envelope=read_envelope(rambla, findings),
    )
    return read_service(found.table, service, findings)
