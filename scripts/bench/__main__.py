"""Running of cases, interleaved, with a report: ``make bench CASE=redis``."""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
from rich.console import Console

from bench.case import Case, Context, Figures
from bench.cases import CASES
from bench.isolated import run_alone
from bench.plots import draw
from bench.private_servers import start
from bench.report import BEFORE, Finding, Result, findings, print_closing, print_report

ROUNDS = 3
RATIOS = "all-ratios.json"


def main() -> int:
    """Run what was asked for; returns the exit code."""
    given = _arguments()
    if given.alone:
        case, contender, context = given.alone
        figures = CASES[case].contenders[contender](msgspec.json.decode(context, type=Context))
        print(msgspec.json.encode(figures).decode())
        return 0
    console = Console()
    chosen = [CASES[name] for name in given.cases or CASES]
    given.out.mkdir(parents=True, exist_ok=True)
    found: list[Finding] = []
    failed: list[str] = []
    with checkout(given.base) as base:
        for case in chosen:
            result = measure(case, rounds=given.rounds, scale=given.scale, console=console, base=base)
            (given.out / f"{case.name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(result)))
            print_report(console, case, result)
            draw(case, result, given.out / f"{case.name}.png")
            found += findings(case, result)
            failed += [f"{case.name}: {name}: {why}" for name, why in result.failed.items()]
    print_closing(console, found, failed)
    (given.out / RATIOS).write_bytes(msgspec.json.format(msgspec.json.encode(found)))
    return 0


@contextmanager
def checkout(revision: str | None) -> Iterator[Path | None]:
    """Check out a revision of this project beside it; None for none."""
    if revision is None:
        yield None
        return
    folder = Path("build/base").resolve()
    subprocess.run(["git", "worktree", "add", "--quiet", "--detach", "--force", folder, revision], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", folder], check=True)


def measure(case: Case, *, rounds: int, scale: float, console: Console, base: Path | None = None) -> Result:
    """Run each contender once a round, one after the other, so that a busy moment of the machine hits all.

    ``base``: another checkout of this project, whose figures are taken in the same rounds.
    """
    turns: list[tuple[str, str, Path | None]] = []
    for name in case.contenders:
        turns.append((name, name, None))
        if base is not None and name.startswith("rambla"):
            turns.append((name + BEFORE, name, base))
    runs: dict[str, list[Figures]] = {shown: [] for shown, _, _ in turns}
    failed: dict[str, str] = {}
    with ExitStack() as stack:
        servers: dict[str, str] = {}
        for name in case.servers:
            servers |= stack.enter_context(start(name))
        context = Context(servers, scale)
        for number in range(rounds):
            for shown, contender, where in turns:
                if shown in failed:
                    continue
                with console.status(f"{case.name}: {shown}, round {number + 1} of {rounds}"):
                    figures, trouble = run_alone(
                        case.name, contender, context, slow_disk=case.slow_disk, base=where
                    )
                if figures is None:
                    failed[shown] = trouble
                else:
                    runs[shown].append(figures)
    return Result(case=case.name, runs={name: found for name, found in runs.items() if found}, failed=failed)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("cases", nargs="*", help=f"all when none is named; of {', '.join(CASES)}")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="runs of each contender")
    parser.add_argument("--scale", type=float, default=1.0, help="a factor on the number of messages")
    parser.add_argument("--base", metavar="REF", help="a commit to measure beside this one")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="where JSON and pictures go")
    parser.add_argument("--alone", nargs=3, metavar=("CASE", "CONTENDER", "CONTEXT"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.cases = [name for text in given.cases for part in text.split(",") for name in _named(part)]
    if unknown := set(given.cases) - set(CASES):
        parser.error(f"no such case: {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    return given


def _named(part: str) -> list[str]:
    """Return the cases that a word names: one, or all that begin with it, as ``growth`` does for its own."""
    return [part] if part in CASES else [name for name in CASES if name.startswith(f"{part}_")] or [part]


if __name__ == "__main__":
    raise SystemExit(main())
