"""The command ``rambla relay``."""

from __future__ import annotations

from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Annotated, Any, Final, Literal

import msgspec
import typer

from rambla_py.app import Rambla
from rambla_py.cli import exit_codes
from rambla_py.cli.interrupts import Interrupted, heard, raised
from rambla_py.cli.logs import shown_on
from rambla_py.cli.outbox_access import delivering, outbox_of, show_data, shown_url
from rambla_py.cli.parameters import AsJson, ConfigFile
from rambla_py.cli.summary import outcome_table
from rambla_py.cli.terminal import counted, talk
from rambla_py.outbox.errors import OutboxError
from rambla_py.status import Audit

__all__ = ["app"]

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_AWAKE_S: Final = 0.2


@app.command()
def relay(
    ctx: typer.Context,
    source: Annotated[Literal["outbox"], typer.Option("--from", help="Where the messages come from.")],
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="How long to finish what is in flight at the end.")
    ] = 30.0,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show every warning.")] = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Deliver what is in the outbox: of processes that only write, or that have ended; until SIGTERM.

    Several relays may run on one outbox. SIGTERM or Ctrl-C ends it with exit code 0: it takes no more, what
    is in flight is finished within --timeout, the rest stays in the outbox for the next process.
    """
    settings, loaded = outbox_of(ctx, config, None)
    assert loaded is not None  # without --url there is a configuration
    rambla = Rambla(delivering(loaded))
    console = talk()
    with shown_on(ctx, console, everything=verbose, secrets=loaded.secrets):
        console.print(f"relaying {shown_url(settings)}, until SIGTERM", soft_wrap=True)
        _run_until_signal(rambla)
        limit = f"for up to {timeout:g} s"
        console.print(f"stopping: takes no more, and finishes what is in flight {limit}", soft_wrap=True)
        audits, signal = _stopped(rambla, timeout)
    if as_json:
        show_data(_document(audits))
    elif audits:
        console.print(outcome_table(audits))
    kept = sum(audit.pending for audit in audits.values())
    console.print(f"stopped; {counted(kept, 'message')} of this relay kept in the outbox", soft_wrap=True)
    raise typer.Exit(exit_codes.BY_SIGNAL + signal if signal else exit_codes.OK)


def _run_until_signal(rambla: Rambla) -> None:
    """Deliver until there is a signal; then take no more."""
    signals: SimpleQueue[int] = SimpleQueue()
    with heard(signals.put):
        rambla.start()
        outbox = rambla.outbox.running
        if outbox is None:
            rambla.stop(0.0)
            raise OutboxError("", "no channel is durable: there is nothing to relay")
        while True:
            # In short steps: a signal that another thread received does not wake this one.
            with suppress(Empty):
                signals.get(timeout=_AWAKE_S)
                break
        outbox.take_no_more()


def _stopped(rambla: Rambla, timeout_s: float) -> tuple[dict[str, Audit], int]:
    """Finish what is in flight; return the accounts, and the number of a signal that ended this at once."""
    number = 0
    try:
        with raised():
            rambla.stop(timeout_s)
    except Interrupted as interrupted:
        number = interrupted.number
        rambla.stop(0.0)
    return {name: audit for name, audit in rambla.audit().items() if audit.accepted}, number


def _document(audits: dict[str, Audit]) -> dict[str, Any]:
    return {"ok": True, "targets": {name: msgspec.to_builtins(audit) for name, audit in audits.items()}}
