"""The command ``rambla explain``."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.text import Text

from rambla_py._internal.redaction import redact_url
from rambla_py.cli import exit_codes
from rambla_py.cli.loading import load
from rambla_py.cli.outbox_access import show_data
from rambla_py.cli.parameters import AsJson, ConfigFile, no_file
from rambla_py.cli.terminal import show
from rambla_py.config import Config
from rambla_py.outbox.explain import PROMISES, Explanation, Place, Promise, explain
from rambla_py.runtime.routing import configured

__all__ = ["app"]

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command("explain")
def explain_channel(
    ctx: typer.Context,
    channel: Annotated[
        str,
        typer.Argument(
            metavar="CHANNEL", help="The channel, or service.channel for one target.", callback=no_file
        ),
    ],
    promises: Annotated[
        list[str] | None,
        typer.Option(
            "--assert",
            metavar="PROMISE",
            help=f"Exit with 1 unless every target keeps it: {', '.join(PROMISES)}; may be repeated.",
        ),
    ] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Explain in three sentences what a channel promises: delivery, order, the longest wait.

    They are computed from the handler, the options and the outbox; nothing is connected. With --assert, the
    exit code is 1 if a target does not keep the promise, and the reason is printed.
    """
    wanted = [_promise(name) for name in promises or ()]
    loaded = load(ctx, config)
    place = _place(loaded)
    found = [explain(loaded, target, place) for target in configured(loaded, channel)]
    broken = [
        f"{one.target} is not {promise}: {one.broken[promise]}"
        for promise in wanted
        for one in found
        if not one.keeps(promise)
    ]
    if as_json:
        show_data({"ok": not broken, "channel": channel, "targets": [_data(one) for one in found]})
    else:
        show(Group(*(_shown(one) for one in found)))
    for reason in broken:
        print(f"rambla: {reason}", file=sys.stderr)
    raise typer.Exit(exit_codes.FAILED if broken else exit_codes.OK)


def _promise(name: str) -> Promise:
    for known in PROMISES:
        if name == known:
            return known
    raise typer.BadParameter(f"{name!r} is none of {', '.join(PROMISES)}", param_hint="--assert")


def _place(config: Config) -> Place:
    url = (config.rambla.outbox.url if config.rambla.outbox is not None else None) or ""
    return Place(redact_url(url), shared=not url.startswith("sqlite"))


def _data(one: Explanation) -> dict[str, Any]:
    return {
        "target": one.target,
        "delivery": one.delivery,
        "order": one.order,
        "wait": one.wait,
        "guarantee": one.guarantee,
        "broken": dict(one.broken),
    }


def _shown(one: Explanation) -> Text:
    sentences = "\n".join((one.delivery, one.order, one.wait))
    return Text.assemble((one.target, "bold"), f"\n{sentences}\n", (f"{one.guarantee}\n", "dim"))
