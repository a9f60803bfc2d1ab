"""The program ``rambla``: its commands by name, and the exit code of each error.

A command is imported when it is called: ``rambla --help`` needs neither rich nor any handler, nor the errors.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NoReturn

import typer
from typer.core import TyperGroup

from rambla_py.cli import exit_codes
from rambla_py.cli.parameters import LOG_FORMAT, ConfigFile

__all__ = ["COMMANDS", "app", "main"]

COMMANDS: Final = {
    "publish": "Publish a message, or every line of a file, to a channel.",
    "check": "Check the configuration, the servers, and whether messages would be accepted.",
    "plan": "Show the supervision tree that a start would build.",
    "channels": "List the channels, with their services and guarantees.",
    "schema": "Print the JSON Schema of a configuration file.",
    "outbox": "Make the outbox, show what it holds, rescue a damaged one.",
    "dead": "List, show, replay, drop and export dead letters.",
    "relay": "Deliver what is in the outbox, until SIGTERM.",
    "audit": "Check that every message that the outbox accepted has an outcome or is waiting.",
    "explain": "Explain what a channel promises: delivery, order, the longest wait.",
    "rabbit": "Declare, delete, purge, bind and look at queues and exchanges of RabbitMQ.",
    "analytics": "Report what a server has tracked.",
    "state": "Read and write keyed records, or serve them to other machines.",
}
"""Each command, in the order of the help; the module of that name in this package has its ``app``."""


class _Commands(TyperGroup):
    """The commands of ``COMMANDS``, each imported when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names in the order of ``COMMANDS``."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import a command; for an unknown one, exit and suggest the nearest."""
        if cmd_name not in COMMANDS:
            close = _errors().nearest(cmd_name, COMMANDS)
            ctx.fail(f"No such command {cmd_name!r}." + (f" Did you mean {close!r}?" if close else ""))
        command = typer.main.get_command(importlib.import_module(f"rambla_py.cli.{cmd_name}").app)
        command.name = cmd_name
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


app = typer.Typer(cls=_Commands, rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rambla {sys.modules['rambla_py'].__version__}")
        raise typer.Exit


@app.callback()
def rambla(
    ctx: typer.Context,
    config: ConfigFile = None,
    log_format: Annotated[
        Literal["text", "json"],
        typer.Option("--log-format", envvar="RAMBLA_LOG_FORMAT", help="The form of warnings on stderr."),
    ] = "text",
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Publish to the channels of a TOML file, and check and show its configuration.

    Data goes to stdout, everything else to stderr. Exit codes: 0 success; 1 failure; 2 usage error;
    78 configuration error.
    """
    ctx.obj = config
    ctx.meta[LOG_FORMAT] = log_format


def main() -> NoReturn:
    """Run the command line of this process, and exit with its code."""
    # Handlers of the application are imported as with `python -m`, after installed packages.
    if not {"", str(Path.cwd())} & set(sys.path):
        sys.path.append(str(Path.cwd()))
    try:
        app(prog_name="rambla")
    except Exception as error:
        code = _code_of(error)
        if code is None:
            raise
        print(f"rambla: {error}", file=sys.stderr)
        sys.exit(code)
    sys.exit(exit_codes.OK)


def _code_of(error: Exception) -> int | None:
    """Return the exit code of an error; None for one that is not the library's."""
    errors = _errors()
    if isinstance(error, errors.ConfigError):
        return exit_codes.CONFIG
    if isinstance(error, errors.UnknownChannelError | errors.OptionError):
        return exit_codes.USAGE
    return exit_codes.FAILED if isinstance(error, errors.RamblaError) else None


def _errors() -> Any:
    return importlib.import_module("rambla_py.errors")  # not at the top: the help does without
