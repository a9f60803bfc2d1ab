"""The outbox that a command is about: that of the configuration, or of ``--url``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from rambla_py._internal.redaction import redact_url
from rambla_py.cli.loading import load
from rambla_py.cli.terminal import show_text
from rambla_py.config.schema import Config, OutboxSettings
from rambla_py.outbox.attaching import journal_of, letters_of
from rambla_py.outbox.dead import DeadLetters
from rambla_py.outbox.errors import OutboxError
from rambla_py.outbox.journal import Journal
from rambla_py.serialization.encoding import to_json

__all__ = [
    "Url",
    "delivering",
    "file_of",
    "opened_journal",
    "opened_letters",
    "outbox_of",
    "show_data",
    "shown_url",
]

Url = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="The outbox: sqlite:///FILE; else that of the configuration."),
]


def outbox_of(
    ctx: typer.Context, config: Path | None, url: str | None
) -> tuple[OutboxSettings, Config | None]:
    """Return the settings of the outbox, and the configuration unless a URL was given."""
    if url is not None:
        scheme, found, rest = url.partition("://")
        if not found or not rest.strip("/"):
            raise typer.BadParameter("write sqlite:///FILE, or sqlite:////FROM/THE/ROOT", param_hint="--url")
        return OutboxSettings(url=f"{scheme.lower()}://{rest}"), None
    loaded = load(ctx, config)
    settings = loaded.rambla.outbox
    if settings is None or settings.url is None:
        raise OutboxError("", "the configuration has none: set durable = true on a channel, or give --url")
    return settings, loaded


def delivering(config: Config) -> Config:
    """Return a configuration whose process delivers what is in the outbox."""
    outbox = config.rambla.outbox
    if outbox is None or outbox.deliver:
        return config
    rambla = msgspec.structs.replace(config.rambla, outbox=msgspec.structs.replace(outbox, deliver=True))
    return msgspec.structs.replace(config, rambla=rambla)


def file_of(settings: OutboxSettings) -> Path | None:
    """Return the file of a SQLite outbox; None for a database."""
    scheme, _, rest = (settings.url or "").partition("://")
    return Path(rest[1:]) if scheme == "sqlite" else None


def shown_url(settings: OutboxSettings) -> str:
    """Return the URL without its password."""
    return redact_url(settings.url or "")


@contextmanager
def opened_journal(settings: OutboxSettings) -> Iterator[Journal]:
    """Give the journal, which must be there; nothing is delivered."""
    _check_there(settings)
    journal = journal_of(settings)
    try:
        journal.open(delivers=False)
        yield journal
    finally:
        journal.close()


@contextmanager
def opened_letters(settings: OutboxSettings) -> Iterator[DeadLetters]:
    """Give the dead letters of a journal, which must be there."""
    _check_there(settings)
    letters = letters_of(settings)
    try:
        yield letters
    finally:
        letters.close()


def show_data(data: Any) -> None:
    """Print one JSON document to stdout; values of payloads are written as JSON holds them."""
    show_text(msgspec.json.format(to_json(data), indent=2).decode() + "\n")


def _check_there(settings: OutboxSettings) -> None:
    file = file_of(settings)
    if file is not None and not file.exists():
        hint = "it is made by the first durable publish, or by rambla outbox init"
        raise OutboxError(str(file), f"there is no such file; {hint}")
