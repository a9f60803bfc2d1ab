"""Publishing from a source, message by message, on a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from queue import SimpleQueue
from typing import Any

from rambla_py.app import Rambla
from rambla_py.cli.counts import Counts
from rambla_py.cli.message_reader import BadLine, Item, Line, key_at
from rambla_py.cli.rejects import Rejects
from rambla_py.cli.sources import SourceError
from rambla_py.errors import MailboxFullError, NotRunningError, UnknownChannelError
from rambla_py.message import Message
from rambla_py.receipt import Receipt

__all__ = ["Sender"]


class Sender:
    """Reads items and publishes them; the thread ends with the items, at ``stop()``, or at an error.

    Reading may wait for a pipe, and publishing for room: on a thread of its own neither keeps the main thread
    from receiving a signal.

    ``channel`` is None if each item has its own target. Items up to line ``skip`` are left out. ``error`` is
    the exception that ended it too early, ``why`` the same as a string.
    """

    def __init__(
        self,
        app: Rambla,
        channel: str | None,
        *,
        options: dict[str, Any],
        key: str | None,
        strict: bool,
        skip: int,
        counts: Counts,
        rejects: Rejects,
    ) -> None:
        self.sent = 0
        self.bad = 0
        self.why: str | None = None
        self.error: BaseException | None = None
        self._app, self._channel, self._options, self._key = app, channel, options, key
        self._strict, self._skip, self._counts, self._rejects = strict, skip, counts, rejects
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
                if self._stopping or not (item.end <= self._skip or self._take(item)):
                    return
                self._counts.read_to(item.end)
        except (SourceError, MailboxFullError) as error:
            self.why = str(error)
        except BaseException as error:  # the main thread raises it
            if not (self._stopping and isinstance(error, NotRunningError)):
                self.error = error
        finally:
            ended.put(0)

    def _take(self, item: Item) -> bool:
        """Publish one; return whether to go on."""
        try:
            if isinstance(item, Line):
                line = self._completed(item)
                receipt = self._published(line)
        except (ValueError, UnknownChannelError) as error:
            item = BadLine(item.number, str(error), item.last, raw=_raw(item))
        if isinstance(item, BadLine):
            self.bad += 1
            self._rejects.add_line(item, keep=not self._strict)
            if self._strict:
                self.why = "stopped at the first invalid line (--strict)"
            return not self._strict
        self.sent += 1
        self._counts.add(line, receipt)
        return True

    def _completed(self, line: Line) -> Line:
        """Return a line with all options of its message; raises ``ValueError``."""
        options = {**line.options, **self._options}
        if "headers" in line.options and "headers" in self._options:
            options["headers"] = {**line.options["headers"], **self._options["headers"]}
        if self._key is not None:
            options["key"] = key_at(line.payload, self._key)
        return line._replace(options=options)

    def _published(self, line: Line) -> Receipt:
        channel = self._channel or line.target
        if channel is None:
            raise ValueError("the record names no target: give a CHANNEL")
        # A Message: its payload is never read as an envelope, so that nothing in it can set options.
        message = Message(line.payload, **line.options)
        try:
            return self._app.publish(channel, message)
        except MailboxFullError as error:
            # With overflow = "block" publish has waited; with "raise" this waits for room.
            if error.waited_s is not None or not self._app.flush(timeout_s=_longest_wait_s(self._app)):
                raise
        return self._app.publish(channel, message)


def _raw(item: Item) -> Any:
    return item.payload if isinstance(item, Line) else item.raw


def _longest_wait_s(app: Rambla) -> float:
    return max(target.publish_timeout_s for target in app.config.every_channel())
