"""Medians, spreads and ratios of runs, printed."""

from __future__ import annotations

import statistics

import msgspec
from rich.console import Console
from rich.table import Table

from bench.case import Case, Figures, Goal

__all__ = ["BEFORE", "Result", "print_report", "ratio", "spread", "verdict"]

BEFORE = ", before"
"""Ends the name of a contender that is measured in another checkout."""


class Result(msgspec.Struct):
    """The runs of a case by contender, and why some did not run."""

    case: str
    runs: dict[str, list[Figures]]
    failed: dict[str, str]


def ratio(result: Result, ours: str, theirs: str, figure: str) -> float:
    """Return the median over the rounds of the ratio within a round: both saw the same machine."""
    pairs = zip(result.runs[ours], result.runs[theirs], strict=False)
    return statistics.median(one[figure] / other[figure] for one, other in pairs)


def verdict(goal: Goal, result: Result) -> str:
    """Say how a goal was met: reached, missed, or, where it asks for no less than the same, the same."""
    found = ratio(result, goal.ours, goal.theirs, goal.figure)
    reached = goal.reached(found)
    if reached is None:
        return ""
    noise = max(spread([run[goal.figure] for run in result.runs[name]]) for name in (goal.ours, goal.theirs))
    if not reached and 1.0 in (goal.least, goal.most) and abs(found - 1.0) <= noise:
        return "the same within the spread"
    return "reached" if reached else "missed"


def spread(values: list[float]) -> float:
    """Return half the distance between the best and the worst, as a share of the median."""
    middle = statistics.median(values)
    return (max(values) - min(values)) / 2 / middle if middle else 0.0


def print_report(console: Console, case: Case, result: Result) -> None:
    """Print a table of figures and one of goals."""
    console.print(_figures(case, result))
    for contender, trouble in result.failed.items():
        console.print(f"  {contender} did not run: {trouble}", style="yellow", markup=False)
    for goal in case.goals:
        if goal.ours in result.runs and goal.theirs in result.runs:
            found = ratio(result, goal.ours, goal.theirs, goal.figure)
            style = {"reached": "green", "missed": "red"}.get(word := verdict(goal, result), "")
            console.print(f"  {goal.text}: {found:.2f}  {word}", highlight=False, style=style)
    for name in case.contenders:
        if name + BEFORE in result.runs:
            ratios = {figure: ratio(result, name, name + BEFORE, figure) for figure in result.runs[name][0]}
            shown = ", ".join(f"{figure} {value:.2f}" for figure, value in ratios.items())
            console.print(f"  {name} / before: {shown}", highlight=False)
    console.print()


def _figures(case: Case, result: Result) -> Table:
    table = Table(title=case.title, title_justify="left", title_style="bold", min_width=len(case.title))
    names = list(dict.fromkeys(name for runs in result.runs.values() for name in runs[0]))
    table.add_column("contender")
    for name in names:
        heading = name.rpartition(" ")[2] if case.plot else name.replace("_", " ")
        table.add_column(heading, justify="right")
        if not case.plot:
            table.add_column("spread", justify="right", style="dim")
    for contender, runs in result.runs.items():
        cells = []
        for name in names:
            values = [run[name] for run in runs if name in run]
            cells += [_short(statistics.median(values))] if values else [""]
            cells += [] if case.plot else [f"±{spread(values):.0%}" if values else ""]
        table.add_row(contender, *cells)
    return table


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
