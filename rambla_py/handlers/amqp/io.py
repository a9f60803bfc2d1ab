"""This module runs one connection to a broker on a thread of its own."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pika
from pika.adapters.select_connection import IOLoop
from pika.channel import Channel
from pika.connection import Parameters
from pika.exceptions import ChannelClosed

from rambla_py.errors import ConnectionLostError, DeliveryError
from rambla_py.handlers.amqp.answers import Answers
from rambla_py.handlers.amqp.declare import declaration_steps
from rambla_py.handlers.amqp.errors import as_lost
from rambla_py.handlers.amqp.logging import THREAD_NAME_END, quieten_pika
from rambla_py.handlers.amqp.parameters import address_of
from rambla_py.handlers.amqp.seam import PublishingConnection

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery
    from rambla_py.handler import Link
    from rambla_py.handlers.amqp.settings import AmqpOptions

__all__ = ["AmqpIo"]

_GOODBYE_S = 2.0
_FORCED_S = 1.0

Pieces = list[bytes | memoryview]


class AmqpIo:
    """One connection, one channel, one daemon thread that alone touches both.

    ``publish`` may be called from any thread; the link hears from the I/O thread when the connection is lost
    or blocked. What was handed over and not yet written when it is lost fails with ``ConnectionLostError``.
    """

    def __init__(self, parameters: Parameters, *, options: AmqpOptions, link: Link, name: str) -> None:
        self.parameters = parameters
        self.where = address_of(parameters)
        self.blocked: str | None = None
        self.frame_max = 0
        self.error: BaseException | None = None
        self._options, self._link = options, link
        self._inbox: deque[tuple[Pieces, Sequence[Delivery]]] = deque()
        self._answers = Answers()
        self._loop = IOLoop()
        self._connection: PublishingConnection | None = None
        self._channel: Channel | None = None
        self._awake = True
        self._running = True
        self._closing = False
        self._opened = False
        self._steps_left = 0
        self._ready = threading.Event()
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._run, name=name + THREAD_NAME_END, daemon=True)

    def __repr__(self) -> str:
        state = (
            "lost" if self.error else "closing" if self._closing else "open" if self._opened else "opening"
        )
        return f"<AmqpIo {self.where} {state}, {self._answers!r}>"

    # -- from any thread ------------------------------------------------------------------------------

    def open(self, timeout_s: float) -> None:
        """Connect, and wait until the channel is open, confirming, and all is declared.

        Raises ``AccessError`` where a person must act, ``ConnectionLostError`` otherwise.
        """
        quieten_pika()
        self._thread.start()
        self._ready.wait(timeout_s)
        if self._opened and self.error is None:
            return
        error = self.error or ConnectionLostError(f"{self.where}: no answer within {timeout_s:g} s")
        self.close()
        raise error

    def publish(self, pieces: Pieces, deliveries: Sequence[Delivery]) -> None:
        """Hand over the frames of some deliveries; each is settled later, on the I/O thread."""
        self._inbox.append((pieces, deliveries))
        if not self._awake:
            self._awake = True
            self._loop.add_callback_threadsafe(_nothing)
        if self.error is not None:
            self._refuse_inbox()

    def call(self, step: Callable[..., Any], timeout_s: float) -> None:
        """Run a call of pika's that takes a ``callback``, and wait for its answer; raises as ``open``."""
        answered = threading.Event()
        self._loop.add_callback_threadsafe(lambda: step(callback=lambda _: answered.set()))
        if not answered.wait(timeout_s):
            raise self.error or ConnectionLostError(f"{self.where}: no answer within {timeout_s:g} s")

    def ping(self, timeout_s: float) -> None:
        """Make a round trip; raises ``ConnectionLostError``, or ``DeliveryError`` while we are blocked."""
        channel = self._channel
        if self.error is not None or channel is None:
            raise self.error or ConnectionLostError(f"{self.where}: not connected")
        if self.blocked is not None:
            raise DeliveryError(f"{self.where}: the broker blocks publishers: {self.blocked}")
        self.call(lambda callback: channel.basic_qos(callback=callback), timeout_s)

    def close(self) -> None:
        """Say goodbye, then hang up, within about three seconds; may be called again, and after a loss."""
        # The thread of a parent process did not come along with a fork, and its socket is not ours to close.
        if os.getpid() != self._pid or threading.current_thread() is self._thread:
            return
        self._closing = True
        if self._thread.is_alive():
            self._loop.add_callback_threadsafe(self._say_goodbye)
            self._thread.join(_GOODBYE_S)
        if self._thread.is_alive():
            self._running = False
            self._loop.add_callback_threadsafe(_nothing)
            self._thread.join(_FORCED_S)

    # -- the I/O thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._connect()
            self._turn()
            self._ended(None)
        except BaseException as error:
            self._ended(error)
        finally:
            self._hang_up()
            self._ready.set()

    def _turn(self) -> None:
        loop = self._loop
        loop.activate_poller()
        try:
            while self._running:
                # From here on a publisher must wake us; what came before that is taken now.
                self._awake = False
                if self._inbox:
                    self._send()
                loop.poll()
                self._awake = True
                loop.process_timeouts()
                if self._inbox:
                    self._send()
                if self._answers.unwritten and self._connection is not None:
                    self._answers.on_written(self._connection.written)
        finally:
            loop.deactivate_poller()

    def _send(self) -> None:
        connection, inbox = self._connection, self._inbox
        if connection is None or not self._opened:
            return
        if self.error is not None or self._closing:
            self._refuse_inbox()
            return
        confirm = self._options.confirm
        while inbox:
            try:
                pieces, deliveries = inbox.popleft()
            except IndexError:
                return
            if confirm:
                self._answers.await_confirm(deliveries)
                connection.emit(pieces)
            else:
                connection.emit(pieces)
                self._answers.await_write(deliveries, connection.emitted)

    def _connect(self) -> None:
        self._connection = PublishingConnection(
            self.parameters,
            on_open_callback=self._on_open,
            on_open_error_callback=self._on_failed,
            on_close_callback=self._on_failed,
            custom_ioloop=self._loop,
            on_ack=self._answers.on_ack,
        )
        self._connection.add_on_connection_blocked_callback(self._on_blocked)
        self._connection.add_on_connection_unblocked_callback(self._on_unblocked)

    def _on_open(self, connection: pika.SelectConnection) -> None:
        connection.channel(channel_number=1, on_open_callback=self._on_channel_open)

    def _on_channel_open(self, channel: Channel) -> None:
        self._channel = channel
        channel.add_on_close_callback(self._on_channel_closed)
        channel.add_on_return_callback(self._answers.on_return)
        steps = declaration_steps(channel, self._options)
        if self._options.confirm:
            steps.append(lambda callback: channel.confirm_delivery(self._answers.on_confirm, callback))
        self._steps_left = len(steps)
        for step in steps:
            step(callback=self._on_step_done)
        if not steps:
            self._on_ready()

    def _on_step_done(self, _answer: Any) -> None:
        self._steps_left -= 1
        if not self._steps_left:
            self._on_ready()

    def _on_ready(self) -> None:
        if self._connection is not None:
            self.frame_max = self._connection.params.frame_max
        self._opened = True
        self._ready.set()

    def _on_blocked(self, _connection: Any, frame: Any) -> None:
        self.blocked = str(frame.method.reason)
        self._link.hold()

    def _on_unblocked(self, _connection: Any, _frame: Any) -> None:
        self.blocked = None
        self._link.release()

    # -- the end --------------------------------------------------------------------------------------

    def _on_channel_closed(self, _channel: Channel, reason: BaseException) -> None:
        if self._closing:
            return
        self._answers.on_channel_closed(reason)
        self._lose_for(reason)
        self._say_goodbye()

    def _on_failed(self, _connection: Any, reason: BaseException | None) -> None:
        if not self._closing:
            self._lose_for(reason)
        self._running = False

    def _lose_for(self, reason: BaseException | None) -> None:
        what = "the channel was closed" if isinstance(reason, ChannelClosed) else "the connection was lost"
        self._lose(as_lost(reason, where=self.where, during=what if self._opened else "cannot connect"))

    def _lose(self, error: BaseException) -> None:
        if self.error is not None:
            return
        self.error = error
        self._refuse_inbox()
        self._ready.set()
        if self._opened and not self._closing:
            self._link.lost(error)

    def _refuse_inbox(self) -> None:
        """Fail what was never written; from any thread, for a deque gives each item to one."""
        while self._inbox:
            with contextlib.suppress(IndexError):
                for delivery in self._inbox.popleft()[1]:
                    delivery.failed(ConnectionLostError(f"{self.where}: lost before the message was written"))

    def _say_goodbye(self) -> None:
        connection = self._connection
        if connection is None or connection.is_closed:
            self._running = False
        elif not connection.is_closing:
            connection.close()

    def _ended(self, error: BaseException | None) -> None:
        self._lose(as_lost(error, where=self.where))
        # The worker has seen to these already, unless it closed the connection itself.
        self._answers.on_lost(self.error)

    def _hang_up(self) -> None:
        connection = self._connection
        with contextlib.suppress(Exception):
            transport = getattr(connection, "_transport", None)
            if transport is not None:
                transport.abort()
                self._loop.process_timeouts()
        with contextlib.suppress(Exception):
            self._loop.close()


def _nothing() -> None:
    """Wake the loop, which then looks by itself."""
