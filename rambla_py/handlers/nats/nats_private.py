"""The client of nats-py, with its private parts.

The parts are ``_flush_pending``, ``_process_err``, ``_process_info``, ``_process_op_err``,
``_reading_task`` and ``_server_info``; a test fails by name when one is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from nats import errors
from nats.aio.client import Client

__all__ = ["NatsClient"]


class NatsClient(Client):
    """A client that never reconnects, reports each loss, and sends credentials over TLS only if asked to.

    ``on_lost`` is called with what the server said last (``-ERR``), or else with the driver's own error.
    """

    def __init__(self, *, tls_wanted: bool, on_lost: Callable[[BaseException | None], None]) -> None:
        super().__init__()
        self._tls_wanted, self._on_lost = tls_wanted, on_lost
        self.server_error: Exception | None = None

    def watch(self) -> None:
        """Have ``on_lost`` called once the driver stops reading, for any reason.

        nats-py's own callbacks are not called when closing fails over unwritten data.
        """
        if self._reading_task is not None:
            self._reading_task.add_done_callback(
                lambda _: self._on_lost(self.server_error or self.last_error)
            )

    @property
    def demands_certificate(self) -> bool:
        """Whether the server announced, before TLS began, that clients need a certificate."""
        return bool((self._server_info or {}).get("tls_verify"))

    async def round_trip(self, timeout_s: float) -> None:
        """Return when the server has processed all that was published; raises what the driver raises.

        ``flush`` is not enough: it sends the PING ahead of unwritten data, and returns without an answer
        when the driver has stopped reading.
        """
        async with asyncio.timeout(timeout_s):
            await self._flush_pending(force_flush=True)
            self._check_reader()
            await self.flush(timeout=max(1, round(timeout_s)))
            self._check_reader()

    def _reason(self) -> BaseException | None:
        return self.server_error or self.last_error

    def _check_reader(self) -> None:
        if self.is_closed or self._reading_task is None or self._reading_task.done():
            raise self.server_error or errors.ConnectionClosedError()

    async def _process_err(self, err_msg: str) -> None:
        # Kept, because the end of the stream that follows would replace it as the reason.
        if "permissions violation" not in err_msg:
            self.server_error = errors.Error(f"nats: {err_msg.strip(chr(39))}")
        await super()._process_err(err_msg)

    async def _process_op_err(self, e: Exception) -> None:
        if self.is_connected:
            self._on_lost(self.server_error or e)
        await super()._process_op_err(e)

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        # nats-py uses TLS only where the server requires it, and would continue in plain text.
        if self._tls_wanted and initial_connection and not info.get("tls_required"):
            raise errors.SecureConnWantedError
        await super()._process_info(info, initial_connection=initial_connection)
