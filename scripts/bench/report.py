"""This module turns runs into medians, spreads and ratios, and prints them."""

from __future__ import annotations

import statistics

import msgspec
from rich.console import Console
from rich.table import Table

from bench.case import Case, Figures

__all__ = ["Result", "median", "print_report", "ratio"]


class Result(msgspec.Struct):
    """The runs of a case by contender, and why some did not run."""

    case: str
    runs: dict[str, list[Figures]]
    failed: dict[str, str]


def median(result: Result, contender: str, figure: str) -> float:
    """Return the median of a figure over the runs of a contender."""
    return statistics.median(run[figure] for run in result.runs[contender])


def ratio(result: Result, ours: str, theirs: str, figure: str) -> float:
    """Return the median over the rounds of the ratio within a round: both saw the same machine."""
    pairs = zip(result.runs[ours], result.runs[theirs], strict=False)
    return statistics.median(one[figure] / other[figure] for one, other in pairs)


def print_report(console: Console, case: Case, result: Result) -> None:
    """Print a table of figures and one of goals."""
    console.print(_figures(case, result))
    for contender, trouble in result.failed.items():
        console.print(f"  {contender} did not run: {trouble}", style="yellow", markup=False)
    for goal in case.goals:
        if goal.ours in result.runs and goal.theirs in result.runs:
            reached = ratio(result, goal.ours, goal.theirs, goal.figure)
            word = {True: "[green]reached[/]", False: "[red]missed[/]", None: "told"}[goal.reached(reached)]
            console.print(f"  {goal.text}: {reached:.2f}  {word}", highlight=False)
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
            cells += [] if case.plot else [_spread(values) if values else ""]
        table.add_row(contender, *cells)
    return table


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _spread(values: list[float]) -> str:
    middle = statistics.median(values)
    return f"±{(max(values) - min(values)) / 2 / middle:.0%}" if middle else ""
