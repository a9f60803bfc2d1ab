"""The command ``rambla audit``."""

from __future__ import annotations

import sys
from typing import Any, Final

import msgspec
import typer

from rambla_py.cli import exit_codes
from rambla_py.cli.outbox_access import Url, opened_journal, outbox_of, show_data
from rambla_py.cli.parameters import AsJson, ConfigFile
from rambla_py.cli.terminal import show, show_text, table
from rambla_py.outbox.audit import OutboxAudit, audited

__all__ = ["app"]

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_ALWAYS: Final = ("accepted", "ok", "fatal", "expired", "unknown", "pending")
_COLUMNS: Final = ("accepted", "ok", "failed", "fatal", "dropped", "expired", "unknown", "pending")
_BESIDE: Final = {"dead": "dead now", "replayed": "replayed", "duplicates": "duplicates not accepted"}


@app.command()
def audit(ctx: typer.Context, url: Url = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Check that every message that the outbox accepted has an outcome or is waiting.

    The accounts are those of the outbox, across restarts and processes. Exits with 1 if they do not add up,
    and names the target and the difference.
    """
    settings, _ = outbox_of(ctx, config, url)
    with opened_journal(settings) as journal:
        found = audited(journal)
    if as_json:
        show_data(_document(found))
    elif found.targets:
        show(table(*_cells(found), numbers=_COLUMNS, cut="target"))
        show_text("".join(f"{line}\n" for line in _beside(found)))
    else:
        print("the outbox has accepted nothing yet", file=sys.stderr)
    for difference in found.differences:
        print(f"rambla: {difference}", file=sys.stderr)
    raise typer.Exit(exit_codes.OK if found.balanced else exit_codes.FAILED)


def _document(found: OutboxAudit) -> dict[str, Any]:
    targets = {
        name: {**msgspec.to_builtins(account), "difference": account.difference}
        for name, account in found.targets.items()
    }
    return {
        "balanced": found.balanced,
        "targets": targets,
        "stored": found.stored,
        "differences": found.differences,
    }


def _beside(found: OutboxAudit) -> list[str]:
    """Return a line for each target with dead letters, replays or duplicates."""
    lines = []
    for name, account in found.targets.items():
        counts = {word: getattr(account, counter) for counter, word in _BESIDE.items()}
        parts = [f"{number:,} {word}" for word, number in counts.items() if number]
        if parts:
            lines.append(f"{name}: {', '.join(parts)}")
    return lines


def _cells(found: OutboxAudit) -> tuple[list[str], list[list[str]]]:
    """Return the names of the columns and the rows; counters that are rare are left out where they are 0."""
    accounts = found.targets.values()
    shown = [
        name for name in _COLUMNS if name in _ALWAYS or any(getattr(account, name) for account in accounts)
    ]
    rows = [
        [
            name,
            *(f"{getattr(account, column):,}" for column in shown),
            "no" if account.difference else "yes",
        ]
        for name, account in found.targets.items()
    ]
    return ["target", *shown, "adds up"], rows
