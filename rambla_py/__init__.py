"""rambla_py: one ``publish()`` for every backend, through supervised pools of connections.

The public names are imported from their modules on first use, so that ``import rambla_py`` stays cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rambla_py._default_app import publish, publish_many, start, stop
    from rambla_py.app import Rambla
    from rambla_py.channel import Channel
    from rambla_py.config import Config, load_config
    from rambla_py.delivery import Delivery
    from rambla_py.described import Described
    from rambla_py.errors import (
        AccessError,
        AlreadyRunningError,
        AttemptTimeoutError,
        ConfigError,
        ConnectionLostError,
        DeliveryError,
        DroppedError,
        ExpiredError,
        ForkedError,
        HandlerError,
        KeptError,
        MailboxFullError,
        NotRunningError,
        OptionError,
        PayloadError,
        PayloadTooLargeError,
        PermanentError,
        Problem,
        PublishError,
        RamblaError,
        ReceiptTimeoutError,
        RejectedError,
        SerializationError,
        StartError,
        TelemetryError,
        UnavailableError,
        UnknownChannelError,
        UnknownOutcomeError,
        UnroutableError,
    )
    from rambla_py.external_server import ChildSpec, Command
    from rambla_py.handler import Handler, Link, Preflight, Secret, State
    from rambla_py.message import RETRY, STOP, Failed, Message, Ok, Retry, Stop
    from rambla_py.outbox.errors import (
        DuplicateIdError,
        NoTransactionError,
        OutboxBusyError,
        OutboxCorruptError,
        OutboxError,
        OutboxFullError,
        OutboxSchemaError,
    )
    from rambla_py.outcome import Outcome
    from rambla_py.receipt import Receipt
    from rambla_py.registry import find_handler, handler_names, register_handler
    from rambla_py.runtime.supervision.plan import Plan
    from rambla_py.status import Audit, FailureGroup, Health, Ping, TargetStatus
    from rambla_py.telemetry.events import Event
    from rambla_py.telemetry.observer import Observer

__version__ = "0.2.0.dev0"

__all__ = [
    "RETRY",
    "STOP",
    "AccessError",
    "AlreadyRunningError",
    "AttemptTimeoutError",
    "Audit",
    "Channel",
    "ChildSpec",
    "Command",
    "Config",
    "ConfigError",
    "ConnectionLostError",
    "Delivery",
    "DeliveryError",
    "Described",
    "DroppedError",
    "DuplicateIdError",
    "Event",
    "ExpiredError",
    "Failed",
    "FailureGroup",
    "ForkedError",
    "Handler",
    "HandlerError",
    "Health",
    "KeptError",
    "Link",
    "MailboxFullError",
    "Message",
    "NoTransactionError",
    "NotRunningError",
    "Observer",
    "Ok",
    "OptionError",
    "OutboxBusyError",
    "OutboxCorruptError",
    "OutboxError",
    "OutboxFullError",
    "OutboxSchemaError",
    "Outcome",
    "PayloadError",
    "PayloadTooLargeError",
    "PermanentError",
    "Ping",
    "Plan",
    "Preflight",
    "Problem",
    "PublishError",
    "Rambla",
    "RamblaError",
    "Receipt",
    "ReceiptTimeoutError",
    "RejectedError",
    "Retry",
    "Secret",
    "SerializationError",
    "StartError",
    "State",
    "Stop",
    "TargetStatus",
    "TelemetryError",
    "UnavailableError",
    "UnknownChannelError",
    "UnknownOutcomeError",
    "UnroutableError",
    "find_handler",
    "handler_names",
    "load_config",
    "publish",
    "publish_many",
    "register_handler",
    "start",
    "stop",
]

_MODULES: Final = {
    "_default_app": ("publish", "publish_many", "start", "stop"),
    "app": ("Rambla",),
    "channel": ("Channel",),
    "config": ("Config", "load_config"),
    "delivery": ("Delivery",),
    "described": ("Described",),
    "external_server": ("ChildSpec", "Command"),
    "handler": ("Handler", "Link", "Preflight", "Secret", "State"),
    "message": ("RETRY", "STOP", "Failed", "Message", "Ok", "Retry", "Stop"),
    "outbox.errors": (
        "DuplicateIdError",
        "NoTransactionError",
        "OutboxBusyError",
        "OutboxCorruptError",
        "OutboxError",
        "OutboxFullError",
        "OutboxSchemaError",
    ),
    "outcome": ("Outcome",),
    "receipt": ("Receipt",),
    "registry": ("find_handler", "handler_names", "register_handler"),
    "runtime.supervision.plan": ("Plan",),
    "status": ("Audit", "FailureGroup", "Health", "Ping", "TargetStatus"),
    "telemetry.events": ("Event",),
    "telemetry.observer": ("Observer",),
}
_MODULE_OF: Final = {name: module for module, names in _MODULES.items() for name in names}

if not TYPE_CHECKING:  # a type checker that saw this function would accept any misspelt name

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module 'rambla_py' has no attribute {name!r}")
        # Every other public name is an error.
        value = getattr(importlib.import_module(f"rambla_py.{_MODULE_OF.get(name, 'errors')}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
