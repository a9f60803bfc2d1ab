"""The outbox of an app, for its application: audit, status, dead letters, replay."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final, TypedDict, Unpack

from msgspec import UNSET

from rambla_py._internal.waiting import warn_in_event_loop
from rambla_py.config.options import merge_message
from rambla_py.config.rates import rate_per_s
from rambla_py.config.schema import ChannelConfig, Config, OutboxSettings
from rambla_py.errors import OptionError
from rambla_py.outbox.attaching import journal_of, letters_of
from rambla_py.outbox.audit import OutboxAudit, audited
from rambla_py.outbox.dead import DeadLetters, Group, Selected, Selection, resolved
from rambla_py.outbox.dead_letter import DeadLetter, read_letter
from rambla_py.outbox.editing import Edit
from rambla_py.outbox.errors import OutboxError
from rambla_py.outbox.journal import Journal, Totals
from rambla_py.outbox.outbox import Outbox
from rambla_py.outbox.replaying import Move, Replay, in_steps, replay, sleep
from rambla_py.outbox.resending import Publish, Resending
from rambla_py.outbox.row_of import check_given
from rambla_py.outbox.rows import Row
from rambla_py.runtime.routing import configured

__all__ = ["OutboxView"]

Moment = datetime | float
"""A time: a datetime, or seconds since the epoch."""


_AT_ONCE: Final = 500
_RATE: Final = "100/s"


class GroupSelection(TypedDict, total=False):
    """What ``agroups`` takes."""

    channel: str | None
    since: Moment | None
    until: Moment | None
    error: str | None


class LetterSelection(GroupSelection, total=False):
    """What ``adead`` takes beside ids."""

    group: str | None


class ReplayOptions(LetterSelection, total=False):
    """What ``areplay`` takes beside ids."""

    everything: bool
    rate: str
    to: str | None
    values: Mapping[str, Any] | None
    payload: Any


class OutboxView:
    """What an app's outbox holds: ``app.outbox``. Works before the start and after the stop, too.

    Methods wait for the disk; inside an event loop, use their async twins (``await app.outbox.aaudit()``),
    which wait on a thread. They raise ``OutboxError``, also if the configuration has no outbox.

    >>> import tempfile
    >>> from rambla_py import Rambla
    >>> folder = tempfile.TemporaryDirectory()
    >>> table = {"null": {"channels": {"orders": {"durable": True}}}}
    >>> app = Rambla({"rambla": {"outbox": {"url": f"sqlite:///{folder.name}/outbox.db"}}, **table})
    >>> with app:
    ...     _ = app.publish("orders", {"id": 42}).result(timeout_s=5)
    >>> app.outbox.audit().balanced, app.outbox.status().rows
    (True, 0)
    >>> folder.cleanup()
    """

    def __init__(self, config: Config, running: Callable[[], Outbox | None], publish: Publish) -> None:
        self._config, self._running, self._publish = config, running, publish

    def __repr__(self) -> str:
        settings = self._config.rambla.outbox
        return f"<OutboxView {'none' if settings is None else journal_of(settings).name}>"

    @property
    def running(self) -> Outbox | None:
        """The outbox of the running app; None if it does not run, or has no durable channel."""
        return self._running()

    def audit(self) -> OutboxAudit:
        """Return the accounts by target, across restarts and processes, and whether they add up."""
        warn_in_event_loop("outbox.audit()", "outbox.aaudit()")
        with self._journal() as journal:
            return audited(journal)

    def status(self) -> Totals:
        """Return how many messages and dead letters it holds, the oldest message, processes and sizes."""
        warn_in_event_loop("outbox.status()", "outbox.astatus()")
        return self.totals()[0]

    def totals(self) -> tuple[Totals, float]:
        """Return its status, and the age of its oldest message in seconds; for a scrape of metrics."""
        with self._journal() as journal:
            totals = journal.totals()
        return totals, 0.0 if totals.oldest is None else max(0.0, time.time() - totals.oldest)

    def groups(
        self,
        *,
        channel: str | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        error: str | None = None,
    ) -> list[Group]:
        """Return the dead letters by channel and kind of error, the largest group first."""
        warn_in_event_loop("outbox.groups()", "outbox.agroups()")
        selection = Selection(channel=channel, since=_seconds(since), until=_seconds(until), error=error)
        with self._letters() as letters:
            return letters.groups(selection)

    def dead(
        self,
        *ids: str,
        group: str | None = None,
        channel: str | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        error: str | None = None,
    ) -> Iterator[DeadLetter]:
        """Yield the dead letters that match everything that is given; without arguments, all of them.

        ``ids`` are those of messages, ``group`` a fingerprint or its beginning, ``channel`` a channel or
        ``"service.channel"``, ``error`` a part of the error's text. ``since`` and ``until`` bound the time of
        death; a datetime without a zone is local time.
        """
        warn_in_event_loop("outbox.dead()", "outbox.adead()")
        selection = _selection(ids, group=group, channel=channel, since=since, until=until, error=error)
        with self._letters() as letters:
            for letter in in_steps(letters, letters.select(resolved(letters, selection))):
                yield read_letter(letter)

    def replay(
        self,
        *ids: str,
        group: str | None = None,
        channel: str | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        error: str | None = None,
        everything: bool = False,
        rate: str = _RATE,
        to: str | None = None,
        values: Mapping[str, Any] | None = None,
        payload: Any = UNSET,
    ) -> Replay:
        """Move dead letters back to the outbox, and return how many were selected, replayed and refused.

        The selection, which is that of ``dead``, is fixed by its first statement: what dies meanwhile is not
        in it. Each message keeps its id and history, has all of its retries again, and is delivered by this
        process if it runs and delivers, else by the next one. One for a channel that is not durable is
        published by this app, which must run, and its letter is removed once it has its outcome. ``to`` is
        another channel (``"service.channel"`` if it has several targets); ``values`` sets parts of
        the payload by path (``{"customer.id": 7}``), ``payload`` replaces it. An interrupted replay can be
        run again.

        Raises ``TypeError`` without a selection, ``ValueError`` for a rate that is none,
        ``UnknownChannelError`` for ``to``, ``OutboxError``.
        """
        warn_in_event_loop("outbox.replay()", "outbox.areplay()")
        options = ReplayOptions(
            group=group,
            channel=channel,
            since=since,
            until=until,
            error=error,
            everything=everything,
            rate=rate,
            to=to,
            values=values,
            payload=payload,
        )
        return self._replay(ids, options, sleep)

    def _replay(self, ids: Sequence[str], options: ReplayOptions, wait: Callable[[float], bool]) -> Replay:
        selection = _selection(
            ids,
            group=options.get("group"),
            channel=options.get("channel"),
            since=options.get("since"),
            until=options.get("until"),
            error=options.get("error"),
        )
        if bool(selection) == options.get("everything", False):
            raise TypeError(
                "replay needs a selection: ids, group, channel, since, until, error, or everything=True"
            )
        to, values = options.get("to"), options.get("values") or {}
        edit = Edit(
            values=tuple(values.items()),
            payload=options.get("payload", UNSET),
            target=to and self.target(to),
        )
        per_s = rate_per_s(options.get("rate", _RATE))
        with self._letters() as letters:
            selected = letters.select(resolved(letters, selection))
        *_, last = self.replaying(selected, edit, rate_per_s=per_s, wait=wait)
        return last

    # -- async twins ----------------------------------------------------------------------------------

    async def aaudit(self) -> OutboxAudit:
        """Await ``audit``."""
        return await asyncio.to_thread(self.audit)

    async def astatus(self) -> Totals:
        """Await ``status``."""
        return await asyncio.to_thread(self.status)

    async def agroups(self, **selection: Unpack[GroupSelection]) -> list[Group]:
        """Await ``groups``."""
        return await asyncio.to_thread(self.groups, **selection)

    async def adead(self, *ids: str, **selection: Unpack[LetterSelection]) -> AsyncIterator[DeadLetter]:
        """Yield what ``dead`` does; use it with ``async for``."""
        letters = self.dead(*ids, **selection)
        while some := await asyncio.to_thread(lambda: list(itertools.islice(letters, _AT_ONCE))):
            for letter in some:
                yield letter

    async def areplay(self, *ids: str, **given: Unpack[ReplayOptions]) -> Replay:
        """Await ``replay``. A cancellation interrupts it between two steps."""
        stop = threading.Event()
        try:
            return await asyncio.to_thread(self._replay, ids, given, stop.wait)
        finally:
            stop.set()

    def replaying(
        self,
        selected: Selected,
        edit: Edit,
        *,
        rate_per_s: float,
        moved: Callable[[Sequence[Row]], object] = lambda rows: None,
        wait: Callable[[float], bool] = sleep,
    ) -> Iterator[Replay]:
        """Replay selected letters as ``replaying.replay`` does; yield the result so far at each step.

        ``moved`` is called with the rows of each step before they are delivered.
        """
        running = self._running()

        def deliver(move: Move) -> None:
            def store(share: int) -> Sequence[Row]:
                rows = move(share)
                moved(rows)
                return rows

            if running is None:
                store(0)
            else:
                running.deliver_stored(store)

        with self._letters() as letters:
            resending = Resending(
                letters,
                self._publish,
                moved,
                {one.name: one.dead_letters for one in self._channels() if not one.durable},
                timeout_s=self._config.rambla.result_timeout_s,
                wait=wait,
            )
            yield from replay(
                letters,
                selected,
                edit=edit,
                check=self._why_not,
                rate_per_s=rate_per_s,
                deliver=deliver,
                resending=resending,
                wait=wait,
            )

    def target(self, channel: str) -> str:
        """Return the one target of a channel, as ``service.channel``.

        Raises ``UnknownChannelError``, or ``OutboxError`` if there are several.
        """
        found = configured(self._config, channel)
        if len(found) > 1:
            names = ", ".join(one.name for one in found)
            raise OutboxError(self._name, f"channel {channel!r} has several targets, name one: {names}")
        return found[0].name

    def _why_not(self, row: Row) -> str | None:
        """Return why a row would only die again: its channel is gone, or does not take its options."""
        config = self._channel(row.target)
        if config is None:
            return f"{row.target} is no enabled channel of the configuration: replay it to another one"
        try:
            given = row.given()
            check_given(config, given)
            merge_message(config, given)
        except (OptionError, ValueError) as error:
            return f"its options do not fit: {error}"
        return None

    def _channel(self, target: str) -> ChannelConfig | None:
        return next((one for one in self._channels() if one.name == target), None)

    def _channels(self) -> list[ChannelConfig]:
        return [one for one in self._config.every_channel() if one.enabled]

    @property
    def _settings(self) -> OutboxSettings:
        settings = self._config.rambla.outbox
        if settings is None or settings.url is None:
            raise OutboxError("", "the configuration has none: set durable = true on a channel")
        return settings

    @property
    def _name(self) -> str:
        return journal_of(self._settings).name

    @contextmanager
    def _journal(self) -> Iterator[Journal]:
        # A connection of its own: the app's belongs to its writer.
        journal = journal_of(self._settings)
        try:
            journal.open(delivers=False)
            yield journal
        finally:
            journal.close()

    @contextmanager
    def _letters(self) -> Iterator[DeadLetters]:
        letters = letters_of(self._settings)
        try:
            yield letters
        finally:
            letters.close()


def _selection(
    ids: Sequence[str],
    *,
    group: str | None,
    channel: str | None,
    since: Moment | None,
    until: Moment | None,
    error: str | None,
) -> Selection:
    return Selection(
        ids=tuple(ids),
        group=group,
        channel=channel,
        since=_seconds(since),
        until=_seconds(until),
        error=error,
    )


def _seconds(moment: Moment | None) -> float | None:
    return moment.timestamp() if isinstance(moment, datetime) else moment
