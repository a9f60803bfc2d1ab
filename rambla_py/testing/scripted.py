"""Handlers that follow a script, one for each level of the contract."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from rambla_py.delivery import Delivery
from rambla_py.errors import AccessError, ConnectionLostError
from rambla_py.handler import Handler, Secret, State
from rambla_py.message import Failed, Ok
from rambla_py.testing.steps import EVENT_PREFIX, Script, Step, named

__all__ = ["ScriptedAsyncHandler", "ScriptedBatchHandler", "ScriptedHandler", "ScriptedPublishHandler"]


class ScriptedConnection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, dict=True):
    """Which script is run, and whether its server can be reached."""

    name: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(description="what rambla_py.testing.script(name) finds it by; none: the app's own"),
    ] = None
    password: Annotated[Secret | None, Meta(description="is never shown, and otherwise ignored")] = None
    server: Annotated[
        Literal["up", "unreachable", "refusing"],
        Meta(description="refusing: the credentials are wrong, as AccessError says"),
    ] = "up"


class ScriptedOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """There are no options: the script decides."""


class _Scripted(Handler):
    """What the levels share: a script in place of a connection."""

    Connection: ClassVar[Any] = ScriptedConnection
    Options: ClassVar[Any] = ScriptedOptions
    guarantee: ClassVar[str] = (
        "at least once, unless the script says otherwise: what it cuts after the write arrives again"
    )

    @classmethod
    def event_prefix(cls, options: Any) -> str | None:
        """Return ``ce-``: what arrives shows its headers, those of a CloudEvent included."""
        return EVENT_PREFIX

    def connect(self) -> Any:
        """Return the script; raises what ``server`` says."""
        return _connected(self.settings)

    def close(self, connection: Script | None) -> Any:
        """Count it."""
        _closed(connection)


class ScriptedHandler(_Scripted):
    """Does with each delivery what its script says: fails, delays, hangs, cuts the connection, settles twice.

    Delivery: as the script says; at least once where it cuts the connection. It implements
    ``handle_deliveries``: many attempts may be in flight, and answers come from other threads. After a loss
    the deliveries behind it, which were not written, fail with ``ConnectionLostError``.

    >>> import rambla_py as rambla
    >>> from rambla_py.testing import ScriptedHandler, Step, script
    >>> script("docs").plan(Step.fail("quota"), attempt=1)
    >>> table = {"pay": {"handler": ScriptedHandler, "connections": {"here": {"name": "docs"}},
    ...                  "channels": {"orders": {"options": {"backoff": {"initial_s": 0.01}}}}}}
    >>> with rambla.Rambla(table) as app:
    ...     app.publish("orders", "hello").outcomes(timeout_s=5)[0].attempts
    2
    """

    def handle_deliveries(self, deliveries: Sequence[Delivery], state: State) -> None:
        """Settle each as its step says: now, later, or when the script is released."""
        lost: ConnectionLostError | None = None
        for delivery in deliveries:
            if lost is not None:
                delivery.failed(lost)
                continue
            step = state.connection.next_step(delivery)
            if not _arrived(state, delivery, step):
                continue
            if step.raises is None:
                _later(state.connection, step, _settling(delivery, step.answers))
            elif not step.loses:
                raise step.raises
            else:
                lost = _lost(state.connection, step)
                delivery.failed(step.raises)


class ScriptedBatchHandler(_Scripted):
    """Does with each batch what its script says, on the level ``handle_batch``; see ``ScriptedHandler``.

    Delivery: as the script says; at least once where it cuts the connection. A step that waits holds up the
    batch; one that raises fails all of it.
    """

    def handle_batch(self, messages: Sequence[Delivery], state: State) -> Any:
        """Return an answer for each, or the wrong result that a step prescribes."""
        answers: list[Any] = []
        lost: ConnectionLostError | None = None
        for message in messages:
            if lost is not None:
                answers.append(lost)
                continue
            step = state.connection.next_step(message)
            if step.whole is not None:
                return step.whole.result
            try:
                answers.append(_played(state, message, step))
            except BaseException as error:
                if error is step.raises and not step.loses:
                    raise
                answers.append(error)
                lost = _lost(state.connection, step) if step.loses else None
        return answers


class ScriptedPublishHandler(_Scripted):
    """Does with each message what its script says, on the level ``handle_publish``; see ``ScriptedHandler``.

    Delivery: as the script says; at least once where it cuts the connection.
    """

    def handle_publish(self, message: Delivery, options: Any, state: State) -> Any:
        """Return or raise what the step says."""
        step = state.connection.next_step(message)
        if step.loses:
            state.connection.count(losses=1)
        return _played(state, message, step)


class ScriptedAsyncHandler(_Scripted):
    """Does with each message what its script says, in coroutines; see ``ScriptedHandler``.

    Delivery: as the script says; at least once where it cuts the connection. ``connect``, ``ping`` and
    ``close`` are async too.
    """

    async def connect(self) -> Script:
        """Return the script; raises what ``server`` says."""
        return _connected(self.settings)

    async def close(self, connection: Script | None) -> None:
        """Count it."""
        _closed(connection)

    async def ping(self, connection: Script) -> None:
        """Do nothing, on the loop: a connected script answers."""

    async def handle_publish(self, message: Delivery, options: Any, state: State) -> Any:
        """Return or raise what the step says; what waits does not block the loop."""
        script: Script = state.connection
        step = script.next_step(message)
        script.arrive(message, message.body(), step, state.worker)
        if step.raises is not None:
            script.count(losses=1 if step.loses else 0)
            raise step.raises
        gate, loop = asyncio.Event(), asyncio.get_running_loop()
        _later(script, step, lambda: _wake(loop, gate))
        await gate.wait()
        return step.answers[0]


def _connected(settings: ScriptedConnection) -> Script:
    if settings.server == "unreachable":
        raise ConnectionLostError("the scripted server cannot be reached")
    if settings.server == "refusing":
        raise AccessError("the scripted server refuses the password")
    script = named.of(settings)
    script.count(connects=1)
    return script


def _closed(connection: Script | None) -> None:
    if connection is not None:
        connection.count(closes=1)


def _lost(script: Script, step: Step) -> ConnectionLostError:
    script.count(losses=1)
    error = ConnectionLostError("the script cut the connection before the write of this one")
    error.__cause__ = step.raises
    return error


def _played(state: State, message: Delivery, step: Step) -> Any:
    """Run a step on this thread; return the answer, or raise."""
    script: Script = state.connection
    script.arrive(message, message.body(), step, state.worker)
    if step.raises is not None:
        raise step.raises
    gate = threading.Event()
    _later(script, step, gate.set)
    gate.wait()
    return step.answers[0]


def _arrived(state: State, delivery: Delivery, step: Step) -> bool:
    """Let a delivery arrive; one that cannot be put on the wire fails alone."""
    try:
        body = delivery.body()
    except Exception as error:  # what a payload's own code raises is the failure of its message alone
        delivery.failed(error)
        return False
    state.connection.arrive(delivery, body, step, state.worker)
    return True


def _later(script: Script, step: Step, go_on: Callable[[], Any]) -> None:
    """Continue now, after the step's delay, or when the script is released."""
    if step.hangs:
        script.hold(go_on)
    elif step.delay_s:
        timer = threading.Timer(step.delay_s, go_on)
        timer.daemon = True
        timer.start()
    else:
        go_on()


def _wake(loop: asyncio.AbstractEventLoop, gate: asyncio.Event) -> None:
    with contextlib.suppress(RuntimeError):  # the loop ended while the message hung: nothing waits
        loop.call_soon_threadsafe(gate.set)


def _settling(delivery: Delivery, answers: Sequence[Any]) -> Callable[[], None]:
    def settle() -> None:
        for answer in answers:
            _settle(delivery, answer)

    return settle


def _settle(delivery: Delivery, answer: Any) -> None:
    if isinstance(answer, Failed):
        delivery.failed(answer.reason, retryable=answer.retryable)
    elif isinstance(answer, BaseException):
        delivery.failed(answer)
    else:
        delivery.ok(answer.result if isinstance(answer, Ok) else answer)
