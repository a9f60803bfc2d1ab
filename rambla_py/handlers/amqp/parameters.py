"""This module turns the settings of a connection into pika's parameters."""

from __future__ import annotations

import copy
from urllib.parse import unquote, urlsplit, urlunsplit

import pika
from pika.connection import Parameters

from rambla_py.errors import ConnectionLostError
from rambla_py.handler import secret_text
from rambla_py.handlers.amqp.settings import AmqpSettings, TlsSettings
from rambla_py.tls import client_context

__all__ = ["address_of", "all_parameters", "without_heartbeat"]

_GUEST = "guest"


def all_parameters(settings: AmqpSettings) -> list[Parameters]:
    """Return pika's parameters for each broker that the settings name, in order.

    Raises ``AccessError`` when a file of ``tls`` cannot be read, ``ConnectionLostError`` for an option in a
    URL that pika does not know.

    >>> [address_of(parameters) for parameters in all_parameters(AmqpSettings(host="broker"))]
    ['broker:5672']
    """
    found = []
    for url in settings.all_urls() or [""]:
        parameters = _of_url(url, tls=bool(settings.tls)) if url else _of_host(settings)
        parameters.credentials = _credentials(url, settings)
        _complete(parameters, settings)
        found.append(parameters)
    return found


def address_of(parameters: Parameters) -> str:
    """Return ``host:port``, as errors and logs call a broker."""
    return f"{parameters.host}:{parameters.port}"


def without_heartbeat(parameters: Parameters) -> Parameters:
    """Return the same for a connection that nobody serves while it is idle."""
    # A context of ssl cannot be copied; pika itself goes around it in the same way.
    options, parameters.ssl_options = parameters.ssl_options, None
    try:
        bare = copy.copy(parameters)
    finally:
        parameters.ssl_options = options
    bare.ssl_options = options
    bare.heartbeat = 0
    return bare


def _of_url(url: str, *, tls: bool) -> Parameters:
    parts = urlsplit(url)
    if tls:
        parts = parts._replace(scheme="amqps")  # its port is another, where none is given
    # The credentials are kept from pika's parser, whose errors would show them.
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2])
    try:
        parameters = pika.URLParameters(urlunsplit(bare))
    except (ValueError, TypeError, SyntaxError) as error:
        raise ConnectionLostError(f"the URL of {parts.hostname} cannot be used: {error}") from None
    return parameters


def _credentials(url: str, settings: AmqpSettings) -> pika.PlainCredentials:
    parts = urlsplit(url)
    username, password = settings.username, secret_text(settings.password)
    if username is None:
        username = _GUEST if parts.username is None else unquote(parts.username)
    if password is None:
        password = _GUEST if parts.password is None else unquote(parts.password)
    return pika.PlainCredentials(username, password)


def _of_host(settings: AmqpSettings) -> Parameters:
    port = settings.port or (5671 if settings.tls else 5672)
    return pika.ConnectionParameters(host=settings.host, port=port)


def _complete(parameters: Parameters, settings: AmqpSettings) -> None:
    if settings.virtual_host is not None:
        parameters.virtual_host = settings.virtual_host
    if settings.heartbeat_s is not None:
        parameters.heartbeat = settings.heartbeat_s
    parameters.socket_timeout = parameters.stack_timeout = settings.connect_timeout_s
    parameters.connection_attempts = 1  # the worker tries again, with a back-off of its own
    if settings.tls:
        table = settings.tls if isinstance(settings.tls, TlsSettings) else TlsSettings()
        context = client_context(table, address_of(parameters))
        parameters.ssl_options = pika.SSLOptions(context, table.server_name or parameters.host)
