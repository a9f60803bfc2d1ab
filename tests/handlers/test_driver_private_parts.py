"""Tests of the private parts of drivers that handlers use; a driver that changes one fails here by name."""

from __future__ import annotations

import importlib.metadata
import inspect
import tomllib
from pathlib import Path
from typing import Any

import pykka
import pytest
import redis
from nats.aio.client import Client as NatsDriver
from packaging.requirements import Requirement
from paho.mqtt.client import Client as PahoDriver
from pykka._envelope import Envelope

METHODS = [
    (pykka.ThreadingActor, "_create_actor_inbox", []),
    (pykka.ThreadingActor, "_handle_receive", ["self", "message"]),
    (pykka.ThreadingActor, "_start_actor_loop", ["self"]),
    (Envelope, "__init__", ["self", "message", "reply_to"]),
    (redis.Connection, "_connect", ["self"]),
    (NatsDriver, "_flush_pending", ["self", "force_flush"]),
    (NatsDriver, "_process_err", ["self", "err_msg"]),
    (NatsDriver, "_process_info", ["self", "info", "initial_connection"]),
    (NatsDriver, "_process_op_err", ["self", "e"]),
    (PahoDriver, "_do_on_publish", ["self", "mid", "reason_code", "properties"]),
    (PahoDriver, "_handle_pubrec", ["self"]),
    (PahoDriver, "_handle_connack", ["self"]),
    (PahoDriver, "_loop_rc_handle", ["self", "rc"]),
    (PahoDriver, "_packet_handle", ["self"]),
    (PahoDriver, "_packet_read", ["self"]),
    (PahoDriver, "_reset_sockets", ["self", "sockpair_only"]),
    (PahoDriver, "_sock_recv", ["self", "bufsize"]),
    (PahoDriver, "_ssl_wrap_socket", ["self", "tcp_sock"]),
    (PahoDriver, "_thread_main", ["self"]),
]
ATTRIBUTES = [
    (NatsDriver, "_reading_task"),
    (NatsDriver, "_server_info"),
    (PahoDriver, "_host"),
    (PahoDriver, "_in_packet"),
    (PahoDriver, "_max_inflight_messages"),
    (PahoDriver, "_out_message_mutex"),
    (PahoDriver, "_out_messages"),
    (PahoDriver, "_sock"),
    (PahoDriver, "_ssl_context"),
    (PahoDriver, "_thread"),
]


@pytest.mark.parametrize(("driver", "name", "parameters"), METHODS)
def test_a_private_method_has_its_signature(driver: Any, name: str, parameters: list[str]) -> None:
    """Each private method that is called or replaced exists, with the parameters that were read."""
    method = getattr(driver, name, None)
    assert method is not None, f"{driver.__module__} has no {name}"
    assert list(inspect.signature(method).parameters) == parameters


@pytest.mark.parametrize(("driver", "name"), ATTRIBUTES)
def test_a_private_attribute_exists(driver: Any, name: str) -> None:
    """Each private attribute that is used is set by the driver's constructor."""
    assert f"self.{name}" in inspect.getsource(driver.__init__), f"{driver.__module__} has no {name}"


@pytest.mark.parametrize("name", ["pykka", "redis", "nats-py", "paho-mqtt"])
def test_the_version_of_a_driver_with_private_parts_is_capped(name: str) -> None:
    """The package does not install with a version whose private parts were not read."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    texts = [*project["dependencies"], *extras["nats"], *extras["mqtt"]]
    (specifier,) = (one.specifier for one in map(Requirement, texts) if one.name == name)
    assert any(clause.operator == "<" for clause in specifier)
    assert importlib.metadata.version(name) in specifier
