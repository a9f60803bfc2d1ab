"""The put of one object, and its result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import obstore

from rambla_py.errors import DeliveryError, PayloadTooLargeError, PermanentError, RejectedError
from rambla_py.handlers.objects.encode import gzipped, in_chunks, open_file
from rambla_py.handlers.objects.errors import is_taken, store_error
from rambla_py.handlers.objects.settings import ObjectsOptions, ObjectsSettings

__all__ = ["Upload", "put_body", "put_file"]

_MOST_PARTS = 10_000
_PARTS_AT_ONCE = 4
_LIMIT_NAME = "the connection's max_object_bytes"
_ROOM = 1.01  # gzip may make compressed content slightly larger


class Upload(NamedTuple):
    """One object without its content: where it goes, and its attributes."""

    settings: ObjectsSettings
    store: Any
    parts_store: Any  # for what is sent in several requests
    path: str
    options: ObjectsOptions
    attributes: dict[str, str]

    @property
    def url(self) -> str:
        """The object's own URL."""
        return f"{self.settings.place.url.rstrip('/')}/{self.path}"

    def result(self, size: int, put: dict[str, Any]) -> dict[str, Any]:
        """Return the result of a success."""
        return {"url": self.url, "bytes": size, "e_tag": put["e_tag"], "version": put["version"]}

    def check_size(self, size: int) -> None:
        """Raise ``PayloadTooLargeError`` for more than ``max_object_bytes``."""
        limit = self.settings.max_object_bytes
        if limit is not None and size > limit:
            raise PayloadTooLargeError(size, limit, _LIMIT_NAME)

    def described(self) -> dict[str, Any]:
        """Return the arguments that every put of this object has; raises ``PermanentError``."""
        if self.settings.place.keeps_attributes:
            arguments: dict[str, Any] = {"attributes": self.attributes}
            if self.options.tags:
                if self.settings.place.scheme not in ("s3", "az"):
                    raise PermanentError(
                        f"{self.settings.place.scheme}:// has no tags; leave out the option tags"
                    )
                arguments["tags"] = self.options.tags
            return arguments
        asked = [name for name in _ATTRIBUTE_OPTIONS if getattr(self.options, name)]
        if asked:
            raise PermanentError(f"file:// cannot store attributes; leave out {', '.join(asked)}")
        return {}


_ATTRIBUTE_OPTIONS = (
    "content_type",
    "content_disposition",
    "content_language",
    "cache_control",
    "storage_class",
    "metadata",
    "tags",
)


def put_body(upload: Upload, body: bytes) -> dict[str, Any]:
    """Put an object of bytes; returns its URL, size, e_tag and version. Raises what ``store_error`` gives."""
    arguments = upload.described()
    if upload.options.packs:
        body = gzipped(body)
    upload.check_size(len(body))
    once = upload.options.if_none_match
    store = upload.parts_store if len(body) > upload.settings.part_bytes and not once else upload.store
    put = _tried(
        upload,
        lambda: obstore.put(
            store,
            upload.path,
            body,
            mode="create" if once else None,
            chunk_size=_part_bytes(upload, len(body)),
            max_concurrency=_PARTS_AT_ONCE,
            **arguments,
        ),
        once=once,
    )
    if put is None:
        put = _of_this_message(upload, body)
    return upload.result(len(body), put)


def put_file(upload: Upload, given_up: Callable[[], bool]) -> dict[str, Any]:
    """Put an object of a file's content: if it is large, in parts, of which a few are in memory.

    Raises also ``PermanentError`` if the file cannot be read, and ``PayloadTooLargeError`` if it takes more
    than one part and ``if_none_match`` needs one request. The size of a compressed file is known only at its
    end: one that is then too large was sent in vain, and is stored nowhere.
    """
    arguments, options, most = upload.described(), upload.options, upload.settings.part_bytes
    assert options.file is not None
    file, size = open_file(options.file, options.files_from)
    with file:
        if size <= most:
            return put_body(upload, b"".join(in_chunks(file, size, pack=False, given_up=given_up)))
        if not options.packs:
            upload.check_size(size)
        if options.if_none_match:
            raise PayloadTooLargeError(size, most, "with if_none_match, which is one request, part_bytes")
        return _put_in_parts(upload, file, size, arguments, given_up)


def _put_in_parts(
    upload: Upload, file: Any, size: int, arguments: dict[str, Any], given_up: Callable[[], bool]
) -> dict[str, Any]:
    raised: list[DeliveryError] = []
    sent = 0

    def chunks() -> Any:
        nonlocal sent
        try:
            for chunk in in_chunks(file, size, pack=upload.options.packs, given_up=given_up):
                sent += len(chunk)
                upload.check_size(sent)
                yield chunk
        except DeliveryError as error:  # the driver would turn it into a string
            raised.append(error)
            raise

    try:
        put = _tried(
            upload,
            lambda: obstore.put(
                upload.parts_store,
                upload.path,
                chunks(),
                use_multipart=True,
                chunk_size=_part_bytes(upload, int(size * _ROOM)),
                max_concurrency=_PARTS_AT_ONCE,
                **arguments,
            ),
        )
    except DeliveryError:
        if raised:
            raise raised[0] from None
        raise
    assert put is not None
    return upload.result(sent, put)


def _part_bytes(upload: Upload, size: int) -> int:
    return max(upload.settings.part_bytes, -(-size // _MOST_PARTS))


def _tried(upload: Upload, put: Callable[[], Any], *, once: bool = False) -> dict[str, Any] | None:
    """Return the store's answer; None if the put was to happen ``once``, and the object exists."""
    problem: DeliveryError | None
    try:
        answer: dict[str, Any] = put()
        return answer
    except DeliveryError:
        raise
    except Exception as error:
        if once and is_taken(error):
            return None
        problem = store_error(error, upload.settings.where)
    # Outside of the except clause: the driver's error must not be the context.
    raise problem or RejectedError(f"{upload.url}: the store gave no reason")


def _of_this_message(upload: Upload, body: bytes) -> dict[str, Any]:
    """Return the existing object if it is this message's own; raises ``PermanentError``.

    An earlier attempt may have put it. It is this message's own if the metadata has the same id; without
    metadata, if the content is the same.
    """
    field = upload.options.id_field if upload.settings.place.keeps_attributes else ""

    def look() -> dict[str, Any]:
        try:
            found = obstore.get(upload.store, upload.path, options={"head": bool(field)})
        except FileNotFoundError:
            raise RejectedError(f"{upload.url} existed, and was removed meanwhile") from None
        if not field:
            same = found.meta["size"] == len(body) and bytes(found.bytes()) == body
            return {**found.meta, "same": same, "owner": "another content"}
        owner = found.attributes.get(field) or found.attributes.get(field.lower())
        return {**found.meta, "same": owner == upload.attributes[field], "owner": f"message {owner!r}"}

    there = _tried(upload, look)
    assert there is not None
    if there["same"]:
        return there
    raise PermanentError(f"{upload.url} is taken by {there['owner']}: if_none_match leaves it as it is")
