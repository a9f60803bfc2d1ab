"""What the journal stores of a message, and what becomes of it."""

from __future__ import annotations

import zlib
from typing import Any, Literal

import msgspec

from rambla_py.outbox.codec import dump_value, load_value

__all__ = ["SCHEMA_VERSION", "Attempt", "Form", "Letter", "Progress", "Row"]

SCHEMA_VERSION = 1
"""Version of the tables, and of what a row holds."""

Form = Literal["value", "text", "bytes", "json", "msgpack", "custom"]
"""How ``Row.payload`` is read: ``value`` is what ``dump_value`` writes; the others are the bytes for the
wire, made of a string, of bytes, or by the serializer of that name (``custom``: a function)."""

_MOST_ATTEMPTS = 20
_crc32 = zlib.crc32


class Attempt(msgspec.Struct, frozen=True, array_like=True):
    """One attempt that failed: when it ended, in seconds since the epoch, and its redacted error."""

    at: float
    error: str


class Progress(msgspec.Struct, array_like=True):
    """What the attempts of a message have come to; stored once one has failed.

    ``left`` is -1 until the first failure. ``maybe_sent``: an attempt may have reached the backend.
    ``alone``: an attempt by itself has begun, since its process had died twice, and its end is not recorded.
    ``history`` has the first attempts that failed and the last ones. ``replayed`` counts its replays from the
    dead letters. ``fallback_of`` is the target that handed it over, and has other fallbacks to try.
    """

    attempts: int = 0
    failures: int = 0
    left: int = -1
    rounds: int = 0
    maybe_sent: bool = False
    alone: bool = False
    history: list[Attempt] = []
    replayed: int = 0
    fallback_of: str | None = None

    def failed(self, at: float, error: str) -> None:
        """Record an attempt that failed."""
        self.history.append(Attempt(at, error[:2_048]))
        if len(self.history) > _MOST_ATTEMPTS:
            del self.history[_MOST_ATTEMPTS // 2]

    def dump(self) -> bytes:
        """Return it as MessagePack."""
        return _encode(self)

    @classmethod
    def load(cls, data: bytes | None) -> Progress:
        """Return what ``dump`` wrote; raises ``ValueError`` for anything else."""
        return cls() if data is None else _decode_progress(data)


class Row(msgspec.Struct, gc=False, eq=False):
    """One message for one target, as a row of the journal.

    ``seq`` is 0 until it is stored; numbers grow, and none is used twice. It is negative once this process
    has no more to do with the row, which is removed, or left to another run. ``share`` is the part of the
    journal that the row belongs to, which at most one process delivers. Times are seconds since the epoch;
    ``due`` is when it may be attempted next, ``wait_s`` what was asked for. ``options`` are those that the
    message gave, as ``dump_value`` writes them. ``given_id``: the application gave the id. ``mine`` and
    ``crashes`` are set where rows of a share come from several processes: whether this one accepted the row,
    and how many died while they had it.
    """

    target: str
    id: str
    key: str | None
    accepted: float
    payload: bytes
    form: Form = "value"
    options: bytes | None = None
    due: float | None = None
    wait_s: float = 0.0
    given_id: bool = False
    progress: bytes | None = None
    started: bool = False
    crc: int = 0
    share: int = 0
    seq: int = 0
    mine: bool = False
    crashes: int = 0

    def seal(self) -> None:
        """Compute the checksum of what must not change."""
        self.crc = self._checksum()

    def forget_payload(self) -> None:
        """Let go of what the journal has, and the delivery as well."""
        self.payload, self.options = b"", None

    def leave(self) -> None:
        """Record that this process has no more to do with it; its number stays known."""
        self.seq = -abs(self.seq)

    @property
    def sound(self) -> bool:
        """Whether the checksum is right."""
        return self.crc == self._checksum()

    def _checksum(self) -> int:
        crc = _crc32(self.id.encode())
        if self.options:
            crc = _crc32(self.options, crc)
        return _crc32(self.payload, crc)

    def given(self) -> dict[str, Any]:
        """Return the options that the message gave, its id and key included; raises ``ValueError``."""
        options = {} if self.options is None else load_value(self.options)
        if not isinstance(options, dict) or not all(isinstance(name, str) for name in options):
            raise ValueError("options that are no table")
        options["id"] = self.id
        if self.key is not None:
            options["key"] = self.key
        return options


class Letter(msgspec.Struct, eq=False, kw_only=True):
    """A dead letter: a row that ended as fatal, with its reason. Times are seconds since the epoch.

    ``errors`` are the types of the error and its causes, ``error`` its redacted text. ``reason`` is
    ``fatal``, or why the row was set aside: ``unreadable``, ``no channel``, ``options``, ``too old``,
    ``crash``. Letters of one ``fingerprint`` have the same kind of error.
    """

    row: Row
    died: float
    reason: str
    error: str
    errors: tuple[str, ...]
    handler: str
    fingerprint: str
    attempts: int
    replayed: int = 0


_encode = msgspec.msgpack.Encoder().encode
_progress_decoder = msgspec.msgpack.Decoder(Progress)


def _decode_progress(data: bytes) -> Progress:
    try:
        return _progress_decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise ValueError(f"progress that cannot be read: {error}") from error


def options_blob(options: dict[str, Any]) -> bytes | None:
    """Return options as a row stores them; None if there are none. Raises ``SerializationError``."""
    return dump_value(options) if options else None
