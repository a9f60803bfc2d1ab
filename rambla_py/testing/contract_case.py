"""What the author of a handler declares to the contract suite: flags, tables, what arrived."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from rambla_py.errors import SerializationError
from rambla_py.handler import Handler
from rambla_py.message import Message
from rambla_py.outcome import Outcome
from rambla_py.registry import find_handler
from rambla_py.serialization.encoding import encode
from rambla_py.testing.flags import FlaggedTests
from rambla_py.testing.harness import CHANNEL, SERVICE, Harness, numbered, until
from rambla_py.testing.ports import HOST, free_port

__all__ = ["CANARY", "MANY", "SOME", "HandlerCase", "Received", "comparable"]

CANARY = "canary-Jx7-s3cret"
"""The password that ``wrong_password`` gives, and that must never show."""

MANY = 1_000
SOME = 300
"""Several batches of every handler, and more than enough for a fault to happen in their midst."""

_METHODS = {
    "has_limit": "too_large",
    "has_tls": "wrong_name",
    "has_secrets": "secret_at",
    "can_silence": "silence",
    "can_die": "die",
}


class Received(NamedTuple):
    """A message as it arrived: its payload as it was kept, and its id where there is a place for it.

    ``headers`` is None where the backend has none, or they were not read.
    """

    payload: Any
    id: str | None = None
    headers: Mapping[str, Any] | None = None


def differences(found: Counter[Any], wanted: Counter[Any]) -> str:
    """Summarize what is missing and what is extra: pytest takes a minute to compare a thousand."""
    missing, surplus = [*(wanted - found)], [*(found - wanted)]
    parts = [("missing", missing), ("not expected", surplus)]
    return "; ".join(f"{len(some)} {what}: {some[:3]!r:.300}" for what, some in parts if some)


class HandlerCase(FlaggedTests):
    """A configured handler under test; see ``HandlerContract``."""

    _rambla_suite: ClassVar[bool] = True  # the pytest plugin explains failures of such a class
    handler: ClassVar[type[Handler] | str]
    stores: ClassVar[bool] = True
    carries_ids: ClassVar[bool] = True
    serializes: ClassVar[bool] = True
    has_poison: ClassVar[bool] = True
    has_server: ClassVar[bool] = True
    has_address: ClassVar[bool] = True
    has_login: ClassVar[bool] = True
    can_cut: ClassVar[bool] = True

    release_s: ClassVar[float] = 10.0
    """How long failed messages and closed sockets may stay; a driver that was abandoned ends with its own
    time-out, which ``impatient`` makes a short one."""

    answer_s: ClassVar[float] = 1.0
    """How long the first message of a connection may take on a busy machine."""

    # Down until the class says otherwise: not every backend keeps what the serializer wrote.
    carries_events: ClassVar[bool] = False

    # None: up when the class writes the method, so that an older suite need not know of a newer flag.
    has_limit: ClassVar[bool | None] = None
    has_tls: ClassVar[bool | None] = None
    has_secrets: ClassVar[bool | None] = None
    can_silence: ClassVar[bool | None] = None
    can_die: ClassVar[bool | None] = None

    @classmethod
    def _is_up(cls, flag: str) -> bool:
        given: bool | None = getattr(cls, flag)
        if given is not None:
            return given
        method = _METHODS[flag]
        return getattr(cls, method) is not getattr(HandlerCase, method)

    # -- what the author gives ------------------------------------------------------------------------

    def connection(self) -> Mapping[str, Any]:
        """Return the table of a connection that works."""
        return {}

    def options(self) -> Mapping[str, Any]:
        """Return the options of the channel, best with names that no other test uses."""
        return {}

    def settings(self) -> Mapping[str, Any]:
        """Return further keys of the channel's table."""
        return {}

    def payload(self, number: int) -> Any:
        """Return an ordinary payload, a different one for each number."""
        return {"n": number}

    def takes(self, payload: Any) -> bool:
        """Return whether a payload of this kind can be delivered; one that cannot has to be fatal at once."""
        return True

    def arrives_as(self, payload: Any) -> Any:
        """Return what ``received`` shows for a payload: the bytes on the wire, unless it says otherwise."""
        return encode(payload)

    def is_result(self, result: Any) -> bool:
        """Return whether this is what ``Receipt.result()`` should give for a delivered message."""
        return result is None

    def received(self) -> Sequence[Received]:
        """Return everything that has arrived since the test began, duplicates too, in any order."""
        raise NotImplementedError("write received(), or say stores = False")

    def unserializable(self) -> tuple[Any, str]:
        """Return a payload that no serializer takes, and the path to the value in it."""
        return {"order": {"lines": [1, object()]}}, "$.order.lines[1]"

    def poison(self) -> Any:
        """Return a payload, or a ``Message``, that the backend refuses for what it is."""
        raise NotImplementedError("write poison(), or say has_poison = False")

    def poison_with(self, data: str) -> Any:
        """Return ``poison`` with a string in its payload; by default behind each string of the payload."""
        poison = self.poison()
        if isinstance(poison, Message):
            return Message(_with(poison.payload, data), **poison.options)
        return _with(poison, data)

    def unreachable(self) -> Mapping[str, Any]:
        """Return the table of a connection to where no server is, such as a closed port."""
        if not self.has_address:
            raise NotImplementedError("write unreachable(), or say has_server = False")
        return self.at(HOST, free_port())

    def at(self, host: str, port: int) -> Mapping[str, Any]:
        """Return the table of a connection to a server at that address."""
        raise NotImplementedError("write at(), or say has_address = False")

    def end_silence(self) -> None:
        """End what ``silence`` did, where the driver waits in a call without a time-out (a file lock)."""

    def hang_up(self) -> None:
        """Close the connections that a proxy in front of the server has open in this process."""

    def impatient(self) -> Mapping[str, Any]:
        """Return the table of ``connection`` with time-outs of about two seconds, for a silent server."""
        return self.connection()

    def wrong_password(self) -> Mapping[str, Any]:
        """Return a table that reaches the server with ``CANARY`` as its password, which is wrong."""
        raise NotImplementedError("write wrong_password(), or say has_login = False")

    def cut(self) -> None:
        """Make all connections break within about the next hundred messages."""
        raise NotImplementedError("write cut(), or say can_cut = False")

    def cuts(self) -> int:
        """Return how many connections have broken so far, to prove that it happened."""
        raise NotImplementedError("write cuts(), or say can_cut = False")

    def too_large(self) -> tuple[Mapping[str, Any], Any]:
        """Return a connection's table, with a low limit if one can be set, and a payload over it."""
        raise NotImplementedError("write too_large(), or say has_limit = False")

    def wrong_name(self) -> Mapping[str, Any]:
        """Return a table that reaches a server over TLS by a name that its certificate does not show."""
        raise NotImplementedError("write wrong_name(), or say has_tls = False")

    def secret_at(self, host: str, port: int) -> Mapping[str, Any]:
        """Return the table of a connection to that address with ``CANARY`` as its password."""
        raise NotImplementedError("write secret_at(), or say has_secrets = False")

    def silence(self) -> None:
        """Make the server answer nothing from now on, on existing and on new connections."""
        raise NotImplementedError("write silence(), or say can_silence = False")

    def die(self) -> None:
        """Kill the server within about the next hundred messages, and start it again."""
        raise NotImplementedError("write die(), or say can_die = False")

    def deaths(self) -> int:
        """Return how often the server was killed and started again, to prove that it happened."""
        raise NotImplementedError("write deaths(), or say can_die = False")

    # -- the app --------------------------------------------------------------------------------------

    def table(self, connection: Mapping[str, Any], channel: Mapping[str, Any]) -> dict[str, Any]:
        """Return the configuration of an app with one channel."""
        quick = {"retries": 2, "backoff": {"initial_s": 0.01, "max_s": 0.02}}
        options = {**quick, **self.options(), **channel.get("options", {})}
        settings = {
            "slow_restart_s": 0.1,
            **self.settings(),
            **channel,
            "options": options,
            "connection": "main",
        }
        service = {
            "handler": self.handler,
            "connections": {"main": dict(connection)},
            "channels": {CHANNEL: settings},
        }
        return {SERVICE: service}

    def trial(self, connection: Mapping[str, Any] | None = None, **channel: Any) -> Harness:
        """Return an app on a connection, the one that works unless another is given."""
        return Harness(self.table(self.connection() if connection is None else connection, channel))

    def handler_class(self) -> type[Handler]:
        """Return the class under test."""
        return find_handler(self.handler) if isinstance(self.handler, str) else self.handler

    def payloads(self, number: int = MANY) -> list[Any]:
        """Return so many ordinary payloads."""
        return [self.payload(at) for at in range(number)]

    # -- checks -----------------------------------------------------------------------------------------

    def check_arrivals(self, expected: Sequence[tuple[Any, str]]) -> None:
        """Compare what arrived with what was published, each once, in any order."""
        arrived = Counter(comparable(one.payload) for one in self.received())
        wanted = Counter(comparable(self.arrives_as(payload)) for payload, _ in expected)
        assert not (odd := differences(arrived, wanted)), odd
        if self.carries_ids:
            names = Counter(one.id for one in self.received())
            assert not (odd := differences(names, Counter(name for _, name in expected))), odd

    def check_refused(self, trial: Harness, message: Any) -> BaseException:
        """Check that a message is refused by the call, or fatal after one attempt; return the error."""
        try:
            outcome = trial.publish(message)
        except SerializationError as error:
            return error
        assert (outcome.status, outcome.attempts) == ("fatal", 1), f"{outcome!r}"
        assert outcome.error is not None
        return outcome.error

    def check_poison(self, trial: Harness, poison: Any, number: int = SOME) -> None:
        """Publish many messages with one that is to fail; check that it alone does."""
        messages: list[Any] = numbered(self.payloads(number), "m")
        poison_at = number * 5 // 9
        given = poison if isinstance(poison, Message) else Message(poison)
        messages[poison_at] = Message(given.payload, **{**given.options, "id": "poison"})
        accepted = trial.audit().accepted
        try:
            outcomes = trial.publish_many(messages)
        except SerializationError:
            # It is known before anything is accepted, so it harms no other.
            assert trial.audit().accepted == accepted
            return
        bad = [at for at, outcome in enumerate(outcomes) if outcome.status != "ok"]
        assert bad == [poison_at], f"{len(bad)} are not ok: {bad[:5]}"
        assert outcomes[poison_at].status == "fatal", f"{outcomes[poison_at]!r}"
        assert outcomes[poison_at].error is not None
        if self.stores:
            good = [at for at in range(number) if at != poison_at]
            self.check_nothing_missing([outcomes[at] for at in good])

    def check_nothing_missing(self, outcomes: Sequence[Outcome]) -> None:
        """Check that what is ok has arrived, and that what came twice carries the same id."""
        ids = defaultdict(set)
        for one in self.received():
            ids[comparable(one.payload)].add(one.id)
        missing = [o for o in outcomes if comparable(self.arrives_as(o.payload)) not in ids]
        assert not missing, f"{len(missing)} of {len(outcomes)} confirmed and not there: {missing[:5]}"
        if self.carries_ids:
            wrong = [o for o in outcomes if ids[comparable(self.arrives_as(o.payload))] != {o.message_id}]
            assert not wrong, f"arrived with another id: {wrong[:3]}"

    def publish_over_a_cut(self, trial: Harness) -> tuple[list[Outcome], Counter[str]]:
        """Deliver one message, so that there is a connection; then many while it is cut."""
        return self.publish_over(trial, self.cut, self.cuts)

    def publish_over(
        self, trial: Harness, fault: Callable[[], None], happened: Callable[[], int]
    ) -> tuple[list[Outcome], Counter[str]]:
        """Deliver one message; then many over a fault, which has to happen."""
        assert trial.publish(self.payload(SOME)).status == "ok"
        before, ends = happened(), trial.count_ends()
        fault()
        outcomes = trial.publish_many(numbered(self.payloads(SOME), "m"))
        assert until(lambda: happened() > before), "the fault did not happen: the test has proved nothing"
        assert until(lambda: sum(ends.values()) >= SOME)
        return outcomes, ends


def _with(payload: Any, data: str) -> Any:
    """Return a payload with a string behind each of its strings, or as one more item.

    >>> _with({"n": "no number", "at": 1}, "4111"), _with([1], "4111")
    ({'n': 'no number 4111', 'at': 1}, [1, '4111'])
    """
    match payload:
        case str():
            return f"{payload} {data}"
        case dict():
            return {
                name: _with(value, data) if isinstance(value, str) else value
                for name, value in payload.items()
            }
        case list():
            return [*payload, data]
    raise NotImplementedError("write poison_with(), as poison() is no string, dict or list")


def comparable(value: Any) -> Any:
    """Return a hashable value, equal for payloads that are equal on the wire."""
    return value if isinstance(value, bytes | str) else repr(value)
