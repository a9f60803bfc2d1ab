"""The handler that prints."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from typing import Any

import pytest
from handler_case import Case

from rambla_py.errors import ConnectionLostError, SerializationError
from rambla_py.handlers.console import ConsoleHandler

_PRINT = """
from handler_case import Case
from rambla_py.handlers.console import ConsoleHandler
import sys
case = Case(ConsoleHandler)
answers = case.send({"name": "[bold]é[/bold]", "n": 1})
print(type(answers[0]).__name__, file=sys.stderr)
"""


def run_on_terminal(**env: str) -> bytes:
    """Print one message from a process whose stdout is a terminal, and return what the terminal got."""
    reader, terminal = os.openpty()
    try:
        clean = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "CI")}
        where = {"PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm-256color", "PYTHONUTF8": "1"}
        command = [sys.executable, "-c", _PRINT]
        subprocess.run(
            command, stdout=terminal, stderr=subprocess.PIPE, env=clean | where | env, check=True, timeout=30
        )
        os.set_blocking(reader, False)
        return os.read(reader, 65536)
    finally:
        os.close(terminal)
        os.close(reader)


def test_a_pipe_gets_the_json_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """One line a message, neither wrapped nor coloured nor read as markup."""
    payloads: list[Any] = [{"long": "x" * 500}, "[red]two\nlines[/red]", b"ab"]
    assert Case(ConsoleHandler).send(*payloads) == [None] * 3
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == [payloads[0], payloads[1], "ab"]


def test_stderr_is_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    """``stream`` says where it goes."""
    Case(ConsoleHandler, stream="stderr").send(1)
    assert capsys.readouterr() == ("", "1\n")


def test_pretty_is_indented(capsys: pytest.CaptureFixture[str]) -> None:
    """``layout = "pretty"`` is for eyes."""
    Case(ConsoleHandler, layout="pretty").send({"a": 1})
    assert capsys.readouterr().out == '{\n  "a": 1\n}\n'


def test_full_shows_the_message(capsys: pytest.CaptureFixture[str]) -> None:
    """``record = "full"`` adds what belongs to the message."""
    Case(ConsoleHandler, record="full").send({"a": 1})
    shown = json.loads(capsys.readouterr().out)
    assert (shown["channel"], shown["payload"]) == ("orders", {"a": 1})


def test_one_bad_payload_fails_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """Its neighbours are printed."""
    answers = Case(ConsoleHandler).send(1, object(), 2)
    assert [type(answer) for answer in answers] == [type(None), SerializationError, type(None)]
    assert capsys.readouterr().out == "1\n2\n"


def test_a_payload_cannot_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters are escaped, the old ones and the C1 ones, and the JSON stays the same JSON."""
    text = "\x1b[2J\x9b2J\x7f"
    Case(ConsoleHandler).send(text)
    out = capsys.readouterr().out
    assert out.strip().isprintable()
    assert json.loads(out) == text


def test_a_stream_without_unicode_gets_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    """What the stream's encoding cannot hold is written as JSON escapes, not lost."""
    case = Case(ConsoleHandler)
    raw = io.BytesIO()
    case.connection._stream = io.TextIOWrapper(raw, encoding="ascii")
    assert case.send("é😀") == [None]
    assert json.loads(raw.getvalue()) == "é😀"


def test_a_terminal_gets_colours() -> None:
    """On a terminal the JSON is painted."""
    shown = run_on_terminal()
    assert b"\x1b[" in shown
    assert "[bold]é[/bold]".encode() in shown


def test_no_color_is_honoured() -> None:
    """With NO_COLOR set not one escape sequence is written."""
    assert run_on_terminal(NO_COLOR="1") == '{"name":"[bold]é[/bold]","n":1}\r\n'.encode()


def test_a_broken_pipe_is_a_lost_connection() -> None:
    """The process continues, and reports that the pipe is closed."""
    reader, writer = os.pipe()
    os.close(reader)
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PRINT],
            check=False,
            stdout=writer,
            stderr=subprocess.PIPE,
            env=env,
            timeout=30,
            text=True,
        )
    finally:
        os.close(writer)
    assert done.stderr.splitlines()[0] == "ConnectionLostError"


def test_a_closed_stream_is_a_lost_connection() -> None:
    """A stream that is closed under the handler counts as a lost connection."""
    case = Case(ConsoleHandler)
    case.connection._stream = io.StringIO()
    case.connection._stream.close()
    (answer,) = case.send(1)
    assert isinstance(answer, ConnectionLostError)
