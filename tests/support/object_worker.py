"""A worker of the objects handler without an app, and a bucket of its own."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import msgspec
import pytest
from delivery_target import Target, live_delivery
from object_fixtures import KEYS, REGION, s3_client
from object_server import ObjectServer
from waiting import wait_until

from rambla_py.delivery import Delivery
from rambla_py.errors import (
    ConnectionLostError,
)
from rambla_py.handler import Link, Secret, State
from rambla_py.handlers.objects import ObjectsHandler
from rambla_py.message import Failed
from rambla_py.policy import Policy
from rambla_py.serialization.wire_format import encoder_for
from rambla_py.testing.s3 import MotoServer

MIB = 1024 * 1024
WAIT_S = 20.0


class Worker:
    """A handler with its live connection, and the answers to the messages that it was given."""

    def __init__(self, settings: dict[str, Any], options: dict[str, Any]) -> None:
        self.options = ObjectsHandler.Options(**options)
        self.handler = ObjectsHandler(
            ObjectsHandler.Connection(**settings), channel="orders", service="objects", options=self.options
        )
        self.holds: list[bool] = []
        self.handler.link = Link(hold=self.holds.append)
        self.connection = self.handler.connect()
        self.state = State(self.connection, "orders", "objects")
        self.settlements: dict[int, Any] = {}
        self._numbers = itertools.count()

    def settle(self, delivery: Delivery, answer: Any) -> None:
        self.settlements.setdefault(delivery.seq, answer.reason if isinstance(answer, Failed) else answer)

    settle_ok = settle

    def message(self, payload: Any, *, snapshot: bool = True, **options: Any) -> Delivery:
        """Return a message as ``publish`` makes it; without ``snapshot`` the handler encodes it."""
        given_id = options.pop("id", None)
        takes = ObjectsHandler.takes_for(self.options)
        encoder = encoder_for(takes, Policy()) if takes == "json" and snapshot else None
        return live_delivery(
            payload=payload,
            target=Target("objects"),
            receipt=None,
            seq=next(self._numbers),
            accepted_at=time.monotonic(),
            options=msgspec.structs.replace(self.options, **options) if options else self.options,
            policy=Policy(),
            headers={},
            given_id=given_id,
            session=self,
            encoded=None if encoder is None else encoder(payload),
        )

    def send(self, *messages: Delivery) -> list[Any]:
        """Deliver as one batch, and return the answers in order, once all are there."""
        self.handler.handle_deliveries(messages, self.state)
        wanted = [message.seq for message in messages]
        wait_until(lambda: all(seq in self.settlements for seq in wanted))
        return [self.settlements[seq] for seq in wanted]

    def put(self, payload: Any, **options: Any) -> Any:
        """Deliver one message and return the answer to it."""
        return self.send(self.message(payload, **options))[0]

    def close(self) -> None:
        self.handler.close(self.connection)


@contextmanager
def worker(settings: dict[str, Any], **options: Any) -> Iterator[Worker]:
    with closing(Worker(settings, options)) as made:
        yield made


def refusal(**settings: Any) -> ConnectionLostError:
    """Return the error of a connect that must fail."""
    with pytest.raises(ConnectionLostError) as caught:
        ObjectsHandler(ObjectsHandler.Connection(**settings)).connect()
    return caught.value


def kinds(answers: Sequence[Any]) -> Counter[type]:
    return Counter(type(answer) for answer in answers)


class Bucket:
    """A bucket of its own on the run's S3, looked at with boto3."""

    def __init__(self, server: MotoServer, name: str) -> None:
        self.server, self.name, self.client = server, name, s3_client(server)
        self.client.create_bucket(Bucket=name)

    def settings(self, prefix: str = "", **changes: Any) -> dict[str, Any]:
        keys = {
            "access_key_id": KEYS["access_key_id"],
            "secret_access_key": Secret(KEYS["secret_access_key"]),
        }
        url = f"s3://{self.name}{prefix}"
        return {"url": url, "endpoint": self.server.url, "region": REGION, **keys, **changes}

    def names(self) -> list[str]:
        return [found["Key"] for found in self.client.list_objects_v2(Bucket=self.name).get("Contents", [])]

    def get(self, key: str) -> dict[str, Any]:
        found = self.client.get_object(Bucket=self.name, Key=key)
        return {**found, "Body": found["Body"].read()}


def gs_or_az_settings(server: ObjectServer, prefix: str, **changes: Any) -> dict[str, Any]:
    table = server.settings(**changes)
    secrets = {key: Secret(table[key]) for key in ("bearer_token", "account_key") if key in table}
    return {**table, **secrets, "url": f"{table['url']}/{prefix}"}
