"""Reading and checking of attachments."""

from __future__ import annotations

import mimetypes
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rambla_py.errors import PayloadTooLargeError, SerializationError, nearest
from rambla_py.handlers.smtp.headers import refuse_controls

__all__ = ["Attachment", "read_attachment"]

_KEYS = ("path", "content", "name", "content_type", "cid")
_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+\Z")
_CID = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.@-]+\Z")


class Attachment(NamedTuple):
    """One attachment; one with a ``cid`` is embedded by the HTML as ``cid:...``."""

    content: bytes
    name: str
    content_type: str
    cid: str | None = None
    charset: str | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """Arguments for the methods of ``EmailMessage`` that add it."""
        main, _, sub = self.content_type.partition("/")
        return {
            "maintype": main,
            "subtype": sub,
            "filename": self.name,
            "cid": f"<{self.cid}>" if self.cid else None,
            "params": {"charset": self.charset} if self.charset else None,
        }


def read_attachment(given: Any, where: str, *, folder: str | None, limit: int | None) -> Attachment:
    """Return the attachment that a mapping or a ``Path`` describes.

    A path that is a string must be inside ``folder``, because the payload may come from outside; a
    ``pathlib.Path`` can only come from this process, and may be anywhere. A file over ``limit`` bytes is not
    read.

    Raises ``SerializationError`` with the path to the value, ``PayloadTooLargeError``.
    """
    fields: Any = {"path": given} if isinstance(given, Path) else given
    if not isinstance(fields, Mapping):
        raise SerializationError(where, f"expected a table with {_listed()}, got {type(given).__name__}")
    for key in fields:
        if key not in _KEYS:
            close = nearest(str(key), _KEYS)
            hint = f"did you mean {close!r}?" if close else f"known are {_listed()}"
            raise SerializationError(f"{where}.{key}", f"not a part of an attachment; {hint}")
    if (fields.get("path") is None) == (fields.get("content") is None):
        raise SerializationError(where, "expected either path or content")
    if fields.get("path") is not None:
        path = _allowed(fields["path"], f"{where}.path", folder)
        content, default = _read(path, f"{where}.path", limit), path.name
    else:
        content, default = _bytes(fields["content"], f"{where}.content"), "attachment"
    name = _text(fields.get("name") or default, f"{where}.name")
    content_type = _text(fields.get("content_type") or _guessed(name), f"{where}.content_type")
    if not _TYPE.match(content_type):
        raise SerializationError(f"{where}.content_type", "expected type/subtype")
    if _is_made_of_parts(content_type):
        raise SerializationError(f"{where}.content_type", "expected neither message/* nor multipart/*")
    cid = fields.get("cid")
    if cid is not None and not _CID.match(_text(cid, f"{where}.cid")):
        raise SerializationError(f"{where}.cid", "expected letters, digits and punctuation, no spaces")
    is_text = isinstance(fields.get("content"), str) and content_type.startswith("text/")
    return Attachment(content, name, content_type, cid, "utf-8" if is_text else None)


def _allowed(path: Any, where: str, folder: str | None) -> Path:
    if isinstance(path, Path):
        return path
    text = _text(path, where)
    if folder is None:
        raise SerializationError(
            where,
            "a path that is a string needs the channel's option attachment_folder; or pass a pathlib.Path",
        )
    home = os.path.realpath(os.path.expanduser(folder))
    real = os.path.realpath(os.path.join(home, text))
    if os.path.commonpath([home, real]) != home:
        raise SerializationError(where, "not inside the channel's attachment_folder")
    return Path(real)


def _read(path: Path, where: str, limit: int | None) -> bytes:
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise SerializationError(where, "not a regular file")
            if limit is not None and found.st_size > limit:
                raise PayloadTooLargeError(found.st_size, limit, "the relay's limit (SIZE in its EHLO)")
            return file.read()
    except OSError as error:
        raise SerializationError(
            where, f"cannot be read: {error.strerror or type(error).__name__}"
        ) from error


def _bytes(content: Any, where: str) -> bytes:
    if isinstance(content, str):
        return _text(content, where, controls=True).encode()
    if isinstance(content, bytes | bytearray | memoryview):
        return bytes(content)
    raise SerializationError(where, f"expected bytes or a string, got {type(content).__name__}")


def _text(value: Any, where: str, *, controls: bool = False) -> str:
    if not isinstance(value, str):
        raise SerializationError(where, f"expected a string, got {type(value).__name__}")
    try:
        value.encode()
        if not controls:
            refuse_controls(value)
    except ValueError as error:
        raise SerializationError(where, str(error)) from None
    return value


def _guessed(name: str) -> str:
    kind, packed = mimetypes.guess_type(name)
    if kind is None or packed is not None or _is_made_of_parts(kind):
        return "application/octet-stream"
    return kind


def _is_made_of_parts(content_type: str) -> bool:
    """Return whether a type cannot be base64-encoded (RFC 2045, 6.4), such as a mail in a mail."""
    return content_type.lower().startswith(("message/", "multipart/"))


def _listed() -> str:
    return ", ".join(_KEYS)
