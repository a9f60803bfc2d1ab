"""The broker of a configured connection, with a time-out for its answers."""

from __future__ import annotations

import logging
import re
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import typer
from pika import exceptions
from pika.adapters.blocking_connection import BlockingChannel

from rambla_py._internal.redaction import Redactor, url_secrets
from rambla_py.cli.loading import load
from rambla_py.config import Config, ServiceConfig
from rambla_py.errors import RamblaError, nearest
from rambla_py.handler import Handler, Secret
from rambla_py.registry import find_handler

__all__ = ["LOCKED", "Broker", "find_broker", "refusal"]

_Answer = TypeVar("_Answer")
_Open = Callable[[], BlockingChannel]

LOCKED = 405
_REFUSED, _DIFFERS = 403, 406
_MISSING = re.compile(r"no (?P<kind>queue|exchange) '(?P<name>.*)' in vhost")
_DIFFERENCE = re.compile(
    r"inequivalent arg '(?P<what>[^']+)' for (?P<kind>\w+) '(?P<name>.*)' in vhost '.*': "
    r"received (?P<asked>.+?) but current is (?P<there>.+)"
)
_UNSENDABLE = (
    exceptions.UnsupportedAMQPFieldException,
    exceptions.ShortStringTooLong,
    struct.error,
    UnicodeError,
    ValueError,
    TypeError,
)


class Broker(NamedTuple):
    """The broker that a command uses."""

    handler: type[Handler]
    settings: Any
    name: str
    secrets: frozenset[str]
    timeout_s: float

    def run(self, step: Callable[[_Open], _Answer]) -> _Answer:
        """Connect, run a step with a function that opens a channel, and close.

        Raises ``RamblaError``: the connection's own, or one that explains the broker's refusal.
        """
        # pika logs each refusal with a traceback; the error says the same.
        logging.getLogger("pika").setLevel(logging.CRITICAL)
        answers: list[Callable[[], _Answer]] = []
        # pika waits for answers without a time-out.
        thread = threading.Thread(target=lambda: answers.append(self._try(step)), daemon=True)
        thread.start()
        thread.join(self.timeout_s)
        if not answers:
            raise RamblaError(f"{self.name} did not answer within --timeout = {self.timeout_s:g} seconds")
        return answers[0]()

    def _try(self, step: Callable[[_Open], _Answer]) -> Callable[[], _Answer]:
        """Run a step, and return a function that returns its answer or raises its error."""
        try:
            answer = self._connected(step)
        except BaseException as error:
            problem = self._explained(error)

            def fail() -> _Answer:
                raise problem

            return fail
        return lambda: answer

    def _connected(self, step: Callable[[_Open], _Answer]) -> _Answer:
        handler = self.handler(self.settings, channel="rabbit", service="rambla")
        connection = handler.connect()
        try:
            return step(lambda: handler.destination(connection))
        finally:
            handler.close(connection)

    def _explained(self, error: BaseException) -> BaseException:
        if isinstance(error, RamblaError):
            text = str(error)
        elif isinstance(error, exceptions.ChannelClosedByBroker | exceptions.ConnectionClosedByBroker):
            text = refusal(error.reply_code, error.reply_text)
        elif isinstance(error, _UNSENDABLE):
            text = f"this cannot be sent to the broker: {type(error).__name__}: {error}"
        elif isinstance(error, exceptions.AMQPError | OSError):
            text = f"{self.name}: the connection was lost: {type(error).__name__} {error}".strip()
        else:
            return error
        return RamblaError(Redactor(self.secrets).text(text))


def find_broker(
    ctx: typer.Context,
    config: Path | None,
    service: str | None,
    connection: str | None,
    url: str | None,
    timeout_s: float,
) -> Broker:
    """Return the broker of a URL, or of the amqp connection that is named or the only one configured.

    Raises ``ConfigError``, and ``typer.BadParameter`` if it is ambiguous which one is meant.
    """
    handler = find_handler("amqp")
    if url is not None:
        if service or connection:
            raise typer.BadParameter("give either a URL or a service and connection", param_hint="'--url'")
        try:
            settings = handler.Connection(url=Secret(url))
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="'--url'") from None
        return Broker(handler, settings, "the broker", frozenset(url_secrets(url)), timeout_s)
    found = load(ctx, config)
    services = {
        name: one
        for name, one in found.services.items()
        if issubclass(one.handler, handler) and one.connections
    }
    name = _one(services, service, "--service", "amqp service", found)
    chosen: ServiceConfig = services[name]
    table = _one(chosen.connections, connection, "--connection", f"connection of {name}", found)
    return Broker(
        chosen.handler, chosen.connections[table], f"{name}.connections.{table}", found.secrets, timeout_s
    )


def refusal(code: int, text: str) -> str:
    """Return the broker's refusal with what to do about it.

    >>> refusal(404, "NOT_FOUND - no queue 'orders' in vhost '/'")
    "404 NOT_FOUND: there is no queue 'orders' in vhost '/'; create it: rambla rabbit queue declare orders"
    """
    kind, _, rest = text.partition(" - ")
    lead = f"{code} {kind}: "
    if missing := _MISSING.match(rest):
        made = f"rambla rabbit {missing['kind']} declare {missing['name']}"
        return f"{lead}there is {rest}; create it: {made}"
    if differs := _DIFFERENCE.match(rest):
        what = differs["what"].replace("_", "-")
        return (
            f"{lead}{differs['kind']} {differs['name']!r} exists and differs in {what}: "
            f"expected {differs['asked']}, but it has {differs['there']}; declare that, or delete it first"
        )
    hints = {
        _REFUSED: "; it is reserved for the broker, or the user lacks the permission",
        LOCKED: "; it is exclusive to another connection, and is deleted with it",
        _DIFFERS: "; it is unchanged",
    }
    return f"{lead}{rest or text}{hints.get(code, '')}"


def _one(known: dict[str, Any], given: str | None, option: str, what: str, config: Config) -> str:
    if given is not None and given not in known:
        close = nearest(given, known)
        hint = f"; did you mean {close!r}?" if close else f"; known are: {', '.join(known) or 'none'}"
        raise typer.BadParameter(f"no {what} is named {given!r}{hint}", param_hint=f"'{option}'")
    if given is None and len(known) != 1:
        files = ", ".join(config.files) or "the configuration"
        hint = f"name one: {', '.join(known)}" if known else "give --url"
        raise typer.BadParameter(f"{files} has {len(known)} {what}s; {hint}", param_hint=f"'{option}'")
    return given or next(iter(known))
