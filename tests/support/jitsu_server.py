"""A stand-in for the ingestion API of Jitsu, which keeps the events that it takes, and answers as Jitsu does.

``Ingestion`` is the behaviour; ``JitsuServer`` has it in the test's own process, ``JitsuProcess`` in one that may
be killed. An event is refused inside an answer with status 200; one whose name begins with ``poison`` always is.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from kept_lines import KeepingServer, serve
from web_server import Reply, Seen, WebServer

KEY = "key-1:right"
_PATHS = ("/api/s/s2s/batch", "/v1/batch")
_MOST_BYTES = 1_000_000
_NAME = re.compile(r"--|;|=|/\*")


class Ingestion:
    """What the server makes of a request; ``keep`` is given each event that it takes.

    ``refuse(event)`` returns why an event is refused, or None; ``reply(seen)`` replaces an answer.
    """

    def __init__(self, keep: Callable[[dict[str, Any]], None]) -> None:
        self.keep = keep
        self.refuse: Callable[[dict[str, Any]], str | None] = lambda event: None
        self.reply: Callable[[Seen], Reply | None] = lambda seen: None
        self.keys: Sequence[str] = (KEY,)
        self.batches: list[dict[str, Any]] = []

    def answer(self, seen: Seen) -> Reply:
        """Return the answer to a request."""
        if seen.method == "GET":
            return _json(200, {"status": "pass"}) if seen.path == "/health" else Reply(404)
        replaced = self.reply(seen)
        if replaced is not None:
            return replaced
        if seen.path not in _PATHS:
            return Reply(404)
        try:
            body = _body(seen)
            batch = msgspec.json.decode(body)
        except (ValueError, msgspec.DecodeError, zlib.error):
            return _json(400, {"error": "error parsing message"})
        if seen.headers.get("x-write-key") not in self.keys:
            return _json(401, {"error": "stream not found"})
        room = _MOST_BYTES - sum(len(name) + len(value) for name, value in seen.headers.items())
        return self._taken(batch, room if len(body) > room else None)

    def _taken(self, batch: dict[str, Any], room: int | None) -> Reply:
        errors = []
        for event in batch["batch"]:
            name = re.sub(r"[^a-zA-Z0-9._-]", "_", event["messageId"])[:64]
            reason = _problem(event, room) or self.refuse(event)
            if reason is None:
                event["context"] = {**batch["context"], **event["context"]}
                event.pop("JITSU_TABLE_NAME", None)
                self.keep({**event, "messageId": name})
            else:
                errors.append(f"Message ID: {name}: {reason}")
        self.batches.append(batch)
        received = len(batch["batch"])
        answer = {"ok": not errors, "receivedEvents": received, "okEvents": received - len(errors)}
        return _json(200, {**answer, "errors": errors} if errors else answer)


def _problem(event: dict[str, Any], room: int | None) -> str | None:
    name = event.get("event", "")
    if event.get("type") != "track":
        return f"event error: Unknown event type: {event.get('type')}"
    if _NAME.search(name) or not 0 < len(name.encode()) <= 64:
        return f"event error: Invalid track event name '{name}'."
    if room is not None and len(msgspec.json.encode(event)) > room:
        return "event error: message size is too big."
    return "event error: no poison, please" if name.startswith("poison") else None


def _body(seen: Seen) -> bytes:
    how = seen.headers.get("content-encoding", "gzip")
    if how != "gzip":
        raise ValueError("only gzip is decoded")
    return seen.body


def _json(status: int, answer: dict[str, Any]) -> Reply:
    return Reply(status, json.dumps(answer).encode(), {"Content-Type": "application/json"})


class JitsuServer(WebServer):
    """The stand-in on a thread; ``events`` are those that it took."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[dict[str, Any]] = []
        self.ingestion = Ingestion(self.events.append)
        self.answer = self.ingestion.answer

    def posts(self) -> list[Seen]:
        """Return the batches that were answered with 2xx."""
        return [seen for seen in self.seen if seen.method == "POST"]


class JitsuProcess(KeepingServer):
    """The stand-in in a process of its own."""

    program = __file__

    def events(self, run: str) -> list[dict[str, Any]]:
        """Return the events of a run that were answered well, and perhaps some more after a kill."""
        found = [json.loads(line) for line in self.lines()]
        return [event for event in found if event["context"].get("run") == run]


def _prepare(server: WebServer, keep: Callable[[bytes], None]) -> None:
    server.answer = Ingestion(lambda event: keep(msgspec.json.encode(event))).answer


if __name__ == "__main__":
    serve(_prepare)
