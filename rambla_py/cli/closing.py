"""This module is the report at the end of a publish."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.table import Table

from rambla_py.cli import exits
from rambla_py.cli.tally import Failure
from rambla_py.cli.terminal import counted, table
from rambla_py.outcome import STATUSES
from rambla_py.report import Audit

__all__ = ["Report", "print_report"]

SHOWN: Final = 5


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What became of everything: ``sent`` and ``failed`` count messages, ``targets`` those that got some.

    ``pending`` messages had no outcome when the time was over; ``signal`` is the number of one that ended it.
    """

    channel: str
    source: str
    sent: int
    failed: int
    pending: int
    bad_lines: int
    took_s: float
    targets: dict[str, Audit]
    failures: list[dict[str, Any]]
    why: str | None = None
    signal: int | None = None

    @property
    def exit_code(self) -> int:
        """0 when every message was delivered, 1 when not, 128 and its number after a signal."""
        if self.signal is not None:
            return exits.BY_SIGNAL + self.signal
        wrong = self.failed or self.pending or self.bad_lines or self.why
        return exits.FAILED if wrong else exits.OK

    @property
    def rate_per_s(self) -> float:
        """Messages a second, from the first to the last outcome."""
        return self.sent / self.took_s if self.took_s else 0.0

    def as_data(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "ok": self.exit_code == exits.OK,
            **msgspec.to_builtins(self),
            "took_s": round(self.took_s, 6),
            "rate_per_s": round(self.rate_per_s, 1),
        }


def print_report(report: Report, console: Console) -> None:
    """Print the table of outcomes, what went wrong, and a last line that says it all."""
    if sum(audit.accepted for audit in report.targets.values()) > 1:
        console.print(outcome_table(report.targets))
        console.print()
    for line in _troubles(report):
        console.print(line, style="red", soft_wrap=True)
    console.print(_summary(report), style="bold", soft_wrap=True)


def outcome_table(targets: Mapping[str, Audit]) -> Table:
    """Return the outcomes of each target; a status that never occurred has no column."""
    names = [*STATUSES, "pending"]
    seen = [name for name in names if any(getattr(audit, name) for audit in targets.values())]
    columns = ["accepted", *seen]
    rows = [[target, *(f"{getattr(audit, name):,}" for name in columns)] for target, audit in targets.items()]
    return table(["target", *columns], rows, numbers=columns)


def _troubles(report: Report) -> list[str]:
    kinds = [(Failure(one["target"], one["status"], one["error"]), one["count"]) for one in report.failures]
    lines = [f"{count:,} x {kind.target} {kind.status}: {kind.error}" for kind, count in kinds[:SHOWN]]
    left = kinds[SHOWN:]
    if left:
        number = sum(count for _, count in left)
        lines.append(f"{number:,} x {counted(len(left), 'other error')}; --json lists them")
    return lines


def _summary(report: Report) -> str:
    text = f"{counted(report.sent, 'message')} sent to {report.channel} in {_duration(report.took_s)}"
    if report.sent > 1:
        text += f" ({report.rate_per_s:,.0f}/s)"
    notes = [
        f"{report.failed:,} failed" if report.failed else "",
        f"{report.pending:,} without an outcome" if report.pending else "",
        counted(report.bad_lines, "bad line") if report.bad_lines else "",
        f"{report.source}: {report.why}" if report.why else "",
        "interrupted" if report.signal is not None else "",
    ]
    return "; ".join([text, *filter(None, notes)])


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1e3:,.0f} ms"
    return f"{seconds:,.1f} s" if seconds < 600 else f"{seconds / 60:,.1f} min"
