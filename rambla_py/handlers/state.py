"""This module writes messages into a state store: each key of a mapping is a record."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from rambla_py.cloudevent import EVENTS
from rambla_py.encoding import as_object
from rambla_py.errors import (
    AccessError,
    ConnectionLostError,
    DeliveryError,
    PayloadTooLargeError,
    PermanentError,
    RejectedError,
    SerializationError,
    UnknownOutcomeError,
)
from rambla_py.handler import Handler, Secret, secret_text
from rambla_py.state import (
    MemoryStore,
    StateAccessError,
    StateCorruptError,
    StateError,
    StateNotReadyError,
    StateQuotaError,
    StateStore,
    StateTooLargeError,
    StateUnavailableError,
    StateValueError,
    store_from_url,
)
from rambla_py.state.record import check_key, json_of

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery
    from rambla_py.handler import State

__all__ = ["StateConnection", "StateHandler", "StateOptions"]

_DEFAULT_URL = "sqlite:///state.db"
_BOUNDED = frozenset({"sqlite", "redis", "rediss", "unix"})
_OVER_A_NETWORK = frozenset({"redis", "rediss", "unix", "http", "https"})


class StateConnection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, dict=True):
    """The table of a ``state`` connection: which store, and what it needs.

    >>> StateConnection(url=Secret("redis://:hunter2@cache.internal/0")).url
    ***
    """

    url: Annotated[
        Secret | None,
        Meta(
            description="memory://name, file:///folder, sqlite:///file (four slashes: from the root), "
            "redis://, rediss://, unix://, or http:// and https:// for a server of rambla state serve; "
            "sqlite:///state.db when not given"
        ),
    ] = None
    encryption_key: Annotated[
        Secret | None,
        Meta(
            description="32 bytes in base64 or hexadecimal digits: values are encrypted; several keys as "
            "name:key, separated by blanks, of which the first encrypts"
        ),
    ] = None
    token: Annotated[Secret | None, Meta(description="http, https: the server's bearer token")] = None
    ca_file: Annotated[
        str | None, Meta(description="https: PEM file of the authorities to trust; the system's if not given")
    ] = None
    connect_timeout_s: Annotated[
        float, Meta(gt=0, description="redis, http: bound of connecting, and of the first answer")
    ] = 5.0
    timeout_s: Annotated[float, Meta(gt=0, description="redis, http: longest wait for an answer")] = 10.0
    max_value_bytes: Annotated[
        int | None,
        Meta(
            ge=1,
            description="sqlite, redis: a larger value is fatal; the usual limit when not given: SQLite's of "
            "10^9 bytes, Redis's proto-max-bulk-len of 512 MiB",
        ),
    ] = None

    def __post_init__(self) -> None:
        try:
            _store_of(self)
        except StateError as error:  # an extra is missing
            raise ValueError(str(error)) from None


class StateOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The options of a ``state`` channel; each may also be set for one message."""

    prefix: Annotated[str, Meta(description="stands before each key")] = ""
    ttl_s: Annotated[
        float | None, Meta(gt=0, description="seconds until the records expire; for good when not given")
    ] = None


class StateHandler(Handler):
    """Writes each key of a mapping as a record of a state store, for whoever reads the store.

    A batch is one write where the store can: one transaction in SQLite, one script in Redis, one request
    over HTTP; a message is then written whole or not at all. When the store refuses such a write (no room,
    too large), each message is tried alone. At least once: written again, a record has the same value, and
    its expiry counts from then on. One worker writes in the order it was given; of one key in a batch the
    last value stays. The message's id has no place in a record.

    The result is the number of records of the message. A store without room is retried (``RejectedError``);
    what is no mapping, a key over 1,024 bytes and a value that JSON cannot hold are fatal at once. A callable
    payload is given the ``StateStore``.

    >>> StateHandler.Options(prefix="cart:", ttl_s=3600).prefix
    'cart:'
    """

    Connection: ClassVar[Any] = StateConnection
    Options: ClassVar[Any] = StateOptions
    guarantee: ClassVar[str] = (
        "at least once; a record that comes twice has the same value; in sequence within a worker, "
        "failed messages aside"
    )

    def connect(self) -> StateStore:
        """Open the store."""
        store = _store_of(self.settings)
        try:
            store.init()
        except StateError as error:
            refused = isinstance(error, StateAccessError | StateCorruptError)
            raise (AccessError if refused else ConnectionLostError)(str(error)) from error
        return store

    def close(self, connection: StateStore) -> None:
        """Close the store."""
        connection.close()

    def ping(self, connection: StateStore) -> None:
        """Read a record."""
        try:
            connection.get("health")
        except StateError as error:
            raise _ours(error) from error

    def handle_batch(self, messages: Sequence[Delivery], state: State) -> list[Any]:
        """Write the records of all messages; errors stand in the place of their message."""
        answers: list[Any] = [None] * len(messages)
        sound: list[tuple[int, float | None, dict[str, Any]]] = []
        for place, message in enumerate(messages):
            try:
                sound.append((place, message.options.ttl_s, _values(message)))
            except Exception as error:  # what a payload's own code raises is the failure of its message alone
                answers[place] = _ours(error) if isinstance(error, StateError) else error
        lost: DeliveryError | None = None
        for ttl_s, group in itertools.groupby(sound, key=lambda one: one[1]):
            lost = _write(
                state.connection, [(place, values) for place, _, values in group], ttl_s, answers, lost
            )
        return answers


def _write(
    store: StateStore,
    group: Sequence[tuple[int, dict[str, Any]]],
    ttl_s: float | None,
    answers: list[Any],
    lost: DeliveryError | None,
) -> DeliveryError | None:
    """Write what shares an expiry, and put down the answers; return the loss of the store, if it is lost."""
    merged = {key: value for _, values in group for key, value in values.items()}
    error: DeliveryError | None = None
    if lost is None:
        try:
            store.set_many(merged, expires_s=ttl_s)
        except StateError as problem:
            error = _ours(problem)
            error.__cause__ = problem
    else:
        error = ConnectionLostError(str(lost))
    is_lost = isinstance(error, ConnectionLostError | UnknownOutcomeError)
    if error is not None and not is_lost and len(group) > 1:
        for one in group:
            lost = _write(store, [one], ttl_s, answers, lost)
        return lost
    for place, values in group:
        answers[place] = len(values) if error is None else error
    return error if is_lost and lost is None else lost


def _values(message: Delivery) -> dict[str, Any]:
    """Return the records of a message, as JSON, by key; raises what makes it fatal."""
    payload = message.payload
    if message.policy.serializer in EVENTS:
        raise PermanentError("state writes each value of a mapping by itself, and a CloudEvent is whole")
    if message.policy.format == "object":
        payload = as_object(payload, format="object", serializer=message.policy.serializer)
    if not isinstance(payload, Mapping):
        raise PermanentError(
            f"state takes a mapping of keys to values as payload, got {type(payload).__name__}"
        )
    if not payload:
        raise PermanentError("state has nothing to write: the mapping is empty")
    prefix = message.options.prefix
    values: dict[str, Any] = {}
    for key, value in payload.items():
        if not isinstance(key, str):
            raise PermanentError(f"state takes texts as keys, got {type(key).__name__}")
        full = check_key(prefix + key)
        try:
            values[full] = msgspec.Raw(json_of(full, value))
        except StateValueError as error:
            raise SerializationError(f"$.{key}" + error.path.removeprefix("$"), error.reason) from error
    return values


def _store_of(settings: StateConnection) -> StateStore:
    """Return the store of a connection, not yet opened; raises ``ValueError``."""
    url = secret_text(settings.url) or _DEFAULT_URL
    scheme = url.partition("://")[0]
    options: dict[str, Any] = {}
    if scheme in _OVER_A_NETWORK:
        options = {"connect_timeout_s": settings.connect_timeout_s, "timeout_s": settings.timeout_s}
    if scheme in ("http", "https"):
        options |= {"token": settings.token, "ca_file": settings.ca_file}
    elif settings.token is not None or settings.ca_file is not None:
        raise ValueError("token and ca_file go with an http or https url")
    if scheme in _BOUNDED:
        options["max_value_bytes"] = settings.max_value_bytes
    elif settings.max_value_bytes is not None:
        raise ValueError("max_value_bytes goes with a sqlite or redis url")
    if url == "memory://":
        # One without a name is the app's own: its workers share the settings, and so the records.
        options["beside"] = vars(settings).setdefault("_records", MemoryStore())
    return store_from_url(url, encryption_key=settings.encryption_key, **options)


def _ours(error: StateError) -> DeliveryError:
    """Return the error of a delivery for one of a store; the only place that knows which is which."""
    text = str(error)
    if isinstance(error, StateAccessError):
        return AccessError(text)
    if isinstance(error, StateNotReadyError):
        return ConnectionLostError(text)
    if isinstance(error, StateUnavailableError):
        return ConnectionLostError(text) if error.applied == "no" else UnknownOutcomeError(text)
    if isinstance(error, StateQuotaError):
        return RejectedError(text)
    if isinstance(error, StateTooLargeError):
        return PayloadTooLargeError(error.size, error.limit, error.what)
    return PermanentError(text)
