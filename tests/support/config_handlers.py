"""Handlers that the tests of the configuration configure."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from rambla_py.config import Config, load_config
from rambla_py.errors import ConfigError, Problem
from rambla_py.handler import Handler, Secret, per_channel

HERE = __name__


class Silent(Handler):
    """Delivers to nowhere, declares no options, takes any connection."""

    def handle_publish(self, message: Any, options: Any, state: Any) -> None:
        return None


class Tls(msgspec.Struct):
    ca_file: str | None = None
    verify: bool = True


class Audit(Silent):
    """Declares everything that a handler may declare."""

    class Connection(msgspec.Struct):
        host: str
        port: Annotated[int, Meta(ge=1, le=65535)] = 5432
        password: Secret | None = None
        urls: list[str] = []
        tls: bool | Tls = False

    class Options(msgspec.Struct):
        table: Annotated[str, per_channel("the table that rows go to", min_length=1)] = "audit"
        level: Annotated[int, Meta(ge=0, le=9, description="importance")] = 1
        mode: str = "fast"
        ratio: float = 0.5
        limit: Annotated[int | None, Meta(ge=1, description="the bound stands on an optional value")] = None
        from_: str = msgspec.field(default="", name="from")


class Needy(Silent):
    """Requires an option."""

    class Options(msgspec.Struct):
        table: str


class Open(Silent):
    """Takes any option."""

    Options = dict


class Paired(Silent):
    """Has options that must fit together."""

    class Options(msgspec.Struct):
        low: int = 0
        high: int = 10

        def __post_init__(self) -> None:
            if self.low > self.high:
                raise ValueError("low is above high")


class Selfmade(Silent):
    """Brings its own configuration."""

    @classmethod
    def config(cls) -> dict[str, Any]:
        return {"connections": {"own": {"host": "built-in"}}, "channels": {"orders": {"count": 3}}}


def service(handler: type[Handler] = Audit, **channel: Any) -> dict[str, Any]:
    """A service's table with one connection and one channel, ``orders``."""
    return {
        "handler": handler,
        "connections": {"main": {"host": "h"}},
        "channels": {"orders": {"connection": "main", **channel}},
    }


def load(environ: dict[str, str] | None = None, **tables: Any) -> Config:
    return load_config(tables, environ=environ or {})


def problems(environ: dict[str, str] | None = None, **tables: Any) -> list[Problem]:
    """What is wrong with these tables."""
    try:
        load(environ, **tables)
    except ConfigError as error:
        return list(error.problems)
    return []


def hook(outcome: Any) -> None:
    """A callback to import."""
