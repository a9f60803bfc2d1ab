"""The process that ``demo.py --chaos`` kills: publishes flights to a durable channel, from a number on.

Arguments: a folder, and how many flights were accepted before. The file ``accepted`` there has the number of
each flight that ``publish`` has returned for, ``delivered`` the flights as the file channel wrote them.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from rambla_py import Rambla

FLIGHTS = Path(__file__).resolve().parent.parent / "examples" / "data" / "flights.jsonl"
CONFIG = """
[rambla.outbox]
url = "sqlite:///{folder}/outbox.db"
[file.connections.here]
path = "{folder}/delivered"
[file.channels.flights]
connection = "here"
durable = true
"""


def main(folder: Path, accepted: int) -> None:
    config = folder / "rambla.toml"
    config.write_text(CONFIG.format(folder=folder))
    written = os.open(folder / "accepted", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with Rambla.from_toml(config) as app, FLIGHTS.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            if number >= accepted:
                app.publish("flights", {"number": number, **json.loads(line)})
                os.write(written, f"{number}\n".encode())
        app.flush(timeout_s=60)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
