"""The live connection of an ``objects`` worker: a store, and the threads that put into it."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rambla_py.errors import (
    ConnectionLostError,
    DeliveryError,
    PayloadTooLargeError,
    PermanentError,
    UnknownOutcomeError,
)
from rambla_py.handlers._losses import Loss, Losses, ServerCheck
from rambla_py.handlers.objects.batches import Bundle
from rambla_py.handlers.objects.encode import (
    attributes_of,
    media_type_of,
    media_type_of_file,
    metadata_of,
    metadata_value,
)
from rambla_py.handlers.objects.errors import GatewayError
from rambla_py.handlers.objects.put_pool import PutPool
from rambla_py.handlers.objects.settings import ObjectsOptions, ObjectsSettings
from rambla_py.handlers.objects.stores import check_store, open_store
from rambla_py.handlers.objects.template import template_of
from rambla_py.handlers.objects.upload import Upload, put_body, put_file

if TYPE_CHECKING:
    from rambla_py.handler import Link

__all__ = ["ObjectsConnection"]

# Files have threads of their own, so that large ones delay no small object, and memory stays bounded.
_FILE_THREADS = 2

# A part that failed is sent again by itself, rather than a large file as a whole; and an abort that the
# server refuses once, because a part was just arriving, would leave the parts in the bucket.
_PART_RETRIES = 3

_RELEASE_S = 0.2


class ObjectsConnection:
    """A store with the threads that put into it, and that settle the messages."""

    def __init__(self, settings: ObjectsSettings, channel: str, link: Link) -> None:
        self.settings, self._link = settings, link
        self.store = open_store(settings)  # retries nothing, as the worker does
        self.parts_store = open_store(settings, retries=_PART_RETRIES)
        check_store(settings, self.store)
        self._lock = threading.Lock()
        self._pending = 0
        self._losses = Losses(time.monotonic())
        self._check = ServerCheck(self._losses, self._answers)
        self._released_at = time.monotonic()
        self.small = PutPool(self._run, self._refuse, most=settings.concurrency, name=f"objects {channel}")
        self.files = PutPool(self._run, self._refuse, most=_FILE_THREADS, name=f"objects {channel} file")

    def put(self, job: Bundle) -> None:
        """Put an object as soon as a thread is free; settles its messages."""
        with self._lock:
            self._pending += 1
        self._link.wait(job.messages)
        pool = self.files if job.options.file is not None else self.small
        pool.put(job)

    def end(self, error: ConnectionLostError) -> None:
        """Start no further put; what was not begun counts as never sent."""
        self.small.end(error)
        self.files.end(error)

    def _run(self, queued: Bundle) -> None:
        job, began = queued.only(self._link.begin(queued.messages)), time.monotonic()
        losses: list[Loss] = []
        if job.messages:
            try:
                result = self._result(job)
            except (ConnectionLostError, UnknownOutcomeError) as error:
                if isinstance(error, GatewayError):
                    self._answered(began)
                losses = [(message, _shared(error, job)) for message in job.messages]
            except BaseException as error:  # a payload's own code, or the driver's
                self._answered(began)
                self._failed(job, error)
            else:
                self._answered(began)
                for message in job.messages:
                    message.ok(result)
        self._finish(began, losses)

    def _refuse(self, job: Bundle, error: ConnectionLostError) -> None:
        self._finish(time.monotonic(), [(message, error) for message in job.messages])

    def _failed(self, job: Bundle, error: BaseException) -> None:
        """Settle messages as failed; of several, one that is too large must not fail the others."""
        if isinstance(error, PayloadTooLargeError) and len(job.messages) > 1:
            for half in job.halves():
                self.put(half)
            return
        if isinstance(error, UnicodeError):
            error = PermanentError(f"the object cannot be encoded: {error}")
        for message in job.messages:
            message.failed(error)

    def _answered(self, began: float) -> None:
        """Record that the store answered a put that began at this time."""
        with self._lock:
            single = self._losses.answered(began, time.monotonic())
        _settle(single)

    def _answers(self) -> bool:
        check_store(self.settings, self.store)
        return True

    def _finish(self, began: float, losses: Sequence[Loss]) -> None:
        if losses:
            losses = self._check.single(began, losses)
        with self._lock:
            self._pending -= 1
            actions = self._losses.finished(began, losses, time.monotonic(), last=not self._pending)
        if actions is None:
            return
        if actions.hold:
            self._link.hold()
        if actions.hold or actions.lost is not None:
            self.end(ConnectionLostError("the connection was lost before the put began"))
        _settle(actions.settle)
        if actions.lost is not None:
            self._link.lost(actions.lost)

    def _progressed(self) -> None:
        """Restart the time-out of the attempts while a file is uploaded, as a large one takes its time."""
        now = time.monotonic()
        self._losses.answered_at = now
        if now - self._released_at >= _RELEASE_S:
            self._released_at = now
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
        """Return whether the upload of a file is to end; asked once a megabyte."""
        self._progressed()
        return self.files.ended

    def _upload(self, path: str, options: ObjectsOptions, attributes: dict[str, str]) -> Upload:
        place = self.settings.place.stored(path)
        return Upload(self.settings, self.store, self.parts_store, place, options, attributes)


def _shared(error: DeliveryError, job: Bundle) -> DeliveryError:
    """Return the error of each message of a put without an answer."""
    if not isinstance(error, UnknownOutcomeError):
        return error
    together = len(job.messages) > 1
    unknown = UnknownOutcomeError(error.reason, connection_lost=error.connection_lost, together=together)
    return unknown.with_detail(error.detail)


def _settle(losses: Sequence[Loss]) -> None:
    for message, error in losses:
        message.failed(error)
