"""The API with a mistake on each marked line; every checker reports each of them, and nothing else."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

import rambla_py as rambla
from rambla_py import Delivery, Handler, State


class Client:
    def write(self, data: bytes) -> int:
        return len(data)


class AuditSettings(msgspec.Struct):
    host: str


class AuditOptions(msgspec.Struct):
    table: str = "audit"


class AuditHandler(Handler[Client, AuditOptions, AuditSettings]):
    Connection: ClassVar[Any] = AuditSettings
    Options: ClassVar[Any] = AuditOptions

    def connect(self) -> Client:
        print(self.settings.hots)  # wrong
        return Client()

    def handle_publish(
        self, message: Delivery[AuditOptions], options: AuditOptions, state: State[Client]
    ) -> int:
        print(options.tabel)  # wrong
        print(message.paylaod)  # wrong
        print(message.options.tabel)  # wrong
        print(message.receipt)  # wrong
        print(state.chanel)  # wrong
        return state.connection.wrte(message.body())  # wrong


def publish(app: rambla.Rambla, receipt: rambla.Receipt, outcome: rambla.Outcome) -> None:
    rambla.publsh("orders", 1)  # wrong
    app.publsh("orders", 1)  # wrong
    receipt.reslt()  # wrong
    receipt.result(timeout=5)  # wrong
    receipt.settle(1)  # wrong
    print(outcome.atempts)  # wrong
    rambla.Retry(delay=1.0)  # wrong
    rambla.Failed("no", retriable=False)  # wrong
    app.ping(timout_s=1)  # wrong
    print(app.audit()["amqp.orders"].balancd)  # wrong
    print(app.status()["amqp.orders"].queud)  # wrong


def names() -> None:
    print(rambla.Recipt)  # wrong
    print(rambla.MailboxFulError)  # wrong
    print(rambla.STOPP)  # wrong
