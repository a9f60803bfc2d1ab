"""The ``state`` handler."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar
from urllib.parse import unquote

import msgspec
from msgspec import Meta

from rambla_py.errors import (
    AccessError,
    ConnectionLostError,
    DeliveryError,
    PayloadTooLargeError,
    PermanentError,
    SerializationError,
    UnavailableError,
    UnknownOutcomeError,
)
from rambla_py.handler import Handler, Preflight, Secret, routing, secret_text
from rambla_py.serialization.cloudevents import EVENTS
from rambla_py.serialization.encoding import as_object
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
from rambla_py.state.urls import find_store, option_names, scheme_of

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery
    from rambla_py.handler import State

__all__ = ["StateSettings", "StateHandler", "StateOptions"]

_DEFAULT_URL = "sqlite:///state.db"
_STORE_OPTIONS = (
    "token",
    "ca_file",
    "connect_timeout_s",
    "timeout_s",
    "max_value_bytes",
    "cleanup_every_s",
)


class StateSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, dict=True):
    """The table of a ``state`` connection: the store and its parameters.

    >>> StateSettings(url=Secret("redis://:hunter2@cache.internal/0")).url
    ***
    """

    url: Annotated[
        Secret | None,
        Meta(
            description="memory://name, file:///folder, sqlite:///file (four slashes: from the root), "
            "redis://, rediss://, unix://, redis+cluster://, redis+sentinel://, http:// and https:// for a "
            "server of rambla state serve, or the scheme of an installed package; default sqlite:///state.db"
        ),
    ] = None
    store: Annotated[
        str | None, Meta(description="module:Class of a StateStore, to use instead of that of the scheme")
    ] = None
    store_options: Annotated[
        dict[str, Any], Meta(description="further options of the store's class, by keyword")
    ] = {}
    encryption_key: Annotated[
        Secret | None,
        Meta(
            description="32 bytes in base64 or hexadecimal digits, to encrypt values; several keys as "
            "name:key, separated by spaces, of which the first encrypts"
        ),
    ] = None
    token: Annotated[Secret | None, Meta(description="http, https: the server's bearer token")] = None
    ca_file: Annotated[
        str | None, Meta(description="https: PEM file of the certificate authorities to trust")
    ] = None
    connect_timeout_s: Annotated[
        float | None,
        Meta(gt=0, le=1e9, description="redis, http: time-out of connecting, and of the first answer; 5"),
    ] = None
    timeout_s: Annotated[
        float | None, Meta(gt=0, le=1e9, description="redis, http: time-out of an answer; 10")
    ] = None
    max_value_bytes: Annotated[
        int | None,
        Meta(
            ge=1,
            description="sqlite, redis: a larger value is fatal; default the limit of SQLite (10^9 bytes) or "
            "Redis (proto-max-bulk-len, 512 MiB)",
        ),
    ] = None
    cleanup_every_s: Annotated[
        float | None,
        Meta(
            gt=0,
            le=1e9,
            description="sqlite, file, memory, redis: a write also removes expired records, once in so many "
            "seconds; default never",
        ),
    ] = None

    def __post_init__(self) -> None:
        try:
            _store_of(self)
        except (StateError, TypeError) as error:  # an extra is missing; a class that is no store
            raise ValueError(str(error)) from None


class StateOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The options of a ``state`` channel; each may also be set for one message."""

    prefix: Annotated[str, routing("prefix of each key")] = ""
    ttl_s: Annotated[
        float | None, Meta(gt=0, le=1e9, description="seconds until the records expire; default never")
    ] = None


class StateHandler(Handler):
    """Writes each key of a mapping as a record of a state store.

    A batch is one write if the store supports it: one transaction in SQLite, one script in Redis, one request
    over HTTP; a message is then written whole or not at all. When the store refuses such a write (too large),
    each message is tried alone. At least once: written again, a record has the same value, and its expiry
    starts again. One worker writes in the order of its messages; of one key in a batch the last value stays.
    The message's id is not stored.

    The result is the number of records of the message. While the store is full, messages wait
    (``UnavailableError``); a payload that is not a mapping, a key over 1,024 bytes and a value that JSON
    cannot hold are fatal at once. A callable payload is called with the ``StateStore``.

    >>> StateHandler.Options(prefix="cart:", ttl_s=3600).prefix
    'cart:'
    """

    Connection: ClassVar[Any] = StateSettings
    Options: ClassVar[Any] = StateOptions
    guarantee: ClassVar[str] = (
        "at least once; a record that is written twice has the same value; in order within a worker, "
        "failed messages aside"
    )

    @staticmethod
    def store_of(settings: StateSettings) -> StateStore:
        """Return the store of a connection's table, not yet opened."""
        return _store_of(settings)

    def connect(self) -> StateStore | None:
        """Open the store."""
        store = _store_of(self.settings)
        if self.dry_run and _missing(self.settings) is not None:
            return None
        try:
            store.init()
        except StateError as error:
            refused = isinstance(error, StateAccessError | StateCorruptError)
            raise (AccessError if refused else ConnectionLostError)(str(error)) from error
        return store

    def close(self, connection: StateStore | None) -> None:
        """Close the store."""
        if connection is not None:
            connection.close()

    def preflight(self, connection: StateStore | None, report: Preflight) -> None:
        """Report the file or folder that the store would create."""
        missing = _missing(self.settings)
        if missing is not None:
            report.would_create(f"state store {missing}")
        elif not (secret_text(self.settings.url) or "").startswith("memory:"):
            report.not_checked("the right to write records")

    def ping(self, connection: StateStore | None) -> None:
        """Read a record."""
        if connection is None:
            return
        try:
            connection.get("health")
        except StateError as error:
            raise _delivery_error(error) from error

    def handle_batch(self, messages: Sequence[Delivery], state: State) -> list[Any]:
        """Write the records of all messages; return the number of records or an error for each."""
        answers: list[Any] = [None] * len(messages)
        sound: list[tuple[int, float | None, dict[str, Any]]] = []
        for place, message in enumerate(messages):
            try:
                sound.append((place, message.options.ttl_s, _values(message)))
            except Exception as error:  # code of a payload may raise anything, for its message only
                answers[place] = _delivery_error(error) if isinstance(error, StateError) else error
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
    """Write messages with the same expiry and fill in the answers; return the error if the store is lost."""
    merged = {key: value for _, values in group for key, value in values.items()}
    error: DeliveryError | None = None
    if lost is None:
        try:
            store.set_many(merged, expires_s=ttl_s)
        except StateError as problem:
            error = _delivery_error(problem)
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
    """Return the records of a message, as JSON, by key; raises an error for a wrong payload."""
    payload = message.payload
    if message.policy.serializer in EVENTS:
        raise PermanentError("state writes the values of a mapping separately; a CloudEvent is one")
    if message.policy.format == "object":
        payload = as_object(payload, format="object", serializer=message.policy.serializer)
    if not isinstance(payload, Mapping):
        raise PermanentError(
            f"state takes a mapping of keys to values as payload, got {type(payload).__name__}"
        )
    if not payload:
        raise PermanentError("the payload of state is an empty mapping")
    prefix = message.options.prefix
    values: dict[str, Any] = {}
    for key, value in payload.items():
        if not isinstance(key, str):
            raise PermanentError(f"state takes strings as keys, got {type(key).__name__}")
        full = check_key(prefix + key)
        try:
            values[full] = msgspec.Raw(json_of(full, value))
        except StateValueError as error:
            raise SerializationError(f"$.{key}" + error.path.removeprefix("$"), error.reason) from error
    return values


def _missing(settings: StateSettings) -> Path | None:
    """Return the file or folder of a store on disk, if it does not exist."""
    scheme, _, rest = (secret_text(settings.url) or _DEFAULT_URL).partition("://")
    if scheme not in ("file", "sqlite"):
        return None
    path = Path(unquote(rest) if scheme == "file" else rest[1:]).expanduser()
    return None if path.exists() else path


def _store_of(settings: StateSettings) -> StateStore:
    """Return the store of a connection, not yet opened; raises ``ValueError`` and ``TypeError``."""
    url = secret_text(settings.url) or _DEFAULT_URL
    kind = find_store(settings.store or scheme_of(url))
    given = {name: getattr(settings, name) for name in _STORE_OPTIONS}
    options = {name: value for name, value in given.items() if value is not None}
    twice = sorted(options.keys() & settings.store_options.keys())
    if twice:
        raise ValueError(f"{twice[0]} both beside and in store_options; give it once")
    known = option_names(kind)
    for name in options | settings.store_options:
        if known is not None and name not in known:
            raise ValueError(
                f"{name}, which {kind.__name__} does not take; it takes {', '.join(sorted(known))}"
            )
    if kind is MemoryStore and url.lower() == "memory://":
        # Without a name it belongs to the app: its workers share the settings, and so the records.
        options["beside"] = vars(settings).setdefault("_records", MemoryStore())
    return store_from_url(
        url, store=kind, encryption_key=settings.encryption_key, **options, **settings.store_options
    )


def _delivery_error(error: StateError) -> DeliveryError:
    """Return the delivery error for one of a store."""
    text = str(error)
    if isinstance(error, StateAccessError):
        return AccessError(text)
    if isinstance(error, StateNotReadyError):
        return ConnectionLostError(text)
    if isinstance(error, StateUnavailableError):
        return ConnectionLostError(text) if error.applied == "no" else UnknownOutcomeError(text)
    if isinstance(error, StateQuotaError):
        return UnavailableError(text)
    if isinstance(error, StateTooLargeError):
        return PayloadTooLargeError(error.size, error.limit, error.what)
    return PermanentError(text)
