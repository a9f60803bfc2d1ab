"""The exit codes of the command line."""

from __future__ import annotations

from typing import Final

__all__ = ["BY_SIGNAL", "CONFIG", "FAILED", "OK", "USAGE"]

OK: Final = 0
FAILED: Final = 1
"""Some messages were not delivered, some lines were bad, or a check found a problem."""

USAGE: Final = 2
CONFIG: Final = 78
"""What ``sysexits.h`` calls EX_CONFIG."""

BY_SIGNAL: Final = 128
"""Plus the number of the signal, as shells have it: 130 for Ctrl-C, 143 for SIGTERM."""
