"""A connection to NATS with many messages in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from nats import errors

from rambla_py._internal.tls import NO_CERTIFICATE, TlsTable, client_context, tls_table
from rambla_py.errors import (
    AccessError,
    ConnectionLostError,
    DeliveryError,
    PayloadTooLargeError,
    PermanentError,
    UnknownOutcomeError,
)
from rambla_py.handler import secret_text
from rambla_py.handlers._encoding import encoding_error
from rambla_py.handlers.nats.encode import checked_subject, encoded_size, headers_of
from rambla_py.handlers.nats.errors import lost_error, refused_subject, refused_subscription
from rambla_py.handlers.nats.jetstream import NatsRecord, acknowledged
from rambla_py.handlers.nats.nats_private import NatsClient
from rambla_py.handlers.nats.settings import NatsServerAddress, NatsSettings

if TYPE_CHECKING:
    from nats.aio.msg import Msg

    from rambla_py.delivery import Delivery
    from rambla_py.handler import Link

__all__ = ["NatsConnection"]

_CLOSE_S = 2.0
# Nothing is left to be written then, and after a failed TLS handshake nats-py would wait for ever.
_ABANDON_S = 0.1
# nats-py gives up a server after one try more than this; 0 would mean never.
_TRIES = 1


class NatsConnection:
    """A connection of one worker, for the worker's event loop only.

    Each JetStream message has a reply subject of its own below one subscription, so that an acknowledgement
    is matched with its message in any order.
    """

    def __init__(
        self, address: NatsServerAddress, settings: NatsSettings, *, channel: str, link: Link
    ) -> None:
        self.where = address.where
        self._address, self._settings, self._channel, self._link = address, settings, channel, link
        self._client: NatsClient | None = None
        self._inbox = ""
        self._denied_inbox: AccessError | None = None
        self._count = 0
        self._waiting: dict[str, tuple[Delivery, str]] = {}

    def __repr__(self) -> str:
        return f"<NatsConnection {self.where} in flight={len(self._waiting)}>"

    @property
    def client(self) -> NatsClient:
        """The driver's own object, for the worker's event loop."""
        if self._client is None:
            raise ConnectionLostError(f"{self.where}: not connected")
        return self._client

    async def open(self, *, jetstream: bool) -> None:
        """Connect; raises ``ConnectionLostError`` or ``AccessError``."""
        self._client = await _connected(
            self._address, self._settings, on_error=self._on_error, on_lost=self._on_lost
        )
        if jetstream:
            await self._subscribe(self._client)

    async def _subscribe(self, client: NatsClient) -> None:
        """Subscribe to the acknowledgements, and wait until the server has accepted the subscription.

        Without it, every message would be stored and none confirmed.
        """
        self._inbox = f"{client.new_inbox()}."
        try:
            await client.subscribe(f"{self._inbox}*", cb=self._on_reply)
            await client.round_trip(self._settings.connect_timeout_s)
        except (errors.Error, OSError, TimeoutError) as error:
            await self.close()
            raise lost_error(error, where=self.where, during="cannot subscribe to replies") from error
        if self._denied_inbox is not None:
            await self.close()
            raise self._denied_inbox

    async def ping(self) -> None:
        """Make a round trip; raises ``ConnectionLostError``."""
        try:
            await self.client.round_trip(self._settings.answer_timeout_s)
        except (errors.Error, OSError, TimeoutError) as error:
            raise lost_error(error, where=self.where, during="no answer to a ping") from error

    async def close(self) -> None:
        """Close within a moment, after pending writes; may be called twice."""
        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):
                await asyncio.wait_for(client.close(), _CLOSE_S)

    # -- publishing -------------------------------------------------------------------------------------

    async def store(self, deliveries: Sequence[Delivery]) -> None:
        """Publish to streams; each delivery is settled by its stream's acknowledgement."""
        for delivery in deliveries:
            await self._publish(delivery, reply=True)

    async def send(self, deliveries: Sequence[Delivery]) -> None:
        """Publish to current subscribers; settled when the server has processed the whole batch."""
        sent: list[tuple[Delivery, str]] = []
        for delivery in deliveries:
            token = await self._publish(delivery, reply=False)
            if token is not None:
                sent.append((delivery, token))
        try:
            await self.client.round_trip(self._settings.answer_timeout_s)
        except TimeoutError:
            text = f"{self.where}: no answer to the batch within {self._settings.answer_timeout_s:g} s"
            self._give_up(sent, UnknownOutcomeError(text, connection_lost=False))
            return
        except (errors.Error, OSError, ConnectionLostError) as error:
            self._give_up(sent, UnknownOutcomeError(f"{self.where}: no answer to the batch: {error}"))
            return
        for delivery, token in sent:
            if self._waiting.pop(token, None) is not None:
                delivery.ok()

    def _give_up(self, sent: Sequence[tuple[Delivery, str]], error: UnknownOutcomeError) -> None:
        for delivery, token in sent:
            if self._waiting.pop(token, None) is not None:
                delivery.unknown(error)

    async def _publish(self, delivery: Delivery, *, reply: bool) -> str | None:
        """Publish one message and return its token; None when it failed, and nothing was written."""
        try:
            subject, body, headers = self._encoded(delivery)
        except Exception as error:
            delivery.failed(encoding_error(error))
            return None
        self._count += 1
        token = str(self._count)
        self._waiting[token] = delivery, subject
        try:
            await self.client.publish(subject, body, f"{self._inbox}{token}" if reply else "", headers)
        except Exception as error:
            self._waiting.pop(token, None)
            delivery.failed(_not_written(error, self.where))
            return None
        except BaseException:
            self._waiting.pop(token, None)
            raise
        return token

    def _encoded(self, delivery: Delivery) -> tuple[str, bytes, dict[str, str]]:
        """Return subject, body and headers; raises for what the server would close the connection over."""
        options = delivery.options
        subject = options.subject or self._channel
        checked_subject(subject)
        body = delivery.body()
        headers = headers_of(delivery, options.stream)
        size = len(body) + encoded_size(headers)
        limit: int = self.client.max_payload
        if size > limit:
            raise PayloadTooLargeError(size, limit, "the server's max_payload, headers included,")
        return subject, body, headers

    # -- what the server sends --------------------------------------------------------------------------

    async def _on_reply(self, message: Msg) -> None:
        found = self._waiting.pop(message.subject[len(self._inbox) :], None)
        if found is None:
            return
        delivery, subject = found
        answer = acknowledged(message, subject=subject, where=self.where)
        if isinstance(answer, NatsRecord):
            delivery.ok(answer)
        else:
            delivery.failed(answer)

    async def _on_error(self, error: Exception) -> None:
        """Handle an error outside the replies: a subject that the user may not publish or subscribe to."""
        if (inbox := refused_subscription(error)) is not None:
            self._deny_inbox(inbox)
        elif (subject := refused_subject(error)) is not None:
            self._deny_subject(subject)

    def _deny_inbox(self, subject: str) -> None:
        if not self._inbox or not subject.lower().startswith(self._inbox.lower()):
            return
        self._denied_inbox = AccessError(
            f"{self.where}: no permission to subscribe to {self._inbox}*, where acknowledgements arrive; "
            "allow it, or set inbox_prefix to a subject that is allowed"
        )
        self._link.lost(self._denied_inbox)

    def _deny_subject(self, subject: str) -> None:
        # The server reports the subject as it was sent, nats-py in lower case.
        for token, (delivery, sent_to) in list(self._waiting.items()):
            if sent_to.lower() == subject.lower():
                del self._waiting[token]
                delivery.failed(AccessError(f"{self.where}: no permission to publish to {sent_to!r}"))

    def _on_lost(self, error: BaseException | None) -> None:
        self._waiting.clear()
        self._link.lost(lost_error(error, where=self.where))


async def _connected(
    address: NatsServerAddress,
    settings: NatsSettings,
    *,
    on_error: Callable[[Exception], Awaitable[None]],
    on_lost: Callable[[BaseException | None], None],
) -> NatsClient:
    """Return a client that is logged in; raises ``ConnectionLostError`` or ``AccessError``."""
    tls = tls_table(settings.tls) or (TlsTable() if address.tls else None)
    context = None if tls is None else client_context(tls, address.where)
    client = NatsClient(tls_wanted=context is not None, on_lost=on_lost)
    reported: list[Exception] = []

    async def record(error: Exception) -> None:
        reported.append(error)
        await on_error(error)

    cause: BaseException
    try:
        connecting = client.connect(
            address.url, error_cb=record, tls=context, **_parameters(address, settings, tls)
        )
        await asyncio.wait_for(connecting, settings.connect_timeout_s)
        client.watch()
        return client
    except TimeoutError:
        cause = TimeoutError(f"no answer within connect_timeout_s = {settings.connect_timeout_s:g}")
    except Exception as error:  # the driver lets through whatever a socket or a file raises
        # "No servers available" hides the reason, which was reported before.
        cause = reported[-1] if reported and isinstance(error, errors.NoServersError) else error
    with suppress(Exception):
        await asyncio.wait_for(client.close(), _ABANDON_S)
    if tls is not None and tls.cert_file is None and client.demands_certificate:
        # The server closes after its alert; the driver may find the connection gone before it reads that.
        raise AccessError(f"{address.where}: cannot connect: {NO_CERTIFICATE}") from cause
    raise lost_error(cause, where=address.where, during="cannot connect") from cause


def _parameters(address: NatsServerAddress, settings: NatsSettings, tls: TlsTable | None) -> dict[str, Any]:
    return {
        "name": settings.name,
        "allow_reconnect": False,
        "max_reconnect_attempts": _TRIES,
        "reconnect_time_wait": 0,
        "connect_timeout": settings.connect_timeout_s,
        "ping_interval": settings.ping_interval_s,
        "max_outstanding_pings": 1,
        "inbox_prefix": settings.inbox_prefix,
        "user": address.username,
        "password": secret_text(address.password),
        "token": secret_text(address.token),
        "user_credentials": settings.credentials_file,
        "tls_hostname": None if tls is None else tls.server_name,
    }


def _not_written(error: Exception, where: str) -> Exception:
    """Return the failure of a message that the driver did not take; nothing of it was written."""
    if isinstance(error, DeliveryError):
        return error
    if isinstance(error, errors.BadSubjectError | errors.BadHeaderError | errors.MaxPayloadError):
        return PermanentError(str(error))
    if isinstance(error, errors.Error | OSError):
        return lost_error(error, where=where)
    return encoding_error(error)
