"""The options that select dead letters, added to a command."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Final

import typer

from rambla_py.outbox.dead import Selection

__all__ = ["moment", "needs_selection", "with_selection"]

_AGE: Final = re.compile(r"(\d+(?:\.\d+)?) ?(s|min|h|d)")
_UNITS: Final = {"s": 1, "min": 60, "h": 3_600, "d": 86_400}

_Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Ids of messages.", show_default=False)]
_Group = Annotated[
    str | None, typer.Option(metavar="GROUP", help="A group of `dead list`, or the beginning of its name.")
]
_Channel = Annotated[
    str | None, typer.Option(metavar="CHANNEL", help="The channel, or service.channel for one target.")
]
_Since = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Died at or after: 2026-11-30T10:02, 10:02 (today), or 90min (ago)."),
]
_Until = Annotated[str | None, typer.Option(metavar="TIME", help="Died before this time.")]
_Error = Annotated[str | None, typer.Option(metavar="TEXT", help="The error contains this text.")]
_All = Annotated[bool, typer.Option("--all", help="All dead letters.")]


def with_selection(command: Callable[..., None]) -> Callable[..., None]:
    """Replace the keyword ``selection`` of a command by the options that select letters, and pass it."""
    own = inspect.signature(command, eval_str=True).parameters
    asked = inspect.signature(_selection, eval_str=True).parameters

    @functools.wraps(command)
    def run(**given: object) -> None:
        selection = _selection(**{name: given.pop(name) for name in asked})  # type: ignore[arg-type]  # typer checked them
        command(selection=selection, **given)

    place = list(own).index("selection")
    before, after = list(own.values())[:place], list(own.values())[place + 1 :]
    every = [*before, *asked.values(), *after]
    shown = inspect.Signature([one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in every])
    run.__signature__ = shown  # type: ignore[attr-defined]  # read by inspect, and so by typer
    return run


def needs_selection(selection: Selection | None) -> Selection:
    """Return a selection that was given; without one, the command ends as wrongly used."""
    if selection is None:
        options = "ids, --group, --channel, --since, --until, --error, or --all"
        raise typer.BadParameter(f"name the letters that are meant: {options}")
    return selection


def _selection(
    *,
    ids: _Ids = None,
    group: _Group = None,
    channel: _Channel = None,
    since: _Since = None,
    until: _Until = None,
    error: _Error = None,
    everything: _All = False,
) -> Selection | None:
    now = datetime.now().astimezone()
    selection = Selection(
        ids=tuple(ids or ()),
        group=group,
        channel=channel,
        since=None if since is None else moment(since, now, "--since"),
        until=None if until is None else moment(until, now, "--until"),
        error=error,
    )
    if everything and selection:
        raise typer.BadParameter("give either --all or what narrows it", param_hint="--all")
    return selection if everything or selection else None


def moment(text: str, now: datetime, name: str) -> float:
    """Return a time in seconds since the epoch: ISO 8601, a time of today, or an age.

    >>> now = datetime.fromisoformat("2026-11-30T12:00:00+01:00")
    >>> moment("90min", now, "--since") == moment("10:30", now, "--since") == now.timestamp() - 5_400
    True
    """
    age = _AGE.fullmatch(text.strip())
    if age is not None:
        return now.timestamp() - float(age[1]) * _UNITS[age[2]]
    whole = f"{now:%Y-%m-%d}T{text.strip()}" if re.match(r"\s*\d\d:", text) else text.strip()
    try:
        found = datetime.fromisoformat(whole)
    except ValueError:
        hint = f"{text!r} is no time; write 2026-11-30T10:02, 10:02 (today), or 90min, 2h, 3d (ago)"
        raise typer.BadParameter(hint, param_hint=name) from None
    return (found if found.tzinfo is not None else found.replace(tzinfo=now.tzinfo)).timestamp()
