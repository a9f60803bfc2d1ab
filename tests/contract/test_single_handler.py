"""`rambla_py.testing.delivery` and `connected`: handlers tested method by method."""

from __future__ import annotations

import threading
from typing import Annotated, Any

import msgspec
import pytest
from small_apps import Seen, probe

from rambla_py import (
    ChildSpec,
    ConfigError,
    DeliveryError,
    Failed,
    Handler,
    Ok,
    OptionError,
    RejectedError,
    StartError,
)
from rambla_py.handler import per_channel
from rambla_py.testing import connected, delivery


class Settings(msgspec.Struct):
    host: str
    port: int = 9000


class Options(msgspec.Struct):
    table: Annotated[str, per_channel("where rows go")]
    level: int = 1


class Writer(Handler[Any, Options, Settings]):
    Connection = Settings
    Options = Options
    takes = "bytes"

    def connect(self) -> str:
        return f"{self.settings.host}:{self.settings.port}"

    def handle_publish(self, message: Any, options: Any, state: Any) -> Any:
        return (state.connection, options.table, options.level, message.body(), message.key)


def test_a_delivery_has_the_options_of_its_handler() -> None:
    """Checked, with defaults, those of the channel too; without a handler they are a dict, or None are given."""
    one = delivery({"id": 1}, handler=Writer, table="rows", level=3, key="k", headers={"a": "1"}, retries=2)
    assert (one.options.table, one.options.level, one.key, one.headers) == ("rows", 3, "k", {"a": "1"})
    assert (one.policy.retries, one.attempts, one.body()) == (2, 1, b'{"id":1}')
    assert delivery("x", color="red").options == {"color": "red"}
    assert delivery("x", id="mine").id == "mine"
    assert len(delivery("x").id) == 32
    with pytest.raises(ConfigError, match="table"):
        delivery("x", handler=Writer)
    with pytest.raises((OptionError, ConfigError), match="levle"):
        delivery("x", handler=Writer, table="rows", levle=3)


def test_a_delivery_keeps_the_first_answer() -> None:
    """As the runtime does: later ones are ignored."""
    good, bad, lost = delivery(1), delivery(2), delivery(3)
    good.ok("stored")
    good.failed("late")
    bad.failed("no room")
    lost.unknown()
    assert (good.status, good.result, good.error) == ("ok", "stored", None)
    assert (bad.status, str(bad.error)) == ("failed", "no room")
    assert isinstance(bad.error, DeliveryError)
    assert "before the answer" in str(lost.error)


def test_a_connected_handler_takes_payloads_as_a_worker_gives_them() -> None:
    """Settings and options are those of a configuration; options of a message are laid over the channel's."""
    with connected(Writer, {"host": "h"}, table="rows") as writer:
        assert writer.handle({"id": 1}, level=2, key="k") == [("h:9000", "rows", 2, b'{"id":1}', "k")]
        given = writer.delivery("x")
        assert writer.handle(given) == [("h:9000", "rows", 1, b"x", None)]
        assert writer.state.connection == "h:9000"
        assert writer.options.level == 1
    with pytest.raises(ConfigError, match=r"host"), connected(Writer, {"prot": 1}, table="rows"):
        pass


def test_each_level_of_the_contract_answers_for_each_message() -> None:
    """Batches and deliveries, async ones and those settled on another thread too."""
    answers = [Ok(1), Failed("no"), RejectedError("not now"), "plain"]

    def handle_batch(self: Handler, messages: Any, state: Any) -> Any:
        return [answers[message.payload] for message in messages]

    async def handle_deliveries(self: Handler, deliveries: Any, state: Any) -> None:
        for one in deliveries:
            answer = answers[one.payload]
            settle = one.failed if isinstance(answer, Exception | Failed) else one.ok
            value = answer.result if isinstance(answer, Ok) else answer
            value = value.reason if isinstance(value, Failed) else value
            threading.Thread(target=settle, args=(value,)).start()

    for kind in (probe(handle_batch=handle_batch), probe(handle_deliveries=handle_deliveries)):
        with connected(kind) as handler:
            first, second, third, fourth = handler.handle(0, 1, 2, 3)
        assert (first, fourth) == (1, "plain")
        assert isinstance(second, DeliveryError)
        assert isinstance(third, RejectedError)


def test_all_of_it_is_closed_also_when_the_test_fails() -> None:
    """External servers first and last, the connection in between; async connects are awaited."""
    log = Seen()

    async def connect(self: Handler) -> str:
        log.append(f"connect to {self.servers['broker']}")
        return "there"

    handler = probe(
        lambda message: None,
        external_servers=lambda self, channel: [
            ChildSpec("broker", lambda: log.append("start") or 5672, stop=lambda port: log.append("stop"))
        ],
        connect=connect,
        ping=lambda self, connection: log.append(f"ping {connection}"),
        close=lambda self, connection: log.append(f"close {connection}"),
    )
    with pytest.raises(KeyError), connected(handler) as one:
        one.ping()
        raise KeyError
    assert log == ["start", "connect to 5672", "ping there", "close there", "stop"]


def test_a_handler_that_cannot_be_made_raises() -> None:
    """The error of its constructor is the cause."""

    def __init__(self: Handler, *args: Any, **fields: Any) -> None:  # noqa: N807
        raise ValueError("no licence")

    with pytest.raises(StartError, match="no licence"), connected(probe(lambda _: None, __init__=__init__)):
        pass
