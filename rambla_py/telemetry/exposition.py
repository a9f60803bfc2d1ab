"""Metrics of one app as the text that Prometheus reads.

``prometheus_client`` takes the time of 550 to 700 publishes a target to write the same, because it looks at
the name and labels of each sample again (version 0.26, 10 to 1,000 targets); this module takes 60 to 70.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from rambla_py.telemetry.metrics import SPECS, Measured, Reader, versions

__all__ = ["MEDIA_TYPE", "Exposition"]

MEDIA_TYPE: Final = "text/plain; version=0.0.4"


class Exposition:
    """Reads an app when it is asked. Thread-safe."""

    def __init__(self, app: Measured) -> None:
        self._app, self._reader = app, Reader()
        name = app.config.rambla.telemetry.name
        self._common = {"app": name} if name else {}

    def text(self) -> bytes:
        """Return the metrics of this moment."""
        lines = _Lines()
        self._reader.read(lines, self._app, self._common)
        lines.add("info", lines.labels(**versions()), 1)
        return lines.text()


class _Lines:
    """The samples of one scrape as lines, metric by metric; labels are text without braces."""

    def __init__(self) -> None:
        self._lines: dict[str, list[str]] = {spec.name: [] for spec in SPECS}

    def labels(self, **labels: str) -> str:
        return ",".join([f'{name}="{_escaped(value)}"' for name, value in labels.items()])

    def add(self, metric: str, who: str, value: float, **more: str) -> None:
        if more:
            who = f"{who},{self.labels(**more)}"
        self._lines[metric].append(
            f"{_NAMES[metric]}{{{who}}} {value}" if who else f"{_NAMES[metric]} {value}"
        )

    def add_each(self, metric: str, who: str, label: str, values: Iterable[tuple[str, float]]) -> None:
        lead = f"{_NAMES[metric]}{{{who},{label}="
        self._lines[metric].extend([f'{lead}"{text}"}} {value}' for text, value in values])

    def add_histogram(
        self, metric: str, who: str, bounds: Sequence[str], counts: Sequence[int], sum_s: float
    ) -> None:
        name = _NAMES[metric]
        lead, lines = f'{name}_bucket{{{who},le="', self._lines[metric]
        lines.extend([f'{lead}{bound}"}} {count}' for bound, count in zip(bounds, counts, strict=True)])
        lines += f"{name}_count{{{who}}} {counts[-1]}", f"{name}_sum{{{who}}} {sum_s}"

    def text(self) -> bytes:
        whole = [line for name, lines in self._lines.items() for line in (_HEADS[name], *lines)]
        return "\n".join([*whole, ""]).encode(errors="replace")


_NAMES: Final = {
    spec.name: f"rambla_{spec.name}{'_total' if spec.kind == 'counter' else ''}" for spec in SPECS
}
_HEADS: Final = {
    spec.name: f"# HELP {_NAMES[spec.name]} {spec.text}\n# TYPE {_NAMES[spec.name]} {spec.kind}"
    for spec in SPECS
}


@lru_cache(maxsize=4_096)
def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
