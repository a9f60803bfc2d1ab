"""Handlers that come with rambla_py, and the names that handler authors need.

Only the registry imports the handlers themselves, by name.
"""

from rambla_py.handler import Link, Secret, State, per_channel, routing, secret_text

__all__ = ["Link", "Secret", "State", "per_channel", "routing", "secret_text"]
