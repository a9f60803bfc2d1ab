"""Medians, spreads and ratios of runs, printed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence

import msgspec
from rich.console import Console
from rich.table import Table

from bench.case import Case, Figures, Goal

__all__ = [
    "BEFORE",
    "Finding",
    "Result",
    "exponent",
    "findings",
    "print_closing",
    "print_report",
    "ratio",
    "spread",
    "verdict",
]

BEFORE = ", before"
"""Ends the name of a contender that is measured in another checkout."""


_STYLES = {"reached": "green", "missed": "red"}


class Result(msgspec.Struct):
    """The runs of a case by contender, and why some did not run."""

    case: str
    runs: dict[str, list[Figures]]
    failed: dict[str, str]


class Finding(msgspec.Struct, frozen=True):
    """One ratio of a run: what it is of, and ``reached``, ``missed``, or nothing where nothing is asked."""

    case: str
    text: str
    ratio: float
    verdict: str = ""


def findings(case: Case, result: Result) -> Iterator[Finding]:
    """Yield the ratios of a case: those with a goal, how its cost grows, and those beside another commit."""
    runs = result.runs
    for goal in case.goals:
        if goal.ours in runs and goal.theirs in runs:
            found = ratio(result, goal.ours, goal.theirs, goal.figure)
            yield Finding(case.name, goal.text, found, verdict(goal, result))
    for growth in case.growth:
        if growth.contender in runs:
            found = exponent(runs[growth.contender])
            reached = "reached" if found <= growth.most else "missed"
            power = f"cost grows as a power of {case.plot} (at most {growth.most:g})"
            yield Finding(case.name, f"{growth.contender}: {power}", found, reached)
    for name in case.contenders:
        if name + BEFORE in runs:
            for figure in runs[name][0]:
                found = ratio(result, name, name + BEFORE, figure)
                yield Finding(case.name, f"{name} / before, {figure}", found)


def exponent(runs: Sequence[Figures]) -> float:
    """Return the power of what grows that the cost grows with: the slope of both logarithms, end to end."""
    steps = sorted((float(name.rpartition(" ")[2]), name) for name in runs[0])
    (first, cheap), (last, dear) = steps[0], steps[-1]
    costs = [run[dear] / run[cheap] for run in runs]
    return math.log(statistics.median(costs)) / math.log(last / first)


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
    for finding in findings(case, result):
        line = f"  {finding.text}: {finding.ratio:.2f}  {finding.verdict}"
        console.print(line, highlight=False, style=_STYLES.get(finding.verdict, ""))
    console.print()


def print_closing(console: Console, found: Sequence[Finding], failed: Sequence[str]) -> None:
    """Print all ratios of a run in one table, and how many were reached and missed."""
    table = Table("case", "ratio", "found", "", title="all ratios", title_justify="left", title_style="bold")
    for finding in found:
        style = _STYLES.get(finding.verdict, "")
        table.add_row(finding.case, finding.text, f"{finding.ratio:.2f}", finding.verdict, style=style)
    console.print(table)
    counts = {word: sum(one.verdict == word for one in found) for word in ("reached", "missed")}
    console.print(f"{counts['reached']} reached, {counts['missed']} missed", highlight=False)
    for line in failed:
        console.print(f"did not run: {line}", style="yellow", markup=False)


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
