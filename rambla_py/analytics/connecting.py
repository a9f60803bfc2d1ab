"""What a tracker publishes to: a running app, or one made from a URL, a path, a mapping or a ``Config``."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from rambla_py._internal.redaction import redact_url
from rambla_py.analytics.errors import AnalyticsError
from rambla_py.analytics.routing import channels_of, tables_of
from rambla_py.analytics.settings import AnalyticsSettings, Rule
from rambla_py.app import Rambla
from rambla_py.config import Config, load_config
from rambla_py.config.schema import ChannelConfig
from rambla_py.errors import ConfigError, UnknownChannelError, nearest
from rambla_py.handler import Secret

__all__ = ["Connected", "Wanted", "connect"]

Given = Rambla | Config | Mapping[str, Any] | str | os.PathLike[str] | None

_BATCH_SIZE, _BATCH_TIMEOUT_S = 10, 5.0
_DEFAULT_URL = "sqlite:///analytics.db"
_SCHEMES = {
    **dict.fromkeys(("sqlite", "postgresql", "postgres", "mysql", "mariadb"), "sql"),
    **dict.fromkeys(("clickhouse", "clickhouse+http", "clickhouse+https"), "clickhouse"),
    **dict.fromkeys(("jitsu", "jitsu+http", "jitsu+https"), "jitsu"),
    **dict.fromkeys(("console", "null", "memory"), ""),
}
_URL = re.compile(r"([a-z][a-z0-9+.-]+):(?!\\)", re.IGNORECASE)
_NO_CHANNEL = (
    "A tracker publishes to a channel of the configuration: add one, such as [sql.channels.{}] with its "
    'connection, or give the tracker a URL: Tracker("sqlite:///analytics.db")'
)
_TABLE_HANDLERS = ("sql", "clickhouse")


class Wanted(NamedTuple):
    """How a tracker wants its channel; ``batch_size`` and ``batch_timeout_s`` are None for what it says."""

    channel: str
    write_key: str | None
    batch_size: int | None
    batch_timeout_s: float | None


class Connected(NamedTuple):
    """An app, whether the tracker owns it, and the settings of its configuration."""

    app: Rambla
    owned: bool
    settings: AnalyticsSettings


def connect(given: Given, wanted: Wanted, url: str | None = None) -> Connected:
    """Return the app to publish to, not started yet if it is owned.

    ``url`` is used if nothing is given. Raises ``ConfigError``, ``UnknownChannelError``, and
    ``AnalyticsError`` for a channel without the tables.
    """
    if isinstance(given, Rambla):
        config, owned, app = given.config, False, given
    else:
        config, owned = _loaded(given, wanted, url), True
        app = Rambla(config)
    settings = config.rambla.analytics or AnalyticsSettings()
    targets = channels_of(app, wanted.channel)
    if not targets:
        known = [channel.channel for channel in config.every_channel()]
        error = UnknownChannelError(wanted.channel, list(dict.fromkeys(known)))
        error.add_note(_NO_CHANNEL.format(wanted.channel))
        raise error
    _check_tables(app, wanted.channel, settings.rules)
    return Connected(app, owned, settings)


def _loaded(given: Any, wanted: Wanted, url: str | None) -> Config:
    if isinstance(given, Config):
        return _with_arguments(_completed(given, wanted), wanted)
    source = url if given is None else given
    try:
        config = _read(source, wanted)
    except ConfigError as error:
        nothing_found = [(one.path, one.got) for one in error.problems] == [("configuration", "none")]
        if source is not None or not nothing_found:
            raise
        config = _read(_DEFAULT_URL, wanted)
    return _with_arguments(config, wanted)


def _read(source: Any, wanted: Wanted) -> Config:
    if isinstance(source, str) and (scheme := _URL.match(source)):
        source = _table_of(source, scheme[1].lower(), wanted)
    elif source is not None and not isinstance(source, Mapping):
        source = os.fspath(source)
    return load_config(source, defaults=lambda tree: _defaults(tree, wanted))


def _with_arguments(config: Config, wanted: Wanted) -> Config:
    """Return the configuration with the arguments of the tracker, which win over it."""
    config = _with_write_key(config, wanted)
    given = {"batch_ready": wanted.batch_size, "batch_timeout_s": wanted.batch_timeout_s}
    changes = {name: value for name, value in given.items() if value is not None}
    return _mapped(
        config,
        lambda channel: (
            msgspec.structs.replace(channel, **changes) if channel.channel == wanted.channel else channel
        ),
    )


def _with_write_key(config: Config, wanted: Wanted) -> Config:
    """Return the configuration with the write key of the tracker, in the connections of its channel."""
    if not wanted.write_key:
        return config
    key = Secret(wanted.write_key)

    def change(channel: ChannelConfig) -> ChannelConfig:
        if channel.channel != wanted.channel or not hasattr(channel.settings, "write_key"):
            return channel
        settings = msgspec.structs.replace(channel.settings, write_key=key)
        return msgspec.structs.replace(channel, settings=settings)

    return _mapped(config, change)


def _mapped(config: Config, change: Callable[[ChannelConfig], ChannelConfig]) -> Config:
    services = {
        name: msgspec.structs.replace(
            service, channels={key: change(channel) for key, channel in service.channels.items()}
        )
        for name, service in config.services.items()
    }
    return msgspec.structs.replace(config, services=services)


def _table_of(url: str, scheme: str, wanted: Wanted) -> dict[str, Any]:
    """Return the configuration of one channel for a URL; raises ``AnalyticsError``."""
    dialect = scheme.partition("+")[0]
    if _SCHEMES.get(dialect) == "sql":
        scheme = dialect  # the driver is in the URL
    if scheme not in _SCHEMES:
        close = nearest(scheme, _SCHEMES)
        hint = f"; did you mean {close!r}?" if close else f"; known: {', '.join(_SCHEMES)}"
        raise AnalyticsError(f"no backend for the URL {redact_url(url)!r}{hint}")
    service = _SCHEMES[scheme] or scheme
    rest = url.partition(":")[2]
    connection: dict[str, Any] = {}
    if service == "sql":
        connection["url"] = url
    elif service != scheme or service in ("clickhouse", "jitsu"):
        default = "http" if service == "clickhouse" else "https"
        connection["url"] = f"{scheme.partition('+')[2] or default}:{rest}"
    elif service == "memory" and rest.strip("/"):
        connection["name"] = rest.strip("/")
    return {
        service: {
            "connections": {"default": connection},
            "channels": {wanted.channel: {"connection": "default"}},
        }
    }


def _defaults(tree: Mapping[str, Any], wanted: Wanted) -> dict[str, Any]:
    """Return what a configuration that a tracker owns has where it does not say otherwise."""
    rules = _rules(tree)
    mine = {wanted.channel, *(rule["channel"] for rule in rules if rule.get("channel"))}
    below: dict[str, Any] = {}
    for service, table in tree.items():
        channels = table.get("channels") if isinstance(table, Mapping) else None
        if service == "rambla" or not isinstance(channels, Mapping):
            continue
        handler = table.get("handler", service)
        below[service] = {
            "channels": {
                name: _channel_defaults(name, channel, handler, wanted, rules, mine)
                for name, channel in channels.items()
                if isinstance(channel, Mapping)
            }
        }
        if handler == "jitsu" and wanted.write_key and isinstance(table.get("connections"), Mapping):
            below[service]["connections"] = {
                name: {"write_key": wanted.write_key} for name in table["connections"]
            }
    return below


def _rules(tree: Mapping[str, Any]) -> list[Any]:
    """Return the rules of an unchecked configuration."""
    analytics = tree.get("rambla", {}).get("analytics") if isinstance(tree.get("rambla"), Mapping) else None
    rules = analytics.get("rules") if isinstance(analytics, Mapping) else None
    return [rule for rule in rules if isinstance(rule, Mapping)] if isinstance(rules, list) else []


def _tracker_defaults(durable: bool) -> dict[str, Any]:
    """Return what the channels of a tracker have unless they say otherwise; durable ones drop nothing."""
    overflow = "raise" if durable else "drop_newest"
    return {"overflow": overflow, "publish_timeout_s": 0.0, "snapshot": False}


def _channel_defaults(
    name: str, table: Mapping[str, Any], handler: Any, wanted: Wanted, rules: list[Any], mine: set[str]
) -> dict[str, Any]:
    below = _tracker_defaults(table.get("durable") is True)
    if name in mine:
        below.update(batch_ready=_BATCH_SIZE, batch_timeout_s=_BATCH_TIMEOUT_S)
        options = table.get("options")
        given = options if isinstance(options, Mapping) else {}
        if handler in _TABLE_HANDLERS and not {"table", "tables"} & set(given):
            used = [rule for rule in rules if rule.get("channel", wanted.channel) == name]
            below["options"] = _table_options(handler, used)
    return below


def _table_options(handler: str, rules: list[Any]) -> dict[str, Any]:
    try:
        tables = tables_of(msgspec.convert([_named(rule) for rule in rules], list[Rule]))
    except (ValueError, TypeError, msgspec.ValidationError):  # reported with its path by the check
        tables = tables_of([])
    return _with_tables(handler, tables)


def _with_tables(handler: str, tables: dict[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = {"tables": tables, "create_table": True}
    if handler == "sql":
        options.update(upsert=True, add_columns=True, wal=True)
    return options


def _named(rule: Mapping[str, Any]) -> dict[str, Any]:
    return {name: rule[name] for name in ("tables", "columns") if name in rule}


def _completed(config: Config, wanted: Wanted) -> Config:
    """Return a checked configuration with what a tracker sets; a value that is the default is replaced."""
    settings = config.rambla.analytics or AnalyticsSettings()
    mine = {wanted.channel, *(rule.channel for rule in settings.rules if rule.channel)}
    return _mapped(config, lambda channel: _completed_channel(channel, wanted, settings.rules, mine))


def _completed_channel(
    channel: ChannelConfig, wanted: Wanted, rules: list[Rule], mine: set[str]
) -> ChannelConfig:
    defaults = {"overflow": "block", "publish_timeout_s": 5.0, "snapshot": True}
    below = _tracker_defaults(channel.durable)
    changes = {name: below[name] for name, value in defaults.items() if getattr(channel, name) == value}
    if channel.channel not in mine:
        return msgspec.structs.replace(channel, **changes)
    if channel.batch_ready is None:
        changes["batch_ready"] = _BATCH_SIZE
    if not channel.batch_timeout_s:
        changes["batch_timeout_s"] = _BATCH_TIMEOUT_S
    options = channel.options
    if getattr(options, "tables", None) is not None and not options.tables and not options.table:
        mine_too = [rule for rule in rules if (rule.channel or wanted.channel) == channel.channel]
        handler = "sql" if hasattr(options, "wal") else "clickhouse"
        given = {
            name: value
            for name in options.__struct_fields__
            if (value := getattr(options, name)) is not None and name != "tables"
        }
        given.update(_with_tables(handler, tables_of(mine_too)))
        changes["options"] = type(options)(**given)
    return msgspec.structs.replace(channel, **changes)


def _check_tables(app: Rambla, channel: str, rules: list[Rule]) -> None:
    """Raise ``AnalyticsError`` if a channel of tables lacks those that the events go to."""
    for name in dict.fromkeys([channel, *(rule.channel for rule in rules if rule.channel)]):
        used = tables_of(rule for rule in rules if (rule.channel or channel) == name)
        for target in channels_of(app, name):
            known = getattr(target.options, "tables", None)
            if known is None:  # no handler of tables
                continue
            needed = [table for table in used if name == channel or table not in tables_of([])]
            missing = [table for table in needed if table not in known]
            if missing:
                raise AnalyticsError(_advice(target.name, missing, list(known)))


def _advice(target: str, missing: list[str], known: list[str]) -> str:
    if len(missing) >= len(tables_of([])):
        return (
            f'{target} has no tables for events; set tables = "rambla_py.analytics:TABLES" and '
            "create_table = true in the options of the channel"
        )
    close = nearest(missing[0], known)
    hint = f"; did you mean {close!r}?" if close else ""
    return f"{target} has no table {missing[0]!r}, which a rule or an event needs{hint}"
