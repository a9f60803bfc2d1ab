"""Write the tables of options in the documentation from the schema that checks them.

A page holds ``<!-- generated: NAME -->`` and ``<!-- end -->``; what stands between is replaced. NAME is
``connection HANDLER``, ``options HANDLER``, ``guarantee HANDLER``, ``rambla``, ``channel``, ``reserved``,
``errors``, ``analytics`` or ``events``.
With ``--check`` nothing is written: the exit code is 1 when a page differs or a handler has no page.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec
from error_docs import errors_page, missing_errors

from rambla_py.analytics.events import EVENTS, Event
from rambla_py.analytics.settings import AnalyticsSettings
from rambla_py.analytics.tables import fields_of as event_fields
from rambla_py.analytics.tables import own_fields
from rambla_py.config.conversion import holds_secret
from rambla_py.config.describe import type_in_words
from rambla_py.config.options import declared, reserved
from rambla_py.config.reserved import PER_MESSAGE
from rambla_py.config.schema import (
    ChannelSettings,
    OutboxSettings,
    RamblaSettings,
    TelemetrySettings,
    WebSettings,
)
from rambla_py.config.struct_fields import fields_of, is_struct
from rambla_py.handler import Handler
from rambla_py.registry import GROUP, find_handler

ROOT = Path(__file__).resolve().parent.parent
CONFIGURATION = ROOT / "docs" / "configuration.md"
HANDLERS = ROOT / "docs" / "handlers"
ELSEWHERE = frozenset({"options", "outbox", "telemetry", "web", "analytics"})
"""Settings whose text stands on the page itself."""

_MARKED = re.compile(r"(<!-- generated: (?P<name>[\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


class Row(msgspec.Struct, frozen=True):
    """One line of a table: a key as users write it, its type and default, where it may stand, its meaning."""

    key: str
    type: str
    default: str
    place: str
    meaning: str


def main(arguments: list[str] | None = None) -> int:
    """Write the pages, or check them; returns the exit code. Without arguments those of the process count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a page differs")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="the folder of the pages")
    given = parser.parse_args(arguments)
    problems = [*_missing(given.docs), *_outdated(given.docs, write=not given.check)]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def handler_names() -> list[str]:
    """Return the names of the handlers that rambla_py itself brings."""
    return sorted(
        entry.name
        for entry in metadata.entry_points(group=GROUP)
        if entry.value.startswith("rambla_py.handlers.")
    )


def wanted() -> dict[str, list[str]]:
    """Return the generated parts that each page must have, by its path below ``docs``."""
    parts = ("guarantee", "connection", "options")
    pages = {f"handlers/{name}.md": [f"{part} {name}" for part in parts] for name in handler_names()}
    return {
        "configuration.md": ["rambla", "outbox", "telemetry", "web", "channel", "reserved"],
        "troubleshooting.md": ["errors"],
        "analytics.md": ["events", "analytics"],
        **pages,
    }


def generated(name: str) -> str:
    """Return the text of one generated part."""
    part, _, handler = name.partition(" ")
    if part == "errors":
        return errors_page()
    if part == "events":
        return _events()
    if part == "guarantee":
        return f"> {find_handler(handler).guarantee}\n"
    if part == "connection":
        return _table(_connection_rows(find_handler(handler)), places=False)
    if part == "options":
        return _table(_option_rows(find_handler(handler)), places=True)
    if part == "reserved":
        return _table(_reserved_rows(), places=True)
    shapes: dict[str, type[msgspec.Struct]] = {
        "rambla": RamblaSettings,
        "outbox": OutboxSettings,
        "telemetry": TelemetrySettings,
        "web": WebSettings,
        "analytics": AnalyticsSettings,
    }
    shape = shapes.get(part, ChannelSettings)
    return _table([row for row in _rows(shape) if row.key.split(".")[0] not in ELSEWHERE], places=False)


def _missing(docs: Path) -> Iterator[str]:
    for page, parts in wanted().items():
        path = docs / page
        text = path.read_text("utf-8") if path.exists() else ""
        marked = [found["name"] for found in _MARKED.finditer(text)]
        yield from (f"docs/{page}: no part 'generated: {part}'" for part in parts if part not in marked)
    yield from (f"scripts/error_docs.py: no entry for {name}" for name in missing_errors())


def _outdated(docs: Path, *, write: bool) -> Iterator[str]:
    for page in wanted():
        path = docs / page
        text = path.read_text("utf-8") if path.exists() else ""
        fresh = _MARKED.sub(lambda found: f"{found[1]}\n{generated(found['name'])}\n{found[3]}", text)
        if fresh == text:
            continue
        if write:
            path.write_text(fresh, "utf-8")
        else:
            yield f"docs/{page} is not up to date: run scripts/handler_docs.py"


def _connection_rows(handler: type[Handler]) -> list[Row]:
    shape: Any = handler.Connection
    return list(_rows(shape)) if is_struct(shape) else []


def _option_rows(handler: type[Handler]) -> list[Row]:
    return [
        row
        for name, field in declared(handler).items()
        for row in _field_rows(name, field.type, field.default, "channel" if field.per_channel else "both")
    ]


def _reserved_rows() -> list[Row]:
    return [
        row
        for name, field in reserved().items()
        for row in _field_rows(name, field.type, field.default, "message" if name in PER_MESSAGE else "both")
    ]


def _rows(shape: type[msgspec.Struct], lead: str = "", place: str = "") -> Iterator[Row]:
    for field in fields_of(shape):
        yield from _field_rows(lead + field.key, field.type, field.default, place)


def _field_rows(key: str, declared_type: Any, default: Any, place: str) -> Iterator[Row]:
    shown = "" if place == "message" else _default(default)
    yield Row(key, _type(declared_type), shown, place, _meaning(declared_type))
    for inner, between in _inner_tables(declared_type).items():
        yield from _rows(inner, f"{key}{between}.", place)


_BETWEEN: dict[Any, str] = {list: "[]", dict: ".NAME"}


def _inner_tables(declared_type: Any, between: str = "") -> dict[type[msgspec.Struct], str]:
    """Return the tables that a value may hold, each with what stands before its keys in a list or a table."""
    if is_struct(declared_type):
        return {declared_type: between}
    found: dict[type[msgspec.Struct], str] = {}
    for part in get_args(declared_type):
        below = _BETWEEN.get(get_origin(declared_type), between)
        for inner, where in _inner_tables(part, below).items():
            if not where or inner not in found:
                found[inner] = where
    return found


def _type(declared_type: Any) -> str:
    words = type_in_words(declared_type)
    return f"{words}, kept secret" if holds_secret(declared_type) else words


def _meaning(declared_type: Any) -> str:
    try:
        schema = getattr(msgspec.inspect.type_info(declared_type), "extra_json_schema", None) or {}
    except TypeError:
        return ""
    return str(schema.get("description", ""))


def _default(default: Any) -> str:
    if default is msgspec.NODEFAULT:
        return "required"
    if default is None or isinstance(default, msgspec.Struct) or default in ({}, [], ()):
        return ""  # a table's own defaults stand in the lines below it
    return f"`{_toml(default)}`"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, int):
        return f"{value:_}" if value >= 100_000 else str(value)
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def _table(rows: list[Row], *, places: bool) -> str:
    if not rows:
        return "There is nothing to set.\n"
    head = ["key", "type", "default", *(["set for"] if places else []), "meaning"]
    lines = [_line(head), _line(["---"] * len(head))]
    for row in rows:
        place = {"both": "channel, message"}.get(row.place, row.place)
        cells = [f"`{row.key}`", row.type, row.default, *([place] if places else []), row.meaning]
        lines.append(_line([cell.replace("|", "\\|") for cell in cells]))
    return "\n".join(lines) + "\n"


def _events() -> str:
    """Return the fields of every event, and those that all have, with their types and meanings."""
    lines = [_line(["event", "`event_action`", "table", "field", "type", "meaning"]), _line(["---"] * 6)]
    every: tuple[type[Event], ...] = (*EVENTS, Event)
    for event in every:
        tables = ", ".join(f"`{table}`" for table in event.TABLES)
        names = [event.EVENT or "any other", f"`{event.ACTION}`", tables]
        fields = own_fields(event)
        if event is Event:
            names, fields = ["every event", "", ""], event_fields(event)
        for field in fields.values():
            lines.append(_line([*names, f"`{field.name}`", field.sql, field.about]))
            names = ["", "", ""]
        if not fields:
            lines.append(_line([*names, "", "", "all fields are in `properties`"]))
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    sys.exit(main())
