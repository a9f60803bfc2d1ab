"""This module is the program ``rambla``: its commands by name, and what an error means for the exit code.

A command is imported when it is called: ``rambla --help`` needs neither rich nor any handler.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer
from typer.core import TyperGroup

from rambla_py.cli import exits
from rambla_py.cli.parameters import ConfigFile
from rambla_py.errors import ConfigError, OptionError, RamblaError, UnknownChannelError, nearest

__all__ = ["COMMANDS", "app", "main"]

COMMANDS: Final = {
    "publish": "Publish a message, or every line of a file, to a channel.",
    "check": "Check the configuration, and whether every server answers.",
    "plan": "Show the supervision tree that a start would build.",
    "channels": "List the channels, with their services and guarantees.",
    "schema": "Print the JSON Schema of a configuration file.",
    "rabbit": "Declare, delete, purge, bind and look at queues and exchanges of RabbitMQ.",
    "state": "Serve keyed records to other machines.",
}
"""Each command, in the order of the help; the module of that name in this package has its ``app``."""


class _Commands(TyperGroup):
    """The commands of ``COMMANDS``, each imported when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names in our order, not in the alphabet's."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import a command; an unknown name ends the program, with the nearest one."""
        if cmd_name not in COMMANDS:
            close = nearest(cmd_name, COMMANDS)
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
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Publish to the channels of a TOML file, and look at what it configures.

    Data goes to stdout, everything else to stderr. Exit codes: 0 all is well; 1 something failed;
    2 wrong usage; 78 wrong configuration.
    """
    ctx.obj = config


def main() -> NoReturn:
    """Run the command line of this process, and exit with its code."""
    # Handlers of the application are found as `python -m` would find them; what is installed goes first.
    if not {"", str(Path.cwd())} & set(sys.path):
        sys.path.append(str(Path.cwd()))
    try:
        app(prog_name="rambla")
    except ConfigError as error:
        _end(error, exits.CONFIG)
    except (UnknownChannelError, OptionError) as error:
        _end(error, exits.USAGE)
    except RamblaError as error:
        _end(error, exits.FAILED)
    sys.exit(exits.OK)


def _end(error: RamblaError, code: int) -> NoReturn:
    print(f"rambla: {error}", file=sys.stderr)
    sys.exit(code)
