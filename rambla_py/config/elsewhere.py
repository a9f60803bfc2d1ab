"""Hints for keys that were written in the wrong table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rambla_py.config.options import reserved
from rambla_py.config.schema import ChannelSettings

if TYPE_CHECKING:
    from rambla_py.config.guesses import Elsewhere
    from rambla_py.config.layers import Known

__all__ = ["elsewhere"]


def elsewhere(
    known: Known, *, options: str | None = None, channel: str | None = None, connection: str | None = None
) -> Elsewhere:
    """Return a function that gives a hint for a key of another table, and None for any other.

    Each name is a table to point to: that of the options, of the channel, of the connection; None where the
    caller reads this one itself.
    """

    def hint(name: str) -> str | None:
        if options and (name in known.fields or name in reserved()):
            return f"it is an option: did you mean {name} in [{options}]?"
        if channel and (name in ChannelSettings.__struct_fields__ or name == "connection"):
            return f"it is a setting of a channel: did you mean {name} in [{channel}]?"
        if connection and name in known.settings:
            return f"it is a setting of a connection: did you mean {name} in [{connection}]?"
        return None

    return hint
