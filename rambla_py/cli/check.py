"""This module is the command ``rambla check``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from rambla_py import errors
from rambla_py.app import Rambla
from rambla_py.cli import exits
from rambla_py.cli.advice import advice
from rambla_py.cli.loading import load, load_sound
from rambla_py.cli.parameters import AsJson, ConfigFile
from rambla_py.cli.terminal import counted, show, show_json
from rambla_py.config import ChannelConfig, Config
from rambla_py.errors import ConfigError, Problem
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
    answer as it should. Channels that are off are not asked to answer. Of a wrong configuration the services
    without a problem are asked all the same.
    """
    refused: ConfigError | None = None
    try:
        found: Config | None = load(ctx, config)
    except ConfigError as error:
        refused, found = error, load_sound(ctx, config, error)
    targets = [] if found is None else _targets(found, channel, timeout, refused)
    problems = refused.problems if refused is not None else ()
    ok = not problems and all(target["status"] != "failed" for target in targets)
    if as_json:
        show_json(_document(ok, problems, found, targets))
    elif found is not None and (targets or refused is None):
        show(_shown(targets, found, problems))
    if refused is not None:
        raise refused
    raise typer.Exit(exits.OK if ok else exits.FAILED)


def _targets(
    config: Config, channel: str | None, timeout_s: float, refused: ConfigError | None
) -> list[dict[str, Any]]:
    """Ask the servers; a channel that only a wrong service has is not looked for among the others."""
    known = {target.channel for target in config.every_channel()}
    if refused is not None and channel is not None and channel not in known:
        return []
    return [_target(ping, config) for ping in Rambla(config).ping(channel, timeout_s)]


def _document(
    ok: bool, problems: Sequence[Problem], config: Config | None, targets: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "ok": ok,
        "problems": [problem._asdict() for problem in problems],
        "files": [] if config is None else list(config.files),
        "targets": targets,
    }


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


def _shown(targets: list[dict[str, Any]], config: Config, problems: Sequence[Problem]) -> RenderableType:
    width = max((len(target["target"]) for target in targets), default=0)
    lines: list[RenderableType] = []
    for target in targets:
        colour = {"ok": "green", "failed": "bold red", "off": "dim"}[target["status"]]
        line = Text.assemble((f"{target['status']:<6}", colour), f"  {target['target']:<{width}}")
        if target["status"] == "ok":
            line.append(f"  {target['took_s'] * 1e3:,.1f} ms", "dim")
        lines.append(line)
        if target["status"] == "failed":
            lines.append(Padding(Text(_without_class(target["error"])), (0, 0, 0, 8), expand=False))
            lines.append(Padding(Text(f"hint: {target['advice']}", "yellow"), (0, 0, 0, 8), expand=False))
    lines.append(Text(_summary(targets, config, problems), "bold"))
    return Group(*lines)


def _without_class(error: str) -> str:
    """Return an error without the name of its class where that is ours: the text says it all."""
    name, colon, text = error.partition(": ")
    return text if colon and name in errors.__all__ else error


def _summary(targets: list[dict[str, Any]], config: Config, problems: Sequence[Problem]) -> str:
    failed = sum(target["status"] == "failed" for target in targets)
    files = ", ".join(config.files)
    told = counted(len(targets), "target")
    if problems:  # each stands on stderr
        wrong = counted(len(problems), "problem")
        return f"{files}: {wrong} in the configuration; {failed:,} of the other {told} failed"
    if not targets:
        return f"{files}: no channels"
    return f"{files}: {failed:,} of {told} failed" if failed else f"{files}: {told}, no problems"
