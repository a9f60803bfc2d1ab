"""This package delivers to files: lines of JSON, rotated and compressed."""

from rambla_py.handlers.file.handler import FileHandler

__all__ = ["FileHandler"]
