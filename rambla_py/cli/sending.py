"""This module publishes what a source holds, message by message, on a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from typing import Any

from rambla_py.app import Rambla
from rambla_py.cli.lines import BadLine, Item, Line, key_at
from rambla_py.cli.sources import SourceError
from rambla_py.cli.tally import Tally
from rambla_py.errors import MailboxFullError
from rambla_py.message import Message
from rambla_py.receipt import Receipt

__all__ = ["Sender"]


class Sender:
    """Reads items and publishes them; the thread ends with the items, at ``stop()``, or at an error.

    A thread of its own, for reading may wait for a pipe, and publishing for room: neither must keep the main
    thread from hearing a signal, and none of them may be broken off in its midst.

    ``complain`` hears of each bad line, on this thread. ``error`` is what ended it too early, ``why`` the
    same for a person.
    """

    def __init__(
        self,
        app: Rambla,
        channel: str,
        *,
        options: dict[str, Any],
        key: str | None,
        strict: bool,
        tally: Tally,
        complain: Callable[[BadLine], None],
    ) -> None:
        self.sent = 0
        self.bad = 0
        self.why: str | None = None
        self.error: BaseException | None = None
        self._app, self._channel, self._options, self._key = app, channel, options, key
        self._strict, self._tally, self._complain = strict, tally, complain
        self._stopping = False

    def start(self, items: Iterable[Item], ended: SimpleQueue[int]) -> threading.Thread:
        """Start; put 0 into ``ended`` at the end."""
        thread = threading.Thread(target=self._run, args=(items, ended), name="rambla publish", daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        """Publish nothing from now on."""
        self._stopping = True

    def _run(self, items: Iterable[Item], ended: SimpleQueue[int]) -> None:
        try:
            for item in items:
                if self._stopping or not self._take(item):
                    return
        except (SourceError, MailboxFullError) as error:
            self.why = str(error)
        except BaseException as error:  # the main thread tells of it
            self.error = error
        finally:
            ended.put(0)

    def _take(self, item: Item) -> bool:
        """Publish one; return whether to go on."""
        try:
            if isinstance(item, Line):
                message = self._message(item)
        except ValueError as error:
            item = BadLine(item.number, str(error))
        if isinstance(item, BadLine):
            self.bad += 1
            self._complain(item)
            if self._strict:
                self.why = "stopped at the first bad line (--strict)"
            return not self._strict
        self._tally.add(self._published(message))
        self.sent += 1
        return True

    def _message(self, line: Line) -> Message:
        # A Message, for its payload is never read as an envelope: nothing in a file may set options.
        if self._key is None:
            return Message(line.payload, **self._options)
        return Message(line.payload, **self._options, key=key_at(line.payload, self._key))

    def _published(self, message: Message) -> Receipt:
        try:
            return self._app.publish(self._channel, message)
        except MailboxFullError as error:
            # Where the channel waits (overflow = "block"), it has waited. Where it raises, we wait for it.
            if error.waited_s is not None or not self._app.flush(timeout_s=_longest_wait_s(self._app)):
                raise
        return self._app.publish(self._channel, message)


def _longest_wait_s(app: Rambla) -> float:
    return max(target.publish_timeout_s for target in app.config.every_channel())
