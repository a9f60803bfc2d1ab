"""Sockets to Redis servers, with TLS where the address asks for it."""

from __future__ import annotations

import socket
import ssl

from rambla_py._internal.tls import client_context
from rambla_py.handlers.redis.errors import connect_error
from rambla_py.handlers.redis.settings import Address

__all__ = ["open_socket", "socket_timeout"]

_LONGEST_S = 2_000_000.0
"""Sockets accept no longer time-out: the system counts milliseconds in 31 bits."""


def open_socket(address: Address, *, timeout_s: float) -> socket.socket:
    """Return a connected socket; raises ``ConnectionLostError`` or ``AccessError``."""
    context = client_context(address.tls, address.where) if address.tls is not None else None
    try:
        plain = _connected(address, socket_timeout(timeout_s))
        try:
            return plain if context is None else _secured(plain, context, address)
        except BaseException:
            plain.close()
            raise
    except OSError as error:
        raise connect_error(error, address.where, timeout_s=timeout_s) from error


def socket_timeout(seconds: float) -> float:
    """Return a time-out that a socket accepts."""
    return min(seconds, _LONGEST_S)


def _connected(address: Address, timeout_s: float) -> socket.socket:
    if address.path is None:
        plain = socket.create_connection((address.host, address.port), timeout=timeout_s)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return plain
    plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    plain.settimeout(timeout_s)
    try:
        plain.connect(address.path)
    except BaseException:
        plain.close()
        raise
    return plain


def _secured(plain: socket.socket, context: ssl.SSLContext, address: Address) -> socket.socket:
    assert address.tls is not None
    return context.wrap_socket(plain, server_hostname=address.tls.server_name or address.host)
