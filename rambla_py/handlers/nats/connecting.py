"""This module opens the connection to one NATS server that a connection's table describes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from nats import errors
from nats.aio.client import Client

from rambla_py.handler import secret_text
from rambla_py.handlers.nats.errors import lost_error
from rambla_py.handlers.nats.settings import NatsSettings, NatsTls
from rambla_py.tls import client_context

__all__ = ["NatsClient", "connected", "place_of"]

# Nothing is left to be written then, and after a failed TLS handshake nats-py would wait for ever: the end of
# its stream is told to the handshake.
_GIVE_UP_S = 0.1
# nats-py gives each server up after one try more than this; 0 would mean that it never does.
_TRIES = 1


class NatsClient(Client):
    """A client that never reconnects by itself, and sends no credentials where TLS was asked for in vain."""

    def __init__(self, *, tls_wanted: bool, on_lost: Callable[[BaseException | None], None]) -> None:
        super().__init__()
        self._tls_wanted, self._on_lost = tls_wanted, on_lost

    def watch(self) -> None:
        """Have ``on_lost`` called once nobody reads any more, for whatever reason.

        nats-py's own callbacks do not come when closing fails over what was still to be written.
        """
        if self._reading_task is not None:
            self._reading_task.add_done_callback(lambda _: self._on_lost(self.last_error))

    async def _process_op_err(self, e: Exception) -> None:
        if self.is_connected:
            self._on_lost(e)
        await super()._process_op_err(e)

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        # nats-py takes TLS up only where the server demands it, and would go on in plain text.
        if self._tls_wanted and initial_connection and not info.get("tls_required"):
            raise errors.SecureConnWantedError
        await super()._process_info(info, initial_connection=initial_connection)

    async def round_trip(self, timeout_s: float) -> None:
        """Return when the server has taken all that was published; raises as the driver does.

        Its own ``flush`` would not do: it sends the PING past what waits to be written, and returns without
        an answer when nobody reads any more.
        """
        async with asyncio.timeout(timeout_s):
            await self._flush_pending(force_flush=True)
            self._check_reader()
            await self.flush(timeout=max(1, round(timeout_s)))
            self._check_reader()

    def _check_reader(self) -> None:
        if self.is_closed or self._reading_task is None or self._reading_task.done():
            raise errors.ConnectionClosedError


async def connected(
    url: str,
    settings: NatsSettings,
    *,
    on_error: Callable[[Exception], Awaitable[None]],
    on_lost: Callable[[BaseException | None], None],
) -> NatsClient:
    """Return a client that is connected and logged in; raises ``ConnectionLostError`` or ``AccessError``."""
    where = place_of(url)
    context = _context(url, settings, where)
    client = NatsClient(tls_wanted=context is not None, on_lost=on_lost)
    heard: list[Exception] = []

    async def note(error: Exception) -> None:
        heard.append(error)
        await on_error(error)

    trouble: BaseException | None = None
    try:
        connecting = client.connect(url, error_cb=note, tls=context, **_parameters(settings))
        await asyncio.wait_for(connecting, settings.connect_timeout_s)
        client.watch()
        return client
    except TimeoutError:
        trouble = TimeoutError(f"no answer within {settings.connect_timeout_s:g} s")
    except Exception as error:  # the driver lets whatever a socket or a file raises through
        # "No servers available" says nothing of the reason, which was heard before.
        trouble = heard[-1] if heard and isinstance(error, errors.NoServersError) else error
    with suppress(Exception):
        await asyncio.wait_for(client.close(), _GIVE_UP_S)
    raise lost_error(trouble, where=where, during="cannot connect") from trouble


def place_of(url: str) -> str:
    """Return a server's name for people, without credentials.

    >>> place_of("nats://shop:hunter2@db:4222")
    'nats at db:4222'
    """
    parts = urlsplit(url)
    return f"nats at {parts.hostname}:{parts.port or 4222}"


def _parameters(settings: NatsSettings) -> dict[str, Any]:
    tls = settings.tls
    return {
        "name": settings.name,
        "allow_reconnect": False,
        "max_reconnect_attempts": _TRIES,
        "reconnect_time_wait": 0,
        "connect_timeout": settings.connect_timeout_s,
        "ping_interval": settings.ping_interval_s,
        "max_outstanding_pings": 1,
        "user": settings.username,
        "password": secret_text(settings.password),
        "token": secret_text(settings.token),
        "user_credentials": settings.credentials_file,
        "tls_hostname": tls.server_name if isinstance(tls, NatsTls) else None,
    }


def _context(url: str, settings: NatsSettings, where: str) -> ssl.SSLContext | None:
    if not settings.tls and urlsplit(url).scheme != "tls":
        return None
    tls = settings.tls if isinstance(settings.tls, NatsTls) else NatsTls()
    return client_context(tls, where)
