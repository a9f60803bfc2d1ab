"""Waiting for what other threads and servers do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from rambla_py.testing.processes import deadline


def wait_until(condition: Callable[[], Any]) -> None:
    assert any(condition() for _ in deadline(20, poll_s=0.01)), "did not happen within 20 s"


def in_background(run: Callable[[], Iterable[Any]]) -> tuple[threading.Thread, list[Any]]:
    """Run on another thread; the list holds what was returned once the thread has ended."""
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.extend(run()), daemon=True)
    thread.start()
    return thread, answers


def kinds(answers: Iterable[Any]) -> set[type]:
    return {type(answer) for answer in answers}
