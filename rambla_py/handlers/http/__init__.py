"""Delivery over HTTP: one message a request, or a batch."""

from rambla_py.handlers.http.handler import HttpHandler

__all__ = ["HttpHandler"]
