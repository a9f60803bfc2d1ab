"""Measurements written into the documentation: ``python -m bench.summary build/bench``.

``docs/performance.md`` holds ``<!-- figures: CASE -->`` and ``<!-- end -->``; what is between is replaced.
The pictures are copied beside the page.
"""

from __future__ import annotations

import re
import shutil
import statistics
import sys
from pathlib import Path

import msgspec

from bench.case import Case
from bench.cases import CASES
from bench.report import Result, findings, spread

PAGE = Path("docs/performance.md")
PICTURES = Path("docs/performance")

_MARKED = re.compile(r"(<!-- figures: (?P<case>\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_UNITS = {"rate": "a second", "cpu_us": "CPU µs each"}


def main() -> int:
    """Fill in the page from the results in a folder; returns the exit code."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "build/bench")
    results = {
        name: msgspec.json.decode((folder / f"{name}.json").read_bytes(), type=Result)
        for name in CASES
        if (folder / f"{name}.json").exists()
    }

    def filled(match: re.Match[str]) -> str:
        name = match["case"]
        if name not in results:
            return match[0]
        return f"{match[1]}\n{_section(CASES[name], results[name])}\n{match[3]}"

    PAGE.write_text(_MARKED.sub(filled, PAGE.read_text()))
    PICTURES.mkdir(exist_ok=True)
    for name in results:
        if f"performance/{name}.png" in PAGE.read_text():
            shutil.copy(folder / f"{name}.png", PICTURES)
    return 0


def _section(case: Case, result: Result) -> str:
    lines = [*_figures(case, result), ""]
    for finding in findings(case, result):
        word = finding.verdict.replace("missed", "**missed**")
        lines.append(f"- {finding.text}: {finding.ratio:.2f} {word}".rstrip())
    lines += [f"- {name} did not run: {why}" for name, why in result.failed.items()]
    return "\n".join(lines).rstrip() + "\n"


def _figures(case: Case, result: Result) -> list[str]:
    names = list(dict.fromkeys(name for runs in result.runs.values() for name in runs[0]))
    heads = [name.rpartition(" ")[2] if case.plot else _heading(name) for name in names]
    lines = [f"| {case.plot or ''} | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(names)]
    for contender, runs in result.runs.items():
        cells = [_cell([run[name] for run in runs if name in run], wide=not case.plot) for name in names]
        lines.append(f"| {contender} | " + " | ".join(cells) + " |")
    return lines


def _heading(name: str) -> str:
    return _UNITS.get(
        name, name.replace("_us", " µs").replace("_ms", " ms").replace("_mb", " MB").replace("_", " ")
    )


def _cell(values: list[float], *, wide: bool) -> str:
    if not values:
        return ""
    middle = statistics.median(values)
    text = f"{middle:,.0f}" if middle >= 100 else f"{middle:.3g}"
    return f"{text} ±{spread(values):.0%}" if wide and len(values) > 1 else text


if __name__ == "__main__":
    raise SystemExit(main())
