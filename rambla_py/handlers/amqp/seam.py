"""This module is the one place that leans on what pika does not promise: how it emits and takes bytes.

``pika>=1.4,<1.5`` is pinned for it, and a test compares it with pika's own frames byte for byte.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

import pika

__all__ = ["PublishingConnection"]

Confirmed = Callable[[int, bool], None]
"""Called with a delivery tag, and whether it stands for all up to it."""

_ACK_SIZE: Final = 21
_ACK_METHOD: Final = 0x003C0050
_ack = struct.Struct(">QBB").unpack_from  # delivery tag, multiple, end of the frame


class PublishingConnection(pika.SelectConnection):
    """pika's connection with two short cuts: frames that are encoded already, and acks read in bulk.

    pika spends about 10 us on each ack: an object for the frame, one for the method, a search for callbacks.
    Here a run of acks costs 1 us each; every other frame takes pika's own road.
    """

    if TYPE_CHECKING:
        bytes_received: int
        _frame_buffer: bytes
        _transport: object | None

        def _output_marshaled_frames(self, marshaled_frames: Sequence[bytes]) -> None: ...
        def _get_write_buffer_size(self) -> int: ...

    def __init__(self, *args: Any, on_ack: Confirmed, channel_number: int = 1, **kwargs: Any) -> None:
        self._on_ack = on_ack
        self._ack_head = struct.pack(">BHII", 1, channel_number, _ACK_SIZE - 8, _ACK_METHOD)
        self.emitted = 0
        super().__init__(*args, **kwargs)

    def emit(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Hand frames to the transport, which writes them as soon as the socket takes them.

        Memory views are welcome: what a socket does not take at once is then not copied.
        """
        self.emitted += sum(map(len, pieces))
        self._output_marshaled_frames(cast("Sequence[bytes]", pieces))

    @property
    def written(self) -> int:
        """How many bytes of what was emitted the socket has taken; none of the last ones once it is gone."""
        return self.emitted - self._get_write_buffer_size() if self._transport is not None else 0

    def _on_data_available(self, data_in: bytes) -> None:
        if len(self._frame_buffer) >= _ACK_SIZE:  # in the midst of a larger frame
            super()._on_data_available(data_in)  # type: ignore[misc]  # private, so not in the stubs
            return
        head, start = self._ack_head, 0
        data = self._frame_buffer + data_in
        while data.startswith(head, start) and len(data) - start >= _ACK_SIZE:
            tag, multiple, end = _ack(data, start + 11)
            if end != 0xCE:
                break  # pika says what is wrong with it
            start += _ACK_SIZE
            self._on_ack(tag, multiple != 0)
        # Counted as pika does: the heartbeat asks whether bytes came.
        self.bytes_received += start
        self._frame_buffer = b""
        if start < len(data):
            super()._on_data_available(data[start:])  # type: ignore[misc]  # private, so not in the stubs
