"""Payloads of stored rows as values, and rows with another payload or target."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET

from rambla_py.errors import SerializationError
from rambla_py.outbox.codec import dump_value
from rambla_py.outbox.row_of import decoded
from rambla_py.outbox.rows import Form, Letter, Progress, Row
from rambla_py.serialization.encoding import encode, to_json

__all__ = ["Edit", "edited", "parsed_path", "with_value"]

_OWN_SERIALIZER: Final = (
    "a serializer of the application wrote it: it is replayed as it is, to its own channel"
)
_STEP: Final = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")

Path = tuple[str | int, ...]
"""The way to a value in a payload: keys of dicts, indices of lists."""


class Edit(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay changes: values at paths, the whole payload, the target (``service.channel``)."""

    values: tuple[tuple[str, Any], ...] = ()
    payload: Any = UNSET
    target: str | None = None


def edited(letter: Letter, edit: Edit, now: float) -> Row:
    """Return the row to store for a letter: its id, key, options and history, with fresh retries.

    Raises ``ValueError``: a payload that is damaged or cannot be edited, a path that leads nowhere.
    """
    row = letter.row
    payload, form = _payload(row, edit)
    made = msgspec.structs.replace(
        row,
        target=edit.target or row.target,
        accepted=now,
        payload=payload,
        form=form,
        due=None,
        wait_s=0.0,
        progress=_fresh(row).dump(),
        started=False,
        share=0,
        seq=0,
    )
    made.seal()
    return made


def _payload(row: Row, edit: Edit) -> tuple[bytes, Form]:
    if edit.payload is not UNSET:
        return _written(edit.payload, "value" if edit.target else row.form)
    if not row.sound:
        raise ValueError("its checksum is wrong: replay it with a payload of your own")
    elsewhere = edit.target is not None and edit.target != row.target
    if not edit.values and (not elsewhere or row.form == "value"):
        return row.payload, row.form
    if row.form == "custom":
        raise ValueError(_OWN_SERIALIZER)
    value = decoded(row)
    for path, new in edit.values:
        value = with_value(value, parsed_path(path), new)
    # The other target may encode its messages in another way.
    return _written(value, "value" if elsewhere else row.form)


def _written(value: Any, form: Form) -> tuple[bytes, Form]:
    try:
        if form in ("text", "bytes") and isinstance(value, str):
            return value.encode(), "text"
        if form in ("text", "bytes") and isinstance(value, bytes):
            return value, "bytes"
        if form == "msgpack":
            is_text = isinstance(value, str)  # which ``encode`` does not serialize
            return msgspec.msgpack.encode(value) if is_text else encode(value, serializer=form), form
        if form == "custom":
            raise ValueError(_OWN_SERIALIZER)
        if form == "value":
            return dump_value(value), form
        return to_json(value), "json"
    except SerializationError as error:
        raise ValueError(str(error)) from error


def _fresh(row: Row) -> Progress:
    """Return what the attempts came to, for a row that has all of its retries again."""
    try:
        before = Progress.load(row.progress)
    except ValueError:
        before = Progress()
    return Progress(
        attempts=before.attempts,
        maybe_sent=before.maybe_sent,
        history=before.history,
        replayed=before.replayed + 1,
    )


def parsed_path(path: str) -> Path:
    """Return the steps of a path; raises ``ValueError``.

    >>> parsed_path("lines[0].customer.id")
    ('lines', 0, 'customer', 'id')
    """
    steps: list[str | int] = []
    at = 0
    while at < len(path):
        step = _STEP.match(path, at)
        if step is None or (at == 0 and path.startswith(".")):
            raise ValueError(f"{path!r} is not a path; write it as customer.id or lines[0].price")
        steps.append(step[1] if step[2] is None else int(step[2]))
        at = step.end()
    if not steps:
        raise ValueError("an empty path; --payload replaces the whole payload")
    return tuple(steps)


def with_value(value: Any, path: Sequence[str | int], new: Any) -> Any:
    """Return a copy of a value with ``new`` at a path. The last key may be new, the ones before may not.

    Raises ``ValueError``.

    >>> with_value({"id": 7, "lines": [{"n": 1}]}, ("lines", 0, "n"), 2)
    {'id': 7, 'lines': [{'n': 2}]}
    """
    if not path:
        return new
    step, *rest = path
    if isinstance(value, list) and isinstance(step, int) and step < len(value):
        return [with_value(item, rest, new) if at == step else item for at, item in enumerate(value)]
    if isinstance(value, dict) and (step in value or not rest):
        return {**value, step: with_value(value.get(step), rest, new)}
    shown = f"[{step}]" if isinstance(step, int) else repr(step)
    raise ValueError(f"its payload has no {shown} to set")
