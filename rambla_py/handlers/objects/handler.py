"""This module delivers to object stores: an object for each message, or one for a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from rambla_py.errors import ConnectionLostError, PermanentError, UnknownOutcomeError
from rambla_py.handler import Handler
from rambla_py.handlers.objects.batches import Bundle, bundled
from rambla_py.handlers.objects.content import (
    attributes_of,
    media_type_of,
    media_type_of_file,
    metadata_of,
    metadata_value,
)
from rambla_py.handlers.objects.lanes import Lanes
from rambla_py.handlers.objects.settings import ObjectsConnection, ObjectsOptions
from rambla_py.handlers.objects.stores import check_store, open_store
from rambla_py.handlers.objects.template import template_of
from rambla_py.handlers.objects.upload import Upload, put_body, put_file

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery
    from rambla_py.handler import State

__all__ = ["ObjectsHandler"]

# Files have lanes of their own, so that large ones hold up no small object and memory stays bounded.
_FILE_LANES = 2


class _Connection:
    """A store with the threads that put into it."""

    def __init__(self, settings: ObjectsConnection, channel: str) -> None:
        self.settings = settings
        self.store = open_store(settings)
        check_store(settings, self.store)
        self.small = Lanes(self._run, _refuse, most=settings.concurrency, name=f"objects {channel}")
        self.files = Lanes(self._run, _refuse, most=_FILE_LANES, name=f"objects {channel} file")

    def put(self, job: Bundle) -> None:
        """Put an object as soon as a thread is free; settles its messages."""
        lanes = self.files if job.options.file is not None else self.small
        lanes.put(job)

    def end(self, error: Exception) -> None:
        """Start no further put; what was not begun counts as never sent."""
        lost = error if isinstance(error, ConnectionLostError) else ConnectionLostError(str(error))
        self.small.end(lost)
        self.files.end(lost)

    def _run(self, job: Bundle) -> None:
        try:
            result = self._result(job)
        except (ConnectionLostError, UnknownOutcomeError) as error:
            self.end(error)
            for message in job.messages:
                message.failed(error)
        except BaseException as error:  # a payload's own code, or the driver's
            for message in job.messages:
                message.failed(error)
        else:
            for message in job.messages:
                message.ok(result)

    def _result(self, job: Bundle) -> dict[str, Any]:
        options, first = job.options, job.messages[0]
        if options.body_format == "ndjson":
            return self._result_of_lines(job)
        path = template_of(options.path).render(first)
        if options.file is not None:
            kind = media_type_of_file(options, options.file)
            metadata = metadata_of(options, first)
            upload = self._upload(path, options, attributes_of(options, kind, metadata))
            return put_file(upload, lambda: self.files.ended)
        body = first.body()
        attributes = attributes_of(options, media_type_of(options, first), metadata_of(options, first))
        return put_body(self._upload(path, options, attributes), body)

    def _result_of_lines(self, job: Bundle) -> dict[str, Any]:
        options, name = job.options, job.name
        metadata = {name: metadata_value(value) for name, value in options.metadata.items()}
        if options.id_field:
            metadata[options.id_field] = metadata_value(name)
        attributes = attributes_of(options, options.content_type or "application/x-ndjson", metadata)
        path = template_of(options.path).render(job.messages[0], name=name)
        return put_body(self._upload(path, options, attributes), job.body)

    def _upload(self, path: str, options: ObjectsOptions, attributes: dict[str, str]) -> Upload:
        return Upload(self.settings, self.store, path, options, attributes)


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

    def connect(self) -> _Connection:
        """Open the store, and ask it for an object that is not there."""
        return _Connection(self.settings, self.channel)

    def close(self, connection: _Connection) -> None:
        """Let no further put start; those that run end by themselves, within ``timeout_s``."""
        connection.end(ConnectionLostError("the connection was closed before the put began"))

    def ping(self, connection: _Connection) -> None:
        """Ask the store for an object that is not there."""
        check_store(connection.settings, connection.store)

    def destination(self, connection: _Connection) -> Any:
        """Return the store itself, for the functions of ``obstore``."""
        return connection.store

    def handle_deliveries(self, deliveries: Sequence[Delivery], state: State) -> None:
        """Hand each object to a thread, which settles its messages."""
        connection: _Connection = state.connection
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


def _refuse(job: Bundle, error: Any) -> None:
    for message in job.messages:
        message.failed(error)
