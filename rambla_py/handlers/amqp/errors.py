"""The errors of pika and of the broker, mapped to those of rambla_py without a secret in their text."""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING, Final

from pika import exceptions
from pika.adapters.utils.connection_workflow import (
    AMQPConnectionWorkflowFailed,
    AMQPConnectorPhaseErrorBase,
    AMQPConnectorStackTimeout,
)

from rambla_py._internal.tls import CERTIFICATE_DEMANDED, NO_CERTIFICATE
from rambla_py.errors import (
    AccessError,
    ConnectionLostError,
    DeliveryError,
    PayloadTooLargeError,
    PermanentError,
    RejectedError,
    UnavailableError,
)
from rambla_py.handlers.amqp.settings import AmqpOptions, default_key

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["BROKER_LIMIT", "connect_error", "lost_error", "refusal", "root_cause"]

BROKER_LIMIT: Final = "the broker's max_message_size"

_LOGIN = (
    exceptions.AuthenticationError,
    exceptions.ProbableAuthenticationError,
    exceptions.ProbableAccessDeniedError,
)
_ACCESS_REFUSED, _NOT_FOUND, _PRECONDITION_FAILED = 403, 404, 406
_HINTS: Final = {
    403: "check the user's permissions",
    404: "create what is missing, or declare it with the option declare",
    405: "it is exclusive to another connection",
    406: "declare differs from what exists; correct one of them",
    503: "correct the exchange type in declare, or enable the broker's plugin for it",
    530: "check virtual_host and the user's permissions",
    540: "the broker does not know what declare asks for",
}
"""Reply codes of a refused connect that an operator has to act on, with what to do."""

_PASSING = ("is down", "inaccessible", "limit", "returned an error", "timed out")
"""Parts of replies with such a code that end by themselves."""

_CERTIFICATE_REFUSED = ("CERTIFICATE", "UNKNOWN_CA", "BAD_CERT")
_TOO_LARGE = re.compile(r"message size (\d+) is larger than (?:configured )?max size (\d+)")
_WRONG_USER = re.compile(r"user_id property set to '(.*?)' but authenticated user was")
_EXCHANGE = re.compile(r"(?:topic '(?P<key>.*?)' in )?exchange '(?P<exchange>.*?)' in vhost")


def connect_error(error: BaseException | None, *, where: str) -> ConnectionLostError:
    """Return the error of a failed connect: ``AccessError`` with a hint where an operator must act.

    ``where`` is host and port; the text never holds credentials, as pika's own texts do not.
    """
    cause = root_cause(error)
    hint = _operator_hint(cause)
    text = f"{where}: cannot connect: {_text(cause)}"
    failed = ConnectionLostError(text) if hint is None else AccessError(f"{text}; {hint}")
    failed.__cause__ = cause
    return failed


def lost_error(error: BaseException | None, *, where: str) -> ConnectionLostError:
    """Return the error of a connection, or its channel, that was open and has ended."""
    cause = root_cause(error)
    what = "channel was closed" if isinstance(cause, exceptions.ChannelClosed) else "connection was lost"
    lost = ConnectionLostError(f"{where}: the {what}: {_text(cause)}")
    lost.__cause__ = cause
    return lost


def refusal(
    reason: BaseException | None, delivery: Delivery, *, alone: bool, configured: AmqpOptions
) -> DeliveryError | None:
    """Return why the broker closed the channel for a message in flight, or None if the reply does not tell.

    The broker closes the channel for one message and ignores those after it. Its reply identifies messages
    by their exchange, size, or user id; if one message was in flight ``alone``, it is that one. The exchange
    and routing key that are ``configured`` concern all messages, others only those that name them.
    """
    if not isinstance(reason, exceptions.ChannelClosedByBroker):
        return None
    code, text = reason.reply_code, f"the broker closed the channel: {_text(reason)}"
    size = _TOO_LARGE.search(reason.reply_text)
    if size is not None:
        body, limit = len(delivery.body()), int(size[2])
        return PayloadTooLargeError(body, limit, BROKER_LIMIT) if body > limit else None
    if not (alone or _names(reason.reply_text, delivery)):
        return None
    if code in (_ACCESS_REFUSED, _NOT_FOUND):
        text = f"{text}; {_HINTS[code]}"
        scope = _scope(reason.reply_text, delivery.options, configured)
        return AccessError(text) if scope is None else UnavailableError(text, scope=scope)
    return PermanentError(text) if code == _PRECONDITION_FAILED else RejectedError(text)


def root_cause(error: BaseException | None) -> BaseException | None:
    """Return the error inside pika's wrappers."""
    while True:
        if isinstance(error, AMQPConnectionWorkflowFailed) and error.exceptions:
            error = error.exceptions[-1]
        elif isinstance(error, AMQPConnectorPhaseErrorBase):
            error = error.exception
        elif type(error) is exceptions.AMQPConnectionError and error.args and _is_error(error.args[0]):
            error = error.args[0]
        else:
            return error


def _is_error(value: object) -> bool:
    return isinstance(value, BaseException)


def _names(reply: str, delivery: Delivery) -> bool:
    """Return whether the broker's reply names what this message has and others need not have."""
    options = delivery.options
    user = _WRONG_USER.search(reply)
    if user is not None:
        return bool(options.properties.user_id == user[1])
    found = _EXCHANGE.search(reply)
    if found is None or (options.exchange or "amq.default") != found["exchange"]:
        return False
    return found["key"] is None or default_key(options, delivery.channel) == found["key"]


def _scope(reply: str, options: AmqpOptions, configured: AmqpOptions) -> str | None:
    """Return what a message was refused for, or None if that concerns every message of the channel."""
    found = _EXCHANGE.search(reply)
    exchange, key = f"exchange {options.exchange!r}", options.routing_key
    if found is not None and found["key"] is not None and key != configured.routing_key:
        return f"{exchange}, routing key {key!r}"
    return None if options.exchange == configured.exchange else exchange


def _operator_hint(error: BaseException | None) -> str | None:
    """Return what an operator should do about a failed connect, or None where it may succeed by itself."""
    if isinstance(error, _LOGIN):
        return "check username, password and virtual_host"
    if isinstance(error, exceptions.ConnectionClosedByBroker | exceptions.ChannelClosedByBroker):
        passing = any(part in error.reply_text for part in _PASSING)
        if error.reply_code == _ACCESS_REFUSED and "Login was refused" in error.reply_text:
            return "check username and password"
        return None if passing else _HINTS.get(error.reply_code)
    return _certificate_hint(error)


def _certificate_hint(error: BaseException | None) -> str | None:
    # A TLS 1.3 server refuses after the handshake: pika then has the alert in the text of a lost stream.
    text = str(error).upper()
    if not isinstance(error, ssl.SSLError) and "SSL" not in text:
        return None
    if any(part in text for part in CERTIFICATE_DEMANDED):
        return NO_CERTIFICATE
    if isinstance(error, ssl.SSLCertVerificationError) or any(part in text for part in _CERTIFICATE_REFUSED):
        return "check ca_file, cert_file and server_name in the connection's tls table"
    return None


def _text(error: BaseException | None) -> str:
    if error is None:
        return "closed"
    if isinstance(error, exceptions.ConnectionClosed | exceptions.ChannelClosed):
        return f"{error.reply_code} {error.reply_text}"
    if isinstance(error, AMQPConnectorStackTimeout):
        return "the broker did not answer in time"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
