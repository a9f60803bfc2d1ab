"""Publishing over a bare socket with frames encoded beforehand: as fast as the broker confirms."""

from __future__ import annotations

import socket
from typing import Any

from pika import URLParameters, frame, spec

__all__ = ["publish_raw"]

_ACK = 21
"""Bytes of a frame that carries Basic.Ack."""


def publish_raw(
    url: str,
    queue: str,
    body: bytes,
    count: int,
    *,
    in_flight: int,
    batch: int = 100,
    mandatory: bool = False,
    **properties: Any,
) -> None:
    """Publish ``count`` persistent messages and wait until all are confirmed."""
    connection = _Connection(url)
    message = _message(queue, body, mandatory, properties)
    sent = confirmed = 0
    while confirmed < count:
        while sent < count and sent - confirmed < in_flight:
            number = min(batch, count - sent, in_flight - (sent - confirmed))
            connection.socket.sendall(message * number)
            sent += number
        confirmed = connection.confirmed()
    connection.socket.close()


class _Connection:
    """A connection that speaks just enough of the protocol."""

    def __init__(self, url: str) -> None:
        wanted = URLParameters(url)
        self.socket = socket.create_connection((wanted.host, wanted.port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        self._highest = 0
        credentials: Any = wanted.credentials
        login = f"\0{credentials.username}\0{credentials.password}".encode()
        self.socket.sendall(frame.ProtocolHeader().marshal())
        self._wait_for(spec.Connection.Start)
        self._send(0, spec.Connection.StartOk({}, "PLAIN", login.decode(), "en_US"))
        tune = self._wait_for(spec.Connection.Tune)
        self._send(0, spec.Connection.TuneOk(tune.channel_max, tune.frame_max, 0))
        self._send(0, spec.Connection.Open(wanted.virtual_host))
        self._wait_for(spec.Connection.OpenOk)
        self._send(1, spec.Channel.Open())
        self._wait_for(spec.Channel.OpenOk)
        self._send(1, spec.Confirm.Select())
        self._wait_for(spec.Confirm.SelectOk)

    def confirmed(self) -> int:
        """Wait for answers and return how many messages are confirmed by now."""
        data = self._buffer + self.socket.recv(65_536)
        whole = len(data) - len(data) % _ACK
        for at in range(0, whole, _ACK):
            # Both kinds count the same here: tags come in order, and "multiple" covers all before.
            tag = int.from_bytes(data[at + 11 : at + 19], "big")
            self._highest = self._highest + 1 if not data[at + 19] else tag
        self._buffer = data[whole:]
        return self._highest

    def _send(self, channel: int, method: Any) -> None:
        self.socket.sendall(frame.Method(channel, method).marshal())

    def _wait_for(self, kind: type[Any]) -> Any:
        while True:
            used, found = frame.decode_frame(self._buffer)
            if found is None:
                self._buffer += self.socket.recv(65_536)
                continue
            self._buffer = self._buffer[used:]
            method = getattr(found, "method", None)
            if isinstance(method, kind):
                return method


def _message(queue: str, body: bytes, mandatory: bool, properties: dict[str, Any]) -> bytes:
    """Return the three frames of a persistent message to a queue."""
    method = spec.Basic.Publish(exchange="", routing_key=queue, mandatory=mandatory)
    header = spec.BasicProperties(delivery_mode=2, **properties)
    parts = (frame.Method(1, method), frame.Header(1, len(body), header), frame.Body(1, body))
    return b"".join(part.marshal() for part in parts)
