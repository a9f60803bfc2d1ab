"""Configuration tables of the ``file`` handler."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from rambla_py.handler import per_channel
from rambla_py.handlers._record import Shape
from rambla_py.handlers.file.append import Fsync

__all__ = ["FileOptions", "FileSettings"]


class FileSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table of a ``file`` connection.

    >>> FileSettings(path="~/orders.jsonl").path
    '~/orders.jsonl'
    """

    path: Annotated[str, Meta(min_length=1, description="the file; '~' is the home folder")]


class FileOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The options of a ``file`` channel."""

    rotate_bytes: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        per_channel("rotate the file before it grows over this many bytes"),
    ] = None
    rotate_s: Annotated[
        Annotated[float, Meta(gt=0, le=1e9)] | None,
        per_channel("rotate the file this many seconds after its first line"),
    ] = None
    compression: Annotated[Literal["none", "gzip"], per_channel("compression of rotated files")] = "none"
    fsync: Annotated[Fsync, per_channel("when to wait for the disk")] = "batch"
    record: Annotated[
        Shape, per_channel("a line is the payload, or 'full': payload, id, key, headers, origin")
    ] = "payload"
