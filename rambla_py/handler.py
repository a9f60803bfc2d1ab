"""The contract that every handler fulfils, built-in or third-party."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, NoReturn

import msgspec

from rambla_py._internal.endpoints import endpoint_of
from rambla_py.described import Described

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from rambla_py.delivery import Delivery
    from rambla_py.external_server import ExternalServer
    from rambla_py.message import Retry, Stop
    from rambla_py.outcome import Outcome
    from rambla_py.telemetry.tracing import RequestTrace

    ConnectionT = TypeVar("ConnectionT", default=Any)
    OptionsT = TypeVar("OptionsT", default=Any)
    SettingsT = TypeVar("SettingsT", default=Any)
else:
    from typing import TypeVar

    ConnectionT, OptionsT, SettingsT = TypeVar("ConnectionT"), TypeVar("OptionsT"), TypeVar("SettingsT")

__all__ = [
    "Handler",
    "Link",
    "Preflight",
    "Promise",
    "Secret",
    "State",
    "Takes",
    "per_channel",
    "routing",
    "secret_text",
]


class Secret:
    """A string that never shows: ``repr``, ``str`` and formatting give ``***``.

    Annotate the secret fields of a handler's ``Connection`` with it; call ``reveal()`` where the driver
    needs the string. It cannot be pickled.

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

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled; load the configuration in the other process")


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


def routing(description: str, **constraints: Any) -> msgspec.Meta:
    """Mark an option that decides where a message goes, so that a channel's ``envelope`` may list it.

    >>> from typing import Annotated
    >>> class Options(msgspec.Struct):
    ...     topic: Annotated[str, routing("the topic that messages go to")] = "events"
    """
    return msgspec.Meta(description=description, extra={"rambla_per": "routing"}, **constraints)


Promise = Literal["at least once", "at most once", "none"]
"""What a success of a handler means: see ``Handler.promises``."""

Takes = Literal["object", "bytes", "json", "table", "nothing"]
"""What a handler uses of a payload: see ``Handler.takes``."""


def _ok_each(deliveries: Sequence[Delivery], result: Any) -> None:
    for delivery in deliveries:
        delivery.ok(result)


class Link:
    """Reports to the worker about the connection that ``connect`` opens, from any thread.

    A link belongs to one connection: calls on the link of an earlier one are ignored.
    """

    __slots__ = ("_begin", "_hold", "_lost", "_ok", "_trace", "_wait")

    def __init__(
        self,
        lost: Callable[[BaseException], None] = lambda error: None,
        hold: Callable[[bool], None] = lambda held: None,
        wait: Callable[[Sequence[Any]], None] = lambda deliveries: None,
        begin: Callable[[Sequence[Any]], list[Any]] = list,
        ok: Callable[[Sequence[Any], Any], None] = _ok_each,
        trace: Callable[[Sequence[Any]], RequestTrace | None] = lambda deliveries: None,
    ) -> None:
        self._lost, self._hold, self._wait, self._begin, self._ok = lost, hold, wait, begin, ok
        self._trace = trace

    def lost(self, error: BaseException) -> None:
        """Report that the connection is lost: what is in flight on it has an unknown outcome; reconnect."""
        self._lost(error)

    def hold(self) -> None:
        """Send no new messages, and stop ``attempt_timeout_s`` for those in flight; state ``blocked``."""
        self._hold(True)

    def release(self) -> None:
        """Send messages again."""
        self._hold(False)

    def wait(self, deliveries: Sequence[Delivery]) -> None:
        """Report deliveries that the handler queues: they have not begun, may expire, and may be taken back.

        Call ``begin`` for them before they are written.
        """
        self._wait(deliveries)

    def begin(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Begin deliveries that were queued; return those to write: the others were taken back."""
        return self._begin(deliveries)

    def ok(self, deliveries: Sequence[Delivery], result: Any = None) -> None:
        """Settle deliveries as delivered with a common result; costs a third of ``Delivery.ok`` for each."""
        self._ok(deliveries, result)

    def trace(self, deliveries: Sequence[Delivery]) -> RequestTrace | None:
        """Begin the span of one request that carries several deliveries; None if none of them is traced.

        The request gets its ``headers`` in place of the messages' own ``traceparent`` and ``tracestate``;
        ``ended(error, result)`` ends it.
        """
        return self._trace(deliveries)


class Preflight:
    """What ``rambla check`` found out about a target beside that its server answers; ``preflight`` fills it.

    ``problems`` are reasons why every message would fail, each with a hint or None; ``creations`` is what the
    first message, or a worker that connects, would create; ``unchecked`` is what could not be found out.

    >>> found = Preflight()
    >>> found.problem("there is no exchange 'orders'", hint="declare it")
    >>> found.problems
    [("there is no exchange 'orders'", 'declare it')]
    """

    __slots__ = ("creations", "problems", "unchecked")

    def __init__(self) -> None:
        self.problems: list[tuple[str, str | None]] = []
        self.creations: list[str] = []
        self.unchecked: list[str] = []

    def problem(self, text: str, *, hint: str | None = None) -> None:
        """Report why every message would fail, and what to do about it."""
        self.problems.append((text, hint))

    def would_create(self, what: str) -> None:
        """Report what would be created: ``queue 'orders'``."""
        self.creations.append(what)

    def not_checked(self, what: str) -> None:
        """Report what could not be found out: ``the right to write to 'orders'``."""
        self.unchecked.append(what)


class State(msgspec.Struct, Generic[ConnectionT], frozen=True):
    """What a handler's methods get beside the message: the live connection, the channel, and the worker."""

    connection: ConnectionT
    channel: str
    service: str
    worker: int = 0


class Handler(Generic[ConnectionT, OptionsT, SettingsT]):
    """Delivers the messages of a channel. Subclass it and write one of the three ``handle_*`` methods.

    ``Handler[Client, AuditOptions, AuditSettings]`` names what ``connect`` returns, ``Options``, and
    ``Connection``, so that a type checker knows ``state.connection``, ``options`` and ``self.settings``;
    plain ``Handler`` leaves them open.

    Each worker has an instance of its own, and calls it from one thread. ``settings`` is the connection's
    table: an instance of ``Connection``, or a dict where the class declares none. ``guarantee`` states, for
    ``rambla plan``, whether delivery is at least or at most once, what may duplicate, and what keeps order.

    >>> class AuditHandler(Handler):
    ...     guarantee = "at most once"
    ...     def handle_publish(self, message, options, state):
    ...         print(message.payload)
    """

    Connection: ClassVar[Any] = dict
    Options: ClassVar[Any] = None
    guarantee: ClassVar[str] = "not stated"
    extra_connections: ClassVar[bool] = True
    """Whether the backend allows a connection beside those of the workers, on which suspects are tried."""
    _side_threads: ClassVar[int] = 0
    """How many threads ``connect`` starts: they are prepared before the interpreter may be ending."""
    ordered: ClassVar[bool] = False
    """Whether nothing of a batch is applied after a failure in it.

    A batch for a ``handle_batch`` that is not async may then have several messages of a key, in order. If one
    of them fails, those of its key behind it are sent again once it has ended, one at a time, whatever error
    is returned for them. Without it, and for every other method, no batch has a key twice.
    """
    takes: ClassVar[Takes] = "object"
    """What the handler uses of a payload, which ``publish`` captures.

    ``"object"``: ``message.payload``, a copy that later changes to the original do not reach. ``"bytes"``:
    only ``message.body()``, encoded in ``publish``. ``"json"``: only ``message.body()``, which is JSON
    always, to embed in JSON of the handler's own (strings as JSON strings). ``"table"``: the same for a
    database, with decimals as numbers and ``"inf"``, ``"-inf"``, ``"nan"``. ``"nothing"``: neither.
    """
    scope_by_options: ClassVar[bool] = False
    """Whether the scope of an ``UnavailableError`` follows from ``options`` alone, as a URL or a topic does.

    Messages with the options of one that was refused then wait without being tried.
    """
    header_types: ClassVar[tuple[type, ...]] = ()
    """Types of header values that the backend holds beside strings, numbers, booleans and bytes."""
    control_headers: ClassVar[tuple[str, ...]] = ()
    """Headers that the backend acts on, in any case; ``"Nats-*"`` means all with that prefix.

    An envelope that sets one of them is a payload.
    """
    servers: Mapping[str, Any] = MappingProxyType({})
    """The handles of the channel's external servers by id, from ``connect`` on.

    A ``ChildSpec`` gives what its ``start`` returned, an actor class the reference, a ``Command`` the
    ``subprocess.Popen``. Empty in a process that does not run them: ``ping`` before the start.
    """

    def __init__(
        self, settings: SettingsT, *, channel: str = "", service: str = "", options: Any = None
    ) -> None:
        self.settings = settings
        self.channel = channel
        self.service = service
        self.options = options
        self.link = Link()
        self.dry_run = False
        """True under ``rambla check``: ``connect`` must then create nothing, on the server or on disk."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.service}.{self.channel}>"

    @classmethod
    def config(cls) -> dict[str, Any]:
        """Return the service's table (``connections``, ``channels``) for where the TOML has none."""
        return {}

    @classmethod
    def endpoint(cls, settings: SettingsT | Any) -> str | None:
        """Return where a connection leads, for status pages: its address without secrets, or None."""
        return endpoint_of(settings)

    def describe(self, options: OptionsT | Any) -> Described:
        """Return where the channel sends to, for traces; ``options`` are those of the channel."""
        return Described.of(self, "rambla")

    @classmethod
    def event_prefix(cls, options: Any) -> str | None:
        """Return what stands before the name of a CloudEvents attribute in this backend's headers.

        None, the default, means that it has no headers: ``serializer = "cloudevents-binary"`` is refused. A
        handler that answers otherwise puts ``wire_headers(message, prefix)`` where it would put ``headers``.
        """
        return None

    @classmethod
    def promises(cls, settings: SettingsT | Any, options: OptionsT | Any) -> Promise:
        """Return what a success means with these settings and options, for ``rambla explain``.

        By default that with which ``guarantee`` begins: ``"at least once"`` (the backend has the message),
        ``"at most once"`` (it was sent, without an answer), or else ``"none"``.
        """
        known: tuple[Promise, ...] = ("at least once", "at most once")
        return next((one for one in known if cls.guarantee.startswith(one)), "none")

    @classmethod
    def takes_for(cls, options: OptionsT | Any) -> Takes:
        """Return what the handler uses of payloads with these options; asked once for each set of options."""
        return cls.takes

    @classmethod
    def control_headers_for(cls, settings: SettingsT | Any) -> tuple[str, ...]:
        """Return ``control_headers``, with those that depend on the connection's settings."""
        return cls.control_headers

    def external_servers(self, channel: str) -> Sequence[ExternalServer]:
        """Return what must run before the pool does, in order; asked of an instance of its own.

        A pykka actor class is a ``ChildSpec`` with the class as ``start`` and its name as ``id``.
        """
        return ()

    def connect(self) -> ConnectionT | Any:
        """Open the connection of one worker; called again after a loss. Any exception counts as a loss.

        Raise ``AccessError`` when the server refuses the credentials or its certificate is refused.
        """
        return None

    def close(self, connection: ConnectionT) -> Any:
        """Close what ``connect`` returned; may be called twice, and after a loss."""

    def ping(self, connection: ConnectionT) -> Any:
        """Raise when the server does not answer."""

    def preflight(self, connection: ConnectionT, report: Preflight) -> Any:
        """Report to ``rambla check`` why every message would fail, without publishing or creating anything.

        Called after ``ping``, on a connection that ``connect`` opened with ``dry_run`` set. What it raises is
        reported as a problem.
        """
        report.not_checked("whether messages would be accepted")

    def handle_publish(
        self, message: Delivery[OptionsT], options: OptionsT, state: State[ConnectionT]
    ) -> Any:
        """Deliver one message. What is returned is success (``Ok(v)`` gives ``v``), what is raised a failure.

        ``message`` has ``payload``, ``id``, ``key``, ``headers`` and ``body()``, the bytes for the wire.
        ``options`` is an instance of ``Options``; None where the class declares none.
        """
        raise NotImplementedError

    def handle_batch(self, messages: Sequence[Delivery[OptionsT]], state: State[ConnectionT]) -> Any:
        """Deliver up to ``batch_size`` messages; return one result or error for each, in order.

        Each message has its own ``options``. A wrong length or an exception fails all that are not settled.
        """
        raise NotImplementedError

    def handle_deliveries(self, deliveries: Sequence[Delivery[OptionsT]], state: State[ConnectionT]) -> Any:
        """Take the deliveries now, and settle each later, from any thread: ok, failed or unknown."""
        raise NotImplementedError

    def destination(self, connection: ConnectionT) -> Any:
        """Return what a callable payload is given as ``destination``."""
        return connection

    def on_success(self, outcome: Outcome) -> Any:
        """Called after each success."""

    def on_failure(self, outcome: Outcome) -> Retry | Stop | None | Any:
        """Called after each failed attempt; return None, ``STOP``, ``RETRY`` or ``Retry(...)``."""

    def on_fatal(self, outcome: Outcome) -> Retry | None | Any:
        """Called before a delivery ends as fatal; return ``RETRY`` for one more round."""

    def on_outcome(self, outcome: Outcome) -> Any:
        """Called once for each delivery, however it ended."""
