"""pika's connection without a network: a transport that keeps what is written."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pika
from pika import frame, spec
from pika.adapters.select_connection import IOLoop

from rambla_py.handlers.amqp.pika_private import PublishingConnection


class Transport:
    """Takes bytes as pika's own transports do; ``held`` says how many the socket has not taken."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.held = 0

    def write(self, data: bytes) -> None:
        self.writes.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        return self.held

    @property
    def written(self) -> bytes:
        return b"".join(self.writes)


class Wire:
    """A connection with its transport, as it is after the handshake."""

    def __init__(
        self, *, frame_max: int = 131_072, on_ack: Callable[[int, bool], None] = lambda tag, multiple: None
    ) -> None:
        self.loop = IOLoop()
        self.transport = Transport()
        self.connection: Any = PublishingConnection(
            pika.ConnectionParameters(frame_max=frame_max),
            custom_ioloop=self.loop,
            internal_connection_workflow=False,
            on_ack=on_ack,
        )
        self.connection._proto_connection_made(self.transport)
        self.connection._body_max_length = self.connection._get_body_frame_max_length()
        self.transport.writes.clear()  # the protocol header

    def receive(self, *chunks: bytes) -> None:
        for chunk in chunks:
            self.connection._proto_data_received(chunk)

    def close(self) -> None:
        self.loop.close()


def method(which: Any, channel_number: int = 1) -> bytes:
    """Return a method frame as pika encodes it."""
    return frame.Method(channel_number, which).marshal()


def header_of(frames: bytes) -> spec.BasicProperties:
    """Read the content header that follows the method frame."""
    start = 8 + struct.unpack_from(">I", frames, 3)[0]
    size = struct.unpack_from(">I", frames, start + 3)[0]
    properties = spec.BasicProperties()
    properties.decode(frames[start + 7 + 12 : start + 7 + size])
    return properties
