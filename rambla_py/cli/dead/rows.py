"""Dead letters as rows of a table, as JSON, and as records of a file."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from rambla_py.errors import SerializationError
from rambla_py.outbox.dead import Group
from rambla_py.outbox.dead_letter import read_letter
from rambla_py.outbox.rows import Letter
from rambla_py.serialization.encoding import to_json

__all__ = [
    "clock",
    "group_cells",
    "letter_cells",
    "letter_data",
    "letter_lines",
    "letter_record",
    "short_names",
]

_ABOUT: Final = ("reason", "error", "group", "attempts", "history", "accepted", "died")
_SHORT = 6


def short_names(fingerprints: Sequence[str]) -> dict[str, str]:
    """Return the shortest beginning of each fingerprint, of at least six digits, that no other has.

    >>> short_names(["9f3c2a11", "9f3c2a12", "01a2280c"])
    {'9f3c2a11': '9f3c2a11', '9f3c2a12': '9f3c2a12', '01a2280c': '01a228'}
    """
    whole = sorted(set(fingerprints))
    length = dict.fromkeys(whole, _SHORT)
    for one, other in itertools.pairwise(whole):
        shared = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))
        for name in (one, other):
            length[name] = max(length[name], shared + 1)
    return {name: name[: length[name]] for name in dict.fromkeys(fingerprints)}


def group_cells(group: Group, names: Mapping[str, str], now: datetime) -> tuple[str, ...]:
    """Return the cells of a group in ``dead list``."""
    return (
        names[group.fingerprint],
        f"{group.count:,}",
        group.channel,
        printable(group.error),
        clock(group.first_at, now),
        clock(group.last_at, now),
        f"{group.replayed:,}",
    )


def letter_cells(letter: Letter, now: datetime) -> tuple[str, ...]:
    """Return the cells of a letter in ``dead list --letters``."""
    row = letter.row
    died, attempts = clock(letter.died, now), f"{letter.attempts:,}"
    return (printable(row.id), row.target, died, attempts, printable(letter.error))


def clock(at: float, now: datetime) -> str:
    """Return a time of day, with the date unless it is today's."""
    moment = datetime.fromtimestamp(at, now.tzinfo)
    return f"{moment:%H:%M:%S}" if moment.date() == now.date() else f"{moment:%Y-%m-%d %H:%M:%S}"


def printable(text: str) -> str:
    """Return text with control characters escaped, so that none reaches a terminal."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def letter_data(letter: Letter) -> dict[str, Any]:
    """Return everything about a letter, for JSON. Times are seconds since the epoch.

    A payload that cannot be read is null: ``unreadable`` has the reason, ``raw`` its bytes in base64.
    """
    read = read_letter(letter)
    data = {name: getattr(read, name) for name in read.__struct_fields__}
    data["history"] = [{"at": one.at, "error": one.error} for one in read.history]
    if read.unreadable is None:
        data["payload"] = _json(read.payload)
        del data["unreadable"], data["raw"]
    return data


def letter_record(letter: Letter) -> dict[str, Any]:
    """Return a letter as a record that ``rambla publish --format record`` reads."""
    data = letter_data(letter)
    service, _, channel = letter.row.target.partition(".")
    kept = {name: data[name] for name in ("id", "key", "headers", "options") if data[name]}
    origin = {"service": service, "channel": channel, "target": letter.row.target}
    about = {name: data[name] for name in _ABOUT}
    content: list[str] = [name for name in ("unreadable", "raw") if name in data] or ["payload"]
    return {**kept, "origin": origin, "status": "fatal", **about, **{name: data[name] for name in content}}


def letter_lines(letter: Letter, now: datetime) -> list[tuple[str, str]]:
    """Return names and values for a person to read."""
    read = read_letter(letter)
    times = f", replayed {letter.replayed} times" if letter.replayed else ""
    lines = [
        ("id", read.id),
        ("target", read.target),
        ("key", read.key),
        ("accepted", clock(read.accepted, now)),
        ("died", f"{clock(read.died, now)}, {read.reason}"),
        ("group", read.group),
        ("handler", read.handler),
        ("error", read.error),
        ("attempts", f"{read.attempts:,}{times}"),
        *((f"  {clock(one.at, now)}", one.error) for one in read.history),
        ("headers", bytes(_json(read.headers)).decode() if read.headers else None),
        ("options", bytes(_json(read.options)).decode() if read.options else None),
        ("unreadable", read.unreadable),
        ("payload", bytes(_json(read.payload)).decode() if read.raw is None else repr(read.raw)),
    ]
    return [(name, printable(value)) for name, value in lines if value]


def _json(value: Any) -> msgspec.Raw:
    """Return a value as JSON; one that JSON cannot hold, as a string."""
    try:
        return msgspec.Raw(to_json(value))
    except SerializationError:
        return msgspec.Raw(to_json(repr(value)))
