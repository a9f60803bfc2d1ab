"""The command ``rambla outbox``: the file or the tables of an outbox."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer

from rambla_py.cli import exit_codes
from rambla_py.cli.outbox_access import Url, file_of, opened_journal, outbox_of, show_data, shown_url
from rambla_py.cli.parameters import AsJson, ConfigFile
from rambla_py.cli.terminal import counted, show_text
from rambla_py.config.schema import OutboxSettings
from rambla_py.outbox.attaching import journal_of
from rambla_py.outbox.journal import Totals
from rambla_py.outbox.rows import SCHEMA_VERSION
from rambla_py.outbox.sqlite.rescue import rescue as rescue_file
from rambla_py.outbox.transactional.schema import ddl, statements

__all__ = ["app"]

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)


@app.callback()
def outbox(ctx: typer.Context, config: ConfigFile = None) -> None:
    """Make the outbox, show what it holds, and rescue a damaged one."""
    ctx.obj = config or ctx.obj


@app.command()
def init(
    ctx: typer.Context,
    sql: Annotated[bool, typer.Option("--sql", help="Print the statements, and change nothing.")] = False,
    url: Url = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Make the outbox, or migrate one of an older release; one that is there is left as it is."""
    settings, _ = outbox_of(ctx, config, url)
    if sql:
        _show_ddl(settings, as_json=as_json)
        return
    file = file_of(settings)
    made = file is not None and not file.exists()
    journal = journal_of(settings)
    journal.open(delivers=False)
    journal.close()
    if as_json:
        show_data({"url": shown_url(settings), "made": made, "version": SCHEMA_VERSION})
    else:
        done = "made" if made else "ready"
        show_text(f"outbox {shown_url(settings)}: {done}, with tables of version {SCHEMA_VERSION}\n")


@app.command()
def status(ctx: typer.Context, url: Url = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show what the outbox holds: messages, dead letters, processes, sizes."""
    settings, _ = outbox_of(ctx, config, url)
    with opened_journal(settings) as journal:
        totals = journal.totals()
    if as_json:
        limits = {"max_bytes": settings.max_bytes, "max_rows": settings.max_rows}
        show_data({"url": shown_url(settings), **msgspec.to_builtins(totals), **limits})
    else:
        show_text(f"outbox {shown_url(settings)}: {_in_words(totals, settings)}\n")


@app.command()
def rescue(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="The damaged file; it is not changed.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The file to make.")],
    as_json: AsJson = False,
) -> None:
    """Copy every row that can be read from a damaged SQLite file to a new one, and count the others.

    Exits with 1 if something could not be read. Stop the processes that use the file first.
    """
    found = rescue_file(old, new)
    lost = found.rows_lost or found.dead_lost or not found.exact
    if as_json:
        show_data(msgspec.to_builtins(found))
    else:
        copied = f"{counted(found.rows, 'message')} and {counted(found.dead, 'dead letter')}"
        gone = f"{counted(found.rows_lost, 'message')} and {counted(found.dead_lost, 'dead letter')}"
        most = "" if found.exact else "at most "
        show_text(f"{new}: {copied} copied; lost: {most}{gone}\n")
    raise typer.Exit(exit_codes.FAILED if lost else exit_codes.OK)


def _show_ddl(settings: OutboxSettings, *, as_json: bool) -> None:
    kind: Literal["sqlite", "postgresql"] = "postgresql" if file_of(settings) is None else "sqlite"
    if as_json:
        show_data({"sql": [statement.strip() for statement in statements(kind)]})
    else:
        show_text(ddl(kind))


def _in_words(totals: Totals, settings: OutboxSettings) -> str:
    kept = f"{totals.rows:,} kept"
    if totals.oldest is not None:
        kept += f", oldest {_age(time.time() - totals.oldest)}"
    owners = f"{counted(totals.owners_alive, 'owner')} alive"
    if totals.owners_adopted:
        owners += f", {totals.owners_adopted:,} adopted"
    size = f"log {_size(totals.log_bytes)}, file {_size(totals.file_bytes)}"
    if settings.max_bytes is not None:
        size += f" of {_size(settings.max_bytes)}"
    return f"{kept}; {totals.dead:,} dead; {owners}; {size}"


def _age(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{max(seconds, 0.0):,.0f} s"


def _size(number: int) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if number >= size:
            return f"{number / size:,.3g} {unit}"
    return counted(number, "byte")
