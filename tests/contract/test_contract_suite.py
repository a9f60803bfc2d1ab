"""Tests of the contract suite itself: a handler that breaks a promise turns it red."""

from __future__ import annotations

import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, ClassVar

import msgspec
import pytest

from rambla_py.delivery import Delivery
from rambla_py.errors import (
    AccessError,
    ConnectionLostError,
    DeliveryError,
    PayloadTooLargeError,
    PermanentError,
    SerializationError,
    UnknownOutcomeError,
)
from rambla_py.handler import Handler, State
from rambla_py.serialization.encoding import encode
from rambla_py.testing import CANARY, HandlerContract, Received
from rambla_py.testing.contract_tests.access import AccessTests
from rambla_py.testing.contract_tests.losses import LossTests
from rambla_py.testing.contract_tests.payloads import PayloadTests
from rambla_py.testing.contract_tests.sockets import SocketTests

_Test = Callable[..., None]


LIMIT = 2_000_000


class Server:
    """Where messages arrive; ``drops`` connections when asked to."""

    def __init__(self) -> None:
        self.rows: list[Received] = []
        self.to_drop = self.dropped = 0
        self.answering = threading.Event()
        self.answering.set()

    def write(self, body: bytes, name: str) -> None:
        if body.startswith(b"poison"):
            raise PermanentError("refused")
        if len(body) > LIMIT:
            raise PayloadTooLargeError(len(body), LIMIT)
        self.answering.wait()
        self.rows.append(Received(body, name))
        if self.to_drop:
            self.to_drop -= 1
            self.dropped += self.to_drop == 0
            if self.to_drop == 0:
                raise UnknownOutcomeError("dropped")


servers: dict[str, Server] = {}


class Good(Handler):
    """Keeps its promises. At least once."""

    guarantee = "at least once"

    class Connection(msgspec.Struct, forbid_unknown_fields=True):
        """Which server."""

        name: str
        password: str | None = None
        shows: str = ""

    def connect(self) -> Server:
        if self.settings.password is not None:
            raise AccessError("refused")
        if self.settings.shows not in ("", self.settings.name):
            raise AccessError("the certificate shows another name")
        if self.settings.name not in servers:
            raise ConnectionLostError("nobody there")
        return servers[self.settings.name]

    def handle_batch(self, messages: Sequence[Delivery], state: State) -> list[Any]:
        return [self.answer(message, state.connection) for message in messages]

    def answer(self, message: Delivery, server: Server) -> Any:
        try:
            server.write(message.body(), message.id)
        except DeliveryError as error:
            return error
        return None


class Case(HandlerContract):
    """Not collected by itself; it runs one test on one handler."""

    has_address = False
    release_s = 1.0  # where a promise is broken, all of it passes

    def __init__(self, handler: type[Handler]) -> None:
        self.handler = handler  # type: ignore[misc]  # pytest makes no instance of this one
        self.name = uuid.uuid4().hex
        self.server = servers[self.name] = Server()

    def connection(self) -> dict[str, Any]:
        return {"name": self.name}

    def received(self) -> list[Received]:
        return self.server.rows

    def poison(self) -> str:
        return "poison"

    def unreachable(self) -> dict[str, Any]:
        return {"name": "nobody"}

    def wrong_password(self) -> dict[str, Any]:
        return {"name": self.name, "password": CANARY}

    def cut(self) -> None:
        self.server.to_drop = 20

    def cuts(self) -> int:
        return self.server.dropped

    def too_large(self) -> tuple[dict[str, Any], Any]:
        return self.connection(), "x" * (LIMIT + 1)

    def wrong_name(self) -> dict[str, Any]:
        return {"name": self.name, "shows": "elsewhere"}

    def secret_at(self, host: str, port: int) -> dict[str, Any]:
        return {"name": f"{host}:{port}", "password": CANARY}

    def silence(self) -> None:
        self.server.answering.clear()

    def die(self) -> None:
        self.cut()

    def deaths(self) -> int:
        return self.cuts()


@pytest.fixture(autouse=True)
def _servers() -> Iterator[None]:
    yield
    for server in servers.values():
        server.answering.set()
    servers.clear()
    for pair in KeepsSocket.pairs:
        for end in pair:
            end.close()
    KeepsSocket.pairs.clear()


class LosesOne(Good):
    """Forgets one message, and says ok."""

    def answer(self, message: Delivery, server: Server) -> Any:
        return None if message.id == "m-77" else super().answer(message, server)


class Doubles(Good):
    """Writes everything twice."""

    def answer(self, message: Delivery, server: Server) -> Any:
        server.write(message.body(), message.id)
        return super().answer(message, server)


class BulkIsOk(Good):
    """Is content with a batch whatever became of its messages."""

    def answer(self, message: Delivery, server: Server) -> Any:
        with suppress(PermanentError):
            super().answer(message, server)


class AllOrNothing(Good):
    """Fails a batch for one message."""

    def handle_batch(self, messages: Sequence[Delivery], state: State) -> list[Any]:
        answers = super().handle_batch(messages, state)
        errors = [answer for answer in answers if isinstance(answer, PermanentError)]
        return errors * len(messages) if errors else answers


class Stringifies(Good):
    """Writes what cannot be serialized as text."""

    def answer(self, message: Delivery, server: Server) -> Any:
        try:
            return super().answer(message, server)
        except SerializationError:
            return None

    def handle_batch(self, messages: Sequence[Delivery], state: State) -> list[Any]:
        for message in messages:
            with suppress(SerializationError):
                message.body()
                continue
            message.payload = str(message.payload)
        return super().handle_batch(messages, state)


class RetriesNonsense(Good):
    """Takes a payload that cannot be serialized for a failure that passes."""

    def answer(self, message: Delivery, server: Server) -> Any:
        answer = super().answer(message, server)
        return DeliveryError("try again") if isinstance(answer, SerializationError) else answer


class Mangles(Good):
    """Reads bytes as text."""

    def answer(self, message: Delivery, server: Server) -> Any:
        server.write(message.body().decode(errors="replace").encode(), message.id)


class NewId(Good):
    """Gives a message another id on the way."""

    def answer(self, message: Delivery, server: Server) -> Any:
        server.write(message.body(), f"{message.id}-{message.losses}" if message.losses else message.id)


class NotSent(Good):
    """Takes a loss after the write for one before it."""

    def handle_batch(self, messages: Sequence[Delivery], state: State) -> list[Any]:
        answers = super().handle_batch(messages, state)
        return [ConnectionLostError("?") if isinstance(a, UnknownOutcomeError) else a for a in answers]


class SureOfIt(Good):
    """Counts what was in flight at a loss as delivered, though the server forgot it."""

    def handle_batch(self, messages: Sequence[Delivery], state: State) -> list[Any]:
        answers = super().handle_batch(messages, state)
        if any(isinstance(answer, UnknownOutcomeError) for answer in answers):
            del state.connection.rows[-1]
        return [None if isinstance(answer, UnknownOutcomeError) else answer for answer in answers]


class Tells(Good):
    """Shows the password in its error."""

    def connect(self) -> Server:
        raise AccessError(f"the server does not know {self.settings.password}")


class JustLost(Good):
    """Takes a wrong password for a server that is away."""

    def connect(self) -> Server:
        raise ConnectionLostError("no answer")


class ConnectsToAnything(Good):
    """Does not notice that no server is there."""

    def connect(self) -> Server:
        return servers.get(self.settings.name, Server())


class ClosesOnce(Good):
    """Cannot be closed again."""

    def close(self, connection: Server) -> None:
        connection.rows.remove(connection.rows[0])


class Silent(Good):
    """Says nothing of its guarantee."""

    guarantee = Handler.guarantee


class Unnoticed(Good):
    __doc__ = None


class Distracted(Good):
    """Gives a callable something that is no connection."""

    def destination(self, connection: Server) -> None:
        return None


class TakesAnySize(Good):
    """Lets the server's limit surprise it."""

    def answer(self, message: Delivery, server: Server) -> Any:
        answer = super().answer(message, server)
        return PermanentError("413") if isinstance(answer, PayloadTooLargeError) else answer


class TrustsAnyone(Good):
    """Does not look at the certificate."""

    def connect(self) -> Server:
        return servers[self.settings.name]


class Plain(Good):
    """Ignores the attributes of events."""

    def answer(self, message: Delivery, server: Server) -> Any:
        server.write(encode(message.payload), message.id)


class PromisesHeaders(Good):
    """Says that it carries headers, and does not."""

    @classmethod
    def event_prefix(cls, options: Any) -> str:
        return "ce-"


class TakesSilenceForYes(Good):
    """Does not wait for an answer."""

    def answer(self, message: Delivery, server: Server) -> Any:
        return super().answer(message, server) if server.answering.is_set() else None


class ChangesPayload(Good):
    """Writes into the payload that the targets of a message share."""

    def answer(self, message: Delivery, server: Server) -> Any:
        result = super().answer(message, server)
        message.payload["delivered"] = True
        return result


class Quotes(Good):
    """Says what it was given."""

    def answer(self, message: Delivery, server: Server) -> Any:
        error = super().answer(message, server)
        return error and PermanentError(f"{error}: {message.payload}")


class Keeps(Good):
    """Keeps what failed."""

    kept: ClassVar[list[Any]] = []

    def answer(self, message: Delivery, server: Server) -> Any:
        self.kept.append(message)
        return super().answer(message, server)


class KeepsSocket(Good):
    """Closes none of the sockets that it opens."""

    pairs: ClassVar[list[Any]] = []

    def connect(self) -> Server:
        self.pairs.append(socket.socketpair())
        return super().connect()


BROKEN: list[tuple[type[Handler], _Test]] = [
    (LosesOne, HandlerContract.test_a_thousand_messages_arrive_once),
    (LosesOne, HandlerContract.test_two_workers_share_the_messages),
    (LosesOne, HandlerContract.test_a_loss_in_mid_batch_loses_no_message),
    (Doubles, HandlerContract.test_a_delivered_message_has_arrived),
    (Doubles, HandlerContract.test_a_thousand_messages_arrive_once),
    (BulkIsOk, HandlerContract.test_one_poison_message_in_a_thousand_fails_alone),
    (AllOrNothing, HandlerContract.test_one_poison_message_in_a_thousand_fails_alone),
    (Stringifies, HandlerContract.test_an_unserializable_payload_is_refused_at_once),
    (Stringifies, HandlerContract.test_an_unserializable_payload_harms_no_other),
    (RetriesNonsense, HandlerContract.test_an_unserializable_payload_is_refused_at_once),
    (ChangesPayload, HandlerContract.test_the_captured_payload_is_never_changed),
    (NewId, HandlerContract.test_a_loss_in_mid_batch_loses_no_message),
    (NotSent, HandlerContract.test_a_loss_is_reported_where_unknown_is_not_retried),
    (SureOfIt, HandlerContract.test_a_loss_in_mid_batch_loses_no_message),
    (Tells, HandlerContract.test_ping_finds_the_server),
    (JustLost, HandlerContract.test_ping_says_that_the_password_is_wrong),
    (ConnectsToAnything, HandlerContract.test_messages_to_an_unreachable_server_wait_and_expire),
    (ConnectsToAnything, HandlerContract.test_ping_says_that_a_server_is_unreachable),
    (ClosesOnce, HandlerContract.test_closing_twice_does_no_harm),
    (Plain, PayloadTests.test_an_event_arrives_whole),
    (PromisesHeaders, PayloadTests.test_the_attributes_of_an_event_arrive_as_headers_or_are_refused),
    (TakesAnySize, PayloadTests.test_a_payload_over_the_limit_is_fatal_alone),
    (TrustsAnyone, AccessTests.test_ping_says_that_the_certificate_is_of_another_name),
    (JustLost, AccessTests.test_ping_says_that_the_certificate_is_of_another_name),
    (TakesSilenceForYes, LossTests.test_a_server_that_falls_silent_holds_nothing_up),
    (SureOfIt, LossTests.test_a_server_that_dies_in_mid_batch_loses_no_message),
    (LosesOne, LossTests.test_a_server_that_dies_in_mid_batch_loses_no_message),
    (KeepsSocket, SocketTests.test_the_stop_leaves_no_socket),
    (Silent, HandlerContract.test_the_guarantee_is_stated),
    (Unnoticed, HandlerContract.test_the_guarantee_is_stated),
    (Quotes, HandlerContract.test_the_data_of_a_refused_message_never_shows),
    (Distracted, HandlerContract.test_a_callable_is_given_source_destination_and_options),
]


@pytest.mark.parametrize(("handler", "test"), BROKEN, ids=lambda item: item.__name__)
def test_a_broken_promise_turns_the_suite_red(handler: type[Handler], test: _Test) -> None:
    """A handler with one fault fails the test of that promise, and one without passes it."""
    test(Case(Good))
    with pytest.raises((AssertionError, IndexError)):
        test(Case(handler))


def test_a_mangled_payload_turns_the_suite_red() -> None:
    """Bytes that do not arrive as they were are no success."""
    Case(Good).test_a_payload_arrives_unchanged_or_is_fatal_at_once("binary")
    with pytest.raises(AssertionError):
        Case(Mangles).test_a_payload_arrives_unchanged_or_is_fatal_at_once("binary")


def test_a_failed_message_that_is_kept_turns_the_suite_red() -> None:
    """A handler that refers to what it failed keeps it in memory."""
    Case(Good).test_a_refused_message_is_freed("in a batch")
    with pytest.raises(AssertionError, match="5 of 5 payloads are alive"):
        Case(Keeps).test_a_refused_message_is_freed("in a batch")


def test_a_password_that_shows_turns_the_suite_red(capfd: pytest.CaptureFixture[str]) -> None:
    """An error with the password in its text is found, wherever it goes."""
    Case(Good).test_a_password_never_shows(capfd)
    with pytest.raises(AssertionError):
        Case(Tells).test_a_password_never_shows(capfd)


def test_a_secret_in_any_error_turns_the_suite_red(capfd: pytest.CaptureFixture[str]) -> None:
    """An error that shows the password is found, whatever else is wrong with the server."""
    Case(Good).test_no_error_shows_a_secret("closed", capfd)
    with pytest.raises(AssertionError):
        Case(Tells).test_no_error_shows_a_secret("closed", capfd)


def test_a_connection_that_takes_anything_turns_the_suite_red() -> None:
    """A key of the table that swallows what it is not meant for is found."""

    class Anything(Good):
        class Connection(msgspec.Struct):
            name: object

    Case(Good).test_a_connection_of_the_wrong_type_is_refused()
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        Case(Anything).test_a_connection_of_the_wrong_type_is_refused()


def test_a_flag_goes_up_with_its_method() -> None:
    """A newer promise is tested where its method is written; it can be put down again."""

    class Old(HandlerContract):
        pass

    class New(Old):
        def silence(self) -> None: ...

    class Down(New):
        can_silence = False

    name = "test_a_server_that_falls_silent_holds_nothing_up"
    assert [getattr(kind, name) is None for kind in (Old, New, Down)] == [True, False, True]


def test_a_flag_that_is_down_takes_its_tests_away() -> None:
    """They are not skipped but absent; a subclass that puts the flag up again has them back."""

    class Poor(HandlerContract):
        has_poison = can_cut = False

    class Rich(Poor):
        has_poison = True

    name = "test_one_poison_message_in_a_thousand_fails_alone"
    assert getattr(Poor, name) is None
    assert Poor.test_a_loss_in_mid_batch_loses_no_message is None
    assert getattr(Rich, name) is getattr(HandlerContract, name)
    assert Rich.test_a_loss_in_mid_batch_loses_no_message is None


def test_a_flag_that_is_up_asks_for_its_method() -> None:
    """Nothing is left out by forgetting it: the test says what to write, or which flag to put down."""
    with pytest.raises(NotImplementedError, match="has_poison = False"):
        HandlerContract().poison()
