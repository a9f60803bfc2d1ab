"""This package holds the handlers that come with rambla_py, and the words that authors of others need.

Only the registry imports the handlers themselves, by name.
"""

from rambla_py.handler import Link, Secret, State, per_channel, secret_text

__all__ = ["Link", "Secret", "State", "per_channel", "secret_text"]
