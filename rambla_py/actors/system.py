"""This module is what lives in one process for one app: its targets, with the tree that serves them."""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections.abc import Callable

import msgspec

from rambla_py.actors.aftermath import Nobody, finish_callbacks
from rambla_py.actors.closing import close, drop_later_than, shut
from rambla_py.actors.plan import Plan
from rambla_py.actors.target import Target
from rambla_py.actors.timer import Watch
from rambla_py.actors.tree import Tree
from rambla_py.actors.wakes import Wakes
from rambla_py.config.schema import ChannelConfig, Config
from rambla_py.delivery import Delivery
from rambla_py.receipt import Home, Receipt
from rambla_py.telemetry.events import Events

__all__ = ["System"]

_CLOSE_S = 2.0
_LOOK_S = 0.005


class System:
    """The targets of an app in this process, by channel, and their supervision tree."""

    def __init__(
        self,
        config: Config,
        plan: Plan,
        events: Events,
        redact: Callable[[str], str],
        *,
        with_servers: bool = True,
    ) -> None:
        self.home = Home()
        self.targets: dict[tuple[str, str], Target] = {}
        self.routes: dict[str, tuple[Target, ...]] = {}
        self._watch = Watch()
        self._wakes = Wakes()
        # Unique without a look-up: when this process began to publish, 48 random bits, which message.
        token = f"{int(time.time()):08x}{secrets.token_hex(6)}"
        self._token, self._shared = token, itertools.count()
        for number, channel in enumerate(config.every_channel()):
            self._add(channel, f"{token}-{number:x}-", config.rambla.enabled, events, redact)
        self._tree = Tree(plan, self.targets, self._watch, with_servers=with_servers)
        for target in self.targets.values():
            if target.config.fallback is not None:
                target.endings.fallback = self._hand_over

    def start(self) -> None:
        """Start the tree."""
        self._tree.start()

    def next_id(self) -> str:
        """Return an id for a message that goes to several targets."""
        return f"{self._token}-{next(self._shared):x}"

    def flush(self, deadline: float | None) -> bool:
        """Wait until all that was accepted by now has ended; say whether it did by ``deadline``."""
        return all(_flushed(target, deadline) for target in list(self.targets.values()))

    def settle_in(self, timeout_s: float) -> None:
        """Wait until the workers of all targets where messages wait have tried to connect.

        Called when the main thread ends: from Python 3.12 on no thread can be started a moment later.
        """
        deadline, pause = time.monotonic() + timeout_s, threading.Event()
        while time.monotonic() < deadline and any(_unsettled(target) for target in self.targets.values()):
            pause.wait(_LOOK_S)

    def stop(self, deadline: float) -> None:
        """Deliver what can be until ``deadline``, end the rest as dropped, and stop the tree."""
        for target in self.targets.values():
            drop_later_than(target, deadline)
        self.flush(deadline)
        for target in self.targets.values():
            shut(target)
        self.flush(deadline)  # what was handed in meanwhile, by who was not refused yet, may be in flight
        for target in self.targets.values():
            close(target)
        self._tree.stop(max(0.0, deadline - time.monotonic()) + _CLOSE_S)
        finish_callbacks(self.targets.values(), _CLOSE_S)

    def forked(self) -> None:
        """Take note, in a forked child, that all of this lives on in the parent only."""
        self.home.forked = True
        for target in self.targets.values():
            # The fork may have come from a handler: whatever it answers in the child counts for nothing.
            for session in target.roster.crew.sessions():
                session.forget()

    def _add(
        self,
        channel: ChannelConfig,
        id_prefix: str,
        enabled: bool,
        events: Events,
        redact: Callable[[str], str],
    ) -> None:
        service, name = channel.service, channel.channel
        target = Target(
            channel if enabled else msgspec.structs.replace(channel, enabled=False),
            home=self.home,
            id_prefix=id_prefix,
            events=events,
            start=lambda: self._tree.ensure(service, name),
            watch=self._watch.add,
            wakes=self._wakes,
            nobody=Nobody,
            redact=redact,
        )
        self.targets[service, name] = target
        self.routes[name] = (*self.routes.get(name, ()), target)

    def _hand_over(self, delivery: Delivery, then: Callable[[], None]) -> None:
        """Publish a fatal delivery to the fallback of its channel, and go on when that has ended."""
        primary = self.targets[delivery.target.service, delivery.target.channel]
        targets = self.routes[primary.config.fallback or ""]
        receipt = Receipt.expecting(self.home, 1, len(targets), many=False)

        def ended() -> None:
            outcomes = receipt.outcomes()
            delivery.fallback = next((one for one in outcomes if not one.succeeded), outcomes[0])
            then()

        receipt.when_done(ended)
        for slot, target in enumerate(targets):
            # It was accepted once: the bound on what waits does not apply to it again.
            target.admit(
                target.delivery(
                    delivery.payload,
                    receipt,
                    key=delivery.key,
                    headers={**target.headers, **delivery.headers},
                    given_id=delivery.id,
                    calls=delivery.calls,
                    slot=slot,
                ),
                over_bound=True,
            )


def _unsettled(target: Target) -> bool:
    return len(target.mailbox) > 0 and target.state in ("idle", "connecting")


def _flushed(target: Target, deadline: float | None) -> bool:
    gate = threading.Lock()
    gate.acquire()
    target.ledger.when_flushed(gate.release)
    if gate.acquire(timeout=-1 if deadline is None else max(0.0, deadline - time.monotonic())):
        return True
    target.ledger.forget_flush(gate.release)
    return False
