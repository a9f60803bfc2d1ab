"""This module is the handler that prints messages on the terminal."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO

import msgspec
from msgspec import Meta
from rich.console import Console
from rich.highlighter import JSONHighlighter
from rich.text import Text

from rambla_py.errors import ConnectionLostError, DeliveryError, RejectedError, SerializationError
from rambla_py.handler import Handler, State, per_channel
from rambla_py.handlers._record import Shape, json_line

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["ConsoleHandler"]

# Some terminals obey these; JSON leaves them as they are, and they can only stand inside its strings.
_UNSAFE = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]")


class _Screen:
    """The connection: one text stream, and rich to colour what goes there."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._console = Console(file=stream, soft_wrap=True)
        self._highlight = JSONHighlighter()
        self._coloured = self._console.color_system is not None and not self._console.no_color

    def show(self, lines: Sequence[str]) -> None:
        """Write the lines in one go; a stream that is not a colour terminal gets them as they are."""
        text = "".join(f"{line}\n" for line in lines).translate(_UNSAFE)
        if self._coloured:
            text = self._painted(text)
        try:
            self._stream.write(text)
        except UnicodeEncodeError:
            self._stream.write(_BEYOND_ASCII.sub(_escaped, text))
        self._stream.flush()

    def _painted(self, text: str) -> str:
        # Captured rather than printed: at a broken pipe rich would end the process.
        with self._console.capture() as captured:
            self._console.print(self._highlight(Text(text)), end="")
        return captured.get()


class ConsoleHandler(Handler):
    """Prints each message as JSON, on one line or indented; on a terminal in colours, but for ``NO_COLOR``.

    Text and bytes (UTF-8) show as JSON strings, so that nothing in them reaches the terminal as a command.
    What goes to a pipe or a file is the JSON alone.

    Delivery: at least once. After a broken pipe or a failed write, which is told of the whole batch, lines
    that did get through are printed again. One worker keeps the order of its batches. A payload that JSON
    cannot hold is fatal, and only for itself.
    """

    guarantee = "at least once; lines of a batch may repeat after a broken pipe; a worker keeps the order"

    class Connection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        """There is nothing to connect to."""

    class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
        """How messages are printed."""

        stream: Annotated[Literal["stdout", "stderr"], per_channel("where messages are printed")] = "stdout"
        layout: Annotated[Literal["line", "pretty"], Meta(description="one line, or indented")] = "line"
        record: Annotated[
            Shape, Meta(description="print the payload, or 'full': id, channel, at, key, headers, payload")
        ] = "payload"

    def connect(self) -> _Screen:
        """Take the stream as it is now."""
        name = self.options.stream if isinstance(self.options, ConsoleHandler.Options) else "stdout"
        stream: TextIO | None = getattr(sys, name)
        if stream is None or stream.closed:
            raise ConnectionLostError(f"this process has no {name}")
        return _Screen(stream)

    def handle_batch(self, messages: Sequence[Delivery], state: State) -> list[Any]:
        """Print each; the result is None."""
        at = time.time()
        answers: list[Any] = [None] * len(messages)
        lines: list[str] = []
        for place, message in enumerate(messages):
            try:
                lines.append(_printed(message, channel=state.channel, at=at))
            except SerializationError as error:
                answers[place] = error
        try:
            state.connection.show(lines)
        except (OSError, ValueError) as error:
            failure = _ours(error)
            failure.__cause__ = error
            return [failure if answer is None else answer for answer in answers]
        return answers


def _printed(message: Delivery, *, channel: str, at: float) -> str:
    options = message.options
    line = json_line(message, shape=options.record, channel=channel, at=at)
    return (msgspec.json.format(line, indent=2) if options.layout == "pretty" else line).decode()


def _escaped(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def _ours(error: OSError | ValueError) -> DeliveryError:
    """Return our error for one of the stream's; ``ValueError`` is what a closed one raises."""
    if isinstance(error, (BrokenPipeError, ValueError)):
        return ConnectionLostError(f"nobody reads what is printed: {error}")
    return RejectedError(str(error))
