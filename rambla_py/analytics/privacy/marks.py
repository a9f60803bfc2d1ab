"""Marks that replace what is not recorded."""

from __future__ import annotations

from typing import Final

__all__ = ["CUT", "CYCLE", "REPLACEMENT", "UNREADABLE"]

CUT: Final = "…[cut]"
"""Ends a string that was too long, and replaces a value that was too deep or too large."""

CYCLE: Final = "…[cycle]"
"""Replaces a container inside itself."""

UNREADABLE: Final = "…[unreadable]"
"""Replaces a value that raised an error when it was read."""

REPLACEMENT: Final = "\ufffd"
"""Replaces characters that not every database stores: NUL and lone surrogates."""
