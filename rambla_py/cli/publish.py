"""The command ``rambla publish``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from rambla_py._internal.redaction import Redactor
from rambla_py.app import Rambla
from rambla_py.cli.connecting import ConnectWatch
from rambla_py.cli.counts import NOT_CONNECTED, Counts
from rambla_py.cli.interrupts import Interrupted, heard, raised
from rambla_py.cli.loading import load, without_page
from rambla_py.cli.logs import shown_on
from rambla_py.cli.message_reader import Item
from rambla_py.cli.parameters import AsJson, ConfigFile
from rambla_py.cli.progress import Now, bar
from rambla_py.cli.rejects import RejectFile, Rejects
from rambla_py.cli.sending import Sender
from rambla_py.cli.sources import SeveralLinesError, Source
from rambla_py.cli.summary import Report, print_report
from rambla_py.cli.terminal import show_json, talk
from rambla_py.cli.wanted import FormatName, Wanted, checked, open_rejects, open_source
from rambla_py.runtime.routing import configured

__all__ = ["app"]

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_AWAKE_S: Final = 0.2
_FIRST_STEP_S: Final = 0.002


@app.command()
def publish(
    ctx: typer.Context,
    channel: Annotated[
        str | None,
        typer.Argument(
            metavar="CHANNEL",
            help="The channel, or service.channel for one target; may be left out with --format record.",
        ),
    ] = None,
    message: Annotated[
        str | None,
        typer.Argument(metavar="MESSAGE|-", help="The message, parsed as JSON if it is JSON; '-': stdin."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="FILE", help="Publish each line, row or record of a file; '-': stdin."
        ),
    ] = None,
    format: Annotated[  # noqa: A002
        FormatName | None,
        typer.Option("--format", help="How to read the input; default: by the file's name."),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            metavar="FIELD", help="Take each message's key from this field; dots descend into objects."
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="An option for all messages; may be repeated."),
    ] = None,
    text: Annotated[
        bool, typer.Option("--text", help="Send the message, or each line, as a string; do not parse JSON.")
    ] = False,
    lines: Annotated[
        bool, typer.Option("--lines", help="With '-': each line is a message; as --format jsonl.")
    ] = False,
    delimiter: Annotated[
        str | None,
        typer.Option(metavar="CHAR", help="Separator of CSV columns, or 'tab'; default: a comma."),
    ] = None,
    null: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="CSV fields that are null; may be repeated; default: empty ones."),
    ] = None,
    skip: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="Leave out lines 1 to N: continues an interrupted run."),
    ] = 0,
    rejects: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Append refused rows to this file; --format record reads it."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first invalid line.")] = False,
    connect_timeout: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0, help="Give up when a target has not connected within this."),
    ] = 10.0,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="How long to deliver after the last line.")
    ] = 30.0,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show every warning and refused row, not only the first.")
    ] = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Publish a message, or each line, row or record of a file, to a channel.

    Exits with 0 if every message was delivered to every target of the channel, 1 if one was not or a line was
    invalid, 2 for an unknown channel or option. Ctrl-C or SIGTERM stops the reading, delivers what was read
    within --timeout, and exits with 130 or 143; a second one ends the command at once.
    """
    wanted = checked(
        channel=channel,
        message=message,
        file=file,
        format=format,
        options=option or [],
        key=key,
        text=text,
        lines=lines,
        delimiter=delimiter,
        nulls=null,
        skip=skip,
        rejects=rejects,
        strict=strict,
        connect_timeout_s=connect_timeout,
        timeout_s=timeout,
        verbose=verbose,
    )
    rambla = Rambla(without_page(load(ctx, config)))
    if wanted.channel is not None:
        configured(rambla.config, wanted.channel)
    console = talk()
    with shown_on(ctx, console, everything=verbose, secrets=rambla.config.secrets):
        report = _run(rambla, wanted, console)
    if as_json:
        show_json(report.as_data())
    else:
        print_report(report, console)
    raise typer.Exit(report.exit_code)


def _run(rambla: Rambla, wanted: Wanted, console: Console) -> Report:
    name, source = open_source(wanted)
    kept = open_rejects(wanted, source)
    try:
        return _sent(rambla, wanted, console, name, source, kept)
    finally:
        if kept is not None:
            kept.close()


def _sent(
    rambla: Rambla,
    wanted: Wanted,
    console: Console,
    name: str,
    source: Iterable[Item],
    kept: RejectFile | None,
) -> Report:
    def show(text: str) -> None:
        console.print(text, style="yellow", soft_wrap=True)

    # What becomes of a single message is in the summary.
    rejects = Rejects(
        name, file=kept, show=show if wanted.is_many else _say_nothing, everything=wanted.verbose
    )
    counts = Counts(Redactor(rambla.config.secrets).text, rejects.add_outcome)
    sender = Sender(
        rambla,
        wanted.channel,
        options=wanted.options,
        key=wanted.key,
        strict=wanted.strict,
        skip=wanted.skip,
        counts=counts,
        rejects=rejects,
    )
    watch = ConnectWatch(rambla, wanted.connect_timeout_s)
    rambla.start()
    began = time.monotonic()
    with _progress(rambla, wanted, console, source):
        number = _send(rambla, sender, source, watch, wanted.timeout_s)
    if isinstance(sender.error, SeveralLinesError):
        raise typer.BadParameter(
            "stdin holds several lines of JSON: --lines publishes each line, --text all of it as one string"
        )
    if sender.error is not None:
        raise sender.error
    if watch.unconnected is not None:
        counts.dropped_reason = NOT_CONNECTED
    return Report(
        channel=wanted.channel,
        source=name,
        sent=sender.sent,
        pending=counts.sweep(),
        failed=counts.failed,
        bad_lines=sender.bad,
        took_s=time.monotonic() - began,
        targets={name: audit for name, audit in rambla.audit().items() if audit.accepted},
        failures=counts.as_data(),
        refused=rejects.rows,
        refused_rows=rejects.number,
        all_shown=wanted.is_many and rejects.all_shown,
        last_line=counts.last_line if wanted.is_many else None,
        why=watch.unconnected or sender.why,
        hint=watch.hint,
        signal=number or None,
    )


def _say_nothing(text: str) -> None:
    """Print no line for a row."""


def _send(
    rambla: Rambla, sender: Sender, source: Iterable[Item], watch: ConnectWatch, timeout_s: float
) -> int:
    """Publish all, and deliver what was published; return the number of a signal that cut it short, or 0."""
    events: SimpleQueue[int] = SimpleQueue()
    with heard(events.put):
        thread = sender.start(source, events)
        number = _event(events, watch.gave_up)
        deadline = time.monotonic() + timeout_s

        def is_late() -> bool:
            return time.monotonic() >= deadline

        if not number:
            number = _event(events, lambda: watch.gave_up() or not watch.is_waiting() or is_late())
        if watch.unconnected is not None and not number:
            sender.stop()
            number = _event(events, lambda: watch.others_ended() or is_late())
    try:
        with raised():
            sender.stop()
            # It may wait for a pipe that says nothing for hours; else it is about to end.
            thread.join(0.25)
            left_s = 0.0 if watch.unconnected is not None else max(0.0, deadline - time.monotonic())
            rambla.stop(left_s)
    except Interrupted as interrupted:
        number = interrupted.number
    return number


def _event(events: SimpleQueue[int], is_over: Callable[[], bool]) -> int:
    """Wait for an event, 0 at the end of the sender or the number of a signal; return 0 if it is over.

    It waits in short steps: a signal that another thread received does not wake this one.
    """
    step_s = _FIRST_STEP_S
    while True:
        with suppress(Empty):
            return events.get(timeout=step_s)
        if is_over():
            return 0
        step_s = min(2 * step_s, _AWAKE_S)


def _progress(rambla: Rambla, wanted: Wanted, console: Console, source: Iterable[Item]) -> Any:
    def now() -> Now:
        audits = list(rambla.audit().values())
        ended = sum(audit.accepted - audit.pending for audit in audits)
        position = source.position if isinstance(source, Source) else 0
        return Now(position, ended, ended - sum(audit.ok for audit in audits))

    shown = console if wanted.is_many else Console(quiet=True, force_terminal=False)
    return bar(shown, Path(wanted.file or "stdin").name, getattr(source, "size", None), now)
