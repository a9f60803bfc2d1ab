"""The command ``rambla check``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from rambla_py import errors
from rambla_py._internal.redaction import Redactor
from rambla_py.cli import exit_codes
from rambla_py.cli.advice import advice
from rambla_py.cli.handler_checks import with_servers
from rambla_py.cli.loading import load, load_sound
from rambla_py.cli.outbox_check import outbox_checked
from rambla_py.cli.parameters import AsJson, ConfigFile, no_file
from rambla_py.cli.terminal import counted, show, show_json
from rambla_py.config import ChannelConfig, Config
from rambla_py.errors import ConfigError, Problem
from rambla_py.handler import Preflight
from rambla_py.runtime.ping import Checked, check_all
from rambla_py.runtime.routing import configured
from rambla_py.status import Ping
from rambla_py.telemetry.error_text import ErrorText

__all__ = ["app"]

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def check(
    ctx: typer.Context,
    channel: Annotated[
        str | None,
        typer.Argument(metavar="CHANNEL", help="This channel only, or service.channel.", callback=no_file),
    ] = None,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", min=0, help="Time-out of each server.")] = 5.0,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Check the configuration, the servers, and whether messages would be accepted.

    Connects to the server of each target and looks for what would make every message fail: a missing
    exchange, table or topic, no right to write. Nothing is published or created; what could not be checked
    is named. Exits with 78 if the configuration is wrong, 1 if a target has a problem. Disabled channels need
    not answer. With a wrong configuration, services without a problem are still checked.
    """
    refused: ConfigError | None = None
    try:
        found: Config | None = load(ctx, config)
    except ConfigError as error:
        refused, found = error, load_sound(ctx, config, error)
    targets = [] if found is None else _targets(found, channel, timeout, refused)
    if found is not None and channel is None:
        targets += outbox_checked(found)
    problems = refused.problems if refused is not None else ()
    ok = not problems and all(target["status"] != "failed" for target in targets)
    if as_json:
        show_json(_document(ok, problems, found, targets))
    elif found is not None and (targets or refused is None):
        show(_shown(targets, found, problems))
    if refused is not None:
        raise refused
    raise typer.Exit(exit_codes.OK if ok else exit_codes.FAILED)


def _targets(
    config: Config, channel: str | None, timeout_s: float, refused: ConfigError | None
) -> list[dict[str, Any]]:
    """Check the targets; a channel that only a wrong service has is not looked for among the others."""
    targets = config.every_channel()
    known = {name for target in targets for name in (target.channel, target.name)}
    if refused is not None and channel is not None and channel not in known:
        return []
    chosen = targets if channel is None else configured(config, channel)
    text = ErrorText(config.secrets, details=config.rambla.log_payloads)
    found = with_servers(
        config,
        chosen,
        lambda some: check_all(some, timeout_s, text),
        lambda ping: Checked(ping, Preflight()),
    )
    return [_target(checked, config) for checked in found]


def _document(
    ok: bool, problems: Sequence[Problem], config: Config | None, targets: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "ok": ok,
        "problems": [problem._asdict() for problem in problems],
        "files": [] if config is None else list(config.files),
        "targets": targets,
    }


def _target(checked: Checked, config: Config) -> dict[str, Any]:
    ping, found = checked
    channel = config.services[ping.service].channels[ping.channel]
    mask = Redactor(config.secrets).text
    problems = [{"error": mask(text), "advice": hint and mask(hint)} for text, hint in found.problems]
    if ping.error is not None:
        problems.insert(0, {"error": ping.error, "advice": _advice(ping, channel)})
    on = channel.enabled and config.rambla.enabled
    status = ("failed" if problems else "ok") if on else "off"
    return {
        "target": channel.name,
        "status": status,
        "took_s": round(ping.took_s, 6),
        "problems": problems if on else [],
        "would_create": [mask(what) for what in found.creations],
        "not_checked": [mask(what) for what in found.unchecked],
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
        for problem in target["problems"]:
            lines.append(_indented(_without_class(problem["error"])))
            if problem["advice"]:
                lines.append(_indented(f"hint: {problem['advice']}", "yellow"))
        lines += [_indented(f"would create: {what}", "cyan") for what in target["would_create"]]
        lines += [_indented(f"not checked: {what}", "dim") for what in target["not_checked"]]
    lines.append(Text(_summary(targets, config, problems), "bold"))
    return Group(*lines)


def _indented(text: str, style: str = "") -> Padding:
    return Padding(Text(text, style), (0, 0, 0, 8), expand=False)


def _without_class(error: str) -> str:
    """Return an error without the name of its class where that is ours: the text says it all."""
    name, colon, text = error.partition(": ")
    return text if colon and name in errors.__all__ else error


def _summary(targets: list[dict[str, Any]], config: Config, problems: Sequence[Problem]) -> str:
    failed = sum(target["status"] == "failed" for target in targets)
    files = ", ".join(config.files)
    total = counted(len(targets), "target")
    if problems:  # each stands on stderr
        wrong = counted(len(problems), "problem")
        return f"{files}: {wrong} in the configuration; {failed:,} of the other {total} failed"
    if not targets:
        return f"{files}: no channels"
    return f"{files}: {failed:,} of {total} failed" if failed else f"{files}: {total}, no problems"
