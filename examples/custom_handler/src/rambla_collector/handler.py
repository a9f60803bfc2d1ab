"""The handler: its settings, and how it sends a batch."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from rambla_collector.wire import Wire
from rambla_py import Delivery, Handler, PayloadTooLargeError
from rambla_py.handler import Secret, State, secret_text

__all__ = ["CollectorHandler"]


class CollectorHandler(Handler):
    """Sends each message as a line to a collector, which answers line by line; a batch is one write.

    At least once: after a loss between the write and the answer a message may come twice, with the same id.
    One worker writes in the order it was given; a failed message does not hold up those behind it.
    """

    guarantee = "at least once; a message may come twice with the same id; in sequence within a worker"

    class Connection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
        """Which collector."""

        host: Annotated[str, Meta(description="host name or address")] = "localhost"
        port: Annotated[int, Meta(ge=1, le=65535, description="TCP port")] = 7007
        token: Annotated[Secret | None, Meta(description="what the collector asks for")] = None
        timeout_s: Annotated[float, Meta(gt=0, description="longest wait for an answer")] = 5.0
        max_bytes: Annotated[int, Meta(ge=1, description="largest payload it takes")] = 16_000_000

    class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
        """Where messages go."""

        topic: Annotated[
            str | None, Meta(pattern=r"^\S+$", description="the channel's name when not given")
        ] = None

    def connect(self) -> Wire:
        """Connect and log in."""
        its = self.settings
        return Wire(its.host, its.port, token=secret_text(its.token), timeout_s=its.timeout_s)

    def close(self, connection: Wire | None) -> None:
        """Close it."""
        if connection is not None:
            connection.close()

    def ping(self, connection: Wire) -> None:
        """Ask the collector for an answer."""
        connection.ping()

    def handle_batch(self, messages: Sequence[Delivery], state: State) -> list[Any]:
        """Write what can be written, and return one answer for each message."""
        answers: list[Any] = [None] * len(messages)
        lines: dict[int, bytes] = {}
        for place, message in enumerate(messages):
            try:
                lines[place] = self._line(message)
            except Exception as error:  # what a payload's own code raises is the failure of its message alone
                answers[place] = error
        for place, answer in zip(lines, state.connection.exchange(list(lines.values())), strict=True):
            answers[place] = answer
        return answers

    def _line(self, message: Delivery) -> bytes:
        body = message.body()
        if len(body) > self.settings.max_bytes:
            raise PayloadTooLargeError(len(body), self.settings.max_bytes, "max_bytes")
        topic = message.options.topic or self.channel
        name = base64.urlsafe_b64encode(message.id.encode())
        return b"%b %b %b\n" % (topic.encode(), name, base64.b64encode(body))
