"""This module is the contract that every handler fulfils, ours and a stranger's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import msgspec

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery
    from rambla_py.message import Retry, Stop
    from rambla_py.outcome import Outcome

__all__ = ["ChildSpec", "Command", "Handler", "Link", "Secret", "State", "per_channel", "secret_text"]


class Secret:
    """A text that never shows: ``repr``, ``str`` and formatting give ``***``.

    Annotate the secret fields of a handler's ``Connection`` with it; call ``reveal()`` where the driver
    needs the text.

    >>> f"{Secret('hunter2')}", Secret("hunter2").reveal()
    ('***', 'hunter2')
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself."""
        return self._text

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __bool__(self) -> bool:
        return bool(self._text)


def secret_text(value: Secret | str | None) -> str | None:
    """Return the text of a value that may be a ``Secret``."""
    return value.reveal() if isinstance(value, Secret) else value


def per_channel(description: str, **constraints: Any) -> msgspec.Meta:
    """Mark an option that may be set for a channel, and not for one message.

    >>> from typing import Annotated
    >>> class Options(msgspec.Struct):
    ...     table: Annotated[str, per_channel("the table that rows go to")] = "events"
    """
    return msgspec.Meta(description=description, extra={"rambla_per": "channel"}, **constraints)


class Link:
    """What a handler may tell its worker about the connection that ``connect`` is making; from any thread.

    A link belongs to one connection: what is said over an earlier one is ignored.
    """

    __slots__ = ("_begin", "_hold", "_lost", "_wait")

    def __init__(
        self,
        lost: Callable[[BaseException], None] = lambda error: None,
        hold: Callable[[bool], None] = lambda held: None,
        wait: Callable[[Sequence[Delivery]], None] = lambda deliveries: None,
        begin: Callable[[Delivery], bool] = lambda delivery: True,
    ) -> None:
        self._lost, self._hold, self._wait, self._begin = lost, hold, wait, begin

    def lost(self, error: BaseException) -> None:
        """The connection is gone: what is in flight on it has an unknown outcome; reconnect now."""
        self._lost(error)

    def hold(self) -> None:
        """The server asks for silence: take no new messages, and stop the clock of those in flight."""
        self._hold(True)

    def release(self) -> None:
        """The server takes messages again."""
        self._hold(False)

    def wait(self, deliveries: Sequence[Delivery]) -> None:
        """These wait in the handler for their turn: their clock stands still, and they may be taken back.

        Call ``begin`` for each before it is written.
        """
        self._wait(deliveries)

    def begin(self, delivery: Delivery) -> bool:
        """One that waited is to be written now; False: it expired, or was taken back, so leave it."""
        return self._begin(delivery)


class State(msgspec.Struct, frozen=True):
    """What a handler's methods are given beside the message: where they are, and the live connection."""

    connection: Any
    channel: str
    service: str
    worker: int = 0


class ChildSpec(msgspec.Struct, frozen=True):
    """An external server of any kind: how it starts, stops, and shows that it is alive.

    ``start()`` returns a handle that ``stop(handle)`` and ``alive(handle)`` are given. A pykka actor class
    may stand for ``start``. Without ``alive`` the server is taken to live until it is stopped.
    """

    id: str
    start: Callable[[], Any]
    stop: Callable[[Any], None] | None = None
    alive: Callable[[Any], bool] | None = None


class Command(msgspec.Struct, frozen=True):
    """An external server that is a program: ended with its process group, ready when its port answers.

    ``ready`` is ``tcp://host:port``, ``http://...`` (any answer below 500), ``file:///path``
    (exists), or None. ``env`` is added to the environment.

    >>> Command(["redis-server", "--port", "6380"], ready="tcp://127.0.0.1:6380").ready_timeout_s
    30.0
    """

    argv: Sequence[str]
    ready: str | None = None
    env: dict[str, str] | None = None
    cwd: str | None = None
    ready_timeout_s: float = 30.0


class Handler:
    """Delivers the messages of a channel. Subclass it and write one of the three ``handle_*`` methods.

    Each worker has an instance of its own, and calls it from one thread. ``settings`` is the connection's
    table: an instance of ``Connection``, or a dict where the class declares none. ``guarantee`` says, for
    ``rambla plan``, whether delivery is at least or at most once, what may duplicate, and what keeps order.

    >>> class AuditHandler(Handler):
    ...     guarantee = "at most once"
    ...     def handle_publish(self, message, options, state):
    ...         print(message.payload)
    """

    Connection: ClassVar[Any] = dict
    Options: ClassVar[Any] = None
    guarantee: ClassVar[str] = "not stated"
    ordered: ClassVar[bool] = False
    """Whether nothing of a batch after a failure is applied: messages of a key may then share a batch."""

    def __init__(self, settings: Any, *, channel: str = "", service: str = "", options: Any = None) -> None:
        self.settings = settings
        self.channel = channel
        self.service = service
        self.options = options
        self.link = Link()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.service}.{self.channel}>"

    @classmethod
    def config(cls) -> dict[str, Any]:
        """Return the service's table (``connections``, ``channels``) for where the TOML has none."""
        return {}

    @classmethod
    def event_prefix(cls, options: Any) -> str | None:
        """Return what stands before the name of a CloudEvents attribute in this backend's headers.

        None, the default, means that it has no headers: ``serializer = "cloudevents-binary"`` is refused. A
        handler that answers otherwise puts ``wire_headers(message, prefix)`` where it would put ``headers``.
        """
        return None

    def external_servers(self, channel: str) -> Sequence[ChildSpec | Command]:
        """Return what must run before the pool does, in order; asked of an instance of its own."""
        return ()

    def connect(self) -> Any:
        """Open the connection of one worker; called again after a loss. Any exception counts as a loss.

        Raise ``AccessError`` when the server refuses the credentials or its certificate is refused.
        """
        return None

    def close(self, connection: Any) -> Any:
        """Close what ``connect`` returned; may be called twice, and after a loss."""

    def ping(self, connection: Any) -> Any:
        """Raise when the server does not answer."""

    def handle_publish(self, message: Delivery, options: Any, state: State) -> Any:
        """Deliver one message. What is returned is success (``Ok(v)`` gives ``v``), what is raised a failure.

        ``message`` has ``payload``, ``id``, ``key``, ``headers`` and ``body()``, the bytes for the wire.
        ``options`` is an instance of ``Options``; None where the class declares none.
        """
        raise NotImplementedError

    def handle_batch(self, messages: Sequence[Delivery], state: State) -> Any:
        """Deliver up to ``batch_size`` messages; return one result or error for each, in order.

        Each message has its own ``options``. A wrong length or an exception fails all that are not settled.
        """
        raise NotImplementedError

    def handle_deliveries(self, deliveries: Sequence[Delivery], state: State) -> Any:
        """Take the deliveries now, and settle each later, from any thread: ok, failed or unknown."""
        raise NotImplementedError

    def destination(self, connection: Any) -> Any:
        """Return what a callable payload is given as ``destination``."""
        return connection

    def on_success(self, outcome: Outcome) -> Any:
        """Hear of each success."""

    def on_failure(self, outcome: Outcome) -> Retry | Stop | None | Any:
        """Hear of each failed attempt, and decide: None, ``STOP``, ``RETRY`` or ``Retry(...)``."""

    def on_fatal(self, outcome: Outcome) -> Retry | None | Any:
        """Hear of a fatal delivery; answer ``RETRY`` for one more round."""

    def on_outcome(self, outcome: Outcome) -> Any:
        """Hear of each delivery's end, once, however it ended."""


Level = Literal["publish", "batch", "deliveries"]


def level_of(handler: type[Handler]) -> Level | None:
    """Return the deepest level of the contract that a class implements, or None when it implements none."""
    if handler.handle_deliveries is not Handler.handle_deliveries:
        return "deliveries"
    if handler.handle_batch is not Handler.handle_batch:
        return "batch"
    if handler.handle_publish is not Handler.handle_publish:
        return "publish"
    return None
