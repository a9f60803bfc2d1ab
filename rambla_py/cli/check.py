"""This module is the command ``rambla check``."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from rambla_py.app import Rambla
from rambla_py.cli import exits
from rambla_py.cli.advice import advice
from rambla_py.cli.loading import load
from rambla_py.cli.parameters import AsJson, ConfigFile
from rambla_py.cli.terminal import counted, show, show_json
from rambla_py.config import ChannelConfig, Config
from rambla_py.errors import ConfigError
from rambla_py.report import Ping

__all__ = ["app"]

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def check(
    ctx: typer.Context,
    channel: Annotated[
        str | None, typer.Argument(metavar="[CHANNEL]", help="Ask the servers of this channel only.")
    ] = None,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="How long a server may take to answer.")
    ] = 5.0,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Check the configuration, and whether every server answers.

    Connects to each target's server and pings it, on a connection of its own; nothing is published. Says
    what is wrong and how to mend it. Exits with 78 when the configuration is wrong, 1 when a server does not
    answer as it should. Channels that are off are not asked to answer.
    """
    try:
        found = load(ctx, config)
    except ConfigError as error:
        if as_json:
            show_json(
                {"ok": False, "problems": [problem._asdict() for problem in error.problems], "targets": []}
            )
        raise
    targets = [_target(ping, found) for ping in Rambla(found).ping(channel, timeout)]
    ok = all(target["status"] != "failed" for target in targets)
    if as_json:
        show_json({"ok": ok, "problems": [], "files": list(found.files), "targets": targets})
    else:
        show(_shown(targets, found))
    raise typer.Exit(exits.OK if ok else exits.FAILED)


def _target(ping: Ping, config: Config) -> dict[str, Any]:
    channel = config.services[ping.service].channels[ping.channel]
    on = channel.enabled and config.rambla.enabled
    status = ("ok" if ping.ok else "failed") if on else "off"
    told = ping.error if status == "failed" else None
    return {
        "target": channel.name,
        "status": status,
        "took_s": round(ping.took_s, 6),
        "error": told,
        "advice": _advice(ping, channel) if told else None,
    }


def _advice(ping: Ping, channel: ChannelConfig) -> str:
    table = f"{channel.service}.connections.{channel.connection}"
    return advice(ping.exception, ping.error or "", connection=table)


def _shown(targets: list[dict[str, Any]], config: Config) -> RenderableType:
    width = max((len(target["target"]) for target in targets), default=0)
    lines: list[RenderableType] = []
    for target in targets:
        colour = {"ok": "green", "failed": "bold red", "off": "dim"}[target["status"]]
        line = Text.assemble((f"{target['status']:<6}", colour), f"  {target['target']:<{width}}")
        if target["status"] == "ok":
            line.append(f"  {target['took_s'] * 1e3:,.1f} ms", "dim")
        lines.append(line)
        if target["status"] == "failed":
            lines.append(Padding(Text(target["error"]), (0, 0, 0, 8), expand=False))
            lines.append(Padding(Text(f"hint: {target['advice']}", "yellow"), (0, 0, 0, 8), expand=False))
    lines.append(Text(_summary(targets, config), "bold"))
    return Group(*lines)


def _summary(targets: list[dict[str, Any]], config: Config) -> str:
    failed = sum(target["status"] == "failed" for target in targets)
    files = ", ".join(config.files)
    if not targets:
        return f"{files}: no channels"
    told = counted(len(targets), "target")
    return f"{files}: {failed:,} of {told} failed" if failed else f"{files}: {told}, no problems"
