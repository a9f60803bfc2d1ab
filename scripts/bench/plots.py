"""Plots of a case: bars of rates, or a curve over what grows."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from bench.case import Case, Figures
from bench.report import Result

__all__ = ["draw"]

OURS, OTHERS = "#0b6e4f", "#9aa5b1"


def draw(case: Case, result: Result, path: Path) -> None:
    """Write the picture of a result; nothing when no contender ran."""
    if not result.runs:
        return
    height = 4.2 if case.plot else 1.3 + 0.42 * len(result.runs)
    figure = Figure(figsize=(8, height), dpi=120, layout="constrained")
    axes = figure.subplots()
    (_curves if case.plot else _bars)(axes, case, result)
    # Over the whole width: the names of the contenders take much of it from the axes.
    figure.suptitle(case.title, x=0.01, ha="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def _bars(axes: Any, case: Case, result: Result) -> None:
    figure = "rate" if all("rate" in runs[0] for runs in result.runs.values()) else _first(result)
    names = list(reversed(result.runs))
    values = [statistics.median(run[figure] for run in result.runs[name]) for name in names]
    bars = axes.barh(names, values, color=[OURS if _is_ours(name) else OTHERS for name in names])
    axes.bar_label(bars, [f"{value:,.0f}" if value >= 10 else f"{value:.2f}" for value in values], padding=4)
    axes.set_xlabel({"rate": "messages a second"}.get(figure, figure.replace("_", " ")))
    axes.margins(x=0.18)
    axes.locator_params(axis="x", nbins=6)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 10 else f"{value:g}")


def _curves(axes: Any, case: Case, result: Result) -> None:
    for contender, runs in result.runs.items():
        points = sorted((float(name.rpartition(" ")[2]), _middle(runs, name)) for name in runs[0])
        axes.plot(*zip(*points, strict=True), marker="o", label=contender)
    axes.set_xscale("log")
    if _span(result) > 50:
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, 1.08 * max(max(run.values()) for runs in result.runs.values() for run in runs))
    steps = sorted({float(name.rpartition(" ")[2]) for runs in result.runs.values() for name in runs[0]})
    axes.set_xticks(steps, [f"{step:,.0f}" for step in steps])
    axes.minorticks_off()
    axes.set_xlabel(case.plot)
    axes.set_ylabel(_first(result).rpartition(" ")[0].replace("CPU us", "CPU µs"))
    axes.grid(alpha=0.3)
    if len(result.runs) > 1:
        axes.legend(frameon=False)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 10 else f"{value:g}")


def _span(result: Result) -> float:
    values = [value for runs in result.runs.values() for value in runs[0].values()]
    return max(values) / min(values)


def _middle(runs: list[Figures], name: str) -> float:
    return statistics.median(run[name] for run in runs)


def _first(result: Result) -> str:
    return next(iter(next(iter(result.runs.values()))[0]))


def _is_ours(name: str) -> bool:
    return name.startswith("rambla")
