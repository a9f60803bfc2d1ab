"""The outbox of an app: made from its configuration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rambla_py._internal.import_paths import import_object
from rambla_py.outbox.errors import OutboxError
from rambla_py.outbox.letter_box import LetterBox
from rambla_py.outbox.memory import MemoryJournal, tables_at
from rambla_py.outbox.memory_letters import MemoryDeadLetters
from rambla_py.outbox.outbox import Outbox

if TYPE_CHECKING:
    from rambla_py.config.schema import Config, OutboxSettings
    from rambla_py.outbox.dead import DeadLetters
    from rambla_py.outbox.journal import Journal
    from rambla_py.runtime.target.target import Target

__all__ = ["Attached", "attach_outbox", "journal_of", "letters_of"]


class Attached:
    """The outbox of an app, if it has durable channels, and where its other channels keep dead letters."""

    def __init__(self, outbox: Outbox | None, letter_box: LetterBox) -> None:
        self.outbox, self._letter_box = outbox, letter_box

    def start(self) -> None:
        """Open the outbox, and begin to deliver what is in it; raises ``OutboxError``."""
        if self.outbox is not None:
            self.outbox.start()

    def close(self) -> None:
        """Write what is pending, and close it; what is not delivered stays there."""
        if self.outbox is not None:
            self.outbox.close()
        self._letter_box.close()


def attach_outbox(config: Config, make_targets: Callable[[], list[Target]]) -> Outbox | Attached | None:
    """Return the outbox of an app, not started yet; None if no channel is durable or keeps dead letters."""
    settings = config.rambla.outbox
    if settings is None or not any(one.durable or one.dead_letters for one in config.every_channel()):
        return None
    targets = make_targets()
    durable = any(target.config.durable and target.config.enabled for target in targets)
    others = [target for target in targets if target.config.dead_letters and not target.config.durable]
    if not durable and not others:
        return None
    outbox = Outbox(journal_of(settings), settings, targets) if durable else None
    return Attached(outbox, LetterBox(letters_of(settings), others)) if others else outbox


def journal_of(settings: OutboxSettings) -> Journal:
    """Return the journal at the url of the settings, not opened yet; raises ``OutboxError``."""
    url = settings.url or ""
    scheme, _, rest = url.partition("://")
    if scheme == "memory":
        tables = tables_at(url)
        return MemoryJournal(tables, dedup_window_s=settings.dedup_window_s, max_rows=settings.max_rows)
    if scheme in ("postgresql", "postgres"):
        make = import_object("rambla_py.outbox.postgres.journal:PostgresJournal")
        relayed: Journal = make(
            url,
            dedup_window_s=settings.dedup_window_s,
            max_bytes=settings.max_bytes,
            max_rows=settings.max_rows,
            poll_s=settings.poll_s,
            read_timeout_s=settings.busy_timeout_s,
        )
        return relayed
    if scheme != "sqlite":
        raise OutboxError(scheme, "there is no journal for this scheme; use sqlite:///FILE or postgresql://")
    # Not at the top: sqlite3 takes time to import, and most apps have no outbox.
    make = import_object("rambla_py.outbox.sqlite.journal:SqliteJournal")
    journal: Journal = make(
        Path(rest[1:]),
        dedup_window_s=settings.dedup_window_s,
        max_bytes=settings.max_bytes,
        max_rows=settings.max_rows,
        reserve_bytes=settings.reserve_bytes,
        allow_network_filesystem=settings.allow_network_filesystem,
        busy_timeout_s=settings.busy_timeout_s,
    )
    return journal


def letters_of(settings: OutboxSettings) -> DeadLetters:
    """Return the dead letters of the journal at the url of the settings; raises ``OutboxError``."""
    url = settings.url or ""
    scheme, _, rest = url.partition("://")
    window_s = settings.dedup_window_s
    if scheme == "memory":
        return MemoryDeadLetters(tables_at(url), dedup_window_s=window_s)
    letters: DeadLetters
    if scheme in ("postgresql", "postgres"):
        make = import_object("rambla_py.outbox.postgres.dead_letters:PostgresDeadLetters")
        letters = make(url, dedup_window_s=window_s, read_timeout_s=settings.busy_timeout_s)
        return letters
    if scheme != "sqlite":
        raise OutboxError(scheme, "there is no journal for this scheme; use sqlite:///FILE or postgresql://")
    make = import_object("rambla_py.outbox.sqlite.dead_letters:SqliteDeadLetters")
    letters = make(
        Path(rest[1:]),
        dedup_window_s=window_s,
        allow_network_filesystem=settings.allow_network_filesystem,
    )
    return letters
