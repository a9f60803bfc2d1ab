"""This module delivers to object stores: an object for each message, or one for a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from rambla_py.errors import ConnectionLostError, PermanentError
from rambla_py.handler import Handler
from rambla_py.handlers.objects.batches import Bundle, bundled
from rambla_py.handlers.objects.connection import StoreConnection
from rambla_py.handlers.objects.settings import ObjectsConnection, ObjectsOptions
from rambla_py.handlers.objects.stores import check_store

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery
    from rambla_py.handler import State

__all__ = ["ObjectsHandler"]


class ObjectsHandler(Handler):
    """Puts each message into an object store as an object; or each batch, as one object of JSON lines.

    ``s3://``, ``gs://``, ``az://``, ``file://`` and ``memory://``. Up to ``concurrency`` puts are in flight
    for each worker. The object's ``path`` is a template; its content is the payload's bytes, or those of
    ``file``, which is read and sent in parts. The message's id stands in the metadata (``id_field``), as do
    headers; ``file://`` has no place for either.

    Delivery: at least once. A retry puts the same object again, under the same path and id; with
    ``if_none_match`` it finds it there, which is a success where it is this message's own, and fatal where
    it is another's. An object is there whole or not at all. A put that was given up after a time-out may
    still land later. There is no order among objects, but among the messages of a key. The result is a
    dict: ``url``, ``bytes``, ``e_tag``, ``version``.

    Refused credentials, a bucket that is not there and a refused certificate are an ``AccessError``; a
    refused write (403), 429 and 5xx are retried; other answers (4xx) are fatal at once.

    >>> ObjectsHandler.Options(path="{date:%Y/%m/%d}/{id}.json").body_format
    'single'
    """

    Connection: ClassVar[Any] = ObjectsConnection
    Options: ClassVar[Any] = ObjectsOptions
    guarantee: ClassVar[str] = (
        "at least once; a retry puts the same object again, with the same id; a put that timed out may still "
        "land later; no order but within a key"
    )

    def connect(self) -> StoreConnection:
        """Open the store, and ask it for an object that is not there."""
        return StoreConnection(self.settings, self.channel, self.link)

    def close(self, connection: StoreConnection) -> None:
        """Let no further put start; those that run end by themselves, within ``timeout_s``."""
        connection.end(ConnectionLostError("the connection was closed before the put began"))

    def ping(self, connection: StoreConnection) -> None:
        """Ask the store for an object that is not there."""
        check_store(connection.settings, connection.store)

    def destination(self, connection: StoreConnection) -> Any:
        """Return the store itself, for the functions of ``obstore``."""
        return connection.store

    def handle_deliveries(self, deliveries: Sequence[Delivery], state: State) -> None:
        """Hand each object to a thread, which settles its messages."""
        connection: StoreConnection = state.connection
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
        """Say whether a message may send the file that it names; one that may not is settled.

        What is not the channel's own may come from a stranger's envelope, and name any file of this machine.
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
                "the file of a single message, on a channel without files_from: give the channel the folder "
                "that such files are in"
            )
        )
        return False
