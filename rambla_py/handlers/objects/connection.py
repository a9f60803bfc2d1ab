"""This module is the live connection of a worker: a store, and the threads that put into it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rambla_py.errors import ConnectionLostError, PayloadTooLargeError, UnknownOutcomeError
from rambla_py.handlers.objects.batches import Bundle
from rambla_py.handlers.objects.content import (
    attributes_of,
    media_type_of,
    media_type_of_file,
    metadata_of,
    metadata_value,
)
from rambla_py.handlers.objects.errors import NoAnswerError, PutTimeoutError
from rambla_py.handlers.objects.lanes import Lanes
from rambla_py.handlers.objects.settings import ObjectsConnection, ObjectsOptions
from rambla_py.handlers.objects.stores import check_store, open_store
from rambla_py.handlers.objects.template import template_of
from rambla_py.handlers.objects.upload import Upload, put_body, put_file

if TYPE_CHECKING:
    from rambla_py.handler import Link

__all__ = ["StoreConnection"]

# Files have lanes of their own, so that large ones hold up no small object and memory stays bounded.
_FILE_LANES = 2

_TELL_S = 0.2


class StoreConnection:
    """A store with the threads that put into it, and that settle the messages."""

    def __init__(self, settings: ObjectsConnection, channel: str, link: Link) -> None:
        self.settings, self._link = settings, link
        self._answered_at = self._told_at = time.monotonic()
        self.store = open_store(settings)
        check_store(settings, self.store)
        self.small = Lanes(self._run, _fail, most=settings.concurrency, name=f"objects {channel}")
        self.files = Lanes(self._run, _fail, most=_FILE_LANES, name=f"objects {channel} file")

    def put(self, job: Bundle) -> None:
        """Put an object as soon as a thread is free; settles its messages."""
        self._link.wait(job.messages)
        lanes = self.files if job.options.file is not None else self.small
        lanes.put(job)

    def end(self, error: Exception) -> None:
        """Start no further put; what was not begun counts as never sent."""
        lost = error if isinstance(error, ConnectionLostError) else ConnectionLostError(str(error))
        self.small.end(lost)
        self.files.end(lost)

    def _run(self, waiting: Bundle) -> None:
        job = waiting.only(self._link.begin)
        if not job.messages:
            return
        began = time.monotonic()
        try:
            result = self._result(job)
        except (ConnectionLostError, UnknownOutcomeError) as error:
            self._lost(job, error, began)
        except PayloadTooLargeError as error:
            self._answered()
            if len(job.messages) == 1:
                _fail(job, error)
                return
            # One large message must not take the others with it.
            for half in job.halves():
                self.put(half)
        except BaseException as error:  # a payload's own code, or the driver's
            self._answered()
            _fail(job, error)
        else:
            self._answered()
            for message in job.messages:
                message.ok(result)

    def _lost(self, job: Bundle, error: Exception, began: float) -> None:
        """Give the connection up; but not for one slow put, while the store answers others."""
        if isinstance(error, NoAnswerError) and self._answered_at > began:
            _fail(job, PutTimeoutError(str(error)))
            return
        self.end(error)
        _fail(job, error)

    def _answered(self) -> None:
        """Take note that the store is at work."""
        self._answered_at = time.monotonic()

    def _moved(self) -> None:
        """Set the clock of the attempts back, as a file is on its way, and a large one takes its time."""
        self._answered()
        now = self._answered_at
        if now - self._told_at >= _TELL_S:
            self._told_at = now
            self._link.release()

    def _result(self, job: Bundle) -> dict[str, Any]:
        options, first = job.options, job.messages[0]
        if options.body_format == "ndjson":
            return self._result_of_lines(job)
        path = template_of(options.path).render(first)
        if options.file is not None:
            kind = media_type_of_file(options, options.file)
            metadata = metadata_of(options, first)
            upload = self._upload(path, options, attributes_of(options, kind, metadata))
            return put_file(upload, self._given_up)
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

    def _given_up(self) -> bool:
        """Say whether the upload of a file is to end; asked once a megabyte."""
        self._moved()
        return self.files.ended

    def _upload(self, path: str, options: ObjectsOptions, attributes: dict[str, str]) -> Upload:
        return Upload(self.settings, self.store, path, options, attributes)


def _fail(job: Bundle, error: BaseException) -> None:
    for message in job.messages:
        message.failed(error)
