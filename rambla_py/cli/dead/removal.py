"""The command ``rambla dead drop``."""

from __future__ import annotations

import typer

from rambla_py.cli import exit_codes
from rambla_py.cli.dead.selecting import needs_selection, with_selection
from rambla_py.cli.outbox_access import Url, opened_letters, outbox_of, show_data
from rambla_py.cli.parameters import AsJson, ConfigFile, Yes, ask_before
from rambla_py.cli.terminal import counted, show_text, talk
from rambla_py.outbox.dead import Selection, resolved
from rambla_py.outbox.replaying import drop

__all__ = ["drop_letters"]


@with_selection
def drop_letters(
    ctx: typer.Context,
    selection: Selection | None,
    yes: Yes = False,
    url: Url = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Remove dead letters for good. Exit code 1 if one that was named by its id is not there."""
    wanted = needs_selection(selection)
    settings, _ = outbox_of(ctx, config, url)
    with opened_letters(settings) as opened:
        selected = opened.select(resolved(opened, wanted))
        if selected.letters:
            ask_before(f"drop {counted(len(selected.letters), 'dead letter')}", yes=yes)
        dropped = drop(opened, selected)
    if as_json:
        show_data({"selected": len(selected.letters), "dropped": dropped, "missing": dict(selected.missing)})
    else:
        show_text(f"{counted(dropped, 'dead letter')} dropped\n")
        for id_, reason in selected.missing.items():
            talk().print(f"{id_}: {reason}", style="yellow", soft_wrap=True)
    raise typer.Exit(exit_codes.FAILED if selected.missing else exit_codes.OK)
