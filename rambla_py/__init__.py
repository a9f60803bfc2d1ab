"""rambla_py: one ``publish()`` for every backend, through supervised pools of connections."""

from rambla_py import errors
from rambla_py.app import Rambla
from rambla_py.config import Config, load_config
from rambla_py.default import publish, publish_many, start, stop
from rambla_py.delivery import Delivery
from rambla_py.errors import *  # noqa: F403
from rambla_py.handler import ChildSpec, Command, Handler
from rambla_py.message import RETRY, STOP, Failed, Message, Ok, Retry
from rambla_py.outcome import Outcome
from rambla_py.receipt import Receipt
from rambla_py.registry import register_handler

__version__ = "0.1.0"

__all__ = [
    "RETRY",
    "STOP",
    "ChildSpec",
    "Command",
    "Config",
    "Delivery",
    "Failed",
    "Handler",
    "Message",
    "Ok",
    "Outcome",
    "Rambla",
    "Receipt",
    "Retry",
    "load_config",
    "publish",
    "publish_many",
    "register_handler",
    "start",
    "stop",
]
__all__ += [name for name in errors.__all__ if name.endswith("Error")]
