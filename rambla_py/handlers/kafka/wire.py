"""This module is one producer of librdkafka with the thread that hears its reports."""

from __future__ import annotations

import ctypes
import logging
import os
import threading
import time
import weakref
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from confluent_kafka import KafkaError, KafkaException, Producer

from rambla_py.errors import ConnectionLostError, PayloadTooLargeError, PermanentError
from rambla_py.handlers.kafka.errors import about_the_batch, is_refusal, lost_error, report_error
from rambla_py.handlers.kafka.records import RecordMaker, record_size
from rambla_py.handlers.kafka.settings import KafkaSettings, producer_config

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery
    from rambla_py.handler import Link

__all__ = ["KafkaRecord", "KafkaWire"]

_POLL_S = 0.1
_BUSY_POLL_S = 0.01
_PROBE_S = 0.2
# A probe that was given up is not heard when it is answered after all: the next one has twice the time.
_LONGEST_PROBE_S = 2.0
_FLUSH_S = 2.0

log = logging.getLogger("rambla_py.kafka")

# Every wire of this process; a forked child must never let go of the producers in it.
_wires: weakref.WeakSet[KafkaWire] = weakref.WeakSet()


class KafkaRecord(msgspec.Struct, frozen=True, gc=False):
    """Where a message is, once the brokers have it."""

    topic: str
    partition: int
    offset: int


class _Quiet:
    """Has librdkafka's own lines logged as DEBUG: what matters of them reaches the worker as an error."""

    def log(self, level: int, text: str, *args: Any) -> None:
        log.debug(text, *args)


class KafkaWire:
    """A producer for one worker: ``publish`` from its thread, outcomes from the wire's own.

    While no broker can be reached the link is held; librdkafka reconnects, and with ``acks = "all"`` sends
    again what was not confirmed, without a duplicate. After ``outage_s`` the connection counts as lost.
    """

    def __init__(self, settings: KafkaSettings, *, topic: str, link: Link, name: str) -> None:
        self.where = ",".join(settings.server_list())
        self._settings, self._topic, self._link = settings, topic, link
        self._pid = os.getpid()
        self._records = RecordMaker(topic)
        self._trouble: KafkaError | None = None
        self._all_down = False
        self._down_since: float | None = None
        self._probe_s = _PROBE_S
        self._open = False
        self._closing = False
        self._lost: ConnectionLostError | None = None
        self._lent = False
        self._room = threading.Event()
        self._alone: Producer | None = None
        self._producer = self._make({})
        _wires.add(self)
        self._thread = threading.Thread(target=self._listen, name=f"{name} kafka reports", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<KafkaWire {self.where} in flight={len(self._producer)}{' lost' if self._lost else ''}>"

    @property
    def producer(self) -> Producer:
        """The driver's own object; its reports are heard by this wire's thread."""
        self._lent = True
        return self._producer

    def open(self, timeout_s: float) -> None:
        """Wait until a broker has answered; raises ``ConnectionLostError`` or ``AccessError``."""
        error = self._reach(timeout_s)
        if error is not None:
            raise error
        self._open, self._all_down = True, False

    def ping(self, timeout_s: float) -> None:
        """Ask a broker for the topic; raises when none answers in time."""
        if self._lost is not None:
            raise self._lost
        error = self._reach(timeout_s)
        if error is not None:
            raise error

    def publish(self, deliveries: Sequence[Delivery]) -> None:
        """Hand the deliveries to the driver; one that it does not take fails alone."""
        produce, record, report = self._producer.produce, self._records.record, self._report
        for delivery in deliveries:
            try:
                topic, value, key, partition, timestamp, headers = record(delivery)
                produce(topic, value, key, partition, partial(report, delivery), None, timestamp, headers)
            except BufferError:
                self._publish_with_room(delivery)
            except KafkaException as error:
                delivery.failed(self._not_taken(delivery, error.args[0]))
            except Exception as error:  # what a payload's own code raises is the failure of its message alone
                delivery.failed(error)

    def close(self) -> None:
        """Let go of what has no answer; may be called twice, from any thread.

        What a callable produced by itself is flushed for a moment. What is ours is not: it has its outcome,
        and would come late, and perhaps twice.
        """
        if self._closing or os.getpid() != self._pid:
            return
        if self._lent and self._lost is None and self._down_since is None and self._open:
            self._flush()
        self._closing = True
        self._room.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(_FLUSH_S)

    def _flush(self) -> None:
        end = time.monotonic() + _FLUSH_S
        # Piece by piece: flush would wait out its time when the last report is served by our thread.
        while len(self._producer) and time.monotonic() < end:
            self._producer.flush(_BUSY_POLL_S)

    def keep_for_good(self) -> None:
        """See that the producers are never freed: in a forked child that would wait for threads for ever."""
        for producer in (self._producer, self._alone):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(producer))

    # -- connecting ---------------------------------------------------------------------------------------

    def _make(self, further: dict[str, Any]) -> Producer:
        config = producer_config(self._settings) | further
        try:
            return Producer({**config, "error_cb": self._heard, "logger": _Quiet()})
        except KafkaException as error:
            # From None: the cause is the same text; a setting that is refused is named, its value is not.
            raise lost_error(error.args[0], where=self.where, during="cannot be used") from None

    def _reach(self, timeout_s: float) -> ConnectionLostError | None:
        """Ask for the topic until a broker answers; return the error when none can."""
        end, probe_s = time.monotonic() + timeout_s, _PROBE_S
        while True:
            left = end - time.monotonic()
            try:
                self._producer.list_topics(self._topic, timeout=max(0.01, min(left, probe_s)))
                return None
            except KafkaException as error:
                trouble = self._trouble
                if trouble is not None and (is_refusal(trouble) or (self._all_down and not self._open)):
                    return lost_error(trouble, where=self.where, during="cannot connect")
                if left <= 0:
                    text = f"no answer within {timeout_s:g} s"
                    return lost_error(trouble or error.args[0], where=self.where, during=text)
                probe_s = min(probe_s * 2, _LONGEST_PROBE_S)

    def _heard(self, error: KafkaError) -> None:
        """Take what librdkafka says of its connections, on the thread that polls."""
        if error.fatal() or error.code() == KafkaError._FATAL:
            self._lose(lost_error(error, where=self.where, during="the producer cannot go on"))
        elif error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._all_down = True
            self._trouble = self._trouble or error
            if self._open and self._down_since is None:
                self._down_since = time.monotonic()
                self._link.hold()
        else:
            self._trouble = error
            if self._open and is_refusal(error):
                self._lose(lost_error(error, where=self.where, during="access was refused"))

    def _lose(self, error: ConnectionLostError) -> None:
        if self._lost is None:
            self._lost = error
            self._room.set()
            self._link.lost(error)

    # -- the thread ---------------------------------------------------------------------------------------

    def _listen(self) -> None:
        while not self._closing:
            alone = self._alone
            busy = alone is not None and len(alone) > 0
            self._poll(self._producer, _BUSY_POLL_S if busy else _POLL_S)
            if alone is not None:
                self._poll(alone, 0)
            if self._down_since is not None and self._lost is None:
                self._look_again(self._down_since)
        for producer in (self._producer, self._alone):
            if producer is not None:
                with suppress(KafkaException):
                    producer.purge(blocking=False)
                    producer.poll(0)

    def _poll(self, producer: Producer, timeout_s: float) -> None:
        """Serve callbacks; a producer that cannot go on says so by raising, here as well."""
        try:
            producer.poll(timeout_s)
        except KafkaException as error:
            if self._lost is not None:
                time.sleep(_BUSY_POLL_S)  # it raises without waiting, until somebody closes
            self._lose(lost_error(error.args[0], where=self.where, during="the producer cannot go on"))

    def _look_again(self, down_since: float) -> None:
        try:
            self._producer.list_topics(self._topic, timeout=self._probe_s)
        except KafkaException:
            self._probe_s = min(self._probe_s * 2, _LONGEST_PROBE_S)
            if time.monotonic() - down_since >= self._settings.outage_s:
                text = f"no broker could be reached for {self._settings.outage_s:g} s"
                self._lose(lost_error(self._trouble, where=self.where, during=text))
            return
        self._recovered()

    def _recovered(self) -> None:
        self._down_since, self._all_down, self._trouble, self._probe_s = None, False, None, _PROBE_S
        self._link.release()

    # -- reports ------------------------------------------------------------------------------------------

    def _report(self, delivery: Delivery, error: KafkaError | None, message: Any) -> None:
        if error is None:
            delivery.ok(KafkaRecord(message.topic(), message.partition(), message.offset()))
        elif about_the_batch(error):
            self._publish_alone(delivery)
        else:
            delivery.failed(report_error(error))
        self._room.set()

    def _report_alone(self, delivery: Delivery, error: KafkaError | None, message: Any) -> None:
        if error is None:
            delivery.ok(KafkaRecord(message.topic(), message.partition(), message.offset()))
        else:
            delivery.failed(report_error(error))

    def _publish_alone(self, delivery: Delivery) -> None:
        """Send a message by itself: a broker refuses a batch as a whole for one message in it."""
        try:
            if self._alone is None:
                self._alone = self._make({"batch.num.messages": 1, "linger.ms": 0})
            topic, value, key, partition, timestamp, headers = self._records.record(delivery)
            answer = partial(self._report_alone, delivery)
            self._alone.produce(topic, value, key, partition, answer, None, timestamp, headers)
        except (KafkaException, BufferError, ConnectionLostError) as error:
            delivery.failed(ConnectionLostError(f"kafka at {self.where}: could not be sent alone: {error}"))

    def _publish_with_room(self, delivery: Delivery) -> None:
        """Wait for room in the driver's queue: the mailbox is the place where messages wait."""
        while True:
            self._room.clear()
            if self._closing or self._lost is not None:
                delivery.failed(self._lost or ConnectionLostError(f"kafka at {self.where}: closed"))
                return
            topic, value, key, partition, timestamp, headers = self._records.record(delivery)
            answer = partial(self._report, delivery)
            try:
                self._producer.produce(topic, value, key, partition, answer, None, timestamp, headers)
                return
            except BufferError:
                self._room.wait(_POLL_S)

    def _not_taken(self, delivery: Delivery, error: KafkaError) -> Exception:
        """Return why the driver did not take a message; nothing of it was sent."""
        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            size = record_size(self._records.record(delivery))
            limit = self._settings.max_message_bytes
            return PayloadTooLargeError(size, limit, "max_message_bytes, key and headers included,")
        if error.fatal() or error.code() == KafkaError._FATAL:
            lost = lost_error(error, where=self.where, during="the producer cannot go on")
            self._lose(lost)
            return lost
        mapped = report_error(error)
        return mapped if mapped.retryable else PermanentError(str(mapped))


def _keep_those_of_the_parent() -> None:
    for wire in list(_wires):
        wire.keep_for_good()
    _wires.clear()


os.register_at_fork(after_in_child=_keep_those_of_the_parent)
