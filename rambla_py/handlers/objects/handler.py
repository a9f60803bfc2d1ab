"""Delivery to object stores: an object for each message, or one for a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from rambla_py.errors import ConnectionLostError, PermanentError
from rambla_py.handler import Handler, Takes
from rambla_py.handlers.objects.batches import Bundle, bundled
from rambla_py.handlers.objects.connection import ObjectsConnection
from rambla_py.handlers.objects.settings import ObjectsOptions, ObjectsSettings
from rambla_py.handlers.objects.stores import check_store, missing_folder

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery
    from rambla_py.handler import Preflight, State

__all__ = ["ObjectsHandler"]


class ObjectsHandler(Handler):
    """Puts each message into an object store as an object; or each batch, as one object of JSON lines.

    ``s3://``, ``gs://``, ``az://``, ``file://`` and ``memory://``. Up to ``concurrency`` puts are in flight
    for each worker. The object's ``path`` is a template; its content is the payload's bytes, or those of
    ``file``, which is read and sent in parts. The message's id is in the metadata (``id_field``), as are
    headers; ``file://`` can store neither.

    Delivery: at least once. A retry puts the same object again, under the same path and id; with
    ``if_none_match``, an existing object is a success if it is this message's own, and fatal if it is
    another's. An object exists whole or not at all. A put that was given up after a time-out may still
    complete later. There is no order among objects, except among the messages of a key. The result is a
    dict: ``url``, ``bytes``, ``e_tag``, ``version``.

    Refused credentials, a missing bucket and a refused certificate are an ``AccessError``. After 429, 503
    and ``SlowDown`` messages wait without using up their ``retries``. A refused write (403) and most 5xx are
    retried; other answers (4xx) are fatal at once.

    >>> ObjectsHandler.Options(path="{date:%Y/%m/%d}/{id}.json").body_format
    'single'
    """

    Connection: ClassVar[Any] = ObjectsSettings
    Options: ClassVar[Any] = ObjectsOptions
    guarantee: ClassVar[str] = (
        "at least once; a retry puts the same object again, with the same id; a put that timed out may still "
        "complete later; no order except within a key"
    )

    @classmethod
    def takes_for(cls, options: Any) -> Takes:
        """Return ``"object"`` for paths that need it, ``"json"`` for lines; files need nothing."""
        if options is None:
            return "bytes"
        if options.reads_payload:
            return "object"
        if options.body_format == "ndjson":
            return "json"
        return "bytes" if options.file is None else "nothing"

    def connect(self) -> ObjectsConnection | None:
        """Open the store, and ask it for an object that does not exist."""
        if self.dry_run and missing_folder(self.settings):
            return None
        return ObjectsConnection(self.settings, self.channel, self.link)

    def close(self, connection: ObjectsConnection | None) -> None:
        """Start no further put; running ones end by themselves, within ``timeout_s``."""
        if connection is None:
            return
        connection.end(ConnectionLostError("the connection was closed before the put began"))

    def ping(self, connection: ObjectsConnection | None) -> None:
        """Ask the store for an object that does not exist."""
        if connection is None:
            return
        check_store(connection.settings, connection.store)

    def preflight(self, connection: ObjectsConnection | None, report: Preflight) -> None:
        """Name what a store tells only of a put."""
        place = self.settings.place
        if connection is None:
            report.would_create(f"folder {place.root}")
        elif place.scheme not in ("memory", "file"):
            report.not_checked(f"the right to put objects into {place.url}")

    def destination(self, connection: ObjectsConnection) -> Any:
        """Return the store itself, for the functions of ``obstore``."""
        return connection.store

    def handle_deliveries(self, deliveries: Sequence[Delivery], state: State) -> None:
        """Hand each object to a thread, which settles its messages."""
        connection: ObjectsConnection = state.connection
        if self._channel_options().body_format == "ndjson":
            for found, error in bundled(deliveries, self._channel_options(), self.channel):
                if isinstance(found, Bundle):
                    connection.put(found)
                else:
                    found.failed(error or "failed")
            return
        for delivery in deliveries:
            if self._may_read(delivery):
                connection.put(Bundle([delivery], []))

    def _channel_options(self) -> ObjectsOptions:
        options: ObjectsOptions = self.options if self.options is not None else ObjectsOptions()
        return options

    def _may_read(self, delivery: Delivery) -> bool:
        """Return whether a message may send the file that it names; settles one that may not.

        A file that the channel does not set may come from untrusted input, and name any file of this machine.
        """
        options: ObjectsOptions = delivery.options
        if (
            options.file is None
            or options.files_from is not None
            or options.file == self._channel_options().file
        ):
            return True
        delivery.failed(
            PermanentError(
                "a message set the option file, on a channel without files_from; set files_from to the "
                "folder that such files are in"
            )
        )
        return False
