"""The command ``rambla dead replay``."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
import typer
from msgspec import UNSET
from rich.console import Console

from rambla_py.app import Rambla
from rambla_py.cli.dead.delivering import Delivered, deliver
from rambla_py.cli.dead.rows import clock
from rambla_py.cli.dead.selecting import needs_selection, with_selection
from rambla_py.cli.loading import without_page
from rambla_py.cli.logs import shown_on
from rambla_py.cli.message_reader import plain_value
from rambla_py.cli.option_values import read_option
from rambla_py.cli.outbox_access import delivering, opened_letters, outbox_of, show_data
from rambla_py.cli.parameters import AsJson, ConfigFile, Yes, ask_before
from rambla_py.cli.terminal import counted, show_text, talk
from rambla_py.config.rates import rate_per_s
from rambla_py.outbox.dead import Selected, Selection, resolved
from rambla_py.outbox.editing import Edit, parsed_path

__all__ = ["replay_letters"]

_LISTED: Final = 20


@with_selection
def replay_letters(
    ctx: typer.Context,
    selection: Selection | None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="CHANNEL", help="Another channel to send them to.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="PATH=VALUE", help="Set a part of the payload, as lines[0].n=3; may be repeated."
        ),
    ] = None,
    payload: Annotated[
        str | None, typer.Option(metavar="JSON|-", help="Replace the payload of one letter; '-': stdin.")
    ] = None,
    rate: Annotated[
        str, typer.Option(metavar="RATE", help="How many are moved at most: 50/s, 5/min.")
    ] = "100/s",
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="How long to deliver after the last was moved.")
    ] = 30.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show how many are selected; change nothing.")
    ] = False,
    yes: Yes = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Move dead letters back to the outbox, and deliver them.

    The selection is fixed at the start. Each letter keeps its id and history, and has all of its retries
    again. What is not delivered within --timeout stays in the outbox, for the next process. Exits with 0 if
    every letter was delivered, 1 if one was refused (gone, already replayed), died again or stays kept.
    Ctrl-C or SIGTERM ends it; the same command replays the rest.
    """
    wanted = needs_selection(selection)
    settings, loaded = outbox_of(ctx, config, None)
    assert loaded is not None  # without --url there is a configuration
    edit = _edit(set_ or [], payload)
    per_s = _rate(rate)
    app = Rambla(without_page(delivering(loaded)))
    if to is not None:
        edit = msgspec.structs.replace(edit, target=app.outbox.target(to))
    with opened_letters(settings) as letters:
        selected = letters.select(resolved(letters, wanted))
    number = len(selected.letters)
    if edit.payload is not UNSET and number > 1:
        raise typer.BadParameter(f"it is for one letter; {number:,} are selected", param_hint="--payload")
    if dry_run:
        _show_dry_run(selected, as_json=as_json)
        return
    if number:
        ask_before(f"replay {counted(number, 'dead letter')}", yes=yes)
    console = talk()
    with shown_on(ctx, console, secrets=app.config.secrets):
        done = deliver(app, selected, edit, per_s, timeout, console)
    if as_json:
        show_data(done.as_data())
    else:
        _print(done, console)
    raise typer.Exit(done.exit_code)


def _edit(values: list[str], payload: str | None) -> Edit:
    if values and payload is not None:
        raise typer.BadParameter("give either --set or --payload", param_hint="--payload")
    pairs: list[tuple[str, Any]] = []
    for text in values:
        try:
            path, value = read_option(text)
            parsed_path(path)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--set") from None
        pairs.append((path, value))
    if payload is None:
        return Edit(values=tuple(pairs))
    raw = sys.stdin.buffer.read() if payload == "-" else payload.encode(errors="surrogateescape")
    return Edit(payload=plain_value(raw))


def _rate(rate: str) -> float:
    try:
        return rate_per_s(rate)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--rate") from None


def _show_dry_run(selected: Selected, *, as_json: bool) -> None:
    number = len(selected.letters)
    if as_json:
        missing = [{"id": id_, "reason": reason} for id_, reason in selected.missing.items()]
        show_data({"selected": number, "as_of": selected.as_of, "replayed": 0, "refused": missing})
    else:
        now = datetime.now().astimezone()
        show_text(f"{number:,} selected as of {clock(selected.as_of, now)}; nothing was changed\n")


def _print(done: Delivered, console: Console) -> None:
    for one in done.replay.refused[:_LISTED]:
        console.print(f"{one.id}: {one.reason}", style="yellow", soft_wrap=True)
    more = len(done.replay.refused) - _LISTED
    if more > 0:
        console.print(f"{counted(more, 'other')} refused; --json lists them", style="yellow", soft_wrap=True)
    show_text(f"{done.in_words()}\n")
