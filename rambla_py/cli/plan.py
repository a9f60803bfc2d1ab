"""The command ``rambla plan``."""

from __future__ import annotations

import sys

import typer
from rich.tree import Tree

from rambla_py.cli.loading import load
from rambla_py.cli.parameters import AsJson, ConfigFile
from rambla_py.cli.terminal import counted, show, show_json, show_text
from rambla_py.runtime.supervision.plan import ChannelPlan, Plan, make_plan

__all__ = ["app"]

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def plan(ctx: typer.Context, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show the supervision tree that a start would build; nothing is started or connected.

    Each channel has its external servers, then its pool, and what its handler guarantees.
    """
    found = make_plan(load(ctx, config))
    if as_json:
        show_json(found.as_data())
    elif sys.stdout.isatty():
        show(_tree(found))
    else:
        show_text(f"{found}\n")


def _tree(found: Plan) -> Tree:
    root = Tree(f"rambla ({found.strategy})", guide_style="dim")
    for service in found.services:
        branch = root.add(f"{service.name}: {service.handler_name} ({service.strategy})", style="bold")
        for channel in service.channels:
            _add_channel(branch, channel)
    return root


def _add_channel(branch: Tree, channel: ChannelPlan) -> None:
    config = channel.config
    leaf = branch.add(f"{config.channel} ({channel.strategy})", style="cyan")
    for name in channel.server_names:
        leaf.add(f"external server: {name}", style="default")
    if channel.unknown is not None:
        leaf.add(f"external servers: not known, {channel.unknown}", style="default")
    start = "lazy" if config.lazy else "at once"
    off = "" if config.enabled else ", disabled"
    pool = leaf.add(
        f"pool: {counted(config.count, 'worker')}, {start}, connection {config.connection!r}{off}",
        style="default",
    )
    # A branch of its own: the guarantee is often longer than a line.
    pool.add(config.handler.guarantee, style="dim")
