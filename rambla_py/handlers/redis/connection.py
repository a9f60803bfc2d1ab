"""This module opens the socket to the server that an address names."""

from __future__ import annotations

import socket
import ssl

from rambla_py.handlers.redis.errors import connect_error
from rambla_py.handlers.redis.settings import Address
from rambla_py.tls import client_context

__all__ = ["open_socket"]


def open_socket(address: Address, *, timeout_s: float) -> socket.socket:
    """Connect, with TLS where the address says so; raises ``ConnectionLostError`` or ``AccessError``."""
    context = client_context(address.tls, address.where) if address.tls is not None else None
    try:
        plain = _connected(address, timeout_s)
        try:
            return plain if context is None else _secured(plain, context, address)
        except BaseException:
            plain.close()
            raise
    except OSError as error:
        raise connect_error(error, address.where, timeout_s=timeout_s) from error


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
