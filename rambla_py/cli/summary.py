"""The report at the end of a publish."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.table import Table

from rambla_py.cli import exit_codes
from rambla_py.cli.counts import NOT_CONNECTED, Failure
from rambla_py.cli.terminal import counted, table
from rambla_py.outcome import STATUSES
from rambla_py.status import Audit

__all__ = ["Report", "print_report"]

SHOWN: Final = 5


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a publish: ``sent`` and ``failed`` count messages; ``targets`` has those with messages.

    ``pending`` messages had no outcome at the end; ``signal`` is the number of a signal that ended it.
    ``refused`` lists the first of ``refused_rows`` rows; with ``all_shown`` each was printed already.
    ``last_line`` is where ``--skip`` continues: all lines up to it were delivered or refused.
    """

    channel: str | None
    source: str
    sent: int
    failed: int
    pending: int
    bad_lines: int
    took_s: float
    targets: dict[str, Audit]
    failures: list[dict[str, Any]]
    refused: list[dict[str, Any]]
    refused_rows: int
    last_line: int | None
    all_shown: bool = False
    why: str | None = None
    hint: str | None = None
    signal: int | None = None

    @property
    def exit_code(self) -> int:
        """0 when every message was delivered, 1 when not, 128 and its number after a signal."""
        if self.signal is not None:
            return exit_codes.BY_SIGNAL + self.signal
        wrong = self.failed or self.pending or self.bad_lines or self.why
        return exit_codes.FAILED if wrong else exit_codes.OK

    @property
    def rate_per_s(self) -> float:
        """Messages a second, from the first to the last outcome."""
        return self.sent / self.took_s if self.took_s else 0.0

    def as_data(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "ok": self.exit_code == exit_codes.OK,
            **{name: value for name, value in msgspec.to_builtins(self).items() if name != "all_shown"},
            "took_s": round(self.took_s, 6),
            "rate_per_s": round(self.rate_per_s, 1),
        }


def print_report(report: Report, console: Console) -> None:
    """Print the table of outcomes, the errors, and a summary in one line."""
    if sum(audit.accepted for audit in report.targets.values()) > 1:
        console.print(outcome_table(report.targets))
        console.print()
    for line in _troubles(report):
        console.print(line, style="red", soft_wrap=True)
    if report.why:
        where = f"{report.source}: " if report.last_line is not None and not report.hint else ""
        console.print(f"{where}{report.why}", style="red", soft_wrap=True)
    if report.hint:
        console.print(f"hint: {report.hint}", style="yellow", soft_wrap=True)
    console.print(_summary(report), style="bold", soft_wrap=True)


def outcome_table(targets: Mapping[str, Audit]) -> Table:
    """Return the outcomes of each target; a status that never occurred has no column."""
    names = [*STATUSES, "pending"]
    seen = [name for name in names if any(getattr(audit, name) for audit in targets.values())]
    columns = ["accepted", *seen]
    rows = [[target, *(f"{getattr(audit, name):,}" for name in columns)] for target, audit in targets.items()]
    return table(["target", *columns], rows, numbers=columns)


def _troubles(report: Report) -> list[str]:
    if report.all_shown and report.refused_rows:
        return []
    kinds = [
        (Failure(one["target"], one["status"], one["error"]), one["count"])
        for one in report.failures
        if not (report.hint and one["error"].startswith(NOT_CONNECTED))  # the error itself follows
    ]
    lines = [f"{count:,} x {kind.target} {kind.status}: {kind.error}" for kind, count in kinds[:SHOWN]]
    left = kinds[SHOWN:]
    if left:
        number = sum(count for _, count in left)
        lines.append(f"{number:,} x {counted(len(left), 'other error')}; --json lists them")
    return lines


def _summary(report: Report) -> str:
    where = f" to {report.channel}" if report.channel else ""
    text = f"{counted(report.sent, 'message')} sent{where} in {_duration(report.took_s)}"
    if report.sent > 1:
        text += f" ({report.rate_per_s:,.0f}/s)"
    notes = [
        f"{report.failed:,} failed" if report.failed else "",
        f"{report.pending:,} without an outcome" if report.pending else "",
        counted(report.bad_lines, "invalid line") if report.bad_lines else "",
        "stopped early" if report.why and report.last_line is not None else "",
        "interrupted" if report.signal is not None else "",
        _place(report),
    ]
    return "; ".join([text, *filter(None, notes)])


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1e3:,.0f} ms"
    return f"{seconds:,.1f} s" if seconds < 600 else f"{seconds / 60:,.1f} min"


def _place(report: Report) -> str:
    """Return up to which line everything was delivered or refused, and how to go on if that is not all."""
    if report.last_line is None:
        return ""
    if report.why or report.pending or report.signal is not None or _unsent(report):
        return f"to continue: --skip {report.last_line}"
    return f"last line {report.last_line}"


def _unsent(report: Report) -> int:
    return sum(audit.dropped for audit in report.targets.values())
