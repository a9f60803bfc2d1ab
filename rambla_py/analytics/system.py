"""Samples of what the process and its machine use, by psutil."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any

from rambla_py.analytics.errors import AnalyticsError

__all__ = ["SystemSampler"]


class SystemSampler:
    """Samples the process; psutil is imported with the first sample.

    The first CPU percentage is that since the sampler was reset, or made.
    """

    def __init__(self) -> None:
        self._process: Any = None

    def reset(self) -> None:
        """Begin again: a forked child is another process."""
        self._process = None

    def prepare(self) -> None:
        """Begin to measure the CPU; raises ``AnalyticsError`` if psutil is not installed."""
        if self._process is None:
            try:
                psutil = importlib.import_module("psutil")
            except ImportError:
                raise AnalyticsError(
                    "samples of the system need psutil: pip install 'rambla-py[analytics]'", field="psutil"
                ) from None
            self._process = psutil.Process()
            self._process.cpu_percent(None)

    def sample(self) -> dict[str, Any]:
        """Return the fields of one sample; what the system does not answer is None."""
        self.prepare()
        process = self._process
        return {
            "cpu_percent": _answer(lambda: float(process.cpu_percent(None))),
            "memory_rss_bytes": _answer(lambda: int(process.memory_info().rss)),
            "memory_percent": _answer(lambda: float(process.memory_percent())),
            "open_files": _answer(lambda: int(process.num_fds())),
            "threads": _answer(lambda: int(process.num_threads())),
            "load_1m": _answer(lambda: os.getloadavg()[0]),
        }


def _answer(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except Exception:  # no such process, no permission, or not on this system
        return None
