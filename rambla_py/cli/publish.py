"""This module is the command ``rambla publish``."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console

from rambla_py.app import Rambla
from rambla_py.cli.bar import Now, bar
from rambla_py.cli.closing import Report, print_report
from rambla_py.cli.interrupts import Interrupted, heard, raised
from rambla_py.cli.lines import BadLine, Item
from rambla_py.cli.loading import load
from rambla_py.cli.logs import shown_on
from rambla_py.cli.option_values import read_options
from rambla_py.cli.parameters import AsJson, ConfigFile
from rambla_py.cli.sending import Sender
from rambla_py.cli.sources import FORMATS, Source, format_of, from_file, from_stdin, from_text
from rambla_py.cli.tally import Tally
from rambla_py.cli.terminal import show_json, talk
from rambla_py.errors import UnknownChannelError
from rambla_py.redaction import Redactor

__all__ = ["app"]

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_AWAKE_S: Final = 0.2


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line asked for."""

    channel: str
    message: str | None
    file: Path | None
    options: dict[str, Any]
    key: str | None
    text: bool
    lines: bool
    delimiter: str | None
    strict: bool
    timeout_s: float
    verbose: bool


@app.command()
def publish(
    ctx: typer.Context,
    channel: Annotated[str, typer.Argument(metavar="CHANNEL", help="The channel to publish to.")],
    message: Annotated[
        str | None,
        typer.Argument(
            metavar="MESSAGE|-", help="The message, read as JSON where it is JSON; '-' for stdin."
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="Publish each line: .jsonl, .ndjson, .csv, or any of them with .gz.",
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            metavar="FIELD", help="Take each message's key from this field; dots lead into objects."
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="An option for all messages; may be given again."),
    ] = None,
    text: Annotated[
        bool, typer.Option("--text", help="Send texts as they are, without reading JSON.")
    ] = False,
    lines: Annotated[
        bool, typer.Option("--lines", help="With '-': each line of stdin is a message.")
    ] = False,
    delimiter: Annotated[
        str | None,
        typer.Option(metavar="CHAR", help="Separates the columns of a .csv file; a comma, or tab."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop reading at the first bad line.")] = False,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="How long to deliver after the last line.")
    ] = 30.0,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show every warning, not the first of a kind.")
    ] = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Publish a message, or every line of a file, to a channel.

    Exits with 0 when every message was delivered to every target of the channel, 1 when one was not or a
    line was bad, 2 for an unknown channel or option. Ctrl-C or SIGTERM stops reading, delivers what was read
    within --timeout, and exits with 130 or 143; a second one ends it at once.
    """
    wanted = Wanted(
        channel=channel,
        message=message,
        file=file,
        options=_options(option or []),
        key=key,
        text=text,
        lines=lines,
        delimiter={"tab": "\t", "\\t": "\t"}.get(delimiter or "", delimiter),
        strict=strict,
        timeout_s=timeout,
        verbose=verbose,
    )
    _check_usage(wanted)
    rambla = Rambla(load(ctx, config))
    if channel not in rambla.channels():
        raise UnknownChannelError(channel, rambla.channels())
    console = talk()
    with shown_on(console, everything=verbose):
        report = _run(rambla, wanted, console)
    if as_json:
        show_json(report.as_data())
    else:
        print_report(report, console)
    raise typer.Exit(report.exit_code)


def _options(given: list[str]) -> dict[str, Any]:
    try:
        return read_options(given)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--option") from error


def _check_usage(wanted: Wanted) -> None:
    """Raise ``typer.BadParameter`` for what does not go together; exit code 2."""
    file, csv = wanted.file, wanted.file is not None and format_of(wanted.file) == ".csv"
    wrong = {
        "give a MESSAGE, '-' for stdin, or --from FILE": wanted.message is None and file is None,
        "give a MESSAGE or --from FILE, not both": wanted.message is not None and file is not None,
        f"--from: expected a file named {', '.join(FORMATS)}, or one of them with .gz": file is not None
        and format_of(file) is None,
        "--lines goes with '-', for stdin": wanted.lines and wanted.message != "-",
        "--delimiter goes with a .csv file": wanted.delimiter is not None and not csv,
        "--delimiter: expected one character": wanted.delimiter is not None
        and not _separates(wanted.delimiter),
        "--text does not go with a .csv file": wanted.text and csv,
        "--key needs fields, which --text has none of": wanted.text and wanted.key is not None,
        "--key and --option key=... say the same": wanted.key is not None and "key" in wanted.options,
    }
    for reason, applies in wrong.items():
        if applies:
            raise typer.BadParameter(reason)


def _separates(delimiter: str) -> bool:
    return len(delimiter) == 1 and delimiter not in '"\r\n'


def _source(wanted: Wanted) -> tuple[str, Iterable[Item]]:
    """Open what is to be read; returns how it is called in reports."""
    if wanted.file is not None:
        try:
            source = from_file(wanted.file, text=wanted.text, delimiter=wanted.delimiter or ",")
        except OSError as error:
            raise typer.BadParameter(f"{wanted.file}: {error.strerror}", param_hint="--from") from error
        return str(wanted.file), source
    if wanted.message == "-":
        return "stdin", from_stdin(lines=wanted.lines, text=wanted.text)
    return "MESSAGE", from_text(wanted.message or "", text=wanted.text)


def _run(rambla: Rambla, wanted: Wanted, console: Console) -> Report:
    name, source = _source(wanted)

    def complain(bad: BadLine) -> None:
        where = f"{name}:{bad.number}" + (f"-{bad.last}" if bad.last else "")
        console.print(f"{where}: {bad.reason}", style="yellow", soft_wrap=True)

    tally = Tally(Redactor(rambla.config.secrets).text)
    sender = Sender(
        rambla,
        wanted.channel,
        options=wanted.options,
        key=wanted.key,
        strict=wanted.strict,
        tally=tally,
        complain=complain,
    )
    rambla.start()
    began = time.monotonic()
    with _progress(rambla, wanted, console, source):
        number = _send(rambla, sender, source, wanted.timeout_s)
    if sender.error is not None:
        raise sender.error
    return Report(
        channel=wanted.channel,
        source=name,
        sent=sender.sent,
        pending=tally.sweep(),
        failed=tally.failed,
        bad_lines=sender.bad,
        took_s=time.monotonic() - began,
        targets={name: audit for name, audit in rambla.audit().items() if audit.accepted},
        failures=tally.as_data(),
        why=sender.why,
        signal=number,
    )


def _send(rambla: Rambla, sender: Sender, source: Iterable[Item], timeout_s: float) -> int | None:
    """Publish all, and deliver what was published; return the number of a signal that cut it short."""
    events: SimpleQueue[int] = SimpleQueue()
    with heard(events.put):
        thread = sender.start(source, events)
        number = _first(events) or None
    try:
        with raised():
            sender.stop()
            # It may wait for a pipe that says nothing for hours; else it is about to end.
            thread.join(0.25)
            rambla.stop(timeout_s)
    except Interrupted as interrupted:
        number = interrupted.number
    return number


def _first(events: SimpleQueue[int]) -> int:
    """Wait for an event; awake now and then, for a signal that another thread got wakes nobody here."""
    while True:
        with suppress(Empty):
            return events.get(timeout=_AWAKE_S)


def _progress(rambla: Rambla, wanted: Wanted, console: Console, source: Iterable[Item]) -> Any:
    def now() -> Now:
        audits = list(rambla.audit().values())
        ended = sum(audit.accepted - audit.pending for audit in audits)
        position = source.position if isinstance(source, Source) else 0
        return Now(position, ended, ended - sum(audit.ok for audit in audits))

    many = wanted.lines or wanted.file is not None
    shown = console if many else Console(quiet=True, force_terminal=False)
    return bar(shown, Path(wanted.file or "stdin").name, getattr(source, "size", None), now)
