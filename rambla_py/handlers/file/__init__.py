"""Delivery to files of JSON lines, rotated and compressed."""

from rambla_py.handlers.file.handler import FileHandler

__all__ = ["FileHandler"]
