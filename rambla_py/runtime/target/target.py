"""Target: one (service, channel) pair between publishers and workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rambla_py.delivery import LiveDelivery
from rambla_py.handler_levels import takes_runs
from rambla_py.runtime.target.admission import Admission
from rambla_py.runtime.target.backpressure import Backpressure
from rambla_py.runtime.target.batching import Batching
from rambla_py.runtime.target.completion import Completion
from rambla_py.runtime.target.counters import Counters
from rambla_py.runtime.target.delivery_log import DeliveryLog
from rambla_py.runtime.target.gathering import Gathering, home_of
from rambla_py.runtime.target.mailbox import Mailbox
from rambla_py.runtime.target.probing import Probing
from rambla_py.runtime.target.settlements import Settlements
from rambla_py.runtime.target.state import TargetState
from rambla_py.runtime.target.wakeup import TargetTimer, Wakeup
from rambla_py.serialization.wire_format import body_of

if TYPE_CHECKING:
    from rambla_py.config.schema import ChannelConfig
    from rambla_py.delivery import Delivery
    from rambla_py.runtime.target.collaborators import Collaborators
    from rambla_py.runtime.target.durability import Durability
    from rambla_py.telemetry.tracing import RequestTrace

__all__ = ["Target"]


class Target:
    """Accepts deliveries for one (service, channel) pair and keeps them until they end.

    A target outlives its pool and workers, so that no message is lost when one of them dies. Thread-safe.

    ``admission`` accepts messages; ``mailbox`` holds waiting deliveries, ``backpressure`` bounds it,
    ``batching`` takes batches from it, which ``gathering`` lets fill; ``wakeup`` wakes the workers;
    ``settlements`` holds answers until a worker processes them; ``completion`` ends deliveries, ``counters``
    counts them; ``timer`` schedules the periodic work; ``state`` is the target's state.
    """

    def __init__(
        self,
        config: ChannelConfig,
        collaborators: Collaborators[Target],
    ) -> None:
        self.config, self.collaborators = config, collaborators
        self.service, self.channel = config.service, config.channel
        self.home = collaborators.home
        self.observers = collaborators.observers
        policy = self.policy = config.policy
        self.options, self.headers = config.options, config.headers or {}
        self.has_callables = self.needs_ids = False
        self.servers: Mapping[str, Any] = {}
        """The handles of the external servers that run, by id."""
        self.plain = config.enabled and not policy.delay_s and policy.priority == "normal"
        self.mailbox = Mailbox(
            workers=config.count,
            max_pending=config.max_pending,
            expires_s=policy.expires_s,
            isolated=config.handler.extra_connections,
            drops_oldest=config.overflow == "drop_oldest",
            runs=takes_runs(config.handler),
        )
        self.counters = Counters(self.error_text, histograms=collaborators.histograms)
        self.settlements = Settlements()
        self.timer = TargetTimer(config, lambda at: collaborators.schedule(self, at))
        self.wakeup = Wakeup(
            workers=config.count,
            start=lambda: collaborators.start(self),
            no_workers=collaborators.no_workers(self),
            wake_limiter=collaborators.wake_limiter,
            timer=self.timer,
        )
        self.endpoint: tuple[str | None] | None = None
        """Where the connection leads, redacted, once a status has worked it out."""
        self.state = TargetState(enabled=config.enabled, workers=self._worker_states)
        self.log = DeliveryLog(config, self.error_text)
        self.probing = Probing(
            config,
            mailbox=self.mailbox,
            counters=self.counters,
            state=self.state,
            wakeup=self.wakeup,
            timer=self.timer,
            observers=self.observers,
            error_text=self.error_text,
            park=self.park,
        )
        self.completion = Completion(
            config,
            mailbox=self.mailbox,
            counters=self.counters,
            settlements=self.settlements,
            wakeup=self.wakeup,
            state=self.state,
            log=self.log,
            probing=self.probing,
            shared=collaborators,
        )
        self.backpressure = Backpressure(
            config,
            self.mailbox,
            lambda oldest: self.completion.drop(oldest, "mailbox full"),
        )
        self.batching = Batching(config, self.mailbox, self.probing, self.completion.expire)
        self.gathering = Gathering(config, self.mailbox, self.wakeup, self.timer)
        self.release_too(())
        self.admission = Admission(self)

    @property
    def takes_runs(self) -> bool:
        """Whether a batch may have several deliveries of a key."""
        return takes_runs(self.config.handler)

    @property
    def error_text(self) -> Callable[[BaseException | None], str]:
        """Returns the text of an error for logs and statuses, without secrets."""
        return self.collaborators.error_text

    @property
    def durability(self) -> Durability | None:
        """The outbox that keeps its messages; None if it is not durable."""
        return self.completion.durability

    def make_durable(self, durability: Durability) -> None:
        """Keep messages in an outbox from now on; every message takes the slow path."""
        self.completion.durability = durability
        self.admission.leave_fast_path()

    @property
    def rests_in_outbox(self) -> bool:
        """Whether attempts have ended, and all that is left stays in the outbox."""
        return self.durability is not None and self.state.closed and not self.in_flight()

    def release_too(self, fallbacks: Sequence[Target]) -> None:
        """Release the batches of these targets as well when a receipt of this one is waited for.

        They are those of the fallback chain; attach them before the first message.
        """
        waits = [one.gathering for one in (self, *fallbacks) if one.config.batch_timeout_s]
        self.gatherings: Sequence[Gathering] = waits
        self.receipt_home = home_of(self.home, [self])

    def awaits(self, delivery: LiveDelivery) -> bool:
        """Return whether a thread waits for a delivery of this target: for its receipt, or in a flush."""
        return self.counters.flushing or (delivery.receipt is not None and delivery.receipt._awaited)

    def __repr__(self) -> str:
        return f"<Target {self.service}.{self.channel} {self.state.name}, {len(self.mailbox)} waiting>"

    def refuse(self, number: int) -> None:
        """Count publishes that raise ``MailboxFullError`` because this target has no room."""
        self.counters.refuse(number)
        for refused in self.observers.refused:
            refused(self.config, number)

    # -- taking and returning deliveries --------------------------------------------------------------

    def take(self, worker: int, limit: int, now: float, *, alone_ok: bool) -> list[LiveDelivery]:
        """Take what a worker may attempt now; deliveries that have expired end here."""
        if self.state.closed:
            return []
        batch = self.batching.take(worker, limit, now, alone_ok=alone_ok)
        if workers := self.mailbox.workers_with_new():
            self.wakeup.wake_workers(workers)
        if self.backpressure.waiters:
            self.backpressure.offer()
        return batch

    def has_work(self, worker: int, *, alone_ok: bool) -> bool:
        """Return whether ``take`` would return something for a worker."""
        takeable = self.mailbox.takeable(worker, alone_ok=alone_ok)
        self.wakeup.wake_workers(self.mailbox.workers_with_new())
        return takeable

    def take_suspects(self, most: int, now: float) -> list[LiveDelivery]:
        """Take the next suspects for the isolated worker to try together."""
        return [] if self.state.closed else self.batching.take_suspects(most, now)

    def park(self, delivery: LiveDelivery, due: float) -> None:
        """Hold a delivery until ``due``; if that is after the stop, it ends as ``dropped`` now."""
        state = self.state
        if state.closed or (state.stop_at is not None and due > state.stop_at):
            self.completion.drop(delivery, "stopped")
            return
        self.mailbox.park(delivery, due)
        self.timer.run_by(due)

    def put_back(self, deliveries: Sequence[LiveDelivery]) -> None:
        """Return deliveries to the head of the mailbox, to be attempted again at once."""
        self.mailbox.put_back(deliveries)
        for delivery in deliveries:
            self.wakeup.wake_for(delivery)

    def add_result(self, delivery: LiveDelivery, answer: Any) -> None:
        """Queue an answer for any worker, with the claim on the delivery."""
        self.settlements.results.append((None, delivery, answer))
        self.wakeup.wake_all()

    def _worker_states(self) -> Sequence[str]:
        return self.wakeup.workers.states()

    # -- inspection -----------------------------------------------------------------------------------

    def in_flight(self) -> int:
        """Return how many deliveries are with workers or have an unprocessed answer."""
        workers = self.wakeup.workers
        with_workers = sum(session.in_flight for session in workers.sessions())
        return with_workers + workers.pending_callbacks() + self.settlements.in_flight

    def pending(self) -> int:
        """Return how many deliveries have no outcome yet."""
        return len(self.mailbox) + self.in_flight() + self.counters.in_outbox

    def request_trace(self, deliveries: Sequence[Delivery]) -> RequestTrace | None:
        """Begin the trace of one request that carries several messages; None unless they are traced."""
        tracing = self.observers.tracing
        return None if tracing is None else tracing.request(self.config, deliveries)

    def expect_callables(self) -> None:
        """Let workers check batches for callable payloads from now on."""
        self.has_callables = True

    def expect_ids(self) -> None:
        """Let workers generate the ids of a batch before the handler reads them from now on."""
        self.needs_ids = True

    def encode(self, delivery: LiveDelivery) -> bytes:
        """Return a delivery's payload as bytes for the wire; raises ``SerializationError``."""
        return body_of(delivery, self.config.handler.takes_for(delivery.options))
