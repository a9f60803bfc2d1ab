"""The commands ``rambla dead list``, ``show`` and ``export``."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Group as Lines
from rich.text import Text

from rambla_py.cli.dead.rows import (
    group_cells,
    letter_cells,
    letter_data,
    letter_lines,
    letter_record,
    short_names,
)
from rambla_py.cli.dead.selecting import with_selection
from rambla_py.cli.outbox_access import Url, opened_letters, outbox_of, show_data
from rambla_py.cli.parameters import AsJson, ConfigFile
from rambla_py.cli.terminal import counted, show, show_text, table, talk
from rambla_py.outbox.dead import DeadLetters, Selection, resolved
from rambla_py.outbox.errors import OutboxError
from rambla_py.outbox.replaying import in_steps
from rambla_py.outbox.rows import Letter
from rambla_py.serialization.encoding import to_json

__all__ = ["export", "list_groups", "show_letter"]


@with_selection
def list_groups(
    ctx: typer.Context,
    selection: Selection | None,
    letters: Annotated[
        bool, typer.Option("--letters", help="List each letter with its id, not only groups.")
    ] = False,
    url: Url = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """List dead letters by channel and kind of error; by default all of them."""
    settings, _ = outbox_of(ctx, config, url)
    with opened_letters(settings) as opened:
        wanted = resolved(opened, selection or Selection())
        groups = opened.groups(wanted)
        each = list(in_steps(opened, opened.select(wanted))) if letters else []
    now = datetime.now().astimezone()
    if as_json:
        document: dict[str, Any] = {"total": sum(group.count for group in groups), "groups": groups}
        show_data({**document, "letters": [letter_data(one) for one in each]} if letters else document)
    elif letters and each:
        columns = ("id", "channel", "died", "attempts", "error")
        show(table(columns, [letter_cells(one, now) for one in each], numbers={"attempts"}))
    elif groups:
        short = short_names([group.fingerprint for group in groups])
        names = ("group", "count", "channel", "error", "first", "last", "replayed")
        rows = [group_cells(group, short, now) for group in groups]
        show(table(names, rows, numbers={"count", "replayed"}, cut="error"))
    else:
        print("no dead letters" + (" match" if selection else ""), file=sys.stderr)


def show_letter(
    ctx: typer.Context,
    id_: Annotated[str, typer.Argument(metavar="ID", help="The id of the message.")],
    channel: Annotated[
        str | None,
        typer.Option(metavar="CHANNEL", help="Which of several letters with this id: service.channel."),
    ] = None,
    url: Url = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show a dead letter: payload, options, headers, and every attempt with its time and error."""
    settings, _ = outbox_of(ctx, config, url)
    with opened_letters(settings) as opened:
        letter = _only(opened, Selection(ids=(id_,), channel=channel))
    if as_json:
        show_data(letter_data(letter))
        return
    lines = letter_lines(letter, datetime.now().astimezone())
    width = max(len(name) for name, _ in lines) + 2
    show(Lines(*(Text.assemble((f"{name:<{width}}", "dim"), value) for name, value in lines)))


@with_selection
def export(
    ctx: typer.Context,
    selection: Selection | None,
    url: Url = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Print dead letters as records, one JSON object a line; --json prints one array.

    `rambla publish --from FILE --format record` publishes them, each to the target that it was for.
    """
    settings, _ = outbox_of(ctx, config, url)
    with opened_letters(settings) as opened:
        selected = opened.select(resolved(opened, selection or Selection()))
        if as_json:
            show_data([letter_record(letter) for letter in in_steps(opened, selected)])
            return
        for letter in in_steps(opened, selected):
            show_text(to_json(letter_record(letter)).decode() + "\n")
    talk().print(f"{counted(len(selected.letters), 'dead letter')} exported", style="bold", soft_wrap=True)


def _only(opened: DeadLetters, selection: Selection) -> Letter:
    """Return the one letter of a selection; of one target the last one."""
    selected = opened.select(selection)
    found = opened.read(list(selected.letters))
    if not found:
        reason = next(iter(selected.missing.values()), "gone")
        hint = "it was replayed" if reason == "already replayed" else "it was dropped, or never was"
        raise OutboxError(opened.name, f"there is no dead letter {selection.ids[0]!r}: {hint}")
    targets = sorted({letter.row.target for letter in found})
    if len(targets) > 1:
        hint = f"several targets have this id: {', '.join(targets)}"
        raise typer.BadParameter(hint, param_hint="--channel")
    return found[-1]
