"""A producer of librdkafka with the thread that serves its reports."""

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
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.cimpl import Producer

from rambla_py._internal.side_threads import run_on_thread
from rambla_py.errors import ConnectionLostError, DeliveryError, PayloadTooLargeError, PermanentError
from rambla_py.handlers._encoding import encoding_error
from rambla_py.handlers.kafka.driver_config import QuietLogger
from rambla_py.handlers.kafka.encode import RecordMaker, record_size
from rambla_py.handlers.kafka.errors import about_the_batch, is_refusal, lost_error, report_error
from rambla_py.handlers.kafka.in_turn import InTurn
from rambla_py.handlers.kafka.preflight import look
from rambla_py.handlers.kafka.settings import KafkaSettings, producer_config

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery
    from rambla_py.handler import Link, Preflight

__all__ = ["KafkaRecord", "KafkaConnection"]

_POLL_S = 0.1
_BUSY_POLL_S = 0.01
_PROBE_S = 0.2
# The late answer to an abandoned probe is discarded, so the next probe waits twice as long.
_LONGEST_PROBE_S = 2.0
_FLUSH_S = 2.0

# Settings of the producers of messages that are sent alone. One whose batch had no answer is sent once, with
# nothing else on the connection (``InTurn``), which may break; a retry of it would hold up the others.
_ALONE: dict[str, dict[str, Any]] = {
    "refused": {"batch.num.messages": 1, "linger.ms": 0},
    "single": {
        "batch.num.messages": 1,
        "linger.ms": 0,
        "enable.idempotence": False,
        "message.send.max.retries": 0,
        "max.in.flight.requests.per.connection": 1,
    },
}

log = logging.getLogger("rambla_py.handlers.kafka")

# Every connection of this process: a forked child must never free the producers in it.
_connections: weakref.WeakSet[KafkaConnection] = weakref.WeakSet()


class KafkaRecord(msgspec.Struct, frozen=True, gc=False):
    """Where a message is, once the brokers have it."""

    topic: str
    partition: int
    offset: int


class KafkaConnection:
    """A producer for one worker: ``publish`` runs on the worker's thread, outcomes come from its own.

    While no broker can be reached the link is held; librdkafka reconnects, and with ``acks = "all"`` sends
    again what was not confirmed, without a duplicate. After ``outage_s`` the connection counts as lost.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        topic: str,
        link: Link,
        name: str,
        asks_topic: bool = True,
        extra: dict[str, Any] | None = None,
    ) -> None:
        self.where = ",".join(settings.server_list())
        self._settings, self._topic, self._link, self._extra = settings, topic, link, extra
        # To ask for a topic by name creates it on brokers that create topics.
        self._asked: dict[str, Any] = {"topic": topic} if asks_topic else {}
        self._pid = os.getpid()
        self._records = RecordMaker(topic)
        self._last_error: KafkaError | None = None
        self._all_down = False
        self._down_since: float | None = None
        self._probe_s = _PROBE_S
        self._open = False
        self._closing = False
        self._lost: ConnectionLostError | None = None
        self._lent = False
        self._room = threading.Event()
        self._further: dict[str, Producer] = {}
        self._in_turn = InTurn(link, lambda delivery: self._publish_alone(delivery, "single"))
        self._made: Producer | None = self._make({})
        _connections.add(self)
        self._thread_id = 0
        self._thread = run_on_thread(self._listen, f"{name} kafka reports")

    def __repr__(self) -> str:
        lost = ", lost" if self._lost else ""
        state = "closed" if self._made is None else f"in flight={len(self._made)}"
        return f"<KafkaConnection {self.where} {state}{lost}>"

    @property
    def producer(self) -> Producer:
        """The driver's own object; its reports are served by this connection's thread."""
        self._lent = True
        return self._producer

    @property
    def _producer(self) -> Producer:
        if self._made is None:
            raise ConnectionLostError(f"kafka at {self.where}: closed")
        return self._made

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

    def preflight(self, report: Preflight, timeout_s: float) -> None:
        """Report what would make every message fail."""
        try:
            look(producer_config(self._settings), self.where, self._topic, report, timeout_s)
        except KafkaException as error:
            raise lost_error(error.args[0], where=self.where, during="cannot be asked for topics") from None

    def publish(self, deliveries: Sequence[Delivery]) -> None:
        """Hand the deliveries to the driver; one that it does not accept fails alone."""
        produce, record, report = self._producer.produce, self._records.record, self._report
        for delivery in deliveries:
            if delivery.attempts > 1 and delivery.alone:
                self._in_turn.add(delivery)
                continue
            try:
                topic, value, key, partition, timestamp, headers = record(delivery)
                produce(topic, value, key, partition, partial(report, delivery), None, timestamp, headers)
            except BufferError:
                self._publish_with_room(delivery)
            except KafkaException as error:
                delivery.failed(self._not_accepted(delivery, error.args[0]))
            except Exception as error:  # what a payload's own code raises fails its message alone
                delivery.failed(encoding_error(error))

    def close(self) -> None:
        """Close, and abandon what has no answer; may be called twice, from any thread.

        Messages of a callable payload are flushed for a moment. Deliveries are not: they have their outcome,
        and would arrive late, perhaps twice.
        """
        if self._closing or os.getpid() != self._pid:
            return
        if self._lent and self._lost is None and self._down_since is None and self._open:
            self._flush()
        self._closing = True
        self._in_turn.close()
        self._room.set()
        if threading.get_ident() != self._thread_id:
            self._thread.join(_FLUSH_S)

    def _flush(self) -> None:
        end = time.monotonic() + _FLUSH_S
        # In short steps: flush would wait until its time-out when our thread serves the last report.
        while len(self._producer) and time.monotonic() < end:
            self._producer.flush(_BUSY_POLL_S)

    def keep_producers(self) -> None:
        """Never free the producers: in a forked child that would wait for ever for threads."""
        for producer in (self._made, *self._further.values()):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(producer))

    # -- connecting ---------------------------------------------------------------------------------------

    def _make(self, further: dict[str, Any]) -> Producer:
        config = producer_config(self._settings) | further
        try:
            return Producer({**config, "error_cb": self._on_error, "logger": QuietLogger()})
        except KafkaException as error:
            # From None: the cause has the same text; it names a refused setting, not its value.
            raise lost_error(error.args[0], where=self.where, during="cannot be used") from None

    def _reach(self, timeout_s: float) -> ConnectionLostError | None:
        """Ask for the topic until a broker answers; return an error when none does."""
        end, probe_s = time.monotonic() + timeout_s, _PROBE_S
        while True:
            left = end - time.monotonic()
            try:
                self._producer.list_topics(timeout=max(0.01, min(left, probe_s)), **self._asked)
                return None
            except KafkaException as error:
                trouble = self._last_error
                if trouble is not None and (is_refusal(trouble) or (self._all_down and not self._open)):
                    return lost_error(trouble, where=self.where, during="cannot connect")
                if left <= 0:
                    text = f"no answer within {timeout_s:g} s"
                    return lost_error(trouble or error.args[0], where=self.where, during=text)
                probe_s = min(probe_s * 2, _LONGEST_PROBE_S)

    def _on_error(self, error: KafkaError) -> None:
        """Handle librdkafka's error about a connection, on the thread that polls."""
        if error.fatal() or error.code() == KafkaError._FATAL:
            self._lose(lost_error(error, where=self.where, during="the producer cannot continue"))
        elif error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._all_down = True
            self._last_error = self._last_error or error
            if self._open and self._down_since is None:
                self._down_since = time.monotonic()
                self._link.hold()
        else:
            self._last_error = error
            if self._open and is_refusal(error):
                self._lose(lost_error(error, where=self.where, during="access was refused"))

    def _lose(self, error: ConnectionLostError) -> None:
        if self._lost is None:
            self._lost = error
            self._room.set()
            self._link.lost(error)

    # -- the thread ---------------------------------------------------------------------------------------

    def _listen(self) -> None:
        self._thread_id = threading.get_ident()
        try:
            self._serve()
        except BaseException as error:  # without this thread no report would arrive any more
            lost = ConnectionLostError(f"kafka at {self.where}: the reporting thread ended: {error!r}")
            lost.__cause__ = error
            self._lose(lost)
        finally:
            self._purge()
            # The producer keeps its sockets, and reconnects, until it is freed. It refers to this object, so
            # while this object refers to it, only the garbage collector frees them.
            self._made, self._further = None, {}

    def _serve(self) -> None:
        while not self._closing:
            if self._further:
                self._poll_all()
            else:
                self._poll(self._producer, _POLL_S)
            if self._down_since is not None and self._lost is None:
                self._probe(self._down_since)

    def _poll_all(self) -> None:
        further = list(self._further.values())
        busy = any(len(producer) for producer in further)
        self._poll(self._producer, _BUSY_POLL_S if busy else _POLL_S)
        for producer in further:
            self._poll(producer, 0)

    def _purge(self) -> None:
        for producer in (self._made, *self._further.values()):
            if producer is not None:
                with suppress(KafkaException):
                    producer.purge(blocking=False)
                    producer.poll(0)

    def _poll(self, producer: Producer, timeout_s: float) -> None:
        """Serve callbacks; a producer that cannot continue raises here as well."""
        try:
            producer.poll(timeout_s)
        except KafkaException as error:
            if self._lost is not None:
                time.sleep(_BUSY_POLL_S)  # it raises without waiting until the connection is closed
            self._lose(lost_error(error.args[0], where=self.where, during="the producer cannot continue"))
        except Exception:  # raised by the report function of a callable payload
            text = "kafka at %s: a report function raised"
            log.warning(text, self.where, exc_info=True, extra=self._extra)

    def _probe(self, down_since: float) -> None:
        try:
            self._producer.list_topics(timeout=self._probe_s, **self._asked)
        except KafkaException:
            self._probe_s = min(self._probe_s * 2, _LONGEST_PROBE_S)
            if time.monotonic() - down_since >= self._settings.outage_s:
                text = f"no broker could be reached for {self._settings.outage_s:g} s"
                self._lose(lost_error(self._last_error, where=self.where, during=text))
            return
        self._recovered()

    def _recovered(self) -> None:
        self._down_since, self._all_down, self._last_error, self._probe_s = None, False, None, _PROBE_S
        self._link.release()

    # -- reports ------------------------------------------------------------------------------------------

    def _report(self, delivery: Delivery, error: KafkaError | None, message: Any) -> None:
        if error is None:
            delivery.ok(KafkaRecord(message.topic(), message.partition(), message.offset()))
        elif about_the_batch(error):
            self._publish_alone(delivery, "refused")
        else:
            delivery.failed(self._report_error(delivery, error, together=True))
        self._room.set()

    def _report_alone(self, delivery: Delivery, error: KafkaError | None, message: Any) -> None:
        if error is None:
            delivery.ok(KafkaRecord(message.topic(), message.partition(), message.offset()))
        else:
            delivery.failed(self._report_error(delivery, error))

    def _report_single(self, delivery: Delivery, error: KafkaError | None, message: Any) -> None:
        self._report_alone(delivery, error, message)
        self._in_turn.answered()

    def _publish_alone(self, delivery: Delivery, kind: str) -> bool:
        """Send a message alone, by a producer of this kind: another of its batch may have been the cause.

        Returns False if it has ended already.
        """
        report = self._report_single if kind == "single" else self._report_alone
        try:
            producer = self._further.get(kind)
            if producer is None:
                producer = self._further[kind] = self._make(_ALONE[kind])
            topic, value, key, partition, timestamp, headers = self._records.record(delivery)
            producer.produce(
                topic, value, key, partition, partial(report, delivery), None, timestamp, headers
            )
        except (KafkaException, BufferError, ConnectionLostError) as error:
            delivery.failed(ConnectionLostError(f"kafka at {self.where}: could not be sent alone: {error}"))
            return False
        except Exception as error:  # what a payload's own code raises fails its message alone
            delivery.failed(encoding_error(error))
            return False
        return True

    def _publish_with_room(self, delivery: Delivery) -> None:
        """Wait for room in the driver's queue, so that messages queue in the mailbox."""
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

    def _report_error(
        self, delivery: Delivery, error: KafkaError, *, together: bool = False
    ) -> DeliveryError:
        return report_error(error, topic=delivery.options.topic or self._topic, together=together)

    def _not_accepted(self, delivery: Delivery, error: KafkaError) -> Exception:
        """Return why the driver did not accept a message; nothing of it was sent."""
        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            size = record_size(self._records.record(delivery))
            limit = self._settings.max_message_bytes
            return PayloadTooLargeError(size, limit, "max_message_bytes, key and headers included,")
        if error.fatal() or error.code() == KafkaError._FATAL:
            lost = lost_error(error, where=self.where, during="the producer cannot continue")
            self._lose(lost)
            return lost
        mapped = self._report_error(delivery, error)
        return mapped if mapped.retryable else PermanentError(str(mapped))


def _keep_producers_of_parent() -> None:
    for connection in list(_connections):
        connection.keep_producers()
    _connections.clear()


os.register_at_fork(after_in_child=_keep_producers_of_parent)
