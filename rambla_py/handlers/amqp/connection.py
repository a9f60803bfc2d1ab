"""One connection to a broker, driven by an I/O thread of its own."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pika
from pika.adapters.select_connection import IOLoop
from pika.channel import Channel
from pika.connection import Parameters
from pika.exceptions import ChannelClosedByBroker

from rambla_py._internal.side_threads import Running, run_on_thread
from rambla_py.errors import ConnectionLostError, UnavailableError
from rambla_py.handlers.amqp.confirms import Confirms, SingleChannels, most_channels
from rambla_py.handlers.amqp.encode import FrameEncoder, Inbox, SizeLimit
from rambla_py.handlers.amqp.errors import BROKER_LIMIT, connect_error, lost_error
from rambla_py.handlers.amqp.pika_private import (
    THREAD_NAME_END,
    IoServices,
    PublishingConnection,
    quieten_pika,
)
from rambla_py.handlers.amqp.settings import AmqpOptions, address_of, declaration_steps

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery
    from rambla_py.handler import Link

__all__ = ["AmqpConnection"]

_MAIN = 1  # the number of the channel that messages share

_GOODBYE_S = 2.0
_FORCED_S = 1.0


class AmqpConnection:
    """One connection, its channels, and one daemon thread, which alone touches them.

    If the broker closes the channel, a new one is opened on the same connection. Messages that it may have
    been closed for are unknown; they are sent again each on a channel of its own (``SingleChannels``).
    ``publish`` and ``ping`` may be called from any thread; the link is notified from the I/O thread when the
    connection is lost or blocked. While the broker blocks publishers, nothing more is written. What was
    handed over and not written when the connection is lost fails with ``ConnectionLostError``.
    """

    def __init__(
        self,
        parameters: Parameters,
        *,
        options: AmqpOptions,
        link: Link,
        name: str,
        limit: SizeLimit | None = None,
        check_user_id: bool = True,
        declares: bool = True,
        extra: dict[str, Any] | None = None,
    ) -> None:
        self.parameters = parameters
        self.where = address_of(parameters)
        self.blocked: str | None = None
        self.error: BaseException | None = None
        self._options, self._link, self._limit = options, link, limit or SizeLimit()
        self._declares = declares
        self._user = getattr(parameters.credentials, "username", None) if check_user_id else None
        self._encoder: FrameEncoder
        self._unwritten = Inbox(link)
        self._inbox = self._unwritten.batches
        self._extra = extra
        self._confirms = Confirms(options, extra)
        self._singles: SingleChannels | None = None
        self._loop = IOLoop()
        self._connection: PublishingConnection | None = None
        self._channel: Channel | None = None
        self._awake = True
        self._running = True
        self._closing = False
        self._opened = False
        self._reopening = False
        self._steps_left = 0
        self._ready = threading.Event()
        self._changed = threading.Condition()  # notified when the connection is blocked or ends
        self._pid = os.getpid()
        self._name = name + THREAD_NAME_END
        self._thread: Running | None = None
        self._thread_id = 0

    def __repr__(self) -> str:
        state = (
            "lost" if self.error else "closing" if self._closing else "open" if self._opened else "opening"
        )
        return f"<AmqpConnection {self.where} {state}, {self._confirms!r}>"

    # -- from any thread ------------------------------------------------------------------------------

    def open(self, timeout_s: float) -> None:
        """Connect, and wait until the channel is open, confirming, and everything is declared.

        Raises ``AccessError`` where an operator must act, ``ConnectionLostError`` otherwise.
        """
        quieten_pika()
        self._thread = run_on_thread(self._run, self._name)
        self._ready.wait(timeout_s)
        if self._opened and self.error is None:
            self._encoder = self._new_encoder()
            return
        error = self.error or self._silent(timeout_s)
        self.close()
        raise error

    def publish(self, deliveries: Sequence[Delivery]) -> None:
        """Hand over some deliveries; each is settled later, on the I/O thread.

        Only one thread, the worker's, may call this.
        """
        self._inbox.extend(self._encoder.batches(deliveries))
        if not self._awake:
            self._awake = True
            self._loop.add_callback_threadsafe(_nothing)
        if self.error is not None:
            self._unwritten.refuse(self.where)

    def ping(self, timeout_s: float) -> None:
        """Publish a message that no queue takes, on a channel of its own, and wait for its confirm.

        RabbitMQ tells a connection only after it has published that it blocks publishers; hence the message.
        Raises ``UnavailableError`` if publishers are blocked, ``ConnectionLostError`` without an answer.
        """
        answered: list[bool] = []
        if self.error is None and self.blocked is None:
            self._loop.add_callback_threadsafe(lambda: self._probe(lambda: self._notify(answered)))
        with self._changed:
            self._changed.wait_for(lambda: answered or self.blocked or self.error, timeout_s)
        if self.blocked is not None:
            raise UnavailableError(f"{self.where}: the broker blocks publishers: {self.blocked}")
        if self.error is not None or not answered:
            raise self.error or self._silent(timeout_s)

    def close(self) -> None:
        """Close politely, else abruptly, within about three seconds; may be called again and after a loss."""
        # After a fork, the thread is the parent's, and so is the socket.
        if os.getpid() != self._pid or threading.get_ident() == self._thread_id:
            return
        self._closing = True
        if self._thread is None:
            return
        if self._thread.is_alive() and self.blocked is None:  # a broker that blocks us does not read either
            self._loop.add_callback_threadsafe(self._say_goodbye)
            self._thread.join(_GOODBYE_S)
        if self._thread.is_alive():
            self._running = False
            self._loop.add_callback_threadsafe(_nothing)
            self._thread.join(_FORCED_S)

    def _silent(self, timeout_s: float) -> ConnectionLostError:
        return ConnectionLostError(f"{self.where}: no answer within {timeout_s:g} s")

    def _notify(self, answered: list[bool] | None = None) -> None:
        with self._changed:
            if answered is not None:
                answered.append(True)
            self._changed.notify_all()

    def _new_encoder(self, channel_number: int = _MAIN) -> FrameEncoder:
        frame_max = self._connection.params.frame_max if self._connection is not None else 131_072
        return FrameEncoder(
            channel_number=channel_number,
            frame_max=frame_max,
            limit=self._limit,
            user=self._user,
            shared=channel_number == _MAIN and self._singles is not None,
        )

    # -- the I/O thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        self._thread_id = threading.get_ident()
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
                # From here on a publisher must wake the loop; what came before that is sent now.
                self._awake = False
                if self._inbox:
                    self._send()
                loop.poll()
                self._awake = True
                loop.process_timeouts()
                if self._inbox:
                    self._send()
                if self._confirms.unwritten and self._connection is not None:
                    self._confirms.on_written(self._connection.written)
        finally:
            loop.deactivate_poller()

    def _send(self) -> None:
        connection, inbox = self._connection, self._inbox
        if connection is None or not self._opened or self._reopening:
            return
        if self.error is not None or self._closing:
            self._unwritten.refuse(self.where)
            return
        if self.blocked is not None:
            self._defer_inbox()
            return
        confirm, confirms = self._options.confirm, self._confirms
        while inbox and confirms.may_write(inbox[0]):
            try:
                batch = inbox.popleft()
            except IndexError:  # refused by the thread that published it
                return
            if batch.alone and self._singles is not None:
                self._singles.publish(batch.deliveries)
            elif confirm:
                confirms.await_confirm(batch)
                connection.emit(batch.pieces)
            else:
                connection.emit(batch.pieces)
                confirms.await_write(batch.deliveries, connection.emitted)

    def _connect(self) -> None:
        self._connection = PublishingConnection(
            self.parameters,
            on_open_callback=self._on_open,
            on_open_error_callback=self._on_failed,
            on_close_callback=self._on_failed,
            custom_ioloop=IoServices(self._loop),  # type: ignore[arg-type]  # as pika passes it
            on_ack=self._confirms.on_ack,
        )
        self._connection.add_on_connection_blocked_callback(self._on_blocked)
        self._connection.add_on_connection_unblocked_callback(self._on_unblocked)

    def _on_open(self, connection: pika.SelectConnection) -> None:
        most = most_channels(connection.params.channel_max) if self._options.confirm else 0
        if most and self._connection is not None:
            self._singles = SingleChannels(
                self._connection,
                most=most,
                confirms=lambda: Confirms(self._options, self._extra),
                encoder=self._new_encoder,
                refused=self._lower_limit,
                later=self._loop.add_callback_threadsafe,
            )
        self._open_channel()

    def _open_channel(self) -> None:
        if self._connection is not None and self._connection.is_open:
            self._connection.channel(channel_number=_MAIN, on_open_callback=self._on_channel_open)

    def _on_channel_open(self, channel: Channel) -> None:
        self._channel = channel
        channel.add_on_close_callback(self._on_channel_closed)
        channel.add_on_return_callback(self._confirms.on_return)
        steps = declaration_steps(channel, self._options) if self._declares else []
        if self._options.confirm:
            steps.append(lambda callback: channel.confirm_delivery(self._confirms.on_confirm, callback))
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
        self._opened = True
        self._ready.set()
        if self._reopening:
            self._reopening = False
            self._unwritten.write_again(self._new_encoder())
            self._send()

    def _probe(self, done: Callable[[], None]) -> None:
        """Publish to a queue that does not exist; done when the broker confirms it or closes the channel."""

        def opened(channel: Channel) -> None:
            channel.add_on_close_callback(lambda *_: done())
            channel.confirm_delivery(lambda _: channel.close(), callback=lambda _: publish(channel))

        def publish(channel: Channel) -> None:
            channel.basic_publish("", f"rambla_py.ping.{secrets.token_hex(8)}", b"")

        if self._channel is None:  # pika would take its number
            self._loop.add_callback_threadsafe(lambda: self._probe(done))
        elif self._connection is not None and self._connection.is_open:
            self._connection.channel(on_open_callback=opened)

    # -- blocked --------------------------------------------------------------------------------------

    def _on_blocked(self, _connection: Any, frame: Any) -> None:
        self.blocked = str(frame.method.reason)
        self._link.hold()
        self._defer_inbox()
        self._notify()

    def _on_unblocked(self, _connection: Any, _frame: Any) -> None:
        self.blocked = None
        self._link.release()
        self._unwritten.resume(self._new_encoder())

    def _defer_inbox(self) -> None:
        self._unwritten.defer(self._singles.take_waiting() if self._singles is not None else ())

    # -- the end --------------------------------------------------------------------------------------

    def _on_channel_closed(self, _channel: Channel, reason: BaseException) -> None:
        if self._closing:
            return
        may_reopen = self._opened and not self._reopening and self._confirms.unconfirmed
        closed = self._confirms.on_channel_closed(reason)
        self._lower_limit(closed.limit)
        if may_reopen and self._singles is not None and isinstance(reason, ChannelClosedByBroker):
            self._reopen(self._singles, reason, closed.ignored)
            return
        for delivery in reversed(closed.ignored):  # each goes back to the head of the mailbox
            delivery.failed(ConnectionLostError("the broker closed the channel before the message"))
        self._lose_for(reason)
        self._say_goodbye()

    def _reopen(self, singles: SingleChannels, reason: BaseException, ignored: Sequence[Delivery]) -> None:
        """Open the channel again, with the declarations: what they name may be missing now."""
        self._reopening, self._channel = True, None
        self._unwritten.ignore(ignored)
        self._confirms.restart(lost_error(reason, where=self.where), ignored)
        singles.pause(True)

        # Only then has pika freed the channel's number.
        self._loop.add_callback_threadsafe(self._open_channel)
        self._loop.add_callback_threadsafe(lambda: singles.pause(False))

    def _lower_limit(self, limit: int | None) -> None:
        if limit is not None:
            self._limit.lower(limit, BROKER_LIMIT)

    def _on_failed(self, _connection: Any, reason: BaseException | None) -> None:
        if not self._closing:
            self._lose_for(reason)
        self._running = False

    def _lose_for(self, reason: BaseException | None) -> None:
        self._lose((lost_error if self._opened else connect_error)(reason, where=self.where))

    def _lose(self, error: BaseException) -> None:
        if self.error is not None:
            return
        self.error = error
        self._unwritten.refuse(self.where)
        self._ready.set()
        self._notify()
        if self._opened and not self._closing:
            self._link.lost(error)

    def _say_goodbye(self) -> None:
        connection = self._connection
        if connection is None or connection.is_closed:
            self._running = False
        elif not connection.is_closing:
            connection.close()

    def _ended(self, error: BaseException | None) -> None:
        self._lose_for(error)
        # The worker has settled these already, unless it closed the connection itself.
        self._confirms.on_lost(self.error)
        if self._singles is not None:
            self._singles.on_lost(self.error)

    def _hang_up(self) -> None:
        with contextlib.suppress(Exception):
            if self._connection is not None:
                self._connection.hang_up()
                self._loop.process_timeouts()
        with contextlib.suppress(Exception):
            self._loop.close()


def _nothing() -> None:
    """Wake the loop, which then checks the inbox."""
