"""rambla_py: one ``publish()`` for every backend, through supervised pools of connections.

The door holds names only; what stands behind one is imported when it is first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rambla_py.app import Rambla
    from rambla_py.config import Config, load_config
    from rambla_py.default import publish, publish_many, start, stop
    from rambla_py.delivery import Delivery
    from rambla_py.errors import (
        AccessError,
        AttemptTimeoutError,
        ConfigError,
        ConnectionLostError,
        DeliveryError,
        DroppedError,
        ExpiredError,
        ForkedError,
        HandlerError,
        MailboxFullError,
        NotRunningError,
        OptionError,
        PayloadTooLargeError,
        PermanentError,
        PublishError,
        RamblaError,
        ReceiptTimeoutError,
        RejectedError,
        SerializationError,
        UnknownChannelError,
        UnknownOutcomeError,
        UnroutableError,
    )
    from rambla_py.handler import ChildSpec, Command, Handler
    from rambla_py.message import RETRY, STOP, Failed, Message, Ok, Retry
    from rambla_py.outcome import Outcome
    from rambla_py.receipt import Receipt
    from rambla_py.registry import register_handler

__version__ = "0.1.0"

__all__ = [
    "RETRY",
    "STOP",
    "AccessError",
    "AttemptTimeoutError",
    "ChildSpec",
    "Command",
    "Config",
    "ConfigError",
    "ConnectionLostError",
    "Delivery",
    "DeliveryError",
    "DroppedError",
    "ExpiredError",
    "Failed",
    "ForkedError",
    "Handler",
    "HandlerError",
    "MailboxFullError",
    "Message",
    "NotRunningError",
    "Ok",
    "OptionError",
    "Outcome",
    "PayloadTooLargeError",
    "PermanentError",
    "PublishError",
    "Rambla",
    "RamblaError",
    "Receipt",
    "ReceiptTimeoutError",
    "RejectedError",
    "Retry",
    "SerializationError",
    "UnknownChannelError",
    "UnknownOutcomeError",
    "UnroutableError",
    "load_config",
    "publish",
    "publish_many",
    "register_handler",
    "start",
    "stop",
]

_ROOMS: Final = {
    "app": ("Rambla",),
    "config": ("Config", "load_config"),
    "default": ("publish", "publish_many", "start", "stop"),
    "delivery": ("Delivery",),
    "handler": ("ChildSpec", "Command", "Handler"),
    "message": ("RETRY", "STOP", "Failed", "Message", "Ok", "Retry"),
    "outcome": ("Outcome",),
    "receipt": ("Receipt",),
    "registry": ("register_handler",),
}
_ROOM_OF: Final = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'rambla_py' has no attribute {name!r}")
    # What is no other room's is an error.
    value = getattr(importlib.import_module(f"rambla_py.{_ROOM_OF.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
