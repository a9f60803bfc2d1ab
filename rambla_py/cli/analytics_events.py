"""The commands ``rambla analytics schema`` and ``purge``: the form of the events, and the end of old ones."""

from __future__ import annotations

import datetime
import importlib
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from rambla_py._internal.durations import seconds_of
from rambla_py.cli.analytics_database import DEFAULT_URL, URL_VARIABLE, database_arguments
from rambla_py.cli.analytics_extra import analytics_module
from rambla_py.cli.loading import load
from rambla_py.cli.parameters import AsJson, ConfigFile, Yes, ask_before
from rambla_py.cli.terminal import counted, show_json, show_text
from rambla_py.errors import ConfigError

__all__ = ["purge", "schema"]

_DAY_S: Final = 86_400

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        help=f"The database: sqlite:///FILE, postgresql://...; else ${URL_VARIABLE}, the configuration, "
        f"or {DEFAULT_URL}.",
    ),
]


def schema(
    table: Annotated[
        str | None, typer.Option(metavar="TABLE", help="Only the events of this table, such as api_events.")
    ] = None,
) -> None:
    """Print the JSON Schema of the events, made from their structs."""
    show_json(analytics_module("json_schema").event_schema(table))


def purge(
    ctx: typer.Context,
    older_than: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Their age: 12h, 90d; else retention_days."),
    ] = None,
    url: Url = None,
    config: ConfigFile = None,
    channel: Annotated[
        str, typer.Option(metavar="NAME", help="The channel of the configuration that events go to.")
    ] = "analytics",
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Delete the events that are older than an age, from all tables of an SQL database."""
    if url is not None and config is not None:
        raise typer.BadParameter("give either --url or --config", param_hint="--url")
    settings = None if url is not None else _settings(ctx, config)
    age_s = _age(older_than, settings)
    arguments = database_arguments(ctx, url, config, channel)
    moment = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=age_s)
    ask_before(f"delete the events before {moment:%Y-%m-%d %H:%M} UTC", yes=yes)
    tables = list(analytics_module("routing").tables_of(settings.rules if settings else ()))
    with importlib.import_module("rambla_py.sql").SqlBackend(**arguments) as db:
        deleted = analytics_module("retention").delete_before(db, moment, tables)
    if as_json:
        show_json({"before": moment.isoformat(timespec="seconds"), "deleted": deleted})
        return
    lines = [f"{table}: {counted(number, 'event')}" for table, number in deleted.items()]
    show_text("\n".join([*lines, f"deleted {counted(sum(deleted.values()), 'event')}"]) + "\n")


def _settings(ctx: typer.Context, config: Path | None) -> Any:
    """Return the settings of the configuration; None without one."""
    try:
        return load(ctx, config).rambla.analytics
    except ConfigError as error:
        if [(one.path, one.got) for one in error.problems] != [("configuration", "none")]:
            raise
        return None


def _age(older_than: str | None, settings: Any) -> float:
    if older_than is not None:
        try:
            return seconds_of(older_than)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--older-than") from None
    if settings is None or settings.retention_days is None:
        raise typer.BadParameter(
            "give an age, such as 90d, or set retention_days in [rambla.analytics]", param_hint="--older-than"
        )
    return float(settings.retention_days) * _DAY_S
