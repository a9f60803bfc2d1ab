"""The ``console`` handler."""

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
from rambla_py.handler import Handler, Preflight, State, per_channel
from rambla_py.handlers._record import Shape, json_line
from rambla_py.serialization.header_values import ANY_JSON

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["ConsoleHandler"]

# Control codes that some terminals obey; JSON does not escape them, and only its strings can contain them.
_UNSAFE = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]")


class _Screen:
    """The connection: a stream of text, with colours by rich."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._console = Console(file=stream, soft_wrap=True)
        self._highlight = JSONHighlighter()
        self._coloured = self._console.color_system is not None and not self._console.no_color

    def show(self, lines: Sequence[str]) -> None:
        """Write the lines at once, in colours on a terminal that has them."""
        text = "".join(f"{line}\n" for line in lines).translate(_UNSAFE)
        if self._coloured:
            text = self._painted(text)
        try:
            self._stream.write(text)
        except UnicodeEncodeError:
            self._stream.write(_BEYOND_ASCII.sub(_escaped, text))
        self._stream.flush()

    def _painted(self, text: str) -> str:
        # Captured, not printed: rich exits the process at a broken pipe.
        with self._console.capture() as captured:
            self._console.print(self._highlight(Text(text)), end="")
        return captured.get()


class ConsoleHandler(Handler):
    """Prints each message as JSON, on one line or indented; in colours on a terminal, unless ``NO_COLOR``.

    Strings and bytes (UTF-8) are printed as JSON strings, so that they cannot control the terminal. A pipe or
    a file gets plain JSON.

    Delivery: at least once. A broken pipe or a failed write fails the whole batch, and lines that were
    printed are printed again. One worker keeps the order of its batches. A payload that JSON cannot hold is
    fatal, for its own message only.
    """

    takes = "json"
    header_types = ANY_JSON
    guarantee = "at least once; lines of a batch may repeat after a broken pipe; a worker keeps the order"

    class Connection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        """No keys."""

    class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
        """The options of a ``console`` channel."""

        stream: Annotated[Literal["stdout", "stderr"], per_channel("where messages are printed")] = "stdout"
        layout: Annotated[Literal["line", "pretty"], Meta(description="one line, or indented")] = "line"
        record: Annotated[
            Shape, Meta(description="print the payload, or 'full': payload, id, key, headers, origin")
        ] = "payload"

    def connect(self) -> _Screen:
        """Return the current stream."""
        name = self.options.stream if isinstance(self.options, ConsoleHandler.Options) else "stdout"
        stream: TextIO | None = getattr(sys, name)
        if stream is None or stream.closed:
            raise ConnectionLostError(f"this process has no {name}")
        return _Screen(stream)

    def preflight(self, connection: Any, report: Preflight) -> None:
        """Report nothing: every message is accepted."""

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
    """Return the delivery error for one of the stream; a closed one raises ``ValueError``."""
    if isinstance(error, (BrokenPipeError, ValueError)):
        return ConnectionLostError(f"the reader of the output is gone: {error}")
    return RejectedError(str(error))
