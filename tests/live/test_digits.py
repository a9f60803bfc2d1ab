"""Numbers in JSON text keep their digits on the way through every handler that writes JSON."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from http_app import to
from sql_worker import Base
from web_server import WebServer

from rambla_py import Rambla
from rambla_py.handlers.memory import store

DIGITS = "0.10000000000000000001"
TEXT = f'{{"n": {DIGITS}, "zeros": 1.10, "big": {2**70}, "far": 1e400}}'
NUMBERS = {"n": Decimal(DIGITS), "zeros": Decimal("1.10"), "big": 2**70, "far": Decimal("1e400")}


def exact(text: str | bytes) -> Any:
    """Return the value of JSON, with a Decimal for each number with a point or an exponent."""
    return json.loads(text, parse_float=Decimal)


def publish(service: str, connection: dict[str, Any], payload: Any = TEXT, **options: Any) -> None:
    """Publish text, read as an object, through a handler."""
    channel = {"options": {"format": "object", **options}}
    with Rambla({service: {"connections": {"one": connection}, "channels": {"orders": channel}}}) as app:
        app.publish("orders", payload).result(timeout_s=20)


@pytest.mark.parametrize("record", ["payload", "full"])
def test_in_a_file(record: str, tmp_path: Path):
    """A line holds the text's own numbers."""
    path = tmp_path / "orders.jsonl"
    publish("file", {"path": str(path)}, record=record)
    line = exact(path.read_bytes())
    assert (line["payload"] if record == "full" else line) == NUMBERS
    assert "1.10" in path.read_text()


@pytest.mark.parametrize("form", ["single", "ndjson"])
@pytest.mark.parametrize("payload", [TEXT, TEXT.replace(", ", ",\n").encode()], ids=["text", "lines"])
def test_in_an_object(payload: str | bytes, form: str, tmp_path: Path):
    """An object of its own, or a line of many."""
    publish("objects", {"url": f"file://{tmp_path}"}, payload, path="{id}.json", body_format=form)
    (written,) = [path.read_bytes() for path in tmp_path.iterdir()]
    written = gzip.decompress(written) if form == "ndjson" else written
    assert exact(written) == NUMBERS
    assert form == "single" or written.count(b"\n") == 1


@pytest.mark.parametrize("form", ["single", "batch", "ndjson"])
def test_in_a_request(form: str, web_server: WebServer):
    """Alone, in a batch, and with the id beside them."""
    id_field = {} if form == "single" else {"id_field": "id"}
    with to(web_server, body_format=form, format="object", **id_field) as c:
        c.send(TEXT, id="m-1")
        c.send(" { } ", id="m-2")
    first, second = (exact(seen.body) for seen in web_server.seen)
    if form == "batch":
        first, second = first["events"][0], second["events"][0]
    given = {} if form == "single" else {"id": "m-1"}
    assert first == {**given, **NUMBERS}
    assert second == ({} if form == "single" else {"id": "m-2"})


@pytest.mark.parametrize("mode", ["whole", "columns"])
def test_in_a_row(mode: str, base: Base):
    """A column of JSON holds the text's own numbers, a decimal column all of their digits."""
    text = TEXT.replace(', "far": 1e400', "")
    if mode == "whole":
        base.make("id varchar(40) primary key, payload text")
        publish("sql", {"url": base.url}, text, table=base.table)
        ((written,),) = base.rows("select payload from {}")
        assert exact(written) == {name: value for name, value in NUMBERS.items() if name != "far"}
        return
    kind = "text" if base.kind == "sqlite" else "decimal(40, 20)"
    base.make(f"id varchar(40) primary key, n {kind}, rest text")
    publish("sql", {"url": base.url}, text, table=base.table, columns=["n"], json_column="rest")
    ((number, rest),) = base.rows("select n, rest from {}")
    assert Decimal(number) == NUMBERS["n"]
    assert exact(rest) == {"zeros": Decimal("1.10"), "big": 2**70}


def test_in_memory():
    """A number that a float would round is a Decimal; others are floats."""
    publish("memory", {"name": "digits"})
    (message,) = store("digits").messages()
    assert message.payload == {**NUMBERS, "zeros": 1.1}
    assert [isinstance(value, Decimal) for value in message.payload.values()] == [True, False, False, True]


def test_in_an_event(tmp_path: Path):
    """Data that is JSON by its media type is embedded as it was."""
    event = {"serializer": "cloudevents", "event_content_type": "application/json", "format": "none"}
    publish("file", {"path": str(tmp_path / "events")}, **event)
    assert exact((tmp_path / "events").read_bytes())["data"] == NUMBERS
