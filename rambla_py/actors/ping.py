"""This module tests whether a target's server can be reached."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence

from rambla_py.actors.loop import Loop
from rambla_py.actors.plan import make_handler
from rambla_py.config.schema import ChannelConfig
from rambla_py.errors import (
    ConnectionLostError,
    describe,
)
from rambla_py.report import Ping

__all__ = ["ping_all"]


def ping_all(channels: Sequence[ChannelConfig], timeout_s: float, redact: Callable[[str], str]) -> list[Ping]:
    """Connect to each channel's server at once, each on a connection of its own; the answers in order."""
    deadline = time.monotonic() + timeout_s
    asked = [(channel, _ask(channel)) for channel in channels]
    return [_answer(channel, replies, deadline, timeout_s, redact) for channel, replies in asked]


_Reply = tuple[float, BaseException | None]


def _ask(channel: ChannelConfig) -> queue.Queue[_Reply]:
    replies: queue.Queue[_Reply] = queue.Queue()  # a SimpleQueue may overlook a short timeout
    # A daemon of its own, for a driver may hang for longer than anybody wants to wait.
    threading.Thread(
        target=_try, args=(channel, replies), name=f"rambla ping {channel.name}", daemon=True
    ).start()
    return replies


def _try(channel: ChannelConfig, replies: queue.Queue[_Reply]) -> None:
    began, loop = time.monotonic(), Loop(f"rambla ping {channel.name}")
    error: BaseException | None = None
    try:
        handler = make_handler(channel)
        connection = loop.resolved(handler.connect())
        try:
            loop.resolved(handler.ping(connection))
        finally:
            loop.resolved(handler.close(connection))
    except BaseException as raised:  # user code; the answer is that it failed
        error = raised
    loop.close()
    replies.put((time.monotonic() - began, error))


def _answer(
    channel: ChannelConfig,
    replies: queue.Queue[_Reply],
    deadline: float,
    timeout_s: float,
    redact: Callable[[str], str],
) -> Ping:
    try:
        took_s, error = replies.get(timeout=max(0.0, deadline - time.monotonic()))
    except queue.Empty:
        took_s, error = timeout_s, ConnectionLostError(f"no answer within {timeout_s:g} s")
    text = None if error is None else redact(describe(error))
    return Ping(channel.service, channel.channel, error is None, took_s, text, error)
