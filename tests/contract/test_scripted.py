"""The contract suite on the scripted handlers, on each of its levels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from variants import variant_of

from rambla_py.testing import (
    CANARY,
    HandlerContract,
    Received,
    Script,
    ScriptedAsyncHandler,
    ScriptedBatchHandler,
    ScriptedHandler,
    ScriptedPublishHandler,
    Step,
    forget,
    script,
)
from rambla_py.testing.contract_tests.delivery import DeliveryTests
from rambla_py.testing.contract_tests.failures import FailureTests
from rambla_py.testing.contract_tests.losses import LossTests
from rambla_py.testing.contract_tests.payloads import PayloadTests
from rambla_py.testing.contract_tests.reach import ReachTests
from rambla_py.testing.contract_tests.sockets import SocketTests


class Scripted(HandlerContract):
    """What the levels share."""

    handler = ScriptedHandler
    has_address = False

    @pytest.fixture(autouse=True)
    def _script(self, request: pytest.FixtureRequest) -> Iterator[None]:
        self.name = request.node.nodeid
        self.script: Script = script(self.name)
        yield
        forget(self.name)

    def connection(self) -> dict[str, Any]:
        return {"name": self.name}

    def received(self) -> list[Received]:
        return [Received(arrival.body, arrival.id) for arrival in self.script.arrived()]

    def poison(self) -> str:
        refused = Step.fail("refused", retryable=False)
        self.script.plan(refused, where=lambda m: str(m.payload).startswith("poison"), times=None)
        return "poison"

    def unreachable(self) -> dict[str, Any]:
        return {"server": "unreachable"}

    def wrong_password(self) -> dict[str, Any]:
        return {"server": "refusing", "password": CANARY}

    def cut(self) -> None:
        self.script.plan(Step.lose_before_write(), where=lambda m: m.id == "m-20")
        self.script.plan(Step.lose_after_write(), where=lambda m: m.id == "m-50")

    def cuts(self) -> int:
        return self.script.losses


class TestScriptedDeliveries(Scripted):
    """On the level ``handle_deliveries``."""


_BY_LEVEL = (DeliveryTests, PayloadTests, FailureTests, LossTests)


@variant_of(TestScriptedDeliveries, *_BY_LEVEL)
class TestScriptedBatch(Scripted):
    """On the level ``handle_batch``."""

    handler = ScriptedBatchHandler


@variant_of(TestScriptedDeliveries, *_BY_LEVEL)
class TestScriptedPublish(Scripted):
    """On the level ``handle_publish``."""

    handler = ScriptedPublishHandler


@variant_of(TestScriptedDeliveries, *_BY_LEVEL, ReachTests, SocketTests)
class TestScriptedAsync(Scripted):
    """In coroutines."""

    handler = ScriptedAsyncHandler
