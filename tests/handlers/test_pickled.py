"""Errors can be pickled; what holds passwords cannot."""

from __future__ import annotations

import copy
import importlib
import os
import pickle
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest
from config_handlers import load, problems, service

import rambla_py
from rambla_py.errors import (
    ConfigError,
    DeliveryError,
    MailboxFullError,
    OptionError,
    PublishError,
    RamblaError,
    ReceiptTimeoutError,
    RejectedError,
    SerializationError,
    UnavailableError,
    UnknownChannelError,
)
from rambla_py.handler import Secret
from rambla_py.outcome import Outcome

CANARY = "k4n4r1-v0g3l"


def every_error() -> list[type[RamblaError]]:
    """Return the classes of errors of all modules."""
    for module in pkgutil.walk_packages(rambla_py.__path__, "rambla_py."):
        if (
            not module.name.startswith(("rambla_py.testing", "rambla_py.cli"))
            and "__main__" not in module.name
        ):
            try:
                importlib.import_module(module.name)
            except ModuleNotFoundError as error:  # an extra, all of which CI has
                if os.environ.get("CI") == "true" or (error.name or "").startswith("rambla_py"):
                    raise
    return sorted(set(_below(RamblaError)), key=lambda kind: kind.__name__)


def _below(kind: type[RamblaError]) -> Iterator[type[RamblaError]]:
    if kind.__module__.startswith("rambla_py."):
        yield kind
    for child in kind.__subclasses__():
        yield from _below(child)


def test_an_error_of_every_class_can_be_pickled() -> None:
    """Class, text and fields are those of the error, whatever its ``__init__`` takes."""
    kinds = every_error()
    assert len(kinds) > 40
    for kind in kinds:
        error = kind.__new__(kind)
        error.args = ("the text",)
        vars(error).update(reason="the reason", size=7)
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), again.args, vars(again)) == (kind, ("the text",), vars(error))


@pytest.mark.parametrize(
    "error",
    [
        UnknownChannelError("ordrs", ["orders"]),
        OptionError("topc", "unknown", known=["topic"]),
        MailboxFullError("amqp", "orders", 10, waited_s=1.0),
        ReceiptTimeoutError(1.0, 1, 2, [None]),
        PublishError([Outcome("orders", "amqp", "fatal", error=RejectedError("no"))]),
        SerializationError("$.x", "a lock"),
        UnavailableError("loading", scope="here", retry_after_s=3.0),
        DeliveryError("no").with_detail("because"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_pickled_error_reads_as_before(error: RamblaError) -> None:
    """Its string, and what it has beside it."""
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert repr(vars(again)) == repr(vars(error))


def test_a_configuration_error_holds_no_password() -> None:
    """Neither its attributes nor a pickle of it have the password beside the mistake."""
    table = service(count=CANARY)
    table["connections"]["main"] |= {"password": CANARY, "host": [f"amqp://u:{CANARY}@h"]}
    error = ConfigError(problems(audit=table))
    assert error.problems
    assert CANARY not in repr(vars(error))
    assert CANARY.encode() not in pickle.dumps(error)


@pytest.mark.parametrize("part", ["config", "service", "channel", "settings"])
def test_a_configuration_is_not_pickled(part: str) -> None:
    """A pickle would hold its passwords; a copy in the same process is itself."""
    table = service()
    table["connections"]["main"]["password"] = CANARY
    config = load(audit=table)
    found = config.services["audit"]
    parts: dict[str, Any] = {
        "config": config,
        "service": found,
        "channel": found.channels["orders"],
        "settings": found.connections["main"],
    }
    with pytest.raises(TypeError, match="not pickled; load the configuration"):
        pickle.dumps(parts[part])
    assert not hasattr(parts[part], "__dict__")
    assert copy.deepcopy(parts[part]) == parts[part]


def test_a_secret_is_copied_and_not_pickled() -> None:
    """A copy of a secret is the secret."""
    secret = Secret(CANARY)
    assert copy.copy(secret) is secret
    assert copy.deepcopy([secret]) == [secret]
    with pytest.raises(TypeError):
        pickle.dumps(secret)


def test_detail_is_one_line_and_bounded() -> None:
    """A page of HTML does not fill the log."""
    detail = DeliveryError("no").with_detail("<p>\n" * 10_000).detail
    assert "\n" not in detail
    assert len(detail) < 1_010
