"""This package delivers over HTTP: one message a request, or a batch of them."""

from rambla_py.handlers.http.handler import HttpHandler

__all__ = ["HttpHandler"]
