"""The API used as applications and handler authors use it; every checker accepts it in strict mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, assert_type

import msgspec

import rambla_py as rambla
from rambla_py import Delivery, Handler, Outcome, State


class Client:
    def write(self, data: bytes) -> int:
        return len(data)

    def close(self) -> None: ...


class AuditSettings(msgspec.Struct):
    host: str
    port: int = 514


class AuditOptions(msgspec.Struct):
    table: Annotated[str, msgspec.Meta(description="where rows go")] = "audit"


class AuditHandler(Handler[Client, AuditOptions, AuditSettings]):
    Connection: ClassVar[Any] = AuditSettings
    Options: ClassVar[Any] = AuditOptions
    guarantee: ClassVar[str] = "at least once"

    def connect(self) -> Client:
        assert_type(self.settings, AuditSettings)
        return Client()

    def close(self, connection: Client) -> None:
        connection.close()

    def handle_publish(
        self, message: Delivery[AuditOptions], options: AuditOptions, state: State[Client]
    ) -> int:
        assert_type(state.connection, Client)
        assert_type(message.options, AuditOptions)
        return state.connection.write(message.body() + options.table.encode())


class BatchHandler(Handler[Client, AuditOptions, AuditSettings]):
    def handle_batch(
        self, messages: Sequence[Delivery[AuditOptions]], state: State[Client]
    ) -> list[int | rambla.Failed]:
        return [
            state.connection.write(message.body()) or rambla.Failed("nothing written") for message in messages
        ]


class UntypedHandler(Handler):
    """Untyped handlers keep working: what is not named is ``Any``."""

    def handle_publish(self, message: Any, options: Any, state: Any) -> Any:
        return state.connection.anything(message.payload, options.anything)


def decide(outcome: Outcome) -> rambla.Retry | rambla.Stop | None:
    if isinstance(outcome.error, rambla.UnroutableError):
        return rambla.STOP
    return rambla.Retry(delay_s=1.0) if outcome.attempts < 3 else None


def publish(app: rambla.Rambla) -> list[Outcome]:
    receipt: rambla.Receipt = app.publish(
        "orders", rambla.Message({"id": 42}, key="customer-7"), routing_key="paid"
    )
    try:
        receipt.result(timeout_s=5)
    except rambla.PublishError as error:
        print(error.outcomes)
    except rambla.MailboxFullError as error:
        print(error.max_pending)
    return receipt.outcomes(timeout_s=5)


async def publish_in_a_loop(app: rambla.Rambla) -> object:
    receipt = await app.publish_async("orders", {"id": 42})
    return await receipt


def run() -> bool:
    rambla.start({"null": {"connections": {"here": {}}, "channels": {"demo": {"connection": "here"}}}})
    rambla.publish("demo", "hello")
    rambla.publish_many(["demo"], [1, 2, 3])
    accounts = rambla.stop() or {}
    return accounts["null.demo"].balanced


def look(app: rambla.Rambla) -> list[str]:
    status: dict[str, rambla.TargetStatus] = app.status()
    pings: list[rambla.Ping] = app.ping(timeout_s=1)
    return [*(one.state for one in status.values()), *(ping.service for ping in pings)]
