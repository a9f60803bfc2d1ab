"""Content and attributes of an object."""

from __future__ import annotations

import gzip
import mimetypes
import os
import stat
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from rambla_py.errors import ConnectionLostError, PermanentError
from rambla_py.handlers.objects.settings import ObjectsOptions, check_names, is_header
from rambla_py.serialization.wire_format import media_type

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["attributes_of", "gzipped", "in_chunks", "media_type_of", "metadata_value", "open_file"]

_CHUNK_BYTES = 1024 * 1024
_GZIP = 16 + zlib.MAX_WBITS


def attributes_of(options: ObjectsOptions, content_type: str, metadata: dict[str, str]) -> dict[str, str]:
    """Return the attributes of an object, as the driver names them."""
    named = {
        "Content-Type": content_type,
        "Content-Encoding": "gzip" if options.packs else None,
        "Content-Disposition": options.content_disposition,
        "Content-Language": options.content_language,
        "Cache-Control": options.cache_control,
        "Storage-Class": options.storage_class,
    }
    return {**{name: value for name, value in named.items() if value}, **metadata}


def metadata_of(options: ObjectsOptions, message: Delivery) -> dict[str, str]:
    """Return the metadata of a message's object: the option's, the message's headers, its id.

    Raises ``PermanentError`` for a header whose name is not allowed in metadata.
    """
    found = {name: metadata_value(value) for name, value in options.metadata.items()}
    if message.headers:
        _add_headers(found, options, message.headers)
    if options.id_field:
        found[options.id_field] = metadata_value(message.id)
    return found


def metadata_value(value: object) -> str:
    """Return a value for an HTTP header: what is not printable ASCII becomes an encoded word (RFC 2047).

    Raises ``PermanentError`` for a lone surrogate.

    >>> metadata_value("order-42"), metadata_value("Grüße")
    ('order-42', '=?UTF-8?B?R3LDvMOfZQ==?=')
    """
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    if is_header(text):
        return text
    try:
        return f"=?UTF-8?B?{b64encode(text.encode()).decode()}?="
    except UnicodeError:
        raise PermanentError("the metadata has a lone surrogate, which UTF-8 cannot encode") from None


def media_type_of(options: ObjectsOptions, message: Delivery) -> str:
    """Return the media type of a message's own object."""
    if options.content_type:
        return options.content_type
    kind = media_type(message)
    return f"{kind}; charset=utf-8" if kind == "text/plain" else kind


def media_type_of_file(options: ObjectsOptions, path: str) -> str:
    """Return the media type of a file, by its name."""
    guessed, packed = mimetypes.guess_type(path)
    return options.content_type or (None if packed else guessed) or "application/octet-stream"


def gzipped(body: bytes) -> bytes:
    """Return the body compressed; the same body always gives the same bytes."""
    return gzip.compress(body, mtime=0)


def open_file(name: str, folder: str | None) -> tuple[BinaryIO, int]:
    """Open a regular file for reading and return it with its size; below ``folder`` if that is given.

    Raises ``PermanentError`` if it does not exist, is not a regular file, cannot be read, or is elsewhere.
    """
    path = os.path.join(folder, name) if folder is not None else name
    try:
        real = os.path.realpath(path, strict=True)
        if folder is not None and not Path(real).is_relative_to(os.path.realpath(folder)):
            raise PermanentError(f"file {name!r} is not below files_from = {folder!r}")
        # Non-blocking: a FIFO would wait for a writer.
        opened = os.fdopen(os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise PermanentError(f"file {name!r} cannot be read: {reason}") from None
    status = os.fstat(opened.fileno())
    if not stat.S_ISREG(status.st_mode):
        opened.close()
        raise PermanentError(f"file {name!r} is not a regular file")
    return opened, status.st_size


def in_chunks(file: BinaryIO, size: int, *, pack: bool, given_up: Callable[[], bool]) -> Iterator[bytes]:
    """Yield a file's content, a megabyte at a time, compressed if ``pack``.

    Raises ``PermanentError`` if its size has changed, and ``ConnectionLostError`` once the upload was given
    up: the driver then leaves the object unfinished.
    """
    packer = zlib.compressobj(wbits=_GZIP) if pack else None
    read = 0
    while chunk := file.read(_CHUNK_BYTES):
        read += len(chunk)
        if given_up():
            raise ConnectionLostError("the upload of a file was given up")
        if read > size:
            break
        piece = packer.compress(chunk) if packer else chunk
        if piece:
            yield piece
    if read != size:
        raise PermanentError(f"the file changed while it was read: it no longer has {size} bytes")
    if packer:
        yield packer.flush()


def _add_headers(found: dict[str, str], options: ObjectsOptions, headers: dict[str, Any]) -> None:
    try:
        check_names(headers)
    except ValueError as error:
        raise PermanentError(f"a header cannot be metadata: {error}") from None
    taken = {name.lower() for name in (*found, options.id_field)}
    for name, value in headers.items():
        if name.lower() in taken:
            raise PermanentError(
                f"the header {name!r} is already in the metadata or the id_field; rename one"
            )
        found[name] = metadata_value(value)
