"""The command ``rambla state``: records of a state store."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec
import typer

from rambla_py.cli import exit_codes
from rambla_py.cli.loading import load
from rambla_py.cli.parameters import AsJson, ConfigFile
from rambla_py.cli.state_serve import KEY, TOKEN, serve
from rambla_py.cli.terminal import counted, show, show_text, table
from rambla_py.config import Config
from rambla_py.serialization.encoding import to_json
from rambla_py.serialization.json_numbers import read_json
from rambla_py.state import StateRecord, StateStore, store_from_url

__all__ = ["app"]

_DEFAULT_URL = "sqlite:///state.db"

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)

Url = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help=f"The store: sqlite:///file, redis://...; {_DEFAULT_URL}."),
]
Connection = Annotated[
    str | None,
    typer.Option(
        "--connection",
        metavar="NAME",
        help="A connection of the configuration that is a state store: NAME or SERVICE.NAME.",
    ),
]
StoreClass = Annotated[
    str | None,
    typer.Option("--store", metavar="MODULE:CLASS", help="The class of the store, instead of the URL's."),
]
Prefix = Annotated[str, typer.Option(metavar="PREFIX", help="Only records whose key begins with it.")]
Version = Annotated[
    str | None, typer.Option(metavar="VERSION", help="Only if the record still has this version.")
]


@app.callback()
def state(ctx: typer.Context, config: ConfigFile = None) -> None:
    """Read and write keyed records, or serve them to other machines.

    The store is --url, or a connection of the configuration (--connection; with --config alone, its only
    one). $RAMBLA_STATE_TOKEN is the bearer token of a server, $RAMBLA_STATE_KEY encrypts and decrypts values.
    """
    ctx.obj = config or ctx.obj


app.command()(serve)


@app.command("get")
def get_record(
    ctx: typer.Context,
    key: Annotated[str, typer.Argument(metavar="KEY")],
    url: Url = None,
    connection: Connection = None,
    store: StoreClass = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Print the value of a record as JSON; with --json the whole record. Exit code 1 if there is none."""
    with _store(ctx, config, url, connection, store) as opened:
        record = opened.get(key)
    if record is None:
        _end(f"there is no record {key!r}")
    _show_json(record if as_json else record.value, indent=as_json)


@app.command("set")
def set_record(
    ctx: typer.Context,
    key: Annotated[str, typer.Argument(metavar="KEY")],
    value: Annotated[str, typer.Argument(metavar="VALUE", help="JSON; '-' reads it from standard input.")],
    text: Annotated[bool, typer.Option("--text", help="VALUE is a string, and not JSON.")] = False,
    expires: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="When the record expires; never by default.")
    ] = None,
    if_absent: Annotated[bool, typer.Option("--if-absent", help="Only if there is no record.")] = False,
    if_version: Version = None,
    url: Url = None,
    connection: Connection = None,
    store: StoreClass = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Store a value. Exit code 1 if a condition does not hold; with --json, print the record."""
    given = sys.stdin.buffer.read() if value == "-" else value.encode(errors="surrogateescape")
    try:
        parsed = given.decode() if text else read_json(given)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, RecursionError) as error:
        hint = f"{error}; quote a string ('\"dark\"'), or use --text"
        raise typer.BadParameter(hint, param_hint="VALUE") from None
    with _store(ctx, config, url, connection, store) as opened:
        record = opened.set(key, parsed, expires_s=expires, if_absent=if_absent, if_version=if_version)
    if as_json:
        _show_json(record)


@app.command("list")
def list_records(
    ctx: typer.Context,
    prefix: Annotated[str, typer.Argument(metavar="PREFIX", help="Only keys that begin with it.")] = "",
    url: Url = None,
    connection: Connection = None,
    store: StoreClass = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """List records by key: when they were set, when they expire, their values."""
    with _store(ctx, config, url, connection, store) as opened:
        records = opened.get_all(prefix)
    if as_json:
        _show_json(records)
    elif records:
        show(table(("key", "updated", "expires", "value"), map(_cells, records)))
    else:
        print("no records", file=sys.stderr)


@app.command("delete")
def delete_records(
    ctx: typer.Context,
    keys: Annotated[list[str] | None, typer.Argument(metavar="KEY...", show_default=False)] = None,
    prefix: Annotated[
        str | None, typer.Option(metavar="PREFIX", help="All records whose key begins with it; '' is all.")
    ] = None,
    if_version: Version = None,
    url: Url = None,
    connection: Connection = None,
    store: StoreClass = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Remove records. Exit code 1 if there is none of a KEY, or it has another version."""
    if bool(keys) == (prefix is not None):
        raise typer.BadParameter("give either keys or --prefix", param_hint="KEY")
    if if_version is not None and len(keys or ()) != 1:
        raise typer.BadParameter("it is for one key", param_hint="--if-version")
    with _store(ctx, config, url, connection, store) as opened:
        wanted = [record.key for record in opened.get_all(prefix)] if prefix is not None else list(keys or ())
        gone = [key for key in wanted if opened.delete(key, if_version=if_version)]
    if as_json:
        _show_json({"removed": len(gone)})
    else:
        print(f"removed {counted(len(gone), 'record')}", file=sys.stderr)
    missing = [key for key in wanted if key not in gone]
    if missing and prefix is None:
        _end("there is no record " + ", ".join(map(repr, missing)))


@app.command()
def cleanup(
    ctx: typer.Context,
    prefix: Prefix = "",
    url: Url = None,
    connection: Connection = None,
    store: StoreClass = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Remove expired records."""
    with _store(ctx, config, url, connection, store) as opened:
        removed = opened.cleanup_expired(prefix)
    if as_json:
        _show_json({"removed": removed})
    else:
        print(f"removed {counted(removed, 'expired record')}", file=sys.stderr)


def _store(
    ctx: typer.Context, config: Path | None, url: str | None, connection: str | None, store: str | None
) -> StateStore:
    """Return the store that the options name, not yet opened."""
    if url is not None and connection is not None:
        raise typer.BadParameter("give either --url or --connection", param_hint="--url")
    if url is None and store is None and (connection is not None or config or ctx.obj):
        return _configured(load(ctx, config), connection)
    text = url or _DEFAULT_URL
    token = os.environ.get(TOKEN) if text.lower().startswith("http") and store is None else None
    options: dict[str, Any] = {"token": token} if token else {}
    try:
        return store_from_url(text, store=store, encryption_key=os.environ.get(KEY), **options)
    except (ValueError, TypeError) as error:
        raise typer.BadParameter(str(error), param_hint=f"--url, --store or ${KEY}") from None


def _configured(config: Config, name: str | None) -> StateStore:
    """Return the store of a connection; of the only one without a name."""
    found = {
        f"{service.name}.{connection}": (service.handler, settings)
        for service in config.services.values()
        if hasattr(service.handler, "store_of")
        for connection, settings in service.connections.items()
    }
    known = ", ".join(found) or "none"
    matching = [key for key in found if name in (None, key, key.partition(".")[2])]
    if len(matching) != 1:
        reason = "several are meant" if matching else "there is no such state store"
        hint = f"{reason}; the configuration has {known}"
        raise typer.BadParameter(hint, param_hint="--connection")
    handler, settings = found[matching[0]]
    store: StateStore = handler.store_of(settings)
    return store


def _show_json(data: Any, *, indent: bool = True) -> None:
    written = to_json(data)
    show_text((msgspec.json.format(written, indent=2) if indent else written).decode() + "\n")


def _cells(record: StateRecord) -> tuple[str, ...]:
    times = (_time(record.updated_at), "never" if record.expires_at is None else _time(record.expires_at))
    return (_printable(record.key), *times, _printable(to_json(record.value).decode()))


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _printable(text: str) -> str:
    """Return text with control characters escaped, so that none reaches a terminal."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _end(message: str) -> NoReturn:
    print(f"rambla: {message}", file=sys.stderr)
    raise typer.Exit(exit_codes.FAILED)
