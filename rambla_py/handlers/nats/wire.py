"""This module publishes over one connection to NATS, with many messages in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
from nats import errors

from rambla_py.errors import (
    ConnectionLostError,
    DeliveryError,
    PayloadTooLargeError,
    PermanentError,
    RejectedError,
    UnroutableError,
)
from rambla_py.handlers.nats.connecting import NatsClient, connected, place_of
from rambla_py.handlers.nats.errors import lost_error, refused_subject, stream_error
from rambla_py.handlers.nats.headers import encoded_size, headers_of

if TYPE_CHECKING:
    from nats.aio.msg import Msg

    from rambla_py.delivery import Delivery
    from rambla_py.handler import Link
    from rambla_py.handlers.nats.settings import NatsSettings

__all__ = ["NatsRecord", "NatsWire"]

_CLOSE_S = 2.0
_NO_RESPONDERS = "503"


class NatsRecord(msgspec.Struct, frozen=True, gc=False):
    """Where a message is, once a stream has it; ``duplicate`` says that it was there before."""

    stream: str
    seq: int
    duplicate: bool = False


class _StreamError(msgspec.Struct, gc=False):
    code: int = 500
    description: str = ""


class _Answer(msgspec.Struct, gc=False):
    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    error: _StreamError | None = None


_decode = msgspec.json.Decoder(_Answer).decode


class NatsWire:
    """A connection of one worker, for the worker's event loop only.

    Each message of JetStream has an inbox of its own below one subscription, so that answers find their
    message whatever their order.
    """

    def __init__(self, url: str, settings: NatsSettings, *, channel: str, link: Link) -> None:
        self.where = place_of(url)
        self._url, self._settings, self._channel, self._link = url, settings, channel, link
        self._client: NatsClient | None = None
        self._inbox = ""
        self._count = 0
        self._waiting: dict[str, tuple[Delivery, str]] = {}

    def __repr__(self) -> str:
        return f"<NatsWire {self.where} in flight={len(self._waiting)}>"

    @property
    def client(self) -> NatsClient:
        """The driver's own object, for the worker's event loop."""
        if self._client is None:
            raise ConnectionLostError(f"{self.where}: not connected")
        return self._client

    async def open(self, *, jetstream: bool) -> None:
        """Connect; raises ``ConnectionLostError`` or ``AccessError``."""
        self._client = await connected(self._url, self._settings, on_error=self._heard, on_lost=self._gone)
        if jetstream:
            self._inbox = f"{self._client.new_inbox()}."
            await self._client.subscribe(f"{self._inbox}*", cb=self._answered)

    async def ping(self) -> None:
        """Make a round trip; raises ``ConnectionLostError``."""
        try:
            await self.client.round_trip(self._settings.answer_timeout_s)
        except (errors.Error, OSError, TimeoutError) as error:
            raise lost_error(error, where=self.where, during="no answer to a ping") from error

    async def close(self) -> None:
        """Close in good order, within a moment; may be called twice."""
        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):
                await asyncio.wait_for(client.close(), _CLOSE_S)

    async def store(self, deliveries: Sequence[Delivery]) -> None:
        """Publish to streams; each delivery is settled when its stream answers."""
        waiting, inbox = self._waiting, self._inbox
        for delivery in deliveries:
            self._count += 1
            token = str(self._count)
            try:
                subject, body, headers = self._message(delivery)
                waiting[token] = delivery, subject
                await self.client.publish(subject, body, f"{inbox}{token}", headers)
            except BaseException as error:
                waiting.pop(token, None)
                _fail(delivery, error, self.where)

    async def send(self, deliveries: Sequence[Delivery]) -> None:
        """Publish to whoever listens; settled when the server has taken the whole batch."""
        sent: list[tuple[Delivery, str]] = []
        for delivery in deliveries:
            self._count += 1
            token = str(self._count)
            try:
                subject, body, headers = self._message(delivery)
                self._waiting[token] = delivery, subject
                await self.client.publish(subject, body, headers=headers)
                sent.append((delivery, token))
            except BaseException as error:
                self._waiting.pop(token, None)
                _fail(delivery, error, self.where)
        try:
            await self.client.round_trip(self._settings.answer_timeout_s)
        except (errors.Error, OSError, TimeoutError, ConnectionLostError) as error:
            for delivery, token in sent:
                self._waiting.pop(token, None)
                delivery.unknown(f"{self.where}: no answer to the batch: {error}")
            return
        for delivery, token in sent:
            if self._waiting.pop(token, None) is not None:
                delivery.ok()

    def _message(self, delivery: Delivery) -> tuple[str, bytes, dict[str, str]]:
        """Return subject, body and headers; raises for what the server would close the connection over."""
        options = delivery.options
        body = delivery.body()
        headers = headers_of(delivery, options.stream)
        size = len(body) + encoded_size(headers)
        limit: int = self.client.max_payload
        if size > limit:
            raise PayloadTooLargeError(size, limit, "the server's max_payload, headers included,")
        return options.subject or self._channel, body, headers

    async def _answered(self, message: Msg) -> None:
        found = self._waiting.pop(message.subject[len(self._inbox) :], None)
        if found is None:
            return
        delivery, subject = found
        if message.headers and message.headers.get("Status") == _NO_RESPONDERS:
            text = (
                f"no stream takes the subject {subject!r}; make one that does, and see that JetStream is on"
            )
            delivery.failed(UnroutableError(text))
            return
        try:
            answer = _decode(message.data)
        except msgspec.MsgspecError as error:
            delivery.failed(RejectedError(f"{self.where}: an answer that is not JetStream's: {error}"))
            return
        if answer.error is not None:
            delivery.failed(stream_error(answer.error.code, answer.error.description))
        elif not answer.stream:
            delivery.failed(
                RejectedError(f"{self.where}: an answer that is not JetStream's: it names no stream")
            )
        else:
            delivery.ok(NatsRecord(answer.stream, answer.seq, answer.duplicate))

    async def _heard(self, error: Exception) -> None:
        """Take what the server says beside its answers: a subject that we may not publish to."""
        subject = refused_subject(error)
        if subject is None:
            return
        # The server's text has the subject in the case that it was sent in, nats-py's in small letters.
        for token, (delivery, sent_to) in list(self._waiting.items()):
            if sent_to.lower() == subject.lower():
                del self._waiting[token]
                delivery.failed(PermanentError(f"{self.where}: no permission to publish to {sent_to!r}"))

    def _gone(self, error: BaseException | None) -> None:
        self._waiting.clear()
        self._link.lost(lost_error(error, where=self.where))


def _fail(delivery: Delivery, error: BaseException, where: str) -> None:
    """Settle a message that the driver did not take; nothing of it was written."""
    if isinstance(error, DeliveryError):
        delivery.failed(error)
    elif isinstance(error, errors.BadSubjectError | errors.BadHeaderError | errors.MaxPayloadError):
        delivery.failed(PermanentError(str(error)))
    elif isinstance(error, errors.Error | OSError):
        delivery.failed(lost_error(error, where=where))
    elif isinstance(error, Exception):
        delivery.failed(error)
    else:
        raise error
