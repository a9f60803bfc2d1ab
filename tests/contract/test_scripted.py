"""This module holds the scripted handlers to the contract, on each of its levels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

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
        self.script.plan(refused, where=lambda m: m.payload == "poison", times=None)
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


class TestScriptedBatch(Scripted):
    """On the level ``handle_batch``."""

    handler = ScriptedBatchHandler


class TestScriptedPublish(Scripted):
    """On the level ``handle_publish``."""

    handler = ScriptedPublishHandler


class TestScriptedAsync(Scripted):
    """In coroutines."""

    handler = ScriptedAsyncHandler
